//! The book of live tests: which ran, which were skipped and why. A skip is never silent.
//!
//! `LIVE_TEST_LOG` names a file that gets one line per test, `ran NAME` or `skipped NAME REASON`;
//! `LIVE_TEST_NO_SKIP=1` makes a skip a failure.

use crate::{Failure, Outcome};
use std::env;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

/// Runs `body` when `needs` are met; else says so on the terminal and in the book.
///
/// # Panics
/// `body` fails, the book cannot be written, or the test would be skipped where none may be.
pub fn test(name: &str, needs: Outcome<()>, body: impl FnOnce() -> Outcome<()>) {
    if let Err(reason) = needs {
        let reason = reason.to_string().replace('\n', " ");
        assert!(env::var_os("LIVE_TEST_NO_SKIP").is_none_or(|v| v != "1"), "{name} may not be skipped: {reason}");
        // Not eprintln: the test harness would keep it to itself as long as the test passes.
        let _ = writeln!(io::stderr(), "SKIPPED live test {name}: {reason}");
        record(&format!("skipped {name} {reason}"));
        return;
    }
    record(&format!("ran {name}"));
    if let Err(failure) = body() {
        panic!("{name}: {failure}");
    }
}

fn record(line: &str) {
    if let Some(book) = env::var_os("LIVE_TEST_LOG") {
        let written = append(Path::new(&book), line);
        assert!(written.is_ok(), "LIVE_TEST_LOG: {written:?}");
    }
}

/// One write of one line, so that tests that run at the same time do not mix theirs.
fn append(book: &Path, line: &str) -> Outcome<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(book).map_err(Failure::at(book.display()))?;
    file.write_all(format!("{line}\n").as_bytes()).map_err(Failure::at(book.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_book_gets_a_line_per_test() {
        let folder = tempfile::tempdir().unwrap();
        let book = folder.path().join("book");
        append(&book, "ran a").unwrap();
        append(&book, "skipped b no root").unwrap();
        assert_eq!(fs::read_to_string(book).unwrap(), "ran a\nskipped b no root\n");
    }
}
