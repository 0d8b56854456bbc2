//! Whom root's agent becomes once its probes are attached, and what it is able to do as that user.

use std::ffi::CStr;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use ebpf_process_config::{Plan, Rights};
use ebpf_process_core::identity;
use rustix::fs::{Dir, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, set_capabilities, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};
use tracing::warn;

use crate::accounts::{Account, Accounts};
use crate::exit::Refusal;

/// Who it is where the machine has no such user: the number that owns nothing.
const NOBODY: u32 = 65534;

/// A user that is not root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    name: Option<String>,
    pub(crate) uid: Uid,
    pub(crate) gid: Gid,
    pub(crate) groups: Vec<Gid>,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} ({})", self.uid.as_raw()),
            None => write!(f, "{}", self.uid.as_raw()),
        }
    }
}

impl User {
    /// Whom the agent becomes by this plan; none where it stays who it is: it was not started by root, gives nothing up,
    /// goes back to its caller, or is to stay root.
    ///
    /// An error is a user that this machine has not got.
    pub(crate) fn planned(plan: &Plan, elevated: bool) -> Result<Option<Self>, Refusal> {
        if elevated || plan.capabilities == Rights::Keep {
            return Ok(None);
        }
        if !geteuid().is_root() {
            if let Some(user) = &plan.user {
                warn!("user = \"{}\" has no effect: only an agent that root starts becomes another user", shown(user));
            }
            return Ok(None);
        }
        let user = Self::of(plan.user.as_deref(), &Accounts::read())?;
        let wanted = CapabilitySet::SETUID | CapabilitySet::SETGID;
        if user.is_none() || capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted)) {
            return Ok(user);
        }
        if plan.user.is_some() {
            return Err(Refusal::lasting(
                "user: becoming another user takes CAP_SETUID and CAP_SETGID, which this root has not got; grant them, or \
                 set user = \"root\"",
            ));
        }
        warn!("stays root, without CAP_SETUID and CAP_SETGID to become another user; user = \"root\" says that it may");
        Ok(None)
    }

    /// The same by what the machine says of users.
    fn of(configured: Option<&str>, accounts: &Accounts) -> Result<Option<Self>, Refusal> {
        // Packages make a user of the program's name.
        let name = configured.unwrap_or(identity().name());
        let Account { name, uid, gid, groups } = match accounts.user(name) {
            Some(account) => account,
            None if configured.is_none() => Account { name: None, uid: NOBODY, gid: NOBODY, groups: Vec::new() },
            None => {
                return Err(Refusal::Usage(format!(
                    "user: there is no user \"{}\" in /etc/passwd; make one (useradd --system NAME), or name another, also \
                     by its number",
                    shown(name)
                )));
            }
        };
        // A name of our own choice that is root's is nobody's wish.
        if uid == 0 {
            return if configured.is_some() { Ok(None) } else { Self::of(Some("65534"), accounts) };
        }
        let groups = groups.into_iter().map(Gid::from_raw).collect();
        Ok(Some(Self { name, uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups }))
    }

    /// Makes the calling thread this user, with no groups but its own. Which capabilities stay is the kernel's affair.
    pub(crate) fn take_over(&self) -> rustix::io::Result<()> {
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(self.gid, self.gid, self.gid)?;
        set_thread_res_uid(self.uid, self.uid, self.uid)
    }
}

/// Gives a directory to whom the agent becomes, or to root where that is nobody: if it is root's, or was left behind
/// empty by an agent that became somebody else. A link is not followed, and what is in use by somebody else stays theirs.
pub(crate) fn hand_over(directory: &Path, user: Option<&User>) -> io::Result<()> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = match rustix::fs::open(directory, flags, Mode::empty()) {
        Err(Errno::LOOP | Errno::NOTDIR) => return Ok(()),
        opened => opened?,
    };
    let (uid, gid) = user.map_or((Uid::ROOT, Gid::ROOT), |user| (user.uid, user.gid));
    let owner = Uid::from_raw(rustix::fs::fstat(&directory)?.st_uid);
    if owner != uid && (owner.is_root() || is_empty(&directory)?) {
        rustix::fs::fchown(&directory, Some(uid), Some(gid))?;
    }
    Ok(())
}

fn is_empty(directory: &OwnedFd) -> io::Result<bool> {
    let own = |name: &CStr| name == c"." || name == c"..";
    let mut entries = Dir::read_from(directory)?;
    Ok(!entries.any(|entry| entry.map_or(true, |entry| !own(entry.file_name()))))
}

/// Does this work as somebody would who is `user` (or who this process is, without one) and has not got the capabilities
/// `without`: by a thread of its own, since to the kernel all of these are a thread's. None where there is no such thread.
pub(crate) fn acting_as<T: Send>(
    user: Option<&User>,
    without: CapabilitySet,
    work: impl FnOnce() -> T + Send,
) -> Option<T> {
    let become_them = || {
        if let Some(user) = user {
            user.take_over()?;
        }
        let CapabilitySets { effective, permitted, inheritable } = capabilities(None)?;
        let sets = [effective, permitted, inheritable].map(|set| set - without);
        let [effective, permitted, inheritable] = sets;
        set_capabilities(None, CapabilitySets { effective, permitted, inheritable })
    };
    std::thread::scope(|scope| {
        let act = || become_them().ok().map(|()| work());
        let thread = std::thread::Builder::new().name("trial".to_owned()).spawn_scoped(scope, act);
        thread.ok().and_then(|thread| thread.join().ok()).flatten()
    })
}

/// A name as it can be told.
fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n\
                          web:x:33:34:a:b:c\nbroken\nhalf:x:x:1\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:web,other\nssl:x:7:other, web\nbad:x:y:web\nweb:x:34:\n";

    fn user(name: Option<&str>, uid: u32, gid: u32, groups: &[u32]) -> User {
        let groups = groups.iter().copied().map(Gid::from_raw).collect();
        User { name: name.map(str::to_owned), uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), groups }
    }

    #[test]
    fn a_user_is_who_the_machine_says_or_a_number_and_root_is_nobody_else() {
        let own = format!("{PASSWD}ebpf-process:x:900:901::/:/bin/false\n");
        let of = |configured, passwd| User::of(configured, &Accounts::of(passwd, GROUP)).expect("there is one");
        assert_eq!(of(None, PASSWD), Some(user(None, 65534, 65534, &[])));
        assert_eq!(of(None, ""), Some(user(None, 65534, 65534, &[])));
        assert_eq!(of(None, &own), Some(user(Some("ebpf-process"), 900, 901, &[])));
        assert_eq!(of(None, "ebpf-process:x:0:0::/:/bin/false"), Some(user(None, 65534, 65534, &[])));
        assert_eq!(of(Some("web"), PASSWD), Some(user(Some("web"), 33, 34, &[4, 7])));
        assert_eq!(of(Some("33"), PASSWD), Some(user(Some("web"), 33, 34, &[4, 7])));
        assert_eq!(of(Some("12"), PASSWD), Some(user(None, 12, 12, &[])));
        for root in ["root", "toor", "0"] {
            assert_eq!(of(Some(root), PASSWD), None);
        }
        for missing in ["broken", "half", "nobody-there", "", "-1", "4294967295", "4294967296"] {
            let refused = User::of(Some(missing), &Accounts::of(PASSWD, GROUP)).expect_err(missing);
            assert!(matches!(&refused, Refusal::Usage(_)), "{refused}");
            assert!(refused.to_string().contains("useradd"), "{refused}");
        }
    }

    #[test]
    fn what_is_done_as_somebody_else_is_done_by_a_thread_and_leaves_this_one_as_it_is() {
        if !geteuid().is_root() {
            return;
        }
        let web = user(None, 33, 34, &[4]);
        let (uid, sets) =
            acting_as(Some(&web), CapabilitySet::empty(), || (geteuid(), capabilities(None))).expect("a thread");
        assert_eq!((uid, sets.expect("its capabilities").permitted), (web.uid, CapabilitySet::empty()));
        let less =
            acting_as(None, CapabilitySet::CHOWN, || capabilities(None)).expect("a thread").expect("capabilities");
        assert!(!less.effective.contains(CapabilitySet::CHOWN));
        assert!(geteuid().is_root() && capabilities(None).expect("our own").effective.contains(CapabilitySet::CHOWN));
    }

    #[test]
    fn a_directory_of_roots_is_handed_over_and_no_link_and_nothing_that_somebody_else_uses() {
        use std::os::unix::fs::MetadataExt as _;
        if !geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let [own, used, left, link] = ["own", "used", "left", "link"].map(|name| folder.path().join(name));
        for path in [&own, &used, &left] {
            fs::create_dir(path).expect("a directory");
        }
        for path in [&used, &left] {
            std::os::unix::fs::chown(path, Some(7), Some(7)).expect("somebody's");
        }
        fs::write(used.join("socket"), "").expect("something in it");
        std::os::unix::fs::symlink(&own, &link).expect("a link");
        let web = user(None, 33, 34, &[]);
        let owner = |path: &Path| fs::metadata(path).expect("it is there").uid();
        hand_over(&link, Some(&web)).expect("not followed");
        assert_eq!(owner(&own), 0);
        for path in [&own, &used, &left] {
            hand_over(path, Some(&web)).expect("looked at");
        }
        assert_eq!([&*own, &used, &left].map(owner), [33, 7, 33]);
        hand_over(&own, None).expect("taken back");
        assert_eq!(owner(&own), 0);
        assert!(hand_over(&folder.path().join("missing"), Some(&web)).is_err());
    }
}
