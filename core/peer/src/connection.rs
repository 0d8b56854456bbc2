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
