//! Processes and control groups come and go: each is counted in a row of its own, and nothing of it stays. `cargo xtask
//! churn` does the same with very many.

use ebpf_process_tests::cgroup::Cgroup;
use ebpf_process_tests::churn::{Came, Crowd, Watched, can_be_counted, entries};
use ebpf_process_tests::{Failure, Outcome, agent, live};

/// In millionths.
const IN_OTHER: u64 = 1000;

/// KiB by which the agent may be larger than after a crowd that came as fast as it could: what an allocator keeps.
const GROWTH: u64 = 3 * 1024;

/// Entries that there may be more of than before: processes of the machine that have come meanwhile.
const STRANGERS: usize = 200;

const PROCESSES: Crowd = Crowd { count: 3000, per_second: 1000, has_groups: false };
const GROUPS: Crowd = Crowd { count: 300, per_second: 100, has_groups: true };

#[test]
fn three_thousand_processes_have_a_row_each_and_leave_nothing() {
    let needs = agent::can_run().and_then(|()| Cgroup::new().map(drop)).and_then(|()| can_be_counted());
    live::test("churn-processes", needs, || {
        come_and_go(PROCESSES, |before, after, hidden| {
            let left = |(before, after): (&usize, &usize)| *after > before + hidden + STRANGERS;
            before.iter().zip(after).any(left).then(|| format!("entries before {before:?}, after {after:?}"))
        })
    });
}

#[test]
fn three_hundred_groups_that_are_made_and_removed_have_a_row_each_and_leave_nothing() {
    let needs = agent::can_run().and_then(|()| Cgroup::new().map(drop));
    live::test("churn-groups", needs, || come_and_go(GROUPS, |_, _, _| None));
}

/// `judge` says what is wrong with those before and after, of which so many ends were hidden.
fn come_and_go(crowd: Crowd, judge: impl Fn(&[usize], &[usize], usize) -> Option<String>) -> Outcome<()> {
    let mut agent = Watched::start(&["interval=\"250ms\"", "probes.linger=\"1s\""])?;
    let count = |agent: &Watched| if can_be_counted().is_ok() { entries(agent.pid()) } else { Ok(Vec::new()) };
    let before = count(&agent)?;
    let warm_up = agent.crowd(Crowd { per_second: 0, ..crowd })?;
    let came = agent.crowd(crowd)?;
    let mut wrong = [warm_up.wrong(IN_OTHER), came.wrong(IN_OTHER)].concat();
    wrong.extend(judge(&before, &count(&agent)?, (warm_up.hidden + came.hidden) as usize));
    let after = |came: &Came| came.memory[2];
    if after(&came) > after(&warm_up) + GROWTH {
        wrong.push(format!("{} KiB after the first crowd, {} after the second", after(&warm_up), after(&came)));
    }
    agent.wait_for_no_rows()?;
    agent.stop()?;
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong[..wrong.len().min(20)].join("; "))) }
}
