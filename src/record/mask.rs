//! Masks the members of a row that the configuration names, before the row leaves the collector: pure.
//!
//! A mask replaces the bytes of the values that it names. Every other byte goes out as it came. A path that meets another shape than
//! it expects masks more, never less:
//!
//! - `*` stands for every element of a list, for every member of an object, and for a text or number that stands where the list is
//!   expected;
//! - a name that meets a list is looked for in each of its elements;
//! - a text or number in the middle of a path is masked whole, since what the path names may be inside it;
//! - a row that is no JSON object is withheld: [`WITHHELD`] goes out in its place.

use std::sync::Arc;

/// What goes out for a row that cannot be masked for certain. The source hands out only rows that are valid JSON objects, so this is
/// for the day when it does not.
pub const WITHHELD: &[u8] = br#"{"@devo_masking": "withheld: this row cannot be masked"}"#;

/// What a text becomes under a rule without a value. The others are as in the original too: -1, -1.0 and `false`.
const TEXT: &[u8] = br#""****SANITIZED****""#;

/// How deep lists may be nested on the way to a masked value. A value below that is masked whole.
const DEPTH_MAX: usize = 64;

/// What is masked in each row of a service. The default masks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mask {
    /// `None` where nothing is masked.
    root: Option<Arc<Branch>>,
}

/// One place of a row and what it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The way from the row to the value.
    pub path: Vec<Step>,
    /// What the value becomes.
    pub replacement: Replacement,
}

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The member of this name.
    Member(String),
    /// Every element.
    Every,
}

/// What a value becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replacement {
    /// A value of the same kind: `****SANITIZED****`, -1, -1.0 or `false`; `null` stays. An object or a list keeps its shape and its
    /// names, and everything in it is replaced: a table's columns keep their types.
    SameKind,
    /// This JSON, whatever the value was.
    Json(String),
}

/// The rules that share the beginning of their paths.
#[derive(Debug, Default, PartialEq, Eq)]
struct Branch {
    /// What the value here becomes, if a path ends here.
    here: Option<Replacement>,
    members: Vec<(String, Branch)>,
    every: Option<Box<Branch>>,
}

impl Mask {
    /// A mask of these rules. Of two with the same path the last one holds; one whose path ends earlier holds for all below it.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        let mut root = Branch::default();
        for rule in rules.into_iter().filter(|rule| !rule.path.is_empty()) {
            root.add(&rule.path, rule.replacement);
        }
        let is_empty = root.members.is_empty() && root.every.is_none();
        Self {
            root: (!is_empty).then(|| Arc::new(root)),
        }
    }

    /// Whether rows go out as they come.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Appends the row with what is named masked, or [`WITHHELD`].
    pub fn append(&self, row: &[u8], out: &mut Vec<u8>) {
        let Some(root) = &self.root else {
            out.extend_from_slice(row);
            return;
        };
        let start = out.len();
        let mut scan = Scan {
            row,
            at: 0,
            copied: 0,
            out,
        };
        if scan.row(root).is_err() {
            out.truncate(start);
            out.extend_from_slice(WITHHELD);
        }
    }
}

impl Branch {
    fn add(&mut self, path: &[Step], replacement: Replacement) {
        let Some((step, rest)) = path.split_first() else {
            self.here = Some(replacement);
            return;
        };
        let branch = match step {
            Step::Every => &mut **self.every.get_or_insert_default(),
            Step::Member(name) => {
                let known = self.members.iter().position(|(known, _)| known == name);
                let at = known.unwrap_or_else(|| {
                    self.members.push((name.clone(), Branch::default()));
                    self.members.len() - 1
                });
                &mut self.members[at].1
            }
        };
        branch.add(rest, replacement);
    }

    /// The first replacement here or below; every branch has one.
    fn replacement(&self) -> Option<&Replacement> {
        let below = || {
            let members = self.members.iter().map(|(_, branch)| branch);
            members
                .chain(self.every.as_deref())
                .find_map(Self::replacement)
        };
        self.here.as_ref().or_else(below)
    }
}

/// The row is not what it has to be.
struct NoJson;

/// A row that is read from its beginning, and copied as far as it is known what becomes of it.
struct Scan<'a> {
    row: &'a [u8],
    at: usize,
    copied: usize,
    out: &'a mut Vec<u8>,
}

impl<'a> Scan<'a> {
    fn row(&mut self, root: &Branch) -> Result<(), NoJson> {
        if self.peek()? != b'{' {
            return Err(NoJson);
        }
        self.object(&[root], 0)?;
        self.skip_blanks();
        if self.at < self.row.len() {
            return Err(NoJson);
        }
        self.out.extend_from_slice(&self.row[self.copied..]);
        Ok(())
    }

    /// Masks the value that comes next; `branches` are the rules that reach it, at least one.
    fn value(&mut self, branches: &[&Branch], depth: usize) -> Result<(), NoJson> {
        let first = self.peek()?;
        let whole = branches.iter().find_map(|branch| branch.here.as_ref());
        let is_nested = matches!(first, b'{' | b'[');
        let replacement = match whole {
            Some(replacement) => replacement,
            None if is_nested && depth < DEPTH_MAX => {
                return if first == b'{' {
                    self.object(branches, depth)
                } else {
                    self.list(branches, depth)
                };
            }
            None if first == b'n' => return self.skip(),
            None => branches
                .iter()
                .find_map(|branch| branch.replacement())
                .ok_or(NoJson)?,
        };
        let start = self.at;
        self.skip()?;
        self.out.extend_from_slice(&self.row[self.copied..start]);
        self.copied = self.at;
        let value = &self.row[start..self.at];
        match replacement {
            Replacement::Json(json) => self.out.extend_from_slice(json.as_bytes()),
            Replacement::SameKind if is_nested => append_masked(value, self.out)?,
            Replacement::SameKind => self.out.extend_from_slice(mask_of(value)),
        }
        Ok(())
    }

    fn object(&mut self, branches: &[&Branch], depth: usize) -> Result<(), NoJson> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        let mut below = Vec::new();
        loop {
            let name = self.name()?;
            self.expect(b':')?;
            below.clear();
            for branch in branches {
                let named = branch
                    .members
                    .iter()
                    .filter(|(known, _)| is_name(name, known));
                below.extend(named.map(|(_, branch)| branch));
                below.extend(branch.every.as_deref());
            }
            if below.is_empty() {
                self.peek()?;
                self.skip()?;
            } else {
                self.value(&below, depth + 1)?;
            }
            if self.peek()? != b',' {
                return self.expect(b'}');
            }
            self.expect(b',')?;
        }
    }

    fn list(&mut self, branches: &[&Branch], depth: usize) -> Result<(), NoJson> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            return self.expect(b']');
        }
        let mut below = Vec::new();
        for branch in branches {
            below.extend(branch.every.as_deref());
            // A list has no names: they are those of its elements.
            below.extend((!branch.members.is_empty()).then_some(*branch));
        }
        loop {
            self.value(&below, depth + 1)?;
            if self.peek()? != b',' {
                return self.expect(b']');
            }
            self.expect(b',')?;
        }
    }

    /// The name that comes next, with its quotes.
    fn name(&mut self) -> Result<&'a [u8], NoJson> {
        if self.peek()? != b'"' {
            return Err(NoJson);
        }
        let start = self.at;
        self.skip()?;
        Ok(&self.row[start..self.at])
    }

    /// Goes to the end of the value that begins here.
    fn skip(&mut self) -> Result<(), NoJson> {
        self.at += value_length(&self.row[self.at..]).ok_or(NoJson)?;
        Ok(())
    }

    /// The byte at which the next token begins.
    fn peek(&mut self) -> Result<u8, NoJson> {
        self.skip_blanks();
        self.row.get(self.at).copied().ok_or(NoJson)
    }

    fn expect(&mut self, byte: u8) -> Result<(), NoJson> {
        if self.peek()? != byte {
            return Err(NoJson);
        }
        self.at += 1;
        Ok(())
    }

    fn skip_blanks(&mut self) {
        let rest = &self.row[self.at..];
        self.at += rest.len() - rest.trim_ascii_start().len();
    }
}

/// Whether the name, in quotes and with escapes, is `known`.
fn is_name(quoted: &[u8], known: &str) -> bool {
    let name = &quoted[1..quoted.len() - 1];
    if name == known.as_bytes() {
        return !known.contains('\\');
    }
    // A name that cannot be read has half of a surrogate pair in it, which no name of a configuration has.
    memchr::memchr(b'\\', name).is_some()
        && serde_json::from_slice::<String>(quoted).is_ok_and(|name| name == known)
}

/// What a text, number or word becomes.
fn mask_of(value: &[u8]) -> &[u8] {
    match value.first() {
        Some(b'"') => TEXT,
        Some(b't' | b'f') => b"false",
        Some(b'n') => value,
        _ if memchr::memchr3(b'.', b'e', b'E', value).is_some() => b"-1.0",
        _ => b"-1",
    }
}

/// Appends an object or a list with everything in it masked but names.
fn append_masked(nested: &[u8], out: &mut Vec<u8>) -> Result<(), NoJson> {
    let mut rest = nested;
    while let Some(first) = rest.first() {
        let is_token = matches!(first, b'{' | b'}' | b'[' | b']' | b',' | b':');
        let length = if is_token || first.is_ascii_whitespace() {
            1
        } else {
            value_length(rest).ok_or(NoJson)?
        };
        let (token, behind) = rest.split_at(length);
        let is_name = *first == b'"' && behind.trim_ascii_start().starts_with(b":");
        out.extend_from_slice(
            if length == 1 && is_token || first.is_ascii_whitespace() || is_name {
                token
            } else {
                mask_of(token)
            },
        );
        rest = behind;
    }
    Ok(())
}

/// The length of the value at the beginning of `text`; `None` if none is there, or it has no end.
fn value_length(text: &[u8]) -> Option<usize> {
    match text.first()? {
        b'"' => string_length(text),
        b'{' | b'[' => nested_length(text),
        b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
            let ends =
                |byte: &u8| matches!(byte, b',' | b'}' | b']' | b':') || byte.is_ascii_whitespace();
            Some(text.iter().position(ends).unwrap_or(text.len()))
        }
        _ => None,
    }
}

fn nested_length(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        match text.get(at)? {
            b'"' => at += string_length(&text[at..])? - 1,
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            return Some(at);
        }
    }
}

fn string_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr::memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn rule(path: &[&str], value: Option<&str>) -> Rule {
        let step = |step: &&str| match *step {
            "*" => Step::Every,
            name => Step::Member(name.to_owned()),
        };
        Rule {
            path: path.iter().map(step).collect(),
            replacement: value.map_or(Replacement::SameKind, |json| {
                Replacement::Json(json.to_owned())
            }),
        }
    }

    fn masked(rules: &[(&[&str], Option<&str>)], row: &str) -> String {
        let mask = Mask::new(rules.iter().map(|(path, value)| rule(path, *value)));
        let mut out = b"before ".to_vec();
        mask.append(row.as_bytes(), &mut out);
        let out = String::from_utf8(out).unwrap();
        out.strip_prefix("before ").unwrap().to_owned()
    }

    #[test]
    fn without_a_value_each_kind_becomes_its_own_mask_and_all_else_stays_as_it_came() {
        let check = |value: &str, expected: &str| {
            let row = format!(r#"{{ "B" :1.50,"A" : {value} , "C":"\u0041"}}"#);
            let expected = format!(r#"{{ "B" :1.50,"A" : {expected} , "C":"\u0041"}}"#);
            assert_eq!(masked(&[(&["A"], None)], &row), expected);
        };
        check(r#""a secret""#, r#""****SANITIZED****""#);
        check(r#""""#, r#""****SANITIZED****""#);
        check(r#""\\\"},""#, r#""****SANITIZED****""#);
        check("12345678901234567890123", "-1");
        check("-0", "-1");
        check("0.5", "-1.0");
        check("1E3", "-1.0");
        check("true", "false");
        check("false", "false");
        check("null", "null");
        check("{}", "{}");
        check("[ ]", "[ ]");
        check(
            r#"{"x" : "y" ,"z":[1, 2.5,null,{"t":true}]}"#,
            r#"{"x" : "****SANITIZED****" ,"z":[-1, -1.0,null,{"t":false}]}"#,
        );
    }

    #[test]
    fn a_value_takes_the_place_of_whatever_is_there() {
        for value in [r#""a""#, "1", "null", "true", r#"{"a":[1]}"#, "[[]]"] {
            let row = format!(r#"{{"A":{value}}}"#);
            assert_eq!(masked(&[(&["A"], Some("\"x\""))], &row), r#"{"A":"x"}"#);
        }
    }

    #[test]
    fn a_path_goes_through_objects_and_lists() {
        let check = |path: &[&str], row: &str, expected: &str| {
            assert_eq!(masked(&[(path, Some("0"))], row), expected, "{path:?}");
        };
        let row = r#"{"A":{"B":[{"C":1,"D":2},{"C":3}],"C":4},"C":5}"#;
        check(
            &["C"],
            row,
            r#"{"A":{"B":[{"C":1,"D":2},{"C":3}],"C":4},"C":0}"#,
        );
        check(
            &["A", "C"],
            row,
            r#"{"A":{"B":[{"C":1,"D":2},{"C":3}],"C":0},"C":5}"#,
        );
        check(
            &["A", "B", "*", "C"],
            row,
            r#"{"A":{"B":[{"C":0,"D":2},{"C":0}],"C":4},"C":5}"#,
        );
        check(&["A", "B", "*"], row, r#"{"A":{"B":[0,0],"C":4},"C":5}"#);
        check(
            &["A", "B", "C"],
            row,
            r#"{"A":{"B":[{"C":0,"D":2},{"C":0}],"C":4},"C":5}"#,
        );
        check(
            &["A", "*", "C"],
            row,
            r#"{"A":{"B":[{"C":0,"D":2},{"C":0}],"C":0},"C":5}"#,
        );
        check(&["B"], row, row);
        check(&["A", "D"], row, row);
        check(&["D", "E"], r#"{"D":null}"#, r#"{"D":null}"#);
        check(&["A", "*"], r#"{"A":[[1],2]}"#, r#"{"A":[0,0]}"#);
    }

    #[test]
    fn another_shape_than_the_paths_is_masked_whole() {
        let check = |path: &[&str], row: &str, expected: &str| {
            assert_eq!(masked(&[(path, None)], row), expected, "{path:?}");
        };
        check(
            &["A", "*"],
            r#"{"A":"a;b"}"#,
            r#"{"A":"****SANITIZED****"}"#,
        );
        check(
            &["A", "*", "B"],
            r#"{"A":{"B":"x"}}"#,
            r#"{"A":{"B":"****SANITIZED****"}}"#,
        );
        check(
            &["A", "B"],
            r#"{"A":"{\"B\":1}"}"#,
            r#"{"A":"****SANITIZED****"}"#,
        );
        check(
            &["A", "B"],
            r#"{"A":[["b"]]}"#,
            r#"{"A":[["****SANITIZED****"]]}"#,
        );
        let deep = format!(r#"{{"A":{}"a"{}}}"#, "[".repeat(9_000), "]".repeat(9_000));
        let expected = deep.replace("\"a\"", r#""****SANITIZED****""#);
        check(&["A", "B"], &deep, &expected);
    }

    #[test]
    fn a_name_is_known_however_it_is_written_and_each_time() {
        let check = |name: &str, row: &str, expected: &str| {
            assert_eq!(masked(&[(&[name], Some("0"))], row), expected);
        };
        check(
            "Subject",
            r#"{"\u0053ubjec\u0074":1,"subject":1}"#,
            r#"{"\u0053ubjec\u0074":0,"subject":1}"#,
        );
        check(
            "A",
            r#"{"A":1,"B":2,"A":3,"\u0041":4}"#,
            r#"{"A":0,"B":2,"A":0,"\u0041":0}"#,
        );
        check("a/b\"\\", r#"{"a\/b\"\\":1}"#, r#"{"a\/b\"\\":0}"#);
        check(
            "😀",
            r#"{"😀":1,"\ud83d\ude00":2,"\ud83d":3}"#,
            r#"{"😀":0,"\ud83d\ude00":0,"\ud83d":3}"#,
        );
        check("\\u0041", r#"{"\u0041":1}"#, r#"{"\u0041":1}"#);
        check("", r#"{"":1}"#, r#"{"":0}"#);
    }

    #[test]
    fn of_several_rules_the_shorter_path_and_then_the_last_one_holds() {
        let row = r#"{"A":{"B":1,"C":2}}"#;
        let check = |rules: &[(&[&str], Option<&str>)], expected: &str| {
            assert_eq!(masked(rules, row), expected);
        };
        check(&[(&["A"], Some("0")), (&["A", "B"], None)], r#"{"A":0}"#);
        check(&[(&["A", "B"], None), (&["A"], Some("0"))], r#"{"A":0}"#);
        check(&[(&["A"], Some("0")), (&["A"], Some("9"))], r#"{"A":9}"#);
        check(
            &[(&["A", "B"], None), (&["A", "*"], Some("0"))],
            r#"{"A":{"B":-1,"C":0}}"#,
        );
    }

    #[test]
    fn what_is_no_object_is_withheld() {
        let withheld = std::str::from_utf8(WITHHELD).unwrap();
        for row in [
            "",
            "[]",
            "\"A\"",
            "{",
            "{\"A\"",
            "{\"A\":",
            "{\"A\":1",
            "{\"A\":1}x",
            "{\"A\":\"x}",
            "{A:1}",
            "{\"A\":[1}",
            "{\"B\":x}",
            "{\"A\":1,}",
            "{\"A\":[1,{]}",
            "{\"A\" 1}",
            "{\"A\":x}",
            "{\"B\":{\"A\":1}",
        ] {
            assert_eq!(masked(&[(&["A"], None)], row), withheld, "{row}");
        }
        assert!(serde_json::from_slice::<Value>(WITHHELD).is_ok());
    }

    #[test]
    fn an_empty_mask_lets_everything_through() {
        assert!(Mask::default().is_empty() && Mask::new([]).is_empty());
        assert_eq!(masked(&[], "no JSON"), "no JSON");
    }

    /// What a mask does, on a tree.
    fn mask(value: &mut Value, path: &[&str]) {
        match (path.split_first(), value) {
            (_, Value::Null) => {}
            (None, Value::Array(items)) => items.iter_mut().for_each(|item| mask(item, &[])),
            (None, Value::Object(members)) => members.values_mut().for_each(|item| mask(item, &[])),
            (Some((step, rest)), Value::Object(members)) => {
                let named = members
                    .iter_mut()
                    .filter(|(name, _)| *step == "*" || name == step);
                named.for_each(|(_, member)| mask(member, rest));
            }
            (Some((step, rest)), Value::Array(items)) => {
                let rest = if *step == "*" { rest } else { path };
                for item in items {
                    mask(item, rest);
                }
            }
            (_, value) => {
                *value = match value {
                    Value::String(_) => json!("****SANITIZED****"),
                    Value::Bool(_) => json!(false),
                    Value::Number(number) if number.is_f64() => json!(-1.0),
                    _ => json!(-1),
                };
            }
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            "[a\\\\\"{}\\[\\],:\u{7}é ]{0,6}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("[AB\"]", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_row_is_masked_as_its_tree_would_be(
            value in values(), path in proptest::collection::vec(prop_oneof![Just("A"), Just("B"), Just("*")], 1..4), pretty: bool,
        ) {
            let mut row = json!({"A": value, "B": 1});
            let text = if pretty { serde_json::to_string_pretty(&row) } else { serde_json::to_string(&row) }.unwrap();
            let masked = masked(&[(&path, None)], &text);
            mask(&mut row, &path);
            let expected = if pretty { serde_json::to_string_pretty(&row) } else { serde_json::to_string(&row) }.unwrap();
            prop_assert_eq!(masked, expected);
        }

        #[test]
        fn no_row_is_too_odd(row in "[{}\\[\\]\",:\\\\An1 ]{0,30}") {
            let masked = masked(&[(&["A"], Some("0")), (&["A", "*", "A"], None)], &row);
            if serde_json::from_str::<serde_json::Map<String, Value>>(&row).is_ok() {
                prop_assert!(serde_json::from_str::<Value>(&masked).is_ok(), "{}", masked);
            }
        }
    }
}
