//! What is sent when the selection becomes another one, or when the sink comes to an agent that has counted before.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;

use ebpf_process_core::testkit::{Bench, Cell, no_slots};
use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit};
use ebpf_process_sink_statsd::{Encoder, Fate, Syntax};

/// Rows of the host and of a kind, with a counter, one in another unit, a histogram and a gauge.
struct Scene {
    bench: Bench,
    encoder: Encoder,
    rows: Vec<[Cell; 4]>,
    total: u64,
}

fn things() -> EntityKind {
    EntityKind::new("thing").keys(["n"]).names_as_they_are()
}

impl Scene {
    fn new(encoder: Encoder) -> Self {
        let mut scene = Self { bench: Bench::new(), encoder, rows: Vec::new(), total: 0 };
        for n in ["a", "b"] {
            scene.add(n);
        }
        scene
    }

    fn add(&mut self, n: &str) {
        let cells = [
            Column::counter("calls", Unit::CALLS, ""),
            Column::counter("busy", Unit::SECONDS, "").scale(0.5),
            Column::histogram("sizes", Unit::BYTES, ""),
            Column::gauge("level", Unit::ONE, ""),
        ];
        self.rows.push(cells.map(|column| self.bench.cell(&things(), &[n], column)));
    }

    /// What is sent in a tick in which everything grows by two.
    fn tick(&mut self, selection: &Selection) -> BTreeMap<String, String> {
        self.total += 2;
        let Self { bench, encoder, rows, total } = self;
        let record = |recorder: &mut Recorder| {
            for [calls, busy, sizes, level] in rows.iter() {
                calls.counter(recorder, *total);
                busy.counter(recorder, *total);
                let mut slots = no_slots();
                slots[1] = *total;
                sizes.histogram(recorder, &slots, 0);
                level.gauge(recorder, 5.0);
            }
        };
        bench.tick(selection, record, |view| {
            let mut lines = BTreeMap::new();
            let settled = encoder.encode(view, &mut |packet| {
                let text = std::str::from_utf8(packet).expect("text");
                let pairs = text.lines().filter_map(|line| line.split_once(':'));
                lines.extend(pairs.map(|(name, number)| (name.to_owned(), number.to_owned())));
                Fate::Sent
            });
            assert_eq!(settled.written, view.len() as u64, "{settled:?}");
            lines
        })
    }
}

fn lines(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, number)| ((*name).to_owned(), (*number).to_owned())).collect()
}

fn named(prefix: &str, exclude: &[&str], n: &str) -> Selection {
    Selection {
        prefix: prefix.to_owned(),
        exclude: exclude.iter().map(|it| (*it).to_owned()).collect(),
        matching: [("n".to_owned(), n.to_owned())].into(),
        ..Selection::default()
    }
}

#[test]
fn what_was_selected_before_goes_on_and_what_was_not_begins_with_what_it_is() {
    let mut scene = Scene::new(Encoder::new(Syntax::Plain, "", 8192));
    let few = named("", &["sizes", "busy"], "a");
    assert_eq!(scene.tick(&few), lines(&[("a.calls", "2|c"), ("a.level", "5|g")]));
    assert_eq!(scene.tick(&few), lines(&[("a.calls", "2|c"), ("a.level", "5|g")]));
    let all = named("my.", &[], "*");
    // A row that begins with this view is sent from 0.
    scene.add("c");
    let first = [
        ("my.a.calls", "2|c"),
        ("my.a.level", "5|g"),
        ("my.b.level", "5|g"),
        ("my.c.busy", "3|c"),
        ("my.c.calls", "6|c"),
        ("my.c.level", "5|g"),
        ("my.c.sizes.le_3", "6|c"),
    ];
    assert_eq!(scene.tick(&all), lines(&first));
    let mut next = BTreeMap::new();
    for n in ["a", "b", "c"] {
        let of = [("calls", "2|c"), ("busy", "1|c"), ("sizes.le_3", "2|c"), ("level", "5|g")];
        next.extend(of.map(|(name, number)| (format!("my.{n}.{name}"), number.to_owned())));
    }
    assert_eq!(scene.tick(&all), next);
    // What is not selected for a while begins anew, and so does what never was.
    assert_eq!(scene.tick(&few), lines(&[("a.calls", "2|c"), ("a.level", "5|g")]));
    let again = [("my.a.calls", "2|c"), ("my.a.level", "5|g"), ("my.b.level", "5|g"), ("my.c.level", "5|g")];
    assert_eq!(scene.tick(&all), lines(&again));
    assert_eq!(scene.tick(&all), next);
}

#[test]
fn who_joins_sends_nothing_of_what_was_counted_before() {
    let mut scene = Scene::new(Encoder::new(Syntax::Plain, "", 8192).joining());
    scene.total = 1000;
    let all = named("", &[], "a");
    assert_eq!(scene.tick(&all), lines(&[("a.level", "5|g")]));
    let next = [("a.calls", "2|c"), ("a.busy", "1|c"), ("a.sizes.le_3", "2|c"), ("a.level", "5|g")];
    assert_eq!(scene.tick(&all), lines(&next));
    // A row, and a column, that begin later are sent from 0.
    let late = Column::counter("late", Unit::CALLS, "");
    let (late, new) = (scene.bench.cell(&things(), &["a"], late), scene.bench.cell(&things(), &["ax"], read()));
    let sent = scene.bench.tick(
        &Selection::default(),
        |recorder| {
            late.counter(recorder, 7);
            new.counter(recorder, 9);
        },
        |view| {
            let mut text = String::new();
            scene.encoder.encode(view, &mut |packet| {
                text += std::str::from_utf8(packet).expect("text");
                Fate::Sent
            });
            text
        },
    );
    assert_eq!(sent, "a.late:7|c\nax.calls:9|c");
}

fn read() -> Column {
    Column::counter("calls", Unit::CALLS, "")
}
