//! What `check` says about sinks, with sink types of a stranger.

use crate::agent::{VITALS_ONLY, command, file, finish};

#[test]
fn offline_opens_nothing_and_says_so() {
    let (folder, path) = file("");
    let lines = folder.path().join("missing/lines.json");
    let sink = format!("[sinks.a]\ntype = \"json\"\noptions.path = \"{}\"\n{VITALS_ONLY}", lines.display());
    std::fs::write(&path, sink).expect("a file");
    let path = path.display().to_string();
    let finished = finish(&mut command(&["check", "--offline", "--config", &path]));
    assert_eq!((finished.code(), finished.stderr.as_str()), (0, ""), "{finished:?}");
    assert!(finished.stdout.contains("the configuration alone is checked"), "{}", finished.stdout);
    assert!(!lines.parent().expect("a directory").exists());
    let finished = finish(&mut command(&["check", "--offline", "--config", &path, "--set", "sinks.a.queue=0"]));
    assert_eq!(finished.code(), 2, "{finished:?}");
}
