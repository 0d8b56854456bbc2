//! The machine's whole disk: a compressed archive of a shell, an init script and our programs.

use crate::Outcome;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// Builds it. `programs` are put at the root under their names, and loaded into the kernel when the name is one in
/// `modules/`; `arguments` go to `/guest`.
pub(super) fn build(busybox: &Path, programs: &[(impl AsRef<str>, PathBuf)], arguments: &str) -> Outcome<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in ["bin", "lib", "lib64", "proc", "sys", "dev", "tmp", "modules"] {
        archive.add(folder, DIRECTORY, &[])?;
    }
    archive.add("bin/busybox", PROGRAM, &read(busybox)?)?;
    for (name, path) in programs {
        archive.add(name.as_ref(), PROGRAM, &read(path)?)?;
    }
    archive.add("init", PROGRAM, init(arguments).as_bytes())?;
    compress(&archive.finish()?)
}

/// The first process: mounts what a Linux system has, runs the guest, and switches the machine off.
fn init(arguments: &str) -> String {
    format!(
        "#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/shm
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /tmp
mount -t securityfs securityfs /sys/kernel/security
mount -t debugfs debugfs /sys/kernel/debug
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ulimit -l unlimited
for module in /modules/*; do [ ! -e $module ] || insmod $module; done
echo \"@@up $(uname -r)\"
AGENT_UNDER_TEST=/agent STRANGERS_AGENT=/strangers-agent ASSISTED=/assisted /guest {arguments}
echo \"@@rc $?\"
poweroff -f
"
    )
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    fs::read(path).map_err(|e| format!("{}: {e}", path.display()).into())
}

fn compress(archive: &[u8]) -> Outcome<Vec<u8>> {
    let mut gzip = Command::new("gzip")
        .arg("-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("gzip: {e}"))?;
    let mut input = gzip.stdin.take().ok_or("gzip has no input")?;
    // Written beside the reading: gzip's output does not fit into a pipe.
    std::thread::scope(|scope| {
        let writer = std::thread::Builder::new().name("gzip-input".into()).spawn_scoped(scope, move || {
            let written = input.write_all(archive);
            drop(input);
            written
        })?;
        let output = gzip.wait_with_output()?;
        writer.join().map_err(|_| "the thread that feeds gzip panicked")??;
        if output.status.success() { Ok(output.stdout) } else { Err(format!("gzip: {}", output.status).into()) }
    })
}

/// A cpio archive in the `newc` format, the one the kernel unpacks: for each file a header of a magic number and
/// thirteen fields of eight hexadecimal digits, the name with a zero, padding to four bytes, the content, padding.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    files: u32,
}

impl Archive {
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) -> Outcome {
        self.files += 1;
        let size = u32::try_from(content.len()).map_err(|_| format!("{name} is too large for the archive"))?;
        let name_size = u32::try_from(name.len() + 1)?;
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name size, check
        let fields = [self.files, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            write!(self.bytes, "{field:08X}")?;
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Outcome<Vec<u8>> {
        self.add("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_header_a_name_and_its_content_each_padded_to_four() {
        let mut archive = Archive::default();
        archive.add("init", PROGRAM, b"hello").unwrap();
        let expected = "070701\
            00000001000081ED00000000000000000000000100000000\
            000000050000000000000000000000000000000000000005\
            00000000init\0\0hello\0\0\0";
        assert_eq!(String::from_utf8(archive.bytes.clone()).unwrap(), expected);
        assert!(archive.finish().unwrap().ends_with(b"TRAILER!!!\0\0\0\0"));
    }

    #[test]
    fn the_archive_is_what_gzip_gives_back() {
        let compressed = compress(&vec![7; 1 << 20]).unwrap();
        assert_eq!(&compressed[..2], &[0x1f, 0x8b]);
        assert!(compressed.len() < 1 << 15);
    }
}
