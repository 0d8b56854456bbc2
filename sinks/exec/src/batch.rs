//! A batch, as it waits in memory and on disk: a mark of its words, and what is sent behind its head.

use bytes::Bytes;

use crate::item::{self, Item};
use crate::message::Rejection;
use crate::rejected::{self, Refused};
use crate::words::{Formats, Words};

/// A batch that can be sent.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) words: Words,
    /// What follows its head.
    pub(crate) body: Bytes,
    /// Of a batch of lines.
    items: Box<[Item]>,
}

impl Batch {
    /// Reads it; none for bytes that are no batch, or one in a format that there is not.
    pub(crate) fn read(bytes: &Bytes, formats: Formats) -> Option<Self> {
        let (words, rest) = Words::of(bytes, formats)?;
        let (items, body) = match words {
            Words::Json(_) => (Box::default(), rest),
            Words::Lines(_) => item::read(rest)?,
        };
        Some(Self { words, body: bytes.slice_ref(body), items })
    }

    /// Counts the samples that these refusals are about.
    pub(crate) fn count(&self, rejections: &[Rejection]) -> Refused {
        match self.words {
            Words::Json(_) => rejected::of_values(&self.body, rejections),
            Words::Lines(_) => rejected::of_lines(&self.items, rejections),
        }
    }
}
