//! The directory `conf.d` beside the file, and files that one process reads for another.

use std::os::unix::fs::symlink;
use std::path::Path;

use ebpf_process_config::{Directories, Loaded, Sources, Texts};

use crate::common::{Folder, env, plan, refusal, registry, set};

fn loaded(sources: &Sources) -> Loaded {
    sources.load(&registry()).expect("a right configuration")
}

/// A folder with a file `ebpf-process.toml` and the directory beside it.
fn folder(files: &[(&str, &str)]) -> Folder {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("conf.d")).expect("a directory");
    for (name, text) in files {
        folder.file(name, text);
    }
    folder
}

fn sources(folder: &Folder) -> Sources {
    Sources::command_line(Some(&folder.path().join("ebpf-process.toml")))
}

#[test]
fn files_in_the_directory_come_after_the_file_in_the_order_of_their_names_and_before_all_that_is_typed() {
    let folder = folder(&[
        (
            "ebpf-process.toml",
            "interval = \"2s\"\ngrace = \"2s\"\ninstance = \"a\"\n[tags]\nsite = \"a\"\nrack = \"a\"\n",
        ),
        ("conf.d/9.toml", "[tags]\nsite = \"9\"\nroom = \"9\"\n"),
        ("conf.d/10.toml", "grace = \"3s\"\ninstance = \"b\"\n[tags]\nsite = \"10\"\n"),
        ("conf.d/B.toml", "[sinks.lan]\ntype = \"statsd\"\noptions.address = \"x\"\n"),
        ("conf.d/a.toml", "[sinks.lan]\nqueue = 3\n"),
    ]);
    let sources = sources(&folder).environment(env(&[("EBPF_PROCESS_INSTANCE", "c")])).set(set(&["tags.rack=set"]));
    let (loaded, plan) = plan(&sources).expect("a right configuration");
    assert_eq!((plan.interval.as_secs(), plan.grace.as_secs()), (2, 3));
    assert_eq!((plan.sinks[0].spec.name.as_str(), plan.sinks[0].spec.queue), ("lan", 3), "one sink in two files");
    let file = |name: &str| folder.path().join(name).display().to_string();
    for (key, value, origin) in [
        ("interval", "\"2s\"", file("ebpf-process.toml")),
        ("grace", "\"3s\"", file("conf.d/10.toml")),
        ("instance", "\"c\"", "environment variable EBPF_PROCESS_INSTANCE".to_owned()),
        ("tags.site", "\"9\"", file("conf.d/9.toml")),
        ("tags.room", "\"9\"", file("conf.d/9.toml")),
        ("tags.rack", "\"set\"", "--set tags.rack".to_owned()),
        ("sinks.lan.type", "\"statsd\"", file("conf.d/B.toml")),
        ("sinks.lan.queue", "3", file("conf.d/a.toml")),
    ] {
        assert_eq!(loaded.origin(key).as_deref(), Some(origin.as_str()), "{key}");
        let line = format!("{} = {value}  # {origin}", key.rsplit('.').next().unwrap_or(key));
        assert!(loaded.show().lines().any(|shown| shown.split_whitespace().eq(line.split_whitespace())), "{line}");
    }
}

#[test]
fn only_files_of_that_kind_are_layers() {
    let folder = folder(&[
        ("ebpf-process.toml", ""),
        ("conf.d/.hidden.toml", "wrong"),
        ("conf.d/a.toml.bak", "wrong"),
        ("conf.d/a.toml~", "wrong"),
        ("conf.d/README", "wrong"),
        ("conf.d/a.conf", "wrong"),
        ("elsewhere", "interval = \"4s\"\n"),
    ]);
    std::fs::create_dir(folder.path().join("conf.d/directory.toml")).expect("a directory");
    // What a file of a package is masked with, as systemd's are.
    symlink("/dev/null", folder.path().join("conf.d/masked.toml")).expect("a link");
    assert_eq!(plan(&sources(&folder)).expect("the default").1.interval.as_secs(), 1);
    // Kubernetes mounts files as links.
    symlink("../elsewhere", folder.path().join("conf.d/link.toml")).expect("a link");
    assert_eq!(plan(&sources(&folder)).expect("a right configuration").1.interval.as_secs(), 4);
}

#[test]
fn what_the_environment_names_and_what_netdata_has_besides_has_the_directory_beside_it() {
    let folder = folder(&[("ebpf-process.toml", ""), ("conf.d/a.toml", "interval = \"4s\"\n")]);
    let file = folder.path().join("ebpf-process.toml");
    let variables = env(&[("EBPF_PROCESS_CONFIG", file.to_str().expect("a path"))]);
    let nowhere = Directories::new(Some("/nonexistent".into()), Some("/nonexistent".into()));
    let here = Directories::new(Some(folder.path().into()), None);
    for (sources, seconds) in [
        (Sources::command_line(None).environment(variables.clone()), 4),
        (Sources::netdata(&nowhere, Some(&file)), 4),
        (Sources::netdata(&nowhere, None).environment(variables), 4),
        // In netdata's own directories it is netdata's own.
        (Sources::netdata(&here, None), 1),
    ] {
        assert_eq!(plan(&sources).expect("a right configuration").1.interval.as_secs(), seconds, "{sources:?}");
    }
}

#[test]
fn what_is_wrong_in_the_directory_is_refused_by_name() {
    let refused = |prepare: &dyn Fn(&Path), words: &[&str]| {
        let folder = Folder::new();
        folder.file("ebpf-process.toml", "");
        let directory = folder.path().join("conf.d");
        prepare(&directory);
        let error = refusal(&sources(&folder)).to_string();
        for word in words {
            assert!(error.contains(word), "{error}\n  without: {word}");
        }
        assert!(!error.contains(char::is_control), "{error:?}");
    };
    let file = |directory: &Path, name: &str, text: &[u8]| {
        std::fs::create_dir_all(directory).expect("a directory");
        std::fs::write(directory.join(name), text).expect("a file");
    };
    refused(&|directory| file(directory, "a.toml", b"\ninterval = 1s"), &["conf.d/a.toml, line 2", "quotes"]);
    refused(&|directory| file(directory, "a.toml", b"intervall = \"1s\""), &["conf.d/a.toml", "\"interval\""]);
    refused(&|directory| file(directory, "a.toml", &[0xff]), &["conf.d/a.toml", "not UTF-8"]);
    refused(
        &|directory| file(directory, "a.toml", &vec![b'#'; (1 << 20) + 1]),
        &["conf.d/a.toml", "larger than 1 MiB"],
    );
    refused(&|directory| file(directory, "a\n.toml", b""), &["conf.d: the name \"a\\n.toml\" has control characters"]);
    refused(&|directory| std::fs::write(directory, "").expect("a file"), &["conf.d: is no directory"]);
    let dangling = |directory: &Path| {
        std::fs::create_dir(directory).expect("a directory");
        symlink("nowhere", directory.join("a.toml")).expect("a link");
    };
    refused(&dangling, &["conf.d/a.toml: there is no such file", "the link"]);
    let many = |directory: &Path| (0..257).for_each(|number| file(directory, &format!("{number}.toml"), b""));
    refused(&many, &["conf.d: has more than 256 files"]);
    let large =
        |directory: &Path| (0..9).for_each(|name| file(directory, &format!("{name}.toml"), &vec![b'#'; 1 << 20]));
    refused(&large, &["conf.d/8.toml", "larger than 8 MiB"]);
}

#[test]
fn as_many_files_as_may_be_are_read() {
    let folder = folder(&[("ebpf-process.toml", "")]);
    for number in 0..256 {
        folder.file(&format!("conf.d/{number:03}.toml"), format!("grace = \"{}ms\"\n", 1000 + number));
    }
    assert_eq!(plan(&sources(&folder)).expect("a right configuration").1.grace.as_millis(), 1255);
}

#[test]
fn a_directory_that_others_could_have_written_to_is_left_out_when_started_setuid() {
    // Temporary directories hang below one that everybody may write to.
    let folder = folder(&[("ebpf-process.toml", ""), ("conf.d/a.toml", "interval = \"4s\"\n")]);
    let (loaded, plan) = plan(&sources(&folder).trusted_only()).expect("the default");
    assert_eq!(plan.interval.as_secs(), 1);
    let ignored = format!("{} is ignored: ", folder.path().join("conf.d").display());
    assert!(loaded.warnings().iter().any(|warning| warning.starts_with(&ignored)), "{:?}", loaded.warnings());
}

#[test]
fn texts_that_one_process_reads_are_a_configuration_in_another() {
    let folder = folder(&[
        ("ebpf_process.conf", "[global]\nload = neither\n"),
        ("own.toml", "interval = \"2s\"\n[tags]\nsite = \"a\"\n"),
        ("conf.d/a.toml", "interval = \"4s\"\n"),
    ]);
    let directories = Directories::new(Some(folder.path().into()), None);
    let named = folder.path().join("own.toml");
    let sources = Sources::netdata(&directories, Some(&named)).set(set(&["grace=7s"]));
    let read = sources.read().expect("files that can be read");
    let expected = ["ebpf_process.conf", "own.toml", "conf.d/a.toml"].map(|name| folder.path().join(name));
    assert!(read.paths().eq(expected.iter()), "{read:?}");
    let at_once = loaded(&sources);
    drop(folder);
    let handed_over = Texts::decode(&read.encode()).expect("what was encoded");
    let later = sources.load_texts(&handed_over, &registry()).expect("a right configuration");
    assert_eq!(later.show(), at_once.show());
    assert_eq!(later.warnings(), at_once.warnings());
    assert_eq!(later.warnings().len(), 1, "{:?}", later.warnings());
}
