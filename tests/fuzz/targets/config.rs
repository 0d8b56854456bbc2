//! A configuration is a plan, or an error on one line.
#![no_main]

use ebpf_process::registry;
use ebpf_process_config::{Plan, Sources, confine};
use fuzz::scratch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    scratch::in_directory(|directory| {
        let path = scratch::file(directory, "ebpf-process.toml", bytes);
        let registry = registry();
        let loaded = Sources::command_line(Some(&path)).load(&registry);
        let planned = loaded.and_then(|loaded| {
            assert!(!loaded.show().is_empty());
            Plan::new(&loaded, &registry)
        });
        match planned.and_then(|plan| confine(&plan)) {
            Ok(()) => {}
            Err(error) => assert!(!error.to_string().contains(char::is_control), "{error}"),
        }
    });
});
