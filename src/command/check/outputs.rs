//! Outputs: the certificate files, and an empty delivery that shows whether the relay gives receipts.

use std::time::Duration;

use chrono::Utc;
use tokio::time::{Instant, timeout};

use super::{Line, Verdict};
use crate::config::{Output, OutputKind, ReceiptPolicy};
use crate::error::chain;
use crate::relay::{Answer, DeliveryError, Relay};

/// The longest that meeting a relay may take: an unknown name, dead addresses and a silent one together.
const TIMEOUT: Duration = Duration::from_mins(2);

pub(super) async fn lines(output: &Output) -> Vec<Line> {
    let relay = Relay::new(output);
    let part = |what: &str| format!("output {}: {what}", output.name);
    if matches!(output.kind, OutputKind::Console) {
        let text = "the lines go there".to_owned();
        return vec![Line::new(part("standard output"), Verdict::Fine(text))];
    }
    let files = match relay.check().and_then(|()| relay.certificate_expiry()) {
        Ok(None) => None,
        Ok(Some(end)) => {
            let hint = "download a new certificate and its key in time; no restart is needed";
            let usable = "certificate, key and chain can be used";
            Some(Verdict::until(end, Utc::now(), usable, hint))
        }
        Err(error) => Some(refused(&error)),
    };
    let usable = !matches!(files, Some(Verdict::Failed(_)));
    let mut lines: Vec<_> = files
        .map(|verdict| Line::new(part("certificate"), verdict))
        .into_iter()
        .collect();
    lines.push(if usable {
        let begun = Instant::now();
        Line::new(part("relay"), meet(&relay, output).await).after(begun.elapsed())
    } else {
        let text = "its files cannot be used".to_owned();
        Line::new(part("relay"), Verdict::NotTried(text))
    });
    lines
}

async fn meet(relay: &Relay, output: &Output) -> Verdict {
    let address = relay.address();
    let Ok(answer) = timeout(TIMEOUT, relay.probe()).await else {
        let what = format!(
            "{address} has not come to an end within {} s",
            TIMEOUT.as_secs()
        );
        return Verdict::failed(what, "check that the relay is not hung");
    };
    let required = matches!(&output.kind, OutputKind::Relay(relay) if relay.receipt == ReceiptPolicy::Required);
    match answer {
        Ok(Answer::Answers) => Verdict::Fine(format!("{address} accepts us and gives receipts")),
        Ok(Answer::Silent) if required => Verdict::failed(
            format!(
                "{address} accepts us and does not answer a half-close, and `receipt: required` forbids to go by TCP's word"
            ),
            "let the relay's TLS endpoint close when its peer has, or take the line out",
        ),
        Ok(Answer::Silent) => Verdict::Doubtful(format!(
            "{address} accepts us and does not answer a half-close, so there are no receipts: TCP's acknowledgement stands in for them, \
             which does not tell whether the relay has read the records; let its TLS endpoint close when its peer has"
        )),
        Err(error) => refused(&error),
    }
}

fn refused(error: &DeliveryError) -> Verdict {
    let action = error.action();
    let action = action.as_deref().unwrap_or(
        "look into the relay's log for its reason, check what stands between it and here, and check again",
    );
    Verdict::failed(chain(error), action)
}
