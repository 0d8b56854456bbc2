//! Line protocol, to real `InfluxDB` 1 and `VictoriaMetrics`.

use crate::point::{Point, of_totals};
use crate::source::{as_label_values, as_tag_names};
use ebpf_process_sinks::influx::PLUGIN;
use ebpf_process_tests::receivers::influx::Influx;
use ebpf_process_tests::receivers::victoria::Victoria;
use ebpf_process_tests::totals::Totals;
use ebpf_process_tests::{Failure, Outcome, live};
use serde_json::{Value, json};

/// What is stored; a name of one part is a measurement with the field `value`.
fn points(totals: &Totals) -> Outcome<Vec<Point>> {
    of_totals(totals, "calls.value", &["host"])
}

fn influx(name: &str, claim: impl FnOnce(&Influx, &Value) -> Outcome<()>) {
    live::test(name, Influx::is_installed(), || {
        let influx = Influx::start()?;
        claim(&influx, &json!({ "url": influx.url(), "database": influx.database() }))
    });
}

#[test]
fn influx_stores_one_point_for_each_label_value() {
    influx("hostile-influx-values", |influx, options| as_label_values(&PLUGIN, options, || points(&influx.totals()?)));
}

#[test]
fn influx_stores_one_point_for_each_tag_name() {
    influx("hostile-influx-names", |influx, options| as_tag_names(&PLUGIN, options, || points(&influx.totals()?)));
}

fn victoria(name: &str, claim: impl FnOnce(&Victoria, &Value) -> Outcome<()>) {
    live::test(name, Victoria::is_installed(), || {
        let victoria = Victoria::start()?;
        let options = json!({ "url": victoria.url(), "version": 2, "org": "lab", "bucket": "telemetry" });
        claim(&victoria, &options).map_err(|failure| victoria.explain(&failure))?;
        // It takes what it cannot read, too.
        match victoria.invalid_rows()? {
            0 => Ok(()),
            rows => Err(Failure::new(format!("{rows} lines were not understood"))),
        }
    });
}

#[test]
fn victoria_metrics_stores_one_point_for_each_label_value() {
    victoria("hostile-victoria-values", |victoria, options| {
        as_label_values(&PLUGIN, options, || points(&victoria.totals()?))
    });
}

#[test]
fn victoria_metrics_stores_one_point_for_each_tag_name() {
    victoria("hostile-victoria-names", |victoria, options| {
        as_tag_names(&PLUGIN, options, || points(&victoria.totals()?))
    });
}
