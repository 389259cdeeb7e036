//! What a walk tells about its requests while it makes them.

use std::time::Duration;

use reqwest::StatusCode;

use crate::source::limiter::Waited;

/// Takes note of the requests of a service.
pub trait Meter: Send + Sync {
    /// A request had its turn, after so long.
    fn waited(&self, waited: Waited);

    /// A request was answered, or was not (`None`), after `took`, body included.
    fn answered(&self, status: Option<StatusCode>, took: Duration);

    /// A page has come, of so many bytes once it was decompressed.
    fn received(&self, bytes: usize);
}
