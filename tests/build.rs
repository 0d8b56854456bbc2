//! Builds the workload with the system's C compiler and turns its counts into Rust constants.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the compiler gets: no C library, no start files, one static executable below 4 GiB.
const FLAGS: &[&str] = &[
    "-std=gnu11",
    "-Wall",
    "-Wextra",
    "-O1",
    "-static",
    "-no-pie",
    "-fno-pie",
    "-nostdlib",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
    "-Wl,--build-id=none",
    "-Wl,-z,noexecstack",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            println!("cargo:error={reason}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let header = Path::new("workload/counts.h");
    println!("cargo:rerun-if-changed=workload");
    println!("cargo:rerun-if-env-changed=CC");

    let text = fs::read_to_string(header).map_err(|e| format!("{}: {e}", header.display()))?;
    fs::write(out.join("counts.rs"), constants(&text)?).map_err(|e| format!("counts.rs: {e}"))?;

    let workload = out.join("workload");
    if env::var("CARGO_CFG_TARGET_ARCH").as_deref() == Ok("x86_64") {
        compile(&workload)?;
    } else {
        // Its system calls are written for x86_64: elsewhere there is none, and the live tests say so.
        fs::write(&workload, b"").map_err(|e| format!("{}: {e}", workload.display()))?;
    }
    println!("cargo:rustc-env=WORKLOAD={}", workload.display());
    Ok(())
}

fn compile(to: &Path) -> Result<(), String> {
    let compiler = env::var_os("CC").unwrap_or_else(|| "cc".into());
    let status = Command::new(&compiler)
        .args(FLAGS)
        .arg("-o")
        .arg(to)
        .args(sources()?)
        .status()
        .map_err(|e| format!("the C compiler {}: {e}", compiler.display()))?;
    if status.success() { Ok(()) } else { Err(format!("{} of the workload: {status}", compiler.display())) }
}

/// Every file, in the order of their names; headers beside them.
fn sources() -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir("workload").and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|e| format!("workload: {e}"))?;
    let mut sources: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).collect();
    sources.retain(|path| path.extension().is_some_and(|extension| extension == "c"));
    sources.sort();
    Ok(sources)
}

/// `#define NAME NUMBER /* comment */` becomes a documented constant; a line of another form is an error.
fn constants(header: &str) -> Result<String, String> {
    let mut code = String::new();
    for line in header.lines() {
        let Some(rest) = line.strip_prefix("#define ") else { continue };
        let Some((name, rest)) = rest.split_once(' ') else { continue };
        let wrong = || format!("counts.h: not `#define NAME NUMBER /* comment */`: {line}");
        let (number, comment) = rest.split_once(" /* ").ok_or_else(wrong)?;
        let comment = comment.strip_suffix(" */").ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        writeln!(code, "/// {comment}.\npub const {name}: u64 = {number};").map_err(|e| e.to_string())?;
    }
    Ok(code)
}
