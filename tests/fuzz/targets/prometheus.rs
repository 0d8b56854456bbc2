//! A page reads back sample by sample, the same in both formats.
#![no_main]

#[path = "../../../sinks/prometheus/tests/reader/mod.rs"]
mod reader;

use ebpf_process_sink_prometheus::{Encoder, Format};
use fuzz::story::Story;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story<'_>| {
    let namespace = if story.choice.is_multiple_of(2) { "" } else { "ebpf_process" };
    let mut pages = [Format::Text, Format::OpenMetrics].map(|format| (format, Encoder::new(namespace), Vec::new()));
    story.tell(|view| {
        let [counts, others] = pages.each_mut().map(|(format, encoder, page)| encoder.encode(view, *format, page));
        assert_eq!(counts, others);
        assert_eq!(counts.written + counts.superseded + counts.rejected, view.len() as u64);
        let [text, openmetrics] = pages.each_ref().map(|(.., page)| std::str::from_utf8(page).expect("text"));
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
        let (mut lines, mut starts) = (samples_of(text).peekable(), 0_u64);
        for line in samples_of(openmetrics) {
            // The other format has the same lines, and start times.
            if lines.next_if_eq(&line).is_none() {
                starts += 1;
                assert!(line.contains("_created"), "{line}");
            }
        }
        assert!(lines.next().is_none() && starts <= counts.written);
        assert!(openmetrics.ends_with("# EOF\n"));
    });
});

fn samples_of(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}
