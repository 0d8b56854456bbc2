//! What can be configured.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ebpf_process_core::{Options, OptionsError, duration, size};
use ebpf_process_delivery::DeliveryOptions;
use ebpf_process_peer::{Connection, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The sink's table.
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
    /// A table that the program is given as it is: its own options.
    #[serde(default)]
    config: BTreeMap<String, Value>,
    /// The most bytes of a batch, at least 64KiB; a larger one is split by rows.
    #[serde(with = "size", default = "batch_size")]
    #[schemars(with = "size::Text")]
    pub(crate) batch_size: u64,
    /// How long the program may take to say hello.
    #[serde(with = "duration", default = "ten_seconds")]
    #[schemars(with = "duration::Text")]
    pub(crate) start_timeout: Duration,
    /// How long it may take to answer a batch, or to read a part of one; where several are unanswered, so often.
    #[serde(with = "duration", default = "ten_seconds")]
    #[schemars(with = "duration::Text")]
    pub(crate) reply_timeout: Duration,
    /// How long it may take to end by itself once its input is closed; never longer than what is left of `grace`.
    #[serde(with = "duration", default = "five_seconds")]
    #[schemars(with = "duration::Text")]
    pub(crate) close_timeout: Duration,
    /// How batches wait for a program, and how long it is waited before one is started again.
    #[serde(default)]
    pub(crate) delivery: DeliveryOptions,
}

const fn batch_size() -> u64 {
    8 << 20
}

const fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

const fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

/// The least and the most that a batch may have.
const SMALLEST: u64 = 64 << 10;
const LARGEST: u64 = 256 << 20;

/// The longest of all times.
const LONGEST: Duration = Duration::from_secs(3600);

impl Settings {
    /// The table and what batches go to.
    pub(crate) fn read(options: &Options) -> Result<(Self, Target), OptionsError> {
        let settings: Self = options.extract()?;
        settings.check(options)?;
        let target = settings.target(options)?;
        Ok((settings, target))
    }

    /// What the program is given as its own.
    pub(crate) const fn config(&self) -> &BTreeMap<String, Value> {
        &self.config
    }

    fn check(&self, options: &Options) -> Result<(), OptionsError> {
        if !(SMALLEST..=LARGEST).contains(&self.batch_size) {
            return Err(options.refuse("batch_size", "must be from 64KiB to 256MiB"));
        }
        let times = [
            ("start_timeout", self.start_timeout),
            ("reply_timeout", self.reply_timeout),
            ("close_timeout", self.close_timeout),
        ];
        if let Some((key, _)) = times.into_iter().find(|(_, time)| time.is_zero() || *time > LONGEST) {
            return Err(options.refuse(key, "must be longer than nothing and not longer than an hour"));
        }
        self.delivery.check(options)
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

#[cfg(test)]
mod tests {
    use ebpf_process_core::Program;
    use serde_json::json;

    use super::*;

    fn read(table: &Value) -> Result<(Settings, Target), OptionsError> {
        Settings::read(&Options::from_value(table))
    }

    #[test]
    fn a_program_is_given_what_is_configured() {
        let (settings, target) = read(&json!({
            "program": ["/bin/x", "-a", ""], "environment": {"A": "b c"}, "directory": "/tmp", "memory": "1MiB",
            "user": "web", "group": "7", "config": {"table": "cells", "depth": {"of": [1, 2.5, true]}},
        }))
        .expect("right options");
        let Target::Program(program) = target else { panic!("{target:?}") };
        let expected = Program {
            path: "/bin/x".into(),
            arguments: vec!["-a".into(), "".into()],
            environment: vec![("A".into(), "b c".into())],
            directory: Some("/tmp".into()),
            user: Some("web".into()),
            group: Some("7".into()),
            memory: Some(1 << 20),
        };
        assert_eq!(program, expected);
        assert_eq!(json!(settings.config()), json!({"table": "cells", "depth": {"of": [1, 2.5, true]}}));
        assert_eq!((settings.batch_size, settings.delivery.memory), (8 << 20, 8 << 20));
        let (_, target) = read(&json!({"address": "unix:/run/x.sock"})).expect("right options");
        assert!(matches!(target, Target::Socket(path) if path.as_os_str() == "/run/x.sock"));
    }

    #[test]
    fn a_wrong_option_names_its_key() {
        let program = json!({"program": ["/bin/x"]});
        for (key, more) in [
            ("program", json!({"program": []})),
            ("program", json!({"program": ["x"]})),
            ("program", json!({"program": ["/x", "a\0b"]})),
            ("address", json!({"address": "unix:/x"})),
            ("environment", json!({"environment": {"A=B": ""}})),
            ("environment", json!({"environment": {"A": "\0"}})),
            ("directory", json!({"directory": "here"})),
            ("memory", json!({"memory": "much"})),
            ("batch_size", json!({"batch_size": "1KiB"})),
            ("start_timeout", json!({"start_timeout": "0s"})),
            ("reply_timeout", json!({"reply_timeout": "2h"})),
            ("close_timeout", json!({"close_timeout": "2h"})),
            ("delivery.retry_min", json!({"delivery": {"retry_min": "0s"}})),
            ("delivery.retry_max", json!({"delivery": {"retry_max": "2h"}})),
            ("delivery.spoool", json!({"delivery": {"spoool": "/x"}})),
            ("delivery.spool", json!({"delivery": {"spool": "here"}})),
            ("formats", json!({"formats": "rows"})),
        ] {
            let (mut table, Value::Object(more)) = (program.clone(), more) else { panic!("a table") };
            table.as_object_mut().expect("a table").extend(more);
            let error = read(&table).expect_err(key);
            assert_eq!(error.key, format!("options.{key}"), "{error}");
        }
        assert_eq!(read(&json!({})).expect_err("nothing").key, "options.program");
        for address in ["/run/x", "unix:x", "tcp:1", "unix:/a\0"] {
            assert_eq!(read(&json!({"address": address})).expect_err(address).key, "options.address");
        }
        for (key, value) in [("user", json!("a")), ("memory", json!("1MiB")), ("environment", json!({"A": ""}))] {
            let table = json!({"address": "unix:/x", key: value});
            assert_eq!(read(&table).expect_err(key).key, format!("options.{key}"));
        }
    }
}
