//! A sink type and a probe type from a function each, as a stranger writes them.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, context};
use ebpf_process_core::{
    Access, BuildErrorKind, Claims, Column, ColumnId, Declared, EntityKind, OptionDoc, Options, Probe, ProbeContext,
    ProbeResult, ProbeType, Recorder, Registry, RowId, Selection, Severity, Sink, SinkContext, SinkPlugin, SinkResult,
    SinkType, TrialContext, Unit, View,
};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;

/// Where a test finds what a sink wrote.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Sink for Page {
    fn write(&mut self, view: &View<'_>) -> SinkResult {
        let mut page = self.0.lock();
        for s in view.samples() {
            writeln!(page, "{} {} {}", s.name(), s.labels(), s.value())?;
        }
        Ok(())
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PathOptions {
    /// Where it goes.
    path: PathBuf,
}

fn at(path: &str) -> Options {
    Options::from_value(BTreeMap::from([("path", path)]))
}

#[test]
fn a_sink_type_is_its_options_and_a_function() {
    let (page, name) = (Page::default(), String::from("page"));
    let made = page.clone();
    let registry = Registry::default().sink(
        SinkType::new(name, "text in memory", move |options: PathOptions, context: SinkContext| {
            assert_eq!((options.path.to_str(), &*context.name), (Some("/x"), "mine"));
            Ok(made.clone())
        })
        .opens(|options: &PathOptions| [Access::Write(options.path.clone())])
        .documented(),
    );
    let plugin = Arc::clone(registry.find_sink("page").expect("it is there"));
    drop(registry);
    assert_eq!((plugin.name(), plugin.summary()), ("page", "text in memory"));
    assert_eq!(plugin.check(&at("/x")).expect("right options"), Claims::default());
    assert_eq!(plugin.opens(&at("/x")), [Access::Write("/x".into())]);
    assert_eq!(plugin.opens(&Options::none()), [], "of wrong options nothing");
    assert_eq!(plugin.options(), OptionDoc::of::<PathOptions>());
    let tried = |path| plugin.try_out(&at(path), &TrialContext::new("mine", "here", Duration::ZERO));
    assert_eq!(tried("/x"), [], "the file is made, and its directory is there");
    let [missing] = &tried("/no such directory/x")[..] else { panic!("its directory is not there") };
    assert_eq!(missing.severity, Severity::Warning);
    assert!(missing.what.starts_with("cannot find /no such directory: "), "{missing:?}");
    let mut sink = plugin.build(&at("/x"), context("mine")).expect("a sink");
    let mut bench = Bench::new();
    let calls = bench.host(Column::counter("demo.calls", Unit::CALLS, "Calls").labels([("operation", "read")]));
    bench
        .tick(&Selection::default(), |recorder| calls.counter(recorder, 7), |view| sink.write(view))
        .expect("it is written");
    assert_eq!(String::from_utf8_lossy(&page.0.lock()), "demo.calls operation=read 7\n");
}

#[test]
fn wrong_options_are_refused_before_anything_is_built() {
    let plugin = SinkType::new("page", "never built", |_: PathOptions, _| -> Result<Page, _> { panic!("not reached") });
    let typo = Options::from_value(BTreeMap::from([("pth", "/x")]));
    assert_eq!(plugin.check(&typo).expect_err("a typo").key, "options.pth");
    let error = plugin.build(&typo, context("mine")).err().expect("a typo");
    assert_eq!(error.kind(), BuildErrorKind::Options);
    assert_eq!(plugin.options(), [], "it says nothing of its options");
}

/// Counts to what its options say.
struct Fixed {
    total: u64,
    cell: (RowId, ColumnId),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FixedOptions {
    total: u64,
}

fn fixed_column() -> Declared {
    let column = Column::counter("lamp.switched", Unit::EVENTS, "Times that a lamp was switched");
    Declared::new(EntityKind::new("lamp").keys(["lamp"]), column)
}

impl Fixed {
    fn build(
        FixedOptions { total }: FixedOptions,
        context: &mut ProbeContext<'_>,
    ) -> Result<Self, ebpf_process_core::BuildError> {
        let Declared { kind, column, .. } = fixed_column();
        let kind = context.kind(kind)?;
        let column = context.column(kind, column)?;
        Ok(Self { total, cell: (context.row(kind, 0, &["desk"])?, column) })
    }
}

impl Probe for Fixed {
    fn collect(&mut self, recorder: &mut Recorder) -> ProbeResult {
        recorder.counter(self.cell.0, self.cell.1, self.total);
        Ok(())
    }
}

#[test]
fn a_probe_type_is_its_options_its_columns_and_a_function() {
    let registry = Registry::default().probe(
        ProbeType::new(String::from("lamp"), "lamps", Fixed::build).columns(|_| [fixed_column()]).off_by_default(),
    );
    let plugin = Arc::clone(registry.find_probe("lamp").expect("it is there"));
    assert_eq!((plugin.name(), plugin.summary(), plugin.is_default()), ("lamp", "lamps", false));
    let options = Options::from_value(BTreeMap::from([("total", 7)]));
    assert_eq!(plugin.catalog(&options).expect("right options"), [fixed_column()]);
    assert_eq!(plugin.catalog(&Options::none()).expect_err("no total").key, "options.total");
    let mut bench = Bench::new();
    let context = ProbeContext::new("lamp", bench.recorder(), Duration::from_secs(1));
    let mut probe = plugin.build(&options, context).expect("a probe");
    let mut shown = Vec::new();
    bench.tick(
        &Selection::default(),
        |recorder| probe.collect(recorder).expect("collected"),
        |view| shown.extend(view.samples().map(|s| format!("{} {} {}", s.name(), s.labels(), s.value()))),
    );
    assert_eq!(shown, ["lamp.lamp.switched lamp=desk 7"]);
}
