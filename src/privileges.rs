//! To be replaced.
use std::path::Path;
/// Says who may not do what.
pub fn explain_denied(path: &Path) -> String {
    format!("permission denied: {}", path.display())
}
