//! What a process is known by, and one rule about it.

use crate::pattern::Pattern;

/// How many bytes of a name the kernel keeps.
const KEPT: usize = 15;

/// What is known about a process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process<'a> {
    /// The name that the kernel keeps.
    pub comm: &'a str,
    /// The path of the executable.
    pub exe: Option<&'a str>,
    /// The command line, with blanks between the arguments.
    pub cmdline: Option<&'a str>,
    /// The name of the user, or the number.
    pub user: Option<&'a str>,
    /// The path of the control group.
    pub cgroup: Option<&'a str>,
    /// The systemd unit.
    pub unit: Option<&'a str>,
}

/// What must be known about processes for rules to be about it; the name is always asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each thing that can be asked for")]
pub struct Asked {
    /// A rule is about the executable.
    pub exe: bool,
    /// A rule is about the command line, or about a name that is longer than what the kernel keeps.
    pub cmdline: bool,
    /// A rule is about the user.
    pub user: bool,
    /// A rule is about the control group.
    pub cgroup: bool,
    /// A rule is about the unit.
    pub unit: bool,
}

/// What a pattern can be about by a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    User,
    Cgroup,
    Unit,
    Exe,
    Cmdline,
}

impl Key {
    pub(crate) const ALL: [(Self, &'static str); 5] = [
        (Self::User, "user"),
        (Self::Cgroup, "cgroup"),
        (Self::Unit, "unit"),
        (Self::Exe, "exe"),
        (Self::Cmdline, "cmdline"),
    ];

    fn of<'a>(self, process: &Process<'a>) -> Option<&'a str> {
        match self {
            Self::User => process.user,
            Self::Cgroup => process.cgroup,
            Self::Unit => process.unit,
            Self::Exe => process.exe,
            Self::Cmdline => process.cmdline,
        }
    }
}

/// A pattern, and what of a process it is about.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    about: About,
    pattern: Pattern,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    Name,
    /// Any part of the command line.
    Text,
    Key(Key),
}

impl Rule {
    pub(crate) fn new(key: Option<Key>, pattern: &str) -> Self {
        let is_inside = pattern.len() > 1 && pattern.starts_with('*') && pattern.ends_with('*');
        let about = key.map_or(if is_inside { About::Text } else { About::Name }, About::Key);
        Self { about, pattern: Pattern::new(pattern) }
    }

    pub(crate) fn fits(&self, known: &Known<'_>) -> bool {
        let fits = |text: &str| self.pattern.fits(text);
        match self.about {
            About::Name => known.names.iter().flatten().any(|name| fits(name)),
            About::Text => fits(known.text),
            About::Key(key) => key.of(&known.process).is_some_and(fits),
        }
    }

    /// Adds what this rule has to know.
    pub(crate) fn ask(&self, asked: &mut Asked) {
        match self.about {
            About::Name => asked.cmdline |= self.pattern.shortest() > KEPT,
            About::Text | About::Key(Key::Cmdline) => asked.cmdline = true,
            About::Key(Key::Exe) => asked.exe = true,
            About::Key(Key::User) => asked.user = true,
            About::Key(Key::Cgroup) => asked.cgroup = true,
            About::Key(Key::Unit) => asked.unit = true,
        }
    }
}

/// What is known about a process, as rules ask for it.
pub(crate) struct Known<'a> {
    process: Process<'a>,
    /// The kernel's name; that without the parentheses which systemd puts around what has not become itself yet; and the
    /// whole of one that was cut off, as the executable and the command line tell it.
    names: [Option<&'a str>; 4],
    /// The command line; threads of the kernel have none, and are known by their names.
    text: &'a str,
}

impl<'a> Known<'a> {
    pub(crate) fn new(process: &Process<'a>) -> Self {
        let comm = process.comm;
        let inside = comm.strip_prefix('(').and_then(|name| name.strip_suffix(')'));
        let whole = |path: Option<&'a str>| {
            let name = path.filter(|_| comm.len() >= KEPT)?.rsplit('/').next()?;
            (name.len() > comm.len() && name.starts_with(comm)).then_some(name)
        };
        let program = process.cmdline.and_then(|line| line.split([' ', '\0']).next());
        let text = process.cmdline.filter(|line| !line.is_empty()).unwrap_or(comm);
        Self { process: *process, names: [Some(comm), inside, whole(process.exe), whole(program)], text }
    }
}
