//! `cargo xtask interface`: what is public of the crates that strangers build on, a line for each item, beside each crate.
//!
//! A change of it thus shows in a commit, and CI finds the one that nobody meant. What rustdoc writes for machines is not
//! stable yet and needs a switch of the compiler's; so it goes into a folder of its own, and its format is looked at first.

use crate::packages::target_directory;
use crate::{Outcome, output, run, say};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders and names of the crates.
const CRATES: [(&str, &str); 5] = [
    ("core", "ebpf-process-core"),
    ("sinks/delivery", "ebpf-process-delivery"),
    ("sinks/http", "ebpf-process-http"),
    ("probes", "ebpf-process-probes"),
    ("bin", "ebpf-process"),
];

/// What a stranger's tests have of them as well.
const FEATURES: &str = "ebpf-process-core/testkit";

/// The format of rustdoc's that `public-api` was seen to read.
const FORMAT: u64 = 57;

/// The Rust that the texts are made with. Another one may have other methods in its traits, which are in the texts of
/// those that implement them.
const RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// Writes the texts, or with `--check` compares them with what is there.
///
/// # Errors
/// A crate does not build, rustdoc's format is another one, or, with `--check`, a text is not what its crate gives.
pub(crate) fn interface(options: &[&str]) -> Outcome {
    let check = match options {
        [] => false,
        ["--check"] => true,
        _ => return Err("usage: cargo xtask interface [--check]".into()),
    };
    // A task runs in the checkout it was built in.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize()?;
    let documents = document(&root)?;
    let mut problems = Vec::new();
    for (folder, name) in CRATES {
        let text = read(&documents.join(format!("{}.json", name.replace('-', "_"))))?;
        let file = format!("{folder}/interface.txt");
        let path = root.join(&file);
        if !check {
            fs::write(&path, text).map_err(|e| format!("{file}: {e}"))?;
            say(format!("{file} written"));
            continue;
        }
        let committed =
            fs::read_to_string(&path).map_err(|e| format!("{file}: {e}; cargo xtask interface writes it"))?;
        match differences(&committed, &text) {
            None => say(format!("{file} is what {name} gives")),
            Some(lines) => problems.push(format!("{file} is not what {name} gives (- committed, + given):\n{lines}")),
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    problems.push(
        "if the change is meant: cargo xtask interface, commit what it writes, and tell of it in CHANGELOG.md under \"For \
         authors of sinks and probes\""
            .to_owned(),
    );
    let here = rust()?;
    if !is_release(&here, RUST) {
        problems.push(format!("if nothing was changed: the texts are of Rust {RUST}, and here is {here}"));
    }
    Err(problems.join("\n").into())
}

/// Has rustdoc describe the crates for machines, and returns the folder with what it wrote.
fn document(root: &Path) -> Outcome<PathBuf> {
    // Not where everything else is built: the switch would have half of it built anew, each time.
    let target = target_directory()?.join("interface");
    let documents = target.join("doc");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(root).args(["doc", "--quiet", "--locked", "--no-deps", "--lib", "--features", FEATURES]);
    cargo.arg("--target-dir").arg(&target);
    for (_, name) in CRATES {
        cargo.args(["--package", name]);
        // What an earlier run has left must not pass for what this one gives.
        let left = documents.join(format!("{}.json", name.replace('-', "_")));
        if left.exists() {
            fs::remove_file(left)?;
        }
    }
    cargo.env("RUSTC_BOOTSTRAP", "1");
    // Warnings are the business of `cargo doc` itself.
    let flags = ["-Zunstable-options", "--output-format=json", "--cap-lints=allow"];
    cargo.env("CARGO_ENCODED_RUSTDOCFLAGS", flags.join("\u{1f}"));
    run(&mut cargo)?;
    Ok(documents)
}

/// The public items in what rustdoc wrote of a crate. Without what every type has by blanket implementations, and without
/// `Send` and its like.
fn read(path: &Path) -> Outcome<String> {
    let json = fs::read_to_string(path).map_err(|e| format!("rustdoc has not written {}: {e}", path.display()))?;
    let document: serde_json::Value = serde_json::from_str(&json).map_err(|e| format!("{}: {e}", path.display()))?;
    if document["format_version"] != FORMAT {
        return Err(format!(
            "{}: {} writes format {}, and this task reads {FORMAT}; use Rust {RUST}, or a release of public-api that reads \
             the other one, and set FORMAT in xtask/src/interface.rs",
            path.display(),
            rust()?,
            document["format_version"],
        )
        .into());
    }
    let items =
        public_api::Builder::from_rustdoc_json(path).omit_blanket_impls(true).omit_auto_trait_impls(true).build();
    Ok(items.map_err(|e| format!("{}: {e}", path.display()))?.to_string())
}

/// How the compiler calls itself.
fn rust() -> Outcome<String> {
    Ok(output(Command::new("rustc").arg("--version"))?.trim_end().to_owned())
}

/// Whether `rustc --version` is one of a release such as `1.95`.
pub(crate) fn is_release(version: &str, release: &str) -> bool {
    let number = version.split(' ').nth(1).unwrap_or_default();
    number.strip_prefix(release).is_some_and(|rest| rest.starts_with('.'))
}

/// The lines that only one of two texts has, in their order, `-` and `+` in front.
fn differences(committed: &str, given: &str) -> Option<String> {
    if committed == given {
        return None;
    }
    let mut lines = beyond(committed, given, '-');
    lines.extend(beyond(given, committed, '+'));
    Some(if lines.is_empty() { "the same lines in another order".to_owned() } else { lines.join("\n") })
}

/// The lines of `text` that `other` has not, or not as often.
fn beyond(text: &str, other: &str, sign: char) -> Vec<String> {
    let mut left: HashMap<&str, usize> = HashMap::new();
    for line in other.lines() {
        *left.entry(line).or_default() += 1;
    }
    let missing = text.lines().filter(|line| match left.get_mut(line) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    });
    missing.map(|line| format!("{sign} {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_only_one_text_has_are_named() {
        let committed = "impl A for B\npub fn B::new()\npub fn B::old(u8)\npub struct B\n";
        let given = "pub fn B::new()\npub fn B::old(u16)\npub struct B\npub struct B\n";
        assert_eq!(
            differences(committed, given).unwrap(),
            "- impl A for B\n- pub fn B::old(u8)\n+ pub fn B::old(u16)\n+ pub struct B"
        );
        assert_eq!(
            differences("pub mod a\npub mod b\n", "pub mod b\npub mod a\n").unwrap(),
            "the same lines in another order"
        );
        assert_eq!(differences(given, given), None);
    }

    #[test]
    fn another_format_is_an_error_that_says_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"root":0,"format_version":56}"#).unwrap();
        let error = read(file.path()).unwrap_err().to_string();
        assert!(error.contains(" writes format 56, and this task reads 57; use Rust 1."), "{error}");
        fs::write(file.path(), "{}").unwrap();
        assert!(read(file.path()).unwrap_err().to_string().contains(" writes format null, "));
        assert!(read(Path::new("/no/such.json")).unwrap_err().to_string().starts_with("rustdoc has not written "));
    }

    #[test]
    fn a_release_is_told_from_one_that_begins_alike() {
        assert!(is_release("rustc 1.95.0 (59807616e 2026-04-14)", "1.95"));
        assert!(!is_release("rustc 1.96.1", "1.95"));
        assert!(!is_release("rustc 1.950.0", "1.95"));
        assert!(!is_release("", "1.95"));
    }
}
