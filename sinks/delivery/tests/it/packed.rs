//! The sink whose items are packed into frames.

use std::sync::Arc;
use std::time::Duration;

use ebpf_process_core::testkit::{Bench, context, offer};
use ebpf_process_core::{Column, Ledger, Selection, Settlement, Sink as _, Unit, View};
use ebpf_process_delivery::{Carrier, Delivery, DeliveryOptions, Frame, Items, Limits, PackedSink, Verdict};
use parking_lot::Mutex;

/// An item for each sample: its name.
struct Names;

impl Items for Names {
    fn encode(&mut self, view: &View<'_>, take: &mut dyn FnMut(&[u8], u32)) {
        view.samples().for_each(|sample| take(sample.name().as_bytes(), 1));
    }
}

/// Takes everything.
#[derive(Clone, Default)]
struct Taken(Arc<Mutex<Vec<String>>>);

impl Carrier for Taken {
    fn send(&mut self, frame: &Frame, _: Duration) -> Verdict {
        self.0.lock().push(String::from_utf8_lossy(frame.bytes()).into_owned());
        Verdict::Accepted
    }
}

/// A sink of two items in a frame, for which one waits so long.
fn sink(taken: &Taken, age: Duration) -> (PackedSink<Names, Taken>, Arc<Ledger>) {
    let context = context("packed");
    let delivery = Delivery::new(taken.clone(), &DeliveryOptions::default(), &context).expect("a delivery");
    (PackedSink::new(Names, Limits::new(2, 100).age(age), delivery), context.ledger)
}

/// A view of three samples.
fn write(sink: &mut PackedSink<Names, Taken>, ledger: &Ledger) {
    let mut bench = Bench::new();
    let cells = ["a", "b", "c"].map(|name| bench.host(Column::counter(name, Unit::CALLS, "Calls")));
    let record = |recorder: &mut ebpf_process_core::Recorder| {
        for cell in &cells {
            cell.counter(recorder, 1);
        }
    };
    offer(ledger, 3);
    bench.tick(&Selection::default(), record, |view| sink.write(view)).expect("it takes views");
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn what_is_full_or_old_enough_is_sent_and_the_rest_at_the_end() {
    let taken = Taken::default();
    let (mut sink, ledger) = sink(&taken, HOUR);
    assert_eq!((sink.due(), sink.settles()), (None, Settlement::BySink));
    write(&mut sink, &ledger);
    sink.flush().expect("it goes on");
    assert_eq!((&taken.0.lock()[..], sink.due().is_some()), (&["ab".to_owned()][..], true));
    sink.close().expect("an end");
    assert_eq!((&taken.0.lock()[..], ledger.tally().written), (&["ab".to_owned(), "c".to_owned()][..], 3));

    let (taken, none) = (Taken::default(), Duration::ZERO);
    let (mut sink, ledger) = self::sink(&taken, none);
    write(&mut sink, &ledger);
    sink.flush().expect("it goes on");
    sink.flush().expect("it goes on");
    assert_eq!((ledger.tally().written, sink.due()), (3, None));
}

#[test]
fn what_is_undelivered_goes_to_the_successor() {
    let taken = Taken::default();
    let (mut first, ledger) = sink(&taken, HOUR);
    write(&mut first, &ledger);
    let legacy = first.bequeath().expect("a legacy");
    assert_eq!((legacy.samples, taken.0.lock().len()), (1, 1));
    let (mut heir, ledger) = sink(&taken, HOUR);
    offer(&ledger, 1);
    heir.inherit(legacy);
    heir.close().expect("an end");
    assert_eq!((&taken.0.lock()[..], ledger.tally().written), (&["ab".to_owned(), "c".to_owned()][..], 1));
}
