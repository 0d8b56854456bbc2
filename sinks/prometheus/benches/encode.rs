//! What a cell costs on a page for Prometheus.
//!
//! `cargo bench -p ebpf-process-sink-prometheus --bench encode`. Only encoding is on the clock, in either format and in
//! pieces as they are sent.

use std::hint::black_box;

use ebpf_process_core::testkit::cost;
use ebpf_process_sink_prometheus::{Encoder, Format};

fn main() {
    for (name, format) in [("prometheus, text", Format::Text), ("prometheus, OpenMetrics", Format::OpenMetrics)] {
        cost::report(
            name,
            || Encoder::new("ebpf_process"),
            |encoder, view| _ = black_box(encoder.encode_pieces(view, format, |piece| _ = black_box(piece))),
        );
    }
}
