//! An answer, sent piece by piece: of a page no more than one piece is in memory.

use std::borrow::Cow;
use std::sync::Arc;

use crate::page::{Page, Receipt};
use crate::renderer::PIECE;
use crate::sheet::Sheet;

/// Room for what stands in front of a chunk: its length in hexadecimal digits, and the end of the line.
const FRAME: usize = 18;

/// A whole answer; the connection is closed after it.
#[derive(Debug)]
pub(crate) struct Reply {
    /// A piece of it, and how much of that is sent.
    bytes: Vec<u8>,
    sent: usize,
    body: Body,
}

/// What follows on the piece.
#[derive(Debug)]
enum Body {
    None,
    /// The rest of a page: in chunks, or up to the end of the connection for who knows none.
    Rest {
        page: Box<Page>,
        is_chunked: bool,
    },
    /// All of the page is in the piece.
    Page(Receipt),
}

impl Reply {
    /// Words; `headers` are whole lines.
    pub(crate) fn words(status: &str, headers: &str, words: impl Into<Cow<'static, str>>) -> Self {
        Self::text(status, "text/plain; charset=utf-8", headers, &words.into())
    }

    pub(crate) fn text(status: &str, content_type: &str, headers: &str, body: &str) -> Self {
        let length = format!("Content-Length: {}\r\n{headers}", body.len());
        let bytes = head(status, content_type, &length) + body;
        Self { bytes: bytes.into_bytes(), sent: 0, body: Body::None }
    }

    /// A page; `knows_chunks` says whether the client is one of HTTP/1.1.
    pub(crate) fn page(mut page: Page, content_type: &str, knows_chunks: bool) -> Self {
        let mut bytes = vec![0; FRAME];
        let goes_on = page.write(PIECE, &mut bytes);
        let is_chunked = goes_on && knows_chunks;
        let length = match (goes_on, is_chunked) {
            (false, _) => format!("Content-Length: {}\r\n", bytes.len() - FRAME),
            (true, true) => "Transfer-Encoding: chunked\r\n".to_owned(),
            (true, false) => String::new(),
        };
        let from = if is_chunked { frame(&mut bytes, goes_on) } else { FRAME };
        bytes.splice(..from, head("200 OK", content_type, &length).into_bytes());
        let body =
            if goes_on { Body::Rest { page: Box::new(page), is_chunked } } else { Body::Page(page.into_receipt()) };
        Self { bytes, sent: 0, body }
    }

    /// The same without what follows on the head.
    pub(crate) fn without_body(mut self) -> Self {
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(self.bytes.len(), |at| at + 4);
        self.bytes.truncate(end);
        Self { body: Body::None, ..self }
    }

    /// What is to be sent next.
    pub(crate) fn rest(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes more are sent. Returns whether there are others.
    pub(crate) fn sent(&mut self, length: usize) -> bool {
        self.sent += length;
        if self.sent < self.bytes.len() {
            return true;
        }
        let (mut page, is_chunked) = match std::mem::replace(&mut self.body, Body::None) {
            Body::Rest { page, is_chunked } => (page, is_chunked),
            all => {
                self.body = all;
                return false;
            }
        };
        self.bytes.clear();
        self.bytes.resize(FRAME, 0);
        let goes_on = page.write(PIECE, &mut self.bytes);
        self.sent = if is_chunked { frame(&mut self.bytes, goes_on) } else { FRAME };
        self.body = if goes_on { Body::Rest { page, is_chunked } } else { Body::Page(page.into_receipt()) };
        self.sent < self.bytes.len()
    }

    /// What it keeps in memory for the rest of a page.
    pub(crate) const fn sheet(&self) -> Option<&Arc<Sheet>> {
        match &self.body {
            Body::Rest { page, .. } => Some(page.sheet()),
            Body::None | Body::Page(_) => None,
        }
    }

    /// What stood on the page, if this was one and all of it is sent.
    pub(crate) fn take_receipt(&mut self) -> Option<Receipt> {
        match std::mem::replace(&mut self.body, Body::None) {
            Body::Page(receipt) => Some(receipt),
            Body::None | Body::Rest { .. } => None,
        }
    }
}

fn head(status: &str, content_type: &str, headers: &str) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{headers}Connection: close\r\n\r\n")
}

/// Makes a chunk (RFC 9112, 7.1) of what stands behind the room for its length, and the last one where nothing follows.
/// Returns where it begins.
fn frame(bytes: &mut Vec<u8>, goes_on: bool) -> usize {
    let mut from = FRAME;
    // An empty chunk would be the last one.
    if bytes.len() > FRAME {
        let length = format!("{:x}\r\n", bytes.len() - FRAME);
        from -= length.len();
        bytes[from..FRAME].copy_from_slice(length.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    if !goes_on {
        bytes.extend_from_slice(b"0\r\n\r\n");
    }
    from
}
