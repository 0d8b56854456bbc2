//! What a cell costs as a data point.
//!
//! `cargo bench -p ebpf-process-sink-otlp --bench encode`. Only encoding is on the clock.

use std::hint::black_box;

use ebpf_process_core::testkit::cost;
use ebpf_process_sink_otlp::Encoder;

fn main() {
    cost::report(
        "otlp",
        || Encoder::new("node1", None),
        |encoder, view| {
            black_box(encoder.encode(view, |piece, samples| {
                black_box((piece, samples));
            }));
        },
    );
}
