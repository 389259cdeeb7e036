//! The rows of one window, counted by fingerprint.
//!
//! A window of one page has about 2000 of them, a bucket that cannot be shorter may have millions: then this is the memory that agreement
//! costs, at most 40 bytes a row (28 for the counts, 5 to 11 for the table).

use hashbrown::HashTable;

use crate::record::Fingerprint;

/// Rows are kept in chunks of so many, so that the list grows without being copied.
const CHUNK: usize = 1 << 13;

/// A table with room for more rows than this is dropped after its window.
const KEPT_MAX: usize = 2 * CHUNK;

/// How often equal rows came. A count that reaches its maximum stays there: see [`Row::is_uncountable`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) fingerprint: Fingerprint,
    /// In this walk.
    pub(super) total: u16,
    /// In the walk before.
    pub(super) earlier: u16,
    /// So many were new.
    pub(super) claimed: u16,
    /// The last page of this walk with it.
    pub(super) page: u16,
    /// On that page.
    pub(super) on_page: u16,
    /// On the page of this walk that had most.
    pub(super) most: u16,
}

impl Row {
    fn new(fingerprint: Fingerprint) -> Self {
        Row {
            fingerprint,
            total: 0,
            earlier: 0,
            claimed: 0,
            page: 0,
            on_page: 0,
            most: 0,
        }
    }

    /// Whether there are too many equal rows to count them. They are always new: a repeat is better than a loss.
    pub(super) fn is_uncountable(&self) -> bool {
        self.total == u16::MAX
    }

    /// How often it may come again with the next window.
    pub(super) fn seen(&self) -> u16 {
        self.total.max(self.earlier)
    }
}

/// The rows of one window.
#[derive(Debug, Default)]
pub(super) struct Rows {
    chunks: Vec<Vec<Row>>,
    places: HashTable<u32>,
    len: usize,
}

impl Rows {
    /// A list in which each row came as often as it stands in `fingerprints`.
    pub(super) fn of(fingerprints: impl Iterator<Item = Fingerprint>) -> Self {
        let mut rows = Rows::default();
        for fingerprint in fingerprints {
            let row = rows.row(fingerprint);
            row.total = row.total.saturating_add(1);
        }
        rows
    }

    /// The row with this fingerprint, which may be new.
    #[inline]
    pub(super) fn row(&mut self, fingerprint: Fingerprint) -> &mut Row {
        let Rows {
            chunks,
            places,
            len,
        } = self;
        let entry = places.entry(
            hash(fingerprint),
            |place| at(chunks, *place).fingerprint == fingerprint,
            |place| hash(at(chunks, *place).fingerprint),
        );
        let place = match entry {
            hashbrown::hash_table::Entry::Occupied(known) => *known.get(),
            hashbrown::hash_table::Entry::Vacant(vacant) => {
                // There are fewer than 2^32 rows: each takes dozens of bytes.
                let place = u32::try_from(*len).unwrap_or(u32::MAX);
                vacant.insert(place);
                if len.is_multiple_of(CHUNK) {
                    let room = if *len == 0 { 0 } else { CHUNK };
                    chunks.push(Vec::with_capacity(room));
                }
                if let Some(last) = chunks.last_mut() {
                    last.push(Row::new(fingerprint));
                }
                *len += 1;
                place
            }
        };
        let place = place as usize;
        &mut chunks[place / CHUNK][place % CHUNK]
    }

    /// The row with this fingerprint, if there is one.
    #[inline]
    pub(super) fn get_mut(&mut self, fingerprint: Fingerprint) -> Option<&mut Row> {
        if self.len == 0 {
            return None;
        }
        let chunks = &mut self.chunks;
        let found = self.places.find(hash(fingerprint), |place| {
            at(chunks, *place).fingerprint == fingerprint
        });
        let place = *found? as usize;
        chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    /// All rows.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.chunks.iter().flatten()
    }

    /// All rows.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Row> {
        self.chunks.iter_mut().flatten()
    }

    /// Forgets all rows, and the memory of a large window.
    pub(super) fn clear(&mut self) {
        if self.len > KEPT_MAX {
            *self = Rows::default();
            return;
        }
        self.chunks.truncate(1);
        self.chunks.iter_mut().for_each(Vec::clear);
        if self.len > 0 {
            self.chunks.clear();
        }
        self.places.clear();
        self.len = 0;
    }

    /// A fingerprint for each row that may come again.
    pub(super) fn fingerprints(&self) -> Vec<Fingerprint> {
        let repeat = |row: &Row| std::iter::repeat_n(row.fingerprint, usize::from(row.seen()));
        self.iter().flat_map(repeat).collect()
    }

    /// How many different rows there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.len
    }
}

#[inline]
fn at(chunks: &[Vec<Row>], place: u32) -> &Row {
    let place = place as usize;
    &chunks[place / CHUNK][place % CHUNK]
}

/// Fingerprints are random already.
#[inline]
pub(super) fn hash(fingerprint: Fingerprint) -> u64 {
    let (low, high) = fingerprint.halves();
    low ^ high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(number: u32) -> Fingerprint {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(
            &(u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_ne_bytes(),
        );
        bytes[8..12].copy_from_slice(&number.to_ne_bytes());
        Fingerprint(bytes)
    }

    #[test]
    fn each_row_is_found_again_however_many_there_are() {
        let mut rows = Rows::default();
        for round in 1..3 {
            for number in 0..40_000 {
                rows.row(fingerprint(number)).total += 1;
            }
            assert_eq!(rows.len(), 40_000);
            assert!(rows.iter().all(|row| row.total == round));
        }
        assert!(rows.get_mut(fingerprint(40_000)).is_none());
        rows.clear();
        assert!(rows.get_mut(fingerprint(1)).is_none());
        assert_eq!(rows.row(fingerprint(7)).total, 0);
        assert_eq!(rows.len(), 1);
    }

    #[test]
    fn a_row_takes_at_most_forty_bytes() {
        let mut rows = Rows::default();
        for number in 0..1_500_000 {
            rows.row(fingerprint(number));
        }
        let chunks: usize = rows
            .chunks
            .iter()
            .map(|chunk| chunk.capacity() * size_of::<Row>())
            .sum();
        let bytes = chunks + rows.places.allocation_size();
        assert!(bytes / rows.len() <= 40, "{}", bytes / rows.len());
    }
}
