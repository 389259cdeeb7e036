//! What the process asks of the system at its start.

use std::fs::File;
use std::io;
use std::sync::RwLock;
use std::thread;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{debug, info, warn};

/// Files and sockets that the runtime opens at its start, where it would panic without, and as many for the first steps after it.
const FILES: usize = 16;

/// The time before what the system has refused is tried for again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps the process's memory, in which secrets are, from being written to disk or read by other processes of the same user.
///
/// To be called again after the process has become another user, which changes this.
pub fn forbid_core_dumps() {
    // Neither can fail for a process that asks it for itself and lowers a limit.
    let _ = prctl::set_dumpable(false);
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// Raises the number of files and sockets that may be open to the most that is allowed. Nothing here is slower with more of them.
pub fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| (soft, hard))
    });
    match raised {
        Ok((soft, hard)) => debug!(from = soft, to = hard, "limit of open files"),
        Err(error) => debug!(%error, "the limit of open files stays as it is"),
    }
}

/// How many files and sockets may be open, once [`raise_open_files`] has raised that; `None` if the system does not tell.
pub fn open_files_allowed() -> Option<u64> {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).ok()?;
    Some(soft)
}

/// Waits until the system gives the files and the `threads` that nothing works without, and then `start` succeeds.
pub fn wait_for_resources<T>(threads: usize, mut start: impl FnMut() -> io::Result<T>) -> T {
    let mut refused = false;
    loop {
        let tried = try_files().and_then(|()| try_threads(threads));
        match tried.and_then(|()| start()) {
            Ok(started) => {
                if refused {
                    info!("the system gives what it has refused: starting");
                }
                return started;
            }
            Err(error) if !refused => {
                refused = true;
                warn!(
                    %error,
                    "the system refuses files or threads; the collector waits and starts when it gives them: raise the limits (`ulimit -n`, \
                     `ulimit -u`, `--pids-limit`, `TasksMax`) or free memory"
                );
            }
            Err(error) => debug!(%error, "the system still refuses"),
        }
        thread::sleep(RETRY);
    }
}

/// Opens so many files at once.
fn try_files() -> io::Result<()> {
    // The root folder is there in every container.
    let files: io::Result<Vec<File>> = (0..FILES).map(|_| File::open("/")).collect();
    files.map(drop)
}

/// Has so many threads at once.
fn try_threads(threads: usize) -> io::Result<()> {
    let gate = RwLock::new(());
    let closed = gate.write();
    thread::scope(|scope| {
        let wait = || drop(gate.read());
        let mut each = 0..threads;
        let started = each.try_for_each(|_| {
            let thread = thread::Builder::new().spawn_scoped(scope, wait);
            thread.map(drop)
        });
        drop(closed);
        started
    })
}
