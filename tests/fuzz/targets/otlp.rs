//! Each piece of an export request is one, and every sample is a data point of its own in them.
#![no_main]

#[path = "../../../sinks/otlp/tests/reader/mod.rs"]
mod reader;

use std::collections::HashSet;

use ebpf_process_sink_otlp::Encoder;
use fuzz::story::Story;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|story: Story<'_>| {
    let mut encoder = Encoder::new(story.own, None).with_enough(usize::from(story.choice) * 16);
    story.tell(|view| {
        let mut points = Vec::new();
        let rejected = encoder.encode(view, |piece, samples| {
            let read = reader::read(piece).expect("a request");
            assert_eq!(read.len(), samples as usize);
            points.extend(read);
        });
        assert_eq!(points.len() as u64 + rejected, view.len() as u64);
        let rows = view.kinds().flat_map(|kind| kind.rows()).map(|row| row.tick().wall.as_nanos());
        let times: HashSet<u128> = rows.collect();
        let mut known = HashSet::new();
        for mut point in points {
            assert!(times.contains(&u128::from(point.time)) && point.start <= point.time, "{point}");
            point.attributes.sort();
            let key = (point.name.clone(), format!("{:?}", point.attributes), point.time);
            assert!(known.insert(key), "{point} is there twice");
        }
    });
});
