//! The shipped unit is as hard as it says, and the agent works with just what it grants.

use ebpf_process_core::testkit::loopback;
use ebpf_process_tests::held::Held;
use ebpf_process_tests::unit::{Unit, agent_for_everybody, packaging};
use ebpf_process_tests::{Failure, Outcome, agent, live, receivers, wait};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CapabilitySet;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

const NOBODY: u32 = 65534;
const LIMIT: Duration = Duration::from_mins(1);

/// systemd's measure times ten: the unit is no worse than 2.0.
const EXPOSURE: &str = "--threshold=20";

fn analyze(arguments: &[&str], unit: &Path) -> Outcome<String> {
    let mut command = Command::new(receivers::program("systemd-analyze", "systemd")?);
    let output = command.args(arguments).arg(unit).output().map_err(Failure::at("systemd-analyze"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() {
        return Ok(text(&output.stderr));
    }
    Err(Failure::new(format!("{arguments:?}: {}: {}", text(&output.stderr), text(&output.stdout))))
}

fn has_systemd() -> Outcome<()> {
    receivers::program("systemd-analyze", "systemd").map(drop)
}

#[test]
fn the_units_exposure_is_at_most_two() {
    live::test("unit-exposure", has_systemd(), || {
        let unit = packaging().join("ebpf-process.service");
        analyze(&["--no-pager", "security", "--offline=yes", EXPOSURE], &unit).map(drop)
    });
}

/// The version of systemd that is the first to know `Type=notify-reload`.
const FIRST_TO_WAIT_FOR_RELOADS: u32 = 253;

/// systemd's version.
fn version() -> Outcome<u32> {
    let output = Command::new(receivers::program("systemd-analyze", "systemd")?).arg("--version").output();
    let text = String::from_utf8(output.map_err(Failure::at("systemd-analyze"))?.stdout).unwrap_or_default();
    let number = text.split_whitespace().nth(1).and_then(|number| number.parse().ok());
    number.ok_or_else(|| Failure::new(format!("systemd-analyze tells no version: {text}")))
}

/// The agent speaks to systemd, so that a start is complete when it counts, and a hanging one is ended: with a watchdog
/// that lets a batch be late, and where an older systemd ignores the type that it does not know.
#[test]
fn systemd_hears_of_the_start_and_watches_over_the_agent() {
    let unit = Unit::shipped().expect("the unit");
    let values = |key| unit.values(key).collect::<Vec<_>>();
    assert_eq!(values("Type"), ["notify", "notify-reload"]);
    assert_eq!(values("NotifyAccess"), ["main"]);
    assert_eq!(values("WatchdogSec"), ["30s"]);
    // It would get a second SIGHUP where systemd sends the first.
    assert_eq!(values("ExecReload"), [""; 0]);
    assert!(values("RestrictAddressFamilies").iter().any(|families| families.contains("AF_UNIX")));
    assert!(values("Restart").contains(&"on-failure"), "which the end by a watchdog is");
}

/// systemd understands every line: a word that it does not know would be ignored in the field.
#[test]
fn systemd_understands_the_unit_with_each_drop_in() {
    live::test("unit-lines", has_systemd(), || {
        let drop_ins = fs::read_dir(packaging().join("drop-ins")).map_err(Failure::at("the drop-ins"))?;
        let drop_ins: Vec<PathBuf> = drop_ins.flatten().map(|entry| entry.path()).collect();
        if drop_ins.len() < 5 {
            return Err(Failure::new(format!("only {drop_ins:?}")));
        }
        let version = version()?;
        for drop_in in std::iter::once(None).chain(drop_ins.iter().map(Some)) {
            let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
            let unit = folder.path().join("ebpf-process.service");
            let text = fs::read_to_string(packaging().join("ebpf-process.service")).map_err(Failure::at("the unit"))?;
            // Where it will be installed nothing is yet.
            fs::write(&unit, text.replace("/usr/bin/ebpf-process run", "/bin/true")).map_err(Failure::at("a unit"))?;
            if let Some(drop_in) = drop_in {
                let beside = folder.path().join("ebpf-process.service.d");
                fs::create_dir(&beside).map_err(Failure::at("a folder"))?;
                fs::copy(drop_in, beside.join("x.conf")).map_err(Failure::at("a drop-in"))?;
            }
            // It also reads the machine's own units, which are none of our business.
            let said = analyze(&["verify", "--man=no"], &unit)?;
            // The unit counts on it that an older one keeps the line above.
            let too_old = |line: &str| version < FIRST_TO_WAIT_FOR_RELOADS && line.ends_with("notify-reload");
            let ours = said.lines().filter(|line| line.contains("ebpf-process") && !too_old(line));
            let of_ours: Vec<&str> = ours.collect();
            if !of_ours.is_empty() {
                return Err(Failure::new(format!("{drop_in:?}: {}", of_ours.join("; "))));
            }
        }
        Ok(())
    });
}

/// The order of the filter's lines decides: `bpf` is in a group that is refused.
#[test]
fn the_units_filter_lets_through_what_loading_and_attaching_take() {
    live::test("unit-filter", has_systemd(), || {
        let allowed = Unit::shipped()?.system_calls()?;
        let lacking: Vec<_> = ["bpf", "perf_event_open", "capset", "prctl", "prlimit64"]
            .into_iter()
            .filter(|call| !allowed.contains(*call))
            .collect();
        let refused: Vec<_> = ["mount", "init_module", "ptrace", "kexec_load", "setuid"]
            .into_iter()
            .filter(|call| allowed.contains(*call))
            .collect();
        if lacking.is_empty() && refused.is_empty() {
            return Ok(());
        }
        Err(Failure::new(format!("lacking: {lacking:?}; not refused: {refused:?}")))
    });
}

/// Lines of the configuration; in the later mode errors are counted as well.
const MODE_AT_FIRST: &str = "probes.mode = \"entry\"";
const MODE_LATER: &str = "probes.mode = \"return\"";

/// An agent as the unit starts it, with a sink of each kind.
struct Started {
    child: Child,
    folder: TempDir,
}

impl Started {
    fn new(tracer: &[&str]) -> Outcome<Self> {
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let program = agent_for_everybody(folder.path())?;
        let own = folder.path().join("own");
        fs::create_dir(&own).map_err(Failure::at("a folder"))?;
        chown(&own, Some(NOBODY), Some(NOBODY)).map_err(Failure::at("its owner"))?;
        let path = |name: &str| own.join(name).display().to_string();
        let free = TcpListener::bind((loopback(), 0)).and_then(|listener| listener.local_addr());
        let free = free.map_err(Failure::at("a port"))?;
        let started = Unit::shipped()?.command(&program)?;
        let mut command = match tracer {
            [] => started,
            [tracer, options @ ..] => {
                let mut command = Command::new(tracer);
                command.args(options).arg(started.get_program()).args(started.get_args());
                command
            }
        };
        command.arg("run").env_clear().env("PATH", "/usr/bin:/bin");
        // As systemd does; nobody listens there.
        command.env("NOTIFY_SOCKET", "@ebpf-process-unit").env("WATCHDOG_USEC", "200000");
        let text = [
            "interval = \"100ms\"".to_owned(),
            MODE_AT_FIRST.to_owned(),
            format!("status.socket = \"{}\"", path("status")),
            "sinks.lines.type = \"json\"".to_owned(),
            format!("sinks.lines.options.path = \"{}\"", path("lines")),
            "sinks.page.type = \"prometheus\"".to_owned(),
            format!("sinks.page.options.listen = \"{free}\""),
            "sinks.lan.type = \"statsd\"".to_owned(),
            "sinks.lan.options.address = \"udp://127.0.0.1:9\"".to_owned(),
            "sinks.db.type = \"influx\"".to_owned(),
            "sinks.db.options.url = \"http://127.0.0.1:9\"".to_owned(),
            "sinks.db.options.database = \"x\"".to_owned(),
            format!("sinks.db.options.delivery.spool = \"{}\"", path("spool")),
        ];
        let config = folder.path().join("agent.toml");
        fs::write(&config, text.join("\n")).map_err(Failure::at("the configuration"))?;
        command.arg("--config").arg(config);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        Ok(Self { child: child.map_err(Failure::at("starting the agent"))?, folder })
    }

    fn lines(&self) -> usize {
        let lines = fs::read_to_string(self.folder.path().join("own/lines")).unwrap_or_default();
        lines.lines().count()
    }

    /// Has a reload bring another mode, whose programs the agent itself cannot load any more.
    fn change_mode(&mut self, pid: Pid) -> Outcome<()> {
        let config = self.folder.path().join("agent.toml");
        let text = fs::read_to_string(&config).map_err(Failure::at("the configuration"))?;
        fs::write(&config, text.replace(MODE_AT_FIRST, MODE_LATER)).map_err(Failure::at("the configuration"))?;
        kill_process(pid, Signal::HUP).map_err(Failure::at("asking for a reload"))?;
        let lines = self.folder.path().join("own/lines");
        wait::until("numbers of errors", LIMIT, || {
            let lines = fs::read_to_string(&lines).map_err(Failure::at("the agent's lines"))?;
            Ok(lines.contains("\"vfs.errors\"").then_some(()))
        })
    }

    fn wait_for_lines(&mut self, count: usize) -> Outcome<()> {
        wait::until("the agent's lines", LIMIT, || {
            let ended = self.child.try_wait().map_err(Failure::at("the agent's state"))?;
            match ended {
                Some(status) => Err(Failure::new(format!("the agent ended: {status}: {}", self.log()))),
                None => Ok((self.lines() >= count).then_some(())),
            }
        })
    }

    fn log(&mut self) -> String {
        let pipe = self.child.stderr.take();
        pipe.and_then(|pipe| std::io::read_to_string(pipe).ok()).unwrap_or_default()
    }

    /// Ends the agent, which `pid` is, and waits for the end.
    fn stop(mut self, pid: Pid) -> Outcome<String> {
        kill_process(pid, Signal::TERM).map_err(Failure::at("stopping the agent"))?;
        let status = self.child.wait().map_err(Failure::at("the agent's end"))?;
        let log = self.log();
        if status.success() { Ok(log) } else { Err(Failure::new(format!("{status}: {log}"))) }
    }
}

/// Every system call of an agent and of its broker, from the start to the end and during a reload that brings other
/// programs, is one that the unit lets through.
#[test]
fn the_unit_lets_every_system_call_of_the_agent_through() {
    let strace = receivers::program("strace", "strace");
    let needs = agent::can_run().and(has_systemd()).and(strace.clone().map(drop));
    live::test("unit-system-calls", needs, || {
        let allowed = Unit::shipped()?.system_calls()?;
        let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?;
        let trace = folder.path().join("trace");
        let (strace, trace) = (strace?.display().to_string(), trace.display().to_string());
        let mut started = Started::new(&[&strace, "-f", "-qq", "-o", &trace])?;
        started.wait_for_lines(5)?;
        // The tracer's first child is the agent: setpriv becomes it.
        let seen = fs::read_to_string(&trace).map_err(Failure::at("the trace"))?;
        let pid = seen.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::new("the trace names no process"))?;
        started.change_mode(pid)?;
        started.stop(pid)?;
        let seen = fs::read_to_string(&trace).map_err(Failure::at("the trace"))?;
        let called = called_by_the_agent(&seen);
        if !called.contains("bpf") || called.len() < 30 {
            return Err(Failure::new(format!("strace saw too little: {called:?}")));
        }
        let refused: Vec<_> = called.iter().filter(|call| !allowed.contains(**call)).collect();
        if refused.is_empty() { Ok(()) } else { Err(Failure::new(format!("the unit refuses {refused:?}"))) }
    });
}

/// The names of the calls after the one that starts the agent.
fn called_by_the_agent(trace: &str) -> BTreeSet<&str> {
    let starts_it = |line: &&str| {
        let program = line.split_once(" execve(\"").and_then(|(_, rest)| rest.split('"').next());
        program.is_some_and(|program| program.ends_with("/ebpf-process"))
    };
    let agent = trace.lines().skip_while(|line| !starts_it(line));
    let calls =
        agent.skip(1).filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('(').map(|(name, _)| name));
    calls.filter(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')).collect()
}

/// With what the unit grants it counts, holds less than that once it has begun, and cannot write what is root's.
#[test]
fn with_the_units_rights_it_counts_and_keeps_fewer() {
    live::test("unit-rights", agent::can_run(), || {
        let mut started = Started::new(&[])?;
        started.wait_for_lines(5)?;
        let pid = started.child.id();
        let granted = CapabilitySet::BPF | CapabilitySet::PERFMON;
        let kept = ebpf_process_tests::held::kept_with_broker();
        let none = CapabilitySet::empty();
        let nobody = [NOBODY.to_string(), NOBODY.to_string(), NOBODY.to_string(), NOBODY.to_string()].join("\t");
        let expected =
            Held { users: [nobody.clone(), nobody], sets: [none, kept, kept, granted, none], no_new_privileges: true };
        for held in Held::of_threads(pid)? {
            if held != expected {
                return Err(Failure::new(format!("a thread holds {held:?}")));
            }
        }
        let log = started.stop(Pid::from_raw(pid.cast_signed()).ok_or_else(|| Failure::new("no pid"))?)?;
        if log.contains("left out") || log.contains("cannot give up") {
            return Err(Failure::new(log));
        }
        Ok(())
    });
}
