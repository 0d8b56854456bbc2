//! The options that every sink with a delivery has, in a table `delivery`.

use std::path::PathBuf;
use std::time::Duration;

use ebpf_process_core::{Options, OptionsError, duration, instance_directory, size};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The table `delivery` of a sink's options. None of its keys is required.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeliveryOptions {
    /// What may wait in memory; beyond it the oldest goes to the spool, or is dropped.
    #[serde(with = "size")]
    #[schemars(with = "size::Text")]
    pub memory: u64,
    /// A directory of this sink's own, by its absolute path, for what waits for an absent receiver.
    pub spool: Option<PathBuf>,
    /// What the spool may take on disk, at least 1MiB; beyond it the oldest is dropped.
    #[serde(with = "size")]
    #[schemars(with = "size::Text")]
    pub spool_size: u64,
    /// The longest wait after a first failure; it doubles with each further one.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub retry_min: Duration,
    /// The longest wait of all, up to an hour.
    #[serde(with = "duration")]
    #[schemars(with = "duration::Text")]
    pub retry_max: Duration,
    /// What has waited longer is given up when its turn comes; the default is never.
    #[serde(deserialize_with = "given_age", serialize_with = "show_age")]
    #[schemars(with = "Option<duration::Text>")]
    pub age_limit: Option<Duration>,
}

fn given_age<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

#[expect(clippy::ref_option, reason = "serde gives the field itself")]
fn show_age<S: Serializer>(age: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    match age {
        Some(age) => duration::serialize(age, serializer),
        None => serializer.serialize_none(),
    }
}

impl Default for DeliveryOptions {
    fn default() -> Self {
        Self {
            memory: 8 << 20,
            spool: None,
            spool_size: 256 << 20,
            retry_min: Duration::from_secs(1),
            retry_max: Duration::from_secs(60),
            age_limit: None,
        }
    }
}

impl DeliveryOptions {
    /// The least that the spool may take: 16 segments that are worth a file each.
    const LEAST_SPOOL: u64 = 1 << 20;
    /// The longest wait that makes sense: somebody has mended the receiver by then.
    const LONGEST_RETRY: Duration = Duration::from_secs(3600);

    /// The directory of this agent's spool, if there is one: each named instance on a host has its own,
    /// `DIRECTORY-NAME`.
    pub fn spool_of(&self, instance: Option<&str>) -> Option<PathBuf> {
        Some(instance_directory(self.spool.clone()?, instance))
    }

    /// Whether the values make sense; `options` is the sink's own table, in which this one is
    /// `delivery`.
    pub fn check(&self, options: &Options) -> Result<(), OptionsError> {
        let refuse = |key: &str, problem: &str| Err(options.refuse(&format!("delivery.{key}"), problem));
        if self.spool.as_ref().is_some_and(|spool| !spool.is_absolute()) {
            return refuse("spool", "expected an absolute path such as \"/var/lib/ebpf-process/db\"");
        }
        if self.spool_size < Self::LEAST_SPOOL {
            return refuse("spool_size", "must be at least 1MiB");
        }
        if self.retry_min.is_zero() || self.retry_min > self.retry_max {
            return refuse("retry_min", "must be longer than nothing and not longer than retry_max");
        }
        if self.age_limit.is_some_and(|limit| limit.is_zero()) {
            return refuse("age_limit", "must be longer than nothing");
        }
        if self.retry_max > Self::LONGEST_RETRY {
            return refuse("retry_max", "must not be longer than an hour");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Deserialize)]
    struct Table {
        #[serde(default)]
        delivery: DeliveryOptions,
    }

    fn read(pairs: &[(&str, &str)]) -> Result<DeliveryOptions, OptionsError> {
        let table: BTreeMap<_, _> = pairs.iter().copied().collect();
        let options = Options::from_value(BTreeMap::from([("delivery", table)]));
        let delivery = options.extract::<Table>()?.delivery;
        delivery.check(&options)?;
        Ok(delivery)
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        assert_eq!(read(&[]), Ok(DeliveryOptions::default()));
        let least = read(&[("spool_size", "1MiB"), ("retry_min", "1h"), ("retry_max", "1h"), ("age_limit", "1m")]);
        assert_eq!(least.expect("right options").age_limit, Some(Duration::from_secs(60)));
        let said = read(&[("memory", "1MiB"), ("spool", "/s"), ("spool_size", "2MiB"), ("retry_max", "10s")]);
        let said = said.expect("right options");
        assert_eq!((said.memory, said.spool_size), (1 << 20, 2 << 20));
        assert_eq!((said.spool_of(None), said.spool_of(Some("b"))), (Some("/s".into()), Some("/s-b".into())));
        assert_eq!((said.spool, said.retry_max), (Some("/s".into()), Duration::from_secs(10)));
    }

    #[test]
    fn a_wrong_option_names_its_key() {
        let cases = [
            ("memory", "much"),
            ("spool", "here"),
            ("spool_size", "1KiB"),
            ("retry_min", "0s"),
            ("retry_min", "2m"),
            ("retry_max", "2h"),
            ("retry", "1s"),
            ("age_limit", "0s"),
            ("age_limit", "old"),
        ];
        for (key, value) in cases {
            let error = read(&[(key, value)]).expect_err(value);
            assert_eq!(error.key, format!("options.delivery.{key}"), "{error}");
        }
    }
}
