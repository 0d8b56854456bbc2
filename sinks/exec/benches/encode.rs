//! What a value costs in both formats.
//!
//! `cargo bench -p ebpf-process-sink-exec --bench encode`. Only encoding is on the clock.

use std::hint::black_box;

use ebpf_process_core::testkit::cost;
use ebpf_process_sink_exec::{Encoder, Encoding, Format, Integers};

fn main() {
    for (name, format) in [("exec, rows", Format::Rows), ("exec, samples", Format::Samples)] {
        let new = || Encoder::new(Encoding { format, integers: Integers::Numbers }, 8 << 20);
        cost::report(name, new, |encoder, view| drop(black_box(encoder.encode(view))));
    }
}
