//! What the reporting service says when it no longer has message trace. How it refuses is not known; all of these have to be expected.

use super::reply::{LIGHT, Reply};

/// What the cmdlet underneath says, as seen.
pub const DEPRECATION: &str = "Get-MessageTrace will start deprecating on September 1st, 2025. Please refer to: \
                               https://learn.microsoft.com/exchange/monitoring/trace-an-email-message to switch to Get-MessageTraceV2.";

/// What answers a request for message trace that would be served otherwise. The other reports go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// This status, also 200, with an `OData` error that says [`DEPRECATION`].
    Text {
        /// The status: 400, 403, 404 or 500, and 200.
        status: u16,
    },
    /// This status without a body.
    Bare {
        /// The status: 400, 403, 404 or 500.
        status: u16,
    },
    /// An empty result, whatever there is.
    Empty,
    /// The report does not exist, as for a tenant that never had it: 404 with the web server's page.
    NeverHad,
}

impl Retirement {
    /// The answer; none where it is a page without rows.
    pub(crate) fn reply(self) -> Option<Reply> {
        match self {
            Retirement::Text { status } => Some(Reply::odata(status, DEPRECATION)),
            Retirement::Bare { status } => Some(Reply::new(status, LIGHT, "")),
            Retirement::Empty => None,
            Retirement::NeverHad => Some(Reply::iis(404, "File or directory not found.")),
        }
    }
}
