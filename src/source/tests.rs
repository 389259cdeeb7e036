//! The client against small servers on loopback, whose answers are written out byte by byte.

mod answers;
mod directory;
mod foreign;
mod https;
mod sign_in;
mod walk;

use std::io::Write;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

use url::Url;

use super::http::BODY_MAX_BYTES;
use super::*;
use crate::config::{Credentials, Input};
use crate::record::Fingerprinter;

/// In the place of an answer: there is none, and the connection stays open.
const SILENCE: &[u8] = b"silence";

const TOKEN_PATH: &str = "/tenant/oauth2/v2.0/token";

fn fingerprinter() -> Fingerprinter {
    Fingerprinter::new(&[7; 16], query().report.times)
}

/// A server that answers each request by a function of it and of how many came before; never, if that is [`SILENCE`].
struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    async fn start<F>(answer: F) -> Self
    where
        F: Fn(&str, usize) -> Vec<u8> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<String>>>::default();
        let (seen, answer) = (Arc::clone(&requests), Arc::new(answer));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (seen, answer) = (Arc::clone(&seen), Arc::clone(&answer));
                tokio::spawn(async move { exchange(stream, &seen, &*answer).await });
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn count(&self, part: &str) -> usize {
        let requests = self.requests();
        requests
            .iter()
            .filter(|request| request.contains(part))
            .count()
    }

    /// Waits until so many requests hold `part`.
    async fn until(&self, part: &str, count: usize) {
        while self.count(part) < count {
            tokio::task::yield_now().await;
        }
    }

    fn url(&self, path: &str) -> Url {
        format!("http://{}{path}", self.address).parse().unwrap()
    }

    fn client(&self, credentials: Credentials) -> Client {
        Client::new(&self.input(credentials)).unwrap()
    }

    fn input(&self, credentials: Credentials) -> Input {
        Input {
            name: "exchange".to_owned(),
            id: "1".to_owned(),
            credentials,
            requests_per_second: NonZeroU32::new(100_000).unwrap(),
            requests_limits: Vec::new(),
            concurrent_requests: 4,
            environment: None,
            base_url: self.url("/ecp/reportingwebservice/reporting.svc/"),
            authority_url: self.url("/"),
            scope: "https://outlook.office365.com/.default".to_owned(),
            graph: None,
            graph_requests: NonZeroU32::MIN,
            ca_bundle: None,
            file: None,
            outputs: vec![],
            services: Vec::new(),
        }
    }
}

/// Reads one request, records it, answers it and closes.
async fn exchange<S>(
    mut stream: S,
    seen: &Mutex<Vec<String>>,
    answer: &(dyn Fn(&str, usize) -> Vec<u8> + Sync),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = Vec::new();
    while !is_whole(&request) {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    let request = String::from_utf8(request).unwrap();
    let before = {
        let mut seen = seen.lock().unwrap();
        seen.push(request.clone());
        seen.len() - 1
    };
    let answer = answer(&request, before);
    if answer == SILENCE {
        std::future::pending::<()>().await;
    }
    // The client may well hang up before the end.
    stream.write_all(&answer).await.ok();
    stream.shutdown().await.ok();
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse().unwrap())
    });
    body.len() >= length.unwrap_or(0)
}

/// An answer with a whole body.
fn answer(status: u16, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut answer = format!(
        "HTTP/1.1 {status} X\r\ndate: Tue, 07 May 2024 15:35:24 GMT\r\nconnection: close\r\nrequest-id: id-{status}\r\n{headers}content-length: {}\r\n\r\n",
        body.len(),
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

fn page(rows: &str, next: Option<&str>) -> Vec<u8> {
    let next = next.map(|next| format!(r#","odata.nextLink":"{next}""#));
    let body = format!(r#"{{"value":[{rows}]{}}}"#, next.unwrap_or_default());
    answer(200, "content-type: application/json\r\n", body)
}

fn token(serial: usize, expires_in: &str) -> Vec<u8> {
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"token{serial}"}}"#
    );
    answer(200, "", body)
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn basic() -> Credentials {
    Credentials::Basic {
        username: "user@example.com".to_owned(),
        password: "hush".into(),
    }
}

fn secret() -> Credentials {
    Credentials::Secret {
        tenant_id: "tenant".to_owned(),
        client_id: "client".to_owned(),
        client_secret: "hush".into(),
    }
}

fn query() -> Query {
    Query {
        report: Report::by_service("office365_reporting_MessageTrace_service").unwrap(),
        first: "2024-05-07T15:00:00Z".parse().unwrap(),
        last: "2024-05-07T15:59:59Z".parse().unwrap(),
        aggregate_by: None,
    }
}

/// Lets time pass on Tokio's clock, while nothing is under way.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// The one row of the walk's next page.
async fn row(walk: &mut Walk) -> String {
    let page = walk.next().await.unwrap().unwrap();
    let rows: Vec<_> = page
        .rows()
        .map(|row| String::from_utf8(row.to_vec()).unwrap())
        .collect();
    rows.join(" ")
}

async fn error(walk: &mut Walk) -> FetchError {
    let error = walk.next().await.unwrap_err();
    let shown = format!("{error:?} {error} {:?}", error.action());
    assert!(
        !shown.contains("hush") && !shown.contains("token1"),
        "{shown}"
    );
    error
}
