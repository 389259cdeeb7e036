//! The memory of the process for fetched pages and unconfirmed lines.
//!
//! Both are a cache: what does not fit is fetched again. A page that was fetched ahead has its memory from the moment it is asked for. The
//! page that a service delivers next waits for memory, first come, first served, and while one waits, every service drops the pages that it
//! fetched ahead, every output ends its delivery, and an output that has had no receipt for a minute gives its lines back. So what is
//! waited for always comes, and nothing waits in a circle. Outside the budget are one page for each service, while it is fetched, and
//! what one window of several pages needs for its agreement.
#![deny(clippy::disallowed_methods)]

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// The memory for pages and lines, in bytes.
pub(crate) const BYTES: usize = 20 << 20;

/// Memory is counted in pieces of this many bytes.
const PIECE: usize = 1 << 10;

/// Memory for pages and lines, shared by all services. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    pieces: Arc<Semaphore>,
    all: u32,
    /// How many wait for memory.
    waiting: Arc<watch::Sender<u32>>,
    /// Held by the one window of several pages that is walked.
    agreement: Arc<Semaphore>,
}

/// Memory that is taken; given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Memory(OwnedSemaphorePermit);

impl Memory {
    /// Gives back what is more than so many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        let more = self
            .0
            .num_permits()
            .saturating_sub(bytes.div_ceil(PIECE).max(1));
        drop(self.0.split(more));
    }

    /// Takes more where it is less than so many bytes, if that is there and nobody waits for it; whether it is enough then.
    pub(crate) fn grow_to(&mut self, bytes: usize, budget: &Budget) -> bool {
        let pieces = budget.pieces_of(bytes) as usize;
        let more = pieces.saturating_sub(self.0.num_permits());
        if more == 0 {
            return true;
        }
        let Some(more) = budget.try_take(more * PIECE) else {
            return false;
        };
        self.0.merge(more.0);
        true
    }
}

/// The right to walk a window of several pages.
#[derive(Debug)]
pub(crate) struct AgreementTurn(
    #[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit,
);

impl Budget {
    /// A budget of so many bytes.
    pub(crate) fn new(bytes: usize) -> Self {
        let all = u32::try_from(bytes / PIECE).unwrap_or(u32::MAX).max(1);
        Budget {
            pieces: Arc::new(Semaphore::new(all as usize)),
            all,
            waiting: Arc::default(),
            agreement: Arc::new(Semaphore::new(1)),
        }
    }

    /// Takes memory if it is there, and nobody waits for it.
    pub(crate) fn try_take(&self, bytes: usize) -> Option<Memory> {
        if *self.waiting.borrow() > 0 {
            return None;
        }
        let pieces = Arc::clone(&self.pieces);
        let permit = pieces.try_acquire_many_owned(self.pieces_of(bytes));
        Some(Memory(permit.ok()?))
    }

    /// Takes memory once it is there. What is larger than the budget takes all of it. Cancel safe; who stops waiting loses the place.
    pub(crate) async fn take(&self, bytes: usize) -> Option<Memory> {
        if let Some(memory) = self.try_take(bytes) {
            return Some(memory);
        }
        let _waiting = Waiting::begin(&self.waiting);
        let pieces = Arc::clone(&self.pieces);
        let permit = pieces.acquire_many_owned(self.pieces_of(bytes)).await;
        // The semaphore is never closed.
        Some(Memory(permit.ok()?))
    }

    /// Resolves while somebody waits for memory.
    pub(crate) async fn is_wanted(&self) {
        let mut waiting = self.waiting.subscribe();
        // It fails only where the sender is gone, and this holds it.
        let _ = waiting.wait_for(|waiting| *waiting > 0).await;
    }

    /// Waits for the right to walk a window of several pages.
    pub(crate) async fn agreement_turn(&self) -> Option<AgreementTurn> {
        let permit = Arc::clone(&self.agreement).acquire_owned().await;
        permit.ok().map(AgreementTurn)
    }

    fn pieces_of(&self, bytes: usize) -> u32 {
        let pieces = u32::try_from(bytes.div_ceil(PIECE)).unwrap_or(u32::MAX);
        pieces.clamp(1, self.all)
    }
}

/// Counts one that waits.
struct Waiting<'a>(&'a watch::Sender<u32>);

impl<'a> Waiting<'a> {
    fn begin(count: &'a watch::Sender<u32>) -> Self {
        count.send_modify(|count| *count += 1);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SOON: std::time::Duration = std::time::Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_comes_back_and_those_who_wait_come_first() {
        let budget = Budget::new(10 << 10);
        let held = budget.try_take(8 << 10).unwrap();
        assert!(budget.try_take(4 << 10).is_none());
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(4 << 10).await }
        });
        budget.is_wanted().await;
        assert!(budget.try_take(1).is_none(), "somebody waits for it");
        drop(held);
        let memory = timeout(SOON, waiting).await.unwrap().unwrap().unwrap();
        assert!(timeout(SOON, budget.is_wanted()).await.is_err());
        assert!(budget.try_take(6 << 10).is_some());
        drop(memory);
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_larger_than_the_budget_has_it_alone() {
        let budget = Budget::new(10 << 10);
        let memory = budget.take(1 << 30).await.unwrap();
        assert!(budget.try_take(1).is_none());
        drop(memory);
        assert!(budget.try_take(10 << 10).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_taken_grows_as_far_as_there_is_room() {
        let budget = Budget::new(10 << 10);
        let mut memory = budget.try_take(2 << 10).unwrap();
        assert!(memory.grow_to(1 << 10, &budget) && memory.grow_to(8 << 10, &budget));
        let other = budget.try_take(2 << 10).unwrap();
        assert!(!memory.grow_to(9 << 10, &budget));
        drop(other);
        assert!(memory.grow_to(1 << 30, &budget), "all of it is enough");
        drop(memory);
        assert!(budget.try_take(10 << 10).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_stops_waiting_is_not_waited_for() {
        let budget = Budget::new(1 << 10);
        let _held = budget.try_take(1).unwrap();
        assert!(timeout(SOON, budget.take(1)).await.is_err());
        assert!(timeout(SOON, budget.is_wanted()).await.is_err());
    }
}
