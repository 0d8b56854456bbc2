//! `run` on a terminal.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::agent::{Running, VITALS_ONLY, command, file, with_terminal};

/// Both ends of a terminal of 80 columns and 24 rows.
pub(crate) fn terminal() -> (File, File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master: OwnedFd = openpt(flags).expect("a terminal");
    grantpt(&master).and_then(|()| unlockpt(&master)).expect("its other end");
    let name = ptsname(&master, Vec::new()).expect("a name");
    let slave = File::options().read(true).write(true).open(name.to_str().expect("a path")).expect("the other end");
    tcsetwinsize(&slave, Winsize { ws_col: 80, ws_row: 24, ws_xpixel: 0, ws_ypixel: 0 }).expect("a size");
    (File::from(master), slave)
}

/// Reads the screen until it has shown these words so many times.
pub(crate) fn read_until(screen: &mut File, words: &str, times: usize) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    let limit = Timespec { tv_sec: 60, tv_nsec: 0 };
    while text.matches(words).count() < times {
        let shown = poll(&mut [PollFd::new(screen, PollFlags::IN)], Some(&limit)).expect("the screen");
        assert!(shown > 0, "nothing more is shown: {text:?}");
        let read = screen.read(&mut buffer).expect("the screen");
        assert!(read > 0, "the screen went dark: {text:?}");
        text += &String::from_utf8_lossy(&buffer[..read]);
    }
    text
}

#[test]
fn with_no_sink_it_shows_a_table_in_one_place() {
    let (_folder, path) = file(&format!("interval = \"100ms\"\n{VITALS_ONLY}"));
    let path = path.display().to_string();
    let (mut screen, slave) = terminal();
    let agent = Running::start(command(&["--config", &path]).stdout(Stdio::from(slave)));
    let text = read_until(&mut screen, "OPERATION", 3);
    assert!(text.contains("Per second over the last"), "{text:?}");
    assert!(text.contains("\u{1b}[J"), "drawn in place: {text:?}");
    agent.signal(Signal::INT);
    let finished = agent.finish();
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
}

#[test]
fn closing_the_terminal_is_a_quiet_end() {
    let (_folder, path) = file(&format!("interval = \"100ms\"\n{VITALS_ONLY}"));
    let path = path.display().to_string();
    let (mut screen, slave) = terminal();
    let agent = Running::start(command(&["run", "--config", &path]).stdout(Stdio::from(slave)));
    read_until(&mut screen, "OPERATION", 1);
    drop(screen);
    let finished = agent.finish();
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
}

#[test]
fn an_agent_that_writes_elsewhere_ends_with_its_terminal_unless_it_was_told_to_stay() {
    let (folder, path) = file("");
    let lines = folder.path().join("lines.json");
    let sink = "interval = \"100ms\"\n[sinks.out]\ntype = \"json\"\n";
    std::fs::write(&path, format!("{sink}options.path = \"{}\"\n{VITALS_ONLY}", lines.display())).expect("a file");
    let path = path.display().to_string();
    let start = |stays: bool| {
        let (screen, slave) = terminal();
        // The tests may themselves run under nohup, and what is ignored is inherited.
        let through: &[&str] = if stays { &["nohup"] } else { &["env", "--default-signal=HUP"] };
        let mut command = with_terminal(through, &["run", "--config", &path]);
        let mut agent = Running::start(command.stdin(Stdio::from(slave)));
        agent.wait_for_log("counting");
        drop(screen);
        agent
    };
    let finished = start(false).finish();
    assert_eq!(finished.code(), 0, "{finished:?}");
    assert!(finished.stderr.contains("(sink out)"), "an end in order: {finished:?}");

    let mut agent = start(true);
    agent.wait_for_log("SIGHUP does nothing");
    agent.signal(Signal::TERM);
    assert_eq!(agent.finish().code(), 0);
}
