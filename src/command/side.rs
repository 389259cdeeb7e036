//! One of Microsoft's services, as a command asks it about the past: with patience for what passes, and none for what only a person can mend.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::config::Input;
use crate::error::chain;
use crate::record::Fingerprinter;
use crate::report::{AggregateBy, Report, Resolution};
use crate::source::graph::budget::Budget;
use crate::source::limiter::Waited;
use crate::source::{
    Client, FetchError, GraphSource, Kind, Meter, Page, Pages, Remedy, ReportSource, Source,
};

/// So many failures in a row are not taken for passing ones any more.
const FAILURES_MAX: u32 = 8;
/// Waits between them, at first and at most.
const WAITS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// A pause that is longer is not waited for.
const PAUSE_MAX: Duration = Duration::from_mins(15);

/// The longest range that a report which filters by instants is asked for, and the shortest.
const LONGEST: TimeDelta = TimeDelta::hours(2);
const SECOND: TimeDelta = TimeDelta::seconds(1);
/// Walks of several pages, until two agree.
const WALKS_MAX: u32 = 6;

/// Why there is no answer.
pub(super) enum Failure {
    /// A command may make no further request to Graph.
    BudgetSpent,
    /// Anything else.
    Other(anyhow::Error),
}

/// Nobody looks at the figures of a command.
pub(super) struct Unmetered;

impl Meter for Unmetered {
    fn waited(&self, _: Waited) {}

    fn answered(&self, _: Option<StatusCode>, _: Duration) {}

    fn received(&self, _: usize) {}
}

/// What came of asking.
enum Answer {
    Page(Option<Page>),
    /// This walk cannot go on.
    Broken(FetchError),
}

/// Asks for the next page until it comes.
async fn next(source: &dyn Source, pages: &mut dyn Pages) -> Result<Answer, Failure> {
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    let mut failures = 0;
    loop {
        let error = match pages.next_page().await {
            Ok(page) => return Ok(Answer::Page(page)),
            Err(error) => error,
        };
        failures += 1;
        let remedy = error.remedy();
        if matches!(remedy, Remedy::WalkAgain | Remedy::Narrow) {
            return Ok(Answer::Broken(error));
        }
        let pauses_long = source.paused().is_some_and(|pause| pause > PAUSE_MAX);
        if remedy == Remedy::AskOperator || failures >= FAILURES_MAX || pauses_long {
            return Err(given_up(source, &error));
        }
        if remedy == Remedy::BackOff {
            sleep(backoff.next(rand::random())).await;
        }
    }
}

fn given_up(source: &dyn Source, error: &FetchError) -> Failure {
    let who = source.terms().origin.title();
    let action = error.action();
    let action = action.map(|action| format!(": {action}"));
    Failure::Other(anyhow!(
        "{who} does not answer: {}{}",
        chain(error),
        action.unwrap_or_default()
    ))
}

/// What is collected from the pages of one walk.
pub(super) trait Taken {
    /// Takes the walk's next page.
    fn page(&mut self, page: Page);

    /// Whether another walk gave the same result.
    fn is_same(&self, other: &Self) -> bool;
}

/// The reporting service.
pub(super) struct ReportSide {
    source: ReportSource,
    /// How long a range is asked for: about as long as one page takes.
    length: TimeDelta,
    /// The longest range that is asked for, and the shortest.
    longest: TimeDelta,
    shortest: TimeDelta,
}

/// What came for a range.
pub(super) struct Came<T> {
    /// Rows at the end of the range are of the next one, where the report filters by instants.
    pub(super) range: Range<DateTime<Utc>>,
    pub(super) taken: T,
    /// It kept changing; this is what the last walk came to.
    pub(super) is_unsettled: bool,
}

enum Asked<T> {
    /// The result, and the number of rows.
    Settled(T, u64),
    /// It is too long.
    TooLong,
    Unsettled(T),
}

impl ReportSide {
    /// Asks for `report`; traffic reports are aggregated `by` hours or days.
    pub(super) fn new(
        client: &Client,
        report: &'static Report,
        by: Option<AggregateBy>,
        fingerprinter: Fingerprinter,
    ) -> Self {
        let meter = Arc::new(Unmetered);
        let source = ReportSource::new(client.clone(), report, by, fingerprinter, meter);
        let (longest, shortest) = match source.terms().resolution {
            Resolution::Instant => (LONGEST, SECOND),
            Resolution::Hour => (TimeDelta::hours(1), TimeDelta::hours(1)),
            Resolution::Day => (TimeDelta::days(1), TimeDelta::days(1)),
        };
        ReportSide {
            source,
            length: longest,
            longest,
            shortest,
        }
    }

    /// Reads the rows from one instant to another, which is not included: a part at a time, each begun anew for each of its walks.
    ///
    /// Pages follow by position, so that a row may be lost between two pages while others come: a range is asked for that fits one page. Where
    /// none is so short, it is walked until two walks agree.
    pub(super) async fn read<T: Taken>(
        &mut self,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        begin: impl Fn(&Range<DateTime<Utc>>) -> T,
        mut came: impl FnMut(Came<T>),
    ) -> Result<(), Failure> {
        let mut from = from;
        while from < to {
            let until = (from + self.length).min(to);
            let range = from..until;
            let (taken, rows, is_unsettled) = match self.ask(&range, &begin).await? {
                Asked::TooLong => {
                    let half = (until - from) / 2;
                    let half = half.max(self.shortest).num_seconds();
                    self.length = TimeDelta::seconds(half);
                    continue;
                }
                Asked::Settled(taken, rows) => (taken, rows, false),
                Asked::Unsettled(taken) => (taken, u64::MAX, true),
            };
            came(Came {
                range,
                taken,
                is_unsettled,
            });
            if rows.saturating_mul(3) < self.source.terms().page_rows {
                self.length = (self.length * 2).min(self.longest);
            }
            from = until;
        }
        Ok(())
    }

    async fn ask<T: Taken>(
        &self,
        range: &Range<DateTime<Utc>>,
        begin: impl Fn(&Range<DateTime<Utc>>) -> T,
    ) -> Result<Asked<T>, Failure> {
        let is_shortest = range.end - range.start <= self.shortest;
        // Whole buckets are asked for to their last second, or the next one would come along.
        let last_instant = if self.shortest == SECOND {
            range.end
        } else {
            range.end - SECOND
        };
        let mut before: Option<T> = None;
        let mut broken = None;
        for _ in 0..WALKS_MAX {
            let (mut taken, mut pages, mut rows, mut last) = (begin(range), 0, 0, 0);
            let mut walk = self.source.walk(range.start, last_instant);
            let failed = loop {
                match next(&self.source, &mut *walk).await? {
                    Answer::Page(Some(page)) => {
                        last = page.len() as u64;
                        (pages, rows) = (pages + 1, rows + last);
                        taken.page(page);
                    }
                    Answer::Page(None) => break None,
                    Answer::Broken(error) => break Some(error),
                }
                if !is_shortest && walk.leads_on() {
                    return Ok(Asked::TooLong);
                }
            };
            if let Some(error) = failed {
                if !is_shortest && error.remedy() == Remedy::Narrow {
                    return Ok(Asked::TooLong);
                }
                (before, broken) = (None, Some(error));
                continue;
            }
            let is_one = pages <= 1;
            if is_one && !is_shortest && self.source.terms().may_cut_off(last) {
                return Ok(Asked::TooLong);
            }
            if is_one || before.as_ref().is_some_and(|before| before.is_same(&taken)) {
                return Ok(Asked::Settled(taken, rows));
            }
            before = Some(taken);
        }
        if let Some(taken) = before {
            return Ok(Asked::Unsettled(taken));
        }
        let none = || FetchError::new(Kind::LinkRejected, "no walk came to its end");
        Err(given_up(&self.source, &broken.unwrap_or_else(none)))
    }
}

/// Microsoft Graph.
pub(super) struct GraphSide<'a> {
    source: GraphSource,
    charges: &'a Budget,
}

impl<'a> GraphSide<'a> {
    pub(super) fn new(
        client: &Client,
        input: &Input,
        fingerprinter: Fingerprinter,
        charges: &'a Budget,
    ) -> Self {
        let meter = Arc::new(Unmetered);
        GraphSide {
            source: GraphSource::new(client.clone(), input, fingerprinter, meter),
            charges,
        }
    }

    /// Reads the pages between the two instants; tells whether it has left none out.
    pub(super) async fn read(
        &self,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        mut came: impl FnMut(Page),
    ) -> Result<bool, Failure> {
        let mut pages = self.source.walk(from, to);
        loop {
            let answer = tokio::select! {
                biased;
                answer = next(&self.source, &mut *pages) => answer?,
                () = self.charges.spent() => return Err(Failure::BudgetSpent),
            };
            match answer {
                Answer::Page(None) => break,
                Answer::Page(Some(page)) => came(page),
                // It knows by itself what to do about a dead link: nothing helps here.
                Answer::Broken(error) => return Err(given_up(&self.source, &error)),
            }
        }
        Ok(!pages.was_cut_off())
    }
}
