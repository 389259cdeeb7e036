//! Which collector answers: several may run on one machine, and another one may have the port.

use std::fmt;
use std::path::{Path, absolute};

use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use url::form_urlencoded;

use crate::config::{Globals, Persistence};

/// Has the identity as a URL has its query.
const COLLECTOR: HeaderName = HeaderName::from_static("collector");

/// What tells one collector from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    id: String,
    /// The state folder, absolute and not resolved: the same configuration in the same folder gives the same path, whether it is there or
    /// not. Only peers on this machine are given it.
    state: Option<String>,
}

impl Identity {
    /// Of the collector that runs with this configuration in the current folder, wherever its arguments have it keep its state.
    pub fn of(globals: &Globals) -> Self {
        let (Persistence::Directory(state) | Persistence::Memory { beside: state }) =
            &globals.state;
        let state = absolute(state).ok();
        Identity {
            name: globals.name.clone(),
            id: globals.id.clone(),
            state: state.as_deref().map(Path::to_string_lossy).map(Into::into),
        }
    }

    /// Names it in an answer.
    pub(super) fn put(&self, headers: &mut HeaderMap, to_peer_here: bool) {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("name", &self.name);
        query.append_pair("id", &self.id);
        if to_peer_here && let Some(state) = &self.state {
            query.append_pair("state", state);
        }
        // Everything that is not ASCII is encoded.
        if let Ok(value) = HeaderValue::from_str(&query.finish()) {
            headers.insert(COLLECTOR, value);
        }
    }

    /// Whose answer it is; `None` where it is no collector's.
    pub(crate) fn in_answer(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(COLLECTOR)?.as_bytes();
        let of = |wanted: &str| {
            let mut pairs = form_urlencoded::parse(value);
            pairs
                .find(|(key, _)| key == wanted)
                .map(|(_, value)| value.into_owned())
        };
        Some(Identity {
            name: of("name")?,
            id: of("id")?,
            state: of("state"),
        })
    }

    /// Whether it is the same collector as far as is known of both.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let state = self.state.as_ref().zip(other.state.as_ref());
        self.name == other.name
            && self.id == other.id
            && state.is_none_or(|(ours, theirs)| ours == theirs)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} with the id {:?}", self.name, self.id)?;
        if let Some(state) = &self.state {
            write!(f, " and the state folder {state:?}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(name: &str, state: Option<&str>) -> Identity {
        Identity {
            name: name.to_owned(),
            id: "7".to_owned(),
            state: state.map(str::to_owned),
        }
    }

    fn received(identity: &Identity, here: bool) -> Identity {
        let mut headers = HeaderMap::new();
        identity.put(&mut headers, here);
        Identity::in_answer(&headers).unwrap()
    }

    #[test]
    fn an_identity_survives_its_way_and_the_folder_stays_on_this_machine() {
        let ours = identity("a&b=ü ;\"", Some("/srv/a b/ö"));
        assert_eq!(received(&ours, true), ours);
        assert_eq!(received(&ours, false).state, None);
        assert!(received(&ours, false).is(&ours));
        assert_eq!(Identity::in_answer(&HeaderMap::new()), None);
    }

    #[test]
    fn name_id_and_folder_each_tell_two_collectors_apart() {
        let ours = identity("a", Some("/srv/a"));
        assert!(!ours.is(&identity("b", Some("/srv/a"))));
        assert!(!ours.is(&identity("a", Some("/srv/b"))));
        let mut other = ours.clone();
        other.id = "8".to_owned();
        assert!(!ours.is(&other));
    }
}
