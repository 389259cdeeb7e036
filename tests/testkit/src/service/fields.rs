//! Writes the fields of one row, dates in the light or the verbose form.

use std::io::Write as _;

use chrono::{DateTime, Datelike as _, TimeDelta, Timelike as _};

use super::generator::{SECOND, Ticks, iso};
use crate::json;

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
    pub(crate) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push(b'"');
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(b'"');
    }

    pub(crate) fn text_or_null(&mut self, key: &str, value: Option<impl AsRef<str>>) {
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

    pub(crate) fn date(&mut self, key: &str, time: Ticks, decimals: u32) {
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
                    .extend_from_slice(&inner.as_bytes()[..inner.len() - 1]);
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
