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
    /// Opening its state.
    Starting,
    /// Waiting for a token, or for the reporting service's first answer.
    SigningIn,
    /// Collecting what has come together while it was away.
    CatchingUp,
    /// All that is due is collected, or about to be.
    UpToDate,
    /// Waiting because the reporting service has asked for a pause.
    Throttled,
    /// Waiting until a person has changed something at Microsoft or in the configuration.
    Refused,
    /// Waiting for a relay.
    RelayDown,
    /// No progress, and nothing above says why.
    Stalled,
}

impl State {
    /// All of them.
    pub const ALL: [State; 9] = [
        State::NotRunning,
        State::Starting,
        State::SigningIn,
        State::CatchingUp,
        State::UpToDate,
        State::Throttled,
        State::Refused,
        State::RelayDown,
        State::Stalled,
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

    /// The state's name in metrics and for machines.
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
    fn a_state_has_one_name() {
        for state in State::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
    }
}
