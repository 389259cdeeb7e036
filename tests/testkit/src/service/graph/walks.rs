//! Which page of its walk a link leads to, for the ledger and the orders of faults: the token itself does not tell.

use std::collections::HashMap;

use super::query::Query;

/// The links that were given.
#[derive(Default)]
pub(crate) struct Walks {
    pages: HashMap<String, u64>,
}

impl Walks {
    /// The page that a query asks for, from 1; that of a link which was never given counts as the second.
    pub(crate) fn page(&self, query: &Query) -> u64 {
        let known = query.token_text.as_ref().map(|text| self.pages.get(text));
        known.map_or(1, |page| page.copied().unwrap_or(2))
    }

    /// Notes that a query's page leads to the page with this token.
    pub(crate) fn lead(&mut self, query: &Query, token: &str) {
        let page = self.page(query) + 1;
        self.pages.insert(token.to_owned(), page);
    }
}
