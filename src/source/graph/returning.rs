//! Whether the reporting service has message traces again, for a range that Microsoft Graph has some of.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::sleep;

use super::super::error::FetchError;
use super::super::{RemoteTimes, ReportSource, Source};
use super::GraphSource;

/// The reporting service is asked for so much more at both ends, since the times of the two differ below the millisecond.
const MARGIN: TimeDelta = TimeDelta::seconds(1);

/// The time between two requests to Graph: the budget is for collecting, and a look may use a third of it.
const BETWEEN: Duration = Duration::from_secs(10);

/// What the reporting service shows of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Every message that Graph shows, and Graph shows some.
    All,
    /// Not all of them.
    Missing {
        /// How many it lacks, of the pages that were read.
        messages: usize,
    },
    /// Graph shows none either, which proves nothing.
    Nothing,
}

/// Both services, to look whether the first could be asked again.
pub struct Returning {
    reports: ReportSource,
    graph: GraphSource,
}

impl Returning {
    /// Looks at these two.
    pub fn new(reports: ReportSource, graph: GraphSource) -> Self {
        Returning { reports, graph }
    }

    /// What the clocks at Graph's side say now.
    pub fn clocks(&self) -> RemoteTimes {
        self.graph.clocks()
    }

    /// Asks both for a range, one request at a time. A message is one message for one recipient in one status.
    ///
    /// # Errors
    ///
    /// The first of either service, of whatever kind: nothing is tried again.
    pub async fn look(
        &self,
        (first, last): (DateTime<Utc>, DateTime<Utc>),
    ) -> Result<Shown, FetchError> {
        let mut shown = HashSet::new();
        let mut pages = self.reports.walk(first - MARGIN, last + MARGIN);
        while let Some(page) = pages.next_page().await? {
            shown.extend(page.fingerprints().map(|row| row.halves().0));
        }
        let mut pages = self.graph.walk(first, last);
        let mut is_empty = true;
        while let Some(page) = pages.next_page().await? {
            is_empty &= page.is_empty();
            let identities: HashSet<_> = page.fingerprints().map(|row| row.halves().0).collect();
            let messages = identities.difference(&shown).count();
            if messages > 0 {
                return Ok(Shown::Missing { messages });
            }
            if pages.leads_on() {
                sleep(BETWEEN).await;
            }
        }
        Ok(if is_empty { Shown::Nothing } else { Shown::All })
    }
}
