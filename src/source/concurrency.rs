//! How many requests a tenant may have in flight at once.
//!
//! Each service always has one request of its own. What the tenant may have beyond that is bounded by `concurrent_requests` and adapts: a
//! 429 or a `Retry-After` halves it for the tenant, once a round; a 503 or a time-out reduces the share of the service that it hit; success
//! brings both back slowly. So a report that hangs takes nothing from the others. All tenants together have a bound as well, of sockets and
//! of pages in memory: with hundreds of them each goes on with the one request of its services.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::config::Globals;

/// After so many successes in a row one more request may be in flight.
const SUCCESSES_TO_GROW: u32 = 8;

/// The extra requests of all tenants together: so many are left. Clones share it.
#[derive(Clone, Debug)]
pub struct Overall(Arc<AtomicU32>);

impl Overall {
    /// At most `max` requests beyond one for each service.
    pub fn new(max: u32) -> Self {
        Overall(Arc::new(AtomicU32::new(max)))
    }

    fn take(&self) -> bool {
        let one_less = |left: u32| left.checked_sub(1);
        let taken = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less);
        taken.is_ok()
    }

    fn give_back(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Default for Overall {
    fn default() -> Self {
        Overall::new(Globals::CONCURRENT_REQUESTS)
    }
}

/// The extra requests of one tenant.
#[derive(Debug)]
pub struct Concurrency {
    extra: Mutex<Extra>,
    overall: Overall,
}

/// A bound that adapts.
#[derive(Clone, Copy, Debug)]
struct Bound {
    max: u32,
    now: u32,
    successes: u32,
    /// Counts the reductions: what was asked before one says nothing about the bound after it.
    round: u64,
}

#[derive(Debug)]
struct Extra {
    bound: Bound,
    used: u32,
}

impl Bound {
    fn new(max: u32) -> Self {
        Bound {
            max,
            now: max,
            successes: 0,
            round: 0,
        }
    }

    fn halve(&mut self, round: u64) {
        if self.round == round {
            self.now /= 2;
            self.successes = 0;
            self.round += 1;
        }
    }

    fn grow(&mut self) {
        self.successes += 1;
        if self.successes >= SUCCESSES_TO_GROW {
            self.successes = 0;
            self.now = (self.now + 1).min(self.max);
        }
    }
}

impl Concurrency {
    /// At most `max` requests beyond one for each service, and what is left of `overall`.
    pub fn new(max: u32, overall: &Overall) -> Self {
        let bound = Bound::new(max);
        Concurrency {
            extra: Mutex::new(Extra { bound, used: 0 }),
            overall: overall.clone(),
        }
    }

    fn extra(&self) -> MutexGuard<'_, Extra> {
        self.extra.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests of one service.
#[derive(Clone, Debug)]
pub struct Share(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    tenant: Arc<Concurrency>,
    own: Mutex<Own>,
}

#[derive(Debug)]
struct Own {
    bound: Bound,
    in_flight: u32,
    /// Of those, the ones that count against the tenant's extra requests.
    extra: u32,
}

/// Permission for one request in flight; it ends when this is dropped, and while this rests.
#[derive(Debug)]
pub struct InFlight {
    share: Share,
    rests: bool,
    tenant_round: u64,
    own_round: u64,
}

impl Share {
    /// A service's share of what `tenant` may have in flight.
    pub fn new(tenant: &Arc<Concurrency>) -> Self {
        let max = tenant.extra().bound.max;
        Share(Arc::new(Inner {
            tenant: Arc::clone(tenant),
            own: Mutex::new(Own {
                bound: Bound::new(max),
                in_flight: 0,
                extra: 0,
            }),
        }))
    }

    /// The share of another pass of the service, which has a request of its own as well.
    #[must_use]
    pub fn another(&self) -> Self {
        Share::new(&self.0.tenant)
    }

    /// Permission for a further request, if the bounds allow one now. The first of a service always is allowed.
    pub fn request(&self) -> Option<InFlight> {
        let (tenant_round, own_round) = self.take()?;
        Some(InFlight {
            share: self.clone(),
            rests: false,
            tenant_round,
            own_round,
        })
    }

    /// Counts one more in flight, if that is allowed; the rounds of the bounds.
    fn take(&self) -> Option<(u64, u64)> {
        let mut own = self.own();
        let mut tenant = self.0.tenant.extra();
        if own.in_flight > 0 {
            let is_full = own.extra >= own.bound.now || tenant.used >= tenant.bound.now;
            if is_full || !self.0.tenant.overall.take() {
                return None;
            }
            own.extra += 1;
            tenant.used += 1;
        }
        own.in_flight += 1;
        Some((tenant.bound.round, own.bound.round))
    }

    /// Counts one less in flight.
    fn give_back(&self) {
        let mut own = self.own();
        own.in_flight -= 1;
        // One request is the service's own, whichever of them it is.
        if own.extra > own.in_flight.saturating_sub(1) {
            own.extra -= 1;
            self.0.tenant.extra().used -= 1;
            self.0.tenant.overall.give_back();
        }
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.0.own.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InFlight {
    /// The request was answered as it should be.
    pub fn succeeded(&mut self) {
        let mut own = self.share.own();
        let mut tenant = self.share.0.tenant.extra();
        own.bound.grow();
        tenant.bound.grow();
        (self.own_round, self.tenant_round) = (own.bound.round, tenant.bound.round);
    }

    /// The tenant was throttled: all of its services have fewer requests in flight.
    pub fn throttled(&mut self) {
        let mut tenant = self.share.0.tenant.extra();
        tenant.bound.halve(self.tenant_round);
        self.tenant_round = tenant.bound.round;
    }

    /// The service is too busy for this report, or did not answer in time: this service has fewer requests in flight.
    pub fn overloaded(&mut self) {
        let mut own = self.share.own();
        own.bound.halve(self.own_round);
        self.own_round = own.bound.round;
    }
}

impl InFlight {
    /// Nothing is in flight for a while: others may have its place.
    pub fn rest(&mut self) {
        if !std::mem::replace(&mut self.rests, true) {
            self.share.give_back();
        }
    }

    /// Takes a place again, if there is one; `false` if there is none now.
    pub fn resume(&mut self) -> bool {
        if self.rests
            && let Some((tenant_round, own_round)) = self.share.take()
        {
            self.rests = false;
            (self.tenant_round, self.own_round) = (tenant_round, own_round);
        }
        !self.rests
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(share: &Share) -> Vec<InFlight> {
        std::iter::from_fn(|| share.request()).collect()
    }

    #[test]
    fn each_service_has_one_request_and_the_tenant_so_many_more() {
        let tenant = Arc::new(Concurrency::new(4, &Overall::default()));
        let (one, other) = (Share::new(&tenant), Share::new(&tenant));
        let mut first = fill(&one);
        assert_eq!((first.len(), fill(&other).len()), (5, 1));
        first.truncate(2);
        assert_eq!(fill(&other).len(), 4);
        drop(first);
        assert_eq!(fill(&other).len(), 5);
    }

    #[test]
    fn all_tenants_together_have_a_bound_and_each_service_has_its_own_request_all_the_same() {
        let overall = Overall::new(5);
        let tenants = [4, 4, 4].map(|max| Arc::new(Concurrency::new(max, &overall)));
        let services = tenants.each_ref().map(Share::new);
        let held = services.each_ref().map(fill);
        assert_eq!(held.each_ref().map(Vec::len), [5, 2, 1]);
        let [first, second, third] = held;
        drop(first);
        assert_eq!(fill(&services[2]).len(), 4);
        drop((second, third));
        let held = services.each_ref().map(fill);
        assert_eq!(held.iter().map(Vec::len).sum::<usize>(), 3 + 5);
    }

    #[test]
    fn throttling_halves_the_tenants_extra_once_a_round() {
        let tenant = Arc::new(Concurrency::new(4, &Overall::default()));
        let share = Share::new(&tenant);
        let mut all = fill(&share);
        all.iter_mut().for_each(InFlight::throttled);
        drop(all);
        let mut all = fill(&share);
        assert_eq!(all.len(), 3, "five requests of one round count once");
        all[0].throttled();
        drop(all);
        assert_eq!(fill(&share).len(), 2);
    }

    #[test]
    fn an_overloaded_report_takes_nothing_from_the_others() {
        let tenant = Arc::new(Concurrency::new(4, &Overall::default()));
        let (one, other) = (Share::new(&tenant), Share::new(&tenant));
        for _ in 0..4 {
            one.request().unwrap().overloaded();
        }
        let held = fill(&one);
        assert_eq!((held.len(), fill(&other).len()), (1, 5));
    }

    #[test]
    fn what_rests_has_no_place() {
        let tenant = Arc::new(Concurrency::new(2, &Overall::default()));
        let (one, other) = (Share::new(&tenant), Share::new(&tenant));
        let mut refused = fill(&one);
        refused.iter_mut().for_each(InFlight::rest);
        let held = fill(&other);
        assert_eq!((refused.len(), held.len()), (3, 3));
        let resumed: Vec<bool> = refused.iter_mut().map(InFlight::resume).collect();
        assert_eq!(resumed, [true, false, false], "one is its own");
        drop(held);
        assert!(refused.iter_mut().all(InFlight::resume));
        drop(refused);
        assert_eq!(fill(&one).len(), 3);
    }

    #[test]
    fn success_brings_it_back_slowly_and_never_beyond_the_bound() {
        let tenant = Arc::new(Concurrency::new(2, &Overall::default()));
        let share = Share::new(&tenant);
        let mut request = share.request().unwrap();
        request.throttled();
        request.throttled();
        drop(request);
        let mut in_flight = vec![];
        for _ in 0..4 {
            for _ in 0..SUCCESSES_TO_GROW {
                share.request().unwrap().succeeded();
            }
            in_flight.push(fill(&share).len());
        }
        assert_eq!(in_flight, [2, 3, 3, 3]);
    }
}
