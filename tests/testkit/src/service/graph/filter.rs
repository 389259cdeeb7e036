//! `$filter`, as strictly as it is documented and as leniently as Graph was seen to be.
//!
//! Both bounds of `receivedDateTime`, by `ge` and `le`, and one value per property count: the last one. `or`, `in`, `ne` and `not` are
//! accepted and ignored. What is neither documented nor seen is refused: a client's slip is to be seen.

use super::error::Refusal;
use super::row::Row;
use super::time::ticks_of;
use crate::service::generator::Ticks;

/// The properties that `eq` is documented for.
const PROPERTIES: [&str; 7] = [
    "id",
    "messageId",
    "senderAddress",
    "recipientAddress",
    "status",
    "fromIP",
    "toIP",
];

/// What a filter asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) start: Option<Ticks>,
    pub(crate) end: Option<Ticks>,
    /// Property and value; each property once.
    equal: Vec<(&'static str, String)>,
    /// Function and value.
    subject: Option<(Match, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Match {
    Contains,
    Starts,
    Ends,
}

impl Filter {
    /// Reads a filter, decoded.
    pub(crate) fn parse(text: &str) -> Result<Filter, Refusal> {
        let mut filter = Filter::default();
        filter.add(text)?;
        Ok(filter)
    }

    /// The filter asks for more than a range.
    pub(crate) fn is_narrow(&self) -> bool {
        !self.equal.is_empty() || self.subject.is_some()
    }

    /// The filter asks for a message by its id.
    pub(crate) fn is_by_id(&self) -> bool {
        self.equal.iter().any(|(name, _)| *name == "id")
    }

    /// Whether a row meets the conditions; the range is not looked at.
    pub(crate) fn admits(&self, row: &Row) -> bool {
        self.equal.iter().all(|(name, value)| {
            let own = row.value(name);
            match *name {
                "messageId" => own == *value,
                "status" if !row.has_a_status() => false,
                _ => own.to_lowercase() == value.to_lowercase(),
            }
        }) && self.subject.as_ref().is_none_or(|(how, value)| {
            let (own, value) = (row.value("subject").to_lowercase(), value.to_lowercase());
            match how {
                Match::Contains => own.contains(&value),
                Match::Starts => own.starts_with(&value),
                Match::Ends => own.ends_with(&value),
            }
        })
    }

    fn add(&mut self, text: &str) -> Result<(), Refusal> {
        for term in terms(text)? {
            match term
                .strip_prefix('(')
                .and_then(|rest| rest.strip_suffix(')'))
            {
                Some(inner) => self.add(inner)?,
                None => self.add_term(term)?,
            }
        }
        Ok(())
    }

    fn add_term(&mut self, term: &str) -> Result<(), Refusal> {
        let syntax = || Refusal::new(400, format!("Syntax error in '{term}'."));
        if let Some((how, arguments)) = function(term) {
            let (property, value) = arguments.split_once(',').ok_or_else(syntax)?;
            if property.trim() != "subject" {
                return Err(syntax());
            }
            let value = quoted(value.trim()).ok_or_else(syntax)?;
            self.subject = Some((how, value));
            return Ok(());
        }
        let (first, rest) = term.split_once(' ').ok_or_else(syntax)?;
        if first == "not" {
            return Ok(());
        }
        let (operator, constant) = rest.trim_start().split_once(' ').ok_or_else(syntax)?;
        let constant = constant.trim();
        if first == "receivedDateTime" {
            let time = ticks_of(constant).ok_or_else(syntax)?;
            match operator {
                "ge" => self.start = Some(time),
                "le" => self.end = Some(time),
                _ => return Err(syntax()),
            }
            return Ok(());
        }
        let property = PROPERTIES.into_iter().find(|name| *name == first);
        let property = property.ok_or_else(|| {
            let message = format!("Could not find a property named '{first}'.");
            Refusal::new(400, message)
        })?;
        match operator {
            "eq" => {
                let value = quoted(constant).ok_or_else(syntax)?;
                self.equal.retain(|(name, _)| *name != property);
                self.equal.push((property, value));
                Ok(())
            }
            "ne" | "in" => Ok(()),
            _ => Err(syntax()),
        }
    }
}

/// A function on a property, and its arguments.
fn function(term: &str) -> Option<(Match, &str)> {
    let (name, arguments) = term.strip_suffix(')')?.split_once('(')?;
    let how = match name.trim() {
        "contains" => Match::Contains,
        "startsWith" | "startswith" => Match::Starts,
        "endsWith" | "endswith" => Match::Ends,
        _ => return None,
    };
    Some((how, arguments))
}

/// The text between quotes, doubled quotes undone.
fn quoted(constant: &str) -> Option<String> {
    let inner = constant.strip_prefix('\'')?.strip_suffix('\'')?;
    let plain = inner.replace("''", "\u{0}");
    (!plain.contains('\'')).then(|| plain.replace('\u{0}', "'"))
}

/// The terms between ` and ` and ` or `, as far as these are not inside of quotes or parentheses.
fn terms(text: &str) -> Result<Vec<&str>, Refusal> {
    let (mut terms, mut start, mut depth, mut inside) = (Vec::new(), 0, 0_usize, false);
    let mut position = 0;
    while let Some(character) = text[position..].chars().next() {
        match character {
            '\'' => inside = !inside,
            '(' if !inside => depth += 1,
            ')' if !inside => depth = depth.saturating_sub(1),
            ' ' if !inside && depth == 0 => {
                let rest = &text[position..];
                if let Some(word) = [" and ", " or "]
                    .iter()
                    .find(|word| rest.starts_with(**word))
                {
                    terms.push(text[start..position].trim());
                    start = position + word.len();
                    position = start;
                    continue;
                }
            }
            _ => {}
        }
        position += character.len_utf8();
    }
    terms.push(text[start..].trim());
    if inside || depth > 0 || terms.iter().any(|term| term.is_empty()) {
        return Err(Refusal::new(400, format!("Syntax error in '{text}'.")));
    }
    Ok(terms)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANGE: &str =
        "receivedDateTime ge 2026-01-20T00:00:00Z and receivedDateTime le 2026-01-23T00:00:00.5Z";

    #[test]
    fn the_last_value_of_a_property_counts_and_some_operators_are_ignored() {
        let filter = Filter::parse(&format!(
            "{RANGE} and (status eq 'failed' or status eq 'delivered') and senderAddress eq 'o''neil and co@a.example' \
             and toIP ne 'x' and id in ('a','b') and not (fromIP eq 'y')"
        ))
        .unwrap();
        assert_eq!(filter.start, ticks_of("2026-01-20T00:00:00Z"));
        assert_eq!(filter.end, ticks_of("2026-01-23T00:00:00.5Z"));
        let equal = [
            ("status", "delivered"),
            ("senderAddress", "o'neil and co@a.example"),
        ];
        assert_eq!(
            filter.equal,
            equal.map(|(name, value)| (name, value.to_owned()))
        );
        assert!(filter.is_narrow() && !filter.is_by_id());
        let filter = Filter::parse("contains(subject,'a, b') and id eq 'x'").unwrap();
        assert_eq!(filter.subject, Some((Match::Contains, "a, b".to_owned())));
        assert!(filter.is_by_id());
    }

    #[test]
    fn what_is_neither_documented_nor_seen_is_refused() {
        for text in [
            "",
            "receivedDateTime gt 2026-01-20T00:00:00Z",
            "receivedDateTime eq 2026-01-20T00:00:00Z",
            "receivedDateTime ge '2026-01-20T00:00:00Z'",
            "receivedDateTime ge datetime'2026-01-20T00:00:00Z'",
            "receivedDateTime ge 2026-01-20",
            "Received ge 2026-01-20T00:00:00Z",
            "status eq delivered",
            "status eq 'delivered",
            "status eq 'a'b'",
            "status gt 'delivered'",
            "contains(senderAddress,'x')",
            "status eq 'a' and ",
            "(status eq 'a'",
        ] {
            assert!(Filter::parse(text).is_err(), "{text}");
        }
    }
}
