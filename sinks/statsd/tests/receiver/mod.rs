//! A receiver that adds up what arrives, and refuses what is not by the rules of its dialect.

#![allow(dead_code, reason = "not every test asks for all")]

use std::collections::BTreeMap;

use ebpf_process_sink_statsd::Syntax;

/// Every syntax there is.
pub(crate) const ALL: [Syntax; 4] = [Syntax::Plain, Syntax::Graphite, Syntax::Dogstatsd, Syntax::Telegraf];

/// What it has by now; keys are `name` or `name{key=value,...}`, tags in the order of their keys.
#[derive(Debug)]
pub(crate) struct Receiver {
    syntax: Syntax,
    limit: usize,
    /// Sums.
    pub(crate) counters: BTreeMap<String, u128>,
    /// Levels.
    pub(crate) gauges: BTreeMap<String, f64>,
    /// Lines.
    pub(crate) lines: usize,
}

/// A line taken apart.
struct Line<'a> {
    name: &'a str,
    tags: BTreeMap<&'a str, &'a str>,
    number: &'a str,
    kind: &'a str,
}

impl Receiver {
    /// Has nothing; takes packets of at most `limit` bytes.
    pub(crate) fn new(syntax: Syntax, limit: usize) -> Self {
        Self { syntax, limit, counters: BTreeMap::new(), gauges: BTreeMap::new(), lines: 0 }
    }

    /// Takes a packet, or says what is wrong with it.
    pub(crate) fn read(&mut self, packet: &[u8]) -> Result<(), String> {
        if packet.is_empty() || packet.len() > self.limit {
            return Err(format!("{} bytes of {}", packet.len(), self.limit));
        }
        let text = std::str::from_utf8(packet).map_err(|error| error.to_string())?;
        for line in text.split('\n') {
            self.line(line).ok_or_else(|| format!("not a line: {line:?}"))?;
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Option<()> {
        let Line { name, tags, number, kind } = take_apart(self.syntax, line)?;
        let part = |part: &str| !part.is_empty() && part.chars().all(|c| self.name_holds(c));
        if !name.split('.').all(part) || (self.syntax == Syntax::Dogstatsd && !name.starts_with(char::is_alphabetic)) {
            return None;
        }
        let key = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
        let value = |text: &str| !text.is_empty() && text.chars().all(|c| self.value_holds(c));
        if !tags.iter().all(|(tag, text)| key(tag) && value(text)) {
            return None;
        }
        let tags: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let name = if tags.is_empty() { name.to_owned() } else { format!("{name}{{{}}}", tags.join(",")) };
        match kind {
            "c" => {
                // Of a number in parts of the unit the whole ones count.
                let (whole, parts) = number.split_once('.').unwrap_or((number, "0"));
                let growth: u128 = whole.parse().ok()?;
                if !parts.chars().all(|c| c.is_ascii_digit()) || number.bytes().all(|byte| b"0.".contains(&byte)) {
                    return None;
                }
                *self.counters.entry(name).or_default() += growth;
            }
            "g" => {
                let digits = number.strip_prefix('-').unwrap_or(number);
                if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit() || c == '.') {
                    return None;
                }
                let level: f64 = number.parse().ok()?;
                let is_change = number.starts_with('-') && self.syntax != Syntax::Dogstatsd;
                let gauge = self.gauges.entry(name).or_default();
                *gauge = if is_change { *gauge + level } else { level };
            }
            _ => return None,
        }
        self.lines += 1;
        Some(())
    }

    fn name_holds(&self, c: char) -> bool {
        c.is_ascii_alphanumeric() || c == '_' || (c == '-' && self.syntax != Syntax::Dogstatsd)
    }

    fn value_holds(&self, c: char) -> bool {
        match self.syntax {
            Syntax::Plain => false,
            // The Node server removes everything else.
            Syntax::Graphite => c.is_ascii_alphanumeric() || "_-.".contains(c),
            Syntax::Dogstatsd => c.is_alphanumeric() || "_-./:".contains(c),
            Syntax::Telegraf => !c.is_whitespace() && !c.is_control() && !":|,=#\\".contains(c),
        }
    }
}

/// `None` for what is not of the form, or has a tag twice.
fn take_apart(syntax: Syntax, line: &str) -> Option<Line<'_>> {
    let (head, rest) = line.split_once(':')?;
    let (number, rest) = rest.split_once('|')?;
    let (kind, behind) = rest.split_once("|#").map_or((rest, None), |(kind, tags)| (kind, Some(tags)));
    let (separator, assign) = match syntax {
        Syntax::Plain => return behind.is_none().then_some(Line { name: head, tags: BTreeMap::new(), number, kind }),
        Syntax::Graphite => (';', '='),
        Syntax::Dogstatsd => (',', ':'),
        Syntax::Telegraf => (',', '='),
    };
    let (name, written) = match (syntax, behind) {
        (Syntax::Dogstatsd, behind) => (head, behind),
        (_, None) => head.split_once(separator).map_or((head, None), |(name, tags)| (name, Some(tags))),
        _ => return None,
    };
    let mut tags = BTreeMap::new();
    for tag in written.into_iter().flat_map(|tags| tags.split(separator)) {
        let (key, value) = tag.split_once(assign)?;
        if tags.insert(key, value).is_some() {
            return None;
        }
    }
    Some(Line { name, tags, number, kind })
}
