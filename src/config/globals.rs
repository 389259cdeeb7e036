//! `globals`: the collector as a whole.

use std::path::PathBuf;

use super::Globals;
use super::names::id;
use super::reader::{Field, Section};
use super::words::quoted;

const ID_LENGTH_MAX: usize = 5;
const NAME_LENGTH_MAX: usize = 10;
const STATE_DIRECTORY: &str = "state";

/// Settings of the original's SDK that steer parts which this collector does not have.
const FOREIGN: [&str; 10] = [
    "queue_max_size_in_mb",
    "queue_max_size_in_messages",
    "queue_max_elapsed_time_in_sec",
    "queue_wrap_max_size_in_messages",
    "queue_generate_metrics",
    "sender_stats_period_in_sec",
    "devo_sender_threshold_for_using_gzip_in_transport_layer",
    "devo_sender_compression_level",
    "devo_sender_compression_buffer_in_bytes",
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
    let state_directory = state_directory(&section.field("persistence"));
    section.note_foreign(&FOREIGN);
    section.warn_of_unknown();
    Some(Globals {
        id: id_given?,
        name: name_given?,
        debug,
        multiprocessing,
        state_directory,
    })
}

fn state_directory(field: &Field<'_>) -> PathBuf {
    let directory = field.section().and_then(|persistence| {
        check_type(&persistence.field("type"));
        let directory = persistence
            .field("config")
            .section()
            .and_then(|config| directory(&config));
        persistence.warn_of_unknown();
        directory
    });
    directory.unwrap_or_else(|| PathBuf::from(STATE_DIRECTORY))
}

fn directory(config: &Section<'_>) -> Option<PathBuf> {
    let directory = config.field("directory_name").text();
    config.warn_of_unknown();
    directory.map(PathBuf::from)
}

fn check_type(field: &Field<'_>) {
    let json = field.parse(|text| match text.to_lowercase().as_str() {
        "filesystem" => Ok(false),
        "json" => Ok(true),
        "memory" => Err("is not available yet in this version: use `filesystem`".to_owned()),
        "redis" => Err(
            "is not supported: use `filesystem`, and mount a volume at the state folder".to_owned(),
        ),
        _ => Err("is not a type of persistence: use `filesystem`".to_owned()),
    });
    if json == Some(true) {
        field.note(format!("{} is treated as `filesystem`", quoted("json")));
    }
}
