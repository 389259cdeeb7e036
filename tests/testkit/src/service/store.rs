//! The rows that the service has, by report, in the order of their time; rendered only when they are asked for.
//!
//! A row keeps its number for ever, also when it is taken out, so that what was served can be told afterwards. A row that changes is a row that
//! goes and another one that comes, at the same place.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::generator::{Backlog, Generator, Ticks, ticks};
use super::ledger::Source;
use super::row::{Content, Row};
use crate::records::{Identity, Records};
use crate::report::{Aggregate, Report};

/// Above this many records, their texts are not kept beside their identities.
const TEXTS_MAX: usize = 100_000;

/// Which rows a query chooses from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct TableKey {
    pub(crate) report: Report,
    pub(crate) aggregate: Option<Aggregate>,
}

/// One row of the service, for as long as the service lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    pub(crate) table: TableKey,
    pub(crate) number: u32,
}

/// The rows of one report (and, for traffic reports, one bucket).
#[derive(Default)]
struct Table {
    /// What each row says, by its number.
    contents: Vec<Content>,
    /// Time and number of the rows that are there, oldest first.
    order: Vec<(Ticks, u32)>,
    /// When rows are there, by number, where that is not always.
    spans: HashMap<u32, Span>,
    /// The service that does not show a row, by number, where one does not.
    hidden: HashMap<u32, Source>,
    generators: u64,
}

/// When a row is there, by the service's clock: from an instant on, until another.
#[derive(Clone, Copy)]
struct Span {
    from: Ticks,
    until: Ticks,
}

/// All rows.
#[derive(Default)]
pub(crate) struct Store {
    tables: BTreeMap<TableKey, Table>,
}

/// One page of a result.
pub(crate) struct Slice {
    /// Numbers and contents, newest first.
    pub(crate) rows: Vec<(u32, Content)>,
    /// The first row's position in the result.
    pub(crate) first: u64,
}

impl Store {
    pub(crate) fn generate(&mut self, backlog: &Backlog) {
        let table = self.tables.entry(backlog.table()).or_default();
        let generator = Arc::new(Generator::new(backlog, table.generators));
        table.generators += 1;
        table.contents.reserve(backlog.rows as usize);
        table.order.reserve(backlog.rows as usize);
        for index in 0..backlog.rows {
            let number = table.next_number();
            table.order.push((generator.time(index), number));
            table
                .contents
                .push(Content::Generated(Arc::clone(&generator), index));
        }
        table.order.sort_unstable();
    }

    /// Adds a row that is there at once, or that appears at an instant.
    pub(crate) fn insert(&mut self, report: Report, row: Row, appears: Option<Ticks>) -> RowId {
        let key = TableKey {
            report,
            aggregate: report.is_traffic().then_some(row.aggregate),
        };
        let table = self.tables.entry(key).or_default();
        let (time, number) = (ticks(row.time), table.next_number());
        let position = table.order.partition_point(|entry| *entry < (time, number));
        table.order.insert(position, (time, number));
        table.contents.push(Content::Own(Arc::new(row)));
        if let Some(from) = appears {
            let until = Ticks::MAX;
            table.spans.insert(number, Span { from, until });
        }
        RowId { table: key, number }
    }

    /// Gives a row another value of a member (as JSON) from an instant on. What comes back is the row as it is then; none where there is no such
    /// row.
    pub(crate) fn change(
        &mut self,
        row: RowId,
        at: Ticks,
        member: &str,
        value: &str,
    ) -> Option<RowId> {
        let table = self.tables.get_mut(&row.table)?;
        let content = table.contents.get(row.number as usize)?;
        let position = table.position(row)?;
        let before = match content {
            Content::Own(row) => Row::clone(row),
            Content::Generated(..) => {
                let time = DateTime::from_timestamp_nanos(table.order[position].0 * 100);
                Row::new(time, content.bare())
            }
        };
        let span = table.spans.entry(row.number).or_insert(Span {
            from: Ticks::MIN,
            until: Ticks::MAX,
        });
        span.until = span.until.min(at);
        Some(self.insert(row.table.report, before.member(member, value), Some(at)))
    }

    /// Has one of the services not show a row that the other one shows; whether it is there.
    pub(crate) fn hide(&mut self, row: RowId, from: Source) -> bool {
        let table = self.tables.get_mut(&row.table);
        let table = table.filter(|table| (row.number as usize) < table.contents.len());
        table.is_some_and(|table| table.hidden.insert(row.number, from).is_none())
    }

    pub(crate) fn remove(&mut self, row: RowId) -> bool {
        let Some(table) = self.tables.get_mut(&row.table) else {
            return false;
        };
        let Some(position) = table.position(row) else {
            return false;
        };
        table.order.remove(position);
        true
    }

    /// Rows `[first, first + length)` of those with a time in `[from, to)`, newest first.
    pub(crate) fn slice(
        &self,
        key: TableKey,
        range: (Ticks, Ticks),
        first: u64,
        length: usize,
        now: Ticks,
    ) -> Slice {
        let rows = self.tables.get(&key).map_or_else(Vec::new, |table| {
            table
                .there(range, now, Some(Source::Reports))
                .rev()
                .skip(usize::try_from(first).unwrap_or(usize::MAX))
                .take(length)
                .map(|(_, number)| (*number, table.contents[*number as usize].clone()))
                .collect()
        });
        Slice { rows, first }
    }

    /// The newest rows with a time in `[from, to)`, newest first: at least so many, if there are, and none or all of those whose times lie in one
    /// `unit` of ticks.
    pub(crate) fn newest(
        &self,
        key: TableKey,
        range: (Ticks, Ticks),
        unit: Ticks,
        least: usize,
        now: Ticks,
    ) -> Vec<(Ticks, u32, Content)> {
        let mut newest: Vec<(Ticks, u32, Content)> = Vec::new();
        let Some(table) = self.tables.get(&key) else {
            return newest;
        };
        for (time, number) in table.there(range, now, Some(Source::Graph)).rev() {
            let ended = newest.len() >= least
                && newest
                    .last()
                    .is_some_and(|(last, ..)| last.div_euclid(unit) != time.div_euclid(unit));
            if ended {
                break;
            }
            let content = table.contents[*number as usize].clone();
            newest.push((*time, *number, content));
        }
        newest
    }

    /// The row at a position of a result, and its time.
    pub(crate) fn at(
        &self,
        key: TableKey,
        range: (Ticks, Ticks),
        position: u64,
        now: Ticks,
    ) -> Option<(RowId, Ticks)> {
        let mut entries = self
            .tables
            .get(&key)?
            .there(range, now, Some(Source::Reports))
            .rev();
        let (time, number) = entries.nth(usize::try_from(position).ok()?)?;
        Some((
            RowId {
                table: key,
                number: *number,
            },
            *time,
        ))
    }

    /// The rows with a time in `[from, to)` that are there now, oldest first.
    pub(crate) fn between(
        &self,
        report: Report,
        aggregate: Option<Aggregate>,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        now: Ticks,
    ) -> Vec<RowId> {
        let key = TableKey { report, aggregate };
        let Some(table) = self.tables.get(&key) else {
            return Vec::new();
        };
        table
            .there((ticks(from), ticks(to)), now, None)
            .map(|(_, number)| RowId {
                table: key,
                number: *number,
            })
            .collect()
    }

    /// The records that rows are; a row's flag says that only the verbose shape of it was served.
    pub(crate) fn records(&self, rows: HashMap<RowId, bool>) -> Records {
        self.records_by(rows, Identity::of)
    }

    /// The same, told apart by an identity of another kind.
    pub(crate) fn records_by(
        &self,
        rows: HashMap<RowId, bool>,
        identity: fn(&str) -> Result<Identity, String>,
    ) -> Records {
        let mut records = Records::default();
        let keep_texts = rows.len() <= TEXTS_MAX;
        for (row, verbose) in rows {
            let Some(content) = self
                .tables
                .get(&row.table)
                .and_then(|t| t.contents.get(row.number as usize))
            else {
                continue;
            };
            let text = content.text(row.table.report, verbose);
            // A test's own row may be no JSON at all; no collector can deliver that.
            if let Ok(identity) = identity(&text) {
                records.add(row.table.report, identity, keep_texts.then_some(&text));
            }
        }
        records
    }
}

impl Table {
    fn next_number(&self) -> u32 {
        u32::try_from(self.contents.len()).unwrap_or(u32::MAX)
    }

    /// Where a row is in the order.
    fn position(&self, row: RowId) -> Option<usize> {
        self.order
            .iter()
            .position(|(_, number)| *number == row.number)
    }

    /// The rows of a range that are there now, oldest first; those that this service does not show are left out.
    fn there(
        &self,
        range: (Ticks, Ticks),
        now: Ticks,
        shown_by: Option<Source>,
    ) -> Box<dyn DoubleEndedIterator<Item = &(Ticks, u32)> + '_> {
        let within = self.within(range).iter();
        if self.spans.is_empty() && self.hidden.is_empty() {
            // Skipping rows costs nothing here.
            return Box::new(within);
        }
        Box::new(within.filter(move |(_, number)| {
            let span = self.spans.get(number);
            let is_shown = shown_by.is_none() || self.hidden.get(number).copied() != shown_by;
            is_shown && span.is_none_or(|span| (span.from..span.until).contains(&now))
        }))
    }

    fn within(&self, (from, to): (Ticks, Ticks)) -> &[(Ticks, u32)] {
        let first = self.order.partition_point(|(time, _)| *time < from);
        let last = self.order.partition_point(|(time, _)| *time < to);
        &self.order[first..last.max(first)]
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    fn start() -> DateTime<Utc> {
        "2026-01-02T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn generated_rows_are_unique_and_the_same_for_the_same_seed() {
        for report in Report::ALL {
            let mut store = Store::default();
            let backlog = Backlog::new(report, start(), start() + TimeDelta::days(2), 1_000);
            store.generate(&backlog);
            store.generate(&backlog);
            let rows = store.between(
                report,
                backlog.table().aggregate,
                start(),
                start() + TimeDelta::days(2),
                0,
            );
            assert_eq!(rows.len(), 2_000, "{report}");
            let records = store.records(rows.into_iter().map(|row| (row, false)).collect());
            assert!(
                records.iter().all(|(_, _, count)| count.times == 1),
                "{report}"
            );

            let mut again = Store::default();
            again.generate(&backlog);
            let key = backlog.table();
            for number in 0..1_000 {
                let text = |store: &Store| store.tables[&key].contents[number].text(report, false);
                assert_eq!(text(&store), text(&again), "{report}");
            }
        }
    }

    #[test]
    fn slices_are_newest_first() {
        let mut store = Store::default();
        for second in [3, 1, 2] {
            let time = start() + TimeDelta::seconds(second);
            store.insert(
                Report::MessageTrace,
                Row::new(time, format!(r#"{{"n":{second}}}"#)),
                None,
            );
        }
        let key = TableKey {
            report: Report::MessageTrace,
            aggregate: None,
        };
        let range = (ticks(start()), ticks(start() + TimeDelta::seconds(9)));
        let numbers = |first| {
            store
                .slice(key, range, first, 2, 0)
                .rows
                .iter()
                .map(|row| row.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers(0), [0, 2]);
        assert_eq!(numbers(2), [1]);
        assert_eq!(numbers(4), [0_u32; 0]);
    }
}
