//! One of the two services, as a comparison asks it: with patience for what passes, and none for what only a person can mend.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use chrono::{DateTime, TimeDelta, Utc};
use reqwest::StatusCode;
use tokio::time::sleep;

use super::comparison::Step;
use super::findings::instant;
use crate::backoff::Backoff;
use crate::config::Input;
use crate::error::chain;
use crate::record::{Fingerprint, Fingerprinter};
use crate::report::Report;
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

/// The longest range that the reporting service is asked for, and the shortest.
const LONGEST: TimeDelta = TimeDelta::hours(2);
const SHORTEST: TimeDelta = TimeDelta::seconds(1);
/// Walks of several pages, until two agree.
const WALKS_MAX: u32 = 6;

/// Why there is nothing to compare.
pub(super) enum Failure {
    /// A command may make no further request to Graph.
    BudgetSpent,
    /// Anything else.
    Other(anyhow::Error),
}

/// Nobody looks at the figures of a command.
pub(in crate::command) struct Unmetered;

impl Meter for Unmetered {
    fn waited(&self, _: Waited) {}

    fn answered(&self, _: Option<StatusCode>, _: Duration) {}

    fn received(&self, _: usize) {}
}

/// What came of asking.
enum Came {
    Page(Option<Page>),
    /// This walk cannot go on.
    Broken(FetchError),
}

/// Asks for the next page until it comes.
async fn next(source: &dyn Source, pages: &mut dyn Pages) -> Result<Came, Failure> {
    let mut backoff = Backoff::new(WAITS.0, WAITS.1);
    let mut failures = 0;
    loop {
        let error = match pages.next_page().await {
            Ok(page) => return Ok(Came::Page(page)),
            Err(error) => error,
        };
        failures += 1;
        let remedy = error.remedy();
        if matches!(remedy, Remedy::WalkAgain | Remedy::Narrow) {
            return Ok(Came::Broken(error));
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
        "the services cannot be compared, since {who} does not answer: {}{}",
        chain(error),
        action.unwrap_or_default()
    ))
}

/// The reporting service.
pub(super) struct ReportSide {
    source: ReportSource,
    /// How long a range is asked for: about as long as one page takes.
    length: TimeDelta,
}

/// What came for a range.
enum Asked {
    Pages(Vec<Page>),
    /// It is too long.
    TooLong,
    /// It kept changing; these are the pages of the last walk.
    Unsettled(Vec<Page>),
}

impl ReportSide {
    /// `fingerprinter` has to be that of the other service.
    pub(super) fn new(
        client: &Client,
        report: &'static Report,
        fingerprinter: Fingerprinter,
    ) -> Self {
        let meter = Arc::new(Unmetered);
        ReportSide {
            source: ReportSource::new(client.clone(), report, None, fingerprinter, meter),
            length: LONGEST,
        }
    }

    /// Reads the rows from one instant to another, which is not included, into `step`.
    ///
    /// Pages follow by position, so that a row may be lost between two pages while others come: a range is asked for that fits one page. Where
    /// none is so short, it is walked until two walks agree.
    pub(super) async fn read(
        &mut self,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        step: &mut Step,
    ) -> Result<(), Failure> {
        let mut from = from;
        while from < to {
            let until = (from + self.length).min(to);
            let pages = match self.ask(from, until).await? {
                Asked::TooLong => {
                    let half = (until - from) / 2;
                    let half = half.max(SHORTEST).num_seconds();
                    self.length = TimeDelta::seconds(half);
                    continue;
                }
                Asked::Pages(pages) => pages,
                Asked::Unsettled(pages) => {
                    step.doubt(format!(
                        "{} to {}: what the reporting service shows kept changing",
                        instant(from),
                        instant(until)
                    ));
                    pages
                }
            };
            let rows: usize = pages.iter().map(Page::len).sum();
            for page in &pages {
                for (row, fingerprint) in page.rows().zip(page.fingerprints()) {
                    step.add_here(row, fingerprint, from..until);
                }
            }
            if rows as u64 * 3 < self.source.terms().page_rows {
                self.length = (self.length * 2).min(LONGEST);
            }
            from = until;
        }
        Ok(())
    }

    async fn ask(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> Result<Asked, Failure> {
        let is_shortest = until - from <= SHORTEST;
        let mut before: Option<Vec<Fingerprint>> = None;
        let mut last = Err(None);
        for _ in 0..WALKS_MAX {
            let mut pages = vec![];
            let mut walk = self.source.walk(from, until);
            let broken = loop {
                match next(&self.source, &mut *walk).await? {
                    Came::Page(Some(page)) => pages.push(page),
                    Came::Page(None) => break None,
                    Came::Broken(error) => break Some(error),
                }
                if !is_shortest && walk.leads_on() {
                    return Ok(Asked::TooLong);
                }
            };
            if let Some(error) = broken {
                if !is_shortest && error.remedy() == Remedy::Narrow {
                    return Ok(Asked::TooLong);
                }
                last = Err(Some(error));
                continue;
            }
            let is_one = pages.len() <= 1;
            let rows = pages.last().map_or(0, Page::len) as u64;
            if is_one && !is_shortest && self.source.terms().may_cut_off(rows) {
                return Ok(Asked::TooLong);
            }
            let mut now: Vec<_> = pages.iter().flat_map(Page::fingerprints).collect();
            now.sort_unstable();
            if is_one || before.as_ref() == Some(&now) {
                return Ok(Asked::Pages(pages));
            }
            before = Some(now);
            last = Ok(pages);
        }
        match last {
            Ok(pages) => Ok(Asked::Unsettled(pages)),
            Err(error) => {
                let broken = || FetchError::new(Kind::LinkRejected, "no walk came to its end");
                Err(given_up(&self.source, &error.unwrap_or_else(broken)))
            }
        }
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

    /// Compares the rows between the two instants with those that `step` has from the reporting service.
    pub(super) async fn read(
        &self,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        step: &mut Step,
    ) -> Result<(), Failure> {
        let mut pages = self.source.walk(from, to);
        loop {
            let came = tokio::select! {
                biased;
                came = next(&self.source, &mut *pages) => came?,
                () = self.charges.spent() => return Err(Failure::BudgetSpent),
            };
            match came {
                Came::Page(None) => break,
                Came::Page(Some(page)) => {
                    for (row, fingerprint) in page.rows().zip(page.fingerprints()) {
                        step.add_there(row, fingerprint);
                    }
                }
                // It knows by itself what to do about a dead link: nothing helps here.
                Came::Broken(error) => return Err(given_up(&self.source, &error)),
            }
        }
        if pages.was_cut_off() {
            step.doubt(format!(
                "{} to {}: Microsoft Graph has left rows out",
                instant(from),
                instant(to)
            ));
        }
        Ok(())
    }
}
