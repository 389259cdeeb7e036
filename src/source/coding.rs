//! Content codings (RFC 9110, section 8.4): what an answer's body was compressed with, undone within bounds.

use flate2::{Decompress, FlushDecompress, Status};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};

use super::error::{FetchError, Kind, shown};

/// The most codings that one body has.
const CODINGS_MAX: usize = 4;
/// What a coding yields at once for the one before it.
const BUFFER: usize = 16 << 10;
/// How many bits of what came before a stream refers to, at most.
const WINDOW_BITS: u8 = 15;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Undoes the codings of one body, as it comes.
pub(super) struct Decoder {
    /// The last one applied first.
    streams: Vec<Stream>,
    bytes_max: usize,
}

impl Decoder {
    /// That of an answer with these headers, whose body is to be at most `bytes_max` long.
    ///
    /// The error names a coding that is not understood.
    pub(super) fn new(headers: &HeaderMap, bytes_max: usize) -> Result<Self, FetchError> {
        let mut streams = Vec::new();
        let lines = headers.get_all(CONTENT_ENCODING).into_iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        for coding in lines.iter().flat_map(|line| line.split(',')).map(str::trim) {
            match coding.to_ascii_lowercase().as_str() {
                "" | "identity" => {}
                "gzip" | "x-gzip" => streams.push(Stream::new(Coding::Gzip)),
                "deflate" => streams.push(Stream::new(Coding::Deflate)),
                _ => return Err(not_understood(coding)),
            }
        }
        if streams.len() > CODINGS_MAX {
            return Err(not_understood(&lines.join(", ")));
        }
        streams.reverse();
        Ok(Decoder { streams, bytes_max })
    }

    /// Whether the body is as it was sent.
    pub(super) fn is_identity(&self) -> bool {
        self.streams.is_empty()
    }

    /// Appends what the next bytes of the body are to `out`.
    pub(super) fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<(), FetchError> {
        decode(&mut self.streams, input, out, self.bytes_max)
    }

    /// Checks that the body has not ended early. An empty body is whole.
    pub(super) fn finish(&self) -> Result<(), FetchError> {
        if self.streams.iter().all(Stream::is_whole) {
            Ok(())
        } else {
            Err(broken("ends early"))
        }
    }
}

fn decode(
    streams: &mut [Stream],
    mut input: &[u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<(), FetchError> {
    let Some((stream, others)) = streams.split_first_mut() else {
        if out.len() + input.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        if out.capacity() - out.len() < input.len() {
            let double = out.len().min(bytes_max - out.len());
            out.reserve_exact(double.max(input.len()));
        }
        out.extend_from_slice(input);
        return Ok(());
    };
    let mut buffer = Vec::new();
    loop {
        let yielded = if others.is_empty() {
            make_room(out, bytes_max);
            &mut *out
        } else {
            buffer.clear();
            buffer.reserve_exact(BUFFER);
            &mut buffer
        };
        stream.decode(&mut input, yielded)?;
        let is_drained = input.is_empty() && yielded.len() < yielded.capacity();
        if yielded.len() > bytes_max || stream.yielded() > bytes_max as u64 {
            return Err(too_large(bytes_max));
        }
        if !others.is_empty() {
            decode(others, &buffer, out, bytes_max)?;
        }
        if is_drained {
            return Ok(());
        }
    }
}

/// Makes room for at least one byte, and for no more than one too many.
fn make_room(out: &mut Vec<u8>, bytes_max: usize) {
    if out.len() == out.capacity() {
        let double = out.len().max(BUFFER);
        out.reserve_exact(double.min(bytes_max.saturating_sub(out.len()) + 1));
    }
}

/// One coding.
struct Stream {
    coding: Coding,
    /// The first bytes of a stream, until there are enough to know what it is.
    start: Vec<u8>,
    state: State,
    /// What streams before the open one have yielded.
    yielded: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
}

enum State {
    /// No byte has come.
    New,
    Open(Decompress),
    /// A member has ended; another one may follow.
    Between,
    /// Whatever follows is ignored.
    Ended,
}

impl Stream {
    fn new(coding: Coding) -> Self {
        Stream {
            coding,
            start: Vec::new(),
            state: State::New,
            yielded: 0,
        }
    }

    /// All that it has yielded.
    fn yielded(&self) -> u64 {
        match &self.state {
            State::Open(open) => self.yielded + open.total_out(),
            _ => self.yielded,
        }
    }

    fn is_whole(&self) -> bool {
        match &self.state {
            State::New => self.start.is_empty(),
            State::Open(_) => false,
            State::Between | State::Ended => true,
        }
    }

    /// Decodes from the beginning of `input` as much as there is room for in `out`.
    fn decode(&mut self, input: &mut &[u8], out: &mut Vec<u8>) -> Result<(), FetchError> {
        if let State::New | State::Between = self.state
            && !self.begin(input)
        {
            return Ok(());
        }
        let State::Open(open) = &mut self.state else {
            *input = &[]; // as the original's HTTP library does
            return Ok(());
        };
        let is_start = !self.start.is_empty();
        let source = if is_start { &self.start } else { *input };
        let (read, written) = (open.total_in(), out.len());
        let status = open
            .decompress_vec(source, out, FlushDecompress::None)
            .map_err(|error| broken("is broken").with_source(error))?;
        // No more than there was.
        let read = usize::try_from(open.total_in() - read).unwrap_or(usize::MAX);
        let stands_still = read == 0 && out.len() == written && !source.is_empty();
        if status == Status::StreamEnd {
            self.yielded += open.total_out();
            self.state = match self.coding {
                Coding::Gzip => State::Between,
                Coding::Deflate => State::Ended,
            };
        } else if stands_still {
            return Err(broken("is broken"));
        }
        if is_start {
            self.start.drain(..read);
        } else {
            *input = &input[read..];
        }
        Ok(())
    }

    /// Looks at the first two bytes of a stream; `false` if they have not come.
    fn begin(&mut self, input: &mut &[u8]) -> bool {
        while self.start.len() < 2 {
            let Some((byte, rest)) = input.split_first() else {
                return false;
            };
            self.start.push(*byte);
            *input = rest;
        }
        let is_first = matches!(self.state, State::New);
        let header = u16::from_be_bytes([self.start[0], self.start[1]]);
        self.state = match self.coding {
            // Behind a member there may be another one; anything else is ignored.
            Coding::Gzip if is_first || self.start == GZIP_MAGIC => {
                State::Open(Decompress::new_gzip(WINDOW_BITS))
            }
            Coding::Gzip => State::Ended,
            // RFC 1950, section 2.2; some send what it wraps by itself.
            Coding::Deflate => {
                let is_zlib = self.start[0] & 0x8f == 8 && header.is_multiple_of(31);
                State::Open(Decompress::new(is_zlib))
            }
        };
        true
    }
}

fn broken(what: &str) -> FetchError {
    FetchError::new(
        Kind::CutShort,
        format!("the answer's compressed body {what}"),
    )
}

/// The error of an answer that is longer than `bytes_max`.
pub(super) fn too_large(bytes_max: usize) -> FetchError {
    let message = format!("the answer is larger than {bytes_max} bytes");
    FetchError::new(Kind::TooLarge, message)
}

fn not_understood(coding: &str) -> FetchError {
    let message = format!(
        "the answer's content coding `{}` is not understood",
        shown(coding)
    );
    FetchError::new(Kind::NotAPage, message).with_action(
        "only gzip is asked for: have the gateway or proxy in front of the service send answers with gzip, with deflate or \
         as they are",
    )
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use reqwest::header::HeaderValue;

    use super::*;

    const MAX: usize = 100_000;

    fn gzip(body: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(body: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn raw(body: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(body).unwrap();
        encoder.finish().unwrap()
    }

    fn headers(codings: &[&str]) -> HeaderMap {
        let lines = codings.iter().map(|coding| {
            let value = HeaderValue::from_bytes(coding.as_bytes()).unwrap();
            (CONTENT_ENCODING, value)
        });
        lines.collect()
    }

    /// The body that comes in pieces of so many bytes.
    fn decoded(codings: &[&str], body: &[u8], piece: usize) -> Result<Vec<u8>, FetchError> {
        let mut headers_of_all = HeaderMap::new();
        for (name, value) in &headers(codings) {
            headers_of_all.append(name, value.clone());
        }
        let mut decoder = Decoder::new(&headers_of_all, MAX)?;
        let mut out = Vec::new();
        for piece in body.chunks(piece) {
            decoder.decode(piece, &mut out)?;
            assert!(out.capacity() <= MAX + 1);
        }
        decoder.finish()?;
        Ok(out)
    }

    fn text() -> Vec<u8> {
        (0..2_000)
            .flat_map(|row| format!("{{\"Index\":{row}}},").into_bytes())
            .collect()
    }

    #[track_caller]
    fn check(codings: &[&str], body: &[u8]) {
        for piece in [1, 2, 3, 1_000, usize::MAX] {
            let got = decoded(codings, body, piece)
                .unwrap_or_else(|error| panic!("{codings:?} {piece}: {error}"));
            assert!(got == text(), "{codings:?} {piece}: {} bytes", got.len());
        }
    }

    #[test]
    fn codings_are_undone_whatever_their_case_and_number() {
        let text = text();
        for codings in [
            &[][..],
            &["identity"],
            &["Identity, "],
            &[""],
            &[", ,identity"],
        ] {
            check(codings, &text);
        }
        for codings in [
            &["gzip"][..],
            &["GZIP"],
            &["x-gzip"],
            &["X-GZip"],
            &["identity,gzip"],
            &["identity", "Gzip"],
            &["\tgzip "],
        ] {
            check(codings, &gzip(&text));
        }
        for codings in [&["deflate"][..], &["DEFLATE"]] {
            check(codings, &zlib(&text));
            check(codings, &raw(&text));
        }
        check(&["gzip, gzip"], &gzip(&gzip(&text)));
        check(&["deflate", "x-gzip"], &gzip(&zlib(&text)));
        check(&["gzip,deflate , gzip,identity"], &gzip(&raw(&gzip(&text))));
    }

    #[test]
    fn members_follow_one_another_and_what_is_none_is_ignored() {
        let text = text();
        let (first, second) = text.split_at(1_234);
        let members = [gzip(first), gzip(b""), gzip(second)].concat();
        check(&["gzip"], &members);
        for garbage in [
            &[0; 512][..],
            b"\x1f",
            b"\x1f\x8c",
            b"\r\n",
            b"{\"value\":[]}",
        ] {
            check(&["gzip"], &[&members, garbage].concat());
            check(&["gzip,gzip"], &gzip(&[&members, garbage].concat()));
        }
        check(&["deflate"], &[zlib(&text), b"garbage".to_vec()].concat());
    }

    #[test]
    fn what_ends_early_or_is_broken_is_cut_short() {
        let text = text();
        let two = [gzip(&text[..500]), gzip(&text[500..])].concat();
        let bodies = [
            ("gzip", gzip(&text)),
            ("gzip", two),
            ("deflate", zlib(&text)),
            ("deflate", raw(&text)),
            ("gzip,deflate", zlib(&gzip(&text))),
        ];
        for (codings, body) in bodies {
            for length in [1, 2, 3, 10, body.len() / 2, body.len() - 9, body.len() - 1] {
                let error = decoded(&[codings], &body[..length], 700).unwrap_err();
                assert_eq!(error.kind(), Kind::CutShort, "{codings} {length}: {error}");
            }
            assert_eq!(decoded(&[codings], b"", 1).unwrap(), b"");
        }
        let mut wrong = gzip(&text);
        let checksum = wrong.len() - 6;
        wrong[checksum] ^= 1;
        for (coding, body) in [
            ("gzip", &wrong[..]),
            ("gzip", b"{\"value\":[]}"),
            ("deflate", b"{\"value\":[]}"),
            ("deflate", b"\xff\xff\xff"),
        ] {
            let error = decoded(&[coding], body, 700).unwrap_err();
            assert_eq!(error.kind(), Kind::CutShort, "{coding}: {error}");
        }
    }

    #[test]
    fn what_is_too_large_is_not_decoded_to_its_end() {
        let zeros = |length| vec![b' '; length];
        assert_eq!(
            decoded(&["gzip"], &gzip(&zeros(MAX)), 99).unwrap().len(),
            MAX
        );
        let bomb = gzip(&zeros(MAX + 1));
        let empty_members = gzip(&gzip(b"").repeat(MAX));
        for (codings, body) in [
            ("gzip", bomb.clone()),
            ("gzip", [gzip(&zeros(MAX)), gzip(b"x")].concat()),
            ("gzip,gzip", gzip(&bomb)),
            ("gzip,gzip", empty_members),
            ("deflate", raw(&zeros(10 * MAX))),
            ("identity", zeros(MAX + 1)),
        ] {
            for piece in [10, usize::MAX] {
                let error = decoded(&[codings], &body, piece).unwrap_err();
                assert_eq!(error.kind(), Kind::TooLarge, "{codings} {piece}: {error}");
            }
        }
    }

    #[test]
    fn a_coding_that_is_not_understood_is_named() {
        for (codings, named) in [
            (&["br"][..], "`br`"),
            (&["gzip, zstd"], "`zstd`"),
            (&["compress"], "`compress`"),
            (&["gzip", "x-compress"], "`x-compress`"),
            (&["gzip;q=1"], "`gzip;q=1`"),
            (&["gzip br"], "`gzip br`"),
            (&["Br\u{e9}"], "`Br\u{e9}`"),
            (
                &["gzip,gzip,gzip", "gzip,gzip"],
                "`gzip,gzip,gzip, gzip,gzip`",
            ),
        ] {
            let error = decoded(codings, b"", 1).unwrap_err();
            let message = format!("the answer's content coding {named} is not understood");
            assert_eq!((error.kind(), error.to_string()), (Kind::NotAPage, message));
            assert!(error.action().unwrap().contains("gateway or proxy"));
        }
    }
}
