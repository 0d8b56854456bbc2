//! The old syntax: whatever stands in `ebpf_process.conf`, the agent starts.
#![no_main]

use ebpf_process::registry;
use ebpf_process_config::{Directories, Plan, Sources};
use fuzz::scratch;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    scratch::in_directory(|directory| {
        scratch::file(directory, "ebpf_process.conf", text.as_bytes());
        let directories = Directories::new(Some(directory.to_owned()), Some(directory.to_owned()));
        let registry = registry();
        let loaded = Sources::netdata(&directories, None).load(&registry).expect("it never fails");
        assert!(loaded.warnings().iter().all(|warning| !warning.contains(char::is_control)));
        Plan::new(&loaded, &registry).expect("a plan");
    });
});
