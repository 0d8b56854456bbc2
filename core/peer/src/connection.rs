//! What is configured of a connection, whoever has it.

use std::collections::BTreeMap;
use std::path::Path;

use ebpf_process_core::{Options, OptionsError, Program, size};

use crate::target::Target;

/// The keys of a table of options that say what is talked to, as they were read. All that have an `Option` are none where
/// the key is not there.
///
/// They are no type of options by themselves: a table of options that has others beside them names an unknown key, and the
/// place of a wrong value, only where one type has all of them.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'a> {
    /// `program`: a path and arguments.
    pub program: Option<&'a [String]>,
    /// `address`: `unix:` and a path.
    pub address: Option<&'a str>,
    /// `user`.
    pub user: Option<&'a str>,
    /// `group`.
    pub group: Option<&'a str>,
    /// `directory`.
    pub directory: Option<&'a Path>,
    /// `environment`.
    pub environment: &'a BTreeMap<String, String>,
    /// `memory`, as a size.
    pub memory: Option<&'a str>,
}

impl Connection<'_> {
    /// What is talked to. An error names the key, in the words of the table that it is from.
    pub fn target(&self, options: &Options) -> Result<Target, OptionsError> {
        match (self.program, self.address) {
            (Some(words), None) => self.start(words, options).map(Target::Program),
            (None, Some(address)) => self.socket(address, options),
            (Some(_), Some(_)) => {
                Err(options
                    .refuse("address", "either program or address, not both: the one starts, the other connects"))
            }
            (None, None) => {
                Err(options
                    .refuse("program", "expected program = [\"/path\", \"argument\"], or address = \"unix:/path\""))
            }
        }
    }

    fn start(&self, words: &[String], options: &Options) -> Result<Program, OptionsError> {
        let no_nul = |key: &str, text: &str| {
            if text.contains('\0') {
                Err(options.refuse(key, "no word of it can have a NUL character"))
            } else {
                Ok(())
            }
        };
        let Some((path, arguments)) = words.split_first().filter(|(path, _)| path.starts_with('/')) else {
            return Err(options.refuse(
                "program",
                "expected a list whose first word is an absolute path such as \"/usr/local/bin/store\"",
            ));
        };
        words.iter().try_for_each(|word| no_nul("program", word))?;
        for (name, value) in self.environment {
            if name.is_empty() || name.contains('=') {
                return Err(options.refuse("environment", "a variable's name is not empty and has no \"=\""));
            }
            no_nul("environment", name)?;
            no_nul("environment", value)?;
        }
        if self.directory.is_some_and(|directory| !directory.is_absolute()) {
            return Err(options.refuse("directory", "expected an absolute path"));
        }
        let memory = self.memory.map(size::parse).transpose();
        Ok(Program {
            path: path.into(),
            arguments: arguments.iter().map(Into::into).collect(),
            environment: self.environment.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            directory: self.directory.map(Into::into),
            user: self.user.map(Into::into),
            group: self.group.map(Into::into),
            memory: memory.map_err(|problem| options.refuse("memory", problem))?,
        })
    }

    fn socket(&self, address: &str, options: &Options) -> Result<Target, OptionsError> {
        let Some(path) = address.strip_prefix("unix:").filter(|path| path.starts_with('/') && !path.contains('\0'))
        else {
            return Err(
                options.refuse("address", "expected \"unix:\" and an absolute path, such as \"unix:/run/store.sock\"")
            );
        };
        let of_programs = [
            ("user", self.user.is_some()),
            ("group", self.group.is_some()),
            ("directory", self.directory.is_some()),
            ("environment", !self.environment.is_empty()),
            ("memory", self.memory.is_some()),
        ];
        if let Some((key, _)) = of_programs.into_iter().find(|(_, set)| *set) {
            return Err(
                options.refuse(key, "has no effect on a program behind an address: whoever starts it decides that")
            );
        }
        Ok(Target::Socket(path.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NONE: BTreeMap<String, String> = BTreeMap::new();

    const UNSAID: Connection<'_> = Connection {
        program: None,
        address: None,
        user: None,
        group: None,
        directory: None,
        environment: &NONE,
        memory: None,
    };

    fn target(connection: Connection<'_>) -> Result<Target, String> {
        connection.target(&Options::none()).map_err(|error| format!("{}: {}", error.key, error.problem))
    }

    fn variables(name: &str, value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([(name.to_owned(), value.to_owned())])
    }

    #[test]
    fn a_program_is_started_as_its_options_say() {
        let words = ["/bin/store".to_owned(), "-v".to_owned()];
        let environment = variables("A", "1=2");
        let found = target(Connection {
            program: Some(&words),
            address: None,
            user: Some("store"),
            group: Some("disk"),
            directory: Some(Path::new("/var")),
            environment: &environment,
            memory: Some("1MiB"),
        });
        let program = Program {
            path: "/bin/store".into(),
            arguments: vec!["-v".into()],
            environment: vec![("A".into(), "1=2".into())],
            directory: Some("/var".into()),
            user: Some("store".into()),
            group: Some("disk".into()),
            memory: Some(1 << 20),
        };
        assert_eq!(found, Ok(Target::Program(program)));
        let socket = Connection { address: Some("unix:/run/store"), ..UNSAID };
        assert_eq!(target(socket), Ok(Target::Socket("/run/store".into())));
    }

    #[test]
    fn a_wrong_option_is_named() {
        let refused = |key: &str, connection: Connection<'_>| {
            let problem = target(connection).expect_err(key);
            assert!(problem.starts_with(&format!("options.{key}: ")), "{key}: {problem}");
        };
        let right = ["/bin/store".to_owned()];
        let (program, socket) =
            (Connection { program: Some(&right), ..UNSAID }, Connection { address: Some("unix:/run/store"), ..UNSAID });
        refused("program", UNSAID);
        refused("address", Connection { address: socket.address, ..program });
        for wrong in [&["store".to_owned()][..], &["/bin/store".to_owned(), "\0".to_owned()], &[]] {
            refused("program", Connection { program: Some(wrong), ..UNSAID });
        }
        for (name, value) in [("", "x"), ("a=b", "x"), ("a\0", "x"), ("a", "\0")] {
            refused("environment", Connection { environment: &variables(name, value), ..program });
        }
        refused("directory", Connection { directory: Some(Path::new("var")), ..program });
        refused("memory", Connection { memory: Some("much"), ..program });
        for address in ["/run/store", "unix:run/store", "unix:/run/\0", "tcp:/x"] {
            refused("address", Connection { address: Some(address), ..UNSAID });
        }
        refused("user", Connection { user: Some("store"), ..socket });
        refused("group", Connection { group: Some("store"), ..socket });
        refused("directory", Connection { directory: Some(Path::new("/var")), ..socket });
        refused("environment", Connection { environment: &variables("A", "1"), ..socket });
        refused("memory", Connection { memory: Some("1MiB"), ..socket });
    }
}
