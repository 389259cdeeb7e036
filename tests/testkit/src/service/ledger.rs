//! What was asked and what went out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::store::{RowId, TableKey};
use crate::report::{Aggregate, Report};

/// Who was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The reporting service, for a report.
    Reports,
    /// Graph, for its message trace.
    Graph,
    /// The directory, for a token.
    Token,
    /// Nobody: the path does not exist.
    Elsewhere,
}

/// One request, and its answer.
#[derive(Clone, Debug)]
pub struct Request {
    /// When it came, by the machine's clock.
    pub time: DateTime<Utc>,
    /// Who was asked.
    pub endpoint: Endpoint,
    /// The report of the reporting service; none for a request to Graph, for a token or for a path that does not exist.
    pub report: Option<Report>,
    /// The path as it was asked for.
    pub path: String,
    /// The query as it was asked for, encoded.
    pub query: String,
    /// `StartDate` and `EndDate`, or the bounds of Graph's filter or token, where they could be read.
    pub range: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// `AggregateBy`.
    pub aggregate: Option<Aggregate>,
    /// The page, from 1.
    pub page: u64,
    /// The answer's status; 0 where there was none.
    pub status: u16,
    /// The answer's `request-id`.
    pub request_id: String,
    /// The fault that was ordered for it.
    pub fault: Option<String>,
    /// Rows in the answer.
    pub rows: usize,
    /// No link leads on from this page.
    pub last: bool,
    /// Its version header, if it had one.
    pub version: Option<String>,
    /// Its `Accept-Encoding`, if it had one.
    pub encoding: Option<String>,
    /// The first word of its `Authorization`, if it had one.
    pub scheme: Option<String>,
    /// Graph's `$top`, or that of its token.
    pub top: Option<usize>,
    /// How many requests to the same endpoint were being answered when it came, itself included; 0 for a token.
    pub in_flight: usize,
    /// All of the answer has been handed to the network.
    pub sent: bool,
}

/// What a page carried.
pub(crate) struct Page {
    pub(crate) table: TableKey,
    pub(crate) numbers: Vec<u32>,
    pub(crate) verbose: bool,
    pub(crate) source: Source,
}

/// Which service showed a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Reports,
    Graph,
}

struct Entry {
    request: Request,
    page: Option<Page>,
    sent: Arc<AtomicBool>,
}

/// All requests, in the order of their coming.
#[derive(Default)]
pub(crate) struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    /// Notes a request; its number is what the answer is noted under.
    pub(crate) fn begin(&mut self, request: Request) -> usize {
        self.entries.push(Entry {
            request,
            page: None,
            sent: Arc::default(),
        });
        self.entries.len() - 1
    }

    /// Notes the answer; what comes back is to be set once all of it is on its way.
    pub(crate) fn answer(
        &mut self,
        number: usize,
        status: u16,
        last: bool,
        page: Option<Page>,
    ) -> Arc<AtomicBool> {
        let entry = &mut self.entries[number];
        entry.request.status = status;
        entry.request.last = last;
        entry.request.rows = page.as_ref().map_or(0, |page| page.numbers.len());
        entry.page = page;
        Arc::clone(&entry.sent)
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        let sent = |entry: &Entry| entry.sent.load(Ordering::Acquire);
        self.entries
            .iter()
            .map(|entry| Request {
                sent: sent(entry),
                ..entry.request.clone()
            })
            .collect()
    }

    /// The rows of all pages of a service asked for before `end` that went out whole, and whether the verbose shape is all that was served of
    /// them.
    pub(crate) fn rows_sent(&self, source: Source, end: DateTime<Utc>) -> HashMap<RowId, bool> {
        let mut rows = HashMap::new();
        for page in self
            .entries
            .iter()
            .filter(|entry| entry.request.time < end && entry.sent.load(Ordering::Acquire))
            .filter_map(|entry| entry.page.as_ref())
            .filter(|page| page.source == source)
        {
            for number in &page.numbers {
                let verbose = rows
                    .entry(RowId {
                        table: page.table,
                        number: *number,
                    })
                    .or_insert(true);
                *verbose &= page.verbose;
            }
        }
        rows
    }
}

/// The most of these requests that were being answered at once by one endpoint.
pub fn most_in_flight(requests: &[Request]) -> usize {
    let in_flight = requests.iter().map(|request| request.in_flight);
    in_flight.max().unwrap_or_default()
}

/// The most requests in any one second.
pub fn busiest_second(requests: &[Request]) -> usize {
    most_within(requests, Duration::from_secs(1))
}

/// The most requests in any span of time so long: in any 5 minutes, for Graph's budget.
pub fn most_within(requests: &[Request], span: Duration) -> usize {
    busiest(requests.iter().map(|request| request.time), span)
}

fn busiest(times: impl Iterator<Item = DateTime<Utc>>, span: Duration) -> usize {
    let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    let mut recent = VecDeque::new();
    let mut most = 0;
    for time in times {
        recent.push_back(time);
        while recent.front().is_some_and(|first| time - *first >= span) {
            recent.pop_front();
        }
        most = most.max(recent.len());
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_is_any_second_and_not_one_of_the_clock() {
        let at = |milliseconds| DateTime::from_timestamp_millis(milliseconds).unwrap();
        let times = [0, 900, 1_000, 1_100, 1_899, 1_900, 5_000].map(at);
        assert_eq!(busiest(times.into_iter(), Duration::from_secs(1)), 4);
        assert_eq!(busiest([].into_iter(), Duration::from_secs(1)), 0);
    }
}
