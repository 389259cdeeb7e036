//! A network that fails, with the real kernel's TCP on both sides: the collector on one host, the relay on another, and the packets
//! between them in the test's hands.
//!
//! Closes that cross behind a balancer have no test here: what it holds in its buffers it has acknowledged in the relay's place, and a
//! relay that ends in order by itself just then cannot be told from one that answers. Such losses are outside the promise.

mod balancers;
mod closes;
mod cuts;
mod names;
mod outputs;
mod pauses;
mod receipts;
mod setting;
mod silence;
