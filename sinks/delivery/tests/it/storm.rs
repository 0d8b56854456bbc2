//! A receiver that answers late, in any order and from any thread, or never; stops, crashes, and disks that are cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::{context, offer, stop};
use ebpf_process_core::{SinkContext, Tally};
use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Submit, Ticket, Verdict};
use parking_lot::Mutex;
use proptest::prelude::*;

use crate::rig::{frame, numbers};

const PLACES: usize = 8;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Frames of one line each.
    Offer(u64),
    Work,
    /// So many seconds pass.
    Wait(u64),
    /// The receiver answers for one of the frames that it has.
    Answer(usize, Reply),
    /// It answers for all of them at once, each on a thread of its own, while the delivery works.
    AnswerAll,
    /// Somebody answers who was asked by a process that is gone.
    Late,
    /// The process is asked to stop, and has no time.
    Stop,
    /// It is killed.
    Kill,
    /// It is killed, and its disk has only this part of the newest segment, in 256ths.
    Cut(u8),
}

#[derive(Clone, Copy, Debug)]
enum Reply {
    Accepted,
    Rejected,
    Retry,
    /// In so many seconds.
    RetryAfter(u64),
    /// The ticket is dropped.
    Nothing,
}

/// What the receiver has seen, over all processes.
#[derive(Default)]
struct Seen {
    held: Vec<(u64, Ticket)>,
    /// By stream and number.
    lines: BTreeMap<(u128, u64), u64>,
    /// Those of the process that runs.
    sent: BTreeSet<u64>,
    /// What has to be sent again.
    refused: BTreeSet<u64>,
    /// What is settled, as the delivery knows.
    settled: BTreeSet<u64>,
}

struct Receiver {
    seen: Arc<Mutex<Seen>>,
    ordered: bool,
}

impl Submit for Receiver {
    fn submit(&mut self, ticket: Ticket, frame: &Frame, _: Duration) {
        let mut seen = self.seen.lock();
        let line = numbers(frame)[0];
        assert!(!seen.settled.contains(&line), "{line} is settled");
        let known = seen.lines.insert((ticket.stream(), ticket.number()), line);
        assert!(known.is_none_or(|known| known == line), "{line} has the number of {known:?}");
        assert!(known.is_none() || ticket.is_resent(), "{line} was sent before");
        let is_first = seen.sent.insert(line);
        assert!(!is_first || seen.sent.last() == Some(&line), "{line} comes after a later one");
        seen.refused.remove(&line);
        if self.ordered {
            assert!(seen.refused.first().is_none_or(|held| *held > line), "{line} is before {:?}", seen.refused);
        }
        seen.held.push((line, ticket));
        assert!(seen.held.len() <= PLACES);
    }

    fn window(&self) -> usize {
        PLACES
    }

    fn is_ordered(&self) -> bool {
        self.ordered
    }

    fn overwrites(&self) -> bool {
        true
    }
}

struct Storm<'a> {
    spool: Option<&'a Path>,
    ordered: bool,
    seen: Arc<Mutex<Seen>>,
    clock: Arc<Mutex<Instant>>,
    delivery: Delivery<Receiver>,
    context: SinkContext,
    /// Answers that the delivery does not know yet.
    said: Vec<u64>,
    late: Vec<Ticket>,
    /// Samples that were offered, and of those whose fate is known.
    offered: u64,
    counted: u64,
    /// Samples that were in memory alone when their process ended, or were cut off.
    lost: u64,
}

impl<'a> Storm<'a> {
    fn new(spool: Option<&'a Path>, ordered: bool) -> Self {
        let (seen, clock) = (Arc::default(), Arc::new(Mutex::new(Instant::now())));
        let (delivery, context) = Self::start(spool, ordered, &seen, &clock);
        let (said, late) = (Vec::new(), Vec::new());
        Self { spool, ordered, seen, clock, delivery, context, said, late, offered: 0, counted: 0, lost: 0 }
    }

    fn start(
        spool: Option<&Path>,
        ordered: bool,
        seen: &Arc<Mutex<Seen>>,
        clock: &Arc<Mutex<Instant>>,
    ) -> (Delivery<Receiver>, SinkContext) {
        let (context, time) = (context("storm"), Arc::clone(clock));
        let options = DeliveryOptions { spool: spool.map(Path::to_owned), ..DeliveryOptions::default() };
        let delivery = Delivery::new(Receiver { seen: Arc::clone(seen), ordered }, &options, &context);
        (delivery.expect("a delivery").with_clock(move || *time.lock(), 7), context)
    }

    fn tally(&self) -> Tally {
        let tally = self.context.ledger.tally();
        assert!(tally.balances() && tally.mis_settled == 0, "{tally:?}");
        tally
    }

    fn reply(&mut self, index: usize, reply: Reply) {
        let mut seen = self.seen.lock();
        if seen.held.is_empty() {
            return;
        }
        let index = index % seen.held.len();
        let (line, ticket) = seen.held.remove(index);
        let problem = "as the test says".to_owned();
        let verdict = match reply {
            Reply::Accepted => Verdict::Accepted,
            Reply::Rejected => Verdict::Rejected { reason: "malformed", problem },
            Reply::Retry => Verdict::Retry { after: None, problem },
            Reply::RetryAfter(seconds) => Verdict::Retry { after: Some(Duration::from_secs(seconds)), problem },
            Reply::Nothing => {
                self.said.push(line);
                return;
            }
        };
        if matches!(verdict, Verdict::Retry { .. }) {
            seen.refused.insert(line);
        } else {
            self.said.push(line);
        }
        drop(seen);
        std::thread::scope(|scope| {
            scope.spawn(move || ticket.settle(verdict));
        });
    }

    fn reply_all(&mut self) {
        let held = std::mem::take(&mut self.seen.lock().held);
        self.said.extend(held.iter().map(|(line, _)| line));
        std::thread::scope(|scope| {
            for (_, ticket) in held {
                scope.spawn(move || ticket.settle(Verdict::Accepted));
            }
            self.delivery.work();
        });
    }

    /// The delivery has been called, and has entered what it was told.
    fn learns(&mut self) {
        self.seen.lock().settled.extend(self.said.drain(..));
        self.tally();
    }

    /// Another process takes this one's place. What it finds on disk is what this one left there, unless it is cut off.
    fn restart(&mut self, cut: Option<u8>) {
        let before = self.tally();
        self.counted += before.offered - before.spooled;
        self.lost += before.queued + before.unconfirmed + before.dropped_total();
        self.said.clear();
        let mut seen = self.seen.lock();
        self.late.extend(seen.held.drain(..).map(|(_, ticket)| ticket));
        (seen.sent, seen.refused) = Default::default();
        drop(seen);
        // Its lock goes with it.
        let (nobody, _) = Self::start(None, self.ordered, &self.seen, &self.clock);
        drop(std::mem::replace(&mut self.delivery, nobody));
        if let (Some(cut), Some(spool)) = (cut, self.spool) {
            cut_newest(spool, cut);
        }
        (self.delivery, self.context) = Self::start(self.spool, self.ordered, &self.seen, &self.clock);
        let found = self.tally().spooled;
        match cut {
            Some(_) => {
                assert!(found <= before.spooled);
                self.counted += before.spooled - found;
                self.lost += before.spooled - found;
            }
            None => assert_eq!(found, if self.spool.is_some() { before.spooled } else { 0 }),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Offer(lines) => {
                for _ in 0..lines {
                    offer(&self.context.ledger, 1);
                    self.delivery.offer(frame(self.offered..self.offered + 1));
                    self.offered += 1;
                    self.learns();
                }
            }
            Step::Work => {
                self.delivery.work();
                self.learns();
            }
            Step::Wait(seconds) => *self.clock.lock() += Duration::from_secs(seconds),
            Step::Answer(index, reply) => self.reply(index, reply),
            Step::AnswerAll => {
                self.reply_all();
                self.delivery.work();
                self.learns();
            }
            Step::Late => {
                let tally = self.tally();
                self.late.pop().into_iter().for_each(|ticket| ticket.settle(Verdict::Accepted));
                assert_eq!(self.tally(), tally);
            }
            Step::Stop => {
                stop(&self.context.stop, Duration::ZERO);
                self.delivery.close();
                assert_eq!(self.tally().queued, 0);
                self.learns();
                self.restart(None);
            }
            Step::Kill => self.restart(None),
            Step::Cut(part) => self.restart(Some(part)),
        }
        self.tally();
    }

    /// The receiver takes everything, whatever time it needs.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.step(Step::Wait(3600));
            self.step(Step::AnswerAll);
            let tally = self.tally();
            if tally.queued + tally.spooled == 0 {
                break;
            }
        }
    }
}

/// Cuts the newest segment of a spool behind so many 256ths.
fn cut_newest(spool: &Path, part: u8) {
    let entries = fs::read_dir(spool).expect("a folder").map(|entry| entry.expect("an entry").path());
    let Some(newest) = entries.filter(|path| path.extension().is_some_and(|end| end == "segment")).max() else {
        return;
    };
    let file = fs::OpenOptions::new().write(true).open(newest).expect("a segment");
    let size = file.metadata().expect("a size").len();
    file.set_len(size * u64::from(part) / 256).expect("a cut");
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let reply = prop_oneof![
        6 => Just(Reply::Accepted),
        1 => Just(Reply::Rejected),
        2 => Just(Reply::Retry),
        2 => (1..60_u64).prop_map(Reply::RetryAfter),
        1 => Just(Reply::Nothing),
    ];
    let step = prop_oneof![
        6 => (1..12_u64).prop_map(Step::Offer),
        8 => Just(Step::Work),
        3 => (0..40_u64).prop_map(Step::Wait),
        10 => (0..PLACES, reply).prop_map(|(index, reply)| Step::Answer(index, reply)),
        1 => Just(Step::AnswerAll),
        1 => Just(Step::Late),
        1 => Just(Step::Stop),
        1 => Just(Step::Kill),
        1 => any::<u8>().prop_map(Step::Cut),
    ];
    prop::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is offered arrives at least once or is counted, the book balances at every step, nothing is sent that is known
    /// to be settled, a number is one line's, and the order is kept where it is asked for.
    #[test]
    fn whatever_becomes_of_the_answers_nothing_is_lost_and_no_order_is_broken(
        steps in steps(),
        on_disk in any::<bool>(),
        ordered in any::<bool>(),
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let mut storm = Storm::new(on_disk.then(|| folder.path()), ordered);
        for step in steps {
            storm.step(step);
        }
        storm.finish();
        let tally = storm.tally();
        prop_assert_eq!((tally.queued, tally.spooled), (0, 0));
        prop_assert_eq!(storm.counted + tally.offered, storm.offered);
        prop_assert_eq!(storm.delivery.due(), None);
        let settled = storm.seen.lock().settled.len() as u64;
        prop_assert!(settled + storm.lost + tally.dropped_total() >= storm.offered, "{} are nowhere", storm.offered);
    }
}
