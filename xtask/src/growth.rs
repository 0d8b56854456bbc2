//! Which types of a public interface can have no more fields or variants before the next breaking version.

use std::collections::BTreeSet;

/// Modules that promise nothing, and the one that repeats what is elsewhere.
const APART: [&str; 3] = ["::engine::", "::testkit::", "::prelude::"];

/// The types in the text of an interface whose fields or variants others may rely on as they are: they are public, not
/// `#[non_exhaustive]`, and, for a struct, there is nothing (`new`, `Default`) that a literal can end with.
pub(crate) fn complete(interface: &str) -> BTreeSet<String> {
    let mut complete = BTreeSet::new();
    for line in interface.lines().filter(|line| APART.iter().all(|module| !line.contains(module))) {
        let Some((is_struct, path)) = declared(line) else { continue };
        let has_parts = interface.lines().any(|line| {
            line.strip_prefix("pub ").and_then(|line| line.strip_prefix(path)).is_some_and(|it| it.starts_with("::"))
        });
        let has_base = interface.lines().filter_map(|line| line.split_once("fn ")?.1.strip_prefix(path)).any(|rest| {
            let name = rest.split_once("::").map_or(rest, |(_generics, name)| name);
            name.starts_with("new(") || name.starts_with("default(")
        });
        if has_parts && !(is_struct && has_base) {
            complete.insert(path.rsplit("::").next().unwrap_or(path).to_owned());
        }
    }
    complete
}

/// Whether a line declares a struct (or an enum) that is not `#[non_exhaustive]`, and its path without generics.
fn declared(line: &str) -> Option<(bool, &str)> {
    let (is_struct, path) = match line.strip_prefix("pub struct ") {
        Some(path) => (true, path),
        None => (false, line.strip_prefix("pub enum ")?),
    };
    Some((is_struct, path.split(['<', '(']).next().unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn what_can_grow_is_told_from_what_cannot() {
        let text = "#[non_exhaustive] pub enum c::Open\npub c::Open::A\n\
                    pub enum c::Shut<'a>\npub c::Shut::A(u8)\n\
                    pub struct c::Opaque\npub fn c::Opaque::get(&self)\n\
                    pub struct c::Tuple(_)\n\
                    pub struct c::Based<'a>\npub c::Based::a: u8\npub fn c::Based<'a>::new() -> Self\n\
                    pub struct c::Bare\npub c::Bare::a: u8\n\
                    pub struct c::testkit::Apart\npub c::testkit::Apart::a: u8\n";
        assert_eq!(complete(text), BTreeSet::from(["Bare".to_owned(), "Shut".to_owned()]));
    }

    #[test]
    fn what_cannot_grow_is_named_in_the_documentation() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
        let given: BTreeSet<String> = ["core", "sinks/delivery", "sinks/http"]
            .iter()
            .flat_map(|folder| complete(&read(&format!("{folder}/interface.txt"))))
            .collect();
        let text = read("docs/compatibility.md");
        let (_, sentence) = text.split_once("Complete as they are: ").unwrap();
        let sentence = sentence.split(". ").next().unwrap();
        let named: BTreeSet<String> = sentence.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        assert_eq!(named, given);
    }
}
