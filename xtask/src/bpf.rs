//! `cargo xtask bpf`: builds the kernel objects, or proves that the committed ones are what the
//! sources give.
//!
//! Another compiler version gives other bytes, so objects are compared only by the version that is
//! recorded beside them.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, output, run, say};

/// For Linux 5.5 and later: instruction set v2; BTF for CO-RE, its DWARF is stripped.
const CORE_FLAGS: [&str; 2] = ["-mcpu=v2", "-g"];
/// For Linux 5.8 and later, with an element for each process.
const WHO_FLAGS: [&str; 3] = ["-mcpu=v2", "-g", "-DWHO"];
/// For Linux 4.11 and later: instruction set v1, and no BTF, which a kernel before 5.1 refuses.
const FLOOR_FLAGS: [&str; 2] = ["-mcpu=v1", "-DFLOOR"];
const FLAGS: [&str; 8] =
    ["-target", "bpf", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-fdebug-compilation-dir=."];

/// The line that says that a probe has no object for the floor.
const CORE_ONLY: [&str; 2] = ["#define", "CORE_ONLY"];

/// The line that says that a probe has an object that tells by whom.
const BY_WHOM: [&str; 2] = ["#define", "BY_WHOM"];

/// Builds, or with `--check` compares: all probes of a folder, ours if none is named.
pub(crate) fn bpf(options: &[&str]) -> Outcome {
    let (check, folder) = match options {
        [] => (false, sources()?),
        ["--check"] => (true, sources()?),
        ["--check", folder] => (true, Path::new(folder).canonicalize()?),
        [folder] if !folder.starts_with('-') => (false, Path::new(folder).canonicalize()?),
        _ => return Err("usage: cargo xtask bpf [--check] [FOLDER]".into()),
    };
    let committed = objects_of(&folder);
    let recorded = committed.join("CLANG_VERSION");
    let wanted = wanted(&folder)?;
    let Some(tools) = Tools::find()? else {
        return unable(check, "clang or llvm-strip is missing; on Debian: apt-get install clang-14 llvm-14");
    };
    if !check {
        fs::create_dir_all(&committed)?;
        for object in &wanted {
            tools.build(&folder, &object.probe, object.flavour, &committed.join(object.file()))?;
            say(format!("built {}", object.file()));
        }
        for stray in strays(&committed, &wanted)? {
            fs::remove_file(committed.join(&stray))?;
            say(format!("removed {stray}, which has no source"));
        }
        fs::write(recorded, format!("{}\n", tools.version))?;
        return Ok(());
    }
    if let Some(stray) = strays(&committed, &wanted)?.first() {
        return Err(format!("{stray} has no source; run cargo xtask bpf and commit what it removes").into());
    }
    let expected = fs::read_to_string(&recorded).map_err(|error| format!("{}: {error}", recorded.display()))?;
    if expected.trim() != tools.version {
        let problem = format!("the objects were built by clang {}, here is {}", expected.trim(), tools.version);
        return unable(check, &problem);
    }
    let scratch = tempfile::tempdir()?;
    for object in &wanted {
        let file = object.file();
        let built = scratch.path().join(&file);
        tools.build(&folder, &object.probe, object.flavour, &built)?;
        let ours = fs::read(committed.join(&file)).map_err(|error| format!("{file}: {error}"))?;
        if fs::read(&built)? != ours {
            return Err(format!("{file} is not what its source gives; run cargo xtask bpf and commit it").into());
        }
        say(format!("{file} matches its source"));
    }
    Ok(())
}

/// For which kernels an object is built.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flavour {
    Core,
    Floor,
    Who,
}

/// One object of a probe.
#[derive(PartialEq, Eq)]
struct Object {
    probe: String,
    flavour: Flavour,
}

impl Object {
    fn file(&self) -> String {
        match self.flavour {
            Flavour::Core => format!("{}.core.o", self.probe),
            Flavour::Floor => format!("{}.floor.o", self.probe),
            Flavour::Who => format!("{}.who.o", self.probe),
        }
    }
}

/// The objects that the sources of a folder give, by name: `PROBE.bpf.c` is compiled for both kinds of kernel, and once
/// more if it says that it can tell by whom.
fn wanted(folder: &Path) -> Outcome<Vec<Object>> {
    let mut objects = Vec::new();
    for name in names(folder)? {
        let Some(probe) = name.strip_suffix(".bpf.c") else { continue };
        let text = fs::read_to_string(folder.join(&name)).map_err(|error| format!("{name}: {error}"))?;
        objects.push(Object { probe: probe.to_owned(), flavour: Flavour::Core });
        let says = |words: [&str; 2]| text.lines().any(|line| line.split_whitespace().take(2).eq(words));
        if !says(CORE_ONLY) {
            objects.push(Object { probe: probe.to_owned(), flavour: Flavour::Floor });
        }
        if says(BY_WHOM) {
            objects.push(Object { probe: probe.to_owned(), flavour: Flavour::Who });
        }
    }
    if objects.is_empty() { Err(format!("{}: no *.bpf.c", folder.display()).into()) } else { Ok(objects) }
}

/// Objects that no source gives.
fn strays(committed: &Path, wanted: &[Object]) -> Outcome<Vec<String>> {
    let mut objects = names(committed)?;
    objects.retain(|name| name.strip_suffix(".o").is_some() && wanted.iter().all(|object| object.file() != *name));
    Ok(objects)
}

/// The names of the files in a folder, in order.
fn names(folder: &Path) -> Outcome<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_string()));
    let mut names: Vec<String> = names.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
    names.sort_unstable();
    Ok(names)
}

/// A check that cannot be made is a loud skip for a person and a failure on CI.
fn unable(check: bool, problem: &str) -> Outcome {
    if check && env::var_os("CI").is_none() {
        say(format!("SKIPPED object check: {problem}"));
        return Ok(());
    }
    Err(problem.into())
}

/// The folder with our sources. A task runs in the checkout it was built in.
pub(crate) fn sources() -> Outcome<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../probes/bpf").canonicalize()?)
}

/// The folder with the committed objects of a folder's probes.
pub(crate) fn objects_of(folder: &Path) -> PathBuf {
    folder.join("objects/x86_64")
}

/// A compiler and its strip, of one version.
pub(crate) struct Tools {
    clang: PathBuf,
    strip: PathBuf,
    version: String,
}

impl Tools {
    /// The versioned names first: they are what Debian's packages of the recorded version install.
    pub(crate) fn find() -> Outcome<Option<Self>> {
        let find = |names: [&str; 2]| names.into_iter().find_map(on_path);
        let (Some(clang), Some(strip)) = (find(["clang-14", "clang"]), find(["llvm-strip-14", "llvm-strip"])) else {
            return Ok(None);
        };
        let banner = output(Command::new(&clang).arg("--version"))?;
        let version = banner.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let version = version.ok_or("clang does not say its version")?.to_owned();
        Ok(Some(Self { clang, strip, version }))
    }

    /// Builds `FOLDER/PROBE.bpf.c`, which finds our headers as `<probe.h>`. The same bytes wherever both folders are.
    pub(crate) fn build(&self, folder: &Path, probe: &str, flavour: Flavour, to: &Path) -> Outcome {
        let ours = sources()?;
        let flags = match flavour {
            Flavour::Core => CORE_FLAGS.as_slice(),
            Flavour::Floor => &FLOOR_FLAGS,
            Flavour::Who => &WHO_FLAGS,
        };
        let mut clang = Command::new(&self.clang);
        clang.current_dir(folder).args(FLAGS).args(flags).arg("-I").arg(ours.join("include"));
        for folder in [folder, &ours] {
            clang.arg(format!("-ffile-prefix-map={}=.", folder.display()));
        }
        run(clang.arg("-c").arg(format!("{probe}.bpf.c")).arg("-o").arg(to))?;
        run(Command::new(&self.strip).arg("-g").arg(to))
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_gives_both_objects_or_says_that_it_gives_one() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("disk.bpf.c", "#define CORE_ONLY /* typed */\n#include <probe.h>\n");
        write("file.bpf.c", "#define BY_WHOM\n#include <probe.h>\n");
        write("notes.txt", "");
        let wanted = wanted(folder.path()).unwrap();
        let files: Vec<String> = wanted.iter().map(Object::file).collect();
        assert_eq!(files, ["disk.core.o", "file.core.o", "file.floor.o", "file.who.o"]);

        for name in ["disk.core.o", "disk.floor.o", "CLANG_VERSION"] {
            write(name, "");
        }
        assert_eq!(strays(folder.path(), &wanted).unwrap(), ["disk.floor.o"]);
    }

    #[test]
    fn a_folder_without_a_source_is_an_error() {
        assert!(wanted(tempfile::tempdir().unwrap().path()).is_err());
    }
}
