//! `sink-test` as whoever writes a sink uses it.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use crate::agent::{command, finish};

/// Prints a file of line protocol as `name{series} value`.
const LINES: &str = r#"#!/bin/sh
[ -e "$0.lines" ] || exit 0
exec awk '{
    head = $0; sub(/ [^ ]* [0-9]+$/, "", head)
    count = split($(NF - 1), fields, ",")
    for (i = 1; i <= count; i++) {
        split(fields[i], field, "="); sub(/[iu]$/, "", field[2])
        print field[1] "{" head "} " field[2]
    }
}' "$0.lines"
"#;

fn program(folder: &Path, text: &str) -> PathBuf {
    let path = folder.join("verify");
    std::fs::write(&path, text).expect("a file");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("a program");
    path
}

#[test]
fn what_a_program_reads_back_decides() {
    let folder = tempfile::tempdir().expect("a folder");
    let verify = program(folder.path(), LINES);
    let url = format!("url=file://{}.lines", verify.display());
    let test = |more: &[&str]| {
        let given = ["sink-test", "influx", "--set", &url, "--set", "integers=u", "--seed", "5"];
        finish(&mut command(&[&given, more].concat()))
    };
    let finished = test(&["--verify", &verify.display().to_string(), "--json"]);
    let page: serde_json::Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!((finished.code(), page["exit"].as_u64(), page["seed"].as_u64()), (0, Some(0), Some(5)), "{finished:?}");
    let finished = test(&[]);
    assert_eq!(finished.code(), 3, "{finished:?}");
    assert!(finished.stdout.contains("NOT VERIFIED   gaps"), "{finished:?}");
    let nothing = program(folder.path(), "#!/bin/sh\n");
    let finished = test(&["--verify", &nothing.display().to_string()]);
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stdout.contains("FAILED         gaps"), "{finished:?}");
    assert!(finished.stdout.contains("was written and cannot be read back"), "{finished:?}");
}

#[test]
fn a_receiver_that_is_not_there_ends_the_test_at_the_first_check() {
    // Nobody listens at the port for discarding.
    let given = ["sink-test", "influx", "--set", "url=http://127.0.0.1:9", "--set", "database=d"];
    let finished = finish(&mut command(&given));
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stdout.contains("FAILED         flush and close in time"), "{finished:?}");
    assert!(finished.stdout.contains("nothing of three batches was delivered"), "{finished:?}");
}

/// Answers every batch, and keeps what it was started with.
const PROGRAM: &str = r#"#!/bin/sh
echo "$0" "$@" > "${0%/*}/started"
echo '{"ebpf_process":[1],"format":"rows"}'
read -r start
while IFS= read -r line; do
    number=${line#*:}
    echo "{\"batch\":${number%%,*},\"ok\":true}"
done
"#;

#[test]
fn a_program_by_its_relative_path_is_tested_with_its_arguments() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = program(folder.path(), PROGRAM);
    let test = |arguments: &[&str]| finish(command(arguments).current_dir(folder.path()));
    let finished =
        test(&["sink-test", "--exec", "./verify", "a \"b\"", "c\nd", "--rebuilds", "20", "--seed", "5", "--", "-e"]);
    assert_eq!(finished.code(), 3, "{finished:?}");
    assert!(finished.stdout.contains("NOT VERIFIED   gaps") && !finished.stdout.contains("FAILED"), "{finished:?}");
    let started = std::fs::read_to_string(folder.path().join("started")).expect("it was started");
    assert_eq!(started, format!("{} a \"b\" c\nd -e\n", path.display()));
}

#[test]
fn a_program_behind_a_socket_is_tested_by_its_relative_path() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(folder.path().join("socket")).expect("a socket");
    let accept = move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::Builder::new().spawn(move || drop(answer(stream))).expect("a thread");
        }
    };
    thread::Builder::new().spawn(accept).expect("a thread");
    let finished =
        finish(command(&["sink-test", "--rebuilds", "20", "--address", "unix:socket"]).current_dir(folder.path()));
    assert_eq!(finished.code(), 3, "{finished:?}");
    assert!(finished.stdout.contains("NOT VERIFIED   gaps") && !finished.stdout.contains("FAILED"), "{finished:?}");
}

/// The outcome of each check, and the exit code.
fn judged(arguments: &[&str]) -> (Option<u64>, BTreeMap<String, String>) {
    let mut kit = command(&[&["sink-test", "--json", "--seed", "5", "--rebuilds", "20"], arguments].concat());
    // The kit has limits of its own, which a machine with much to do may come near.
    let output = kit.output().expect("the binary starts");
    let page: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(page["exit"].as_i64(), output.status.code().map(i64::from), "{output:?}");
    let word = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
    let checks = page["checks"].as_array().expect("checks").iter();
    (page["exit"].as_u64(), checks.map(|check| (word(&check["check"]), word(&check["outcome"]))).collect())
}

/// Those that did not pass.
fn others(checks: &BTreeMap<String, String>) -> Vec<(&str, &str)> {
    checks.iter().filter(|(_, outcome)| *outcome != "passed").map(|(check, outcome)| (&**check, &**outcome)).collect()
}

#[test]
fn what_the_kits_own_receiver_gets_decides_and_it_is_slow_refuses_and_goes_away() {
    for arguments in [
        &["statsd", "--set", "address=tcp://{receiver}", "--receive", "tcp:statsd"][..],
        &[
            "influx",
            "--set",
            "url=http://{receiver}",
            "--set",
            "database=d",
            "--set",
            "integers=u",
            "--receive",
            "http:influx",
        ],
        &["exec", "--set", "address=unix:{receiver}", "--receive", "exec"],
    ] {
        let (exit, checks) = judged(arguments);
        assert_eq!((exit, others(&checks)), (Some(0), Vec::new()), "{arguments:?}");
    }
}

#[test]
fn over_udp_what_no_receiver_can_do_is_not_applicable() {
    let (exit, checks) = judged(&["statsd", "--set", "address=udp://{receiver}", "--receive", "udp:statsd"]);
    let never = "not_applicable";
    assert_eq!((exit, others(&checks)), (Some(0), vec![("each verdict", never), ("slow peer", never)]));
}

/// Sends the numbers of each batch to where its first argument says, with the mistake that the second one names.
const SENDER: &str = r#"
import json, sys, urllib.error, urllib.request

place, mistake = sys.argv[1:]
def say(**words):
    print(json.dumps(words), flush=True)
def quoted(text):
    return '"%s"' % text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
def value(number):
    return str(int(float(number))) if mistake == "digits" and isinstance(number, int) else str(number)
def send(lines):
    try:
        urllib.request.urlopen(urllib.request.Request(place, data="\n".join(lines).encode()))
    except urllib.error.HTTPError as error:
        return {"rejected": True} if error.code == 400 else {"retry_after": 0.01}
    except OSError:
        return {"retry_after": 0.01}
    return {"ok": True}

say(ebpf_process=[1], format="samples")
sys.stdin.readline()
for batches, line in enumerate(sys.stdin, 1):
    batch = json.loads(line)
    lines = []
    for sample in batch["samples"]:
        labels = ["%s=%s" % (key, quoted(text)) for key, text in sample["labels"].items()]
        def add(part, number, more=[]):
            lines.append("%s%s{%s} %s" % (sample["name"].replace(".", "_"), part, ",".join(labels + more), value(number)))
        number = sample["value"]
        if sample["type"] == "histogram":
            add("_count", number["count"])
            add("_sum", number["sum"])
            for bound, slot in zip(sample["bounds"], number["slots"]):
                add("_slot", slot, ['le="%s"' % ("+Inf" if bound is None else bound)])
        else:
            add("", number)
    answer = {"ok": True} if mistake == "batches" and batches % 10 == 0 else send(lines)
    say(batch=batch["batch"], **({"ok": True} if mistake == "verdicts" else answer))
"#;

/// Python itself: what is first in the path may be a script that looks for it, and takes its time.
fn python() -> String {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("Python");
    String::from_utf8(output.stdout).expect("a path").trim().to_owned()
}

#[test]
fn a_program_of_a_stranger_fails_the_checks_of_its_mistake_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    // Its first line says what it needs of Python.
    let script = program(folder.path(), &format!("#!{} -S{SENDER}", python())).display().to_string();
    for (mistake, expected) in
        [("none", &[][..]), ("batches", &["gaps"]), ("digits", &["u64::MAX"]), ("verdicts", &["each verdict"])]
    {
        let program = ["--exec", &script, "http://{receiver}/", mistake];
        let more = ["--set", "delivery.retry_min=10ms", "--receive", "http:prometheus"];
        let (exit, checks) = judged(&[program, more].concat());
        let failed: Vec<_> =
            others(&checks).into_iter().filter(|(_, outcome)| *outcome == "failed").map(|(check, _)| check).collect();
        assert_eq!((exit, &*failed), (Some(u64::from(!expected.is_empty())), expected), "{mistake}: {checks:?}");
    }
}

/// Answers every batch of a connection until it ends, by an error where the agent is gone.
fn answer(mut stream: UnixStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    stream.write_all(b"{\"ebpf_process\":[1],\"format\":\"rows\"}\n")?;
    lines.next().transpose()?;
    for line in lines {
        let batch: serde_json::Value = serde_json::from_str(&line?)?;
        writeln!(stream, "{{\"batch\":{},\"ok\":true}}", batch["batch"])?;
    }
    Ok(())
}
