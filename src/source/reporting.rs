//! What Microsoft's reporting service is like: reference, its documentation and what has been seen of it.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::http::Client;
use super::meter::Meter;
use super::walk::Walk;
use super::{FetchError, Page, Pages, Pending, Query, RemoteTimes, Source};
use crate::record::Fingerprinter;
use crate::report::{AggregateBy, Origin, Paging, Report, Resolution, Terms};

/// Rows of a full page (seen).
const PAGE_ROWS: u64 = 2_000;

/// The most pages of a query (inferred); the service cuts off what is beyond.
const PAGES_MAX: u32 = 1_000;

/// The most rows of a query of `MailDetailATP` (documented).
const ROW_CAP: u64 = 10_000;

/// The service's terms for a report.
pub fn terms(report: &Report, aggregate_by: Option<AggregateBy>) -> Terms {
    use Resolution::{Day, Hour, Instant};
    let (days, resolution) = match report.path {
        "MessageTrace" => (10, Instant),
        "MailDetailATP" => (10, Hour),
        "DlpDetailReport" => (7, Hour),
        "SafelinksDetail" => (7, Day),
        "DlpDetectionsReport" => (30, Day),
        "SpoofMailReport" => (90, Day),
        _ if aggregate_by == Some(AggregateBy::Day) => (90, Day),
        _ => (90, Hour),
    };
    Terms {
        origin: Origin::ReportingService,
        reach: Duration::from_hours(24 * days),
        resolution,
        paging: Paging::ByPosition,
        row_cap: (report.path == "MailDetailATP").then_some(ROW_CAP),
        pages_max: PAGES_MAX,
        page_rows: PAGE_ROWS,
    }
}

/// The reporting service, for one report of an input.
pub struct ReportSource {
    client: Client,
    report: &'static Report,
    aggregate_by: Option<AggregateBy>,
    terms: Terms,
    fingerprinter: Fingerprinter,
    meter: Arc<dyn Meter>,
}

impl ReportSource {
    /// `fingerprinter` makes the fingerprints of the rows, `meter` takes note of the requests.
    pub fn new(
        client: Client,
        report: &'static Report,
        aggregate_by: Option<AggregateBy>,
        fingerprinter: Fingerprinter,
        meter: Arc<dyn Meter>,
    ) -> Self {
        ReportSource {
            client,
            report,
            aggregate_by,
            terms: terms(report, aggregate_by),
            fingerprinter,
            meter,
        }
    }
}

impl Source for ReportSource {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn walk(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> Box<dyn Pages> {
        let query = Query {
            report: self.report,
            first,
            last,
            aggregate_by: self.aggregate_by,
        };
        let walk = self.client.walk(query, &self.fingerprinter);
        Box::new(walk.metered(Arc::clone(&self.meter)))
    }

    fn clocks(&self) -> RemoteTimes {
        self.client.clocks()
    }

    fn paused(&self) -> Option<Duration> {
        self.client.paused()
    }
}

impl Pages for Walk {
    fn next_page(&mut self) -> Pending<'_, Result<Option<Page>, FetchError>> {
        Box::pin(self.next())
    }

    fn leads_on(&self) -> bool {
        !self.is_at_end()
    }
}
