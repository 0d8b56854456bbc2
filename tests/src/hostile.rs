//! Names that somebody would give a process, a control group or a tag to see what happens.

use std::collections::HashSet;

/// Every byte there is, alone and between two letters, and what some protocol gives a meaning; as the text that a probe
/// makes of it. No two are equal.
pub fn names() -> Vec<String> {
    let bytes = (0..=u8::MAX).flat_map(|byte| [vec![byte], vec![b'a', byte, b'z']]);
    let nasty: &[&[u8]] = &[
        b"",
        b"it's",
        b"\"quoted\"",
        b"a = b",
        b"# comment",
        b"a|b:c,d",
        b"a|b:c,d=e#f",
        b"end\\",
        b"\\\\",
        b"\\'",
        b"a\\,b\\ c\\=d",
        b"two\nlines",
        b"x\nDISABLE\n",
        b"x' 0 1\nSET y = 1",
        b"x calls=1i 1\nforged,a=b calls=2i 2",
        b"x:1|c\nforged:99|c",
        b"x\r\nforged:99|c\r\n",
        b"x 1\nforged{a=\"b\"} 99\n",
        b"\"} 99\n# EOF\n",
        b"|#forged:tag",
        b";forged=tag",
        b"|c|@0.001",
        b"_e{5,4}:title|text",
        b"_sc|name|0",
        b"..",
        b"../../etc",
        b"{}",
        b"${HOME}",
        b"-5",
        b"\x00\x1b[31m",
        b"\xff\xfe\xc3(",
        b"\xff\xfe invalid \xc3\x28",
        "\u{e9}\u{2028}".as_bytes(),
        "\u{feff}bom \u{202e}left".as_bytes(),
        // What a receiver or a language takes for itself.
        b"time",
        b"name",
        b"le",
        b"job",
        b"metric_type",
        b"__name__",
        b"__proto__",
    ];
    let long = [b"'\"= ".repeat(1024), b"4 KiB, ".repeat(586)];
    let all = bytes.chain(nasty.iter().map(|name| name.to_vec())).chain(long);
    let mut known = HashSet::new();
    let names = all.map(|name| String::from_utf8_lossy(&name).into_owned());
    names.filter(|name| known.insert(name.clone())).collect()
}

/// Those of [`names`] that are still different once the agent has cleaned them, which makes every control character the
/// same: for a series that has nothing else to be told by.
pub fn distinct_names() -> Vec<String> {
    let mut known = HashSet::new();
    names().into_iter().filter(|name| known.insert(cleaned(name))).collect()
}

fn cleaned(name: &str) -> String {
    let breaks = |c: char| c.is_control() || "\u{2028}\u{2029}".contains(c);
    if name.is_empty() { "_".to_owned() } else { name.chars().map(|c| if breaks(c) { '_' } else { c }).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_many_and_have_every_byte_in_them() {
        let names = names();
        assert!(names.len() > 290, "{}", names.len());
        assert!((0..128_u8).all(|byte| names.iter().any(|name| name.as_bytes() == [byte])));
        assert!(names.iter().any(|name| name.contains('\u{fffd}')) && names.iter().any(|name| name.len() == 4096));
    }

    #[test]
    fn no_two_of_the_distinct_ones_are_one_series() {
        let names = distinct_names();
        assert!((200..super::names().len()).contains(&names.len()), "{}", names.len());
    }
}
