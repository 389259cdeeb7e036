//! The page at `/`: what [`Status`] says, for people.
//!
//! One HTML text that asks for nothing else: no script, no font, no picture from elsewhere. It renders a status and knows nothing beside
//! it, so that it can never say more than `/status` does.

mod notice;
mod picture;
mod strip;
mod tenants;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::length::Length;
use crate::monitoring::Trouble;
use crate::monitoring::state::Grade;
use crate::monitoring::status::{InputStatus, OutletStatus, OutputStatus, ServiceStatus, Status};
use notice::Notice;

const STYLE: &str = include_str!("page/style.css");

/// What there is beside the page.
pub const SERVED: [&str; 6] = [
    "/status", "/metrics", "/log", "/healthz", "/readyz", "/livez",
];

/// How often a browser asks again.
const REFRESH_SECONDS: u32 = 30;

/// So many notices are shown at most.
const NOTICES_MAX: usize = 30;

/// The page that shows this status: where it is of several inputs, a table of these.
pub fn page(status: &Status) -> String {
    whole(status, None)
}

/// The page of one input, whose part of the status this is; it leads back to that of all.
pub fn page_of_input(status: &Status, input: &str) -> String {
    whole(status, Some(input))
}

fn whole(status: &Status, input: Option<&str>) -> String {
    let notices = Notice::all(status);
    let grade = notices.iter().map(|notice| notice.grade).max();
    let grade = grade.unwrap_or(Grade::Good);
    let name = input.map_or_else(
        || status.name.clone(),
        |input| format!("{input} · {}", status.name),
    );
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta http-equiv="refresh" content=(REFRESH_SECONDS);
                title { (verdict(grade)) " · " (name) }
                link rel="icon" href=(icon(grade));
                style { (PreEscaped(STYLE)) }
            }
            body {
                (head(status, input))
                main {
                    (summary(grade, &notices, status))
                    @if status.inputs.len() > 1 { (tenants::section(status, &notices)) } @else { (details(status)) }
                }
                footer {
                    "The same for machines: "
                    @for (at, path) in SERVED.iter().enumerate() {
                        @if at > 0 { ", " }
                        a href=(path) { (path) }
                    }
                    ". This page is fetched anew every " (REFRESH_SECONDS) " s."
                }
            }
        }
    };
    page.into_string()
}

/// All that there is of the services, outputs and inputs: for one input.
fn details(status: &Status) -> Markup {
    html! {
        section aria-labelledby="services" {
            h2 id="services" { "Services" }
            div.cards {
                @for service in &status.services { (card(service, status.now)) }
            }
        }
        section aria-labelledby="outputs" {
            h2 id="outputs" { "Outputs" }
            @for output in &status.outputs { (of_output(output, status)) }
        }
        section aria-labelledby="inputs" {
            h2 id="inputs" { "Inputs" }
            div.cards {
                @for input in &status.inputs { (of_input(input, status.now)) }
            }
        }
    }
}

/// How all of it is, in two or three words.
fn verdict(grade: Grade) -> &'static str {
    match grade {
        Grade::Good => "All is well",
        Grade::Waiting => "To be looked at",
        Grade::Bad => "Needs attention",
    }
}

/// The class of what has this grade, and the symbol that says it without a colour.
fn shown(grade: Grade) -> (&'static str, &'static str) {
    match grade {
        Grade::Good => ("good", "✓"),
        Grade::Waiting => ("waiting", "…"),
        Grade::Bad => ("bad", "!"),
    }
}

/// A disc in the browser's tab.
fn icon(grade: Grade) -> String {
    let colour = match grade {
        Grade::Good => "2da44e",
        Grade::Waiting => "d4a72c",
        Grade::Bad => "d1242f",
    };
    format!(
        "data:image/svg+xml,<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='%23{colour}'/></svg>"
    )
}

fn head(status: &Status, input: Option<&str>) -> Markup {
    html! {
        header {
            @match input {
                Some(input) => {
                    h1 { (input) }
                    p { a href="/" { "All tenants of " (status.name) } }
                }
                None => h1 { (status.name) },
            }
            p {
                "exchange-reports-collector " (status.version)
                " · started " (instant(status.started, status.now))
                " · as of " (clock(status.now)) ", all times in UTC"
            }
        }
    }
}

fn summary(grade: Grade, notices: &[Notice], status: &Status) -> Markup {
    let (class, symbol) = shown(grade);
    let in_step = |service: &&ServiceStatus| service.state.grade() == Grade::Good;
    let good = status.services.iter().filter(in_step).count();
    html! {
        section.summary.(class) aria-label="Summary" {
            p.verdict {
                span.symbol aria-hidden="true" { (symbol) }
                strong { (verdict(grade)) }
                " " (good) " of " (status.services.len()) " services get on."
            }
            @if !notices.is_empty() {
                ul {
                    @for notice in notices.iter().take(NOTICES_MAX) {
                        li {
                            @match notice.link(status.inputs.len() > 1) {
                                Some(link) => a href=(link) { (notice.who) },
                                None => (notice.who),
                            }
                            ": " (notice.what)
                        }
                    }
                    @if notices.len() > NOTICES_MAX {
                        li { "and " (notices.len() - NOTICES_MAX) " more, which the tenants' own pages tell" }
                    }
                }
            }
        }
    }
}

/// What a service's card is found by.
fn id(service: &ServiceStatus) -> String {
    format!("{}-{}", service.input, service.service)
}

/// The same for an output's.
fn output_id(output: &OutputStatus) -> String {
    format!("output-{}", output.name)
}

/// The same for an input's.
fn input_id(input: &InputStatus) -> String {
    format!("input-{}", input.name)
}

/// A service's name, with its input's where there are several.
fn name(service: &ServiceStatus, several_inputs: bool) -> String {
    if several_inputs {
        format!("{} {}", service.input, service.service)
    } else {
        service.service.to_owned()
    }
}

fn card(service: &ServiceStatus, now: DateTime<Utc>) -> Markup {
    let (class, symbol) = shown(service.state.grade());
    let lag = service.lag_seconds.map(TimeDelta::seconds);
    let deletion = service.deletion_seconds.map(TimeDelta::seconds);
    html! {
        article.card id=(id(service)) {
            h3 { (service.service) }
            p.report { (service.report) }
            p {
                span.badge.(class) { span aria-hidden="true" { (symbol) } " " (service.state_text) }
                " " (service.state.meaning())
            }
            dl {
                dt { "Lag" }
                dd { (known(lag.map(Length))) }
                @if let Some(at) = service.caught_up_at {
                    dt { "Caught up" }
                    dd { (instant(at, now)) }
                }
                dt { "Complete up to" }
                dd { (known(service.cursor.map(clock))) }
                @for pass in &service.passes {
                    dt { "Early, " (Length(seconds(pass.delay_seconds))) }
                    dd {
                        "up to " (known(pass.frontier.map(clock)))
                        ", lag " (known(pass.lag_seconds.map(TimeDelta::seconds).map(Length)))
                    }
                }
                @if let Some(window) = &service.window {
                    dt { "Collecting" }
                    dd { (clock(window.start)) " to " (clock(window.end)) }
                }
                @if let Some(source) = service.source {
                    dt { "Source" }
                    dd {
                        (source.title())
                        @if let Some(since) = service.source_since { ", from " (clock(since)) " on" }
                    }
                }
                @if let Some(window) = &service.last_empty_unconfirmed {
                    dt { "Empty, unconfirmed" }
                    dd {
                        (Length(seconds(service.empty_unconfirmed_seconds)))
                        ", the last " (clock(window.start)) " to " (clock(window.end))
                    }
                }
                dt { "Rate" }
                dd { (rate(service.records_per_second)) }
                dt { "Last window done" }
                dd { (service.last_window.map_or_else(|| html! { "none since the start" }, |at| instant(at, now))) }
                @if let Some(due) = service.due_seconds.filter(|due| *due >= 60) {
                    dt { "No progress for" }
                    dd { (Length(seconds(due))) }
                }
                dt { "Microsoft deletes in" }
                dd {
                    @match deletion {
                        Some(left) if left <= TimeDelta::zero() => "it is deleting now",
                        left => (known(left.map(Length))),
                    }
                }
            }
            @if let Some(trouble) = &service.trouble { (of_trouble(trouble, now)) }
            (picture::of(&service.history, now))
            @if let Some(audit) = &service.audit { (strip::of(audit)) }
            p.counts {
                "Since the start: rows " (grouped(service.fetched_records))
                ", delivered before " (grouped(service.duplicate_records))
                ", late " (grouped(service.late_records))
                ", windows " (grouped(service.windows))
                ", requests " (grouped(service.requests))
                @if service.capped_windows > 0 { ", windows cut off at a cap " (grouped(service.capped_windows)) }
                @if service.withheld_windows > 0 { ", windows with rows that cannot be read " (grouped(service.withheld_windows)) }
                @if service.unreachable_seconds > 0 {
                    "; the records of " (Length(seconds(service.unreachable_seconds))) " were deleted before they were collected"
                }
                "."
            }
        }
    }
}

fn of_trouble(trouble: &Trouble, now: DateTime<Utc>) -> Markup {
    html! {
        div.trouble.over[trouble.over] {
            p {
                strong { @if trouble.over { "Last error, over by now" } @else { "Last error" } }
                ", " (instant(trouble.at, now))
            }
            p.error { (trouble.error) }
            @if let (Some(action), false) = (&trouble.action, trouble.over) {
                p { strong { "What to do: " } (action) }
            }
        }
    }
}

fn of_output(output: &OutputStatus, status: &Status) -> Markup {
    let outlets: Vec<_> = status
        .services
        .iter()
        .filter_map(|service| {
            let mut outlets = service.outputs.iter();
            let outlet = outlets.find(|outlet| outlet.output == output.name)?;
            Some((service, outlet))
        })
        .collect();
    html! {
        article.card id=(output_id(output)) {
            h3 { (output.name) }
            p.report { (output.address) }
            @if let Some(end) = output.certificate_expiry {
                p { "Our certificate ends " (instant(end, status.now)) "." }
            }
            table {
                thead {
                    tr {
                        th scope="col" { "Service" }
                        th scope="col" { "State" }
                        th.number scope="col" { "Confirmed" }
                        th.number scope="col" { "Waiting" }
                        th.number scope="col" { "Sent again" }
                        th.number scope="col" { "Receipts" }
                        th.number scope="col" { "By an end" }
                        th.number scope="col" { "Stood in for" }
                        th scope="col" { "Last receipt" }
                    }
                }
                tbody {
                    @for (service, outlet) in &outlets { (row(service, outlet, status.now)) }
                }
            }
            @for (service, outlet) in &outlets {
                @if let Some(trouble) = outlet.trouble.as_ref().filter(|trouble| !trouble.over) {
                    h4 { (service.service) }
                    (of_trouble(trouble, status.now))
                }
            }
        }
    }
}

fn row(service: &ServiceStatus, outlet: &OutletStatus, now: DateTime<Utc>) -> Markup {
    let (grade, state) = if outlet.down {
        (Grade::Bad, "down")
    } else if outlet.unwritable {
        (Grade::Bad, "state not writable")
    } else if outlet.receipts + outlet.ended + outlet.stood_in > 0 {
        (Grade::Good, "takes records")
    } else {
        (Grade::Waiting, "no delivery yet")
    };
    let (class, symbol) = shown(grade);
    html! {
        tr {
            th scope="row" { a href={ "#" (id(service)) } { (service.service) } }
            td data-label="State" {
                span.badge.(class) { span aria-hidden="true" { (symbol) } " " (state) }
            }
            td.number data-label="Confirmed" { (grouped(outlet.confirmed_records)) }
            td.number data-label="Waiting" {
                (grouped(outlet.unconfirmed_records))
                @if let Some(oldest) = outlet.oldest_unconfirmed {
                    " " span.away { "(oldest " (Length(now - oldest)) ")" }
                }
            }
            td.number data-label="Sent again" { (grouped(outlet.resent_records)) }
            td.number data-label="Receipts" { (grouped(outlet.receipts)) }
            td.number data-label="By an end" { (grouped(outlet.ended)) }
            td.number data-label="Stood in for" { (grouped(outlet.stood_in)) }
            td data-label="Last receipt" { (outlet.last_receipt.map_or_else(|| html! { "none yet" }, |at| instant(at, now))) }
        }
    }
}

fn of_input(input: &InputStatus, now: DateTime<Utc>) -> Markup {
    html! {
        article.card id=(input_id(input)) {
            h3 { (input.name) }
            dl {
                dt { "Token ends" }
                dd { (input.token_expiry.map_or_else(|| html! { "none yet" }, |at| instant(at, now))) }
                @if let Some(end) = input.certificate_expiry {
                    dt { "Certificate ends" }
                    dd { (instant(end, now)) }
                }
                @if let Some(difference) = input.clock_difference_seconds {
                    dt { "Clocks" }
                    dd { (clocks(difference)) }
                }
                @if let Some(pause) = input.pause_seconds {
                    dt { "Pause left" }
                    dd { (Length(seconds(pause))) }
                }
            }
        }
    }
}

/// Our clock against the reporting service's, whose answers name whole seconds.
fn clocks(difference: i64) -> String {
    let apart = Length(TimeDelta::seconds(difference.abs()));
    match difference {
        -2..=2 => "agree with Microsoft's".to_owned(),
        3.. => format!("ours is {apart} ahead of Microsoft's"),
        _ => format!("ours is {apart} behind Microsoft's"),
    }
}

/// An instant, and how far away it is.
fn instant(at: DateTime<Utc>, now: DateTime<Utc>) -> Markup {
    html! {
        (clock(at)) " "
        span.away {
            @if at > now { "(in " (Length(at - now)) ")" } @else { "(" (Length(now - at)) " ago)" }
        }
    }
}

fn clock(at: DateTime<Utc>) -> Markup {
    html! { time datetime=(at.format("%Y-%m-%dT%H:%M:%SZ")) { (at.format("%Y-%m-%d %H:%M:%S")) } }
}

fn known(value: Option<impl maud::Render>) -> Markup {
    html! { @match value { Some(value) => (value), None => "not known yet" } }
}

fn seconds(seconds: u64) -> TimeDelta {
    TimeDelta::try_seconds(seconds.try_into().unwrap_or(i64::MAX)).unwrap_or(TimeDelta::MAX)
}

/// Records a second, or a minute where they are few.
fn rate(per_second: f64) -> String {
    if per_second >= 10.0 {
        format!("{per_second:.0} records/s")
    } else if per_second >= 1.0 {
        format!("{per_second:.1} records/s")
    } else {
        format!("{:.1} records/min", per_second * 60.0)
    }
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

impl maud::Render for Length {
    fn render_to(&self, buffer: &mut String) {
        maud::display(self).render_to(buffer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_in_groups_and_rates_in_a_unit_that_tells_something() {
        for (number, expected) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345_678, "12,345,678"),
        ] {
            assert_eq!(grouped(number), expected);
        }
        for (per_second, expected) in [
            (0.0, "0.0 records/min"),
            (0.05, "3.0 records/min"),
            (1.26, "1.3 records/s"),
            (1_234.5, "1234 records/s"),
        ] {
            assert_eq!(rate(per_second), expected);
        }
    }

    #[test]
    fn clocks_that_differ_are_told_apart() {
        assert_eq!(clocks(1), "agree with Microsoft's");
        assert_eq!(clocks(90), "ours is 1 min 30 s ahead of Microsoft's");
        assert_eq!(clocks(-3_600), "ours is 1 h 0 min behind Microsoft's");
    }
}
