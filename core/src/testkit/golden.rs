//! Golden files: what an encoder writes, byte for byte.

use std::path::Path;

/// Compares text with the file of this name in `tests/golden`, below the crate's folder: where cargo runs its tests. With
/// `UPDATE_GOLDEN=1` in the environment the file is written anew; look at the difference before you keep it.
///
/// # Panics
///
/// When they differ, or there is no such file.
#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
pub fn compare(name: &str, actual: impl AsRef<[u8]>) {
    let (path, actual) = (Path::new("tests/golden").join(name), actual.as_ref());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, actual).expect("a golden file");
    }
    let expected = std::fs::read_to_string(&path).expect("a golden file; UPDATE_GOLDEN=1 makes it");
    assert_eq!(std::str::from_utf8(actual).expect("text"), expected, "{name}");
}
