//! A delivery whose receiver and whose clock are the test's.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ebpf_process_core::testkit::{context, offer};
use ebpf_process_core::{Ledger, State, Tally};
use ebpf_process_delivery::{Carrier, Delivery, DeliveryOptions, Frame, Peer, Spool, Verdict};
use parking_lot::Mutex;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A receiver that answers as the test says.
pub(crate) struct Receiver {
    answer: Box<dyn FnMut(&Frame) -> Verdict + Send>,
    overwrites: bool,
    /// Whether the connection is gone that took the frames since this was asked last.
    gone: Arc<AtomicBool>,
}

impl Carrier for Receiver {
    fn send(&mut self, frame: &Frame, _: Duration) -> Verdict {
        (self.answer)(frame)
    }

    fn overwrites(&self) -> bool {
        self.overwrites
    }

    fn peer(&mut self) -> Peer {
        if self.gone.swap(false, Ordering::SeqCst) { Peer::Gone } else { Peer::Here }
    }
}

/// A delivery, its book and its clock.
pub(crate) struct Rig {
    pub(crate) delivery: Delivery<Receiver>,
    pub(crate) ledger: Arc<Ledger>,
    clock: Arc<Mutex<Instant>>,
    /// Closes the receiver's connection.
    pub(crate) gone: Arc<AtomicBool>,
}

impl Rig {
    pub(crate) fn new(options: &DeliveryOptions, answer: impl FnMut(&Frame) -> Verdict + Send + 'static) -> Self {
        Self::of(options, true, answer)
    }

    pub(crate) fn of(
        options: &DeliveryOptions,
        overwrites: bool,
        answer: impl FnMut(&Frame) -> Verdict + Send + 'static,
    ) -> Self {
        let context = context("test");
        let clock = Arc::new(Mutex::new(Instant::now()));
        let time = Arc::clone(&clock);
        let gone = Arc::new(AtomicBool::new(false));
        let carrier = Receiver { answer: Box::new(answer), overwrites, gone: Arc::clone(&gone) };
        let delivery = Delivery::new(carrier, options, &context).expect("a delivery");
        let delivery = delivery.with_clock(move || *time.lock(), 7);
        Self { delivery, ledger: context.ledger, clock, gone }
    }

    /// Offers a frame as a sink does; its samples are in the book before.
    pub(crate) fn offer(&mut self, frame: Frame) {
        offer(&self.ledger, frame.samples());
        self.delivery.offer(frame);
    }

    pub(crate) fn wait(&self, time: Duration) {
        *self.clock.lock() += time;
    }

    pub(crate) fn now(&self) -> Instant {
        *self.clock.lock()
    }

    /// Works until nothing waits, whatever time it takes.
    pub(crate) fn finish(&mut self) {
        while let Some(due) = self.delivery.due() {
            let now = self.now();
            *self.clock.lock() = due.max(now);
            self.delivery.work();
        }
    }

    /// How the sink fares, as the status has it.
    pub(crate) fn state(&self) -> State {
        self.ledger.condition().state
    }

    /// The book, which balances.
    pub(crate) fn tally(&self) -> Tally {
        let tally = self.ledger.tally();
        assert!(tally.balances(), "{tally:?}");
        tally
    }
}

/// A frame of numbered lines, one sample each.
pub(crate) fn frame(numbers: std::ops::Range<u64>) -> Frame {
    let mut frame = Frame::default();
    for number in numbers {
        frame.push(format!("{number:06}\n").as_bytes(), 1);
    }
    frame
}

/// The numbers in a frame's lines.
pub(crate) fn numbers(frame: &Frame) -> Vec<u64> {
    let text = std::str::from_utf8(frame.bytes()).expect("text");
    text.lines().map(|line| line.parse().expect("a number")).collect()
}

/// Takes the oldest frame out of a spool for good: the numbers in its lines.
pub(crate) fn draw(spool: &mut Spool) -> Option<Vec<u64>> {
    let taken = spool.take()?;
    spool.acknowledge(taken.place).expect("a cursor");
    Some(numbers(&taken.frame))
}

pub(crate) fn retry() -> Verdict {
    Verdict::Retry { after: None, problem: "the receiver is away".to_owned() }
}
