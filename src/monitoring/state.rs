//! What a service is doing, in one word that a person understands: pure.

use serde::Serialize;

/// What is known of a service at one instant.
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and any may go with any other"
)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its state is damaged or another tenant's: it is not run.
    pub given_up: bool,
    /// Its state has been opened.
    pub opened: bool,
    /// The reporting service has answered it since the start.
    pub heard: bool,
    /// A window is due.
    pub due: bool,
    /// What it asks for is refused, and only a person can mend that.
    pub refused: bool,
    /// An output cannot deliver what it has been given.
    pub relay_down: bool,
    /// The reporting service has asked for a pause, which is not over.
    pub throttled: bool,
    /// It has not advanced for long, though a window was due.
    pub stalled: bool,
    /// There is more to collect than comes at once where a service is in step.
    pub behind: bool,
}

/// What a service is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Not run until a person has mended its state.
    NotRunning,
    /// Waiting until a person has changed something at Microsoft or in the configuration.
    Refused,
    /// Waiting for a relay.
    RelayDown,
    /// Waiting because the reporting service has asked for a pause.
    Throttled,
    /// No progress, and nothing above says why.
    Stalled,
    /// Opening its state.
    Starting,
    /// Waiting for a token, or for the reporting service's first answer.
    SigningIn,
    /// Collecting what has come together while it was away.
    CatchingUp,
    /// All that is due is collected, or about to be.
    UpToDate,
}

/// How much of a person's attention something needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// None.
    Good,
    /// It may pass by itself.
    Waiting,
    /// It does not get on.
    Bad,
}

impl State {
    /// All of them, the most urgent first.
    pub const ALL: [State; 9] = [
        State::NotRunning,
        State::Refused,
        State::RelayDown,
        State::Throttled,
        State::Stalled,
        State::Starting,
        State::SigningIn,
        State::CatchingUp,
        State::UpToDate,
    ];

    /// The state that these facts come to: the cause that a person can do most about comes first.
    pub fn of(facts: Facts) -> State {
        match facts {
            Facts { given_up: true, .. } => State::NotRunning,
            Facts { refused: true, .. } => State::Refused,
            Facts {
                relay_down: true, ..
            } => State::RelayDown,
            Facts {
                throttled: true,
                due: true,
                ..
            } => State::Throttled,
            Facts { stalled: true, .. } => State::Stalled,
            Facts { opened: false, .. } => State::Starting,
            Facts {
                due: true,
                heard: false,
                ..
            } => State::SigningIn,
            Facts { behind: true, .. } => State::CatchingUp,
            _ => State::UpToDate,
        }
    }

    /// The state's name for machines.
    pub fn name(self) -> &'static str {
        match self {
            State::NotRunning => "not_running",
            State::Starting => "starting",
            State::SigningIn => "signing_in",
            State::CatchingUp => "catching_up",
            State::UpToDate => "up_to_date",
            State::Throttled => "throttled",
            State::Refused => "refused",
            State::RelayDown => "relay_down",
            State::Stalled => "stalled",
        }
    }

    /// The state in the metric: the worse the higher.
    pub fn number(self) -> u8 {
        match self {
            State::UpToDate => 0,
            State::CatchingUp => 1,
            State::SigningIn => 2,
            State::Starting => 3,
            State::Throttled => 4,
            State::Stalled => 5,
            State::RelayDown => 6,
            State::Refused => 7,
            State::NotRunning => 8,
        }
    }

    /// The state for people.
    pub fn text(self) -> &'static str {
        match self {
            State::NotRunning => "not running",
            State::Starting => "starting",
            State::SigningIn => "signing in",
            State::CatchingUp => "catching up",
            State::UpToDate => "up to date",
            State::Throttled => "throttled",
            State::Refused => "refused",
            State::RelayDown => "relay down",
            State::Stalled => "stalled",
        }
    }

    /// What it means, for people; the README's table is made of this.
    pub fn meaning(self) -> &'static str {
        match self {
            State::NotRunning => {
                "its state is damaged or another tenant's; the last error says what to do"
            }
            State::Refused => {
                "only a person can mend what Microsoft refuses; the last error says what to do"
            }
            State::RelayDown => {
                "an output does not confirm what it was given: two tries have failed, or one for a reason that a person has to mend"
            }
            State::Throttled => "the reporting service, or the directory, has asked for a pause",
            State::Stalled => "no progress for long, and none of the above is the reason",
            State::Starting => "its state is not open yet",
            State::SigningIn => "no token yet, or the first answer has not come",
            State::CatchingUp => "there is more to collect than in step",
            State::UpToDate => "all that is due is collected, or about to be",
        }
    }

    /// How much of a person's attention it needs.
    pub fn grade(self) -> Grade {
        match self {
            State::NotRunning | State::Refused | State::RelayDown | State::Stalled => Grade::Bad,
            State::Throttled | State::Starting | State::SigningIn => Grade::Waiting,
            State::CatchingUp | State::UpToDate => Grade::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The facts by name, and the state that they come to.
    fn check(facts: &str, expected: State) {
        let has = |name: &str| facts.split(' ').any(|fact| fact == name);
        let facts = Facts {
            given_up: has("given_up"),
            opened: has("opened"),
            heard: has("heard"),
            due: has("due"),
            refused: has("refused"),
            relay_down: has("relay_down"),
            throttled: has("throttled"),
            stalled: has("stalled"),
            behind: has("behind"),
        };
        assert_eq!(State::of(facts), expected, "{facts:?}");
    }

    #[test]
    fn facts_come_to_the_state_that_a_person_can_do_most_about() {
        check("", State::Starting);
        check("opened", State::UpToDate);
        check("opened due", State::SigningIn);
        check("opened due heard", State::UpToDate);
        check("opened due heard behind", State::CatchingUp);
        check("opened due behind", State::SigningIn);
        check("opened heard behind", State::CatchingUp);
        check("opened due heard throttled behind", State::Throttled);
        check("opened heard throttled", State::UpToDate);
        check("opened due refused stalled", State::Refused);
        check("opened due refused relay_down", State::Refused);
        check("opened due heard relay_down stalled", State::RelayDown);
        check("opened due heard throttled stalled", State::Throttled);
        check("opened due heard behind stalled", State::Stalled);
        check("opened due stalled", State::Stalled);
        check("stalled", State::Stalled);
        check("given_up stalled", State::NotRunning);
    }

    #[test]
    fn the_readme_tells_what_every_state_means() {
        let readme = include_str!("../../README.md");
        let rows = State::ALL.map(|state| format!("| {} | {} |\n", state.text(), state.meaning()));
        let table = rows.concat();
        assert!(
            readme.contains(&table),
            "put this into the README:\n{table}"
        );
    }

    #[test]
    fn the_metric_tells_which_number_is_which_state() {
        let family = crate::monitoring::families::FAMILIES.iter();
        let mut family = family.filter(|family| family.name().ends_with("_service_state"));
        let help = family.next().unwrap().help;
        for state in State::ALL {
            let told = format!("{} {}", state.number(), state.text());
            assert!(help.contains(&told), "{told}");
        }
    }

    #[test]
    fn a_state_has_one_name() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
}
