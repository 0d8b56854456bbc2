//! A document as a script: what it tells its reader to do, done.

use std::iter;

/// The commands of a document's blocks in `sh`, in their order; a block whose language is followed by a path is that file.
pub(crate) fn script(markdown: &str) -> String {
    let mut script = String::new();
    for (opening, block) in blocks(markdown) {
        match opening.split_once(' ') {
            Some((_, path)) => script.extend(["cat > '", path, "' <<'", END, "'\n", &block, END, "\n"]),
            None if opening == "sh" => script.push_str(&block),
            None => {}
        }
    }
    script
}

/// A document's blocks: what stands behind the opening mark, and the text.
fn blocks(markdown: &str) -> impl Iterator<Item = (&str, String)> {
    let mut lines = markdown.lines();
    iter::from_fn(move || {
        let opening = lines.by_ref().find_map(|line| line.strip_prefix("```"))?;
        let block = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        Some((opening, block))
    })
}

/// No file of a document has this line.
const END: &str = "END OF THE FILE";

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::*;

    /// Every file below a folder and its content.
    fn template(folder: &Path, below: &str, files: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder.join(below)).unwrap() {
            let entry = entry.unwrap();
            let path = Path::new(below).join(entry.file_name()).display().to_string();
            if entry.file_type().unwrap().is_dir() {
                template(folder, &path, files);
                continue;
            }
            let text = fs::read_to_string(entry.path()).unwrap();
            let is_program = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
            assert_eq!(is_program, text.starts_with("#!"), "{path}: what begins with #! is a program");
            files.insert(path, text);
        }
    }

    #[test]
    fn the_templates_are_what_the_guide_has_its_reader_write() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let guide = fs::read_to_string(root.join("docs/write-a-sink.md")).unwrap();
        for (chapter, folder) in [("In Rust", "rust-sink"), ("In any language", "python-sink")] {
            let (_, text) = guide.split_once(&format!("## {chapter}\n")).unwrap();
            let text = text.split("\n## ").next().unwrap();
            let told: BTreeMap<_, _> = blocks(text)
                .filter_map(|(opening, block)| Some((opening.split_once(' ')?.1.to_owned(), block)))
                .collect();
            let mut found = BTreeMap::new();
            template(&root.join("docs/templates").join(folder), "", &mut found);
            // The guide makes it by commands.
            found.remove("Cargo.toml");
            assert_eq!(found, told, "docs/templates/{folder} and docs/write-a-sink.md");
        }
    }

    #[test]
    fn commands_are_run_and_files_are_written_in_their_order() {
        let text =
            "Text.\n```sh\none\n```\n`a/b`:\n```toml a/b\nkey = 1\n\n```\n```rust\nnothing()\n```\n```sh\ntwo\n```\n";
        let expected = format!("one\ncat > 'a/b' <<'{END}'\nkey = 1\n\n{END}\ntwo\n");
        assert_eq!(script(text), expected);
    }
}
