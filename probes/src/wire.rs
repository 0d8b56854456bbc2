//! What goes from one process to another: text with numbers in place of descriptors.

use std::os::fd::OwnedFd;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use ebpf_process_core::Message;

/// A descriptor's number in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Number(u32);

/// Descriptors that go out.
#[derive(Debug, Default)]
pub(crate) struct Outgoing(Vec<OwnedFd>);

impl Outgoing {
    /// Takes one along.
    pub(crate) fn add(&mut self, descriptor: impl Into<OwnedFd>) -> Number {
        self.0.push(descriptor.into());
        Number(u32::try_from(self.0.len() - 1).unwrap_or(u32::MAX))
    }

    /// The message that speaks of them.
    pub(crate) fn message(self, text: &impl Serialize) -> Result<Message, String> {
        let bytes = serde_json::to_vec(text).map_err(|error| error.to_string())?;
        Ok(Message { bytes, descriptors: self.0 })
    }
}

/// Descriptors that came in, each for one use.
#[derive(Debug)]
pub(crate) struct Incoming(Vec<Option<OwnedFd>>);

impl Incoming {
    /// What a message says, and its descriptors.
    pub(crate) fn read<T: DeserializeOwned>(message: Message) -> Result<(T, Self), String> {
        let text = serde_json::from_slice(&message.bytes).map_err(|error| error.to_string())?;
        Ok((text, Self(message.descriptors.into_iter().map(Some).collect())))
    }

    /// The one of this number.
    pub(crate) fn take(&mut self, Number(number): Number) -> Result<OwnedFd, String> {
        let place = usize::try_from(number).ok().and_then(|number| self.0.get_mut(number));
        place.and_then(Option::take).ok_or_else(|| format!("there is no descriptor {number}, or it was used before"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_descriptor_is_taken_once_and_only_where_there_is_one() {
        let mut outgoing = Outgoing::default();
        let file = || File::open("/dev/null").expect("a descriptor");
        let numbers = [outgoing.add(file()), outgoing.add(file())];
        let message = outgoing.message(&numbers).expect("a message");
        let (read, mut incoming) = Incoming::read::<[Number; 2]>(message).expect("the numbers");
        assert_eq!(read, numbers);
        assert!(incoming.take(numbers[1]).is_ok());
        assert!(incoming.take(numbers[1]).is_err(), "it is taken");
        assert!(incoming.take(Number(2)).is_err() && incoming.take(Number(u32::MAX)).is_err());
        let broken = Message { bytes: b"{".to_vec(), descriptors: Vec::new() };
        assert!(Incoming::read::<[Number; 2]>(broken).is_err());
    }
}
