//! `sink-test` as whoever writes a sink uses it.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
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
    assert!(finished.stdout.contains("NOT VERIFIED gaps"), "{finished:?}");
    let nothing = program(folder.path(), "#!/bin/sh\n");
    let finished = test(&["--verify", &nothing.display().to_string()]);
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stdout.contains("FAILED       gaps"), "{finished:?}");
    assert!(finished.stdout.contains("was written and cannot be read back"), "{finished:?}");
}

#[test]
fn a_receiver_that_is_not_there_ends_the_test_at_the_first_check() {
    // Nobody listens at the port for discarding.
    let given = ["sink-test", "influx", "--set", "url=http://127.0.0.1:9", "--set", "database=d"];
    let finished = finish(&mut command(&given));
    assert_eq!(finished.code(), 1, "{finished:?}");
    assert!(finished.stdout.contains("FAILED       flush and close in time"), "{finished:?}");
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
    let finished = test(&["sink-test", "--exec", "./verify", "a \"b\"", "c\nd", "--seed", "5", "--", "-e"]);
    assert_eq!(finished.code(), 3, "{finished:?}");
    assert!(finished.stdout.contains("NOT VERIFIED gaps") && !finished.stdout.contains("FAILED"), "{finished:?}");
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
    let finished = finish(command(&["sink-test", "--address", "unix:socket"]).current_dir(folder.path()));
    assert_eq!(finished.code(), 3, "{finished:?}");
    assert!(finished.stdout.contains("NOT VERIFIED gaps") && !finished.stdout.contains("FAILED"), "{finished:?}");
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
