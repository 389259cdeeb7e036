//! What one output has not confirmed, in chunks as they are written: pure.
//!
//! Rows stay where they are, in their page; lines are made of them when they are written, and made again if they have to be sent again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::order::Batch;
use crate::record::Fingerprint;
use crate::relay::Envelope;

/// Lines are written in chunks of about this many bytes: smaller ones cost, larger ones gain nothing.
const CHUNK: usize = 48 << 10;

/// Records not confirmed, oldest first.
#[derive(Default)]
pub(crate) struct Lines {
    chunks: VecDeque<Chunk>,
}

/// Some records of one batch.
pub(crate) struct Chunk {
    batch: Arc<Batch>,
    envelope: Arc<Envelope>,
    rows: Range<usize>,
    /// Those of its rows.
    bytes: usize,
}

impl Lines {
    /// Adds all records of a batch.
    pub(crate) fn add(&mut self, batch: Batch, envelope: Envelope) {
        let (batch, envelope) = (Arc::new(batch), Arc::new(envelope));
        let chunk = |rows, bytes| Chunk {
            batch: batch.clone(),
            envelope: envelope.clone(),
            rows,
            bytes,
        };
        let (mut start, mut bytes) = (0, 0);
        for (nth, place) in batch.rows.iter().enumerate() {
            bytes += batch.page.row(*place).len();
            let next = nth + 1;
            if bytes + (next - start) * envelope.prefix.len() >= CHUNK {
                self.chunks.push_back(chunk(start..next, bytes));
                (start, bytes) = (next, 0);
            }
        }
        if start < batch.rows.len() {
            self.chunks.push_back(chunk(start..batch.rows.len(), bytes));
        }
    }

    /// The chunk behind `written` others.
    pub(crate) fn get(&self, written: usize) -> Option<&Chunk> {
        self.chunks.get(written)
    }

    /// When the oldest of them was fetched.
    pub(crate) fn oldest(&self) -> Option<DateTime<Utc>> {
        self.chunks.front().map(|chunk| chunk.batch.pulled)
    }

    /// Takes out the first chunks, which are confirmed, and tells whose they were.
    pub(crate) fn confirm(&mut self, chunks: usize) -> Vec<Fingerprint> {
        let mut confirmed = Vec::new();
        for chunk in self.chunks.drain(..chunks) {
            let rows = &chunk.batch.rows[chunk.rows.clone()];
            let page = &chunk.batch.page;
            confirmed.extend(rows.iter().map(|place| page.fingerprint(*place)));
        }
        confirmed
    }

    /// The bytes of all chunks' records, without what makes them lines.
    pub(crate) fn bytes(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.bytes).sum()
    }

    /// The records of all chunks.
    pub(crate) fn records(&self) -> usize {
        self.chunks.iter().map(Chunk::records).sum()
    }
}

impl Chunk {
    /// The number of records.
    pub(crate) fn records(&self) -> usize {
        self.rows.len()
    }

    /// Makes the records lines.
    pub(crate) fn render(&self, lines: &mut Vec<u8>) {
        lines.clear();
        // A huge row must not hold its memory for ever.
        lines.shrink_to(4 * CHUNK);
        for place in &self.batch.rows[self.rows.clone()] {
            lines.extend_from_slice(&self.envelope.prefix);
            self.batch.splice.append(self.batch.page.row(*place), lines);
            lines.extend_from_slice(&self.envelope.suffix);
        }
    }
}
