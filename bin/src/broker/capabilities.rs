//! The capabilities that the broker keeps.

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Each with what it is for. What the process did not have it does not get.
const KEPT: [(CapabilitySet, &str); 12] = [
    (CapabilitySet::DAC_OVERRIDE, "opening configured files, directories and sockets of other users"),
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

/// Gives up all others, for good: also for what it starts.
pub(crate) fn limit() -> rustix::io::Result<()> {
    let kept = KEPT.iter().fold(CapabilitySet::empty(), |set, (capability, _)| set | *capability);
    bound(kept)?;
    let permitted = capabilities(None)?.permitted & kept;
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
