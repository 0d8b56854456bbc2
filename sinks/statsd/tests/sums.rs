//! What a receiver adds up is what was counted, whatever gets lost on the way there.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod receiver;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::engine::{Agent, Clock, OutletSpec};
use ebpf_process_core::testkit::{Bench, Cell, ManualClock, drained, no_slots};
use ebpf_process_core::{
    Column, ColumnId, EntityKind, KindId, Ledger, Probe, ProbeError, Recorder, RowId, Selection, Settlement, Sink,
    SinkError, Unit, View,
};
use ebpf_process_sink_statsd::{Encoder, Fate, Settled, Syntax};
use parking_lot::Mutex;
use proptest::prelude::*;
use receiver::{ALL, Receiver};

#[derive(Clone, Copy, Debug)]
enum Act {
    /// It has grown by so much, and begins anew if it has ended.
    Grow(u64),
    Silent,
    /// It has grown for the last time.
    End(u64),
}

/// Whether each view gets to the sink, and what each row does before it.
type Story = Vec<(bool, Vec<Act>)>;

const NAMES: [&str; 4] = ["a", "b.c", "b_c", "x:y|z\n"];

fn story() -> impl Strategy<Value = Story> {
    let growth = prop_oneof![Just(0), 1..10_u64, Just(u64::MAX / 1000)];
    let act = prop_oneof![
        6 => growth.clone().prop_map(Act::Grow),
        2 => Just(Act::Silent),
        1 => growth.prop_map(Act::End),
    ];
    prop::collection::vec((prop::bool::weighted(0.7), prop::collection::vec(act, NAMES.len())), 1..30)
}

/// Four rows with two counters and a histogram each.
#[derive(Default)]
struct World {
    kind: Option<(KindId, [ColumnId; 3])>,
    rows: [Option<RowId>; NAMES.len()],
    /// The total of each row since it began, and of all it was before.
    totals: [(u64, u128); NAMES.len()],
}

impl World {
    fn record(&mut self, recorder: &mut Recorder, acts: &[Act]) {
        let Self { kind, rows, totals } = self;
        let (kind, [calls, errors, time]) = *kind.get_or_insert_with(|| {
            let kind = EntityKind::new("thing").keys(["name"]).names_as_they_are();
            let kind = recorder.kind(kind).expect("a kind");
            let columns = [
                Column::counter("demo.calls", Unit::CALLS, ""),
                Column::counter("errors", Unit::CALLS, ""),
                Column::histogram("demo.long.time", Unit::SECONDS, ""),
            ];
            (kind, columns.map(|column| recorder.column(kind, column).expect("a column")))
        });
        for (number, act) in acts.iter().enumerate() {
            let (Act::Grow(growth) | Act::End(growth)) = *act else { continue };
            let (total, all) = &mut totals[number];
            let row = *rows[number].get_or_insert_with(|| {
                *total = 0;
                recorder.row(kind, number as u64, &[NAMES[number]]).expect("a row")
            });
            *total += growth;
            *all += u128::from(growth);
            recorder.counter(row, calls, *total);
            recorder.counter(row, errors, *total);
            let mut slots = no_slots();
            (slots[0], slots[5], slots[63]) = (*total, *total, *total);
            recorder.histogram(row, time, &slots, 0);
            if let Act::End(_) = act {
                recorder.end(row);
                rows[number] = None;
            }
        }
    }

    /// What a receiver should have added up, by name and tags.
    fn sums(&self, syntax: Syntax) -> BTreeMap<String, u128> {
        let mut sums = BTreeMap::new();
        for (number, (_, total)) in self.totals.iter().enumerate().filter(|(_, (_, total))| *total > 0) {
            let label = match syntax {
                Syntax::Plain => ["a", "b_c", "b_c", "x_y_z_"],
                Syntax::Graphite | Syntax::Telegraf => ["a", "b.c", "b_c", "x_y_z_"],
                Syntax::Dogstatsd => ["a", "b.c", "b_c", "x:y_z_"],
            }[number];
            let mut add = |name: String| *sums.entry(name).or_default() += total;
            let bounds = [1, 63, u64::MAX];
            if syntax == Syntax::Plain {
                add(format!("ns.demo.{label}.calls"));
                add(format!("ns.{label}.errors"));
                for bound in bounds {
                    add(format!("ns.demo.long.{label}.time.le_{bound}"));
                }
            } else {
                let key = if syntax == Syntax::Graphite { "name_" } else { "name" };
                add(format!("ns.demo.calls{{{key}={label}}}"));
                add(format!("ns.errors{{{key}={label}}}"));
                for bound in bounds {
                    add(format!("ns.demo.long.time{{le={bound},{key}={label}}}"));
                }
            }
        }
        sums
    }
}

/// What a receiver has added up, where rows of equal text that were told apart are one again.
fn together(counters: &BTreeMap<String, u128>) -> BTreeMap<String, u128> {
    let mut sums = BTreeMap::new();
    for (name, sum) in counters {
        *sums.entry(name.replace("b_c_2", "b_c")).or_default() += sum;
    }
    sums
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![Just(Fate::Sent), Just(Fate::Lost), Just(Fate::Late), (1..300_usize).prop_map(Fate::Cut)]
}

fn all(settled: Settled) -> u64 {
    settled.written + settled.failed + settled.too_long + settled.twins
}

/// Shows a view to the encoder; the fates are asked for one by one.
fn show(
    view: View<'_>,
    encoder: &mut Encoder,
    receiver: &mut Receiver,
    mut fate: impl FnMut() -> Fate,
) -> Result<Settled, TestCaseError> {
    let mut problem = None;
    let mut lost = false;
    let settled = encoder.encode(&view, &mut |packet| {
        let fate = fate();
        lost |= fate != Fate::Sent;
        let arrives = match fate {
            Fate::Sent | Fate::Late => packet.len(),
            // A receiver takes whole lines.
            Fate::Cut(left) if left >= packet.len() => packet.len(),
            Fate::Cut(left) => packet[..=left].iter().rposition(|byte| *byte == b'\n').unwrap_or(0),
            Fate::Lost => 0,
        };
        if arrives > 0 {
            problem = problem.take().or(receiver.read(&packet[..arrives]).err());
        }
        fate
    });
    prop_assert_eq!(problem, None);
    prop_assert_eq!(all(settled), view.len() as u64);
    prop_assert!(lost || settled.failed == 0);
    Ok(settled)
}

/// Does each tick what the story says.
struct Played {
    world: Arc<Mutex<World>>,
    acts: Arc<Mutex<Vec<Act>>>,
}

impl Probe for Played {
    fn collect(&mut self, recorder: &mut Recorder) -> Result<(), ProbeError> {
        self.world.lock().record(recorder, &self.acts.lock());
        Ok(())
    }
}

/// Loses packets, and says so.
struct Lossy {
    encoder: Encoder,
    receiver: Arc<Mutex<Receiver>>,
    /// Of the next packets; the others arrive.
    fates: Arc<Mutex<VecDeque<Fate>>>,
    ledger: Arc<Ledger>,
}

impl Sink for Lossy {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let mut fates = self.fates.lock();
        let settled =
            show(*view, &mut self.encoder, &mut self.receiver.lock(), || fates.pop_front().unwrap_or(Fate::Sent));
        let settled = settled.expect("whole lines, and all samples");
        self.ledger.written(settled.written);
        self.ledger.failed(settled.failed);
        if settled.failed > 0 { Err(SinkError::failed("lost")) } else { Ok(()) }
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    /// Those with rows that end are kept for the sink by its outlet.
    #[test]
    fn lost_views_and_rows_that_come_and_go_lose_no_event(
        syntax in prop::sample::select(&ALL),
        story in story(),
        limit in 80..300_usize,
    ) {
        let (mut world, mut bench) = (World::default(), Bench::new());
        let mut encoder = Encoder::new(syntax, "ns", limit);
        let mut receiver = Receiver::new(syntax, limit);
        let alive = (true, vec![Act::Grow(0); NAMES.len()]);
        for (seen, acts) in story.iter().chain([&alive]) {
            let ends = acts.iter().any(|act| matches!(act, Act::End(_)));
            bench.tick(&Selection::default(), |recorder| world.record(recorder, acts), |view| {
                if *seen || ends { show(*view, &mut encoder, &mut receiver, || Fate::Sent).map(drop) } else { Ok(()) }
            })?;
        }
        prop_assert_eq!(together(&receiver.counters), world.sums(syntax));
    }

    /// Under which name an event arrives is chance; that it arrives, and once, is not.
    #[test]
    fn names_that_change_under_way_lose_no_event_and_send_none_twice(
        syntax in prop::sample::select(&ALL),
        story in story(),
        prefixes in prop::collection::vec(prop::sample::select(&["", "p.", "q."][..]), 30),
        fates in prop::collection::vec(fate(), 0..60),
    ) {
        let (mut world, mut bench) = (World::default(), Bench::new());
        let mut encoder = Encoder::new(syntax, "ns", 200);
        let mut receiver = Receiver::new(syntax, 200);
        let mut fates = fates.into_iter();
        let all = Selection::default();
        let named = |prefix: &str| Selection { prefix: prefix.to_owned(), ..all.clone() };
        for ((_, acts), prefix) in story.iter().zip(&prefixes) {
            let ends = acts.iter().any(|act| matches!(act, Act::End(_)));
            bench.tick(&named(prefix), |recorder| world.record(recorder, acts), |view| {
                // No outlet brings back the rows that end here.
                show(*view, &mut encoder, &mut receiver, || {
                    if ends { Fate::Sent } else { fates.next().unwrap_or(Fate::Sent) }
                })
            })?;
        }
        let alive = vec![Act::Grow(0); NAMES.len()];
        bench.tick(&all, |recorder| world.record(recorder, &alive), |view| {
            show(*view, &mut encoder, &mut receiver, || Fate::Sent)
        })?;
        let mut sums = BTreeMap::new();
        for (name, sum) in together(&receiver.counters) {
            *sums.entry(name.replacen("ns.p.", "ns.", 1).replacen("ns.q.", "ns.", 1)).or_default() += sum;
        }
        prop_assert_eq!(sums, world.sums(syntax));
    }

    /// Under an agent, whose outlet brings back the rows that ended in a view that failed: what of them did arrive is not
    /// sent again.
    #[test]
    fn lost_packets_lose_no_event_and_send_none_twice(
        syntax in prop::sample::select(&ALL),
        story in story(),
        limit in 80..300_usize,
        fates in prop::collection::vec(fate(), 0..200),
    ) {
        let clock = Arc::new(ManualClock::new(Duration::from_secs(1_600_000_000), Duration::from_secs(100)));
        let mut agent = Agent::new(Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_secs(1));
        let (world, acts) = (Arc::default(), Arc::default());
        agent.push_probe("played", Box::new(Played { world: Arc::clone(&world), acts: Arc::clone(&acts) }));
        let receiver = Arc::new(Mutex::new(Receiver::new(syntax, limit)));
        let (ledger, fates) = (Arc::<Ledger>::default(), Arc::new(Mutex::new(fates.into())));
        let lossy = Lossy {
            encoder: Encoder::new(syntax, "ns", limit),
            receiver: Arc::clone(&receiver),
            fates: Arc::clone(&fates),
            ledger: Arc::clone(&ledger),
        };
        agent.push_sink(Box::new(lossy), OutletSpec::new("lossy"), Arc::clone(&ledger)).expect("a thread");
        let mut tick = |next: &[Act]| {
            *acts.lock() = next.to_vec();
            agent.tick(clock.advance(Duration::from_secs(1)));
            drained(&ledger);
        };
        for (_, acts) in &story {
            tick(acts);
        }
        fates.lock().clear();
        tick(&[Act::Grow(0); NAMES.len()]);
        prop_assert_eq!(together(&receiver.lock().counters), world.lock().sums(syntax));
        prop_assert!(ledger.tally().balances());
    }
}

#[test]
fn a_total_that_fell_starts_anew_even_if_nobody_hears_of_it_at_once() {
    let mut bench = Bench::new();
    let calls = bench.host(Column::counter("demo.calls", Unit::CALLS, ""));
    let mut encoder = Encoder::new(Syntax::Plain, "ns", 1432);
    let mut receiver = Receiver::new(Syntax::Plain, 1432);
    for (total, fate) in [(10, Fate::Sent), (0, Fate::Sent), (3, Fate::Lost), (15, Fate::Sent), (4, Fate::Sent)] {
        bench.tick(
            &Selection::default(),
            |recorder| calls.counter(recorder, total),
            |view| {
                encoder.encode(view, &mut |packet| {
                    if fate == Fate::Sent {
                        receiver.read(packet).expect("whole lines");
                    }
                    fate
                })
            },
        );
    }
    assert_eq!(receiver.counters, [("ns.demo.calls".to_owned(), 10 + 15 + 4)].into());
}

#[test]
fn a_line_that_fits_no_packet_is_rejected_and_the_rest_is_sent() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("thing").keys(["name"]).names_as_they_are();
    let calls = || Column::counter("demo.calls", Unit::CALLS, "");
    let time = || Column::histogram("demo.time", Unit::CALLS, "");
    let long = "x".repeat(100);
    let all = ["a", &long, "b"].map(|name| (bench.cell(&kind, &[name], calls()), bench.cell(&kind, &[name], time())));
    let mut encoder = Encoder::new(Syntax::Plain, "ns", 64);
    let mut receiver = Receiver::new(Syntax::Plain, 1432);
    let record = |recorder: &mut Recorder| {
        for (counter, histogram) in all {
            let mut slots = no_slots();
            slots[3] = 4;
            counter.counter(recorder, 5);
            histogram.histogram(recorder, &slots, 0);
        }
    };
    let settled = bench.tick(&Selection::default(), record, |view| {
        encoder.encode(view, &mut |packet| {
            receiver.read(packet).expect("whole lines");
            Fate::Sent
        })
    });
    assert_eq!(settled, Settled { written: 4, too_long: 2, ..Settled::default() });
    assert_eq!(receiver.counters.values().sum::<u128>(), 18);
}

#[test]
fn of_two_gauges_with_one_name_the_second_is_rejected() {
    for syntax in ALL {
        let mut bench = Bench::new();
        let level = |name| Column::gauge("demo.level", Unit::CALLS, "").labels([("name", name)]);
        let cells = ["a|b", "a_b"].map(|name| bench.host(level(name)));
        let mut encoder = Encoder::new(syntax, "ns", 1432);
        for _ in 0..2 {
            let mut receiver = Receiver::new(syntax, 1432);
            let record = |recorder: &mut Recorder| {
                cells[0].gauge(recorder, -1.5);
                cells[1].gauge(recorder, 2.0);
            };
            let settled = bench.tick(&Selection::default(), record, |view| {
                encoder.encode(view, &mut |packet| {
                    receiver.read(packet).expect("whole lines");
                    Fate::Sent
                })
            });
            assert_eq!(settled, Settled { written: 1, twins: 1, ..Settled::default() });
            assert_eq!(receiver.gauges.into_values().collect::<Vec<_>>(), [-1.5], "{syntax:?}");
        }
    }
}

/// More packets than are sent at once, of samples that have one line and of such that have many.
#[test]
fn a_sample_is_written_if_all_packets_with_a_line_of_it_arrive() {
    let mut bench = Bench::new();
    let kind = EntityKind::new("disk").keys(["name"]);
    let names: Vec<String> = (100..200).map(|number| format!("d{number}")).collect();
    let cells: Vec<[Cell; 2]> = names
        .iter()
        .map(|name| {
            let (reads, sizes) =
                (Column::counter("reads", Unit::CALLS, ""), Column::histogram("sizes", Unit::BYTES, ""));
            [bench.cell(&kind, &[name], reads), bench.cell(&kind, &[name], sizes)]
        })
        .collect();
    let record = |recorder: &mut Recorder| {
        for [reads, sizes] in &cells {
            reads.counter(recorder, 3);
            let mut slots = no_slots();
            slots[..4].fill(5);
            sizes.histogram(recorder, &slots, 0);
        }
    };
    let mut encoder = Encoder::new(Syntax::Plain, "", 64);
    let (mut number, mut fates) = (0, BTreeMap::new());
    let settled = bench.tick(&Selection::default(), record, |view| {
        encoder.encode(view, &mut |packet| {
            number += 1;
            let fate = if number % 5 == 0 { Fate::Lost } else { Fate::Sent };
            for line in std::str::from_utf8(packet).expect("text").lines() {
                let sample = line.split(".le_").next().and_then(|name| name.split(':').next()).expect("a name");
                *fates.entry(sample.to_owned()).or_insert(true) &= fate == Fate::Sent;
            }
            fate
        })
    });
    assert!(number > 2 * 64, "{number}");
    assert_eq!(fates.len(), 2 * names.len());
    let written = fates.values().filter(|arrived| **arrived).count() as u64;
    assert_eq!(settled, Settled { written, failed: fates.len() as u64 - written, ..Settled::default() });
}

#[test]
fn a_histogram_is_failed_if_one_of_its_packets_is() {
    let mut bench = Bench::new();
    let time = bench.host(Column::histogram("demo.time", Unit::CALLS, ""));
    let mut encoder = Encoder::new(Syntax::Plain, "ns", 64);
    let slots = [7; ebpf_process_core::HISTOGRAM_SLOTS];
    let mut deliver = |lost: usize| {
        let (mut receiver, mut number) = (Receiver::new(Syntax::Plain, 1432), 0);
        let record = |recorder: &mut Recorder| time.histogram(recorder, &slots, 0);
        let settled = bench.tick(&Selection::default(), record, |view| {
            encoder.encode(view, &mut |packet| {
                number += 1;
                if number == lost {
                    return Fate::Lost;
                }
                receiver.read(packet).expect("whole lines");
                Fate::Sent
            })
        });
        (settled, receiver.counters.values().sum::<u128>(), number)
    };
    let (settled, first, packets) = deliver(2);
    assert_eq!(settled, Settled { failed: 1, ..Settled::default() });
    assert!(packets > 3);
    // Only what was in the lost one is still due.
    let (settled, second, packets) = deliver(0);
    assert_eq!(settled, Settled { written: 1, ..Settled::default() });
    assert_eq!((first + second, packets), (7 * 64, 1));
}
