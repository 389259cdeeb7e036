//! HTTPS: the system's trust anchors, and those of `ca_bundle`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustls::{ClientConfig, RootCertStore};

use super::pem;

/// The TLS configuration of an input. `needed` tells whether HTTPS is used at all: only then must there be a trust anchor.
pub(super) fn config(ca_bundle: Option<&Path>, needed: bool) -> anyhow::Result<ClientConfig> {
    let system = System::recent();
    let roots = match ca_bundle {
        Some(path) => {
            let mut roots = RootCertStore::clone(&system.roots);
            add_bundle(&mut roots, path)?;
            Arc::new(roots)
        }
        None => Arc::clone(&system.roots),
    };
    if needed && roots.is_empty() {
        let reasons = &system.errors;
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

/// The system's trust anchors.
#[derive(Clone)]
struct System {
    roots: Arc<RootCertStore>,
    errors: Arc<[String]>,
}

/// For so long the system's trust anchors are not read again: of hundreds of inputs each needs them, and they are the same.
const RECENT: Duration = Duration::from_secs(10);

impl System {
    fn recent() -> Self {
        static LAST: Mutex<Option<(Instant, System)>> = Mutex::new(None);
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, system)) = &*last
            && read.elapsed() < RECENT
        {
            return system.clone();
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        let system = System {
            roots: Arc::new(roots),
            errors: found.errors.iter().map(ToString::to_string).collect(),
        };
        *last = Some((Instant::now(), system.clone()));
        system
    }
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
