//! Text from outside, as it may stand on a terminal.

/// Names may be chosen by whoever runs a process: nothing in them may steer a terminal, and
/// nothing may turn the reading direction or be invisible.
pub(super) fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    text.chars().map(|c| if harmful(c) { '_' } else { c }).collect()
}
