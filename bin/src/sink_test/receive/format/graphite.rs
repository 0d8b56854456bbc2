//! Graphite's plain text: `path value time`.

use super::value::value;
use crate::sink_test::receive::stored::{Point, Says};

/// A path may have tags behind it, `;key=value`; the time -1 is when the line comes.
pub(super) fn read(line: &str, points: &mut Vec<Point>) -> Result<(), &'static str> {
    let mut words = line.split_ascii_whitespace();
    let (Some(path), Some(number), Some(time), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("not a path, a value and a time");
    };
    if path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err("no path");
    }
    let time = match value(time)? {
        _ if time == "-1" => None,
        // A fraction of a second is cut off.
        _ => Some(time.split('.').next().and_then(|whole| whole.parse().ok()).ok_or("no time in seconds")?),
    };
    points.push(Point::new(path, Says::Is(time, value(number)?)));
    Ok(())
}
