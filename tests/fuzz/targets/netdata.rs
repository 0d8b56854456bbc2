//! netdata takes every line, and no chart outlives the agent.
#![no_main]

#[path = "../../../sinks/netdata/tests/parser/mod.rs"]
mod parser;

use std::time::Duration;

use ebpf_process_core::Scope;
use ebpf_process_sink_netdata::Encoder;
use fuzz::story::Story;
use libfuzzer_sys::fuzz_target;
use parser::Netdata;

fuzz_target!(|story: Story<'_>| {
    let scope = if story.choice.is_multiple_of(2) { Scope::Host } else { Scope::Filtered };
    let mut encoder = Encoder::new(Duration::from_secs(1), scope);
    let mut netdata = Netdata::default();
    story.tell(|view| {
        netdata.read(encoder.encode(view)).expect("lines that netdata takes");
        assert!(netdata.sets <= 2 + 64 * view.len(), "as many numbers as there are");
    });
    netdata.read(encoder.retire_all()).expect("lines that netdata takes");
    assert!(netdata.charts.is_empty(), "no chart is left");
});
