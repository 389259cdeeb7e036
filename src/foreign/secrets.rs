//! The secrets of this process, and where a text holds them.
//!
//! Of a secret of eight characters or more only keyed hashes of its pieces are kept, so that this list adds no copy of it to the memory.

use std::borrow::Cow;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use base64::Engine;
use base64::prelude::BASE64_STANDARD_NO_PAD;
use memchr::memmem;
use zeroize::Zeroizing;

use super::spelling::Spelled;

/// What stands in the place of a secret.
const REMOVED: &str = "(removed)";

/// A shorter secret is removed as a whole only: pieces of it stand everywhere.
const LONG: usize = 8;

/// A still shorter one is removed only where it stands as a value: alone, it is a word, or a letter.
const SHORT: usize = 4;

/// A piece of a long secret is removed from so many characters on: half of it, within these.
const PIECE: Range<usize> = 5..8;

/// Nobody encodes a longer one in base64: it is a token, which is base64 already.
const ENCODED_MAX: usize = 256;

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
static SECRETS: RwLock<Vec<Arc<Secret>>> = RwLock::new(Vec::new());

/// From [`hide`]: dropped, the secret is not looked for any more.
#[must_use]
pub(crate) struct Hidden(Arc<Secret>);

/// Keeps `secret` out of all that is shown from now on: as it is, in other encodings, also base64, and in pieces.
pub(crate) fn hide(secret: &str) -> Hidden {
    let secret = Arc::new(Secret::new(secret));
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    secrets.push(Arc::clone(&secret));
    Hidden(secret)
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
        secrets.retain(|secret| !Arc::ptr_eq(secret, &self.0));
    }
}

/// `text` without secrets and pieces of them.
pub(super) fn without_pieces(text: &str) -> Cow<'_, str> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    without(&secrets, text, Secret::find)
}

/// `text` without long secrets that are in it as a whole. Our own words may hold a piece of one, or a short one, by chance.
pub(super) fn without_whole(text: &str) -> Cow<'_, str> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    without(&secrets, text, Secret::find_whole)
}

fn without<'a>(
    secrets: &[Arc<Secret>],
    text: &'a str,
    find: impl Fn(&Secret, &[u8], &mut dyn FnMut(Range<usize>)),
) -> Cow<'a, str> {
    if secrets.is_empty() || text.is_empty() {
        return text.into();
    }
    let spelled = Spelled::read(text);
    let mut runs = Vec::new();
    for secret in secrets {
        find(secret, &spelled.bytes, &mut |run| runs.push(run));
    }
    if runs.is_empty() {
        return text.into();
    }
    runs.sort_by_key(|run| run.start);
    let mut cleaned = String::with_capacity(text.len());
    let mut end = 0;
    for run in joined(runs) {
        let place = spelled.place(run);
        cleaned.push_str(&text[end..place.start]);
        cleaned.push_str(REMOVED);
        end = place.end;
    }
    cleaned.push_str(&text[end..]);
    cleaned.into()
}

/// Runs in order, those that overlap or touch as one.
fn joined(runs: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(runs.len());
    for run in runs {
        match joined.last_mut() {
            Some(last) if run.start <= last.end => last.end = last.end.max(run.end),
            _ => joined.push(run),
        }
    }
    joined
}

/// A secret, as it may come back.
struct Secret {
    forms: Vec<Form>,
}

/// One spelling of a secret, as [`Spelled`] reads it.
enum Form {
    /// Less than [`LONG`].
    Short(Zeroizing<Vec<u8>>),
    /// Hashes of all its pieces of `piece` bytes, in order of their size.
    Long {
        length: usize,
        piece: usize,
        hashes: Vec<u64>,
    },
}

impl Secret {
    fn new(secret: &str) -> Self {
        let plain = Zeroizing::new(Spelled::read(secret).bytes);
        let mut forms = Vec::new();
        if secret.len() <= ENCODED_MAX {
            let encoded = (0..3).map(|before| encoded(secret.as_bytes(), before));
            forms.extend(encoded.filter(|form| form.len() >= LONG).map(Form::new));
        }
        if !plain.is_empty() {
            forms.push(Form::new(plain));
        }
        Self { forms }
    }

    /// Calls `found` with each run of bytes that belongs to the secret.
    fn find(&self, spelled: &[u8], found: &mut dyn FnMut(Range<usize>)) {
        for form in &self.forms {
            form.find(spelled, found);
        }
    }

    /// Calls `found` with each run of bytes that is the whole of a long secret.
    fn find_whole(&self, spelled: &[u8], found: &mut dyn FnMut(Range<usize>)) {
        for form in &self.forms {
            if let Form::Long { length, .. } = form {
                form.find(spelled, &mut |run| {
                    if run.len() >= *length {
                        found(run);
                    }
                });
            }
        }
    }
}

/// What `secret` becomes in base64 behind so many other bytes (0 to 2), without the characters at both ends that depend on what stands there.
fn encoded(secret: &[u8], before: usize) -> Zeroizing<Vec<u8>> {
    let whole = Zeroizing::new([&[0; 2][..before], secret].concat());
    let text = Zeroizing::new(BASE64_STANDARD_NO_PAD.encode(&whole));
    let (start, end) = ((before * 8).div_ceil(6), whole.len() * 8 / 6);
    Zeroizing::new(Spelled::read(text.get(start..end).unwrap_or_default()).bytes)
}

impl Form {
    fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        let length = bytes.len();
        if length < LONG {
            return Self::Short(bytes);
        }
        let piece = length.div_ceil(2).clamp(PIECE.start, PIECE.end);
        let mut hashes: Vec<u64> = bytes
            .windows(piece)
            .map(|piece| HASHER.hash_one(piece))
            .collect();
        hashes.sort_unstable();
        Self::Long {
            length,
            piece,
            hashes,
        }
    }

    fn find(&self, spelled: &[u8], found: &mut dyn FnMut(Range<usize>)) {
        match self {
            Self::Short(secret) => {
                let places = memmem::find_iter(spelled, secret.as_slice());
                let runs = places.map(|start| start..start + secret.len());
                runs.filter(|run| secret.len() >= SHORT || is_value(spelled, run))
                    .for_each(found);
            }
            Self::Long { piece, hashes, .. } => {
                let mut run: Option<Range<usize>> = None;
                for (start, window) in spelled.windows(*piece).enumerate() {
                    if hashes.binary_search(&HASHER.hash_one(window)).is_err() {
                        continue;
                    }
                    let end = start + piece;
                    match &mut run {
                        Some(run) if start <= run.end => run.end = end,
                        _ => {
                            if let Some(run) = run.replace(start..end) {
                                found(run);
                            }
                        }
                    }
                }
                if let Some(run) = run {
                    found(run);
                }
            }
        }
    }
}

/// Whether what stands there is a value: `name=value`, `"value"`, `user:value@host`, or all that there is.
fn is_value(spelled: &[u8], run: &Range<usize>) -> bool {
    let (before, after) = (spelled[..run.start].last(), spelled.get(run.end));
    let Some(before) = before else {
        return after.is_none();
    };
    b"=:\"'`<>[(".contains(before)
        && after.is_none_or(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;
    use crate::foreign::{printable, shown};

    fn each<T>(parts: impl Iterator<Item = T>, spell: impl Fn(T) -> String) -> String {
        parts.map(spell).collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_secret_is_removed_in_every_spelling() {
        let secret = "p4ss/W+rd \"ä\" & <3~";
        let _hidden = hide(secret);
        let json = serde_json::to_string(secret).unwrap();
        let query: String = url::form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        let percent = each(secret.bytes(), |byte| format!("%{byte:02x}"));
        for spelling in [
            secret,
            &secret.to_ascii_uppercase(),
            &json[1..json.len() - 1],
            &serde_json::to_string(&json).unwrap(),
            &query,
            &query.to_lowercase(),
            &percent,
            &percent.to_uppercase(),
            &percent.replace('%', "%25"),
            "p4ss\\/W\\u002Brd \\u0022\\u00E4\\u0022 \\u0026 \\u003C3~",
            "p4ss&#47;W&#43;rd &quot;&#xE4;&quot; &amp; &lt;3~",
        ] {
            let text = shown(&format!("before {spelling} after"));
            let text = text.replace(['"', '\\'], "");
            assert_eq!(text, "before (removed) after", "{spelling}");
        }
        for before in ["", "a", "ab", "user@example.com:"] {
            let whole = [before, secret, "!"].concat();
            for encoded in [
                BASE64_STANDARD.encode(&whole),
                BASE64_URL_SAFE_NO_PAD.encode(&whole),
            ] {
                let text = shown(&format!("Basic {encoded}"));
                assert!(text.contains(REMOVED), "{text}");
                // What is left is of the bytes around it, and of the characters that those share with it.
                let left = text.len() - "Basic ".len() - REMOVED.len();
                assert!(left <= (whole.len() - secret.len()) * 4 / 3 + 6, "{text}");
            }
        }
    }

    #[test]
    fn pieces_of_a_long_secret_are_removed() {
        let secret = "Qx7~kd82.LmNp04_zzYw";
        let _hidden = hide(secret);
        for cut in 8..secret.len() {
            let told = shown(&format!("error {} ...", &secret[..cut]));
            assert_eq!(told, "error (removed) ...");
            let told = shown(&format!("error ... {}", &secret[secret.len() - cut..]));
            assert_eq!(told, "error ... (removed)");
        }
        let (one, other) = secret.split_at(10);
        let told = shown(&format!(
            r#"{{"error":"{one}","error_description":"{other}"}}"#
        ));
        assert_eq!(
            told,
            r#"{"error":"(removed)","error_description":"(removed)"}"#
        );
    }

    /// What `text` becomes where only this secret is known: a short one would be found in the texts of other tests.
    fn check(secret: &str, text: &str, expected: &str) {
        let secrets = [Arc::new(Secret::new(secret))];
        assert_eq!(without(&secrets, text, Secret::find), expected, "{secret}");
    }

    #[test]
    fn a_short_secret_does_not_blank_out_letters_and_words() {
        for secret in ["a", "the"] {
            let text = "a value that the directory does not accept, as a whole";
            check(secret, text, text);
        }
        check(
            "a",
            "client_secret=a&scope=x",
            "client_secret=(removed)&scope=x",
        );
        check(
            "the",
            r#"{"password":"the"}"#,
            r#"{"password":"(removed)"}"#,
        );
        check("a", "http://user:a@proxy", "http://user:(removed)@proxy");
        check("the", "password%3Dthe", "password%3D(removed)");
        check("a", "a", "(removed)");
        check(
            "hush",
            "client_secret=hush; HUSH",
            "client_secret=(removed); (removed)",
        );
        check("hush", "hus hush-hush hus", "hus (removed)-(removed) hus");
        check("", "x", "x");
    }

    #[test]
    fn our_own_words_lose_only_whole_secrets() {
        let secret = "password-Of-2024!";
        let _hidden = hide(secret);
        assert_eq!(
            printable("check the password of this account"),
            "check the password of this account"
        );
        assert_eq!(
            printable("check password-Of-2024! there"),
            "check (removed) there"
        );
        assert_eq!(printable("password%2dof%2D2024!\n"), "(removed)\n");
    }

    #[test]
    fn a_secret_is_looked_for_as_long_as_it_is_hidden() {
        let (one, again) = (hide("Revoked.7781"), hide("Revoked.7781"));
        drop(one);
        assert_eq!(shown("Revoked.7781"), REMOVED);
        drop(again);
        assert_eq!(shown("Revoked.7781"), "Revoked.7781");
    }

    #[test]
    fn a_long_token_is_removed_with_what_surrounds_it_kept() {
        let token: String = (0..3_000)
            .map(|at| char::from(b'a' + u8::try_from(at * at % 26).unwrap()))
            .collect();
        let token = format!("eyJ0eXAiOiJKV1QifQ.{token}.sig");
        let _hidden = hide(&token);
        let told = shown(&format!(
            "Authorization: Bearer {token} / Bearer {token}; no"
        ));
        assert_eq!(
            told,
            "Authorization: Bearer (removed) / Bearer (removed); no"
        );
    }

    proptest! {
        #[test]
        fn no_half_of_a_secret_is_ever_shown(
            // Without `%`, `&` and the backslash: what they and the letters behind them stand for may be less than half.
            secret in "[!-$'-\\[\\]-~]{16,40}", before in ".{0,30}", after in ".{0,30}", cut in 8_usize..16, escape in 0..4,
        ) {
            let _hidden = hide(&secret);
            let piece = &secret[..cut];
            let echoed = match escape {
                0 => piece.to_owned(),
                1 => each(piece.bytes(), |byte| format!("%{byte:02X}")),
                2 => each(piece.chars(), |one| format!("\\u{:04x}", u32::from(one))),
                _ => each(piece.chars(), |one| format!("&#{};", u32::from(one))),
            };
            let told = shown(&format!("{before} {echoed} {after}"));
            let clean = shown(&format!("{before} {after}"));
            prop_assert!(told.contains(REMOVED) || !clean.contains(piece), "{}", told);
            prop_assert!(!told.contains(&echoed) || clean.contains(&echoed), "{}", told);
        }
    }
}
