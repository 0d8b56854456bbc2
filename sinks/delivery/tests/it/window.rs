//! More than one frame under way: answers in any order, from any thread.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::{context, offer, stop};
use ebpf_process_core::{SinkContext, State, Tally};
use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Submit, Ticket, Verdict};
use parking_lot::Mutex;

use crate::rig::{SECOND, frame, numbers, retry};

/// What is with the receiver: the frame's number, whether it was sent before, its lines, and the ticket.
type Held = (u64, bool, Vec<u64>, Ticket);

/// A receiver that answers when the test says so.
#[derive(Clone)]
struct Later {
    held: Arc<Mutex<VecDeque<Held>>>,
    ordered: bool,
    overwrites: bool,
}

impl Submit for Later {
    fn submit(&mut self, ticket: Ticket, frame: &Frame, _: Duration) {
        self.held.lock().push_back((ticket.number(), ticket.is_resent(), numbers(frame), ticket));
    }

    fn window(&self) -> usize {
        3
    }

    fn is_ordered(&self) -> bool {
        self.ordered
    }

    fn overwrites(&self) -> bool {
        self.overwrites
    }
}

struct Scene {
    delivery: Delivery<Later>,
    context: SinkContext,
    receiver: Later,
    clock: Arc<Mutex<Instant>>,
}

impl Scene {
    fn new(ordered: bool, options: &DeliveryOptions) -> Self {
        Self::of(Later { held: Arc::default(), ordered, overwrites: true }, options)
    }

    fn of(receiver: Later, options: &DeliveryOptions) -> Self {
        let (context, clock) = (context("later"), Arc::new(Mutex::new(Instant::now())));
        let time = Arc::clone(&clock);
        let delivery = Delivery::new(receiver.clone(), options, &context).expect("a delivery");
        Self { delivery: delivery.with_clock(move || *time.lock(), 7), context, receiver, clock }
    }

    /// Offers so many frames of one line each, and sends what may go.
    fn offer(&mut self, lines: std::ops::Range<u64>) {
        for line in lines {
            offer(&self.context.ledger, 1);
            self.delivery.offer(frame(line..line + 1));
        }
        self.work();
    }

    fn work(&mut self) {
        for _ in 0..10 {
            self.delivery.work();
            self.tally();
        }
    }

    fn wait(&self, time: Duration) {
        *self.clock.lock() += time;
    }

    /// The numbers of the frames that the receiver has not answered, in the order in which they came.
    fn under_way(&self) -> Vec<u64> {
        self.receiver.held.lock().iter().map(|(number, ..)| *number).collect()
    }

    /// The receiver answers for the frame with this number.
    fn answer(&self, number: u64, verdict: Verdict) {
        let mut held = self.receiver.held.lock();
        let at = held.iter().position(|(held, ..)| *held == number).expect("it is under way");
        let (.., ticket) = held.remove(at).expect("it is under way");
        drop(held);
        std::thread::scope(|scope| {
            scope.spawn(move || ticket.settle(verdict));
        });
    }

    fn tally(&self) -> Tally {
        let tally = self.context.ledger.tally();
        assert!(tally.balances(), "{tally:?}");
        tally
    }
}

#[test]
fn as_many_frames_are_under_way_as_there_are_places_and_each_is_settled_when_it_is_answered() {
    let mut scene = Scene::new(true, &DeliveryOptions::default());
    scene.offer(0..5);
    assert_eq!(scene.under_way(), [1, 2, 3]);
    assert_eq!(scene.delivery.due(), None, "an answer calls the sink");
    scene.answer(2, Verdict::Accepted);
    assert!(scene.delivery.due().is_some() && scene.context.waker().wait(Instant::now()), "the sink is called");
    scene.work();
    assert_eq!(scene.tally().written, 1);
    assert_eq!(scene.under_way(), [1, 3], "the oldest one holds the window");
    scene.answer(1, Verdict::Rejected { reason: "malformed", problem: "no".to_owned() });
    scene.work();
    assert_eq!(scene.under_way(), [3, 4, 5]);
    for number in [5, 4, 3] {
        scene.answer(number, Verdict::Accepted);
    }
    scene.work();
    let tally = scene.tally();
    assert_eq!((tally.written, tally.rejected, tally.queued), (4, vec![("malformed", 1)], 0));
    assert_eq!(scene.delivery.due(), None);
}

#[test]
fn one_frame_at_a_time_is_under_way_where_one_that_is_sent_again_would_count_twice() {
    let receiver = Later { held: Arc::default(), ordered: true, overwrites: false };
    let mut scene = Scene::of(receiver, &DeliveryOptions::default());
    scene.offer(0..3);
    assert_eq!(scene.under_way(), [1]);
    scene.answer(1, retry());
    scene.work();
    scene.wait(SECOND);
    scene.work();
    assert_eq!(scene.under_way(), [1], "nothing overtakes it");
}

#[test]
fn with_order_what_has_to_be_sent_again_holds_back_the_later_ones() {
    let mut scene = Scene::new(true, &DeliveryOptions::default());
    scene.offer(0..6);
    scene.answer(1, Verdict::Retry { after: Some(30 * SECOND), problem: "busy".to_owned() });
    scene.answer(3, Verdict::Accepted);
    scene.work();
    assert_eq!(scene.under_way(), [2], "nothing goes out");
    scene.answer(2, retry());
    scene.work();
    scene.wait(31 * SECOND);
    scene.work();
    assert_eq!(scene.under_way(), [1], "one asks how the receiver fares");
    let resent = scene.receiver.held.lock()[0].1;
    assert!(resent, "the receiver is told that it may have it");
    scene.answer(1, Verdict::Accepted);
    scene.work();
    assert_eq!(scene.under_way(), [2, 4], "and in order, as far as the window goes");
    assert_eq!(scene.receiver.held.lock().iter().map(|(_, resent, ..)| *resent).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn without_order_others_pass_a_frame_that_comes_again_later() {
    let mut scene = Scene::new(false, &DeliveryOptions::default());
    scene.offer(0..6);
    scene.answer(2, Verdict::Retry { after: Some(30 * SECOND), problem: "busy".to_owned() });
    scene.answer(1, Verdict::Accepted);
    scene.work();
    assert_eq!(scene.under_way(), [3, 4], "it has a place in the window");
    let due = scene.delivery.due().expect("it is sent again");
    assert_eq!(due, *scene.clock.lock() + 30 * SECOND);
    scene.wait(30 * SECOND);
    scene.work();
    assert_eq!(scene.under_way(), [3, 4, 2]);
}

#[test]
fn a_ticket_that_is_dropped_is_a_failure_and_the_others_go_on() {
    let mut scene = Scene::new(true, &DeliveryOptions::default());
    scene.offer(0..4);
    scene.receiver.held.lock().pop_front();
    scene.work();
    assert_eq!((scene.tally().failed, scene.under_way()), (1, vec![2, 3, 4]));
}

#[test]
fn what_a_receiver_says_is_a_reason_as_long_as_there_are_few() {
    let mut scene = Scene::new(true, &DeliveryOptions::default());
    for n in 0..40 {
        scene.offer(n..n + 1);
        let reason = scene.context.ledger.reason(&format!("no such\nrow: {n}"));
        scene.answer(n + 1, Verdict::Rejected { reason, problem: "no".to_owned() });
        scene.work();
    }
    let tally = scene.tally();
    assert_eq!(
        (tally.rejected.len(), tally.rejected[0], tally.rejected[16]),
        (17, ("no such_row: 0", 1), ("other", 24))
    );
}

#[test]
fn a_stop_waits_for_answers_and_says_what_had_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let spool = Some(folder.path().to_owned());
    for (spool, expected) in [(None, (1, 3, 0, 0)), (spool, (1, 0, 3, 0))] {
        let mut scene = Scene::new(true, &DeliveryOptions { spool, ..DeliveryOptions::default() });
        scene.offer(0..4);
        let (.., ticket) = scene.receiver.held.lock().pop_front().expect("it is under way");
        stop(&scene.context.stop, Duration::from_millis(400));
        std::thread::scope(|scope| {
            scope.spawn(move || ticket.settle(Verdict::Accepted));
            scene.delivery.close();
        });
        let tally = scene.tally();
        assert_eq!((tally.written, tally.unconfirmed, tally.spooled, tally.dropped_total()), expected, "{tally:?}");
        // The first one's answer has made room for the fourth one. Who answers now is late.
        assert_eq!(scene.under_way(), [2, 3, 4]);
        scene.answer(2, Verdict::Accepted);
        scene.work();
        assert_eq!(scene.tally(), tally);
    }
}

#[test]
fn with_order_nothing_passes_what_has_to_be_sent_again() {
    let mut scene = Scene::new(true, &DeliveryOptions::default());
    scene.offer(0..1);
    scene.answer(1, Verdict::Retry { after: Some(30 * SECOND), problem: "busy".to_owned() });
    scene.work();
    scene.offer(1..3);
    assert_eq!(scene.under_way(), [0_u64; 0], "there is room, and nothing goes out");
    scene.wait(31 * SECOND);
    scene.work();
    assert_eq!(scene.under_way(), [1]);
}

#[test]
fn what_arrives_behind_a_failure_does_not_make_the_receiver_well() {
    let mut scene = Scene::new(true, &DeliveryOptions::default());
    scene.offer(0..2);
    scene.answer(1, retry());
    scene.work();
    scene.answer(2, Verdict::Accepted);
    scene.work();
    assert_eq!((scene.tally().written, scene.context.ledger.condition().state), (1, State::Failing));
}

#[test]
fn what_has_no_room_after_the_end_is_what_the_stop_has_cost() {
    let mut scene = Scene::new(true, &DeliveryOptions { memory: 1, ..DeliveryOptions::default() });
    stop(&scene.context.stop, Duration::ZERO);
    scene.offer(0..1);
    assert_eq!(scene.tally().dropped, [("agent stopped", 1)]);
}

/// Answers a moment later, on a thread of its own.
struct Slow;

impl Submit for Slow {
    fn submit(&mut self, ticket: Ticket, _: &Frame, _: Duration) {
        let answer = move || {
            std::thread::park_timeout(Duration::from_millis(2));
            ticket.settle(Verdict::Accepted);
        };
        std::thread::Builder::new().spawn(answer).expect("a thread");
    }

    fn window(&self) -> usize {
        3
    }

    fn overwrites(&self) -> bool {
        true
    }
}

#[test]
fn while_the_receiver_answers_a_full_memory_waits_for_it() {
    let context = context("slow");
    let options = DeliveryOptions { memory: 2 * frame(0..1).size() as u64, ..DeliveryOptions::default() };
    let mut delivery = Delivery::new(Slow, &options, &context).expect("a delivery");
    for line in 0..20 {
        offer(&context.ledger, 1);
        delivery.offer(frame(line..line + 1));
    }
    delivery.close();
    assert_eq!((context.ledger.tally().written, context.ledger.tally().dropped_total()), (20, 0));
}
