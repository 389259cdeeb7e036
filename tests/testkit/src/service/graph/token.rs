//! The token in a link to the next page: base64 of a JSON object, the key of the last row given (seen).

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Value, json};

use super::GraphOptions;
use super::error::Refusal;
use super::time::{TICK_DECIMALS, cut, instant, ticks_of};
use crate::service::generator::Ticks;

/// What is wrong with a link for ever. Seen on `/beta`; for `/v1.0` nothing is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeadLink {
    /// Its token's values have quotes around them: "Cannot process argument transformation on parameter `StartDate`".
    Quoted,
    /// Its token names no address: "Invalid starting recipient address".
    Recipient,
}

/// Where a walk goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    /// The walk's first instant.
    pub(crate) start: Ticks,
    /// The time of the last row given; of the first page, the walk's last instant.
    pub(crate) end: Ticks,
    /// The recipient of the last row given; of the first page, empty.
    pub(crate) recipient: String,
    /// Rows a page.
    pub(crate) size: usize,
}

impl Token {
    /// The token as it stands in a link, before percent-encoding.
    pub(crate) fn text(&self, defect: Option<DeadLink>, options: &GraphOptions) -> String {
        let end = cut(self.end, options.token_decimals);
        let mut values = json!({
            "StartDate": instant(self.start, TICK_DECIMALS),
            "EndDate": instant(end, TICK_DECIMALS),
            "StartingRecipientAddress": self.recipient,
            "ResultSize": self.size.to_string(),
        });
        match (defect, values.as_object_mut()) {
            (Some(DeadLink::Quoted), Some(values)) => {
                for value in values.values_mut() {
                    *value = Value::from(value.to_string());
                }
            }
            (Some(DeadLink::Recipient), _) => {
                values["StartingRecipientAddress"] = Value::from("<>");
            }
            _ => {}
        }
        engine(options.token_padding).encode(values.to_string())
    }

    /// The same place under a token that was never issued before.
    pub(crate) fn text_anew(&self, options: &GraphOptions) -> String {
        static ISSUED: AtomicU64 = AtomicU64::new(0);
        let number = ISSUED.fetch_add(1, Ordering::Relaxed);
        let text = engine(true).decode(self.text(None, options));
        let mut values: Value =
            serde_json::from_slice(&text.unwrap_or_default()).unwrap_or_else(|_| json!({}));
        values["Number"] = Value::from(number.to_string());
        engine(options.token_padding).encode(values.to_string())
    }

    /// Reads a token.
    ///
    /// # Errors
    ///
    /// The two refusals that were seen, and one for what is no token at all.
    pub(crate) fn read(text: &str) -> Result<Token, Refusal> {
        let values: Option<Value> = engine(true)
            .decode(text)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let Some(values) = values else {
            return Err(Refusal::new(400, "Invalid skip token."));
        };
        let value = |name: &str| values[name].as_str().unwrap_or_default();
        let time = |name| {
            ticks_of(value(name)).ok_or_else(|| {
                let message = format!(
                    "Cannot process argument transformation on parameter '{name}'. Cannot convert value \"{}\" to type \
                     \"System.DateTime\".",
                    value(name)
                );
                Refusal::new(400, message)
            })
        };
        let (start, end) = (time("StartDate")?, time("EndDate")?);
        let recipient = value("StartingRecipientAddress").to_owned();
        if !recipient.is_empty() && !recipient.contains('@') {
            return Err(Refusal::new(400, "Invalid starting recipient address"));
        }
        let size = value("ResultSize").parse().map_err(|_| Refusal::size())?;
        Ok(Token {
            start,
            end,
            recipient,
            size,
        })
    }
}

fn engine(padding: bool) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_encode_padding(padding)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&STANDARD, config)
}
