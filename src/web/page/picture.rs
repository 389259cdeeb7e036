//! A service's last hours as a picture: records as bars, and below them the lag as a line.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use maud::{Markup, html};

use super::grouped;
use crate::length::Length;
use crate::monitoring::history::{EVERY, Point};

/// Heights within the picture's hundred units: the bars, the gap below them, and the line.
const BARS: u64 = 60;
const LINE_TOP: u64 = 68;
const BOTTOM: u64 = 100;

/// The picture is divided into so many parts at most that tell their figures when they are pointed at.
const PARTS_MAX: i64 = 24;

/// The picture of these points, which end at `now`. Its unit of width is a minute.
pub(super) fn of(points: &[Point], now: DateTime<Utc>) -> Markup {
    let Some(first) = points.first() else {
        return html! {};
    };
    let minutes = i64::try_from(EVERY.as_secs() / 60).unwrap_or(1);
    let begun = first.at - TimeDelta::minutes(minutes);
    // Whole hours, so that the scale does not creep.
    let hours = ((now - begun).num_minutes() + 59)
        .div_euclid(60)
        .clamp(1, 24);
    let axis = Axis {
        from: now - TimeDelta::hours(hours),
        width: hours * 60,
    };
    let most = points.iter().map(|point| point.records).max().unwrap_or(0);
    let lags = || points.iter().filter_map(|point| point.lag_seconds);
    let behind = lags().max().unwrap_or(0).max(0);
    let (records, lag) = (grouped(most), Length(TimeDelta::seconds(behind)));
    let told = format!(
        "The last {hours} h: at most {records} records in {minutes} min, and a lag of at most {lag}"
    );
    html! {
        figure {
            figcaption {
                span.key.bars { "records in " (minutes) " min, at most " (records) }
                span.key.line { "lag, at most " (lag) }
            }
            svg viewBox={ "0 0 " (axis.width) " " (BOTTOM) } preserveAspectRatio="none" role="img" aria-label=(told) {
                path.bars d=(bars(points, &axis, most)) {}
                path.line d=(line(points, &axis, behind)) {}
                @for (x, width, told) in parts(points, &axis) {
                    rect.part x=(x) y="0" width=(width) height=(BOTTOM) { title { (told) } }
                }
            }
            div.scale aria-hidden="true" { span { (hours) " h ago" } span { "now" } }
        }
    }
}

struct Axis {
    from: DateTime<Utc>,
    /// In minutes.
    width: i64,
}

impl Axis {
    fn x(&self, at: DateTime<Utc>) -> i64 {
        (at - self.from).num_minutes().clamp(0, self.width)
    }
}

/// A bar for each point, from the point before it.
fn bars(points: &[Point], axis: &Axis, most: u64) -> String {
    let every = TimeDelta::from_std(EVERY).unwrap_or_default();
    let mut path = String::new();
    let mut before = points.first().map(|first| first.at - every);
    for point in points {
        let (left, right) = (before.map_or(0, |before| axis.x(before)), axis.x(point.at));
        before = Some(point.at);
        // A record alone is seen.
        let height = (point.records * BARS).div_ceil(most.max(1));
        if height > 0 {
            let right = (right - 1).max(left + 1);
            // Writing to a text does not fail.
            let _ = write!(path, "M{left} {BARS}V{}H{right}V{BARS}z", BARS - height);
        }
    }
    path
}

/// The lag at each point, broken where it was not known.
fn line(points: &[Point], axis: &Axis, behind: i64) -> String {
    let height = BOTTOM - 1 - LINE_TOP;
    let behind = u64::try_from(behind).unwrap_or_default().max(1);
    let mut path = String::new();
    let mut pen = 'M';
    for point in points {
        let Some(lag) = point.lag_seconds else {
            pen = 'M';
            continue;
        };
        let lag = u64::try_from(lag).unwrap_or_default();
        let y = BOTTOM - 1 - lag * height / behind;
        let x = axis.x(point.at);
        let _ = if pen == 'M' {
            // A point alone is seen.
            write!(path, "M{} {y}h1", (x - 1).max(0))
        } else {
            write!(path, "L{x} {y}")
        };
        pen = 'L';
    }
    path
}

/// Parts of the picture, as equal as whole minutes are: where each begins, how wide it is, and what it tells.
fn parts(points: &[Point], axis: &Axis) -> Vec<(i64, i64, String)> {
    let number = PARTS_MAX.min(axis.width / 5);
    let border = |part: i64| part * axis.width / number;
    (0..number)
        .map(|part| {
            let (x, width) = (border(part), border(part + 1) - border(part));
            let from = axis.from + TimeDelta::minutes(x);
            let to = from + TimeDelta::minutes(width);
            let of_this = || {
                points
                    .iter()
                    .filter(|point| point.at > from && point.at <= to)
            };
            let records = of_this().map(|point| point.records).sum();
            let lag = of_this().filter_map(|point| point.lag_seconds).max();
            let lag = lag.map_or_else(String::new, |lag| {
                format!(", lag at most {}", Length(TimeDelta::seconds(lag)))
            });
            let (from, to) = (from.format("%H:%M"), to.format("%H:%M UTC"));
            let told = format!("{from} to {to}: {} records{lag}", grouped(records));
            (x, width, told)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000 + minute * 60, 0).unwrap()
    }

    fn point(minute: i64, records: u64, lag_seconds: Option<i64>) -> Point {
        Point {
            at: at(minute),
            records,
            lag_seconds,
        }
    }

    #[test]
    fn bars_stand_on_one_line_and_the_lag_is_broken_where_it_is_not_known() {
        let points = [
            point(5, 0, None),
            point(10, 30, Some(60)),
            point(15, 1, Some(120)),
            point(20, 15, None),
            point(23, 0, Some(0)),
        ];
        let axis = Axis {
            from: at(0),
            width: 60,
        };
        assert_eq!(
            bars(&points, &axis, 30),
            "M5 60V0H9V60zM10 60V58H14V60zM15 60V30H19V60z"
        );
        assert_eq!(line(&points, &axis, 120), "M9 84h1L15 68M22 99h1");
        let parts = parts(&points, &axis);
        assert_eq!(parts.len(), 12);
        assert_eq!(
            parts[1].2,
            "02:45 to 02:50 UTC: 30 records, lag at most 1 min 0 s"
        );
    }

    #[test]
    fn every_minute_belongs_to_a_part_that_tells_its_figures() {
        for hours in 1..=24 {
            let axis = Axis {
                from: at(0),
                width: hours * 60,
            };
            let points: Vec<_> = (1..=axis.width)
                .map(|minute| point(minute, 1, None))
                .collect();
            let parts = parts(&points, &axis);
            assert!(parts.len() <= 24);
            assert_eq!(parts.iter().map(|part| part.1).sum::<i64>(), axis.width);
            for (_, width, told) in &parts {
                assert!(told.ends_with(&format!(": {width} records")), "{told}");
            }
        }
    }

    #[test]
    fn the_scale_is_of_whole_hours_and_nothing_makes_no_picture() {
        assert_eq!(of(&[], at(0)).into_string(), "");
        for (last, hours) in [(5, 1), (60, 1), (61, 2), (24 * 60, 24), (24 * 60 + 4, 24)] {
            let points = [point(5, 1, None), point(last, 1, None)];
            let picture = of(&points, at(last)).into_string();
            assert!(
                picture.contains(&format!("<span>{hours} h ago</span>")),
                "{picture}"
            );
            assert!(picture.contains(&format!("viewBox=\"0 0 {} 100\"", hours * 60)));
        }
    }
}
