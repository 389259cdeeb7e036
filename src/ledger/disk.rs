//! Blocking work on the ledger, off the runtime's threads: a slow disk delays no other service.

use crate::blocking::DISK;

/// A part of the ledger that leaves for another thread while something is done to it.
#[derive(Debug)]
pub(crate) struct OnDisk<T>(Option<T>);

impl<T: Send + 'static> OnDisk<T> {
    pub(crate) fn new(part: T) -> Self {
        OnDisk(Some(part))
    }

    /// Does `work` on a thread that may block, as soon as there is one. To be awaited to its end: the part is away until then.
    pub(crate) async fn run<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> R {
        #[expect(
            clippy::expect_used,
            reason = "it is put back below, and the call is not cancelled"
        )]
        let mut part = self.0.take().expect("the part is at home");
        #[cfg(test)]
        if script::is_set() {
            script::before().await;
            let result = work(&mut part);
            self.0 = Some(part);
            script::after().await;
            return result;
        }
        let (part, result) = DISK
            .run(move || {
                let result = work(&mut part);
                (part, result)
            })
            .await;
        self.0 = Some(part);
        result
    }

    /// Looks at the part.
    pub(crate) fn get(&self) -> &T {
        #[expect(clippy::expect_used, reason = "`run` has put it back")]
        self.0.as_ref().expect("the part is at home")
    }
}

/// A disk of the tests: work is done at once, on the same thread, and the process may be killed before it or after.
#[cfg(test)]
pub(crate) mod script {
    use std::cell::RefCell;

    /// What is asked before and after each piece of work: whether the process is killed there.
    pub(crate) type Kills = Box<dyn FnMut(Moment) -> bool>;

    /// A moment of a piece of work.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Moment {
        Before,
        After,
    }

    thread_local! {
        static KILLS: RefCell<Option<Kills>> = const { RefCell::new(None) };
    }

    /// Scripts the disk for this thread; `None` ends that.
    pub(crate) fn set(kills: Option<Kills>) {
        KILLS.with_borrow_mut(|known| *known = kills);
    }

    pub(crate) fn is_set() -> bool {
        KILLS.with_borrow(Option::is_some)
    }

    pub(super) async fn before() {
        pass(Moment::Before).await;
    }

    pub(super) async fn after() {
        pass(Moment::After).await;
    }

    async fn pass(moment: Moment) {
        let killed =
            KILLS.with_borrow_mut(|kills| kills.as_mut().is_some_and(|kills| kills(moment)));
        if killed {
            std::future::pending::<()>().await;
        }
        // What else is ready has its turn, as it would while a thread works.
        tokio::task::yield_now().await;
    }
}
