//! Which kernel is running, and how it was built.

use std::fs;
use std::io::{self, Read as _};

use serde::{Deserialize, Serialize};

/// The first two numbers of a kernel's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version(pub u32, pub u32);

impl Version {
    /// Of the running kernel; 0.0 where it cannot be told, which is older than anything that came later.
    pub fn running() -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self::of(&release).unwrap_or(Self(0, 0))
    }

    /// Of a release as uname(2) says it: `6.1.0-56-cloud-amd64`, `6.12.107+deb13`, `7.3-rc7`.
    pub fn of(release: &str) -> Option<Self> {
        let mut numbers = release.split(['.', '-', '+', '\n']).map_while(|number| number.parse().ok());
        Some(Self(numbers.next()?, numbers.next()?))
    }
}

/// How the kernel was built: from the kernel itself, or from the file its package left.
pub(crate) fn build_configuration() -> io::Result<String> {
    let mut config = String::new();
    if let Ok(file) = fs::File::open("/proc/config.gz") {
        flate2::read::GzDecoder::new(file).read_to_string(&mut config)?;
        return Ok(config);
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    fs::read_to_string(format!("/boot/config-{}", release.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_two_numbers_whatever_follows() {
        for (release, version) in [
            ("6.1.0-56-cloud-amd64\n", Some((6, 1))),
            ("6.12.107+deb13", Some((6, 12))),
            ("7.3-rc7", Some((7, 3))),
            ("4.11.0", Some((4, 11))),
            ("6.18\n", Some((6, 18))),
            ("six", None),
            ("", None),
        ] {
            assert_eq!(Version::of(release), version.map(|(major, minor)| Version(major, minor)), "{release:?}");
        }
        assert!(Version(6, 7) > Version(6, 6) && Version(7, 0) > Version(6, 18));
    }
}
