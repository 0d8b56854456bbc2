//! What rows of processes and of subtrees say, beside processes that the test knows.

use ebpf_process_tests::{Failure, Outcome, agent, live, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs;
use std::process::{Child, Command, Stdio};

const NOBODY: &str = "65534";

/// Opens a file again and again, as nobody, under the number 1 of its own.
struct Busy(Child);

impl Busy {
    fn start() -> Outcome<Self> {
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "setpriv", "--reuid", NOBODY, "--regid", NOBODY]);
        command.args(["--clear-groups", "sh", "-c", "while read -r line < /proc/self/stat; do :; done"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Self).map_err(Failure::at("unshare"))
    }

    /// The number of what runs in the namespace, if it has begun.
    fn child(&self) -> Option<i32> {
        let own = self.0.id();
        fs::read_to_string(format!("/proc/{own}/task/{own}/children")).ok()?.trim().parse().ok()
    }

    /// Its number here, once it is what it will be.
    fn pid(&self) -> Outcome<i32> {
        wait::until("the shell", wait::LIMIT, || {
            let child = self.child();
            let is_shell = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "sh\n");
            Ok(child.filter(is_shell))
        })
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        // It does not end with its parent: whoever becomes somebody else stays.
        if let Some(child) = self.child().and_then(Pid::from_raw) {
            let _ = kill_process(child, Signal::KILL);
        }
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// What the agent counted in a second, as the sink json writes it.
fn once(settings: &[&str]) -> Outcome<Value> {
    let mut command = agent::command()?;
    command.args(["once", "--interval", "1s", "--format", "json"]);
    for setting in settings {
        command.args(["--set", setting]);
    }
    let output = command.stderr(Stdio::piped()).output().map_err(Failure::at("once"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    serde_json::from_str(&line).map_err(Failure::at(format!("{}: {line:.200}{said}", output.status)))
}

/// The table of a kind.
fn table<'a>(printed: &'a Value, kind: &str) -> Outcome<&'a Value> {
    let mut tables = printed["tables"].as_array().into_iter().flatten();
    tables.find(|table| table["kind"] == kind).ok_or_else(|| Failure::new(format!("no rows by {kind}")))
}

/// The value of a label of a row.
fn label<'a>(table: &Value, row: &'a Value, key: &str) -> Option<&'a str> {
    let place = table["labels"].as_array()?.iter().position(|name| name == key)?;
    row["labels"].get(place)?.as_str()
}

#[test]
fn a_process_of_somebody_else_has_program_user_and_inner_number() {
    live::test("process-labels", agent::can_run(), || {
        let busy = Busy::start()?;
        let pid = busy.pid()?;
        let labels = "probes.process_labels=[\"exe\",\"user\",\"ns_pid\",\"cgroup\"]";
        let printed = once(&["probes.by=[\"process\"]", labels])?;
        let rows = table(&printed, "process")?;
        let number = pid.to_string();
        let row = rows["rows"].as_array().into_iter().flatten();
        let row = row.clone().find(|row| label(rows, row, "pid") == Some(&number));
        let row = row.ok_or_else(|| Failure::new(format!("no row of {pid}: {rows}")))?;
        let exe = fs::read_link(format!("/proc/{pid}/exe")).map_err(Failure::at("its program"))?;
        let user = Command::new("id").args(["-un", NOBODY]).output().map_err(Failure::at("id"))?;
        let user = String::from_utf8_lossy(&user.stdout).trim_end().to_owned();
        let got = ["comm", "exe", "user", "ns_pid"].map(|key| label(rows, row, key));
        let expected = [Some("sh"), exe.to_str(), Some(user.as_str()), Some("1")];
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(Failure::at("its group"))?;
        let group = group.lines().find_map(|line| line.strip_prefix("0::"));
        if got != expected || label(rows, row, "cgroup") != group {
            return Err(Failure::new(format!("{row}, not {expected:?} {group:?}")));
        }
        Ok(())
    });
}

#[test]
fn the_right_that_programs_of_others_take_is_named() {
    live::test("executables-right", agent::can_run(), || {
        let check = |settings: &[&str]| {
            let mut command = agent::command()?;
            command.args(["check", "--set", "probes.by=[\"process\"]"]);
            for setting in settings {
                command.args(["--set", setting]);
            }
            let output = command.output().map_err(Failure::at("check"))?;
            Ok::<_, Failure>(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let right = "CAP_SYS_PTRACE: probes.file has to see which programs other users' processes run";
        let (with, without) = (check(&["probes.process_labels=[\"exe\"]"])?, check(&[])?);
        if with.contains(right) && !without.contains("CAP_SYS_PTRACE: ") {
            return Ok(());
        }
        Err(Failure::new(format!("{with}\n{without}")))
    });
}

#[test]
fn the_uppermost_subtree_gains_what_the_host_does() {
    live::test("subtree", agent::can_run(), || {
        let busy = Busy::start()?;
        let pid = busy.pid()?;
        let printed = once(&["probes.by=[\"cgroup\",\"subtree\"]"])?;
        let samples = printed["samples"].as_array().into_iter().flatten();
        let host = samples.clone().filter(|sample| sample["kind"] == "counter");
        let host: Vec<_> = host.map(|sample| (&sample["name"], &sample["labels"], &sample["value"])).collect();
        let rows = table(&printed, "subtree")?;
        let mut all = rows["rows"].as_array().into_iter().flatten();
        let root = all.find(|row| label(rows, row, "cgroup") == Some("/"));
        let root = root.ok_or_else(|| Failure::new(format!("no row of /: {rows}")))?;
        let mut compared = 0;
        for (column, value) in
            rows["columns"].as_array().into_iter().flatten().zip(root["values"].as_array().into_iter().flatten())
        {
            let name = column["name"].as_str().and_then(|name| name.strip_prefix("subtree.")).unwrap_or_default();
            let of_host = host.iter().find(|(of, labels, _)| *of == name && **labels == column["labels"]);
            let of_host = of_host.and_then(|(.., value)| value.as_u64()).unwrap_or_default();
            // What nobody did need not be there.
            if value.as_u64().unwrap_or_default() != of_host {
                return Err(Failure::new(format!("{column} of / is {value}, and {of_host} of the host")));
            }
            compared += u64::from(of_host > 0);
        }
        let group = fs::read_to_string(format!("/proc/{pid}/cgroup")).map_err(Failure::at("its group"))?;
        let group = group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").to_owned();
        let all = rows["rows"].as_array().into_iter().flatten();
        let paths: Vec<_> = all.filter_map(|row| label(rows, row, "cgroup")).collect();
        let missing = group.match_indices('/').map(|(at, _)| &group[..at.max(1)]).find(|path| !paths.contains(path));
        if compared < 3 || missing.is_some() {
            return Err(Failure::new(format!("{compared} numbers; {missing:?} is not among {paths:?}")));
        }
        Ok(())
    });
}
