//! `only`: whose events count, as it is configured.

use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::cgroup;

/// Whose events count; the filter is in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Table")]
pub(crate) enum Only {
    /// A process, by its id in the initial PID namespace; with a start time no other process that has this id.
    Process { pid: u32, start_time: Option<u64> },
    /// The tasks of the control group that has this path in the v2 hierarchy, and those below it.
    Cgroup(PathBuf),
}

impl JsonSchema for Only {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Only".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "title": "{ pid = NUMBER } or { pid = NUMBER, start_time = NUMBER } or { cgroup = \"/PATH\" }" })
    }
}

/// The keys as they are typed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    pid: Option<u32>,
    start_time: Option<u64>,
    cgroup: Option<PathBuf>,
}

impl TryFrom<Table> for Only {
    type Error = String;

    fn try_from(table: Table) -> Result<Self, String> {
        match table {
            Table { pid: Some(0), .. } => Err("pid: 0 is no process".to_owned()),
            Table { pid: Some(pid), start_time, cgroup: None } => Ok(Self::Process { pid, start_time }),
            Table { pid: None, start_time: None, cgroup: Some(path) } => {
                cgroup::check(&path).map_err(|problem| format!("cgroup: {problem}"))?;
                Ok(Self::Cgroup(path))
            }
            Table { pid: None, start_time: Some(_), .. } => Err("start_time belongs to a pid".to_owned()),
            Table { pid: Some(_), cgroup: Some(_), .. } => Err("expected pid or cgroup, not both".to_owned()),
            Table { pid: None, start_time: None, cgroup: None } => Err("expected pid or cgroup".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::Options;

    use super::*;
    use crate::options::ProbeOptions;

    fn read(only: &serde_json::Value) -> Result<Only, String> {
        let options = Options::from_value(serde_json::json!({ "only": only }));
        let options = options.extract::<ProbeOptions>().map_err(|error| error.to_string())?;
        options.only.ok_or_else(|| "none".to_owned())
    }

    #[test]
    fn a_process_or_a_control_group_is_named() {
        let table = |text: &str| serde_json::from_str(text).expect("a table");
        let is = |text: &str| read(&table(text));
        assert_eq!(is(r#"{"pid": 7}"#), Ok(Only::Process { pid: 7, start_time: None }));
        assert_eq!(is(r#"{"pid": 7, "start_time": 9}"#), Ok(Only::Process { pid: 7, start_time: Some(9) }));
        assert_eq!(is(r#"{"cgroup": "/x.service"}"#), Ok(Only::Cgroup("/x.service".into())));
        for (text, reason) in [
            (r#"{"pid": 0}"#, "0 is no process"),
            (r#"{"pid": 7, "cgroup": "/x"}"#, "not both"),
            ("{}", "expected pid or cgroup"),
            (r#"{"start_time": 9}"#, "belongs to a pid"),
            (r#"{"cgroup": ""}"#, "is empty"),
            (r#"{"cgroup": "/a/../b"}"#, ".."),
            (r#"{"pdi": 7}"#, "pid"),
        ] {
            let problem = is(text).expect_err(text);
            assert!(problem.contains(reason) && problem.contains("only"), "{text}: {problem}");
        }
    }
}
