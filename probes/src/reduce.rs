//! The kernel's type information cut down to what loading our programs takes.
//!
//! aya makes an object of its own of each type, and a kernel has more than a hundred thousand: 36 MiB for some twenty
//! structures that are looked at. What nobody asks for becomes the shortest type there is, so that every other one keeps
//! its number, which is what the kernel goes by.

use std::collections::{HashMap, HashSet};

use crate::btf::{Kind, Section, Types, elf_section, string, word};

/// What the name of a tracepoint's type begins with.
const TRACEPOINT: &[u8] = b"btf_trace_";
/// A forward declaration without a name: three words and nothing behind them.
const NOTHING: [u32; 3] = [0, 7 << 24, 0];

/// The same information without the content of types that are neither functions, nor tracepoints, nor named in the
/// `objects`, nor part of one that is. `None` where it cannot be read, as [`crate::btf::arities`] says.
pub(crate) fn reduced(btf: &[u8], objects: &[&[u8]]) -> Option<Vec<u8>> {
    let section = Section::of(btf)?;
    let wanted = names_in(objects);
    let mut places: Vec<u32> = vec![0];
    let mut pending = Vec::new();
    for ty in Types::of(section.types) {
        let ty = ty?;
        let id = u32::try_from(places.len()).ok()?;
        if ty.kind.has_content() && wanted.contains(without_flavor(string(section.strings, ty.name)?)) {
            pending.push(id);
        }
        places.push(u32::try_from(ty.at).ok()?);
    }
    let kept = with_parts(section.types, &places, pending)?;
    write(&section, &kept)
}

/// The names of the types that the objects speak of; one of another kernel carries its flavour behind three underscores.
fn names_in<'a>(objects: &[&'a [u8]]) -> HashSet<&'a [u8]> {
    let mut names = HashSet::new();
    for section in objects.iter().filter_map(|object| Section::of(elf_section(object, b".BTF")?)) {
        let types = Types::of(section.types).flatten();
        names.extend(types.filter_map(|ty| string(section.strings, ty.name)).map(without_flavor));
    }
    names.remove(&b""[..]);
    names
}

fn without_flavor(name: &[u8]) -> &[u8] {
    let end = name.windows(3).position(|three| three == b"___");
    &name[..end.unwrap_or(name.len())]
}

/// These types and whatever they hold by value. What is behind a pointer is another type's relocation.
fn with_parts(types: &[u8], places: &[u32], mut pending: Vec<u32>) -> Option<HashSet<u32>> {
    let mut kept = HashSet::new();
    while let Some(id) = pending.pop() {
        if id == 0 || !kept.insert(id) {
            continue;
        }
        let at = *places.get(id as usize)? as usize;
        let info = word(types, at + 4)?;
        let (kind, members) = (Kind::of(info), (info & 0xffff) as usize);
        match kind {
            Kind::STRUCT | Kind::UNION => {
                for member in 0..members {
                    pending.push(word(types, at + 12 + member * 12 + 4)?);
                }
            }
            Kind::ARRAY => pending.extend([word(types, at + 12)?, word(types, at + 16)?]),
            kind if kind.refers() => pending.push(word(types, at + 8)?),
            _ => {}
        }
    }
    Some(kept)
}

fn write(section: &Section<'_>, kept: &HashSet<u32>) -> Option<Vec<u8>> {
    let mut names = Names { old: section.strings, new: vec![0], known: HashMap::new() };
    let mut types: Vec<u8> = Vec::new();
    for (index, ty) in Types::of(section.types).enumerate() {
        let ty = ty?;
        let id = u32::try_from(index + 1).ok()?;
        let name = string(section.strings, ty.name)?;
        let words = |name: u32| {
            [name, word(section.types, ty.at + 4).unwrap_or(0), word(section.types, ty.at + 8).unwrap_or(0)]
        };
        if ty.kind == Kind::FUNC || (ty.kind == Kind::TYPEDEF && name.starts_with(TRACEPOINT)) {
            put(&mut types, &words(names.add(name)?));
        } else if kept.contains(&id) {
            put(&mut types, &words(names.of(ty.name)?));
            let rest = section.types.get(ty.at + 12..ty.end)?;
            // Of these each member begins with its name.
            let member_size = match ty.kind {
                Kind::STRUCT | Kind::UNION | Kind::ENUM64 => 12,
                Kind::ENUM => 8,
                _ => 0,
            };
            if member_size == 0 {
                types.extend_from_slice(rest);
            }
            for member in rest.chunks_exact(member_size.max(1)).filter(|_| member_size > 0) {
                put(&mut types, &[names.of(word(member, 0)?)?]);
                types.extend_from_slice(&member[4..]);
            }
        } else {
            put(&mut types, &NOTHING);
        }
    }
    let (types_length, strings_length) = (u32::try_from(types.len()).ok()?, u32::try_from(names.new.len()).ok()?);
    let mut whole = Vec::with_capacity(24 + types.len() + names.new.len());
    whole.extend_from_slice(section.head.get(..4)?);
    put(&mut whole, &[24, 0, types_length, types_length, strings_length]);
    whole.append(&mut types);
    whole.append(&mut names.new);
    Some(whole)
}

fn put(bytes: &mut Vec<u8>, words: &[u32]) {
    bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

/// The strings that are still needed.
struct Names<'a> {
    old: &'a [u8],
    new: Vec<u8>,
    /// Where a string was, and where it is.
    known: HashMap<u32, u32>,
}

impl Names<'_> {
    fn of(&mut self, old: u32) -> Option<u32> {
        if let Some(new) = self.known.get(&old) {
            return Some(*new);
        }
        let new = if old == 0 { 0 } else { self.add(string(self.old, old)?)? };
        self.known.insert(old, new);
        Some(new)
    }

    fn add(&mut self, name: &[u8]) -> Option<u32> {
        let at = u32::try_from(self.new.len()).ok()?;
        self.new.extend_from_slice(name);
        self.new.push(0);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use aya::{Btf, Endianness};

    use super::*;
    use crate::btf::arities;

    const OBJECTS: [&[u8]; 3] = [core(&crate::FILE), core(&crate::PROCESS), crate::calls::SYSCALLS.core];

    const fn core(probe: &crate::KernelProbe) -> &'static [u8] {
        match &probe.objects {
            Some(objects) => objects.core,
            None => &[],
        }
    }

    #[test]
    fn the_objects_name_the_structures_that_they_read() {
        let names = names_in(&OBJECTS);
        assert!(names.contains(&b"task_struct"[..]) && names.len() > 20, "{} names", names.len());
        assert!(names_in(&[b"no object", &[0; 64]]).is_empty());
    }

    #[test]
    fn a_flavour_is_no_part_of_a_name() {
        for (name, plain) in
            [("task_struct", "task_struct"), ("task_struct___old", "task_struct"), ("___x", ""), ("", "")]
        {
            assert_eq!(without_flavor(name.as_bytes()), plain.as_bytes());
        }
    }

    /// This machine's own, where it has one: numbers and names stay, and it is a small part of the whole.
    #[test]
    fn what_is_left_has_the_same_numbers_and_is_small() {
        let whole = match std::fs::read(crate::kernel::BTF_PATH) {
            Ok(whole) => whole,
            Err(error) => {
                use std::io::Write as _;
                let path = crate::kernel::BTF_PATH;
                // Not eprintln: the test harness would keep it to itself as long as the test passes.
                let _ = writeln!(std::io::stderr(), "SKIPPED what_is_left_has_the_same_numbers...: {path}: {error}");
                return;
            }
        };
        let reduced = reduced(&whole, &OBJECTS).expect("type information");
        assert!(reduced.len() * 3 < whole.len() * 2, "{} of {} bytes", reduced.len(), whole.len());
        let functions = ["vfs_read", "vfs_unlink", "do_exit", "kernel_clone"];
        let (before, after) = (Section::of(&whole).expect("whole"), Section::of(&reduced).expect("reduced"));
        let ids = |section: &Section<'_>, wanted: &[u8], kind: Kind| {
            Types::of(section.types)
                .flatten()
                .position(|ty| ty.kind == kind && string(section.strings, ty.name) == Some(wanted))
        };
        for function in functions {
            let wanted = function.as_bytes();
            assert_eq!(ids(&before, wanted, Kind::FUNC), ids(&after, wanted, Kind::FUNC), "{function}");
        }
        for (name, kind) in [("task_struct", Kind::STRUCT), ("btf_trace_sched_process_exit", Kind::TYPEDEF)] {
            let id = ids(&before, name.as_bytes(), kind);
            assert!(id.is_some() && id == ids(&after, name.as_bytes(), kind), "{name}");
        }
        assert!(!arities(&whole, &functions).expect("whole").is_empty());
        let parsed = Btf::parse(&reduced, Endianness::default()).expect("what aya understands");
        assert_eq!(parsed.to_bytes().len(), reduced.len());
    }

    #[test]
    fn information_cut_anywhere_gives_nothing_and_no_panic() {
        let whole = elf_section(OBJECTS[0], b".BTF").expect("the object's own types");
        let reduced = |bytes: &[u8]| reduced(bytes, &OBJECTS);
        assert!(reduced(whole).is_some());
        for end in (0..whole.len()).step_by(7) {
            assert_eq!(reduced(&whole[..end]), None, "cut at {end}");
        }
    }
}
