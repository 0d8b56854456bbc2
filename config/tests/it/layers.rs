//! Later layers win, and each value knows where it comes from.

use std::time::Duration;

use crate::common::{Folder, Mode, NamedOptions, Only, ProbeOptions, SinkOptions, env, plan, refusal, registry, set};
use ebpf_process_config::{Directories, Plan, Sources, confine, default_text};
use ebpf_process_core::engine::{OutletSpec, WhenFull};
use ebpf_process_core::{Claims, Scope};

fn probe_options(plan: &Plan, name: &str) -> ProbeOptions {
    let probe = plan.probes.iter().find(|probe| probe.name == name).expect("an enabled probe");
    probe.options.extract().expect("checked options")
}

#[test]
fn nothing_typed_is_the_built_in_default() {
    let (loaded, plan) = plan(&Sources::built_in()).expect("the default");
    assert_eq!(plan.interval, Duration::from_secs(1));
    assert_eq!(plan.grace, Duration::from_secs(2));
    assert_eq!(plan.scope, Scope::Host);
    assert!(plan.sinks.is_empty());
    assert_eq!(plan.probes.iter().map(|probe| &*probe.name).collect::<Vec<_>>(), ["process", "file", "vitals"]);
    for name in ["process", "file"] {
        assert_eq!(probe_options(&plan, name), ProbeOptions::default());
    }
    assert_eq!(loaded.origin("interval").as_deref(), Some("built-in default"));
}

#[test]
fn probes_of_a_named_type_are_those_that_the_configuration_names() {
    let settings =
        ["probes.gpu.type=exec", "probes.gpu.program=/gpu", "probes.fan.type=exec", "probes.fan.program=/fan"];
    let (_, both) = plan(&Sources::built_in().set(set(&settings))).expect("a plan");
    let names: Vec<_> = both.probes.iter().map(|probe| (&*probe.name, probe.plugin.name())).collect();
    let of_one_name = [("process", "process"), ("file", "file"), ("vitals", "vitals")];
    assert_eq!(names, [&of_one_name[..], &[("fan", "exec"), ("gpu", "exec")]].concat());
    let program = |plan: &Plan| plan.probes[3].options.extract::<NamedOptions>().expect("options").program;
    assert_eq!(program(&both), "/fan");
    let off = settings.into_iter().chain(["probes.fan.enabled=false"]).collect::<Vec<_>>();
    let (_, one) = plan(&Sources::built_in().set(set(&off))).expect("a plan");
    assert_eq!((one.probes.len(), program(&one).as_str()), (4, "/gpu"));
    // Its type is no probe.
    assert!(!default_text(&registry()).contains("exec"));
}

#[test]
fn the_commented_default_loads_and_changes_nothing() {
    let folder = Folder::new();
    let path = folder.file("default.toml", default_text(&registry()));
    let (from_file, planned) = plan(&Sources::command_line(Some(&path))).expect("the default");
    let (built_in, _) = plan(&Sources::built_in()).expect("the default");
    let without_origins = |shown: String| shown.replace(&path.display().to_string(), "built-in default");
    assert_eq!(without_origins(from_file.show()), built_in.show());
    assert!(planned.sinks.is_empty());
}

#[test]
fn what_the_default_has_in_comments_is_right_too() {
    // A commented-out setting has no blank after its `#`, a remark has.
    let uncommented: String = default_text(&registry())
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let folder = Folder::new();
    let path = folder.file("all.toml", uncommented);
    let (_, plan) = plan(&Sources::command_line(Some(&path))).expect("the default with all its settings");
    assert_eq!(plan.scope, Scope::Filtered);
    assert_eq!(plan.sinks.len(), 1);
    let spec = &plan.sinks[0].spec;
    assert_eq!(spec.selection.exclude, ["agent.*"]);
    assert_eq!(spec.queue_bytes, 64 << 20);
    assert_eq!(spec.selection.kinds.as_deref(), Some(&["host".to_owned(), "app".to_owned()][..]));
    assert_eq!(spec.selection.matching["comm"], "nginx*");
}

#[test]
fn the_environment_may_name_the_file_and_the_command_line_is_stronger() {
    let folder = Folder::new();
    let one = folder.file("one.toml", "interval = \"2s\"\n");
    let other = folder.file("other.toml", "grace = \"3s\"\n");
    let named = |sources: Sources| {
        let variables = [("EBPF_PROCESS_CONFIG", one.to_str().expect("a path")), ("EBPF_PROCESS_INSTANCE", "b")];
        let (_, plan) = plan(&sources.environment(env(&variables))).expect("a right configuration");
        assert_eq!(plan.instance.as_deref(), Some("b"));
        (plan.interval.as_secs(), plan.grace.as_secs())
    };
    assert_eq!(named(Sources::command_line(None)), (2, 2));
    assert_eq!(named(Sources::command_line(Some(&other))), (1, 3));
    let netdata = Directories::new(Some("/nonexistent".into()), Some("/nonexistent".into()));
    assert_eq!(named(Sources::netdata(&netdata, None)), (2, 2));
    assert_eq!(named(Sources::netdata(&netdata, Some(&other))), (1, 3));
    let (_, unset) =
        plan(&Sources::command_line(None).environment(env(&[("EBPF_PROCESS_CONFIG", "")]))).expect("a plan");
    assert_eq!(unset.interval.as_secs(), 1);
}

#[test]
fn what_kubernetes_sets_for_a_service_of_this_name_is_no_configuration() {
    let links = [
        ("EBPF_PROCESS_SERVICE_HOST", "10.0.0.1"),
        ("EBPF_PROCESS_SERVICE_PORT", "19435"),
        ("EBPF_PROCESS_SERVICE_PORT_METRICS", "19435"),
        ("EBPF_PROCESS_PORT", "tcp://10.0.0.1:19435"),
        ("EBPF_PROCESS_PORT_19435_TCP", "tcp://10.0.0.1:19435"),
        ("EBPF_PROCESS_PORT_19435_TCP_PROTO", "tcp"),
        ("EBPF_PROCESS_PORT_19435_TCP_PORT", "19435"),
        ("EBPF_PROCESS_PORT_19435_TCP_ADDR", "10.0.0.1"),
        ("EBPF_PROCESS_LAB_SERVICE_HOST", "10.0.0.2"),
        ("EBPF_PROCESS_LAB_PORT", "udp://10.0.0.2:1"),
        ("EBPF_PROCESS_LAB_PORT_1_UDP_ADDR", "10.0.0.2"),
    ];
    let (_, plan) = plan(&Sources::built_in().environment(env(&links))).expect("nothing is set");
    assert_eq!(plan.interval.as_secs(), 1);
    for (name, value) in [
        ("EBPF_PROCESS_PORT", "19435"),
        ("EBPF_PROCESS_PORT_X_TCP", "tcp://10.0.0.1:19435"),
        ("EBPF_PROCESS_SERVICE", "10.0.0.1"),
        ("EBPF_PROCESS_SINKS__LAN_SERVICE_HOST", "10.0.0.1"),
    ] {
        assert!(self::plan(&Sources::built_in().environment(env(&[(name, value)]))).is_err(), "{name} is a mistake");
    }
}

#[test]
fn a_user_is_a_name_or_a_number_however_it_is_written() {
    let registry = registry();
    let of = |text: &str| {
        let loaded = Sources::built_in().set([format!("user={text}")]).load(&registry)?;
        Plan::new(&loaded, &registry).map(|plan| plan.user)
    };
    for (text, user) in [("web", "web"), ("\"33\"", "33"), ("33", "33"), ("root", "root")] {
        assert_eq!(of(text).expect(text).as_deref(), Some(user), "{text}");
    }
    assert!(of("[1]").expect_err("no name").to_string().contains("a user's name or number"));
    let without = Sources::built_in().load(&registry).expect("the default");
    assert_eq!(Plan::new(&without, &registry).expect("a plan").user, None);
}

#[test]
fn an_instance_has_a_socket_a_tag_and_a_name_of_its_own() {
    let of = |settings: &[&str]| {
        let address = set(&["sinks.a.options.address=x"]);
        let sinks = settings.iter().any(|setting| setting.starts_with("sinks.a"));
        let settings = set(settings).into_iter().chain(address.into_iter().filter(|_| sinks));
        plan(&Sources::built_in().set(settings)).map(|(_, plan)| plan)
    };
    let named = of(&["instance=b", "sinks.a.type=statsd"]).expect("a plan");
    assert_eq!(named.status.as_deref(), Some(std::path::Path::new("/run/ebpf-process/status-b.sock")));
    assert_eq!(named.sinks[0].spec.selection.tags["instance"], "b");
    let own = of(&["instance=b", "sinks.a.type=statsd", "sinks.a.tags={instance=\"c\"}", "status.socket=/a.b/s"]);
    let own = own.expect("a plan");
    assert_eq!(own.sinks[0].spec.selection.tags["instance"], "c", "what a sink's own table says is stronger");
    assert_eq!(own.status.as_deref(), Some(std::path::Path::new("/a.b/s-b")));
    let none = of(&["sinks.a.type=statsd"]).expect("a plan");
    assert!(none.instance.is_none() && none.sinks[0].spec.selection.tags.is_empty());
    for wrong in ["instance=", "instance=a.b", "instance=a/b", "instance=\"a b\"", "instance=7"] {
        assert!(of(&[wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn later_layers_win_and_the_origin_says_which() {
    let folder = Folder::new();
    let path = folder.file("config.toml", "interval = \"2s\"\ngrace = \"3s\"\n[probes]\nmode = \"return\"\n");
    let sources = Sources::command_line(Some(&path))
        .environment(env(&[
            ("EBPF_PROCESS_GRACE", "4s"),
            ("EBPF_PROCESS_LOG", "debug"),
            ("EBPF_PROCESS_SINKS__LAN__TYPE", "statsd"),
            ("EBPF_PROCESS_SINKS__LAN__OPTIONS__ADDRESS", "udp://127.0.0.1:1"),
            ("EBPF_PROCESS_SINKS__LAN__WHEN_FULL", "drop-newest"),
            ("PATH", "/bin"),
        ]))
        .set(set(&["sinks.lan.queue=3", "probes.only={pid=7}", "sinks.lan.rename.\"demo.calls\"=calls"]));
    let (loaded, plan) = plan(&sources).expect("a right configuration");
    assert_eq!(plan.interval, Duration::from_secs(2));
    assert_eq!(plan.grace, Duration::from_secs(4));
    assert_eq!(plan.scope, Scope::Filtered);
    let options = probe_options(&plan, "file");
    assert_eq!((options.mode, options.only), (Mode::Return, Some(Only::Pid(7))));
    let sink = &plan.sinks[0];
    assert_eq!((sink.spec.name.as_str(), sink.spec.queue), ("lan", 3));
    assert_eq!(sink.spec.when_full, WhenFull::DropNewest);
    assert_eq!(sink.spec.selection.name("demo.calls"), "calls");
    assert_eq!(sink.options.extract::<SinkOptions>().expect("options").address, "udp://127.0.0.1:1");
    let file = path.display().to_string();
    for (key, origin) in [
        ("interval", file.as_str()),
        ("probes.mode", file.as_str()),
        ("grace", "environment variable EBPF_PROCESS_GRACE"),
        ("sinks.lan.type", "environment variable EBPF_PROCESS_SINKS__LAN__TYPE"),
        ("sinks.lan.queue", "--set sinks.lan.queue"),
        ("probes.hooks", "built-in default"),
    ] {
        assert_eq!(loaded.origin(key).as_deref(), Some(origin), "{key}");
        assert!(loaded.show().contains(&format!("# {origin}\n")), "{}", loaded.show());
    }
}

#[test]
fn a_probes_own_key_is_stronger_than_the_common_one() {
    let settings = ["probes.mode=return", "probes.file.mode=entry", "probes.file.depth=3", "probes.only={pid=1}"];
    let own = ["probes.file.only={cgroup=\"/a\"}", "probes.vitals.enabled=false"];
    let sources = Sources::built_in().set(set(&settings).into_iter().chain(set(&own)));
    let (_, plan) = plan(&sources).expect("a right configuration");
    assert_eq!(probe_options(&plan, "process").mode, Mode::Return);
    let file = probe_options(&plan, "file");
    assert_eq!((file.mode, file.depth, file.only), (Mode::Entry, 3, Some(Only::Cgroup("/a".into()))));
    assert!(plan.probes.iter().all(|probe| probe.name != "vitals"));
}

#[test]
fn what_is_shown_can_be_loaded_again_and_hides_secrets() {
    let settings = [
        "sinks.lan.type=statsd",
        "sinks.lan.options.address=http://me:hush@127.0.0.1:1",
        "sinks.lan.options.password=hush",
        "sinks.lan.tags.\"a.b\"=c",
        "sinks.lan.rename={}",
        "probes.only={pid=7}",
    ];
    let (loaded, _) = plan(&Sources::built_in().set(set(&settings))).expect("a right configuration");
    let shown = loaded.show();
    assert!(!shown.contains("hush"), "{shown}");
    assert!(shown.contains("password = \"***\""), "{shown}");
    let folder = Folder::new();
    let path = folder.file("shown.toml", &shown);
    let (again, _) = plan(&Sources::command_line(Some(&path))).expect("what was shown");
    let values = |text: String| text.lines().map(|l| l.split("  #").next().unwrap_or(l).to_owned()).collect::<Vec<_>>();
    assert_eq!(values(again.show()), values(shown));
}

#[test]
fn tags_for_all_sinks_come_under_each_sinks_own() {
    let settings = [
        "tags.site=here",
        "tags.rack=\"7\"",
        "instance=two",
        "sinks.lan.type=statsd",
        "sinks.lan.options.address=a:1",
        "sinks.lan.tags.rack=\"8\"",
        "sinks.wan.type=statsd",
        "sinks.wan.options.address=b:1",
    ];
    let (_, plan) = plan(&Sources::built_in().set(set(&settings))).expect("a right configuration");
    let tags = |sink: usize| {
        let tags = &plan.sinks[sink].spec.selection.tags;
        tags.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    assert_eq!(tags(0), ["instance=two", "rack=8", "site=here"]);
    assert_eq!(tags(1), ["instance=two", "rack=7", "site=here"]);
}

#[test]
fn netdata_has_layers_of_its_own() {
    let user = Folder::new();
    let stock = Folder::new();
    stock.file("ebpf_process.conf", "[global]\nload = return\n");
    let directories = Directories::new(Some(user.path().into()), Some(stock.path().into()));
    let sources = |config| Sources::netdata(&directories, config);
    let mode = |sources: &Sources| probe_options(&plan(sources).expect("a right configuration").1, "file").mode;
    assert_eq!(mode(&sources(None)), Mode::Return);

    // The user's file stands in place of the stock one; what it has wrong only warns.
    user.file("ebpf_process.conf", "[global]\nload = neither\ncolour = red\n");
    let (loaded, _) = plan(&sources(None)).expect("warnings only");
    assert_eq!(loaded.warnings().len(), 2, "{:?}", loaded.warnings());
    assert_eq!(mode(&sources(None)), Mode::Entry);

    // The TOML file beside it is stronger, and strict.
    user.file("ebpf-process.toml", "[probes]\nmode = \"return\"\n");
    assert_eq!(mode(&sources(None)), Mode::Return);
    let config = user.file("more.toml", "[probes]\nmode = \"entry\"\n");
    assert_eq!(mode(&sources(Some(&config))), Mode::Entry);
    user.file("ebpf-process.toml", "[probes]\nmodus = \"return\"\n");
    assert!(plan(&sources(None)).is_err());
}

#[test]
fn a_file_that_others_could_have_written_is_left_out_when_started_setuid() {
    let folder = Folder::new();
    folder.file("ebpf-process.toml", "interval = \"7s\"\n");
    let directories = Directories::new(Some(folder.path().into()), None);
    let (loaded, plan) = plan(&Sources::netdata(&directories, None).trusted_only()).expect("the default");
    assert_eq!(plan.interval, Duration::from_secs(1));
    assert!(loaded.warnings().iter().any(|warning| warning.contains("is ignored")), "{:?}", loaded.warnings());
}

#[test]
fn started_setuid_a_sink_is_confined_to_stdout_and_the_network() {
    for (address, allowed) in [("stdout", true), ("udp://127.0.0.1:1", true), ("/var/spool/x", false)] {
        let address = format!("sinks.a.options.address={address}");
        let (_, plan) = plan(&Sources::built_in().set(set(&["sinks.a.type=statsd", &address]))).expect("a plan");
        assert_eq!(confine(&plan).is_ok(), allowed, "{address}");
        assert_eq!(plan.sinks[0].claims, Claims::stdout(address.ends_with("stdout")));
    }
}

#[test]
fn a_registry_without_the_built_in_probes_has_no_keys_for_them() {
    let registry = ebpf_process_core::Registry::default().probe(ebpf_process_core::VITALS);
    let loaded = Sources::built_in().load(&registry).expect("the default");
    let plan = Plan::new(&loaded, &registry).expect("a plan");
    assert_eq!(plan.probes.len(), 1);
    assert!(!loaded.show().contains("mode"), "{}", loaded.show());
}

#[test]
fn a_sinks_own_interval_must_go_with_the_agents_wherever_that_comes_from() {
    let settings =
        ["sinks.lan.type=statsd", "sinks.lan.options.address=x", "sinks.lan.interval=6s", "sinks.lan.jitter=2s"];
    let (_, plan) = plan(&Sources::built_in().set(set(&settings))).expect("a plan");
    let spec = plan.sinks[0].spec.clone();
    assert_eq!((spec.interval, spec.jitter), (Some(Duration::from_secs(6)), Duration::from_secs(2)));
    // Netdata has the last word on the agent's interval.
    assert_eq!(plan.clone().at_interval(Duration::from_secs(3)).expect("half of it").interval, Duration::from_secs(3));
    let error =
        plan.at_interval(Duration::from_secs(5)).map(|plan| plan.interval).expect_err("no multiple").to_string();
    assert!(error.contains("sinks.lan.interval") && error.contains("6s") && error.contains("5s"), "{error}");
}

#[test]
fn a_sink_says_which_rows_it_gets_and_how_much_may_wait() {
    let settings = [
        "sinks.lan.type=statsd",
        "sinks.lan.options.address=x",
        "sinks.lan.kinds=[\"host\", \"process\"]",
        "sinks.lan.where.comm=nginx",
        "sinks.lan.queue_bytes=1MiB",
    ];
    let spec = |settings: &[&str]| {
        let (_, plan) = plan(&Sources::built_in().set(set(settings))).expect("a plan");
        plan.sinks[0].spec.clone()
    };
    let OutletSpec { selection, queue_bytes, .. } = spec(&settings);
    assert_eq!(queue_bytes, 1 << 20);
    assert!(selection.takes_kind("process") && !selection.takes_kind("cgroup"));
    assert!(selection.takes_label("comm", "nginx") && !selection.takes_label("comm", "sh"));
    let top =
        spec(&[&settings[..2], &["sinks.lan.top={process=20, app=50}", "sinks.lan.top_by=[\"*.bytes\"]"]].concat());
    assert_eq!(top.selection.top, [("app".to_owned(), 50), ("process".to_owned(), 20)].into());
    assert!(top.selection.ranks_by("vfs.bytes") && !top.selection.ranks_by("vfs.calls"));
    let usual = spec(&settings[..2]);
    assert_eq!(usual.queue_bytes, OutletSpec::DEFAULT_QUEUE_BYTES);
    assert_eq!((usual.selection.kinds, usual.selection.matching.len()), (None, 0));
}

#[test]
fn a_kind_of_rows_is_added_to_what_the_layers_below_say() {
    let by = |settings: &[&str], kind: &str| {
        let (loaded, plan) = plan(&Sources::built_in().set(set(settings)).by(kind)).expect("a plan");
        (["process", "file"].map(|name| probe_options(&plan, name).by), loaded.origin("probes.by"))
    };
    let origin = |kind: &str| Some(format!("--by {kind}"));
    assert_eq!(by(&[], "app"), ([["app"]; 2].map(|kinds| kinds.map(str::to_owned).to_vec()), origin("app")));
    let settings = ["probes.by=[\"cgroup\"]", "probes.file.by=[]"];
    let (kinds, from) = by(&settings, "process");
    assert_eq!(
        (&kinds[0][..], &kinds[1][..], from),
        (&set(&["cgroup", "process"])[..], &set(&["process"])[..], origin("process"))
    );
    assert_eq!(by(&settings, "cgroup").0, [["cgroup"]; 2].map(|kinds| kinds.map(str::to_owned).to_vec()), "once each");
}

#[test]
fn a_list_of_kinds_that_is_none_is_refused_where_it_was_written() {
    let sources = Sources::built_in().set(set(&["probes.by=process"])).by("app");
    let problem = refusal(&sources).to_string();
    assert!(problem.starts_with("probes.by (from --set probes.by): "), "{problem}");
}
