//! Blocking work on the ledger, off the runtime's threads: a slow disk delays no other service.

use tokio::task::spawn_blocking;

/// A part of the ledger that leaves for another thread while something is done to it.
#[derive(Debug)]
pub(crate) struct OnDisk<T>(Option<T>);

impl<T: Send + 'static> OnDisk<T> {
    pub(crate) fn new(part: T) -> Self {
        OnDisk(Some(part))
    }

    /// Does `work` on a thread that may block. To be awaited to its end: the part is away until then.
    pub(crate) async fn run<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> R {
        #[expect(
            clippy::expect_used,
            reason = "it is put back below, and the call is not cancelled"
        )]
        let mut part = self.0.take().expect("the part is at home");
        let done = spawn_blocking(move || {
            let result = work(&mut part);
            (part, result)
        });
        match done.await {
            Ok((part, result)) => {
                self.0 = Some(part);
                result
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Looks at the part.
    pub(crate) fn get(&self) -> &T {
        #[expect(clippy::expect_used, reason = "`run` has put it back")]
        self.0.as_ref().expect("the part is at home")
    }
}
