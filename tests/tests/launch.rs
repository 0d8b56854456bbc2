//! Somebody else's kernel probes count to the unit, by whatever this kernel offers.

use ebpf_process_tests::exact::Row;
use ebpf_process_tests::expect::Mode;
use ebpf_process_tests::{agent, launch, live};

fn row(hooks: &str, mode: Mode) {
    let needs = launch::agent().map(drop).and_then(|()| agent::can_run());
    live::test(&format!("strangers-probes-{hooks}-{mode}"), needs, || {
        launch::counts(&Row { hooks: hooks.into(), mode }).map(drop)
    });
}

#[test]
fn a_strangers_probes_are_exact_in_return_mode() {
    row("auto", Mode::Return);
    row("tracepoint", Mode::Return);
}

#[test]
fn a_strangers_probes_are_exact_in_entry_mode() {
    row("auto", Mode::Entry);
}
