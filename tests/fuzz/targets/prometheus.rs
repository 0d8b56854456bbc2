//! A page reads back sample by sample, the same in both formats.
#![no_main]

#[path = "../../../sinks/prometheus/tests/reader/mod.rs"]
mod reader;

use ebpf_process_sink_prometheus::{Encoder, Format, Page};
use fuzz::story::Story;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story<'_>| {
    let mut encoder = Encoder::new(if story.choice.is_multiple_of(2) { "" } else { "ebpf_process" });
    let mut page = Page::default();
    story.tell(|view| {
        let counts = encoder.encode(view, &mut page);
        assert_eq!(counts.written + counts.rejected, view.len() as u64);
        let [text, openmetrics] =
            [Format::Text, Format::OpenMetrics].map(|format| std::str::from_utf8(page.bytes(format)).expect("text"));
        let mut samples = 0;
        if !text.is_empty() {
            for lines in reader::read(text).expect("a page").values() {
                // A histogram is its buckets, a sum and a count.
                let of_histogram = |name: &str| lines.iter().filter(|(own, ..)| own.ends_with(name)).count();
                let is_histogram = lines.iter().any(|(_, labels, _)| labels.contains_key("le"));
                samples += if is_histogram { of_histogram("_count") } else { lines.len() };
            }
        }
        assert_eq!(samples as u64, counts.written);
        assert!(samples_of(text).eq(samples_of(openmetrics)), "the same in both formats");
        assert!(openmetrics.ends_with("# EOF\n"));
    });
});

fn samples_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}
