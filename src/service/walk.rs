//! Walks a window that has several pages and cannot be shorter: its pages are handed over as they come, and it is walked until its walks
//! agree on what its records are.

use std::time::Duration;

use tracing::{error, warn};

use super::books::Handed;
use super::collection::{Collection, REPEATED_PAUSE, Step};
use super::fetch::Fetched;
use super::handover::Pull;
use super::{Event, Service};
use crate::backoff::Backoff;
use crate::dedup::Verdict;
use crate::ledger::Outcome;
use crate::source::{Page, Pages};
use crate::stop::Stopped;
use crate::window::Window;

/// How long a request waits until those of other windows are looked at again.
const REQUEST_PAUSE: Duration = Duration::from_millis(50);

/// How walking a window ended.
enum Walked {
    Done(Outcome),
    /// The window has to be shorter.
    TooMuch,
    /// An output has given lines back, or the window has passed out of reach: nothing of it counts.
    Interrupted,
}

/// The window's walks so far.
struct State {
    pull: Pull,
    collection: Collection,
    again: Backoff,
    bytes: usize,
    requests: u64,
    received: u64,
}

impl Service {
    /// Walks the first window until it is handed over whole, or has to be treated differently.
    pub(super) async fn walk(&mut self, window: Window) -> Result<(), Stopped> {
        // One at a time: what it takes for agreement is outside the budget.
        let budget = self.budget.clone();
        let turn = self.while_settling(budget.agreement_turn()).await?;
        let Ok(turn) = turn else {
            return Ok(());
        };
        let mut state = State {
            pull: self.pull(window),
            collection: Collection::new(self.source.terms()),
            again: Backoff::new(REPEATED_PAUSE / 4, REPEATED_PAUSE * 2),
            bytes: 0,
            requests: 0,
            received: 0,
        };
        self.dedup.begin(window);
        let walked = self.walk_until_settled(window, &mut state).await?;
        drop(turn);
        match walked {
            Walked::Interrupted => self.rewind().await,
            Walked::TooMuch => {
                // What was handed over of it stays, and is known when its halves come.
                self.rewind_to_shorten(window).await
            }
            Walked::Done(outcome) => {
                self.fetcher.walked();
                if let Err(Event::Lost) = self.hand_over_what_was_held(window).await? {
                    return self.rewind().await;
                }
                let finished = self.dedup.finish();
                let rows = state.collection.rows();
                let up_to = self.handover.up_to();
                let mut handed = Handed::new(window, outcome, finished, up_to);
                (handed.bytes, handed.requests) = (state.bytes, state.requests);
                handed.received = state.received;
                self.hand_over(handed, rows);
                Ok(())
            }
        }
    }

    async fn walk_until_settled(
        &mut self,
        window: Window,
        state: &mut State,
    ) -> Result<Walked, Stopped> {
        loop {
            let mut walk = self.prefetch.walk(window);
            state.collection.begin_walk();
            self.dedup.begin_walk();
            self.monitor.walks();
            let ended = self.walk_once(window, state, &mut *walk).await?;
            match ended {
                // What is before a cap shifts as well.
                Ended::Whole | Ended::Capped => match self.dedup.end_walk() {
                    Verdict::WalkAgain => {}
                    _ if matches!(ended, Ended::Capped) => {
                        let rows = state.collection.rows();
                        error!(%window, rows,
                            "the service cut the result off at a cap and the window cannot be shorter: what is beyond the cap cannot be \
                             had from this report; of Microsoft Graph: its links failed again and again where one instant has more rows than a page");
                        return Ok(Walked::Done(Outcome::Capped));
                    }
                    Verdict::Settled => return Ok(Walked::Done(Outcome::Complete)),
                    Verdict::Unsettled { walks } => {
                        warn!(%window, walks, "the result kept changing while it was walked; every row that was seen is delivered");
                        return Ok(Walked::Done(Outcome::Unsettled { walks }));
                    }
                },
                Ended::Again => {
                    let mut again = state.again.clone();
                    let fetcher = self.fetcher.clone();
                    let pause = async { fetcher.pause(&mut again, window).await };
                    match self.while_settling(pause).await? {
                        Ok(paused) => paused?,
                        Err(Event::Lost) => return Ok(Walked::Interrupted),
                    }
                    state.again = again;
                }
                Ended::Stuck => {
                    let rows = state.collection.rows();
                    error!(%window, rows,
                        "for half an hour the service has shown the same pages of this window again and again: what is behind them cannot be \
                         had; take the window to Microsoft's support");
                    return Ok(Walked::Done(Outcome::Capped));
                }
                Ended::Withheld => return Ok(Walked::Done(Outcome::Withheld)),
                Ended::TooMuch => return Ok(Walked::TooMuch),
                Ended::Interrupted => return Ok(Walked::Interrupted),
            }
        }
    }

    /// Walks the window once, and hands its new rows over.
    async fn walk_once(
        &mut self,
        window: Window,
        state: &mut State,
        walk: &mut dyn Pages,
    ) -> Result<Ended, Stopped> {
        let may_shorten = self.schedule.halve(window).is_some();
        loop {
            let fetcher = self.fetcher.clone();
            let Some(mut request) = self.prefetch.request() else {
                // The requests of windows behind it take all that is allowed: one of them will be answered.
                let pause = tokio::time::sleep(REQUEST_PAUSE);
                match self.while_settling(pause).await? {
                    Ok(()) => continue,
                    Err(Event::Lost) => return Ok(Ended::Interrupted),
                }
            };
            let next = fetcher.next(walk, window, may_shorten, &mut request);
            let answer = match self.while_settling(next).await? {
                Ok(answer) => answer?,
                Err(Event::Lost) => return Ok(Ended::Interrupted),
            };
            drop(request);
            let page = match answer {
                Fetched::Page(page) => page,
                Fetched::End if !state.collection.is_capped() && !walk.was_cut_off() => {
                    return Ok(Ended::Whole);
                }
                Fetched::End if may_shorten => return Ok(Ended::TooMuch),
                Fetched::End => return Ok(Ended::Capped),
                Fetched::TooMuch => return Ok(Ended::TooMuch),
                Fetched::Withheld => return Ok(Ended::Withheld),
                Fetched::WalkAgain => return Ok(Ended::Again),
                Fetched::Aged => return Ok(Ended::Interrupted),
            };
            state.requests += 1;
            let rows = page.len() as u64;
            match state
                .collection
                .page(page.digest(), rows, self.clock.ours())
            {
                Step::Take => {}
                Step::WalkAgain => {
                    warn!(%window, "a page shows what an earlier one did: the window is walked again; nothing is lost");
                    return Ok(Ended::Again);
                }
                Step::Pass if may_shorten => return Ok(Ended::TooMuch),
                Step::Pass => return Ok(Ended::Stuck),
            }
            if let Err(Event::Lost) = self.take_page(state, page).await? {
                return Ok(Ended::Interrupted);
            }
            let terms = self.source.terms();
            let cut_off = terms.may_cut_off(rows) && !walk.leads_on();
            if cut_off && state.collection.cut_off(self.clock.ours()) == Step::WalkAgain {
                warn!(%window, "a full page leads nowhere: the window is walked again; nothing is lost");
                return Ok(Ended::Again);
            }
        }
    }

    /// Hands the new rows of a page over.
    async fn take_page(
        &mut self,
        state: &mut State,
        page: Page,
    ) -> Result<Result<(), Event>, Stopped> {
        let Ok(memory) = self.memory_for(&page).await? else {
            return Ok(Err(Event::Lost));
        };
        let again = self.dedup.is_walked_again();
        let new = self.new_rows(state.pull.window, &page);
        self.monitor.sorted(page.len() as u64, new.records, again);
        state.received += page.len() as u64;
        if new.records > 0 {
            state.bytes += page.bytes();
        }
        self.handover
            .hand_over(&state.pull, page, memory, new)
            .map(Ok)
    }
}

/// How one walk ended.
enum Ended {
    /// At its last page.
    Whole,
    /// It has to begin again.
    Again,
    /// At a cap of the service.
    Capped,
    /// It only ever repeats itself.
    Stuck,
    /// At a page that cannot be read as rows.
    Withheld,
    TooMuch,
    Interrupted,
}
