//! Rules for apps: the language, what fits what, and how a line that cannot be read is told.

#![expect(clippy::unwrap_used, reason = "a test's own mistake should stop the test")]

use ebpf_process_names::{Apps, Asked, Process};
use proptest::prelude::*;

fn app<'a>(apps: &'a Apps, comm: &str) -> &'a str {
    apps.app_of(&Process { comm, ..Process::default() }).unwrap_or("-")
}

/// The app that one line gives to a process.
fn of(line: &str, process: &Process<'_>) -> bool {
    Apps::read(line).unwrap().app_of(process).is_some()
}

#[test]
fn names_are_matched_as_a_whole_from_the_start_or_to_the_end() {
    let apps = Apps::read("exact: nginx\nstart: post*\nend: *imapd\nboth: md*_raid*").unwrap();
    for (comm, expected) in [
        ("nginx", "exact"),
        ("nginx2", "-"),
        ("Nginx", "-"),
        ("postmaster", "start"),
        ("post", "start"),
        ("apost", "-"),
        ("imapd", "end"),
        ("dimapd", "end"),
        ("imapd1", "-"),
        ("md127_raid1", "both"),
        ("md127_sync", "-"),
        ("", "-"),
    ] {
        assert_eq!(app(&apps, comm), expected, "{comm}");
    }
}

#[test]
fn what_stands_between_two_stars_is_sought_in_the_command_line() {
    let java =
        Process { comm: "java", cmdline: Some("/usr/bin/java -cp a org.example.Main --x"), ..Process::default() };
    assert!(of("x: *org.example.Main*", &java) && of("x: *org.*.Main*", &java) && of("x: '*a org*'", &java));
    assert!(!of("x: *org.example.Other*", &java) && !of("x: *org.example.Main", &java));
    // A thread of the kernel has none.
    for cmdline in [None, Some("")] {
        assert!(of("x: *work*", &Process { comm: "kworker/0:1", cmdline, ..Process::default() }));
    }
}

#[test]
fn the_first_rule_that_fits_gives_the_app_and_an_app_may_have_many_lines() {
    let apps = Apps::read("a: one\nb: two one\na: three\nother: *").unwrap();
    let found = ["one", "two", "three", "four"].map(|comm| app(&apps, comm));
    assert_eq!(found, ["a", "b", "a", "other"]);
    assert_eq!(apps.names().collect::<Vec<_>>(), ["a", "b", "other"]);
}

#[test]
fn names_with_blanks_quotes_or_colons_stand_in_quotes() {
    let text = "a: 'Plex Media Serv' \"it's\" 'say \"x\"'\nb: 'a:b' \"tab\there*\" '#c' 'user=x'";
    let apps = Apps::read(text).unwrap();
    for comm in ["Plex Media Serv", "it's", "say \"x\""] {
        assert_eq!(app(&apps, comm), "a", "{comm}");
    }
    for comm in ["a:b", "tab\there it is", "#c", "user=x"] {
        assert_eq!(app(&apps, comm), "b", "{comm}");
    }
    assert_eq!(app(&apps, "Plex"), "-");
}

#[test]
fn comments_blank_lines_and_any_blanks_are_no_rules() {
    let text = "\u{feff}# first\r\n\r\n  \t\n  ## x: y\r\na :\tone  two\t# three\r\nb:four\nempty:\nalso-empty: # x\n c : five";
    let apps = Apps::read(text).unwrap();
    let found = ["one", "two", "three", "#", "four", "five", "y"].map(|comm| app(&apps, comm));
    assert_eq!(found, ["a", "a", "-", "-", "b", "c", "-"]);
    assert_eq!(apps.names().count(), 3);
    assert_eq!(app(&Apps::read("").unwrap(), "one"), "-");
}

#[test]
fn a_colon_between_patterns_is_a_blank_as_it_is_for_netdata() {
    let apps = Apps::read("a: one:two").unwrap();
    assert_eq!(["one", "two", "one:two"].map(|comm| app(&apps, comm)), ["a", "a", "-"]);
}

#[test]
fn marks_for_charts_and_debugging_say_nothing() {
    let apps = Apps::read("-hidden: one -two +three -*four*\n+-loud: five '-six'").unwrap();
    let found = ["one", "two", "three", "xfourx", "five", "-six", "six"].map(|comm| app(&apps, comm));
    assert_eq!(found, ["hidden", "hidden", "hidden", "hidden", "loud", "loud", "-"]);
}

#[test]
fn lines_about_netdatas_tree_say_nothing() {
    let apps = Apps::read("managers: clear\nmanagers: init systemd *python3*bin/x*\ninterpreters: python3\na: systemd")
        .unwrap();
    assert_eq!((app(&apps, "init"), app(&apps, "systemd")), ("-", "a"));
}

#[test]
fn keys_say_what_a_pattern_is_about() {
    let process = Process {
        comm: "worker",
        exe: Some("/opt/shop/bin/worker"),
        cmdline: Some("/opt/shop/bin/worker --queue mail:high"),
        user: Some("shop"),
        cgroup: Some("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:2"),
        unit: Some("shop-worker@1.service"),
    };
    for (pattern, fits) in [
        ("user=shop", true),
        ("user=sho", false),
        ("user=s*", true),
        ("cgroup=*:cri-containerd:*", true),
        ("cgroup=/system.slice/*", true),
        ("cgroup=/system.slice", false),
        ("unit=shop-worker@*.service", true),
        ("unit=other.service", false),
        ("exe=/opt/shop/*", true),
        ("exe=worker", false),
        ("cmdline='* --queue mail:*'", true),
        ("cmdline=\"* --queue sms:*\"", false),
        ("cmdline=*mail:high", true),
        ("'user=shop'", false),
        ("unit=*", true),
    ] {
        assert_eq!(of(&format!("x: {pattern}"), &process), fits, "{pattern}");
    }
    let unknown = Process { comm: "worker", ..Process::default() };
    for key in ["user", "cgroup", "unit", "exe", "cmdline"] {
        assert!(!of(&format!("x: {key}=*"), &unknown), "{key}: nothing is known of it");
    }
}

#[test]
fn a_name_that_the_kernel_cut_off_is_known_by_the_executable_or_the_command_line() {
    let cut = Process { comm: "containerd-shim", ..Process::default() };
    let by_exe = Process { exe: Some("/usr/bin/containerd-shim-runc-v2"), ..cut };
    let by_line = Process { cmdline: Some("/usr/bin/containerd-shim-runc-v2 -id x"), ..cut };
    for pattern in ["containerd-shim-runc-v2", "containerd-shim-r*", "*runc-v2", "containerd-shim"] {
        assert!(of(&format!("x: {pattern}"), &by_exe) && of(&format!("x: {pattern}"), &by_line), "{pattern}");
    }
    assert!(!of("x: containerd-shim-runc-v2", &cut) && of("x: containerd-shim", &cut));
    let other = Process { exe: Some("/usr/bin/something-else-entirely"), ..cut };
    assert!(!of("x: something-else-entirely", &other), "another program's");
    let short = Process { comm: "sh", cmdline: Some("shop"), ..Process::default() };
    assert!(!of("x: shop", &short), "not cut off");
    assert!(of("x: sd-pam", &Process { comm: "(sd-pam)", ..Process::default() }));
}

#[test]
fn rules_tell_what_has_to_be_known() {
    let asked = |text| Apps::read(text).unwrap().asked();
    assert_eq!(asked("a: one two* *three *"), Asked::default());
    assert_eq!(asked("a: *x*"), Asked { cmdline: true, ..Asked::default() });
    assert_eq!(asked("a: kactivitymanagerd"), Asked { cmdline: true, ..Asked::default() });
    assert_eq!(asked("a: user=x exe=y"), Asked { user: true, exe: true, ..Asked::default() });
    assert_eq!(asked("a: cgroup=x unit=y"), Asked { cgroup: true, unit: true, ..Asked::default() });
}

#[test]
fn a_line_that_cannot_be_read_is_told_by_its_number_with_what_is_wrong_and_what_is_right() {
    for (line, problem) in [
        ("nginx", "there is no `:` in it; a line is `name: pattern pattern ...`"),
        (": a", "there is no name in front of the `:`; a line is `name: pattern pattern ...`"),
        ("-: a", "there is no name in front of the `:`; a line is `name: pattern pattern ...`"),
        ("my web: a", "the name `my web` has a blank in it; a name has none: `my-web`"),
        ("'my web': a", "the name `my web` has a blank in it; a name has none: `my-web`"),
        ("'web' a", "there is no `:` after the name `web`; a line is `name: pattern pattern ...`"),
        ("a: 'b c", "the quote ' is never closed; write 'like this'"),
        ("a: user=\"b", "the quote \" is never closed; write \"like this\""),
        (
            "a: 'b'*",
            "`b` goes on behind its quotes; what belongs to it, a `*` too, stands inside, and a blank after it",
        ),
        ("a: b ''", "there is an empty pattern, which fits nothing; leave it out, or write `*` for whatever"),
        ("a: user= b", "there is an empty pattern, which fits nothing; leave it out, or write `*` for whatever"),
        ("a: -", "there is an empty pattern, which fits nothing; leave it out, or write `*` for whatever"),
        (
            "a: usr=b",
            "there is no key `usr`; the keys are `user`, `cgroup`, `unit`, `exe`, `cmdline`, \
             and a name that has a `=` in it stands in quotes",
        ),
    ] {
        let error = Apps::read(&format!("# a comment\nfirst: b\n{line}\nlast: c")).unwrap_err();
        assert_eq!(error.to_string(), format!("line 3: {problem}"), "{line}");
        assert_eq!(error.line(), 3);
    }
    let long = format!("{}\u{1b} x: y", "a".repeat(55));
    let shown = Apps::read(&long).unwrap_err().to_string();
    assert!(shown.contains("aaa? x`") && !shown.contains('\u{1b}'), "{shown}");
    assert!(Apps::read(&format!("{} x: y", "é".repeat(10_000))).unwrap_err().to_string().len() < 500);
}

proptest! {
    #[test]
    fn whatever_the_text_is_nothing_panics(text in any::<String>(), comm in any::<String>()) {
        if let Ok(apps) = Apps::read(&text) {
            let process = Process { comm: &comm, cmdline: Some(&text), exe: Some(&comm), ..Process::default() };
            apps.app_of(&process);
        }
    }

    #[test]
    fn whatever_a_line_has_it_is_read_or_told_by_its_number(line in "[-+a-c:=*#'\" é\t]{0,40}", comm in "[a-c*é]{0,20}") {
        match Apps::read(&format!("x: y\n{line}")) {
            Ok(apps) => {
                let app = apps.app_of(&Process { comm: &comm, ..Process::default() });
                prop_assert!(app.is_none_or(|app| !app.is_empty() && !app.contains(char::is_whitespace)));
            }
            Err(error) => prop_assert_eq!(error.line(), 2),
        }
    }

    #[test]
    fn any_name_in_quotes_fits_itself_and_no_other(name in "[^*'\\n\\r]{1,20}", other in "[a-z]{1,20}") {
        let apps = Apps::read(&format!("x: '{name}'")).unwrap();
        prop_assert_eq!(app(&apps, &name), "x");
        prop_assert!(app(&apps, &other) == "-" || other == name);
    }
}
