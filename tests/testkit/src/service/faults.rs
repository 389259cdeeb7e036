//! Faults on demand: which, for which report, and when.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::TimeDelta;

use super::generator::mix;
use super::store::Row;
use crate::report::Report;

/// Which requests a fault is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Requests for any report.
    Reports,
    /// Requests for one report.
    Report(Report),
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
    /// Those that ask for more time than this, as long as the rule stands.
    WiderThan(TimeDelta),
    /// All, as long as the rule stands.
    Always,
}

/// The header `Retry-After`.
#[derive(Clone, Copy, Debug)]
pub enum RetryAfter {
    /// As seconds.
    Seconds(u64),
    /// As a date, so far from the service's now.
    Date(Duration),
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Status 400 with an `OData` error.
    BadRequest,
    /// Status 401 with an IIS page.
    Unauthorized,
    /// Status 403, no permission for this report.
    Forbidden,
    /// Status 404.
    NotFound,
    /// Status 500.
    ServerError,
    /// Status 429.
    Throttled(Option<RetryAfter>),
    /// Status 503.
    Busy(Option<RetryAfter>),
    /// Status 200 with an HTML page that asks to sign in.
    SignInPage,
    /// A `ServiceFault` in XML.
    ServiceFault {
        /// Its status.
        status: u16,
    },
    /// "We cannot currently process your request".
    CannotProcess {
        /// Its status.
        status: u16,
    },
    /// An answer of the test's own.
    Answer {
        /// Its status.
        status: u16,
        /// Its type.
        content_type: String,
        /// Its body.
        body: String,
    },
    /// An answer of the test's own that repeats what it was asked with, as some proxies' error pages do: in its headers and its body, `{asked}` stands
    /// for the header `Authorization` or a token request's form, `{percent}` and `{base64}` for the same in these encodings.
    Repeats {
        /// Its status.
        status: u16,
        /// Further headers: names and values.
        headers: Vec<(String, String)>,
        /// Its body.
        body: String,
    },
    /// Half of the body that `Content-Length` announces, then the connection's end.
    CutBody,
    /// Half of a chunked body, then the connection's end.
    CutChunked,
    /// A whole body whose JSON ends half-way.
    EndsEarly,
    /// A whole body whose gzip stream ends half-way.
    CutGzip,
    /// RST instead of an answer.
    ResetBeforeHeaders,
    /// RST after the headers and a little of the body.
    ResetAfterHeaders,
    /// No answer, the connection stays open.
    Stall,
    /// The right answer, later.
    Delay(Duration),
    /// The right answer at this rate.
    SlowBody {
        /// The rate.
        bytes_per_second: u32,
    },
    /// The right answer, blown up by white space inside of the JSON, and not compressed.
    BigBody {
        /// How much is added.
        bytes: u64,
        /// `Content-Length` tells how long it is; else it comes in chunks.
        announced: bool,
    },
    /// The right answer, blown up in the same way and compressed to next to nothing, whatever encoding the request allows.
    GzipBomb {
        /// How much is added, before compression.
        bytes: u64,
    },
    /// The next link leads to the same page again.
    RepeatedLink,
    /// The next link leads to this origin (`http://127.0.0.1:1`).
    ForeignLink(String),
    /// The next link is answered by 400, now and ever.
    RefusedLink,
    /// After this page a row appears at this position of the result (0 = newest); what follows shifts by one.
    LateRow {
        /// The position.
        position: u64,
    },
    /// After this page this row appears.
    InsertRow(Row),
    /// After this page the row at this position of the result (0 = newest) is gone.
    VanishingRow {
        /// The position.
        position: u64,
    },
    /// All tokens so far are rejected from this request on.
    RevokeTokens,
    /// Status 302 to this URL.
    Redirect(String),
    /// The right answer, pretty-printed.
    PrettyPrinted,
    /// The right answer under another content type.
    ContentType(String),
    /// The right answer with a byte order mark before it.
    ByteOrderMark,
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
    /// None for the token endpoint.
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
            Target::Token => occasion.report.is_none(),
        };
        if !fits {
            return None;
        }
        let hit = match self.when {
            When::Next(times) => self.hits < times,
            When::After { passed, times } => self.seen >= passed && self.hits < times,
            When::Page { page, times } => occasion.page == page && self.hits < times,
            When::Random { probability, seed } => chance(seed, self.seen) < probability,
            When::WiderThan(span) => occasion.span > span,
            When::Always => true,
        };
        self.seen += 1;
        self.hits += u32::from(hit);
        hit.then(|| self.fault.clone())
    }
}

/// The `nth` number of a seed's sequence, in [0, 1).
fn chance(seed: u64, nth: u32) -> f64 {
    let noise = mix(seed
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_add(u64::from(nth)));
    f64::from(u32::try_from(noise >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

impl Fault {
    /// The fault's name, for the ledger.
    pub(crate) fn name(&self) -> String {
        let mut name = String::new();
        // Writing to memory does not fail.
        let _ = write!(name, "{self:?}");
        name.split(['(', ' ', '{'])
            .next()
            .unwrap_or_default()
            .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(when: When, pages: &[u64]) -> Vec<bool> {
        let mut script = Script::default();
        script.add(Target::Report(Report::MessageTrace), when, Fault::Stall);
        let occasion = |page| Occasion {
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
    fn a_rule_for_one_report_leaves_the_others_alone() {
        let mut script = Script::default();
        script.add(
            Target::Report(Report::SpoofMail),
            When::Always,
            Fault::Stall,
        );
        let occasion = |report| Occasion {
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
