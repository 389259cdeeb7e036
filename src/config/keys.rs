//! Every key of `config.yaml`, what it takes and what it is for.

use std::ops::RangeInclusive;

use super::{endpoints, globals, inputs, limits, monitoring, outputs, services};

/// A key of a map.
#[derive(Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What the editor shows.
    pub(super) about: &'static str,
    /// Whether the map has to have it.
    pub(super) required: bool,
}

/// What stands under a key.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Any single value.
    Text,
    /// The same, and nobody else's business.
    Secret,
    /// `true` or `false`, in any spelling of YAML 1.1.
    Boolean,
    /// A whole number from the first to the second.
    Number(u32, u32),
    /// A whole number from the first to the second, or -1.
    Limit(u32, u32),
    /// A number from the first to the second.
    Fraction(f64, f64),
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A map of these keys.
    Section(&'static [Key]),
    /// A map of names, each with a map of these keys.
    Named(&'static [Key]),
    /// A list of maps of these keys.
    List(&'static [Key]),
    /// A list of single values.
    Texts,
    /// A list of whole numbers from the first to the second.
    Numbers(u32, u32),
    /// The inputs by name, or services beside them.
    Inputs,
    /// The services by name.
    Services,
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        name,
        kind,
        about,
        required: false,
    }
}

const fn must(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key {
        required: true,
        ..may(name, kind, about)
    }
}

const fn number(range: RangeInclusive<u32>) -> Kind {
    Kind::Number(*range.start(), *range.end())
}

const REQUESTS: Kind = Kind::Limit(*limits::REQUESTS.start(), *limits::REQUESTS.end());

const fn fraction(range: RangeInclusive<f64>) -> Kind {
    Kind::Fraction(*range.start(), *range.end())
}

const FOREIGN: &str = "A setting of the original that has no meaning here";

pub(super) const FILE: &[Key] = &[
    must(
        "globals",
        Kind::Section(GLOBALS),
        "The collector as a whole",
    ),
    must(
        "outputs",
        Kind::Named(OUTPUT),
        "Where the records go. An output gets the records of every input that does not name others",
    ),
    may(
        "inputs",
        Kind::Inputs,
        "Where the records come from: a tenant each. Further ones may stand in files of their own, inputs.d/*.yaml beside this one",
    ),
];

/// A file under `inputs.d/`.
pub(super) const INPUT_FILE: &[Key] = &[
    must(
        "inputs",
        Kind::Inputs,
        "Where records come from: a tenant each, of a name that no other file has",
    ),
    may(
        "outputs",
        Kind::Named(OUTPUT),
        "Where the records of this file's inputs go, and no others. Default: the outputs of the main file",
    ),
];

const GLOBALS: &[Key] = &[
    must("id", Kind::Text, "Names this collector: up to 5 digits"),
    must(
        "name",
        Kind::Text,
        "Names this collector: up to 10 letters, digits, `-` and `_`",
    ),
    may("debug", Kind::Boolean, "Log at DEBUG"),
    may(
        "multiprocessing",
        Kind::Boolean,
        "Run on several threads. One is enough for almost everybody",
    ),
    may(
        "persistence",
        Kind::Section(PERSISTENCE),
        "Where is kept what has been delivered, so that a restart goes on there",
    ),
    may(
        "devo_sender_threshold_for_using_gzip_in_transport_layer",
        fraction(globals::THRESHOLDS),
        "When lines to a Devo relay are gzipped: negative always, 1.1 never (default)",
    ),
    may(
        "devo_sender_compression_level",
        number(globals::LEVELS),
        "How hard gzip tries. Default: 6",
    ),
    may(
        "devo_sender_compression_buffer_in_bytes",
        number(globals::MEMBERS_BYTES),
        "About how many bytes of lines a gzip member holds. Default: 51200",
    ),
    may(
        "monitoring",
        Kind::Section(MONITORING),
        "Status page, metrics and health: what an operator can see",
    ),
    may(
        "sender_stats_period_in_sec",
        number(globals::STATISTICS_PERIODS_S),
        "How often the log tells what each output has been sent, in seconds. Default: 300",
    ),
    may(
        "concurrent_requests",
        number(globals::CONCURRENT),
        "Requests in flight at once beyond one for each service, over all inputs. Default: 64",
    ),
    may("queue_max_size_in_mb", Kind::Text, FOREIGN),
    may("queue_max_size_in_messages", Kind::Text, FOREIGN),
    may("queue_max_elapsed_time_in_sec", Kind::Text, FOREIGN),
    may("queue_wrap_max_size_in_messages", Kind::Text, FOREIGN),
    may("queue_generate_metrics", Kind::Text, FOREIGN),
    may("generate_collector_details", Kind::Text, FOREIGN),
];

const PERSISTENCE: &[Key] = &[
    may(
        "type",
        Kind::Choice(&["filesystem", "json", "memory"]),
        "`filesystem` (`json` is the same here); `memory`: the next start knows nothing of what was delivered",
    ),
    may(
        "config",
        Kind::Section(DIRECTORY),
        "Settings of `filesystem`",
    ),
];

const MONITORING: &[Key] = &[
    may(
        "listen",
        Kind::Text,
        "The address and port to serve them at over HTTP, or `off`. Default: `127.0.0.1:18514`",
    ),
    may(
        "stalled_after_in_seconds",
        number(monitoring::STALLED_AFTER_SECONDS),
        "A service counts as stalled that has not advanced for so long while a window was due. Default: 1800",
    ),
];

const DIRECTORY: &[Key] = &[may(
    "directory_name",
    Kind::Text,
    "The state folder. Default: `state`",
)];

const OUTPUT: &[Key] = &[
    must(
        "type",
        Kind::Choice(&[
            "devo_platform",
            "relay",
            "syslog",
            "in_house_relay",
            "sidecar",
            "console",
            "stdout",
        ]),
        "`devo_platform` or `relay`: mutual TLS; `syslog`, `in_house_relay` or `sidecar`: plain TCP; `console` or `stdout`",
    ),
    may(
        "config",
        Kind::Section(OUTPUT_CONFIG),
        "Where the relay is; all but the console need it",
    ),
];

const OUTPUT_CONFIG: &[Key] = &[
    may(
        "address",
        Kind::Text,
        "The relay's host name or IP address, such as `collector-eu.devo.io`",
    ),
    may(
        "port",
        number(outputs::PORTS),
        "The relay's TCP port. Default: 443 where there is TLS",
    ),
    may(
        "type",
        Kind::Choice(&["SSL", "TLS", "TCP", "ssl", "tls", "tcp"]),
        "`SSL`, or `TCP` where it is plain",
    ),
    may(
        "chain",
        Kind::Text,
        "A file in certs/: the authorities to trust",
    ),
    may("cert", Kind::Text, "A file in certs/: your certificate"),
    may(
        "key",
        Kind::Text,
        "A file in certs/: your certificate's private key",
    ),
    may(
        "verify_hostname",
        Kind::Boolean,
        "`false` for a relay whose certificate does not name its address. Default: `true`",
    ),
    may(
        "receipt",
        Kind::Choice(&["required", "close_notify", "ended", "tcp"]),
        "What confirms a delivery. Default: what empty deliveries have shown that the relay gives. `required`: the same, but never TCP's \
         word. `close_notify`: only the relay's own, authenticated by TLS. `ended`: also an end of stream, after one empty delivery. \
         `tcp`: TCP's word, whatever the relay does",
    ),
];

pub(super) const INPUT: &[Key] = &[
    must(
        "id",
        Kind::Text,
        "Names this input: up to 5 digits. Its state is kept under this id",
    ),
    may(
        "enabled",
        Kind::Boolean,
        "`false`: do not run this input. Default: `true`",
    ),
    must(
        "credentials",
        Kind::Section(CREDENTIALS),
        "`tenant_id`, `client_id` and `client_secret`; or these with `client_certificate` and `client_key` for the secret; or `username` and \
         `password`. Each value may be `${VARIABLE}`, or stand in the file that the key with `_file` names",
    ),
    may(
        "requests_per_second",
        REQUESTS,
        "The most requests a second, all services together; -1 for no limit. Default: 100000",
    ),
    may(
        "requests_limits",
        Kind::List(LIMIT),
        "Further limits; every one of them applies",
    ),
    may(
        "concurrent_requests",
        number(inputs::CONCURRENT),
        "Requests in flight at once beyond one for each service; adapts below it. Default: 4",
    ),
    may(
        "environment",
        Kind::Text,
        "Goes into each record as `@devo_environment`",
    ),
    may(
        "cloud",
        Kind::Choice(endpoints::CLOUDS),
        "Microsoft's cloud that the tenant is in: presets the addresses. Default: that of `base_url`, else `commercial`",
    ),
    may("base_url", Kind::Text, "The reporting service's root"),
    may(
        "graph_url",
        Kind::Text,
        "Microsoft Graph's root, where message traces are had once the reporting service has none; follows the cloud",
    ),
    may(
        "graph_requests_per_5_minutes",
        REQUESTS,
        "The most requests to Graph in any five minutes; Microsoft gives a tenant 100. Default: 90",
    ),
    may(
        "authority_url",
        Kind::Text,
        "Where tokens are had; follows the cloud that `base_url` is in",
    ),
    may(
        "scope",
        Kind::Text,
        "What a token is asked for; follows the cloud that `base_url` is in",
    ),
    may(
        "ca_bundle",
        Kind::Text,
        "A file in certs/: further authorities to trust for HTTPS",
    ),
    may(
        "start_time",
        Kind::Text,
        "Where a service begins that has not collected yet, such as `2024-05-07T15:35:24.133642` (UTC). Default: the present less the delay",
    ),
    may(
        "outputs",
        Kind::Texts,
        "The names of the outputs that this input's records go to. Default: all of the file",
    ),
    may(
        "services",
        Kind::Services,
        "The reports to collect. One that is not named here is not collected; one that is blank runs on defaults",
    ),
];

const LIMIT: &[Key] = &[
    must(
        "period",
        Kind::Text,
        "A number and one of s, m, h, d, w, M (31 days), y, such as `5m`",
    ),
    must(
        "number_of_requests",
        REQUESTS,
        "The most requests in that period; -1 for no limit",
    ),
];

const OBFUSCATION: &[Key] = &[
    must(
        "name",
        Kind::Texts,
        "The path of keys to what is masked, such as `[SenderAddress]`; `\"*\"` stands for every element of a list",
    ),
    may(
        "value",
        Kind::Text,
        "What takes its place. Default: `****SANITIZED****` for a text, -1 for a number, -1.0 with a fraction, `false` for a truth value",
    ),
];

const CREDENTIALS: &[Key] = &[
    may(
        "username",
        Kind::Secret,
        "An account; Microsoft turned this off in the winter of 2022/23",
    ),
    may(
        "username_file",
        Kind::Text,
        "A file in credentials/ that holds `username`",
    ),
    may("password", Kind::Secret, "The account's password"),
    may(
        "password_file",
        Kind::Text,
        "A file in credentials/ that holds `password`",
    ),
    may("tenant_id", Kind::Text, "The directory's id or domain"),
    may(
        "tenant_id_file",
        Kind::Text,
        "A file in credentials/ that holds `tenant_id`",
    ),
    may("client_id", Kind::Secret, "The application's id"),
    may(
        "client_id_file",
        Kind::Text,
        "A file in credentials/ that holds `client_id`",
    ),
    may(
        "client_secret",
        Kind::Secret,
        "The application's secret; put it in single quotes",
    ),
    may(
        "client_secret_file",
        Kind::Text,
        "A file in credentials/ that holds `client_secret`",
    ),
    may(
        "client_certificate",
        Kind::Text,
        "A file in credentials/: the application's certificate",
    ),
    may(
        "client_key",
        Kind::Text,
        "A file in credentials/: the certificate's private key",
    ),
];

pub(super) const SERVICE: &[Key] = &[
    may(
        "request_period_in_seconds",
        number(services::PERIODS_SECONDS),
        "How often there is something to collect. Default: 60",
    ),
    may(
        "override_time_delay_in_seconds",
        number(services::DELAYS_SECONDS),
        "How far behind the present the service stays: records appear up to a day late. Default: 90000",
    ),
    may(
        "early_passes_in_seconds",
        Kind::Numbers(
            *services::EARLY_SECONDS.start(),
            *services::EARLY_SECONDS.end(),
        ),
        "Shorter delays at which windows are read as well, such as `[300, 3600]`: what is there by then goes out at once. Default: none",
    ),
    may(
        "early_passes_deliver",
        Kind::Boolean,
        "`false`: early passes only count what is there by then, which shows how late records come. Default: `true`",
    ),
    may(
        "reset_persistence_auth",
        Kind::Text,
        "A value that differs from the last one clears what is kept of this service, such as `2024-05-07`",
    ),
    may(
        "start_time",
        Kind::Text,
        "As that of the input, for this service alone",
    ),
    may(
        "aggregate_by",
        Kind::Choice(&["hour", "day"]),
        "What one record counts. Default: `hour`",
    ),
    may(
        "obfuscation_data",
        Kind::List(OBFUSCATION),
        "What is masked in each record before it leaves the collector",
    ),
    may(
        "requests_per_second",
        REQUESTS,
        "The most requests a second of this service; those of the input hold as well",
    ),
    may(
        "requests_limits",
        Kind::List(LIMIT),
        "Further limits for this service; every one of them applies",
    ),
    may(
        "source",
        Kind::Choice(services::SOURCES),
        "Which of Microsoft's services is asked. Default: `auto`",
    ),
];
