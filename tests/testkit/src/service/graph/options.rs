//! How simulated Graph behaves when nothing is ordered.

use std::time::Duration;

use super::budget::GraphBudget;

/// How Graph's message trace behaves.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct GraphOptions {
    /// The most rows a page, whatever `$top` says; Microsoft's is 5000.
    pub page_rows: usize,
    /// Decimals of a second that Graph knows of a time: it compares, orders and pages by these. Milliseconds are inferred.
    pub known_decimals: u32,
    /// Decimals of a second in `receivedDateTime`; Microsoft's documentation shows none.
    pub shown_decimals: u32,
    /// Decimals of a second of `EndDate` in a page's token. The text always has 7, as seen; fewer than `known_decimals` lose the rows between.
    pub token_decimals: u32,
    /// The base64 of a token keeps its padding; seen both ways.
    pub token_padding: bool,
    /// What becomes of rows of equal time and recipient on both sides of a page's end.
    pub ties: Ties,
    /// A full page has a link also where nothing follows it.
    pub link_after_last: bool,
    /// A link repeats `$filter` and `$top` behind its token, as seen. It does anyway where the filter has more than a range.
    pub link_parameters: bool,
    /// Of a message's rows of one instant, so many are listed unless it is asked for by its id. Documented by Microsoft for the cmdlet underneath.
    pub recipients_listed_max: usize,
    /// `status eq` finds rows of statuses that are shown as `unknownFutureValue` by that word; else nothing does. Neither is known.
    pub finds_unknown_statuses: bool,
    /// Statuses begin with a capital letter, as in one of Microsoft's samples.
    pub capital_statuses: bool,
    /// `toIP` and `fromIP` are null where nothing is known, which is allowed, instead of `""`, which was seen.
    pub null_addresses: bool,
    /// Each row says its type, as seen.
    pub odata_types: bool,
    /// An error's `innerError` is `innererror`; seen both ways.
    pub small_inner_error: bool,
    /// The texts of refusals begin with `|System.ArgumentException|`, as seen.
    pub exception_names: bool,
    /// The status of a start that is too old: 400; 500 is inferred.
    pub too_old_status: u16,
    /// Whether the tenant has the service principal of Microsoft's app that message trace needs.
    pub principal: Principal,
    /// How many requests are answered; none means all.
    pub budget: Option<GraphBudget>,
    /// Bytes of a path with its query; a longer one gets 404, as seen. Microsoft's limit is not known.
    pub url_bytes_max: usize,
    /// Time before each answer.
    pub latency: Duration,
}

impl Default for GraphOptions {
    fn default() -> Self {
        GraphOptions {
            page_rows: 5_000,
            known_decimals: 3,
            shown_decimals: 3,
            token_decimals: 7,
            token_padding: true,
            ties: Ties::Lost,
            link_after_last: false,
            link_parameters: false,
            recipients_listed_max: 1_000,
            finds_unknown_statuses: true,
            capital_statuses: false,
            null_addresses: false,
            odata_types: false,
            small_inner_error: false,
            exception_names: false,
            too_old_status: 400,
            principal: Principal::Present,
            budget: Some(GraphBudget::default()),
            url_bytes_max: 4_096,
            latency: Duration::ZERO,
        }
    }
}

/// Whether the tenant has the service principal of Microsoft's app that message trace needs. Documented by Microsoft; a new one takes hours to spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Principal {
    /// It is there, everywhere.
    Present,
    /// It is missing, or still spreading: 401 with its own text.
    Missing,
    /// The same, with 403 and the text of a missing permission, as seen sometimes.
    Forbidden,
}

/// What becomes of rows of equal time and recipient on both sides of a page's end. Inferred from the token: it names no row but a time and a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// Those that were not given yet never are.
    Lost,
    /// Those that were given already come again.
    Twice,
}
