//! Rows for a demonstration: a backlog of all eight reports, then live ones as time goes by.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::report::Report;
use crate::service::{Backlog, Service};

/// How often live rows appear.
const STEP: Duration = Duration::from_millis(500);

/// How much there is.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    /// Days of backlog.
    pub days: u32,
    /// Rows of message trace in the backlog; the other reports have a tenth of it.
    pub backlog_rows: u32,
    /// Live rows of message trace a second; the other reports have a tenth of it.
    pub live_rows_per_second: u32,
}

impl Traffic {
    /// The first instant of the backlog before `now`: a midnight, so that whole days are in it.
    pub fn start(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let midnight = now.date_naive().and_time(chrono::NaiveTime::MIN).and_utc();
        midnight - TimeDelta::days(i64::from(self.days))
    }

    /// Adds the backlog up to `now`.
    pub fn add_backlog(&self, service: &Service, now: DateTime<Utc>) {
        for report in Report::ALL {
            let rows = share(report, self.backlog_rows);
            service.generate(&Backlog::new(report, self.start(now), now, rows));
        }
    }

    /// Adds live rows, from `start` on, for ever.
    pub async fn run(&self, service: &Service, start: DateTime<Utc>) {
        let mut from = start;
        let mut owed = [0.0; Report::ALL.len()];
        loop {
            tokio::time::sleep(STEP).await;
            let to = Utc::now();
            let seconds = (to - from).as_seconds_f64();
            for (report, owed) in Report::ALL.into_iter().zip(&mut owed) {
                let tenths = f64::from(share(report, self.live_rows_per_second * 10));
                *owed += tenths / 10.0 * seconds;
                let rows = whole(*owed);
                *owed -= f64::from(rows);
                if rows > 0 {
                    service.generate(&Backlog::new(report, from, to, rows));
                }
            }
            from = to;
        }
    }
}

fn share(report: Report, rows: u32) -> u32 {
    if report == Report::MessageTrace {
        rows
    } else {
        rows.div_ceil(10)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rows of half a second, and `as` saturates"
)]
fn whole(rows: f64) -> u32 {
    rows as u32
}
