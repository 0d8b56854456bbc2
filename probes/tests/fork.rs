//! A program with one thread that forks: the harness for tests has several.

#![expect(clippy::expect_used, reason = "what a test sets up itself should stop it when it fails")]

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};

use ebpf_process_probes::{PANICKED, fork_alone, fork_apart};
use rustix::process::{Pid, WaitOptions, waitpid};

fn main() {
    a_child_ends_as_it_says_and_nothing_of_its_parents();
    a_child_apart_has_its_descriptor_and_takes_no_signal();
}

fn a_child_ends_as_it_says_and_nothing_of_its_parents() {
    struct Parents;

    impl Drop for Parents {
        fn drop(&mut self) {
            panic!("a destructor of the parent's ran");
        }
    }

    let parents = Parents;
    assert_eq!(exit_code(fork_alone(|| 7)), 7);
    std::panic::set_hook(Box::new(|_| {}));
    assert_eq!(exit_code(fork_alone(|| panic!("on purpose"))), i32::from(PANICKED));
    let _ = std::panic::take_hook();
    std::mem::forget(parents);
}

fn a_child_apart_has_its_descriptor_and_takes_no_signal() {
    let (mut reader, writer) = io::pipe().expect("a pipe");
    let other = File::open("/dev/null").expect("a file");
    let child = fork_apart(writer.into(), |kept| {
        let open = fs::read_dir("/proc/self/fd").expect("descriptors").count();
        let links: Vec<_> = [0, 1].map(|number| fs::read_link(format!("/proc/self/fd/{number}")).ok()).into();
        let text = format!("{open} {} {links:?}", line("SigBlk:"));
        File::from(kept).write_all(text.as_bytes()).map_or(1, |()| 0)
    });
    assert_eq!(exit_code(child), 0);
    let mut text = String::new();
    reader.read_to_string(&mut text).expect("text");
    // Its three standard ones, the pipe, and that of the list itself. Two signals cannot be blocked, and the C library
    // keeps two for itself.
    let null = "Some(\"/dev/null\")";
    assert_eq!(text, format!("5 fffffffe7ffbfeff [{null}, {null}]"));
    assert!(other.metadata().is_ok(), "the parent has all of its own");
    assert_eq!(line("SigBlk:"), "0000000000000000");
}

fn exit_code(child: io::Result<u32>) -> i32 {
    let child = i32::try_from(child.expect("a child")).ok().and_then(Pid::from_raw);
    let (_, status) = waitpid(child, WaitOptions::empty()).expect("a child").expect("it has ended");
    status.exit_status().expect("an exit code")
}

/// What this process's status says.
fn line(name: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").expect("the status");
    status.lines().find_map(|line| line.strip_prefix(name)).expect("a line").trim().to_owned()
}
