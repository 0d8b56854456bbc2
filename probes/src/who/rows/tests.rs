use std::collections::BTreeMap;

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Column, Selection, Unit};
use ebpf_process_names::Apps;

use super::*;
use crate::who::options::ProcessLabel;

/// Two probes that feed one column of each kind each, and what became of the rows.
struct Table {
    bench: Bench,
    options: WhoOptions,
    probes: Vec<(Rows, Feeds)>,
}

/// By kind and labels: the total, and whether the row has ended.
type Seen = BTreeMap<String, (u64, bool)>;

const WORD: usize = 3;

impl Table {
    fn new(by: &[By], rows: usize, linger: Duration) -> Self {
        let (by, process_labels) = (by.to_vec(), Vec::new());
        let options = WhoOptions { by, process_labels, apps: None, processes: 16, rows: Some(rows), linger };
        Self { bench: Bench::new(), options, probes: Vec::new() }
    }

    /// Processes alone, which have these labels besides.
    fn labelled(process_labels: &[ProcessLabel], rules: Option<&str>) -> Self {
        let mut table = Self::new(&[By::Process], 10, Duration::ZERO);
        table.options.process_labels = process_labels.to_vec();
        table.options.apps = rules.map(|rules| Arc::new(Apps::read(rules).expect("rules")));
        table
    }

    /// A tick in which each probe finds these gains.
    fn tick(&mut self, gains: [&[(Source, Doer, u64)]; 2], over: &[Doer]) -> Seen {
        let Self { bench, options, probes } = self;
        let record = |recorder: &mut Recorder| {
            while probes.len() < 2 {
                let number = probes.len() as u64;
                let rows = Rows::new(options, number, recorder).expect("kinds");
                let column = Column::counter(format!("a.n{number}"), Unit::CALLS, "Calls");
                let columns =
                    rows.ids().into_iter().map(|kind| recorder.column(kind, column.clone()).expect("a column"));
                let mut feeds = Feeds::default();
                feeds.add(WORD, columns.collect());
                feeds.add_calls(WORD);
                probes.push((rows, feeds));
            }
            for ((rows, feeds), gains) in probes.iter_mut().zip(gains) {
                let mut inbox = Inbox::default();
                for (source, doer, by) in gains {
                    inbox.gain(*source, *doer, 0, &[(WORD, *by)]);
                }
                for doer in over {
                    inbox.over(*doer);
                }
                rows.begin(recorder);
                rows.record(&inbox, feeds, recorder).expect("recorded");
            }
        };
        let kinds = ["process", "app", "cgroup", "subtree"].map(str::to_owned).to_vec();
        let selection = Selection { kinds: Some(kinds), ..Selection::default() };
        bench.tick(&selection, record, |view| {
            let mut seen = Seen::new();
            for kind in view.kinds() {
                for row in kind.rows() {
                    let labels: Vec<&str> = row.labels().map(|(_, value)| value).collect();
                    let total = row.cells().map(|(_, value)| match value {
                        ebpf_process_core::Value::Counter(total) => total,
                        _ => 0,
                    });
                    seen.insert(format!("{} {}", kind.kind().name(), labels.join(" ")), (total.sum(), row.is_final()));
                }
            }
            seen
        })
    }
}

fn process(tgid: u32, name: &str) -> Doer {
    let mut comm = [0; 16];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Doer::Process { tgid, started: 5, comm, cgroup: u64::MAX, uid: 0 }
}

/// A process in a group with this path.
fn process_in(tgid: u32, name: &str, path: &str) -> Doer {
    let group = ebpf_process_core::identity_of(path) | 1 << 63;
    groups::with(|groups| groups.made(group, path.as_bytes()));
    match process(tgid, name) {
        Doer::Process { tgid, started, comm, uid, .. } => Doer::Process { tgid, started, comm, uid, cgroup: group },
        other => other,
    }
}

/// As the row of a group is shown, with its unit.
fn group(kind: &str, path: &str, unit: &str) -> String {
    format!("{kind} {path} {unit} _ _ _ _")
}

fn seen(rows: &[(&str, u64, bool)]) -> Seen {
    rows.iter().map(|(row, total, ended)| ((*row).to_owned(), (*total, *ended))).collect()
}

#[test]
fn a_new_name_is_another_row_and_who_learns_of_it_later_adds_to_the_former() {
    use Source::{Seen, Told};
    let mut table = Table::new(&[By::Process], 10, Duration::ZERO);
    let (a, b) = (process(1, "a"), process(1, "b"));
    assert_eq!(table.tick([&[(Seen, a, 1)], &[(Seen, a, 2)]], &[]), seen(&[("process 1 a", 3, false)]));
    // The first probe looked before the name changed.
    let rows = table.tick([&[(Seen, a, 4)], &[(Told, a, 1), (Seen, b, 8)]], &[]);
    assert_eq!(rows, seen(&[("process 1 a", 8, false), ("process 1 b", 8, false)]));
    let rows = table.tick([&[(Told, a, 1), (Seen, b, 1)], &[]], &[]);
    assert_eq!(rows, seen(&[("process 1 a", 9, false), ("process 1 b", 9, false)]));
    table.tick([&[], &[]], &[]);
    let rows = table.tick([&[], &[]], &[]);
    assert_eq!(rows.get("process 1 a"), Some(&(9, true)), "{rows:?}");
    // Its first name again.
    let rows = table.tick([&[(Seen, a, 1)], &[]], &[]);
    assert_eq!(rows.get("process 1 a"), Some(&(1, false)), "{rows:?}");
}

#[test]
fn a_process_ends_and_its_app_lingers() {
    use Source::Told;
    let mut table = Table::new(&[By::Process, By::App], 10, Duration::from_mins(1));
    let one = process(1, "one");
    let rows = table.tick([&[(Told, one, 7)], &[]], &[one]);
    assert_eq!(rows, seen(&[("process 1 one", 7, false), ("app one", 7, false)]));
    // The second probe reads its own table a tick later.
    table.tick([&[], &[(Told, one, 1)]], &[one]);
    let mut last = Seen::new();
    for _ in 0..5 {
        let rows = table.tick([&[], &[]], &[]);
        last.extend(rows.into_iter().filter(|(_, (_, ended))| *ended));
    }
    assert_eq!(last, seen(&[("process 1 one", 8, true)]), "the app stays");
    let again = process(2, "one");
    let rows = table.tick([&[(Source::Seen, again, 1)], &[]], &[]);
    assert_eq!(rows, seen(&[("process 2 one", 1, false), ("app one", 9, false)]), "and goes on");
}

#[test]
fn an_app_that_only_lingers_makes_room_for_one_that_runs() {
    use Source::{Seen, Told};
    let mut table = Table::new(&[By::App], 1, Duration::from_hours(1));
    let (one, two) = (process(1, "one"), process(2, "two"));
    table.tick([&[(Told, one, 1)], &[]], &[one]);
    for _ in 0..2 * LAST_TICKS {
        let rows = table.tick([&[], &[]], &[]);
        assert_eq!(rows.get("app one"), Some(&(1, false)), "{rows:?}");
    }
    let rows = table.tick([&[(Seen, two, 2)], &[]], &[]);
    assert_eq!(rows, seen(&[("app one", 1, false), ("app other", 2, false)]));
    let rows = table.tick([&[(Seen, two, 4)], &[]], &[]);
    assert_eq!(rows, seen(&[("app one", 1, true), ("app two", 4, false), ("app other", 2, false)]));
}

#[test]
fn whoever_has_no_row_is_in_other_and_gets_one_when_there_is_room() {
    use Source::Seen;
    let mut table = Table::new(&[By::Process], 1, Duration::ZERO);
    let (one, two) = (process(1, "one"), process(2, "two"));
    let rows = table.tick([&[(Seen, one, 1), (Seen, two, 2), (Seen, Doer::Other, 4)], &[]], &[]);
    assert_eq!(rows, seen(&[("process 1 one", 1, false), ("process other other", 6, false)]));
    table.tick([&[], &[]], &[one]);
    for _ in 0..2 * LAST_TICKS {
        table.tick([&[], &[]], &[]);
    }
    let rows = table.tick([&[(Seen, two, 8)], &[]], &[]);
    assert_eq!(rows.get("process 2 two"), Some(&(8, false)), "{rows:?}");
    assert_eq!(rows.get("process other other"), Some(&(6, false)), "what is in it stays");
}

#[test]
fn kernel_threads_are_one_row_and_groups_have_their_paths() {
    use Source::Seen;
    let mut table = Table::new(&[By::Process, By::Cgroup], 10, Duration::ZERO);
    let (here, there) = (Doer::Kernel { cgroup: u64::MAX }, Doer::Kernel { cgroup: u64::MAX - 1 });
    let rows = table.tick([&[(Seen, here, 1), (Seen, there, 2)], &[]], &[]);
    let expected = [
        ("process 0 kernel", 3, false),
        ("cgroup unknown:18446744073709551615 _ _ _ _ _", 1, false),
        ("cgroup unknown:18446744073709551614 _ _ _ _ _", 2, false),
    ];
    assert_eq!(rows, seen(&expected));
}

#[test]
fn a_busy_newcomer_takes_the_row_of_an_idle_one_and_begins_at_nothing() {
    use Source::Seen;
    let mut table = Table::new(&[By::Process], 1, Duration::ZERO);
    let (idle, busy) = (process(1, "idle"), process(2, "busy"));
    table.tick([&[(Seen, idle, 1)], &[]], &[]);
    for _ in 0..10 {
        table.tick([&[], &[]], &[]);
    }
    let rows = table.tick([&[(Seen, busy, 100)], &[]], &[]);
    assert_eq!(rows, seen(&[("process 1 idle", 1, false), ("process other other", 100, false)]));
    let rows = table.tick([&[(Seen, idle, 1), (Seen, busy, 7)], &[]], &[]);
    let expected = [("process 1 idle", 1, true), ("process 2 busy", 7, false), ("process other other", 101, false)];
    assert_eq!(rows, seen(&expected));
}

#[test]
fn rows_that_only_linger_leave_half_of_the_places_to_whoever_comes() {
    use Source::Told;
    let mut table = Table::new(&[By::App], 6, Duration::from_hours(1));
    let mut seen = Seen::new();
    let ends =
        |seen: &Seen| seen.iter().filter(|(_, (_, ended))| *ended).map(|(row, _)| row.clone()).collect::<Vec<_>>();
    // Two a tick, each over at once: with all of them lingering the fourth tick would find no place.
    for tick in 0..4 {
        let pair = [0, 1].map(|which| process(2 * tick + which, &format!("app-{tick}{which}")));
        seen = table.tick([&pair.map(|doer| (Told, doer, 1)), &[]], &pair);
    }
    assert_eq!(seen.get("app other"), None, "{seen:?}");
    assert_eq!(ends(&seen), ["app app-10", "app app-11"], "the oldest ones: {seen:?}");
}

#[test]
fn as_many_processes_have_rows_as_can_be_told_apart() {
    let (by, process_labels) = (Vec::new(), Vec::new());
    let options = WhoOptions { by, process_labels, apps: None, processes: 8192, rows: None, linger: Duration::ZERO };
    assert_eq!([By::Process, By::App, By::Cgroup].map(|by| options.limit(by)), [8192, 1024, 1024]);
    assert_eq!(WhoOptions { rows: Some(7), ..options }.limit(By::Process), 7);
}

#[test]
fn names_that_collide_for_whoever_knows_the_hash_are_two_rows() {
    use Source::Seen;
    let names = ["IGwICW9BuZF", "_r-Gyiaf_DK"];
    let known = names.map(ebpf_process_core::identity_of);
    assert_eq!(known[0], known[1], "found by trying");
    let mut table = Table::new(&[By::Process, By::App], 10, Duration::ZERO);
    let [one, two] = names.map(|name| process(1, name));
    let rows = table.tick([&[(Seen, one, 1), (Seen, two, 2)], &[]], &[]);
    let expected = [
        ("process 1 IGwICW9BuZF", 1, false),
        ("process 1 _r-Gyiaf_DK", 2, false),
        ("app IGwICW9BuZF", 1, false),
        ("app _r-Gyiaf_DK", 2, false),
    ];
    assert_eq!(rows, seen(&expected));
}

#[test]
fn a_process_has_the_labels_that_were_chosen_and_those_that_are_unknown_are_no_others() {
    use Source::{Seen, Told};
    let all = [ProcessLabel::Exe, ProcessLabel::User, ProcessLabel::App, ProcessLabel::Cgroup, ProcessLabel::NsPid];
    let mut table = Table::labelled(&all, None);
    // Nobody can have this number.
    let over = process_in(u32::MAX, "a b", "/l/one.service");
    let rows =
        table.tick([&[(Told, over, 1), (Seen, Doer::Kernel { cgroup: 1 }, 2), (Seen, Doer::Other, 4)], &[]], &[]);
    let expected = [
        ("process 4294967295 a b _ root a b /l/one.service _", 1, false),
        ("process 0 kernel _ _ kernel _ _", 2, false),
        ("process other other other other other other other", 4, false),
    ];
    assert_eq!(rows, seen(&expected));
    let mut table = Table::labelled(&[ProcessLabel::App], Some("web: a*\nunits: unit=one.service"));
    let other = process_in(7, "x", "/l/two.service");
    let rows = table.tick([&[(Seen, over, 1), (Seen, other, 2)], &[]], &[]);
    assert_eq!(rows, seen(&[("process 4294967295 a b web", 1, false), ("process 7 x _", 2, false)]));
    let moved = process_in(7, "x", "/l/one.service");
    let rows = table.tick([&[(Told, other, 1), (Seen, moved, 4)], &[]], &[]);
    assert_eq!(rows.get("process 7 x _"), Some(&(3, false)), "{rows:?}");
    assert_eq!(rows.get("process 7 x units"), Some(&(4, false)), "{rows:?}");
}

#[test]
fn a_process_that_is_moved_counts_in_another_row_if_rows_say_the_group() {
    use Source::{Seen, Told};
    let (a, b) = (process_in(7, "x", "/m/a"), process_in(7, "x", "/m/b"));
    let mut table = Table::labelled(&[ProcessLabel::Cgroup], None);
    table.tick([&[(Seen, a, 1)], &[]], &[]);
    let rows = table.tick([&[(Told, a, 2), (Seen, b, 4)], &[(Told, a, 8)]], &[]);
    assert_eq!(rows, seen(&[("process 7 x /m/a", 11, false), ("process 7 x /m/b", 4, false)]));
    table.tick([&[], &[]], &[]);
    let rows = table.tick([&[], &[]], &[]);
    assert_eq!(rows, seen(&[("process 7 x /m/a", 11, true), ("process 7 x /m/b", 4, false)]));
    // A container is the same in all of its groups, and without such labels a group is nothing to a process.
    let id = "0123456789abcdef".repeat(4);
    let inside = ["init.scope", "system.slice"].map(|group| process_in(7, "x", &format!("/docker/{id}/{group}")));
    let mut table = Table::labelled(&[ProcessLabel::Container], None);
    table.tick([&[(Seen, inside[0], 1)], &[]], &[]);
    let rows = table.tick([&[(Seen, inside[1], 2), (Told, a, 4)], &[]], &[]);
    let container = format!("process 7 x {id}");
    assert_eq!(rows, seen(&[(container.as_str(), 3, false), ("process 7 x _", 4, false)]));
    let mut table = Table::labelled(&[], None);
    let rows = table.tick([&[(Seen, a, 1), (Seen, b, 2)], &[]], &[]);
    assert_eq!(rows, seen(&[("process 7 x", 3, false)]));
}

#[test]
fn names_of_groups_and_processes_are_not_taken_for_each_other() {
    use Source::Seen;
    let mut table = Table::labelled(&[ProcessLabel::Cgroup], None);
    let doers = [("/n/a", "/n/a"), ("/n/b", "/n/b"), ("/n/a", "/n/b"), ("/n/b", "/n/a")];
    let gains: Vec<_> =
        doers.iter().zip([1, 2, 4, 8]).map(|((name, path), by)| (Seen, process_in(7, name, path), by)).collect();
    let rows = table.tick([&gains, &[]], &[]);
    let expected = [
        ("process 7 /n/a /n/a", 1, false),
        ("process 7 /n/b /n/b", 2, false),
        ("process 7 /n/a /n/b", 4, false),
        ("process 7 /n/b /n/a", 8, false),
    ];
    assert_eq!(rows, seen(&expected));
}

#[test]
fn each_group_above_gains_what_a_process_does_and_the_uppermost_what_the_host_does() {
    use Source::Told;
    let mut table = Table::new(&[By::Cgroup, By::Subtree], 10, Duration::ZERO);
    let (one, two) = (process_in(1, "one", "/s/b/c"), process_in(2, "two", "/s/b"));
    let nowhere = process(3, "three");
    let rows = table.tick(
        [
            &[
                (Source::Seen, one, 1),
                (Source::Seen, two, 2),
                (Source::Seen, nowhere, 4),
                (Source::Seen, Doer::Other, 8),
            ],
            &[],
        ],
        &[],
    );
    let all = |rows: &Seen, kind: &str| {
        rows.iter().filter(|(row, _)| row.starts_with(kind)).map(|(_, (total, _))| total).sum::<u64>()
    };
    assert_eq!(all(&rows, "cgroup"), 15, "of the kind that adds up");
    let unknown = group("subtree", &format!("unknown:{}", u64::MAX), "_");
    let [root, s, b, c] = ["/", "/s", "/s/b", "/s/b/c"].map(|path| group("subtree", path, "_"));
    let other = "subtree other other other other other other";
    let of = |rows: &Seen, row: &str| rows.get(row).copied();
    let got = [&root, &s, &b, &c, &unknown, other].map(|row| of(&rows, row).map(|(total, _)| total));
    assert_eq!(got, [Some(15), Some(3), Some(3), Some(1), Some(4), Some(8)], "{rows:?}");

    // One moves up: what it did before is where it was.
    let moved = process_in(1, "one", "/s");
    let rows = table.tick([&[(Told, one, 16), (Source::Seen, moved, 32)], &[(Told, one, 64)]], &[]);
    let got = [&root, &s, &b, &c].map(|row| of(&rows, row).map(|(total, _)| total));
    assert_eq!(got, [Some(127), Some(115), Some(83), Some(81)], "{rows:?}");
    // Its former group has nobody any more, and those above it have.
    let mut ended = Vec::new();
    for _ in 0..2 * LAST_TICKS {
        let rows = table.tick([&[], &[]], &[]);
        ended.extend(rows.into_iter().filter(|(row, (_, ended))| *ended && row.starts_with("subtree")));
    }
    assert_eq!(ended, [(c.clone(), (81, true))]);
    // When all are over only the root is left.
    table.tick([&[], &[]], &[moved, two, nowhere]);
    let mut last = Seen::new();
    for _ in 0..=2 * LAST_TICKS {
        last = table.tick([&[], &[]], &[]);
    }
    last.retain(|row, _| row.starts_with("subtree") && *row != other);
    assert_eq!(last, seen(&[(root.as_str(), 127, false)]));
}

#[test]
fn what_has_no_room_in_a_subtree_is_in_those_above_it_and_in_other_once() {
    use Source::Seen;
    let mut table = Table::new(&[By::Subtree], 2, Duration::ZERO);
    let (deep, beside) = (process_in(1, "a", "/t/a/b/c"), process_in(2, "b", "/u"));
    let rows = table.tick([&[(Seen, deep, 1), (Seen, beside, 2)], &[]], &[]);
    let [root, t, u] = ["/", "/t", "/u"].map(|path| group("subtree", path, "_"));
    let other = "subtree other other other other other other";
    assert_eq!(rows, seen(&[(root.as_str(), 3, false), (t.as_str(), 1, false), (other, 3, false)]));
    table.tick([&[], &[]], &[deep]);
    for _ in 0..2 * LAST_TICKS {
        table.tick([&[], &[]], &[]);
    }
    let rows = table.tick([&[(Seen, beside, 4)], &[]], &[]);
    assert_eq!(rows, seen(&[(root.as_str(), 7, false), (u.as_str(), 4, false), (other, 3, false)]));
}

#[test]
fn groups_without_end_have_a_bounded_number_of_rows() {
    use Source::Seen;
    let mut table = Table::new(&[By::Subtree], 1000, Duration::ZERO);
    let deep = process_in(1, "a", &"/v".repeat(100));
    let rows = table.tick([&[(Seen, deep, 1)], &[]], &[]);
    assert_eq!(rows.len(), 1 + LEVELS);
    assert!(rows.values().all(|row| *row == (1, false)), "{rows:?}");
    table.tick([&[], &[]], &[deep]);
    let mut last = 0;
    for _ in 0..=2 * LAST_TICKS {
        last = table.tick([&[], &[]], &[]).len();
    }
    assert_eq!(last, 1, "all but the root have ended");
}

#[test]
fn an_app_that_gets_its_row_back_has_it_as_long_as_one_of_its_processes_lives() {
    use Source::Seen;
    let mut table = Table::new(&[By::App], 1, Duration::ZERO);
    let (first, second, busy) = (process(1, "app"), process(2, "app"), process(3, "busy"));
    let both: &[_] = &[(Seen, first, 1), (Seen, second, 1)];
    table.tick([both, &[]], &[]);
    for _ in 0..10 {
        table.tick([&[], &[]], &[]);
    }
    table.tick([&[(Seen, busy, 100)], &[]], &[]);
    let rows = table.tick([&[(Seen, busy, 1)], &[]], &[busy]);
    assert_eq!(rows.get("app app"), Some(&(2, true)), "{rows:?}");
    for _ in 0..2 * LAST_TICKS {
        table.tick([&[], &[]], &[]);
    }
    let rows = table.tick([both, &[]], &[]);
    assert_eq!(rows.get("app app"), Some(&(2, false)), "{rows:?}");
    table.tick([&[], &[]], &[first]);
    for _ in 0..2 * LAST_TICKS {
        let rows = table.tick([&[(Seen, second, 1)], &[]], &[]);
        assert!(rows.get("app app").is_some_and(|(_, ended)| !ended), "{rows:?}");
    }
}
