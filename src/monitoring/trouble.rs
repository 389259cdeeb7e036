//! The last thing that went wrong, and what to do about it.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::foreign::printable;

/// The last thing that went wrong.
#[derive(Clone, Debug, Serialize)]
pub struct Trouble {
    /// When.
    pub at: DateTime<Utc>,
    /// What, as the log says it.
    pub error: String,
    /// What a person can do about it.
    pub action: Option<String>,
    /// What failed has worked since.
    pub over: bool,
}

impl Trouble {
    pub(super) fn new(error: &str, action: Option<&str>) -> Self {
        Trouble {
            at: Utc::now(),
            error: printable(error).into_owned(),
            action: action.map(|action| printable(action).into_owned()),
            over: false,
        }
    }
}
