//! What a receiver adds up is what was counted, whatever gets lost on the way there.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod receiver;

use std::collections::BTreeMap;
use std::sync::Arc;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Selection, Unit, View};
use ebpf_process_sink_statsd::{Encoder, Fate, Settled, Syntax};
use proptest::prelude::*;
use receiver::{ALL, Receiver};

#[derive(Clone, Copy, Debug)]
enum Act {
    /// It has grown by so much, and is made anew if it is gone.
    Grow(u64),
    Silent,
    /// It has grown for the last time.
    End(u64),
}

/// Three metrics, four label values, and what each series does in each view.
type Story = Vec<(bool, Vec<Act>)>;

const NAMES: [&str; 4] = ["a", "b.c", "b_c", "x:y|z\n"];

fn story(ends: bool) -> impl Strategy<Value = Story> {
    let growth = prop_oneof![Just(0), 1..10_u64, Just(u64::MAX / 1000)];
    let act = prop_oneof![
        6 => growth.clone().prop_map(Act::Grow),
        2 => Just(Act::Silent),
        u32::from(ends) => growth.prop_map(Act::End),
    ];
    prop::collection::vec((prop::bool::weighted(0.7), prop::collection::vec(act, 3 * NAMES.len())), 1..30)
}

struct Scene {
    bench: Bench,
    metrics: [Arc<Descriptor>; 3],
    /// The total of each series since it was made, and of all it was before.
    totals: Vec<(u64, u128)>,
    alive: Vec<Option<ebpf_process_core::SeriesId>>,
}

impl Scene {
    fn new() -> Self {
        let labels = ["name"];
        Self {
            bench: Bench::new(),
            metrics: [
                Descriptor::counter("demo.calls", Unit::CALLS, "").labels(labels).share(),
                Descriptor::counter("errors", Unit::CALLS, "").labels(labels).share(),
                Descriptor::histogram("demo.long.time", Unit::SECONDS, "").labels(labels).share(),
            ],
            totals: vec![(0, 0); 3 * NAMES.len()],
            alive: vec![None; 3 * NAMES.len()],
        }
    }

    fn tick<R>(&mut self, acts: &[Act], look: impl FnOnce(&View<'_>) -> R) -> R {
        let Self { bench, metrics, totals, alive } = self;
        let record = |recorder: &mut ebpf_process_core::Recorder| {
            for (index, act) in acts.iter().enumerate() {
                let (Act::Grow(growth) | Act::End(growth)) = *act else { continue };
                let id = recorder.series(&metrics[index / NAMES.len()], &[NAMES[index % NAMES.len()]]);
                let id = id.expect("a series");
                if alive[index] != Some(id) {
                    // A new series under an old name starts at its own baseline.
                    alive[index] = Some(id);
                    totals[index].0 = 0;
                }
                let (total, all) = &mut totals[index];
                *total += growth;
                *all += u128::from(growth);
                if index / NAMES.len() < 2 {
                    recorder.counter(id, *total);
                } else {
                    let mut slots = no_slots();
                    slots[0] = *total;
                    slots[5] = *total;
                    slots[63] = *total;
                    recorder.histogram(id, &slots, 0);
                }
                if let Act::End(_) = act {
                    recorder.end(id);
                }
            }
        };
        bench.tick(&Selection::default(), record, look)
    }

    /// What a receiver should have added up, by name and tags.
    fn sums(&self, syntax: Syntax) -> BTreeMap<String, u128> {
        let mut sums = BTreeMap::new();
        for (index, (_, total)) in self.totals.iter().enumerate().filter(|(_, (_, total))| *total > 0) {
            let number = index % NAMES.len();
            let label = match syntax {
                Syntax::Plain => ["a", "b_c", "b_c", "x_y_z_"],
                Syntax::Graphite | Syntax::Telegraf => ["a", "b.c", "b_c", "x_y_z_"],
                Syntax::Dogstatsd => ["a", "b.c", "b_c", "x:y_z_"],
            }[number];
            let name_key = if syntax == Syntax::Graphite { "name_" } else { "name" };
            let bounds: &[u64] = if index / NAMES.len() < 2 { &[0] } else { &[1, 63, u64::MAX] };
            for bound in bounds {
                let name = match (syntax, index / NAMES.len()) {
                    (Syntax::Plain, 0) => format!("ns.demo.{label}.calls"),
                    (Syntax::Plain, 1) => format!("ns.{label}.errors"),
                    (Syntax::Plain, _) => format!("ns.demo.long.{label}.time.le_{bound}"),
                    (_, 0) => format!("ns.demo.calls{{{name_key}={label}}}"),
                    (_, 1) => format!("ns.errors{{{name_key}={label}}}"),
                    _ => format!("ns.demo.long.time{{le={bound},{name_key}={label}}}"),
                };
                *sums.entry(name).or_default() += total;
            }
        }
        sums
    }
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![Just(Fate::Sent), Just(Fate::Lost), Just(Fate::Late), (1..300_usize).prop_map(Fate::Cut)]
}

fn all(settled: Settled) -> u64 {
    settled.written + settled.failed + settled.too_long + settled.twins
}

/// Shows a view to the encoder; the fates are asked for one by one.
fn show(
    view: &View<'_>,
    encoder: &mut Encoder,
    receiver: &mut Receiver,
    mut fate: impl FnMut() -> Fate,
) -> Result<Settled, TestCaseError> {
    let mut problem = None;
    let mut lost = false;
    let settled = encoder.encode(view, &mut |packet| {
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// Here a series that has ended is repeated in two more batches, so up to two may be lost in a
    /// row; the agent repeats it until the sink has had it.
    #[test]
    fn lost_views_and_series_that_come_and_go_lose_no_event(
        syntax in prop::sample::select(&ALL),
        story in story(true),
        limit in 80..300_usize,
    ) {
        let mut scene = Scene::new();
        let mut encoder = Encoder::new(syntax, "ns", limit);
        let mut receiver = Receiver::new(syntax, limit);
        let mut lost = 0;
        for (seen, acts) in &story {
            lost = if *seen || lost == 2 { 0 } else { lost + 1 };
            scene.tick(acts, |view| {
                if lost > 0 {
                    return Ok(Settled::default());
                }
                show(view, &mut encoder, &mut receiver, || Fate::Sent)
            })?;
        }
        scene.tick(&[], |view| show(view, &mut encoder, &mut receiver, || Fate::Sent))?;
        // The final total of a live series may have been in a view that was lost: it is due again
        // with the next view that has it.
        let alive: Vec<_> = vec![Act::Grow(0); 3 * NAMES.len()];
        scene.tick(&alive, |view| show(view, &mut encoder, &mut receiver, || Fate::Sent))?;
        prop_assert_eq!(receiver.counters, scene.sums(syntax));
    }

    #[test]
    fn lost_packets_lose_no_event_and_send_none_twice(
        syntax in prop::sample::select(&ALL),
        story in story(false),
        limit in 80..300_usize,
        fates in prop::collection::vec(fate(), 1..40),
    ) {
        let mut scene = Scene::new();
        let mut encoder = Encoder::new(syntax, "ns", limit);
        let mut receiver = Receiver::new(syntax, limit);
        let mut fates = fates.into_iter().cycle();
        for (_, acts) in &story {
            scene.tick(acts, |view| {
                show(view, &mut encoder, &mut receiver, || fates.next().unwrap_or(Fate::Sent))
            })?;
        }
        let alive: Vec<_> = vec![Act::Grow(0); 3 * NAMES.len()];
        let settled = scene.tick(&alive, |view| show(view, &mut encoder, &mut receiver, || Fate::Sent))?;
        prop_assert_eq!(settled.failed, 0);
        prop_assert_eq!(receiver.counters, scene.sums(syntax));
    }
}

#[test]
fn a_total_that_fell_starts_anew_even_if_nobody_hears_of_it_at_once() {
    let mut bench = Bench::new();
    let calls = Descriptor::counter("demo.calls", Unit::CALLS, "").share();
    let id = bench.series(&calls, &[]);
    let mut encoder = Encoder::new(Syntax::Plain, "ns", 1432);
    let mut receiver = Receiver::new(Syntax::Plain, 1432);
    for (total, fate) in [(10, Fate::Sent), (0, Fate::Sent), (3, Fate::Lost), (15, Fate::Sent), (4, Fate::Sent)] {
        bench.tick(
            &Selection::default(),
            |recorder| recorder.counter(id, total),
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
    let calls = Descriptor::counter("demo.calls", Unit::CALLS, "").labels(["name"]).share();
    let time = Descriptor::histogram("demo.time", Unit::CALLS, "").labels(["name"]).share();
    let ids = ["a", &"x".repeat(100), "b"].map(|name| (bench.series(&calls, &[name]), bench.series(&time, &[name])));
    let mut encoder = Encoder::new(Syntax::Plain, "ns", 64);
    let mut receiver = Receiver::new(Syntax::Plain, 1432);
    let record = |recorder: &mut ebpf_process_core::Recorder| {
        for (counter, histogram) in ids {
            let mut slots = no_slots();
            slots[3] = 4;
            recorder.counter(counter, 5);
            recorder.histogram(histogram, &slots, 0);
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
        let level = Descriptor::gauge("demo.level", Unit::CALLS, "").labels(["name"]).share();
        let ids = ["a|b", "a_b"].map(|name| bench.series(&level, &[name]));
        let mut encoder = Encoder::new(syntax, "ns", 1432);
        for _ in 0..2 {
            let mut receiver = Receiver::new(syntax, 1432);
            let record = |recorder: &mut ebpf_process_core::Recorder| {
                recorder.gauge(ids[0], -1.5);
                recorder.gauge(ids[1], 2.0);
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

#[test]
fn a_histogram_is_failed_if_one_of_its_packets_is() {
    let mut bench = Bench::new();
    let time = Descriptor::histogram("demo.time", Unit::CALLS, "").share();
    let id = bench.series(&time, &[]);
    let mut encoder = Encoder::new(Syntax::Plain, "ns", 64);
    let slots = [7; ebpf_process_core::HISTOGRAM_SLOTS];
    let mut deliver = |lost: usize| {
        let (mut receiver, mut number) = (Receiver::new(Syntax::Plain, 1432), 0);
        let record = |recorder: &mut ebpf_process_core::Recorder| recorder.histogram(id, &slots, 0);
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
