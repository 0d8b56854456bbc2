//! What the commands print.

use crate::agent::{VITALS_ONLY, command, file, finish};

#[test]
fn help_and_version_go_to_stdout() {
    for (arguments, words) in [
        (
            vec!["--help"],
            vec![
                "run",
                "once",
                "check",
                "status",
                "list",
                "config",
                "sink-test",
                "completions",
                "EBPF_PROCESS_",
                "Exit codes",
            ],
        ),
        (vec!["once", "--help"], vec!["--interval", "--format", "influx", "statsd", "netdata", "prometheus"]),
        (vec!["once", "--help"], vec!["--by", "process", "app", "cgroup", "--sort", "--limit"]),
        (vec!["run", "--help"], vec!["--by", "--sort", "--limit", "no sink of the configuration is fed"]),
        (vec!["--version"], vec![env!("CARGO_PKG_VERSION")]),
    ] {
        let finished = finish(&mut command(&arguments));
        assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
        for word in words {
            assert!(finished.stdout.contains(word), "{arguments:?}: no {word:?} in {}", finished.stdout);
        }
    }
}

#[test]
fn lists_name_what_the_build_contains() {
    for (what, words) in [
        ("probes", ["process", "file", "vitals"]),
        ("sinks", ["netdata", "statsd", "influx"]),
        ("metrics", ["vfs.calls", "task.started", "agent.samples"]),
    ] {
        let finished = finish(&mut command(&["list", what]));
        assert_eq!(finished.code(), 0, "{finished:?}");
        for word in words {
            assert!(finished.stdout.contains(word), "{what}: no {word:?} in {}", finished.stdout);
        }
    }
    let metrics = finish(&mut command(&["list", "metrics"])).stdout;
    let bytes = metrics.lines().find(|line| line.starts_with("vfs.bytes")).expect("the metric");
    assert!(bytes.contains(" return "), "bytes take return mode: {bytes}");
    let document = finish(&mut command(&["list", "metrics", "--format", "markdown"])).stdout;
    assert!(document.contains("| `vfs.bytes` | counter | bytes | operation | host | file | return |"), "{document}");
}

#[test]
fn config_default_is_the_commented_file_and_show_has_origins() {
    let finished = finish(&mut command(&["config", "default"]));
    assert_eq!((finished.code(), finished.stdout.as_str()), (0, ebpf_process_config::DEFAULT));

    let (_folder, path) = file("grace = \"3s\"\n");
    let path = path.display().to_string();
    let mut show = command(&["--config", &path, "config", "show", "--set", "interval=5s"]);
    let finished = finish(show.env("EBPF_PROCESS_PROBES__MODE", "return"));
    assert_eq!(finished.code(), 0, "{finished:?}");
    let shown = |key: &str| finished.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    assert!(shown("grace").ends_with(&format!("# {path}")), "{}", finished.stdout);
    assert!(shown("interval").ends_with("# --set interval"), "{}", finished.stdout);
    assert!(shown("mode").ends_with("# environment variable EBPF_PROCESS_PROBES__MODE"), "{}", finished.stdout);
    assert!(shown("hooks").ends_with("# built-in default"), "{}", finished.stdout);
}

#[test]
fn once_prints_one_object_as_json() {
    let (_folder, path) = file(VITALS_ONLY);
    let path = path.display().to_string();
    let finished = finish(&mut command(&["once", "--interval", "100ms", "--format", "json", "--config", &path]));
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    let object: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert!(object["elapsed"].as_f64().expect("seconds") >= 0.1);
    let samples = object["samples"].as_array().expect("samples");
    let ticks = samples.iter().find(|sample| sample["name"] == "agent.ticks").expect("the agent's own numbers");
    // The window has one tick, and all numbers are the window's.
    assert_eq!((&ticks["value"], &ticks["delta"]), (&1.into(), &1.into()));
}

#[test]
fn check_says_that_the_configuration_is_right() {
    let (_folder, path) = file(VITALS_ONLY);
    let path = path.display().to_string();
    // Where nobody listens, the verdict is another.
    let receiver = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = format!("sinks.lan.options.address=udp://{}", receiver.local_addr().expect("an address"));
    let sink = ["--set", "sinks.lan.type=statsd", "--set", &address];
    let arguments: Vec<&str> = ["check", "--config", &path].into_iter().chain(sink).collect();
    let finished = finish(&mut command(&arguments));
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stdout.contains("The configuration is right"), "{}", finished.stdout);
    let arguments: Vec<&str> = arguments.into_iter().chain(["--format", "json"]).collect();
    let finished = finish(&mut command(&arguments));
    let report: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!((&report["verdict"], &report["sinks"][0]["type"]), (&"ok".into(), &"statsd".into()));
}

#[test]
fn check_warns_of_what_a_sink_asks_for_and_nothing_has() {
    let (_folder, path) = file(VITALS_ONLY);
    let path = path.display().to_string();
    let sink = ["--set", "sinks.out.type=json", "--set", "sinks.out.include=[\"agent.*\", \"vfs.cals\"]"];
    let run = |more: &[&str]| {
        let arguments: Vec<&str> = ["check", "--offline", "--config", &path].into_iter().chain(sink).collect();
        finish(&mut command(&[&arguments, more].concat()))
    };
    let told = run(&[]);
    assert_eq!(told.code(), 0, "{told:?}");
    for words in ["no metric matches \"vfs.cals\"; did you mean \"vfs.calls\"?", "asks for what does not exist"] {
        assert!(told.stdout.split_whitespace().collect::<Vec<_>>().join(" ").contains(words), "{}", told.stdout);
    }
    assert_eq!(run(&["--strict"]).code(), 1);
    let report: serde_json::Value = serde_json::from_str(&run(&["--format", "json"]).stdout).expect("JSON");
    assert_eq!((&report["verdict"], &report["sinks"][0]["state"]), (&"degraded".into(), &"warning".into()));
    assert_eq!(run(&["--strict", "--set", "sinks.out.include=[\"agent.*\"]"]).code(), 0);
}

#[test]
fn completions_are_there_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let finished = finish(&mut command(&["completions", shell]));
        assert_eq!(finished.code(), 0, "{finished:?}");
        assert!(finished.stdout.contains("ebpf-process") && finished.stdout.contains("once"), "{shell}");
        assert!(finished.stdout.contains("cgroup"), "{shell}: the kinds of rows");
    }
}
