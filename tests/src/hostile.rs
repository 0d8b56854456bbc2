//! Names that somebody would give a process to see what happens.

/// Every byte there is between two letters, and what some protocol gives a meaning; as the text that a probe makes of it.
/// No two are equal once the agent has cleaned them, which makes every control character the same.
pub fn names() -> Vec<String> {
    let bytes = (0..=255_u8).map(|byte| [b'a', byte, b'z'].to_vec());
    let nasty: [&[u8]; 19] = [
        b"it's",
        b"\"",
        b"'",
        b"=",
        b"a = b",
        b"#",
        b"# comment",
        b"a|b:c,d",
        b"\\",
        b"end\\",
        b"\\'",
        b"two\nlines",
        b"x\nDISABLE\n",
        b"x' 0 1\nSET y = 1",
        b"\xff\xfe\xc3(",
        b" ",
        b"{}",
        b"${HOME}",
        "\u{e9}\u{2028}".as_bytes(),
    ];
    let long = b"'\"= ".repeat(1024);
    let all = bytes.chain(nasty.iter().map(|name| name.to_vec())).chain([long]);
    let mut names: Vec<String> = Vec::new();
    for name in all.map(|name| String::from_utf8_lossy(&name).into_owned()) {
        if names.iter().all(|known| cleaned(known) != cleaned(&name)) {
            names.push(name);
        }
    }
    names
}

fn cleaned(name: &str) -> String {
    let breaks = |c: char| c.is_control() || "\u{2028}\u{2029}".contains(c);
    name.chars().map(|c| if breaks(c) { '_' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_many_and_no_two_are_one_series() {
        let names = names();
        assert!(names.len() > 110, "{}", names.len());
        assert!(names.iter().any(|name| name.contains('\u{fffd}')) && names.iter().any(|name| name.len() == 4096));
    }
}
