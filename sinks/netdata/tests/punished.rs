//! What netdata punishes: one wrong line ends a plugin for good. Each test is one such line that cannot come about,
//! whatever the names, labels and numbers.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, no_slots};
use ebpf_process_core::{Column, EntityKind, Recorder, Scope, Selection, Unit, identity_of};
use ebpf_process_sink_netdata::Encoder;

/// What netdata 1.37 knows and this sink may write.
const KEYWORDS: [&str; 7] = ["CHART", "CLABEL", "CLABEL_COMMIT", "DIMENSION", "BEGIN", "SET", "END"];

/// The shortest line that netdata cuts.
const LINE_LIMIT: usize = 15_487;

/// Every byte there is, and what somebody would name a process to see what happens.
fn hostile() -> Vec<String> {
    let bytes = (0..=255_u8).map(|byte| String::from_utf8_lossy(&[b'a', byte, b'z']).into_owned());
    let nasty = [
        "it's",
        "\"",
        "'",
        "''",
        "=",
        " = ",
        "a=b",
        "#",
        "# comment",
        "a|b:c,d",
        "\\",
        "end\\",
        "\\'",
        "two\nlines",
        "x\nDISABLE\n",
        "x' 0 1\nSET y = 1",
        "END",
        "\u{fffd}\u{fffd}",
        "\u{85}\u{2028}\u{2029}",
        " ",
        "\t",
        "",
        "CLABEL a b",
        "{}",
        "${HOME}",
        "é",
    ];
    bytes.chain(nasty.map(ToOwned::to_owned)).chain(["'\"= ".repeat(1024)]).collect()
}

/// All lines for a counter, a gauge and a histogram of every name, as rows of the agent's own and as others, in four views and at the end. In the second view
/// there are dimensions that the first has not; the third loses one; the numbers are the most hostile there are.
static LINES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let names = hostile();
    let unit = || Unit::new("calls' \"per\" = second\n");
    let help = "It's \"help\" = \\\n";
    let columns = || {
        let calls = Column::counter("demo.calls", unit(), help).labels([("text", &names[256])]);
        [calls, Column::gauge("demo.level", unit(), help), Column::histogram("demo.time", unit(), help)]
    };
    let mut bench = Bench::new();
    let own = EntityKind::new("own").keys(["name"]).names_as_they_are();
    let kinds = [own, EntityKind::new("row").keys(["name"])].map(|kind| {
        let kind = bench.kind(&kind);
        (kind, columns().map(|column| bench.recorder().column(kind, column).expect("a column")))
    });
    // Each chart has them: the single bytes are enough as labels.
    let tags: BTreeMap<_, _> = names.iter().skip(256).map(|name| (name.clone(), name.clone())).collect();
    let selection = Selection { tags, prefix: "it's a = \n".to_owned(), ..Selection::default() };
    let record = |recorder: &mut Recorder, view: u64| {
        for (index, name) in names.iter().enumerate() {
            if view == 0 && index % 3 == 0 {
                continue;
            }
            for (kind, [calls, level, time]) in kinds {
                let row = recorder.row(kind, identity_of(name), &[name]).expect("a row");
                recorder.counter(row, calls, [0, u64::MAX >> 1, u64::MAX, 1][usize::try_from(view).expect("a view")]);
                let level_now =
                    [0.1, f64::MAX, -9_223_372_036_854_775.808, 1e-300][usize::try_from(view).expect("a view")];
                recorder.gauge(row, level, level_now);
                let mut slots = no_slots();
                slots[if view == 2 { 63 } else { 0 }] = u64::MAX >> 1;
                recorder.histogram(row, time, &slots, u64::MAX >> u32::from(view != 2));
                if view == 1 && index == 7 {
                    recorder.end(row);
                }
            }
        }
    };
    let mut encoder = Encoder::new(Duration::from_secs(1), Scope::Host);
    let mut output = Vec::new();
    for view in 0..4 {
        bench.tick(
            &selection,
            |recorder| record(recorder, view),
            |view| output.extend_from_slice(encoder.encode(view)),
        );
    }
    output.extend_from_slice(encoder.retire_all());
    let text = String::from_utf8(output).expect("text");
    assert!(text.ends_with('\n'));
    text.lines().map(ToOwned::to_owned).collect()
});

/// The words of a line as netdata splits it: at blanks and `=`, and what follows a quote at the next of its kind.
fn words(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches([' ', '=']);
    while let Some(first) = rest.chars().next() {
        let quoted = matches!(first, '\'' | '"');
        let from = usize::from(quoted);
        let end = rest[from..].find(|c| if quoted { c == first } else { c == ' ' || c == '=' });
        let end = end.map_or(rest.len(), |end| from + end);
        words.push(&rest[from..end]);
        rest = rest.get(end + from..).unwrap_or_default().trim_start_matches([' ', '=']);
    }
    words
}

fn of(keyword: &str) -> Vec<Vec<String>> {
    let words = LINES.iter().map(|line| words(line).into_iter().map(ToOwned::to_owned).collect::<Vec<_>>());
    let found: Vec<_> = words.filter(|words| words[0] == keyword).collect();
    assert!(!found.is_empty(), "there is none of {keyword}");
    found
}

#[test]
fn no_quote_and_no_equals_sign_ends_a_word_early() {
    for (keyword, counts) in [("CHART", &[13][..]), ("CLABEL", &[4]), ("DIMENSION", &[6, 7]), ("SET", &[3])] {
        for words in of(keyword) {
            assert!(counts.contains(&words.len()), "{words:?}");
        }
    }
    for line in LINES.iter() {
        // A title with an apostrophe stands in quotes of the other kind, whole.
        let outside: Vec<&str> = line.split('"').step_by(2).collect();
        assert!(outside.len() <= 2 && line.matches('"').count() % 2 == 0, "{line}");
        assert!(outside.len() == 1 || line.starts_with("CHART "), "{line}");
        assert_eq!(outside.concat().matches('\'').count() % 2, 0, "{line}");
        assert_eq!(line.matches('\\').count(), 0, "{line}");
        assert_eq!(line.matches('=').count(), usize::from(line.starts_with("SET ")), "{line}");
    }
}

#[test]
fn no_name_makes_a_line_of_its_own() {
    for line in LINES.iter() {
        let first = line.split(' ').next().expect("a word");
        assert!(KEYWORDS.contains(&first), "{line}");
        assert!(!line.chars().any(|c| c.is_control() || "\u{2028}\u{2029}".contains(c)), "{line}");
    }
}

#[test]
fn no_line_is_a_comment() {
    assert!(LINES.iter().all(|line| line.starts_with(|first: char| first.is_ascii_uppercase())));
}

#[test]
fn no_line_is_longer_than_netdata_reads() {
    let longest = LINES.iter().map(String::len).max().expect("a line");
    assert!((200..LINE_LIMIT).contains(&longest), "{longest}");
}

#[test]
fn a_label_has_its_value_and_its_source_and_labels_are_committed() {
    let mut uncommitted = 0;
    for line in LINES.iter() {
        match &words(line)[..] {
            ["CLABEL", key, value, "2"] => {
                assert!(!key.is_empty() && !value.is_empty(), "{line}");
                uncommitted += 1;
            }
            ["CLABEL_COMMIT"] => assert_ne!(std::mem::take(&mut uncommitted), 0, "a commit of nothing"),
            _ => assert_eq!(uncommitted, 0, "labels without their commit before {line}"),
        }
    }
    assert!(of("CLABEL").len() > 1000);
}

#[test]
fn every_value_is_a_whole_number_of_63_bits_and_a_sign() {
    let values = of("SET").into_iter().map(|words| words[2].parse::<i64>().expect("a whole number"));
    let values: BTreeSet<_> = values.collect();
    assert!(values.contains(&i64::MAX) && values.contains(&i64::MIN), "the largest and the smallest were set");
    for words in of("BEGIN") {
        assert!(words.get(2).is_none_or(|elapsed| elapsed.parse::<u64>().is_ok()), "{words:?}");
    }
}

#[test]
fn nothing_is_set_in_an_unknown_dimension_or_chart() {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let (mut scope, mut block) = (String::new(), None);
    for line in LINES.iter() {
        match &words(line)[..] {
            ["CHART", id, .., _, _] => scope = (*id).to_owned(),
            ["DIMENSION", id, .., "obsolete"] => {
                assert!(known.entry(scope.clone()).or_default().remove(*id), "{line}");
            }
            ["DIMENSION", id, ..] => {
                known.entry(scope.clone()).or_default().insert((*id).to_owned());
            }
            ["BEGIN", id, ..] => {
                assert!(known.contains_key(*id) && block.is_none(), "{line}");
                block = Some((*id).to_owned());
            }
            ["SET", id, _] => assert!(known[block.as_ref().expect("a block")].contains(*id), "{line}"),
            ["END"] => assert!(block.take().is_some(), "an END without its BEGIN"),
            _ => {}
        }
    }
}

#[test]
fn a_dimension_comes_with_its_charts_line_also_when_it_comes_late() {
    let (mut begun, mut late) = (BTreeSet::new(), 0);
    let mut scope: Option<String> = None;
    for line in LINES.iter() {
        match &words(line)[..] {
            ["CHART", id, ..] => scope = Some((*id).to_owned()),
            ["CLABEL", ..] | ["CLABEL_COMMIT"] => {}
            ["DIMENSION", ..] => late += u32::from(begun.contains(scope.as_ref().expect("its CHART"))),
            words => {
                scope = None;
                if let ["BEGIN", id, ..] = words {
                    begun.insert((*id).to_owned());
                }
            }
        }
    }
    assert!(late > 100, "most dimensions of the second view are late: {late}");
}

#[test]
fn each_name_has_one_dimension_of_its_own() {
    let mut charts: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut inside = "";
    for line in LINES.iter() {
        match words(line)[..] {
            ["BEGIN", id, ..] => inside = id,
            ["SET", id, _] => drop(charts.entry(inside).or_default().insert(id)),
            _ => {}
        }
    }
    let names: BTreeSet<_> = hostile().into_iter().collect();
    let of_kind = |kind: &'static str| charts.iter().filter(move |(id, _)| id.contains(kind));
    let dimensions = |kind| of_kind(kind).map(|(_, dimensions)| dimensions.len()).sum::<usize>();
    // Of the agent's own, in a chart of all, and of rows, in charts of 64.
    assert_eq!((dimensions("demo_calls"), dimensions("demo_level")), (2 * names.len(), 2 * names.len()));
    assert_eq!(dimensions("row_demo_time"), 2 * names.len(), "how many values, and their sum");
    let of_histograms = of_kind("demo_time").filter(|(id, _)| !id.contains("row_"));
    assert_eq!(of_histograms.count(), names.len(), "a chart for each histogram of the agent's own");
}
