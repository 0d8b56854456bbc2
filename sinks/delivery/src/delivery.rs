//! Frames on their way to a receiver that may be away.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{BuildError, Ledger, SinkContext, Stop};

use crate::aside::Aside;
use crate::backoff::Backoff;
use crate::doubt::Doubt;
use crate::frame::Frame;
use crate::health::Health;
use crate::note::{Note, Noted};
use crate::numbers::Numbers;
use crate::options::DeliveryOptions;
use crate::queue::Queue;
use crate::reason;
use crate::spool::{Spool, SpoolError};
use crate::storage::Storage;
use crate::submit::Submit;
use crate::ticket::Desk;
use crate::times::Times;
use crate::undelivered::Undelivered;
use crate::window::Window;

mod outcome;
mod sending;
mod stock;

/// Brings frames to a receiver in order, keeps them while it is away, and enters in the ledger what
/// becomes of their samples. A sink that has one settles itself
/// ([`Settlement::BySink`](ebpf_process_core::Settlement::BySink)), and passes its calls on:
///
/// * in `write`, [`offer`](Self::offer): while the receiver takes data, all but the newest frame go
///   out as they are made, so that a batch may be larger than the memory;
/// * in `flush`, [`work`](Self::work): it sends one frame, so that the sink's queue is emptied
///   between two of them;
/// * in `due`, [`due`](Self::due);
/// * in `close`, [`close`](Self::close);
/// * in `bequeath` and `inherit`, [`bequeath`](Self::bequeath) and [`inherit`](Self::inherit).
///
/// Frames are numbered, from 1 on. As many are under way as the carrier's [`window`](Submit::window) has room for; those that
/// are answered are settled at once, whatever became of the older ones. While the receiver fails one frame at a time asks
/// how it fares.
///
/// Frames wait in memory. From the first failure on they wait in the spool, if there is one, so
/// that an outage costs little memory and a stop or a crash loses little; what is on disk is sent
/// before what is in memory. A spool that cannot be used is tried again, at most a minute later each time.
pub struct Delivery<C> {
    carrier: C,
    /// Where the carrier's answers arrive.
    desk: Arc<Desk>,
    ledger: Arc<Ledger>,
    stop: Stop,
    /// When sending ends, once a stop was seen.
    last_moment: Option<Instant>,
    window: Window,
    numbers: Numbers,
    /// Older frames are given up.
    age_limit: Option<Duration>,
    /// What was refused in doubt, passed by the others until one of them gets through.
    aside: Aside,
    /// Since when nothing but refusals in doubt has happened, or since a frame was given up for it.
    doubted: Option<Instant>,
    memory: Queue,
    limit: u64,
    /// Where the spool is to be, if there is to be one.
    storage: Option<Storage>,
    spool: Option<Spool>,
    backoff: Backoff,
    not_before: Option<Instant>,
    health: Health,
    doubt: Doubt,
    times: Times,
}

impl<C: Submit> Delivery<C> {
    /// The most frames that a carrier may have unanswered.
    pub const WINDOW: usize = 64;

    /// A delivery by this carrier. A spool that another process has is refused; one that cannot be
    /// used for another reason is said in the log, and data waits in memory only until it can be.
    pub fn new(carrier: C, options: &DeliveryOptions, context: &SinkContext) -> Result<Self, BuildError> {
        let mut health = Health::new(&context.name);
        let mut storage = Storage::of(options, context, carrier.encodings());
        let spool = match storage.as_mut().map(|storage| storage.open(Instant::now())) {
            None => None,
            Some(Ok((spool, recovery))) => {
                health.spool_opened(recovery);
                context.ledger.recovered(recovery.samples);
                Some(spool)
            }
            Some(Err(locked @ SpoolError::Locked(_))) => {
                let way_out = "stop the other one, or give this sink a directory of its own";
                return Err(BuildError::refused(locked.to_string(), way_out).passing(true));
            }
            Some(Err(foreign @ SpoolError::Foreign(..))) => {
                let way_out = "give this sink a directory of its own, or have those sent first: `ebpf-process spool drain` \
                               with the sink that they are of";
                return Err(BuildError::refused(foreign.to_string(), way_out));
            }
            Some(Err(error)) => {
                health.spool_missing(&error, Instant::now());
                None
            }
        };
        let mut delivery = Self {
            carrier,
            desk: Arc::new(Desk::new(context.waker())),
            ledger: Arc::clone(&context.ledger),
            stop: context.stop.clone(),
            last_moment: None,
            window: Window::default(),
            numbers: spool.as_ref().map_or_else(Numbers::new, Numbers::of),
            age_limit: options.age_limit,
            aside: Aside::default(),
            doubted: None,
            memory: Queue::default(),
            limit: options.memory,
            storage,
            spool,
            backoff: Backoff::new(options.retry_min, options.retry_max),
            not_before: None,
            health,
            doubt: Doubt::new(Arc::clone(&context.ledger)),
            times: Times::system(),
        };
        delivery.book_losses();
        Ok(delivery)
    }

    /// Takes the time from somewhere else, and all randomness from a seed: for tests.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> Instant + Send + 'static, seed: u64) -> Self {
        self.times = Times::of(now);
        self.backoff.reseed(seed);
        self.storage.iter_mut().for_each(|storage| storage.reseed(seed));
        self
    }

    /// Takes a frame whose samples are queued in the ledger. While the receiver takes data, what was
    /// offered before is sent, one frame at a time. Where there is no room the oldest frame goes to
    /// the spool, or is dropped.
    pub fn offer(&mut self, frame: Frame) {
        if frame.is_empty() {
            return;
        }
        let note = Note { number: 0, time: self.times.wall() };
        self.memory.push_back(Noted { frame, note });
        self.read_answers();
        if self.health.is_failing() {
            while self.spill() {}
        } else if self.memory.len() > 1 {
            self.send_if_well();
        }
        self.make_room();
    }

    /// Enters what has been answered, and sends the oldest frame, or a piece of it, unless it is too early.
    pub fn work(&mut self) {
        let now = self.times.now();
        self.look();
        self.open_again(now);
        self.read_answers();
        if self.not_before.is_none_or(|moment| moment <= now) {
            let end = self.end();
            self.attempt(end);
        }
    }

    /// When [`work`](Self::work) has something to do; `None` while nothing waits but for an answer, whose arrival
    /// [calls](SinkContext::waker) the sink.
    pub fn due(&self) -> Option<Instant> {
        self.next_moment().into_iter().chain(self.doubt.due()).min()
    }

    /// The end: sends what is in memory and waits for answers, within three quarters of the grace that is left, also where
    /// it is too early. What is left then goes to the spool, or is dropped; what is on disk stays
    /// there. What was sent, is not answered and has no spool is counted as unconfirmed.
    pub fn close(&mut self) {
        self.open_again(self.times.now());
        self.read_answers();
        let mut goes_on = self.spool.as_ref().is_none_or(Spool::is_empty);
        loop {
            let end = self.end();
            while goes_on && self.attempt(end) {}
            goes_on &= self.not_before.is_none();
            if !self.wait_for_answer() {
                break;
            }
        }
        self.window.waits_no_longer();
        for frame in self.aside.drain().rev() {
            self.memory.push_front(frame);
        }
        while self.spill() {}
        let unanswered = self.take_unanswered();
        self.ledger.unconfirmed(unanswered);
        let left: u64 = std::iter::from_fn(|| self.pop_oldest()).sum();
        self.drops(left, reason::STOPPED);
        if let Some(Err(error)) = self.spool.as_mut().map(Spool::seal) {
            self.health.spool_fails(&error);
        }
        self.wait_for_doubt();
    }

    /// What was sent last has the same time to come back as all else.
    fn wait_for_doubt(&mut self) {
        if let Some(ripe) = self.doubt.ripe() {
            let left = ripe.saturating_duration_since(self.times.now());
            std::thread::park_timeout(self.stop.remaining().map_or(left, |grace| left.min(grace.mul_f64(0.75))));
            self.doubt.look(self.carrier.peer(), ripe);
        }
    }

    /// Gives up all that is not delivered, for a delivery that takes this one's place: what is in memory, in a legacy whose
    /// samples are queued in the ledger, and the spool as it is. Nothing is sent any more; answers are waited for as
    /// in [`close`](Self::close), and what has none then is sent again.
    pub fn bequeath(&mut self) -> Undelivered {
        while self.wait_for_answer() {}
        self.window.waits_no_longer();
        self.wait_for_doubt();
        self.book_losses();
        let mut frames: Vec<_> = self.aside.drain().collect();
        let hands: Vec<_> = self.window.drain().collect();
        for hand in hands {
            if let Some(record) = hand.record {
                if !hand.is_split {
                    continue;
                }
                // Of its record the receiver may have a part: what is left of it goes along.
                self.ledger.unspool(hand.samples());
                self.acknowledge(record);
            }
            let note = hand.note;
            frames.extend(hand.pieces.into_iter().map(|frame| Noted { frame, note }));
        }
        frames.extend(self.memory.drain());
        if let Some(Err(error)) = self.spool.as_mut().map(Spool::seal) {
            self.health.spool_fails(&error);
        }
        let spool = self.spool.take().and(self.storage.take());
        Undelivered { frames, numbers: Some(self.numbers), spool }
    }

    /// Takes over what another one has not delivered, whose samples in memory are queued in this one's ledger. What is in
    /// a spool of its own comes into this one's spool, or into memory as far as it has room; what is left stays there.
    pub fn inherit(&mut self, undelivered: Undelivered) {
        let Undelivered { frames, numbers, spool } = undelivered;
        // Where neither has a spool the predecessor's numbers go on.
        let has_none = spool.is_none() && self.spool.is_none() && self.numbers.is_new();
        if let Some(numbers) = numbers.filter(|_| has_none) {
            self.numbers = numbers;
        }
        let goes_on = numbers.is_some_and(|numbers| numbers.stream == self.numbers.stream);
        for Noted { frame, note } in frames {
            let number = if goes_on { note.number } else { 0 };
            self.memory.push_back(Noted { frame, note: Note { number, ..note } });
        }
        let own = self.storage.as_ref().map(Storage::directory);
        if let Some(former) = spool.filter(|former| Some(former.directory()) != own) {
            match former.open_former(self.carrier.encodings()) {
                Ok(spool) => self.move_from(spool, former.directory()),
                Err(error) => self.health.spool_is_left(former.directory(), Some(&error)),
            }
        }
        self.make_room();
    }
}

impl<C> fmt::Debug for Delivery<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.window.iter().count() + self.aside.len() + self.memory.len();
        f.debug_struct("Delivery").field("waiting", &waiting).field("spool", &self.spool).finish_non_exhaustive()
    }
}
