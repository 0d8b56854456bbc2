//! What a program says in JSON.

use std::collections::HashSet;

use serde_json::{Map, Value as Json};

use crate::answer::{Distribution, Row, Value};
use crate::columns::MOST;
use crate::decimal::decimal;
use crate::options::{MOST_KEYS, is_key};
use crate::spec::{Numbers, Spec, slots};

/// The version of the protocol that is spoken here.
pub(crate) const VERSION: u64 = 1;

/// A line of the program's.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    /// What it has numbers for, or why that cannot be.
    Hello(Result<Hello, String>),
    /// The answer to a question, by its number; what it says is read by what the hello has said.
    Answer(Option<u64>, Map<String, Json>),
    /// It cannot work before somebody changes something.
    Fatal(String),
}

/// What a program has numbers for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) kind: String,
    pub(crate) keys: Vec<String>,
    pub(crate) columns: Vec<Spec>,
}

impl Message {
    /// Reads a line; an error is what is wrong with it.
    pub(crate) fn read(line: &[u8]) -> Result<Self, &'static str> {
        let Ok(value) = serde_json::from_slice::<Json>(line) else { return Err("is no JSON") };
        let Json::Object(mut object) = value else { return Err("is no object") };
        if let Some(versions) = object.remove("ebpf_process") {
            Ok(Self::Hello(hello(&versions, &object)))
        } else if let Some(reason) = object.get("fatal") {
            Ok(Self::Fatal(reason.as_str().map_or_else(|| reason.to_string(), str::to_owned)))
        } else if let Some(tick) = object.remove("tick") {
            Ok(Self::Answer(tick.as_u64(), object))
        } else {
            Err("has none of the keys ebpf_process, tick and fatal")
        }
    }
}

fn hello(versions: &Json, object: &Map<String, Json>) -> Result<Hello, String> {
    let spoken = versions.as_array().is_some_and(|versions| versions.iter().any(|it| it.as_u64() == Some(VERSION)));
    if !spoken {
        return Err(format!("no common version: this agent speaks [{VERSION}], the program {versions}"));
    }
    object.get("probe").and_then(Json::as_str).ok_or("probe has to be a text: what the program calls itself")?;
    let kind = object.get("kind").and_then(Json::as_str).filter(|kind| is_key(kind));
    let kind = kind.ok_or("kind has to be a word of lower-case letters, digits and \"_\"")?.to_owned();
    let keys = match object.get("keys") {
        None => Some(Vec::new()),
        Some(keys) => texts(keys).filter(|keys| keys.iter().all(|key| is_key(key))),
    };
    let keys = keys.ok_or("keys have to be words of lower-case letters, digits and \"_\"")?;
    if keys.len() > MOST_KEYS || keys.iter().collect::<HashSet<_>>().len() < keys.len() {
        return Err(format!("keys have to be at most {MOST_KEYS}, each of them once"));
    }
    let columns = object.get("columns").and_then(Json::as_array).filter(|columns| (1..=MOST).contains(&columns.len()));
    let columns = columns.ok_or_else(|| format!("columns have to be a list of 1 to {MOST} columns"))?;
    let columns: Vec<Spec> = columns
        .iter()
        .enumerate()
        .map(|(index, said)| column(said).map_err(|problem| format!("column {index}: {problem}")))
        .collect::<Result<_, _>>()?;
    let mut known = HashSet::new();
    if let Some(twice) = columns.iter().find(|column| !known.insert(column.key())) {
        return Err(format!("two columns have the name {} and the same labels", twice.name));
    }
    Ok(Hello { kind, keys, columns })
}

fn column(said: &Json) -> Result<Spec, String> {
    let is_name = |name: &&str| !name.is_empty() && name.split('.').all(is_key);
    let name = said.get("name").and_then(Json::as_str).filter(is_name);
    let name = name.ok_or("its name has to be words of lower-case letters, digits and \"_\", with \".\" in between")?;
    let labels = match said.get("labels") {
        None => Some(Vec::new()),
        Some(Json::Object(labels)) => {
            let label = |(key, value): (&String, &Json)| Some((key.clone(), value.as_str()?.to_owned()));
            labels.iter().map(label).collect()
        }
        Some(_) => None,
    };
    let labels = labels.filter(|labels| labels.iter().all(|(key, _)| is_key(key)));
    let mut labels = labels.ok_or("its labels have to be an object of texts, with keys as those of rows")?;
    labels.sort_unstable();
    let numbers = match (said.get("type").and_then(Json::as_str), said.get("bounds")) {
        (Some("counter"), None) => Numbers::Counter,
        (Some("gauge"), None) => Numbers::Gauge,
        (Some("histogram"), bounds) => {
            let (first, last) = bounds.map_or(Some((0, 63)), read_bounds).ok_or(
                "its bounds have to be 2^k-1 for numbers k one after another from 1 on, and null at the end: [1, 3, 7, null]",
            )?;
            Numbers::Histogram(first, last)
        }
        (Some("counter" | "gauge"), Some(_)) => return Err("bounds are a histogram's".to_owned()),
        _ => return Err("its type has to be counter, gauge or histogram".to_owned()),
    };
    let text = |key: &str, default: &str| match said.get(key) {
        None => Ok(default.to_owned()),
        Some(Json::String(text)) => Ok(text.clone()),
        Some(_) => Err(format!("its {key} has to be a text")),
    };
    Ok(Spec { name: name.to_owned(), labels, numbers, unit: text("unit", "1")?, help: text("help", "")? })
}

fn read_bounds(bounds: &Json) -> Option<(u8, u8)> {
    let read = |bound: &Json| if bound.is_null() { Some(None) } else { whole(bound).map(Some) };
    slots(&bounds.as_array()?.iter().map(read).collect::<Option<Vec<_>>>()?)
}

fn texts(list: &Json) -> Option<Vec<String>> {
    list.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// A whole number, also as a text of digits.
fn whole(number: &Json) -> Option<u64> {
    total(number, 0)
}

/// A total, in units of `10^-digits`; what has more digits than that is none where all are asked for.
fn total(number: &Json, digits: u32) -> Option<u64> {
    let read = |text: &str| decimal(text, digits).filter(|(_, exact)| *exact || digits > 0).map(|(total, _)| total);
    match number {
        Json::Number(number) => number.as_u64().filter(|_| digits == 0).or_else(|| read(&number.to_string())),
        Json::String(text) => read(text),
        _ => None,
    }
}

/// Reads the rows of an answer by what the hello has said: how many keys, and by column of the hello its place and what it
/// is. An error is what is wrong with the first that is.
pub(crate) fn rows(
    answer: &mut Map<String, Json>,
    keys: usize,
    columns: &[(usize, Spec)],
    most: usize,
) -> Result<Vec<Row>, String> {
    let Some(Json::Array(said)) = answer.remove("rows") else { return Err("rows have to be a list".to_owned()) };
    if said.len() > most {
        return Err(format!("it has {} rows, and {most} are the most that are looked at", said.len()));
    }
    let mut rows = Vec::with_capacity(said.len());
    for (index, mut said) in said.into_iter().enumerate() {
        let labels = said.get_mut("labels").map(Json::take).map_or(Some(Vec::new()), |labels| texts(&labels));
        let labels = labels.filter(|labels| labels.len() == keys);
        let labels = labels.ok_or_else(|| format!("row {index}: its labels have to be {keys} texts"))?;
        let values = said.get("values").and_then(Json::as_array).filter(|values| values.len() == columns.len());
        let values = values.ok_or_else(|| format!("row {index}: its values have to be {}", columns.len()))?;
        let mut read = Vec::with_capacity(values.len());
        for ((place, spec), said) in columns.iter().zip(values).filter(|(_, said)| !said.is_null()) {
            let value = value(said, spec).map_err(|problem| format!("row {index}: {}: {problem}", spec.name))?;
            read.push((*place, value));
        }
        read.sort_unstable_by_key(|(place, _)| *place);
        rows.push(Row { labels, values: read });
    }
    let mut known = HashSet::with_capacity(rows.len());
    match rows.iter().position(|row| !known.insert(&row.labels)) {
        Some(twice) => Err(format!("row {twice} has the labels of one before it")),
        None => Ok(rows),
    }
}

fn value(said: &Json, spec: &Spec) -> Result<Value, String> {
    match spec.numbers {
        Numbers::Gauge => {
            let level = said.as_f64().ok_or("a gauge is a number")?;
            Ok(Value::Gauge(level))
        }
        Numbers::Counter => {
            let digits = spec.digits();
            let total = total(said, digits).ok_or(if digits == 0 {
                "a counter is a whole number from 0 to 2^64-1"
            } else {
                "a counter in seconds is a number from 0 on, below 2^64 nanoseconds"
            })?;
            Ok(Value::Counter(total))
        }
        Numbers::Histogram(first, last) => {
            let problem = || {
                let slots = usize::from(last - first) + 1;
                format!("a histogram is a sum and {slots} slots, whole numbers, and their count if it is there at all")
            };
            let sum = said.get("sum").and_then(whole).ok_or_else(problem)?;
            let counts = said.get("slots").and_then(Json::as_array);
            let counts = counts.and_then(|counts| counts.iter().map(whole).collect::<Option<Vec<_>>>());
            let counts = counts.filter(|counts| counts.len() == usize::from(last - first) + 1).ok_or_else(problem)?;
            let count = counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count)).ok_or_else(problem)?;
            if said.get("count").is_some_and(|said| whole(said) != Some(count)) {
                return Err(problem());
            }
            let slots = [vec![0; first.into()], counts].concat();
            Ok(Value::Histogram(Distribution { slots, sum }))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn said(more: &Json) -> Json {
        let mut hello = json!({
            "ebpf_process": [1], "probe": "gpu", "kind": "gpu", "keys": ["card"],
            "columns": [{"name": "jobs.done", "type": "counter", "unit": "jobs", "help": "Jobs."}],
        });
        hello.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        hello
    }

    fn hello(more: &Json) -> Result<Hello, String> {
        match Message::read(said(more).to_string().as_bytes()) {
            Ok(Message::Hello(hello)) => hello,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_hello_says_what_there_will_be() {
        let columns = json!([
            {"name": "time", "labels": {"b": "2", "a": "1"}, "type": "counter", "unit": "seconds"},
            {"name": "size", "type": "histogram", "bounds": [7, "15", null]},
            {"name": "sizes", "type": "histogram"},
            {"name": "load", "type": "gauge", "colour": "red"},
        ]);
        let hello = hello(&json!({"columns": columns, "keys": []})).expect("right");
        assert_eq!((hello.kind.as_str(), hello.keys.len()), ("gpu", 0));
        let labels = [("a", "1"), ("b", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(hello.columns[0].labels, labels);
        let numbers: Vec<_> = hello.columns.iter().map(|column| column.numbers).collect();
        let expected = [Numbers::Counter, Numbers::Histogram(2, 4), Numbers::Histogram(0, 63), Numbers::Gauge];
        assert_eq!(numbers, expected);
        assert_eq!(hello.columns[0].digits(), 9);
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let column = |more: Json| {
            let mut column = json!({"name": "load", "type": "gauge"});
            column.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            json!({"columns": [{"name": "first", "type": "gauge"}, column]})
        };
        for (more, problem) in [
            (json!({"ebpf_process": [2]}), "no common version: this agent speaks [1], the program [2]"),
            (json!({"probe": 1}), "probe has to be a text"),
            (json!({"kind": "G P U"}), "kind has to be"),
            (json!({"keys": ["Card"]}), "keys have to be words"),
            (json!({"keys": ["card", "card"]}), "each of them once"),
            (json!({"columns": []}), "1 to 256 columns"),
            (json!({"columns": vec![json!({"name": "a", "type": "gauge"}); 2]}), "two columns have the name a"),
            (column(json!({"name": "Load"})), "column 1: its name"),
            (column(json!({"name": "a..b"})), "column 1: its name"),
            (column(json!({"labels": {"a": 1}})), "column 1: its labels"),
            (column(json!({"type": "summary"})), "column 1: its type"),
            (column(json!({"bounds": [1, null]})), "column 1: bounds are a histogram's"),
            (column(json!({"type": "histogram", "bounds": [1, 2]})), "column 1: its bounds"),
            (column(json!({"unit": 1})), "column 1: its unit has to be a text"),
        ] {
            let refused = hello(&more).expect_err(problem);
            assert!(refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn an_answer_has_a_number_for_each_column() {
        let columns = json!([
            {"name": "jobs", "type": "counter"},
            {"name": "time", "type": "counter", "unit": "seconds"},
            {"name": "load", "type": "gauge"},
            {"name": "size", "type": "histogram", "bounds": [3, 7, null]},
        ]);
        let columns = hello(&json!({ "columns": columns })).expect("right").columns;
        // Places as they are after an earlier hello in another order.
        let columns: Vec<_> = [3, 0, 1, 2].into_iter().zip(columns).collect();
        let read = |rows_said: Json| match Message::read(json!({"tick": 7, "rows": rows_said}).to_string().as_bytes()) {
            Ok(Message::Answer(Some(7), mut object)) => rows(&mut object, 1, &columns, 2),
            other => panic!("{other:?}"),
        };
        let distribution = Distribution { slots: vec![0, 1, 2, 3], sum: 40 };
        let expected = Row {
            labels: vec!["0".to_owned()],
            values: vec![
                (0, Value::Counter(1_500_000_000)),
                (1, Value::Gauge(-0.5)),
                (2, Value::Histogram(distribution)),
                (3, Value::Counter(u64::MAX)),
            ],
        };
        let histogram = json!({"count": 6, "sum": "40", "slots": [1, 2, 3]});
        let said = json!([{"labels": ["0"], "values": [u64::MAX.to_string(), 1.5, -0.5, histogram]}]);
        assert_eq!(read(said), Ok(vec![expected]));
        let empty = Row { labels: vec!["0".to_owned()], values: Vec::new() };
        assert_eq!(read(json!([{"labels": ["0"], "values": [null, null, null, null]}])), Ok(vec![empty]));
        let row = |values: Json| json!([{"labels": ["0"], "values": values}]);
        for (said, problem) in [
            (json!({}), "rows have to be a list"),
            (json!([1]), "row 0: its labels"),
            (json!([{"labels": [], "values": []}]), "row 0: its labels have to be 1 texts"),
            (row(json!([1, 1, 1])), "row 0: its values have to be 4"),
            (row(json!([1.5, null, null, null])), "row 0: jobs: a counter is a whole number"),
            (row(json!([-1, null, null, null])), "row 0: jobs"),
            (row(json!([null, -1, null, null])), "row 0: time"),
            (row(json!([null, null, "1", null])), "row 0: load: a gauge"),
            (row(json!([null, null, null, {"sum": 1, "slots": [1, 2]}])), "row 0: size"),
            (row(json!([null, null, null, {"sum": 1, "slots": [1, 2, 3], "count": 7}])), "row 0: size"),
            (json!(vec![json!({"labels": ["0"], "values": [1, 1, 1, null]}); 2]), "row 1 has the labels"),
            (json!(vec![json!({}); 3]), "3 rows"),
        ] {
            let refused = read(said).expect_err(problem);
            assert!(refused.contains(problem), "{refused}");
        }
    }

    #[test]
    fn other_lines_are_told_from_answers() {
        assert_eq!(Message::read(b"{\"fatal\":\"no card\"}"), Ok(Message::Fatal("no card".to_owned())));
        assert_eq!(Message::read(b"{\"tick\":\"x\"}"), Ok(Message::Answer(None, Map::new())));
        for (line, problem) in [("x", "is no JSON"), ("[1]", "is no object"), ("{}", "has none of the keys")] {
            assert!(Message::read(line.as_bytes()).expect_err(line).contains(problem), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_a_message_or_an_error(line in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Message::read(&line);
        }

        #[test]
        fn any_answer_is_rows_or_an_error(rows_said in r#"[\[\]{}",:0-9a-z.e-]{0,64}"#) {
            let line = format!("{{\"tick\":1,\"rows\":{rows_said}}}");
            if let Ok(Message::Answer(_, mut object)) = Message::read(line.as_bytes()) {
                let _ = rows(&mut object, 1, &[], 10);
            }
        }
    }
}
