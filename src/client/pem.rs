//! PEM files that the configuration names.

use std::path::Path;

use anyhow::{Context, bail};

/// No certificate or key file is longer: one that is, is not meant.
const FILE_MAX_BYTES: u64 = 4 * 1024 * 1024;

/// The text of the PEM file that `parameter` names, without a byte order mark.
pub(super) fn read(parameter: &str, path: &Path) -> anyhow::Result<String> {
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
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}
