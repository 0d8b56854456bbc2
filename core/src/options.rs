//! A plugin's own table of options, with errors that say where a wrong value stands.

use std::fmt;

use figment::error::Kind;
use figment::providers::Serialized;
use figment::value::{Dict, Map};
use figment::{Figment, Metadata, Profile, Provider};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The options of one plugin instance: a table of the configuration, not yet given a type.
///
/// A plugin gives it one by [`extract`](Self::extract)ing a `serde` struct, best with
/// `#[serde(deny_unknown_fields)]`, so that a typo is an error and not a silent default.
#[derive(Clone, Debug)]
pub struct Options {
    figment: Figment,
    path: String,
}

impl Options {
    /// An empty table of a configuration; `path` is where it stands there, for errors (`sinks.lan.options`).
    pub fn at(path: impl Into<String>) -> Self {
        Self { figment: Figment::new(), path: path.into() }
    }

    /// The same with the values of another table, which win. `origin` says for errors where they come from: a file's path,
    /// `environment variable NAME`.
    #[must_use]
    pub fn layer(self, origin: impl Into<String>, table: impl Serialize) -> Self {
        let layer = Layer { origin: origin.into(), table: Serialized::defaults(table).data() };
        Self { figment: self.figment.merge(layer), path: self.path }
    }

    /// No options at all.
    pub fn none() -> Self {
        Self::at("options")
    }

    /// Options from any value that serializes as a table; for tests and for built-in sinks.
    pub fn from_value(value: impl Serialize) -> Self {
        Self::none().layer("the program", value)
    }

    /// Where the table stands in the configuration.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether another table says the same, wherever it stands and comes from.
    pub fn is_same(&self, other: &Self) -> bool {
        // One value has no equal, itself included: NaN. No configuration has it for long.
        let table = |options: &Self| options.figment.extract::<figment::value::Value>().ok();
        table(self) == table(other)
    }

    /// Gives the table a type. The error names the key, its origin and, for an unknown key, the
    /// nearest known one.
    pub fn extract<T: DeserializeOwned>(&self) -> Result<T, OptionsError> {
        self.figment.extract().map_err(|error| OptionsError::explain(&error, &self.path))
    }

    /// An error about one of the keys of this table, for a value whose type is right but whose
    /// meaning is not.
    pub fn refuse(&self, key: &str, problem: impl Into<String>) -> OptionsError {
        let origin = self.figment.find_metadata(key).map(|metadata| metadata.name.to_string());
        OptionsError { key: join(&self.path, key), origin, problem: problem.into(), nearest: None }
    }
}

/// A table with its origin.
struct Layer {
    origin: String,
    table: Result<Map<Profile, Dict>, figment::Error>,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.table.clone()
    }
}

/// What is wrong with one value of the configuration, where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OptionsError {
    /// The full key, for example `sinks.lan.options.address`.
    pub key: String,
    /// Where the value comes from: a file, the environment, the command line.
    pub origin: Option<String>,
    /// What is wrong.
    pub problem: String,
    /// For an unknown key: the nearest known one.
    pub nearest: Option<String>,
}

impl OptionsError {
    /// That a key's value cannot be meant. Where it comes from, and what may have been meant, is set in the fields.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), origin: None, problem: problem.into(), nearest: None }
    }

    /// Explains the first of figment's errors; `path` is put before its key.
    fn explain(error: &figment::Error, path: &str) -> Self {
        let origin = error.metadata.as_ref().map(|metadata| metadata.name.to_string());
        let mut key = join(path, &error.path.join("."));
        // Some deserializers have the unknown key in the path already, some do not.
        let below = |key: &str, field: &str| match error.path.last() {
            Some(last) if last == field => key.to_owned(),
            _ => join(key, field),
        };
        let mut nearest = None;
        let problem = match &error.kind {
            Kind::UnknownField(field, known) => {
                key = below(&key, field);
                nearest = nearest_of(field, known.iter().copied());
                match known.len() {
                    0 => "unknown key; no key is known here".to_owned(),
                    _ => format!("unknown key; known here are {}", known.join(", ")),
                }
            }
            Kind::UnknownVariant(value, known) => {
                nearest = nearest_of(value, known.iter().copied());
                format!("unknown value \"{}\"; known are {}", clean(value), known.join(", "))
            }
            Kind::MissingField(field) => {
                key = below(&key, field);
                "this key is required".to_owned()
            }
            Kind::InvalidType(actual, expected) => format!("expected {expected}, found {}", clean(&actual.to_string())),
            Kind::InvalidValue(actual, expected) => {
                format!("expected {expected}, found {}", clean(&actual.to_string()))
            }
            Kind::InvalidLength(length, expected) => format!("expected {expected}, found {length} values"),
            other => clean(&other.to_string()),
        };
        Self { key, origin, problem, nearest }
    }
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", if self.key.is_empty() { "configuration" } else { &self.key })?;
        if let Some(origin) = &self.origin {
            write!(f, " (from {origin})")?;
        }
        write!(f, ": {}", self.problem)?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean \"{nearest}\"?")?;
        }
        Ok(())
    }
}

impl std::error::Error for OptionsError {}

/// The known word nearest to a mistyped one, if one is near.
pub fn nearest_of<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let scored = known.into_iter().map(|candidate| (strsim::jaro_winkler(word, candidate), candidate));
    scored.filter(|(score, _)| *score > 0.7).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, word)| word.to_owned())
}

fn join(path: &str, key: &str) -> String {
    match (path.is_empty(), key.is_empty()) {
        (true, _) => clean(key),
        (_, true) => path.to_owned(),
        (false, false) => format!("{path}.{}", clean(key)),
    }
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its errors are looked at")]
    struct Target {
        address: String,
        port: u16,
    }

    #[test]
    fn an_error_names_the_key_and_the_nearest_known_one() {
        let cases: [(&[(&str, figment::value::Value)], &str); 3] = [
            (&[("adress", "x".into())], "sinks.lan.options.adress"),
            (&[("address", "x".into())], "sinks.lan.options.port"),
            (&[("address", "x".into()), ("port", "many".into())], "sinks.lan.options.port"),
        ];
        for (pairs, key) in cases {
            let table: BTreeMap<_, _> = pairs.iter().cloned().collect();
            let options = Options::at("sinks.lan.options").layer("a test", table);
            let error = options.extract::<Target>().expect_err("wrong options");
            assert_eq!(error.key, key, "{error}");
        }
        let typo = Options::from_value(BTreeMap::from([("adress", "x")])).extract::<Target>().expect_err("typo");
        assert_eq!(typo.nearest.as_deref(), Some("address"));
    }
}
