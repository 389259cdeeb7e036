//! Signals, from the first moment of the process on; and nobody reading what it prints.
//!
//! Every signal that would end a daemon stops it in order. SIGHUP has the configuration read again. SIGPIPE is ignored, as in every Rust
//! program; so are those that would end or suspend the process where a call can fail instead: at the limit of a file's size, and at a terminal
//! that belongs to another process.
//!
//! A thread waits for signals, and not the runtime: it ends the process if the runtime does not within its time, whatever that hangs in.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

use libc::{SIGPWR, SIGRTMAX, SIGRTMIN, SIGSTKFLT};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use signal_hook::consts::{
    SIGALRM, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGXCPU,
};
use signal_hook::iterator::Signals;
use signal_hook::{flag, low_level};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Signals whose default is to end the process, without those of faults in the program and of failing calls.
const ENDING: [i32; 12] = [
    SIGTERM, SIGINT, SIGQUIT, SIGALRM, SIGUSR1, SIGUSR2, SIGVTALRM, SIGPROF, SIGIO, SIGXCPU,
    SIGPWR, SIGSTKFLT,
];

/// How long the process may take to stop in order before it is ended. The services' grace and all that follows it take less.
const END: Duration = Duration::from_millis(8500);

/// How often it is looked whether anybody reads.
const LOOK: Duration = Duration::from_millis(200);

/// Signals that are held back until it is known what the process does.
#[must_use]
pub struct Held(SigSet);

/// Holds all signals back. To be called first of all, while there is one thread.
pub fn hold() -> Held {
    // Setting a mask cannot fail.
    let before = SigSet::thread_get_mask().unwrap_or_else(|_| SigSet::empty());
    let _ = SigSet::all().thread_block();
    Held(before)
}

impl Held {
    /// Lets signals have their default effect, for commands that end soon.
    pub fn release(self) {
        let _ = self.0.thread_set_mask();
    }

    /// Has a signal that ends the process do so at once and with status 0, since nothing has begun yet: until [`Early::watch`].
    ///
    /// # Errors
    ///
    /// The system refuses the handlers.
    pub fn end_at_once(self) -> io::Result<Early> {
        let early = Arc::new(AtomicBool::new(true));
        for signal in ending() {
            flag::register_conditional_shutdown(signal, 0, Arc::clone(&early))?;
        }
        flag::register(SIGHUP, Arc::default())?;
        let mut mask = self.0;
        // A blocked signal is as good as an ignored one where the system asks whether to fail the call or to suspend the process.
        mask.extend([Signal::SIGXFSZ, Signal::SIGTTOU, Signal::SIGTTIN]);
        mask.thread_set_mask()?;
        Ok(Early(early))
    }
}

/// All that end the process, with those that have no name.
fn ending() -> impl Iterator<Item = i32> {
    ENDING.into_iter().chain(SIGRTMIN()..=SIGRTMAX())
}

/// Nothing has begun that would have to be stopped in order.
pub struct Early(Arc<AtomicBool>);

impl Early {
    /// Has signals stop the process in order from now on. May be repeated after an error.
    ///
    /// # Errors
    ///
    /// The system gives no thread, or no socket for its waking.
    pub fn watch(&self) -> io::Result<Stop> {
        let signals = Signals::new(ending().chain([SIGHUP]))?;
        let (early, stop) = (Arc::clone(&self.0), Stop::default());
        let told = stop.clone();
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || {
            early.store(false, Ordering::SeqCst);
            watch(signals, &told);
        })?;
        Ok(stop)
    }
}

/// What the thread does.
fn watch(mut signals: Signals, stop: &Stop) {
    for signal in signals.forever() {
        if signal == SIGHUP {
            stop.hangup.notify_one();
            continue;
        }
        stop.signal.store(signal, Ordering::SeqCst);
        stop.token.cancel();
        // Nothing that could wait for memory, a lock or a reader comes before the end.
        thread::sleep(END);
        low_level::exit(1);
    }
}

/// Whether a signal has told the process to stop. Clones share it.
#[derive(Clone, Default)]
pub struct Stop {
    token: CancellationToken,
    signal: Arc<AtomicI32>,
    hangup: Arc<Notify>,
}

impl Stop {
    /// Resolves when the process is to stop.
    pub async fn wait(&self) {
        self.token.cancelled().await;
        let signal = self.signal.load(Ordering::SeqCst);
        let name = low_level::signal_name(signal).map_or_else(|| signal.to_string(), str::to_owned);
        info!(signal = name, "told to stop");
    }

    /// Is notified of each SIGHUP.
    pub fn hangup(&self) -> Arc<Notify> {
        Arc::clone(&self.hangup)
    }
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
