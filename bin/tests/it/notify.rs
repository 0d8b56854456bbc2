//! What the service manager hears, by a socket of the test's own in its place.

use std::ffi::OsString;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use ebpf_process_core::{
    BuildError, Declared, Options, OptionsError, Probe, ProbeContext, ProbeError, ProbePlugin, Recorder, VITALS,
};
use rustix::process::Signal;
use serde::Deserialize;

use crate::agent::{self, Running, VITALS_ONLY, command, file, plugin};

/// The arguments of the program, where this process is to be it.
const ARGUMENTS: &str = "PROGRAM_THAT_HANGS";

/// Far more than anything here takes; only a broken agent gets near it.
const LIMIT: Duration = Duration::from_secs(60);

/// A probe that hangs or fails for as long as there is a file of that name.
struct Moody;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MoodyOptions {
    hangs: PathBuf,
    fails: PathBuf,
}

impl ProbePlugin for Moody {
    fn name(&self) -> &'static str {
        "moody"
    }

    fn summary(&self) -> &'static str {
        "works, hangs or fails, as it is told"
    }

    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }

    fn build(&self, options: &Options, _: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        Ok(Box::new(options.extract::<MoodyOptions>()?))
    }
}

impl Probe for MoodyOptions {
    fn collect(&mut self, _: &mut Recorder) -> Result<(), ProbeError> {
        while self.hangs.exists() {
            thread::park_timeout(Duration::from_millis(10));
        }
        if self.fails.exists() { Err(ProbeError::new("on purpose")) } else { Ok(()) }
    }
}

const MOODY: Moody = Moody;

/// In a process of its own this is the program.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test returns no exit code")]
fn program() {
    let Some(arguments) = std::env::var_os(ARGUMENTS) else { return };
    let arguments = arguments.into_string().expect("text");
    let arguments = ["ebpf-process"].into_iter().chain(arguments.split('\n')).map(OsString::from);
    let registry = ebpf_process_sinks::registry();
    let code = ebpf_process::App::default().registry(registry.probe(VITALS).probe(MOODY)).run_with(arguments);
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 2 });
}

/// The service manager's end of the socket.
struct Manager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl Manager {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = UnixDatagram::bind(folder.path().join("notify")).expect("a socket");
        Self { folder, socket }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program with the moody probe that tells this manager.
    fn moody(&self) -> Command {
        let set = |key: &str, path: &Path| format!("{key}=\"{}\"", path.display());
        let arguments = [
            "run",
            "--config",
            "/dev/null",
            "--set",
            "interval=\"100ms\"",
            "--set",
            "status.socket=\"\"",
            "--set",
            &set("probes.moody.hangs", &self.path("hangs")),
            "--set",
            &set("probes.moody.fails", &self.path("fails")),
            "--set",
            "sinks.lines.type=json",
            "--set",
            &set("sinks.lines.options.path", &self.path("lines")),
        ];
        let harness = ["--exact", "--nocapture", "--test-threads=1", "notify::program"];
        let mut command = agent::program(std::env::current_exe().expect("this program"), &harness);
        command.env(ARGUMENTS, arguments.join("\n"));
        self.manage(&mut command);
        command
    }

    /// Has a command tell this manager, without a watchdog.
    fn manage(&self, command: &mut Command) {
        command.env("NOTIFY_SOCKET", self.path("notify")).env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
    }

    /// The next message; none where nothing comes for so long.
    fn within(&self, patience: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(patience)).expect("a limit");
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..length].to_vec()).expect("text"))
    }

    /// All messages until one that begins so, which is the last of them.
    fn until(&self, begin: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while heard.last().is_none_or(|last: &String| !last.starts_with(begin)) {
            let message = self.within(LIMIT);
            heard.push(message.unwrap_or_else(|| panic!("no message begins with {begin:?}: {heard:?}")));
        }
        heard
    }

    /// All messages that are there.
    fn heard(&self) -> Vec<String> {
        std::iter::from_fn(|| self.within(Duration::from_millis(1))).collect()
    }
}

/// An agent that writes lines and sends to nobody.
fn lines_and_a_dead_end() -> (tempfile::TempDir, String) {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    let (folder, path) = file(&format!(
        "interval = \"100ms\"\ngrace = \"100ms\"\n[status]\nsocket = \"\"\n[sinks.lines]\ntype = \"json\"\n\
         [sinks.db]\ntype = \"influx\"\noptions = {{ url = \"http://{gone}\", database = \"db\" }}\n{VITALS_ONLY}"
    ));
    (folder, path.display().to_string())
}

#[test]
fn it_hears_of_the_start_of_what_does_not_work_and_of_the_end() {
    let (_folder, path) = lines_and_a_dead_end();
    let manager = Manager::new();
    let mut command = command(&["run", "--config", &path]);
    manager.manage(&mut command);
    let mut agent = Running::start(&mut command);
    assert_eq!(manager.until("READY=1"), ["READY=1"], "first of all");
    assert!(agent.line().starts_with('{'), "there is a batch");
    let states = manager.until("STATUS=running, 2 sinks: 1 working, 1 failing (db: ");
    assert!(states.iter().all(|message| message.starts_with("STATUS=running, 2 sinks: ")), "{states:?}");
    agent.signal(Signal::TERM);
    let end = manager.until("STOPPING=1");
    assert!(end.iter().rev().skip(1).all(|message| message.starts_with("STATUS=")), "without a watchdog: {end:?}");
    assert_eq!(agent.finish().code(), 0);
    assert_eq!(manager.heard(), [""; 0], "nothing after the end");
}

#[test]
fn a_socket_without_a_place_among_the_files_is_as_good() {
    let (_folder, path) = lines_and_a_dead_end();
    let name = format!("ebpf-process-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixDatagram::bind_addr(&address).expect("a socket");
    let manager = Manager { socket, ..Manager::new() };
    let mut command = command(&["run", "--config", &path]);
    manager.manage(&mut command);
    let mut agent = Running::start(command.env("NOTIFY_SOCKET", format!("@{name}")));
    manager.until("READY=1");
    assert!(agent.line().starts_with('{'), "there is a batch");
    agent.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(agent.finish().code(), 0);
}

#[test]
fn a_request_to_reload_is_answered() {
    let (_folder, path) = lines_and_a_dead_end();
    let manager = Manager::new();
    let mut command = agent::without_terminal(&["run", "--config", &path]);
    manager.manage(&mut command);
    let agent = Running::start(&mut command);
    manager.until("READY=1");
    let right = std::fs::read_to_string(&path).expect("the configuration");
    // One that cannot be taken over is over as well, and the line for people says so.
    let (same, refused) = ("read again: nothing has changed", "not taken over, and nothing has changed: ");
    for (text, comes_of_it) in [(&*right, same), ("wrong", refused), (&right, same)] {
        std::fs::write(&path, text).expect("another configuration");
        let before = monotonic();
        agent.signal(Signal::HUP);
        let said = manager.until("READY=1");
        let told: Vec<&String> = said.iter().filter(|message| !is_about_itself(message)).collect();
        let [begun, over] = told[..] else { panic!("{said:?}") };
        // systemd takes a moment before it sent the signal for that of another reload.
        let moment = begun.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|moment| moment.parse().ok());
        assert!(moment.is_some_and(|moment| (before..=monotonic()).contains(&moment)), "{begun:?} after {before}");
        assert!(over.starts_with(&format!("READY=1\nSTATUS=the configuration was {comes_of_it}")), "{over:?}");
        if comes_of_it == refused {
            manager.until("STATUS=last reload refused (");
        }
    }
    agent.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(agent.finish().code(), 0);
}

/// Microseconds of the clock by which systemd orders reloads.
fn monotonic() -> u128 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).expect("a time").as_micros()
}

/// Whether a message says how the agent is, and not what it does.
fn is_about_itself(message: &str) -> bool {
    ["STATUS=", "WATCHDOG=1"].iter().any(|begin| message.starts_with(begin))
}

#[test]
fn an_agent_whose_probes_all_fail_is_not_ready() {
    let manager = Manager::new();
    let fails = manager.path("fails");
    std::fs::write(&fails, "").expect("a file");
    let agent = Running::start(&mut manager.moody());
    assert_eq!(manager.until("STATUS="), ["STATUS=starting: no probe has worked yet, see the log"]);
    std::fs::remove_file(&fails).expect("there it is");
    assert_eq!(manager.until("READY=1"), ["READY=1"]);
    manager.until("STATUS=running, 1 sink: 1 working");
    agent.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(agent.finish().code(), 0);
}

#[test]
fn the_watchdog_fires_while_the_collecting_thread_hangs_and_at_no_other_time() {
    let manager = Manager::new();
    let hangs = manager.path("hangs");
    let mut agent = Running::start(manager.moody().env("WATCHDOG_USEC", "200000"));
    manager.until("READY=1");
    for _ in 0..20 {
        manager.until("WATCHDOG=1");
    }
    std::fs::write(&hangs, "").expect("a file");
    agent.wait_for_log("a probe hangs");
    manager.until("STATUS=hanging");
    // Ten times the watchdog's patience. A machine that is so slow may say so of a thread that gets on; then nothing
    // is shown, but what comes later is wrong if it does not.
    let begun = Instant::now();
    while let Some(message) = manager.within(Duration::from_secs(2)) {
        assert!(begun.elapsed() < LIMIT, "the watchdog never fires: {message}");
    }
    std::fs::remove_file(&hangs).expect("there it is");
    manager.until("WATCHDOG=1");
    manager.until("STATUS=running");
    agent.signal(Signal::TERM);
    manager.until("STOPPING=1");
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stderr.contains("batches are collected again"), "{}", finished.stderr);
}

#[test]
fn another_processes_watchdog_is_not_fed() {
    let manager = Manager::new();
    let agent = Running::start(manager.moody().env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1"));
    let mut heard = manager.until("STATUS=running");
    agent.signal(Signal::HUP);
    heard.extend(manager.until("RELOADING=1"));
    agent.signal(Signal::TERM);
    heard.extend(manager.until("STOPPING=1"));
    assert_eq!(agent.finish().code(), 0);
    assert!(!heard.iter().any(|message| message.contains("WATCHDOG")), "{heard:?}");
}

#[test]
fn a_plugin_of_netdata_tells_nobody_that_netdata_is_ready_or_ends() {
    let (_folder, path) = file(VITALS_ONLY);
    let manager = Manager::new();
    let mut command = plugin(&["1", "--config", &path.display().to_string()]);
    manager.manage(&mut command);
    let mut agent = Running::start(command.env("WATCHDOG_USEC", "200000"));
    assert!(!agent.line().is_empty(), "the first chart");
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
    assert_eq!(manager.heard(), [""; 0]);
}

#[test]
fn without_a_service_manager_nothing_is_started_for_one() {
    let (_folder, path) = lines_and_a_dead_end();
    let threads = |command: &mut Command, begun: &dyn Fn(&mut Running)| {
        let mut agent = Running::start(command);
        assert!(agent.line().starts_with('{'), "there is a batch");
        begun(&mut agent);
        let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.pid().as_raw_nonzero())).expect("its threads");
        let names = tasks.map(|task| std::fs::read_to_string(task.expect("a thread").path().join("comm")));
        let count = names.filter(|name| name.as_ref().is_ok_and(|name| name.trim_end() == "notify")).count();
        agent.signal(Signal::TERM);
        assert_eq!(agent.finish().code(), 0);
        count
    };
    let another_batch = |agent: &mut Running| assert!(agent.line().starts_with('{'), "there is another");
    let mut command = command(&["run", "--config", &path]);
    assert_eq!(threads(command.env_remove("NOTIFY_SOCKET").env("WATCHDOG_USEC", "200000"), &another_batch), 0);
    assert_eq!(threads(command.env("NOTIFY_SOCKET", ""), &another_batch), 0);
    let manager = Manager::new();
    manager.manage(&mut command);
    assert_eq!(threads(&mut command, &|_| drop(manager.until("READY=1"))), 1);
    // It runs all the same where nobody listens.
    let said = |agent: &mut Running| agent.wait_for_log("cannot tell the service manager");
    assert_eq!(threads(command.env("NOTIFY_SOCKET", "/nonexistent/notify"), &said), 1);
}
