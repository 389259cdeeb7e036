//! PEM files that the configuration names.

use std::path::Path;

use anyhow::{Context, bail};
use zeroize::Zeroizing;

/// No certificate or key file is longer: one that is, is not meant.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The text of the PEM file that `parameter` names, without a byte order mark. It is wiped when it goes: it may hold a key.
pub(super) fn read(parameter: &str, path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let context = || format!("`{parameter}`: cannot read {}", path.display());
    if std::fs::metadata(path).with_context(context)?.len() > FILE_MAX_BYTES {
        bail!(
            "`{parameter}`: {} is no PEM file: it is too large",
            path.display()
        );
    }
    let bytes = std::fs::read(path).with_context(context)?;
    let Ok(text) = String::from_utf8(bytes) else {
        bail!(
            "`{parameter}`: {} is no PEM file; a DER file becomes one by `openssl x509 -inform der` (certificates) or \
             `openssl pkey -inform der` (keys)",
            path.display(),
        );
    };
    let mut text = Zeroizing::new(text);
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}
