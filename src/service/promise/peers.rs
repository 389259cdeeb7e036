//! The source and the relays of a simulated service: they do what the world says, and the world what the seed says.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::RngExt as _;
use tokio::time::sleep;

use super::world::{PAGE, World};
use crate::clock::WallClock;
use crate::record::Fingerprinter;
use crate::relay::scripted::{Conversation, Dial, Pending as Carrying};
use crate::relay::{DeliveryError, Ending};
use crate::report::{Paging, Terms};
use crate::source::{FetchError, Kind, Page, Pages, Pending, RemoteTimes, Source};

/// What source, relays and disk share.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    pub(super) world: Arc<Mutex<World>>,
    /// The true time.
    pub(super) time: WallClock,
}

impl Shared {
    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for as long as the world says: from `least` to `most` milliseconds.
    async fn pass(&self, least: u64, most: u64) {
        let time = self.world().chance.random_range(least..=most);
        sleep(Duration::from_millis(time)).await;
    }
}

/// A source whose pages come from the world.
pub(super) struct ScriptedSource {
    shared: Shared,
    terms: Terms,
    fingerprinter: Fingerprinter,
}

impl ScriptedSource {
    pub(super) fn new(shared: Shared, fingerprinter: Fingerprinter) -> Self {
        let world = shared.world();
        let terms = world.case.terms(world.origin);
        drop(world);
        ScriptedSource {
            shared,
            terms,
            fingerprinter,
        }
    }
}

impl Source for ScriptedSource {
    fn terms(&self) -> &Terms {
        &self.terms
    }

    fn walk(&self, first: DateTime<Utc>, last: DateTime<Utc>) -> Box<dyn Pages> {
        Box::new(ScriptedWalk {
            shared: self.shared.clone(),
            fingerprinter: self.fingerprinter.clone(),
            paging: self.terms.paging,
            first,
            last,
            position: Some(0),
            key: None,
            refused: false,
        })
    }

    fn clocks(&self) -> RemoteTimes {
        let now = self.shared.time.now();
        let world = self.shared.world();
        let heard = world.heard.map(|(at, told)| (now - at, told + (now - at)));
        RemoteTimes {
            service: heard.map(|(_, told)| told),
            service_age: heard.and_then(|(age, _)| age.to_std().ok()),
            directory: Some(now + world.directory_skew),
        }
    }

    fn paused(&self) -> Option<Duration> {
        let now = self.shared.time.now();
        let until = self.shared.world().paused_until?;
        (until - now).to_std().ok()
    }
}

struct ScriptedWalk {
    shared: Shared,
    fingerprinter: Fingerprinter,
    paging: Paging,
    first: DateTime<Utc>,
    last: DateTime<Utc>,
    /// The first row of the next page; `None` at the end.
    position: Option<usize>,
    /// The last row of the page before, where pages are by key.
    key: Option<(DateTime<Utc>, u64)>,
    refused: bool,
}

impl ScriptedWalk {
    async fn ask(&mut self) -> Result<Option<Page>, FetchError> {
        let Some(position) = self.position else {
            return Ok(None);
        };
        let shared = self.shared.clone();
        let pause = { shared.world().paused_until }
            .and_then(|until| (until - shared.time.now()).to_std().ok());
        if let Some(pause) = pause {
            sleep(pause).await;
        }
        shared.pass(20, 3_000).await;
        let now = shared.time.now();
        shared.world().requests += 1;
        if let Some(error) = self.fail(position, now).await {
            shared
                .world()
                .note(now, format_args!("{}: {error}", self.first));
            return Err(error);
        }
        let mut world = shared.world();
        let now = shared.time.now();
        let looping = now < world.looping_until && position > 0;
        let position = if looping { 0 } else { position };
        let rows = world.result(self.first, self.last, now);
        let from = match (self.paging, self.key) {
            (Paging::ByKey, Some(key)) => {
                let behind = |row: &&&super::world::Row| {
                    let time = row.told(world.origin);
                    // What has the key of the last row comes again, as a source by key has to give it.
                    time < key.0 || (time == key.0 && row.number >= key.1)
                };
                rows.iter()
                    .position(|row| behind(&row))
                    .unwrap_or(rows.len())
            }
            _ => position,
        };
        let page: Vec<_> = rows.iter().skip(from).take(PAGE).collect();
        let json: Vec<String> = (from..)
            .zip(&page)
            .map(|(index, row)| row.json(index, world.origin))
            .collect();
        let key = page.last().map(|row| (row.told(world.origin), row.number));
        let (count, all) = (page.len(), rows.len());
        let leads_on = count == PAGE && from + count <= all;
        let told = now + world.service_skew;
        world.heard = Some((now, told));
        let first = self.first;
        world.note(
            now,
            format_args!("{first}..{} page at {from}: {count} of {all}", self.last),
        );
        drop(world);
        self.key = key;
        self.position = leads_on.then_some(from + count);
        let body = format!(r#"{{"value":[{}]}}"#, json.join(","));
        let (page, _) = Page::parse(body.into_bytes(), &self.fingerprinter).unwrap();
        Ok(Some(page))
    }

    /// A failure, if one happens now.
    async fn fail(&mut self, position: usize, now: DateTime<Utc>) -> Option<FetchError> {
        let kinds = [
            Kind::Busy,
            Kind::ServerError,
            Kind::CutShort,
            Kind::NotAPage,
            Kind::Unreachable,
            Kind::SignInPage,
            Kind::SignInFailed,
        ];
        let shared = self.shared.clone();
        if shared.world().happens(0.001, now) {
            sleep(Duration::from_mins(10)).await;
            return Some(FetchError::new(Kind::TimedOut, "no answer"));
        }
        let mut world = shared.world();
        if world.happens(0.002, now) {
            let time = world.chance.random_range(1..120);
            world.paused_until = Some(now + TimeDelta::seconds(time));
            return Some(FetchError::new(Kind::Throttled, "throttled"));
        }
        if position > 0 && !self.refused && world.happens(0.05, now) {
            self.refused = true;
            return Some(FetchError::new(Kind::LinkRejected, "link rejected"));
        }
        if world.happens(0.001, now) {
            return Some(FetchError::new(Kind::Forbidden, "forbidden").with_action("grant it"));
        }
        let kind = world.chance.random_range(0..kinds.len());
        let fails = world.happens(0.33, now);
        fails.then(|| FetchError::new(kinds[kind], "scripted"))
    }
}

impl Pages for ScriptedWalk {
    fn next_page(&mut self) -> Pending<'_, Result<Option<Page>, FetchError>> {
        Box::pin(self.ask())
    }

    fn leads_on(&self) -> bool {
        self.position.is_some()
    }
}

/// One of the relays.
#[derive(Debug)]
pub(super) struct ScriptedRelay {
    pub(super) shared: Shared,
    pub(super) output: usize,
}

impl Dial for ScriptedRelay {
    fn address(&self) -> String {
        format!("relay-{}:443", self.output)
    }

    fn connect(&self) -> Carrying<'_, Result<Box<dyn Conversation>, DeliveryError>> {
        Box::pin(async {
            self.shared.pass(1, 50).await;
            let now = self.shared.time.now();
            let mut world = self.shared.world();
            if now < world.away_until[self.output] || world.happens(0.02, now) {
                return Err(broken());
            }
            drop(world);
            let conversation: Box<dyn Conversation> = Box::new(Line {
                shared: self.shared.clone(),
                output: self.output,
                read: vec![],
                partial: vec![],
                confirmed: false,
            });
            Ok(conversation)
        })
    }
}

/// A connection to a relay.
#[derive(Debug)]
struct Line {
    shared: Shared,
    output: usize,
    /// The records that the relay has read on it, by their numbers.
    read: Vec<u64>,
    partial: Vec<u8>,
    confirmed: bool,
}

impl Line {
    fn take(&mut self, bytes: &[u8]) {
        self.partial.extend_from_slice(bytes);
        while let Some(end) = self.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.partial.drain(..=end).collect();
            let line = String::from_utf8(line).unwrap();
            let number = line.split(r#""MessageTraceId":""#).nth(1).unwrap();
            let number = number.split('"').next().unwrap().parse().unwrap();
            self.read.push(number);
            let output = self.output;
            let now = self.shared.time.now();
            let mut world = self.shared.world();
            world.note(now, format_args!("relay {output} reads {number}"));
            let relay = &mut world.relays[output];
            *relay.read.entry(number).or_default() += 1;
            relay.first_read.entry(number).or_insert(now);
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut world = self.shared.world();
        let (output, count, confirmed) = (self.output, self.read.len(), self.confirmed);
        let last = self.read.last().copied().unwrap_or_default();
        world.trace.push(format!(
            "relay {output}: {count} records up to {last}, confirmed: {confirmed}"
        ));
        let couriers = 1 + world.case.passes.len();
        let relay = &mut world.relays[self.output];
        if self.confirmed {
            if !self.read.is_empty() {
                relay.last.push_back(std::mem::take(&mut self.read));
                let older = relay.last.len().saturating_sub(couriers);
                relay.last.drain(..older);
            }
            return;
        }
        relay.may_come_again(&self.read);
    }
}

impl Conversation for Line {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> Carrying<'a, Result<(), DeliveryError>> {
        Box::pin(async move {
            self.shared.pass(0, 20).await;
            let now = self.shared.time.now();
            let breaks = self.shared.world().happens(0.03, now);
            if breaks {
                let cut = self.shared.world().chance.random_range(0..=bytes.len());
                self.take(&bytes[..cut]);
                return Err(broken());
            }
            self.take(bytes);
            Ok(())
        })
    }

    fn broken(&mut self) -> Carrying<'_, DeliveryError> {
        Box::pin(std::future::pending())
    }

    fn end(mut self: Box<Self>) -> Carrying<'static, Result<Ending, DeliveryError>> {
        Box::pin(async move {
            self.shared.pass(1, 200).await;
            let now = self.shared.time.now();
            if self.shared.world().happens(0.05, now) {
                return Err(broken());
            }
            let hangs = self.shared.world().happens(0.02, now);
            if hangs {
                // A relay that is slow to confirm, and then gone.
                sleep(Duration::from_mins(3)).await;
                return Err(broken());
            }
            self.confirmed = true;
            Ok(Ending::Read)
        })
    }
}

fn broken() -> DeliveryError {
    DeliveryError::Broken {
        source: std::io::ErrorKind::ConnectionReset.into(),
    }
}
