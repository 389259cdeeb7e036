//! A network that fails, with the real kernel's TCP on both sides: the collector on one host, the relay on another, and the packets
//! between them in the test's hands.
//!
//! A balancer that ends TCP and passes TLS on has no test here: what it holds in its buffers when it goes away, it has acknowledged in
//! the relay's place, and closes that cross behind it cannot be told from an answer. Its losses are outside the promise.

mod closes;
mod cuts;
mod names;
mod outputs;
mod pauses;
mod setting;
mod silence;
