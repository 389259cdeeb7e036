//! What stops the collector: two signals as one future, and nobody reading what it prints.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::signal::unix::{SignalKind, signal};

/// How often it is looked whether anybody reads.
const LOOK: Duration = Duration::from_millis(200);

/// Resolves at the first SIGINT or SIGTERM.
///
/// # Errors
///
/// If the system refuses the handlers.
pub fn stop() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Resolves when standard output is a pipe that nobody reads any more, as behind `| head`.
pub async fn nobody_reads() {
    let gone = || {
        let output = std::io::stdout();
        let mut output = [PollFd::new(output.as_fd(), PollFlags::empty())];
        let polled = poll(&mut output, PollTimeout::ZERO);
        let events = output[0].revents().unwrap_or(PollFlags::empty());
        polled.is_ok() && events.contains(PollFlags::POLLERR)
    };
    while !gone() {
        tokio::time::sleep(LOOK).await;
    }
}
