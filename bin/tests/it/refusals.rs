//! Whatever is wrong gives one clear message and the documented exit code.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use crate::agent::{command, file, finish, plugin};

const NO_PROBES: [&str; 4] = ["--set", "probes.process.enabled=false", "--set", "probes.file.enabled=false"];

/// Arguments, the exit code, and words of the one message.
const CASES: &[(&[&str], i32, &[&str])] = &[
    (&["run", "--nonsense"], 2, &["--nonsense", "--help"]),
    (&["nonsense"], 2, &["nonsense", "--help"]),
    (&["run", "--set", "status.socket="], 2, &["no sink is configured", "config default"]),
    (&["--set", "status.socket="], 2, &["no sink is configured"]),
    (&["run", "--config", "/nonexistent/file.toml"], 2, &["/nonexistent/file.toml", "no such file", "--config"]),
    (&["run", "--config", "/"], 2, &["/: is a directory"]),
    (&["run", "--set", "intervall=1s"], 2, &["intervall", "--set intervall", "did you mean \"interval\""]),
    (&["run", "--set", "interval=1"], 2, &["interval", "--set interval", "expected"]),
    (&["run", "--set", "interval"], 2, &["--set interval", "KEY=VALUE"]),
    (&["run", "--set", "probes.mode=retrun"], 2, &["probes.mode", "did you mean \"return\""]),
    (&["run", "--set", "probes.proces.enabled=true"], 2, &["probes.proces", "did you mean \"process\""]),
    (&["run", "--set", "sinks.a.type=statd"], 2, &["sinks.a.type", "did you mean \"statsd\""]),
    (&["run", "--set", "sinks.a.type=influx"], 2, &["sinks.a.options.database"]),
    (
        &["run", "--set", "sinks.a.type=statsd", "--set", "sinks.a.options.adress=x"],
        2,
        &["sinks.a.options.adress", "--set sinks.a.options.adress", "did you mean \"address\""],
    ),
    (
        &["run", "--set", "sinks.a.type=netdata", "--set", "sinks.b.type=netdata"],
        2,
        &["sinks.b", "standard output belongs to sinks.a"],
    ),
    (&["once", "--interval", "10ms"], 2, &["--interval", "not between 100ms and 1h"]),
    (&["once", "--interval", "soon"], 2, &["--interval", "is no duration"]),
    (&["once", "--format", "xml"], 2, &["--format", "table", "json", "influx"]),
    (&["once", "--by", "proces"], 2, &["--by", "process, app, cgroup", "a similar value exists: 'process'"]),
    (&["once", "--sort", "vfs read"], 2, &["--by"]),
    (&["run", "--by", "app", "--limit", "0"], 2, &["--limit"]),
    (&["once", "--by", "app", "--format", "json", "--limit", "5"], 2, &["--limit is for --format table"]),
    (&["run", "--by", "app"], 2, &["no terminal", "once --by app", "probes.by=[\"app\"]"]),
    (&["once", "--set", "probes.mode=both"], 2, &["probes.mode", "both"]),
    (&["check", "--set", "grace=1y"], 2, &["grace", "not between"]),
    (&["config", "show", "--set", "nonsense=1"], 2, &["nonsense"]),
    (&["config", "show", "--set", "status.socket=run/status.sock"], 2, &["status.socket", "begins with \"/\""]),
    (&["status", "--set", "status.socket="], 2, &["status is off"]),
    (
        &["status", "--set", "status.socket=/nonexistent/status.sock"],
        1,
        &["/nonexistent/status.sock", "start the agent"],
    ),
    (&["list", "nonsense"], 2, &["nonsense", "metrics"]),
    (&["list"], 2, &["a word is missing", "probes, sinks, metrics", "--help"]),
    (&["config"], 2, &["a word is missing", "default, show", "--help"]),
    (&["completions"], 2, &["a word is missing", "bash", "zsh", "--help"]),
    (&["spool"], 2, &["inspect", "repair", "drain", "--help"]),
    (&["run", "--set", "mode=return"], 2, &["mode (from --set mode)", "did you mean \"probes.mode\""]),
    (&["run", "--set", "socket=/s"], 2, &["did you mean \"status.socket\""]),
    (&["run", "--set", "when_full=drop-newest"], 2, &["did you mean \"sinks.NAME.when_full\""]),
    (&["sink-test"], 2, &["<TYPE|", "--exec", "--address", "--help"]),
    (&["sink-test", "statsd", "--exec", "/bin/true"], 2, &["cannot be used with", "--exec", "--help"]),
    (&["sink-test", "exec", "--address", "unix:/x"], 2, &["cannot be used with", "--address", "--help"]),
    (&["sink-test", "--address", "unix:/x", "--exec", "/bin/true"], 2, &["cannot be used with", "--help"]),
    (&["sink-test", "statsd", "--", "-x"], 2, &["cannot be used with", "ARG", "--help"]),
    (&["sink-test", "--exec", "nonexistent"], 2, &["--exec nonexistent", "No such file", "by its path"]),
    (&["sink-test", "--exec", "/"], 2, &["--exec /: is a directory"]),
    (&["sink-test", "--exec", "/etc/passwd"], 2, &["--exec /etc/passwd", "Permission denied"]),
    (&["sink-test", "--address", "/run/x.sock"], 2, &["--address /run/x.sock", "expected unix:PATH"]),
    (&["sink-test", "--exec", "/bin/true", "--set", "adress=x"], 2, &["unknown", "adress"]),
    (&["sink-test", "statd"], 2, &["unknown sink type", "statsd"]),
    (&["sink-test", "statsd", "--set", "adress=x"], 2, &["did you mean \"address\""]),
    (&["sink-test", "statsd", "--set", "address"], 2, &["--set address", "KEY=VALUE"]),
    (&["sink-test", "statsd", "--set", "address=udp://192.0.2.1:8125"], 2, &["udp://192.0.2.1:8125", "--yes"]),
    (&["sink-test", "influx", "--receive", "http:line"], 2, &["http:line", "http:influx", "exec"]),
    (&["sink-test", "statsd", "--receive", "tcp:statsd"], 2, &["{receiver}", "--set address=tcp://{receiver}"]),
    (&["sink-test", "statsd", "--receive", "exec", "--verify", "/bin/true"], 2, &["cannot be used with", "--verify"]),
    (&["sink-test", "statsd", "--rebuilds", "3"], 2, &["--rebuilds", "20"]),
    (&["sink-test", "json"], 2, &["standard output", "--set"]),
    (
        &["sink-test", "json", "--set", "path=/nonexistent/x", "--verify", "/nonexistent/y"],
        2,
        &["--verify /nonexistent/y", "cannot be started"],
    ),
    (&["run", "--set", "instance=a/b"], 2, &["instance", "letters, digits"]),
];

#[test]
fn a_wrong_command_line_or_configuration_ends_with_2_and_says_what_and_where() {
    for (arguments, code, words) in CASES {
        let finished = finish(&mut command(arguments));
        assert_eq!(finished.code(), *code, "{arguments:?}: {finished:?}");
        assert_eq!(finished.stdout, "", "{arguments:?}");
        for word in *words {
            assert!(finished.stderr.contains(word), "{arguments:?}: no {word:?} in {}", finished.stderr);
        }
        // One message is one line, except for what the command line's own parser says.
        if !finished.stderr.contains("--help") {
            assert_eq!(finished.stderr.lines().count(), 1, "{arguments:?}: {}", finished.stderr);
        }
    }
}

#[test]
fn a_wrong_environment_is_refused_by_the_variables_name() {
    for (name, value, words) in [
        ("EBPF_PROCESS_INTERVALL", "1s", "did you mean \"interval\""),
        ("EBPF_PROCESS_LOG", "loud", "expected error, warn, info, debug or trace"),
        ("EBPF_PROCESS_GRACE", "1", "expected a duration"),
        ("EBPF_PROCESS_CONFIG", "/nonexistent.toml", "no such file"),
        ("EBPF_PROCESS_PORTS", "tcp://10.0.0.1:1", "unknown key"),
    ] {
        let finished = finish(command(&["run"]).env(name, value));
        assert_eq!(finished.code(), 2, "{finished:?}");
        assert!(finished.stderr.contains(name) && finished.stderr.contains(words), "{finished:?}");
    }
}

#[test]
fn a_file_without_permission_is_refused_by_name() {
    let (_folder, path) = file("interval = \"1s\"");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).expect("permissions");
    // Root may read anything; then there is nothing to refuse.
    if std::fs::read(&path).is_err() {
        let path = path.display().to_string();
        let finished = finish(&mut command(&["check", "--config", &path]));
        assert_eq!(finished.code(), 2, "{finished:?}");
        assert!(finished.stderr.contains(&path) && finished.stderr.contains("permission denied"), "{finished:?}");
    }
}

#[test]
fn once_into_a_full_disk_fails_and_into_a_closed_pipe_ends_quietly() {
    let arguments: Vec<&str> = ["once", "--interval", "100ms", "--format"].into_iter().chain(["json"]).collect();
    let arguments: Vec<&str> = arguments.into_iter().chain(NO_PROBES).collect();
    let full = std::fs::File::options().write(true).open("/dev/full").expect("/dev/full");
    let finished = finish(command(&arguments).stdout(full));
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stderr.contains("cannot write everything to standard output"), "{finished:?}");

    for format in ["table", "json", "influx", "statsd", "netdata", "prometheus"] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut arguments = arguments.clone();
        arguments[4] = format;
        let finished = finish(command(&arguments).stdout(Stdio::from(writer)));
        assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{format}: {finished:?}");
    }
}

#[test]
fn under_netdata_a_lasting_refusal_disables_the_plugin() {
    let (_folder, path) = file("[sinks.out]\ntype = \"influx\"\noptions.url = \"stdout\"\n");
    let stdout_taken = path.display().to_string();
    let cases: [(&[&str], &[&str]); 7] = [
        (&["0"], &["SECONDS", "0"]),
        (&["often"], &["SECONDS", "often"]),
        (&["1", "--nonsense"], &["--nonsense"]),
        (&["1", "--set", "interval=1s"], &["--set"]),
        (&["1", "--config", "/nonexistent.toml"], &["/nonexistent.toml", "no such file"]),
        (&["1", "--config", &stdout_taken], &["sinks.out", "standard output belongs to netdata"]),
        (&["1", "run"], &["run"]),
    ];
    for (arguments, words) in cases {
        let finished = finish(&mut plugin(arguments));
        assert_eq!((finished.code(), finished.stdout.as_str()), (2, "DISABLE\n"), "{arguments:?}: {finished:?}");
        assert_eq!(finished.stderr.lines().count(), 1, "{arguments:?}: {}", finished.stderr);
        assert!(finished.stderr.contains(": ebpf_process.plugin ERROR : MAIN : "), "{}", finished.stderr);
        for word in words {
            assert!(finished.stderr.contains(word), "{arguments:?}: no {word:?} in {}", finished.stderr);
        }
    }
    let finished = finish(plugin(&["1"]).env("NETDATA_UPDATE_EVERY", "often"));
    assert_eq!((finished.code(), finished.stdout.as_str()), (2, "DISABLE\n"), "{finished:?}");
    let finished = finish(plugin(&["1"]).env("EBPF_PROCESS_INTERVALL", "1s"));
    assert_eq!((finished.code(), finished.stdout.as_str()), (2, "DISABLE\n"), "{finished:?}");
}
