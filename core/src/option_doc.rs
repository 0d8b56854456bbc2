//! What can be written in a table of options, read from the type that takes it.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::{Map, Value};

/// One key of a table of options, as documentation shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct OptionDoc {
    /// The key within its table; keys of an inner table follow its name and a dot.
    pub key: String,
    /// What its value is: `text`, `duration`, or the words to choose from, each in quotes.
    pub kind: String,
    /// The value in force when the key is missing, as it would be written; empty if there is none.
    pub default: String,
    /// Whether the table is wrong without this key.
    pub required: bool,
    /// What it does: the doc comment of the field.
    pub meaning: String,
}

impl OptionDoc {
    /// The keys of a table that is read into a `T`, in the order of its fields, each with its doc comment.
    ///
    /// For a type that derives serde's `Deserialize` and schemars' `JsonSchema`. A default is known where the
    /// field's type also derives `Serialize`.
    pub fn of<T: JsonSchema>() -> Vec<Self> {
        let settings = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<T>();
        let mut docs = Vec::new();
        if let Some(table) = schema.as_object() {
            add_table(table, "", &mut docs);
        }
        docs
    }
}

fn add_table(table: &Map<String, Value>, path: &str, docs: &mut Vec<OptionDoc>) {
    let Some(properties) = table.get("properties").and_then(Value::as_object) else { return };
    let is_required = |key: &str| {
        let required = table.get("required").and_then(Value::as_array);
        required.is_some_and(|required| required.iter().any(|name| name == key))
    };
    for (key, schema) in properties {
        let Some(schema) = schema.as_object() else { continue };
        let full = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = given(schema);
        if value.contains_key("properties") {
            add_table(value, &full, docs);
            continue;
        }
        // Of a list: those of its members.
        let member = value.get("items").and_then(Value::as_object);
        let words = words(member.unwrap_or(value));
        let mut meaning = text(schema, "description");
        for (word, what) in &words {
            if !what.is_empty() {
                meaning = format!("{meaning} `{word}`: {what}");
            }
        }
        docs.push(OptionDoc {
            key: full,
            kind: kind(value),
            default: schema.get("default").map(written).unwrap_or_default(),
            required: is_required(key),
            meaning,
        });
    }
}

/// The schema of the value itself, where it may also be left out.
fn given(schema: &Map<String, Value>) -> &Map<String, Value> {
    let choices = schema.get("anyOf").and_then(Value::as_array);
    let some = choices.and_then(|choices| {
        let mut some = choices.iter().filter_map(Value::as_object).filter(|choice| text(choice, "type") != "null");
        some.next().filter(|_| some.next().is_none())
    });
    some.unwrap_or(schema)
}

/// The words to choose from, each with its meaning if it has one.
fn words(schema: &Map<String, Value>) -> Vec<(String, String)> {
    let plain = |values: &Vec<Value>| {
        values.iter().filter_map(|word| Some((word.as_str()?.to_owned(), String::new()))).collect::<Vec<_>>()
    };
    let mut found = schema.get("enum").and_then(Value::as_array).map(plain).unwrap_or_default();
    for choice in schema.get("oneOf").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        if let Some(word) = choice.get("const").and_then(Value::as_str) {
            found.push((word.to_owned(), text(choice, "description")));
        } else {
            found.extend(words(choice));
        }
    }
    found
}

fn kind(schema: &Map<String, Value>) -> String {
    let words = words(schema);
    if !words.is_empty() {
        return joined(words.iter().map(|(word, _)| format!("\"{word}\"")));
    }
    let format = text(schema, "format");
    let types: Vec<String> = match schema.get("type") {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let inner = |key: &str| schema.get(key).and_then(Value::as_object).map_or_else(|| "anything".to_owned(), kind);
    match types.iter().map(String::as_str).find(|name| *name != "null") {
        Some("string") if !format.is_empty() => format,
        Some("string") => "text".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("number") => "number".to_owned(),
        Some("array") => format!("list of {}", inner("items")),
        Some("object") => format!("table of {}", inner("additionalProperties")),
        _ => text(schema, "title"),
    }
}

/// A value as it stands in a configuration.
fn written(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Array(values) => format!("[{}]", joined(values.iter().map(written))),
        Value::Object(table) if table.is_empty() => "{}".to_owned(),
        other => other.to_string(),
    }
}

fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(", ")
}

/// A text of a schema on one line.
fn text(schema: &Map<String, Value>, key: &str) -> String {
    schema.get(key).and_then(Value::as_str).unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde::Deserialize;

    use super::*;
    use crate::duration;

    #[derive(Default, Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "lowercase")]
    enum Choice {
        /// The first.
        #[default]
        One,
        /// The second.
        Two,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(default)]
    struct Inner {
        /// How long.
        #[serde(with = "duration")]
        #[schemars(with = "duration::Text")]
        wait: Duration,
    }

    impl Default for Inner {
        fn default() -> Self {
            Self { wait: Duration::from_millis(1500) }
        }
    }

    #[derive(Deserialize, JsonSchema)]
    #[expect(dead_code, reason = "only its shape is looked at")]
    struct Table {
        /// Where it goes,
        /// in two lines.
        address: String,
        /// One of two.
        #[serde(default)]
        choice: Choice,
        /// Some of two.
        #[serde(default)]
        choices: Vec<Choice>,
        /// Perhaps some of two.
        perhaps: Option<Vec<Choice>>,
        /// May be left out.
        port: Option<u16>,
        /// Words.
        #[serde(default)]
        tags: BTreeMap<String, String>,
        /// Not shown: its keys are.
        #[serde(default)]
        inner: Inner,
    }

    #[test]
    fn a_type_says_its_keys_their_types_defaults_and_meanings() {
        let shown: Vec<_> = OptionDoc::of::<Table>()
            .into_iter()
            .map(|OptionDoc { key, kind, default, required, meaning }| {
                format!("{key} | {kind} | {default} | {required} | {meaning}")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "address | text |  | true | Where it goes, in two lines.",
                "choice | \"one\", \"two\" | \"one\" | false | One of two. `one`: The first. `two`: The second.",
                "choices | list of \"one\", \"two\" | [] | false | Some of two. `one`: The first. `two`: The second.",
                "perhaps | list of \"one\", \"two\" |  | false | Perhaps some of two. `one`: The first. `two`: The second.",
                "port | whole number |  | false | May be left out.",
                "tags | table of text | {} | false | Words.",
                "inner.wait | duration | \"1s 500ms\" | false | How long.",
            ]
        );
    }
}
