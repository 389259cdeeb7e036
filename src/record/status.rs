//! Whether a message trace is of a message that is still under way.

use super::Members;

/// The member that tells it.
pub(super) const NAME: &str = "Status";

/// The statuses that another will follow.
const UNDER_WAY: [&str; 3] = ["GettingStatus", "Pending", "None"];

/// Whether the row's status is one that another will follow. A row without one, or one that is no JSON, is final.
pub(crate) fn is_under_way(row: &[u8]) -> bool {
    let mut members = Members::of(row);
    let status = members
        .find(|(name, _)| matches!(name, [b'"', name @ .., b'"'] if name == NAME.as_bytes()));
    let value = status.and_then(|(_, value)| str::from_utf8(value).ok());
    let text = value.map(|value| value.trim_matches('"'));
    text.is_some_and(|text| { UNDER_WAY.iter() }.any(|status| status.eq_ignore_ascii_case(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_another_status_follows_is_under_way() {
        for (row, expected) in [
            (r#"{"MessageId":"a","Status":"Pending","Size":3}"#, true),
            (r#"{"Status": "gettingStatus" }"#, true),
            (r#"{"Status":"None"}"#, true),
            (r#"{"Status":"Delivered","Subject":"Pending"}"#, false),
            (r#"{"Status":null}"#, false),
            (r#"{"Subject":"Status: Pending"}"#, false),
            ("{no JSON}", false),
        ] {
            assert_eq!(is_under_way(row.as_bytes()), expected, "{row}");
        }
    }
}
