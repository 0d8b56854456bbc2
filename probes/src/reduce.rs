//! The kernel's type information cut down to what loading our programs takes.
//!
//! aya makes an object of its own of each type, and a kernel has more than a hundred thousand: 36 MiB for some twenty
//! structures that are looked at, and it walks through all of them for each type that a program is relocated by. What
//! nobody asks for becomes the shortest type there is, so that every other one keeps its number, which is what the kernel
//! goes by. What programs are relocated by is apart from what they are attached to: the latter is most, and comes last. On
//! a kernel that has the former late as well they are one piece: two long ones would take memory and save no time.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::btf::{Kind, Section, Type, Types, elf_section, string, word};

/// What the name of a tracepoint's type begins with.
const TRACEPOINT: &[u8] = b"btf_trace_";
/// A forward declaration without a name: three words and nothing behind them.
const NOTHING: [u32; 3] = [0, 7 << 24, 0];

/// What is left, with the numbers of before.
pub(crate) struct Reduced {
    /// These functions and all tracepoints: what programs are attached to.
    pub(crate) places: Vec<u8>,
    /// The types that are named in the objects, and their parts: what programs are relocated by. The last one ends it.
    /// None where that comes late: then they are among the places.
    pub(crate) structures: Option<Vec<u8>>,
}

/// Types that end in the first of so many equal parts of all types are early.
const PARTS: u32 = 4;

/// Cuts type information down for these functions and objects. `None` where it cannot be read, as
/// [`crate::btf::arities`] says.
pub(crate) fn reduced(btf: &[u8], functions: &BTreeSet<&str>, objects: &BTreeSet<&[u8]>) -> Option<Reduced> {
    let section = Section::of(btf)?;
    let functions: HashSet<&[u8]> = functions.iter().map(|function| function.as_bytes()).collect();
    let wanted = names_in(objects);
    let mut offsets: Vec<u32> = vec![0];
    let mut pending = Vec::new();
    let mut places = HashSet::new();
    for ty in Types::of(section.types) {
        let ty = ty?;
        let id = u32::try_from(offsets.len()).ok()?;
        let name = string(section.strings, ty.name)?;
        if ty.kind.has_content() && wanted.contains(without_flavor(name)) {
            pending.push(id);
        }
        let is_place = match ty.kind {
            Kind::FUNC => functions.contains(name),
            Kind::TYPEDEF => name.starts_with(TRACEPOINT),
            _ => false,
        };
        if is_place {
            places.insert(id);
        }
        offsets.push(u32::try_from(ty.at).ok()?);
    }
    let kept = with_parts(section.types, &offsets, pending)?;
    let last = kept.iter().max().copied().unwrap_or(0);
    let all = u32::try_from(offsets.len()).ok()?;
    let is_early = last < all / PARTS;
    let structures = if is_early { Some(written(&section, last, |id| kept.contains(&id))?) } else { None };
    let places = written(&section, u32::MAX, |id| places.contains(&id) || (!is_early && kept.contains(&id)))?;
    Some(Reduced { places, structures })
}

/// The types up to the last one, with the content of those that are kept.
fn written(section: &Section<'_>, last: u32, is_kept: impl Fn(u32) -> bool) -> Option<Vec<u8>> {
    let mut written = Written::new(section, last);
    for (id, ty) in (1..=last).zip(Types::of(section.types)) {
        let ty = ty?;
        written.add(is_kept(id).then_some(&ty))?;
    }
    written.end()
}

/// The names of the types that the objects speak of; one of another kernel carries its flavour behind three underscores.
fn names_in<'a>(objects: &BTreeSet<&'a [u8]>) -> HashSet<&'a [u8]> {
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
fn with_parts(types: &[u8], offsets: &[u32], mut pending: Vec<u32>) -> Option<HashSet<u32>> {
    let mut kept = HashSet::new();
    while let Some(id) = pending.pop() {
        if id == 0 || !kept.insert(id) {
            continue;
        }
        let at = *offsets.get(id as usize)? as usize;
        let info = word(types, at + 4)?;
        let (kind, members) = (Kind::of(info), (info & 0xffff) as usize);
        match kind {
            Kind::STRUCT | Kind::UNION => {
                for member in 0..members {
                    pending.push(word(types, at + 12 + member * 12 + 4)?);
                }
            }
            Kind::FUNC_PROTO => {
                pending.push(word(types, at + 8)?);
                for parameter in 0..members {
                    pending.push(word(types, at + 12 + parameter * 8 + 4)?);
                }
            }
            Kind::ARRAY => pending.extend([word(types, at + 12)?, word(types, at + 16)?]),
            kind if kind.refers() => pending.push(word(types, at + 8)?),
            _ => {}
        }
    }
    Some(kept)
}

/// Type information that is being written.
struct Written<'a> {
    from: &'a Section<'a>,
    /// The number of the last type.
    last: u32,
    types: Vec<u8>,
    strings: Vec<u8>,
    /// Where a string was, and where it is.
    known: HashMap<u32, u32>,
}

impl<'a> Written<'a> {
    fn new(from: &'a Section<'a>, last: u32) -> Self {
        Self { from, last, types: Vec::new(), strings: vec![0], known: HashMap::new() }
    }

    /// Adds a type, or what stands for one that nobody asks for.
    fn add(&mut self, ty: Option<&Type>) -> Option<()> {
        let Some(ty) = ty else {
            put(&mut self.types, &NOTHING);
            return Some(());
        };
        let (info, size_or_type) = (word(self.from.types, ty.at + 4)?, word(self.from.types, ty.at + 8)?);
        // What is behind a pointer is not kept for its sake, and a number beyond the last type is an error to aya.
        let is_beyond = ty.kind == Kind::POINTER && size_or_type > self.last;
        let name = self.string(ty.name)?;
        put(&mut self.types, &[name, info, if is_beyond { 0 } else { size_or_type }]);
        let rest = self.from.types.get(ty.at + 12..ty.end)?;
        // Of these each member begins with its name.
        let member_size = match ty.kind {
            Kind::STRUCT | Kind::UNION | Kind::ENUM64 => 12,
            Kind::ENUM | Kind::FUNC_PROTO => 8,
            _ => 0,
        };
        if member_size == 0 {
            self.types.extend_from_slice(rest);
            return Some(());
        }
        for member in rest.chunks_exact(member_size) {
            let name = self.string(word(member, 0)?)?;
            put(&mut self.types, &[name]);
            self.types.extend_from_slice(&member[4..]);
        }
        Some(())
    }

    fn string(&mut self, old: u32) -> Option<u32> {
        if old == 0 {
            return Some(0);
        }
        if let Some(new) = self.known.get(&old) {
            return Some(*new);
        }
        let new = u32::try_from(self.strings.len()).ok()?;
        self.strings.extend_from_slice(string(self.from.strings, old)?);
        self.strings.push(0);
        self.known.insert(old, new);
        Some(new)
    }

    fn end(mut self) -> Option<Vec<u8>> {
        let (types, strings) = (u32::try_from(self.types.len()).ok()?, u32::try_from(self.strings.len()).ok()?);
        let mut whole = Vec::with_capacity(24 + self.types.len() + self.strings.len());
        whole.extend_from_slice(self.from.head.get(..4)?);
        put(&mut whole, &[24, 0, types, types, strings]);
        whole.append(&mut self.types);
        whole.append(&mut self.strings);
        Some(whole)
    }
}

fn put(bytes: &mut Vec<u8>, words: &[u32]) {
    bytes.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

#[cfg(test)]
mod tests {
    use aya::{Btf, Endianness};

    use super::*;
    use crate::btf::arities;

    fn objects() -> BTreeSet<&'static [u8]> {
        BTreeSet::from([core(&crate::FILE), core(&crate::PROCESS), crate::calls::SYSCALLS.core])
    }

    const fn core(probe: &crate::KernelProbe) -> &'static [u8] {
        match &probe.objects {
            Some(objects) => objects.core,
            None => &[],
        }
    }

    #[test]
    fn the_objects_name_the_structures_that_they_read() {
        let objects = objects();
        let names = names_in(&objects);
        assert!(names.contains(&b"task_struct"[..]) && names.len() > 20, "{} names", names.len());
        assert!(names_in(&BTreeSet::from([&b"no object"[..], &[0; 64]])).is_empty());
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
        let functions = BTreeSet::from(["vfs_read", "vfs_unlink", "do_exit", "kernel_clone"]);
        let Reduced { places, structures } = reduced(&whole, &functions, &objects()).expect("type information");
        let is_apart = structures.is_some();
        let structures = structures.unwrap_or_else(|| places.clone());
        assert!(places.len() * 3 < whole.len() * 2, "{} of {} bytes", places.len(), whole.len());
        assert!(!is_apart || structures.len() < places.len(), "{} of {} bytes", structures.len(), whole.len());
        let [whole_section, place_section, structure_section] =
            [&whole, &places, &structures].map(|btf| Section::of(btf).expect("type information"));
        let ids = |section: &Section<'_>, wanted: &[u8], kind: Kind| {
            Types::of(section.types)
                .flatten()
                .position(|ty| ty.kind == kind && string(section.strings, ty.name) == Some(wanted))
        };
        let same = |name: &str, kind, part| {
            let id = ids(&whole_section, name.as_bytes(), kind);
            id == ids(part, name.as_bytes(), kind) && (id.is_some() || kind == Kind::FUNC)
        };
        for function in &functions {
            assert!(same(function, Kind::FUNC, &place_section), "{function}");
        }
        assert!(same("btf_trace_sched_process_exit", Kind::TYPEDEF, &place_section));
        assert!(same("task_struct", Kind::STRUCT, &structure_section));
        assert!(!is_apart || ids(&structure_section, b"vfs_read", Kind::FUNC).is_none(), "nothing is in both");
        nothing_refers_beyond_the_end(&structure_section);
        assert!(!arities(&whole, &functions).expect("whole").is_empty());
        for part in [places, structures] {
            let parsed = Btf::parse(&part, Endianness::default()).expect("what aya understands");
            assert_eq!(parsed.to_bytes().len(), part.len());
        }
    }

    /// The types of a pointer, a qualifier, an array, members and parameters.
    fn references(section: &Section<'_>, ty: &Type) -> Vec<u32> {
        let words = |start: usize, step| (ty.at + start..ty.end).step_by(step).filter_map(|at| word(section.types, at));
        match ty.kind {
            Kind::STRUCT | Kind::UNION => words(16, 12).collect(),
            Kind::FUNC_PROTO => words(8, usize::MAX).chain(words(16, 8)).collect(),
            Kind::ARRAY => words(12, 4).take(2).collect(),
            kind if kind == Kind::POINTER || kind.refers() => words(8, 4).collect(),
            _ => Vec::new(),
        }
    }

    fn nothing_refers_beyond_the_end(section: &Section<'_>) {
        let last = u32::try_from(Types::of(section.types).count()).expect("a number");
        for ty in Types::of(section.types).flatten() {
            assert!(references(section, &ty).iter().all(|id| *id <= last), "{:?} at {}", ty.kind, ty.at);
        }
    }

    /// Type information of these types, each of which has no name or the name `task_struct`.
    fn information(types: &[&[u32]]) -> Vec<u8> {
        let types = types.concat();
        let length = u32::try_from(types.len() * 4).expect("a length");
        let mut bytes = Vec::new();
        let names = b"\0task_struct\0";
        put(&mut bytes, &[0x1_eb9f, 24, 0, length, length, u32::try_from(names.len()).expect("a length")]);
        put(&mut bytes, &types);
        bytes.extend(names);
        bytes
    }

    #[test]
    fn a_name_for_a_function_type_keeps_its_parameters_and_no_pointee() {
        let [nothing, int]: [&[u32]; 2] = [&NOTHING, &[0, 1 << 24, 4, 32]];
        let typedef = [1, 8 << 24, 2];
        let prototype = [0, 13 << 24 | 2, 3, 1, 3, 0, 4];
        let first = [&typedef[..], &prototype, int, &[0, 2 << 24, 5], int];
        let of = |nothings: usize| {
            let whole = information(&[&first[..], &vec![nothing; nothings]].concat());
            reduced(&whole, &BTreeSet::new(), &objects()).expect("type information")
        };
        assert_eq!(of(20).structures, Some(information(&[&typedef, &prototype, int, &[0, 2 << 24, 0]])));
        // Where they come late they are among the places, and there is no end for a pointer to be beyond of.
        let Reduced { places, structures } = of(1);
        assert_eq!((structures, places), (None, information(&[&typedef, &prototype, int, first[3], nothing, nothing])));
    }

    #[test]
    fn information_cut_anywhere_gives_nothing_and_no_panic() {
        let whole = elf_section(core(&crate::FILE), b".BTF").expect("the object's own types");
        let reduced = |bytes: &[u8]| reduced(bytes, &BTreeSet::from(["do_exit"]), &objects()).map(drop);
        assert!(reduced(whole).is_some());
        for end in (0..whole.len()).step_by(7) {
            assert_eq!(reduced(&whole[..end]), None, "cut at {end}");
        }
    }
}
