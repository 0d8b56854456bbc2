//! What a program adds to an operation, counted in instructions: the measuring half of `cargo xtask cost`.
//!
//! It is meant for a machine whose clock advances by one nanosecond per instruction (QEMU's `-icount shift=0`) and
//! that has one processor. Each argument is a case, `ID=OPERATION,PROGRAMS[,FILTER]`:
//!
//! - OPERATION is what is repeated: `read` (one byte of /dev/zero), `unlinkat` (of nothing, which fails) or `getppid`
//!   (which nothing of ours watches);
//! - PROGRAMS are joined by `+`, each `OBJECT:PROGRAM:KIND:TARGET`, the object being a file in the working directory;
//! - FILTER is `self`, `other` or `cgroup`: counts this process, another one, or the whole cgroup hierarchy.
//!
//! A line `cost RELEASE ID INSTRUCTIONS` answers each. A program that adds next to nothing did not run: an error.
//! `cargo test` and `cargo bench` start it without cases, and it says so.

use std::collections::HashMap;
use std::error::Error;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd as _};
use std::process::ExitCode;
use std::time::Instant;

use aya::maps::{Array, CgroupArray, Stack};
use aya::programs::{BtfTracePoint, FEntry, FExit, KProbe, Program};
use aya::{Btf, Ebpf, EbpfLoader};
use rustix::fs::AtFlags;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Operations in one timing: short enough that most timings contain no timer interrupt.
const OPERATIONS: u32 = 1000;
/// Timings of which the median is taken.
const TIMINGS: usize = 9;
/// Times that a case is attached and detached.
const ROUNDS: usize = 5;
/// The cheapest hook that calls a program takes more instructions than this.
const NEXT_TO_NOTHING: f64 = 15.0;

fn main() -> ExitCode {
    let mut out = std::io::stdout().lock();
    // Cargo adds options of its own, such as --bench.
    let cases: Vec<String> = std::env::args().skip(1).filter(|argument| argument.contains('=')).collect();
    if cases.is_empty() {
        let _ = writeln!(out, "no cases given; cargo xtask cost gives them");
        return ExitCode::SUCCESS;
    }
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut code = ExitCode::SUCCESS;
    let btf = Btf::from_sys_fs();
    for case in &cases {
        let id = case.split('=').next().unwrap_or("");
        let line = match btf.as_ref().map_err(|e| e.to_string().into()).and_then(|btf| measure(case, btf)) {
            Ok(cost) => format!("cost {release} {id} {cost:.1}"),
            Err(error) => {
                code = ExitCode::FAILURE;
                format!("failed {release} {id} {error}")
            }
        };
        let _ = writeln!(out, "{line}");
    }
    code
}

/// What a case adds to its operation: median over the rounds, so that neither a timer nor a first time counts.
fn measure(case: &str, btf: &Btf) -> Outcome<f64> {
    let case = Case::parse(case)?;
    let mut objects = HashMap::new();
    for program in &case.programs {
        if !objects.contains_key(program.object) {
            objects.insert(program.object, load(program.object, case.filter, btf)?);
        }
    }
    let mut added = Vec::new();
    for _ in 0..ROUNDS {
        let without = case.operation.time()?;
        for program in &case.programs {
            let ebpf = objects.get_mut(program.object).ok_or("an object that was not loaded")?;
            program.attach(ebpf.program_mut(program.name).ok_or("no such program in the object")?, btf)?;
        }
        let with = case.operation.time()?;
        for program in &case.programs {
            let ebpf = objects.get_mut(program.object).ok_or("an object that was not loaded")?;
            program.detach(ebpf.program_mut(program.name).ok_or("no such program in the object")?)?;
        }
        added.push((with - without) / f64::from(OPERATIONS));
    }
    let added = median(added);
    if added < NEXT_TO_NOTHING { Err(format!("added {added:.1}: it did not run").into()) } else { Ok(added) }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Case<'a> {
    operation: Operation,
    programs: Vec<Hooked<'a>>,
    filter: &'a str,
}

impl<'a> Case<'a> {
    fn parse(case: &'a str) -> Outcome<Self> {
        let wrong = || format!("not ID=OPERATION,PROGRAMS[,FILTER]: {case}");
        let (_, rest) = case.split_once('=').ok_or_else(wrong)?;
        let mut parts = rest.split(',');
        let operation = Operation::new(parts.next().unwrap_or(""))?;
        let programs = parts.next().ok_or_else(wrong)?.split('+');
        let programs = programs.map(|program| Hooked::parse(program).ok_or_else(wrong)).collect::<Result<_, _>>()?;
        Ok(Self { operation, programs, filter: parts.next().unwrap_or("") })
    }
}

/// What is repeated.
enum Operation {
    Read(File),
    Unlinkat,
    Getppid,
}

impl Operation {
    fn new(name: &str) -> Outcome<Self> {
        match name {
            "read" => Ok(Self::Read(File::open("/dev/zero")?)),
            "unlinkat" => Ok(Self::Unlinkat),
            "getppid" => Ok(Self::Getppid),
            _ => Err(format!("no operation {name:?}").into()),
        }
    }

    /// Nanoseconds that [`OPERATIONS`] take.
    fn time(&self) -> Outcome<f64> {
        let mut timings = Vec::with_capacity(TIMINGS);
        for _ in 0..TIMINGS {
            let start = Instant::now();
            for _ in 0..OPERATIONS {
                match self {
                    Self::Read(file) => _ = rustix::io::read(file, &mut [0u8; 1])?,
                    Self::Unlinkat => _ = rustix::fs::unlinkat(rustix::fs::CWD, c"", AtFlags::empty()).is_err(),
                    Self::Getppid => _ = rustix::process::getppid(),
                }
            }
            timings.push(start.elapsed().as_secs_f64() * 1e9);
        }
        Ok(median(timings))
    }
}

/// A program and where it goes.
struct Hooked<'a> {
    object: &'a str,
    name: &'a str,
    kind: &'a str,
    target: &'a str,
}

impl<'a> Hooked<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut words = text.split(':');
        Some(Self { object: words.next()?, name: words.next()?, kind: words.next()?, target: words.next()? })
    }

    /// Loads it too: a trampoline of an older kernel can be attached once per load.
    fn attach(&self, program: &mut Program, btf: &Btf) -> Outcome {
        match self.kind {
            "fentry" => {
                let program: &mut FEntry = program.try_into()?;
                program.load(self.target, btf)?;
                program.attach()?;
            }
            "fexit" => {
                let program: &mut FExit = program.try_into()?;
                program.load(self.target, btf)?;
                program.attach()?;
            }
            "kprobe" | "kretprobe" => {
                let program: &mut KProbe = program.try_into()?;
                program.load()?;
                program.attach(self.target, 0)?;
            }
            "tracepoint" => {
                let program: &mut BtfTracePoint = program.try_into()?;
                program.load(self.target, btf)?;
                program.attach()?;
            }
            other => return Err(format!("no kind of hook {other:?}").into()),
        }
        Ok(())
    }

    fn detach(&self, program: &mut Program) -> Outcome {
        match self.kind {
            "fentry" => <&mut FEntry>::try_from(program)?.unload()?,
            "fexit" => <&mut FExit>::try_from(program)?.unload()?,
            "tracepoint" => <&mut BtfTracePoint>::try_from(program)?.unload()?,
            _ => <&mut KProbe>::try_from(program)?.unload()?,
        }
        Ok(())
    }
}

/// Elements of an object that tells by whom.
const PLACES: u32 = 64;

/// Loads an object with the filter that is wanted.
fn load(object: &str, filter: &str, btf: &Btf) -> Outcome<Ebpf> {
    // The number of `enum filter` in abi.h.
    let kind: u32 = match filter {
        "" => 0,
        "self" | "other" => 1,
        "cgroup" => 2,
        _ => return Err(format!("no filter {filter:?}").into()),
    };
    let bytes = fs::read(object).map_err(|e| format!("{object}: {e}"))?;
    let mut loader = EbpfLoader::new();
    loader.btf(Some(btf)).override_global("filter_kind", &kind, false);
    if object.ends_with(".who.o") {
        // Room for a few processes; of the ring nothing is read.
        for (map, entries) in [("elements", PLACES), ("places", PLACES), ("vacant", PLACES), ("ends", 65_536)] {
            loader.map_max_entries(map, entries);
        }
    }
    let mut ebpf = loader.load(&bytes)?;
    if let Some(vacant) = ebpf.map_mut("vacant") {
        let mut vacant: Stack<_, u32> = vacant.try_into()?;
        // The first two are no process's.
        (2..PLACES).try_for_each(|place| vacant.push(place, 0))?;
    }
    let missing = "an object without a filter";
    match filter {
        "self" | "other" => {
            // `struct target` of abi.h: the thread group that counts comes first.
            let mut target: Array<_, [u64; 2]> = ebpf.map_mut(".data.filter").ok_or(missing)?.try_into()?;
            target.set(0, [if filter == "self" { std::process::id().into() } else { 0 }, 0], 0)?;
        }
        "cgroup" => {
            let root = File::open("/sys/fs/cgroup")?;
            let mut cgroup: CgroupArray<_> = ebpf.map_mut("filter_cgroup").ok_or(missing)?.try_into()?;
            cgroup.set(0, root.as_fd().as_raw_fd(), 0)?;
        }
        _ => {}
    }
    if ebpf.map(".data.calls").is_some() {
        watch(&mut ebpf)?;
    }
    Ok(ebpf)
}

/// Entries of `union watched` in abi.h, native half: the flags for a number of bytes and for a split.
const SIZE: u32 = 0x8000;
const SPLITS: u32 = 0x4000;
/// `SYSCALL_LIMIT` and `RECORDS` of abi.h.
const SYSCALL_LIMIT: usize = 552;
const RECORDS: usize = 128;
const AT_REMOVEDIR: u64 = 0x200;
const CLONE_THREAD: u64 = 0x1_0000;

/// What the four probes watch, each entry with the native numbers of its calls.
const WATCHED: &[(u32, &[usize])] = &[
    // file: open, close, read, write, unlink; unlinkat takes one record more.
    (1, &[2, 85, 257, 437]),
    (2, &[3]),
    (3 | SIZE, &[0, 17, 19, 295, 327]),
    (4 | SIZE, &[1, 18, 20, 296, 328]),
    (5, &[87]),
    (5 | SPLITS, &[263]),
    // process: fork and vfork; clone; clone3.
    (7, &[57, 58]),
    (7 | SPLITS, &[56]),
    (9 | SPLITS, &[435]),
    // sync: fsync, fdatasync, sync, syncfs, msync, sync_file_range.
    (11, &[74]),
    (12, &[75]),
    (13, &[162]),
    (14, &[306]),
    (15, &[26]),
    (16, &[277]),
    // mount: mount, umount2; open_tree, move_mount, fsopen, fsconfig, fsmount, fspick.
    (17, &[165]),
    (18, &[166]),
    (19, &[428, 429, 430, 431, 432, 433]),
];

/// `struct split` of abi.h by record: argument, bits.
const SPLIT: [(usize, [u64; 2]); 3] = [(5, [2, AT_REMOVEDIR]), (7, [0, CLONE_THREAD]), (9, [1 << 32, CLONE_THREAD])];

/// Fills the tables of system calls as they are with all four probes on.
fn watch(ebpf: &mut Ebpf) -> Outcome {
    let missing = "an object without tables of calls";
    let mut entries = [0; SYSCALL_LIMIT];
    for (entry, numbers) in WATCHED {
        for number in *numbers {
            entries[*number] = *entry;
        }
    }
    let mut calls: Array<_, [u32; SYSCALL_LIMIT]> = ebpf.map_mut(".data.calls").ok_or(missing)?.try_into()?;
    calls.set(0, entries, 0)?;
    let mut table = [[0; 2]; RECORDS];
    for (record, split) in SPLIT {
        table[record] = split;
    }
    let mut splits: Array<_, [[u64; 2]; RECORDS]> = ebpf.map_mut(".data.splits").ok_or(missing)?.try_into()?;
    Ok(splits.set(0, table, 0)?)
}
