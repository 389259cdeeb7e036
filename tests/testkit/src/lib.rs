//! The other side of the wire, for tests, benches and the demo: Microsoft's reporting service and a Devo relay, simulated.
//!
//! | module | what it is |
//! |---|---|
//! | [`report`] | the eight reports, as the service knows them |
//! | [`service`] | the reporting service and Graph: rows, paging, sign-in, faults on demand, a ledger of what was served |
//! | [`relay`] | the relay: mutual TLS, strict about the format, faults on demand, a count of what was read |
//! | [`disk`] | a small disk under a folder, to be filled or made read-only |
//! | [`peer`] | real relays: rsyslog, stunnel, `HAProxy`, OpenSSL |
//! | [`proxy`] | a TCP proxy: delay, cut, black hole, reset |
//! | [`tunnels`] | a web proxy: tunnels, with or without credentials |
//! | [`link`] | two hosts and the packets between them: delay, loss, black hole, closes that cross |
//! | [`pki`] | certificates and keys, made at run time, good and bad ones |
//! | [`outdated`] | certificates that nobody should issue any more |
//! | [`collector`] | runs the real collector: configuration, process, log, signals |
//! | [`traffic`] | rows for a demonstration: a backlog of all reports, then live ones |
//! | [`records`] | what identifies a record, and the comparison of what was served with what was read |
//!
//! It does not depend on the collector's crate and is written from the descriptions of the two peers alone, so that a
//! misread field cannot be wrong on both sides. All of it listens on loopback unless told otherwise.

pub mod collector;
pub mod disk;
pub mod link;
pub mod outdated;
pub mod peer;
pub mod pki;
pub mod proxy;
pub mod records;
pub mod relay;
pub mod report;
pub mod service;
pub mod traffic;
pub mod tunnels;

mod json;
mod socket;
mod sync;
