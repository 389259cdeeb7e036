//! Faults on demand: what goes wrong with an answer.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::TimeDelta;

use super::graph::DeadLink;
use super::options::Shape;
use super::row::Row;
use super::spelling::Spelling;

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
    /// This status, with an error in the words of whoever answers: 502 and 504, for instance.
    Failed {
        /// Its status.
        status: u16,
    },
    /// Of Graph: status 401, the tenant lacks the service principal that message trace needs, or it is still spreading.
    NoServicePrincipal,
    /// Of Graph: the next link is answered by 400 for ever, with the text of this defect. A new walk of the range works.
    DeadLink(DeadLink),
    /// Of Graph: the same, where a page has so many rows.
    DeadLinkOf {
        /// `$top`.
        size: usize,
    },
    /// Of Graph: the page's rows come in the opposite order; its link is the right one.
    OldestFirst,
    /// Of Graph: behind the page's rows come so many that are older than what was asked for.
    RowsOutOfRange(u32),
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
    /// These in turn: the first one for the first request hit, and so on in a circle.
    Cycle(Vec<Fault>),
    /// The answer of another fault, or the right one, with a `Date` that is off by so much.
    Dated {
        /// `Date` less the clock of whoever answers.
        offset: TimeDelta,
        /// What else goes wrong.
        fault: Option<Box<Fault>>,
    },
    /// The next link leads to a page that was served before, each time under a new token; at Graph always to this page.
    Loop {
        /// Which page that is.
        to: Loop,
        /// A last page, which has no link otherwise, has one too.
        last_too: bool,
    },
    /// The next link of any page, also of the last one, is this JSON value.
    LinkText(String),
    /// A page without rows, whose link leads to the same page under a new token.
    EmptyPage,
    /// Status 200 and an empty result, without a link.
    NoRows,
    /// So many rows `{}` instead of those that there are, without a link.
    EmptyObjects(u64),
    /// The right rows in another spelling.
    Respelled(Spelling),
    /// The right answer in this shape, whatever was asked for.
    Shaped(Shape),
    /// The right answer under this `Content-Encoding`, compressed by gzip so many times, whatever the request allows.
    Coded {
        /// The header's value.
        name: String,
        /// How often the body is compressed.
        layers: u8,
    },
    /// The right answer with this text, as it stands, behind the status line: header lines with their ends.
    HeadLines(String),
}

/// Where a link leads that should lead to the page after this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loop {
    /// To this page.
    SamePage,
    /// To the page before this one; from the first page to itself.
    PageBefore,
    /// To the first page.
    FirstPage,
    /// From the first page to the second, from there to the first, and so on with each pair of pages.
    Pairs,
}

impl Loop {
    /// The page that a link on `page` leads to, both from 0.
    pub(crate) fn target(self, page: u64) -> u64 {
        match self {
            Loop::SamePage => page,
            Loop::PageBefore => page.saturating_sub(1),
            Loop::FirstPage => 0,
            Loop::Pairs => page ^ 1,
        }
    }
}

impl Fault {
    /// This fault's answer with a `Date` that is off by so much.
    #[must_use]
    pub fn dated(self, offset: TimeDelta) -> Fault {
        Fault::Dated {
            offset,
            fault: Some(Box::new(self)),
        }
    }

    /// How far `Date` is off, and what else goes wrong.
    pub(crate) fn undated(self) -> (TimeDelta, Option<Fault>) {
        match self {
            Fault::Dated { offset, fault } => (offset, fault.map(|fault| *fault)),
            fault => (TimeDelta::zero(), Some(fault)),
        }
    }

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
