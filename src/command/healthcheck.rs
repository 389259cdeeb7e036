//! Asks a running collector how it is: for Docker's HEALTHCHECK, in an image without a shell.

use anyhow::{Result, bail};
use hyper::StatusCode;

use super::visit::Visit;
use crate::config::Listen;
use crate::web::Identity;

/// Asks the collector that listens there whether it makes progress; `wanted` is which one that has to be, if it is known.
///
/// # Errors
///
/// It does not, does not answer, or is another one: the error says why, a line for each service concerned.
pub async fn healthcheck(listen: Listen, wanted: Option<Identity>) -> Result<()> {
    let (status, answer) = Visit::to(listen, wanted)?.read("/healthz").await?;
    if status != StatusCode::OK {
        bail!("{}", answer.trim_end());
    }
    Ok(())
}
