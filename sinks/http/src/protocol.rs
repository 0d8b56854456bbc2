//! What a protocol over HTTP adds to the way.

use std::time::Instant;

use ebpf_process_core::{BuildError, Opener};
use ebpf_process_delivery::{Frame, Verdict};

use crate::client::Client;
use crate::reply::Reply;
use crate::request::Request;

/// What a protocol over HTTP adds to the way: which request carries a frame's bytes, and what a reply means for them.
pub trait Protocol: Send {
    /// The request that carries every frame, with the secrets in it. Asked for when the sink is made, and again
    /// whenever the server does not let us in: what is not equal then was replaced meanwhile, and is used at once.
    fn request(&self, opener: &dyn Opener) -> Result<Request, BuildError>;

    /// What became of the frame. [`Verdict::Misconfigured`] has secrets and certificates read again.
    fn verdict(&self, reply: &Reply<'_>, frame: &Frame) -> Verdict;

    /// What a server does that takes frames, for `check`: `"takes writes to the database x"`.
    fn deed(&self) -> String;

    /// See [`Carrier::overwrites`](ebpf_process_delivery::Carrier::overwrites).
    fn overwrites(&self) -> bool {
        false
    }

    /// What frames are called in a spool, so that nobody sends them who cannot: see
    /// [`Carrier::encodings`](ebpf_process_delivery::Carrier::encodings).
    fn encodings(&self) -> &'static [&'static str] {
        &[""]
    }

    /// Whether every server of this protocol unpacks what is compressed. Where one may not, a frame that nobody wanted
    /// compressed is sent once more as it is, until somebody on the way has unpacked something.
    fn is_unpacked_everywhere(&self) -> bool {
        false
    }

    /// What `run` makes by itself where the answer is [`Verdict::Misconfigured`] with this number, for `check`; if so
    /// [`mend`](Self::mend) does that, and the frame is sent once more.
    fn mends(&self, _status: u16) -> Option<String> {
        None
    }

    /// Makes what is missing. The error is for a person, with the way out.
    fn mend(&self, _errand: &Errand<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// A request besides those for frames.
#[derive(Debug)]
pub struct Errand<'a> {
    pub(crate) client: &'a Client,
    pub(crate) end: Instant,
}

impl Errand<'_> {
    /// Posts a body over the same way, in what is left of the time limit; nothing if there is no answer.
    pub fn post<'r>(&self, request: &'r Request, body: &[u8]) -> Option<Reply<'r>> {
        self.client.post_anew(request, body, self.end).ok()
    }

    /// What opens the files of secrets.
    pub fn opener(&self) -> &dyn Opener {
        &**self.client.opener()
    }

    /// The name of the sink, for the log.
    pub fn sink(&self) -> &str {
        self.client.sink()
    }
}
