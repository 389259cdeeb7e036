//! The rows that the service has, by report, in the order of their time; rendered only when they are asked for.
//!
//! A row keeps its number for ever, also when it is taken out, so that what was served can be told afterwards.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::generator::{Backlog, Generator, Ticks, ticks};
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
    generators: u64,
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

    pub(crate) fn insert(&mut self, report: Report, row: Row) -> RowId {
        let key = TableKey {
            report,
            aggregate: report.is_traffic().then_some(row.aggregate),
        };
        let table = self.tables.entry(key).or_default();
        let (time, number) = (ticks(row.time), table.next_number());
        let position = table.order.partition_point(|entry| *entry < (time, number));
        table.order.insert(position, (time, number));
        table.contents.push(Content::Own(Arc::new(row)));
        RowId { table: key, number }
    }

    pub(crate) fn remove(&mut self, row: RowId) -> bool {
        let Some(table) = self.tables.get_mut(&row.table) else {
            return false;
        };
        let Some(position) = table
            .order
            .iter()
            .position(|(_, number)| *number == row.number)
        else {
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
    ) -> Slice {
        let rows = self.tables.get(&key).map_or_else(Vec::new, |table| {
            table
                .within(range)
                .iter()
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
    ) -> Vec<(Ticks, u32, Content)> {
        let mut newest: Vec<(Ticks, u32, Content)> = Vec::new();
        let Some(table) = self.tables.get(&key) else {
            return newest;
        };
        for (time, number) in table.within(range).iter().rev() {
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
    ) -> Option<(RowId, Ticks)> {
        let entries = self.tables.get(&key)?.within(range);
        let (time, number) = entries.iter().rev().nth(usize::try_from(position).ok()?)?;
        Some((
            RowId {
                table: key,
                number: *number,
            },
            *time,
        ))
    }

    pub(crate) fn between(
        &self,
        report: Report,
        aggregate: Option<Aggregate>,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
    ) -> HashMap<RowId, bool> {
        let key = TableKey { report, aggregate };
        let Some(table) = self.tables.get(&key) else {
            return HashMap::new();
        };
        let within = table.within((ticks(from), ticks(to)));
        within
            .iter()
            .map(|(_, number)| {
                (
                    RowId {
                        table: key,
                        number: *number,
                    },
                    false,
                )
            })
            .collect()
    }

    /// The records that rows are; a row's flag says that only the verbose shape of it was served.
    pub(crate) fn records(&self, rows: HashMap<RowId, bool>) -> Records {
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
            if let Ok(identity) = Identity::of(&text) {
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
            );
            assert_eq!(rows.len(), 2_000, "{report}");
            let records = store.records(rows);
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
            );
        }
        let key = TableKey {
            report: Report::MessageTrace,
            aggregate: None,
        };
        let range = (ticks(start()), ticks(start() + TimeDelta::seconds(9)));
        let numbers = |first| {
            store
                .slice(key, range, first, 2)
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
