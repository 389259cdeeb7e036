//! `inputs`: the tenants to collect from.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};

use super::outputs::Offered;
use super::reader::{Field, Section};
use super::words::{listed, quoted};
use super::{Credentials, Input, ServiceConfig, credentials, endpoints, limits, names, services};
use crate::report::REPORTS;

const ID_LENGTH_MAX: usize = 5;
const SERVICES: &str = "services";

/// The original's default.
const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);

/// No service answers faster for more requests at once than these.
pub(super) const CONCURRENT: RangeInclusive<u32> = 0..=64;
const CONCURRENT_REQUESTS: u32 = 4;

/// Microsoft gives a tenant 100 requests to Graph's message trace in any five minutes, for all its tools together (documented).
const GRAPH_REQUESTS: NonZeroU32 = NonZeroU32::MIN.saturating_add(89);

const BASIC: &str = "Graph takes no user name and password: give `tenant_id`, `client_id` and `client_secret`, or a certificate";

/// Which inputs there have to be.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Needed {
    /// One at least that is enabled.
    Enabled,
    /// One at least, which need not be enabled.
    Listed,
    /// None: others may have them.
    Nothing,
}

/// Reads the enabled inputs. Those that are not are looked through as well, for warnings only; of these the names and ids are returned.
pub(super) fn read(
    field: &Field<'_>,
    now: DateTime<Utc>,
    offered: &Offered,
    needed: Needed,
) -> (Vec<Input>, Vec<(String, String)>) {
    let Some(section) = field.section_or_empty() else {
        return (Vec::new(), Vec::new());
    };
    let fields: Vec<_> = section
        .fields()
        .filter(|field| field.key() != SERVICES)
        .collect();
    let beside = section
        .entry(SERVICES)
        .filter(Field::is_given)
        .map(|field| Beside::new(field, &fields));

    let mut names = HashSet::new();
    let mut inputs = Vec::new();
    let mut disabled = 0;
    let mut names_of_disabled = Vec::new();
    for field in &fields {
        let Some(section) = field.section_or_empty() else {
            continue;
        };
        if section.field("enabled").boolean() == Some(false) {
            disabled += 1;
            section.findings().leniently(|| {
                let identity = identity(field, &section);
                names_of_disabled.extend(identity.0.clone().zip(identity.1.clone()));
                input(field, &section, identity, beside.as_ref(), (now, offered))
            });
            continue;
        }
        let identity = identity(field, &section);
        let context = (now, offered);
        let Some(input) = input(field, &section, identity, beside.as_ref(), context) else {
            continue;
        };
        if !names.insert(input.name.clone()) {
            field.mistake(format!(
                "two enabled inputs are called {}: rename one of them",
                quoted(&input.name)
            ));
        }
        inputs.push(input);
    }
    if fields.is_empty() && needed != Needed::Nothing {
        section.mistake("no input: give at least one, with `id`, `credentials` and `services`");
    } else if disabled == fields.len() && needed == Needed::Enabled {
        section.mistake("no input is enabled: set `enabled: true` on one at least");
    }
    (inputs, names_of_disabled)
}

/// Services that stand beside the inputs rather than under one, which is how the documentation prints its sample.
struct Beside<'a> {
    field: Field<'a>,
    /// The input that they belong to, where that is clear.
    owner: Option<&'a str>,
}

impl<'a> Beside<'a> {
    fn new(field: Field<'a>, inputs: &[Field<'a>]) -> Self {
        let without: Vec<_> = inputs
            .iter()
            .filter(|input| !input.holds(SERVICES))
            .map(Field::key)
            .collect();
        let owner = match without.as_slice() {
            [only] => Some(*only),
            [] => {
                if !inputs.is_empty() {
                    field.mistake(
                        "these services stand beside the inputs, which all have services of their own: move them under \
                         one, or remove them",
                    );
                }
                None
            }
            several => {
                field.mistake(format!(
                    "these services stand beside {}, and it is not clear whose they are: move them under the input \
                     that they belong to",
                    listed(several, "and")
                ));
                None
            }
        };
        Self { field, owner }
    }
}

/// The input's name and id, which its state is found by; `None` after a mistake.
fn identity(field: &Field<'_>, section: &Section<'_>) -> (Option<String>, Option<String>) {
    let id = section
        .field("id")
        .required("the input's id, a number of up to 5 digits");
    (names::of_key(field), names::id(&id, ID_LENGTH_MAX))
}

fn input(
    field: &Field<'_>,
    section: &Section<'_>,
    (name, id): (Option<String>, Option<String>),
    beside: Option<&Beside<'_>>,
    (now, offered): (DateTime<Utc>, &Offered),
) -> Option<Input> {
    let credentials = credentials::read(section.field("credentials"));
    let concurrent_requests = section
        .field("concurrent_requests")
        .number(CONCURRENT, " of requests")
        .unwrap_or(CONCURRENT_REQUESTS);
    let requests_per_second = limits::per_second(section).unwrap_or(REQUESTS_PER_SECOND);
    let requests_limits = limits::read(section);
    let environment = section.field("environment").text();
    let endpoints = endpoints::read(section);
    let ca_bundle = names::file(&section.field("ca_bundle"), names::CERTIFICATES);
    let start_time = services::start_time(&section.field("start_time"), now);
    let graph_requests = section
        .field("graph_requests_per_5_minutes")
        .number(limits::REQUESTS, " of requests")
        .and_then(NonZeroU32::new);
    let no_graph = match (&endpoints, &credentials) {
        (_, Some(Credentials::Basic { .. })) => Some(BASIC),
        (Some(endpoints), _) => endpoints.no_graph,
        (None, _) => None,
    };
    let context = services::Context {
        start_time,
        now,
        no_graph,
    };
    let outputs = offered.chosen(&section.field("outputs"));
    let services = services(field.key(), section, beside, &context);
    section.warn_of_unknown();
    let endpoints = endpoints?;
    Some(Input {
        name: name?,
        id: id?,
        credentials: credentials?,
        requests_per_second,
        requests_limits,
        concurrent_requests,
        environment,
        base_url: endpoints.base_url,
        authority_url: endpoints.authority_url,
        scope: endpoints.scope,
        graph: endpoints.graph,
        graph_requests: graph_requests.unwrap_or(GRAPH_REQUESTS),
        ca_bundle,
        file: None,
        outputs,
        services,
    })
}

/// The input's own services, or those beside it.
fn services(
    input: &str,
    section: &Section<'_>,
    beside: Option<&Beside<'_>>,
    context: &services::Context,
) -> Vec<ServiceConfig> {
    let own = section.field(SERVICES);
    let field = match beside {
        Some(beside) if !own.is_given() => {
            if beside.owner != Some(input) {
                return Vec::new();
            }
            &beside.field
        }
        _ => &own,
    };
    let Some(section) = field.section_or_empty() else {
        return Vec::new();
    };
    if section.is_empty() {
        field.mistake(format!(
            "no service: name those to collect, each on a line of its own, such as `{}:`",
            REPORTS[0].service
        ));
    }
    services::read(&section, context)
}
