//! What a person should look at, most urgent first.

use chrono::{DateTime, TimeDelta, Utc};

use super::{id, input_id, name, output_id, tenants};
use crate::length::Length;
use crate::monitoring::state::{Grade, State};
use crate::monitoring::status::{InputStatus, OutputStatus, ServiceStatus, Status};
use crate::source::DIFFERENCE_MAX;

/// As the alerts that ship have it: from then on a certificate is to be renewed, from then on records are about to be lost, and for so long
/// a loss is news.
const RENEW_WITHIN: TimeDelta = TimeDelta::days(14);
const DELETION_NEAR: TimeDelta = TimeDelta::hours(48);
const LOSS_IS_NEWS: TimeDelta = TimeDelta::days(1);

/// What a person should look at.
pub(super) struct Notice {
    pub(super) grade: Grade,
    /// The input that it is about, or one of those that it is about.
    pub(super) input: Option<String>,
    /// The card that it is about.
    pub(super) about: Option<String>,
    pub(super) who: String,
    pub(super) what: String,
}

impl Notice {
    /// Where more is told of it: on this page, or on an input's own.
    pub(super) fn link(&self, on_its_own: bool) -> Option<String> {
        let about = self.about.as_ref()?;
        let page = match &self.input {
            Some(input) if on_its_own => tenants::link(input),
            _ => String::new(),
        };
        Some(format!("{page}#{about}"))
    }

    /// All that there are, most urgent first.
    pub(super) fn all(status: &Status) -> Vec<Self> {
        let several_inputs = status.inputs.len() > 1;
        let hanging = status.health.live.iter().map(|line| Self {
            grade: Grade::Bad,
            input: None,
            about: None,
            who: status.name.clone(),
            what: line.clone(),
        });
        let services = status
            .services
            .iter()
            .flat_map(|service| of_service(service, several_inputs, status.now));
        let outputs = status
            .outputs
            .iter()
            .flat_map(|output| of_output(output, status));
        let inputs = status
            .inputs
            .iter()
            .flat_map(|input| of_input(input, status.now));
        let left_out = status.left_out.iter().flat_map(|file| {
            file.mistakes.iter().map(|mistake| Self {
                grade: Grade::Bad,
                input: None,
                about: None,
                who: "left out".to_owned(),
                what: mistake.clone(),
            })
        });
        let mut all: Vec<_> = hanging
            .chain(left_out)
            .chain(services)
            .chain(outputs)
            .chain(inputs)
            .collect();
        all.sort_by_key(|notice| std::cmp::Reverse(notice.grade));
        all
    }
}

fn of_service(
    service: &ServiceStatus,
    several_inputs: bool,
    now: DateTime<Utc>,
) -> impl Iterator<Item = Notice> {
    let notice = |grade, what: String| Notice {
        grade,
        input: Some(service.input.clone()),
        about: Some(id(service)),
        who: name(service, several_inputs),
        what,
    };
    let grade = service.state.grade();
    // A relay that is down is told once, with its output.
    let told = grade > Grade::Good && service.state != State::RelayDown;
    let state = told.then(|| notice(grade, service.state_text.to_owned()));
    let stalled = service.stalled && grade < Grade::Bad;
    let stalled = stalled.then(|| notice(Grade::Bad, "no progress for long".to_owned()));
    let unwritable = service.unwritable.then(|| {
        let what = "its state cannot be read or written, so that nothing is collected";
        notice(Grade::Bad, what.to_owned())
    });
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
        let what = if left > TimeDelta::zero() {
            let left = Length(left);
            format!("Microsoft begins to delete what is not delivered in {left}")
        } else {
            "Microsoft is deleting what is not delivered".to_owned()
        };
        Some(notice(grade, what))
    });
    let lost = service.last_loss.is_some_and(|at| now - at < LOSS_IS_NEWS);
    let unreachable = (lost && service.unreachable_seconds > 0).then(|| {
        let time = Length(super::seconds(service.unreachable_seconds));
        let what = format!("the records of {time} were deleted before they were collected");
        notice(Grade::Bad, what)
    });
    let capped = (lost && service.capped_windows > 0).then(|| {
        let what =
            "Microsoft has cut a result off at its cap; the log says which hours are not complete";
        notice(Grade::Bad, what.to_owned())
    });
    let withheld = (lost && service.withheld_windows > 0).then(|| {
        let what = "Microsoft has returned rows that cannot be read; the log says which hours are not complete";
        notice(Grade::Bad, what.to_owned())
    });
    [
        state,
        stalled,
        unwritable,
        deletion,
        unreachable,
        capped,
        withheld,
    ]
    .into_iter()
    .flatten()
}

fn of_output(output: &OutputStatus, status: &Status) -> impl Iterator<Item = Notice> {
    let about = output_id(output);
    let has = |service: &&ServiceStatus| {
        let mut outlets = service.outputs.iter();
        outlets.any(|outlet| outlet.output == output.name)
    };
    let input = status.services.iter().find(has);
    let input = input.map(|service| service.input.clone());
    let outlets = status.services.iter().flat_map(|service| &service.outputs);
    let down = outlets.filter(|outlet| outlet.output == output.name && outlet.down);
    let down = match down.count() {
        0 => None,
        waiting => Some(Notice {
            grade: Grade::Bad,
            input: input.clone(),
            about: Some(about.clone()),
            who: output.name.clone(),
            what: format!(
                "does not confirm what it is given; services that wait for it: {waiting}"
            ),
        }),
    };
    let end = output.certificate_expiry;
    let ending = end.and_then(|end| ending((input, &about), &output.name, end, status.now));
    down.into_iter().chain(ending)
}

fn of_input(input: &InputStatus, now: DateTime<Utc>) -> impl Iterator<Item = Notice> {
    let about = input_id(input);
    let end = input.certificate_expiry;
    let ending =
        end.and_then(|end| ending((Some(input.name.clone()), &about), &input.name, end, now));
    let apart = input.clock_difference_seconds.map(TimeDelta::seconds);
    let apart = apart.filter(|apart| apart.abs() > DIFFERENCE_MAX);
    let clocks = apart.map(|apart| Notice {
        grade: Grade::Waiting,
        input: Some(input.name.clone()),
        about: Some(about),
        who: input.name.clone(),
        what: format!(
            "our clock and Microsoft's are {} apart",
            Length(apart.abs())
        ),
    });
    ending.into_iter().chain(clocks)
}

fn ending(
    (input, about): (Option<String>, &str),
    who: &str,
    end: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Notice> {
    let left = end - now;
    let (grade, what) = if left <= TimeDelta::zero() {
        (Grade::Bad, "the certificate has ended".to_owned())
    } else if left < RENEW_WITHIN {
        (
            Grade::Waiting,
            format!("the certificate ends in {}", Length(left)),
        )
    } else {
        return None;
    };
    Some(Notice {
        grade,
        input,
        about: Some(about.to_owned()),
        who: who.to_owned(),
        what,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_and_the_alerts_agree_on_when() {
        let alerts = include_str!("../../../config/monitoring/alerts.yaml");
        let (days, hours) = (RENEW_WITHIN.num_days(), DELETION_NEAR.num_hours());
        assert!(alerts.contains(&format!("- time() < {days} * 86400")));
        assert!(alerts.contains(&format!("deletion_seconds < {hours} * 3600")));
        let days = LOSS_IS_NEWS.num_days();
        assert!(alerts.contains(&format!("unreachable_seconds_total[{days}d]")));
        for metric in ["capped_windows_total", "withheld_windows_total"] {
            assert!(alerts.contains(&format!("{metric}[{days}d]")));
        }
    }
}
