//! All pages of one window, one after the other.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;

use url::Url;

use super::error::{FetchError, Kind};
use super::http::{Body, Client};
use super::meter::Meter;
use super::page::Page;
use super::{Query, link};
use crate::record::Fingerprinter;

/// Links are followed so often at most; the service cuts off what is beyond.
const PAGES_MAX: u32 = 1_000;

impl Client {
    /// Walks the pages of `query`, from the first one; `fingerprinter` makes the fingerprints of their rows.
    pub fn walk(&self, query: Query, fingerprinter: &Fingerprinter) -> Walk {
        let first = link::first_page(&self.0.base_url, &query);
        let hasher = RandomState::new();
        Walk {
            client: self.clone(),
            fingerprinter: fingerprinter.clone(),
            meter: None,
            asked: HashSet::from([hasher.hash_one(&first)]),
            hasher,
            next: Next::Page(first),
            service: query.report.service,
            pages: 0,
            body_hint: 0,
        }
    }
}

/// All pages of one query, one after the other. It knows its position: after an error, the next call asks again for the
/// page that failed.
pub struct Walk {
    client: Client,
    fingerprinter: Fingerprinter,
    meter: Option<Arc<dyn Meter>>,
    next: Next,
    /// Hashes of all addresses of this walk; a false match would cost a walk, and one in 10^13 walks.
    asked: HashSet<u64>,
    hasher: RandomState,
    service: &'static str,
    pages: u32,
    /// The last body's size.
    body_hint: usize,
}

/// What the next call does.
enum Next {
    /// Asks for a page.
    Page(Url),
    /// Says that the last page linked to one of this walk; the walk cannot go on.
    Repeated { request_id: Option<String> },
    /// Ends the walk.
    End,
}

impl Walk {
    /// The same walk, whose requests `meter` takes note of.
    #[must_use]
    pub fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self {
            meter: Some(meter),
            ..self
        }
    }

    /// The next page; `None` after the last. Cancel safe: if the future is dropped, the next call asks for the same page.
    ///
    /// A page whose link to the next one cannot be followed is an error, and asked for again. One that links back into the
    /// walk is handed out, and the next call is the error.
    pub async fn next(&mut self) -> Result<Option<Page>, FetchError> {
        let url = match &self.next {
            Next::Page(url) => url,
            Next::Repeated { request_id } => {
                let message = format!("page {} links back to an earlier one", self.pages);
                let error = FetchError::new(Kind::LinkRepeated, message);
                return Err(error.with_request_id(request_id.clone()));
            }
            Next::End => return Ok(None),
        };
        let meter = self.meter.as_deref();
        let followed = self.pages > 0;
        let (service, hint) = (self.service, self.body_hint);
        let fetch = self.client.fetch(service, url, followed, hint, meter);
        let Body {
            json,
            turn: _turn,
            request_id,
            date,
        } = fetch.await?;
        if let Some(meter) = meter {
            meter.received(json.len());
        }
        // From here on nothing waits, so that page and position change together.
        let size = json.len();
        let parsed = Page::parse(json, &self.fingerprinter).and_then(|(page, link)| match link {
            Some(link) if self.pages + 1 < PAGES_MAX => {
                Ok((page, Some(link::next_page(url, &link)?)))
            }
            _ => Ok((page, None)),
        });
        let (page, next) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Err(error.with_request_id(request_id)),
        };
        self.client.hear(date);
        self.next = match next {
            None => Next::End,
            Some(url) if self.asked.insert(self.hasher.hash_one(&url)) => Next::Page(url),
            Some(_) => Next::Repeated { request_id },
        };
        self.pages += 1;
        self.body_hint = size;
        Ok(Some(page))
    }

    /// The number of pages that have been had.
    #[cfg(test)]
    pub(super) fn pages(&self) -> u32 {
        self.pages
    }

    /// Whether the last page has been had.
    pub(super) fn is_at_end(&self) -> bool {
        matches!(self.next, Next::End)
    }
}
