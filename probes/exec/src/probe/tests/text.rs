//! Programs that write text.

use serde_json::json;

use super::rig::{Look, Rig};
use crate::shared::Standing;

#[test]
fn openmetrics_of_a_shell_script_becomes_rows_and_columns() {
    let script = r##"#!/bin/sh
count=0
while read -r question; do
    count=$((count + 1))
    echo "# TYPE reads counter"
    echo "# HELP reads Reads."
    echo "reads_total{disk=\"a\",way=\"in\"} $((count * 10))"
    echo "reads_total{disk=\"b\",way=\"in\"} $((count * 20))"
    echo "# TYPE up gauge"
    echo "up 1"
    if [ $count -gt 1 ]; then echo "new{disk=\"a\"} 0.5"; fi
    echo "# EOF"
done
"##;
    let mut rig = Rig::program(script, json!({"format": "openmetrics", "keys": ["disk"]}));
    let expected = ["own.reads disk=a,way=in 10", "own.reads disk=b,way=in 20", "own.up disk=_ 1"];
    assert_eq!(rig.batch(), expected);
    let expected =
        ["own.new disk=a 0.5", "own.reads disk=a,way=in 20", "own.reads disk=b,way=in 40", "own.up disk=_ 1"];
    assert_eq!(rig.batch(), expected);
}

#[test]
fn line_protocol_ends_with_an_empty_line() {
    let script = r"#!/bin/sh
while read -r question; do
    printf 'disk,disk=a reads=7u,busy=0.5 1600000000\n\n'
done
";
    let mut rig = Rig::program(script, json!({"format": "influx", "keys": ["disk"]}));
    for _ in 0..3 {
        assert_eq!(rig.batch(), ["own.disk.busy disk=a 0.5", "own.disk.reads disk=a 7"]);
    }
}

#[test]
fn who_writes_by_its_own_clock_need_not_read() {
    let writes = "while true; do echo 'up 1'; echo; sleep 0.01; done\n";
    for script in [format!("#!/bin/sh\n{writes}"), format!("#!/bin/sh\nexec 0<&-\n{writes}")] {
        let mut rig = Rig::program(&script, json!({"format": "openmetrics"}));
        for _ in 0..10 {
            assert_eq!(rig.batch(), ["own.up  1"]);
        }
    }
}

#[test]
fn a_text_that_cannot_be_read_is_that_ticks_absence() {
    let script = r#"#!/bin/sh
read -r question; printf 'up one\n# EOF\n'
read -r question; printf 'up 1\nup 2\n# EOF\n'
read -r question; printf '\377\n\n'
while read -r question; do printf '# TYPE a summary\na{quantile="1"} 1\na_count 3\nup 3\n# EOF\n'; done
"#;
    let mut rig = Rig::program(script, json!({"format": "openmetrics"}));
    rig.look();
    for problem in ["line 1 of the answer has no number", "up is there twice", "its answer is no UTF-8"] {
        rig.until(problem, |standing| matches!(standing, Standing::Wrong(said) if said.contains(problem)));
        let look = rig.look();
        assert!(matches!(&look, Look::Skipped(said) if said.contains(problem)), "{look:?}");
    }
    assert_eq!(rig.batch(), ["own.up  3"]);
}

#[test]
fn a_text_that_is_too_long_is_not_kept() {
    let script = r#"#!/usr/bin/env python3
import sys
for count, line in enumerate(sys.stdin, 1):
    if count == 2:
        for _ in range(40):
            sys.stdout.write("x" * 500000 + " 1\n")
    print(f"up {count}\n", flush=True)
"#;
    let mut rig = Rig::program(script, json!({"format": "openmetrics"}));
    assert_eq!(rig.batch(), ["own.up  1"]);
    rig.until(
        "it is wrong",
        |standing| matches!(standing, Standing::Wrong(said) if said.contains("has more than 8 MiB")),
    );
    assert!(matches!(rig.look(), Look::Skipped(_)));
    assert_eq!(rig.batch(), ["own.up  3"]);
}

#[test]
fn a_text_may_be_fatal() {
    let script = "#!/bin/sh\necho '{\"fatal\": \"no sensor\"}'\nread -r line\n";
    let mut rig = Rig::program(script, json!({"format": "influx"}));
    let why = rig.closed();
    assert!(why.starts_with("the program cannot work: no sensor"), "{why}");
}
