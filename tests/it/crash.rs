//! Crashes: the real collector is killed at random moments and at every step of its I/O, its disk refuses, its files are torn, and a
//! day's faults come at once. After each run what the service has is compared with what the relays read.
//!
//! The test command runs a sample. `CRASH_RUNS` makes it long, `CRASH_SEED` runs one again: see `tests/README.md`.

mod books;
mod effort;
mod moments;
mod order;
mod refusals;
mod scene;
mod soak;
mod steps;
mod torn;
pub(crate) mod tracer;
