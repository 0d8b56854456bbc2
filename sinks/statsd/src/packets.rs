//! Lines packed into packets, a datagram each or a piece of a stream, and several packets into one buffer.

use ebpf_process_core::RowId;

/// What is known of a packet after it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is on its way, and no refusal is known.
    Sent,
    /// It is on its way, but one before it was refused: it counts as failed in that one's place.
    Late,
    /// Only so many of its bytes are on their way. The lines within them are not sent again.
    Cut(usize),
    /// It certainly did not arrive: what it carried is still due.
    Lost,
}

/// A total that a line takes along.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Due {
    pub(crate) column: usize,
    /// Of a histogram.
    pub(crate) slot: Option<u8>,
    /// What was sent before.
    pub(crate) before: u64,
}

/// A total that did not arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Returned {
    pub(crate) row: RowId,
    pub(crate) due: Due,
}

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

/// Packets that are ready to go, one behind the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch<'a> {
    bytes: &'a [u8],
    packets: &'a [Packet],
    limit: usize,
}

impl<'a> Batch<'a> {
    /// Packet by packet: whole lines with line breaks between them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let bytes = self.bytes;
        self.packets.iter().map(move |packet| &bytes[packet.start..packet.end])
    }

    /// Pieces of several packets of which each but the last is as long as a packet may be.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let Self { bytes, packets, limit } = *self;
        let runs = packets.chunk_by(move |packet, _| packet.end - packet.start == limit);
        runs.filter_map(|run| Some((run.first()?, run.last()?))).map(|(first, last)| &bytes[first.start..last.end])
    }
}

#[derive(Clone, Copy, Debug)]
struct Packet {
    start: usize,
    end: usize,
    /// Samples that are in here alone.
    samples: u64,
    /// How many totals it and those before it take along.
    carried: usize,
}

/// What a packet consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As many lines as fit.
    #[default]
    Close,
    /// The same, filled up when another one follows: with zeros before its last numbers, a few before each.
    Filled,
    /// The lines of one sample.
    Samples,
}

/// The packets in the making. A line is written to its end first; then it is seen whether it fits.
#[derive(Debug)]
pub(crate) struct Packets {
    bytes: Vec<u8>,
    limit: usize,
    pub(crate) packing: Packing,
    /// Where the packet in the making starts.
    start: usize,
    /// Where the last line starts; a line break stands before it, if a line of its packet does.
    line: usize,
    /// Where the digits are of each line of the packet in the making.
    numbers: Vec<usize>,
    done: Vec<Packet>,
    /// Samples of the packet in the making.
    samples: u64,
    /// The packet with the first line of the sample in the making.
    first: Option<usize>,
    /// Samples in several packets: the first and the last of them.
    split: Vec<(usize, usize)>,
    rows: Vec<RowId>,
    /// What the lines take along: of which row, up to which byte of the packet.
    carried: Vec<(u32, u32, Due)>,
    fates: Vec<Fate>,
    /// What did not arrive.
    pub(crate) returned: Vec<Returned>,
}

/// A line that fits no packet.
pub(crate) struct TooLong;

impl Packets {
    /// None yet; one may have so many bytes.
    pub(crate) const fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            limit,
            packing: Packing::Close,
            start: 0,
            line: 0,
            numbers: Vec::new(),
            done: Vec::new(),
            samples: 0,
            first: None,
            split: Vec::new(),
            rows: Vec::new(),
            carried: Vec::new(),
            fates: Vec::new(),
            returned: Vec::new(),
        }
    }

    /// The next lines are of this row.
    pub(crate) fn start_row(&mut self, row: RowId) {
        self.rows.push(row);
    }

    /// Starts a line: its bytes are to be added to what is returned.
    #[inline]
    pub(crate) fn start_line(&mut self) -> &mut Vec<u8> {
        if self.bytes.len() > self.start {
            self.bytes.push(b'\n');
        }
        self.line = self.bytes.len();
        &mut self.bytes
    }

    /// Ends a line, whose digits begin at this byte and which takes something along.
    #[inline]
    pub(crate) fn end_line(&mut self, number: usize, due: Option<Due>) -> Result<(), TooLong> {
        let into_line = number - self.line;
        if self.bytes.len() - self.start > self.limit {
            if self.bytes.len() - self.line > self.limit {
                self.bytes.truncate(self.line.saturating_sub(1).max(self.start));
                self.line = self.bytes.len();
                return Err(TooLong);
            }
            self.close_before_line();
        }
        self.first.get_or_insert(self.done.len());
        self.numbers.push(self.line + into_line);
        if let Some(due) = due {
            // No packet is that large, no view has so many rows.
            let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            self.carried.push((small(self.rows.len() - 1), small(self.bytes.len() - self.start), due));
        }
        Ok(())
    }

    /// The packet in the making is done but for the last line, which starts another one.
    fn close_before_line(&mut self) {
        let (end, line, length) = (self.line - 1, self.line, self.bytes.len() - self.line);
        let room = (self.start + self.limit).saturating_sub(end);
        let gap = if self.packing == Packing::Filled && self.takes_zeros(room) { room } else { 0 };
        let next = end + gap;
        self.close(next);
        self.bytes.resize(self.bytes.len().max(next + length), b'0');
        self.bytes.copy_within(line..line + length, next);
        self.bytes.truncate(next + length);
        self.put_zeros(end, gap);
        self.numbers.clear();
        (self.start, self.line) = (next, next);
    }

    /// Whether the numbers of the packet in the making have room for so many zeros.
    fn takes_zeros(&self, count: usize) -> bool {
        let room = self.numbers.iter().rev().map(|number| zeros(&self.bytes[*number..]));
        room.scan(0, |sum, room| {
            *sum += room;
            Some(*sum)
        })
        .any(|sum| sum >= count)
    }

    /// Puts so many zeros before the last numbers of a packet that ended here.
    fn put_zeros(&mut self, mut end: usize, mut count: usize) {
        for &number in self.numbers.iter().rev() {
            if count == 0 {
                break;
            }
            let some = zeros(&self.bytes[number..end]).min(count);
            self.bytes.copy_within(number..end, number + count);
            self.bytes[number + count - some..number + count].fill(b'0');
            (end, count) = (number, count - some);
        }
    }

    fn close(&mut self, end: usize) {
        let samples = std::mem::take(&mut self.samples);
        self.done.push(Packet { start: self.start, end, samples, carried: self.carried.len() });
    }

    /// The next lines are of another sample.
    #[inline]
    pub(crate) const fn start_sample(&mut self) {
        self.first = None;
    }

    /// Ends a sample that has lines.
    #[inline]
    pub(crate) fn end_sample(&mut self) {
        let last = self.done.len();
        match self.first {
            Some(first) if first < last => self.split.push((first, last)),
            _ => self.samples += 1,
        }
    }

    /// Sends what is done where that is enough, or else everything: not in the middle of a sample.
    pub(crate) fn send(
        &mut self,
        everything: bool,
        send: &mut dyn FnMut(Batch<'_>, &mut Vec<Fate>),
        settled: &mut Settled,
    ) {
        let everything = everything || self.packing == Packing::Samples;
        if everything {
            self.close_all();
        } else if self.done.len() < (LARGEST / self.limit).clamp(1, MOST) {
            return;
        }
        let end = if everything { self.bytes.len() } else { self.start };
        self.fates.clear();
        if !self.done.is_empty() {
            send(Batch { bytes: &self.bytes[..end], packets: &self.done, limit: self.limit }, &mut self.fates);
        }
        self.settle(settled);
        self.bytes.drain(..end);
        (self.start, self.line) = (0, self.line - end);
        for number in &mut self.numbers {
            *number = number.saturating_sub(end);
        }
        self.done.clear();
        self.split.clear();
    }

    fn close_all(&mut self) {
        if self.bytes.len() > self.start {
            self.close(self.bytes.len());
            (self.start, self.line) = (self.bytes.len(), self.bytes.len());
            self.numbers.clear();
        }
    }

    /// Enters what became of the packets, and what they carried unless it is on its way.
    fn settle(&mut self, settled: &mut Settled) {
        let Self { done, split, rows, carried, fates, returned, samples, .. } = self;
        let arrived = |number: usize| fates.get(number) == Some(&Fate::Sent);
        let mut from = 0;
        for (number, packet) in done.iter().enumerate() {
            let left = match fates.get(number).copied().unwrap_or(Fate::Lost) {
                Fate::Sent | Fate::Late => None,
                Fate::Cut(left) => Some(left),
                Fate::Lost => Some(0),
            };
            *(if arrived(number) { &mut settled.written } else { &mut settled.failed }) += packet.samples;
            if let Some(left) = left {
                let lost = carried[from..packet.carried].iter().filter(|(_, end, _)| *end as usize > left);
                returned.extend(lost.map(|&(row, _, due)| Returned { row: rows[row as usize], due }));
            }
            from = packet.carried;
        }
        for &(first, last) in &*split {
            match (first..=last.min(done.len() - 1)).all(arrived) {
                // Its end is in the packet in the making, which decides.
                true if last == done.len() => *samples += 1,
                true => settled.written += 1,
                false => settled.failed += 1,
            }
        }
        carried.drain(..from);
        if carried.is_empty() {
            rows.drain(..rows.len().saturating_sub(1));
        }
    }
}

/// The most digits of a number that has zeros in front: netdata reads 30 and takes the rest for rubbish.
const DIGITS: usize = 28;

/// How many zeros may stand before the number that these bytes begin with.
fn zeros(bytes: &[u8]) -> usize {
    DIGITS.saturating_sub(bytes.iter().take(DIGITS).take_while(|byte| byte.is_ascii_digit()).count())
}

/// What one call may send: the most bytes, and the most packets of those that are cut by the kernel.
const LARGEST: usize = 65_507;
const MOST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// The packets of lines with these names and numbers, and how many runs of one size they are.
    fn packets(packing: Packing, lines: &[(&str, &str)]) -> (Vec<String>, usize) {
        let mut packets = Packets::new(20);
        packets.packing = packing;
        let (mut all, mut runs) = (Vec::new(), 0);
        let mut send = |batch: Batch<'_>, fates: &mut Vec<Fate>| {
            let cut = batch.runs().flat_map(|run| run.chunks(20));
            assert!(cut.eq(batch.iter()), "each but the last of a run is of one size");
            runs += batch.runs().count();
            all.extend(batch.iter().map(|packet| String::from_utf8(packet.to_vec()).expect("text")));
            fates.extend(batch.iter().map(|_| Fate::Sent));
        };
        let mut settled = Settled::default();
        for (name, number) in lines {
            packets.start_sample();
            let bytes = packets.start_line();
            bytes.extend_from_slice(name.as_bytes());
            let at = bytes.len();
            bytes.extend_from_slice(number.as_bytes());
            bytes.extend_from_slice(b"|c");
            if packets.end_line(at, None).is_ok() {
                packets.end_sample();
            }
            packets.send(false, &mut send, &mut settled);
        }
        packets.send(true, &mut send, &mut settled);
        assert_eq!((settled.written, settled.failed), (lines.len() as u64, 0));
        (all, runs)
    }

    #[test]
    fn a_packet_is_filled_up_without_another_line_or_number() {
        let lines =
            [("ab:", "1"), ("cd:", "22"), ("efg:", "333"), ("hi:", "4444"), ("exact:", "123456789012"), ("j:", "5")];
        let plain = ["ab:1|c\ncd:22|c", "efg:333|c\nhi:4444|c", "exact:123456789012|c", "j:5|c"];
        assert_eq!(packets(Packing::Close, &lines).0, plain);
        let filled = ["ab:1|c\ncd:00000022|c", "efg:333|c\nhi:04444|c", "exact:123456789012|c", "j:5|c"];
        assert_eq!(packets(Packing::Filled, &lines), (filled.map(str::to_owned).to_vec(), 1));
        // More than go at once.
        let many = vec![("name:", "1234567890"); 1000];
        let (sent, _) = packets(Packing::Filled, &many);
        assert_eq!(sent.len(), 1000);
        assert!(sent[..999].iter().all(|packet| packet == "name:0001234567890|c"));
    }

    #[test]
    fn no_number_gets_more_zeros_than_every_receiver_reads() {
        let mut packets = Packets::new(100);
        packets.packing = Packing::Filled;
        let mut book = Settled::default();
        let mut all: Vec<Vec<String>> = Vec::new();
        let mut send = |batch: Batch<'_>, fates: &mut Vec<Fate>| {
            all.extend(batch.runs().map(|run| run.chunks(100).map(|p| String::from_utf8_lossy(p).into()).collect()));
            fates.extend(batch.iter().map(|_| Fate::Sent));
        };
        for line in
            ["a:1.5|g", "b:2|c", &format!("{}:3|c", "x".repeat(90)), "c:44|c", &format!("{}:5|c", "y".repeat(90))]
        {
            packets.start_sample();
            let bytes = packets.start_line();
            bytes.extend_from_slice(line.as_bytes());
            let at = bytes.len() - line.len() + line.find(':').expect("a number") + 1;
            assert!(packets.end_line(at, None).is_ok());
            packets.end_sample();
        }
        packets.send(true, &mut send, &mut book);
        let long = |name: &str, number| format!("{}:{number}|c", name.repeat(90));
        // The first two have no room for 87 zeros, so the packet ends a run; a line of 94 bytes has room for six zeros.
        let expected = [
            vec!["a:1.5|g\nb:2|c".to_owned()],
            vec![long("x", "0000003")],
            vec!["c:44|c".to_owned()],
            vec![long("y", "5")],
        ];
        let flat: Vec<_> = all.concat();
        assert_eq!(flat, expected.concat());
        assert_eq!(all, [expected[0].clone(), [&expected[1][..], &expected[2][..]].concat(), expected[3].clone()]);
        assert_eq!(zeros(b"18446744073709551615|c"), 8);
        assert_eq!(zeros(b"1.5|g"), 27);
        assert_eq!(zeros(&[b'1'; 309]), 0);
    }
}
