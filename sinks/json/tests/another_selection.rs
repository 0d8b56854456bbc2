//! What the lines say when the selection becomes another one, or when the sink comes to an agent that has counted before.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod flat;

use ebpf_process_core::testkit::{Bench, Cell};
use ebpf_process_core::{Column, EntityKind, Recorder, Selection, Unit};
use ebpf_process_sink_json::Encoder;
use flat::flat;
use serde_json::{Value, json};

/// Counters of the host and of two rows, and a gauge.
struct Scene {
    bench: Bench,
    encoder: Encoder,
    cells: Vec<Cell>,
    total: u64,
}

impl Scene {
    fn new(encoder: Encoder) -> Self {
        let mut bench = Bench::new();
        let kind = EntityKind::new("thing").keys(["n"]);
        let column = |name: &'static str| Column::counter(name, Unit::CALLS, "Calls");
        let mut cells = vec![bench.host(column("calls")), bench.host(column("errors"))];
        for n in ["a", "b"] {
            cells.extend(["calls", "errors"].map(|name| bench.cell(&kind, &[n], column(name))));
        }
        Self { bench, encoder, cells, total: 0 }
    }

    /// What each sample is called, with its labels' values, and what was added to it, in a tick in which each grows by one.
    fn tick(&mut self, selection: &Selection) -> Vec<(String, Value)> {
        self.total += 1;
        let Self { bench, encoder, cells, total } = self;
        let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, *total));
        let line: Value = bench.tick(selection, record, |view| {
            serde_json::from_slice(encoder.encode(view).expect("a line")).expect("JSON")
        });
        let samples = flat(&line).into_iter().map(|sample| {
            assert_eq!(sample["value"], json!(*total));
            let labels = sample["labels"].as_object().expect("labels").values().map(|it| format!(" {it}"));
            let name = sample["name"].as_str().expect("a name").to_owned() + &labels.collect::<String>();
            (name.replace('"', ""), sample["delta"].clone())
        });
        samples.collect()
    }
}

fn expected(samples: &[(&str, Value)]) -> Vec<(String, Value)> {
    samples.iter().map(|(name, delta)| ((*name).to_owned(), delta.clone())).collect()
}

#[test]
fn what_was_selected_before_goes_on_under_its_new_name_and_what_was_not_has_no_delta_at_first() {
    let mut scene = Scene::new(Encoder::default());
    let first = Selection {
        exclude: vec!["*errors".to_owned()],
        matching: [("n".to_owned(), "a".to_owned())].into(),
        ..Selection::default()
    };
    for _ in 0..2 {
        assert_eq!(scene.tick(&first), expected(&[("calls", json!(1)), ("thing.calls a", json!(1))]));
    }
    scene.encoder.lost();
    let other = Selection {
        rename: [("calls".to_owned(), "asked".to_owned())].into(),
        tags: [("rack".to_owned(), "7".to_owned())].into(),
        ..Selection::default()
    };
    let mut lines = |selection| {
        let mut line = scene.tick(selection);
        line.sort_by(|a, b| a.0.cmp(&b.0));
        line
    };
    // The line before did not arrive: this one has what that would have said.
    let names = ["asked 7", "errors 7", "thing.calls a 7", "thing.calls b 7", "thing.errors a 7", "thing.errors b 7"];
    let of = |deltas: [Value; 6]| expected(&names.into_iter().zip(deltas).collect::<Vec<_>>());
    let null = || Value::Null;
    assert_eq!(lines(&other), of([json!(2), null(), json!(2), null(), null(), null()]));
    assert_eq!(lines(&other), of([1, 1, 1, 1, 1, 1].map(|delta| json!(delta))));
    // What is not selected for a while begins anew.
    assert_eq!(lines(&first), expected(&[("calls", json!(1)), ("thing.calls a", json!(1))]));
    assert_eq!(lines(&other), of([json!(1), null(), json!(1), null(), null(), null()]));
}

#[test]
fn who_joins_says_totals_at_first_and_no_deltas() {
    let mut scene = Scene::new(Encoder::joining());
    let all = Selection::default();
    assert!(scene.tick(&all).iter().all(|(_, delta)| delta.is_null()));
    let new = scene.bench.host(Column::counter("new", Unit::CALLS, "Calls"));
    scene.cells.push(new);
    scene.total = 0;
    let line = scene.tick(&all);
    assert!(line.iter().any(|(name, delta)| name == "new" && *delta == json!(1)), "it began at 0: {line:?}");
}
