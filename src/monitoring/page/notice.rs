//! What a person should look at, most urgent first.

use chrono::{DateTime, TimeDelta, Utc};

use super::{id, name};
use crate::monitoring::state::{Grade, State};
use crate::monitoring::status::{ServiceStatus, Status};
use crate::span::Span;

/// As the alerts that ship have it: from then on a certificate is to be renewed, and from then on records are about to be lost.
const RENEW_WITHIN: TimeDelta = TimeDelta::days(14);
const DELETION_NEAR: TimeDelta = TimeDelta::hours(48);

/// Clocks that differ by more are looked at: times in the log and in the records are then not the same.
const CLOCKS_APART: TimeDelta = TimeDelta::minutes(2);

/// What a person should look at.
pub(super) struct Notice {
    pub(super) grade: Grade,
    /// The card that it is about.
    pub(super) about: Option<String>,
    pub(super) who: String,
    pub(super) what: String,
}

impl Notice {
    /// All that there are, most urgent first.
    pub(super) fn all(status: &Status) -> Vec<Self> {
        let several_inputs = status.inputs.len() > 1;
        let services = status
            .services
            .iter()
            .flat_map(|service| of_service(service, several_inputs));
        let outputs = status.outputs.iter().filter_map(|output| {
            ending(
                &format!("output-{}", output.name),
                &output.name,
                output.certificate_expiry?,
                status.now,
            )
        });
        let inputs = status.inputs.iter().flat_map(|input| {
            let about = format!("input-{}", input.name);
            let ending = input
                .certificate_expiry
                .and_then(|end| ending(&about, &input.name, end, status.now));
            let apart = input.clock_difference_seconds.map(TimeDelta::seconds);
            let apart = apart.filter(|apart| apart.abs() > CLOCKS_APART);
            let clocks = apart.map(|apart| Self {
                grade: Grade::Waiting,
                about: Some(about),
                who: input.name.clone(),
                what: format!("our clock and Microsoft's are {} apart", Span(apart.abs())),
            });
            ending.into_iter().chain(clocks)
        });
        let mut all: Vec<_> = services.chain(outputs).chain(inputs).collect();
        all.sort_by_key(|notice| std::cmp::Reverse(notice.grade));
        all
    }
}

fn of_service(service: &ServiceStatus, several_inputs: bool) -> impl Iterator<Item = Notice> {
    let notice = |grade, what: String| Notice {
        grade,
        about: Some(id(service)),
        who: name(service, several_inputs),
        what,
    };
    let grade = service.state.grade();
    let state = (grade > Grade::Good).then(|| notice(grade, service.state_text.to_owned()));
    let stalled = service.stalled && grade < Grade::Bad;
    let stalled = stalled.then(|| notice(Grade::Bad, "no progress for long".to_owned()));
    let deletion = service.deletion_seconds.map(TimeDelta::seconds);
    let deletion = deletion.filter(|left| *left < DELETION_NEAR);
    let deletion = deletion.and_then(|left| {
        // One that catches up moves away from it, if it does so faster than time goes on.
        let grade = match service.state {
            State::UpToDate => return None,
            State::CatchingUp if service.caught_up_at.is_some() => return None,
            State::CatchingUp => Grade::Waiting,
            _ => Grade::Bad,
        };
        let left = Span(left.max(TimeDelta::zero()));
        let what = format!("Microsoft begins to delete what is not delivered in {left}");
        Some(notice(grade, what))
    });
    let unreachable = service.unreachable_seconds;
    let unreachable = (unreachable > 0).then(|| {
        let time = Span(super::seconds(unreachable));
        notice(
            Grade::Bad,
            format!("the records of {time} were deleted before they were collected"),
        )
    });
    [state, stalled, deletion, unreachable]
        .into_iter()
        .flatten()
}

fn ending(about: &str, who: &str, end: DateTime<Utc>, now: DateTime<Utc>) -> Option<Notice> {
    let left = end - now;
    let (grade, what) = if left <= TimeDelta::zero() {
        (Grade::Bad, "the certificate has ended".to_owned())
    } else if left < RENEW_WITHIN {
        (
            Grade::Waiting,
            format!("the certificate ends in {}", Span(left)),
        )
    } else {
        return None;
    };
    Some(Notice {
        grade,
        about: Some(about.to_owned()),
        who: who.to_owned(),
        what,
    })
}
