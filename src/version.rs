//! Which build this is.

use std::sync::LazyLock;

/// The version, and the commit that the build has named in the variable `COLLECTOR_REVISION`, as in `0.1.0 (3045d09a)`.
pub static VERSION: LazyLock<String> = LazyLock::new(|| of(option_env!("COLLECTOR_REVISION")));

fn of(revision: Option<&str>) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match revision {
        None | Some("" | "unknown") => version.to_owned(),
        Some(revision) => format!("{version} ({revision})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_that_knows_no_commit_names_none() {
        for unknown in [None, Some(""), Some("unknown")] {
            assert_eq!(of(unknown), env!("CARGO_PKG_VERSION"));
        }
        assert!(of(Some("3045d09a")).ends_with(" (3045d09a)"));
    }
}
