//! Whatever is measured under whatever names, the lines are ones that netdata takes.
//!
//! The parser here is stricter than netdata: what netdata punishes (it disables a plugin for one
//! wrong line) and what it silently misreads are both errors.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Descriptor, Recorder, Scope, Selection, SeriesId, Unit, Value, View};
use ebpf_process_sink_netdata::Encoder;
use proptest::prelude::*;

/// What netdata knows after some lines.
#[derive(Default)]
struct Netdata {
    /// Live dimensions by chart.
    charts: BTreeMap<String, BTreeSet<String>>,
    /// The CHART line of each.
    definitions: BTreeMap<String, String>,
    /// The chart that CLABEL and DIMENSION belong to.
    scope: Option<String>,
    uncommitted: bool,
    open: Option<String>,
    begun: BTreeSet<String>,
    /// Values of the last lines.
    sets: usize,
}

/// Splits a line as netdata does, but refuses what it would misread.
fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start_matches(' ');
        let Some(first) = rest.chars().next() else { return Ok(words) };
        let end = match first {
            '\'' | '"' => {
                let end = rest[1..].find(first).ok_or("an open quote")? + 2;
                words.push(rest[1..end - 1].to_owned());
                end
            }
            _ => {
                let end = rest.find(' ').unwrap_or(rest.len());
                words.push(rest[..end].to_owned());
                end
            }
        };
        rest = &rest[end..];
        if !rest.is_empty() && !rest.starts_with(' ') {
            return Err("a quote inside a word".to_owned());
        }
    }
}

impl Netdata {
    fn read(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.sets = 0;
        let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
        if !text.is_empty() && !text.ends_with('\n') {
            return Err("half a line".to_owned());
        }
        for line in text.split_terminator('\n') {
            self.line(line).map_err(|problem| format!("{problem}: {line}"))?;
        }
        if self.open.is_some() || self.uncommitted {
            return Err("a view ends inside a block".to_owned());
        }
        Ok(())
    }

    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.len() >= 15_000 || line.chars().any(|c| c.is_control() || c == '\\') {
            return Err("a line that cannot be read".to_owned());
        }
        let words = words(line)?;
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        if words.len() > 30 {
            return Err("too many words".to_owned());
        }
        if self.uncommitted && !["CLABEL", "CLABEL_COMMIT"].contains(&words[0]) {
            return Err("labels without their commit".to_owned());
        }
        match words[..] {
            ["CHART", id, "", title, units, family, context, style, priority, every, options, plugin, module] => {
                let full = [title, units, family, context, plugin, module].iter().all(|word| !word.is_empty());
                let kinds = ["line", "heatmap"].contains(&style) && ["", "obsolete"].contains(&options);
                let numbers = priority.parse::<u32>().is_ok() && every.parse::<u64>().is_ok_and(|every| every > 0);
                if !(full && kinds && numbers && plain(id) && id.starts_with("ebpf.") && id.len() < 200) {
                    return Err("a bad chart".to_owned());
                }
                if self.open.is_some() {
                    return Err("a chart inside a block".to_owned());
                }
                if options == "obsolete" {
                    self.charts.remove(id).ok_or("an end without a beginning")?;
                    self.begun.remove(id);
                    self.scope = None;
                    self.definitions.remove(id);
                } else {
                    if self.definitions.entry(id.to_owned()).or_insert_with(|| line.to_owned()) != line {
                        return Err("two charts under one id".to_owned());
                    }
                    self.charts.entry(id.to_owned()).or_default();
                    self.scope = Some(id.to_owned());
                }
            }
            ["CLABEL", key, _, "2"] if !key.is_empty() => {
                self.scope.as_ref().ok_or("a label without a chart")?;
                self.uncommitted = true;
            }
            ["CLABEL_COMMIT"] => {
                if !std::mem::take(&mut self.uncommitted) {
                    return Err("a commit without labels".to_owned());
                }
            }
            ["DIMENSION", id, name, algorithm, "1", divisor, ref options @ ..] => {
                let chart = self.scope.as_ref().ok_or("a dimension without a chart")?;
                let known = matches!(
                    (algorithm, divisor, options),
                    ("incremental", "1", [] | ["obsolete"]) | ("absolute", "1" | "1000", [] | ["obsolete"])
                );
                if !known || name.is_empty() || !plain(id) || id.len() >= 200 {
                    return Err("a bad dimension".to_owned());
                }
                let dimensions = self.charts.get_mut(chart).ok_or("a dimension of an unknown chart")?;
                if *options == ["obsolete"] {
                    dimensions.remove(id).then_some(()).ok_or("an unknown dimension ends")?;
                } else {
                    dimensions.insert(id.to_owned());
                }
            }
            ["BEGIN", id, ref microseconds @ ..] => {
                if !self.charts.contains_key(id) || self.open.is_some() {
                    return Err("a block of an unknown chart or inside another".to_owned());
                }
                let again = !self.begun.insert(id.to_owned());
                let right = match microseconds {
                    [] => !again,
                    [elapsed] => {
                        again && elapsed.parse::<u64>().is_ok_and(|elapsed| elapsed % 1_000_000 == 0 && elapsed > 0)
                    }
                    _ => false,
                };
                if !right {
                    return Err("wrong microseconds".to_owned());
                }
                self.scope = None;
                self.open = Some(id.to_owned());
            }
            ["SET", id, "=", value] => {
                let chart = self.open.as_ref().ok_or("a value outside a block")?;
                if !self.charts[chart].contains(id) {
                    return Err("a value of an unknown dimension".to_owned());
                }
                value.parse::<i64>().map_err(|error| error.to_string())?;
                self.sets += 1;
            }
            ["END"] => {
                self.open.take().ok_or("an end without a block")?;
            }
            _ => return Err("an unknown command".to_owned()),
        }
        Ok(())
    }
}

fn plain(id: &str) -> bool {
    id.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric's name, kind and number of labels.
type Metric = (String, Kind, usize);

#[derive(Clone, Copy, Debug)]
enum Act {
    /// It has a value, and is made anew if it is gone.
    Live,
    /// It has no value this time.
    Silent,
    /// It has its last value.
    End,
}

#[derive(Debug)]
struct Story {
    metrics: Vec<Metric>,
    series: Vec<(usize, [String; 3])>,
    /// Per view: whether the sink sees it, and what each series does.
    views: Vec<(bool, Vec<Act>)>,
    selection: Selection,
    /// Whether the agent stops at the end, or every series does.
    stopped: bool,
}

fn name() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "file.calls",
        "vfs.calls",
        "vfs.errors",
        "vfs.bytes",
        "task.started",
        "task.exits",
        "task.releases",
        "hook.info",
        "io",
        "process.status",
    ]);
    prop_oneof![3 => known.prop_map(str::to_owned), 1 => "[a-c._]{0,4}", 1 => any::<String>()]
}

fn text() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec!["read", "write", "open", "process", "thread", "", "a b", "a_b", "a/b"]);
    let hostile = "[ a='\"\\\\\n\r\t\0#{}é\u{2028}]{0,8}";
    prop_oneof![3 => known.prop_map(str::to_owned), 2 => hostile, 1 => any::<String>(), 1 => ".{300}"]
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![4 => Just(Kind::Counter), 2 => Just(Kind::Gauge), 1 => Just(Kind::Histogram)]
}

fn story() -> impl Strategy<Value = Story> {
    let labels = prop_oneof![2 => Just(0_usize), 4 => Just(1_usize), 1 => Just(3_usize)];
    let metrics = prop::collection::vec((name(), kind(), labels), 1..6);
    let series = prop::collection::vec((any::<prop::sample::Index>(), [text(), text(), text()]), 1..10);
    let act = prop_oneof![6 => Just(Act::Live), 2 => Just(Act::Silent), 1 => Just(Act::End)];
    let views = prop::collection::vec((prop::bool::weighted(0.8), prop::collection::vec(act, 10)), 1..12);
    let tags = prop::collection::btree_map(text(), text(), 0..3);
    let rename = prop::collection::btree_map(name(), name(), 0..3);
    let prefix = prop_oneof![4 => Just(String::new()), 1 => text()];
    (metrics, series, views, (tags, rename, prefix), any::<bool>()).prop_map(
        |(metrics, series, views, (tags, rename, prefix), stopped)| {
            let count = metrics.len();
            let series = series.into_iter().map(|(metric, labels)| (metric.index(count), labels)).collect();
            Story {
                metrics,
                series,
                views,
                selection: Selection { tags, rename, prefix, ..Selection::default() },
                stopped,
            }
        },
    )
}

/// One descriptor per metric; of two with one name the first counts.
fn descriptors(metrics: &[Metric]) -> Vec<(Arc<Descriptor>, Kind, usize)> {
    let mut known: Vec<(Arc<Descriptor>, Kind, usize)> = Vec::new();
    for (name, kind, labels) in metrics {
        let make = match kind {
            Kind::Counter => Descriptor::counter(name.clone(), Unit::CALLS, "It's \"help\" = \\"),
            Kind::Gauge if name.rsplit('.').next() == Some("info") => {
                Descriptor::gauge(name.clone(), Unit::ONE, "Information")
            }
            Kind::Gauge => Descriptor::gauge(name.clone(), Unit::SECONDS, name.clone()),
            Kind::Histogram => Descriptor::histogram(name.clone(), Unit::new(name.clone()), ""),
        };
        let keys = if name.starts_with("task") { ["kind", "b", "c"] } else { ["operation", "b", "c"] };
        let descriptor = make.labels(keys.into_iter().take(*labels)).share();
        let first = known.iter().find(|(known, ..)| known.name() == descriptor.name()).cloned();
        known.push(first.unwrap_or((descriptor, *kind, *labels)));
    }
    known
}

fn record(recorder: &mut Recorder, id: SeriesId, kind: Kind, value: u64) {
    match kind {
        Kind::Counter => recorder.counter(id, if value % 7 == 6 { u64::MAX } else { value }),
        Kind::Gauge => recorder.gauge(id, if value % 7 == 6 { -1e300 } else { -0.5 }),
        Kind::Histogram => {
            let mut slots = no_slots();
            slots[usize::try_from(value * 7 % 64).expect("a slot")] = value;
            recorder.histogram(id, &slots, value);
        }
    }
}

/// How many numbers the view has for netdata, those of the chart of tasks aside.
fn numbers(view: &View<'_>) -> usize {
    let samples = view.metrics().filter(|metric| {
        !(metric.kind() == ebpf_process_core::Kind::Gauge
            && metric.descriptor().name().rsplit('.').next() == Some("info"))
    });
    samples.flat_map(|metric| metric.samples()).filter(|sample| !matches!(sample.value(), Value::Histogram(_))).count()
}

fn tell(story: &Story) -> Result<(), TestCaseError> {
    let descriptors = descriptors(&story.metrics);
    let has_histogram = descriptors.iter().any(|(_, kind, _)| matches!(kind, Kind::Histogram));
    let mut bench = Bench::new();
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut netdata = Netdata::default();
    let play = |recorder: &mut Recorder, acts: &[Act], value: u64| {
        for ((metric, labels), act) in story.series.iter().zip(acts) {
            let (descriptor, kind, count) = &descriptors[*metric];
            let labels: Vec<_> = labels.iter().take(*count).map(String::as_str).collect();
            if let Act::Silent = act {
                continue;
            }
            let id = recorder.series(descriptor, &labels).expect("a series");
            record(recorder, id, *kind, value);
            if let Act::End = act {
                recorder.end(id);
            }
        }
    };
    for (index, (seen, acts)) in story.views.iter().enumerate() {
        let record = |recorder: &mut Recorder| play(recorder, acts, index as u64);
        let outcome = bench.tick(&story.selection, record, |view| {
            if !seen {
                return Ok((0, 0));
            }
            netdata.read(encoder.encode(view)).map(|()| (netdata.sets, numbers(view)))
        });
        let (sets, numbers) = outcome.map_err(TestCaseError::fail)?;
        prop_assert!(sets >= numbers, "a number is missing: {sets} of {numbers}");
        prop_assert!(has_histogram || sets <= numbers + 2, "a number too many: {sets} of {numbers}");
    }
    if story.stopped {
        netdata.read(encoder.retire_all()).map_err(TestCaseError::fail)?;
    } else {
        // Without a stop charts go when their series are gone: after the views that repeat them.
        let acts = vec![Act::End; story.series.len()];
        for view in 0..5 {
            let acts = if view == 0 { &acts[..] } else { &[] };
            bench
                .tick(
                    &story.selection,
                    |recorder| play(recorder, acts, view),
                    |view| netdata.read(encoder.encode(view)),
                )
                .map_err(TestCaseError::fail)?;
        }
    }
    prop_assert!(netdata.charts.is_empty(), "charts are left: {:?}", netdata.charts);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn netdata_takes_every_line(story in story()) {
        tell(&story)?;
    }
}

#[test]
fn the_parser_refuses_what_netdata_would_punish_or_misread() {
    let chart = "CHART ebpf.a '' 'title' 'calls/s' 'A' ebpf.a line 1000 1 '' ebpf_process.plugin a\n";
    let dimension = "DIMENSION x 'x' incremental 1 1\n";
    let cases = [
        "# a comment\n",
        "BEGIN ebpf.a\n",
        "DIMENSION x 'x' incremental 1 1\n",
        "CHART ebpf.a '' 'it's' 'calls/s' 'A' ebpf.a line 1000 1 '' ebpf_process.plugin a\n",
        "CHART ebpf.a '' '' 'calls/s' 'A' ebpf.a line 1000 1 '' ebpf_process.plugin a\n",
        &format!("{chart}CLABEL 'a' 'b'\nCLABEL_COMMIT\n{dimension}"),
        &format!("{chart}CLABEL 'a' 'b' 2\n{dimension}"),
        &format!("{chart}CLABEL_COMMIT\n{dimension}"),
        &format!("{chart}{dimension}BEGIN ebpf.a\nSET y = 1\nEND\n"),
        &format!("{chart}{dimension}BEGIN ebpf.a 1000000\nEND\n"),
        &format!("{chart}{dimension}BEGIN ebpf.a\nEND\n{dimension}"),
        &format!("{chart}{dimension}BEGIN ebpf.a\nSET x = 1\n"),
    ];
    for lines in cases {
        assert!(Netdata::default().read(lines.as_bytes()).is_err(), "{lines}");
    }
    let right = format!("{chart}{dimension}BEGIN ebpf.a\nSET x = 1\nEND\nBEGIN ebpf.a 1000000\nSET x = 2\nEND\n");
    Netdata::default().read(right.as_bytes()).expect("right lines");
}
