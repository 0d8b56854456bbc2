//! What the broker answers: any number of parts, then one that is the last.

use std::os::fd::AsFd;

use super::refusal::Refusal;
use super::wire::{MOST_DESCRIPTORS, Socket};

/// Bytes of a part.
const PART: usize = 32 << 10;

/// One message of an answer. Its descriptors come beside it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// More follows.
    Part(Vec<u8>),
    /// That was all.
    Done(Vec<u8>),
    /// It was not done; what came before does not count.
    Refused(Refusal),
}

impl Reply {
    /// The message.
    pub(crate) fn encode(&self, number: u32) -> Vec<u8> {
        let mut message = number.to_le_bytes().to_vec();
        match self {
            Self::Part(bytes) => {
                message.push(b'+');
                message.extend(bytes);
            }
            Self::Done(bytes) => {
                message.push(b'.');
                message.extend(bytes);
            }
            Self::Refused(Refusal { number, words }) => {
                message.push(b'!');
                message.extend(number.to_le_bytes());
                message.extend(words.as_bytes());
            }
        }
        // Words that are too long are somebody's else: of a configuration's error, say.
        message.truncate(PART + 64);
        message
    }

    /// The number of the request, and the answer.
    pub(crate) fn decode(message: &[u8]) -> Option<(u32, Self)> {
        let (number, body) = message.split_first_chunk()?;
        let (kind, rest) = body.split_first()?;
        let reply = match kind {
            b'+' => Self::Part(rest.to_vec()),
            b'.' => Self::Done(rest.to_vec()),
            b'!' => {
                let (number, words) = rest.split_first_chunk()?;
                let words = String::from_utf8_lossy(words).into_owned();
                Self::Refused(Refusal { number: i32::from_le_bytes(*number), words })
            }
            _ => return None,
        };
        Some((u32::from_le_bytes(*number), reply))
    }
}

/// Sends all of an answer but its last message: bytes and descriptors, as many at once as a message takes.
pub(crate) fn send_parts(socket: &Socket, number: u32, bytes: &[u8], descriptors: &[impl AsFd]) -> std::io::Result<()> {
    for part in bytes.chunks(PART) {
        socket.send(&Reply::Part(part.to_vec()).encode(number), &[])?;
    }
    for part in descriptors.chunks(MOST_DESCRIPTORS) {
        let part: Vec<_> = part.iter().map(AsFd::as_fd).collect();
        socket.send(&Reply::Part(Vec::new()).encode(number), &part)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_arrives() {
        for reply in [
            Reply::Part(vec![0, 255]),
            Reply::Done(Vec::new()),
            Reply::Refused(Refusal { number: 13, words: String::new() }),
            Reply::Refused(Refusal::of("wörds")),
        ] {
            assert_eq!(Reply::decode(&reply.encode(3)), Some((3, reply)));
        }
        assert_eq!(Reply::decode(b"\x01\0\0\0?"), None);
        assert_eq!(Reply::decode(b"\x01\0\0\0!\0"), None);
    }
}
