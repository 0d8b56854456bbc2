//! The samples of a line one by one, also those that stand in tables.

#![allow(dead_code, reason = "not every test looks at rows")]

use serde_json::{Map, Value, json};

/// All of them in the order of the line: name, labels, kind, unit, value, delta.
pub(crate) fn flat(line: &Value) -> Vec<Value> {
    let mut samples = array(&line["samples"]).to_vec();
    for table in line.get("tables").map_or(&[][..], array) {
        let (keys, columns) = (array(&table["labels"]), array(&table["columns"]));
        for row in array(&table["rows"]) {
            let (labels, values, deltas) = (array(&row["labels"]), array(&row["values"]), array(&row["deltas"]));
            assert_eq!((labels.len(), values.len(), deltas.len()), (keys.len(), columns.len(), columns.len()), "{row}");
            for ((column, value), delta) in columns.iter().zip(values).zip(deltas) {
                if value.is_null() {
                    assert!(delta.is_null(), "what is absent has added nothing: {row}");
                    continue;
                }
                let mut sample = column.clone();
                let of_row = keys.iter().zip(labels).map(|(key, value)| (text(key), value.clone()));
                let own = sample["labels"].as_object().cloned().into_iter().flatten();
                sample["labels"] = of_row.chain(own).collect::<Map<_, _>>().into();
                (sample["value"], sample["delta"]) = (value.clone(), delta.clone());
                samples.push(sample);
            }
        }
    }
    samples
}

/// The rows of a kind.
pub(crate) fn rows<'a>(line: &'a Value, kind: &str) -> &'a [Value] {
    let tables = line.get("tables").map_or(&[][..], array);
    tables.iter().find(|table| table["kind"] == json!(kind)).map_or(&[], |table| array(&table["rows"]))
}

#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn array(value: &Value) -> &[Value] {
    value.as_array().expect("an array")
}

#[expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]
fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}
