//! Whether a task can be preempted inside the kernel, as found and not as believed.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;

use serde::{Deserialize, Serialize};

use crate::release::{Version, build_configuration};

/// Whether a task can be preempted inside the kernel, and so inside a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Preemption {
    /// `none` or `voluntary`: never.
    Never,
    /// `full` or `lazy`: a program that is interrupted is left out for everybody else on that
    /// processor until it is done.
    Possible,
    /// A real-time kernel: nearly everything can be preempted, and nothing of what is known of the others was tried.
    RealTime,
    /// Nothing says.
    Unknown,
}

/// `none voluntary (full) lazy`: the model in force is in brackets. Needs debugfs; 5.12 had it at another place.
const IN_FORCE: [&str; 2] = ["/sys/kernel/debug/sched/preempt", "/sys/kernel/debug/sched_preempt"];

/// The file that tells the model in force, kept open: root may choose another one at any time.
#[derive(Debug)]
pub(crate) struct InForce(Option<File>);

impl InForce {
    pub(crate) fn open() -> Self {
        Self(IN_FORCE.iter().find_map(|path| File::open(path).ok()))
    }

    /// The open file, for another process.
    pub(crate) fn into_file(self) -> Option<File> {
        self.0
    }

    /// Of a file that another process has opened.
    pub(crate) const fn of_file(file: Option<File>) -> Self {
        Self(file)
    }

    /// What it says now; nothing where there is no such file.
    pub(crate) fn read(&self) -> Option<Preemption> {
        let mut text = [0; 256];
        let length = self.0.as_ref()?.read_at(&mut text, 0).ok()?;
        in_brackets(std::str::from_utf8(&text[..length]).ok()?)
    }
}

/// What tells of preemption, from the surest to the least sure.
struct Sources<'a> {
    in_force: Option<Preemption>,
    command_line: &'a str,
    /// `/proc/version`.
    banner: &'a str,
    version: Version,
    config: Option<&'a str>,
}

impl Preemption {
    /// As found now.
    pub(crate) fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (command_line, banner) = (text("/proc/cmdline"), text("/proc/version"));
        let config = build_configuration().ok();
        Self::of(&Sources {
            in_force: InForce::open().read(),
            command_line: &command_line,
            banner: &banner,
            version: Version::running(),
            config: config.as_deref(),
        })
    }

    fn of(sources: &Sources<'_>) -> Self {
        let &Sources { in_force, command_line, banner, version, config } = sources;
        let built_with = |option: &str| config.is_some_and(|config| config.lines().any(|line| line == option));
        if banner.contains("PREEMPT_RT") || built_with("CONFIG_PREEMPT_RT=y") {
            return Self::RealTime;
        }
        if let Some(found) = in_force {
            return found;
        }
        // Only such a kernel lets the model be chosen; every other one ignores the word.
        let dynamic = banner.contains("PREEMPT_DYNAMIC") || built_with("CONFIG_PREEMPT_DYNAMIC=y");
        if dynamic && let Some(chosen) = chosen(command_line, version) {
            return chosen;
        }
        for (option, model) in [
            ("CONFIG_PREEMPT_NONE=y", Self::Never),
            ("CONFIG_PREEMPT_VOLUNTARY=y", Self::Never),
            ("CONFIG_PREEMPT_LAZY=y", Self::Possible),
            ("CONFIG_PREEMPT=y", Self::Possible),
        ] {
            if built_with(option) {
                return model;
            }
        }
        // "SMP PREEMPT_DYNAMIC" says that it can be chosen, "SMP PREEMPT" that it is full.
        if dynamic || banner.is_empty() {
            Self::Unknown
        } else if banner.contains(" PREEMPT ") {
            Self::Possible
        } else {
            Self::Never
        }
    }
}

/// The last `preempt=` that a kernel of this version understands: it ignores the others.
fn chosen(command_line: &str, version: Version) -> Option<Preemption> {
    let words = command_line.split_whitespace().filter_map(|word| word.strip_prefix("preempt="));
    words.filter_map(|word| understood(word, version)).next_back()
}

/// `lazy` came with 6.13 (7c70cb94d29c "sched: Add Lazy preemption model"); where there is lazy, 7.0 took `none` and
/// `voluntary` away ("sched: Further restrict the preemption modes").
fn understood(word: &str, version: Version) -> Option<Preemption> {
    match word {
        "none" | "voluntary" if version < Version(7, 0) => Some(Preemption::Never),
        "full" => Some(Preemption::Possible),
        "lazy" if version >= Version(6, 13) => Some(Preemption::Possible),
        _ => None,
    }
}

fn in_brackets(text: &str) -> Option<Preemption> {
    let (word, _) = text.split_once('(')?.1.split_once(')')?;
    match word {
        "none" | "voluntary" => Some(Preemption::Never),
        "full" | "lazy" => Some(Preemption::Possible),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DYNAMIC: &str = "Linux version 6.1.0 (build@host) #1 SMP PREEMPT_DYNAMIC Debian";
    const FIXED: &str = "Linux version 5.10.0 (build@host) #1 SMP Debian 5.10";
    const FULL: &str = "Linux version 5.4.0 (build@host) #1 SMP PREEMPT Thu";
    const REAL_TIME: &str = "Linux version 6.1.0-rt (build@host) #1 SMP PREEMPT_RT Debian";
    const VOLUNTARY: Option<&str> = Some("CONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_PREEMPT_DYNAMIC=y\n");

    fn of(banner: &str, command_line: &str, version: (u32, u32), config: Option<&str>) -> Preemption {
        Preemption::of(&Sources {
            in_force: None,
            command_line,
            banner,
            version: Version(version.0, version.1),
            config,
        })
    }

    #[test]
    fn a_word_is_believed_only_where_the_kernel_heeds_it() {
        use Preemption::{Never, Possible, RealTime, Unknown};
        for (banner, command_line, version, config, expected) in [
            (DYNAMIC, "quiet preempt=full", (6, 1), VOLUNTARY, Possible),
            (DYNAMIC, "quiet preempt=none", (6, 1), None, Never),
            (DYNAMIC, "quiet", (6, 1), VOLUNTARY, Never),
            (DYNAMIC, "quiet", (6, 1), None, Unknown),
            // The last one that is understood counts.
            (DYNAMIC, "preempt=full preempt=none", (6, 1), VOLUNTARY, Never),
            (DYNAMIC, "preempt=full preempt=off", (6, 1), VOLUNTARY, Possible),
            (DYNAMIC, "preempt=lazy", (6, 1), VOLUNTARY, Never),
            (DYNAMIC, "preempt=lazy", (6, 13), VOLUNTARY, Possible),
            (DYNAMIC, "preempt=none", (7, 2), Some("CONFIG_PREEMPT_LAZY=y"), Possible),
            (DYNAMIC, "preempt=none", (7, 2), None, Unknown),
            // Nothing to choose from.
            (FULL, "preempt=none", (5, 4), None, Possible),
            (FULL, "preempt=none", (5, 4), Some("CONFIG_PREEMPT=y"), Possible),
            (FIXED, "preempt=full", (5, 10), None, Never),
            (FIXED, "preempt=full", (5, 10), Some("CONFIG_PREEMPT_NONE=y"), Never),
            (REAL_TIME, "preempt=none", (6, 1), None, RealTime),
            (REAL_TIME, "", (6, 1), Some("CONFIG_PREEMPT_RT=y"), RealTime),
            ("", "preempt=none", (0, 0), None, Unknown),
        ] {
            assert_eq!(of(banner, command_line, version, config), expected, "{banner} {command_line} {version:?}");
        }
    }

    #[test]
    fn what_is_in_force_is_in_brackets_and_beats_every_word() {
        assert_eq!(in_brackets("none voluntary (full) lazy\n"), Some(Preemption::Possible));
        assert_eq!(in_brackets("(none) voluntary full\n"), Some(Preemption::Never));
        assert_eq!(in_brackets("full (lazy)\n"), Some(Preemption::Possible));
        assert_eq!(in_brackets("(undefined)\n"), None);
        assert_eq!(in_brackets(""), None);
        let sources = |in_force| Sources {
            in_force,
            command_line: "preempt=none",
            banner: DYNAMIC,
            version: Version(6, 1),
            config: VOLUNTARY,
        };
        assert_eq!(Preemption::of(&sources(Some(Preemption::Possible))), Preemption::Possible);
        assert_eq!(Preemption::of(&sources(None)), Preemption::Never);
    }
}
