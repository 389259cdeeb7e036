//! Series that are there once they have something to tell.
//!
//! With hundreds of tenants most of what could be counted is zero for ever. What a rate or an alert is made of is there from the start all
//! the same: a counter that appears with its first count has no increase.

use std::sync::{Arc, OnceLock};

use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// A metric with labels.
pub(super) trait Family: Clone {
    /// One of its series.
    type Series;

    /// The series with these values of its labels.
    fn series(&self, values: &[&str]) -> Self::Series;
}

macro_rules! family {
    ($($family:ty: $series:ty),*) => {$(
        impl Family for $family {
            type Series = $series;

            fn series(&self, values: &[&str]) -> $series {
                self.with_label_values(values)
            }
        }
    )*};
}

family!(
    IntCounterVec: IntCounter,
    CounterVec: Counter,
    IntGaugeVec: IntGauge,
    GaugeVec: Gauge,
    HistogramVec: Histogram
);

/// A series that is made with its first count or value.
pub(super) struct Late<F: Family>(Option<Waiting<F>>);

struct Waiting<F: Family> {
    family: F,
    labels: Arc<[String]>,
    /// The last label, where it is a word from a list.
    word: Option<&'static str>,
    series: OnceLock<F::Series>,
}

/// The labels of a service or of one of its outputs.
pub(super) fn labels(values: &[&str]) -> Arc<[String]> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

impl<F: Family> Late<F> {
    pub(super) fn of(family: &F, labels: &Arc<[String]>) -> Self {
        Self::with(family, labels, None)
    }

    /// The series whose last label is `word`.
    pub(super) fn of_word(family: &F, labels: &Arc<[String]>, word: &'static str) -> Self {
        Self::with(family, labels, Some(word))
    }

    /// One that is never shown.
    pub(super) fn never() -> Self {
        Late(None)
    }

    fn with(family: &F, labels: &Arc<[String]>, word: Option<&'static str>) -> Self {
        Late(Some(Waiting {
            family: family.clone(),
            labels: Arc::clone(labels),
            word,
            series: OnceLock::new(),
        }))
    }

    /// The series, which is there from now on.
    fn shown(&self) -> Option<&F::Series> {
        let waiting = self.0.as_ref()?;
        Some(waiting.series.get_or_init(|| {
            let labels = waiting.labels.iter().map(String::as_str);
            let values: Vec<_> = labels.chain(waiting.word).collect();
            waiting.family.series(&values)
        }))
    }

    fn known(&self) -> Option<&F::Series> {
        self.0.as_ref()?.series.get()
    }
}

impl Late<IntCounterVec> {
    pub(super) fn inc(&self) {
        self.inc_by(1);
    }

    pub(super) fn inc_by(&self, count: u64) {
        if count > 0
            && let Some(counter) = self.shown()
        {
            counter.inc_by(count);
        }
    }

    pub(super) fn get(&self) -> u64 {
        self.known().map_or(0, IntCounter::get)
    }
}

impl Late<CounterVec> {
    pub(super) fn inc_by(&self, count: f64) {
        if count > 0.0
            && let Some(counter) = self.shown()
        {
            counter.inc_by(count);
        }
    }
}

impl Late<IntGaugeVec> {
    /// Zero is shown only after something else.
    pub(super) fn set(&self, value: i64) {
        let gauge = if value == 0 {
            self.known()
        } else {
            self.shown()
        };
        if let Some(gauge) = gauge {
            gauge.set(value);
        }
    }

    pub(super) fn get(&self) -> i64 {
        self.known().map_or(0, IntGauge::get)
    }
}

impl Late<GaugeVec> {
    /// Zero is shown only after something else.
    pub(super) fn set(&self, value: f64) {
        let gauge = if value == 0.0 {
            self.known()
        } else {
            self.shown()
        };
        if let Some(gauge) = gauge {
            gauge.set(value);
        }
    }
}

impl Late<HistogramVec> {
    pub(super) fn observe(&self, value: f64) {
        if let Some(histogram) = self.shown() {
            histogram.observe(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use prometheus::core::Collector as _;
    use prometheus::proto::MetricFamily;

    use super::*;

    #[test]
    fn a_series_is_there_from_its_first_value_on_and_stays() {
        let family = IntGaugeVec::new(Opts::new("g", "g"), &["input", "kind"]).unwrap();
        let gauge = Late::of_word(&family, &labels(&["a"]), "k");
        let shown = || {
            let families = family.collect();
            let metrics = families.iter().flat_map(MetricFamily::get_metric);
            metrics
                .map(|one| one.get_gauge().get_value())
                .collect::<Vec<_>>()
        };
        gauge.set(0);
        assert_eq!(shown(), [0.0; 0]);
        gauge.set(2);
        assert_eq!(shown(), [2.0]);
        gauge.set(0);
        assert_eq!(shown(), [0.0]);
        let never = Late::<IntCounterVec>::never();
        never.inc();
        assert_eq!(never.get(), 0);
    }
}
