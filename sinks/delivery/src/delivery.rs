//! Frames on their way to a receiver that may be away.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::{BuildError, Ledger, SinkContext, Stop};

use crate::backoff::Backoff;
use crate::carrier::Carrier;
use crate::doubt::Doubt;
use crate::frame::Frame;
use crate::hand::{Aside, Hand};
use crate::health::Health;
use crate::options::DeliveryOptions;
use crate::reason;
use crate::spool::{Spool, SpoolError};
use crate::storage::Storage;
use crate::undelivered::Undelivered;
use crate::verdict::Verdict;

/// How often a frame whose content is refused may be sent in pieces. One bad item in any frame
/// takes far fewer; a receiver that refuses everything gets no more than this.
const PIECES: u32 = 256;

/// How long nothing may get through, and be refused by somebody else than the receiver, before a frame is given up.
const DOUBTFUL: Duration = Duration::from_secs(3600);

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
/// Frames wait in memory. From the first failure on they wait in the spool, if there is one, so
/// that an outage costs little memory and a stop or a crash loses little; what is on disk is sent
/// before what is in memory. A spool that cannot be used is tried again, at most a minute later each time.
pub struct Delivery<C> {
    carrier: C,
    ledger: Arc<Ledger>,
    stop: Stop,
    /// When sending ends, once a stop was seen.
    last_moment: Option<Instant>,
    hand: Hand,
    /// What was refused in doubt, passed by the others until one of them gets through.
    aside: Aside,
    /// Since when nothing but refusals in doubt has happened, or since a frame was given up for it.
    doubted: Option<Instant>,
    memory: VecDeque<Frame>,
    limit: u64,
    /// Where the spool is to be, if there is to be one.
    storage: Option<Storage>,
    spool: Option<Spool>,
    backoff: Backoff,
    not_before: Option<Instant>,
    health: Health,
    doubt: Doubt,
    now: Box<dyn Fn() -> Instant + Send>,
}

impl<C: Carrier> Delivery<C> {
    /// A delivery by this carrier. A spool that another process has is refused; one that cannot be
    /// used for another reason is said in the log, and data waits in memory only until it can be.
    pub fn new(carrier: C, options: &DeliveryOptions, context: &SinkContext) -> Result<Self, BuildError> {
        let health = Health::new(&context.name);
        let mut storage = Storage::of(options, context);
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
            Some(Err(error)) => {
                health.spool_missing(&error);
                None
            }
        };
        let mut delivery = Self {
            carrier,
            ledger: Arc::clone(&context.ledger),
            stop: context.stop.clone(),
            last_moment: None,
            hand: Hand::default(),
            aside: Aside::default(),
            doubted: None,
            memory: VecDeque::new(),
            limit: options.memory,
            storage,
            spool,
            backoff: Backoff::new(options.retry_min, options.retry_max),
            not_before: None,
            health,
            doubt: Doubt::new(Arc::clone(&context.ledger)),
            now: Box::new(Instant::now),
        };
        delivery.book_losses();
        Ok(delivery)
    }

    /// Takes the time from somewhere else, and all randomness from a seed: for tests.
    #[must_use]
    pub fn with_clock(mut self, now: impl Fn() -> Instant + Send + 'static, seed: u64) -> Self {
        self.now = Box::new(now);
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
        self.memory.push_back(frame);
        if self.health.is_failing() {
            while self.spill() {}
        } else if self.memory.len() > 1 {
            self.send_if_well();
        }
        self.make_room();
    }

    /// What has no room in memory goes to the spool, to the receiver if it takes data, or is dropped.
    fn make_room(&mut self) {
        while self.in_memory() > self.limit {
            if !self.spill()
                && !self.send_if_well()
                && let Some(samples) = self.pop_oldest()
            {
                // Nothing is sent any more near the end of a stop: then it is that which fills the memory.
                let over = self.last_moment.is_some_and(|moment| moment <= Instant::now());
                self.drops(samples, if over { reason::STOPPED } else { reason::MEMORY });
            }
        }
    }

    /// Sends the oldest piece unless the last attempt failed. Whether its verdict was final.
    fn send_if_well(&mut self) -> bool {
        if self.not_before.is_some() || self.health.is_failing() {
            return false;
        }
        let end = self.end();
        self.attempt(end)
    }

    /// Sends the oldest frame, or a piece of it, unless it is too early.
    pub fn work(&mut self) {
        let now = (self.now)();
        self.look();
        self.open_again(now);
        if self.not_before.is_none_or(|moment| moment <= now) {
            let end = self.end();
            self.attempt(end);
        }
    }

    /// When [`work`](Self::work) has something to do; `None` while nothing waits.
    pub fn due(&self) -> Option<Instant> {
        let spooled = self.spool.as_ref().is_some_and(|spool| !spool.is_empty());
        let waits = spooled || !self.hand.pieces.is_empty() || !self.aside.is_empty() || !self.memory.is_empty();
        let next = waits.then(|| self.not_before.unwrap_or_else(|| (self.now)()));
        next.into_iter().chain(self.doubt.due()).min()
    }

    /// The end: sends what is in memory within three quarters of the grace that is left, also where
    /// it is too early. What is left then goes to the spool, or is dropped; what is on disk stays
    /// there.
    pub fn close(&mut self) {
        self.open_again((self.now)());
        if self.spool.as_ref().is_none_or(Spool::is_empty) {
            let end = self.end();
            while self.attempt(end) {}
        }
        for frame in self.aside.drain().rev() {
            self.memory.push_front(frame);
        }
        while self.spill() {}
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
            let left = ripe.saturating_duration_since((self.now)());
            std::thread::park_timeout(self.stop.remaining().map_or(left, |grace| left.min(grace.mul_f64(0.75))));
            self.doubt.look(self.carrier.peer(), ripe);
        }
    }

    /// Gives up all that is not delivered, for a delivery that takes this one's place: what is in memory, in a legacy whose
    /// samples are queued in the ledger, and the spool as it is. Nothing is sent any more.
    pub fn bequeath(&mut self) -> Undelivered {
        self.wait_for_doubt();
        self.book_losses();
        let Hand { pieces, spooled, .. } = std::mem::take(&mut self.hand);
        if spooled && !pieces.is_empty() {
            // Of its record the receiver may have a part: what is left of it goes along.
            self.ledger.unspool(pieces.iter().map(Frame::samples).sum());
            self.acknowledge();
        }
        if let Some(Err(error)) = self.spool.as_mut().map(Spool::seal) {
            self.health.spool_fails(&error);
        }
        let spool = self.spool.take().and(self.storage.take()).map(|storage| storage.directory().to_owned());
        let frames = self.aside.drain().chain(pieces).chain(self.memory.drain(..)).collect();
        Undelivered { frames, spool }
    }

    /// Takes over what another one has not delivered, whose samples in memory are queued in this one's ledger. What is in
    /// a spool of its own comes into this one's spool, or into memory as far as it has room; what is left stays there.
    pub fn inherit(&mut self, undelivered: Undelivered) {
        let Undelivered { frames, spool } = undelivered;
        self.memory.extend(frames);
        let own = self.storage.as_ref().map(Storage::directory);
        if let Some(former) = spool.filter(|former| Some(former.as_path()) != own) {
            match Storage::open_former(&former) {
                Ok(spool) => self.move_from(spool, &former),
                Err(error) => self.health.spool_is_left(&former, Some(&error)),
            }
        }
        self.make_room();
    }

    /// Takes over what is in the spool of a predecessor.
    fn move_from(&mut self, mut former: Spool, directory: &Path) {
        while let Some(frame) = former.take() {
            let samples = frame.samples();
            if let Some(spool) = &mut self.spool {
                if let Err(error) = spool.append(&frame) {
                    self.health.spool_fails(&error);
                    break;
                }
                self.ledger.recovered(samples);
            } else if self.in_memory() + frame.size() as u64 <= self.limit {
                self.ledger.recovered(samples);
                self.ledger.unspool(samples);
                self.memory.push_back(frame);
            } else {
                break;
            }
            if let Err(error) = former.acknowledge() {
                self.health.spool_fails(&error);
            }
            self.book_losses();
        }
        let damaged = former.take_losses().damaged;
        self.ledger.recovered(damaged);
        self.ledger.says_itself(reason::DAMAGE);
        self.ledger.dropped_from_spool(damaged, reason::DAMAGE);
        self.health.drops(damaged, reason::DAMAGE, (self.now)());
        if !former.is_empty() {
            self.health.spool_is_left(directory, None);
        }
        self.book_losses();
    }

    /// Opens a spool that could not be used so far, unless it is too early.
    fn open_again(&mut self, now: Instant) {
        let Some(storage) = self.storage.as_mut().filter(|it| self.spool.is_none() && it.is_due(now)) else { return };
        if let Ok((spool, recovery)) = storage.open(now) {
            self.health.spool_is_there(storage.directory());
            self.health.spool_opened(recovery);
            self.ledger.recovered(recovery.samples);
            self.spool = Some(spool);
            self.book_losses();
            if self.health.is_failing() {
                while self.spill() {}
            }
        }
    }

    /// What was handed over without an acknowledgement: is the connection still there?
    fn look(&mut self) {
        if !self.doubt.is_empty() {
            let peer = self.carrier.peer();
            self.doubt.look(peer, (self.now)());
        }
    }

    /// When sending has to end: on a stop, so that there is time to spool or to count what is left.
    fn end(&mut self) -> Option<Instant> {
        if self.last_moment.is_none() {
            self.last_moment = self.stop.remaining().map(|left| Instant::now() + left.mul_f64(0.75));
        }
        self.last_moment
    }

    /// Sends the oldest piece. Whether there was one in time, and whether its verdict is final.
    fn attempt(&mut self, end: Option<Instant>) -> bool {
        let limit = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if limit.is_zero() {
            return false;
        }
        self.refill();
        self.look();
        let Some(piece) = self.hand.pieces.front() else { return false };
        let samples = piece.samples();
        let verdict = self.carrier.send(piece, limit);
        self.not_before = None;
        let verdict = match verdict {
            Verdict::Doubtful { reason, problem } if self.hand.to_blame => Verdict::Rejected { reason, problem },
            verdict => verdict,
        };
        match verdict {
            Verdict::Accepted => {
                self.gets_through();
                self.settle(Ledger::written);
            }
            Verdict::Sent => {
                self.gets_through();
                self.settle(|_, _| ());
                self.doubt.sent(samples, (self.now)());
            }
            Verdict::Partly { rejected, reason, problem } => {
                self.gets_through();
                self.rejects(rejected, reason, &problem);
                self.settle(|ledger, samples| {
                    let rejected = rejected.min(samples);
                    ledger.rejected(rejected, reason);
                    ledger.written(samples - rejected);
                });
            }
            Verdict::Again { pieces, reason, problem } => {
                let again = pieces.samples().min(samples);
                if again < samples {
                    self.gets_through();
                }
                if self.hand.splits < PIECES && !pieces.is_empty() && pieces.samples() == again {
                    self.hand.splits += 1;
                    self.replace(pieces);
                } else {
                    self.rejects(again, reason, &problem);
                    self.settle(|ledger, samples| {
                        ledger.rejected(again, reason);
                        ledger.written(samples - again);
                    });
                }
            }
            Verdict::Rejected { reason, problem } => {
                if self.carrier.overwrites() && self.hand.splits < PIECES && self.hand.split() {
                    self.hand.splits += 1;
                } else {
                    self.reject(reason, &problem);
                }
            }
            Verdict::TooLarge { problem } => {
                if !self.hand.split() {
                    self.reject(reason::TOO_LARGE, &problem);
                }
            }
            Verdict::Doubtful { reason, problem } => {
                self.doubt(reason, &problem);
                self.health.fails(&problem);
                self.ledger.fails(&problem);
                let wait = self.backoff.failed(None);
                return self.put_off(wait);
            }
            Verdict::Retry { after, problem } => {
                self.health.fails(&problem);
                self.ledger.fails(&problem);
                let wait = self.backoff.failed(after);
                return self.put_off(wait);
            }
            Verdict::Misconfigured { problem } => {
                self.health.is_misconfigured(&problem);
                self.ledger.fails(&problem);
                let wait = self.backoff.misconfigured();
                return self.put_off(wait);
            }
        }
        self.backoff.succeeded();
        self.health.works();
        self.ledger.works();
        true
    }

    /// What cannot be sent now waits, on disk if it can.
    fn put_off(&mut self, wait: Duration) -> bool {
        self.not_before = Some((self.now)() + wait);
        while self.spill() {}
        false
    }

    /// Takes the next frame in hand: what is on disk is older than what is in memory. A frame that the
    /// others passed is next when one of them got through, or when there are no others.
    fn refill(&mut self) {
        if !self.hand.pieces.is_empty() {
            return;
        }
        if let Some(frame) = self.aside.pop_passed() {
            self.hand = Hand { to_blame: true, ..Hand::hold(frame, false) };
        } else if let Some(frame) = self.spool.as_mut().and_then(Spool::take) {
            self.hand = Hand::hold(frame, true);
        } else if let Some(frame) = self.memory.pop_front() {
            self.hand = Hand::hold(frame, false);
        } else if let Some(doubted) = self.aside.pop() {
            self.hand = Hand::hold(doubted.frame, false);
        }
        self.book_losses();
    }

    /// The receiver takes data: what it refused in doubt is looked at again.
    fn gets_through(&mut self) {
        self.aside.are_passed();
        self.doubted = None;
    }

    /// The first piece was refused in doubt: what is behind it may pass it, to see whether it is to blame. While
    /// nobody takes anything, one frame an hour is given up, the oldest.
    fn doubt(&mut self, reason: &'static str, problem: &str) {
        let now = (self.now)();
        if now.saturating_duration_since(*self.doubted.get_or_insert(now)) >= DOUBTFUL {
            self.doubted = Some(now);
            let Some(oldest) = self.aside.pop() else { return self.reject(reason, problem) };
            self.rejects(oldest.frame.samples(), oldest.reason, problem);
            self.ledger.rejected(oldest.frame.samples(), oldest.reason);
        }
        // What is in memory takes no more room there. What is on disk does, and a crash would cost it.
        let more = self.hand.pieces.front().filter(|_| self.hand.spooled).map_or(0, |piece| piece.size() as u64);
        if more > 0 && !self.aside.is_empty() && self.aside.size() + more > self.limit / 2 {
            return;
        }
        if let Some(frame) = self.hand.pieces.pop_front() {
            if self.hand.spooled {
                self.ledger.unspool(frame.samples());
            }
            if self.hand.pieces.is_empty() && std::mem::take(&mut self.hand.spooled) {
                self.acknowledge();
            }
            self.aside.push(frame, reason);
        }
    }

    /// The first piece is settled.
    fn settle(&mut self, enter: impl FnOnce(&Ledger, u64)) {
        let samples = self.hand.pieces.pop_front().map_or(0, |piece| piece.samples());
        if self.hand.spooled {
            self.ledger.unspool(samples);
        }
        enter(&self.ledger, samples);
        if self.hand.pieces.is_empty() && self.hand.spooled {
            self.acknowledge();
        }
    }

    /// Of the first piece the receiver has all but these.
    fn replace(&mut self, pieces: Frame) {
        let (left, spooled) = (pieces.samples(), self.hand.spooled);
        let Some(piece) = self.hand.pieces.front_mut() else { return };
        let written = std::mem::replace(piece, pieces).samples().saturating_sub(left);
        if spooled {
            self.ledger.unspool(written);
        }
        self.ledger.written(written);
    }

    /// The frame that was taken from the spool need not be there any more.
    fn acknowledge(&mut self) {
        if let Some(Err(error)) = self.spool.as_mut().map(Spool::acknowledge) {
            self.health.spool_fails(&error);
        }
    }

    fn reject(&mut self, reason: &'static str, problem: &str) {
        let samples = self.hand.pieces.front().map_or(0, Frame::samples);
        self.rejects(samples, reason, problem);
        self.settle(|ledger, samples| ledger.rejected(samples, reason));
    }

    /// Samples in memory are given up.
    fn drops(&mut self, samples: u64, reason: &'static str) {
        self.ledger.says_itself(reason);
        self.ledger.dropped(samples, reason);
        let now = (self.now)();
        self.health.drops(samples, reason, now);
    }

    /// To be called before the samples are entered.
    fn rejects(&mut self, samples: u64, reason: &'static str, problem: &str) {
        let now = (self.now)();
        self.ledger.says_itself(reason);
        self.health.rejects(samples, reason, problem, now);
    }

    /// What waits in memory, in bytes; a frame in hand that is also on disk is not counted.
    fn in_memory(&self) -> u64 {
        let hand = self.hand.pieces.iter().filter(|_| !self.hand.spooled);
        hand.chain(self.aside.frames()).chain(&self.memory).map(|frame| frame.size() as u64).sum()
    }

    /// Moves the oldest frame in memory to the spool. False if there is none, or it cannot be.
    fn spill(&mut self) -> bool {
        let Some(spool) = &mut self.spool else { return false };
        let hand = if self.hand.spooled { None } else { self.hand.pieces.front() };
        let Some(oldest) = hand.or(self.memory.front()) else { return false };
        let appended = spool.append(oldest);
        if let Err(error) = &appended {
            self.health.spool_fails(error);
        } else {
            self.health.spool_works();
            self.ledger.spool(oldest.samples());
            self.pop_next();
        }
        self.book_losses();
        appended.is_ok()
    }

    /// Takes the oldest frame in memory away and returns its samples.
    fn pop_oldest(&mut self) -> Option<u64> {
        let aside = self.aside.pop().map(|oldest| oldest.frame.samples());
        aside.or_else(|| self.pop_next())
    }

    /// Takes the frame in memory away that is next in line.
    fn pop_next(&mut self) -> Option<u64> {
        let hand = if self.hand.spooled { None } else { self.hand.pieces.pop_front() };
        hand.or_else(|| self.memory.pop_front()).map(|frame| frame.samples())
    }

    /// Enters what the spool gave up. It may have given up what is in hand, which is older still.
    fn book_losses(&mut self) {
        let Some(spool) = &mut self.spool else { return };
        self.ledger.recovered(spool.take_found());
        let losses = spool.take_losses();
        let mut full = losses.full;
        if self.hand.spooled && spool.disowns_taken() {
            // It outlives the spool's directory, in memory.
            self.hand.spooled = false;
            self.ledger.unspool(self.hand.samples());
        }
        if self.hand.spooled && !self.hand.pieces.is_empty() && !spool.is_taken() {
            full = full.saturating_add(self.hand.samples());
            self.hand = Hand::default();
        }
        let now = (self.now)();
        for (samples, reason) in [(full, reason::SPOOL), (losses.damaged, reason::DAMAGE)] {
            self.ledger.says_itself(reason);
            self.ledger.dropped_from_spool(samples, reason);
            self.health.drops(samples, reason, now);
        }
    }
}

impl<C> fmt::Debug for Delivery<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.hand.pieces.len() + self.aside.len() + self.memory.len();
        f.debug_struct("Delivery").field("waiting", &waiting).field("spool", &self.spool).finish_non_exhaustive()
    }
}
