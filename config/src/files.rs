//! Reading configuration files: one that stands alone, and those in the directory `conf.d` beside it.

use ebpf_process_core::identity;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::error::ConfigError;
use crate::secure;
use crate::texts::{Read, Syntax, Texts};

/// The directory whose files are later layers than the file beside it.
const DIRECTORY: &str = "conf.d";

/// More than any configuration needs; a device or an endless pipe ends here.
const FILE_LIMIT: u64 = 1 << 20;

/// Files in one directory.
const COUNT_LIMIT: usize = 256;

/// All files together, so that neither memory nor whoever is handed the texts is overrun.
const TOTAL_LIMIT: usize = 8 << 20;

/// A file that is a layer.
#[derive(Clone, Debug)]
pub(crate) struct FileLayer {
    path: PathBuf,
    required: bool,
    syntax: Syntax,
    /// Whether the directory `conf.d` beside it belongs to it.
    with_directory: bool,
}

/// What there is to do where a file is missing.
enum Missing {
    /// Nothing.
    Fine,
    /// This, and it is a refusal.
    Refused(String),
}

/// Reads files for a layer.
struct Reader<'a> {
    /// Reads only what nobody but root can change.
    trusted_only: bool,
    texts: &'a mut Texts,
}

impl FileLayer {
    /// One that somebody names: it must exist.
    pub(crate) fn named(path: &Path) -> Self {
        Self { path: path.to_owned(), required: true, syntax: Syntax::Toml, with_directory: true }
    }

    /// The system's, which may be missing; what is in the directory beside it counts all the same.
    pub(crate) fn system(path: &Path) -> Self {
        Self { path: path.into(), required: false, syntax: Syntax::Toml, with_directory: true }
    }

    /// One in a directory of netdata's, whose `conf.d` is netdata's own.
    pub(crate) const fn of_netdata(path: PathBuf, syntax: Syntax) -> Self {
        Self { path, required: false, syntax, with_directory: false }
    }

    /// Adds the text of the file, and those of the files in its directory.
    pub(crate) fn read(&self, trusted_only: bool, texts: &mut Texts) -> Result<(), ConfigError> {
        let mut reader = Reader { trusted_only, texts };
        let missing = if self.required {
            Missing::Refused(identity().adapt("correct the path after --config or in EBPF_PROCESS_CONFIG"))
        } else {
            Missing::Fine
        };
        reader.add(&self.path, self.syntax, missing)?;
        if self.with_directory {
            let directory = self.path.with_file_name(DIRECTORY);
            for name in reader.list(&directory)? {
                reader.add(
                    &directory.join(name),
                    Syntax::Toml,
                    Missing::Refused("remove the link, or mend it".to_owned()),
                )?;
            }
        }
        Ok(())
    }
}

impl Reader<'_> {
    fn add(&mut self, path: &Path, syntax: Syntax, missing: Missing) -> Result<(), ConfigError> {
        let Some(text) = self.text(path, missing)? else { return Ok(()) };
        self.texts.files.push(Read { path: path.to_owned(), syntax, text });
        if self.texts.files.iter().map(|file| file.text.len()).sum::<usize>() > TOTAL_LIMIT {
            let problem = format!("with this one, all files together are larger than {} MiB", TOTAL_LIMIT >> 20);
            return Err(refused(path, problem, "leave some out"));
        }
        Ok(())
    }

    fn text(&mut self, path: &Path, missing: Missing) -> Result<Option<String>, ConfigError> {
        let opened = if self.trusted_only { secure::open(path) } else { std::fs::File::open(path) };
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) if is_missing(&error) => {
                return match missing {
                    Missing::Fine => Ok(None),
                    Missing::Refused(way_out) => Err(refused(path, "there is no such file", &way_out)),
                };
            }
            Err(error) if self.trusted_only => {
                self.ignore(path, &error.to_string());
                return Ok(None);
            }
            Err(error) => return Err(unreadable(path, &error, "file")),
        };
        if opened.metadata().is_ok_and(|metadata| metadata.is_dir()) {
            return Err(refused(path, "is a directory", "name a file in it"));
        }
        let mut bytes = Vec::new();
        let read = opened.take(FILE_LIMIT + 1).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(path, &error, "file"))?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(refused(path, "is larger than 1 MiB", "name a configuration file"));
        }
        let text = String::from_utf8(bytes);
        text.map(Some).map_err(|_| refused(path, "is not UTF-8 text", "save it as UTF-8"))
    }

    /// The names of the files in a directory that are layers, in byte order. A directory that is missing has none.
    fn list(&mut self, directory: &Path) -> Result<Vec<OsString>, ConfigError> {
        let trusted = if self.trusted_only { secure::directory(directory) } else { Ok(()) };
        let entries = match trusted.and_then(|()| std::fs::read_dir(directory)) {
            Ok(entries) => entries,
            // A file of that name is a mistake; that one in a path above it is no directory was said before.
            Err(error) if is_missing(&error) && directory.symlink_metadata().is_err() => return Ok(Vec::new()),
            Err(error) if self.trusted_only => {
                self.ignore(directory, &error.to_string());
                return Ok(Vec::new());
            }
            Err(error) if is_missing(&error) => {
                return Err(refused(directory, "is no directory", "make it one, or give it another name"));
            }
            Err(error) => return Err(unreadable(directory, &error, "directory")),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(directory, &error, "directory"))?;
            let name = entry.file_name();
            if !is_layer(name.as_bytes()) || !is_file_or_unknown(&entry.path()) {
                continue;
            }
            if name.as_bytes().iter().any(u8::is_ascii_control) {
                // It would be in messages and in what `config show` prints.
                let problem = format!("the name {:?} has control characters", name.to_string_lossy());
                return Err(refused(directory, problem, "give the file another name"));
            }
            if names.len() == COUNT_LIMIT {
                let problem = format!("has more than {COUNT_LIMIT} files that end in .toml");
                return Err(refused(directory, problem, "put several settings into one file"));
            }
            names.push(name);
        }
        names.sort();
        Ok(names)
    }

    fn ignore(&mut self, path: &Path, reason: &str) {
        self.texts.warnings.push(format!("{} is ignored: {reason}", path.display()));
    }
}

/// Whether a name is that of a layer, and not of what an editor or a package manager leaves beside it.
fn is_layer(name: &[u8]) -> bool {
    name.ends_with(b".toml") && !name.starts_with(b".")
}

/// Not a directory, a device or a pipe, also behind a link. What cannot be looked at is an error for whoever opens it,
/// unless it has gone since it was listed.
fn is_file_or_unknown(path: &Path) -> bool {
    match path.metadata() {
        Ok(metadata) => metadata.is_file(),
        Err(error) => !is_missing(&error) || path.symlink_metadata().is_ok(),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn unreadable(path: &Path, error: &io::Error, what: &str) -> ConfigError {
    if error.kind() == ErrorKind::PermissionDenied {
        let way_out = format!("run as root, or make the {what} readable for this user");
        return refused(path, "permission denied", way_out);
    }
    refused(path, error.to_string(), format!("name a {what} that can be read"))
}

fn refused(path: &Path, problem: impl Into<String>, way_out: impl Into<String>) -> ConfigError {
    ConfigError::File { path: path.to_owned(), line: None, problem: problem.into(), way_out: way_out.into() }
}
