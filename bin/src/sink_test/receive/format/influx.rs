//! InfluxDB's line protocol.

use ebpf_process_core::testkit::conformance::Number;
use influxdb_line_protocol::{FieldValue, parse_lines};

use crate::sink_test::receive::stored::{Point, Says};

/// Each field that is a number is one of its own.
pub(super) fn read(text: &str) -> Result<Vec<Point>, String> {
    let mut points = Vec::new();
    for line in parse_lines(text) {
        let line = line.map_err(|error| format!("no line of influx: {error}"))?;
        let tags: Vec<_> = line.series.tag_set.iter().flatten().map(|(key, value)| format!("{key}={value}")).collect();
        for (field, value) in &line.field_set {
            let number = match value {
                FieldValue::I64(number) => Number::from(*number),
                FieldValue::U64(number) => Number::from(*number),
                FieldValue::F64(number) => Number::from(*number),
                FieldValue::String(_) | FieldValue::Boolean(_) => continue,
            };
            let series = format!("{}.{field}{{{}}}", line.series.measurement, tags.join(","));
            points.push(Point::new(series, Says::Is(line.timestamp, number)));
        }
    }
    Ok(points)
}
