//! From lines to packets that were sent, and what became of each sample.

use std::cell::Cell;

use ebpf_process_core::{SeriesCache, SeriesId};

use crate::encode::Entry;
use crate::line::Line;
use crate::packet::{Due, Fate, Fit, Packet};

/// What became of a view's samples; the numbers add up to the view's size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Sent, or with nothing to send.
    pub written: u64,
    /// In a packet that was lost or cut, or in one that counts in the place of a lost one.
    pub failed: u64,
    /// With a line that fits no packet.
    pub too_long: u64,
    /// Gauges whose name another series has.
    pub twins: u64,
}

/// One view on its way.
pub(crate) struct Dispatch<'a> {
    pub(crate) packet: &'a mut Packet,
    /// Where a total is entered once it has been sent.
    pub(crate) series: &'a SeriesCache<Entry>,
    pub(crate) send: &'a mut dyn FnMut(&[u8]) -> Fate,
    pub(crate) settled: &'a mut Settled,
    /// Samples with nothing to send.
    pub(crate) idle: &'a mut u64,
}

/// A line that was taken: what became of the packet that had to go before it, if one had to.
struct Taken(Option<Fate>);

impl Dispatch<'_> {
    /// A counter's total.
    pub(crate) fn counter(&mut self, id: SeriesId, line: &Line, sent: &Cell<u64>, total: u64) {
        let Some(growth) = growth(total, sent) else {
            self.idle();
            return;
        };
        line.push(self.packet.start_line(), b"", itoa::Buffer::new().format(growth).as_bytes());
        self.end_sample(Some(Due { id, slot: 0, total }));
    }

    /// A gauge's level as digits without a sign; `adds` says whether one with a sign is a change.
    pub(crate) fn gauge(&mut self, line: &Line, negative: bool, digits: &[u8], adds: bool) {
        let bytes = self.packet.start_line();
        if negative && adds {
            // Both lines count as one, so that no packet ends between them.
            line.push(bytes, b"", b"0");
            bytes.push(b'\n');
        }
        line.push(bytes, if negative { b"-" } else { b"" }, digits);
        self.end_sample(None);
    }

    /// A histogram's totals by slot. It is one sample, however many lines and packets it takes.
    pub(crate) fn histogram(&mut self, id: SeriesId, line: &Line, sent: &[Cell<u64>], totals: &[u64]) {
        let (mut lines, mut arrived) = (0, true);
        for (slot, (&total, sent)) in totals.iter().zip(sent).enumerate() {
            let Some(growth) = growth(total, sent) else { continue };
            let (mut bound, mut digits) = (itoa::Buffer::new(), itoa::Buffer::new());
            let bound = bound.format(largest(slot)).as_bytes();
            line.push_slot(self.packet.start_line(), bound, digits.format(growth).as_bytes());
            let Some(Taken(before)) = self.end_line(Some(Due { id, slot, total })) else {
                self.settled.too_long += 1;
                return;
            };
            arrived &= lines == 0 || before.is_none_or(|fate| fate == Fate::Sent);
            lines += 1;
        }
        match (lines, arrived) {
            (0, _) => self.idle(),
            (_, true) => self.packet.samples += 1,
            (_, false) => self.settled.failed += 1,
        }
    }

    /// Sends what is left.
    pub(crate) fn finish(&mut self) {
        if !self.packet.all().is_empty() {
            let fate = (self.send)(self.packet.all());
            self.settle(fate);
            self.packet.clear();
        }
    }

    /// A sample with nothing to send.
    const fn idle(&mut self) {
        self.settled.written += 1;
        *self.idle += 1;
    }

    /// Ends the only line of a sample.
    fn end_sample(&mut self, due: Option<Due>) {
        match self.end_line(due) {
            Some(_) => self.packet.samples += 1,
            None => self.settled.too_long += 1,
        }
    }

    /// Ends a line: `None` when it is too long for any packet.
    fn end_line(&mut self, due: Option<Due>) -> Option<Taken> {
        let before = match self.packet.fit() {
            Fit::Inside => None,
            Fit::Behind => {
                let fate = (self.send)(self.packet.before_line());
                self.settle(fate);
                self.packet.keep_line();
                Some(fate)
            }
            Fit::TooLong => {
                self.packet.drop_line();
                return None;
            }
        };
        self.packet.carry(due);
        Some(Taken(before))
    }

    /// Enters what became of a packet, and what it carried unless that is still due.
    fn settle(&mut self, fate: Fate) {
        let samples = std::mem::take(&mut self.packet.samples);
        let left = match fate {
            Fate::Sent => {
                self.settled.written += samples;
                usize::MAX
            }
            Fate::Late => {
                self.settled.failed += samples;
                usize::MAX
            }
            Fate::Cut(left) => {
                self.settled.failed += samples;
                left
            }
            Fate::Lost => {
                self.settled.failed += samples;
                0
            }
        };
        for (end, Due { id, slot, total }) in self.packet.carried.drain(..) {
            if end <= left
                && let Some(sent) = self.series.get(id).and_then(|entry| entry.sent(slot))
            {
                sent.set(total);
            }
        }
    }
}

/// What a total has grown by since the one that was sent last, if it has. One that fell was reset:
/// all of it is new, and still is if it does not arrive.
fn growth(total: u64, sent: &Cell<u64>) -> Option<u64> {
    if total < sent.get() {
        sent.set(0);
    }
    let growth = total - sent.get();
    (growth > 0).then_some(growth)
}

/// The largest value that falls into a slot.
const fn largest(slot: usize) -> u64 {
    if slot >= 63 { u64::MAX } else { (1 << (slot + 1)) - 1 }
}
