//! Pages with gzip, put together from blocks that were compressed beforehand.
//!
//! Each part ends in a full flush, so that parts can follow one another in any order; the checksum of the whole is combined from theirs.

use std::thread;

use anyhow::{Context as _, Result, ensure};
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};

use crate::rows::{Backlog, Templates};

/// A deflated part of a body.
pub(crate) struct Part {
    deflated: Box<[u8]>,
    sum: Hasher,
    length: usize,
}

impl Part {
    /// Compresses some bytes, as a server in a hurry does.
    pub(crate) fn new(bytes: &[u8]) -> Result<Part> {
        let mut deflated = Vec::with_capacity(bytes.len() / 2 + 64);
        let mut compress = Compress::new(Compression::new(4), false);
        let status = compress
            .compress_vec(bytes, &mut deflated, FlushCompress::Full)
            .context("zlib refuses")?;
        ensure!(
            status == Status::Ok && compress.total_in() == bytes.len() as u64,
            "a part was not compressed whole"
        );
        let mut sum = Hasher::new();
        sum.update(bytes);
        Ok(Part {
            deflated: deflated.into(),
            sum,
            length: bytes.len(),
        })
    }
}

/// All blocks of a backlog, compressed.
pub(crate) struct Blocks {
    parts: Vec<Part>,
    comma: Part,
}

impl Blocks {
    /// Compresses all blocks of `report`, on all cores.
    pub(crate) fn new(templates: &Templates, backlog: &Backlog, report: u64) -> Result<Blocks> {
        let threads = thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
        let share = backlog.blocks.div_ceil(threads).max(1);
        let compress = |first: u64| -> Result<Vec<Part>> {
            let mut text = Vec::new();
            (first..(first + share).min(backlog.blocks))
                .map(|block| {
                    text.clear();
                    templates.append(backlog, report, block, &mut text);
                    Part::new(&text)
                })
                .collect()
        };
        let parts = thread::scope(|scope| {
            let shares: Vec<_> = (0..threads)
                .map(|thread| scope.spawn(move || compress(thread * share)))
                .collect();
            let mut all = Vec::new();
            for share in shares {
                all.extend(share.join().ok().context("a thread has panicked")??);
            }
            anyhow::Ok(all)
        })?;
        Ok(Blocks {
            parts,
            comma: Part::new(b",")?,
        })
    }

    /// Appends the body `head`, then these blocks with commas between, then `tail`, as one gzip member.
    pub(crate) fn append(
        &self,
        head: &[u8],
        blocks: impl Iterator<Item = u64>,
        tail: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        // Deflate; no name, no time; system unknown (RFC 1952).
        out.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
        let (mut sum, mut length) = (Hasher::new(), 0_usize);
        let mut append = |part: &Part| {
            out.extend_from_slice(&part.deflated);
            sum.combine(&part.sum);
            length += part.length;
        };
        append(&Part::new(head)?);
        for (nth, block) in blocks.enumerate() {
            if nth > 0 {
                append(&self.comma);
            }
            append(&self.parts[usize::try_from(block)?]);
        }
        append(&Part::new(tail)?);
        // An empty last block, the checksum, and the length.
        out.extend_from_slice(&[3, 0]);
        out.extend_from_slice(&sum.finalize().to_le_bytes());
        out.extend_from_slice(&u32::try_from(length)?.to_le_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn parts_in_any_order_are_one_gzip_member() {
        let (templates, backlog) = (Templates::default(), Backlog::before(1_700_000_000, 200, 1));
        let blocks = Blocks::new(&templates, &backlog, 0).unwrap();
        let (mut body, mut expected) = (Vec::new(), b"head".to_vec());
        blocks
            .append(b"head", [7, 2].into_iter(), b"tail", &mut body)
            .unwrap();
        templates.append(&backlog, 0, 7, &mut expected);
        expected.push(b',');
        templates.append(&backlog, 0, 2, &mut expected);
        expected.extend_from_slice(b"tail");
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&body[..])
            .read_to_end(&mut read)
            .unwrap();
        assert!(read == expected);
    }
}
