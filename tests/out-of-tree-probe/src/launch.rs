//! The probe `launch`: symbolic links made, and programs started. Counters are rows; how many arguments the programs
//! got is more than a counter, so a reader brings it from a map of the probe's own.

use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::{env, fs};

use ebpf_process_core::{Column, ColumnId, Declared, ProbeError, Recorder, Refused, Unit};
use ebpf_process_probes::{
    Call, Counter, Fails, Field, Function, KernelProbe, Layer, Maps, Metric, Objects, Output, Reader, Way, aligned,
};

pub static LAUNCH: KernelProbe = KernelProbe::new("launch", "symbolic links made, programs started")
    .objects(Objects::new(aligned!("../bpf/objects/x86_64/launch.core.o"), slot::SLOTS))
    .counters(&[SYMLINK, EXEC])
    .reader(columns, Arguments::make);

mod slot {
    ebpf_process_probes::slots![SYMLINK_MAKE, EXEC_CALLS];
}

static SYMLINK_CALLS: Metric = Metric::new("symlink.calls", Unit::CALLS, "Symbolic links asked for", "operation");
static SYMLINK_ERRORS: Metric =
    Metric::new("symlink.errors", Unit::CALLS, "Symbolic links that could not be made", "operation");
static EXEC_CALLS: Metric = Metric::unlabelled("exec.calls", Unit::CALLS, "Programs started");

/// One function whose arity has changed twice: which one is there, the kernel's type information says.
const SYMLINK: Counter = Counter::new("symlink.make", Layer::Function, |_| make_a_link())
    .ways(&[
        Way::Functions(&[Function::new("vfs_symlink", 5, Fails::Status, &[slot::SYMLINK_MAKE])]),
        Way::Functions(&[Function::new("vfs_symlink", 4, Fails::Status, &[slot::SYMLINK_MAKE])]),
        Way::Functions(&[Function::new("vfs_symlink", 3, Fails::Status, &[slot::SYMLINK_MAKE])]),
    ])
    .calls(&[Call::status("symlink"), Call::status("symlinkat")])
    .outputs(SYMLINK_OUTPUTS);

const SYMLINK_OUTPUTS: &[Output] =
    &[Output::new(&SYMLINK_CALLS, "make", Field::Calls), Output::new(&SYMLINK_ERRORS, "make", Field::Errors)];

/// By a tracepoint, the same in both modes: a program that could not be started does not come there.
pub const EXEC: Counter = Counter::new("exec.calls", Layer::Task, start_a_program)
    .ways(&[Way::Tracepoint("sched_process_exec", &[slot::EXEC_CALLS])])
    .outputs(EXEC_OUTPUTS);

const EXEC_OUTPUTS: &[Output] = &[Output::unlabelled(&EXEC_CALLS, Field::Calls)];

fn make_a_link() -> io::Result<()> {
    let name = format!("my-probes.{}", std::process::id());
    let mut last = io::Error::other("no directory to write to");
    for directory in [Path::new("/dev/shm"), Path::new("/run"), &env::temp_dir()] {
        let path = directory.join(&name);
        match std::os::unix::fs::symlink("nowhere", &path) {
            Ok(()) => return fs::remove_file(path),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A shell, which is let through the filter of the self-test before it becomes another program: itself once more, since
/// nothing else is sure to be there, and a search would go by somebody else's environment.
pub fn start_a_program(let_through: &mut dyn FnMut(u32) -> io::Result<()>) -> io::Result<()> {
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "read line; exec /proc/$$/exe -c :"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = shell.spawn()?;
    let told = let_through(child.id());
    let written = child.stdin.take().map_or(Ok(()), |mut input| input.write_all(b"\n"));
    child.wait()?;
    told.and(written)
}

/// `struct arguments` of launch.bpf.c, in words: the slots, and the sum behind them.
const SLOTS: usize = 12;
const WORDS: usize = SLOTS + 1;

fn arguments() -> Column {
    Column::histogram(
        "exec.arguments",
        Unit::new("arguments"),
        "Arguments of programs that were started, their names included",
    )
    .slots(0..=11)
}

fn columns() -> Vec<Declared> {
    vec![Declared::host(arguments())]
}

/// Reads the map `arguments`.
struct Arguments {
    column: ColumnId,
    /// Reused from tick to tick.
    bytes: Vec<u8>,
}

impl Arguments {
    fn make(recorder: &mut Recorder) -> Result<Box<dyn Reader>, Refused> {
        let host = recorder.host_kind();
        Ok(Box::new(Self { column: recorder.column(host, arguments())?, bytes: Vec::new() }))
    }
}

impl Reader for Arguments {
    fn read(&mut self, maps: &Maps, recorder: &mut Recorder) -> Result<(), ProbeError> {
        // Where nothing is attached a histogram of zeros would be a lie.
        if !maps.counts(EXEC.name()) {
            return Ok(());
        }
        let map = maps.get("arguments")?;
        self.bytes.resize(map.value_size(), 0);
        map.read(&0_u32.to_ne_bytes(), &mut self.bytes)?;
        let [slots @ .., sum] = &sum_of_all(&self.bytes);
        recorder.histogram(recorder.host(), self.column, slots, *sum);
        Ok(())
    }
}

/// The words of all processors, added up.
fn sum_of_all(bytes: &[u8]) -> [u64; WORDS] {
    let mut sum = [0_u64; WORDS];
    let words = bytes.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().unwrap_or_default()));
    for (index, word) in words.enumerate() {
        sum[index % WORDS] = sum[index % WORDS].wrapping_add(word);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_programs_agree() {
        assert_eq!(LAUNCH.problems(), Vec::<String>::new());
    }

    #[test]
    fn processors_are_added_up() {
        let bytes: Vec<u8> = (0..2 * WORDS as u64).flat_map(u64::to_ne_bytes).collect();
        let sum = sum_of_all(&bytes);
        assert_eq!((sum[0], sum[1], sum[WORDS - 1]), (WORDS as u64, WORDS as u64 + 2, 3 * WORDS as u64 - 2));
    }

    #[test]
    fn its_operations_can_be_done() {
        make_a_link().expect("a link");
        let mut told = 0;
        let said = start_a_program(&mut |pid| {
            told = pid;
            Ok(())
        });
        said.expect("a program");
        assert!(told > 0);
    }
}
