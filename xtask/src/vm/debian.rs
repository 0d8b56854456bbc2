//! Debian packages fetched and unpacked into a cache: the system's own package state stays untouched.
//!
//! The mirror is the one this machine's apt is configured with; only the suite is ours to choose.

use crate::{Outcome, output, say};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Package lists older than this are fetched anew.
const LISTS_LAST: Duration = Duration::from_hours(12);
/// Emulators before 10 make kernel 6.12 die early in one boot of ten.
const EMULATOR_SUITE: &str = "bookworm-backports";
const EMULATOR_PACKAGES: &[&str] = &["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];
/// The newest there is: servers that take OpenTelemetry's protocol. Each package has a program of its name.
const RECEIVERS_SUITE: &str = "sid";
const RECEIVERS: &[&str] = &["prometheus", "victoria-metrics"];
/// A service manager that knows each line of the shipped unit, with all that it needs: its root directory is its own.
const SYSTEMD_SUITE: &str = "trixie";
/// Where the libraries come from that the emulator needs and this machine lacks.
const EMULATOR_LIBRARIES: &[&str] = &["bookworm", "bookworm-security"];
/// Rust 1.85. Apart from what else is of that suite: programs that this compiler starts find its libraries first.
const RUST_SUITE: &str = "bookworm";
const RUST_FOLDER: &str = "bookworm-rust";
const BUSYBOX_SUITE: &str = "bookworm";
/// One perf serves every kernel.
const PERF_SUITE: &str = "bookworm";
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

/// The cache and the mirrors.
pub(super) struct Debian {
    cache: PathBuf,
    mirrors: Vec<String>,
}

impl Debian {
    /// Asks apt for its mirrors.
    pub(super) fn new(cache: PathBuf) -> Outcome<Self> {
        let format = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"];
        let mirrors = output(Command::new("apt-get").args(format))
            .map_err(|e| format!("packages of Debian need apt-get and a mirror: {e}"))?;
        Ok(Self { cache, mirrors: mirrors.lines().map(|uri| uri.trim_end_matches('/').to_owned()).collect() })
    }

    /// The emulator's root folder: program in `usr/bin`, firmware in `usr/share`, libraries in `usr/lib`.
    pub(super) fn emulator(&self) -> Outcome<PathBuf> {
        let suite = self.suite(EMULATOR_SUITE, EMULATOR_LIBRARIES)?;
        if !suite.root().join("usr/bin/qemu-system-x86_64").is_file() {
            suite.unpack_with_dependencies(EMULATOR_PACKAGES, INSTALLED_HERE)?;
        }
        Ok(suite.root())
    }

    /// The root folder of servers that this machine's own suite does not have, or not new enough.
    pub(super) fn receivers(&self) -> Outcome<PathBuf> {
        let suite = self.suite(RECEIVERS_SUITE, &[])?;
        if !RECEIVERS.iter().all(|name| suite.root().join("usr/bin").join(name).is_file()) {
            suite.unpack(RECEIVERS)?;
        }
        Ok(suite.root())
    }

    /// The root folder of a systemd of its own.
    pub(super) fn systemd(&self) -> Outcome<PathBuf> {
        let suite = self.suite(SYSTEMD_SUITE, &[])?;
        if !suite.root().join("usr/lib/systemd/systemd").is_file() {
            suite.unpack_with_dependencies(&["systemd"], NOTHING_INSTALLED)?;
        }
        Ok(suite.root())
    }

    /// The root folder of a compiler that is older than this machine's, without a linker: that is the machine's own.
    pub(super) fn oldest_rust(&self) -> Outcome<PathBuf> {
        let suite = self.suite_in(RUST_FOLDER, RUST_SUITE, &[])?;
        if !suite.root().join("usr/bin/rustc").is_file() {
            suite.unpack_with_dependencies(&["rustc-web"], INSTALLED_HERE)?;
        }
        Ok(suite.root())
    }

    /// A static busybox.
    pub(super) fn busybox(&self) -> Outcome<PathBuf> {
        let suite = self.suite(BUSYBOX_SUITE, &[])?;
        let places = ["bin/busybox", "usr/bin/busybox"].map(|place| suite.root().join(place));
        if !places.iter().any(|place| place.is_file()) {
            suite.unpack(&["busybox-static"])?;
        }
        let found = places.into_iter().find(|place| place.is_file());
        found.ok_or_else(|| "the package busybox-static holds no busybox".into())
    }

    /// perf with its loader and its libraries, each with its name on a disk.
    pub(super) fn perf(&self) -> Outcome<Vec<(String, PathBuf)>> {
        let suite = self.suite(PERF_SUITE, &[])?;
        let (perf, loader) = (suite.root().join("usr/bin/perf"), suite.root().join(LOADER));
        if !perf.is_file() || !loader.is_file() {
            suite.unpack_with_dependencies(&["linux-perf"], NOTHING_INSTALLED)?;
        }
        // Its own loader names what it would load, one a line: `NAME => PATH (ADDRESS)`.
        let folders = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|folder| suite.root().join(folder));
        let mut list = Command::new(&loader);
        list.arg("--library-path").arg(std::env::join_paths(folders)?).arg("--list").arg(&perf);
        let list = output(&mut list)?;
        let libraries = list.lines().filter_map(|line| line.trim().split_once(" => ")).filter_map(|(name, rest)| {
            let (path, _) = rest.rsplit_once(" (")?;
            Some((format!("lib/{name}"), PathBuf::from(path)))
        });
        let programs = [("perf".to_owned(), perf), (LOADER.to_owned(), loader)];
        Ok(programs.into_iter().chain(libraries).collect())
    }

    /// The image of the newest kernel that `package` stands for.
    pub(super) fn kernel(&self, suite: &str, package: &str) -> Outcome<PathBuf> {
        let suite = self.suite(suite, &[])?;
        let depends = suite.apt("apt-cache", &["depends", package])?;
        let depended = depends.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        let image = depended.into_iter().find(|name| {
            name.strip_prefix("linux-image-").is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
        });
        let image = image.unwrap_or(package);
        let version = image.trim_start_matches("linux-image-");
        // Newer Debian keeps the image in a package and a folder of its own.
        let places = [
            suite.root().join(format!("boot/vmlinuz-{version}")),
            suite.root().join(format!("usr/lib/modules/{version}/vmlinuz")),
        ];
        let find = || places.iter().find(|place| place.is_file()).cloned();
        if let Some(found) = find() {
            return Ok(found);
        }
        suite.unpack(&[image])?;
        if find().is_none() {
            suite.unpack(&[&format!("linux-binary-{version}")])?;
        }
        find().ok_or_else(|| format!("the package {image} holds no kernel image").into())
    }

    /// A module of the kernel of this image, as the kernel takes it; `name` is its path, as in `fs/overlayfs/overlay`.
    pub(super) fn module(&self, suite: &str, image: &Path, name: &str) -> Outcome<PathBuf> {
        let file = image.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let version = file.strip_prefix("vmlinuz-").or_else(|| image.parent()?.file_name()?.to_str());
        let version = version.ok_or("the image's path names no version")?;
        let suite = self.suite(suite, &[])?;
        let folders = ["lib", "usr/lib"].map(|lib| suite.root().join(lib).join("modules").join(version).join("kernel"));
        let find = |end: &str| folders.iter().map(|folder| folder.join(format!("{name}.{end}"))).find(|f| f.is_file());
        if find("ko").is_none() && find("ko.xz").is_none() {
            // Newer Debian keeps them apart from the image.
            suite.unpack(&[&format!("linux-modules-{version}")])?;
        }
        if find("ko").is_none()
            && let Some(packed) = find("ko.xz")
        {
            output(Command::new("xz").arg("-dk").arg(packed))?;
        }
        find("ko").ok_or_else(|| format!("the kernel {version} has no module {name}").into())
    }

    fn suite(&self, name: &str, others: &[&str]) -> Outcome<Suite> {
        self.suite_in(name, name, others)
    }

    /// A suite with a folder of this name in the cache.
    fn suite_in(&self, folder: &str, name: &str, others: &[&str]) -> Outcome<Suite> {
        let mut sources = String::new();
        for suite in [&[name], others].concat() {
            let archive = if suite.ends_with("-security") { "/debian-security" } else { "/debian" };
            let mirror = self.mirrors.iter().find(|uri| uri.ends_with(archive));
            let mirror = mirror.ok_or_else(|| format!("apt knows no mirror of Debian's archive {archive}"))?;
            writeln!(sources, "deb [signed-by={KEYRING}] {mirror} {suite} main")?;
        }
        let folder = self.cache.join(folder);
        let suite = Suite { name: name.to_owned(), _lock: lock(&folder)?, folder };
        suite.prepare(&sources)?;
        Ok(suite)
    }
}

/// What this machine has need not be fetched for a program that runs on it.
const INSTALLED_HERE: &str = "/var/lib/dpkg/status";
/// A program that runs elsewhere brings everything along.
const NOTHING_INSTALLED: &str = "/dev/null";

/// One suite: its private apt state, its packages, and what was unpacked of them. One task at a time has it.
struct Suite {
    name: String,
    folder: PathBuf,
    _lock: File,
}

/// Waits until no other task has this folder.
fn lock(folder: &Path) -> Outcome<File> {
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let path = folder.join("lock");
    let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    if file.try_lock().is_err() {
        say(format!("waiting for another task that has {}", folder.display()));
        file.lock().map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(file)
}

impl Suite {
    fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    fn prepare(&self, sources: &str) -> Outcome {
        for part in ["lists/partial", "archives/partial", "packages", "root"] {
            let folder = self.folder.join(part);
            fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        fs::write(self.folder.join("sources.list"), sources)?;
        if self.lists_are_fresh() {
            return Ok(());
        }
        say(format!("fetching the package list of {}", self.name));
        self.apt("apt-get", &["-qq", "update"]).map(drop)
    }

    fn lists_are_fresh(&self) -> bool {
        let lists = fs::read_dir(self.folder.join("lists")).into_iter().flatten().flatten();
        lists.filter(|entry| entry.file_name().to_string_lossy().contains("_Packages")).any(|entry| {
            let age = entry.metadata().and_then(|data| data.modified()).map(|time| time.elapsed());
            matches!(age, Ok(Ok(age)) if age < LISTS_LAST)
        })
    }

    fn apt(&self, tool: &str, arguments: &[&str]) -> Outcome<String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let options = [
            ("Dir::Etc::sourcelist", path("sources.list")),
            ("Dir::Etc::sourceparts", "/dev/null".into()),
            ("Dir::State::lists", path("lists")),
            ("Dir::State::status", NOTHING_INSTALLED.into()),
            ("Dir::Cache", path("")),
            ("Dir::Cache::archives", path("archives")),
            // Without this apt would fetch as a user who may not write here.
            ("APT::Sandbox::User", "root".into()),
            ("Acquire::Languages", "none".into()),
        ];
        let mut command = Command::new(tool);
        for (key, value) in options {
            command.arg("-o").arg(format!("{key}={value}"));
        }
        output(command.args(arguments).current_dir(self.folder.join("packages")))
    }

    /// Also unpacks what these packages need beyond what is `installed`, a list of packages in dpkg's format.
    fn unpack_with_dependencies(&self, packages: &[&str], installed: &str) -> Outcome {
        say(format!("fetching {} of {}, with what they need", packages.join(", "), self.name));
        // Later options win. Nothing is installed, so nothing is locked.
        let status = format!("Dir::State::status={installed}");
        let here = ["-o", &status, "-o", "Debug::NoLocking=1", "-t", &self.name];
        let install = ["-qq", "-y", "--no-install-recommends", "--download-only", "--reinstall", "install"];
        self.apt("apt-get", &[&here[..], &install, packages].concat())?;
        let files = fs::read_dir(self.folder.join("archives"))?.flatten().map(|entry| entry.path());
        for package in files.filter(|path| path.extension().is_some_and(|end| end == "deb")) {
            self.extract(&package)?;
        }
        Ok(())
    }

    fn unpack(&self, packages: &[&str]) -> Outcome {
        say(format!("fetching {} of {}", packages.join(", "), self.name));
        let uris = [&["-qq", "--print-uris", "download"], packages].concat();
        let files = self.apt("apt-get", &uris)?;
        self.apt("apt-get", &[&["-qq", "download"], packages].concat())?;
        // Each line: 'uri' file size hash.
        for file in files.lines().filter_map(|line| line.split(' ').nth(1)) {
            self.extract(&self.folder.join("packages").join(file))?;
        }
        Ok(())
    }

    fn extract(&self, package: &Path) -> Outcome {
        output(Command::new("dpkg").arg("-x").arg(package).arg(self.root())).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    #[test]
    fn two_tasks_that_fetch_packages_of_a_suite_do_so_one_after_the_other() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("sid");
        let first = lock(&folder).unwrap();
        let (told, heard) = channel();
        thread::scope(|scope| {
            scope.spawn(|| {
                let _second = lock(&folder).unwrap();
                told.send("second").unwrap();
            });
            assert!(heard.try_recv().is_err());
            drop(first);
            assert_eq!(heard.recv(), Ok("second"));
        });
    }
}
