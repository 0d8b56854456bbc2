//! What a receiver says of a request that it took.

/// How a partly taken request reads: how many data points were refused, and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) rejected: u64,
    pub(crate) message: String,
}

impl Response {
    /// Reads an `ExportMetricsServiceResponse`; nothing if these bytes are none. A field that is not known is passed
    /// over.
    pub(crate) fn read(body: &[u8]) -> Option<Self> {
        const PARTIAL_SUCCESS: u64 = 1;
        const REJECTED: u64 = 1;
        const MESSAGE: u64 = 2;
        let mut response = Self::default();
        let mut fields = Fields(body);
        while let Some(field) = fields.next()? {
            let (PARTIAL_SUCCESS, Content::Bytes(part)) = field else { continue };
            let mut fields = Fields(part);
            while let Some(field) = fields.next()? {
                match field {
                    // A number below zero is none that anybody could refuse.
                    (REJECTED, Content::Number(number)) => {
                        response.rejected = i64::try_from(number).map_or(0, i64::unsigned_abs);
                    }
                    (MESSAGE, Content::Bytes(text)) => response.message = String::from_utf8_lossy(text).into_owned(),
                    _ => {}
                }
            }
        }
        Some(response)
    }
}

/// The content of a field.
enum Content<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes.
    Fixed,
}

/// The fields of a message, one after another.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// The next field's number and content; nothing at the end. None at all where these bytes are no message.
    #[expect(clippy::option_option, reason = "the end of a message is no mistake in it")]
    fn next(&mut self) -> Option<Option<(u64, Content<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let head = self.number()?;
        let content = match head & 7 {
            0 => Content::Number(self.number()?),
            1 => self.take(8).map(|_| Content::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Content::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Content::Fixed)?,
            _ => return None,
        };
        (head >> 3 > 0).then_some(Some((head >> 3, content)))
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let [byte, ..] = *self.take(1)? else { return None };
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_response_says_how_many_points_were_refused() {
        let read = |body: &[u8]| Response::read(body);
        assert_eq!(read(b""), Some(Response::default()));
        // An empty partial success, and one of five points with a reason.
        assert_eq!(read(b"\x0a\x00"), Some(Response::default()));
        let five = Response { rejected: 5, message: "no".to_owned() };
        assert_eq!(read(b"\x0a\x06\x08\x05\x12\x02no"), Some(five));
        // A warning alone; fields that nobody knows yet; a number below zero.
        assert_eq!(read(b"\x0a\x04\x12\x02no").map(|response| response.rejected), Some(0));
        assert_eq!(
            read(b"\x10\x01\x1d\x01\x02\x03\x04\x21\x01\x02\x03\x04\x05\x06\x07\x08"),
            Some(Response::default())
        );
        let below = b"\x0a\x0b\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
        assert_eq!(read(below).map(|response| response.rejected), Some(0));
        for wrong in [&b"<html>"[..], b"{}", b"OK", b"\x0a\x05\x08", b"\x0a", b"\x00\x00", b"\xff\xff"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_an_accident(body in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = Response::read(&body);
        }
    }
}
