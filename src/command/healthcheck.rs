//! Asks a running collector how it is: for Docker's HEALTHCHECK, in an image without a shell.

use anyhow::{Result, bail};
use hyper::StatusCode;

use super::visit::Visit;
use crate::config::Listen;

/// Asks the collector that listens there whether it makes progress.
///
/// # Errors
///
/// It does not, or does not answer: the error says why, a line for each service concerned.
pub async fn healthcheck(listen: Listen) -> Result<()> {
    let (status, answer) = Visit::to(listen)?.read("/healthz").await?;
    if status != StatusCode::OK {
        bail!("{}", answer.trim_end());
    }
    Ok(())
}
