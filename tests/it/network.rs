//! A network that fails, with the real kernel's TCP on both sides: the collector on one host, the relay on another, and the packets
//! between them in the test's hands.

mod closes;
mod setting;
