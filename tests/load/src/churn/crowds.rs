//! Processes and groups that come and go.

use ebpf_process_tests::Outcome;
use ebpf_process_tests::churn::{Came, Crowd, Watched, can_be_counted, entries};

use super::order::Order;
use super::report::{Report, float, say};

/// What may be in the rows `other`, in millionths.
const IN_OTHER: u64 = 1000;

/// MiB by which the agent may be larger after the second crowd than after the first, what it remembers of groups included:
/// for 100,000 it is 40 bytes each.
const GROWTH: f64 = 4.0;

/// Entries that there may be more of than before: processes of the machine that have come meanwhile.
const STRANGERS: usize = 200;

pub(super) fn run(order: &Order, report: &mut Report) -> Outcome<()> {
    for (count, has_groups) in [(order.processes, false), (order.groups, true)] {
        if count > 0 {
            come_and_go(Crowd { count, per_second: count.div_ceil(order.seconds), has_groups }, report)?;
        }
    }
    Ok(())
}

/// With the sizes that the agent has by default.
fn come_and_go(crowd: Crowd, report: &mut Report) -> Outcome<()> {
    let counted = |agent: &Watched| can_be_counted().and_then(|()| entries(agent.pid()));
    let mut agent = Watched::start(&["interval=\"1s\""])?;
    let before = counted(&agent);
    // Buffers have their size, and an allocator what it keeps, after the first one.
    tell(&agent.crowd(crowd)?);
    let came = agent.crowd(crowd)?;
    let after = counted(&agent);
    agent.stop()?;
    tell(&came);
    match (before, after) {
        (Ok(before), Ok(after)) => {
            say(&format!("  entries of the hashes of processes: {before:?} before, {after:?} after"));
            let hidden = came.hidden as usize;
            if before.iter().zip(&after).any(|(before, after)| *after > before + hidden + STRANGERS) {
                report.wrong.push(format!("entries: {before:?} before, {after:?} after"));
            }
        }
        (Err(reason), _) | (_, Err(reason)) => say(&format!("  entries were not counted: {reason}")),
    }
    report.wrong.extend(came.wrong(IN_OTHER));
    let [before, _, after] = came.memory;
    report.bind("  growth of memory", (float(after) - float(before)) / 1024.0, GROWTH, "MiB");
    Ok(())
}

fn tell(came: &Came) {
    let Came { crowd, took, ledger, memory, spent, hidden } = came;
    let what = if crowd.has_groups { "control groups with a process each" } else { "processes" };
    let seconds = took.as_secs_f64();
    say(&format!("{} {what} in {seconds:.1} s, {} ticks", crowd.count, ledger.ticks));
    for (name, kind) in &ledger.kinds {
        let share = 100.0 * float(kind.other) / float(ledger.host.max(1));
        say(&format!(
            "  {name:<8} rows at most {}, afterwards {}, of the crowd {}; opens {} in their rows, {} in other; \
             {} of {} counts in other ({share:.4} %)",
            kind.most, kind.rows, kind.living, kind.opened, kind.other_opened, kind.other, ledger.host
        ));
    }
    say(&format!(
        "  ticks at which rows and host differ: {}; calls missed by hooks: {}; ends hidden from every program: {hidden}",
        ledger.unequal.len(),
        ledger.missed
    ));
    let [before, most, after] = memory.map(|kib| float(kib) / 1024.0);
    say(&format!("  memory of the agent's own: {before:.1} MiB before, {most:.1} at most, {after:.1} after"));
    let each = 1e3 * spent.as_secs_f64() / seconds;
    say(&format!("  processor time of the agent, with a sink json to a file: {each:.1} ms a second"));
}
