//! Each packet is whole lines within its limit, in any dialect, and counters add up at the receiver.
#![no_main]

#[path = "../../../sinks/statsd/tests/receiver/mod.rs"]
mod receiver;

use ebpf_process_core::Value;
use ebpf_process_sink_statsd::{Encoder, Fate};
use fuzz::story::Story;
use libfuzzer_sys::fuzz_target;
use receiver::{ALL, Receiver};

fuzz_target!(|story: Story<'_>| {
    let choice = usize::from(story.choice);
    let syntax = ALL[choice % ALL.len()];
    let limit = 64 + choice / ALL.len() % 1500;
    let mut encoder = Encoder::new(syntax, story.own, limit);
    let mut receiver = Receiver::new(syntax, limit);
    story.tell(|view| {
        let before = receiver.counters.values().sum::<u128>();
        let settled = encoder.encode(view, &mut |packet| {
            receiver.read(packet).expect("whole lines within the limit");
            Fate::Sent
        });
        assert_eq!(settled.written + settled.too_long + settled.twins, view.len() as u64);
        assert_eq!(settled.failed, 0, "every packet was sent");
        // What arrives is at most what there is, even where every counter begins anew.
        let totals = view.metrics().flat_map(|metric| metric.samples()).map(|sample| match sample.value() {
            Value::Counter(total) => u128::from(total),
            // Room for what a number of this size is rounded by.
            Value::Scaled(scaled) => (scaled.in_unit() * (1.0 + 1e-9)) as u128 + 1,
            Value::Gauge(_) => 0,
            Value::Histogram(histogram) => histogram.counts().iter().map(|slot| u128::from(*slot)).sum(),
        });
        assert!(receiver.counters.values().sum::<u128>() - before <= totals.sum(), "nothing is made up");
    });
    assert!(receiver.gauges.values().all(|level| level.is_finite()));
    assert!(receiver.lines >= receiver.gauges.len().max(receiver.counters.len()));
});
