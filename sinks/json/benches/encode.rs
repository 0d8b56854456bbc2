//! What a cell costs as JSON: with its total, what was added, and the rate.
//!
//! `cargo bench -p ebpf-process-sink-json --bench encode`. Only encoding is on the clock.

use std::hint::black_box;

use ebpf_process_core::testkit::cost;
use ebpf_process_sink_json::Encoder;

fn main() {
    cost::report("json", Encoder::default, |encoder, view| drop(black_box(encoder.encode(view))));
}
