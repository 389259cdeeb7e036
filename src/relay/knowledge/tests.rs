//! The rules on a clock of the test's own: a schedule of endings goes in, and at each step it is seen what is permitted.

use super::*;

/// An address, and the time there.
struct Scene {
    known: Knowledge,
    now: DateTime<Utc>,
    changes: Vec<Change>,
}

const SECOND: Duration = Duration::from_secs(1);

impl Scene {
    fn new() -> Self {
        Scene {
            known: Knowledge::default(),
            now: "2026-03-10T12:00:00Z".parse().unwrap(),
            changes: vec![],
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    fn permit(&self, policy: ReceiptPolicy) -> Permit {
        self.known.permit(policy, self.now)
    }

    /// Waits for as long as it is told, and probes; how long all that took. The state is written and read again, as by a restart.
    fn probe(&mut self, ending: Ending, half_closed: bool) -> Duration {
        let begun = self.now;
        let patience = loop {
            match self.permit(ReceiptPolicy::CloseNotify) {
                Permit::Wait(wait) => self.pass(wait),
                Permit::Probe(patience) => break patience,
                Permit::Deliver(terms) => panic!("no probe is due: {terms:?}"),
            }
        };
        let took = match (ending, half_closed) {
            (Ending::Silent, _) => patience + 3 * SECOND,
            (_, true) => patience,
            _ => Duration::from_millis(20),
        };
        self.pass(took);
        let change = self.known.probed(ending, half_closed, took, self.now);
        self.changes.extend(change);
        let json = serde_json::to_string(&self.known).unwrap();
        self.known = serde_json::from_str(&json).unwrap();
        (self.now - begun).to_std().unwrap()
    }

    /// Probes until something is learnt; how often, and how long that took.
    fn until_learnt(&mut self, ending: Ending, half_closed: bool) -> (u32, Duration) {
        let (before, mut took) = (self.changes.len(), Duration::ZERO);
        for probes in 1..10_000 {
            took += self.probe(ending, half_closed);
            if self.changes.len() > before {
                return (probes, took);
            }
        }
        panic!("{ending:?} is never learnt");
    }

    /// A delivery that gets no receipt.
    fn fail(&mut self) {
        let begun = self.now;
        self.pass(SECOND);
        self.known.unconfirmed(begun, self.now);
    }

    fn kind(&self) -> Option<Receipt> {
        self.known.learnt().map(|learnt| learnt.receipt)
    }

    fn delivers(&self, policy: ReceiptPolicy) -> bool {
        matches!(self.permit(policy), Permit::Deliver(_))
    }
}

const POLICIES: [ReceiptPolicy; 5] = [
    ReceiptPolicy::StandIn,
    ReceiptPolicy::Required,
    ReceiptPolicy::CloseNotify,
    ReceiptPolicy::Ended,
    ReceiptPolicy::Tcp,
];

/// Under which policies records go out.
fn delivering(scene: &Scene) -> Vec<ReceiptPolicy> {
    let all = POLICIES.into_iter();
    all.filter(|policy| scene.delivers(*policy)).collect()
}

#[test]
fn an_unknown_address_gets_an_empty_probe_and_no_records_but_by_choice() {
    assert_eq!(delivering(&Scene::new()), [ReceiptPolicy::Tcp]);
}

#[test]
fn one_probe_shows_close_notify_and_then_nothing_less_confirms() {
    let mut scene = Scene::new();
    scene.probe(Ending::Read, false);
    assert_eq!(scene.kind(), Some(Receipt::Read));
    for policy in POLICIES {
        let Permit::Deliver(terms) = scene.permit(policy) else {
            panic!("{policy:?} waits");
        };
        let weaker = [Ending::Ended, Ending::Reset, Ending::Silent];
        let accepted = weaker.map(|ending| terms.receipt(ending).is_some());
        assert_eq!(accepted, [policy == ReceiptPolicy::Tcp; 3], "{policy:?}");
    }
}

#[test]
fn an_end_of_stream_is_learnt_from_two_probes_at_once_and_from_one_by_choice() {
    let mut scene = Scene::new();
    scene.probe(Ending::Ended, false);
    assert_eq!(
        delivering(&scene),
        [ReceiptPolicy::Ended, ReceiptPolicy::Tcp]
    );
    let took = scene.probe(Ending::Ended, false);
    assert!(took < SECOND, "{took:?}");
    assert_eq!(scene.kind(), Some(Receipt::Ended));
    let waits = POLICIES.into_iter().find(|policy| !scene.delivers(*policy));
    assert_eq!(waits, Some(ReceiptPolicy::CloseNotify));
    let Permit::Deliver(terms) = scene.permit(ReceiptPolicy::Required) else {
        panic!("an end is enough");
    };
    assert_eq!((terms.half_close, terms.weakest), (false, Ending::Ended));
}

#[test]
fn a_relay_that_is_killed_and_restarted_again_and_again_is_not_taken_for_one_that_just_ends() {
    let mut scene = Scene::new();
    for _ in 0..20 {
        scene.probe(Ending::Ended, false);
        // The probe that comes at once is refused.
        scene.known.probe_failed();
    }
    assert_eq!(scene.kind(), None);
}

#[test]
fn resets_behind_close_notify_are_learnt_from_two_probes_seconds_apart() {
    let mut scene = Scene::new();
    let (probes, took) = scene.until_learnt(Ending::Reset, false);
    assert!(
        probes == 2 && took >= 2 * SECOND && took < 10 * SECOND,
        "{took:?}"
    );
    assert_eq!(scene.kind(), Some(Receipt::Ended));
    let Permit::Deliver(terms) = scene.permit(ReceiptPolicy::StandIn) else {
        panic!("it is learnt");
    };
    assert_eq!(terms.receipt(Ending::Reset), Some(Receipt::Ended));
    // Its orderly end is worth more.
    scene.known.confirmed(Receipt::Read, false);
    assert_eq!(scene.kind(), Some(Receipt::Read));
}

#[test]
fn half_closing_first_is_learnt_over_two_minutes_after_a_probe_of_a_minute_and_a_half() {
    let mut scene = Scene::new();
    let (probes, took) = scene.until_learnt(Ending::Ended, true);
    assert!(
        probes >= 3 && took >= Duration::from_mins(2),
        "{probes}, {took:?}"
    );
    assert!(took < Duration::from_mins(4), "{took:?}");
    let Permit::Deliver(terms) = scene.permit(ReceiptPolicy::StandIn) else {
        panic!("it is learnt");
    };
    assert_eq!((terms.half_close, terms.weakest), (true, Ending::Ended));
    assert_eq!(scene.kind(), Some(Receipt::Ended));

    let mut scene = Scene::new();
    scene.until_learnt(Ending::Read, true);
    assert_eq!(scene.kind(), Some(Receipt::Read));
    assert!(scene.known.learnt().unwrap().half_close);
}

#[test]
fn a_slow_relay_behind_something_that_answers_a_half_close_is_waited_for() {
    for slow in [14, 25, 60, 85] {
        let mut scene = Scene::new();
        while scene.kind().is_none() {
            let Permit::Probe(patience) = scene.permit(ReceiptPolicy::StandIn) else {
                scene.pass(SECOND);
                continue;
            };
            let answers = patience >= slow * SECOND;
            let ending = if answers { Ending::Read } else { Ending::Ended };
            scene.probe(ending, !answers);
        }
        assert_eq!(scene.kind(), Some(Receipt::Read), "{slow} s");
    }
}

#[test]
fn tcp_stands_in_after_five_silent_probes_and_ten_minutes_each_begun_soon_after_the_last() {
    let mut scene = Scene::new();
    let mut silent = 0;
    let begun = scene.now;
    while scene.kind().is_none() {
        let elapsed = scene.now - begun;
        assert!(elapsed < TimeDelta::minutes(13), "{silent} silent probes");
        let Permit::Deliver(_) = scene.permit(ReceiptPolicy::StandIn) else {
            let pause = scene.probe(Ending::Silent, false);
            assert!(pause <= Duration::from_secs(15 + 93), "{pause:?}");
            silent += 1;
            continue;
        };
        panic!("records after {silent} silent probes");
    }
    assert!(scene.now - begun >= TimeDelta::minutes(10) && silent >= 5);
    assert_eq!(scene.kind(), Some(Receipt::StoodIn));
    assert_eq!(
        delivering(&scene),
        [
            ReceiptPolicy::StandIn,
            ReceiptPolicy::Ended,
            ReceiptPolicy::Tcp
        ]
    );
}

#[test]
fn neither_a_clock_that_jumps_nor_a_pause_of_the_collector_makes_up_ten_minutes() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        scene.probe(Ending::Silent, false);
    }
    scene.pass(Duration::from_hours(30));
    for _ in 0..2 {
        scene.probe(Ending::Silent, false);
        assert_eq!(scene.kind(), None);
    }
    // Set back, the clock does not make it wait for hours either.
    scene.now -= TimeDelta::hours(20);
    let (_, took) = scene.until_learnt(Ending::Silent, false);
    assert!(took < Duration::from_mins(20), "{took:?}");
}

#[test]
fn an_answer_discards_silence_and_the_first_true_receipt_ends_the_stand_in() {
    let mut scene = Scene::new();
    for _ in 0..5 {
        scene.probe(Ending::Silent, false);
    }
    scene.probe(Ending::Ended, false);
    assert_eq!(scene.known.silence().0, 0);

    for receipt in [Receipt::Ended, Receipt::Read] {
        let mut scene = Scene::new();
        scene.until_learnt(Ending::Silent, false);
        assert!(scene.known.confirmed(Receipt::StoodIn, false).is_none());
        assert!(scene.known.confirmed(receipt, false).is_some());
        let expected = (receipt == Receipt::Read).then_some(Receipt::Read);
        assert_eq!(scene.kind(), expected);
    }
}

#[test]
fn after_close_notify_a_weaker_way_is_learnt_from_ten_probes_over_an_hour() {
    let weaker = [
        (Ending::Ended, false, Receipt::Ended),
        (Ending::Reset, false, Receipt::Ended),
        (Ending::Ended, true, Receipt::Ended),
        (Ending::Silent, false, Receipt::StoodIn),
    ];
    for (ending, half_closed, expected) in weaker {
        let mut scene = Scene::new();
        scene.probe(Ending::Read, false);
        scene.fail();
        let (probes, took) = scene.until_learnt(ending, half_closed);
        assert!(
            probes >= 10 && took >= Duration::from_hours(1),
            "{ending:?} {probes} {took:?}"
        );
        assert!(took < Duration::from_mins(80), "{ending:?} {took:?}");
        assert_eq!(scene.kind(), Some(expected), "{ending:?}");
        assert!(scene.changes.last().unwrap().is_worse());
    }
}

#[test]
fn one_close_notify_within_the_hour_begins_it_anew() {
    let mut scene = Scene::new();
    scene.probe(Ending::Read, false);
    for _ in 0..3 {
        scene.fail();
        for _ in 0..9 {
            scene.probe(Ending::Ended, false);
        }
        scene.probe(Ending::Read, false);
        if !scene.delivers(ReceiptPolicy::StandIn) {
            scene.probe(Ending::Read, false);
        }
    }
    assert_eq!(scene.changes.len(), 1);
    assert!(scene.delivers(ReceiptPolicy::StandIn));
}

#[test]
fn no_records_go_out_between_a_delivery_without_a_receipt_and_a_probe_that_gives_one() {
    let mut scene = Scene::new();
    scene.probe(Ending::Read, false);
    scene.fail();
    assert_eq!(delivering(&scene), [ReceiptPolicy::Tcp]);
    scene.probe(Ending::Ended, false);
    assert_eq!(delivering(&scene), [ReceiptPolicy::Tcp]);
    scene.probe(Ending::Read, false);
    assert_eq!(delivering(&scene), POLICIES);
}

#[test]
fn deliveries_that_never_get_a_receipt_become_rare_and_the_first_receipt_ends_that() {
    let mut scene = Scene::new();
    scene.probe(Ending::Read, false);
    let mut waits = vec![];
    for _ in 0..14 {
        scene.fail();
        let before = scene.now;
        while !scene.delivers(ReceiptPolicy::CloseNotify) {
            scene.probe(Ending::Read, false);
        }
        waits.push((scene.now - before).num_seconds());
    }
    assert!(waits[0] == 0 && waits.is_sorted(), "{waits:?}");
    assert_eq!(waits.last(), Some(&300), "{waits:?}");
    scene.known.confirmed(Receipt::Read, false);
    scene.fail();
    assert!(matches!(
        scene.permit(ReceiptPolicy::StandIn),
        Permit::Probe(_)
    ));
}

#[test]
fn deliveries_that_fail_at_the_same_moment_count_once() {
    let mut scene = Scene::new();
    scene.probe(Ending::Read, false);
    let begun = scene.now;
    scene.pass(SECOND);
    for _ in 0..8 {
        scene.known.unconfirmed(begun, scene.now);
        scene.pass(SECOND / 10);
    }
    assert_eq!(scene.known.unconfirmed_in_a_row(), 1);
}

/// Two relays behind one name, to which connections go by turns; whether records get through.
fn by_turns(one: Ending, other: Ending, connections: u32) -> u32 {
    let (mut scene, mut confirmed) = (Scene::new(), 0);
    for connection in 0..connections {
        let ending = if connection % 2 == 0 { one } else { other };
        loop {
            match scene.permit(ReceiptPolicy::StandIn) {
                Permit::Wait(wait) => scene.pass(wait),
                Permit::Probe(_) => {
                    scene.probe(ending, false);
                    break;
                }
                Permit::Deliver(terms) => {
                    match terms.receipt(ending).filter(|_| ending != Ending::Silent) {
                        Some(receipt) => {
                            scene.known.confirmed(receipt, false);
                            confirmed += 1;
                        }
                        None => scene.fail(),
                    }
                    break;
                }
            }
        }
    }
    confirmed
}

#[test]
fn of_two_relays_behind_one_name_the_one_that_gives_receipts_gets_records_though_connections_alternate()
 {
    for other in [Ending::Ended, Ending::Reset, Ending::Silent] {
        for (one, other) in [(Ending::Read, other), (other, Ending::Read)] {
            let confirmed = by_turns(one, other, 200);
            assert!(confirmed >= 30, "{one:?} and {other:?}: {confirmed}");
        }
    }
    assert!(by_turns(Ending::Ended, Ending::Silent, 200) >= 30);
}

#[test]
fn what_another_version_wrote_is_not_guessed_at() {
    assert!(serde_json::from_str::<Knowledge>("{}").is_ok());
    assert!(serde_json::from_str::<Knowledge>("{\"more\": 1}").is_err());
}
