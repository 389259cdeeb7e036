//! One page of Graph's message trace: which rows, in which order, and the link that leads on.

use std::collections::HashMap;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::error::JSON;
use super::query::Query;
use super::row::{Form, Row};
use super::time::{cut, date_time, unit};
use super::token::{DeadLink, Token};
use super::{Asked, PATH, TABLE, Ties};
use crate::report::{Aggregate, Report};
use crate::service::Inner;
use crate::service::content::sample;
use crate::service::faults::Fault;
use crate::service::generator::{SECOND, ticks};
use crate::service::ledger::{Page, Source};
use crate::service::reply::Reply;
use crate::service::store::Store;
use crate::sync::lock;

/// What is escaped in a value of a query.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The rows of one page.
pub(crate) struct Listing<'a> {
    query: &'a Query,
    form: Form<'a>,
    fault: Option<&'a Fault>,
    rows: Vec<Row>,
    /// Rows follow these.
    more: bool,
}

impl<'a> Listing<'a> {
    /// The page that a query asks for.
    pub(crate) fn new(
        query: &'a Query,
        form: Form<'a>,
        fault: Option<&'a Fault>,
        now: DateTime<Utc>,
        store: &Mutex<Store>,
    ) -> Listing<'a> {
        let mut listing = Listing {
            query,
            form,
            fault,
            rows: Vec::new(),
            more: false,
        };
        let (size, mut range) = (listing.size(), query.range(form.options));
        while listing.rows.len() <= size {
            // Rendered after the store is free again.
            let wanted = size + 1 - listing.rows.len();
            let chunk = lock(store).newest(
                TABLE,
                range,
                unit(form.options.known_decimals),
                wanted,
                ticks(now),
            );
            let Some((oldest, ..)) = chunk.last() else {
                break;
            };
            range.1 = cut(*oldest, form.options.known_decimals);
            let mut rows = chunk
                .iter()
                .filter_map(|(time, number, content)| {
                    Row::read(Some(*number), *time, &content.bare(), form)
                })
                .peekable();
            while let Some(row) = rows.next() {
                let mut instant = vec![row];
                while let Some(row) = rows.next_if(|row| row.time == instant[0].time) {
                    instant.push(row);
                }
                listing.add(instant);
            }
        }
        listing.more = listing.rows.len() > size;
        listing.rows.truncate(size);
        listing
    }

    /// The rows as they go out.
    fn rows_out(&mut self) -> Vec<Row> {
        let mut rows = std::mem::take(&mut self.rows);
        match self.fault {
            Some(Fault::OldestFirst) => rows.reverse(),
            Some(Fault::NoRows | Fault::EmptyPage | Fault::EmptyObjects(_)) => rows.clear(),
            Some(Fault::RowsOutOfRange(count)) => {
                let time = self.query.token.start - 3_600 * SECOND;
                rows.extend((0..*count).filter_map(|number| {
                    let text = sample(
                        Report::MessageTrace,
                        Aggregate::Hour,
                        date_time(time),
                        u64::from(number),
                    );
                    Row::read(None, time, &text, self.form)
                }));
            }
            _ => {}
        }
        rows
    }

    /// Writes the rows, with commas between them.
    fn write(&self, rows: &[Row], out: &mut Vec<u8>) {
        for (index, row) in rows.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            match self.fault {
                Some(Fault::Respelled(spelling)) => {
                    let mut plain = Vec::new();
                    row.write(&mut plain);
                    let spelt = spelling.of(&String::from_utf8_lossy(&plain));
                    out.extend_from_slice(spelt.as_bytes());
                }
                _ => row.write(out),
            }
        }
        if let Some(Fault::EmptyObjects(count)) = self.fault {
            for number in 0..*count {
                out.extend_from_slice(if number == 0 { b"{}" } else { b",{}" });
            }
        }
    }

    /// Rows a page.
    fn size(&self) -> usize {
        self.query
            .token
            .size
            .min(self.form.options.page_rows)
            .max(1)
    }

    /// Adds what is to be listed of the rows of one instant.
    fn add(&mut self, mut rows: Vec<Row>) {
        rows.sort_by(|one, other| (one.key(), one.number).cmp(&(other.key(), other.number)));
        if !self.query.filter.is_by_id() && rows.len() > self.form.options.recipients_listed_max {
            let mut listed: HashMap<String, usize> = HashMap::new();
            rows.retain(|row| {
                let count = listed.entry(row.value("id")).or_default();
                *count += 1;
                *count <= self.form.options.recipients_listed_max
            });
        }
        self.drop_given(&mut rows);
        rows.retain(|row| self.query.filter.admits(row));
        self.rows.append(&mut rows);
    }

    /// Drops the rows that the pages before this one have given, of the instant where this one begins.
    fn drop_given(&self, rows: &mut Vec<Row>) {
        let token = &self.query.token;
        let begins = cut(token.end, self.form.options.known_decimals);
        if token.recipient.is_empty() || rows.first().is_none_or(|row| row.time != begins) {
            return;
        }
        let equal = rows
            .iter()
            .filter(|row| row.recipient == token.recipient)
            .count();
        // More of them than a page has would come for ever.
        let again = self.form.options.ties == Ties::Twice && (2..self.size()).contains(&equal);
        rows.retain(|row| {
            row.recipient > token.recipient || (again && row.recipient == token.recipient)
        });
    }

    /// The answer.
    pub(crate) fn reply(mut self, asked: &Asked<'_>, inner: &Inner) -> Reply {
        let link = self.link(asked, inner);
        let mut out = Vec::with_capacity(1_000 + self.rows.len() * 500);
        let context = format!(
            "{}/v1.0/$metadata#admin/exchange/tracing/messageTraces",
            asked.origin
        );
        out.extend_from_slice(format!("{{\"@odata.context\":\"{context}\"").as_bytes());
        if let Some(link) = &link {
            out.extend_from_slice(format!(",\"@odata.nextLink\":{link}").as_bytes());
        }
        out.extend_from_slice(b",\"value\":[");
        let rows = self.rows_out();
        self.write(&rows, &mut out);
        out.extend_from_slice(b"]}");
        let mut reply = Reply::new(200, JSON, out);
        reply.last = link.is_none();
        reply.page = Some(Page {
            table: TABLE,
            numbers: rows.iter().filter_map(|row| row.number).collect(),
            verbose: false,
            source: Source::Graph,
        });
        reply
    }

    /// The link that leads on, if anything follows, as a value of JSON.
    fn link(&self, asked: &Asked<'_>, inner: &Inner) -> Option<String> {
        let full = self.rows.len() == self.size() && self.form.options.link_after_last;
        let follows = match self.fault {
            Some(Fault::LinkText(text)) => return Some(text.clone()),
            Some(Fault::NoRows | Fault::EmptyObjects(_)) => false,
            Some(Fault::EmptyPage) => true,
            Some(Fault::Loop { last_too, .. }) => self.more || *last_too,
            _ => self.more || full,
        };
        if !follows {
            return None;
        }
        let options = self.form.options;
        let text = match self.fault {
            Some(Fault::DeadLink(defect)) => self.next()?.text(Some(*defect), options),
            Some(Fault::DeadLinkOf { size }) if self.query.token.size == *size => {
                self.next()?.text(Some(DeadLink::Quoted), options)
            }
            Some(Fault::RefusedLink) => self.next()?.text(Some(DeadLink::Quoted), options),
            Some(Fault::RepeatedLink) => self.query.token.text(None, options),
            Some(Fault::EmptyPage | Fault::Loop { .. }) => self.query.token.text_anew(options),
            _ => self.next()?.text(None, options),
        };
        lock(&inner.walks).lead(self.query, &text);
        let origin = match self.fault {
            Some(Fault::ForeignLink(origin)) => origin,
            _ => asked.origin,
        };
        Some(serde_json::Value::from(self.link_with(&text, origin)).to_string())
    }

    /// Where the next page begins: after the last row of this one.
    fn next(&self) -> Option<Token> {
        let last = self.rows.last()?;
        Some(Token {
            start: self.query.token.start,
            end: last.time,
            recipient: last.recipient.clone(),
            size: self.query.token.size,
        })
    }

    fn link_with(&self, token: &str, origin: &str) -> String {
        let escaped = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let link = format!("{origin}{PATH}?%24skiptoken={}", escaped(token));
        if !self.form.options.link_parameters && !self.query.filter.is_narrow() {
            return link;
        }
        let filter = self.query.filter_text.as_deref().unwrap_or_default();
        format!(
            "{link}&%24filter={}&%24top={}",
            escaped(filter),
            self.query.token.size
        )
    }
}
