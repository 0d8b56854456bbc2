//! Bytes are configuration files that another process has read, each in one way only, or nothing.
#![no_main]

use ebpf_process_config::Texts;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(texts) = Texts::decode(bytes) {
        assert_eq!(texts.encode(), bytes);
        assert!(texts.paths().count() <= bytes.len());
    }
});
