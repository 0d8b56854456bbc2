//! Batches that the program has, or is about to get, until it answers them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ebpf_process_delivery::{Ticket, Verdict};
use ebpf_process_peer::{TOLD, cleaned};

use crate::batch::Batch;
use crate::message::{Answer, Rejection};
use crate::reason;
use crate::rejected::Refused;
use crate::words::Words;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Until an answer.
    pub(crate) reply: Duration,
    /// The same where the program says that it works.
    pub(crate) age: Duration,
}

/// A batch to be sent.
#[derive(Debug)]
pub(crate) struct Submitted {
    /// Settled with what becomes of it; it has the batch's number.
    pub(crate) ticket: Ticket,
    /// None for what was written by no encoder of today.
    pub(crate) batch: Option<Batch>,
}

/// The batches of one program.
#[derive(Debug)]
pub(crate) struct Flights {
    waiting: VecDeque<Submitted>,
    sent: Vec<Sent>,
    /// The highest number that any program has had.
    highest: u64,
    patience: Patience,
}

#[derive(Debug)]
struct Sent {
    ticket: Ticket,
    batch: Batch,
    since: Instant,
    /// Once it has gone out as a whole.
    deadline: Option<Instant>,
}

/// What goes out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) stream: u128,
    pub(crate) number: u64,
    pub(crate) resent: bool,
    pub(crate) body: Bytes,
}

/// What an answer has brought about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The batch is done, and so many refusals point at nothing in it.
    Done { astray: u64 },
    /// It comes again.
    Later,
    /// It has more time.
    Working,
}

impl Flights {
    pub(crate) const fn new(patience: Patience) -> Self {
        Self { waiting: VecDeque::new(), sent: Vec::new(), highest: 0, patience }
    }

    /// Takes batches that are to be sent.
    pub(crate) fn take(&mut self, submitted: VecDeque<Submitted>) {
        self.waiting.extend(submitted);
    }

    /// The next batch to send to a program that wants these words, which then has it. One in other words is rejected.
    pub(crate) fn next(&mut self, wanted: Words, now: Instant) -> Option<Outgoing> {
        loop {
            let Submitted { ticket, batch } = self.waiting.pop_front()?;
            let Some(batch) = batch.filter(|batch| batch.words == wanted) else {
                let problem = "the program wants another format than it wanted when this batch was made".to_owned();
                ticket.settle(Verdict::Rejected { reason: reason::FORMAT, problem });
                continue;
            };
            let (stream, number, resent) = (ticket.stream(), ticket.number(), ticket.is_resent());
            let out = Outgoing { stream, number, resent, body: batch.body.clone() };
            self.highest = self.highest.max(out.number);
            self.sent.push(Sent { ticket, batch, since: now, deadline: None });
            return Some(out);
        }
    }

    /// A batch has gone out as a whole: from now on its answer is waited for, for as long as answers to all that the
    /// program has may take.
    pub(crate) fn written(&mut self, number: u64, now: Instant) {
        let limit = self.patience.reply.saturating_mul(self.count());
        if let Some(sent) = self.sent.iter_mut().find(|sent| sent.ticket.number() == number) {
            sent.deadline = now.checked_add(limit);
        }
    }

    /// Takes an answer in; an error is what is wrong with it.
    pub(crate) fn answer(&mut self, number: u64, answer: Answer, now: Instant) -> Result<Settled, &'static str> {
        let (more, age) = (self.patience.reply.saturating_mul(self.count()), self.patience.age);
        let Some(at) = self.sent.iter().position(|sent| sent.ticket.number() == number) else {
            let known = (1..=self.highest).contains(&number);
            return Err(if known { "the batch was answered before" } else { "there is no such batch" });
        };
        if answer == Answer::Working {
            let sent = &mut self.sent[at];
            sent.deadline =
                now.checked_add(more).zip(sent.since.checked_add(age)).map(|(more, oldest)| more.min(oldest));
            return Ok(Settled::Working);
        }
        let Sent { ticket, batch, .. } = self.sent.remove(at);
        let told =
            |reason: &str| format!("the program rejects of batch {number}: {}", cleaned(reason.as_bytes(), TOLD));
        let mut astray = 0;
        let verdict = match answer {
            Answer::Later(after, reason) => {
                let problem = format!("the program wants batch {number} later: {}", cleaned(reason.as_bytes(), TOLD));
                ticket.settle(Verdict::Retry { after: Some(after), problem });
                return Ok(Settled::Later);
            }
            Answer::Accepted | Answer::Working => Verdict::Accepted,
            Answer::RejectedWhole(reason) => Verdict::Rejected { reason: reason::REJECTED, problem: told(&reason) },
            Answer::Rejected(rejections) => {
                let refused = batch.count(&rejections);
                astray = refused.astray;
                match (refused, rejections.first()) {
                    (Refused { cells: rejected @ 1.., .. }, Some(Rejection { reason, .. })) => {
                        Verdict::Partly { rejected, reason: reason::REJECTED, problem: told(reason) }
                    }
                    _ => Verdict::Accepted,
                }
            }
        };
        ticket.settle(verdict);
        Ok(Settled::Done { astray })
    }

    /// There is no program any more. What it has not answered comes again, at the earliest after a while. Whether there
    /// was anything.
    pub(crate) fn are_lost(&mut self, problem: &str, after: Option<Duration>) -> bool {
        let sent = self.sent.drain(..).map(|sent| sent.ticket);
        let tickets: Vec<_> = sent.chain(self.waiting.drain(..).map(|submitted| submitted.ticket)).collect();
        let any = !tickets.is_empty();
        for ticket in tickets {
            ticket.settle(Verdict::Retry { after, problem: problem.to_owned() });
        }
        any
    }

    /// A batch that has had no answer in time.
    pub(crate) fn overdue(&self, now: Instant) -> Option<u64> {
        let late = |sent: &&Sent| sent.deadline.is_some_and(|deadline| deadline <= now);
        self.sent.iter().find(late).map(|sent| sent.ticket.number())
    }

    /// When the first of them is overdue.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.sent.iter().filter_map(|sent| sent.deadline).min()
    }

    fn count(&self) -> u32 {
        u32::try_from(self.sent.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ebpf_process_core::testkit::{context, offer};
    use ebpf_process_delivery::{Delivery, DeliveryOptions, Frame, Submit};
    use parking_lot::Mutex;

    use super::*;
    use crate::encoding::{Encoding, Format};
    use crate::integers::Integers;
    use crate::words::Formats;

    const WORDS: Words = Words::Json(Encoding { format: Format::Rows, integers: Integers::Numbers });
    const SECOND: Duration = Duration::from_secs(1);

    /// Keeps what is submitted.
    #[derive(Clone, Default)]
    struct Keeper(Arc<Mutex<VecDeque<Submitted>>>);

    impl Submit for Keeper {
        fn submit(&mut self, ticket: Ticket, frame: &Frame, _: Duration) {
            self.0.lock().push_back(Submitted { ticket, batch: Batch::read(&frame.shared(), Formats(&[])) });
        }

        fn window(&self) -> usize {
            64
        }

        fn overwrites(&self) -> bool {
            true
        }
    }

    /// So many batches with the program, and the delivery that they are from.
    fn flying(count: u64, now: Instant) -> (Flights, Delivery<Keeper>) {
        let (context, keeper) = (context("mine"), Keeper::default());
        let mut delivery = Delivery::new(keeper.clone(), &DeliveryOptions::default(), &context).expect("a delivery");
        for _ in 0..count {
            let mut frame = Frame::default();
            frame.push(&[&WORDS.mark()[..], b"\"kinds\":[]}\n"].concat(), 1);
            offer(&context.ledger, 1);
            delivery.offer(frame);
            delivery.work();
        }
        let mut flights = Flights::new(Patience { reply: 10 * SECOND, age: 60 * SECOND });
        flights.take(std::mem::take(&mut keeper.0.lock()));
        let numbers: Vec<_> = std::iter::from_fn(|| flights.next(WORDS, now)).map(|out| out.number).collect();
        assert_eq!(numbers, (1..=count).collect::<Vec<_>>());
        (flights, delivery)
    }

    #[test]
    fn an_answer_is_waited_for_as_long_as_answers_to_all_may_take() {
        let now = Instant::now();
        let (mut flights, _delivery) = flying(3, now);
        assert_eq!((flights.due(), flights.overdue(now + 1000 * SECOND)), (None, None), "nothing has gone out");
        flights.written(2, now);
        flights.written(3, now + SECOND);
        assert_eq!(flights.due(), Some(now + 30 * SECOND));
        assert_eq!(flights.overdue(now + 29 * SECOND), None);
        assert_eq!(flights.overdue(now + 30 * SECOND), Some(2));
        // Who works has as long again, up to its age.
        assert_eq!(flights.answer(2, Answer::Working, now + 5 * SECOND), Ok(Settled::Working));
        assert_eq!(flights.due(), Some(now + 31 * SECOND), "the third one's");
        assert_eq!(flights.answer(3, Answer::Accepted, now), Ok(Settled::Done { astray: 0 }));
        assert_eq!(flights.due(), Some(now + 35 * SECOND));
        assert_eq!(flights.answer(2, Answer::Working, now + 50 * SECOND), Ok(Settled::Working));
        assert_eq!(flights.due(), Some(now + 60 * SECOND));
    }

    #[test]
    fn an_answer_to_nothing_is_said_to_be_one() {
        let now = Instant::now();
        let (mut flights, _delivery) = flying(2, now);
        assert_eq!(flights.answer(1, Answer::Accepted, now), Ok(Settled::Done { astray: 0 }));
        assert_eq!(flights.answer(1, Answer::Accepted, now), Err("the batch was answered before"));
        for unknown in [0, 3] {
            assert_eq!(flights.answer(unknown, Answer::Accepted, now), Err("there is no such batch"));
        }
        assert_eq!(flights.answer(2, Answer::Later(SECOND, String::new()), now), Ok(Settled::Later));
        assert_eq!((flights.due(), flights.are_lost("it is gone", None)), (None, false));
        let (mut flights, _delivery) = flying(1, now);
        assert!(flights.are_lost("it is gone", None));
    }
}
