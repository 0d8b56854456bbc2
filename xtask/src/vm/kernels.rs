//! The matrix: which kernels, where to get them, and the rows that must have run on each.

use crate::Outcome;

/// What is tested and how: a tier and a mode, or the name of a table and what of it.
pub(super) type Row = (&'static str, &'static str);

/// A kernel, where to get it, and the rows that must have run on it.
pub(super) struct Kernel {
    /// Its name, as `--kernel` takes it: the first two numbers of its version, and what is special about its boot.
    pub(super) version: &'static str,
    /// The Debian suite that has it.
    pub(super) suite: &'static str,
    /// A package that depends on the newest image of that version, or is that image.
    pub(super) package: &'static str,
    /// What is added to its command line.
    pub(super) parameters: &'static str,
    /// What runs, and at the same time what must have run: a row that is missing fails like a wrong one.
    groups: &'static [&'static [Row]],
    /// What runs besides with `--all`: more than an hour of an emulator shows little that the rows above do not.
    more: &'static [&'static [Row]],
}

/// Every tier in every mode, and what is chosen without being told.
const TIERS: &[Row] = &[
    ("fentry", "entry"),
    ("fentry", "return"),
    ("kprobe", "entry"),
    ("kprobe", "return"),
    ("tracepoint", "entry"),
    ("tracepoint", "return"),
    ("auto", "return"),
];

/// The same under many readers. Where tasks are preempted inside the kernel, what trampolines and tracepoints miss is
/// counted, and `auto` misses nothing.
const CROWDS: &[Row] = &[("fentry", "crowd"), ("kprobe", "crowd"), ("tracepoint", "crowd"), ("auto", "crowd")];

/// Many that delete, without a filter and in entry mode: there what a trampoline misses is known to be a call.
const UNFILTERED: &[Row] = &[("fentry", "unfiltered"), ("kprobe", "unfiltered"), ("auto", "unfiltered")];

/// Rows by process, app and control group beside a crew of fifty processes that count themselves.
const WHO: &[Row] = &[WHO_FENTRY, WHO_KPROBE, ("tracepoint", "who")];
const WHO_FENTRY: Row = ("fentry", "who");
const WHO_KPROBE: Row = ("kprobe", "who");
/// Where tasks are preempted inside the kernel, what is chosen for that.
const WHO_AUTO: &[Row] = &[("auto", "who")];

/// The table of operations.
const OPERATIONS: &[Row] = &[("fentry", "operations"), ("kprobe", "operations"), ("tracepoint", "operations")];

/// Kernel probes of somebody else: of programs and links that are started and made.
const LAUNCH: &[Row] = &[
    ("fentry", "launch-entry"),
    ("fentry", "launch-return"),
    ("kprobe", "launch-entry"),
    ("kprobe", "launch-return"),
    ("auto", "launch-return"),
];

/// Our own probes built by one process and read by another.
const ASSISTED: &[Row] = &[("fentry", "assisted"), ("kprobe", "assisted")];

/// The object for kernels without type information, forced.
const FLOOR: &[Row] =
    &[("floor", "entry"), ("floor", "return"), ("floor-tracepoint", "entry"), ("floor-tracepoint", "return")];

/// What `only` names ends, and something else gets its name.
const ENDS: &[Row] = &[
    ("auto", "number-again"),
    ("kprobe", "number-again"),
    ("floor", "number-again"),
    ("auto", "cgroup-anew"),
    ("floor", "cgroup-anew"),
];

/// How fast it starts and stops, and how much it holds: first, before the host has more to do.
const LIFETIME: &[Row] = &[("lifetime", "start")];

/// Somebody else on the same hooks at the same time.
const BESIDE: &[Row] = &[("beside", "second-instance"), ("beside", "perf")];

/// The machine's clock set forward and back while it counts.
const CLOCK: &[Row] = &[("clock", "steps")];

/// What the kernel does by itself, and what stays behind.
const HYGIENE: &[Row] =
    &[("kernel-threads", "start"), ("hygiene", "stop"), ("hygiene", "kill"), ("hygiene", "beside-a-container")];

/// The first processor is off, where a kernel can switch it off at all.
const PROCESSORS: &[Row] = &[("processor-0", "offline")];

/// Hooks that do not fire, before the start and while the agent runs.
const SWITCHES: &[Row] = &[("switches", "before"), ("switches", "while")];

/// What is told where something is missing.
const REFUSALS: &[Row] = &[
    ("refusal", "no-tracefs"),
    ("refusal", "no-btf"),
    ("refusal", "missing-function"),
    ("refusal", "no-root"),
    ("refusal", "missing-capability"),
];

/// The longest first: several run at a time. By default each tier in each mode runs on the oldest and on the newest
/// kernel, and everything else on one that it may be different on; with `--all` on all of them.
const KERNELS: &[Kernel] = &[
    Kernel::new(
        "5.10",
        "bullseye-security",
        "",
        &[
            LIFETIME,
            TIERS,
            &[("kprobe", "launch-return"), ("kprobe", "operations"), ("kprobe", "crowd")],
            FLOOR,
            ENDS,
            REFUSALS,
            &[WHO_KPROBE],
        ],
    )
    .more(&[LAUNCH, CROWDS, OPERATIONS, BESIDE, HYGIENE, WHO]),
    Kernel::new(
        "6.1",
        "bookworm-security",
        "cpu0_hotplug",
        &[
            &[("fentry", "return"), ("kprobe", "return")],
            ASSISTED,
            &[("fentry", "launch-entry"), ("fentry", "operations"), ("tracepoint", "crowd")],
            BESIDE,
            HYGIENE,
            SWITCHES,
            PROCESSORS,
            &[WHO_FENTRY],
        ],
    )
    .more(&[LIFETIME, TIERS, LAUNCH, CROWDS, OPERATIONS, FLOOR, REFUSALS, WHO]),
    Kernel::new(
        "newest",
        "sid",
        "",
        &[
            LIFETIME,
            TIERS,
            &[("fentry", "launch-return"), ("auto", "launch-return")],
            &[("fentry", "crowd"), ("auto", "crowd"), ("auto", "unfiltered")],
            &[("fentry", "operations"), ("tracepoint", "operations")],
            &[("auto", "number-again"), ("auto", "cgroup-anew")],
            WHO_AUTO,
        ],
    )
    .more(&[LAUNCH, CROWDS, UNFILTERED, OPERATIONS, ENDS, BESIDE, CLOCK, WHO]),
    Kernel::new("6.12", "trixie", "", &[&[("kprobe", "return"), ("auto", "return")], CLOCK])
        .more(&[LIFETIME, TIERS, CROWDS, OPERATIONS, BESIDE, WHO]),
    // Many processors that may come, of which none does: what is kept for each of them is there.
    Kernel::new("6.12-possible", "trixie", "possible_cpus=128", &[&[("fentry", "return"), WHO_KPROBE]]),
    Kernel::new("6.12-full", "trixie", "preempt=full", &[&[("fentry", "crowd"), ("auto", "crowd")], UNFILTERED])
        .more(&[TIERS, CROWDS, WHO_AUTO]),
    Kernel::new("6.1-full", "bookworm-security", "preempt=full", &[&[("kprobe", "crowd"), ("auto", "crowd")]])
        .more(&[TIERS, CROWDS, UNFILTERED, WHO_AUTO]),
    Kernel::new("6.1-integrity", "bookworm-security", "lockdown=integrity", &[&[("lockdown", "integrity")]]),
    Kernel::new(
        "6.1-confidentiality",
        "bookworm-security",
        "lockdown=confidentiality",
        &[&[("lockdown", "confidentiality")]],
    ),
];

impl Kernel {
    const fn new(
        version: &'static str,
        suite: &'static str,
        parameters: &'static str,
        groups: &'static [&'static [Row]],
    ) -> Self {
        Self { version, suite, package: "linux-image-cloud-amd64", parameters, groups, more: &[] }
    }

    const fn more(self, more: &'static [&'static [Row]]) -> Self {
        Self { more, ..self }
    }

    /// All of them.
    pub(super) fn all() -> impl Iterator<Item = &'static Self> {
        KERNELS.iter()
    }

    /// The one of this name.
    ///
    /// # Errors
    /// There is none; the message names those that there are.
    pub(super) fn named(version: &str) -> Outcome<&'static Self> {
        let known: Vec<&str> = Self::all().map(|kernel| kernel.version).collect();
        let found = Self::all().find(|kernel| kernel.version == version);
        found.ok_or_else(|| format!("vm: no kernel {version:?}; there are {}", known.join(", ")).into())
    }

    /// Its rows, in the order in which they run; each once.
    pub(super) fn rows(&self, all: bool) -> Vec<Row> {
        let more = if all { self.more } else { &[] };
        let mut rows: Vec<Row> = Vec::new();
        for row in self.groups.iter().chain(more).copied().flatten() {
            if !rows.contains(row) {
                rows.push(*row);
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn by_default_every_row_of_the_tables_runs_on_some_kernel() {
        let default: BTreeSet<Row> = Kernel::all().flat_map(|kernel| kernel.rows(false)).collect();
        let all: BTreeSet<Row> = Kernel::all().flat_map(|kernel| kernel.rows(true)).collect();
        let left: Vec<_> = all.difference(&default).collect();
        // With raw tracepoints rows by process are compared on the machine itself.
        assert_eq!(left, [&("kprobe", "launch-entry"), &("tracepoint", "who")]);
        for version in ["5.10", "newest"] {
            let rows = Kernel::named(version).unwrap().rows(false);
            assert!(TIERS.iter().all(|row| rows.contains(row)), "{version}");
        }
    }

    #[test]
    fn every_version_is_in_the_table_once_and_has_each_row_once() {
        let versions: BTreeSet<&str> = Kernel::all().map(|kernel| kernel.version).collect();
        assert_eq!(versions.len(), KERNELS.len());
        for kernel in Kernel::all() {
            let listed = kernel.groups.concat();
            let rows: BTreeSet<Row> = listed.iter().copied().collect();
            assert!(!rows.is_empty() && rows.len() == listed.len(), "{}", kernel.version);
            let all = kernel.rows(true);
            assert!(all.starts_with(&kernel.rows(false)) && all.len() >= rows.len(), "{}", kernel.version);
        }
    }
}
