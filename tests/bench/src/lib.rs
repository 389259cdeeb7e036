//! What the collector costs, measured beside what it replaces and beside what the wire allows. Its command and the figures: `README.md`.
//!
//! | module | what it is |
//! |---|---|
//! | [`rows`], [`pages`] | millions of different rows, and the page server that they are drained from |
//! | [`relay`] | the relay that they are drained to: it knows whether every row came exactly once |
//! | [`programs`], [`child`] | who drains, and what that process cost |
//! | [`watcher`] | who watches the collector meanwhile |
//! | [`scene`] | one run; it counts only if exact |
//! | [`figures`], [`plot`] | many runs: medians, ratios, tables, a plot |
//! | [`measure`] | what is measured: drains, growth, size |

pub mod child;
pub mod figures;
mod gzip;
pub mod measure;
pub mod pages;
pub mod plot;
pub mod programs;
pub mod relay;
pub mod rows;
pub mod scene;
mod tls;
pub mod watcher;
