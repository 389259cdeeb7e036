//! Simulated Graph's message trace, asked as a plain HTTP client would ask it: each documented or seen fact.

mod asking;
mod client;
mod faults;
mod paging;
mod rows;

pub(crate) use client::token;
