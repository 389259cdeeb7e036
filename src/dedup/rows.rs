//! The kinds of rows that are being dealt with, numbered in the order in which they came: pure.
//!
//! What is known of a kind stands in lists, at its number: a row is looked up once, in a table of numbers alone, and what follows is the
//! next place of each list. Maps by fingerprint, one for each thing that is known, cost a load from far memory each.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use crate::record::Fingerprint;

/// A kind of rows, those with the same fingerprint, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind(u32);

impl Kind {
    /// The one with this number. There are fewer than 2^32: each takes dozens of bytes.
    pub(crate) fn at(place: usize) -> Self {
        Kind(u32::try_from(place).unwrap_or(u32::MAX))
    }

    /// Where it stands in a list.
    pub(crate) fn place(self) -> usize {
        self.0 as usize
    }
}

/// All kinds, with their numbers.
#[derive(Debug, Default)]
pub(crate) struct Kinds {
    fingerprints: Vec<Fingerprint>,
    numbers: HashTable<Kind>,
}

impl Kinds {
    /// The kind of a row, which may be new.
    pub(crate) fn of(&mut self, fingerprint: Fingerprint) -> Kind {
        let Kinds {
            fingerprints,
            numbers,
        } = self;
        let next = Kind::at(fingerprints.len());
        let entry = numbers.entry(
            hash(fingerprint),
            |kind| fingerprints[kind.place()] == fingerprint,
            |kind| hash(fingerprints[kind.place()]),
        );
        match entry {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                place.insert(next);
                fingerprints.push(fingerprint);
                next
            }
        }
    }

    /// The fingerprint of a kind.
    pub(crate) fn fingerprint(&self, kind: Kind) -> Fingerprint {
        self.fingerprints[kind.place()]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.fingerprints.len()
    }

    /// Keeps those alone that satisfy `kept`, in their order and with new numbers.
    pub(crate) fn retain(&mut self, mut kept: impl FnMut(Kind) -> bool) {
        let mut place = 0;
        self.fingerprints.retain(|_| {
            place += 1;
            kept(Kind::at(place - 1))
        });
        // Room for as many again is kept: the next window brings them.
        self.fingerprints.shrink_to(3 * self.fingerprints.len());
        self.numbers.clear();
        self.numbers.shrink_to(2 * self.fingerprints.len(), |_| 0);
        for (place, fingerprint) in self.fingerprints.iter().enumerate() {
            self.numbers
                .insert_unique(hash(*fingerprint), Kind::at(place), |kind| {
                    hash(self.fingerprints[kind.place()])
                });
        }
    }
}

/// Fingerprints are random already.
fn hash(fingerprint: Fingerprint) -> u64 {
    let [low, high] = [0, 8].map(|start| {
        let bytes: [u8; 8] = std::array::from_fn(|place| fingerprint.0[start + place]);
        u64::from_le_bytes(bytes)
    });
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_keeps_its_number_until_others_before_it_go() {
        let mut kinds = Kinds::default();
        let mut numbers = |rows: &str| -> Vec<u32> {
            let rows = rows.bytes();
            rows.map(|row| kinds.of(Fingerprint([row; 16])).0).collect()
        };
        assert_eq!(numbers("abacb"), [0, 1, 0, 2, 1]);
        kinds.retain(|kind| kind != Kind(0));
        let mut numbers = |rows: &str| -> Vec<u32> {
            let rows = rows.bytes();
            rows.map(|row| kinds.of(Fingerprint([row; 16])).0).collect()
        };
        assert_eq!(numbers("cbab"), [1, 0, 2, 0]);
        assert_eq!(
            kinds.fingerprint(Kind(2)),
            Fingerprint(*b"aaaaaaaaaaaaaaaa")
        );
    }
}
