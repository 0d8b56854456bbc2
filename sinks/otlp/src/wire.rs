//! The few things that are written in the wire format of protocol buffers, at the end of a buffer.

/// The first byte of a field that has a length and then so many bytes.
pub(crate) const fn with_length(field: u8) -> u8 {
    field << 3 | 2
}

/// The first byte of a field of eight bytes.
pub(crate) const fn of_eight(field: u8) -> u8 {
    field << 3 | 1
}

/// The first byte of a field that is a number of as many bytes as it takes.
pub(crate) const fn of_number(field: u8) -> u8 {
    field << 3
}

/// How many bytes a number takes.
#[inline]
pub(crate) const fn number_size(number: usize) -> usize {
    // Seven bits a byte, and one byte for 0.
    ((usize::BITS - (number | 1).leading_zeros()) as usize).div_ceil(7)
}

/// How many bytes a field takes that has so many.
#[inline]
pub(crate) const fn framed_size(length: usize) -> usize {
    1 + number_size(length) + length
}

/// A number.
#[inline]
pub(crate) fn number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

/// The start of a field that has so many bytes.
#[inline]
pub(crate) fn head(out: &mut Vec<u8>, field: u8, length: usize) {
    out.push(with_length(field));
    number(out, length as u64);
}

/// A field that is text, or a message that is written already.
pub(crate) fn bytes(out: &mut Vec<u8>, field: u8, content: &[u8]) {
    head(out, field, content.len());
    out.extend_from_slice(content);
}

/// A field of eight bytes.
pub(crate) const fn eight(field: u8, content: u64) -> [u8; 9] {
    let mut both = [of_eight(field); 9];
    let (_, bytes) = both.split_at_mut(1);
    bytes.copy_from_slice(&content.to_le_bytes());
    both
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_takes_as_many_bytes_as_is_said() {
        for (value, written) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        ] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, written);
            assert_eq!(number_size(usize::try_from(value).expect("64 bits")), written.len());
        }
        let mut out = Vec::new();
        bytes(&mut out, 1, &[7; 200]);
        assert_eq!((out.len(), &out[..3]), (framed_size(200), &[0x0a, 200, 1][..]));
        assert_eq!(eight(3, 0x0102), [0x19, 2, 1, 0, 0, 0, 0, 0, 0]);
    }
}
