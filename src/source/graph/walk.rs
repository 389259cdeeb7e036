//! All pages of one window from Graph.
//!
//! Rows come newest first. So the next page is a new query that ends at the oldest time of the page before. A link is not used for this: it
//! may fail for ever, and it skips a row whose key equals that of the row before it (both seen). The rows of the oldest time come
//! a second time and are recognised. Links are followed only where one time has more rows than a page, or where the rows are not in order.
//! Where one is followed, the recipient at the end of the page is queried as well, because the link may skip a row of the same key.
//!
//! If such a link fails again and again, the range is queried anew with pages of other sizes, whose links are others. If they all fail, the
//! rows of that time are queried by status, and then by the ids seen so far. That finds what it can: rows of a status that is not listed, or
//! of an id that has not been seen, may be missing, and [`Pages::was_cut_off`] says so. A message with a thousand rows or more is queried once by its id, because a listing may omit some of
//! its rows (documented of the command underneath).

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tracing::warn;
use url::Url;

use super::super::error::{FetchError, Kind};
use super::super::http::Client;
use super::super::link;
use super::super::meter::Meter;
use super::super::page::Page;
use super::super::{Pages, Pending};
use super::rows::{GRAPH_STATUSES, Key, id_of};
use super::{PAGE_ROWS, PATH, SERVICE};
use crate::record::{Fingerprint, Fingerprinter};

/// The finest unit of time that rows show (inferred): what is behind it they do not show.
const SHOWN: TimeDelta = TimeDelta::milliseconds(1);
/// The finest time that can be asked for (seen).
const TICK: TimeDelta = TimeDelta::nanoseconds(100);

/// A message with so many rows is asked for by its id.
const ROWS_OF_ONE_MAX: u32 = 1_000;

/// A time whose link is dead is asked for anew so often before it is asked for in parts.
const FRESH_LINKS: u32 = 2;
/// Then it is asked for from its beginning in pages of these sizes. One that is dead for the row at its end may not be where a page ends elsewhere.
const OTHER_SIZES: [u64; 3] = [4_999, 4_001, 2_503];

/// Rows from `from` to `to`, both inclusive, that also meet a condition.
#[derive(Clone, Debug)]
struct Ask {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    condition: Condition,
    /// Rows of a page.
    rows: u64,
    /// The link to its next page, where that is what is asked for.
    link: Option<Url>,
    /// The link that led to the page with that link.
    via: Option<Url>,
    /// Links that were dead, since the last page with something new.
    dead: u32,
}

impl Ask {
    /// Asks from the beginning.
    fn new((from, to): (DateTime<Utc>, DateTime<Utc>), condition: Condition) -> Self {
        Ask {
            from,
            to,
            condition,
            rows: PAGE_ROWS,
            link: None,
            via: None,
            dead: 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Condition {
    None,
    Status(&'static str),
    Id(String),
    Recipient(String),
}

/// All pages of one window; after an error the next call asks for the same page again.
pub(super) struct GraphWalk {
    client: Client,
    fingerprinter: Fingerprinter,
    organization: Option<String>,
    meter: Arc<dyn Meter>,
    range: (DateTime<Utc>, DateTime<Utc>),
    /// What is left to ask for; the first is next.
    asks: VecDeque<Ask>,
    /// How often the rows that may come again came on one page.
    known: HashMap<Fingerprint, u32>,
    /// The rows of each message so far.
    of_message: HashMap<String, u32>,
    /// What has been asked for beside the listing, up to which instant.
    asked_for: HashSet<(Condition, DateTime<Utc>)>,
    is_begun: bool,
    /// The unit of the times that rows show: of all that have one shown time the last may not have come yet.
    shown: TimeDelta,
    in_disorder: bool,
    was_cut_off: bool,
    body_hint: usize,
}

impl GraphWalk {
    pub(super) fn new(
        client: Client,
        fingerprinter: Fingerprinter,
        organization: Option<String>,
        meter: Arc<dyn Meter>,
        range: (DateTime<Utc>, DateTime<Utc>),
    ) -> Self {
        GraphWalk {
            client,
            fingerprinter,
            organization,
            meter,
            range,
            asks: VecDeque::from([Ask::new(range, Condition::None)]),
            known: HashMap::new(),
            of_message: HashMap::new(),
            asked_for: HashSet::new(),
            is_begun: false,
            shown: SHOWN,
            in_disorder: false,
            was_cut_off: false,
            body_hint: 0,
        }
    }

    async fn next(&mut self) -> Result<Option<Page>, FetchError> {
        while let Some(ask) = self.asks.front().cloned() {
            let url = match &ask.link {
                Some(link) => link.clone(),
                None => self.url(&ask),
            };
            let (followed, hint) = (ask.link.is_some(), self.body_hint);
            let fetch = self
                .client
                .fetch(SERVICE, &url, followed, hint, Some(&*self.meter));
            let body = match fetch.await {
                Ok(body) => body,
                Err(error) if error.kind() == Kind::LinkRejected => {
                    self.go_on_without_the_link(&ask, error)?;
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.meter.received(body.json.len());
            // From here on nothing waits, so that page and position change together.
            let size = body.json.len();
            let organization = self.organization.as_deref();
            let parsed = Page::parse_graph(body.json, &self.fingerprinter, organization).and_then(
                |(page, keys, next): (Page, Vec<Key>, Option<String>)| {
                    let next = next.map(|next| link::next_page(&url, &next));
                    Ok((page, keys, next.transpose()?))
                },
            );
            let (page, keys, next) =
                parsed.map_err(|error| error.with_request_id(body.request_id))?;
            self.client.hear(body.date);
            self.body_hint = size;
            self.asks.pop_front();
            let new = self.new_rows(&page);
            self.go_on(ask, !new.is_empty(), &page, &keys, next);
            let is_first = !std::mem::replace(&mut self.is_begun, true);
            if new.len() == page.len() && (is_first || !page.is_empty()) {
                return Ok(Some(page));
            }
            if !new.is_empty() {
                return Ok(Some(page.only(new.into_iter())));
            }
        }
        Ok(None)
    }

    fn url(&self, ask: &Ask) -> Url {
        let mut filter = format!(
            "$filter=receivedDateTime ge {} and receivedDateTime le {}",
            written(ask.from),
            written(ask.to)
        );
        // Writing to a string cannot fail.
        let _ = match &ask.condition {
            Condition::None => Ok(()),
            Condition::Status(status) => write!(filter, " and status eq '{status}'"),
            Condition::Id(id) => write!(filter, " and id eq '{}'", constant(id)),
            Condition::Recipient(address) => {
                write!(filter, " and recipientAddress eq '{}'", constant(address))
            }
        };
        let _ = write!(filter, "&$top={}", ask.rows);
        let base = self.client.base_url();
        let mut url = base.clone();
        url.set_path(&format!("{}{PATH}", base.path()));
        url.set_query(Some(&filter));
        url
    }

    /// Plans what comes behind a page of rows with these keys, which has led on to `next`.
    fn go_on(&mut self, ask: Ask, has_new: bool, page: &Page, keys: &[Key], next: Option<Url>) {
        self.count(page, keys);
        let mut again = None;
        if let Some(next) = next {
            let times = || keys.iter().filter_map(|key| key.received);
            let in_order = times().count() == keys.len() && times().is_sorted_by(|a, b| a >= b);
            self.shown = self.shown.max(unit(keys));
            let to = times().min().map(|oldest| oldest + self.shown - TICK);
            match to {
                Some(to) if in_order && to < ask.to && ask.from <= to => {
                    again = Some(to);
                    self.asks
                        .push_front(Ask::new((ask.from, to), ask.condition));
                }
                _ => {
                    if !in_order && !std::mem::replace(&mut self.in_disorder, true) {
                        warn!("Graph's rows do not come newest first: its links are followed");
                    }
                    let same_key = to.filter(|_| in_order);
                    let same_key = same_key.and_then(|to| self.same_key(&ask, page, to));
                    let is_of_recipient = matches!(ask.condition, Condition::Recipient(_));
                    // Nothing tells rows apart that have one time and one recipient.
                    self.was_cut_off |= is_of_recipient;
                    self.asks.push_front(Ask {
                        link: Some(next),
                        via: ask.link,
                        dead: if has_new { 0 } else { ask.dead },
                        ..ask
                    });
                    // Before the link, as long as the rows of this time are known.
                    if let Some(same_key) = same_key {
                        self.asks.push_front(same_key);
                    }
                }
            }
        }
        if self.asks.is_empty() {
            self.ask_for_large_messages();
        }
        // Behind the last page nothing comes again.
        if !self.asks.is_empty() {
            self.know(page, keys, again);
        }
    }

    /// Asks for the recipient at the end of a page whose rows are all of the last instant before `to`, where that has not been done.
    fn same_key(&mut self, ask: &Ask, page: &Page, to: DateTime<Utc>) -> Option<Ask> {
        let last = page.row(page.len().checked_sub(1)?);
        let condition = Condition::Recipient(recipient(last)?);
        let is_new = ask.condition != condition && self.asked_for.insert((condition.clone(), to));
        is_new.then(|| {
            let from = (to + TICK - self.shown).max(ask.from);
            Ask::new((from, ask.to), condition)
        })
    }

    /// Keeps what has to be known of the rows of a page, and of those before it: behind `again` none comes again.
    fn know(&mut self, page: &Page, keys: &[Key], again: Option<DateTime<Utc>>) {
        if again.is_some() {
            self.known.clear();
        }
        let stays = |key: &Key| again.is_none_or(|again| key.received.is_none_or(|at| at <= again));
        let mut on_page: HashMap<Fingerprint, u32> = HashMap::new();
        for (fingerprint, key) in page.fingerprints().zip(keys) {
            if stays(key) {
                *on_page.entry(fingerprint).or_default() += 1;
            }
        }
        for (fingerprint, count) in on_page {
            let known = self.known.entry(fingerprint).or_default();
            *known = count.max(*known);
        }
        if again.is_some() {
            // The rows of a message have one time: one that has no row there is complete.
            let stay = { page.rows().zip(keys) }.filter(|(_, key)| stays(key));
            let last: HashSet<_> = stay.filter_map(|(row, _)| id_of(row)).collect();
            self.of_message
                .retain(|id, rows| *rows >= ROWS_OF_ONE_MAX || last.contains(id.as_str()));
        }
    }

    /// A page's link is dead: the page is asked for anew, for another link; then in parts.
    fn go_on_without_the_link(&mut self, ask: &Ask, error: FetchError) -> Result<(), FetchError> {
        let again = Ask {
            link: ask.via.clone(),
            via: None,
            dead: ask.dead + 1,
            ..ask.clone()
        };
        if again.dead > FRESH_LINKS && self.in_disorder {
            return Err(error);
        }
        self.asks.pop_front();
        if again.dead <= FRESH_LINKS {
            self.asks.push_front(again);
            return Ok(());
        }
        let again = Ask {
            link: None,
            ..again
        };
        let size = again.dead - FRESH_LINKS - 1;
        if let Some(rows) = OTHER_SIZES.get(size as usize) {
            // What has come of it is known.
            self.asks.push_front(Ask {
                rows: *rows,
                ..again
            });
            return Ok(());
        }
        self.was_cut_off = true;
        // All of its rows that have been seen are of this time, and what is older is asked for behind them.
        let at = ask.to.duration_trunc(self.shown).unwrap_or(ask.to);
        let instant = Ask {
            from: at.max(ask.from),
            rows: PAGE_ROWS,
            dead: 0,
            ..again.clone()
        };
        let older = Ask {
            to: at - TICK,
            rows: PAGE_ROWS,
            dead: 0,
            ..again
        };
        let parts: Vec<Condition> = match &ask.condition {
            Condition::None => GRAPH_STATUSES.map(Condition::Status).into(),
            Condition::Status(_) => self.of_message.keys().cloned().map(Condition::Id).collect(),
            Condition::Id(_) | Condition::Recipient(_) => vec![],
        };
        if older.from <= older.to {
            self.asks.push_front(older);
        }
        for condition in parts {
            self.asks.push_front(Ask {
                condition,
                ..instant.clone()
            });
        }
        if self.asks.is_empty() {
            self.ask_for_large_messages();
        }
        Ok(())
    }

    /// Counts the rows of messages that may have many. These have one time, so a row that is alone with its time belongs to none, unless the page
    /// begins or ends with it.
    fn count(&mut self, page: &Page, keys: &[Key]) {
        let in_order = keys.is_sorted_by(|a, b| a.received >= b.received);
        let is_alone = |place: usize| {
            let same = |other: Option<usize>| {
                let other = other.and_then(|other| keys.get(other));
                other.is_none_or(|other| other.received == keys[place].received)
            };
            in_order && !same(place.checked_sub(1)) && !same(Some(place + 1))
        };
        for (place, row) in page.rows().enumerate().take(keys.len()) {
            let Some(id) = Some(place)
                .filter(|place| !is_alone(*place))
                .and_then(|_| id_of(row))
            else {
                continue;
            };
            match self.of_message.get_mut(&*id) {
                Some(count) => *count += 1,
                None => drop(self.of_message.insert(id.into_owned(), 1)),
            }
        }
    }

    fn ask_for_large_messages(&mut self) {
        let large = { self.of_message.iter() }
            .filter(|(_, rows)| **rows >= ROWS_OF_ONE_MAX)
            .map(|(id, _)| Condition::Id(id.clone()));
        for condition in large {
            if self.asked_for.insert((condition.clone(), self.range.1)) {
                self.asks.push_back(Ask::new(self.range, condition));
            }
        }
    }

    /// The places of the rows that have not come yet. Equal rows of one page are as many records.
    fn new_rows(&self, page: &Page) -> Vec<usize> {
        if self.known.is_empty() {
            return (0..page.len()).collect();
        }
        let mut on_page: HashMap<Fingerprint, u32> = HashMap::new();
        let mut new = Vec::with_capacity(page.len());
        for (place, fingerprint) in page.fingerprints().enumerate() {
            let Some(known) = self.known.get(&fingerprint) else {
                new.push(place);
                continue;
            };
            let count = on_page.entry(fingerprint).or_default();
            *count += 1;
            if known < count {
                new.push(place);
            }
        }
        new
    }
}

/// The unit of the times that these rows show: whole seconds, as the documentation prints them, or a fraction.
fn unit(keys: &[Key]) -> TimeDelta {
    match keys.iter().map(|key| key.decimals).max() {
        Some(0) => TimeDelta::seconds(1),
        Some(1) => TimeDelta::milliseconds(100),
        Some(2) => TimeDelta::milliseconds(10),
        _ => SHOWN,
    }
}

/// A text as it stands in a filter.
fn constant(text: &str) -> String {
    let doubled = text.replace('\'', "''");
    utf8_percent_encode(&doubled, NON_ALPHANUMERIC).to_string()
}

/// The recipient of a row in the reporting service's shape.
fn recipient(row: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Row {
        #[serde(rename = "RecipientAddress")]
        recipient: Option<String>,
    }
    let row: Row = serde_json::from_slice(row).ok()?;
    row.recipient
}

/// A time as it is asked for: whole seconds where it is one.
fn written(time: DateTime<Utc>) -> String {
    let ticks = time.timestamp_subsec_nanos() / 100;
    let seconds = time.format("%Y-%m-%dT%H:%M:%S");
    if ticks == 0 {
        format!("{seconds}Z")
    } else {
        format!("{seconds}.{ticks:07}Z")
    }
}

impl Pages for GraphWalk {
    fn next_page(&mut self) -> Pending<'_, Result<Option<Page>, FetchError>> {
        Box::pin(self.next())
    }

    fn leads_on(&self) -> bool {
        !self.asks.is_empty()
    }

    fn was_cut_off(&self) -> bool {
        self.was_cut_off
    }
}
