//! What can be configured.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ebpf_process_core::{Options, OptionsError, duration};
use ebpf_process_peer::{Connection, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The probe's table.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// The program that is started, by its absolute path, and its arguments. Either this or `address` has to be there.
    program: Option<Vec<String>>,
    /// Where a program listens that somebody else has started: `unix:` and the absolute path of its socket.
    address: Option<String>,
    /// The user as whom the program runs, by name or number, if not the agent's. Takes an agent that root starts.
    user: Option<String>,
    /// The group in which it runs, by name or number, if not that of its user.
    group: Option<String>,
    /// The directory in which it starts, by its absolute path; `/` otherwise.
    directory: Option<PathBuf>,
    /// Its environment beside `PATH=/usr/bin:/bin` and `LANG=C.UTF-8`, which may be set to something else here.
    #[serde(default)]
    environment: BTreeMap<String, String>,
    /// The memory that it may have for data (`RLIMIT_DATA`), such as "512MiB"; without a limit otherwise.
    memory: Option<String>,
    /// What the program writes: "json" by the protocol of `docs/exec-protocol.md`; "openmetrics" or "influx", text.
    #[serde(default)]
    pub(crate) format: Format,
    /// Which labels of text tell rows apart; all others are labels of columns. A program that writes JSON says it itself.
    #[serde(default)]
    pub(crate) keys: Vec<String>,
    /// The most rows at once, from 1 to 100000. What is beyond is counted in a row `other`.
    #[serde(default = "rows")]
    pub(crate) rows: usize,
    /// How long the program may take to say hello.
    #[serde(with = "duration", default = "ten_seconds")]
    #[schemars(with = "duration::Text")]
    pub(crate) start_timeout: Duration,
    /// How long it may take to answer before it is ended and started again. An answer that comes later than the next tick
    /// is not used, but ends nothing.
    #[serde(with = "duration", default = "ten_seconds")]
    #[schemars(with = "duration::Text")]
    pub(crate) reply_timeout: Duration,
    /// How long it may take to end by itself once its input is closed; the agent waits for that at its own end.
    #[serde(with = "duration", default = "one_second")]
    #[schemars(with = "duration::Text")]
    pub(crate) close_timeout: Duration,
    /// How long to wait before a program that has ended is started again: this at first, twice as long each time.
    #[serde(with = "duration", default = "one_second")]
    #[schemars(with = "duration::Text")]
    pub(crate) retry_min: Duration,
    /// The longest such wait.
    #[serde(with = "duration", default = "one_minute")]
    #[schemars(with = "duration::Text")]
    pub(crate) retry_max: Duration,
}

/// What a program writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Hello and answers.
    #[default]
    Json,
    /// The text format of `OpenMetrics`, or that of Prometheus.
    OpenMetrics,
    /// Line protocol.
    Influx,
}

const fn rows() -> usize {
    10_000
}

const fn one_second() -> Duration {
    Duration::from_secs(1)
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn one_minute() -> Duration {
    Duration::from_secs(60)
}

/// The longest of all times.
const LONGEST: Duration = Duration::from_secs(3600);

/// The most rows that can be asked for.
const MOST_ROWS: usize = 100_000;

/// Keys of a kind at most.
pub(crate) const MOST_KEYS: usize = 16;

impl Settings {
    /// The table and who answers.
    pub(crate) fn read(options: &Options) -> Result<(Self, Target), OptionsError> {
        let settings: Self = options.extract()?;
        settings.check(options)?;
        let target = settings.target(options)?;
        Ok((settings, target))
    }

    fn check(&self, options: &Options) -> Result<(), OptionsError> {
        if !(1..=MOST_ROWS).contains(&self.rows) {
            return Err(options.refuse("rows", format!("must be from 1 to {MOST_ROWS}")));
        }
        let times = [
            ("start_timeout", self.start_timeout),
            ("reply_timeout", self.reply_timeout),
            ("close_timeout", self.close_timeout),
            ("retry_min", self.retry_min),
            ("retry_max", self.retry_max),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, time)| time.is_zero() || *time > LONGEST) {
            return Err(options.refuse(key, "must be longer than nothing and not longer than an hour"));
        }
        if self.retry_max < self.retry_min {
            return Err(options.refuse("retry_max", "must not be shorter than retry_min"));
        }
        if self.format == Format::Json && !self.keys.is_empty() {
            return Err(options.refuse("keys", "has no effect on a program that writes JSON: its hello says the keys"));
        }
        if let Some(wrong) = self.keys.iter().find(|key| !is_key(key)) {
            let problem = format!("{wrong:?} is no key: expected lower-case letters, digits and \"_\"");
            return Err(options.refuse("keys", problem));
        }
        if self.keys.len() > MOST_KEYS || (1..self.keys.len()).any(|at| self.keys[..at].contains(&self.keys[at])) {
            return Err(options.refuse("keys", format!("expected at most {MOST_KEYS} keys, each of them once")));
        }
        Ok(())
    }

    fn target(&self, options: &Options) -> Result<Target, OptionsError> {
        let connection = Connection {
            program: self.program.as_deref(),
            address: self.address.as_deref(),
            user: self.user.as_deref(),
            group: self.group.as_deref(),
            directory: self.directory.as_deref(),
            environment: &self.environment,
            memory: self.memory.as_deref(),
        };
        connection.target(options)
    }
}

/// Whether nothing of it would be cleaned: lower-case letters, digits and `_`.
pub(crate) fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(more: Value) -> Result<(Settings, Target), OptionsError> {
        let (mut table, Value::Object(more)) = (json!({"program": ["/bin/x", "-a"]}), more) else { panic!("a table") };
        table.as_object_mut().expect("a table").extend(more);
        Settings::read(&Options::from_value(&table))
    }

    #[test]
    fn what_is_not_said_has_its_default() {
        let (settings, target) = read(json!({})).expect("right options");
        assert!(matches!(target, Target::Program(program) if program.arguments == ["-a"]));
        assert_eq!((settings.format, settings.rows), (Format::Json, 10_000));
        assert_eq!((settings.retry_min, settings.retry_max), (one_second(), one_minute()));
        let (settings, _) = read(json!({"format": "openmetrics", "keys": ["disk"]})).expect("right options");
        assert_eq!((settings.format, settings.keys), (Format::OpenMetrics, vec!["disk".to_owned()]));
    }

    #[test]
    fn a_wrong_option_names_its_key() {
        for (key, more) in [
            ("program", json!({"program": ["x"]})),
            ("address", json!({"address": "unix:/x"})),
            ("format", json!({"format": "xml"})),
            ("keys", json!({"keys": ["a"]})),
            ("keys", json!({"format": "influx", "keys": ["A b"]})),
            ("keys", json!({"format": "influx", "keys": ["a", "a"]})),
            ("rows", json!({"rows": 0})),
            ("rows", json!({"rows": 1_000_000})),
            ("start_timeout", json!({"start_timeout": "0s"})),
            ("reply_timeout", json!({"reply_timeout": "2h"})),
            ("retry_max", json!({"retry_min": "2s", "retry_max": "1s"})),
            ("fromat", json!({"fromat": "json"})),
        ] {
            let error = read(more).expect_err(key);
            assert_eq!(error.key, format!("options.{key}"), "{error}");
        }
    }
}
