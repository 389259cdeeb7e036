//! The integration tests, a module per feature.

mod answers;
mod collecting;
mod configuration;
mod relays;
mod setting;
