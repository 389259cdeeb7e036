//! What the state folder says is confirmed, read without the collector's own code.

use std::path::Path;

const HEAD: usize = 32;
const UNIT: usize = 16;
const CONFIRMED: u8 = 2;

/// The records that a journal says are confirmed, in whatever window: each receipt since the file was begun. Ends at the first frame that
/// is not whole, which a kill may have torn.
pub(super) fn confirmed(journal: &Path) -> u64 {
    let Ok(bytes) = std::fs::read(journal) else {
        return 0;
    };
    let frames = frames(&bytes);
    let records =
        |(kind, length, _): &(u8, usize, usize)| (*kind == CONFIRMED).then_some(length / 16);
    frames.iter().filter_map(records).sum::<usize>() as u64
}

/// The receipts in a journal of one window: each is a frame.
pub(super) fn receipts(journal: &Path) -> usize {
    let bytes = std::fs::read(journal).unwrap_or_default();
    let frames = frames(&bytes);
    frames
        .iter()
        .filter(|(kind, ..)| *kind == CONFIRMED)
        .count()
}

/// Where the frames of a journal begin, and where the last one ends.
pub(super) fn boundaries(bytes: &[u8]) -> Vec<usize> {
    let mut places: Vec<_> = frames(bytes).iter().map(|(_, _, at)| *at).collect();
    let last = frames(bytes).last().map_or(HEAD, |(_, length, at)| {
        at + UNIT + length.next_multiple_of(UNIT)
    });
    places.push(last);
    places
}

/// Kind, length and place of each frame.
fn frames(bytes: &[u8]) -> Vec<(u8, usize, usize)> {
    let (mut at, mut frames) = (HEAD, vec![]);
    while let Some(head) = bytes
        .get(at..at + UNIT)
        .filter(|head| head.starts_with(b"frm1"))
    {
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]) as usize;
        let end = at + UNIT + length.next_multiple_of(UNIT);
        if end > bytes.len() {
            break;
        }
        frames.push((head[4], length, at));
        at = end;
    }
    frames
}
