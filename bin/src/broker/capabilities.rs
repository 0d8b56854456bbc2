//! The capabilities that the broker keeps.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Each with what it is for. What the process did not have it does not get.
const KEPT: [(CapabilitySet, &str); 13] = [
    (CapabilitySet::DAC_OVERRIDE, "opening configured files, directories and sockets of other users"),
    (CapabilitySet::DAC_READ_SEARCH, "reading configured files of other users, for whom that alone is granted"),
    (CapabilitySet::CHOWN, "giving the files and directories that it makes to the agent's user"),
    (CapabilitySet::NET_BIND_SERVICE, "listening at configured ports below 1024"),
    (CapabilitySet::SETUID, "starting configured programs as the agent's user"),
    (CapabilitySet::SETGID, "the same, in that user's groups"),
    (CapabilitySet::SETPCAP, "starting them with an empty bounding set"),
    (CapabilitySet::KILL, "ending them"),
    (CapabilitySet::BPF, "loading and attaching a probe again"),
    (CapabilitySet::PERFMON, "the same"),
    (CapabilitySet::SYS_ADMIN, "the same before Linux 5.8, and reading what other processes' namespaces show"),
    (CapabilitySet::SYS_RESOURCE, "memory for maps before Linux 5.11"),
    (CapabilitySet::SYS_PTRACE, "finding the process or group that only a filter lets through"),
];

/// Those by which somebody who is not root opens, listens, loads or attaches what he could not otherwise. `CAP_PERFMON` is
/// not among them: alone it loads nothing.
const TAKEN_LATER: CapabilitySet = CapabilitySet::DAC_OVERRIDE
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::BPF)
    .union(CapabilitySet::SYS_ADMIN);

/// Whether an agent with these capabilities, which is going to give them up, can later be in need of somebody who has
/// kept them. Root owns files as well, and becomes somebody who does not.
pub(crate) fn are_missed_later(is_root: bool, permitted: CapabilitySet) -> bool {
    let missed = if is_root { CapabilitySet::all() - CapabilitySet::PERFMON } else { TAKEN_LATER };
    permitted.intersects(missed)
}

/// Those of `permitted` that the broker keeps.
pub(crate) fn kept(permitted: CapabilitySet) -> CapabilitySet {
    permitted & KEPT.iter().fold(CapabilitySet::empty(), |set, (capability, _)| set | *capability)
}

/// Gives up all others, for good: also for what it starts.
pub(crate) fn limit() -> rustix::io::Result<()> {
    bound(kept(CapabilitySet::all()))?;
    let permitted = kept(capabilities(None)?.permitted);
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: permitted, permitted, inheritable })?;
    set_no_new_privs(true)
}

/// Cuts the bounding set down to these.
pub(crate) fn bound(kept: CapabilitySet) -> rustix::io::Result<()> {
    if !capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        // A kernel that does not know a capability says that asking is wrong.
        if !kept.contains(capability) && capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_of_use_to_who_loses_what_a_change_takes() {
        let of_the_unit = CapabilitySet::BPF | CapabilitySet::PERFMON;
        for (is_root, permitted, missed) in [
            (true, CapabilitySet::all(), true),
            (true, CapabilitySet::CHOWN, true),
            (true, CapabilitySet::PERFMON, false),
            (true, CapabilitySet::empty(), false),
            (false, of_the_unit, true),
            (false, CapabilitySet::SYS_ADMIN, true),
            (false, CapabilitySet::NET_BIND_SERVICE, true),
            (false, CapabilitySet::DAC_READ_SEARCH, true),
            (false, CapabilitySet::PERFMON | CapabilitySet::SYS_PTRACE, false),
            (false, CapabilitySet::empty(), false),
        ] {
            assert_eq!(are_missed_later(is_root, permitted), missed, "{is_root} {permitted:?}");
        }
        assert_eq!(kept(of_the_unit | CapabilitySet::SYS_MODULE), of_the_unit);
    }
}
