//! Settings of the command line and of the environment are a plan, or an error on one line.
#![no_main]

use std::ffi::OsString;

use ebpf_process::registry;
use ebpf_process_config::{Plan, Sources};
use ebpf_process_core::identity;
use libfuzzer_sys::fuzz_target;

// Each line is `--set KEY=VALUE`, or a variable where the line begins with `$`.
fuzz_target!(|text: &str| {
    let (variables, settings): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('$'));
    let variables = variables.iter().filter_map(|line| line[1..].split_once('='));
    let variables = variables.map(|(key, value)| (OsString::from(identity().variable(key)), value.into()));
    let sources = Sources::built_in().environment(variables).set(settings.into_iter().map(str::to_owned));
    let registry = registry();
    let planned = sources.load(&registry).and_then(|loaded| {
        assert!(!loaded.show().is_empty());
        Plan::new(&loaded, &registry)
    });
    if let Err(error) = planned.map(drop) {
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
});
