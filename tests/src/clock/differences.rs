//! The lines of a sink json: when each batch was, how long it took, and what it added to each counter.

use crate::totals::Totals;
use crate::{Failure, Outcome};
use serde_json::Value;
use std::fs;
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

/// All lines of a file.
pub(super) struct Differences(Vec<Value>);

impl Differences {
    /// Reads them.
    ///
    /// # Errors
    /// The file cannot be read, or a line is no object.
    pub(super) fn read(path: &Path) -> Outcome<Self> {
        let text = fs::read_to_string(path).map_err(Failure::at("the lines"))?;
        let line = |line| serde_json::from_str(line).map_err(Failure::at(format!("not an object: {line:?}")));
        Ok(Self(text.lines().map(line).collect::<Outcome<_>>()?))
    }

    /// How long all batches took together.
    pub(super) fn elapsed(&self) -> Duration {
        Duration::from_secs_f64(self.numbers("elapsed").sum())
    }

    /// What contradicts these totals, or the time that has passed.
    pub(super) fn wrong(&self, totals: &Totals, passed: RangeInclusive<Duration>) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.0.len() != totals.batches() {
            wrong.push(format!("{} lines of {} batches", self.0.len(), totals.batches()));
        }
        let steps = totals.get("agent.clock_steps", None).unwrap_or_default();
        let back =
            self.numbers("timestamp").zip(self.numbers("timestamp").skip(1)).filter(|(before, then)| then < before);
        let back = u32::try_from(back.count()).unwrap_or(u32::MAX);
        if f64::from(back) > steps {
            wrong.push(format!("a line's timestamp goes back {back} times, and the clock was set back {steps} times"));
        }
        if !passed.contains(&self.elapsed()) || self.numbers("elapsed").skip(1).any(|seconds| seconds <= 0.0) {
            wrong.push(format!("the batches took {:?}, and {passed:?} have passed", self.elapsed()));
        }
        let samples = self.0.iter().flat_map(|line| {
            let elapsed = line["elapsed"].as_f64().unwrap_or(f64::NAN);
            line["samples"].as_array().into_iter().flatten().map(move |sample| (elapsed, sample))
        });
        let by_another_time = samples.filter(|(elapsed, sample)| {
            let (delta, rate) = (sample["delta"].as_f64(), sample["rate"].as_f64());
            delta.zip(rate).is_some_and(|(delta, rate)| (rate * elapsed - delta).abs() > 1e-6 * delta)
        });
        wrong.extend(by_another_time.map(|(elapsed, sample)| format!("{sample} in {elapsed} s")).take(3));
        wrong
    }

    fn numbers(&self, key: &'static str) -> impl Iterator<Item = f64> {
        self.0.iter().map(move |line| line[key].as_f64().unwrap_or(f64::NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(second: &str) -> Vec<String> {
        let mut totals = Totals::default();
        totals.read("task exits=3i 100\ntask exits=4i 200").unwrap();
        let first = r#"{"timestamp":5.0,"elapsed":0.0,"samples":[{"delta":3,"rate":null}]}"#;
        let lines = [first, second].map(|line| serde_json::from_str(line).unwrap());
        let passed = Duration::from_secs(1)..=Duration::from_secs(3);
        Differences(lines.to_vec()).wrong(&totals, passed)
    }

    #[test]
    fn what_goes_by_the_wall_clock_is_wrong() {
        assert_eq!(wrong(r#"{"timestamp":9.0,"elapsed":2.0,"samples":[{"delta":1,"rate":0.5}]}"#), [""; 0]);
        assert_eq!(wrong(r#"{"timestamp":4.0,"elapsed":2.0,"samples":[]}"#).len(), 1);
        assert_eq!(wrong(r#"{"timestamp":9.0,"elapsed":4.0,"samples":[]}"#).len(), 1);
        assert_eq!(wrong(r#"{"timestamp":9.0,"elapsed":2.0,"samples":[{"delta":1,"rate":0.25}]}"#).len(), 1);
    }
}
