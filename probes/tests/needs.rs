//! What an object needs is asked of the kernel, and what is missing is named before anything is loaded.

use std::path::Path;

use ebpf_process_core::Options;
use ebpf_process_probes::{KernelProbe, Need, Objects, aligned};

const OBJECTS: Objects = Objects::new(aligned!("../bpf/objects/x86_64/file.core.o"), &[]);
const NOBODYS: &[Need] = &[Need::map("BPF_MAP_TYPE_ARRAY", 2), Need::map("BPF_MAP_TYPE_OF_NOBODY", 9999)];
const ARRAYS: &[Need] = &[Need::map("BPF_MAP_TYPE_ARRAY", 2), Need::helper("bpf_get_current_pid_tgid", 14)];

static LACKING: KernelProbe = KernelProbe::new("lacking", "needs what nobody has").objects(OBJECTS.needs(NOBODYS));
static ON_THE_FLOOR: KernelProbe = KernelProbe::new("floor", "has another object")
    .objects(OBJECTS.needs(NOBODYS).floor(aligned!("../bpf/objects/x86_64/file.floor.o")));
static SERVED: KernelProbe = KernelProbe::new("served", "needs what everybody has").objects(OBJECTS.needs(ARRAYS));

#[test]
fn what_the_kernel_lacks_is_named_and_the_floor_is_taken_where_there_is_one() {
    if !rustix::process::geteuid().is_root() || !Path::new("/sys/kernel/btf/vmlinux").exists() {
        // Nothing can be asked.
        return;
    }
    let said = |probe: &KernelProbe| probe.survey(&Options::none()).map_err(|error| error.to_string());
    let Ok(served) = said(&SERVED) else {
        // Root without the right to load programs, as in a container.
        return;
    };
    let floor = said(&ON_THE_FLOOR).expect("the other object");
    assert_ne!(floor.memory, served.memory, "the maps are those of the core object");
    let refused = said(&LACKING).expect_err("nobody has it");
    let words = "this probe needs what this kernel has not: the map of type BPF_MAP_TYPE_OF_NOBODY (9999)";
    assert!(refused.contains(words) && refused.contains("leave this probe out"), "{refused}");
}
