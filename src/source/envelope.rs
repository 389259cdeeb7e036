//! What stands around the rows of an answer: which of the service's two shapes it has, its rows, the link to the next page, or an error.

use std::borrow::Cow;

use super::error::{FetchError, Kind};
use super::fault;
use crate::record::{Members, append_mended};

/// An answer that is a page.
#[derive(Debug)]
pub(super) struct Envelope<'a> {
    /// The list of rows, with its brackets.
    pub(super) rows: &'a [u8],
    /// Whether the rows are in the verbose shape.
    pub(super) is_verbose: bool,
    /// The link to the next page. An empty one is none.
    pub(super) next: Option<String>,
}

impl<'a> Envelope<'a> {
    /// Reads an answer that begins with a brace. Of the members that are looked at none may stand twice; others are ignored.
    pub(super) fn read(json: &'a [u8]) -> Result<Self, FetchError> {
        let [value, d, light_link, v4_link, error, odata_error] = members(
            json,
            [
                "value",
                "d",
                "odata.nextLink",
                "@odata.nextLink",
                "error",
                "odata.error",
            ],
        )?;
        if let Some(error) = error.or(odata_error) {
            let message = fault::error_object(&String::from_utf8_lossy(error));
            return Err(not_a_page("an error message", message));
        }
        let links = [
            link("odata.nextLink", light_link)?,
            link("@odata.nextLink", v4_link)?,
        ];
        let next = one_link(links)?;
        match (value, d) {
            (Some(rows), None) => Ok(Envelope {
                rows: list("value", rows)?,
                is_verbose: false,
                next,
            }),
            (None, Some(d)) => Self::read_verbose(d, next),
            (None, None) => Err(not_a_page("JSON without rows", fault::message(json))),
            (Some(_), Some(_)) => Err(not_a_page("JSON with rows in two shapes", None)),
        }
    }

    fn read_verbose(d: &'a [u8], outer: Option<String>) -> Result<Self, FetchError> {
        let (rows, inner) = match d.first() {
            Some(b'[') => (d, None),
            Some(b'{') => {
                let [results, next] = members(d, ["results", "__next"])?;
                let results = results.ok_or_else(|| not_a_page("JSON without rows", None))?;
                (list("results", results)?, link("__next", next)?)
            }
            _ => return Err(not_a_page("JSON without rows", None)),
        };
        Ok(Envelope {
            rows,
            is_verbose: true,
            next: one_link([inner, outer])?,
        })
    }
}

/// The values of these members of an object, `None` where one is null or not there.
fn members<'a, const COUNT: usize>(
    object: &'a [u8],
    names: [&str; COUNT],
) -> Result<[Option<&'a [u8]>; COUNT], FetchError> {
    let mut values = [None; COUNT];
    for (name, value) in Members::of(object) {
        let name: Cow<'_, str> = serde_json::from_slice(name).unwrap_or_default();
        if let Some(place) = names.iter().position(|known| *known == name)
            && values[place].replace(value).is_some()
        {
            return Err(not_a_page(&format!("JSON with two members `{name}`"), None));
        }
    }
    Ok(values.map(|value| value.filter(|value| *value != b"null")))
}

fn list<'a>(name: &str, value: &'a [u8]) -> Result<&'a [u8], FetchError> {
    if value.first() == Some(&b'[') {
        Ok(value)
    } else {
        Err(not_a_page(&format!("JSON whose `{name}` is no list"), None))
    }
}

/// A link, if there is more than white space to it.
fn link(name: &str, value: Option<&[u8]>) -> Result<Option<String>, FetchError> {
    let Some(value) = value else {
        return Ok(None);
    };
    let mut mended = Vec::with_capacity(value.len());
    append_mended(value, &mut mended, usize::MAX);
    let link: String = serde_json::from_slice(&mended)
        .map_err(|_| not_a_page(&format!("JSON whose `{name}` is no text"), None))?;
    Ok(Some(link).filter(|link| !link.trim().is_empty()))
}

/// The one link that was given, under whichever name.
fn one_link(links: [Option<String>; 2]) -> Result<Option<String>, FetchError> {
    match links {
        [Some(one), Some(other)] if one != other => Err(not_a_page(
            "JSON with two different links to the next page",
            None,
        )),
        [one, other] => Ok(one.or(other)),
    }
}

/// The error of an answer that is no page, with the message that it has instead.
pub(super) fn not_a_page(what: &str, message: Option<String>) -> FetchError {
    let kind = match &message {
        Some(message) if fault::asks_to_wait(message) => Kind::Busy,
        _ => Kind::NotAPage,
    };
    let message = message.map(|message| format!(": {message}"));
    FetchError::new(
        kind,
        format!(
            "the service answered 200 with {what}{}",
            message.unwrap_or_default()
        ),
    )
}
