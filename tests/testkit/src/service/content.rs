//! What a row says: the documented fields of each report, in their order, with values drawn from noise.

use chrono::{DateTime, Utc};

use super::fields::Fields;
use super::generator::{SECOND, Ticks, mix, ticks};
use crate::report::{Aggregate, Report, Resolution};

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

/// A row's JSON object with a report's documented fields and an exact time.
pub(crate) fn sample(
    report: Report,
    aggregate: Aggregate,
    time: DateTime<Utc>,
    number: u64,
) -> String {
    let noise = mix(number.wrapping_add(0x5bd1_e995));
    let mut out = Vec::new();
    let mut fields = Fields::open(&mut out, false);
    let row = Content {
        report,
        aggregate,
        time: ticks(time),
        decimals: 7,
        shared: noise,
        own: noise,
    };
    row.write(&mut fields);
    fields.close();
    String::from_utf8_lossy(&out).into_owned()
}

/// What a row's values follow from.
pub(crate) struct Content {
    pub(crate) report: Report,
    pub(crate) aggregate: Aggregate,
    pub(crate) time: Ticks,
    /// Of the time.
    pub(crate) decimals: u32,
    /// What a message's rows have in common: noise.
    pub(crate) shared: u64,
    /// What this row has alone: noise.
    pub(crate) own: u64,
}

impl Content {
    /// Appends the row's fields.
    pub(crate) fn write(&self, fields: &mut Fields<'_>) {
        match self.report {
            Report::MessageTrace => self.message_trace(fields),
            Report::MailTraffic => self.mail_traffic(fields),
            Report::DlpDetail => self.dlp_detail(fields),
            Report::SpoofMail => self.spoof_mail(fields),
            Report::MailTrafficAtp => self.mail_traffic_atp(fields),
            Report::MailDetailAtp => self.mail_detail_atp(fields),
            Report::SafelinksDetail => self.safelinks_detail(fields),
            Report::DlpDetections => self.dlp_detections(fields),
        }
    }

    fn message_trace(&self, fields: &mut Fields<'_>) {
        fields.text("Organization", ORGANIZATION);
        fields.text_or_null(
            "MessageId",
            (!self.own.is_multiple_of(97)).then_some(&self.message_id()),
        );
        fields.date("Received", self.time, self.decimals);
        fields.text("SenderAddress", &self.sender());
        fields.text("RecipientAddress", &self.recipient());
        fields.text_or_null(
            "Subject",
            (!self.shared.is_multiple_of(53)).then(|| pick(&SUBJECTS, self.more() >> 8)),
        );
        fields.text("Status", pick(&STATUSES, self.own >> 8));
        fields.text_or_null(
            "ToIP",
            self.own
                .is_multiple_of(3)
                .then(|| format!("2001:db8::{:x}", self.own >> 48))
                .as_deref(),
        );
        fields.text_or_null(
            "FromIP",
            (!self.own.is_multiple_of(5))
                .then(|| format!("192.0.2.{}", self.shared % 256))
                .as_deref(),
        );
        fields.number(
            "Size",
            if self.own.is_multiple_of(31) {
                0
            } else {
                self.own % 5_000_000
            },
        );
        fields.text("MessageTraceId", &self.guid());
    }

    fn mail_traffic(&self, fields: &mut Fields<'_>) {
        fields.text("Organization", ORGANIZATION);
        fields.text("Domain", &format!("d{:016x}.example.com", self.own));
        fields.date("Date", self.bucket(), 0);
        fields.text(
            "EventType",
            pick(
                &[
                    "GoodMail",
                    "Malware",
                    "SpamContentFiltered",
                    "TransportRule",
                ],
                self.own >> 8,
            ),
        );
        fields.text("Direction", pick(&["Inbound", "Outbound"], self.own >> 12));
        fields.text_or_null("Action", self.own.is_multiple_of(2).then_some("Quarantine"));
        fields.number("MessageCount", self.own % 1_000);
        fields.text("SummarizeBy", "");
        fields.text("AggregateBy", self.aggregate_by());
    }

    fn dlp_detail(&self, fields: &mut Fields<'_>) {
        fields.text("Organization", ORGANIZATION);
        fields.date("Date", self.time, self.decimals);
        fields.text("Title", pick(&SUBJECTS, self.more() >> 8));
        fields.text(
            "Location",
            pick(&["", r"https:\/\/contoso.sharepoint.com\/doc"], self.own),
        );
        fields.text("Severity", pick(&["Low", "Medium", "High"], self.own >> 4));
        fields.number("Size", self.own % 5_000_000);
        fields.text("Source", pick(&["EXCH", "ODB", "SPO"], self.own >> 8));
        fields.text("Actor", &self.sender());
        fields.text("DlpPolicy", "U.S. Financial Data");
        fields.text("TransportRule", "High volume of content");
        fields.text_or_null(
            "UserAction",
            self.own.is_multiple_of(3).then_some("Override"),
        );
        fields.text_or_null(
            "Justification",
            self.own
                .is_multiple_of(3)
                .then(|| pick(&SUBJECTS, self.own >> 16)),
        );
        fields.text("SensitiveInformationType", "Credit Card Number");
        fields.number("SensitiveInformationCount", self.own % 30);
        fields.number("SensitiveInformationConfidence", 85);
        fields.text("EventType", "DLP policy match");
        fields.text(
            "Action",
            pick(&["NotifyUser", "BlockAccess"], self.own >> 20),
        );
        fields.text("ObjectId", &format!("{:016x}", self.own));
    }

    fn spoof_mail(&self, fields: &mut Fields<'_>) {
        fields.date("Date", self.bucket(), 0);
        fields.text("SpoofedSender", &self.recipient());
        fields.text("TrueSender", &self.sender());
        fields.text("SendingInfrastructure", "example.org");
        fields.text("SenderIp", &format!("198.51.100.{}", self.shared % 256));
        fields.number("MessageCount", self.own % 1_000);
        fields.text("SpoofType", pick(&["Internal", "External"], self.own));
        fields.text("Source", "Spoof intelligence");
        fields.text("Action", pick(&["Block", "Allow"], self.own >> 4));
        fields.text("CompAuthResult", pick(&["fail", "softpass"], self.own >> 8));
        fields.text("CompAuthReason", "000");
        fields.text(
            "SpfAuthStatus",
            pick(&["Pass", "Fail", "None"], self.own >> 12),
        );
        fields.text(
            "DkimAuthStatus",
            pick(&["Pass", "Fail", "None"], self.own >> 16),
        );
        fields.text(
            "DmarcAuthStatus",
            pick(&["Pass", "Fail", "None"], self.own >> 20),
        );
    }

    fn mail_traffic_atp(&self, fields: &mut Fields<'_>) {
        fields.text("Organization", ORGANIZATION);
        fields.text("Domain", &format!("d{:016x}.example.com", self.own));
        fields.date("Date", self.bucket(), 0);
        fields.text(
            "EventType",
            pick(
                &["Message passed", "URL detonation", "Advanced phish filter"],
                self.own >> 8,
            ),
        );
        fields.text("Direction", pick(&["Inbound", "Outbound"], self.own >> 12));
        fields.text(
            "VerdictSource",
            pick(&["Malware", "Phish", "Spam"], self.own >> 16),
        );
        fields.text_or_null("Action", self.own.is_multiple_of(2).then_some("Quarantine"));
        fields.number("MessageCount", self.own % 1_000);
        fields.text("AggregateBy", self.aggregate_by());
    }

    fn mail_detail_atp(&self, fields: &mut Fields<'_>) {
        fields.date("Date", self.time, self.decimals);
        fields.text("MessageId", &self.message_id());
        fields.text("MessageTraceId", &self.guid());
        fields.text("Domain", "example.com");
        fields.text_or_null(
            "Subject",
            (!self.shared.is_multiple_of(53)).then(|| pick(&SUBJECTS, self.more() >> 8)),
        );
        fields.number("MessageSize", self.own % 5_000_000);
        fields.text("Direction", "Inbound");
        fields.text("SenderAddress", &self.sender());
        fields.text("RecipientAddress", &self.recipient());
        fields.text(
            "EventType",
            pick(
                &["Malware", "Advanced phish filter", "Spoof intra-org"],
                self.own >> 8,
            ),
        );
        fields.number("BulkComplaintLevel", self.own % 10);
        fields.text("VerdictType", "Phish");
        fields.text("Action", pick(&["Quarantine", "MoveToJmf"], self.own >> 16));
        fields.text_or_null(
            "FileName",
            self.own.is_multiple_of(2).then_some("rechnung – März.docx"),
        );
    }

    fn safelinks_detail(&self, fields: &mut Fields<'_>) {
        fields.date("ClickTime", self.time, self.decimals);
        fields.text("NetworkMessageId", &self.guid());
        fields.text("ClientMessageId", &self.message_id());
        fields.text("SenderAddress", &self.sender());
        fields.text("RecipientAddress", &self.recipient());
        fields.text(
            "Url",
            &format!(r"https:\/\/example.net\/{:x}?q=%C3%A9", self.own),
        );
        fields.text("UrlDomain", "example.net");
        fields.text(
            "Action",
            pick(&["Allowed", "Blocked", "ClickedEvenBlocked"], self.own >> 8),
        );
        fields.text("AppName", "Mail");
        fields.text("SourceId", &self.guid());
        fields.text("Organization", ORGANIZATION);
        fields.text("DetectedBy", "");
        fields.text("UrlType", "Phish");
        fields.number("Flags", self.own % 4);
    }

    fn dlp_detections(&self, fields: &mut Fields<'_>) {
        fields.date("Date", self.bucket(), 0);
        fields.text("DlpPolicy", &format!("Policy {:016x}", self.own));
        fields.text("DlpComplianceRule", "High volume of content");
        fields.text("EventType", "DLPRuleHits");
        fields.text("Source", pick(&["EXCH", "ODB", "SPO"], self.own >> 8));
        fields.text_or_null("Action", self.own.is_multiple_of(2).then_some("NotifyUser"));
        fields.text("Organization", ORGANIZATION);
        fields.number("MessageCount", self.own % 1_000);
    }

    /// Further noise that a message's rows share.
    fn more(&self) -> u64 {
        mix(self.shared)
    }

    fn sender(&self) -> String {
        let domain = pick(
            &["example.com", "müller.example", "example.org"],
            self.more(),
        );
        format!("sender{:x}@{domain}", self.shared >> 48)
    }

    fn recipient(&self) -> String {
        format!("user{:016x}@{ORGANIZATION}", self.own)
    }

    fn message_id(&self) -> String {
        let (shared, more) = (self.shared, self.more());
        format!("<{more:x}.{:x}@az{}.example.com>", shared >> 32, shared % 7)
    }

    /// The message's trace id.
    fn guid(&self) -> String {
        let (high, low) = (self.shared, self.more());
        format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        )
    }

    /// The start of the hour or day that a counter counts.
    fn bucket(&self) -> Ticks {
        let unit = self
            .report
            .resolution(Some(self.aggregate))
            .seconds()
            .max(Resolution::Hour.seconds())
            * SECOND;
        self.time - self.time.rem_euclid(unit)
    }

    fn aggregate_by(&self) -> &'static str {
        match self.aggregate {
            Aggregate::Hour => "Hour",
            Aggregate::Day => "Day",
        }
    }
}

fn pick(from: &[&'static str], noise: u64) -> &'static str {
    from[usize::try_from(noise % from.len() as u64).unwrap_or_default()]
}
