//! Pages in both shapes, sound and broken, and what is no page.

use super::*;
use crate::source::error::Remedy;

fn fingerprinter() -> Fingerprinter {
    Fingerprinter::new(&[7; 16], &["Received"])
}

fn check(body: &str, rows: &[&str], next: Option<&str>) {
    let (page, link) =
        Page::parse(body.into(), &fingerprinter()).unwrap_or_else(|e| panic!("{body}: {e}"));
    let got: Vec<&[u8]> = page.rows().collect();
    let expected: Vec<&[u8]> = rows.iter().map(|row| row.as_bytes()).collect();
    assert_eq!(got, expected, "{body}");
    assert_eq!(link.as_deref(), next, "{body}");
    assert_eq!((page.len(), page.is_empty()), (rows.len(), rows.is_empty()));
    let fingerprint = |row: &[u8]| fingerprinter().fingerprint(row);
    let expected: Vec<_> = expected.into_iter().map(fingerprint).collect();
    assert_eq!(page.fingerprints().collect::<Vec<_>>(), expected, "{body}");
}

fn check_error(body: impl Into<Vec<u8>>, kind: Kind, expected: &str) {
    let body = body.into();
    let text = String::from_utf8_lossy(&body).into_owned();
    let error = Page::parse(body, &fingerprinter()).expect_err(&text);
    assert_eq!(
        (error.kind(), error.to_string().as_str()),
        (kind, expected),
        "{text}"
    );
    assert_eq!(error.remedy(), Remedy::BackOff, "{text}");
}

#[test]
fn brings_rows_that_span_lines_onto_one() {
    check(
        "{\r\n \"value\": [\r\n {\r\n \"A\": \"b  c\\n\",\r\n \"B\": [ 1 ]\r\n }, {} ]\r\n}",
        &[r#"{"A":"b  c\n","B":[1]}"#, "{}"],
        None,
    );
    check(
        "{\"d\":[{\n\"__metadata\" : {}, \"Date\" : \"/Date(0)/\", \"A\" : \" \" }]}",
        &[r#"{"Date":"1970-01-01T00:00:00","A":" "}"#],
        None,
    );
}

#[test]
fn reads_the_light_shape() {
    check(
        r#"{"odata.metadata":"https://x/$metadata#MessageTrace","value":[{"Index":0},{"Index":1}],"odata.nextLink":"../../a?b"}"#,
        &[r#"{"Index":0}"#, r#"{"Index":1}"#],
        Some("../../a?b"),
    );
    check(r#"{"value":[]}"#, &[], None);
    check(r#"{"value":[],"odata.nextLink":null}"#, &[], None);
    check(
        r#"{"@odata.nextLink":"a\/b\u003fc","value":[ {"a" : 1} , {} ]}"#,
        &[r#"{"a" : 1}"#, "{}"],
        Some("a/b?c"),
    );
    check(
        r#"{"odata.nextLink":"a","@odata.nextLink":"a","value":[],"x":{"value":[1],"error":2},"x":3}"#,
        &[],
        Some("a"),
    );
    check(
        "\u{feff}\r\n {\"value\":[{\"a\":1}], \"error\": null}\n",
        &[r#"{"a":1}"#],
        None,
    );
}

#[test]
fn reads_the_verbose_shape() {
    check(
        r#"{"d":{"__count":"2","results":[{"__metadata":{"id":"x"},"a":1},{"b":2}],"__next":"https://x/y"}}"#,
        &[r#"{"a":1}"#, r#"{"b":2}"#],
        Some("https://x/y"),
    );
    check(r#"{"d":{"results":[]}}"#, &[], None);
    check(
        r#"{"d":[{"Received":"\/Date(1659020996164)\/"}]}"#,
        &[r#"{"Received":"2022-07-28T15:09:56.164"}"#],
        None,
    );
}

#[test]
fn light_rows_pass_byte_for_byte() {
    let subject = "x".repeat(1 << 20);
    let rows = [
        r#"{"Subject":"\ud800 lone"}"#.to_owned(),
        r#"{"Size":123456789012345678901234567890.5e400}"#.to_owned(),
        r#"{"a":1,"a":2}"#.to_owned(),
        "{\"Subject\":\"\u{2028}\u{0}\"}".replace('\u{0}', "\\u0000"),
        format!(r#"{{"Subject":"{subject}"}}"#),
        r#"{"__metadata":{"kept":true},"Received":"/Date(1)/"}"#.to_owned(),
        format!("{{\"deep\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000)),
    ];
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    check(
        &format!(r#"{{"value":[{}]}}"#, rows.join(",\n")),
        &rows,
        None,
    );
}

#[test]
fn what_is_no_page_is_an_error_and_not_an_empty_page() {
    let refused = |body: &str, what: &str| {
        check_error(
            body,
            Kind::NotAPage,
            &format!("the service answered 200 with {what}"),
        );
    };
    refused("[]", "no JSON object");
    refused("null", "no JSON object");
    refused("{}", "JSON without rows");
    refused(r#"{"value":null}"#, "JSON without rows");
    refused(r#"{"d":1}"#, "JSON without rows");
    refused(r#"{"d":null}"#, "JSON without rows");
    refused(r#"{"d":{}}"#, "JSON without rows");
    refused(r#"{"d":{"results":null}}"#, "JSON without rows");
    refused(r#"{"d":{"results":{}}}"#, "JSON whose `results` is no list");
    refused(
        r#"{"value":"secret subject"}"#,
        "JSON whose `value` is no list",
    );
    refused(
        r#"{"value":[],"value":[]}"#,
        "JSON with two members `value`",
    );
    refused(
        r#"{"value":null,"\u0076alue":[]}"#,
        "JSON with two members `value`",
    );
    refused(r#"{"d":[],"value":[]}"#, "JSON with rows in two shapes");
    refused(
        r#"{"value":[],"odata.nextLink":"a","@odata.nextLink":"b"}"#,
        "JSON with two different links to the next page",
    );
    refused(
        r#"{"d":[],"odata.nextLink":"a","@odata.nextLink":"b"}"#,
        "JSON with two different links to the next page",
    );
    refused(
        r#"{"value":[],"odata.nextLink":7}"#,
        "JSON whose `odata.nextLink` is no text",
    );
    refused(r#"{"value":[{}]} {"value":[]}"#, "broken JSON at byte 15");
    refused(r#"{"oops":"a"b"}"#, "broken JSON at byte 11");
}

#[test]
fn an_empty_or_blank_link_is_none() {
    for link in ["", " ", r"\t\r\n", r"\u0020", r"\u00a0"] {
        check(
            &format!(r#"{{"value":[{{"A":1}}],"odata.nextLink":"{link}"}}"#),
            &[r#"{"A":1}"#],
            None,
        );
        check(
            &format!(r#"{{"value":[{{}}],"@odata.nextLink":"{link}","odata.nextLink":"a"}}"#),
            &["{}"],
            Some("a"),
        );
        check(
            &format!(r#"{{"d":{{"results":[{{}}],"__next":"{link}"}}}}"#),
            &["{}"],
            None,
        );
    }
}

#[test]
fn what_is_no_object_goes_out_within_one() {
    let expected = [
        r#"{"A":1}"#,
        r#"{"value":null}"#,
        r#"{"value":"a"}"#,
        r#"{"value":[{},1]}"#,
        r#"{"value":-1.0}"#,
    ];
    let rows = r#"{"A":1},null , "a",[{},1],-1.0"#;
    check(
        &format!(r#"{{"value":[{rows}],"odata.nextLink":"x"}}"#),
        &expected,
        Some("x"),
    );
    check(&format!(r#"{{"d":[{rows}]}}"#), &expected, None);
    check(r#"{"value":[null]}"#, &expected[1..2], None);
}

/// The rows that go out for these, and beside a sound one those of each.
fn check_mended(row: &[u8], expected: &str) {
    for (start, end) in [
        ("{\"value\":[", "],\"odata.nextLink\":\"x\"}"),
        ("{\"d\":{\"results\":[", "],\"__next\":\"x\"}}"),
    ] {
        let body = [
            start.as_bytes(),
            br#"{"A":"1","Index":0},"#,
            row,
            br#",{"A":"2","Index":2}"#,
            end.as_bytes(),
        ]
        .concat();
        let shown = String::from_utf8_lossy(&body).into_owned();
        let (page, link) = Page::parse(body, &fingerprinter()).expect(&shown);
        let rows: Vec<_> = page
            .rows()
            .map(|row| str::from_utf8(row).unwrap())
            .collect();
        assert_eq!(
            rows,
            [r#"{"A":"1","Index":0}"#, expected, r#"{"A":"2","Index":2}"#]
        );
        assert_eq!(link.as_deref(), Some("x"));
        // Those of what came: mended rows look alike.
        assert_eq!(
            page.fingerprint(1),
            fingerprinter().fingerprint(row),
            "{shown}"
        );
        assert_eq!(
            page.fingerprint(2),
            fingerprinter().fingerprint(br#"{"A":"2"}"#),
            "{shown}"
        );
    }
}

#[test]
fn a_row_that_is_not_what_json_or_utf_8_allow_holds_up_no_other() {
    check_mended(
        b"{\"A\":\"x\xe9\xff\",\"Index\":1}",
        "{\"A\":\"x\u{fffd}\u{fffd}\",\"Index\":1}",
    );
    check_mended(b"{\"A\":\"\xe2\x82\"}", "{\"A\":\"\u{fffd}\"}");
    check_mended(
        b"{\"A\xc3\":\"\xed\xa0\xbd\"}",
        "{\"A\u{fffd}\":\"\u{fffd}\u{fffd}\u{fffd}\"}",
    );
    check_mended(b"{\"A\":\"a\tb\r\nc\0\"}", r#"{"A":"a\tb\r\nc\u0000"}"#);
    check_mended(b"{\r\n\"A\" :\n\"\x01\"}", r#"{  "A" : "\u0001"}"#);
    check_mended(
        br#"{"A":"C:\Users \u00g1"}"#,
        r#"{"A":"C:\\Users \\u00g1"}"#,
    );
    for row in [
        r#"{"A":NaN,"B":Infinity,"C":-Infinity}"#,
        r#"{"A":"\ud800","B":NaN}"#,
        r#"{"A":tru,"B":01,"C":+1,"D":.5,"E":undefined}"#,
        r#"{"A":"]},{","B":None}"#,
        r#"{"A":1 2}"#,
        r"{'A':1}",
        "{A:1}",
        "{\"A\":1,}",
        "{\"A\"}",
    ] {
        check_mended(row.as_bytes(), row);
    }
}

#[test]
fn rows_that_differ_in_what_cannot_be_sent_stay_apart() {
    let page = |bytes: &[u8]| {
        let body = [&b"{\"value\":[{\"A\":\""[..], bytes, b"\",\"Index\":0}]}"].concat();
        Page::parse(body, &fingerprinter()).unwrap().0
    };
    let (one, other) = (page(b"\xe9"), page(b"\xe8"));
    assert_eq!(one.row(0), other.row(0));
    assert_ne!(one.fingerprint(0), other.fingerprint(0));
    assert_eq!(one.fingerprint(0), page(b"\xe9").fingerprint(0));
    assert_ne!(
        one.fingerprint(0),
        page("\u{fffd}".as_bytes()).fingerprint(0)
    );
}

#[test]
fn what_is_broken_around_the_rows_does_not_hold_them_up() {
    let body = b"{\"odata.metadata\":\"\xff\n\",\"value\":[{\"A\":\"\xff\"}],\"x\":NaN,\"odata.nextLink\":\"a\\/b\xff\"}";
    let (page, link) = Page::parse(body.to_vec(), &fingerprinter()).unwrap();
    assert_eq!(page.row(0), "{\"A\":\"\u{fffd}\"}".as_bytes());
    assert_eq!(link.as_deref(), Some("a/b\u{fffd}"));
}

#[test]
fn rows_that_cannot_be_told_apart_are_an_error_that_knows_the_same_bytes_again() {
    let parsed = |row: &str, other: &str| {
        let body = format!(r#"{{"value":[{{"A":"1"}},{row},{{"A":"{other}"}}]}}"#);
        Page::parse(body.into(), &fingerprinter()).expect_err(row)
    };
    for row in [
        r#"{"A":"5" disk"}"#,
        r#"{"A":"1"}}"#,
        r#"{"A":[1}"#,
        r#"{"A":1,{"B":2}"#,
    ] {
        let error = parsed(row, "x");
        assert_eq!(
            (error.kind(), error.remedy()),
            (Kind::Unsplittable, Remedy::Narrow),
            "{row}"
        );
        assert!(error.to_string().starts_with(
            "the rows of the answer cannot be told apart: its JSON is broken at byte "
        ));
        assert!(error.action().is_some() && error.shorter_window_may_help());
        assert_eq!(error.digest(), parsed(row, "x").digest());
        assert_ne!(error.digest(), parsed(row, "y").digest());
    }
}

#[test]
fn the_digest_is_of_rows_their_order_and_their_index() {
    let digest = |rows: &str| {
        let body = format!(r#"{{"value":[{rows}]}}"#);
        Page::parse(body.into(), &fingerprinter())
            .unwrap()
            .0
            .digest()
    };
    let one = digest(r#"{"A":"1","Index":0,"StartDate":"1"},{"A":"2","Index":1,"StartDate":"1"}"#);
    for same in [
        r#"{"A":"1","Index":0,"StartDate":"2"},{"A":"2","Index":1,"StartDate":"2"}"#,
        r#"{"Index":0.0,"A":"\u0031"} , {"Index":10e-1,"A":"2","B":null}"#,
    ] {
        assert_eq!(digest(same), one, "{same}");
    }
    let others = [
        "",
        r#"{"A":"1","Index":0}"#,
        r#"{"A":"2","Index":1},{"A":"1","Index":0}"#,
        r#"{"A":"1","Index":1},{"A":"2","Index":0}"#,
        r#"{"A":"1","Index":0},{"A":"2","Index":2}"#,
        r#"{"A":"1","Index":2000},{"A":"2","Index":2001}"#,
        r#"{"A":"1"},{"A":"2"}"#,
        r#"{"A":"1","Index":null},{"A":"2","Index":1}"#,
        r#"{"A":"1","Index":0},{"A":"2","Index":1},{"A":"2","Index":1}"#,
        r#"{"A":"1","Index":0},{"A":"1","Index":1}"#,
    ];
    let digests = others.map(digest);
    for (place, other) in digests.iter().enumerate() {
        assert!(
            *other != one && !digests[..place].contains(other),
            "{}",
            others[place]
        );
    }
}

#[test]
fn rows_are_bounded_in_each_shape() {
    for (start, row, end) in [
        (r#"{"value":["#, r#"{"A":1}"#, "]}"),
        (r#"{"value":["#, "{}", "]}"),
        (r#"{"value":["#, "{ \"A\":\n1}", "]}"),
        (r#"{"value":["#, r#"{"A":NaN}"#, "]}"),
        (r#"{"value":["#, "null", "]}"),
        (r#"{"d":["#, "{}", "]}"),
    ] {
        let page = |count: usize| {
            let body = format!("{start}{}{end}", vec![row; count].join(","));
            Page::parse(body.into(), &fingerprinter())
        };
        let (whole, _) = page(ROWS_MAX).unwrap();
        assert_eq!(
            (whole.len(), whole.rows.capacity()),
            (ROWS_MAX, ROWS_MAX),
            "{row}"
        );
        let error = page(ROWS_MAX + 1).unwrap_err();
        assert_eq!(
            (error.kind(), error.remedy()),
            (Kind::TooLarge, Remedy::Narrow),
            "{row}"
        );
        assert_eq!(error.to_string(), "the page has more than 20000 rows");
    }
}

#[test]
fn mended_rows_are_bounded() {
    let body = [
        "{\"value\":[{\"A\":\"",
        &"\u{1}".repeat(BODY_MAX_BYTES / 4),
        "\"}]}",
    ]
    .concat();
    let error = Page::parse(body.into(), &fingerprinter()).unwrap_err();
    assert_eq!(
        (error.kind(), error.remedy()),
        (Kind::TooLarge, Remedy::Narrow)
    );
}

#[test]
fn what_ends_early_is_cut_short() {
    check_error("", Kind::CutShort, "the answer is empty");
    check_error("\u{feff} ", Kind::CutShort, "the answer is empty");
    let whole = r#"{"value":[{"a":"b"}],"odata.nextLink":"c"}"#;
    for end in 1..whole.len() {
        let error = Page::parse(whole[..end].into(), &fingerprinter()).expect_err(whole);
        assert_eq!(error.kind(), Kind::CutShort, "{}: {error}", &whole[..end]);
        let in_rows = (11..20).contains(&end);
        assert_eq!(error.digest().is_some(), in_rows, "{}", &whole[..end]);
    }
}

#[test]
fn shows_the_message_of_an_error_that_came_with_200() {
    check_error(
        r#"{"odata.error":{"code":"x","message":{"lang":"en-US","value":"It\r\nbroke."}}}"#,
        Kind::NotAPage,
        "the service answered 200 with an error message: It broke.",
    );
    check_error(
        r#"{"value":[{"a":1}],"error":{"code":"x","message":"Half way."}}"#,
        Kind::NotAPage,
        "the service answered 200 with an error message: Half way.",
    );
    check_error(
        r#"{"ErrorCode":"","Message":"No permission."}"#,
        Kind::NotAPage,
        "the service answered 200 with JSON without rows: No permission.",
    );
    check_error(
        "<!DOCTYPE html><html><head><title>Sign in to your account</title></head></html>",
        Kind::NotAPage,
        "the service answered 200 with a document instead of JSON: Sign in to your account",
    );
    check_error(
        "<ServiceFault xmlns='x'><Message>We cannot currently process your request, please wait a few minutes</Message></ServiceFault>",
        Kind::Busy,
        "the service answered 200 with a document instead of JSON: We cannot currently process your request, please wait a few minutes",
    );
}

#[test]
fn only_what_is_no_page_tells_of_retirement() {
    const TEXT: &str = "Get-MessageTrace will start deprecating on September 1st, 2025. Switch to Get-MessageTraceV2.";
    let tells = |body: String| {
        let error = Page::parse(body.into(), &fingerprinter()).unwrap_err();
        error.tells_of_retirement()
    };
    for body in [
        TEXT.to_owned(),
        format!("<html>{TEXT}</html>"),
        format!(r#"{{"error":{{"message":"{TEXT}"}}}}"#),
        format!(r#"{{"Message":"{TEXT}"}}"#),
    ] {
        assert!(tells(body.clone()), "{body}");
    }
    // A mail about it, whose page is cut short.
    assert!(!tells(format!(r#"{{"value":[{{"Subject":"{TEXT}"}},{{"#)));
    assert!(!tells("<html>Sign in</html>".to_owned()));
}
