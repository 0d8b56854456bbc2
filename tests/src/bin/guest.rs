//! The program inside a virtual machine: measures rows and prints one line for each.
//!
//! Its arguments are rows; the agent is at `AGENT_UNDER_TEST`. `TIER:entry` and `TIER:return` compare every counter with
//! a workload of known numbers, `TIER:operations` tries the table of operations, `TIER:crowd` is both modes under many
//! readers, `TIER:unfiltered` entry mode under many that delete, `TIER:who` compares the rows by process, app and control
//! group with a crew's own count, `TIER:launch-entry` and `TIER:launch-return` compare
//! what somebody else's probes count (their agent is at `STRANGERS_AGENT`), `TIER:assisted` what one process builds for another, `TIER:number-again` and `TIER:cgroup-anew` what is left
//! of a filter whose process or control group has ended; the others are told by the functions that they call. A
//! line says `row KERNEL TIER MODE exact|WRONG details`; one wrong row makes the exit status 1. Without arguments it runs the
//! workload alone, without the agent, and lets the kernel's tracer check what is expected of it:
//! `row KERNEL workload alone exact`.

use ebpf_process_tests::exact::{self, Row};
use ebpf_process_tests::expect::Mode;
use ebpf_process_tests::workload::{Place, int80_works};
use ebpf_process_tests::{
    Failure, Outcome, beside, clock, crowd, hygiene, kernel_threads, launch, lifetime, lockdown, processors, refusal,
    rights, switches, trace, visibility, who,
};
use std::env;
use std::io::{self, Write as _};
use std::process::{Command, ExitCode};
use std::time::Instant;

fn main() -> ExitCode {
    let rows: Vec<String> = env::args().skip(1).collect();
    let right = if rows.is_empty() {
        print("workload", "alone", workload_alone())
    } else {
        // Every row runs, the ones after a wrong one too.
        rows.iter().map(|row| one(row)).fold(true, |right, row| right & row)
    };
    if right { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(argument: &str) -> bool {
    let (tier, mode) = argument.split_once(':').unwrap_or((argument, ""));
    let start = Instant::now();
    let result =
        match (tier, mode) {
            ("lifetime", "start") => lifetime::emulated(),
            ("beside", "second-instance") => second_instance(),
            ("beside", "perf") => beside::perf(),
            ("clock", "steps") => clock::steps(),
            ("hygiene", "stop") => hygiene::after_a_stop(),
            ("hygiene", "kill") => hygiene::after_a_kill(),
            ("hygiene", "beside-a-container") => hygiene::beside_a_container(),
            ("processor-0", "offline") => processors::zero_offline(),
            ("kernel-threads", "start") => kernel_threads::count(),
            ("refusal", "no-tracefs") => refusal::no_tracefs(),
            ("refusal", "no-btf") => refusal::no_btf(),
            ("refusal", "missing-function") => refusal::missing_function(),
            ("refusal", "no-root") => rights::none(),
            ("refusal", "missing-capability") => rights::some(),
            ("lockdown", "integrity") => lockdown::integrity(),
            ("lockdown", "confidentiality") => lockdown::confidentiality(),
            ("switches", "before") => switches::off_before_the_start(),
            ("switches", "while") => switches::off_while_it_runs(),
            (_, "launch-entry") => launch::counts(&Row { hooks: tier.into(), mode: Mode::Entry }),
            (_, "launch-return") => launch::counts(&Row { hooks: tier.into(), mode: Mode::Return }),
            (_, "assisted") => assisted(tier),
            (_, "who") => who::crew_at_work(&Row { hooks: tier.into(), mode: Mode::Return }),
            (_, "operations") => operations(tier),
            (_, "crowd") => crowd(tier),
            (_, "unfiltered") => crowd::deleting_processes(tier),
            (_, "number-again") => exact::a_number_given_away(&Row { hooks: tier.into(), mode: Mode::Return })
                .and_then(|report| told(&report)),
            ("floor", "cgroup-anew") => {
                // It has no program for that: the agent has to say so first.
                let row = Row { hooks: tier.into(), mode: Mode::Return };
                exact::a_cgroup_made_anew_and_told(&row).and_then(|report| told(&report))
            }
            (_, "cgroup-anew") => exact::a_cgroup_made_anew(&Row { hooks: tier.into(), mode: Mode::Return })
                .and_then(|report| told(&report)),
            (_, "entry") => measure(&Row { hooks: tier.into(), mode: Mode::Entry }),
            (_, "return") => measure(&Row { hooks: tier.into(), mode: Mode::Return }),
            _ => Err(Failure::new("there is no such row")),
        };
    let took = start.elapsed().as_secs();
    print(tier, mode, result.map(|details| format!("{details}; {took} s")))
}

/// What one process builds for another counts the same; the program that says so is at `ASSISTED`.
fn assisted(tier: &str) -> Outcome<String> {
    let program = env::var_os("ASSISTED").ok_or_else(|| Failure::new("ASSISTED does not say where the program is"))?;
    let mut command = Command::new(program);
    command.env("ASSISTANT_TEST_ROLE", "assisted-counts-what-a-process-does-core").env("ASSISTANT_TEST_HOOKS", tier);
    let output = command.output().map_err(Failure::at("the program at ASSISTED"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        Ok(words.into_owned())
    } else {
        Err(Failure::new(format!("{}: {words}", output.status)))
    }
}

fn second_instance() -> Outcome<String> {
    let pairs = [("fentry", "fentry"), ("kprobe", "kprobe"), ("fentry", "kprobe")];
    let seen = pairs.map(|(first, second)| beside::second_instance(first, second));
    Ok(seen.into_iter().collect::<Outcome<Vec<String>>>()?.join(", "))
}

fn crowd(tier: &str) -> Outcome<String> {
    let spin = |mode| crowd::spinning_readers(&Row { hooks: tier.into(), mode });
    Ok(format!("entry {}; return {}", spin(Mode::Entry)?, spin(Mode::Return)?))
}

/// Here no row may be lacking: the machine is ours.
fn operations(tier: &str) -> Outcome<String> {
    let report = visibility::measure::all(tier)?;
    let details = report.verdict()?;
    if report.lacking.is_empty() { Ok(details) } else { Err(Failure::new(details)) }
}

fn measure(row: &Row) -> Outcome<String> {
    let whole = exact::whole_workload(row)?;
    whole.verdict()?;
    exact::reads_beside_blocked_readers(row)?.verdict().map_err(Failure::at("beside blocked readers"))?;
    exact::an_idle_target(row)?.verdict().map_err(Failure::at("an idle target"))?;
    Ok(whole.to_string())
}

fn told(report: &exact::Report) -> Outcome<String> {
    report.verdict()?;
    Ok(report.to_string())
}

fn workload_alone() -> Outcome<String> {
    let place = Place::new()?;
    let int80 = int80_works(&place)?;
    let mut workload = place.all(int80)?;
    workload.run_to_next_stop()?;
    workload.run_to_end()?;
    trace::check_expectations(&place, int80)?;
    Ok(format!("int80={int80}"))
}

fn print(tier: &str, mode: &str, result: Outcome<String>) -> bool {
    let right = result.is_ok();
    let verdict = if right { "exact" } else { "WRONG" };
    let details = result.unwrap_or_else(|failure| failure.to_string()).replace(['\n', '\r'], " | ");
    let uname = rustix::system::uname();
    let kernel = uname.release().to_string_lossy();
    // A console that is gone has nobody to tell.
    let _ = writeln!(io::stdout(), "row {kernel} {tier} {mode} {verdict} {details}");
    right
}
