//! A file whose directory comes later.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::engine::{Agent, Clock, OutletSpec, Parts, Setting, SinkPart};
use ebpf_process_core::testkit::{ManualClock, context};
use ebpf_process_core::{BuildError, Options, Scope, SinkContext, SinkPlugin as _, State};
use ebpf_process_sink_json::PLUGIN;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn a_directory_that_is_missing_is_waited_for_and_another_file_takes_the_place_of_the_first() {
    let folder = tempfile::tempdir().expect("a folder");
    // A link to where nothing is yet, as to a disk that is mounted later: it is not made.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path().join("disk"), &link).expect("a link");
    let part = |path: std::path::PathBuf| {
        let options = Options::from_value(BTreeMap::from([("path", path)]));
        SinkPart {
            spec: OutletSpec::new("lines"),
            plugin: Arc::new(PLUGIN),
            options: options.clone(),
            setting: Setting { instance: None, interval: SECOND, scope: Scope::Host },
            make: Box::new(move |ledger, stop| {
                PLUGIN.build(&options, SinkContext { ledger, stop, ..context("lines") })
            }),
        }
    };
    let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), 100 * SECOND));
    let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, SECOND);
    let refusal = agent.start_sink(part(link.join("lines.json")));
    assert!(refusal.as_ref().is_err_and(BuildError::is_passing), "{refusal:?}");
    let book = Arc::clone(&agent.vitals().sinks()[0].ledger);
    assert_eq!(book.condition().state, State::Absent);
    fs::create_dir(folder.path().join("disk")).expect("a directory");
    let lines = |agent: &mut Agent, path: &std::path::Path| {
        let start = Instant::now();
        loop {
            agent.tick(clock.advance(SECOND));
            if fs::read_to_string(path).is_ok_and(|text| text.ends_with("}\n")) {
                return;
            }
            assert!(start.elapsed() < MINUTE, "no line comes");
            std::thread::yield_now();
        }
    };
    lines(&mut agent, &folder.path().join("disk/lines.json"));
    assert_eq!(book.condition().state, State::Working);
    let other = folder.path().join("other.json");
    let sinks = vec![part(other.clone())];
    agent.apply(Parts { interval: SECOND, grace: MINUTE, probes: Vec::new(), sinks });
    lines(&mut agent, &other);
    agent.close(MINUTE);
    let last = fs::read_to_string(&other).expect("lines");
    assert!(last.lines().all(|line| line.starts_with("{\"timestamp\"") && line.ends_with('}')), "{last}");
}
