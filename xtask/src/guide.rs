//! A document as a script: what it tells its reader to do, done.

/// The commands of a document's blocks in `sh`, in their order; a block whose language is followed by a path is that file.
pub(crate) fn script(markdown: &str) -> String {
    let mut script = String::new();
    let mut lines = markdown.lines();
    while let Some(opening) = lines.by_ref().find_map(|line| line.strip_prefix("```")) {
        let block: String = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
        match opening.split_once(' ') {
            Some((_, path)) => script.extend(["cat > '", path, "' <<'", END, "'\n", &block, END, "\n"]),
            None if opening == "sh" => script.push_str(&block),
            None => {}
        }
    }
    script
}

/// No file of a document has this line.
const END: &str = "END OF THE FILE";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_run_and_files_are_written_in_their_order() {
        let text =
            "Text.\n```sh\none\n```\n`a/b`:\n```toml a/b\nkey = 1\n\n```\n```rust\nnothing()\n```\n```sh\ntwo\n```\n";
        let expected = format!("one\ncat > 'a/b' <<'{END}'\nkey = 1\n\n{END}\ntwo\n");
        assert_eq!(script(text), expected);
    }
}
