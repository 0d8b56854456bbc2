//! What the agent and its broker say to each other: a closed language.
//!
//! A message is a number, which the answers to a request repeat, and a [`Request`] or [`Reply`], both in the encoding of the
//! crate `postcard`. Descriptors come beside it. No message is longer than [`LONGEST`](super::wire::LONGEST): what a
//! length within it promises beyond that is an error, and so is whatever stands behind it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;

use ebpf_process_core::{BuildError, Program};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::wire::{MOST_DESCRIPTORS, Socket};

/// Bytes that go to an assistant at most.
pub(crate) const LONGEST_ASSIST: usize = 64 << 10;

/// Descriptors that a request may bring.
pub(crate) const MOST_BROUGHT: usize = 64;

/// Bytes of a part of an answer, and of the words of a refusal.
const PART: usize = 32 << 10;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    Listen(#[serde(with = "as_text")] SocketAddr),
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

/// One message of an answer: any number of parts, then one that is the last.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// More follows.
    Part(Vec<u8>),
    /// That was all. The number is that of a program which was started, or how one has ended.
    Done(Option<i32>),
    /// It was not done; what came before does not count.
    Refused(Refusal),
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// What the kernel said.
    Kernel(i32),
    /// One of our own: what is not done, and what to do about it.
    Words(String),
    /// What a plugin said.
    Build { problem: String, way_out: String, passing: bool },
}

/// The bytes of a message.
pub(crate) fn encode(number: u32, message: &impl Serialize) -> Vec<u8> {
    // Nothing that is said has no encoding but a path that is no UTF-8, and that is configured nowhere: as an empty message
    // it is refused.
    postcard::to_allocvec(&(number, message)).unwrap_or_default()
}

/// A message's number, if it has one, and what it says; none for what nobody says who speaks this language.
pub(crate) fn decode<Said: DeserializeOwned>(message: &[u8]) -> (u32, Option<Said>) {
    let Ok((number, body)) = postcard::take_from_bytes(message) else { return (0, None) };
    let said = postcard::take_from_bytes(body).ok();
    (number, said.and_then(|(said, behind)| behind.is_empty().then_some(said)))
}

/// Sends all of an answer but its last message: bytes and descriptors, as many at once as a message takes.
pub(crate) fn send_parts(socket: &Socket, number: u32, bytes: &[u8], descriptors: &[impl AsFd]) -> io::Result<()> {
    for part in bytes.chunks(PART) {
        socket.send(&encode(number, &Reply::Part(part.to_vec())), &[])?;
    }
    for part in descriptors.chunks(MOST_DESCRIPTORS) {
        let part: Vec<_> = part.iter().map(AsFd::as_fd).collect();
        socket.send(&encode(number, &Reply::Part(Vec::new())), &part)?;
    }
    Ok(())
}

impl Refusal {
    /// One of our own.
    pub(crate) fn of(words: impl Into<String>) -> Self {
        let mut words = words.into();
        // Words that are too long are somebody else's: of a configuration's error, say.
        words.truncate(words.floor_char_boundary(PART));
        Self::Words(words)
    }
}

impl From<Errno> for Refusal {
    fn from(error: Errno) -> Self {
        Self::Kernel(error.raw_os_error())
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        error.raw_os_error().map_or_else(|| Self::of(error.to_string()), Self::Kernel)
    }
}

impl From<Refusal> for io::Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Kernel(number) => Self::from_raw_os_error(number),
            Refusal::Words(words) => Self::new(io::ErrorKind::PermissionDenied, words),
            refusal @ Refusal::Build { .. } => Self::other(BuildError::from(refusal).to_string()),
        }
    }
}

impl From<&BuildError> for Refusal {
    fn from(error: &BuildError) -> Self {
        let [problem, way_out] = [error.problem(), error.way_out()].map(str::to_owned);
        Self::Build { problem, way_out, passing: error.is_passing() }
    }
}

impl From<Refusal> for BuildError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Build { problem, way_out, passing } => Self::refused(problem, way_out).passing(passing),
            refusal => Self::refused(io::Error::from(refusal).to_string(), "see the log of the agent"),
        }
    }
}

/// An address by its text, which has the scope of one of version 6.
mod as_text {
    use std::net::SocketAddr;

    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(address: &SocketAddr, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(address)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
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
            let message = encode(9, request);
            assert_eq!(decode(&message), (9, Some(request.clone())));
            for cut in 0..message.len() {
                assert_eq!(decode::<Request>(&message[..cut]).1, None, "{index} {cut}");
            }
            assert_eq!(decode::<Request>(&[&message[..], b"\0"].concat()).1, None, "{index}");
        }
    }

    #[test]
    fn an_answer_arrives() {
        for reply in [
            Reply::Part(vec![0, 255]),
            Reply::Done(None),
            Reply::Done(Some(-1)),
            Reply::Refused(Refusal::Kernel(13)),
            Reply::Refused(Refusal::of("wörds")),
            Reply::Refused(Refusal::Build { problem: "no".to_owned(), way_out: String::new(), passing: true }),
        ] {
            assert_eq!(decode(&encode(3, &reply)), (3, Some(reply)));
        }
        let Refusal::Words(words) = Refusal::of("ö".repeat(PART)) else { panic!("it has words") };
        assert_eq!(words.len(), PART);
    }
}
