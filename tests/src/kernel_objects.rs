//! What is loaded and attached in the kernel, as an independent tool lists it, and what of it a process holds.

use crate::{Failure, Outcome};
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// A kind of object and its id: `prog 17`, `link 4`. The kernel does not give an id a second time.
pub type Objects = BTreeSet<String>;

const KINDS: [&str; 2] = ["prog", "link"];

/// All programs and links in the kernel.
///
/// # Errors
/// There is no bpftool.
pub fn all() -> Outcome<Objects> {
    let mut ids = Objects::new();
    for kind in KINDS {
        let output = Command::new("bpftool").args(["--json", kind, "show"]).output();
        let output = output.map_err(Failure::at("bpftool"))?;
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(Failure::at("bpftool's list"))?;
        let objects = list.as_array().ok_or_else(|| Failure::new("bpftool shows no list"))?;
        ids.extend(objects.iter().map(|object| format!("{kind} {}", object["id"])));
    }
    Ok(ids)
}

/// The programs and links whose descriptors a process has.
///
/// # Errors
/// It has ended.
pub fn held_by(pid: u32) -> Outcome<Objects> {
    let folder = format!("/proc/{pid}/fdinfo");
    let descriptors = fs::read_dir(&folder).map_err(Failure::at(&folder))?;
    // A descriptor may be closed meanwhile.
    let texts = descriptors.flatten().map(|entry| fs::read_to_string(entry.path()).unwrap_or_default());
    let ids = |text: String| {
        let id = |line: &str| {
            KINDS.iter().find_map(|kind| Some((kind, line.strip_prefix(&format!("{kind}_id:"))?.trim().to_owned())))
        };
        text.lines().filter_map(id).map(|(kind, id)| format!("{kind} {id}")).collect::<Vec<_>>()
    };
    Ok(texts.flat_map(ids).collect())
}
