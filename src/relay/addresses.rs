//! What is known of all addresses: shared by the process's outputs, and kept beyond it by who hands it in and writes it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::knowledge::{Change, Knowledge, Learnt, Permit, Terms};
use super::{Ending, Receipt};
use crate::clock::WallClock;
use crate::config::ReceiptPolicy;

/// Every address by its name and port.
#[derive(Debug, Default)]
pub struct Addresses {
    wall: WallClock,
    known: Mutex<BTreeMap<String, Arc<Address>>>,
}

/// One address.
#[derive(Debug, Default)]
pub(super) struct Address {
    wall: WallClock,
    state: Mutex<State>,
    /// Held by whoever probes: the others wait for what comes of it.
    probing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    knowledge: Knowledge,
    /// What was learnt and not taken by [`Address::changes`].
    changes: Vec<Change>,
}

impl Addresses {
    /// Reads what [`Addresses::to_json`] wrote.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_json(json: &str) -> Result<Self, serde_json::Error> {
        let known: BTreeMap<String, Knowledge> = serde_json::from_str(json)?;
        let shared = |(name, knowledge)| {
            let changes = vec![];
            let state = Mutex::new(State { knowledge, changes });
            let address = Address {
                state,
                ..Address::default()
            };
            (name, Arc::new(address))
        };
        Ok(Self {
            wall: WallClock::default(),
            known: Mutex::new(known.into_iter().map(shared).collect()),
        })
    }

    /// The same, by another clock.
    #[cfg(test)]
    pub(crate) fn by(mut self, wall: &WallClock) -> Self {
        self.wall = wall.clone();
        let known = lock(&self.known);
        let by = |(name, address): (&String, &Arc<Address>)| {
            let knowledge = address.lock().knowledge.clone();
            let state = State {
                knowledge,
                changes: vec![],
            };
            let address = Address {
                wall: wall.clone(),
                state: Mutex::new(state),
                ..Address::default()
            };
            (name.clone(), Arc::new(address))
        };
        let known = known.iter().map(by).collect();
        Addresses {
            wall: wall.clone(),
            known: Mutex::new(known),
        }
    }

    /// All that is known, for people to read and for [`Addresses::from_json`].
    pub fn to_json(&self) -> String {
        let known = lock(&self.known);
        let known: BTreeMap<&str, Knowledge> = known
            .iter()
            .map(|(name, address)| (name.as_str(), address.lock().knowledge.clone()))
            .collect();
        // Only maps with keys that are no strings cannot be written as JSON.
        serde_json::to_string_pretty(&known).unwrap_or_default()
    }

    /// The address of this name and port.
    pub(super) fn get(&self, name: &str) -> Arc<Address> {
        // A name is the same in capitals.
        let name = name.to_lowercase();
        let unknown = || {
            Arc::new(Address {
                wall: self.wall.clone(),
                ..Address::default()
            })
        };
        Arc::clone(lock(&self.known).entry(name).or_insert_with(unknown))
    }
}

impl Address {
    /// The present.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.wall.now()
    }

    /// What may be done now, under a policy.
    pub(super) fn permit(&self, policy: ReceiptPolicy) -> Permit {
        self.lock().knowledge.permit(policy, self.now())
    }

    pub(super) fn terms(&self, policy: ReceiptPolicy) -> Option<Terms> {
        self.lock().knowledge.terms(policy)
    }

    pub(super) fn unconfirmed_in_a_row(&self) -> u32 {
        self.lock().knowledge.unconfirmed_in_a_row()
    }

    pub(super) fn learnt(&self) -> Option<Learnt> {
        self.lock().knowledge.learnt()
    }

    pub(super) fn silence(&self) -> (u32, Duration) {
        self.lock().knowledge.silence()
    }

    /// Waits for its turn to probe; only one probe of an address is under way.
    pub(super) async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.probing.lock().await
    }

    pub(super) fn probed(&self, ending: Ending, half_closed: bool, took: Duration) {
        self.note(|known| known.probed(ending, half_closed, took, self.now()));
    }

    pub(super) fn probe_failed(&self) {
        self.lock().knowledge.probe_failed();
    }

    pub(super) fn confirmed(&self, receipt: Receipt, half_closed: bool) {
        self.note(|known| known.confirmed(receipt, half_closed));
    }

    pub(super) fn unconfirmed(&self, begun: DateTime<Utc>) {
        self.lock().knowledge.unconfirmed(begun, self.now());
    }

    /// Takes what was learnt since the last call.
    pub(super) fn changes(&self) -> Vec<Change> {
        std::mem::take(&mut self.lock().changes)
    }

    fn note(&self, event: impl FnOnce(&mut Knowledge) -> Option<Change>) {
        let mut state = self.lock();
        let change = event(&mut state.knowledge);
        state.changes.extend(change);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
