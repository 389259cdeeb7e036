//! One walk of one window: its pages are fetched, sorted, and handed to the outputs.

use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Service;
use super::fetch::Answer;
use crate::dedup::{Certainty, Tally};
use crate::delivery::{Batch, Outlet};
use crate::record::Splice;
use crate::source::{Meter, Page, Query, Walk};
use crate::stop::Stopped;
use crate::window::Window;

/// A walk is cut off at this many rows if its window can be made shorter: memory does not grow with the window.
const ROWS_MAX: u64 = 40_000;

/// How a walk ended.
pub(super) enum Walked {
    /// At its last page.
    Whole(Tally),
    /// At a cap of the service, of a window that cannot be shorter.
    Capped(Tally),
    /// The window has to be halved.
    TooMuch,
    /// The walk has to begin again.
    Again,
    /// The window has passed out of reach.
    Aged,
}

/// The collection of one window, however many walks it takes.
pub(super) struct Pull {
    begun: Instant,
    pulled: DateTime<Utc>,
    splice: Arc<Splice>,
    requests: u32,
    /// The window has been walked to its end before.
    pub(super) again: bool,
    received: u64,
    pub(super) delivered: u64,
}

impl Pull {
    pub(super) fn begin(environment: Option<&str>, pulled: DateTime<Utc>) -> Self {
        let splice = Arc::new(Splice::new(environment, pulled));
        Pull {
            begun: Instant::now(),
            pulled,
            splice,
            requests: 0,
            again: false,
            received: 0,
            delivered: 0,
        }
    }

    pub(super) fn log(&self, window: Window) {
        let seconds = self.begun.elapsed().as_secs_f64();
        info!(
            %window,
            requests = self.requests,
            received = self.received,
            filtered = self.received - self.delivered,
            delivered = self.delivered,
            seconds = format_args!("{seconds:.3}"),
            per_second = format_args!("{:.1}", rate(self.delivered, seconds)),
            "window delivered"
        );
    }
}

/// So many a second; 0 where there was no time.
#[expect(
    clippy::cast_precision_loss,
    reason = "an average that is off by a billionth will do"
)]
fn rate(records: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        records as f64 / seconds
    } else {
        0.0
    }
}

impl Service {
    /// Walks the window once; the next page is fetched while this one is delivered.
    pub(super) async fn walk(
        &mut self,
        window: Window,
        certainty: Certainty<'_>,
        pull: &mut Pull,
    ) -> Result<Walked, Stopped> {
        let mut walk = match self.ahead.take() {
            Some(ahead) if ahead.is_for(window) => ahead.walk,
            _ => self.ask(window),
        };
        let mut tally = Tally::with_room(self.accounts.kinds());
        self.monitor.walks();
        let may_halve = self.schedule.halve(window).is_some();
        let mut answer = self
            .asking
            .next(&mut walk, &self.schedule, window, may_halve)
            .await?;
        let walked = loop {
            let page = match answer {
                Answer::Page(page) => Arc::new(page),
                Answer::End if walk.capped() && may_halve => {
                    warn!(%window, rows = tally.rows(), "the service cut the result off at a cap: the window is halved; nothing is lost");
                    break Walked::TooMuch;
                }
                Answer::End if walk.capped() => break Walked::Capped(tally),
                Answer::End => break Walked::Whole(tally),
                Answer::TooMuch => break Walked::TooMuch,
                Answer::Again => break Walked::Again,
                Answer::Aged => break Walked::Aged,
            };
            self.heard = true;
            self.begin_by_the_services_clock().await?;
            let batches = self.sort(&page, &mut tally, certainty, pull);
            let handed = hand_out(&self.outlets, batches, &self.stop);
            if may_halve && tally.rows() > ROWS_MAX {
                handed.await?;
                break Walked::TooMuch;
            }
            let fetched = self
                .asking
                .next(&mut walk, &self.schedule, window, may_halve);
            let (fetched, handed) = tokio::join!(fetched, handed);
            handed?;
            answer = fetched?;
        };
        pull.requests += walk.pages();
        Ok(walked)
    }

    /// A walk of the window, at its beginning.
    pub(super) fn ask(&self, window: Window) -> Walk {
        let (first, last) = self.schedule.asked(window);
        let query = Query {
            report: self.config.report,
            first,
            last,
            aggregate_by: self.config.aggregate_by,
        };
        let walk = self.client.walk(query, &self.fingerprinter);
        walk.metered(Arc::clone(&self.monitor) as Arc<dyn Meter>)
    }

    /// Picks the rows of a page that are new to each output.
    fn sort(
        &mut self,
        page: &Arc<Page>,
        tally: &mut Tally,
        certainty: Certainty<'_>,
        pull: &mut Pull,
    ) -> Vec<Batch> {
        let mark = self.ledger.get().mark(self.accounts.horizon());
        let deleted = self.schedule.deleted(mark.window.start);
        let (pulled, splice) = (pull.pulled, &pull.splice);
        let empty = |_: &Outlet| {
            let rows = Vec::with_capacity(page.len());
            Batch {
                mark,
                page: page.clone(),
                rows,
                splice: splice.clone(),
                pulled,
                deleted,
            }
        };
        let mut batches: Vec<_> = self.outlets.iter().map(empty).collect();
        tally.turn_page();
        for (place, fingerprint) in page.fingerprints().enumerate() {
            let kind = self.accounts.kind(fingerprint);
            let certain = tally.count(kind, certainty);
            for (new, batch) in self.accounts.claim(kind, certain).zip(&mut batches) {
                if new {
                    batch.rows.push(place);
                }
            }
        }
        pull.received += page.len() as u64;
        // Outputs differ only in what they had confirmed before a restart.
        let new = batches
            .iter()
            .map(|batch| batch.rows.len() as u64)
            .max()
            .unwrap_or(0);
        pull.delivered += new;
        self.monitor.sorted(page.len() as u64, new, pull.again);
        batches.iter_mut().for_each(Batch::release_page);
        batches
    }
}

async fn hand_out(
    outlets: &[Outlet],
    batches: Vec<Batch>,
    stop: &CancellationToken,
) -> Result<(), Stopped> {
    let hand = async {
        for (outlet, batch) in outlets.iter().zip(batches) {
            if !batch.rows.is_empty() {
                outlet.deliver(batch).await?;
            }
        }
        Ok(())
    };
    stop.run_until_cancelled(hand).await.ok_or(Stopped)?
}
