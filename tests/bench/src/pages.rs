//! The reporting service as far as a drain needs it: HTTPS, windows by `$filter`, pages of 2000 rows by their links.
//!
//! It is to be no bottleneck: a thread a connection, pages stamped rather than rendered, gzip compressed beforehand. What it leaves out
//! (sign-in, faults, strictness) is `testkit`'s, where the collector is tested against it.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use chrono::{NaiveDateTime, Utc};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use testkit::report::{Aggregate, Report, Resolution};

use crate::gzip::Blocks;
use crate::rows::{Backlog, PAGE_BLOCKS, Templates};
use crate::tls;

/// The path of the service's root.
pub const ROOT: &str = "/ecp/reportingwebservice/reporting.svc/";

/// A head of a request is not longer.
const HEAD_MAX: usize = 16 << 10;

/// A page server, which runs until the process ends.
pub struct Pages {
    shared: Arc<Shared>,
    port: u16,
}

struct Shared {
    templates: Templates,
    backlog: Backlog,
    gzip: Option<Blocks>,
    first: Mutex<First>,
}

/// When somebody first came, since [`Pages::forget`].
#[derive(Clone, Copy, Debug, Default)]
pub struct First {
    /// The first connection.
    pub connection: Option<Instant>,
    /// The first request, read to its end.
    pub request: Option<Instant>,
}

impl Pages {
    /// Serves a backlog, the same for each report but for its rows' numbers. With `gzip` answers are compressed, to message traces only.
    pub fn start(config: Arc<ServerConfig>, backlog: Backlog, gzip: bool) -> Result<Pages> {
        let templates = Templates::default();
        let gzip = gzip
            .then(|| Blocks::new(&templates, &backlog, Report::MessageTrace as u64))
            .transpose()?;
        let shared = Arc::new(Shared {
            templates,
            backlog,
            gzip,
            first: Mutex::default(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot listen")?;
        let port = listener.local_addr()?.port();
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serving.first().connection.get_or_insert_with(Instant::now);
                let (config, shared) = (Arc::clone(&config), Arc::clone(&serving));
                // An error is a client that has gone, which the client's own verdict tells.
                thread::spawn(move || serve(stream, config, &shared));
            }
        });
        Ok(Pages { shared, port })
    }

    /// The address of the service's root.
    pub fn base_url(&self) -> String {
        format!("https://localhost:{}{ROOT}", self.port)
    }

    /// What is served.
    pub fn backlog(&self) -> Backlog {
        self.shared.backlog
    }

    /// Whether answers are compressed.
    pub fn is_gzip(&self) -> bool {
        self.shared.gzip.is_some()
    }

    /// Who comes next is the first.
    pub fn forget(&self) {
        *self.shared.first() = First::default();
    }

    /// When somebody first came.
    pub fn first(&self) -> First {
        *self.shared.first()
    }
}

impl Shared {
    fn first(&self) -> MutexGuard<'_, First> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends the answer to a request for `target`.
    fn answer(&self, target: &str, out: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<()> {
        body.clear();
        let compressed = self.page(target, body)?;
        let date = Utc::now().format("%a, %d %b %Y %H:%M:%S GMT");
        let encoding = if compressed {
            "Content-Encoding: gzip\r\n"
        } else {
            ""
        };
        out.clear();
        write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json;odata=minimalmetadata\r\nDate: {date}\r\n{encoding}Content-Length: {}\r\n\r\n",
            body.len()
        )?;
        Ok(())
    }

    /// Appends the page that is asked for; whether it is compressed.
    fn page(&self, target: &str, body: &mut Vec<u8>) -> Result<bool> {
        let asked = Asked::parse(target)?;
        let report = asked.report;
        let blocks = self.backlog.blocks(asked.first, asked.end);
        // Newest first, so pages are counted from the end.
        let end = blocks
            .end
            .saturating_sub(asked.page * PAGE_BLOCKS)
            .max(blocks.start);
        let first = end.saturating_sub(PAGE_BLOCKS).max(blocks.start);
        let head =
            format!(r#"{{"odata.metadata":"https://localhost{ROOT}$metadata#{report}","value":["#);
        let link = (end - first == PAGE_BLOCKS).then(|| {
            let rows = (asked.page + 1) * PAGE_BLOCKS * crate::rows::BLOCK_ROWS;
            format!(
                r#","odata.nextLink":"../../reportingwebservice/reporting.svc/{report}?{}&$skiptoken={}""#,
                asked.filter,
                rows - 1
            )
        });
        let tail = format!("]{}}}", link.unwrap_or_default());
        match &self.gzip {
            Some(gzip) if report == Report::MessageTrace => {
                gzip.append(head.as_bytes(), (first..end).rev(), tail.as_bytes(), body)?;
                Ok(true)
            }
            _ => {
                body.extend_from_slice(head.as_bytes());
                for block in (first..end).rev() {
                    self.templates
                        .append(&self.backlog, report as u64, block, body);
                    body.push(b',');
                }
                if first < end {
                    body.pop();
                }
                body.extend_from_slice(tail.as_bytes());
                Ok(false)
            }
        }
    }
}

/// What a request asks for.
struct Asked {
    report: Report,
    /// `[first, end)` in seconds.
    first: i64,
    end: i64,
    page: u64,
    /// As it came.
    filter: String,
}

impl Asked {
    fn parse(target: &str) -> Result<Asked> {
        let (path, query) = target.split_once('?').context("no query")?;
        let name = path.rsplit('/').next().unwrap_or_default();
        let report = Report::by_path(name).context("no such report")?;
        let plain = decoded(query);
        let date = |field: &str| -> Result<i64> {
            let (_, rest) = plain
                .split_once(&format!("{field} eq datetime'"))
                .context("no range")?;
            let text = rest.get(..20).context("no date")?;
            let date = NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%SZ")?;
            Ok(date.and_utc().timestamp())
        };
        let (start, end) = (date("StartDate")?, date("EndDate")?);
        let unit = report.resolution(Some(Aggregate::Hour));
        // No row is on a whole second, so that an inclusive end makes no difference to a report that filters at the instant.
        let (first, end) = if unit == Resolution::Instant {
            (start, end)
        } else {
            let unit = unit.seconds();
            (
                start - start.rem_euclid(unit),
                end - end.rem_euclid(unit) + unit,
            )
        };
        let token = plain
            .split('&')
            .find_map(|pair| pair.strip_prefix("$skiptoken="));
        let page = match token {
            Some(token) => (token.parse::<u64>()? + 1) / (PAGE_BLOCKS * crate::rows::BLOCK_ROWS),
            None => 0,
        };
        let filter = query.split('&').next().unwrap_or_default().to_owned();
        Ok(Asked {
            report,
            first,
            end,
            page,
            filter,
        })
    }
}

/// Without percent-encoding; what is not encoded soundly stays as it is.
fn decoded(query: &str) -> String {
    let mut parts = query.split('%');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let byte = part
            .get(..2)
            .and_then(|code| u8::from_str_radix(code, 16).ok());
        if let Some(byte) = byte.filter(u8::is_ascii) {
            plain.push(char::from(byte));
            plain += &part[2..];
        } else {
            plain.push('%');
            plain += part;
        }
    }
    plain
}

fn serve(stream: TcpStream, config: Arc<ServerConfig>, shared: &Shared) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let (mut read, mut head, mut body) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        let Some(target) = request(&mut stream, &mut read)? else {
            return Ok(());
        };
        shared.first().request.get_or_insert_with(Instant::now);
        shared.answer(&target, &mut head, &mut body)?;
        stream.write_all(&head)?;
        stream.write_all(&body)?;
        stream.flush()?;
    }
}

/// Reads a request without a body; its target, or none at the end of the connection. What came beyond it stays in `read`.
fn request(stream: &mut tls::Stream, read: &mut Vec<u8>) -> Result<Option<String>> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = memchr::memmem::find(read, b"\r\n\r\n") {
            let line = read.split(|byte| *byte == b'\r').next().unwrap_or_default();
            let line = str::from_utf8(line)?;
            let target = line
                .split(' ')
                .nth(1)
                .context("no request line")?
                .to_owned();
            read.drain(..end + 4);
            return Ok(Some(target));
        }
        ensure!(read.len() < HEAD_MAX, "the request's head is too long");
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(None),
            Ok(length) => read.extend_from_slice(&chunk[..length]),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows a window's links; the rows' `Index` is not looked at.
    fn walk(shared: &Shared, report: Report, first: &str, last: &str) -> Vec<serde_json::Value> {
        let mut target = format!(
            "{ROOT}{report}?$filter=StartDate%20eq%20datetime%27{first}%27%20and%20EndDate%20eq%20datetime%27{last}%27"
        );
        let mut rows = Vec::new();
        loop {
            let mut body = Vec::new();
            assert!(!shared.page(&target, &mut body).unwrap());
            let page: serde_json::Value = serde_json::from_slice(&body).unwrap();
            rows.extend(page["value"].as_array().unwrap().iter().cloned());
            match page["odata.nextLink"].as_str() {
                Some(link) => link.clone_into(&mut target),
                None => return rows,
            }
        }
    }

    #[test]
    fn a_walk_brings_the_rows_of_its_window_newest_first() {
        let shared = Shared {
            templates: Templates::default(),
            backlog: Backlog::before(1_700_006_400, 6_000, 1),
            gzip: None,
            first: Mutex::default(),
        };
        let received = |row: &serde_json::Value| row["Received"].as_str().unwrap().to_owned();
        let rows = walk(
            &shared,
            Report::MessageTrace,
            "2023-11-15T00:00:00Z",
            "2023-11-15T00:00:00Z",
        );
        assert!(rows.is_empty());
        let rows = walk(
            &shared,
            Report::MessageTrace,
            "2023-11-14T23:56:40Z",
            "2023-11-15T00:00:00Z",
        );
        assert_eq!(rows.len(), 4_000);
        assert!(rows.is_sorted_by(|one, next| received(one) > received(next)));
        let hour = walk(
            &shared,
            Report::DlpDetail,
            "2023-11-14T23:30:00Z",
            "2023-11-14T23:59:59Z",
        );
        assert_eq!(hour.len(), 6_000);
    }
}
