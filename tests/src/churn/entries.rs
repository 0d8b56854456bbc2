//! How many processes the agent's kernel maps know, by bpftool.

use crate::{Failure, Outcome};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

/// Whether bpftool is there.
///
/// # Errors
/// It is not.
pub fn can_be_counted() -> Outcome<()> {
    bpftool(&["version"]).map(drop)
}

/// The entries of all hashes of processes whose descriptors an agent holds: one in each object for each process that has
/// done something and lives.
///
/// # Errors
/// There is no bpftool, or no such hash.
pub fn entries(pid: u32) -> Outcome<Vec<usize>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let descriptors = fs::read_dir(&folder).map_err(Failure::at(&folder))?;
    // A descriptor may be closed meanwhile.
    let texts = descriptors.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
    let ids: BTreeSet<String> = texts.filter_map(|text| map_id(&text)).collect();
    let mut entries = Vec::new();
    for id in ids {
        if bpftool(&["map", "show", "id", &id])?["name"] == "places" {
            entries.push(bpftool(&["map", "dump", "id", &id])?.as_array().map_or(0, Vec::len));
        }
    }
    if entries.is_empty() { Err(Failure::new("the agent holds no hash of processes")) } else { Ok(entries) }
}

fn map_id(text: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix("map_id:")).map(|id| id.trim().to_owned())
}

fn bpftool(arguments: &[&str]) -> Outcome<Value> {
    let output = Command::new("bpftool").arg("-j").args(arguments).output().map_err(Failure::at("bpftool"))?;
    if !output.status.success() {
        return Err(Failure::new(format!("bpftool {arguments:?}: {}", output.status)));
    }
    serde_json::from_slice(&output.stdout).map_err(Failure::at("bpftool's words"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_maps_descriptor_has_its_number() {
        assert_eq!(map_id("pos:\t0\nmap_type:\t1\nmap_id:\t17\n"), Some("17".to_owned()));
        assert_eq!(map_id("pos:\t0\nflags:\t02\n"), None);
    }
}
