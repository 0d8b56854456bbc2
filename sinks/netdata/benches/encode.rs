//! What a cell costs as a line for netdata.
//!
//! `cargo bench -p ebpf-process-sink-netdata --bench encode`. Only encoding is on the clock.

use std::hint::black_box;
use std::time::Duration;

use ebpf_process_core::Scope;
use ebpf_process_core::testkit::cost;
use ebpf_process_sink_netdata::Encoder;

fn main() {
    let new = || Encoder::new(Duration::from_secs(1), Scope::Host);
    cost::report("netdata", new, |encoder, view| {
        black_box(encoder.encode(view));
    });
}
