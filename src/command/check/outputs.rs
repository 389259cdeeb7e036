//! Outputs: the certificate files, and an empty delivery that shows whether the relay gives receipts.

use std::time::Duration;

use chrono::Utc;
use tokio::time::{Instant, timeout};

use super::{Line, Verdict};
use crate::config::{Output, OutputKind, ReceiptPolicy};
use crate::error::chain;
use crate::relay::{DeliveryError, Ending, Relay};

/// The longest that meeting a relay may take: an unknown name, dead addresses and a silent one together.
const TIMEOUT: Duration = Duration::from_mins(2);

/// How long a relay may take to answer our end of a connection.
const PATIENCE: Duration = Duration::from_secs(12);

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
    let policy = output.kind.receipt();
    let probes = async {
        let first = relay.probe(PATIENCE).await?;
        // Once may be something between that goes away at this moment.
        if first == Ending::Ended {
            return relay.probe(PATIENCE).await;
        }
        Ok(first)
    };
    let Ok(ending) = timeout(TIMEOUT, probes).await else {
        let what = format!(
            "{address} has not come to an end within {} s",
            TIMEOUT.as_secs()
        );
        return Verdict::failed(what, "check that the relay is not hung");
    };
    let tls = matches!(output.kind, OutputKind::Relay(_));
    match (ending, policy) {
        (Err(error), _) => refused(&error),
        (Ok(Ending::Read), _) => Verdict::Fine(format!(
            "{address} accepts us and gives receipts: its close_notify, which nobody else can send"
        )),
        (Ok(_), ReceiptPolicy::Tcp) => Verdict::Doubtful(format!(
            "{address} accepts us, and by `receipt: tcp` it is TCP's acknowledgement that confirms, which does not tell whether the relay has read \
             the records"
        )),
        (Ok(Ending::Ended | Ending::Reset), ReceiptPolicy::CloseNotify) => Verdict::failed(
            format!(
                "{address} accepts us and gives no close_notify, which `receipt: close_notify` asks for"
            ),
            "let the relay's TLS endpoint send close_notify before it closes a connection in order, or take the line out",
        ),
        (Ok(Ending::Reset), _) => Verdict::Doubtful(format!(
            "{address} accepts us and resets connections behind its close_notify, which it may also do with records unread; let its TLS \
             endpoint close them in order"
        )),
        (Ok(Ending::Ended), _) if tls => Verdict::Fine(format!(
            "{address} accepts us and gives receipts: an end of the connection without close_notify, which whatever stands between can fake"
        )),
        (Ok(Ending::Ended), _) => Verdict::Fine(format!(
            "{address} accepts us and gives receipts: an end of the connection, which whatever stands between can fake"
        )),
        (Ok(Ending::Silent), ReceiptPolicy::Required | ReceiptPolicy::CloseNotify) => {
            Verdict::failed(
                format!(
                    "{address} accepts us and does not answer our end of a connection, and `receipt` forbids to go by TCP's word"
                ),
                "let the relay's TLS endpoint close when its peer has, or take the line `receipt` out",
            )
        }
        (Ok(Ending::Silent), _) => Verdict::Doubtful(format!(
            "{address} accepts us and does not answer our end of a connection within {} s: records wait while it is asked again, and after ten \
             minutes of this TCP's acknowledgement confirms them, which does not tell whether the relay has read them; let its TLS endpoint \
             close when its peer has",
            PATIENCE.as_secs()
        )),
    }
}

fn refused(error: &DeliveryError) -> Verdict {
    let action = error.action();
    let action = action.as_deref().unwrap_or(
        "look into the relay's log for its reason, check what stands between it and here, and check again",
    );
    Verdict::failed(chain(error), action)
}
