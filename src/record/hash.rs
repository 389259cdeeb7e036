//! The hash that fingerprints are made with: POLYVAL (RFC 8452, section 3) of a text, padded with zeros to whole blocks, and its length.
//!
//! POLYVAL is a universal hash: under a secret key whose outputs nobody sees, two texts of a kibibyte have the same with a chance of less
//! than one in 2^120, whoever chose them.

use polyval::universal_hash::UniversalHash;
use polyval::{Block, Polyval};

const BLOCK: usize = size_of::<Block>();
/// What POLYVAL takes in at once, in less time than two blocks by themselves.
const STEP: usize = 4 * BLOCK;

/// The hash under one key.
#[derive(Clone)]
pub(super) struct Hash(Polyval);

impl Hash {
    pub(super) fn new(key: &[u8; BLOCK]) -> Self {
        Hash(Polyval::new(key.into()))
    }

    /// The hash of a text.
    pub(super) fn of(&self, text: &[u8]) -> [u8; BLOCK] {
        let mut hash = self.0.clone();
        // Zeros pad the last block, so the length has to tell them from zeros that are the text's.
        let length = text.len().next_multiple_of(BLOCK) + BLOCK;
        // Blocks of zeros before the first make no difference, and the steps whole.
        let mut start = length.next_multiple_of(STEP) - length;
        let (mut step, mut rest) = ([0; STEP], text);
        if start + length > STEP {
            let head;
            (head, rest) = rest.split_at(STEP - start);
            step[start..].copy_from_slice(head);
            hash.update(blocks(&step));
            (step, start) = ([0; STEP], 0);
        }
        let (middle, tail) = rest.split_at(rest.len() / STEP * STEP);
        hash.update(blocks(middle));
        step[start..start + tail.len()].copy_from_slice(tail);
        step[STEP - BLOCK..].copy_from_slice(&(text.len() as u128).to_le_bytes());
        hash.update(blocks(&step));
        hash.finalize().into()
    }
}

/// The whole blocks of a text.
fn blocks(text: &[u8]) -> &[Block] {
    Block::slice_as_chunks(text).0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As it is said, block by block.
    fn expected(text: &[u8]) -> [u8; BLOCK] {
        let mut hash = Polyval::new(&[7; BLOCK].into());
        hash.update_padded(text);
        hash.update(&[Block::from((text.len() as u128).to_le_bytes())]);
        hash.finalize().into()
    }

    #[test]
    fn texts_of_any_length_are_hashed_whole() {
        let text: Vec<u8> = (0..=255).cycle().skip(1).take(700).collect();
        let hash = Hash::new(&[7; BLOCK]);
        for length in 0..text.len() {
            assert_eq!(
                hash.of(&text[..length]),
                expected(&text[..length]),
                "{length}"
            );
        }
    }
}
