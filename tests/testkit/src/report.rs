//! The eight reports, as the reporting service knows them.

use std::fmt;

/// One of the eight reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Report {
    /// Counts of mail traffic, by hour or day.
    MailTraffic,
    /// Matches of data loss prevention rules.
    DlpDetail,
    /// Counts of mail from spoofed senders, by day.
    SpoofMail,
    /// Counts of threat detections, by hour or day.
    MailTrafficAtp,
    /// Messages, a row a recipient.
    MessageTrace,
    /// Counts of matches of data loss prevention rules, by day.
    DlpDetections,
    /// Threat detections, one by one; cut off at 10,000 rows a query.
    MailDetailAtp,
    /// Clicks on rewritten links; never those of today.
    SafelinksDetail,
}

/// The unit in which a time filter works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// Both ends of the range, to the instant, are inclusive.
    Instant,
    /// Whole hours come back.
    Hour,
    /// Whole days (UTC) come back.
    Day,
}

/// What a query for a traffic report has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Aggregate {
    /// A row an hour.
    Hour,
    /// A row a day (UTC).
    Day,
}

impl Report {
    /// All of them, in the order of the collector's documentation.
    pub const ALL: [Report; 8] = [
        Report::MailTraffic,
        Report::DlpDetail,
        Report::SpoofMail,
        Report::MailTrafficAtp,
        Report::MessageTrace,
        Report::DlpDetections,
        Report::MailDetailAtp,
        Report::SafelinksDetail,
    ];

    /// The last part of the report's address.
    pub fn path(self) -> &'static str {
        match self {
            Report::MailTraffic => "MailTraffic",
            Report::DlpDetail => "DlpDetailReport",
            Report::SpoofMail => "SpoofMailReport",
            Report::MailTrafficAtp => "MailTrafficATP",
            Report::MessageTrace => "MessageTrace",
            Report::DlpDetections => "DlpDetectionsReport",
            Report::MailDetailAtp => "MailDetailATP",
            Report::SafelinksDetail => "SafelinksDetail",
        }
    }

    /// The report's last part of a table's name, and of a line's tag.
    fn table(self) -> &'static str {
        match self {
            Report::MailTraffic => "mailtraffic",
            Report::DlpDetail => "dlpdetail",
            Report::SpoofMail => "spoofmail",
            Report::MailTrafficAtp => "atptraffic",
            Report::MessageTrace => "messagetrace",
            Report::DlpDetections => "dlp",
            Report::MailDetailAtp => "maildetailatp",
            Report::SafelinksDetail => "safelinksdetail",
        }
    }

    /// The tag of the report's lines.
    pub fn tag(self) -> String {
        format!("cloud.office365.reporting.{}", self.table())
    }

    /// The report whose lines carry this tag.
    pub fn by_tag(tag: &str) -> Option<Report> {
        let table = tag.strip_prefix("cloud.office365.reporting.")?;
        Report::ALL
            .into_iter()
            .find(|report| report.table() == table)
    }

    /// The report at this path; case does not matter.
    pub fn by_path(path: &str) -> Option<Report> {
        Report::ALL
            .into_iter()
            .find(|report| report.path().eq_ignore_ascii_case(path))
    }

    /// The name of the collector's service for this report.
    pub fn service(self) -> &'static str {
        match self {
            Report::MailTraffic => "office365_reporting_MailTraffic_service",
            Report::DlpDetail => "office365_reporting_DlpDetail_service",
            Report::SpoofMail => "office365_reporting_SpoofMail_service",
            Report::MailTrafficAtp => "office365_reporting_AdvancedThreatProtectionTraffic_service",
            Report::MessageTrace => "office365_reporting_MessageTrace_service",
            Report::DlpDetections => "office365_reporting_Dlp_service",
            Report::MailDetailAtp => "office365_reporting_MailDetailATP_service",
            Report::SafelinksDetail => "office365_reporting_SafelinksDetail_service",
        }
    }

    /// Whether a query has to say `AggregateBy`.
    pub fn is_traffic(self) -> bool {
        matches!(self, Report::MailTraffic | Report::MailTrafficAtp)
    }

    /// The unit of the time filter; `aggregate` counts for the traffic reports only.
    pub fn resolution(self, aggregate: Option<Aggregate>) -> Resolution {
        match self {
            Report::MessageTrace => Resolution::Instant,
            Report::SpoofMail | Report::DlpDetections | Report::SafelinksDetail => Resolution::Day,
            Report::MailTraffic | Report::MailTrafficAtp if aggregate == Some(Aggregate::Day) => {
                Resolution::Day
            }
            Report::DlpDetail
            | Report::MailDetailAtp
            | Report::MailTraffic
            | Report::MailTrafficAtp => Resolution::Hour,
        }
    }

    /// The oldest start, in whole days before now, that a query may have.
    pub fn accepted_days(self) -> i64 {
        match self {
            Report::DlpDetail => 30,
            _ => self.kept_days(),
        }
    }

    /// The oldest rows, in whole days before now, that come back.
    pub fn kept_days(self) -> i64 {
        match self {
            Report::MailTraffic | Report::SpoofMail | Report::MailTrafficAtp => 90,
            Report::DlpDetail | Report::SafelinksDetail => 7,
            Report::MessageTrace | Report::MailDetailAtp => 10,
            Report::DlpDetections => 30,
        }
    }
}

impl Resolution {
    /// The unit's length in seconds; an instant has none.
    pub fn seconds(self) -> i64 {
        match self {
            Resolution::Instant => 0,
            Resolution::Hour => 3_600,
            Resolution::Day => 86_400,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.path())
    }
}
