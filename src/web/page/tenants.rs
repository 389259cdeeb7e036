//! The tenants in one table, worst first: what the page begins with where there are several.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::notice::Notice;
use super::{clock, grouped, instant, known, shown};
use crate::length::Length;
use crate::monitoring::state::{Grade, State};
use crate::monitoring::status::{ServiceStatus, Status};

/// One tenant in a line.
struct Tenant<'a> {
    name: &'a str,
    grade: Grade,
    /// The worst state of its services; none where it has no service.
    state: Option<State>,
    services: usize,
    /// So many of them get on.
    good: usize,
    lag: Option<TimeDelta>,
    /// Everything of it is complete up to here.
    cursor: Option<DateTime<Utc>>,
    waiting: u64,
    last_receipt: Option<DateTime<Utc>>,
}

/// The page of a tenant.
pub(super) fn link(name: &str) -> String {
    format!("/?input={name}")
}

/// A section with the table of all tenants.
pub(super) fn section(status: &Status, notices: &[Notice]) -> Markup {
    let tenants = all(status, notices);
    html! {
        section aria-labelledby="tenants" {
            h2 id="tenants" { "Tenants" }
            article.card {
                table {
                    thead {
                        tr {
                            th scope="col" { "Tenant" }
                            th scope="col" { "State" }
                            th.number scope="col" { "Services in step" }
                            th scope="col" { "Lag" }
                            th scope="col" { "Complete up to" }
                            th.number scope="col" { "Waiting" }
                            th scope="col" { "Last receipt" }
                        }
                    }
                    tbody { @for tenant in &tenants { (row(tenant, status.now)) } }
                }
            }
        }
    }
}

fn row(tenant: &Tenant<'_>, now: DateTime<Utc>) -> Markup {
    let (class, symbol) = shown(tenant.grade);
    let state = tenant.state.map_or("no service", State::text);
    html! {
        tr {
            th scope="row" { a href=(link(tenant.name)) { (tenant.name) } }
            td data-label="State" {
                span.badge.(class) { span aria-hidden="true" { (symbol) } " " (state) }
            }
            td.number data-label="Services in step" { (tenant.good) " of " (tenant.services) }
            td data-label="Lag" { (known(tenant.lag.map(Length))) }
            td data-label="Complete up to" { (known(tenant.cursor.map(clock))) }
            td.number data-label="Waiting" { (grouped(tenant.waiting)) }
            td data-label="Last receipt" { (tenant.last_receipt.map_or_else(|| html! { "none yet" }, |at| instant(at, now))) }
        }
    }
}

/// All tenants, the worst first: by grade, by state, by lag, by name.
fn all<'a>(status: &'a Status, notices: &[Notice]) -> Vec<Tenant<'a>> {
    let mut services: HashMap<&str, Vec<&ServiceStatus>> = HashMap::new();
    for service in &status.services {
        let of_input = services.entry(service.input.as_str());
        of_input.or_default().push(service);
    }
    let mut grades: HashMap<&str, Grade> = HashMap::new();
    for notice in notices {
        if let Some(input) = &notice.input {
            let grade = grades.entry(input).or_insert(notice.grade);
            *grade = notice.grade.max(*grade);
        }
    }
    let mut tenants: Vec<_> = { status.inputs.iter() }
        .map(|input| {
            let name = input.name.as_str();
            let own = services.get(name).map_or(&[][..], Vec::as_slice);
            Tenant::of(name, own, grades.get(name).copied())
        })
        .collect();
    tenants.sort_by(|one, other| {
        let worse = (other.grade, other.number(), other.lag);
        let worse = worse.cmp(&(one.grade, one.number(), one.lag));
        worse.then_with(|| one.name.cmp(other.name))
    });
    tenants
}

impl<'a> Tenant<'a> {
    fn of(name: &'a str, services: &[&ServiceStatus], noticed: Option<Grade>) -> Self {
        let states = services.iter().map(|service| service.state);
        let grades = states.clone().map(State::grade).chain(noticed);
        let outputs = services.iter().flat_map(|service| &service.outputs);
        // One that is not known yet may be behind all others.
        let cursors = services.iter().map(|service| service.cursor);
        let cursors: Option<Vec<_>> = cursors.collect();
        Tenant {
            name,
            grade: grades.max().unwrap_or(Grade::Good),
            state: states.clone().max_by_key(|state| state.number()),
            services: services.len(),
            good: states.filter(|state| state.grade() == Grade::Good).count(),
            lag: { services.iter() }
                .filter_map(|service| service.lag_seconds)
                .max()
                .map(TimeDelta::seconds),
            cursor: cursors.and_then(|cursors| cursors.into_iter().min()),
            waiting: outputs
                .clone()
                .map(|output| output.unconfirmed_records)
                .sum(),
            last_receipt: outputs.filter_map(|output| output.last_receipt).max(),
        }
    }

    fn number(&self) -> Option<u8> {
        self.state.map(State::number)
    }
}
