//! Lines on their way as gzip members, one behind the other on the same stream with nothing between them (reference: Devo's SDK).
//!
//! A member holds whole lines, newlines included: members can be unpacked one by one, and joined they are the lines again.

use std::io::{self, Write};

use flate2::Compression as Level;
use flate2::write::GzEncoder;

use crate::config::Compression;

/// Packs the lines of one delivery.
#[derive(Debug)]
pub(super) struct Packer {
    level: Level,
    member_bytes: usize,
    /// The member that is not full yet, and how many bytes of lines it has.
    member: Option<(GzEncoder<Vec<u8>>, usize)>,
    packed: Vec<u8>,
}

impl Packer {
    pub(super) fn new(compression: &Compression) -> Self {
        Self {
            level: Level::new(compression.level),
            member_bytes: compression.member_bytes.max(1),
            member: None,
            packed: Vec::new(),
        }
    }

    /// Packs whole lines; what of them is ready to be sent. The rest comes with later lines, or with [`Packer::end`].
    pub(super) fn pack(&mut self, lines: &[u8]) -> io::Result<&[u8]> {
        self.packed.clear();
        let mut rest = lines;
        while !rest.is_empty() {
            let (level, packed) = (self.level, &mut self.packed);
            let (encoder, taken) = self
                .member
                .get_or_insert_with(|| (GzEncoder::new(Vec::new(), level), 0));
            let (now, later) = rest.split_at(line_end(rest, self.member_bytes - *taken));
            encoder.write_all(now)?;
            *taken += now.len();
            packed.append(encoder.get_mut());
            if *taken >= self.member_bytes {
                self.end_member()?;
            }
            rest = later;
        }
        Ok(&self.packed)
    }

    /// Ends the last member; what of it is to be sent.
    pub(super) fn end(&mut self) -> io::Result<&[u8]> {
        self.packed.clear();
        self.end_member()?;
        Ok(&self.packed)
    }

    fn end_member(&mut self) -> io::Result<()> {
        if let Some((encoder, _)) = self.member.take() {
            self.packed.append(&mut encoder.finish()?);
        }
        Ok(())
    }
}

/// The end of the line with which `lines` have `room` bytes or more; all of them, if they have less.
fn line_end(lines: &[u8], room: usize) -> usize {
    let newline = lines
        .get(room - 1..)
        .and_then(|lines| memchr::memchr(b'\n', lines));
    newline.map_or(lines.len(), |at| room + at)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::bufread::GzDecoder;
    use proptest::prelude::*;

    use super::*;

    /// The members, unpacked one by one.
    fn members(mut stream: &[u8]) -> Vec<Vec<u8>> {
        let mut members = Vec::new();
        while !stream.is_empty() {
            let mut member = Vec::new();
            GzDecoder::new(&mut stream)
                .read_to_end(&mut member)
                .unwrap();
            members.push(member);
        }
        members
    }

    fn packed(level: u32, member_bytes: usize, chunks: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut packer = Packer::new(&Compression {
            level,
            member_bytes,
            ..Compression::NEVER
        });
        let mut stream = Vec::new();
        for chunk in chunks {
            stream.extend_from_slice(packer.pack(chunk).unwrap());
        }
        stream.extend_from_slice(packer.end().unwrap());
        assert!(packer.end().unwrap().is_empty());
        members(&stream)
    }

    #[test]
    fn a_member_ends_with_the_line_that_fills_it() {
        let chunks = [b"aaa\nbbb\n".to_vec(), b"ccc\nddd\ne\n".to_vec()];
        let members = packed(6, 9, &chunks);
        assert_eq!(members, [&b"aaa\nbbb\nccc\n"[..], b"ddd\ne\n"]);
        assert_eq!(packed(6, 8, &chunks)[0], b"aaa\nbbb\n");
        assert_eq!(packed(6, 1, &chunks).len(), 5);
        assert_eq!(packed(6, 51_200, &[]), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_higher_level_packs_better_and_none_packs_nothing() {
        let lines = |level| {
            let mut packer = Packer::new(&Compression {
                level,
                ..Compression::NEVER
            });
            let line = br#"<14>2026-11-22 14:40:52.290 host cloud.office365.reporting.dlp: {"Subject":"hello"}"#;
            let lines = [&line[..], b"\n"].concat().repeat(1_000);
            packer.pack(&lines).unwrap().len() + packer.end().unwrap().len()
        };
        assert!(lines(0) > 80_000 && lines(9) <= lines(1) && lines(1) < 5_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

        #[test]
        fn no_line_is_split_or_lost_and_members_are_about_as_large_as_asked(
            lines in prop::collection::vec(prop::collection::vec("[a-z]{0,40}", 0..6), 0..8),
            level in 0u32..=9,
            member_bytes in 1usize..200,
        ) {
            let chunks: Vec<Vec<u8>> = lines
                .iter()
                .map(|chunk| chunk.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect())
                .collect();
            let members = packed(level, member_bytes, &chunks);
            prop_assert!(members.iter().all(|member| member.ends_with(b"\n")));
            let full = &members[..members.len().saturating_sub(1)];
            prop_assert!(full.iter().all(|member| (member_bytes..member_bytes + 41).contains(&member.len())));
            prop_assert_eq!(members.concat(), chunks.concat());
        }
    }
}
