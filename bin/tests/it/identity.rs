//! A program of somebody else's: what it is called, and what follows from that.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use crate::agent::{self, Finished, VITALS_ONLY, file, finish};

/// The arguments of the program, where this process is to be it.
const ARGUMENTS: &str = "PROGRAM_OF_ITS_OWN";

/// Its name.
const NAME: &str = "NAME_OF_ITS_OWN";

/// In a process of its own this is the program.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test returns no exit code")]
fn program() {
    let Some(arguments) = std::env::var_os(ARGUMENTS) else { return };
    let arguments = arguments.into_string().expect("text");
    let name = std::env::var(NAME).expect("a name");
    let arguments = [name.as_str()].into_iter().chain(arguments.split('\n')).map(OsString::from);
    let code = ebpf_process::App::new(&*name, "7.8.9").about("Counts lamps.").run_with(arguments);
    std::process::exit(if code == ExitCode::SUCCESS { 0 } else { 2 });
}

fn called(name: &str, arguments: &[&str]) -> Command {
    let harness = ["--exact", "--nocapture", "--test-threads=1", "identity::program"];
    let mut command = agent::program(std::env::current_exe().expect("this program"), &harness);
    command.env(ARGUMENTS, arguments.join("\n")).env(NAME, name);
    command
}

fn lamp(arguments: &[&str]) -> Finished {
    let finished = finish(&mut called("lamp-agent", arguments));
    assert_eq!(finished.code(), 0, "{finished:?}");
    finished
}

/// Nothing in a text is about us, but for what is netdata's.
fn is_its_own(text: &str) {
    let ours = |line: &&str| {
        let rest = line.replace("ebpf-process.toml in netdata's", "").replace("netdata.service.d/ebpf-process", "");
        rest.contains("ebpf-process") || rest.contains("EBPF_PROCESS")
    };
    assert_eq!(text.lines().filter(ours).collect::<Vec<_>>(), [""; 0], "{text}");
}

#[test]
fn it_says_its_own_name_version_and_purpose() {
    assert!(lamp(&["--version"]).stdout.contains("lamp-agent 7.8.9\n"));
    for arguments in [&["--help"][..], &["-h"], &["help", "run"], &["once", "--help"], &["config", "default"]] {
        is_its_own(&lamp(arguments).stdout);
    }
    let help = lamp(&["--help"]).stdout;
    for words in ["Counts lamps.", "/etc/lamp-agent/lamp-agent.toml", "LAMP_AGENT_CONFIG=FILE", "LAMP_AGENT_LOG"] {
        assert!(help.contains(words), "{words}: {help}");
    }
    let default = lamp(&["config", "default"]).stdout;
    assert!(default.contains("socket = \"/run/lamp-agent/status.sock\""), "{default}");
    let script = lamp(&["completions", "bash"]).stdout;
    assert!(script.contains("lamp-agent"), "{script}");
    is_its_own(&script);
}

#[test]
fn its_variables_are_its_own() {
    let (_folder, path) = file(VITALS_ONLY);
    let mut show = called("lamp-agent", &["config", "show"]);
    show.env("LAMP_AGENT_CONFIG", &path).env("LAMP_AGENT_INTERVAL", "7s").env("EBPF_PROCESS_GRACE", "wrong");
    let finished = finish(&mut show);
    assert_eq!(finished.code(), 0, "{finished:?}");
    let line = |key: &str| finished.stdout.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    assert!(line("interval").ends_with("# environment variable LAMP_AGENT_INTERVAL"), "{}", finished.stdout);
    assert!(finished.stdout.contains("/run/lamp-agent/status.sock"), "{}", finished.stdout);
    let refused = finish(called("lamp-agent", &["config", "show"]).env("LAMP_AGENT_CONFIG", "/nonexistent"));
    assert!(refused.code() == 2 && refused.stderr.contains("LAMP_AGENT_CONFIG"), "{refused:?}");
    is_its_own(&refused.stderr);
    let refused = finish(called("lamp-agent", &["once"]).env("LAMP_AGENT_LOG", "loud"));
    assert!(refused.code() == 2 && refused.stderr.contains("LAMP_AGENT_LOG"), "{refused:?}");
}

#[test]
fn a_name_that_makes_no_path_is_refused_before_anything_is_done() {
    for wrong in ["", "Lamp", "../lamp", "lamp agent"] {
        let finished = finish(&mut called(wrong, &["--version"]));
        assert_eq!(finished.code(), 2, "{finished:?}");
        assert!(finished.stderr.contains("is no name for this program"), "{finished:?}");
        assert!(!finished.stdout.contains("7.8.9"), "{finished:?}");
    }
}
