//! Who is served at once: few, and nobody who is slow keeps others out.
//!
//! Where no place is free, the oldest connection gives way that has not sent a whole request; where there is none, the oldest that has not taken
//! its answer for a while. Some places are for peers on this machine, as a health check is; peers elsewhere take none of theirs.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Connections at once.
const PLACES: usize = 16;

/// Of these, the most for peers elsewhere.
const PLACES_ELSEWHERE: usize = 12;

/// A connection that has not taken its answer for so long may give way.
const ANSWER_SLOW: Duration = Duration::from_secs(2);

/// All places. Clones share them.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    /// Oldest first.
    holders: Vec<Holder>,
    last: u64,
}

struct Holder {
    number: u64,
    here: bool,
    /// When it was given an answer; until then it has not sent a whole request.
    answered: Option<Instant>,
    gives_way: CancellationToken,
}

/// A connection's place, which is free again when this is dropped.
pub(super) struct Place {
    places: Places,
    number: u64,
    /// Cancelled when the connection has to give way.
    pub(super) gives_way: CancellationToken,
}

/// Whether the peer is on this machine.
pub(super) fn is_here(peer: SocketAddr, at: SocketAddr) -> bool {
    let [peer, at] = [peer, at].map(|address| IpAddr::to_canonical(&address.ip()));
    peer.is_loopback() || peer == at
}

impl Places {
    /// A place for a new connection from `peer` to `at`. `None` if there is none, and nobody gives way.
    pub(super) fn take(&self, peer: SocketAddr, at: SocketAddr) -> Option<Place> {
        let here = is_here(peer, at);
        let mut taken = self.lock();
        if !has_room(&taken.holders, here) {
            let gives_way = gives_way(&taken.holders, here, Instant::now())?;
            taken.holders.remove(gives_way).gives_way.cancel();
        }
        taken.last += 1;
        let (number, gives_way) = (taken.last, CancellationToken::new());
        taken.holders.push(Holder {
            number,
            here,
            answered: None,
            gives_way: gives_way.clone(),
        });
        Some(Place {
            places: self.clone(),
            number,
            gives_way,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // No panic is possible while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn has_room(holders: &[Holder], here: bool) -> bool {
    let elsewhere = holders.iter().filter(|holder| !holder.here).count();
    holders.len() < PLACES && (here || elsewhere < PLACES_ELSEWHERE)
}

/// Which of the holders makes room for a connection from here or elsewhere.
fn gives_way(holders: &[Holder], here: bool, now: Instant) -> Option<usize> {
    let may = |holder: &Holder| {
        let answered = holder.answered;
        let slow = answered.is_none_or(|at| now.duration_since(at) >= ANSWER_SLOW);
        slow && (here || !holder.here)
    };
    let holders = holders.iter().enumerate();
    // Of equals the first: the oldest.
    let first = holders
        .filter(|(_, holder)| may(holder))
        .min_by_key(|(_, holder)| (holder.answered.is_some(), holder.here));
    first.map(|(at, _)| at)
}

impl Place {
    /// Notes that the connection has sent a whole request, and is given an answer.
    pub(super) fn answered(&self) {
        let mut taken = self.places.lock();
        let holders = &mut taken.holders;
        if let Some(holder) = holders.iter_mut().find(|one| one.number == self.number) {
            holder.answered = Some(Instant::now());
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.holders.retain(|holder| holder.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: &str = "192.0.2.1:80";

    fn from(places: &Places, peer: &str) -> Option<Place> {
        places.take(peer.parse().unwrap(), AT.parse().unwrap())
    }

    fn here(places: &Places) -> Option<Place> {
        from(places, "127.0.0.1:5")
    }

    fn elsewhere(places: &Places) -> Option<Place> {
        from(places, "192.0.2.2:5")
    }

    /// Which of the connections have had to give way.
    fn gone(held: &[Place]) -> Vec<usize> {
        let held = held.iter().enumerate();
        held.filter(|(_, place)| place.gives_way.is_cancelled())
            .map(|(at, _)| at)
            .collect()
    }

    #[test]
    fn the_oldest_without_a_request_gives_way_and_those_here_only_to_each_other() {
        let places = Places::default();
        let mut held: Vec<_> = (0..4).map(|_| here(&places).unwrap()).collect();
        held.extend((0..12).map(|_| elsewhere(&places).unwrap()));
        held[4].answered();
        held.push(elsewhere(&places).unwrap());
        held.push(here(&places).unwrap());
        assert_eq!(gone(&held), [5, 6]);
        assert_eq!(places.lock().holders.len(), PLACES);
        for place in &held {
            place.answered();
        }
        assert!(elsewhere(&places).is_none() && here(&places).is_none());
        drop(held);
        assert!(places.lock().holders.is_empty());
    }

    #[test]
    fn whoever_is_elsewhere_leaves_places_for_those_here() {
        let places = Places::default();
        let held: Vec<_> = (0..PLACES).map(|_| elsewhere(&places).unwrap()).collect();
        assert_eq!(gone(&held), [0, 1, 2, 3]);
        let held_here: Vec<_> = (0..4).map(|_| here(&places).unwrap()).collect();
        assert_eq!(gone(&held).len(), 4);
        let of_this_address = from(&places, AT).unwrap();
        assert_eq!(gone(&held), [0, 1, 2, 3, 4]);
        drop((held_here, of_this_address));
    }

    #[test]
    fn an_answer_that_is_not_taken_makes_room_after_a_while() {
        let places = Places::default();
        let held: Vec<_> = (0..PLACES).map(|_| here(&places).unwrap()).collect();
        for place in &held {
            place.answered();
        }
        assert!(here(&places).is_none());
        let taken = places.lock();
        let now = Instant::now();
        assert_eq!(gives_way(&taken.holders, true, now), None);
        assert_eq!(gives_way(&taken.holders, true, now + ANSWER_SLOW), Some(0));
        assert_eq!(gives_way(&taken.holders, false, now + ANSWER_SLOW), None);
    }
}
