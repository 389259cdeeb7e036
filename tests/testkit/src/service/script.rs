//! Which requests a fault hits: the orders of a test, and the first that fits a request.

use chrono::TimeDelta;

use super::faults::Fault;
use super::generator::mix;
use super::ledger::Endpoint;
use crate::report::Report;

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Requests for any report.
    Reports,
    /// Requests for one report.
    Report(Report),
    /// Requests for Graph's message trace.
    Graph,
    /// Requests for a token.
    Token,
}

impl From<Report> for Target {
    fn from(report: Report) -> Target {
        Target::Report(report)
    }
}

/// Which of the target's requests a fault hits.
#[derive(Clone, Copy, Debug)]
pub enum When {
    /// The next ones, so many of them.
    Next(u32),
    /// The next ones after so many have been let through.
    After {
        /// Requests let through.
        passed: u32,
        /// Requests hit.
        times: u32,
    },
    /// A page of any walk, the first being 1.
    Page {
        /// The page.
        page: u64,
        /// Requests hit.
        times: u32,
    },
    /// Each with this probability; the same seed hits the same ones.
    Random {
        /// From 0 to 1.
        probability: f64,
        /// What decides.
        seed: u64,
    },
    /// Every so many-th one, as long as the rule stands.
    Every(u32),
    /// Those that ask for more time than this, as long as the rule stands.
    WiderThan(TimeDelta),
    /// All, as long as the rule stands.
    Always,
}

struct Rule {
    target: Target,
    when: When,
    fault: Fault,
    /// Requests that it was considered for, where it counts them.
    seen: u32,
    hits: u32,
}

/// What a request is, as far as rules look at it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Occasion {
    pub(crate) endpoint: Endpoint,
    /// Of the reporting service.
    pub(crate) report: Option<Report>,
    /// The page, from 1.
    pub(crate) page: u64,
    pub(crate) span: TimeDelta,
}

/// All orders of faults, oldest first.
#[derive(Default)]
pub(crate) struct Script {
    rules: Vec<Rule>,
}

impl Script {
    pub(crate) fn add(&mut self, target: Target, when: When, fault: Fault) {
        self.rules.push(Rule {
            target,
            when,
            fault,
            seen: 0,
            hits: 0,
        });
    }

    pub(crate) fn clear(&mut self) {
        self.rules.clear();
    }

    /// The fault for this request, if any: that of the first rule that fits.
    pub(crate) fn take(&mut self, occasion: Occasion) -> Option<Fault> {
        self.rules.iter_mut().find_map(|rule| rule.take(occasion))
    }
}

impl Rule {
    fn take(&mut self, occasion: Occasion) -> Option<Fault> {
        let fits = match self.target {
            Target::Reports => occasion.report.is_some(),
            Target::Report(report) => occasion.report == Some(report),
            Target::Graph => occasion.endpoint == Endpoint::Graph,
            Target::Token => occasion.endpoint == Endpoint::Token,
        };
        if !fits {
            return None;
        }
        let hit = match self.when {
            When::Next(times) => self.hits < times,
            When::After { passed, times } => self.seen >= passed && self.hits < times,
            When::Page { page, times } => occasion.page == page && self.hits < times,
            When::Random { probability, seed } => chance(seed, self.seen) < probability,
            When::Every(nth) => (self.seen + 1).is_multiple_of(nth.max(1)),
            When::WiderThan(span) => occasion.span > span,
            When::Always => true,
        };
        self.seen += 1;
        let turn = self.hits as usize;
        self.hits += u32::from(hit);
        hit.then(|| match &self.fault {
            Fault::Cycle(faults) if !faults.is_empty() => faults[turn % faults.len()].clone(),
            fault => fault.clone(),
        })
    }
}

/// The `nth` number of a seed's sequence, in [0, 1).
fn chance(seed: u64, nth: u32) -> f64 {
    let noise = mix(seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(u64::from(nth)));
    f64::from(u32::try_from(noise >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(when: When, pages: &[u64]) -> Vec<bool> {
        let mut script = Script::default();
        script.add(Target::Report(Report::MessageTrace), when, Fault::Stall);
        let occasion = |page| Occasion {
            endpoint: Endpoint::Reports,
            report: Some(Report::MessageTrace),
            page,
            span: TimeDelta::hours(1),
        };
        pages
            .iter()
            .map(|page| script.take(occasion(*page)).is_some())
            .collect()
    }

    #[test]
    fn a_rule_hits_when_it_says() {
        assert_eq!(hits(When::Next(2), &[1, 2, 3]), [true, true, false]);
        assert_eq!(
            hits(
                When::After {
                    passed: 1,
                    times: 1
                },
                &[1, 2, 3]
            ),
            [false, true, false]
        );
        assert_eq!(
            hits(When::Page { page: 2, times: 1 }, &[1, 2, 2, 1]),
            [false, true, false, false]
        );
        assert_eq!(
            hits(When::Every(2), &[1, 1, 1, 1]),
            [false, true, false, true]
        );
        assert_eq!(hits(When::WiderThan(TimeDelta::minutes(30)), &[1]), [true]);
        assert_eq!(hits(When::WiderThan(TimeDelta::hours(1)), &[1]), [false]);
    }

    #[test]
    fn chance_keeps_to_its_probability_and_its_seed() {
        let pages = vec![1; 10_000];
        let some = hits(
            When::Random {
                probability: 0.2,
                seed: 7,
            },
            &pages,
        );
        let share = some.iter().filter(|hit| **hit).count();
        assert!((1_800..2_200).contains(&share), "{share}");
        assert_eq!(
            some,
            hits(
                When::Random {
                    probability: 0.2,
                    seed: 7
                },
                &pages
            )
        );
        assert_ne!(
            some,
            hits(
                When::Random {
                    probability: 0.2,
                    seed: 8
                },
                &pages
            )
        );
    }

    #[test]
    fn faults_of_a_cycle_take_turns() {
        let mut script = Script::default();
        let cycle = Fault::Cycle(vec![Fault::NotFound, Fault::Stall]);
        script.add(Target::Reports, When::Every(2), cycle);
        let occasion = Occasion {
            endpoint: Endpoint::Reports,
            report: Some(Report::MessageTrace),
            page: 1,
            span: TimeDelta::zero(),
        };
        let names: Vec<_> = (0..6)
            .filter_map(|_| script.take(occasion).map(|fault| fault.name()))
            .collect();
        assert_eq!(names, ["NotFound", "Stall", "NotFound"]);
    }

    #[test]
    fn a_rule_for_one_report_leaves_the_others_alone() {
        let mut script = Script::default();
        script.add(
            Target::Report(Report::SpoofMail),
            When::Always,
            Fault::Stall,
        );
        let occasion = |report: Option<_>| Occasion {
            endpoint: report.map_or(Endpoint::Token, |_| Endpoint::Reports),
            report,
            page: 1,
            span: TimeDelta::zero(),
        };
        assert!(script.take(occasion(Some(Report::MessageTrace))).is_none());
        assert!(script.take(occasion(None)).is_none());
        assert_eq!(
            script
                .take(occasion(Some(Report::SpoofMail)))
                .unwrap()
                .name(),
            "Stall"
        );
    }
}
