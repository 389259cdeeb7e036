//! Threads for work that blocks: the disk, certificate files, standard output, the system's resolver.
//!
//! Guarantees: work is never refused and nothing panics where the system gives no thread. A pool starts its first thread early, adds more while
//! all of its threads are busy, and never ends one; if the system refuses a thread, the work waits for one that there is, or until one can be
//! started. What one pool waits for does not hold up another: a name server that does not answer delays no write to the disk.
//!
//! Tokio's own blocking pool is not used: its `spawn_blocking` panics if its first thread cannot be started, and its threads end after ten
//! seconds without work, so that almost every use starts its first thread again.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{info, warn};

/// Reads and writes of the ledger.
pub(crate) static DISK: Pool = Pool::new("disk", 4);

/// Reads of certificates and keys, which may lie on another file system than the ledger.
pub(crate) static FILES: Pool = Pool::new("files", 2);

/// Writes to standard output: one thread, so that chunks do not mix.
pub(crate) static OUTPUT: Pool = Pool::new("output", 1);

/// Look-ups of names. One may take half a minute, and is not interrupted when its caller gives up.
static NAMES: Pool = Pool::new("names", 16);

/// The time before a thread that the system refused is tried for again.
const RETRY: Duration = Duration::from_secs(1);

/// Whether the system has refused a thread and has given none since: told once for all pools.
static REFUSED: AtomicBool = AtomicBool::new(false);

type Work = Box<dyn FnOnce() + Send>;

/// A set of threads that grows to a bound.
pub(crate) struct Pool {
    name: &'static str,
    threads_max: usize,
    state: Mutex<State>,
    work: Condvar,
}

struct State {
    queue: VecDeque<Work>,
    threads: usize,
    idle: usize,
    /// The last thread was refused.
    refused: bool,
}

/// Starts the first thread of each pool that every collector needs. Where the system refuses, the pool tries again when it has work.
pub fn start() {
    for pool in [&DISK, &FILES, &NAMES] {
        pool.grow();
    }
}

/// The addresses of a host, which may be written as an address.
///
/// # Errors
///
/// The name cannot be resolved.
pub(crate) async fn resolve(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let host = host.to_owned();
    NAMES
        .run(move || Ok((host.as_str(), port).to_socket_addrs()?.collect()))
        .await
}

impl Pool {
    const fn new(name: &'static str, threads_max: usize) -> Self {
        Pool {
            name,
            threads_max,
            state: Mutex::new(State {
                queue: VecDeque::new(),
                threads: 0,
                idle: 0,
                refused: false,
            }),
            work: Condvar::new(),
        }
    }

    /// Does `work` on one of the threads. If the caller stops waiting before a thread takes the work, it is not done.
    pub(crate) async fn run<R: Send + 'static>(
        &'static self,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> R {
        let (reply, result) = oneshot::channel::<Result<R, Box<dyn Any + Send>>>();
        self.submit(Box::new(move || {
            if !reply.is_closed() {
                // The caller may stop waiting meanwhile.
                let _ = reply.send(catch_unwind(AssertUnwindSafe(work)));
            }
        }));
        let mut result = pin!(result);
        loop {
            tokio::select! {
                biased;
                result = &mut result => match result {
                    Ok(Ok(result)) => return result,
                    Ok(Err(panic)) => resume_unwind(panic),
                    // Work is dropped with the process only.
                    Err(_) => std::future::pending().await,
                },
                () = sleep(RETRY), if self.is_short() => self.grow(),
            }
        }
    }

    fn submit(&'static self, work: Work) {
        let busy = {
            let mut state = self.lock();
            state.queue.push_back(work);
            state.idle < state.queue.len()
        };
        if busy {
            self.grow();
        }
        self.work.notify_one();
    }

    /// Starts a thread, unless the pool has all that it may have.
    fn grow(&'static self) {
        let started = {
            let mut state = self.lock();
            if state.threads == self.threads_max {
                return;
            }
            let started = thread::Builder::new()
                .name(self.name.to_owned())
                .spawn(|| self.work());
            state.refused = started.is_err();
            state.threads += usize::from(started.is_ok());
            started
        };
        match started {
            Ok(_) => {
                if REFUSED.swap(false, Ordering::Relaxed) {
                    info!("the system gives threads again");
                }
            }
            Err(error) => {
                if !REFUSED.swap(true, Ordering::Relaxed) {
                    warn!(
                        %error, pool = self.name,
                        "the system gives no thread; what needs one waits, and nothing is lost: raise the limit of processes (`ulimit -u`, \
                         `--pids-limit`, `TasksMax`) or free memory"
                    );
                }
            }
        }
    }

    /// Whether work waits for a thread that the system has refused.
    fn is_short(&self) -> bool {
        let state = self.lock();
        state.refused && !state.queue.is_empty()
    }

    /// What each thread does.
    fn work(&self) {
        loop {
            let work = {
                let mut state = self.lock();
                state.idle += 1;
                while state.queue.is_empty() {
                    let woken = self.work.wait(state);
                    state = woken.unwrap_or_else(PoisonError::into_inner);
                }
                state.idle -= 1;
                state.queue.pop_front()
            };
            if let Some(work) = work {
                work();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No panic is possible while it is locked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn work_waits_for_a_thread_and_a_panic_reaches_the_caller() {
        static POOL: Pool = Pool::new("test", 2);
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let waits = POOL.run(move || held.lock().unwrap().recv().unwrap());
        let waits = tokio::spawn(waits);
        assert_eq!(POOL.run(|| 1).await, 1);
        let panics = tokio::spawn(POOL.run(|| panic!("on purpose")));
        let error: Result<(), _> = panics.await;
        assert!(error.unwrap_err().is_panic());
        assert_eq!(POOL.run(|| 2).await, 2);
        assert!(POOL.lock().threads <= 2);
        release.send(()).unwrap();
        waits.await.unwrap();
    }

    #[tokio::test]
    async fn work_whose_caller_has_gone_before_it_begins_is_not_done() {
        static POOL: Pool = Pool::new("test", 1);
        let (release, held) = mpsc::channel::<()>();
        let held = Mutex::new(held);
        let first = tokio::spawn(POOL.run(move || held.lock().unwrap().recv().unwrap()));
        let (done, was_done) = mpsc::channel();
        let second = tokio::spawn(POOL.run(move || done.send(()).unwrap()));
        while POOL.lock().queue.is_empty() {
            tokio::task::yield_now().await;
        }
        second.abort();
        assert!(second.await.unwrap_err().is_cancelled());
        release.send(()).unwrap();
        first.await.unwrap();
        // The queue is in order, so that the second one's turn is over.
        POOL.run(|| {}).await;
        assert!(was_done.try_recv().is_err());
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        let resolved = resolve("192.0.2.1", 5).await.unwrap();
        assert_eq!(resolved, ["192.0.2.1:5".parse().unwrap()]);
        let resolved = resolve("::1", 5).await.unwrap();
        assert_eq!(resolved, ["[::1]:5".parse().unwrap()]);
        assert!(!resolve("localhost", 5).await.unwrap().is_empty());
    }
}
