//! What all deliveries of the process share: this machine's names, and what is known of the relays' addresses, kept in the state.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Output;
use crate::ledger::{AddressFile, LedgerError, StateDirectory};
use crate::relay::{Addresses, Host, Relay};

/// What all deliveries share. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    /// This machine.
    pub(crate) host: Host,
    book: Arc<AddressBook>,
    /// Peers of the tests, by their outputs' names.
    #[cfg(test)]
    peers: std::collections::HashMap<String, Arc<dyn crate::relay::scripted::Dial>>,
}

#[derive(Debug)]
struct AddressBook {
    addresses: Addresses,
    /// One write after the other, each of all that is known by then.
    file: Mutex<AddressFile>,
}

impl Shared {
    /// Reads what the state knows of addresses. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the file is there and cannot be read, or is damaged.
    pub(crate) fn open(host: Host, state: &StateDirectory) -> Result<Self, LedgerError> {
        let file = state.addresses();
        let addresses = match file.read()? {
            Some(json) => {
                Addresses::from_json(&json).map_err(|error| file.damaged(&error.to_string()))?
            }
            None => Addresses::default(),
        };
        let file = Mutex::new(file);
        Ok(Shared {
            host,
            book: Arc::new(AddressBook { addresses, file }),
            #[cfg(test)]
            peers: std::collections::HashMap::new(),
        })
    }

    /// The same with peers of the tests, by their outputs' names, and by another clock.
    #[cfg(test)]
    pub(crate) fn scripted(
        state: &StateDirectory,
        wall: &crate::clock::WallClock,
        peers: std::collections::HashMap<String, Arc<dyn crate::relay::scripted::Dial>>,
    ) -> Result<Self, LedgerError> {
        let host = Host::of_this_machine().map_err(|cause| {
            LedgerError::io("name", std::path::Path::new("this machine"), cause)
        })?;
        let shared = Self::open(host, state)?;
        let addresses = Addresses::from_json(&shared.book.addresses.to_json());
        let addresses = addresses.unwrap_or_default().by(wall);
        let file = Mutex::new(state.addresses());
        Ok(Shared {
            book: Arc::new(AddressBook { addresses, file }),
            peers,
            ..shared
        })
    }

    /// The relay of an output.
    pub(super) fn relay(&self, output: &Output) -> Relay {
        #[cfg(test)]
        if let Some(dial) = self.peers.get(&output.name) {
            return Relay::scripted(Arc::clone(dial), &self.book.addresses);
        }
        Relay::at(output, &self.book.addresses)
    }

    /// Writes what is known of all addresses.
    ///
    /// # Errors
    ///
    /// If the disk refuses.
    pub(super) async fn save(&self) -> Result<(), LedgerError> {
        let book = Arc::clone(&self.book);
        let write = move || {
            let file = book.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write(&book.addresses.to_json())
        };
        #[cfg(test)]
        if crate::ledger::script::is_set() {
            return write();
        }
        crate::blocking::DISK.run(write).await
    }
}
