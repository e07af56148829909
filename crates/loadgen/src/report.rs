//! What a run prints: JSON for programs, aligned lines for people; both from the same values.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;
use serde_json::Value;

use crate::usage::Consumption;

/// Errors beyond this many kinds are counted together.
const MAX_ERROR_KINDS: usize = 16;

/// A latency histogram: microseconds, three significant digits, one minute at most.
pub struct Latencies(Histogram<u64>);

#[derive(Debug, Clone, Serialize)]
pub struct Quantiles {
    pub count: u64,
    pub p50_us: u64,
    pub p90_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    pub max_us: u64,
}

/// Error texts and how often each occurred.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Errors(BTreeMap<String, u64>);

/// CPU consumed in the measured window, and what it was spent on.
#[derive(Debug, Clone, Serialize)]
pub struct Cpu {
    pub processes: Vec<Consumption>,
    pub cpu_s: f64,
    /// `cpu_s` divided by the operations of the window.
    pub us_per_operation: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Latencies(Histogram::new_with_bounds(1, 60_000_000, 3).expect("constant bounds are valid"))
    }
}

impl Latencies {
    pub fn record_ns(&mut self, nanos: u64) {
        self.0.saturating_record((nanos / 1000).max(1));
    }

    pub fn merge(&mut self, other: &Latencies) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    pub fn quantiles(&self) -> Quantiles {
        Quantiles {
            count: self.0.len(),
            p50_us: self.0.value_at_quantile(0.5),
            p90_us: self.0.value_at_quantile(0.9),
            p99_us: self.0.value_at_quantile(0.99),
            p999_us: self.0.value_at_quantile(0.999),
            max_us: self.0.max(),
        }
    }
}

impl Errors {
    pub fn count(&mut self, error: &impl ToString) {
        self.add(error.to_string(), 1);
    }

    pub fn merge(&mut self, other: Errors) {
        for (text, count) in other.0 {
            self.add(text, count);
        }
    }

    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    fn add(&mut self, text: String, count: u64) {
        let full = self.0.len() >= MAX_ERROR_KINDS && !self.0.contains_key(&text);
        *self.0.entry(if full { "other".to_owned() } else { text }).or_default() += count;
    }
}

impl Cpu {
    /// `None` without processes to watch.
    pub fn per_operation(processes: Vec<Consumption>, operations: u64) -> Option<Cpu> {
        let cpu_s: f64 = processes.iter().map(|process| process.cpu_s).sum();
        let us_per_operation = cpu_s * 1e6 / operations.max(1) as f64;
        (!processes.is_empty()).then_some(Cpu { processes, cpu_s, us_per_operation })
    }
}

/// The same values as indented lines, `name  value`.
pub fn as_text(report: &Value) -> String {
    let mut text = String::new();
    write_lines(&mut text, report, 0);
    text
}

fn write_lines(text: &mut String, value: &Value, depth: usize) {
    let entries: Vec<(String, &Value)> = match value {
        Value::Object(map) => map.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(list) => {
            list.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect()
        }
        _ => return,
    };
    for (name, value) in entries {
        let indent = "  ".repeat(depth);
        match value {
            Value::Null => {}
            Value::Object(_) | Value::Array(_) => {
                text.push_str(&format!("{indent}{name}\n"));
                write_lines(text, value, depth + 1);
            }
            Value::Number(number) if number.is_f64() => {
                text.push_str(&format!("{indent}{name:<22} {:.3}\n", number.as_f64().unwrap_or(0.0)));
            }
            Value::String(string) => text.push_str(&format!("{indent}{name:<22} {string}\n")),
            plain => text.push_str(&format!("{indent}{name:<22} {plain}\n")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_all_merged_values() {
        let (mut all, mut other) = (Latencies::default(), Latencies::default());
        for micros in 1..=500 {
            all.record_ns(micros * 1000);
            other.record_ns((micros + 500) * 1000);
        }
        all.merge(&other);
        let quantiles = all.quantiles();
        assert_eq!((quantiles.count, quantiles.p50_us), (1000, 500));
        assert!(quantiles.max_us >= 1000);
    }

    #[test]
    fn error_kinds_are_bounded_but_every_error_is_counted() {
        let mut errors = Errors::default();
        for n in 0..100 {
            errors.count(&format!("kind {n}"));
        }
        assert_eq!((errors.0.len(), errors.total()), (MAX_ERROR_KINDS + 1, 100));
    }
}
