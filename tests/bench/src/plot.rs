//! How cost grows, as one SVG of two panels: plain text, no script, readable on light and dark ground.

use std::fmt::Write as _;

use crate::figures::{Series, float};

const STYLE: &str = "text { font: 13px sans-serif; fill: #333 } .axis { stroke: #888; fill: none } .grid { stroke: #8884 } \
     .mark { fill: #0a6ebd } .line { stroke: #0a6ebd; stroke-width: 2; fill: none } .even { stroke: #888; stroke-dasharray: 5 4; fill: none } \
     @media (prefers-color-scheme: dark) { text { fill: #ddd } .mark { fill: #6bb8f5 } .line { stroke: #6bb8f5 } }";

const WIDTH: f64 = 340.0;
const HEIGHT: f64 = 260.0;

/// One panel: places of points in the unit square, and what stands at the axes.
struct Panel<'a> {
    title: &'a str,
    below: &'a str,
    points: Vec<(f64, f64)>,
    /// Where a cost in proportion would lie.
    even: [(f64, f64); 2],
    /// Place and text.
    across: Vec<(f64, String)>,
    up: Vec<(f64, String)>,
}

/// CPU seconds over rows (both logarithmic), and over services.
pub fn svg(rows: &[Series], services: &[Series]) -> String {
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 880 360\" role=\"img\" aria-label=\"CPU seconds over rows and over services\">\n<style>{STYLE}</style>\n"
    );
    draw(&by_rows(rows), 70.0, &mut text);
    draw(&by_services(services), 510.0, &mut text);
    text += "</svg>\n";
    text
}

fn by_rows(all: &[Series]) -> Panel<'static> {
    let log = |series: &Series| {
        (
            float(series.rows).log10(),
            series.cpu().median.max(1e-3).log10(),
        )
    };
    let logs: Vec<(f64, f64)> = all.iter().map(log).collect();
    let edge = |figure: fn(&(f64, f64)) -> f64| {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in logs.iter().map(figure) {
            (low, high) = (low.min(value.floor()), high.max(value.ceil()));
        }
        (low, high.max(low + 1.0))
    };
    let ((left, right), (low, high)) = (edge(|log| log.0), edge(|log| log.1));
    let place = |(x, y): (f64, f64)| ((x - left) / (right - left), (y - low) / (high - low));
    let decades = |from: f64, to: f64| {
        std::iter::successors(Some(from), |at| Some(at + 1.0)).take_while(move |at| *at <= to)
    };
    // In proportion to the largest, which a fixed cost disturbs least.
    let (x, y) = logs.last().copied().unwrap_or((right, high));
    let back = (x - left).min(y - low);
    Panel {
        title: "CPU seconds, one service",
        below: "records",
        points: logs.iter().copied().map(place).collect(),
        even: [place((x - back, y - back)), place((x, y))],
        across: decades(left, right)
            .map(|at| ((at - left) / (right - left), thousands(10_f64.powf(at))))
            .collect(),
        up: decades(low, high)
            .map(|at| ((at - low) / (high - low), 10_f64.powf(at).to_string()))
            .collect(),
    }
}

fn by_services(all: &[Series]) -> Panel<'static> {
    let most = all
        .iter()
        .map(|series| series.cpu().median)
        .fold(0.0, f64::max);
    let unit = 10_f64.powf((most.max(1e-3) / 2.0).log10().floor());
    let top = (most / unit).ceil() * unit;
    let count = float(all.len().max(1) as u64);
    let points: Vec<(f64, f64)> = (1_u32..)
        .zip(all)
        .map(|(services, series)| (f64::from(services) / count, series.cpu().median / top))
        .collect();
    let last = points.last().copied().unwrap_or((1.0, 1.0));
    Panel {
        title: "CPU seconds, services at once",
        below: "services",
        points,
        even: [(0.0, 0.0), last],
        across: (1_u32..)
            .zip(all)
            .map(|(services, _)| (f64::from(services) / count, services.to_string()))
            .collect(),
        up: (0..=4)
            .map(|quarter| f64::from(quarter) / 4.0)
            .map(|at| (at, format!("{:.3}", at * top)))
            .collect(),
    }
}

fn thousands(count: f64) -> String {
    match count {
        count if count >= 1e6 => format!("{:.0} M", count / 1e6),
        count if count >= 1e3 => format!("{:.0} k", count / 1e3),
        count => format!("{count:.0}"),
    }
}

/// Writing to memory does not fail.
fn draw(panel: &Panel<'_>, left: f64, out: &mut String) {
    let top = 50.0;
    let x = |at: f64| left + at * WIDTH;
    let y = |at: f64| top + (1.0 - at) * HEIGHT;
    let _ = writeln!(
        out,
        "<text x=\"{left}\" y=\"{}\">{}</text>\n<rect class=\"axis\" x=\"{left}\" y=\"{top}\" width=\"{WIDTH}\" height=\"{HEIGHT}\"/>",
        top - 20.0,
        panel.title
    );
    for (at, label) in &panel.across {
        let (x, foot) = (x(*at), y(0.0));
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{x:.1} {top}V{foot}\"/><text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>",
            foot + 18.0
        );
    }
    for (at, label) in &panel.up {
        let y = y(*at);
        let _ = writeln!(
            out,
            "<path class=\"grid\" d=\"M{left} {y:.1}H{}\"/><text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left + WIDTH,
            left - 6.0,
            y + 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
        x(0.5),
        y(0.0) + 38.0,
        panel.below
    );
    let path = |points: &[(f64, f64)]| {
        let places = points
            .iter()
            .map(|(px, py)| format!("{:.1} {:.1}", x(*px), y(*py)));
        format!("M{}", places.collect::<Vec<_>>().join("L"))
    };
    let _ = writeln!(
        out,
        "<path class=\"even\" d=\"{}\"/><path class=\"line\" d=\"{}\"/>",
        path(&panel.even),
        path(&panel.points)
    );
    for (px, py) in &panel.points {
        let _ = writeln!(
            out,
            "<circle class=\"mark\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\"/>",
            x(*px),
            y(*py)
        );
    }
}
