//! The configuration: one model behind every form in which it can be given.
//!
//! What a value must be is checked once, here; a [`Config`] in hand is one that can be run. Files of credentials are read here too
//! (`config/credential.rs`); whether the other files that it names exist is left to those who open them.
//!
//! The way is: text → tree of values (`config/yaml.rs`; for the hosted form `config/json.rs`, and `config/hosted.rs`, which alone
//! knows what is called otherwise there) → this model (`config/inputs.rs` and its neighbours, by way of `config/reader.rs`).

mod credential;
mod credentials;
mod endpoints;
mod file;
mod finding;
mod globals;
mod guard;
mod hosted;
mod input_files;
mod inputs;
mod json;
mod keys;
mod limits;
mod loggers;
mod masking;
mod monitoring;
mod names;
mod odd;
mod outputs;
mod reader;
mod redacted;
mod scalar;
mod schema;
mod services;
mod snapshot;
mod tree;
mod words;
mod yaml;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use url::Url;

use crate::record::Mask;
use crate::report::{AggregateBy, Origin, Report};

pub(crate) use endpoints::is_loopback;
pub use file::{Named, Source};
pub use finding::{Finding, Mistakes};
pub(crate) use odd::unquoted;
pub use scalar::time;
pub use schema::{schema, schema_of_inputs};
pub use snapshot::Snapshot;

use finding::Findings;
use inputs::Needed;
use reader::Section;
use tree::Node;

/// Reads the configuration; `now` is the present, which no `start_time` may be ahead of.
///
/// # Errors
///
/// Every mistake of its files, or the one that kept them from being read.
pub fn load(source: &Source, now: DateTime<Utc>) -> Result<Loaded, Mistakes> {
    Reading::of(source, now, &[]).loaded
}

/// The result of reading the configuration.
pub struct Reading {
    /// The configuration, or every mistake of its files but those of input files, which are left out where they have one.
    pub loaded: Result<Loaded, Mistakes>,
    /// What was read, as it was before.
    pub seen: Snapshot,
    /// A checksum of all values that are no secrets.
    pub hash: u32,
}

impl Reading {
    /// Reads the configuration while the inputs `running` run: those of an input file that has become of no use are in what is loaded, as they
    /// are.
    pub fn of(source: &Source, now: DateTime<Utc>, running: &[Arc<Input>]) -> Self {
        let mut seen = Snapshot::new(source.inputs_folder());
        for file in source.files() {
            seen.add(file);
        }
        let findings = Findings::new(&source.files());
        let mut hash = crc32fast::Hasher::new();
        let mut look = |path: &Path, tree: &Node, redacted: fn(&Node) -> Value| {
            hash.update(path.as_os_str().as_encoded_bytes());
            hash.update(redacted(tree).to_string().as_bytes());
        };
        let further = match seen.list() {
            Ok(files) => files,
            Err(error) => {
                let folder = source.inputs_folder().unwrap_or_default();
                let text = format!("the folder {} cannot be read: {error}", folder.display());
                findings.mistake(tree::Place::whole(0), "", text);
                vec![]
            }
        };
        let needed = match source.inputs_folder() {
            Some(folder) if folder.is_dir() => Needed::Nothing,
            _ => Needed::Enabled,
        };
        let tree = tree(source, &findings);
        if let Some(tree) = &tree {
            look(source.files()[0], tree, redacted::redacted);
        }
        let config = tree.and_then(|tree| config(&tree, now, &findings, needed));
        seen.extend(findings.credentials());
        let loaded = findings.conclude(config);
        let loaded = loaded.map(|(mut config, mut warnings, mut notes)| {
            let mut look = |path: &Path, tree: &Node| look(path, tree, redacted::of_inputs);
            let remarks =
                input_files::read(further, &mut config, now, running, &mut seen, &mut look);
            warnings.extend(remarks.warnings);
            notes.extend(remarks.notes);
            Loaded {
                config,
                warnings,
                notes,
            }
        });
        Reading {
            loaded,
            seen,
            hash: hash.finalize(),
        }
    }
}

/// Reads a configuration in YAML from its text; `path` is only what the findings call it.
///
/// # Errors
///
/// Every mistake of the text.
pub fn read(path: &Path, text: &str, now: DateTime<Utc>) -> Result<Loaded, Mistakes> {
    let findings = Findings::new(&[path]);
    let tree = yaml::tree(text, &findings);
    let config = tree.and_then(|tree| config(&tree, now, &findings, Needed::Enabled));
    let (config, warnings, notes) = findings.conclude(config)?;
    Ok(Loaded {
        config,
        warnings,
        notes,
    })
}

/// Where the configuration keeps state, though the rest of it may be of no use: a credential may be missing where the state is only
/// looked at. `None` if that cannot be told.
pub fn persistence(source: &Source) -> Option<Persistence> {
    globals(source).map(|globals| globals.state)
}

/// The configuration's values as they are written, those left out that may be secret, though it may be of no use. `None` if it cannot be
/// read.
pub fn redacted(source: &Source) -> Option<Value> {
    let findings = Findings::new(&source.files());
    let mut all = redacted::redacted(&*tree(source, &findings)?);
    let further = Snapshot::new(source.inputs_folder()).list();
    for path in further.unwrap_or_default() {
        let findings = Findings::of_inputs(&path);
        let tree =
            file::text(0, &path, "", &findings).and_then(|text| yaml::tree(&text, &findings));
        let shown = tree.map_or(Value::Null, |tree| redacted::of_inputs(&tree));
        all[path.display().to_string()] = shown;
    }
    Some(all)
}

/// What concerns the process as a whole, though the rest of the configuration may be of no use. `None` if that cannot be told.
pub fn globals(source: &Source) -> Option<Globals> {
    let findings = Findings::new(&source.files());
    let tree = tree(source, &findings)?;
    let file = Section::root(&tree, &findings)?;
    globals::read(&file.field("globals"))
}

fn tree(source: &Source, findings: &Findings) -> Option<Rc<Node>> {
    let texts = source.texts(findings)?;
    if let [job, collector] = texts.as_slice() {
        hosted::tree(job, collector, findings)
    } else {
        yaml::tree(texts.first()?, findings)
    }
}

/// A configuration that can be run, and what the operator should be told about it.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// What the operator should look at, though nothing keeps the collector from running.
    pub warnings: Vec<Finding>,
    /// What only somebody who debugs wants to know, such as settings of the original without a meaning here.
    pub notes: Vec<Finding>,
}

fn config(tree: &Node, now: DateTime<Utc>, findings: &Findings, needed: Needed) -> Option<Config> {
    let file = Section::root(tree, findings)?;
    let globals = globals::read(
        &file
            .field("globals")
            .required("`id` and `name` of the collector go here"),
    );
    let compression = globals
        .as_ref()
        .map_or(Compression::NEVER, |globals| globals.compression);
    let statistics_period = globals
        .as_ref()
        .map_or(Globals::STATISTICS_PERIOD, |globals| {
            globals.statistics_period
        });
    let field = file.field("outputs");
    let offered = outputs::Offered {
        default: outputs::read(&field, compression, statistics_period),
        names: outputs::names(&field),
        ..outputs::Offered::default()
    };
    let (inputs, disabled) = inputs::read(&file.field("inputs"), now, &offered, needed);
    file.warn_of_unknown();
    Some(Config {
        globals: globals?,
        outputs: offered.default,
        inputs: inputs.into_iter().map(Arc::new).collect(),
        disabled,
        left_out: vec![],
    })
}

/// The whole configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// What concerns the process as a whole.
    pub globals: Globals,
    /// Where records go, those of each input to the ones that it names, and the collector's own messages to all of them.
    pub outputs: Vec<Output>,
    /// Where the records come from; inputs that are not enabled are left out.
    pub inputs: Vec<Arc<Input>>,
    /// The names and ids of the inputs that are not enabled. Their state is kept.
    pub disabled: Vec<(String, String)>,
    /// The input files that cannot be used.
    pub left_out: Vec<LeftOut>,
}

/// An input file that cannot be used. What it holds does not run, or goes on as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The file.
    pub file: PathBuf,
    /// Why.
    pub mistakes: Mistakes,
}

impl Config {
    /// Every output by its name, also those that only inputs know.
    pub fn all_outputs(&self) -> Vec<&Output> {
        let mut known = HashSet::new();
        let of_inputs = self.inputs.iter().flat_map(|input| &input.outputs);
        let all = self.outputs.iter().chain(of_inputs);
        all.filter(|output| known.insert(output.name.as_str()))
            .collect()
    }

    /// The files that are read again and again while the collector runs: certificates and keys.
    pub fn files(&self) -> Vec<PathBuf> {
        let all = Self::files_of(self.all_outputs(), &self.inputs);
        all.collect()
    }

    /// Those of them that the main file names, without which nothing runs.
    pub fn main_files(&self) -> Vec<PathBuf> {
        let inputs = self.inputs.iter().filter(|input| input.file.is_none());
        Self::files_of(&self.outputs, inputs).collect()
    }

    fn files_of<'a>(
        outputs: impl IntoIterator<Item = &'a Output>,
        inputs: impl IntoIterator<Item = &'a Arc<Input>>,
    ) -> impl Iterator<Item = PathBuf> {
        let relays = outputs.into_iter().flat_map(|output| match &output.kind {
            OutputKind::Relay(relay) => {
                vec![relay.chain.clone(), relay.cert.clone(), relay.key.clone()]
            }
            OutputKind::Syslog(_) | OutputKind::Console | OutputKind::Printed(_) => vec![],
        });
        let tenants = inputs.into_iter().flat_map(|input| {
            let own = match &input.credentials {
                Credentials::Certificate {
                    client_certificate,
                    client_key,
                    ..
                } => {
                    vec![client_certificate.clone(), client_key.clone()]
                }
                Credentials::Basic { .. } | Credentials::Secret { .. } => vec![],
            };
            own.into_iter().chain(input.ca_bundle.clone())
        });
        relays.chain(tenants)
    }

    /// The same with nothing delivered: the lines of each input's first output are printed.
    #[must_use]
    pub fn dry(mut self) -> Self {
        let inputs = self.inputs.iter_mut();
        let of_inputs = inputs.map(|input| &mut Arc::make_mut(input).outputs);
        for outputs in std::iter::once(&mut self.outputs).chain(of_inputs) {
            outputs.truncate(1);
            for output in outputs {
                output.kind = OutputKind::Printed(Box::new(output.kind.clone()));
            }
        }
        self
    }
}

/// What concerns the process as a whole.
#[derive(Clone, Debug)]
pub struct Globals {
    /// The collector's id, as given.
    pub id: String,
    /// The collector's name, as given.
    pub name: String,
    /// Log at DEBUG.
    pub debug: bool,
    /// Run on several threads.
    pub multiprocessing: bool,
    /// Where cursors and journals are kept.
    pub state: Persistence,
    /// Whether lines are gzipped on their way to relays behind mutual TLS.
    pub compression: Compression,
    /// What an operator can see, and where.
    pub monitoring: Monitoring,
    /// How often each output tells what it has been sent.
    pub statistics_period: Duration,
    /// The most requests in flight at once beyond one for each service, over all inputs.
    pub concurrent_requests: u32,
}

impl Globals {
    /// As many as one input may have at most: so it is no bound for a tenant alone. More would seldom find memory for their pages.
    pub const CONCURRENT_REQUESTS: u32 = 64;

    /// The original's default.
    pub const STATISTICS_PERIOD: Duration = Duration::from_mins(5);
}

/// What an operator can see, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitoring {
    /// Where the status page, metrics and health are served.
    pub listen: Listen,
    /// A service is stalled that has not advanced for so long while a window was due.
    pub stalled_after: Duration,
}

/// Where the status page, metrics and health are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Off,
    /// At this address. With the port 0 the system chooses one, which the log tells.
    At(SocketAddr),
}

/// Where cursors and journals are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Persistence {
    /// In a folder on disk.
    Directory(PathBuf),
    /// In memory: after its end the collector knows nothing of what it has delivered.
    Memory {
        /// The folder on disk that state would be kept in, where the original collector may have left its files.
        beside: PathBuf,
    },
}

impl Persistence {
    /// The same kept in memory.
    #[must_use]
    pub fn in_memory(self) -> Self {
        match self {
            Self::Directory(beside) | Self::Memory { beside } => Self::Memory { beside },
        }
    }
}

/// When and how lines are gzipped on their way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Compression {
    /// The share of what may wait at most, from which on lines are gzipped: over 1.0 never, negative always.
    pub threshold: f64,
    /// zlib's level, from 0 to 9.
    pub level: u32,
    /// The bytes of lines in one gzip member, about.
    pub member_bytes: usize,
}

impl Compression {
    /// The original's default.
    pub const NEVER: Self = Self {
        threshold: 1.1,
        level: 6,
        member_bytes: 51_200,
    };

    /// Whether lines are gzipped where `fullness` of what may wait does: from 0.0 to 1.0, or more.
    pub fn applies(&self, fullness: f64) -> bool {
        fullness.clamp(0.0, 1.0) >= self.threshold
    }
}

/// One place where the records go.
#[derive(Clone, Debug, PartialEq)]
pub struct Output {
    /// The output's key in the file; safe in a file name.
    pub name: String,
    /// What kind of peer it is.
    pub kind: OutputKind,
    /// How often it is told what it has been sent.
    pub statistics_period: Duration,
}

/// What kind of peer an output is.
#[derive(Clone, Debug, PartialEq)]
pub enum OutputKind {
    /// A relay behind mutual TLS.
    Relay(RelayOutput),
    /// A relay behind plain TCP.
    Syslog(SyslogOutput),
    /// One JSON object a line on standard output.
    Console,
    /// The lines that the other kind of peer would get, on standard output.
    Printed(Box<OutputKind>),
}

/// A relay behind mutual TLS.
#[derive(Clone, Debug, PartialEq)]
pub struct RelayOutput {
    /// The relay's host name or IP address.
    pub address: String,
    /// The relay's TCP port.
    pub port: u16,
    /// PEM file: the trust anchors, all of its certificates.
    pub chain: PathBuf,
    /// PEM file: our certificate, and what is between it and its authority.
    pub cert: PathBuf,
    /// PEM file: our certificate's private key.
    pub key: PathBuf,
    /// Whether the relay's certificate has to name `address`.
    pub verify_hostname: bool,
    /// What may confirm a delivery.
    pub receipt: ReceiptPolicy,
    /// Whether lines are gzipped on their way.
    pub compression: Compression,
}

/// A relay behind plain TCP, of one's own.
#[derive(Clone, Debug, PartialEq)]
pub struct SyslogOutput {
    /// The relay's host name or IP address.
    pub address: String,
    /// The relay's TCP port.
    pub port: u16,
    /// What may confirm a delivery.
    pub receipt: ReceiptPolicy,
}

/// What may confirm a delivery: which kinds of receipt, and how an address has to show that it gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiptPolicy {
    /// What empty probes have shown; TCP's acknowledgement at an address that has answered none of them for ten minutes.
    StandIn,
    /// The same, and TCP's acknowledgement never.
    Required,
    /// Nothing but the relay's `close_notify`.
    CloseNotify,
    /// As by default, but one probe is enough for an end of stream without `close_notify`.
    Ended,
    /// TCP's acknowledgement, whatever the relay does.
    Tcp,
}

impl OutputKind {
    /// What may confirm a delivery. The console takes what it has taken.
    pub fn receipt(&self) -> ReceiptPolicy {
        match self {
            Self::Relay(relay) => relay.receipt,
            Self::Syslog(relay) => relay.receipt,
            Self::Console | Self::Printed(_) => ReceiptPolicy::StandIn,
        }
    }
}

/// One tenant and the services that collect from it.
#[derive(Clone, Debug, PartialEq)]
pub struct Input {
    /// The input's key in the file; safe in a file name.
    pub name: String,
    /// The input's id, as given; safe in a file name.
    pub id: String,
    /// How the input signs in.
    pub credentials: Credentials,
    /// The most requests a second, all services together.
    pub requests_per_second: NonZeroU32,
    /// Further limits; every one of them applies.
    pub requests_limits: Vec<RequestsLimit>,
    /// Requests in flight at once beyond one for each service.
    pub concurrent_requests: u32,
    /// Goes into each record as `@devo_environment`.
    pub environment: Option<String>,
    /// The reporting service's root, ending in a slash: https, or http on loopback.
    pub base_url: Url,
    /// Where tokens are had, ending in a slash: `{authority_url}{tenant_id}/oauth2/v2.0/token`. https, or http on loopback.
    pub authority_url: Url,
    /// The scope that a token is asked for.
    pub scope: String,
    /// Where message traces can be had from Microsoft Graph; `None` where they cannot.
    pub graph: Option<Graph>,
    /// The most requests to Graph in any five minutes.
    pub graph_requests: NonZeroU32,
    /// PEM file: further trust anchors for HTTPS.
    pub ca_bundle: Option<PathBuf>,
    /// The input file that it stands in; `None` for the main file.
    pub file: Option<PathBuf>,
    /// Where its records go, one output at least.
    pub outputs: Vec<Output>,
    /// The services to run.
    pub services: Vec<ServiceConfig>,
}

/// Microsoft Graph, as an input reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Its root, ending in a slash: https, or http on loopback.
    pub url: Url,
    /// The scope that a token for it is asked for.
    pub scope: String,
}

/// Which of Microsoft's services is asked for message traces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SourceChoice {
    /// The reporting service while it answers, and Graph afterwards.
    #[default]
    Auto,
    /// This one alone.
    Only(Origin),
}

/// A budget over a longer period than a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestsLimit {
    /// The period.
    pub period: Duration,
    /// The most requests in that period.
    pub number_of_requests: NonZeroU32,
}

/// How an input signs in.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// Basic authentication, which Microsoft turned off in the winter of 2022/23.
    Basic {
        /// The account, an address.
        username: String,
        /// Its password.
        password: SecretString,
    },
    /// OAuth 2.0 client credentials with a shared secret.
    Secret {
        /// The directory's id or domain.
        tenant_id: String,
        /// The application's id.
        client_id: String,
        /// The application's secret.
        client_secret: SecretString,
    },
    /// OAuth 2.0 client credentials with a certificate.
    Certificate {
        /// The directory's id or domain.
        tenant_id: String,
        /// The application's id.
        client_id: String,
        /// PEM file: the application's certificate.
        client_certificate: PathBuf,
        /// PEM file: the certificate's RSA private key.
        client_key: PathBuf,
    },
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.values() == other.values()
    }
}

impl Credentials {
    /// All values of one kind of credentials, in a fixed order.
    fn values(&self) -> (u8, [&OsStr; 4]) {
        match self {
            Self::Basic { username, password } => {
                let password = password.expose_secret();
                (0, [username, password, "", ""].map(OsStr::new))
            }
            Self::Secret {
                tenant_id,
                client_id,
                client_secret,
            } => {
                let secret = client_secret.expose_secret();
                (1, [tenant_id, client_id, secret, ""].map(OsStr::new))
            }
            Self::Certificate {
                tenant_id,
                client_id,
                client_certificate,
                client_key,
            } => {
                let (certificate, key) = (client_certificate.as_os_str(), client_key.as_os_str());
                (
                    2,
                    [tenant_id.as_ref(), client_id.as_ref(), certificate, key],
                )
            }
        }
    }
}

/// One report to collect, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceConfig {
    /// The report.
    pub report: &'static Report,
    /// How often a new window is due.
    pub period: Duration,
    /// How far behind the present the service stays, since rows appear late.
    pub delay: Duration,
    /// Shorter delays at which windows are read as well, ascending; what is there by then goes out at once.
    pub early_passes: Vec<Duration>,
    /// Whether early passes deliver what they find, or only count it.
    pub early_passes_deliver: bool,
    /// Where a service without state starts.
    pub start_time: Option<DateTime<Utc>>,
    /// A value other than the stored one clears the service's state; as given.
    pub reset_persistence_auth: Option<String>,
    /// The buckets of a traffic report; `None` for the others.
    pub aggregate_by: Option<AggregateBy>,
    /// What is masked in each record.
    pub mask: Mask,
    /// Limits for this service alone. Those of its input apply as well.
    pub requests_limits: Vec<RequestsLimit>,
    /// Which service is asked; there is a choice for message traces only.
    pub source: SourceChoice,
}
