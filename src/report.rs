//! The eight reports as data. A ninth report is one more entry of [`REPORTS`], and nothing else.
//!
//! Service names, paths and tags are printed in the original collector's documentation. What a source of a report is like is in its [`Terms`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One of the reports that the reporting service offers.
#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    /// The service's name in the configuration, such as `office365_reporting_MessageTrace_service`.
    pub service: &'static str,
    /// The last part of the report's address under the reporting service's root.
    pub path: &'static str,
    /// The Devo table that receives the records, and the tag of every line.
    pub tag: &'static str,
    /// What a row stands for.
    pub kind: Kind,
    /// The members of a row that hold an instant: they are compared as such, whatever their spelling.
    pub times: &'static [&'static str],
    /// The members that are the same, but for case, whichever source tells of a record; none where there is one source only.
    pub identity: &'static [&'static str],
    /// Whether it counts by hour or by day as a query's `AggregateBy` says; every query has to say it then.
    pub aggregates: bool,
}

/// What a source is like for one report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which service it is.
    pub origin: Origin,
    /// How far back it still has rows; older ranges are refused, or answered by an empty result.
    pub reach: Duration,
    /// How finely it filters by time.
    pub resolution: Resolution,
    /// How its pages follow one another.
    pub paging: Paging,
    /// The most rows that one query ever returns, where it is known to cut a result off.
    pub row_cap: Option<u64>,
    /// The most pages that one query ever returns.
    pub pages_max: u32,
    /// The rows of a full page.
    pub page_rows: u64,
}

impl Terms {
    /// Whether a last page with so many rows may be one that was cut off. Where pages follow by a key, the last one says that it is.
    pub fn may_cut_off(&self, rows: u64) -> bool {
        self.paging == Paging::ByPosition && rows >= self.page_rows
    }
}

/// Which of Microsoft's services tells of the records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The reporting service.
    #[default]
    ReportingService,
    /// Microsoft Graph.
    Graph,
}

impl Origin {
    /// Its name, as in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Origin::ReportingService => "reporting_service",
            Origin::Graph => "graph",
        }
    }

    /// Its name, as in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Origin::ReportingService => "the reporting service",
            Origin::Graph => "Microsoft Graph",
        }
    }
}

/// How the pages of a result follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paging {
    /// A page is a range of positions in the live result: rows that come or go meanwhile shift the others.
    ByPosition,
    /// A page begins behind a key: nothing shifts.
    ByKey,
}

/// What a row of a report stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something that happened once.
    Event,
    /// A count over a bucket of time, which grows until the bucket is final.
    Counter,
}

/// The unit in which a report's time filter works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Rows are filtered at the instant; both ends of the range asked for are inclusive.
    Instant,
    /// A query returns whole hours.
    Hour,
    /// A query returns whole days (UTC).
    Day,
}

/// The buckets of a traffic report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AggregateBy {
    /// A row an hour.
    Hour,
    /// A row a day (UTC).
    Day,
}

impl Report {
    /// Whether two of Microsoft's services tell of its records.
    pub fn has_two_services(&self) -> bool {
        !self.identity.is_empty()
    }

    /// Whether its records can be had before their delay has passed.
    ///
    /// # Errors
    ///
    /// Why they cannot.
    pub fn early_passes(&self) -> Result<(), &'static str> {
        match (self.kind, self.path) {
            (Kind::Counter, _) => Err(
                "its counts grow until the hour or the day is over, so what came early would be wrong",
            ),
            (Kind::Event, "SafelinksDetail") => Err(
                "it is asked for by whole days, and a day that is not over would be read again and again",
            ),
            (Kind::Event, _) => Ok(()),
        }
    }

    /// The report that the configuration calls `service`, if there is one.
    pub fn by_service(service: &str) -> Option<&'static Report> {
        REPORTS.iter().find(|report| report.service == service)
    }
}

/// All reports, in the order in which the original's documentation lists them.
pub static REPORTS: [Report; 8] = [
    Report {
        service: "office365_reporting_MailTraffic_service",
        path: "MailTraffic",
        tag: "cloud.office365.reporting.mailtraffic",
        kind: Kind::Counter,
        times: &["Date"],
        identity: &[],
        aggregates: true,
    },
    Report {
        service: "office365_reporting_DlpDetail_service",
        path: "DlpDetailReport",
        tag: "cloud.office365.reporting.dlpdetail",
        kind: Kind::Event,
        times: &["Date"],
        identity: &[],
        aggregates: false,
    },
    Report {
        service: "office365_reporting_SpoofMail_service",
        path: "SpoofMailReport",
        tag: "cloud.office365.reporting.spoofmail",
        kind: Kind::Counter,
        times: &["Date"],
        identity: &[],
        aggregates: false,
    },
    Report {
        service: "office365_reporting_AdvancedThreatProtectionTraffic_service",
        path: "MailTrafficATP",
        tag: "cloud.office365.reporting.atptraffic",
        kind: Kind::Counter,
        times: &["Date"],
        identity: &[],
        aggregates: true,
    },
    Report {
        service: "office365_reporting_MessageTrace_service",
        path: "MessageTrace",
        tag: "cloud.office365.reporting.messagetrace",
        kind: Kind::Event,
        times: &["Received"],
        identity: &["MessageTraceId", "RecipientAddress", "Status"],
        aggregates: false,
    },
    Report {
        service: "office365_reporting_Dlp_service",
        path: "DlpDetectionsReport",
        tag: "cloud.office365.reporting.dlp",
        kind: Kind::Counter,
        times: &["Date"],
        identity: &[],
        aggregates: false,
    },
    Report {
        service: "office365_reporting_MailDetailATP_service",
        path: "MailDetailATP",
        tag: "cloud.office365.reporting.maildetailatp",
        kind: Kind::Event,
        times: &["Date"],
        identity: &[],
        aggregates: false,
    },
    Report {
        service: "office365_reporting_SafelinksDetail_service",
        path: "SafelinksDetail",
        tag: "cloud.office365.reporting.safelinksdetail",
        kind: Kind::Event,
        times: &["ClickTime"],
        identity: &[],
        aggregates: false,
    },
];
