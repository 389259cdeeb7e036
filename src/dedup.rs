//! Which rows are new, and which are known already: pure, without clock, I/O or log.
//!
//! A row is known if it came with the window before (both ends of a range are inclusive), if it came in an earlier walk of the same
//! window, or if an output confirmed it before a restart. Everything else is new. Rows that are equal within one page are as many records.
#![deny(clippy::disallowed_methods)]

mod before;
mod rows;
mod window;

pub(crate) use window::{Deduplicator, Elsewhere, Finished, Kind, New, Verdict, in_any};
