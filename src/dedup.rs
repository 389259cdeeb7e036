//! Which rows are new, and which are known already: pure, without clock, I/O or log.

mod agreement;
mod claims;
mod rows;
mod tally;

pub(crate) use agreement::{Agreement, Verdict, WALKS_MAX};
pub(crate) use claims::Accounts;
pub(crate) use tally::{Certainty, Tally};
