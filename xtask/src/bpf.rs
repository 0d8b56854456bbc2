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

/// Two C files per probe: one that is relocated by type information, one for kernels without.
const PROBES: [&str; 4] = ["file", "process", "file.floor", "process.floor"];

/// For Linux 5.5 and later: instruction set v2; BTF for CO-RE, its DWARF is stripped.
const CORE_FLAGS: [&str; 2] = ["-mcpu=v2", "-g"];
/// For Linux 4.11 and later: instruction set v1, and no BTF, which a kernel before 5.1 refuses.
const FLOOR_FLAGS: [&str; 1] = ["-mcpu=v1"];
const FLAGS: [&str; 8] =
    ["-target", "bpf", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-fdebug-compilation-dir=."];

/// Builds, or with `--check` compares.
pub(crate) fn bpf(options: &[&str]) -> Outcome {
    let check = match options {
        [] => false,
        ["--check"] => true,
        _ => return Err("usage: cargo xtask bpf [--check]".into()),
    };
    let sources = sources()?;
    let committed = committed()?;
    let recorded = committed.join("CLANG_VERSION");
    let Some(tools) = Tools::find()? else {
        return unable(check, "clang or llvm-strip is missing; on Debian: apt-get install clang-14 llvm-14");
    };
    if !check {
        fs::create_dir_all(&committed)?;
        for probe in PROBES {
            tools.build(&sources, probe, &committed.join(object(probe)))?;
            say(format!("built {}", object(probe)));
        }
        fs::write(recorded, format!("{}\n", tools.version))?;
        return Ok(());
    }
    let expected = fs::read_to_string(&recorded).map_err(|error| format!("{}: {error}", recorded.display()))?;
    if expected.trim() != tools.version {
        let problem = format!("the objects were built by clang {}, here is {}", expected.trim(), tools.version);
        return unable(check, &problem);
    }
    let scratch = tempfile::tempdir()?;
    for probe in PROBES {
        let built = scratch.path().join(object(probe));
        tools.build(&sources, probe, &built)?;
        if fs::read(&built)? != fs::read(committed.join(object(probe)))? {
            return Err(
                format!("{} is not what its source gives; run cargo xtask bpf and commit it", object(probe)).into()
            );
        }
        say(format!("{} matches its source", object(probe)));
    }
    Ok(())
}

/// A check that cannot be made is a loud skip for a person and a failure on CI.
fn unable(check: bool, problem: &str) -> Outcome {
    if check && env::var_os("CI").is_none() {
        say(format!("SKIPPED object check: {problem}"));
        return Ok(());
    }
    Err(problem.into())
}

/// The folder with the sources. A task runs in the checkout it was built in.
pub(crate) fn sources() -> Outcome<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).join("../probes/bpf").canonicalize()?)
}

/// The folder with the committed objects.
pub(crate) fn committed() -> Outcome<PathBuf> {
    Ok(sources()?.join("objects/x86_64"))
}

fn object(probe: &str) -> String {
    if is_floor(probe) { format!("{probe}.o") } else { format!("{probe}.core.o") }
}

fn is_floor(probe: &str) -> bool {
    probe.strip_suffix(".floor").is_some()
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

    /// Builds `PROBE.bpf.c`. The same bytes whatever directory this is built in.
    pub(crate) fn build(&self, sources: &Path, probe: &str, to: &Path) -> Outcome {
        let map = format!("-ffile-prefix-map={}=.", sources.display());
        let source = format!("{probe}.bpf.c");
        let kind: &[&str] = if is_floor(probe) { &FLOOR_FLAGS } else { &CORE_FLAGS };
        let mut clang = Command::new(&self.clang);
        run(clang.current_dir(sources).args(FLAGS).args(kind).arg(map).args(["-c", &source, "-o"]).arg(to))?;
        run(Command::new(&self.strip).arg("-g").arg(to))
    }
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|directory| directory.join(name)).find(|path| path.is_file())
}
