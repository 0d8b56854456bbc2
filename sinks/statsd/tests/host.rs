//! How the host's name gets into names and tags, and what a new one changes.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::BTreeMap;

use ebpf_process_core::testkit::{Bench, Cell, no_slots};
use ebpf_process_core::{Column, Recorder, Selection, Unit};
use ebpf_process_sink_statsd::{Encoder, Fate, Syntax};

/// A counter, a gauge and a histogram.
struct Scene {
    bench: Bench,
    selection: Selection,
    encoder: Encoder,
    cells: [Cell; 3],
}

impl Scene {
    fn new(prefix: &str, encoder: Encoder) -> Self {
        let mut bench = Bench::new();
        let calls = Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", "read")]);
        let level = Column::gauge("level", Unit::ONE, "A level");
        let sizes = Column::histogram("sizes", Unit::BYTES, "Sizes");
        let all = [calls, level, sizes].map(|column| bench.host(column));
        let selection = Selection { prefix: prefix.to_owned(), ..Selection::default() };
        Self { bench, selection, encoder, cells: all }
    }

    /// The lines of a batch in which all totals are this.
    fn lines(&mut self, total: u32, fate: Fate) -> String {
        let Self { bench, selection, encoder, cells: [calls, level, sizes] } = self;
        let record = |recorder: &mut Recorder| {
            calls.counter(recorder, total.into());
            level.gauge(recorder, total.into());
            let mut slots = no_slots();
            slots[0] = total.into();
            sizes.histogram(recorder, &slots, total.into());
        };
        bench.tick(selection, record, |view| {
            let mut text = String::new();
            encoder.encode(view, &mut |packet| {
                text.push_str(std::str::from_utf8(packet).expect("text"));
                fate
            });
            text
        })
    }
}

#[test]
fn a_prefix_and_a_namespace_may_have_the_hosts_name() {
    let encoder = |namespace: &str| Encoder::new(Syntax::Plain, namespace, 1432).with_host("web1.example", false);
    let mut scene = Scene::new("{host}.", encoder("ns"));
    assert_eq!(
        scene.lines(1, Fate::Sent),
        "ns.web1_example.vfs.read.calls:1|c\nns.web1_example.level:1|g\nns.web1_example.sizes.le_1:1|c"
    );
    let mut scene = Scene::new("", encoder("ns.on-{host}"));
    assert!(scene.lines(1, Fate::Sent).starts_with("ns.on-web1_example.vfs.read.calls:1|c\n"));
}

#[test]
fn the_host_is_a_tag_where_there_are_tags_and_a_tag_of_the_same_key_counts() {
    for (syntax, expected) in [
        (Syntax::Dogstatsd, "ns.vfs.calls:1|c|#operation:read,host:web1.example\n"),
        (Syntax::Telegraf, "ns.vfs.calls,operation=read,host=web1.example:1|c\n"),
        (Syntax::Graphite, "ns.vfs.calls;operation=read;host=web1.example:1|c\n"),
    ] {
        let encoder = || Encoder::new(syntax, "ns", 1432).with_host("web1.example", true);
        let text = Scene::new("", encoder()).lines(1, Fate::Sent);
        assert!(text.starts_with(expected), "{text}");
        let mut scene = Scene::new("", encoder());
        scene.selection.tags = BTreeMap::from([("host".to_owned(), "mine".to_owned())]);
        assert!(!scene.lines(1, Fate::Sent).contains("web1"), "{syntax:?}");
    }
}

#[test]
fn a_host_that_is_renamed_has_other_lines_and_loses_and_repeats_no_event() {
    let mut scene = Scene::new("{host}.", Encoder::new(Syntax::Plain, "", 1432).with_host("old", false));
    assert_eq!(scene.lines(5, Fate::Sent), "old.vfs.read.calls:5|c\nold.level:5|g\nold.sizes.le_1:5|c");
    scene.encoder.set_host("old");
    // Nobody hears of this one.
    assert_eq!(scene.lines(7, Fate::Lost), "old.vfs.read.calls:2|c\nold.level:7|g\nold.sizes.le_1:2|c");
    scene.encoder.set_host("new");
    assert_eq!(scene.lines(8, Fate::Sent), "new.vfs.read.calls:3|c\nnew.level:8|g\nnew.sizes.le_1:3|c");
    scene.encoder.set_host("old");
    assert_eq!(scene.lines(9, Fate::Sent), "old.vfs.read.calls:1|c\nold.level:9|g\nold.sizes.le_1:1|c");
}
