//! What signs a request, and what of it is kept out of what is shown.

use std::collections::VecDeque;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use zeroize::Zeroizing;

use crate::foreign::{Hidden, hide};

/// The value of an `Authorization` header. It cannot be printed, and is wiped with its last copy.
#[derive(Clone)]
pub(super) struct Authorization {
    header: HeaderValue,
    /// Tells the tokens of a directory apart.
    serial: u64,
}

impl Authorization {
    /// With a token; `None` if no header can hold it.
    pub(super) fn bearer(token: &str, serial: u64) -> Option<Self> {
        let proper = token.bytes().all(|byte| byte.is_ascii_graphic());
        proper.then(|| Self::new("Bearer", token, serial)).flatten()
    }

    /// With a user's name and password, in base64; `None` if no header can hold it.
    pub(super) fn basic(pair: &str) -> Option<Self> {
        Self::new("Basic", pair, 0)
    }

    fn new(scheme: &str, proof: &str, serial: u64) -> Option<Self> {
        let value = Zeroizing::new([scheme, " ", proof].concat().into_bytes());
        let mut header = HeaderValue::from_maybe_shared(Bytes::from_owner(value)).ok()?;
        header.set_sensitive(true);
        Some(Self { header, serial })
    }

    /// The header, marked as sensitive. All copies share one memory.
    pub(super) fn header(&self) -> HeaderValue {
        self.header.clone()
    }

    /// The token; `None` where it is none.
    pub(super) fn token(&self) -> Option<&str> {
        str::from_utf8(self.header.as_bytes())
            .ok()?
            .strip_prefix("Bearer ")
    }

    /// Whether both are the same token.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

/// The last tokens and proofs, which the other side may repeat for a while after there are newer ones.
#[derive(Default)]
pub(super) struct Recent(VecDeque<Hidden>);

impl Recent {
    /// So many are kept out of what is shown: a token that was renewed in the middle of a request, and some before it.
    const KEPT: usize = 8;

    /// Keeps `secret` out of what is shown, and forgets the oldest.
    pub(super) fn hide(&mut self, secret: &str) {
        self.0.push_back(hide(secret));
        if self.0.len() > Self::KEPT {
            self.0.pop_front();
        }
    }
}
