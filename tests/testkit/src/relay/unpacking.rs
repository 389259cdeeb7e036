//! Lines as they come, or out of gzip members one behind the other; the first byte tells which.

use std::io::{self, Write as _};

use flate2::write::MultiGzDecoder;

/// How a member begins (RFC 1952, 2.3.1); a line begins with `<`.
const GZIP: u8 = 0x1f;

/// What becomes of one connection's bytes.
#[derive(Default)]
pub(super) enum Unpacking {
    /// Nothing has come yet.
    #[default]
    Unknown,
    /// Lines as they are.
    Plain,
    /// Members.
    Gzip(Box<MultiGzDecoder<Vec<u8>>>),
}

impl Unpacking {
    pub(super) fn is_gzip(&self) -> bool {
        matches!(self, Unpacking::Gzip(_))
    }

    /// What these bytes hold of lines.
    pub(super) fn unpack(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        if let (Unpacking::Unknown, Some(first)) = (&self, bytes.first()) {
            *self = match *first {
                GZIP => Unpacking::Gzip(Box::new(MultiGzDecoder::new(Vec::new()))),
                _ => Unpacking::Plain,
            };
        }
        match self {
            Unpacking::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()))
            }
            Unpacking::Unknown | Unpacking::Plain => Ok(bytes.to_vec()),
        }
    }

    /// # Errors
    ///
    /// The last member has no end.
    pub(super) fn end(&mut self) -> io::Result<()> {
        match self {
            Unpacking::Gzip(decoder) => decoder.try_finish(),
            Unpacking::Unknown | Unpacking::Plain => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn members_come_out_as_they_went_in_wherever_they_are_cut() {
        let member = |text: &str| {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::new(6));
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        };
        let stream = [member("one\n"), member("two\nthree\n")].concat();
        for size in 1..stream.len() {
            let (mut unpacking, mut lines) = (Unpacking::default(), Vec::new());
            for bytes in stream.chunks(size) {
                lines.extend(unpacking.unpack(bytes).unwrap());
            }
            unpacking.end().unwrap();
            assert!(unpacking.is_gzip());
            assert_eq!(lines, b"one\ntwo\nthree\n", "{size}");
        }
        let mut cut = Unpacking::default();
        cut.unpack(&stream[..stream.len() - 9]).unwrap();
        assert!(cut.end().is_err());
        assert!(
            Unpacking::default()
                .unpack(b"\x1f\x8bnonsense at length")
                .is_err()
        );
    }

    #[test]
    fn lines_are_taken_as_they_are() {
        let mut unpacking = Unpacking::default();
        assert_eq!(unpacking.unpack(b"<14>a").unwrap(), b"<14>a");
        assert_eq!(unpacking.unpack(b"\x1f\n").unwrap(), b"\x1f\n");
        assert!(!unpacking.is_gzip());
        unpacking.end().unwrap();
    }
}
