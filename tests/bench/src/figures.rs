//! Many runs of one program, summed up: medians, ratios, tables.

use std::fmt::Write as _;

use crate::child::Cost;

/// The runs of one program.
#[derive(Clone, Debug)]
pub struct Series {
    /// Whose they are.
    pub name: String,
    /// Records of a run.
    pub rows: u64,
    /// One for each run.
    pub costs: Vec<Cost>,
}

/// The middle and the ends of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure; zeros of none.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Spread {
        let mut all: Vec<f64> = figures.into_iter().collect();
        all.sort_by(f64::total_cmp);
        let (low, high) = (all.len().saturating_sub(1) / 2, all.len() / 2);
        let at = |place: usize| all.get(place).copied().unwrap_or_default();
        Spread {
            median: f64::midpoint(at(low), at(high)),
            min: at(0),
            max: at(all.len().saturating_sub(1)),
        }
    }

    /// As `1.23 (1.20–1.30)`.
    pub fn show(&self, decimals: usize) -> String {
        let Spread { median, min, max } = self;
        format!("{median:.decimals$} ({min:.decimals$}–{max:.decimals$})")
    }
}

/// A count as a number to calculate with.
pub fn float(count: u64) -> f64 {
    // Counts here are far below 2^53.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact below 2^53, and counts here are far below"
    )]
    let float = count as f64;
    float
}

impl Series {
    /// Thousands of records a second.
    pub fn thousands_a_second(&self) -> Spread {
        self.spread(|cost| float(self.rows) / cost.wall.as_secs_f64() / 1e3)
    }

    /// CPU seconds for a million records.
    pub fn cpu_per_million(&self) -> Spread {
        self.spread(|cost| cost.cpu * 1e6 / float(self.rows))
    }

    /// CPU seconds of a run.
    pub fn cpu(&self) -> Spread {
        self.spread(|cost| cost.cpu)
    }

    /// MiB resident at most.
    pub fn peak(&self) -> Spread {
        self.spread(|cost| float(cost.peak_kib) / 1024.0)
    }

    fn spread(&self, figure: impl Fn(&Cost) -> f64) -> Spread {
        Spread::of(self.costs.iter().map(figure))
    }
}

/// A table of programs; the first one is what the others are compared with.
pub fn table(all: &[Series]) -> String {
    let mut text = String::from(
        "| program | thousand records/s | CPU s per million | peak MiB | CPU, times the collector's | records/s, times the collector's |\n|---|---|---|---|---|---|\n",
    );
    for series in all {
        let ratio = |figure: fn(&Series) -> Spread| {
            all.first()
                .map_or(0.0, |first| figure(series).median / figure(first).median)
        };
        // Writing to memory does not fail.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {:.2} | {:.2} |",
            series.name,
            series.thousands_a_second().show(0),
            series.cpu_per_million().show(2),
            series.peak().show(1),
            ratio(Series::cpu_per_million),
            ratio(Series::thousands_a_second),
        );
    }
    text
}

/// A table of how the collector's cost grows.
pub fn growth(what: &str, all: &[Series]) -> String {
    let mut text = format!(
        "| {what} | CPU s | CPU s per million | thousand records/s | peak MiB |\n|---|---|---|---|---|\n"
    );
    for series in all {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            series.name,
            series.cpu().show(3),
            series.cpu_per_million().show(2),
            series.thousands_a_second().show(0),
            series.peak().show(1),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        let spread = |figures: &[f64]| {
            let Spread { median, min, max } = Spread::of(figures.iter().copied());
            [median, min, max]
                .map(|figure| format!("{figure:.1}"))
                .join(" ")
        };
        assert_eq!(spread(&[3.0, 1.0, 2.0]), "2.0 1.0 3.0");
        assert_eq!(spread(&[4.0, 1.0, 2.0, 3.0]), "2.5 1.0 4.0");
        assert_eq!(spread(&[7.0]), "7.0 7.0 7.0");
    }
}
