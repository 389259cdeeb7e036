//! Up to which instant each output has been told what the hours of each service came to.
//!
//! A statement is a message like any other: it may be dropped, or let go without a receipt. What one output has not got is told again with what
//! settles next. The state keeps the earliest of the instants, so that a restart goes on from there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};

/// An input's name and a service's.
type Key = (String, String);

/// That a message states what a stretch of time came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) of: Key,
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
}

/// What all outputs have been told. Clones are one.
#[derive(Clone, Default)]
pub struct Told(Arc<Inner>);

#[derive(Default)]
struct Inner {
    outputs: usize,
    services: Mutex<HashMap<Key, Vec<OfOutput>>>,
}

/// What one output has been told of one service.
#[derive(Clone, Copy)]
struct OfOutput {
    /// It has been told of everything before.
    until: DateTime<Utc>,
    /// So many statements wait for their receipt.
    under_way: u32,
}

impl Told {
    /// For so many outputs.
    pub(super) fn new(outputs: usize) -> Self {
        Told(Arc::new(Inner {
            outputs,
            services: Mutex::default(),
        }))
    }

    /// What one output, counted from 0, has been told.
    pub(super) fn to(&self, output: usize) -> ToldTo {
        ToldTo {
            told: self.clone(),
            output,
        }
    }

    /// All outputs have been told of everything before `until`, when a service begins.
    pub(crate) fn begin(&self, input: &str, service: &str, until: DateTime<Utc>) {
        let begun = OfOutput {
            until,
            under_way: 0,
        };
        let of = (input.to_owned(), service.to_owned());
        self.services().insert(of, vec![begun; self.0.outputs]);
    }

    /// Up to where all outputs have been told; `None` if there is none to be told anything.
    pub(crate) fn until(&self, input: &str, service: &str) -> Option<DateTime<Utc>> {
        self.least(input, service, |output| output.until)
    }

    /// From where on a service has to tell, where it has told everything before `issued` once: further back for an output that has missed
    /// something.
    pub(crate) fn resume(
        &self,
        input: &str,
        service: &str,
        issued: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        self.least(input, service, |output| match output.under_way {
            0 => output.until,
            _ => issued,
        })
    }

    fn least(
        &self,
        input: &str,
        service: &str,
        of: impl Fn(&OfOutput) -> DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let services = self.services();
        let outputs = services.get(&(input.to_owned(), service.to_owned()))?;
        outputs.iter().map(of).min()
    }

    fn services(&self) -> MutexGuard<'_, HashMap<Key, Vec<OfOutput>>> {
        { self.0.services.lock() }.unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one output has been told.
#[derive(Clone, Default)]
pub(super) struct ToldTo {
    told: Told,
    output: usize,
}

impl ToldTo {
    /// It will be sent.
    pub(super) fn queued(&self, statement: &Statement) {
        self.change(statement, |output| output.under_way += 1);
    }

    /// The output has it.
    pub(super) fn delivered(&self, statement: &Statement) {
        self.change(statement, |output| {
            output.under_way = output.under_way.saturating_sub(1);
            // Else it lacks something before.
            if statement.from <= output.until {
                output.until = output.until.max(statement.to);
            }
        });
    }

    /// It is not sent again.
    pub(super) fn let_go(&self, statement: &Statement) {
        self.change(statement, |output| {
            output.under_way = output.under_way.saturating_sub(1);
        });
    }

    fn change(&self, statement: &Statement, change: impl FnOnce(&mut OfOutput)) {
        let mut services = self.told.services();
        let output = { services.get_mut(&statement.of) }.and_then(|of| of.get_mut(self.output));
        output.map(change).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_001_200 + 3_600 * hour, 0).unwrap()
    }

    fn hour(from: i64) -> Statement {
        Statement {
            of: ("i".to_owned(), "s".to_owned()),
            from: at(from),
            to: at(from + 1),
        }
    }

    #[test]
    fn what_one_output_has_missed_is_told_again_once_nothing_is_under_way() {
        let told = Told::new(2);
        let outputs = [told.to(0), told.to(1)];
        told.begin("i", "s", at(0));
        let all = |change: &dyn Fn(&ToldTo)| outputs.iter().for_each(change);
        all(&|output| output.queued(&hour(0)));
        all(&|output| output.queued(&hour(1)));
        assert_eq!(told.resume("i", "s", at(2)), Some(at(2)));
        outputs[0].delivered(&hour(0));
        outputs[0].delivered(&hour(1));
        // The second lacks the first hour.
        outputs[1].let_go(&hour(0));
        assert_eq!(told.resume("i", "s", at(2)), Some(at(2)));
        outputs[1].delivered(&hour(1));
        assert_eq!(told.resume("i", "s", at(2)), Some(at(0)));
        assert_eq!(told.until("i", "s"), Some(at(0)));
        all(&|output| output.queued(&hour(0)));
        all(&|output| output.queued(&hour(1)));
        all(&|output| output.delivered(&hour(0)));
        all(&|output| output.delivered(&hour(1)));
        assert_eq!(told.until("i", "s"), Some(at(2)));
        assert_eq!(told.until("i", "other"), None);
        let nobody = Told::default();
        nobody.begin("i", "s", at(0));
        assert_eq!(nobody.until("i", "s"), None);
    }
}
