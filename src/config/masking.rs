//! `obfuscation_data`: what is masked in each record of a service.
//!
//! Nothing here may be lost in silence, since what is not masked is disclosed: whatever cannot be read for certain is a mistake.

use serde_json::Value as Json;

use super::reader::{Field, Section};
use super::scalar;
use super::words::{listed, nearest, quoted};
use crate::record::mask::{Mask, Replacement, Rule, Step};
use crate::report::Report;

/// How many keys a path may have; rows are flat, or nearly so.
const STEPS_MAX: usize = 32;
/// What stands for every element of a list.
const EVERY: &str = "*";
const NEEDED: &str = "the path of keys to what is masked, as a list, such as `[SenderAddress]`";

/// Reads the list of rules.
pub(super) fn read(field: &Field<'_>, report: &Report) -> Mask {
    if field.is_blank() {
        field.warning("blank: nothing is masked");
    }
    let items = field.items();
    let mut read: Vec<Rule> = Vec::with_capacity(items.len());
    for item in items {
        let Some(rule) = rule(&item, report) else {
            continue;
        };
        for other in &read {
            if let Some(text) = conflict(&other.path, &rule.path) {
                item.warning(text);
            }
        }
        read.push(rule);
    }
    Mask::new(read)
}

fn rule(item: &Field<'_>, report: &Report) -> Option<Rule> {
    if !item.is_given() {
        item.mistake(format!("blank: give `name`, {NEEDED}"));
        return None;
    }
    let section = item.section()?;
    let path = path(&section, report);
    let replacement = replacement(&section.field("value"));
    section.refuse_unknown();
    Some(Rule {
        path: path?,
        replacement: replacement?,
    })
}

fn path(section: &Section<'_>, report: &Report) -> Option<Vec<Step>> {
    let name = section.field("name").required(NEEDED);
    let keys = name.items();
    if name.is_given_as_list() && keys.is_empty() {
        name.mistake(format!("empty: give {NEEDED}"));
    }
    if keys.len() > STEPS_MAX {
        name.mistake(format!("has more than {STEPS_MAX} keys"));
        return None;
    }
    let mut steps = Vec::with_capacity(keys.len());
    let length = keys.len();
    for key in keys {
        let key = key.required("a key, or `\"*\"` for every element of a list");
        let Some(step) = step(&key) else {
            continue;
        };
        if let (Step::Member(name), true) = (&step, steps.is_empty()) {
            warn_of_unknown_column(&key, name, report);
        }
        steps.push(step);
    }
    (!steps.is_empty() && steps.len() == length).then_some(steps)
}

fn step(key: &Field<'_>) -> Option<Step> {
    let text = key.text()?;
    if text == EVERY {
        return Some(Step::Every);
    }
    if !key.is_quoted() && scalar::number(&text).is_some() {
        key.mistake(format!(
            "{} is a number, and an element of a list cannot be named by its place: put `\"*\"` for every element, or quotes around a key \
             that is a number",
            quoted(&text)
        ));
        return None;
    }
    Some(Step::Member(text))
}

/// What is masked may be called otherwise in the rows, and then goes out as it is.
fn warn_of_unknown_column(key: &Field<'_>, name: &str, report: &Report) {
    let columns = columns(report);
    if columns.contains(&name) {
        return;
    }
    let hint = match nearest(name, columns) {
        Some(column) => format!("did you mean {}?", quoted(column)),
        None => format!("documented are {}", listed(columns, "and")),
    };
    key.warning(format!(
        "{} is not among the columns that are documented for this report, and nothing is masked in a record without it: {hint}",
        quoted(name)
    ));
}

/// What to say where one path covers the other.
fn conflict(one: &[Step], other: &[Step]) -> Option<String> {
    let covers = one.iter().zip(other).all(|(one, other)| one == other);
    if !covers {
        return None;
    }
    Some(if one.len() == other.len() {
        "this path is given twice: the last one holds".to_owned()
    } else {
        "of this path and another one, the shorter masks all that the longer names: remove the longer one".to_owned()
    })
}

/// What the value becomes; plain words are of the type that YAML 1.1 gives them.
fn replacement(field: &Field<'_>) -> Option<Replacement> {
    let json = match field.scalar() {
        None if field.is_given() => return None,
        // In quotes it is a mask that shows nothing; without, there is none.
        None if field.is_quoted() => Json::from(""),
        None => return Some(Replacement::SameKind),
        Some(text) if field.is_quoted() => Json::from(text),
        Some(text) => plain(text.trim()),
    };
    Some(Replacement::Json(json.to_string()))
}

fn plain(text: &str) -> Json {
    if let Some(boolean) = scalar::boolean(text) {
        return Json::from(boolean);
    }
    match serde_json::from_str(text) {
        Ok(number @ Json::Number(_)) => number,
        _ => Json::from(text),
    }
}

/// The columns that are documented for a report, in the names of the reporting service.
fn columns(report: &Report) -> &'static [&'static str] {
    const ECHO: [&str; 3] = ["StartDate", "EndDate", "Index"];
    macro_rules! columns {
        ($($name:literal)*) => { &[$($name,)* ECHO[0], ECHO[1], ECHO[2]] };
    }
    match report.path {
        "MessageTrace" => columns!(
            "Organization" "MessageId" "Received" "SenderAddress" "RecipientAddress" "Subject" "Status" "ToIP" "FromIP" "Size"
            "MessageTraceId"
        ),
        "MailTraffic" => columns!(
            "Organization" "Domain" "Date" "EventType" "Direction" "Action" "MessageCount" "SummarizeBy" "AggregateBy"
        ),
        "DlpDetailReport" => columns!(
            "Organization" "Date" "Title" "Location" "Severity" "Size" "Source" "Actor" "DlpPolicy" "TransportRule"
            "DlpCompliancePolicy" "DlpComplianceRule" "UserAction" "Justification" "SensitiveInformationType"
            "SensitiveInformationCount" "SensitiveInformationConfidence" "EventType" "Action" "ObjectId"
        ),
        "SpoofMailReport" => columns!(
            "Date" "SpoofedSender" "TrueSender" "SendingInfrastructure" "SenderIp" "MessageCount" "SpoofType" "Source" "Action"
            "CompAuthResult" "CompAuthReason" "SpfAuthStatus" "DkimAuthStatus" "DmarcAuthStatus"
        ),
        "MailTrafficATP" => columns!(
            "Organization" "Domain" "Date" "EventType" "Direction" "VerdictSource" "Action" "MessageCount" "AggregateBy"
        ),
        "MailDetailATP" => columns!(
            "Date" "MessageId" "MessageTraceId" "Domain" "Subject" "MessageSize" "Direction" "SenderAddress" "RecipientAddress"
            "EventType" "BulkComplaintLevel" "VerdictType" "Action" "FileName"
        ),
        "SafelinksDetail" => columns!(
            "ClickTime" "NetworkMessageId" "ClientMessageId" "SenderAddress" "RecipientAddress" "Url" "UrlDomain" "Action" "AppName"
            "SourceId" "Organization" "DetectedBy" "UrlType" "Flags"
        ),
        _ => {
            columns!("Date" "DlpPolicy" "DlpComplianceRule" "EventType" "Source" "Action" "Organization" "MessageCount")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::REPORTS;

    #[test]
    fn every_report_has_columns_of_its_own() {
        let mut paths: Vec<_> = REPORTS.iter().map(columns).collect();
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), REPORTS.len());
    }

    #[test]
    fn a_plain_mask_has_the_type_that_yaml_gives_it() {
        let check = |text, expected: &str| assert_eq!(plain(text).to_string(), expected);
        check("-1", "-1");
        check("0.5", "0.5");
        check("yes", "true");
        check("xxx", "\"xxx\"");
        check("2024-05-07", "\"2024-05-07\"");
        check("0123", "\"0123\"");
    }
}
