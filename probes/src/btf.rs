//! How many arguments a kernel function takes, from the kernel's own type information.
//!
//! An fexit program finds the result behind the arguments. If a kernel changes a function's
//! signature, the program would read an argument for a result and nobody would notice, so the
//! arity is checked before the program is loaded. aya reads BTF for its own needs and does not
//! hand out types, hence this reader (Documentation/bpf/btf.rst).

use std::collections::{BTreeSet, HashMap};

const MAGIC: u16 = 0xeb9f;

/// The kind of a type, by the kernel's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind(u32);

impl Kind {
    pub(crate) const POINTER: Self = Self(2);
    pub(crate) const ARRAY: Self = Self(3);
    pub(crate) const STRUCT: Self = Self(4);
    pub(crate) const UNION: Self = Self(5);
    pub(crate) const ENUM: Self = Self(6);
    pub(crate) const TYPEDEF: Self = Self(8);
    pub(crate) const FUNC: Self = Self(12);
    pub(crate) const FUNC_PROTO: Self = Self(13);
    pub(crate) const ENUM64: Self = Self(19);

    /// From a type's second word.
    pub(crate) const fn of(info: u32) -> Self {
        Self((info >> 24) & 0x1f)
    }

    /// Whether a program can be relocated by it: numbers, structures, unions, enumerations and names for one.
    pub(crate) const fn has_content(self) -> bool {
        matches!(self.0, 1 | 4..=6 | 8 | 16 | 19)
    }

    /// Whether it is another type by another name or with a qualifier.
    pub(crate) const fn refers(self) -> bool {
        matches!(self.0, 8..=11 | 18)
    }

    /// What follows a type's three words; `None` for a kind that is not known.
    const fn extra_bytes(self, members: usize) -> Option<usize> {
        Some(match self.0 {
            1 | 14 | 17 => 4, // int, variable, declaration tag
            // pointer, forward, typedef, volatile, const, restrict, function, float, type tag
            2 | 7..=12 | 16 | 18 => 0,
            3 => 12,                         // array
            4 | 5 | 15 | 19 => members * 12, // struct, union, data section, 64-bit enum
            6 | 13 => members * 8,           // enum, prototype
            _ => return None,
        })
    }
}

/// Type information by its parts.
pub(crate) struct Section<'a> {
    pub(crate) head: &'a [u8],
    pub(crate) types: &'a [u8],
    pub(crate) strings: &'a [u8],
}

impl<'a> Section<'a> {
    /// `None` where it is something else, or cut off.
    pub(crate) fn of(btf: &'a [u8]) -> Option<Self> {
        let magic = u16::from_ne_bytes(btf.get(..2)?.try_into().ok()?);
        if magic != MAGIC {
            return None;
        }
        let [header, types, types_len, strings, strings_len] =
            [4, 8, 12, 16, 20].map(|at| word(btf, at).map_or(usize::MAX, |w| w as usize));
        let section = |offset: usize, len: usize| {
            let start = header.checked_add(offset)?;
            btf.get(start..start.checked_add(len)?)
        };
        Some(Self { head: btf, types: section(types, types_len)?, strings: section(strings, strings_len)? })
    }
}

/// A type: where it is among the others, and how it begins.
pub(crate) struct Type {
    pub(crate) at: usize,
    pub(crate) end: usize,
    pub(crate) kind: Kind,
    pub(crate) name: u32,
    members: usize,
    target: u32,
}

/// The types in the order of their numbers, the first of which is 1. A `None` ends them: the data stops in the middle of
/// something, or holds a kind of type that a newer kernel has invented. How long such a type is nobody knows, so
/// everything behind it would be read out of step.
pub(crate) struct Types<'a> {
    types: &'a [u8],
    at: usize,
}

impl<'a> Types<'a> {
    pub(crate) const fn of(types: &'a [u8]) -> Self {
        Self { types, at: 0 }
    }

    fn read(&self) -> Option<Type> {
        let at = self.at;
        let (name, info, target) = (word(self.types, at)?, word(self.types, at + 4)?, word(self.types, at + 8)?);
        let (kind, members) = (Kind::of(info), (info & 0xffff) as usize);
        let end = at + 12 + kind.extra_bytes(members)?;
        (end <= self.types.len()).then_some(Type { at, end, kind, name, members, target })
    }
}

impl Iterator for Types<'_> {
    type Item = Option<Type>;

    fn next(&mut self) -> Option<Option<Type>> {
        if self.at >= self.types.len() {
            return None;
        }
        let read = self.read();
        self.at = read.as_ref().map_or(usize::MAX, |ty| ty.end);
        Some(read)
    }
}

/// The arity of each of these functions that the type information knows; `None` means that it cannot be read.
pub(crate) fn arities<'a>(btf: &[u8], functions: &BTreeSet<&'a str>) -> Option<HashMap<&'a str, usize>> {
    let functions: HashMap<&[u8], &str> = functions.iter().map(|function| (function.as_bytes(), *function)).collect();
    let Section { types, strings, .. } = Section::of(btf)?;
    // By type id: a prototype's number of parameters. Id 0 is void.
    let mut parameters: Vec<u16> = vec![0];
    let mut found: Vec<(&str, usize)> = Vec::new();
    for ty in Types::of(types) {
        let Type { kind, members, name, target, .. } = ty?;
        parameters.push(if kind == Kind::FUNC_PROTO { u16::try_from(members).ok()? } else { 0 });
        if kind == Kind::FUNC
            && let Some(function) = functions.get(string(strings, name)?)
        {
            found.push((*function, target as usize));
        }
    }
    Some(found.into_iter().filter_map(|(name, proto)| Some((name, usize::from(*parameters.get(proto)?)))).collect())
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

pub(crate) fn string(strings: &[u8], at: u32) -> Option<&[u8]> {
    let rest = strings.get(at as usize..)?;
    Some(&rest[..rest.iter().position(|byte| *byte == 0)?])
}

/// The names of an enumeration in an object's own type information, in the order of their values, which must be 0, 1
/// and so on; `None` if it has no such enumeration.
pub(crate) fn names_of_enum(object: &[u8], name: &str) -> Option<Vec<String>> {
    let section = Section::of(elf_section(object, b".BTF")?)?;
    let is = |ty: &Type| ty.kind == Kind::ENUM && string(section.strings, ty.name) == Some(name.as_bytes());
    let found = Types::of(section.types).flatten().find(is)?;
    let members = section.types.get(found.at + 12..found.end)?.chunks_exact(8).zip(0_u32..);
    let names = members.map(|(member, value)| {
        let name = string(section.strings, word(member, 0)?)?;
        (word(member, 4)? == value).then(|| String::from_utf8_lossy(name).into_owned())
    });
    names.collect()
}

/// A section of a 64-bit object by its name.
pub(crate) fn elf_section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    const HEADER: usize = 64;
    let half = |at: usize| Some(usize::from(u16::from_ne_bytes(elf.get(at..at + 2)?.try_into().ok()?)));
    let long = |at: usize| usize::try_from(u64::from_ne_bytes(elf.get(at..at.checked_add(8)?)?.try_into().ok()?)).ok();
    let (table, count, names) = (long(0x28)?, half(0x3c)?, half(0x3e)?);
    let header = |index: usize| table.checked_add(index * HEADER);
    let content = |header: usize| {
        let start = long(header + 0x18)?;
        elf.get(start..start.checked_add(long(header + 0x20)?)?)
    };
    let names = content(header(names)?)?;
    (0..count)
        .filter_map(header)
        .find(|header| word(elf, *header).and_then(|at| string(names, at)) == Some(name))
        .and_then(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `int f(int, int)` and a struct before it.
    fn sample() -> Vec<u8> {
        let strings = b"\0f\0";
        let types: Vec<u32> = [
            vec![0, 4 << 24 | 1, 4, 0, 2, 0],     // 1: struct with one member
            vec![0, 1 << 24, 4, 32],              // 2: int
            vec![0, 13 << 24 | 2, 2, 0, 2, 0, 2], // 3: int (int, int)
            vec![1, 12 << 24 | 1, 3],             // 4: f
        ]
        .concat();
        let types_len = u32::try_from(types.len() * 4).expect("small");
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        for word in [24, 0, types_len, types_len, 3] {
            bytes.extend(u32::to_ne_bytes(word));
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn a_function_has_its_prototypes_arity() {
        assert_eq!(arities(&sample(), &BTreeSet::from(["f", "g"])), Some(HashMap::from([("f", 2)])));
    }

    #[test]
    fn data_cut_anywhere_gives_nothing_and_no_panic() {
        let whole = sample();
        for end in 0..whole.len() {
            assert_eq!(arities(&whole[..end], &BTreeSet::from(["f"])), None, "cut at {end}");
        }
    }

    #[test]
    fn a_kind_that_is_not_known_is_refused_and_not_passed_over() {
        let first_kind = 24 + 7; // the highest byte of the first type's second word
        for kind in [0].into_iter().chain(20..32) {
            let mut changed = sample();
            changed[first_kind] = kind;
            assert_eq!(arities(&changed, &BTreeSet::from(["f"])), None, "kind {kind}");
        }
    }
}
