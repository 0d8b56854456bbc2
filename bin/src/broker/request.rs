//! What can be asked of the broker: a closed language.
//!
//! A message is a number that its answers carry, a byte for what is asked, and what that is about. Numbers are four bytes,
//! the lowest first; texts that others follow have their length before them.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use ebpf_process_core::Program;

/// Bytes of a path at most: the kernel's limit.
const LONGEST_PATH: usize = 4096;

/// Arguments and variables of a program at most.
const MOST_WORDS: usize = 1024;

/// Bytes that go to an assistant at most.
pub(crate) const LONGEST_ASSIST: usize = 64 << 10;

/// Descriptors that a request may bring.
pub(crate) const MOST_BROUGHT: usize = 64;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A file opened for reading.
    Read(PathBuf),
    /// A file opened for appending.
    Append(PathBuf),
    /// A directory of the agent's user.
    Directory(PathBuf),
    /// A connected stream.
    Stream(PathBuf),
    /// A connected socket for datagrams.
    Datagrams(PathBuf),
    /// A listener.
    Listen(SocketAddr),
    /// A program, started.
    Start(Program),
    /// That a program be asked to end.
    Terminate(u32),
    /// The end of a program.
    End(u32),
    /// Whether a program has ended, and how.
    Ended(u32),
    /// The configuration, read again.
    Configuration,
    /// Whether the agent has taken over what was read last.
    InEffect(bool),
    /// What a probe needs done; with descriptors.
    Assist(String, Vec<u8>),
}

impl Request {
    /// The message.
    pub(crate) fn encode(&self, number: u32) -> Vec<u8> {
        let mut message = number.to_le_bytes().to_vec();
        match self {
            Self::Read(path) => put_last(&mut message, b'r', path.as_os_str()),
            Self::Append(path) => put_last(&mut message, b'a', path.as_os_str()),
            Self::Directory(path) => put_last(&mut message, b'd', path.as_os_str()),
            Self::Stream(path) => put_last(&mut message, b's', path.as_os_str()),
            Self::Datagrams(path) => put_last(&mut message, b'g', path.as_os_str()),
            Self::Listen(address) => put_last(&mut message, b'l', OsStr::new(&address.to_string())),
            Self::Start(Program { path, arguments, environment, directory, user, group, memory }) => {
                message.push(b'p');
                put(&mut message, path.as_os_str().as_bytes());
                put_perhaps(&mut message, directory.as_deref().map(|path| path.as_os_str().as_bytes()));
                put_perhaps(&mut message, user.as_deref().map(str::as_bytes));
                put_perhaps(&mut message, group.as_deref().map(str::as_bytes));
                put_perhaps(&mut message, memory.map(u64::to_le_bytes).as_ref().map(<[u8; 8]>::as_slice));
                put_number(&mut message, arguments.len());
                for argument in arguments {
                    put(&mut message, argument.as_bytes());
                }
                for (name, value) in environment {
                    put(&mut message, name.as_bytes());
                    put(&mut message, value.as_bytes());
                }
            }
            Self::Terminate(program) => {
                message.push(b't');
                message.extend(program.to_le_bytes());
            }
            Self::End(program) => {
                message.push(b'e');
                message.extend(program.to_le_bytes());
            }
            Self::Ended(program) => {
                message.push(b'w');
                message.extend(program.to_le_bytes());
            }
            Self::Configuration => message.push(b'c'),
            Self::InEffect(is) => message.extend([b'i', u8::from(*is)]),
            Self::Assist(probe, bytes) => {
                message.push(b'h');
                put(&mut message, probe.as_bytes());
                message.extend(bytes);
            }
        }
        message
    }

    /// A message's number, if it has one, and what it asks; none for what nobody asks who speaks this language.
    pub(crate) fn decode(message: &[u8]) -> (u32, Option<Self>) {
        let Some((number, body)) = message.split_first_chunk() else { return (0, None) };
        (u32::from_le_bytes(*number), Self::of_body(body))
    }

    fn of_body(body: &[u8]) -> Option<Self> {
        let (what, mut rest) = body.split_first()?;
        Some(match what {
            b'r' => Self::Read(path(rest)?),
            b'a' => Self::Append(path(rest)?),
            b'd' => Self::Directory(path(rest)?),
            b's' => Self::Stream(path(rest)?),
            b'g' => Self::Datagrams(path(rest)?),
            b'l' => Self::Listen(str::from_utf8(rest).ok()?.parse().ok()?),
            b'p' => {
                let named = path(take(&mut rest)?)?;
                let directory = take_perhaps(&mut rest, path).ok()?;
                let user = take_perhaps(&mut rest, text).ok()?;
                let group = take_perhaps(&mut rest, text).ok()?;
                let memory = take_perhaps(&mut rest, |bytes| bytes.try_into().ok().map(u64::from_le_bytes)).ok()?;
                let count = usize::try_from(take_number(&mut rest)?).ok().filter(|count| *count <= MOST_WORDS)?;
                let arguments = (0..count).map(|_| word(&mut rest)).collect::<Option<_>>()?;
                let mut environment = Vec::new();
                while !rest.is_empty() && environment.len() < MOST_WORDS {
                    environment.push((word(&mut rest)?, word(&mut rest)?));
                }
                let program = Program { path: named, arguments, environment, directory, user, group, memory };
                rest.is_empty().then_some(Self::Start(program))?
            }
            b't' => Self::Terminate(whole_number(rest)?),
            b'e' => Self::End(whole_number(rest)?),
            b'w' => Self::Ended(whole_number(rest)?),
            b'c' if rest.is_empty() => Self::Configuration,
            b'i' if matches!(rest, [0 | 1]) => Self::InEffect(rest == [1]),
            b'h' => {
                let probe = str::from_utf8(take(&mut rest)?).ok()?.to_owned();
                (rest.len() <= LONGEST_ASSIST).then(|| Self::Assist(probe, rest.to_vec()))?
            }
            _ => return None,
        })
    }
}

fn put_last(message: &mut Vec<u8>, what: u8, text: &OsStr) {
    message.push(what);
    message.extend(text.as_bytes());
}

fn put(message: &mut Vec<u8>, text: &[u8]) {
    put_number(message, text.len());
    message.extend(text);
}

/// A byte that says whether there is one, and the text.
fn put_perhaps(message: &mut Vec<u8>, text: Option<&[u8]>) {
    message.push(text.is_some().into());
    if let Some(text) = text {
        put(message, text);
    }
}

fn put_number(message: &mut Vec<u8>, number: usize) {
    // What does not fit is longer than any message may be, and is refused as such.
    message.extend(u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

fn take_number(rest: &mut &[u8]) -> Option<u32> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u32::from_le_bytes(*number))
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_number(rest)?).ok()?;
    let (text, behind) = rest.split_at_checked(length)?;
    *rest = behind;
    Some(text)
}

/// What cannot be said so.
#[derive(Debug)]
struct Malformed;

/// The inverse of [`put_perhaps`], with the text as what `read` makes of it.
fn take_perhaps<T>(rest: &mut &[u8], read: impl FnOnce(&[u8]) -> Option<T>) -> Result<Option<T>, Malformed> {
    let (there, behind) = rest.split_first().ok_or(Malformed)?;
    *rest = behind;
    match there {
        0 => Ok(None),
        1 => take(rest).and_then(read).map(Some).ok_or(Malformed),
        _ => Err(Malformed),
    }
}

fn text(bytes: &[u8]) -> Option<String> {
    str::from_utf8(bytes).ok().map(str::to_owned)
}

fn word(rest: &mut &[u8]) -> Option<OsString> {
    take(rest).map(|word| OsString::from_vec(word.to_vec()))
}

fn whole_number(rest: &[u8]) -> Option<u32> {
    rest.try_into().ok().map(u32::from_le_bytes)
}

/// A path as it may be configured.
fn path(bytes: &[u8]) -> Option<PathBuf> {
    let path = Path::new(OsStr::from_bytes(bytes));
    (bytes.len() <= LONGEST_PATH && path.is_absolute() && !bytes.contains(&0)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_arrives_and_no_part_of_it_is_anything_else() {
        let path = || PathBuf::from("/a/b");
        let program = Program {
            path: path(),
            arguments: vec!["".into(), "-x".into()],
            environment: vec![("A".into(), "b c".into())],
            directory: Some("/c".into()),
            user: Some("web".into()),
            group: Some(String::new()),
            memory: Some(u64::MAX),
        };
        let requests = [
            Request::Read(path()),
            Request::Append(path()),
            Request::Directory(path()),
            Request::Stream(path()),
            Request::Datagrams(path()),
            Request::Listen("[fe80::1%2]:80".parse().expect("an address")),
            Request::Start(program),
            Request::Start(Program { path: path(), ..Program::default() }),
            Request::Terminate(6),
            Request::End(7),
            Request::Ended(u32::MAX),
            Request::Configuration,
            Request::InEffect(true),
            Request::InEffect(false),
            Request::Assist("file".to_owned(), b"\0\xff".to_vec()),
        ];
        for (index, request) in requests.iter().enumerate() {
            let message = request.encode(9);
            assert_eq!(Request::decode(&message), (9, Some(request.clone())));
            for cut in 0..message.len() {
                let (_, part) = Request::decode(&message[..cut]);
                assert_ne!(part.as_ref(), Some(request), "{index} {cut}");
            }
        }
    }

    #[test]
    fn a_path_is_absolute_and_of_bounded_length() {
        for (path, is) in [
            (&b"/a"[..], true),
            (b"a", false),
            (b"", false),
            (b"/a\0b", false),
            (&[b'/'; LONGEST_PATH], true),
            (&[b'/'; LONGEST_PATH + 1], false),
        ] {
            let message = [&[1, 0, 0, 0, b'r'], path].concat();
            assert_eq!(Request::decode(&message).1.is_some(), is);
        }
    }
}
