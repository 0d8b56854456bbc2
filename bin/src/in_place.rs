//! What is drawn on a terminal over what was drawn there before.

/// Columns and rows.
pub(crate) type Size = (usize, usize);

/// A place on a terminal, as high as what was drawn there last.
#[derive(Default)]
pub(crate) struct InPlace {
    above: usize,
    on: Option<Size>,
}

impl InPlace {
    /// How many columns and lines have room on a terminal of this size: from further up than its first row nothing can be
    /// drawn over, and behind the last line the cursor takes one.
    pub(crate) fn room(size: Option<Size>) -> Option<Size> {
        size.map(|(columns, rows)| (columns, rows.saturating_sub(1).max(1)))
    }

    /// What draws these lines on a terminal of this size; they have [room](Self::room) there.
    pub(crate) fn draw(&mut self, size: Option<Size>, lines: &[String]) -> String {
        // A terminal of another size has moved what it shows.
        let moved = self.above > 0 && self.on != size;
        self.on = size;
        let drawn = over(if moved { None } else { Some(self.above) }, lines);
        self.above = lines.len();
        drawn
    }
}

/// Draws lines over those that were drawn before, so many lines further up, or on an empty screen. A line that is too long
/// is cut, not wrapped: it would move everything below it.
fn over(above: Option<usize>, lines: &[String]) -> String {
    const NO_WRAP: &str = "\x1b[?7l";
    const WRAP: &str = "\x1b[?7h";
    const CLEAR_LINE: &str = "\x1b[K";
    const CLEAR_BELOW: &str = "\x1b[J";
    const CLEAR_ALL: &str = "\x1b[H\x1b[J";
    let up = match above {
        None => CLEAR_ALL.to_owned(),
        Some(0) => String::new(),
        Some(above) => format!("\x1b[{above}F"),
    };
    let end = format!("{CLEAR_LINE}\r\n");
    let lines: String = lines.iter().flat_map(|line| [line.as_str(), end.as_str()]).collect();
    format!("{NO_WRAP}{up}{lines}{CLEAR_BELOW}{WRAP}")
}
