//! Numbers that outlive the process, what is acknowledged out of order, encodings and ages.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::testkit::{context, offer};
use ebpf_process_core::{SinkContext, Tally};
use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Spool, SpoolError, Submit, Ticket, Verdict};
use parking_lot::Mutex;

use crate::rig::{Rig, SECOND, draw, frame, numbers, retry};

/// What a frame was sent as: its stream, its number, whether it was sent before, and its first line.
type Sent = (u128, u64, bool, u64);

/// A receiver that keeps what it is sent until the test answers.
#[derive(Clone, Default)]
struct Keeper {
    sent: Arc<Mutex<Vec<Sent>>>,
    tickets: Arc<Mutex<Vec<(u64, Ticket)>>>,
}

impl Submit for Keeper {
    fn submit(&mut self, ticket: Ticket, frame: &Frame, _: Duration) {
        self.sent.lock().push((ticket.stream(), ticket.number(), ticket.is_resent(), numbers(frame)[0]));
        self.tickets.lock().push((ticket.number(), ticket));
    }

    fn window(&self) -> usize {
        8
    }

    fn overwrites(&self) -> bool {
        true
    }
}

impl Keeper {
    /// Answers for the frame with this number.
    fn answer(&self, number: u64, verdict: Verdict) {
        let mut tickets = self.tickets.lock();
        let at = tickets.iter().position(|(held, _)| *held == number).expect("it was sent");
        tickets.remove(at).1.settle(verdict);
    }

    /// What was sent since this was asked last.
    fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock())
    }
}

fn on(spool: &Path) -> DeliveryOptions {
    DeliveryOptions {
        spool: Some(spool.to_owned()),
        retry_max: Duration::from_nanos(1),
        age_limit: Some(3600 * SECOND),
        ..DeliveryOptions::default()
    }
}

/// A process with a delivery.
struct Run {
    delivery: Delivery<Keeper>,
    context: SinkContext,
    keeper: Keeper,
}

impl Run {
    fn new(spool: &Path) -> Self {
        let (context, keeper) = (context("kept"), Keeper::default());
        let delivery = Delivery::new(keeper.clone(), &on(spool), &context).expect("a delivery");
        Self { delivery, context, keeper }
    }

    fn offer(&mut self, lines: std::ops::Range<u64>) {
        for line in lines {
            offer(&self.context.ledger, 1);
            self.delivery.offer(frame(line..line + 1));
        }
    }

    fn work(&mut self) {
        (0..20).for_each(|_| self.delivery.work());
    }

    fn tally(&self) -> Tally {
        let tally = self.context.ledger.tally();
        assert!(tally.balances(), "{tally:?}");
        tally
    }
}

#[test]
fn a_crash_sends_again_what_is_not_acknowledged_and_nothing_else_under_the_same_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut first = Run::new(folder.path());
    first.offer(0..1);
    first.work();
    // The receiver is away, and everything goes to disk.
    first.keeper.answer(1, retry());
    first.work();
    first.offer(1..12);
    assert_eq!((first.tally().spooled, first.tally().queued), (12, 0));
    let stream = first.keeper.sent()[0].0;
    // It is back: eight are under way.
    first.keeper.answer(1, Verdict::Accepted);
    first.work();
    assert_eq!(first.keeper.sent(), (2..=9).map(|n| (stream, n, false, n - 1)).collect::<Vec<_>>());
    for number in [8, 3, 5] {
        first.keeper.answer(number, Verdict::Accepted);
        first.work();
    }
    assert_eq!((first.tally().written, first.tally().spooled), (4, 8));
    // A killed agent says nothing to anybody.
    drop(first);

    let mut second = Run::new(folder.path());
    assert_eq!(second.tally().spooled, 8);
    second.offer(12..13);
    second.work();
    let sent = |number: u64| (stream, number, number <= 9, number - 1);
    assert_eq!(second.keeper.sent(), [2, 4, 6, 7, 9, 10, 11, 12].map(sent));
    for number in [12, 2, 4, 10, 6, 7, 9, 11] {
        second.keeper.answer(number, Verdict::Accepted);
    }
    second.work();
    assert_eq!(second.keeper.sent(), [sent(13)]);
    second.keeper.answer(13, Verdict::Accepted);
    second.work();
    let tally = second.tally();
    assert_eq!((tally.offered, tally.written, tally.spooled, tally.queued), (9, 9, 0, 0));
    drop(second);

    // Nothing is left on disk but the number of the last one.
    let mut third = Run::new(folder.path());
    third.offer(13..14);
    third.work();
    assert_eq!(third.keeper.sent(), [sent(14)]);
}

#[test]
fn without_a_spool_another_delivery_is_another_stream_and_a_successor_goes_on() {
    let run = || {
        let (context, keeper) = (context("kept"), Keeper::default());
        let delivery = Delivery::new(keeper.clone(), &DeliveryOptions::default(), &context).expect("a delivery");
        Run { delivery, context, keeper }
    };
    let (mut first, mut other) = (run(), run());
    for run in [&mut first, &mut other] {
        run.offer(0..2);
        run.work();
    }
    let stream = first.keeper.sent()[0].0;
    assert_ne!(other.keeper.sent()[0].0, stream);
    // The agent hands over: the first frame is under way, and its answer is not waited for.
    ebpf_process_core::testkit::stop(&first.context.stop, Duration::ZERO);
    let undelivered = first.delivery.bequeath();
    let mut heir = run();
    offer(&heir.context.ledger, undelivered.samples());
    heir.delivery.inherit(undelivered);
    heir.offer(2..3);
    heir.work();
    assert_eq!(heir.keeper.sent(), [(stream, 1, true, 0), (stream, 2, true, 1), (stream, 3, false, 2)]);
}

#[test]
fn a_successor_with_numbers_of_its_own_gives_those_to_what_it_inherits() {
    let without = DeliveryOptions { retry_max: Duration::from_nanos(1), ..DeliveryOptions::default() };
    let run = |options: &DeliveryOptions| {
        let (context, keeper) = (context("kept"), Keeper::default());
        let delivery = Delivery::new(keeper.clone(), options, &context).expect("a delivery");
        Run { delivery, context, keeper }
    };
    // It has a spool, or has sent frames already.
    for (has_spool, before) in [(true, 0), (true, 2), (false, 2)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = run(&without);
        first.offer(0..3);
        first.work();
        let stream = first.keeper.sent()[0].0;
        ebpf_process_core::testkit::stop(&first.context.stop, Duration::ZERO);
        let undelivered = first.delivery.bequeath();
        let options = if has_spool { on(folder.path()) } else { without.clone() };
        let mut heir = run(&options);
        heir.offer(10..10 + before);
        heir.work();
        offer(&heir.context.ledger, undelivered.samples());
        heir.delivery.inherit(undelivered);
        heir.work();
        let sent = heir.keeper.sent();
        let own = sent[0].0;
        assert!(own != stream && own > u128::from(u64::MAX), "{own:x}");
        let lines = (10..10 + before).chain(0..3);
        assert_eq!(sent, (1..).zip(lines).map(|(number, line)| (own, number, false, line)).collect::<Vec<_>>());
        if has_spool {
            drop(heir);
            let mut again = run(&options);
            again.offer(20..21);
            again.work();
            assert_eq!(again.keeper.sent(), [(own, before + 4, false, 20)]);
        }
    }
}

#[test]
fn what_comes_from_the_spool_of_a_predecessor_is_numbered_anew() {
    let [former, own] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let mut first = Run::new(former.path());
    first.offer(0..1);
    first.work();
    first.keeper.answer(1, retry());
    first.work();
    first.offer(1..3);
    assert_eq!(first.tally().spooled, 3);
    ebpf_process_core::testkit::stop(&first.context.stop, Duration::ZERO);
    let undelivered = first.delivery.bequeath();
    assert_eq!(undelivered.samples(), 0);
    let mut heir = Run::new(own.path());
    heir.offer(10..12);
    heir.work();
    heir.delivery.inherit(undelivered);
    heir.work();
    let sent = heir.keeper.sent();
    let stream = sent[0].0;
    let lines = [10, 11, 0, 1, 2];
    assert_eq!(sent, (1..).zip(lines).map(|(number, line)| (stream, number, false, line)).collect::<Vec<_>>());
}

#[test]
fn what_was_sent_before_there_was_a_spool_is_numbered_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("spool");
    std::fs::write(&directory, "").expect("a file in the way");
    let clock = Arc::new(Mutex::new(std::time::Instant::now()));
    let time = Arc::clone(&clock);
    let mut run = Run::new(&directory);
    run.delivery = run.delivery.with_clock(move || *time.lock(), 7);
    run.offer(0..2);
    run.work();
    let sent = run.keeper.sent();
    let stream = sent[0].0;
    assert_eq!(sent, [(stream, 1, false, 0), (stream, 2, false, 1)]);
    std::fs::remove_file(&directory).expect("it was there");
    *clock.lock() += 60 * SECOND;
    for number in [1, 2] {
        run.keeper.answer(number, retry());
    }
    run.work();
    run.offer(2..3);
    run.keeper.answer(1, Verdict::Accepted);
    run.work();
    let sent = run.keeper.sent();
    let own = sent[0].0;
    assert_ne!(own, stream);
    assert_eq!(sent, [(own, 1, false, 0), (own, 2, false, 1), (own, 3, false, 2)]);
}

#[test]
fn what_is_all_under_way_has_nothing_due() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut run = Run::new(folder.path());
    run.offer(0..1);
    run.work();
    run.keeper.answer(1, retry());
    run.work();
    run.offer(1..3);
    assert!(run.tally().spooled == 3, "{:?}", run.tally());
    run.keeper.answer(1, Verdict::Accepted);
    run.work();
    assert_eq!((run.keeper.sent().len(), run.delivery.due()), (4, None), "an answer calls the sink");
}

/// Sends frames of an encoding.
struct Encoded(&'static [&'static str]);

impl Submit for Encoded {
    fn submit(&mut self, ticket: Ticket, _: &Frame, _: Duration) {
        ticket.settle(retry());
    }

    fn encodings(&self) -> &'static [&'static str] {
        self.0
    }
}

#[test]
fn a_spool_with_frames_of_another_encoding_is_left_to_who_can_send_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let build = |encodings| Delivery::new(Encoded(encodings), &on(folder.path()), &context("rows"));
    let spooled = |encodings| {
        let context = context("rows");
        let mut delivery = Delivery::new(Encoded(encodings), &on(folder.path()), &context).expect("a delivery");
        offer(&context.ledger, 3);
        delivery.offer(frame(0..3));
        delivery.close();
    };
    spooled(&["rows/1"]);
    let Err(error) = build(&["lines", ""]) else { panic!("it is foreign") };
    assert!(error.problem().contains("the encoding rows/1") && error.way_out().contains("spool drain"), "{error}");
    assert!(!error.is_passing());
    let refused = Spool::open_by(Arc::new(ebpf_process_core::Direct::default()), folder.path(), 1 << 20, &["x"]);
    assert!(matches!(refused, Err(SpoolError::Foreign(_, name)) if name == "rows/1"));
    // A later version of the same knows it, and goes on in its own.
    spooled(&["rows/2", "rows/1"]);
    assert!(build(&["rows/1"]).is_err() && build(&["rows/2"]).is_err(), "both wait in it");
    // Once nothing waits it is anybody's.
    let (mut spool, _) = Spool::open(folder.path(), 1 << 20).expect("a spool");
    while draw(&mut spool).is_some() {}
    drop(spool);
    assert!(build(&["lines", ""]).is_ok());
}

#[test]
fn what_has_waited_too_long_is_given_up_in_memory_and_on_disk() {
    for on_disk in [false, true] {
        let folder = tempfile::tempdir().expect("a folder");
        let spool = on_disk.then(|| folder.path().to_owned());
        let options = DeliveryOptions { spool, age_limit: Some(60 * SECOND), ..DeliveryOptions::default() };
        let away = Arc::new(Mutex::new(true));
        let is_away = Arc::clone(&away);
        let mut rig = Rig::new(&options, move |_| if *is_away.lock() { retry() } else { Verdict::Accepted });
        for n in 0..10 {
            rig.offer(frame(n * 10..n * 10 + 10));
            rig.delivery.work();
            rig.wait(10 * SECOND);
        }
        *away.lock() = false;
        rig.finish();
        let tally = rig.tally();
        assert_eq!(tally.written + tally.dropped_total(), 100);
        assert!(matches!(&tally.dropped[..], [("older than age_limit", dropped)] if *dropped >= 30), "{tally:?}");
        assert!(tally.written >= 10, "the newest ones arrive: {tally:?}");
    }
}

#[test]
fn a_frame_is_sent_up_to_the_limit_of_its_age() {
    for (late, expected) in [(Duration::ZERO, (10, 0)), (Duration::from_millis(1), (0, 10))] {
        let options = DeliveryOptions { age_limit: Some(60 * SECOND), ..DeliveryOptions::default() };
        let mut first = true;
        let answer = move |_: &Frame| if std::mem::take(&mut first) { retry() } else { Verdict::Accepted };
        let mut rig = Rig::new(&options, answer);
        rig.offer(frame(0..10));
        rig.delivery.work();
        rig.wait(60 * SECOND + late);
        rig.delivery.work();
        assert_eq!((rig.tally().written, rig.tally().dropped_total()), expected);
    }
}

#[test]
fn what_a_run_before_left_has_its_age() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut rig = Rig::new(&on(folder.path()), |_| retry());
    rig.offer(frame(0..10));
    rig.delivery.close();
    drop(rig);
    let options = DeliveryOptions { age_limit: Some(60 * SECOND), ..on(folder.path()) };
    let mut rig = Rig::new(&options, |_| Verdict::Accepted);
    rig.wait(120 * SECOND);
    rig.finish();
    assert_eq!(rig.tally().dropped, [("older than age_limit", 10)]);
}

/// A frame as a version before this one wrote it.
fn old_record(frame: &Frame) -> Vec<u8> {
    let mut content = u32::try_from(frame.len()).expect("few items").to_le_bytes().to_vec();
    for (item, samples) in frame.items() {
        content.extend(u32::try_from(item.len()).expect("a short item").to_le_bytes());
        content.extend(samples.to_le_bytes());
    }
    content.extend(frame.bytes());
    let mut record = u32::try_from(content.len()).expect("a small frame").to_le_bytes().to_vec();
    record.extend(frame.samples().to_le_bytes());
    record.extend(crc32fast::hash(&content).to_le_bytes());
    record.extend(crc32fast::hash(&record).to_le_bytes());
    [record, content].concat()
}

#[test]
fn a_spool_of_an_earlier_version_is_drained_as_what_it_was_and_gone_on_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let records: Vec<_> = (0..4).map(|n| old_record(&frame(n..n + 1))).collect();
    let segment = [&b"ebpfspl1"[..], &records.concat()].concat();
    let path = |number: u64| folder.path().join(format!("{number:020}.segment"));
    std::fs::write(path(5), segment).expect("a write");
    // The first one is acknowledged.
    let mut slot = [1_u64, 5, 8 + records[0].len() as u64].map(u64::to_le_bytes).concat();
    slot.extend(crc32fast::hash(&slot).to_le_bytes());
    slot.resize(32, 0);
    std::fs::write(folder.path().join("cursor"), [vec![0; 32], slot].concat()).expect("a write");

    let mut run = Run::new(folder.path());
    assert_eq!(run.tally().spooled, 3);
    run.offer(4..6);
    run.work();
    run.keeper.answer(1, retry());
    run.work();
    assert_eq!(run.tally().spooled, 5);
    let mut lines = Vec::new();
    for _ in 0..10 {
        run.work();
        // They have no numbers on disk, so there is one at a time.
        assert!(run.keeper.tickets.lock().len() <= if lines.len() < 4 { 1 } else { 2 });
        assert_eq!(run.delivery.due(), None, "an answer calls the sink");
        lines.extend(run.keeper.sent().iter().map(|(.., line)| *line));
        let tickets: Vec<_> = run.keeper.tickets.lock().drain(..).collect();
        for (_, ticket) in tickets {
            ticket.settle(Verdict::Accepted);
        }
    }
    lines.dedup();
    assert_eq!((lines, run.tally().written), (vec![1, 2, 3, 4, 5], 5));
    drop(run);
    let build = || Delivery::new(Encoded(&["rows/1"]), &on(folder.path()), &context("rows"));
    assert!(build().is_ok(), "nothing waits any more");
    std::fs::write(path(99), [&b"ebpfspl1"[..], &records[0]].concat()).expect("a write");
    let Err(error) = build() else { panic!("it is foreign") };
    assert!(error.to_string().contains("names no encoding"), "{error}");
}
