//! The effective configuration as TOML, each value with its origin.

use std::fmt::Write as _;

use crate::layer::{in_words, walk};
use crate::literal::{HIDDEN, bare_or_quoted, is_secret, literal, quoted};
use crate::load::Loaded;

impl Loaded {
    /// The effective configuration: TOML, one table after another, the origin of each value beside
    /// it. Secrets are shown as `***`.
    pub fn show(&self) -> String {
        let mut lines: Vec<(Vec<String>, String, String)> = Vec::new();
        walk(&self.root, &mut Vec::new(), &mut |key, value| {
            let Some((name, table)) = key.split_last() else { return };
            let origin = self.figment.get_metadata(value.tag()).map_or_else(String::new, in_words);
            let value = if is_secret(name) { quoted(HIDDEN) } else { literal(value) };
            lines.push((table.to_vec(), format!("{} = {value}", bare_or_quoted(name)), origin));
        });
        // A value under the last header would belong to that table: values come before tables.
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        let width = lines.iter().map(|(_, line, _)| line.chars().count()).filter(|width| *width <= 60).max();
        let mut text = String::new();
        let mut current: &[String] = &[];
        for (table, line, origin) in &lines {
            if table != current {
                let path: Vec<_> = table.iter().map(|name| bare_or_quoted(name)).collect();
                // Writing to a string cannot fail.
                let _ = writeln!(text, "\n[{}]", path.join("."));
                current = table;
            }
            let width = width.unwrap_or(0);
            let origin = origin.replace(|c: char| c.is_control(), " ");
            let _ = writeln!(text, "{line:width$}  # {origin}");
        }
        text
    }
}
