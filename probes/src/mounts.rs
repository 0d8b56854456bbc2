//! Where file systems are mounted.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;

/// What this process sees mounted, in the kernel's words.
pub(crate) fn own() -> String {
    fs::read_to_string("/proc/self/mounts").unwrap_or_default()
}

/// The places where file systems of a kind are mounted, in the order of mounting.
pub(crate) fn places(mounts: &str, kind: &str) -> impl Iterator<Item = PathBuf> {
    mounts.lines().filter_map(move |line| {
        let mut words = line.split(' ');
        let (_, place, found) = (words.next()?, words.next()?, words.next()?);
        (found == kind).then(|| unescaped(place))
    })
}

/// The kernel writes blanks, tabs, line ends and backslashes as `\` and three octal digits.
fn unescaped(place: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(place.len());
    let mut rest = place.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        if let Some(byte) = code.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_a_kind_is_found_and_unescaped() {
        let mounts =
            "t /sys/kernel/tracing tracefs rw 0 0\nd /d debugfs rw 0 0\nx\nt /a\\040b\\134\\04 tracefs rw 0 0\n";
        let found: Vec<PathBuf> = places(mounts, "tracefs").collect();
        assert_eq!(found, [PathBuf::from("/sys/kernel/tracing"), PathBuf::from("/a b\\\\04")]);
        assert_eq!(places(mounts, "cgroup2").count(), 0);
    }
}
