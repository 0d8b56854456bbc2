//! What was read from files, before anybody asks what it means.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

/// The configuration files as they were read: plain data, in the order of their layers.
///
/// It can be handed to another process: whoever may read the files [encodes](Self::encode) it for one that may not. It
/// may have secrets in it; its debug form has none.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Texts {
    pub(crate) files: Vec<Read>,
    /// What was left out while reading.
    pub(crate) warnings: Vec<String>,
}

/// One file.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) path: PathBuf,
    pub(crate) syntax: Syntax,
    pub(crate) text: String,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// What everybody writes.
    Toml,
    /// What netdata's users know.
    Conf,
}

/// What an encoding begins with: another version of this program may be at the other end.
const FORMAT: &[u8] = b"texts 1\n";

const TOML: u8 = 0;
const CONF: u8 = 1;

impl Texts {
    /// The paths of the files that were found, in the order of their layers.
    pub fn paths(&self) -> impl Iterator<Item = &std::path::Path> {
        self.files.iter().map(|file| file.path.as_path())
    }

    /// As bytes, for [`decode`](Self::decode).
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = FORMAT.to_vec();
        put_number(&mut bytes, self.warnings.len());
        for warning in &self.warnings {
            put(&mut bytes, warning.as_bytes());
        }
        put_number(&mut bytes, self.files.len());
        for Read { path, syntax, text } in &self.files {
            bytes.push(match syntax {
                Syntax::Toml => TOML,
                Syntax::Conf => CONF,
            });
            put(&mut bytes, path.as_os_str().as_bytes());
            put(&mut bytes, text.as_bytes());
        }
        bytes
    }

    /// What was [encoded](Self::encode); nothing if these bytes are anything else. It takes no more memory than they do,
    /// but for a small multiple.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes.strip_prefix(FORMAT)?;
        let mut texts = Self::default();
        for _ in 0..take_number(&mut rest)? {
            texts.warnings.push(take_text(&mut rest)?);
        }
        for _ in 0..take_number(&mut rest)? {
            let (&syntax, behind) = rest.split_first()?;
            rest = behind;
            let syntax = match syntax {
                TOML => Syntax::Toml,
                CONF => Syntax::Conf,
                _ => return None,
            };
            let path = PathBuf::from(OsString::from_vec(take(&mut rest)?.to_vec()));
            texts.files.push(Read { path, syntax, text: take_text(&mut rest)? });
        }
        rest.is_empty().then_some(texts)
    }
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let paths: Vec<&OsStr> = self.files.iter().map(|file| file.path.as_os_str()).collect();
        f.debug_struct("Texts").field("files", &paths).field("warnings", &self.warnings).finish()
    }
}

fn put_number(bytes: &mut Vec<u8>, number: usize) {
    // What is counted here is in memory, and no usize is wider.
    bytes.extend_from_slice(&(number as u64).to_le_bytes());
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    put_number(bytes, part.len());
    bytes.extend_from_slice(part);
}

fn take_number(rest: &mut &[u8]) -> Option<usize> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    usize::try_from(u64::from_le_bytes(*number)).ok()
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = take_number(rest)?;
    let (part, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(part)
}

fn take_text(rest: &mut &[u8]) -> Option<String> {
    Some(std::str::from_utf8(take(rest)?).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        let file = |path: &[u8], syntax, text: &str| Read {
            path: PathBuf::from(OsStr::from_bytes(path)),
            syntax,
            text: text.to_owned(),
        };
        Texts {
            files: vec![
                file(b"/etc/a.toml", Syntax::Toml, "token = \"hush\"\n"),
                // A path need not be text.
                file(b"/etc/\xff.conf", Syntax::Conf, ""),
            ],
            warnings: vec!["/etc/b is ignored".to_owned(), String::new()],
        }
    }

    #[test]
    fn what_was_encoded_is_decoded_and_nothing_else_is() {
        for texts in [Texts::default(), texts()] {
            let bytes = texts.encode();
            assert_eq!(Texts::decode(&bytes).as_ref(), Some(&texts));
            for end in 0..bytes.len() {
                assert_eq!(Texts::decode(&bytes[..end]), None, "{end} bytes of {}", bytes.len());
            }
            assert_eq!(Texts::decode(&[&bytes[..], b"more"].concat()), None);
        }
        // The inputs that the fuzzer begins with are still what they were made as.
        let two = include_bytes!("../../tests/fuzz/seeds/texts/two");
        assert_eq!(Texts::decode(two).map(|texts| texts.paths().count()), Some(2));
    }

    #[test]
    fn bytes_that_promise_more_than_they_have_cost_no_memory() {
        let promise = [FORMAT, &u64::MAX.to_le_bytes()].concat();
        assert_eq!(Texts::decode(&promise), None);
        let mut wrong = texts().encode();
        for index in 0..wrong.len() {
            let was = std::mem::replace(&mut wrong[index], 0xff);
            // Whatever comes of it, it is no panic.
            let _ = Texts::decode(&wrong);
            wrong[index] = was;
        }
    }

    #[test]
    fn the_debug_form_has_the_paths_and_no_secret() {
        let shown = format!("{:?}", texts());
        assert!(shown.contains("/etc/a.toml") && !shown.contains("hush"), "{shown}");
    }
}
