//! A plain HTTP client of the simulated service.

use chrono::{DateTime, Timelike as _, Utc};
use serde_json::Value;
use testkit::records::{Identity, Records};
use testkit::report::Report;
use testkit::service::{Access, Options, Service};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

const BASIC: &str = "Basic dTpw";

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let find = |line: &&str| line.to_lowercase().starts_with(&format!("{name}:"));
        self.headers
            .lines()
            .find(find)
            .map(|line| line[name.len() + 1..].trim())
    }
}

/// One request on a connection of its own; the body as it came, however the connection ended.
pub(crate) async fn get(url: &Url, headers: &str) -> std::io::Result<Answer> {
    request("GET", url, headers, "").await
}

/// A form posted on a connection of its own.
pub(crate) async fn post(url: &Url, form: &str) -> Answer {
    let length = format!("Content-Length: {}\r\n", form.len());
    request("POST", url, &length, form).await.unwrap()
}

async fn request(method: &str, url: &Url, headers: &str, body: &str) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(("127.0.0.1", url.port().unwrap())).await?;
    let target = &url[url::Position::BeforePath..];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes).await;
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Err(read
            .err()
            .unwrap_or_else(|| std::io::ErrorKind::UnexpectedEof.into()));
    };
    let headers = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = headers[9..12].parse().unwrap();
    let answer = Answer {
        status,
        headers,
        body: bytes[end + 4..].to_vec(),
    };
    let whole = answer
        .header("content-length")
        .is_none_or(|length| length.parse() == Ok(answer.body.len()));
    read?;
    if whole {
        Ok(answer)
    } else {
        Err(std::io::ErrorKind::UnexpectedEof.into())
    }
}

pub(crate) struct Client {
    pub(crate) service: Service,
    pub(crate) more: String,
}

impl Client {
    pub(crate) async fn new(options: Options) -> Client {
        let access = Access {
            basic: Some(("u".to_owned(), "p".to_owned())),
            ..Access::default()
        };
        let service = Service::start(Options { access, ..options }).await.unwrap();
        Client {
            service,
            more: String::new(),
        }
    }

    pub(crate) async fn page(&self, url: &Url) -> std::io::Result<Answer> {
        get(
            url,
            &format!(
                "Authorization: {BASIC}\r\nX-RWS-Version: 2013-V1\r\n{}",
                self.more
            ),
        )
        .await
    }

    /// An empty request for a token.
    pub(crate) async fn post(&self, url: &Url) -> Answer {
        post(url, "").await
    }

    pub(crate) fn url(&self, report: Report, start: DateTime<Utc>, end: DateTime<Utc>) -> Url {
        let date = |date: DateTime<Utc>| date.format("datetime'%Y-%m-%dT%H:%M:%SZ'").to_string();
        let by = if report.is_traffic() {
            " and AggregateBy eq 'Hour'"
        } else {
            ""
        };
        let filter = format!(
            "StartDate eq {} and EndDate eq {}{by}",
            date(start),
            date(end)
        )
        .replace(' ', "%20");
        let mut url = Url::parse(&self.service.base_url())
            .unwrap()
            .join(report.path())
            .unwrap();
        url.set_query(Some(&format!("$filter={filter}")));
        url
    }

    pub(crate) async fn ask(
        &self,
        report: Report,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> Answer {
        self.page(&self.url(report, start, end)).await.unwrap()
    }

    /// The number of rows of each page, and all records.
    pub(crate) async fn walk(
        &self,
        report: Report,
        start: DateTime<Utc>,
        end: DateTime<Utc>,
    ) -> (Vec<usize>, Records) {
        let (mut url, mut pages, mut records) =
            (self.url(report, start, end), Vec::new(), Records::default());
        loop {
            let answer = self.page(&url).await.unwrap();
            assert_eq!(answer.status, 200, "{}", answer.text());
            let json = answer.json();
            let rows = json["value"]
                .as_array()
                .or_else(|| json["d"]["results"].as_array())
                .unwrap();
            for row in rows {
                assert_eq!(row["Index"], records.total());
                // A tree is enough to tell these rows apart, as the simulator's own ledger is not asked here.
                records.add(report, Identity::of(&row.to_string()).unwrap(), None);
            }
            pages.push(rows.len());
            match json["odata.nextLink"]
                .as_str()
                .or_else(|| json["d"]["__next"].as_str())
            {
                Some(link) => url = url.join(link).unwrap(),
                None => return (pages, records),
            }
        }
    }
}

/// The present, at a whole hour.
pub(crate) fn hour() -> DateTime<Utc> {
    Utc::now()
        .with_minute(0)
        .unwrap()
        .with_second(0)
        .unwrap()
        .with_nanosecond(0)
        .unwrap()
}
