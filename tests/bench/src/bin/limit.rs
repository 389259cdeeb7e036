//! The limit: the same pages through the same crates with nothing of the collector's: HTTPS read, one scan by `serde_json`, the same lines
//! in 48 KiB writes by rustls, the next page fetched meanwhile. No fingerprints, no ledger, no receipts, no answer to any error.
//!
//! `limit BASE_URL FROM TO SPAN RELAY_PORT CERTS`, times in seconds since 1970.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use chrono::DateTime;
use reqwest::{Client, Url};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Bytes of a write.
const CHUNK: usize = 48 << 10;
const PREFIX: &[u8] = b"<14>2026-11-22 14:40:52.290 bench cloud.office365.reporting.messagetrace: ";
const SUFFIX: &[u8] = b",\"@devo_pulling_id\": \"1795358452290\"}\n";

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    value: Vec<&'a RawValue>,
    #[serde(borrow, rename = "odata.nextLink")]
    next: Option<Cow<'a, str>>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [base, from, to, span, port, certs] = &arguments[..] else {
        bail!("usage: limit BASE_URL FROM TO SPAN RELAY_PORT CERTS");
    };
    let (from, to, span) = (from.parse()?, to.parse::<i64>()?, span.parse::<i64>()?);
    let certs = Path::new(certs);
    let mut windows = (from..to)
        .step_by(usize::try_from(span)?)
        .map(|start| window(base, start, to.min(start + span)));
    let http = http(certs)?;
    let mut relay = relay(certs, port.parse()?).await?;
    let mut chunk = Vec::with_capacity(CHUNK + 4096);
    let mut url = windows.next().context("no window")??;
    let mut body = fetch(&http, &url).await?;
    loop {
        let page: Page<'_> = serde_json::from_slice(&body)?;
        let following = match &page.next {
            Some(link) => Some(url.join(link)?),
            None => windows.next().transpose()?,
        };
        let write = write(&page, &mut relay, &mut chunk);
        let Some(following) = following else {
            write.await?;
            break;
        };
        let (written, fetched) = tokio::join!(write, fetch(&http, &following));
        written?;
        (body, url) = (fetched?, following);
    }
    relay.write_all(&chunk).await?;
    // close_notify and a half-close; then the relay's own end.
    relay.shutdown().await?;
    while relay.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

async fn write(
    page: &Page<'_>,
    relay: &mut TlsStream<TcpStream>,
    chunk: &mut Vec<u8>,
) -> Result<()> {
    for row in &page.value {
        let row = row.get().as_bytes();
        chunk.extend_from_slice(PREFIX);
        chunk.extend_from_slice(&row[..row.len() - 1]);
        chunk.extend_from_slice(SUFFIX);
        if chunk.len() >= CHUNK {
            relay.write_all(chunk).await?;
            chunk.clear();
        }
    }
    Ok(())
}

async fn fetch(http: &Client, url: &Url) -> Result<Vec<u8>> {
    let mut response = http.get(url.clone()).send().await?.error_for_status()?;
    let mut body = Vec::with_capacity(1 << 21);
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn window(base: &str, start: i64, end: i64) -> Result<Url> {
    let date = |time| -> Result<String> {
        let time = DateTime::from_timestamp(time, 0).context("no time")?;
        Ok(time.format("datetime'%Y-%m-%dT%H:%M:%SZ'").to_string())
    };
    let (start, end) = (date(start)?, date(end)?);
    Ok(Url::parse(&format!(
        "{base}MessageTrace?$filter=StartDate eq {start} and EndDate eq {end}"
    ))?)
}

fn roots(certs: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certs.join("chain.crt"))?)?;
    Ok(roots)
}

fn http(certs: &Path) -> Result<Client> {
    let config = ClientConfig::builder()
        .with_root_certificates(roots(certs)?)
        .with_no_client_auth();
    Ok(Client::builder()
        .tls_backend_preconfigured(config)
        .http1_only()
        .gzip(true)
        .no_proxy()
        .build()?)
}

async fn relay(certs: &Path, port: u16) -> Result<TlsStream<TcpStream>> {
    let certificate = CertificateDer::from_pem_file(certs.join("collector.crt"))?;
    let key = PrivateKeyDer::from_pem_file(certs.join("collector.key"))?;
    let config = ClientConfig::builder()
        .with_root_certificates(roots(certs)?)
        .with_client_auth_cert(vec![certificate], key)?;
    let stream = TcpStream::connect(("localhost", port)).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await?)
}
