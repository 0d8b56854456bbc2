//! Whatever is wrong is refused with what, where and the way out.

use crate::common::{Folder, env, refusal, set};
use ebpf_process_config::Sources;

/// The text of a file, and words that the refusal must contain.
const WRONG_FILES: &[(&str, &[&str])] = &[
    ("intervall = \"1s\"", &["intervall", "config.toml", "unknown key", "did you mean \"interval\""]),
    ("\ninterval = 1s", &["config.toml, line 2", "the quotes around a text are missing", "write interval = \"1s\""]),
    ("token = hush", &["config.toml, line 1", "the quotes around a text are missing", "write token = \"...\""]),
    ("interval = 1", &["interval", "config.toml", "expected a duration"]),
    ("interval = \"often\"", &["interval", "often", "is no duration"]),
    ("interval = \"10ms\"", &["interval", "10ms is not between 100ms and 1h"]),
    ("interval = \"2h\"", &["interval", "2h is not between 100ms and 1h"]),
    ("grace = \"1day\"", &["grace", "config.toml", "not between"]),
    ("\n\ninterval = ", &["config.toml, line 3"]),
    ("interval = \"1s\"\ninterval = \"2s\"", &["config.toml, line 2", "duplicate key"]),
    ("probes = 1", &["probes", "config.toml", "expected a map"]),
    ("[probes]\nmodus = \"entry\"", &["probes.modus", "unknown key", "did you mean \"mode\""]),
    ("[probes]\nmode = \"both\"", &["probes.mode ", "config.toml", "both", "entry"]),
    ("[probes]\nmode = \"retrun\"", &["probes.mode ", "did you mean \"return\""]),
    ("[probes]\nprocess = true", &["probes.process", "expected a table"]),
    ("[probes.proces]\nenabled = true", &["probes.proces", "no such probe", "did you mean \"process\""]),
    ("[probes.gpu]\nprogram = \"/x\"", &["probes.gpu", "no such probe", "any with type = \"exec\""]),
    ("[probes.gpu]\ntype = 7", &["probes.gpu.type", "expected"]),
    ("[probes.gpu]\ntype = \"exce\"", &["probes.gpu.type", "this build has exec", "did you mean \"exec\""]),
    ("[probes.gpu]\ntype = \"file\"", &["probes.gpu.type", "one probe of the type file at most: [probes.file]"]),
    ("[probes.gpu]\ntype = \"exec\"", &["probes.gpu.program", "required"]),
    ("[probes.gpu]\ntype = \"exec\"\nprogam = \"/x\"", &["probes.gpu.progam", "did you mean \"program\""]),
    ("[probes.gpu]\ntype = \"exec\"\nprogram = \"/x\"\nenabeld = 1", &["gpu.enabeld", "did you mean \"enabled\""]),
    ("[probes.\"a b\"]\ntype = \"exec\"", &["probes.\"a b\"", "a probe's name has 1 to 64 letters"]),
    ("[probes.file]\ntype = \"exec\"", &["probes.file.type", "give one of another type another name"]),
    ("[probes.process]\nenabled = \"yes\"", &["probes.process.enabled", "expected a boolean"]),
    ("[probes.process]\nenable = true", &["probes.process.enable ", "did you mean \"enabled\""]),
    ("[probes.process]\nmode = \"both\"", &["probes.process.mode", "both"]),
    ("[probes.process]\ndept = 1", &["probes.process.dept", "did you mean \"depth\""]),
    ("[probes.file]\nenabled = false\ndept = 1", &["probes.file.dept", "did you mean \"depth\""]),
    ("[probes]\nonly = { pid = \"init\" }", &["probes.only", "config.toml", "expected u32"]),
    ("[probes]\nonly = { user = 0 }", &["probes.only", "config.toml", "user"]),
    ("[probes.vitals]\ncolour = 1", &["probes.vitals.colour", "unknown key"]),
    ("sinks = []", &["sinks", "config.toml", "expected a map"]),
    ("[sinks]\nlan = 1", &["sinks.lan", "config.toml", "expected a map"]),
    ("[sinks.lan]", &["sinks.lan.type", "required"]),
    ("[sinks.lan]\ntype = \"statd\"", &["sinks.lan.type", "unknown sink type", "did you mean \"statsd\""]),
    ("[sinks.lan]\ntype = \"statsd\"\nwhen-full = 1", &["sinks.lan.when-full", "did you mean \"when_full\""]),
    ("[sinks.lan]\ntype = \"statsd\"\nwhen_full = \"block\"", &["sinks.lan.when_full", "block", "drop-oldest"]),
    ("[sinks.lan]\ntype = \"statsd\"\nqueue = 0", &["sinks.lan.queue", "0 is not between 1 and 1024"]),
    ("[sinks.lan]\ntype = \"statsd\"\nqueue = -1", &["sinks.lan.queue", "expected usize"]),
    (
        "[sinks.lan]\ntype = \"statsd\"\nqueue_bytes = \"1KiB\"",
        &["sinks.lan.queue_bytes", "1.0 KiB is not between 64.0 KiB and 16.0 GiB"],
    ),
    ("[sinks.lan]\ntype = \"statsd\"\nqueue_bytes = 8", &["sinks.lan.queue_bytes", "a size in quotes"]),
    ("[sinks.lan]\ntype = \"statsd\"\nkinds = []", &["sinks.lan.kinds", "config.toml", "gets nothing"]),
    ("[sinks.lan]\ntype = \"statsd\"\nkinds = \"host\"", &["sinks.lan.kinds", "expected a sequence"]),
    ("[sinks.lan]\ntype = \"statsd\"\nwhere = \"comm\"", &["sinks.lan.where", "expected a map"]),
    ("[sinks.lan]\ntype = \"statsd\"\nwhere.comm = 7", &["sinks.lan.where.comm", "expected a string"]),
    ("[sinks.lan]\ntype = \"statsd\"\ntop = 20", &["sinks.lan.top", "expected a map"]),
    ("[sinks.lan]\ntype = \"statsd\"\ntop.app = -1", &["sinks.lan.top.app", "config.toml", "expected usize"]),
    ("[sinks.lan]\ntype = \"statsd\"\ntop.app = 0", &["sinks.lan.top.app", "0 is not between 1 and 1048576 rows"]),
    (
        "[sinks.lan]\ntype = \"statsd\"\ntop = { ap = 5 }\nkinds = [\"host\", \"app\"]",
        &["sinks.lan.top.ap", "config.toml", "gets no such rows", "host, app", "did you mean \"app\""],
    ),
    ("top.app = 5", &["top", "unknown key", "did you mean \"sinks.NAME.top\""]),
    (
        "interval = \"2s\"\n[sinks.lan]\ntype = \"statsd\"\ninterval = \"5s\"\noptions.address = \"x\"",
        &["sinks.lan.interval", "config.toml", "5s is no whole multiple", "interval of 2s"],
    ),
    (
        "interval = \"2s\"\n[sinks.lan]\ntype = \"statsd\"\ninterval = \"1s\"\noptions.address = \"x\"",
        &["sinks.lan.interval", "1s is no whole multiple", "interval of 2s"],
    ),
    (
        "[sinks.lan]\ntype = \"statsd\"\ninterval = \"2h\"\noptions.address = \"x\"",
        &["sinks.lan.interval", "2h is no whole multiple, up to 1h"],
    ),
    ("[sinks.lan]\ntype = \"statsd\"\ninterval = \"0s\"\noptions.address = \"x\"", &["sinks.lan.interval", "0s is no"]),
    ("[sinks.lan]\ntype = \"statsd\"\ninterval = 5", &["sinks.lan.interval", "expected a duration"]),
    (
        "[sinks.lan]\ntype = \"statsd\"\ninterval = \"5s\"\njitter = \"6s\"\noptions.address = \"x\"",
        &["sinks.lan.jitter", "config.toml", "6s is longer than this sink's interval of 5s"],
    ),
    (
        "[sinks.lan]\ntype = \"statsd\"\njitter = \"2s\"\noptions.address = \"x\"",
        &["sinks.lan.jitter", "2s is longer than this sink's interval of 1s"],
    ),
    ("[sinks.lan]\ntype = \"statsd\"\ninclude = \"*\"", &["sinks.lan.include", "expected a sequence"]),
    ("[sinks.lan]\ntype = \"statsd\"\noptions = 1", &["sinks.lan.options", "expected a map"]),
    ("[sinks.lan]\ntype = \"statsd\"", &["sinks.lan.options.address", "required"]),
    (
        "[sinks.lan]\ntype = \"statsd\"\n[sinks.lan.options]\nadress = \"x\"",
        &["sinks.lan.options.adress", "config.toml", "did you mean \"address\""],
    ),
    (
        "[sinks.lan]\ntype = \"statsd\"\n[sinks.lan.options]\naddress = \"x\"\npacket = 70000",
        &["sinks.lan.options.packet", "config.toml", "70000"],
    ),
    (
        "[sinks.lan]\ntype = \"statsd\"\n[sinks.lan.options]\naddress = \"nowhere\"",
        &["sinks.lan.options.address", "config.toml", "this is no address"],
    ),
    ("[sinks.\"a b\"]\ntype = \"statsd\"", &["sinks.\"a b\"", "a sink's name"]),
    ("[sinks.\"a\\u0000\"]\ntype = \"statsd\"", &["a sink's name"]),
    ("[sinks.\"\"]\ntype = \"statsd\"", &["a sink's name"]),
    (
        "[sinks.a]\ntype = \"statsd\"\noptions.address = \"stdout\"\n\
         [sinks.b]\ntype = \"influx\"\noptions.address = \"stdout\"",
        &["sinks.b", "config.toml", "standard output belongs to sinks.a"],
    ),
    (
        "[sinks.a]\ntype = \"statsd\"\noptions.address = \"x\"\n[sinks.a]\ntype = \"influx\"",
        &["config.toml, line 4", "duplicate key"],
    ),
];

#[test]
fn a_wrong_file_is_refused_with_the_key_the_file_and_the_way_out() {
    let folder = Folder::new();
    for (text, words) in WRONG_FILES {
        let path = folder.file("config.toml", text);
        let error = refusal(&Sources::command_line(Some(&path))).to_string();
        for word in *words {
            assert!(error.contains(word), "{text}\n  gives: {error}\n  without: {word}");
        }
        assert!(!error.contains(char::is_control), "{text}\n  gives: {error:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_refused_by_name() {
    let folder = Folder::new();
    let long = folder.file("long.toml", "#".repeat((1 << 20) + 1));
    let binary = folder.file("binary.toml", [0xff, 0xfe]);
    let cases = [
        (folder.path().join("missing.toml"), "there is no such file"),
        (folder.path().to_owned(), "is a directory"),
        (long, "larger than 1 MiB"),
        (binary, "not UTF-8"),
        ("/dev/zero".into(), "larger than 1 MiB"),
    ];
    for (path, problem) in cases {
        let error = refusal(&Sources::command_line(Some(&path))).to_string();
        assert!(error.contains(problem) && error.contains(&path.display().to_string()), "{error}");
    }
}

#[test]
fn a_wrong_environment_variable_is_named() {
    let cases: [(&str, &str, &[&str]); 7] = [
        ("EBPF_PROCESS_INTERVALL", "1s", &["EBPF_PROCESS_INTERVALL", "did you mean \"interval\""]),
        ("EBPF_PROCESS_INTERVAL", "1", &["interval", "EBPF_PROCESS_INTERVAL", "expected a duration"]),
        ("EBPF_PROCESS_PROBES__MODE", "both", &["probes.mode", "EBPF_PROCESS_PROBES__MODE", "both"]),
        ("EBPF_PROCESS_PROBES____MODE", "entry", &["EBPF_PROCESS_PROBES____MODE", "no level may be empty"]),
        ("EBPF_PROCESS_", "entry", &["EBPF_PROCESS_", "no level may be empty"]),
        ("EBPF_PROCESS_SINKS__LAN__QUEUE", "4", &["sinks.lan.type", "EBPF_PROCESS_SINKS__LAN__QUEUE", "required"]),
        ("EBPF_PROCESS_A\u{1b}[2J", "1", &["EBPF_PROCESS_A\\u{1b}[2J", "unknown key"]),
    ];
    for (name, value, words) in cases {
        let error = refusal(&Sources::built_in().environment(env(&[(name, value)]))).to_string();
        for word in words {
            assert!(error.contains(word), "{name}={value}\n  gives: {error}\n  without: {word}");
        }
        assert!(!error.contains(char::is_control), "{name}={value}\n  gives: {error:?}");
    }
}

#[test]
fn a_wrong_setting_is_named() {
    let cases: [(&str, &[&str]); 7] = [
        ("interval", &["--set interval", "KEY=VALUE"]),
        ("=1", &["--set", "this is no key"]),
        ("a..b=1", &["--set a..b", "this is no key"]),
        ("a\nb=1", &["--set a\\nb", "this is no key"]),
        ("interval=10ms", &["interval", "--set interval", "not between"]),
        ("probes.mode=both", &["probes.mode ", "--set probes.mode", "both"]),
        ("sinks.lan=1", &["sinks.lan", "--set sinks.lan", "expected a map"]),
    ];
    for (setting, words) in cases {
        let error = refusal(&Sources::built_in().set(set(&[setting]))).to_string();
        for word in words {
            assert!(error.contains(word), "{setting}\n  gives: {error}\n  without: {word}");
        }
    }
}

#[test]
fn without_content_a_refusal_names_the_key_and_not_the_value() {
    let folder = Folder::new();
    for text in [
        "interval = \"hush\"",
        "hush",
        "[sinks.lan]\ntype = \"hush\"",
        "interval = hush",
        "[sinks.db.options]\ntoken = hush",
    ] {
        let path = folder.file("config.toml", text);
        let error = refusal(&Sources::command_line(Some(&path))).without_content().to_string();
        assert!(!error.contains("hush"), "{error}");
        assert!(error.contains("config.toml"), "{error}");
    }
}
