//! PEM files that an input's configuration names.

use std::path::Path;

use anyhow::anyhow;

use crate::pem::{Pem, Problem};

/// Reads the PEM file that `parameter` names.
pub(super) fn read(parameter: &str, path: &Path) -> anyhow::Result<Pem> {
    Pem::read(path).map_err(|problem| unusable(parameter, path, &problem))
}

/// What is wrong with it, and what to do.
pub(super) fn unusable(parameter: &str, path: &Path, problem: &Problem) -> anyhow::Error {
    let action = problem.action(parameter, path);
    anyhow!(
        "`{parameter}`: cannot read {}: {problem}: {action}",
        path.display()
    )
}
