//! Which families a scrape asks for.

use crate::family::Family;

/// The names in a request's parameters `name[]`; without one, all that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted(Vec<Vec<u8>>);

impl Wanted {
    /// Of the part of a request's target behind the question mark. What else stands there means nothing to us.
    pub(crate) fn read(query: &str) -> Self {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let names = pairs.filter(|(key, _)| decoded(key) == b"name[]").map(|(_, name)| decoded(name));
        Self(names.collect())
    }

    /// Whether that is everything.
    pub(crate) const fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the family is among them, by its own name or by that of its samples.
    pub(crate) fn takes(&self, family: &Family) -> bool {
        let is_called = |name: &Vec<u8>| std::str::from_utf8(name).is_ok_and(|name| family.is_called(name));
        self.is_all() || self.0.iter().any(is_called)
    }
}

/// A text's bytes, with those that are written as `%41` as they are. What is no such thing stays.
pub(crate) fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let digit = |at: usize| behind.get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let byte = match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_clients_write_them() {
        let wanted = |names: &[&str]| Wanted(names.iter().map(|name| name.as_bytes().to_vec()).collect());
        for (query, names) in [
            ("", &[][..]),
            ("name=a&x&collect[]=b&&=", &[]),
            ("name[]=a_total", &["a_total"]),
            ("x=1&name%5B%5D=a&name[]=%62", &["a", "b"]),
            ("name[]=", &[""]),
        ] {
            assert_eq!(Wanted::read(query), wanted(names), "{query}");
        }
    }
}
