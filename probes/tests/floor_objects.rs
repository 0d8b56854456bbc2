//! The floor objects hold nothing that a kernel from 4.11 on would refuse.

use std::fs;
use std::path::Path;

use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

/// How the names of sections begin that need a newer kernel: maps typed by BTF, BTF itself, global data.
const REFUSED: [&str; 5] = [".maps", ".BTF", ".data", ".bss", ".rodata"];

/// Instruction classes: jumps, and 32-bit jumps, which are instruction set v3.
const CLASS: u8 = 0x07;
const JUMP: u8 = 0x05;
const JUMP32: u8 = 0x06;
/// Jump operations of instruction set v2: JLT, JLE, JSLT, JSLE.
const V2_JUMPS: [u8; 4] = [0xa0, 0xb0, 0xc0, 0xd0];
const CALL: u8 = 0x85;
/// A call whose source register says that it calls another function of the object.
const PSEUDO_CALL: u8 = 1;

/// The kernel's limit before 5.2.
const LIMIT: u64 = 4096;

#[test]
fn the_floor_is_low_enough() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("bpf/objects/x86_64");
    let mut seen = 0;
    for entry in fs::read_dir(folder).expect("the folder of objects") {
        let path = entry.expect("a file").path();
        let name = path.display().to_string();
        if !name.ends_with(".floor.o") {
            continue;
        }
        seen += 1;
        let bytes = fs::read(&path).expect("an object");
        let file = object::File::parse(&*bytes).expect("an object");
        for section in file.sections() {
            let title = section.name().expect("a name");
            let refused = REFUSED.iter().any(|refused| title.starts_with(refused)) && section.size() != 0;
            assert!(!refused, "{name}: section {title}");
            if !["kprobe", "kretprobe", "tracepoint"].contains(&title) {
                continue;
            }
            let code = section.data().expect("code");
            for (index, instruction) in code.chunks_exact(8).enumerate() {
                let (opcode, registers) = (instruction[0], instruction[1]);
                let jump = opcode & CLASS == JUMP && V2_JUMPS.contains(&(opcode & 0xf0));
                assert!(!jump, "{name} {title} {index}: a jump of instruction set v2");
                assert!(opcode & CLASS != JUMP32, "{name} {title} {index}: a 32-bit jump");
                assert!(
                    opcode != CALL || registers >> 4 != PSEUDO_CALL,
                    "{name} {title} {index}: a call in the object"
                );
            }
        }
        let programs = file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
        let sizes: Vec<u64> = programs.map(|symbol| symbol.size() / 8).collect();
        assert!(!sizes.is_empty(), "{name}: no program");
        assert!(sizes.iter().all(|size| *size < LIMIT), "{name}: {sizes:?} instructions");
    }
    assert_ne!(seen, 0, "no object");
}
