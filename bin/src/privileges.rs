//! Rights that the caller does not have: whether this process got some, and giving them up.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getegid, geteuid, getgid, getrlimit, getuid, setrlimit};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, remove_capability_from_bounding_set,
    set_capabilities, set_keep_capabilities, set_no_new_privs, set_thread_res_gid, set_thread_res_uid,
};

use crate::confinement::user::User;
use crate::exit::Refusal;

/// The auxiliary vector's `AT_SECURE`, and its end.
const AT_SECURE: usize = 23;
const AT_NULL: usize = 0;

/// Whether the kernel started this process setuid, setgid or with file capabilities (`AT_SECURE`):
/// its caller must not reach anything through it.
pub(crate) fn elevated() -> bool {
    if getuid() != geteuid() || getgid() != getegid() {
        return true;
    }
    match std::fs::read("/proc/self/auxv") {
        Ok(vector) => at_secure(&vector),
        // The kernel hides the vector of a program with file capabilities from its caller.
        Err(_) => !getuid().is_root() && capabilities(None).is_ok_and(|sets| !sets.permitted.is_empty()),
    }
}

fn at_secure(vector: &[u8]) -> bool {
    let words = vector.as_chunks::<{ size_of::<usize>() }>().0.iter().map(|word| usize::from_ne_bytes(*word));
    let words: Vec<usize> = words.collect();
    let mut pairs = words.as_chunks::<2>().0.iter().take_while(|[key, _]| *key != AT_NULL);
    pairs.any(|[key, value]| *key == AT_SECURE && *value != 0)
}

/// Raises the limit on open descriptors as far as this process may: programs, maps, links, sinks and their clients take
/// one each, and the usual soft limit is for programs that still use select(2).
pub(crate) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    // Where it fails, what needs a descriptor says so.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Whether no program that this process's unit or container starts can load BPF programs, whatever its file grants: they
/// are cut from the bounding set.
pub(crate) fn withheld() -> bool {
    // A kernel that does not know a capability says that asking is wrong.
    let within = |capability| capability_is_in_bounding_set(capability).unwrap_or(false);
    let enough = within(CapabilitySet::BPF) && within(CapabilitySet::PERFMON);
    !enough && !within(CapabilitySet::SYS_ADMIN)
}

/// Goes back to the caller's user and group and keeps no right but `kept`. Call it when the probes are attached and
/// there is no other thread yet: to the kernel these are rights of a thread.
pub(crate) fn give_up(kept: CapabilitySet) -> Result<(), Refusal> {
    let failed = |error: Errno| {
        Refusal::lasting(format!(
            "cannot give up the rights this program was started with: {error}; start it as a service instead"
        ))
    };
    bound().map_err(failed)?;
    set_keep_capabilities(true).map_err(failed)?;
    let (user, group) = (getuid(), getgid());
    if getegid() != group {
        set_thread_res_gid(group, group, group).map_err(failed)?;
    }
    if geteuid() != user {
        set_thread_res_uid(user, user, user).map_err(failed)?;
    }
    keep(kept).map_err(failed)?;
    set_keep_capabilities(false).map_err(failed)?;
    if geteuid() != user || getegid() != group {
        return Err(Refusal::lasting("the kernel did not take back the rights this program was started with"));
    }
    Ok(())
}

/// Gives up every capability but `kept`, for good, and becomes `user` if there is one: nothing that this process starts
/// gets anything back. For a process that was started with these rights; call it like [`give_up`].
pub(crate) fn limit(kept: CapabilitySet, user: Option<&User>) -> Result<(), Refusal> {
    let change = || {
        bound()?;
        if let Some(user) = user {
            // Without that the kernel takes all capabilities from who is no longer root.
            set_keep_capabilities(true)?;
            user.take_over()?;
        }
        keep(kept)?;
        set_keep_capabilities(false)
    };
    change().map_err(|error| {
        let who = user.map_or_else(String::new, |user| format!(" and become user {user}"));
        Refusal::lasting(format!(
            "cannot give up the capabilities that are not needed{who}: {error}; to keep all rights: capabilities = \"keep\""
        ))
    })
}

/// Empties the bounding set, of which root's programs get all: nothing that the agent starts needs a capability. To do
/// that is root's right, too, and whoever has not got it is bounded by its permitted set, since it gains nothing by exec.
fn bound() -> rustix::io::Result<()> {
    if !capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for capability in (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit)) {
        // A kernel that does not know a capability says that asking is wrong.
        if capability_is_in_bounding_set(capability).unwrap_or(false) {
            remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// Permitted, effective and no more: what is not permitted leaves the ambient set by itself.
fn keep(kept: CapabilitySet) -> rustix::io::Result<()> {
    let kept = capabilities(None)?.permitted & kept;
    let inheritable = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: kept, permitted: kept, inheritable })?;
    set_no_new_privs(true)
}

/// Makes every right that this process may have effective. A file may grant rights without that, so that the program
/// starts even where some are withheld.
pub(crate) fn take_up() {
    if let Ok(sets) = capabilities(None) {
        let effective = sets.permitted;
        // Where it fails, what needs the rights says so.
        let _ = set_capabilities(None, CapabilitySets { effective, ..sets });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(pairs: &[(usize, usize)]) -> Vec<u8> {
        pairs.iter().flat_map(|(key, value)| [key.to_ne_bytes(), value.to_ne_bytes()].concat()).collect()
    }

    #[test]
    fn the_kernel_says_whether_rights_were_gained() {
        let cases = [
            (vector(&[(6, 4096), (AT_SECURE, 0), (AT_NULL, 0)]), false),
            (vector(&[(6, 4096), (AT_SECURE, 1), (AT_NULL, 0)]), true),
            (vector(&[(AT_NULL, 0), (AT_SECURE, 1)]), false),
            (vector(&[(AT_SECURE, 1)])[..9].to_vec(), false),
            (Vec::new(), false),
        ];
        for (vector, secure) in cases {
            assert_eq!(at_secure(&vector), secure, "{vector:?}");
        }
        assert!(!elevated(), "a test is started with nobody else's rights");
    }
}
