//! Rows made by rule: the same seed gives the same rows, none of them twice, and none is rendered before it is asked for.

use std::io::Write as _;

use chrono::{DateTime, Datelike as _, NaiveDateTime, TimeDelta, Timelike as _, Utc};

use super::store::TableKey;
use crate::json;
use crate::report::{Aggregate, Report, Resolution};

/// 100 nanoseconds since 1970, the service's own precision.
pub(crate) type Ticks = i64;

/// Ticks a second.
pub(crate) const SECOND: Ticks = 10_000_000;

/// The instant in ticks.
pub(crate) fn ticks(time: DateTime<Utc>) -> Ticks {
    time.timestamp() * SECOND + i64::from(time.timestamp_subsec_nanos() / 100)
}

/// The instant of an ISO date as the service writes it, if it is one.
pub(crate) fn iso(text: &str) -> Option<DateTime<Utc>> {
    let plain = text.trim_end_matches('Z');
    NaiveDateTime::parse_from_str(plain, "%Y-%m-%dT%H:%M:%S%.f")
        .ok()
        .map(|time| time.and_utc())
}

/// Rows to be made by rule.
#[derive(Clone, Debug)]
pub struct Backlog {
    /// The report.
    pub report: Report,
    /// For a traffic report: the bucket that the rows count.
    pub aggregate: Aggregate,
    /// The first instant.
    pub from: DateTime<Utc>,
    /// The instant after the last.
    pub to: DateTime<Utc>,
    /// How many, spread evenly.
    pub rows: u32,
    /// What makes the rows these and no others.
    pub seed: u64,
}

impl Backlog {
    /// Rows spread over `[from, to)`; traffic reports by the hour.
    pub fn new(report: Report, from: DateTime<Utc>, to: DateTime<Utc>, rows: u32) -> Backlog {
        Backlog {
            report,
            aggregate: Aggregate::Hour,
            from,
            to,
            rows,
            seed: 1,
        }
    }

    pub(crate) fn table(&self) -> TableKey {
        TableKey {
            report: self.report,
            aggregate: self.report.is_traffic().then_some(self.aggregate),
        }
    }
}

/// Makes the rows of one backlog.
pub(crate) struct Generator {
    report: Report,
    aggregate: Aggregate,
    from: Ticks,
    span: Ticks,
    rows: u32,
    seed: u64,
}

/// The values that rows of text draw from, escaped as JSON.
const SUBJECTS: [&str; 10] = [
    "Weekly Digest",
    "Re: Angebot für Müller & Söhne – Größe XL",
    "会議のお知らせ 📅",
    r#"\"Quarterly\" figures \\ draft"#,
    r"Line one\r\nLine two\tand a tab",
    r"caf\u00e9 \u2028 separated \u2029",
    "Счёт № 42 / Rechnung",
    r"https:\/\/example.com\/a?b=c&d=\u003ce\u003e",
    "مرحبا بالعالم",
    r"\ud83d\ude00 smile \u0000 nul",
];
const STATUSES: [&str; 8] = [
    "Delivered",
    "Delivered",
    "Delivered",
    "Failed",
    "Pending",
    "Expanded",
    "Quarantined",
    "FilteredAsSpam",
];
const ORGANIZATION: &str = "contoso.onmicrosoft.com";

impl Generator {
    /// `salt` tells apart the generators of one table.
    pub(crate) fn new(backlog: &Backlog, salt: u64) -> Generator {
        let from = ticks(backlog.from);
        Generator {
            report: backlog.report,
            aggregate: backlog.aggregate,
            from,
            span: (ticks(backlog.to) - from).max(1),
            rows: backlog.rows.max(1),
            seed: mix(backlog.seed ^ mix(salt)),
        }
    }

    /// The row's time, which the service filters by.
    pub(crate) fn time(&self, index: u32) -> Ticks {
        let message = message(index);
        let at = |index: u32| {
            let share = i128::from(self.span) * i128::from(index) / i128::from(self.rows);
            self.from + i64::try_from(share).unwrap_or_default()
        };
        let step = at(message + 1) - at(message);
        let noise = self.noise(message);
        let jitter = if step > 0 {
            i64::try_from(noise >> 1).unwrap_or_default() % step
        } else {
            0
        };
        let time = at(message) + jitter;
        (time - time.rem_euclid(10_i64.pow(7 - decimals(noise)))).max(self.from)
    }

    fn noise(&self, index: u32) -> u64 {
        mix(self
            .seed
            .wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Appends the row's documented fields.
    pub(crate) fn write(&self, index: u32, fields: &mut Fields<'_>) {
        let (own, shared) = (self.noise(index), self.noise(message(index)));
        write_row(
            self.report,
            self.aggregate,
            self.time(index),
            decimals(shared),
            shared,
            own,
            fields,
        );
    }
}

/// The row that shares its message with this one: every fourth row is another recipient of the one before.
fn message(index: u32) -> u32 {
    if index % 4 == 3 { index - 1 } else { index }
}

/// How many decimals a time has: 0 to 7.
fn decimals(noise: u64) -> u32 {
    u32::try_from(noise % 8).unwrap_or_default()
}

/// A row's JSON object with a report's documented fields and an exact time.
pub(crate) fn sample(report: Report, time: DateTime<Utc>, number: u64) -> String {
    let noise = mix(number.wrapping_add(0x5bd1_e995));
    let mut out = Vec::new();
    let mut fields = Fields::open(&mut out, false);
    write_row(
        report,
        Aggregate::Hour,
        ticks(time),
        7,
        noise,
        noise,
        &mut fields,
    );
    fields.close();
    String::from_utf8_lossy(&out).into_owned()
}

/// `shared` is what a message's rows have in common, `own` is this row's; both are noise.
fn write_row(
    report: Report,
    aggregate: Aggregate,
    time: Ticks,
    decimals: u32,
    shared: u64,
    own: u64,
    fields: &mut Fields<'_>,
) {
    let second = mix(shared);
    let pick = |from: &[&'static str], noise: u64| {
        from[usize::try_from(noise % from.len() as u64).unwrap_or_default()]
    };
    let sender = format!(
        "sender{:x}@{}",
        shared >> 48,
        pick(&["example.com", "müller.example", "example.org"], second)
    );
    let recipient = format!("user{own:016x}@{ORGANIZATION}");
    let id = format!(
        "<{:x}.{:x}@az{}.example.com>",
        second,
        shared >> 32,
        shared % 7
    );
    let guid = guid(shared, second);
    let count = own % 1_000;
    let bucket = match report.resolution(Some(aggregate)) {
        Resolution::Day => Resolution::Day.seconds() * SECOND,
        _ => Resolution::Hour.seconds() * SECOND,
    };
    let date = time - time.rem_euclid(bucket);
    let aggregate = if aggregate == Aggregate::Day {
        "Day"
    } else {
        "Hour"
    };
    match report {
        Report::MessageTrace => {
            fields.text("Organization", ORGANIZATION);
            fields.text_or_null("MessageId", (own % 97 != 0).then_some(&id));
            fields.date("Received", time, decimals);
            fields.text("SenderAddress", &sender);
            fields.text("RecipientAddress", &recipient);
            fields.text_or_null(
                "Subject",
                (shared % 53 != 0).then(|| pick(&SUBJECTS, second >> 8)),
            );
            fields.text("Status", pick(&STATUSES, own >> 8));
            fields.text_or_null(
                "ToIP",
                (own % 3 == 0)
                    .then(|| format!("2001:db8::{:x}", own >> 48))
                    .as_deref(),
            );
            fields.text_or_null(
                "FromIP",
                (own % 5 != 0)
                    .then(|| format!("192.0.2.{}", shared % 256))
                    .as_deref(),
            );
            fields.number("Size", if own % 31 == 0 { 0 } else { own % 5_000_000 });
            fields.text("MessageTraceId", &guid);
        }
        Report::MailTraffic => {
            fields.text("Organization", ORGANIZATION);
            fields.text("Domain", &format!("d{own:016x}.example.com"));
            fields.date("Date", date, 0);
            fields.text(
                "EventType",
                pick(
                    &[
                        "GoodMail",
                        "Malware",
                        "SpamContentFiltered",
                        "TransportRule",
                    ],
                    own >> 8,
                ),
            );
            fields.text("Direction", pick(&["Inbound", "Outbound"], own >> 12));
            fields.text_or_null("Action", (own % 2 == 0).then_some("Quarantine"));
            fields.number("MessageCount", count);
            fields.text("SummarizeBy", "");
            fields.text("AggregateBy", aggregate);
        }
        Report::DlpDetail => {
            fields.text("Organization", ORGANIZATION);
            fields.date("Date", time, decimals);
            fields.text("Title", pick(&SUBJECTS, second >> 8));
            fields.text(
                "Location",
                pick(&["", r"https:\/\/contoso.sharepoint.com\/doc"], own),
            );
            fields.text("Severity", pick(&["Low", "Medium", "High"], own >> 4));
            fields.number("Size", own % 5_000_000);
            fields.text("Source", pick(&["EXCH", "ODB", "SPO"], own >> 8));
            fields.text("Actor", &sender);
            fields.text("DlpPolicy", "U.S. Financial Data");
            fields.text("TransportRule", "High volume of content");
            fields.text_or_null("UserAction", (own % 3 == 0).then_some("Override"));
            fields.text_or_null(
                "Justification",
                (own % 3 == 0).then(|| pick(&SUBJECTS, own >> 16)),
            );
            fields.text("SensitiveInformationType", "Credit Card Number");
            fields.number("SensitiveInformationCount", own % 30);
            fields.number("SensitiveInformationConfidence", 85);
            fields.text("EventType", "DLP policy match");
            fields.text("Action", pick(&["NotifyUser", "BlockAccess"], own >> 20));
            fields.text("ObjectId", &format!("{own:016x}"));
        }
        Report::SpoofMail => {
            fields.date("Date", date, 0);
            fields.text("SpoofedSender", &recipient);
            fields.text("TrueSender", &sender);
            fields.text("SendingInfrastructure", "example.org");
            fields.text("SenderIp", &format!("198.51.100.{}", shared % 256));
            fields.number("MessageCount", count);
            fields.text("SpoofType", pick(&["Internal", "External"], own));
            fields.text("Source", "Spoof intelligence");
            fields.text("Action", pick(&["Block", "Allow"], own >> 4));
            fields.text("CompAuthResult", pick(&["fail", "softpass"], own >> 8));
            fields.text("CompAuthReason", "000");
            fields.text("SpfAuthStatus", pick(&["Pass", "Fail", "None"], own >> 12));
            fields.text("DkimAuthStatus", pick(&["Pass", "Fail", "None"], own >> 16));
            fields.text(
                "DmarcAuthStatus",
                pick(&["Pass", "Fail", "None"], own >> 20),
            );
        }
        Report::MailTrafficAtp => {
            fields.text("Organization", ORGANIZATION);
            fields.text("Domain", &format!("d{own:016x}.example.com"));
            fields.date("Date", date, 0);
            fields.text(
                "EventType",
                pick(
                    &["Message passed", "URL detonation", "Advanced phish filter"],
                    own >> 8,
                ),
            );
            fields.text("Direction", pick(&["Inbound", "Outbound"], own >> 12));
            fields.text(
                "VerdictSource",
                pick(&["Malware", "Phish", "Spam"], own >> 16),
            );
            fields.text_or_null("Action", (own % 2 == 0).then_some("Quarantine"));
            fields.number("MessageCount", count);
            fields.text("AggregateBy", aggregate);
        }
        Report::MailDetailAtp => {
            fields.date("Date", time, decimals);
            fields.text("MessageId", &id);
            fields.text("MessageTraceId", &guid);
            fields.text("Domain", "example.com");
            fields.text_or_null(
                "Subject",
                (shared % 53 != 0).then(|| pick(&SUBJECTS, second >> 8)),
            );
            fields.number("MessageSize", own % 5_000_000);
            fields.text("Direction", "Inbound");
            fields.text("SenderAddress", &sender);
            fields.text("RecipientAddress", &recipient);
            fields.text(
                "EventType",
                pick(
                    &["Malware", "Advanced phish filter", "Spoof intra-org"],
                    own >> 8,
                ),
            );
            fields.number("BulkComplaintLevel", own % 10);
            fields.text("VerdictType", "Phish");
            fields.text("Action", pick(&["Quarantine", "MoveToJmf"], own >> 16));
            fields.text_or_null("FileName", (own % 2 == 0).then_some("rechnung – März.docx"));
        }
        Report::SafelinksDetail => {
            fields.date("ClickTime", time, decimals);
            fields.text("NetworkMessageId", &guid);
            fields.text("ClientMessageId", &id);
            fields.text("SenderAddress", &sender);
            fields.text("RecipientAddress", &recipient);
            fields.text("Url", &format!(r"https:\/\/example.net\/{own:x}?q=%C3%A9"));
            fields.text("UrlDomain", "example.net");
            fields.text(
                "Action",
                pick(&["Allowed", "Blocked", "ClickedEvenBlocked"], own >> 8),
            );
            fields.text("AppName", "Mail");
            fields.text("SourceId", &guid);
            fields.text("Organization", ORGANIZATION);
            fields.text("DetectedBy", "");
            fields.text("UrlType", "Phish");
            fields.number("Flags", own % 4);
        }
        Report::DlpDetections => {
            fields.date("Date", date, 0);
            fields.text("DlpPolicy", &format!("Policy {own:016x}"));
            fields.text("DlpComplianceRule", "High volume of content");
            fields.text("EventType", "DLPRuleHits");
            fields.text("Source", pick(&["EXCH", "ODB", "SPO"], own >> 8));
            fields.text_or_null("Action", (own % 2 == 0).then_some("NotifyUser"));
            fields.text("Organization", ORGANIZATION);
            fields.number("MessageCount", count);
        }
    }
}

fn guid(high: u64, low: u64) -> String {
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Spreads a number over all 64 bits, each number to another (the finaliser of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// Appends the fields of one JSON object.
pub(crate) struct Fields<'a> {
    out: &'a mut Vec<u8>,
    verbose: bool,
    first: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn open(out: &'a mut Vec<u8>, verbose: bool) -> Fields<'a> {
        out.push(b'{');
        Fields {
            out,
            verbose,
            first: true,
        }
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }

    fn key(&mut self, key: &str) {
        self.out
            .extend_from_slice(if self.first { b"\"" } else { b",\"" });
        self.first = false;
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// `value` is JSON as it stands.
    pub(crate) fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.extend_from_slice(value.as_bytes());
    }

    /// `value` is a string's content, escaped.
    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    fn text_or_null(&mut self, key: &str, value: Option<impl AsRef<str>>) {
        match value {
            Some(value) => self.text(key, value.as_ref()),
            None => self.raw(key, "null"),
        }
    }

    pub(crate) fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        // Writing to memory does not fail.
        let _ = write!(self.out, "{value}");
    }

    fn date(&mut self, key: &str, time: Ticks, decimals: u32) {
        self.key(key);
        if self.verbose {
            self.milliseconds(time.div_euclid(10_000));
            return;
        }
        self.out.push(b'"');
        self.instant(time.div_euclid(SECOND));
        if decimals > 0 {
            let (width, places) = (decimals as usize, 10_i64.pow(7 - decimals));
            let _ = write!(self.out, ".{:0width$}", time.rem_euclid(SECOND) / places);
        }
        self.out.push(b'"');
    }

    /// A date in whole seconds since 1970, with `Z` or without.
    pub(crate) fn moment(&mut self, key: &str, seconds: i64, utc: bool) {
        self.key(key);
        if self.verbose {
            self.milliseconds(seconds * 1_000);
            return;
        }
        self.out.push(b'"');
        self.instant(seconds);
        self.out.extend_from_slice(if utc { b"Z\"" } else { b"\"" });
    }

    fn milliseconds(&mut self, milliseconds: i64) {
        let _ = write!(self.out, r#""/Date({milliseconds})/""#);
    }

    fn instant(&mut self, seconds: i64) {
        let time = DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let _ = write!(
            self.out,
            "{:04}-{:02}-{:02}T",
            time.year(),
            time.month(),
            time.day()
        );
        let _ = write!(
            self.out,
            "{:02}:{:02}:{:02}",
            time.hour(),
            time.minute(),
            time.second()
        );
    }

    /// The fields of another object, dates in the verbose form where that is asked for.
    pub(crate) fn splice(&mut self, object: &str) {
        let Ok(fields) = json::fields(object) else {
            // Not an object: the row is to be as odd as the test wants it.
            self.out.extend_from_slice(object.as_bytes());
            return;
        };
        if !self.verbose {
            let inner = object.trim().trim_start_matches('{');
            if !fields.is_empty() {
                self.out
                    .extend_from_slice(if self.first { b"" } else { b"," });
                self.out
                    .extend_from_slice(inner[..inner.len() - 1].as_bytes());
                self.first = false;
            }
            return;
        }
        for (key, value) in fields {
            let key = key.trim_matches('"');
            match iso(value.trim_matches('"')) {
                Some(time) if matches!(key, "Received" | "Date" | "ClickTime") => {
                    self.key(key);
                    self.milliseconds(time.timestamp_millis());
                }
                _ => self.raw(key, value),
            }
        }
    }
}
