//! HTTPS: the system's trust anchors, and those of `ca_bundle`.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::{ClientConfig, RootCertStore};

use super::pem;

/// The TLS configuration of an input. `needed` tells whether HTTPS is used at all: only then must there be a trust anchor.
pub(super) fn config(ca_bundle: Option<&Path>, needed: bool) -> anyhow::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_bundle {
        add_bundle(&mut roots, path)?;
    }
    if needed && roots.is_empty() {
        let reasons: Vec<String> = system.errors.iter().map(ToString::to_string).collect();
        bail!(
            "HTTPS needs a trust anchor, and this system has none ({}): install its CA certificates (package \
             `ca-certificates`), or name a PEM file of them in `ca_bundle`",
            if reasons.is_empty() {
                "no store found".to_owned()
            } else {
                reasons.join("; ")
            },
        );
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot set TLS up")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_bundle(roots: &mut RootCertStore, path: &Path) -> anyhow::Result<()> {
    let certificates = pem::read("ca_bundle", path)?
        .certificates()
        .map_err(|problem| pem::unusable("ca_bundle", path, &problem))?;
    for (certificate, number) in certificates.into_iter().zip(1..) {
        roots.add(certificate).with_context(|| {
            format!(
                "`ca_bundle`: certificate {number} in {} cannot be used",
                path.display()
            )
        })?;
    }
    Ok(())
}
