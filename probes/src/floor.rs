//! What an object for the floor may not have, since some kernel from Linux 4.11 on would refuse it.

use aya_obj::generated::{bpf_insn, bpf_map_type};
use aya_obj::{EbpfSectionKind, Map, Object, ProgramSection};

/// Instruction classes: stores, jumps, and 32-bit jumps, which are instruction set v3.
const CLASS: u8 = 0x07;
const STORE: u8 = 0x03;
const JUMP: u8 = 0x05;
const JUMP32: u8 = 0x06;
/// The mode of a store that is an atomic operation; what is not an addition is in its `imm`, from 5.12 on.
const MODE: u8 = 0xe0;
const ATOMIC: u8 = 0xc0;
/// Jump operations of instruction set v2: JLT, JLE, JSLT, JSLE.
const V2_JUMPS: [u8; 4] = [0xa0, 0xb0, 0xc0, 0xd0];
const CALL: u8 = 0x85;
/// A call whose source register says that it calls another function of the object.
const PSEUDO_CALL: u8 = 1;
/// The last helper that 4.11 has: `bpf_probe_read_str`.
const LAST_HELPER: i32 = 45;
/// The last type of map that 4.11 has.
const LAST_MAP: u32 = bpf_map_type::BPF_MAP_TYPE_LPM_TRIE as u32;
/// The kernel's limit before 5.2.
const INSTRUCTIONS: usize = 4096;

/// Everything that is wrong with an object for the floor, in words.
pub(crate) fn problems(object: &Object) -> Vec<String> {
    let mut problems = Vec::new();
    if object.btf.is_some() {
        problems.push("it has type information (compile it with -DFLOOR and without -g)".to_owned());
    }
    let mut maps: Vec<(&String, &Map)> = object.maps.iter().collect();
    maps.sort_unstable_by_key(|(name, _)| *name);
    for (name, map) in maps {
        match map.section_kind() {
            EbpfSectionKind::Maps if map.map_type() > LAST_MAP => {
                problems.push(format!("the map {name} is of type {}, which Linux 4.11 has not", map.map_type()));
            }
            EbpfSectionKind::Maps => {}
            EbpfSectionKind::BtfMaps => problems.push(format!("the map {name} is typed by BTF (use map_of)")),
            _ if map.value_size() == 0 => {}
            _ => problems.push(format!("it has variables or constants in memory, in {name}")),
        }
    }
    if object.programs.is_empty() {
        problems.push("it has no program".to_owned());
    }
    let mut programs: Vec<_> = object.programs.iter().collect();
    programs.sort_unstable_by_key(|(name, _)| *name);
    for (name, program) in programs {
        if !matches!(program.section, ProgramSection::KProbe | ProgramSection::KRetProbe | ProgramSection::TracePoint) {
            problems
                .push(format!("{name} is a {:?}: only kprobe, kretprobe and tracepoint are known", program.section));
        }
        let code = object.functions.get(&program.function_key()).map_or(&[][..], |function| &function.instructions);
        if code.len() >= INSTRUCTIONS {
            problems.push(format!("{name} has {} instructions, of {INSTRUCTIONS} at most", code.len()));
        }
        problems.extend(wrong_instructions(code).map(|(index, what)| format!("{name}, instruction {index}: {what}")));
    }
    problems
}

fn wrong_instructions(code: &[bpf_insn]) -> impl Iterator<Item = (usize, String)> {
    code.iter().enumerate().filter_map(|(index, instruction)| {
        let (class, operation) = (instruction.code & CLASS, instruction.code & 0xf0);
        let what = match class {
            JUMP32 => "a 32-bit jump".to_owned(),
            JUMP if V2_JUMPS.contains(&operation) => "a jump of instruction set v2".to_owned(),
            STORE if instruction.code & MODE == ATOMIC && instruction.imm != 0 => {
                "an atomic operation that is no addition".to_owned()
            }
            JUMP if instruction.code == CALL && instruction.src_reg() == PSEUDO_CALL => {
                "a call of another function (mark it `inlined`)".to_owned()
            }
            JUMP if instruction.code == CALL && instruction.imm > LAST_HELPER => {
                format!("the helper {}, which Linux 4.11 has not", instruction.imm)
            }
            _ => return None,
        };
        Some((index, what))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::SYSCALLS;
    use crate::{FILE, PROBES};

    fn problems_of(object: &[u8]) -> Vec<String> {
        problems(&Object::parse(object).expect("an object"))
    }

    #[test]
    fn ours_are_low_enough() {
        let probes = PROBES.iter().filter_map(|probe| probe.objects).chain([SYSCALLS]);
        let floors: Vec<&[u8]> = probes.filter_map(|objects| objects.floor).collect();
        assert!(floors.len() > 2);
        for floor in floors {
            assert_eq!(problems_of(floor), Vec::<String>::new());
        }
    }

    #[test]
    fn an_object_for_newer_kernels_is_not() {
        let problems = problems_of(FILE.objects.expect("objects").core);
        for what in [
            "it has type information",
            "the map totals is typed by BTF",
            "it has variables or constants in memory, in .data.filter",
            "vfs_read__fentry is a FEntry",
            "which Linux 4.11 has not",
        ] {
            assert!(problems.iter().any(|problem| problem.contains(what)), "{what}: {problems:?}");
        }
    }

    #[test]
    fn instructions_of_later_sets_are_found() {
        let instruction = |code, source, imm| bpf_insn {
            code,
            _bitfield_align_1: [],
            _bitfield_1: bpf_insn::new_bitfield_1(0, source),
            off: 0,
            imm,
        };
        let one = |code, source, imm| {
            let code = [instruction(0xb7, 0, 0), instruction(code, source, imm)];
            wrong_instructions(&code).map(|(index, what)| format!("{index} {what}")).collect::<Vec<_>>()
        };
        for (code, source, imm, what) in [
            (0xa5, 0, 0, "1 a jump of instruction set v2"),
            (0x16, 0, 0, "1 a 32-bit jump"),
            (CALL, PSEUDO_CALL, -1, "1 a call of another function (mark it `inlined`)"),
            (CALL, 0, 113, "1 the helper 113, which Linux 4.11 has not"),
            (0xdb, 0, 1, "1 an atomic operation that is no addition"),
        ] {
            assert_eq!(one(code, source, imm), [what]);
        }
        for (code, imm) in [(0x15, 0), (CALL, 45), (0xdb, 0), (0x95, 0)] {
            assert_eq!(one(code, 0, imm), Vec::<String>::new());
        }
    }
}
