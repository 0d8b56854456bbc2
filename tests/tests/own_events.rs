//! What the agent itself does per tick is what the documentation says.

use ebpf_process_tests::own_events::{SUBJECTS, check};
use ebpf_process_tests::{agent, live};

#[test]
fn the_agent_does_per_tick_what_the_documentation_says() {
    live::test("own-events", agent::can_run(), || SUBJECTS.iter().try_for_each(check));
}
