//! The outputs of one service: what they are handed is delivered, confirmed by a receipt, and journalled.
//!
//! An [`Outlet`] is the service's end; its task, the courier, owns the connection and the journal.
#![deny(clippy::disallowed_methods)]

mod addresses;
mod book;
mod counting;
mod courier;
mod lines;
mod order;
mod outlet;
mod shipment;
mod statistics;
mod telling;

pub(crate) use addresses::Shared;
pub(crate) use book::Book;
pub(crate) use order::{Batch, Held, Next, Rewound};
pub(crate) use outlet::{Outlet, Surroundings};
