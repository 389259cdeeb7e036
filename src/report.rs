//! The eight reports as data. A ninth report is one more entry of [`REPORTS`], and nothing else.
//!
//! Service names, paths and tags are printed in the original collector's documentation; resolution, reach and caps are
//! what is known of Microsoft's reporting service.

use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

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
    /// How finely the service filters by time.
    pub resolution: Resolution,
    /// How far back the service still has rows; older ranges are refused, or answered by an empty result.
    pub reach: Duration,
    /// The most rows that one query ever returns, where the service is known to cut a result off.
    pub row_cap: Option<u64>,
    /// How long the first window is; later ones adapt to what the first ones brought.
    pub first_span: Duration,
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
    /// A query returns whole hours or whole days, as the query's `AggregateBy` says; it has to say it.
    Aggregate,
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
        resolution: Resolution::Aggregate,
        reach: DAY.saturating_mul(90),
        row_cap: None,
        first_span: HOUR.saturating_mul(6),
    },
    Report {
        service: "office365_reporting_DlpDetail_service",
        path: "DlpDetailReport",
        tag: "cloud.office365.reporting.dlpdetail",
        kind: Kind::Event,
        resolution: Resolution::Hour,
        reach: DAY.saturating_mul(7),
        row_cap: None,
        first_span: HOUR.saturating_mul(6),
    },
    Report {
        service: "office365_reporting_SpoofMail_service",
        path: "SpoofMailReport",
        tag: "cloud.office365.reporting.spoofmail",
        kind: Kind::Counter,
        resolution: Resolution::Day,
        reach: DAY.saturating_mul(90),
        row_cap: None,
        first_span: DAY,
    },
    Report {
        service: "office365_reporting_AdvancedThreatProtectionTraffic_service",
        path: "MailTrafficATP",
        tag: "cloud.office365.reporting.atptraffic",
        kind: Kind::Counter,
        resolution: Resolution::Aggregate,
        reach: DAY.saturating_mul(90),
        row_cap: None,
        first_span: HOUR.saturating_mul(6),
    },
    Report {
        service: "office365_reporting_MessageTrace_service",
        path: "MessageTrace",
        tag: "cloud.office365.reporting.messagetrace",
        kind: Kind::Event,
        resolution: Resolution::Instant,
        reach: DAY.saturating_mul(10),
        row_cap: None,
        first_span: HOUR,
    },
    Report {
        service: "office365_reporting_Dlp_service",
        path: "DlpDetectionsReport",
        tag: "cloud.office365.reporting.dlp",
        kind: Kind::Counter,
        resolution: Resolution::Day,
        reach: DAY.saturating_mul(30),
        row_cap: None,
        first_span: DAY,
    },
    Report {
        service: "office365_reporting_MailDetailATP_service",
        path: "MailDetailATP",
        tag: "cloud.office365.reporting.maildetailatp",
        kind: Kind::Event,
        resolution: Resolution::Hour,
        reach: DAY.saturating_mul(10),
        row_cap: Some(10_000),
        first_span: HOUR,
    },
    Report {
        service: "office365_reporting_SafelinksDetail_service",
        path: "SafelinksDetail",
        tag: "cloud.office365.reporting.safelinksdetail",
        kind: Kind::Event,
        resolution: Resolution::Day,
        reach: DAY.saturating_mul(7),
        row_cap: None,
        first_span: DAY,
    },
];
