//! Started setuid by somebody without rights: the caller reaches nothing through it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::agent::{Finished, Running, skip};

/// Who starts it.
const NOBODY: u32 = 65534;

/// A setuid copy of the binary under both names, in a folder that everybody may look into; `None`,
/// with the reason on the terminal, where there can be none.
fn setuid_copies() -> Option<tempfile::TempDir> {
    let none = |reason: &str| {
        skip("setuid tests", reason);
        None
    };
    if !rustix::process::geteuid().is_root() {
        return none("making a setuid copy needs root");
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("permissions");
    for name in ["ebpf-process", "ebpf_process.plugin"] {
        let copy = folder.path().join(name);
        // Copied by another process: a descriptor of ours that may write to the copy would be inherited by whatever
        // other tests start meanwhile, and nobody could execute it.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_ebpf-process")).arg(&copy).status();
        assert!(copied.expect("cp").success());
        std::fs::set_permissions(&copy, PermissionsExt::from_mode(0o4755)).expect("permissions");
    }
    let statistics = rustix::fs::statvfs(folder.path()).expect("a file system");
    if statistics.f_flag.contains(rustix::fs::StatVfsMountFlags::NOSUID) {
        return none("the folder for temporary files is mounted nosuid");
    }
    Some(folder)
}

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).uid(NOBODY).gid(NOBODY).env_clear().stdin(Stdio::null());
    command.env("EBPF_PROCESS_INTERVAL", "hostile").env("EBPF_PROCESS_LOG", "hostile");
    command.env("NETDATA_USER_CONFIG_DIR", "/proc/self").env("NETDATA_UPDATE_EVERY", "hostile");
    command.env("NETDATA_LOCK_DIR", "/hostile");
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

#[test]
fn it_takes_seconds_and_nothing_else() {
    let Some(folder) = setuid_copies() else { return };
    for (name, arguments) in [
        ("ebpf_process.plugin", &["1", "--config", "/etc/shadow"][..]),
        ("ebpf-process", &["--config", "/etc/shadow"]),
        ("ebpf-process", &["run", "--set", "interval=1s"]),
        ("ebpf-process", &["config", "show"]),
    ] {
        let finished = Running::start(&mut command(&folder.path().join(name), arguments)).finish();
        assert_eq!(finished.code(), 2, "{name} {arguments:?}: {finished:?}");
        assert!(finished.stderr.contains("started setuid"), "{finished:?}");
        assert!(!finished.stderr.contains("root:"), "{finished:?}");
    }
}

#[test]
fn it_ignores_the_environment_and_gives_up_its_rights() {
    let Some(folder) = setuid_copies() else { return };
    let mut agent = Running::start(&mut command(&folder.path().join("ebpf_process.plugin"), &["1"]));
    let first = agent.line();
    let hostile = |finished: &Finished| assert!(!finished.stderr.contains("hostile"), "{finished:?}");
    if first == "DISABLE\n" {
        // No BPF here: it was refused by the kernel, not by the environment.
        let finished = agent.finish();
        assert_eq!(finished.code(), 1, "{finished:?}");
        return hostile(&finished);
    }
    assert!(first.starts_with("CHART "), "{first}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid().as_raw_nonzero())).expect("a status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a field");
        line.trim_start_matches(':').split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>()
    };
    for ids in ["Uid", "Gid"] {
        assert_eq!(field(ids), vec![NOBODY.to_string(); 4], "{ids}");
    }
    let effective = u64::from_str_radix(&field("CapEff")[0], 16).expect("a number");
    let (sys_admin, perfmon, bpf) = (1 << 21, 1 << 38, 1 << 39);
    assert_eq!(effective & !(sys_admin | perfmon | bpf), 0, "no right but those that reading takes");
    agent.signal(Signal::TERM);
    let finished = agent.finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    hostile(&finished);
}

/// A file that only root may read, at the usual places as this one process sees them.
#[test]
fn it_shows_nothing_of_a_file_that_its_caller_may_not_read() {
    let Some(folder) = setuid_copies() else { return };
    let start = "mount -t tmpfs -o mode=755 none /etc && mkdir -p /etc/ebpf-process/conf.d && cd /etc/ebpf-process \
                 && umask 077 && printf '%s\\n' \"$2\" > \"$3\" && echo mounted \
                 && exec setpriv --reuid 65534 --regid 65534 --clear-groups \"$1\" 1";
    let lines = ["options.token = hunter2", "interval = hunter2", "hunter2", "interval = \"hunter2\""];
    for (line, file) in lines.into_iter().flat_map(|line| [(line, "ebpf-process.toml"), (line, "conf.d/a.toml")]) {
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c", start, "sh"])
            .arg(folder.path().join("ebpf_process.plugin"))
            .args([line, file]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let finished = Running::start(&mut command).finish();
        if !finished.stdout.contains("mounted") {
            return skip("setuid tests", &format!("there can be no /etc of its own here: {}", finished.stderr.trim()));
        }
        assert_eq!(finished.code(), 2, "{line}: {finished:?}");
        assert!(finished.stderr.contains(file), "{line}: {finished:?}");
        assert!(!finished.stderr.contains("hunter2"), "{line}: {finished:?}");
    }
}
