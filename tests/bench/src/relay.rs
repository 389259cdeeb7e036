//! A relay that does as little as can be done and still know that every row came exactly once: mutual TLS, lines counted, the
//! numbers in them summed, the half-close answered.

use std::io::{BufRead as _, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use memchr::{memchr, memchr_iter, memmem};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::rows::{id, mix};
use crate::tls::Stream;

/// What a set of lines comes to, in whatever order they came. Two sets that differ agree in all of it with a chance of about one in 2^128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines.
    pub lines: u64,
    /// Lines without a row's number, and unfinished ones.
    pub odd: u64,
    sum: u64,
    mixed: u64,
}

impl Tally {
    /// What the first rows of each of these reports come to.
    pub fn of(reports: impl IntoIterator<Item = u64>, rows: u64) -> Tally {
        let mut tally = Tally::default();
        for report in reports {
            for row in 0..rows {
                tally.add(id(report, row));
            }
        }
        tally
    }

    fn add(&mut self, id: u64) {
        self.lines += 1;
        self.sum = self.sum.wrapping_add(id);
        self.mixed = self.mixed.wrapping_add(mix(id ^ 0x9e37_79b9_7f4a_7c15));
    }

    fn line(&mut self, line: &[u8]) {
        match number(line) {
            Some(id) => self.add(id),
            None if is_message(line) => {}
            None => self.odd += 1,
        }
    }

    fn merge(&mut self, other: Tally) {
        self.lines += other.lines;
        self.odd += other.odd;
        self.sum = self.sum.wrapping_add(other.sum);
        self.mixed = self.mixed.wrapping_add(other.mixed);
    }
}

/// Whether the line is none of a row but a message of the collector's own.
fn is_message(line: &[u8]) -> bool {
    let content = memchr(b'{', line).unwrap_or(line.len());
    memmem::find(&line[..content], b" devo.collectors.out.").is_some()
}

/// The number in a row's `MessageId`, however its JSON is laid out: the 16 digits behind the first `<` of the row.
fn number(line: &[u8]) -> Option<u64> {
    let row = &line[memchr(b'{', line)?..];
    if !matches!(row.last(), Some(b'}')) {
        return None;
    }
    let digits = row.get(memchr(b'<', row)? + 1..)?.get(..16)?;
    digits.iter().try_fold(0, |number, digit| {
        Some(number << 4 | u64::from(char::from(*digit).to_digit(16)?))
    })
}

/// A running relay, until the process ends.
pub struct Relay {
    state: Arc<Mutex<State>>,
    port: u16,
}

#[derive(Default)]
struct State {
    tally: Tally,
    connections: usize,
}

impl Relay {
    /// Listens on loopback.
    pub fn start(config: Arc<ServerConfig>) -> Result<Relay> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let state = Arc::<Mutex<State>>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                lock(&shared).connections += 1;
                let (config, state) = (Arc::clone(&config), Arc::clone(&shared));
                thread::spawn(move || {
                    // An error is a client that has gone; what it left out, the tally tells.
                    let _ = read(stream, config, &state);
                    lock(&state).connections -= 1;
                });
            }
        });
        Ok(Relay { state, port })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Counts from nothing again.
    pub fn forget(&self) {
        lock(&self.state).tally = Tally::default();
    }

    /// What was read so far.
    pub fn tally(&self) -> Tally {
        lock(&self.state).tally
    }

    /// What was read, once nobody is connected any more or `patience` is over.
    pub fn settled(&self, patience: Duration) -> Tally {
        let begun = std::time::Instant::now();
        while lock(&self.state).connections > 0 && begun.elapsed() < patience {
            thread::sleep(Duration::from_millis(2));
        }
        self.tally()
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn read(stream: TcpStream, config: Arc<ServerConfig>, state: &Mutex<State>) -> Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut tail = Vec::new();
    loop {
        // The end without close_notify is an end as well: Devo's own sender says no more.
        let chunk = stream.fill_buf().unwrap_or_default();
        if chunk.is_empty() {
            break;
        }
        let tally = lines(chunk, &mut tail);
        let length = chunk.len();
        stream.consume(length);
        lock(state).tally.merge(tally);
    }
    lock(state).tally.odd += u64::from(!tail.is_empty());
    close(stream)
}

/// Counts the lines that end in `chunk`; the beginning of one more stays in `tail`.
fn lines(chunk: &[u8], tail: &mut Vec<u8>) -> Tally {
    let (mut tally, mut start) = (Tally::default(), 0);
    for end in memchr_iter(b'\n', chunk) {
        if tail.is_empty() {
            tally.line(&chunk[start..end]);
        } else {
            tail.extend_from_slice(&chunk[start..end]);
            tally.line(tail);
            tail.clear();
        }
        start = end + 1;
    }
    tail.extend_from_slice(&chunk[start..]);
    tally
}

/// Answers the client's end, once its stream has ended below TLS too: then nothing is unread.
fn close(mut stream: Stream) -> Result<()> {
    stream.sock.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)?;
    while stream.sock.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(report: u64, row: u64, space: &str) -> String {
        let id = id(report, row);
        format!("<14>2026 h t: {{\"A\":{space}\"b\",\"MessageId\":{space}\"<{id:016x}@x>\"}}\n")
    }

    #[test]
    fn each_row_exactly_once_and_nothing_else_makes_the_tally() {
        let read = |text: &str, piece: usize| {
            let (mut tally, mut tail) = (Tally::default(), Vec::new());
            for chunk in text.as_bytes().chunks(piece) {
                tally.merge(lines(chunk, &mut tail));
            }
            tally
        };
        let all: Vec<String> = (0..9).rev().map(|row| line(2, row, " ")).collect();
        let expected = Tally::of([2], 9);
        for piece in [1, 7, 64, 10_000] {
            assert_eq!(read(&all.concat(), piece), expected);
        }
        assert_ne!(read(&all[1..].concat(), 99), expected);
        assert_ne!(
            read(&[&all[..8], &all[..1]].concat().concat(), 99),
            expected
        );
        assert_ne!(read(&all.concat().replace('}', ""), 99), expected);
        assert_eq!(read("<14>no row\n", 99).odd, 1);
        let message = "<14>2026 h devo.collectors.out.local.info: {\"msg\": \"hello\"}\n";
        assert_eq!(
            read(&[message, &all.concat(), message].concat(), 99),
            expected
        );
        let row = "<14>2026 h t: {\"A\": \" devo.collectors.out.\"}\n";
        assert_eq!(read(row, 99).odd, 1);
    }
}
