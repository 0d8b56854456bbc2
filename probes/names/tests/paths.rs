//! Paths of control groups as they are met in the wild, each with what it tells.

use ebpf_process_names::parts;
use proptest::prelude::*;

const ID: &str = "83fb6a29d8e9a4b7d6a0b5c2c1f7e3d40123456789abcdef0123456789abcdef";
const OTHER: &str = "0011223344556677889900aabbccddeeff00112233445566778899aabbccddee";
const UID: &str = "8dbc5577-d0e2-4706-8787-57d52c03ddf2";
const STATIC: &str = "f96b2e0ee7a7a2b1c23c8d0b9e2d41aa";

/// What a path tells: unit, container, pod; empty for none. `ID`, `ID2`, `UID`, `U_ID` and `STATIC` in braces stand for
/// the texts above.
type Row = (&'static str, &'static str, [&'static str; 3]);

const ROWS: &[Row] = &[
    // systemd
    ("service", "/system.slice/cron.service", ["cron.service", "", ""]),
    (
        "service of a template, in a slice of its own",
        "/system.slice/system-postgresql.slice/postgresql@9.4-main.service",
        ["postgresql@9.4-main.service", "", ""],
    ),
    ("slice with an escape", r"/system.slice/system-serial\x2dgetty.slice", ["system-serial-getty.slice", "", ""]),
    (
        "service below a slice with an escape",
        r"/system.slice/system-serial\x2dgetty.slice/serial-getty@ttyS0.service",
        ["serial-getty@ttyS0.service", "", ""],
    ),
    ("slice for what runs on a node", "/runtime.slice/kubelet.service", ["kubelet.service", "", ""]),
    ("slice that is reserved", "/reserved.slice/sshd.service", ["sshd.service", "", ""]),
    ("slice kube", "/kube.slice/containerd.service", ["containerd.service", "", ""]),
    ("slice azure", "/azure.slice/walinuxagent.service", ["walinuxagent.service", "", ""]),
    ("slice podruntime", "/podruntime.slice/containerd.service", ["containerd.service", "", ""]),
    (
        "app of a user",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-123.scope",
        ["app-firefox-123.scope", "", ""],
    ),
    ("session of a user", "/user.slice/user-1000.slice/session-3.scope", ["session-3.scope", "", ""]),
    (
        "terminal of a user",
        "/user.slice/user-1000.slice/user@1000.service/tmux-spawn-1b2c.scope",
        ["tmux-spawn-1b2c.scope", "", ""],
    ),
    (
        "app that starts with the session",
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-nm-applet@autostart.service",
        ["app-nm-applet@autostart.service", "", ""],
    ),
    ("the manager of a user", "/user.slice/user-0.slice/user@0.service/init.scope", ["init.scope", "", ""]),
    ("transient scope", "/system.slice/run-r1b2c3d4e.scope", ["run-r1b2c3d4e.scope", "", ""]),
    ("slice alone", "/user.slice/user-1000.slice", ["user-1000.slice", "", ""]),
    ("group below a service", "/system.slice/web.service/workers/1", ["web.service", "", ""]),
    ("first process", "/init.scope", ["init.scope", "", ""]),
    // Docker, containerd, nerdctl
    ("Docker by cgroupfs", "/docker/{ID}", ["", "{ID}", ""]),
    ("Docker by systemd", "/system.slice/docker-{ID}.scope", ["", "{ID}", ""]),
    ("group in a container of Docker by cgroupfs", "/docker/{ID}/ns", ["", "{ID}", ""]),
    ("systemd in a container of Docker", "/system.slice/docker-{ID}.scope/init.scope", ["init.scope", "{ID}", ""]),
    ("service in a container of Docker", "/docker/{ID}/system.slice/nginx.service", ["nginx.service", "{ID}", ""]),
    ("bare id", "/{ID}", ["", "{ID}", ""]),
    ("bare id of a runner", "/actions_job/{ID}", ["", "{ID}", ""]),
    ("BuildKit", "/docker/buildkit/xj1ljqkkhgcvjqh2bwkvcv3jd", ["", "", ""]),
    ("containerd by systemd", "/system.slice/cri-containerd-{ID}.scope", ["", "{ID}", ""]),
    ("nerdctl", "/system.slice/nerdctl-{ID}.scope", ["", "{ID}", ""]),
    // Kubernetes by systemd
    (
        "pod of best effort, containerd",
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{U_ID}.slice/cri-containerd-{ID}.scope",
        ["", "{ID}", "{UID}"],
    ),
    (
        "pod that may burst, CRI-O",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{U_ID}.slice/crio-{ID}.scope",
        ["", "{ID}", "{UID}"],
    ),
    (
        "pod with guarantees, Docker",
        "/kubepods.slice/kubepods-pod{U_ID}.slice/docker-{ID}.scope",
        ["", "{ID}", "{UID}"],
    ),
    (
        "static pod by systemd",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{STATIC}.slice/crio-{ID}.scope",
        ["", "{ID}", "{STATIC}"],
    ),
    (
        "the pod's own group by systemd",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{U_ID}.slice",
        ["", "", "{UID}"],
    ),
    (
        "one level deeper",
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{U_ID}.slice/crio-{ID}.scope/container",
        ["", "{ID}", "{UID}"],
    ),
    ("without .scope", "/kubepods.slice/kubepods-pod{U_ID}.slice/crio-{ID}", ["", "{ID}", "{UID}"]),
    (
        "systemd in a pod",
        "/kubepods.slice/kubepods-pod{U_ID}.slice/crio-{ID}.scope/system.slice/dbus.service",
        ["dbus.service", "{ID}", "{UID}"],
    ),
    // Kubernetes by cgroupfs
    ("pod with guarantees by cgroupfs", "/kubepods/pod{UID}/{ID}", ["", "{ID}", "{UID}"]),
    ("pod that may burst by cgroupfs", "/kubepods/burstable/pod{UID}/{ID}", ["", "{ID}", "{UID}"]),
    ("pod of best effort by cgroupfs", "/kubepods/besteffort/pod{UID}/{ID}", ["", "{ID}", "{UID}"]),
    ("CRI-O by cgroupfs", "/kubepods/besteffort/pod{UID}/crio-{ID}", ["", "{ID}", "{UID}"]),
    ("static pod by cgroupfs", "/kubepods/burstable/pod{STATIC}/{ID}", ["", "{ID}", "{STATIC}"]),
    ("group in a pod's container", "/kubepods/burstable/pod{UID}/{ID}/kube-proxy", ["", "{ID}", "{UID}"]),
    ("the pod's own group by cgroupfs", "/kubepods/burstable/pod{UID}", ["", "", "{UID}"]),
    // A path for systemd as the name of a folder
    (
        "colons",
        "/system.slice/containerd.service/kubepods-burstable-pod{U_ID}.slice:cri-containerd:{ID}",
        ["containerd.service", "{ID}", "{UID}"],
    ),
    (
        "colons in slice podruntime",
        "/podruntime.slice/containerd.service/kubepods-besteffort-pod{U_ID}.slice:cri-containerd:{ID}",
        ["containerd.service", "{ID}", "{UID}"],
    ),
    ("colons and no pod", "/system.slice:docker:{ID}", ["", "{ID}", ""]),
    ("colons and a name that is no id", "/system.slice:lxcri:web", ["", "", ""]),
    // Nodes that are containers
    (
        "kind by systemd",
        "/docker/{ID2}/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
         kubelet-kubepods-besteffort-pod{U_ID}.slice/cri-containerd-{ID}.scope",
        ["", "{ID}", "{UID}"],
    ),
    (
        "minikube by cgroupfs",
        "/system.slice/docker-{ID2}.scope/kubelet/kubepods/burstable/pod{STATIC}/{ID}",
        ["", "{ID}", "{STATIC}"],
    ),
    (
        "kubelet on a node that is a container",
        "/docker/{ID2}/kubelet.slice/kubelet.service",
        ["kubelet.service", "{ID2}", ""],
    ),
    ("a pod's own group on a node that is a container", "/docker/{ID2}/kubepods/pod{UID}", ["", "", "{UID}"]),
    ("Docker in a pod", "/kubepods/pod{UID}/{ID2}/docker/{ID}", ["", "{ID}", "{UID}"]),
    // From inside of a name space
    ("beside us", "/../cri-containerd-{ID}.scope", ["", "{ID}", ""]),
    ("in another pod", "/../../pod{STATIC}/{ID}", ["", "{ID}", "{STATIC}"]),
    // Podman
    ("Podman of root", "/machine.slice/libpod-{ID}.scope/container", ["", "{ID}", ""]),
    (
        "Podman of a user",
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        ["user@1000.service", "{ID}", ""],
    ),
    ("Podman by cgroupfs", "/libpod_parent/libpod-{ID}", ["", "{ID}", ""]),
    ("Podman in a service", "/system.slice/web.service/libpod-payload-{ID}", ["web.service", "{ID}", ""]),
    // What watches containers
    ("conmon of Podman", "/machine.slice/libpod-conmon-{ID}.scope", ["libpod-conmon-{ID}.scope", "", ""]),
    (
        "conmon of CRI-O, in a pod",
        "/kubepods.slice/kubepods-pod{U_ID}.slice/crio-conmon-{ID}.scope",
        ["crio-conmon-{ID}.scope", "", "{UID}"],
    ),
    ("conmon by cgroupfs", "/libpod_parent/conmon", ["", "", ""]),
    ("monitor of LXC", "/lxc.monitor.web", ["", "", ""]),
    // LXC, LXD, Proxmox
    ("LXC", "/lxc/web", ["", "web", ""]),
    ("payload of LXC", "/lxc.payload.web", ["", "web", ""]),
    ("service in LXC", "/lxc.payload.web/system.slice/nginx.service", ["nginx.service", "web", ""]),
    ("container of Proxmox", "/lxc/102/ns/system.slice/cron.service", ["cron.service", "102", ""]),
    ("machine of Proxmox", "/qemu.slice/101.scope", ["", "101", ""]),
    // nspawn, libvirt
    ("nspawn", "/machine.slice/web.service", ["web.service", "web", ""]),
    (
        "nspawn by its template",
        "/machine.slice/systemd-nspawn@web.service/payload/system.slice/cron.service",
        ["cron.service", "web", ""],
    ),
    ("registered machine", "/machine.slice/machine-web.scope/payload", ["", "web", ""]),
    ("libvirt", r"/machine.slice/machine-qemu\x2d1\x2dweb.scope", ["", "web", ""]),
    (
        "libvirt, name with a dash",
        r"/machine.slice/machine-qemu\x2d1\x2dmy\x2dweb.scope/emulator",
        ["", r"my\x2dweb", ""],
    ),
    ("libvirt with LXC", r"/machine.slice/machine-lxc\x2d969\x2dweb.scope/libvirt_init.scope", ["", "web", ""]),
    ("libvirt by cgroupfs", "/machine/web.libvirt-qemu", ["", "web", ""]),
    ("libvirt with LXC by cgroupfs", "machine/web.libvirt-lxc/x", ["", "web", ""]),
    // ECS
    ("ECS", "/ecs/cluster/5a0d5ceddf6c44c1928d367a815d890f/{ID}", ["", "{ID}", ""]),
    ("Fargate", "/ecs/55091c13-b8cf-4801-b527-f4601742204d/{ID}", ["", "{ID}", ""]),
    // Talos
    ("kubelet of Talos", "/podruntime/kubelet", ["", "", ""]),
    ("dashboard of Talos", "/system/dashboard", ["", "", ""]),
    ("init of Talos", "/init", ["", "", ""]),
    // What the kernel adds
    ("group that was removed", "/system.slice/cron.service (deleted)", ["cron.service", "", ""]),
    ("container that was removed", "/docker/{ID} (deleted)", ["", "{ID}", ""]),
];

fn filled(text: &str) -> String {
    let underscores = UID.replace('-', "_");
    let values = [("{ID}", ID), ("{ID2}", OTHER), ("{UID}", UID), ("{U_ID}", &underscores), ("{STATIC}", STATIC)];
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

#[test]
fn each_path_tells_whose_it_is() {
    let mut wrong = Vec::new();
    for (name, path, expected) in ROWS {
        let path = filled(path);
        let found = parts(&path);
        let told = [found.unit.as_deref(), found.container, found.pod.as_deref()].map(Option::unwrap_or_default);
        let expected = expected.map(filled);
        if told != expected {
            wrong.push(format!("{name}: {path}\n  told {told:?}\n  not  {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_two_rows_have_a_name_or_a_path() {
    for (at, (name, path, _)) in ROWS.iter().enumerate() {
        assert!(ROWS[..at].iter().all(|(other, before, _)| other != name && before != path), "{name}");
    }
}

#[test]
fn hostile_paths_tell_nothing_that_is_not_there() {
    let id65 = format!("/docker/{ID}0");
    let no_hex = format!("/docker/{}", ID.replace('8', "g"));
    let upper = format!("/docker/{}", ID.to_uppercase());
    let newline = format!("/docker/{ID}\n");
    let nul = format!("/docker/\0{ID}");
    let long = "a".repeat(100_000);
    let many = "/a".repeat(50_000);
    let conmon = format!("/docker-conmon-{ID}.scope");
    let glued = format!("/docker{ID}.scope");
    let mut paths =
        vec!["", "/", "//", ".", "..", "/..", "/../..", "/./", " (deleted)", "\0", "\n", "é/é", ":", "::", "a:b:c"];
    paths.extend([
        ".service",
        "/.scope",
        "/pod",
        "/pod-",
        "/kubepods-pod.slice",
        "/lxc/",
        "/lxc.payload.",
        "/.libvirt-qemu",
    ]);
    paths.extend([
        "/machine.slice/machine-.scope",
        "/a\n.service",
        "/a\0.service",
        "/a b.service",
        "/-pod.slice",
        "/\\x",
    ]);
    paths.extend([&id65, &no_hex, &upper, &newline, &nul, &long, &many, &conmon, &glued].map(String::as_str));
    for path in paths {
        let found = parts(path);
        let shown: String = path.chars().take(80).collect();
        assert_eq!((found.container, found.pod), (None, None), "{shown:?}");
        // These are units, whoever they were made for.
        let units = ["docker-conmon-", "docker83fb", "machine-.scope", "kubepods-pod.slice", "-pod.slice"];
        assert_eq!(found.unit.is_some(), units.iter().any(|unit| path.contains(unit) && path.len() < 100), "{shown:?}");
    }
    let deep = format!("/docker/{ID}{many}");
    assert_eq!(parts(&deep).container, Some(ID));
}

fn component() -> impl Strategy<Value = String> {
    let known: Vec<String> = ROWS.iter().flat_map(|(_, path, _)| path.split('/').map(filled)).collect();
    prop_oneof![3 => proptest::sample::select(known), 1 => "\\PC{0,70}", 1 => "[a-f0-9]{63,65}", 1 => any::<String>()]
}

proptest! {
    #[test]
    fn whatever_the_text_is_nothing_panics_and_what_is_told_stands_in_it(path in any::<String>()) {
        let found = parts(&path);
        if let Some(container) = found.container {
            prop_assert!(path.contains(container));
        }
        if let Some(unit) = found.unit {
            prop_assert!(!unit.chars().any(|c| c.is_control() || c == '/'), "{unit:?}");
        }
    }

    #[test]
    fn whatever_components_meet_each_part_has_its_form(components in proptest::collection::vec(component(), 0..12)) {
        let path = components.join("/");
        let found = parts(&path);
        if let Some(container) = found.container {
            prop_assert!(!container.is_empty() && !container.contains('/') && path.contains(container));
        }
        if let Some(pod) = found.pod {
            prop_assert!(matches!(pod.len(), 32 | 36));
            prop_assert!(pod.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f' | '-')), "{pod:?}");
        }
        if let Some(unit) = found.unit {
            prop_assert!(unit.len() <= 255 && !unit.chars().any(char::is_control), "{unit:?}");
        }
    }
}
