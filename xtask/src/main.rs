//! The project's own tasks, each a word after `cargo xtask`. They run on a developer's machine and on CI alike.

mod bpf;
mod cost;
mod deny;
mod fuzz;
#[cfg(test)]
mod growth;
mod guide;
mod interface;
mod load;
mod oldest;
mod package;
mod packages;
mod vm;

use std::env;
use std::error::Error;
use std::fmt::Display;
use std::io::{self, Write as _};
use std::process::{Command, ExitCode};

/// The result of a step; an error is a sentence for the person at the terminal.
type Outcome<T = ()> = Result<T, Box<dyn Error>>;

const USAGE: &str = "usage: cargo xtask TASK
  bpf [--check] [FOLDER]         build the kernel objects of all probes in a folder (probes/bpf), or prove that the
                                 committed ones match their sources
  churn [--processes N] [--groups N] [--seconds SECONDS] [--living N,...]
                                 real processes beside the agent's release build: 100000 that come and go in a minute,
                                 10000 control groups likewise, then 100, 1000 and 10000 that live at the same time.
                                 Rows, map entries, memory and processor time; a failure is a bound that is passed, a
                                 number that does not add up, or something that stays behind. 0 leaves a part out
  cost [--kernel VERSION]... [--print]
                                 instructions that each way of counting adds to an event, on several kernels, into
                                 docs/cost.md; with --print onto the terminal only
  deny                           licences and sources of all dependencies, and known faults where their database can
                                 be fetched
  fuzz [--build-only | --seconds SECONDS] [TARGET]...
                                 made-up inputs for whatever reads bytes from outside or writes what others read,
                                 each target for so many seconds (20); an input that breaks a promise is kept in
                                 tests/fuzz/findings
  interface [--check]            what is public of core, delivery, http, probes and bin, line by line, into their
                                 interface.txt, or which lines of the committed ones are not what the crates give
  load [--rows N] [--columns N] [--histograms N] [--replaced PERCENT] [--seconds SECONDS]
       [--sinks NAME,...] [--scrape TICKS] [--bound WHAT=NUMBER]... [--warn] [--still | --netdata]
                                 made-up rows (10000 x 40, half the cells never touched, 10 % of the rows replaced at
                                 each tick) through all sinks to loopback, a tick a second: CPU by thread, memory, and
                                 what became of each sample; with --still what a value of 10000 costs, all included;
                                 with --netdata what a real netdata needs for 10000 rows in 50 charts. A failure is a
                                 loss in a ledger or, without --warn, more than a bound, which --bound changes
  oldest                         core, delivery and http, compiled with as old a Rust as they say, which is Debian's
  package                        the crates as packages; a stranger's agent and copies of the templates, which are built
                                 from nothing else and do what a sink promises
  test --fast                    what needs no root, no kernel and no other program: a minute or two
  test [--no-skip]               build the agent, install what the tests need where that is allowed, run every test,
                                 and say which live tests ran; with --no-skip or CI=true a skipped one is a
                                 failure
  vm [--kernel VERSION]... [--all] [--row MODE]... [--boot-only | --build-only]
                                 the tests in virtual machines with other kernels: every counter to the unit, rows by
                                 process, app and control group, every operation by tier, what others on the same hooks
                                 change, how fast it starts and stops, what stays behind, what is refused; with --all
                                 also what takes an hour and shows little more; with --row the rows of that name alone;
                                 with --boot-only their workload alone, without the agent; with --build-only nothing
                                 runs, but whatever is needed for it is fetched and built";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["bpf", options @ ..] => bpf::bpf(options),
        ["churn", options @ ..] => load::churn(options),
        ["cost", options @ ..] => cost::run(options),
        ["deny", options @ ..] => deny::deny(options),
        ["fuzz", options @ ..] => fuzz::run(options),
        ["interface", options @ ..] => interface::interface(options),
        ["load", options @ ..] => load::run(options),
        ["oldest", options @ ..] => oldest::oldest(options, vm::oldest_rust),
        ["package", options @ ..] => package::package(options),
        ["test", options @ ..] => {
            packages::test(options, [("OTLP_RECEIVERS", vm::receivers), ("SYSTEMD_ROOT", vm::systemd)])
        }
        ["vm", options @ ..] => vm::run(options),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            // A terminal that is gone has nobody to tell.
            let _ = writeln!(io::stderr(), "{reason}");
            ExitCode::FAILURE
        }
    }
}

/// A line for the person at the terminal.
fn say(line: impl Display) {
    let mut out = io::stdout().lock();
    // As above: without a reader the exit code still speaks.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Runs a command to its end, its output going where ours goes.
fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

/// Runs a command to its end and returns what it wrote to its stdout.
fn output(command: &mut Command) -> Outcome<String> {
    let output = command.output().map_err(|e| format!("{}: {e}", command.get_program().display()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{command:?}: {}: {}", output.status, words.trim_end()).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
