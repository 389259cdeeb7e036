//! Collects the eight Microsoft 365 Exchange reports and delivers them to Devo over mutual-TLS syslog: every record arrives, the
//! collector knows that it did, and an operator can see it.
//!
//! # The map
//!
//! ```text
//! config ─▶ Config ─▶ one Service for each enabled report          (Client: sign-in, limiter, connections, clock; shared by an input's services)
//! ledger.cursor ─▶ window::Schedule::next ─▶ windows, each of about one page ─▶ several are fetched side by side (service::prefetch)
//!    window in its turn ─▶ its rows and their fingerprints (record) ─▶ what is new (dedup) ─▶ lines ─▶ relay::Delivery of many windows
//!    delivery full, or nothing more to deliver ─▶ Receipt ─▶ ledger: journal ─▶ ledger: commit(cursor, entries)
//! ```
//!
//! Early passes (`service::passes`) do the same at shorter delays, by `agenda`, each with a frontier in the place of the cursor, and with
//! `ledger::Delivered` in the place of the journal: what they deliver there is known to the deduplication of every other pass.
//!
//! - [`config`]: the file as a model that can be run · [`report`]: the eight reports as data
//! - [`service`]: one task a report; it alone knows all parts, sleeps and retries · `delivery`: the outputs of one service
//! - `run`: the whole, from what is `prepared` to the stop · `fleet`: the inputs that run · `tenant`: one of them, with its services
//! - [`reload`]: the configuration read again while they do
//! - [`window`], `agenda`, [`backoff`], [`record`], `dedup`: pure decisions on time, passes, waits and rows · `budget`: the memory for pages and lines
//! - `spread`: a tenant's place among others in time · [`needs`]: how many files and sockets a configuration needs
//! - [`clock`]: this machine's clock, and chance, which tests replace
//! - [`source`]: Microsoft's side: sign-in, walks, pages, errors with their remedy and the tenant's budget of requests
//! - [`relay`]: Devo's side: deliveries and receipts
//! - [`ledger`]: what is confirmed, on disk
//! - [`monitoring`]: what each service and output is doing, as a page, metrics, health and status
//! - [`command`]: what is done instead of collecting: `check`, `audit`, `compare`, `state`, `support-bundle`, `healthcheck`
//! - [`web`]: what `monitoring` knows, over HTTP and as a page
//! - [`log`]: what is said, on standard error · [`messages`]: the same, to Devo · [`length`]: a length of time as people read it · [`version`]: which build this is
//! - `foreign`: what somebody else wrote, without secrets and without what steers a terminal
//! - [`privileges`]: giving up root · [`process`]: limits, and shortages at the start · [`signal`]: what stops the collector
//! - [`memory`]: what a backlog has taken, kept and given back; shortages of it · [`blocking`]: threads for work that blocks
//!
//! # The invariants
//!
//! 0. Each part uses only those below it; the list of who uses whom is in `layers`, which is a test.
//! 1. `source`, `relay` and `ledger` do not know one another; only `service`, `check` and `monitoring`, which only looks, know several.
//! 2. `window`, `agenda`, `backoff`, `spread`, `needs`, `record`, `report` and `dedup` do no I/O, read no clock and log nothing; so do `service::collection` and
//!    `service::pipeline`.
//! 3. Nothing below `service` and `messages` sleeps on an error or looks at the stop signal, but for `ledger`, which tries for the
//!    state folder's lock for a second, and for what waits for a thread or for memory (`blocking`, `memory`).
//! 4. Nothing but an input's source (sign-in, limiter, connections, clock), the process's budgets of memory and of requests in flight and what is known of the relays'
//!    addresses is shared between services.
//! 5. Only `config` knows that it is YAML or JSON; only `relay::tls` and `source` name TLS types; only `ledger` writes under `state/`.
//! 6. A secret's type cannot be printed. Text that somebody else wrote is shown only as `foreign` lets it through.
//! 7. The cursor passes a window only when every output has confirmed all its records, and never moves back
//!    but by an operator's hand.

mod agenda;
pub mod backoff;
pub mod blocking;
mod budget;
pub mod clock;
pub mod command;
pub mod config;
mod dedup;
mod delivery;
mod error;
mod fleet;
mod foreign;
#[cfg(test)]
mod layers;
pub mod ledger;
pub mod length;
pub mod log;
pub mod memory;
pub mod messages;
pub mod monitoring;
pub mod needs;
mod pem;
mod prepared;
pub mod privileges;
pub mod process;
pub mod record;
pub mod relay;
pub mod reload;
pub mod report;
mod run;
pub mod service;
pub mod signal;
pub mod source;
mod spread;
mod stop;
mod stream;
mod tenant;
pub mod version;
pub mod web;
pub mod window;

pub use crate::prepared::{Prepared, prepare};
pub use crate::run::run;
pub use crate::tenant::Ends;
