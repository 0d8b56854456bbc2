//! Batches of lines: what is in them, that they come again as they were, and what becomes of a line that is rejected.

use ebpf_process_core::testkit::{Bench, Cell};
use ebpf_process_core::{Column, EntityKind, HostName, Recorder, Selection, Unit};
use ebpf_process_delivery::Frame;
use ebpf_process_sink_exec::{Encoded, FormContext, LineEncoder, head};
use serde_json::{Value, json};

use crate::rig::{FORMATS, Rig, spooling};

/// Reads batches of lines as the protocol says: so many bytes behind each header, which are so many lines.
const READS: &str = r#"
def texts():
    stdin = sys.stdin.buffer
    for line in stdin:
        header = json.loads(line)
        if "batch" in header:
            text = stdin.read(header["bytes"])
            assert text.endswith(b"\n") and text.count(b"\n") == header["lines"], (header, text)
            log.write(json.dumps({**header, "text": text.decode()}) + "\n")
            log.flush()
            yield header
"#;

fn rig(script: &str, more: Value) -> Rig {
    Rig::with(&format!("{READS}{script}"), more)
}

fn texts(rig: &Rig) -> Vec<(u64, bool, String)> {
    let text = |line: &Value| Some(line["text"].as_str()?.to_owned());
    let lines = rig.lines();
    lines.iter().filter_map(|line| Some((line["batch"].as_u64()?, line["resent"].as_bool()?, text(line)?))).collect()
}

#[test]
fn a_rejected_line_is_rejected_to_the_sample_and_the_rest_written() {
    let mut rig = rig(
        r#"
hello(format="plain")
for batch in texts():
    number = batch["batch"]
    if number == 1:
        say(batch=1, rejected=[{"line": 2, "reason": "a line"}])
    elif number == 2:
        # The heading carries nothing.
        say(batch=2, rejected=[{"line": 0}])
    elif number == 3:
        say(batch=3, rejected=True, reason="all")
    elif number == 4:
        # A line twice, one that is not there, and a row, which lines have none of.
        say(batch=4, rejected=[{"line": 3}, {"line": 3}, {"line": 4}, {"row": 1}])
    else:
        ok(batch)
"#,
        json!({}),
    );
    rig.write_all(5);
    rig.until("all is settled", |tally| tally.queued == 0 && tally.offered == 30);
    let tally = rig.ledger.tally();
    assert_eq!((tally.written, &tally.rejected[..]), (4 + 6 + 4 + 6, &[("rejected by the program", 2 + 6 + 2)][..]));
    assert!(tally.balances());
    let first = "# process, joins: false\n0,sh 1,1 in 1\n1,sh 1,1 in 1\n2,sh 1,1 in 1\n";
    assert_eq!(texts(&rig)[0], (1, false, first.to_owned()));
}

#[test]
fn what_comes_again_is_the_same_to_the_byte_also_from_a_spool() {
    let spool = tempfile::tempdir().expect("a folder");
    let rig = rig(
        r#"
hello(format="plain", window=2)
answers = os.path.exists("answers")
for batch in texts():
    if answers or batch["batch"] == 1:
        ok(batch)
    elif batch["batch"] == 2 and not batch["resent"]:
        sys.exit(1)
"#,
        spooling(&spool),
    );
    let rig = rig.stopped_until_it_answers();
    let all = texts(&rig);
    let of = |number: u64| all.iter().filter(move |(found, ..)| *found == number).map(|(_, _, text)| text);
    for number in 1..=5 {
        let text = of(number).next().expect("it was sent");
        assert!(text.ends_with(&format!("in {number}\n")), "{text}");
        assert!(of(number).all(|again| again == text), "{number}: {all:?}");
    }
    assert!(of(2).count() > 1, "{all:?}");
    assert_eq!(rig.streams().len(), 1);
}

#[test]
fn a_program_that_wants_lines_again_is_told_that_counters_have_counted() {
    let mut rig = rig(
        r#"
runs = len(open("runs").readlines()) if os.path.exists("runs") else 0
open("runs", "a").write("one\n")
if runs == 1:
    hello()
    ok(next(batches()))
else:
    hello(format="plain")
    ok(next(texts()))
"#,
        json!({}),
    );
    // A batch that is made for another program is not in its words.
    let settled = |rig: &mut Rig, batches: u64| {
        rig.until("it is settled", |tally| tally.queued == 0 && tally.offered == 6 * batches);
    };
    let mut written = 0;
    for batch in 1.. {
        assert!(batch < 1000, "no third program: {}", rig.log());
        rig.write_all(1);
        settled(&mut rig, batch);
        written = rig.ledger.tally().written;
        if texts(&rig).len() > 1 {
            break;
        }
    }
    let tally = rig.ledger.tally();
    assert_eq!(tally.written + tally.rejected_total(), tally.offered);
    assert!(written >= 18 && tally.rejected.iter().all(|(why, _)| *why == "the program wants another format"));
    let headings: Vec<_> =
        texts(&rig).iter().filter_map(|(_, _, text)| Some(text.lines().next()?.to_owned())).collect();
    assert_eq!(headings, ["# process, joins: false", "# process, joins: true"]);
}

/// The batches of a view of twenty rows with so many bytes at most, without their marks, and what is rejected.
fn batches(limit: usize, name: &str) -> (Vec<String>, Vec<(u64, &'static str)>) {
    let mut bench = Bench::new();
    let kind = EntityKind::new("process").keys(["pid"]);
    let cells: Vec<Cell> = (0..20)
        .map(|row| if row == 7 { name.to_owned() } else { row.to_string() })
        .map(|label| bench.cell(&kind, &[&label], Column::counter("vfs.calls", Unit::CALLS, "calls")))
        .collect();
    let mut encoder =
        LineEncoder::new(FORMATS[0], &FormContext { host: HostName::of(String::new), joins: false }, limit);
    let record = |recorder: &mut Recorder| cells.iter().for_each(|cell| cell.counter(recorder, 7));
    bench.tick(&Selection::default(), record, |view| {
        let Encoded { frames, rejected, unchanged, superseded } = encoder.encode(view);
        let samples = frames.iter().map(Frame::samples).chain(rejected.iter().map(|(samples, _)| *samples));
        assert_eq!(samples.sum::<u64>() + unchanged + superseded, 20, "each sample is somewhere");
        let whole = |frame: &Frame| {
            let body = frame.bytes().windows(7).position(|bytes| bytes == b"\"time\":").expect("a header");
            let text = [&head(u128::MAX, u64::MAX, false)[..], &frame.bytes()[body..]].concat();
            String::from_utf8(text).expect("text")
        };
        (frames.iter().map(whole).collect(), rejected)
    })
}

#[test]
fn a_batch_that_would_be_too_large_is_several_with_their_headings() {
    let (whole, _) = batches(8 << 20, "7");
    let (all, rejected) = batches(260, "7");
    assert_eq!((whole.len(), all.len() > 3, rejected.len()), (1, true, 0));
    let lines = |batch: &str| {
        let (header, text) = batch.split_once('\n').expect("a header");
        let header: Value = serde_json::from_str(header).expect("JSON");
        assert_eq!((&header["bytes"], &header["lines"]), (&json!(text.len()), &json!(text.lines().count())));
        let (heading, rows) = text.split_once('\n').expect("a heading");
        assert_eq!(heading, "# process, joins: false");
        rows.to_owned()
    };
    assert!(all.iter().all(|batch| batch.len() <= 260), "{all:?}");
    assert_eq!(all.iter().map(|batch| lines(batch)).collect::<String>(), lines(&whole[0]));
}

#[test]
fn a_line_that_is_larger_than_a_batch_is_left_out_and_counted() {
    let (all, rejected) = batches(260, &"long".repeat(100));
    assert_eq!(rejected, [(1, "lines larger than a batch")]);
    assert_eq!(all.iter().map(|batch| batch.matches(" 7 in 1\n").count()).sum::<usize>(), 19);
}
