//! The configuration that netdata's users know: `ebpf_process.conf` in netdata's directories.

use std::path::{Path, PathBuf};

use figment::value::{Dict, Value};

use crate::layer::nested;

/// Where netdata keeps configuration unless the environment says otherwise.
const USER_DIRECTORY: &str = "/etc/netdata";
const STOCK_DIRECTORY: &str = "/usr/lib/netdata/conf.d";

/// Netdata's configuration directories: what the user has changed, then what came with a package.
#[derive(Clone, Debug)]
pub struct Directories {
    user: PathBuf,
    stock: PathBuf,
}

impl Directories {
    /// The directories in `NETDATA_USER_CONFIG_DIR` and `NETDATA_STOCK_CONFIG_DIR`, or the usual ones.
    pub fn new(user: Option<PathBuf>, stock: Option<PathBuf>) -> Self {
        let given = |path: Option<PathBuf>| path.filter(|path| !path.as_os_str().is_empty());
        Self {
            user: given(user).unwrap_or_else(|| USER_DIRECTORY.into()),
            stock: given(stock).unwrap_or_else(|| STOCK_DIRECTORY.into()),
        }
    }

    /// The file of this name in the first directory that has one, readable or not.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        [&self.user, &self.stock].into_iter().map(|directory| directory.join(name)).find(|path| {
            // Whatever is there but cannot be looked at is an error for whoever opens it.
            !matches!(path.symlink_metadata(), Err(error) if matches!(error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory))
        })
    }
}

/// Reads the old syntax. What it does not know becomes a warning, as it always did.
pub(crate) fn parse(path: &Path, text: &str, warnings: &mut Vec<String>) -> Dict {
    let mut section = String::new();
    let mut table = Dict::new();
    for (index, line) in text.lines().enumerate() {
        let mut warn = |what: String| {
            warnings.push(format!("{}, line {}: {what}; the line is ignored", path.display(), index + 1));
        };
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').trim().to_ascii_lowercase();
            if section != "global" {
                warn(format!("unknown section [{}], only [global] is known", section.escape_debug()));
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            warn("expected key = value".to_owned());
            continue;
        };
        let (key, value) = (key.trim().to_ascii_lowercase(), value.trim());
        match (section.as_str(), key.as_str(), value.to_ascii_lowercase().as_str()) {
            ("global", "load", mode @ ("entry" | "return")) => {
                table = nested(&["probes".to_owned(), "mode".to_owned()], Value::from(mode));
            }
            ("global", "load", _) => {
                warn(format!("load is \"entry\" or \"return\", not \"{}\"", value.escape_debug()));
            }
            ("global", "debug log" | "use stdout", _) => warn(format!("\"{key}\" has no effect any more")),
            ("global", _, _) => warn(format!("unknown key \"{}\", only load is known", key.escape_debug())),
            // The section was warned about, its keys need no warning each.
            _ => {}
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_old_syntax_sets_the_mode_and_never_fails() {
        let cases = [
            ("", None, 0),
            (crate::NETDATA_CONF, Some("entry"), 0),
            ("[global]\nload = return\n", Some("return"), 0),
            ("[GLOBAL]\n  Load=RETURN  \n", Some("return"), 0),
            ("# load = return\n; load = return\n[global]\n", None, 0),
            ("[global]\nload = dev\n", None, 1),
            ("[global]\nload = return\nload = dev\n", Some("return"), 1),
            ("[global]\nlaod = return\ndebug log = yes\n", None, 2),
            ("load = return\n", None, 0),
            ("[other]\nload = return\n", None, 1),
            ("[global\nload = return\nnonsense\n", Some("return"), 1),
            ("[global]\nload = \u{1b}[2J\n", None, 1),
        ];
        for (text, mode, warned) in cases {
            let mut warnings = Vec::new();
            let table = parse(Path::new("ebpf_process.conf"), text, &mut warnings);
            let expected = mode.map(|mode| nested(&["probes".to_owned(), "mode".to_owned()], Value::from(mode)));
            assert_eq!(table, expected.unwrap_or_default(), "{text:?}");
            assert_eq!(warnings.len(), warned, "{text:?}: {warnings:?}");
            assert!(warnings.iter().all(|warning| !warning.contains('\u{1b}')), "{warnings:?}");
        }
    }
}
