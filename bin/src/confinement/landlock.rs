//! Which paths the agent reaches at all, whatever rights it has: by Landlock (Linux 5.13), as far as the kernel knows it.
//!
//! A rule holds for a file or a directory and all below it, and not for another one that takes its place later. So what
//! the configuration names is opened by the directory above it. The network is left alone: a receiver is configured by
//! name and may be anywhere.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use ebpf_process_config::Plan;
use ebpf_process_core::{Access, identity};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use rustix::thread::CapabilitySet;
use tracing::warn;

use crate::confinement::user;

/// The newest rights that are asked for; a kernel that knows fewer is asked for those.
const NEWEST: ABI = ABI::V6;

/// What is read by the C library (names of hosts and users), by TLS (certificates) and by the probes.
const READ: [&str; 14] = [
    "/proc",
    "/sys",
    "/etc",
    "/usr",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/run",
    "/dev/random",
    "/dev/urandom",
    // Where distributions put what /etc and /usr link to.
    "/nix/store",
    "/gnu/store",
    "/var/lib/ca-certificates",
];

/// File systems that probes read, wherever they are mounted.
const READ_TYPES: [&str; 6] = ["proc", "sysfs", "cgroup", "cgroup2", "tracefs", "debugfs"];

/// Which certificates are trusted, where the environment says so.
const CERTIFICATES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Where a probe makes an empty file and removes it, to see whether its hooks fire.
const SCRATCH: &str = "/dev/shm";

/// Where spools and files of sinks usually are, in a directory of the program's name. They are open whether or not the plan
/// names them, so that a reload may.
const USUAL: [&str; 3] = ["/var/lib", "/var/log", "/var/spool"];

/// The rights on everything, as the kernel knows them; put into force by [`enforce`](Self::enforce).
pub(crate) struct Reach {
    rules: RulesetCreated,
    open: Open,
}

/// The paths that stay open once the rules are in force, for good.
#[derive(Clone, Debug, Default)]
pub(crate) struct Open {
    read: Vec<PathBuf>,
    written: Vec<PathBuf>,
}

impl Reach {
    /// What this plan needs. Paths are opened now, with the rights of the start.
    ///
    /// The error says why there is no such thing here.
    pub(crate) fn of(plan: &Plan, elevated: bool) -> Result<Self, String> {
        if let Some(reason) = in_the_way(plan) {
            return Err(reason);
        }
        let rules = rules(plan, elevated);
        let made = || {
            let all = Ruleset::default().set_compatibility(CompatLevel::BestEffort);
            let all = all.handle_access(AccessFs::from_all(NEWEST))?.scope(Scope::from_all(NEWEST))?;
            rules.iter().try_fold(all.create()?, |made, (path, rights)| {
                // What is not there needs no rule.
                let Ok(opened) = PathFd::new(path) else { return Ok(made) };
                made.add_rule(PathBeneath::new(opened, *rights))
            })
        };
        let open = Open::of(&rules);
        made().map(|rules| Self { rules, open }).map_err(|error: landlock::RulesetError| error.to_string())
    }

    /// Closes everything else to the calling thread and to those that it starts, for good, and says what stays open.
    pub(crate) fn enforce(self) -> Result<Open, String> {
        let status = self.rules.restrict_self().map_err(|error| error.to_string())?;
        match status.ruleset {
            RulesetStatus::NotEnforced => Err(missing(status.landlock)),
            _ => Ok(self.open),
        }
    }
}

impl Open {
    fn of(rules: &[(PathBuf, BitFlags<AccessFs>)]) -> Self {
        let with = |needed: BitFlags<AccessFs>| {
            let paths = rules.iter().filter(|(_, rights)| rights.contains(needed));
            // What is not there got no rule.
            paths.filter_map(|(path, _)| fs::canonicalize(path).ok()).collect()
        };
        Self { read: with(AccessFs::ReadDir.into()), written: with(AccessFs::MakeReg | AccessFs::ReadDir) }
    }

    /// Why an agent for which only these are open cannot take over this plan: a sink has a directory elsewhere. All else that
    /// sinks open is opened for them by the broker, a file at a time.
    pub(crate) fn refuses(&self, plan: &Plan) -> Option<String> {
        let directories = plan.sinks.iter().flat_map(|sink| {
            let opened = sink.plugin.opens(&sink.options).into_iter();
            opened.map(|access| (&sink.spec.name, access.of_instance(plan.instance.as_deref())))
        });
        directories.into_iter().find_map(|(sink, access)| match access {
            Access::Directory(path) if !is_below(&path, &self.written) => Some(format!(
                "sinks.{sink} uses the directory {}, which has been closed to this agent since its start (Landlock); restart \
                 it",
                path.display()
            )),
            _ => None,
        })
    }

    /// What the probes of a plan do without, since it was closed at the start.
    pub(crate) fn misses(&self, plan: &Plan) -> Vec<String> {
        let opened = plan.probes.iter().flat_map(|probe| {
            let opened = probe.plugin.opens(&probe.options).into_iter();
            opened.map(|access| (&probe.name, access))
        });
        let missed = opened.filter_map(|(probe, access)| match access {
            Access::Read(path) if !is_below(&path, &self.read) => {
                Some((probe, format!("what is in {}", path.display())))
            }
            Access::Executables => Some((probe, "which programs other users' processes run".to_owned())),
            _ => None,
        });
        let told = missed.map(|(probe, what)| {
            format!("probe {probe} goes without {what}, closed to this agent since its start (Landlock): restart it to have that")
        });
        told.collect()
    }
}

/// Whether a path is in one of these directories, or is to be made there.
fn is_below(path: &Path, directories: &[PathBuf]) -> bool {
    let whole = path.ancestors().find_map(|above| {
        let below = path.strip_prefix(above).ok()?;
        fs::canonicalize(above).ok().map(|above| above.join(below))
    });
    let path = whole.as_deref().unwrap_or(path);
    directories.iter().any(|directory| path.starts_with(directory))
}

/// Whether it will be used by an agent of this plan, on this kernel; the error says why not. Tried out by a thread.
pub(crate) fn applies(plan: &Plan) -> Result<(), String> {
    if let Some(reason) = in_the_way(plan) {
        return Err(reason);
    }
    let tried = user::acting_as(None, CapabilitySet::empty(), || {
        let nothing = Ruleset::default().handle_access(AccessFs::Execute).and_then(Ruleset::create);
        let made = nothing.map(|rules| Reach { rules, open: Open::default() }).map_err(|error| error.to_string());
        made.and_then(Reach::enforce).map(drop)
    });
    tried.unwrap_or_else(|| Err("no thread can be had to try it".to_owned()))
}

/// What of the plan is impossible with it: whoever is under Landlock may not look into processes that are not, whatever
/// capability it has.
fn in_the_way(plan: &Plan) -> Option<String> {
    let looks_into_others =
        plan.probes.iter().find(|probe| probe.plugin.opens(&probe.options).contains(&Access::Executables))?;
    let name = &looks_into_others.name;
    Some(format!("probes.{name} has to see which programs other processes run, which it forbids"))
}

fn missing(status: LandlockStatus) -> String {
    match status {
        LandlockStatus::NotImplemented => "this kernel has none (Linux 5.13, CONFIG_SECURITY_LANDLOCK)",
        LandlockStatus::NotEnabled => "it is not switched on (boot parameter lsm=...,landlock)",
        LandlockStatus::Available { .. } => "the kernel does not enforce it",
    }
    .to_owned()
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// Making, writing and removing files, directories, sockets and pipes. Not programs, devices and links.
fn writing() -> BitFlags<AccessFs> {
    let kept_out =
        AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar | AccessFs::MakeSym | AccessFs::IoctlDev;
    AccessFs::from_all(NEWEST) & !kept_out
}

/// Each path with what may be done below it.
fn rules(plan: &Plan, elevated: bool) -> Vec<(PathBuf, BitFlags<AccessFs>)> {
    let mut rules: Vec<(PathBuf, BitFlags<AccessFs>)> = READ.iter().map(|path| (path.into(), reading())).collect();
    rules.push(("/dev/null".into(), AccessFs::ReadFile | AccessFs::WriteFile));
    rules.push((SCRATCH.into(), AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::RemoveFile));
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    rules.extend(mounted(&mounts).map(|path| (path, reading())));
    if !elevated {
        let named = CERTIFICATES.iter().filter_map(std::env::var_os);
        rules.extend(named.map(|path| (path.into(), reading())));
    }
    let of_probes = plan.probes.iter().flat_map(|probe| probe.plugin.opens(&probe.options));
    let of_sinks = plan.sinks.iter().flat_map(|sink| sink.plugin.opens(&sink.options));
    for access in of_probes.chain(of_sinks) {
        let rights = match access {
            Access::Read(_) => reading(),
            Access::Write(_) | Access::Directory(_) => reading() | writing(),
            // To connect to a socket takes no right of the file system's here.
            _ => continue,
        };
        let Some(path) = access.path() else { continue };
        // A directory that is only read is there for long: what is beside it is nobody's business here.
        let stays = matches!(access, Access::Read(_)) && path.is_dir();
        let opened = if stays { vec![path.to_owned()] } else { above(path) };
        rules.extend(opened.into_iter().map(|path| (path, rights)));
    }
    if !elevated {
        rules.extend(USUAL.iter().map(|path| (Path::new(path).join(identity().name()), reading() | writing())));
    }
    // The locks, and the socket of the status.
    let own = plan.status.as_deref().and_then(Path::parent);
    for directory in own.into_iter().chain([identity().runtime_directory()]) {
        rules.push((directory.to_owned(), reading() | writing()));
        rules.extend(above(directory).into_iter().map(|path| (path, AccessFs::RemoveDir.into())));
    }
    rules
}

/// The directory in which a path is, or will be, and the one of what it links to. A device is nobody's to make anew: it is
/// opened alone, and never all of `/dev`.
fn above(path: &Path) -> Vec<PathBuf> {
    let is_device = |path: &Path| {
        fs::metadata(path).is_ok_and(|file| file.file_type().is_char_device() || file.file_type().is_block_device())
    };
    let is_missing = |path: &Path| matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound);
    let mut all: Vec<PathBuf> = Vec::new();
    for path in std::iter::once(path.to_owned()).chain(fs::canonicalize(path)) {
        let opened = if is_device(&path) {
            &*path
        } else {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            parent.ancestors().find(|path| !is_missing(path)).unwrap_or(parent)
        };
        if opened != Path::new("/dev") && !all.iter().any(|known| known == opened) {
            if opened == Path::new("/") {
                let is_below = path.parent().is_some_and(|parent| parent == opened);
                let why = if is_below { "is directly below /" } else { "has no directory yet but /" };
                warn!("{} {why}: Landlock opens all of / for it, and only its owners' rights count", path.display());
            }
            all.push(opened.to_owned());
        }
    }
    all
}

/// Where the file systems are mounted that probes read. One whose name has spaces in it is left out.
fn mounted(mounts: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        (READ_TYPES.contains(&kind) && !path.contains('\\')).then(|| path.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_above_is_opened_and_the_one_above_what_a_link_names() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = fs::canonicalize(folder.path()).expect("a folder");
        let [a, b] = ["a", "b"].map(|name| folder.join(name));
        for directory in [&a, &b] {
            fs::create_dir_all(directory).expect("a directory");
        }
        fs::write(b.join("file"), "").expect("a file");
        std::os::unix::fs::symlink(b.join("file"), a.join("link")).expect("a link");
        assert_eq!(above(&b.join("file")), [&*b]);
        assert_eq!(above(&b.join("later")), [&*b]);
        assert_eq!(above(&b.join("no/such/directory/file")), [&*b]);
        assert_eq!(above(&a.join("link")), [&*a, &*b]);
        assert_eq!(above(Path::new("relative")), [Path::new(".")]);
        assert_eq!(above(Path::new("/dev/null")), [Path::new("/dev/null")]);
        assert_eq!(above(Path::new("/dev/no-such-device")), [] as [&Path; 0]);
    }

    #[test]
    fn a_directory_is_open_below_one_that_was_opened_wherever_links_lead() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = fs::canonicalize(folder.path()).expect("a folder");
        let [open, closed] = ["open", "closed"].map(|name| folder.join(name));
        for directory in [&open, &closed] {
            fs::create_dir(directory).expect("a directory");
        }
        std::os::unix::fs::symlink(&closed, open.join("out")).expect("a link");
        std::os::unix::fs::symlink(&open, closed.join("in")).expect("a link");
        for (path, is_open) in [
            (open.clone(), true),
            (open.join("no/such/spool"), true),
            (closed.join("in/spool"), true),
            (closed.join("spool"), false),
            (open.join("out/spool"), false),
            (folder.join("opener"), false),
            (PathBuf::from("/no/such/directory"), false),
        ] {
            assert_eq!(is_below(&path, std::slice::from_ref(&open)), is_open, "{path:?}");
        }
        let rules =
            [(open.clone(), reading()), (closed.clone(), reading() | writing()), (folder.join("no"), writing())];
        let known = Open::of(&rules);
        assert_eq!((known.read, known.written), (vec![open, closed.clone()], vec![closed]));
    }

    #[test]
    fn what_a_plan_cannot_have_where_nothing_is_open_is_refused_or_told() {
        let registry = crate::registry();
        let plan = |settings: &[&str]| {
            let settings = settings.iter().map(|setting| (*setting).to_owned());
            let loaded = ebpf_process_config::Sources::built_in().set(settings).load(&registry).expect("right");
            Plan::new(&loaded, &registry).expect("a plan")
        };
        let nothing = Open::default();
        let without = plan(&["sinks.a.type=json", "sinks.a.options.path=\"/a/file\""]);
        assert_eq!((nothing.refuses(&without), nothing.misses(&without)), (None, Vec::new()));
        let url = ["sinks.a.type=influx", "sinks.a.options.url=\"http://127.0.0.1:9\"", "sinks.a.options.database=x"];
        let spool = plan(&[&url[..], &["sinks.a.options.delivery.spool=\"/a/spool\"", "instance=one"]].concat());
        let refused = nothing.refuses(&spool).expect("it is not open");
        assert!(refused.starts_with("sinks.a uses the directory /a/spool-one, which has been closed"), "{refused}");
        let open = Open { written: vec!["/a".into()], ..Open::default() };
        assert_eq!(open.refuses(&spool), None);
        let labels = plan(&["probes.by=[\"process\"]", "probes.process_labels=[\"exe\"]"]);
        let missed = open.misses(&labels).join("; ");
        assert!(missed.contains("goes without which programs other users' processes run"), "{missed}");
    }

    #[test]
    fn what_probes_read_is_found_where_it_is_mounted() {
        let mounts = "proc /proc proc rw 0 0\nnone /a\\040b cgroup2 rw 0 0\n\ncgroup2 /host/cgroup cgroup2 ro 0 0\n\
                      /dev/sda / ext4 rw 0 0\nhalf\n";
        assert_eq!(mounted(mounts).collect::<Vec<_>>(), [Path::new("/proc"), Path::new("/host/cgroup")]);
    }

    #[test]
    fn what_is_written_is_no_program_no_device_and_no_link() {
        for right in [AccessFs::Execute, AccessFs::MakeBlock, AccessFs::MakeChar, AccessFs::MakeSym] {
            assert!(!writing().contains(right) && !reading().contains(right), "{right:?}");
        }
        assert!(
            writing().contains(AccessFs::WriteFile | AccessFs::MakeReg | AccessFs::RemoveFile | AccessFs::Truncate)
        );
    }
}
