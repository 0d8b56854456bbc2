//! What this kernel offers.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aya::{Btf, Endianness};
use ebpf_process_core::BuildError;

use crate::btf::arities;
use crate::options::Tier;
use crate::refusal::refuse_bpf;
use crate::sys;
use crate::tracefs::Tracefs;

/// The kernel's own type information.
pub(crate) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Facts about the running kernel, read once and shared by the probes while they are built.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The kernel's type information, or why there is none.
    pub(crate) btf: Result<Btf, String>,
    arities: HashMap<&'static str, usize>,
    pub(crate) tracefs: Result<Tracefs, String>,
    pub(crate) preemption: Preemption,
    pub(crate) possible_cpus: usize,
}

/// Whether a task can be preempted inside the kernel, and so inside a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preemption {
    /// `none` or `voluntary`: never.
    Never,
    /// `full` or `lazy`: a program that is interrupted is left out for everybody else on that
    /// processor until it is done.
    Possible,
    /// Nothing says.
    Unknown,
}

static SHARED: Mutex<Option<Arc<Kernel>>> = Mutex::new(None);

impl Kernel {
    /// The facts, read now or kept from another probe.
    pub(crate) fn shared() -> Result<Arc<Self>, BuildError> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kernel) = &*shared {
            return Ok(Arc::clone(kernel));
        }
        let kernel = Arc::new(Self::read(sys::possible_processors().map_err(|error| refuse_bpf(&error))?));
        *shared = Some(Arc::clone(&kernel));
        Ok(kernel)
    }

    /// Gives the memory back (type information takes tens of megabytes): nothing attaches later.
    pub(crate) fn forget() {
        if SHARED.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            sys::return_free_memory();
        }
    }

    fn read(possible_cpus: usize) -> Self {
        let functions: Vec<_> = crate::functions_with_results().collect();
        let bytes = fs::read(BTF_PATH).map_err(|error| {
            format!(
                "this kernel's type information cannot be read ({BTF_PATH}: {error}); it needs CONFIG_DEBUG_INFO_BTF=y"
            )
        });
        let unknown = |why: &str| format!("this kernel's type information is not understood ({BTF_PATH}): {why}");
        let parse = |bytes: &Vec<u8>| {
            let arities =
                arities(bytes, &functions).ok_or_else(|| unknown("it is newer than this program, or cut off"))?;
            let btf = Btf::parse(bytes, Endianness::default()).map_err(|error| unknown(&error.to_string()))?;
            Ok((btf, arities))
        };
        let (btf, arities) = match bytes.as_ref().map_err(Clone::clone).and_then(parse) {
            Ok((btf, arities)) => (Ok(btf), arities),
            Err(problem) => (Err(problem), HashMap::new()),
        };
        Self { arities, btf, tracefs: Tracefs::find(), preemption: Preemption::read(), possible_cpus }
    }

    /// How many arguments a function takes; `None` if the kernel has no such function to trace.
    pub(crate) fn arity(&self, function: &str) -> Option<usize> {
        self.arities.get(function).copied()
    }

    /// Whether a hook of this tier counts every event here. A breakpoint's handler cannot be
    /// preempted; a trampoline's or tracepoint's program can, where tasks can.
    pub(crate) const fn is_exact(&self, tier: Tier) -> bool {
        matches!((tier, self.preemption), (Tier::Kprobe, _) | (_, Preemption::Never))
    }
}

impl Preemption {
    /// From the surest source to the least sure.
    pub(crate) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        // "none voluntary (full) lazy": the model in force. Needs debugfs.
        if let Some((_, rest)) = text("/sys/kernel/debug/sched/preempt").split_once('(') {
            return Self::of_word(rest.split(')').next().unwrap_or(""));
        }
        let command_line = text("/proc/cmdline");
        if let Some(word) = command_line.split_whitespace().rev().find_map(|word| word.strip_prefix("preempt=")) {
            return Self::of_word(word);
        }
        let version = text("/proc/version");
        if version.contains("PREEMPT_RT") {
            return Self::Possible;
        }
        let config = build_configuration().unwrap_or_default();
        for (option, model) in [
            ("CONFIG_PREEMPT_NONE=y", Self::Never),
            ("CONFIG_PREEMPT_VOLUNTARY=y", Self::Never),
            ("CONFIG_PREEMPT_LAZY=y", Self::Possible),
            ("CONFIG_PREEMPT=y", Self::Possible),
        ] {
            if config.lines().any(|line| line == option) {
                return model;
            }
        }
        // "SMP PREEMPT_DYNAMIC" says that it can be chosen, "SMP PREEMPT" that it is full.
        if version.contains("PREEMPT_DYNAMIC") {
            Self::Unknown
        } else if version.contains(" PREEMPT ") {
            Self::Possible
        } else if version.is_empty() {
            Self::Unknown
        } else {
            Self::Never
        }
    }

    fn of_word(word: &str) -> Self {
        match word {
            "none" | "voluntary" => Self::Never,
            "full" | "lazy" => Self::Possible,
            _ => Self::Unknown,
        }
    }
}

/// How the kernel was built: from the kernel itself, or from the file its package left.
pub(crate) fn build_configuration() -> io::Result<String> {
    let mut config = String::new();
    if let Ok(file) = fs::File::open("/proc/config.gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut config)?;
        return Ok(config);
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    fs::read_to_string(format!("/boot/config-{}", release.trim()))
}

/// Opens a control group by its path in the v2 hierarchy.
pub(crate) fn open_cgroup(path: &Path) -> Result<fs::File, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| format!("/proc/self/mounts: {error}"))?;
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (_, place, kind) = (words.next()?, words.next()?, words.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(place))
    });
    let mount = mount.ok_or("no cgroup2 file system is mounted; as root: mount -t cgroup2 cgroup2 /sys/fs/cgroup")?;
    let full = mount.join(path.strip_prefix("/").unwrap_or(path));
    fs::File::open(&full).map_err(|error| format!("{}: {error}", full.display()))
}

/// This process's own control group in the v2 hierarchy.
pub(crate) fn own_cgroup() -> Option<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}
