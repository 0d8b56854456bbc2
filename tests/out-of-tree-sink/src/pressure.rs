//! A probe that reads files: how long work has waited for a resource, as the kernel tells in `/proc/pressure`.

use std::path::PathBuf;

use ebpf_process_core::prelude::*;

const RESOURCES: [&str; 3] = ["cpu", "io", "memory"];

pub struct Pressure(PathBuf, [RowId; 3], [ColumnId; 2]);

#[derive(serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    folder: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self { folder: "/proc/pressure".into() }
    }
}

impl Options {
    pub fn opens(&self) -> [Access; 3] {
        RESOURCES.map(|name| Access::Read(self.folder.join(name)))
    }
}

/// Some of the work waited, or all of it.
pub fn columns() -> [Declared; 2] {
    ["some", "full"].map(|share| {
        let column = Column::counter("pressure.stalled", Unit::SECONDS, "Time in which work waited")
            .scale(1e-6)
            .labels([("share", share)]);
        Declared::new(EntityKind::new("resource").keys(["resource"]), column)
    })
}

impl Pressure {
    pub fn build(options: Options, cx: &mut ProbeContext<'_>) -> Result<Self, BuildError> {
        let [some, full] = columns();
        let kind = cx.kind(some.kind)?;
        let columns = [cx.column(kind, some.column)?, cx.column(kind, full.column)?];
        let rows = [cx.row(kind, 0, &["cpu"])?, cx.row(kind, 1, &["io"])?, cx.row(kind, 2, &["memory"])?];
        Ok(Self(options.folder, rows, columns))
    }
}

impl Probe for Pressure {
    fn collect(&mut self, recorder: &mut Recorder) -> ProbeResult {
        for (row, name) in self.1.iter().zip(RESOURCES) {
            let text = std::fs::read_to_string(self.0.join(name))?;
            let totals = text.lines().filter_map(|line| line.rsplit_once("total="));
            for (column, (_, total)) in self.2.iter().zip(totals) {
                recorder.counter(*row, *column, total.parse()?);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use ebpf_process_core::Selection;
    use ebpf_process_core::testkit::Bench;

    use super::*;

    #[test]
    fn what_the_files_say_is_counted_and_a_file_that_is_none_is_an_error() {
        let folder = std::env::temp_dir().join(format!("pressure-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        for (name, some, full) in [("cpu", 7, 0), ("io", 5, 3), ("memory", 1, 1)] {
            let text = format!(
                "some avg10=0.00 avg60=0.00 avg300=0.00 total={some}\nfull avg10=0.00 avg60=0.00 avg300=0.00 total={full}\n"
            );
            fs::write(folder.join(name), text).expect("a file");
        }
        let mut bench = Bench::new();
        let mut context = ProbeContext::new("pressure", bench.recorder(), Duration::from_secs(1));
        let mut probe = Pressure::build(Options { folder: folder.clone() }, &mut context).expect("a probe");
        let mut shown = Vec::new();
        bench.tick(
            &Selection::default(),
            |recorder| probe.collect(recorder).expect("collected"),
            |view| shown.extend(view.samples().map(|s| format!("{} {} {}", s.name(), s.labels(), s.value()))),
        );
        let expected = [
            "resource.pressure.stalled resource=cpu,share=some 0.000007",
            "resource.pressure.stalled resource=cpu,share=full 0",
            "resource.pressure.stalled resource=io,share=some 0.000005",
            "resource.pressure.stalled resource=io,share=full 0.000003",
            "resource.pressure.stalled resource=memory,share=some 0.000001",
            "resource.pressure.stalled resource=memory,share=full 0.000001",
        ];
        assert_eq!(shown, expected);
        fs::remove_file(folder.join("io")).expect("removed");
        let error = probe.collect(bench.recorder()).expect_err("a file is missing").to_string();
        assert!(error.starts_with("cannot collect: No such file"), "{error}");
        fs::remove_dir_all(folder).expect("removed");
    }
}
