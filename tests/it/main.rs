//! The integration tests, a module per feature.

mod collecting;
mod configuration;
mod setting;
