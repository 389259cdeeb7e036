//! The lines that one output has not confirmed, in chunks as they are written: pure.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::record::{Fingerprint, Splice};
use crate::relay::Envelope;

/// Lines are written in chunks of about this many bytes: smaller ones cost, larger ones gain nothing.
const CHUNK: usize = 48 << 10;

/// Lines not confirmed, oldest first.
#[derive(Default)]
pub(super) struct Lines {
    chunks: VecDeque<Chunk>,
    filling: Vec<u8>,
    filling_records: Vec<Fingerprint>,
}

/// Some whole lines, and whose they are.
pub(super) struct Chunk {
    pub(super) lines: Bytes,
    pub(super) records: Vec<Fingerprint>,
}

impl Lines {
    /// Makes a row a line; whether that has completed a chunk.
    pub(super) fn append(
        &mut self,
        row: &[u8],
        fingerprint: Fingerprint,
        splice: &Splice,
        envelope: &Envelope,
    ) -> bool {
        self.filling.extend_from_slice(&envelope.prefix);
        splice.append(row, &mut self.filling);
        self.filling.extend_from_slice(&envelope.suffix);
        self.filling_records.push(fingerprint);
        let complete = self.filling.len() >= CHUNK;
        if complete {
            self.seal();
        }
        complete
    }

    /// Makes a chunk of what there is.
    pub(super) fn seal(&mut self) {
        if self.filling_records.is_empty() {
            return;
        }
        // The next chunk will be about as long as this one, and so will the line that completes it.
        let next = Vec::with_capacity(CHUNK + (4 << 10));
        let lines = std::mem::replace(&mut self.filling, next).into();
        let records = std::mem::take(&mut self.filling_records);
        self.chunks.push_back(Chunk { lines, records });
    }

    /// The chunk behind `written` others.
    pub(super) fn get(&self, written: usize) -> Option<&Chunk> {
        self.chunks.get(written)
    }

    /// Takes out the first chunks, which are confirmed, and tells whose they were.
    pub(super) fn confirm(&mut self, chunks: usize) -> Vec<Fingerprint> {
        self.chunks
            .drain(..chunks)
            .flat_map(|chunk| chunk.records)
            .collect()
    }

    /// The records of all chunks.
    pub(super) fn records(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.records.len()).sum()
    }
}
