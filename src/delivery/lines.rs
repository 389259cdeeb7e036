//! What one output has not confirmed, in chunks as they are written: pure.
//!
//! Rows stay where they are, in their page; lines are made of them when they are written, and made again if they have to be sent again.
//! Where others wait for memory, the pages can be given back: then only the fingerprints are kept that a receipt would confirm.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::order::Batch;
use crate::ledger::Confirmed;
use crate::record::Fingerprint;
use crate::relay::Envelope;
use crate::report::Origin;
use crate::window::Window;

/// Lines are written in chunks of about this many bytes: smaller ones cost, larger ones gain nothing.
const CHUNK: usize = 48 << 10;

/// Records not confirmed, oldest first.
#[derive(Default)]
pub(super) struct Lines {
    chunks: VecDeque<Chunk>,
    given_back: bool,
}

/// Some records of one batch.
pub(super) struct Chunk {
    content: Content,
    window: Window,
    origin: Origin,
    pulled: DateTime<Utc>,
    records: usize,
    /// Bytes of its rows.
    bytes: usize,
    /// The batch's number, if its last record is in here.
    completes: Option<u64>,
}

enum Content {
    Rows {
        batch: Arc<Batch>,
        envelope: Arc<Envelope>,
        rows: Range<usize>,
    },
    GivenBack(Vec<Fingerprint>),
}

/// What was confirmed by one receipt.
#[derive(Default)]
pub(super) struct Receipted {
    /// The records, by their windows.
    pub(super) records: Vec<Confirmed>,
    /// The last batch that is confirmed whole.
    pub(super) number: Option<u64>,
}

impl Lines {
    /// Adds all records of a batch.
    pub(super) fn add(&mut self, batch: Batch, envelope: Envelope) {
        let (batch, envelope) = (Arc::new(batch), Arc::new(envelope));
        let all = batch.places.len();
        let mut add = |rows: Range<usize>, bytes| {
            self.chunks.push_back(Chunk {
                window: batch.window,
                origin: batch.mark.origin,
                pulled: batch.pulled,
                records: rows.len(),
                bytes,
                completes: (rows.end == all).then_some(batch.number),
                content: Content::Rows {
                    batch: Arc::clone(&batch),
                    envelope: Arc::clone(&envelope),
                    rows,
                },
            });
        };
        let (mut start, mut bytes) = (0, 0);
        for (nth, place) in batch.places.iter().enumerate() {
            bytes += batch.page.row(*place as usize).len();
            let next = nth + 1;
            if bytes + (next - start) * envelope.prefix.len() >= CHUNK || next == all {
                add(start..next, bytes);
                (start, bytes) = (next, 0);
            }
        }
    }

    /// The chunk behind `written` others.
    pub(super) fn get(&self, written: usize) -> Option<&Chunk> {
        self.chunks.get(written)
    }

    /// The rows of the first chunks, but those whose pages have been given back.
    pub(super) fn rows(&self, chunks: usize) -> impl Iterator<Item = &[u8]> {
        self.chunks.iter().take(chunks).flat_map(Chunk::rows)
    }

    /// When the oldest of them was fetched.
    pub(super) fn oldest(&self) -> Option<DateTime<Utc>> {
        self.chunks.front().map(|chunk| chunk.pulled)
    }

    /// Takes out the first chunks, which are confirmed.
    pub(super) fn confirm(&mut self, chunks: usize) -> Receipted {
        let mut receipted = Receipted::default();
        for chunk in self.chunks.drain(..chunks) {
            receipted.number = chunk.completes.or(receipted.number);
            chunk.append_to(&mut receipted.records);
        }
        self.given_back &= !self.chunks.is_empty();
        receipted
    }

    /// Takes out everything; what is left to fetch again.
    pub(super) fn drain(&mut self) -> Vec<Confirmed> {
        self.confirm(self.chunks.len()).records
    }

    /// Gives the pages back and keeps the fingerprints.
    pub(super) fn give_back(&mut self) {
        if self.chunks.is_empty() {
            return;
        }
        self.given_back = true;
        for chunk in &mut self.chunks {
            if let Content::Rows { .. } = chunk.content {
                chunk.content = Content::GivenBack(chunk.fingerprints());
            }
        }
    }

    /// Whether pages have been given back: what is not confirmed has to be fetched again.
    pub(super) fn are_given_back(&self) -> bool {
        self.given_back
    }

    /// The bytes of all chunks' records, without what makes them lines.
    pub(super) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// The records of all chunks.
    pub(super) fn records(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.records).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

impl Chunk {
    /// The number of records.
    pub(super) fn records(&self) -> usize {
        self.records
    }

    fn rows(&self) -> impl Iterator<Item = &[u8]> {
        let here = match &self.content {
            Content::Rows { batch, rows, .. } => Some((batch, rows.clone())),
            Content::GivenBack(_) => None,
        };
        here.into_iter().flat_map(|(batch, rows)| {
            let places = batch.places[rows].iter();
            places.map(|place| batch.page.row(*place as usize))
        })
    }

    /// Makes the records lines; `false` if they have been given back.
    pub(super) fn render(&self, lines: &mut Vec<u8>) -> bool {
        lines.clear();
        // A huge row must not hold its memory for ever.
        lines.shrink_to(4 * CHUNK);
        let Content::Rows {
            batch,
            envelope,
            rows,
        } = &self.content
        else {
            return false;
        };
        for place in &batch.places[rows.clone()] {
            lines.extend_from_slice(&envelope.prefix);
            batch.splice.append(batch.page.row(*place as usize), lines);
            lines.extend_from_slice(&envelope.suffix);
        }
        true
    }

    fn fingerprints(&self) -> Vec<Fingerprint> {
        match &self.content {
            Content::Rows { batch, rows, .. } => {
                let places = batch.places[rows.clone()].iter();
                places
                    .map(|place| batch.page.fingerprint(*place as usize))
                    .collect()
            }
            Content::GivenBack(fingerprints) => fingerprints.clone(),
        }
    }

    fn append_to(&self, records: &mut Vec<Confirmed>) {
        match records.last_mut() {
            Some(last) if (last.window, last.origin) == (self.window, self.origin) => {
                last.fingerprints.extend(self.fingerprints());
            }
            _ => records.push(Confirmed {
                window: self.window,
                origin: self.origin,
                fingerprints: self.fingerprints(),
            }),
        }
    }
}
