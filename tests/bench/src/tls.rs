//! TLS of the bench's two servers: the page server asks for no certificate, the relay for one.

use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A server's end of a connection.
pub(crate) type Stream = StreamOwned<ServerConnection, TcpStream>;

/// Reads `chain.crt`, `server.crt` and `server.key`. With `mutual` clients have to show a certificate of that chain.
pub(crate) fn server(folder: &Path, mutual: bool) -> Result<Arc<ServerConfig>> {
    let builder = ServerConfig::builder();
    let builder = if mutual {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(folder.join("chain.crt"))?)?;
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder(roots.into()).build()?)
    } else {
        builder.with_no_client_auth()
    };
    let certificate = CertificateDer::from_pem_file(folder.join("server.crt"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("server.key"))?;
    Ok(Arc::new(builder.with_single_cert(vec![certificate], key)?))
}
