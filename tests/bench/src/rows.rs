//! The rows that everything drains: message traces of about 660 bytes, made by rule, each with a number that no other has.
//!
//! A *block* is the rows of one second. Its text is one of a few templates with the second and the rows' numbers stamped in, so
//! that millions of different rows cost the server little more than copying. The echo of the query (`StartDate`, `EndDate`)
//! and the position (`Index`) are a template's own and stand still: no client of this bench reads them.

use std::fmt::Write as _;
use std::ops::Range;

use chrono::{DateTime, Utc};

/// Rows of a block.
pub const BLOCK_ROWS: u64 = 20;
/// Blocks of a full page.
pub const PAGE_BLOCKS: u64 = 100;
/// Different blocks before they repeat but for what is stamped in.
const TEMPLATES: u64 = 64;

/// Values that rows of text draw from, escaped as JSON: plain ones, other scripts, escapes.
const SUBJECTS: [&str; 8] = [
    "Weekly Digest: what has happened in your team since last Monday",
    "Re: Angebot für Müller & Söhne – Größe XL, zweite Lieferung",
    r#"\"Quarterly\" figures \\ draft, please do not forward"#,
    "Invoice 2026-11-22 for your order, payable within thirty days",
    "会議のお知らせ 📅 来週の予定について",
    r"Caf\u00e9 reservation \u2028 confirmed for Friday evening",
    "Your parcel is on its way and will arrive between 9:00 and 12:00",
    "Счёт № 42 / Rechnung, zur Kenntnis",
];
const STATUSES: [&str; 4] = ["Delivered", "Delivered", "Quarantined", "FilteredAsSpam"];

/// The rows of one report: blocks that follow one another.
#[derive(Clone, Copy, Debug)]
pub struct Backlog {
    /// The first block's second since 1970.
    pub from: i64,
    /// How many blocks.
    pub blocks: u64,
    /// Seconds from one block to the next.
    pub step: i64,
}

impl Backlog {
    /// `rows` in whole blocks, the last one before `to`.
    pub fn before(to: i64, rows: u64, step: i64) -> Backlog {
        let blocks = rows / BLOCK_ROWS;
        let from = to - blocks.cast_signed() * step;
        Backlog { from, blocks, step }
    }

    /// How many rows.
    pub fn rows(&self) -> u64 {
        self.blocks * BLOCK_ROWS
    }

    /// The second after the last block's time.
    pub fn to(&self) -> i64 {
        self.from + self.blocks.cast_signed() * self.step
    }

    /// The blocks with a time in `[first, end)`.
    pub(crate) fn blocks(&self, first: i64, end: i64) -> Range<u64> {
        // A block belongs to the first second of its step.
        let block = |time: i64| {
            let up = (time - self.from + self.step - 1).div_euclid(self.step);
            u64::try_from(up).unwrap_or(0).min(self.blocks)
        };
        block(first)..block(end).max(block(first))
    }

    /// A block's second.
    fn second(&self, block: u64) -> i64 {
        self.from + block.cast_signed() * self.step
    }
}

/// Some rows, one by one.
pub fn sample(rows: usize) -> Vec<Vec<u8>> {
    let templates = Templates::default();
    let backlog = Backlog {
        from: 1_795_358_452,
        blocks: rows as u64,
        step: 1,
    };
    let mut all = Vec::with_capacity(rows);
    for block in 0.. {
        if all.len() >= rows {
            break;
        }
        let mut text = Vec::new();
        templates.append(&backlog, 0, block, &mut text);
        all.extend(templates.spans(block).map(|span| text[span].to_vec()));
    }
    all.truncate(rows);
    all
}

/// The row's number as it stands in it: no two rows have the same, whatever their report.
pub(crate) fn id(report: u64, row: u64) -> u64 {
    mix(report << 48 | row)
}

/// Spreads a number over all 64 bits, each number to another (the finaliser of splitmix64).
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

/// The texts of blocks before anything is stamped in.
pub struct Templates(Vec<Template>);

struct Template {
    text: Vec<u8>,
    rows: Vec<Row>,
}

/// Where a row lies, and what is stamped into it.
struct Row {
    span: Range<usize>,
    /// 19 bytes: `2026-11-22T14:40:52`.
    time: usize,
    /// 16 digits each, in `MessageId`, and in `MessageTraceId` with hyphens between.
    ids: [usize; 2],
}

impl Default for Templates {
    fn default() -> Self {
        Templates((0..TEMPLATES).map(Template::new).collect())
    }
}

impl Templates {
    /// Appends a block's rows with commas between, newest first.
    pub(crate) fn append(&self, backlog: &Backlog, report: u64, block: u64, out: &mut Vec<u8>) {
        let start = out.len();
        let template = self.of(block);
        out.extend_from_slice(&template.text);
        let text = &mut out[start..];
        let time = DateTime::<Utc>::from_timestamp(backlog.second(block), 0).unwrap_or_default();
        let mut second = String::with_capacity(19);
        // Writing to memory does not fail.
        let _ = write!(second, "{}", time.format("%Y-%m-%dT%H:%M:%S"));
        for (row, number) in template.rows.iter().zip(block * BLOCK_ROWS..) {
            let digits = hex(id(report, number));
            let [message, trace] = row.ids;
            text[row.time..row.time + 19].copy_from_slice(second.as_bytes());
            text[message..message + 16].copy_from_slice(&digits);
            text[trace..trace + 8].copy_from_slice(&digits[..8]);
            text[trace + 9..trace + 13].copy_from_slice(&digits[8..12]);
            text[trace + 14..trace + 18].copy_from_slice(&digits[12..]);
        }
    }

    /// Where the rows of a block lie in its text.
    pub(crate) fn spans(&self, block: u64) -> impl Iterator<Item = Range<usize>> {
        self.of(block).rows.iter().map(|row| row.span.clone())
    }

    fn of(&self, block: u64) -> &Template {
        // The remainder is less than 64.
        &self.0[usize::try_from(block % TEMPLATES).unwrap_or_default()]
    }
}

impl Template {
    fn new(template: u64) -> Template {
        let (mut text, mut rows) = (String::new(), Vec::new());
        for place in 0..BLOCK_ROWS {
            let noise = mix(template << 32 | place);
            let pick = |from: &[&'static str], bits: u64| {
                // Fewer than 64 choices.
                from[usize::try_from((noise >> bits) % from.len() as u64).unwrap_or_default()]
            };
            if place > 0 {
                text.push(',');
            }
            let start = text.len();
            text += r#"{"Organization":"contoso-holding.onmicrosoft.com","MessageId":"<"#;
            let message = text.len();
            text += r#"0000000000000000B5E9AC1D7F2@AM9PR08MB6113.eurprd08.prod.example.com>","Received":""#;
            let time = text.len();
            // Newest first, and never on a whole second, where two neighbouring windows would both have it.
            let fraction = 9_999_999 - place * 400_000 - noise % 300_000;
            let _ = write!(
                text,
                r#"2026-11-22T14:40:52.{fraction:07}","SenderAddress":"bounces-{:04x}-notifications-and-news@mail{}.newsletters.example.org","RecipientAddress":"firstname.lastname-of-department{}@contoso-holding.onmicrosoft.com","Subject":"[External] {}","Status":"{}","ToIP":{},"FromIP":"192.0.2.{}","Size":{},"MessageTraceId":""#,
                noise % 65_536,
                noise >> 20 & 7,
                noise >> 24 & 1023,
                pick(&SUBJECTS, 36),
                pick(&STATUSES, 40),
                pick(&["null", r#""2001:db8:85a3:8d3:1319:8a2e:370:7348""#], 44),
                noise >> 44 & 255,
                noise >> 40 & 0xfffff,
            );
            let trace = text.len();
            let _ = write!(
                text,
                r#"00000000-0000-0000-06d3-{:012x}","StartDate":"2026-11-21T00:00:00Z","EndDate":"2026-11-21T00:15:00Z","Index":{}}}"#,
                noise & 0xffff_ffff_ffff,
                template * BLOCK_ROWS + place,
            );
            rows.push(Row {
                span: start..text.len(),
                time,
                ids: [message, trace],
            });
        }
        Template {
            text: text.into_bytes(),
            rows,
        }
    }
}

fn hex(number: u64) -> [u8; 16] {
    std::array::from_fn(|place| b"0123456789abcdef"[(number >> (60 - 4 * place) & 15) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_json_rows_of_its_second_with_ids_of_their_own() {
        let (templates, mut text) = (Templates::default(), b"[".to_vec());
        let backlog = Backlog::before(1_700_000_000, 4_000, 1);
        templates.append(&backlog, 3, 7, &mut text);
        text.push(b']');
        let rows: Vec<serde_json::Value> = serde_json::from_slice(&text).unwrap();
        assert_eq!(rows.len() as u64, BLOCK_ROWS);
        let length = text.len() / rows.len();
        assert!((640..=680).contains(&length), "{length} bytes a row");
        let expected = DateTime::from_timestamp(backlog.from + 7, 0).unwrap();
        for (row, number) in rows.iter().zip(140..) {
            let received = row["Received"].as_str().unwrap();
            assert!(received.starts_with(&expected.format("%Y-%m-%dT%H:%M:%S.").to_string()));
            let digits = format!("{:016x}", id(3, number));
            assert!(row["MessageId"].as_str().unwrap().contains(&digits));
            let trace = row["MessageTraceId"].as_str().unwrap().replace('-', "");
            assert!(trace.starts_with(&digits));
        }
        let spans: Vec<_> = templates.spans(7).collect();
        assert!(
            spans
                .iter()
                .all(|span| text[1 + span.start] == b'{' && text[span.end] == b'}')
        );
    }

    #[test]
    fn neighbouring_windows_share_no_block() {
        let backlog = Backlog {
            from: 1_000,
            blocks: 10,
            step: 60,
        };
        assert_eq!(backlog.blocks(0, 10_000), 0..10);
        assert_eq!(backlog.blocks(1_000, 1_060), 0..1);
        assert_eq!(backlog.blocks(1_001, 1_060), 1..1);
        assert_eq!(backlog.blocks(1_060, 1_061), 1..2);
        assert_eq!(backlog.blocks(5_000, 9_000), 10..10);
    }
}
