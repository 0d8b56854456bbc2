//! Prometheus's text format, and `OpenMetrics`: `name{key="value"} value [time]`.

use super::value::value;
use crate::sink_test::receive::stored::{Point, Says};

/// Comments and exemplars say no number of a series.
pub(super) fn read(line: &str, points: &mut Vec<Point>) -> Result<(), &'static str> {
    let line = line.trim();
    if line.starts_with('#') {
        return Ok(());
    }
    let name = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
    if name == 0 || line.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("no name");
    }
    let end = if line[name..].starts_with('{') { name + labels(&line[name..])? } else { name };
    let rest = line[end..].strip_prefix([' ', '\t']).ok_or("no blank behind the series")?;
    let rest = rest.split_once(" # ").map_or(rest, |(rest, _)| rest);
    let mut words = rest.split_ascii_whitespace();
    let number = value(words.next().ok_or("no value")?)?;
    let time = match (words.next(), words.next()) {
        (None, _) => None,
        // OpenMetrics has seconds with a fraction.
        (Some(time), None) => Some(time.split('.').next().and_then(|time| time.parse().ok()).ok_or("no time")?),
        _ => return Err("something behind the time"),
    };
    points.push(Point::new(&line[..end], Says::Is(time, number)));
    Ok(())
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Where the labels end, which begin with the brace.
fn labels(text: &str) -> Result<usize, &'static str> {
    let mut rest = &text[1..];
    loop {
        rest = rest.trim_start();
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok(text.len() - behind.len());
        }
        let (key, behind) = rest.split_once("=\"").ok_or("a label without a value in quotes")?;
        if key.is_empty() || key.starts_with(|c: char| c.is_ascii_digit()) || !key.chars().all(is_name) {
            return Err("a label without a name");
        }
        rest = behind[quoted(behind)?..].trim_start();
        rest = match rest.strip_prefix(',') {
            Some(behind) => behind,
            None if rest.starts_with('}') => rest,
            None => return Err("no comma behind a label"),
        };
    }
}

/// Where a value in quotes ends, behind its last quote.
fn quoted(text: &str) -> Result<usize, &'static str> {
    let mut letters = text.char_indices();
    while let Some((place, letter)) = letters.next() {
        match letter {
            '"' => return Ok(place + 1),
            '\\' if !matches!(letters.next(), Some((_, '\\' | '"' | 'n'))) => return Err("an unknown escape"),
            _ => {}
        }
    }
    Err("a value whose quotes do not end")
}
