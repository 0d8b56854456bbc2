//! Rights that the caller does not have: whether this process got some, and giving them up.

use rustix::process::{getegid, geteuid, getgid, getuid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, set_capabilities,
    set_keep_capabilities, set_no_new_privs, set_thread_res_gid, set_thread_res_uid,
};

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

/// Whether no program that this process's unit or container starts can load BPF programs, whatever its file grants: they
/// are cut from the bounding set.
pub(crate) fn withheld() -> bool {
    // A kernel that does not know a capability says that asking is wrong.
    let within = |capability| capability_is_in_bounding_set(capability).unwrap_or(false);
    let enough = within(CapabilitySet::BPF) && within(CapabilitySet::PERFMON);
    !enough && !within(CapabilitySet::SYS_ADMIN)
}

/// Goes back to the caller's user and group and keeps no right but those that reading and
/// detaching the probes takes. Call it when they are attached and there is no other thread yet:
/// to the kernel these are rights of a thread.
pub(crate) fn give_up() -> Result<(), Refusal> {
    let failed = |error: rustix::io::Errno| {
        Refusal::lasting(format!(
            "cannot give up the rights this program was started with: {error}; start it as a service instead"
        ))
    };
    set_keep_capabilities(true).map_err(failed)?;
    let (user, group) = (getuid(), getgid());
    if getegid() != group {
        set_thread_res_gid(group, group, group).map_err(failed)?;
    }
    if geteuid() != user {
        set_thread_res_uid(user, user, user).map_err(failed)?;
    }
    keep_what_reading_takes().map_err(failed)?;
    set_keep_capabilities(false).map_err(failed)?;
    set_no_new_privs(true).map_err(failed)?;
    if geteuid() != user || getegid() != group {
        return Err(Refusal::lasting("the kernel did not take back the rights this program was started with"));
    }
    Ok(())
}

/// Gives up every capability that reading and detaching the probes does not take. For a process that
/// was started with these rights; call it like [`give_up`].
pub(crate) fn limit() -> Result<(), Refusal> {
    keep_what_reading_takes().map_err(|error| {
        Refusal::lasting(format!(
            "cannot give up the capabilities that are not needed: {error}; to keep them: capabilities = \"keep\""
        ))
    })
}

fn keep_what_reading_takes() -> rustix::io::Result<()> {
    let permitted = capabilities(None)?.permitted;
    let permitted = permitted & kept(permitted);
    let effective = permitted - DETACHING;
    set_capabilities(None, CapabilitySets { effective, permitted, inheritable: CapabilitySet::empty() })
}

/// Makes every right that the calling thread may have effective. A file may grant rights without that, so that the program
/// starts even where some are withheld; and removing a kprobe event opens a file of root's, without which the next start
/// would have to sweep.
pub(crate) fn take_up() {
    if let Ok(sets) = capabilities(None) {
        let effective = sets.permitted;
        // Where it fails, what needs the rights says so.
        let _ = set_capabilities(None, CapabilitySets { effective, ..sets });
    }
}

const DETACHING: CapabilitySet = CapabilitySet::DAC_OVERRIDE;

/// Before Linux 5.19 even reading a map takes `CAP_BPF`, where there is none `CAP_SYS_ADMIN`.
fn kept(permitted: CapabilitySet) -> CapabilitySet {
    let reading = if permitted.contains(CapabilitySet::BPF) {
        CapabilitySet::BPF | CapabilitySet::PERFMON
    } else {
        CapabilitySet::SYS_ADMIN
    };
    reading | DETACHING
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

    #[test]
    fn what_is_kept_depends_on_what_the_kernel_knows() {
        assert!(!kept(CapabilitySet::all()).contains(CapabilitySet::SYS_ADMIN));
        assert!(kept(CapabilitySet::SYS_ADMIN).contains(CapabilitySet::SYS_ADMIN));
    }
}
