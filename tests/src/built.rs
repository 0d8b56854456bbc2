//! What cargo has built, found beside the test's own executable, and not taken when it is older than its sources.

use crate::{Failure, Outcome};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// A file of the target folder: `release/ebpf-process`, or `examples/NAME` of the test's own profile; `remedy` is the
/// command that builds it.
///
/// # Errors
/// There is none, or one of its sources has changed since it was built: a test of it would be one of yesterday's code.
pub fn find(name: &str, remedy: &str) -> Outcome<PathBuf> {
    let own = env::current_exe().map_err(Failure::at("the test's own path"))?;
    let found = own.ancestors().map(|folder| folder.join(name)).find(|path| path.is_file());
    let found = found.ok_or_else(|| Failure::new(format!("there is no {name}: run `{remedy}`")))?;
    match newer_source(&found)? {
        None => Ok(found),
        Some(source) => {
            Err(Failure::new(format!("{} is older than {}: run `{remedy}`", found.display(), source.display())))
        }
    }
}

/// A source that has changed since `program` was built, by the list that cargo leaves beside it.
fn newer_source(program: &Path) -> Outcome<Option<PathBuf>> {
    let time = |path: &Path| fs::metadata(path).and_then(|file| file.modified());
    let built = time(program).map_err(Failure::at(program.display()))?;
    let list = program.with_extension("d");
    let text = fs::read_to_string(&list).map_err(Failure::at(list.display()))?;
    // One that was removed since has changed, too.
    Ok(sources(&text).into_iter().find(|source| time(source).map_or(true, |changed| changed > built)))
}

/// The paths of `PROGRAM: SOURCE SOURCE...`, in which a space in a path has a backslash before it.
fn sources(list: &str) -> Vec<PathBuf> {
    let line = list.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, sources)| sources);
    let spaced = line.replace("\\ ", "\0");
    spaced.split_whitespace().map(|source| source.replace('\0', " ").into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_program_that_is_older_than_a_source_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000);
        let make = |name: &str, age: u64| {
            let file = File::create(path(name)).unwrap();
            file.set_modified(now - Duration::from_secs(age)).unwrap();
        };
        for (name, age) in [("program", 10), ("old.rs", 20), ("with space.rs", 20)] {
            make(name, age);
        }
        let spaced = path("with space.rs").display().to_string().replace(' ', "\\ ");
        let list = format!("{}: {} {spaced}\n", path("program").display(), path("old.rs").display());
        fs::write(path("program.d"), list).unwrap();
        assert_eq!(newer_source(&path("program")).unwrap(), None);
        make("with space.rs", 5);
        assert_eq!(newer_source(&path("program")).unwrap(), Some(path("with space.rs")));
        fs::remove_file(path("old.rs")).unwrap();
        assert_eq!(newer_source(&path("program")).unwrap(), Some(path("old.rs")));
        fs::remove_file(path("program.d")).unwrap();
        assert!(newer_source(&path("program")).is_err());
    }
}
