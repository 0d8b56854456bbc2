//! The external plugin protocol as a strict reader understands it.
//!
//! It is stricter than netdata: what netdata punishes (it disables a plugin for one wrong line) and
//! what it silently misreads are both errors.

use std::collections::{BTreeMap, BTreeSet};

/// What netdata knows after some lines.
#[derive(Default)]
pub(crate) struct Netdata {
    /// Live dimensions by chart.
    pub(crate) charts: BTreeMap<String, BTreeSet<String>>,
    /// The CHART line of each.
    definitions: BTreeMap<String, String>,
    /// The DIMENSION line of each live dimension, by chart and id.
    lines: BTreeMap<String, BTreeMap<String, String>>,
    /// The chart that CLABEL and DIMENSION belong to.
    scope: Option<String>,
    uncommitted: bool,
    open: Option<String>,
    begun: BTreeSet<String>,
    /// The dimensions with a value in the open block.
    set: BTreeSet<String>,
    /// Values of the last lines.
    pub(crate) sets: usize,
}

/// Splits a line as netdata does, but refuses what it would misread.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(' ');
        let Some(first) = rest.chars().next() else { return Ok(words) };
        let end = match first {
            '\'' | '"' => {
                let end = rest[1..].find(first).ok_or("an open quote")? + 2;
                words.push(rest[1..end - 1].to_owned());
                end
            }
            _ => {
                let end = rest.find(' ').unwrap_or(rest.len());
                words.push(rest[..end].to_owned());
                end
            }
        };
        rest = &rest[end..];
        if !rest.is_empty() && !rest.starts_with(' ') {
            return Err("a quote inside a word".to_owned());
        }
    }
}

impl Netdata {
    /// Takes the lines for one view, or says what is wrong with them.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.sets = 0;
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("half a line".to_owned());
        }
        for line in text.split_terminator('\n') {
            self.line(line).map_err(|problem| format!("{problem}: {line}"))?;
        }
        if self.open.is_some() || self.uncommitted {
            return Err("a view ends inside a block".to_owned());
        }
        Ok(())
    }

    /// A dimension comes or goes.
    fn dimension(&mut self, id: &str, line: &str, comes: bool) -> Result<(), String> {
        let chart = self.scope.as_ref().ok_or("a dimension without a chart")?;
        let dimensions = self.charts.get_mut(chart).ok_or("a dimension of an unknown chart")?;
        let lines = self.lines.entry(chart.clone()).or_default();
        if !comes {
            lines.remove(id);
            return dimensions.remove(id).then_some(()).ok_or("an unknown dimension ends".to_owned());
        }
        dimensions.insert(id.to_owned());
        match lines.insert(id.to_owned(), line.to_owned()) {
            Some(known) if known == line => Err("a dimension that is known is told again".to_owned()),
            _ => Ok(()),
        }
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.len() >= 15_000 || line.chars().any(|c| c.is_control() || c == '\\') {
            return Err("a line that cannot be read".to_owned());
        }
        let words = words(line)?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        if words.len() > 30 {
            return Err("too many words".to_owned());
        }
        if self.uncommitted && !["CLABEL", "CLABEL_COMMIT"].contains(&words[0]) {
            return Err("labels without their commit".to_owned());
        }
        match words[..] {
            ["CHART", id, "", title, units, family, context, style, priority, every, options, plugin, module] => {
                let full = [title, units, family, context, plugin, module].iter().all(|word| !word.is_empty());
                let kinds = ["line", "heatmap"].contains(&style) && ["", "obsolete"].contains(&options);
                let numbers = priority.parse::<u32>().is_ok() && every.parse::<u64>().is_ok_and(|every| every > 0);
                if !(full && kinds && numbers && plain(id) && id.starts_with("ebpf.") && id.len() < 200) {
                    return Err("a bad chart".to_owned());
                }
                if self.open.is_some() {
                    return Err("a chart inside a block".to_owned());
                }
                if options == "obsolete" {
                    self.charts.remove(id).ok_or("an end without a beginning")?;
                    self.begun.remove(id);
                    self.scope = None;
                    self.definitions.remove(id);
                    self.lines.remove(id);
                } else {
                    if self.definitions.entry(id.to_owned()).or_insert_with(|| line.to_owned()) != line {
                        return Err("two charts under one id".to_owned());
                    }
                    self.charts.entry(id.to_owned()).or_default();
                    self.scope = Some(id.to_owned());
                }
            }
            ["CLABEL", key, _, "2"] if !key.is_empty() => {
                self.scope.as_ref().ok_or("a label without a chart")?;
                self.uncommitted = true;
            }
            ["CLABEL_COMMIT"] => {
                if !std::mem::take(&mut self.uncommitted) {
                    return Err("a commit without labels".to_owned());
                }
            }
            ["DIMENSION", id, name, algorithm, multiplier, divisor, ref options @ ..] => {
                // Newer versions keep both in 32 bits with a sign.
                let [multiplier, divisor] = [multiplier, divisor].map(|word| word.parse().unwrap_or(0_i32));
                let known = match algorithm {
                    "incremental" => multiplier > 0 && divisor > 0,
                    "absolute" => multiplier == 1 && [1, 1000].contains(&divisor),
                    _ => false,
                };
                if !known
                    || name.is_empty()
                    || !plain(id)
                    || id.len() >= 200
                    || !["", "obsolete"].contains(&options.join(" ").as_str())
                {
                    return Err("a bad dimension".to_owned());
                }
                self.dimension(id, line, options.is_empty())?;
            }
            ["BEGIN", id, ref microseconds @ ..] => {
                if !self.charts.contains_key(id) || self.open.is_some() {
                    return Err("a block of an unknown chart or inside another".to_owned());
                }
                let again = !self.begun.insert(id.to_owned());
                let right = match microseconds {
                    [] => !again,
                    [elapsed] => {
                        again && elapsed.parse::<u64>().is_ok_and(|elapsed| elapsed % 1_000_000 == 0 && elapsed > 0)
                    }
                    _ => false,
                };
                if !right {
                    return Err("wrong microseconds".to_owned());
                }
                self.scope = None;
                self.open = Some(id.to_owned());
                self.set.clear();
            }
            ["SET", id, "=", value] => {
                let chart = self.open.as_ref().ok_or("a value outside a block")?;
                if !self.charts[chart].contains(id) {
                    return Err("a value of an unknown dimension".to_owned());
                }
                if !self.set.insert(id.to_owned()) {
                    return Err("two values of one dimension".to_owned());
                }
                value.parse::<i64>().map_err(|error| error.to_string())?;
                self.sets += 1;
            }
            ["END"] => {
                self.open.take().ok_or("an end without a block")?;
            }
            _ => return Err("an unknown command".to_owned()),
        }
        Ok(())
    }
}

fn plain(id: &str) -> bool {
    id.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}
