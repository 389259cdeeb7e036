//! To be written.

pub mod backoff;
pub mod client;
pub mod config;
pub mod ledger;
pub mod limiter;
pub mod privileges;
pub mod record;
pub mod relay;
pub mod report;
pub mod service;
pub mod signal;
pub mod window;
