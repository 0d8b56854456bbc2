//! Each row of the table operation x tier, on the kernel at hand.

use ebpf_process_tests::visibility::measure;
use ebpf_process_tests::{agent, live};

#[test]
fn tracepoints_see_of_each_operation_what_the_table_says() {
    live::test("operations-by-tracepoint", agent::can_run(), || measure::all("tracepoint")?.verdict().map(drop));
}
