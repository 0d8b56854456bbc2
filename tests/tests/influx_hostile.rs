//! Hostile names through the influx encoder into a real `InfluxDB`: one point each, nothing forged, and the server
//! takes the next batch.

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{Descriptor, Selection, Unit};
use ebpf_process_sinks::influx::Encoder;
use ebpf_process_tests::receivers::influx::Influx;
use ebpf_process_tests::{Failure, Outcome, live};

/// Every byte, and what has a meaning to some protocol. What is not UTF-8 becomes text as a probe makes it text.
fn hostile() -> Vec<String> {
    let nasty: [&[u8]; 14] = [
        b"\"quoted\"",
        b"it's",
        b"new\nline",
        b"x calls=1i 1\nforged,a=b calls=2i 2",
        b"a|b:c,d=e#f",
        b"# comment",
        b"trailing\\",
        b"\\\\",
        b"a\\,b\\ c\\=d",
        b" ",
        b"",
        b"time",
        b"\xff\xfe invalid \xc3\x28",
        b"\x00\x1b[31m",
    ];
    let bytes = (0..=u8::MAX).map(|byte| vec![byte]);
    let long = std::iter::once(b"4 KiB, ".iter().copied().cycle().take(4096).collect());
    let all = bytes.chain(nasty.iter().map(|text| text.to_vec())).chain(long);
    all.map(|text| String::from_utf8_lossy(&text).into_owned()).collect()
}

/// The lines of one counter of the value `n` and the label `n`, with one more label and one more tag.
fn lines(n: usize, value: &str, selection: &Selection) -> Vec<u8> {
    let calls = Descriptor::counter("hostile.calls", Unit::CALLS, "Calls").labels(["n", "name"]).share();
    let mut bench = Bench::new();
    let id = bench.series(&calls, &[&n.to_string(), value]);
    let mut encoder = Encoder::new("host");
    bench.tick(selection, |recorder| recorder.counter(id, n as u64), |view| encoder.encode(view).bytes.to_vec())
}

/// Writes `lines` for each hostile text, and finds one series for each, with its value.
fn one_point_each(lines: impl Fn(usize, &str) -> Vec<u8>) -> Outcome<()> {
    let influx = Influx::start()?;
    let names = hostile();
    // One batch with all of them: a forged line break would take its neighbours along.
    let batch: Vec<u8> = names.iter().enumerate().flat_map(|(n, name)| lines(n, name)).collect();
    influx.write(&batch)?;
    let (series, totals) = (influx.series()?, influx.totals()?);
    if series != names.len() {
        return Err(Failure::new(format!("{series} series of {} names", names.len())));
    }
    for (n, name) in names.iter().enumerate() {
        #[expect(clippy::cast_precision_loss, reason = "there are a few hundred")]
        let wanted = Some(n as f64);
        let got = totals.get("hostile.calls", Some(("n", &n.to_string())));
        if got != wanted {
            return Err(Failure::new(format!("the point of {name:?} is {got:?}, not {wanted:?}")));
        }
    }
    influx.write(&lines(names.len(), "harmless"))?;
    let next = influx.series()?;
    if next == series + 1 { Ok(()) } else { Err(Failure::new(format!("{next} series after the next batch"))) }
}

#[test]
fn hostile_label_values_are_one_point_each() {
    live::test("influx-hostile-values", Influx::is_installed(), || {
        one_point_each(|n, name| lines(n, name, &Selection::default()))
    });
}

#[test]
fn hostile_tag_names_are_one_point_each() {
    live::test("influx-hostile-names", Influx::is_installed(), || {
        one_point_each(|n, name| {
            let tags = [(name.to_owned(), name.to_owned())].into();
            lines(n, "value", &Selection { tags, ..Selection::default() })
        })
    });
}
