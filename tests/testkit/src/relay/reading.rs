//! What a relay has read: records, lines, violations, and how each connection went.

use std::fs::File;
use std::io::{self, BufRead as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::behaviour::Behaviour;
use super::line::{Format, Line, Message, check};
use crate::records::Records;
use crate::report::Report;

/// How a connection ended, as the relay saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It has not.
    Open,
    /// Never began: refused, or the handshake failed, which the text says.
    NoHandshake(String),
    /// The client ended first, with `close_notify`.
    ClientClosed,
    /// The client ended first, without `close_notify`.
    ClientCut,
    /// A reset or a broken TLS record, which the text says.
    Failed(String),
    /// The relay ended it.
    RelayClosed,
}

/// One connection.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What the relay was told to do.
    pub behaviour: Behaviour,
    /// It is for the collector's own messages.
    pub messages: bool,
    /// Lines read to their end, without messages.
    pub lines: u64,
    /// Bytes read, after decryption and unpacking.
    pub bytes: u64,
    /// The lines came as gzip.
    pub gzip: bool,
    /// Bytes of a line that never ended.
    pub partial: u64,
    /// How it ended.
    pub end: End,
    /// The version of TLS.
    pub tls: Option<&'static str>,
    /// The server name that the client asked for.
    pub server_name: Option<String>,
}

/// What can be listened to.
#[derive(Debug)]
pub enum Event<'a> {
    /// A line in format.
    Line {
        /// Its report.
        report: Report,
        /// The line, without its end.
        text: &'a str,
    },
    /// A line out of format, or the beginning of it.
    Violation(&'a str),
    /// The end of a connection.
    Ended(&'a Connection),
}

/// Who is told of events.
pub type Listener = Box<dyn FnMut(&Event<'_>) + Send>;

/// All that was read.
pub(crate) struct Reading {
    format: Format,
    keep_lines: bool,
    records: Records,
    count: u64,
    lines: Vec<String>,
    messages: Vec<Message>,
    violations: Vec<String>,
    connections: Vec<Connection>,
    ledger: Option<File>,
    listener: Option<Listener>,
}

impl Reading {
    pub(crate) fn new(format: Format, keep_lines: bool, ledger: Option<&Path>) -> Result<Reading> {
        let open = |path: &Path| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .with_context(|| format!("cannot open {}", path.display()))
        };
        Ok(Reading {
            format,
            keep_lines,
            records: Records::default(),
            count: 0,
            lines: Vec::new(),
            messages: Vec::new(),
            violations: Vec::new(),
            connections: Vec::new(),
            ledger: ledger.map(open).transpose()?,
            listener: None,
        })
    }

    /// Notes a new connection; its number is what the rest is noted under.
    pub(crate) fn begin(&mut self, behaviour: Behaviour, messages: bool) -> usize {
        self.connections.push(Connection {
            behaviour,
            messages,
            lines: 0,
            bytes: 0,
            gzip: false,
            partial: 0,
            end: End::Open,
            tls: None,
            server_name: None,
        });
        self.connections.len() - 1
    }

    pub(crate) fn handshake(
        &mut self,
        connection: usize,
        tls: Option<&'static str>,
        server_name: Option<&str>,
    ) {
        self.connections[connection].tls = tls;
        self.connections[connection].server_name = server_name.map(str::to_owned);
    }

    pub(crate) fn gzip(&mut self, connection: usize) {
        self.connections[connection].gzip = true;
    }

    /// Notes bytes; `tail` holds the beginning of a line from one call to the next.
    pub(crate) fn read(&mut self, connection: usize, bytes: &[u8], tail: &mut Vec<u8>) {
        self.connections[connection].bytes += bytes.len() as u64;
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            tail.extend_from_slice(bytes);
            return;
        };
        tail.extend_from_slice(&bytes[..=end]);
        let whole = std::mem::replace(tail, bytes[end + 1..].to_vec());
        if let Some(ledger) = &mut self.ledger {
            // Without the ledger a killed relay's reading is lost, and a test would call that a loss of the collector's.
            if let Err(error) = ledger.write_all(&whole) {
                self.violations
                    .push(format!("the ledger cannot be written: {error}"));
            }
        }
        for line in whole.split_inclusive(|byte| *byte == b'\n') {
            self.line(connection, &line[..line.len() - 1]);
        }
    }

    fn line(&mut self, connection: usize, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let checked = check(self.format, line);
        if !matches!(checked, Ok(Line::Message(_))) {
            self.connections[connection].lines += 1;
            self.count += 1;
        }
        match checked {
            Ok(Line::Message(message)) => self.messages.push(message),
            Ok(Line::Record(report, identity)) => {
                self.records
                    .add(report, identity, self.keep_lines.then_some(&text));
                self.tell(&Event::Line {
                    report,
                    text: &text,
                });
                if self.keep_lines {
                    self.lines.push(text.into_owned());
                }
            }
            Err(violation) => {
                let start: String = text.chars().take(300).collect();
                self.violations.push(format!("{violation}: {start}"));
                self.tell(&Event::Violation(&violation));
            }
        }
    }

    pub(crate) fn end(&mut self, connection: usize, partial: usize, end: End) {
        self.connections[connection].partial = partial as u64;
        self.connections[connection].end = end;
        let ended = self.connections[connection].clone();
        if !ended.messages {
            self.tell(&Event::Ended(&ended));
        }
    }

    fn tell(&mut self, event: &Event<'_>) {
        if let Some(listener) = &mut self.listener {
            listener(event);
        }
    }

    pub(crate) fn on_event(&mut self, listener: Listener) {
        self.listener = Some(listener);
    }

    pub(crate) fn records(&self) -> &Records {
        &self.records
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn lines(&self) -> &[String] {
        &self.lines
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Those with messages, or the others.
    pub(crate) fn connections(&self, messages: bool) -> Vec<Connection> {
        let all = self.connections.iter();
        all.filter(|one| one.messages == messages)
            .cloned()
            .collect()
    }
}

/// Reads the ledger that a relay left behind: its records, without messages, and what violates the format. A last line without an end was
/// being written as the relay died, and does not count.
pub fn read_ledger(format: Format, path: &Path) -> Result<(Records, Vec<String>)> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut reader, mut line) = (io::BufReader::new(file), Vec::new());
    let (mut records, mut violations) = (Records::default(), Vec::new());
    while reader.read_until(b'\n', &mut line)? > 0 {
        if line.pop() == Some(b'\n') {
            match check(format, &line) {
                Ok(Line::Message(_)) => {}
                Ok(Line::Record(report, identity)) => {
                    records.add(report, identity, Some(&String::from_utf8_lossy(&line)));
                }
                Err(violation) => violations.push(violation),
            }
        }
        line.clear();
    }
    Ok((records, violations))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "<14>2026-11-22 14:40:52.290 h cloud.office365.reporting.dlp: {\"A\":1,\"@devo_pulling_id\":\"1\"}\n";

    #[test]
    fn only_lines_read_to_their_end_count() {
        let mut reading = Reading::new(Format::Devo, true, None).unwrap();
        let connection = reading.begin(Behaviour::Normal, false);
        let mut tail = Vec::new();
        let text = LINE.repeat(2);
        for bytes in text.as_bytes()[..text.len() - 1].chunks(7) {
            reading.read(connection, bytes, &mut tail);
        }
        assert_eq!((reading.count(), reading.records().total()), (1, 1));
        reading.end(connection, tail.len(), End::RelayClosed);
        let connection = &reading.connections(false)[0];
        assert_eq!(
            (connection.lines, connection.partial),
            (1, LINE.len() as u64 - 1)
        );
        assert!(reading.violations().is_empty());
    }

    #[test]
    fn a_ledger_tells_what_was_read_but_for_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger");
        let mut reading = Reading::new(Format::Devo, false, Some(&path)).unwrap();
        let connection = reading.begin(Behaviour::Normal, false);
        let mut tail = Vec::new();
        reading.read(
            connection,
            format!("{LINE}nonsense\n{LINE}torn").as_bytes(),
            &mut tail,
        );
        drop(reading);
        File::options()
            .append(true)
            .open(&path)
            .unwrap()
            .write_all(b"<14>torn")
            .unwrap();
        let (records, violations) = read_ledger(Format::Devo, &path).unwrap();
        assert_eq!((records.total(), violations.len()), (2, 1));
    }
}
