//! The rights that it takes to load and attach programs.

use rustix::thread::CapabilitySet;

/// What each right is for.
pub(crate) const RIGHTS: [(CapabilitySet, &str, &str); 4] = [
    (CapabilitySet::BPF, "CAP_BPF", "loading programs and reading their maps (Linux 5.8)"),
    (CapabilitySet::PERFMON, "CAP_PERFMON", "attaching them, and reading kernel memory (Linux 5.8)"),
    (
        CapabilitySet::DAC_OVERRIDE,
        "CAP_DAC_OVERRIDE",
        "making kprobe events in tracefs, unless it is opened to this user",
    ),
    (CapabilitySet::SYS_ADMIN, "CAP_SYS_ADMIN", "all of it before Linux 5.8"),
];

/// Which rights are missing and what each is for; empty when those that are held suffice.
pub(crate) fn missing_rights(held: CapabilitySet) -> String {
    let both = CapabilitySet::BPF | CapabilitySet::PERFMON;
    if held.contains(CapabilitySet::SYS_ADMIN) || held.contains(both) {
        return String::new();
    }
    let missing = RIGHTS.iter().filter(|(right, ..)| !held.contains(*right));
    missing.map(|(_, name, what)| format!("{name} ({what})")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_is_named() {
        assert_eq!(missing_rights(CapabilitySet::SYS_ADMIN), "");
        assert_eq!(missing_rights(CapabilitySet::BPF | CapabilitySet::PERFMON), "");
        let missing = missing_rights(CapabilitySet::BPF);
        assert!(missing.starts_with("CAP_PERFMON (attaching") && !missing.contains("CAP_BPF"), "{missing}");
    }
}
