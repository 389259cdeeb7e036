//! All pages of one window, one after the other.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::error::{FetchError, Kind};
use super::http::{Body, Client};
use super::meter::Meter;
use super::page::Page;
use super::{Query, link};
use crate::record::Fingerprinter;

/// The most pages that a query has; the service cuts off what is beyond.
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
            row_cap: query.report.row_cap,
            pages: 0,
            rows: 0,
            body_hint: 0,
            ahead: None,
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
    row_cap: Option<u64>,
    pages: u32,
    rows: u64,
    /// The last body's size.
    body_hint: usize,
    /// The next page, on its way already; dropped, it is given up.
    ahead: Option<AbortOnDropHandle<Result<Body, FetchError>>>,
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

    /// Begins to fetch the next page, which [`Walk::next`] then waits for.
    pub fn begin(&mut self) {
        if let (Next::Page(url), None) = (&self.next, &self.ahead) {
            let (client, url, meter) = (self.client.clone(), url.clone(), self.meter.clone());
            let (followed, hint) = (self.pages > 0, self.body_hint);
            let fetch = async move { client.fetch(&url, followed, hint, meter.as_deref()).await };
            self.ahead = Some(AbortOnDropHandle::new(tokio::spawn(fetch)));
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
        let answer = if let Some(ahead) = &mut self.ahead {
            let answer = ahead.await;
            self.ahead = None;
            answer.unwrap_or_else(|lost| Err(FetchError::new(Kind::CutShort, lost.to_string())))
        } else {
            let fetch = self
                .client
                .fetch(url, self.pages > 0, self.body_hint, meter);
            fetch.await
        };
        let Body { json, request_id } = answer?;
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
        self.next = match next {
            None => Next::End,
            Some(url) if self.asked.insert(self.hasher.hash_one(&url)) => Next::Page(url),
            Some(_) => Next::Repeated { request_id },
        };
        self.pages += 1;
        self.rows += page.len() as u64;
        self.body_hint = size;
        Ok(Some(page))
    }

    /// What is left of the pause that the service asked for; `None` when there is none.
    pub fn paused(&self) -> Option<Duration> {
        self.client.0.limiter.paused()
    }

    /// The number of pages that have been had.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The number of rows that have been had.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether the result has reached a size at which the service is known to cut results off: it may not be complete.
    pub fn capped(&self) -> bool {
        self.pages >= PAGES_MAX || self.row_cap.is_some_and(|cap| self.rows >= cap)
    }
}
