//! `globals`: the collector as a whole.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::monitoring;
use super::names::id;
use super::reader::{Field, Section};
use super::words::quoted;
use super::{Compression, Globals, Persistence};

const ID_LENGTH_MAX: usize = 5;
const NAME_LENGTH_MAX: usize = 10;
const STATE_DIRECTORY: &str = "state";
/// The least and the most that the original's SDK takes for the threshold of gzip.
pub(super) const THRESHOLDS: RangeInclusive<f64> = -1.0..=1.1;
/// zlib's.
pub(super) const LEVELS: RangeInclusive<u32> = 0..=9;
/// A delivery is smaller, so that more would mean nothing.
pub(super) const MEMBERS_BYTES: RangeInclusive<u32> = 1..=1 << 30;

/// What the original's SDK takes as the period of the senders' statistics.
pub(super) const STATISTICS_PERIODS_S: RangeInclusive<u32> = 60..=1_800;

/// A socket and a page each.
pub(super) const CONCURRENT: RangeInclusive<u32> = 0..=1_024;

/// Settings of the original's SDK that steer parts which this collector does not have.
const FOREIGN: [&str; 6] = [
    "queue_max_size_in_mb",
    "queue_max_size_in_messages",
    "queue_max_elapsed_time_in_sec",
    "queue_wrap_max_size_in_messages",
    "queue_generate_metrics",
    "generate_collector_details",
];

pub(super) fn read(field: &Field<'_>) -> Option<Globals> {
    let section = field.section()?;
    let id_given = id(
        &section
            .field("id")
            .required("the collector's id, a number of up to 5 digits"),
        ID_LENGTH_MAX,
    );
    let name_given = id(
        &section.field("name").required("the collector's name"),
        NAME_LENGTH_MAX,
    );
    let debug = section.field("debug").boolean().unwrap_or(false);
    let multiprocessing = section.field("multiprocessing").boolean().unwrap_or(false);
    let state = persistence(&section.field("persistence"));
    let compression = compression(&section);
    let monitoring = monitoring::read(&section.field("monitoring"));
    let statistics_period = section
        .field("sender_stats_period_in_sec")
        .number(STATISTICS_PERIODS_S, " of seconds")
        .map_or(Globals::STATISTICS_PERIOD, |seconds| {
            Duration::from_secs(seconds.into())
        });
    let concurrent_requests = section
        .field("concurrent_requests")
        .number(CONCURRENT, " of requests")
        .unwrap_or(Globals::CONCURRENT_REQUESTS);
    section.note_foreign(&FOREIGN);
    section.warn_of_unknown();
    Some(Globals {
        id: id_given?,
        name: name_given?,
        debug,
        multiprocessing,
        state,
        compression,
        monitoring,
        statistics_period,
        concurrent_requests,
    })
}

fn compression(section: &Section<'_>) -> Compression {
    let threshold = section
        .field("devo_sender_threshold_for_using_gzip_in_transport_layer")
        .parse(|text| {
            let number = text.parse::<f64>().ok();
            number
                .filter(|number| THRESHOLDS.contains(number))
                .ok_or_else(|| {
                    "is not allowed: give a number from -1.0 (always) to 1.1 (never)".to_owned()
                })
        });
    let level = section
        .field("devo_sender_compression_level")
        .number(LEVELS, "");
    let member_bytes = section
        .field("devo_sender_compression_buffer_in_bytes")
        .number(MEMBERS_BYTES, " of bytes")
        .and_then(|bytes| usize::try_from(bytes).ok());
    Compression {
        threshold: threshold.unwrap_or(Compression::NEVER.threshold),
        level: level.unwrap_or(Compression::NEVER.level),
        member_bytes: member_bytes.unwrap_or(Compression::NEVER.member_bytes),
    }
}

fn persistence(field: &Field<'_>) -> Persistence {
    let given = field.section().map(|section| {
        let in_memory = in_memory(&section.field("type"));
        let config = section.field("config").section();
        let directory = config.and_then(|config| directory(&config));
        section.warn_of_unknown();
        (in_memory, directory)
    });
    let (in_memory, directory) = given.unwrap_or_default();
    let kept = Persistence::Directory(directory.unwrap_or_else(|| STATE_DIRECTORY.into()));
    if in_memory { kept.in_memory() } else { kept }
}

fn directory(config: &Section<'_>) -> Option<PathBuf> {
    let directory = config.field("directory_name").text();
    config.warn_of_unknown();
    directory.map(PathBuf::from)
}

/// Whether the type asks for nothing to be kept on disk.
fn in_memory(field: &Field<'_>) -> bool {
    field.parse(|text| match text.to_lowercase().as_str() {
        "filesystem" => Ok(false),
        "json" => {
            field.note(format!("{} is treated as `filesystem`", quoted("json")));
            Ok(false)
        }
        "memory" => Ok(true),
        "redis" => Err(
            "is not supported: use `filesystem`, and mount a volume at the state folder".to_owned(),
        ),
        _ => Err("is not a type of persistence: use `filesystem` or `memory`".to_owned()),
    }) == Some(true)
}
