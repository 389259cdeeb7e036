//! The integration tests, a module per feature.

#![expect(
    clippy::unwrap_used,
    reason = "a test ends where something is not as it should be"
)]

mod answers;
mod audit;
mod backlog;
mod broken;
mod buckets;
mod bundle;
mod by_hand;
mod certificates;
mod checking;
mod clock;
mod codings;
mod collecting;
mod compare;
mod configuration;
mod crash;
mod dates;
mod dry;
mod empty;
mod failing;
mod fake_clock;
mod figures;
mod files;
mod graph;
mod gzip;
mod image;
mod in_memory;
mod instants;
mod lateness;
mod logging;
mod loops;
mod masking;
mod messages;
mod monitoring;
mod moving;
mod network;
mod once;
mod passes;
mod peers;
mod plain;
mod process;
mod proxies;
mod relays;
mod reloading;
mod results;
mod returning;
mod rows;
mod secrets;
mod setting;
mod shapes;
mod shifting;
mod side_by_side;
mod signing_in;
mod spellings;
mod state;
mod stated;
mod taking_over;
mod tenants;
mod unit;
