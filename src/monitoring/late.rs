//! Series that are there once they have something to tell.
//!
//! With hundreds of tenants most of what could be counted is zero for ever. What a rate or an alert is made of is there from the start all
//! the same: a counter that appears with its first count has no increase.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock};

use prometheus::core::Collector;
use prometheus::{Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec};
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::lock;

/// A metric with labels.
pub(super) trait Family: Collector + Clone {
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

/// The series that are there, by family and labels: one that takes another's place, as after a reload, goes on with what that has shown. Clones
/// share it.
#[derive(Clone, Default)]
pub(super) struct Shown(Arc<Mutex<HashSet<String>>>);

impl Shown {
    /// The series of a family with these values is no more.
    pub(super) fn forget(&self, family: &impl Collector, values: &[&str]) {
        lock(&self.0).remove(&key(family, values));
    }
}

fn key(family: &impl Collector, values: &[&str]) -> String {
    let descriptions = family.desc();
    let name = descriptions.first().map_or("", |one| one.fq_name.as_str());
    [&[name], values].concat().join("\0")
}

/// The labels of a service or of one of its outputs.
pub(super) struct Target {
    values: Vec<String>,
    shown: Shown,
}

impl Target {
    pub(super) fn new(shown: &Shown, values: &[&str]) -> Arc<Self> {
        Arc::new(Target {
            values: values.iter().map(|value| (*value).to_owned()).collect(),
            shown: shown.clone(),
        })
    }
}

/// A series that is made with its first count or value.
pub(super) struct Late<F: Family>(Option<Waiting<F>>);

struct Waiting<F: Family> {
    family: F,
    target: Arc<Target>,
    /// The last label, where it is a word from a list.
    word: Option<&'static str>,
    series: OnceLock<F::Series>,
}

impl<F: Family> Waiting<F> {
    fn values(&self) -> Vec<&str> {
        let values = self.target.values.iter().map(String::as_str);
        values.chain(self.word).collect()
    }

    /// The series, which is there from now on.
    fn shown(&self) -> &F::Series {
        self.series.get_or_init(|| {
            let values = self.values();
            lock(&self.target.shown.0).insert(key(&self.family, &values));
            self.family.series(&values)
        })
    }

    /// The series, if it is there.
    fn known(&self) -> Option<&F::Series> {
        let is_there = || lock(&self.target.shown.0).contains(&key(&self.family, &self.values()));
        match self.series.get() {
            None if is_there() => Some(self.shown()),
            series => series,
        }
    }
}

impl<F: Family> Late<F> {
    pub(super) fn of(family: &F, target: &Arc<Target>) -> Self {
        Self::with(family, target, None)
    }

    /// The series whose last label is `word`.
    pub(super) fn of_word(family: &F, target: &Arc<Target>, word: &'static str) -> Self {
        Self::with(family, target, Some(word))
    }

    /// One that is never shown.
    pub(super) fn never() -> Self {
        Late(None)
    }

    fn with(family: &F, target: &Arc<Target>, word: Option<&'static str>) -> Self {
        Late(Some(Waiting {
            family: family.clone(),
            target: Arc::clone(target),
            word,
            series: OnceLock::new(),
        }))
    }

    fn shown(&self) -> Option<&F::Series> {
        self.0.as_ref().map(Waiting::shown)
    }

    fn known(&self) -> Option<&F::Series> {
        self.0.as_ref()?.known()
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
    use prometheus::proto::MetricFamily;

    use super::*;

    fn values(family: &IntGaugeVec) -> Vec<f64> {
        let families = family.collect();
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        metrics.map(|one| one.get_gauge().get_value()).collect()
    }

    #[test]
    fn a_series_is_there_from_its_first_value_on_and_stays() {
        let family = IntGaugeVec::new(Opts::new("g", "g"), &["input", "kind"]).unwrap();
        let target = Target::new(&Shown::default(), &["a"]);
        let gauge = Late::of_word(&family, &target, "k");
        gauge.set(0);
        assert_eq!(values(&family), [0.0; 0]);
        gauge.set(2);
        assert_eq!(values(&family), [2.0]);
        gauge.set(0);
        assert_eq!(values(&family), [0.0]);
        let never = Late::<IntCounterVec>::never();
        never.inc();
        assert_eq!(never.get(), 0);
    }

    #[test]
    fn what_takes_the_place_of_another_goes_on_with_its_series() {
        let family = IntGaugeVec::new(Opts::new("g", "g"), &["input"]).unwrap();
        let shown = Shown::default();
        let gauge = || Late::of(&family, &Target::new(&shown, &["a"]));
        gauge().set(1);
        assert_eq!(gauge().get(), 1);
        gauge().set(0);
        assert_eq!(values(&family), [0.0]);

        // Until that has gone.
        family.remove_label_values(&["a"]).unwrap();
        shown.forget(&family, &["a"]);
        gauge().set(0);
        assert_eq!(values(&family), [0.0; 0]);
    }
}
