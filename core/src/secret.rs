//! Text that is never printed: written in the configuration, or where that says it is.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::{env, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::BuildError;
use crate::opener::Opener;

/// An option that is a secret: `"text"`, `{ file = "/path" }` or `{ env = "NAME" }`. Neither `Debug` nor an error shows
/// it.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use ebpf_process_core::{Direct, Options, Secret};
///
/// #[derive(Debug, serde::Deserialize)]
/// struct Table {
///     token: Secret,
/// }
///
/// let table: Table = Options::from_value(BTreeMap::from([("token", "abc")])).extract()?;
/// assert_eq!(table.token.reveal("token", &Direct::default())?, "abc");
/// assert!(!format!("{table:?}").contains("abc"));
/// # Ok::<(), ebpf_process_core::BuildError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Secret {
    /// As it is.
    Text(String),
    /// The file's content without the mark that some editors put before it and the line break at its end.
    File(PathBuf),
    /// What the environment has under this name.
    Env(String),
}

impl JsonSchema for Secret {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "title": "secret: text, { file = \"/path\" } or { env = \"NAME\" }" })
    }
}

impl Secret {
    /// Whether it is in the configuration itself, so that nothing has to be opened for it.
    pub const fn is_text(&self) -> bool {
        matches!(self, Self::Text(_))
    }

    /// The file that it is in, for [`SinkPlugin::opens`](crate::SinkPlugin::opens).
    pub fn file(&self) -> Option<&Path> {
        if let Self::File(path) = self { Some(path) } else { None }
    }

    /// The secret itself; `key` is the option's name, for messages. Text with a control character in it is refused: it
    /// could forge the head of a request. A file is read anew each time.
    pub fn reveal(&self, key: &str, opener: &dyn Opener) -> Result<String, BuildError> {
        let text = match self {
            Self::Text(text) => text.clone(),
            Self::File(path) => {
                let mut text = String::new();
                opener.read(path).and_then(|mut file| file.read_to_string(&mut text)).map_err(|error| {
                    let problem = format!("cannot read the file of the option {key}, {}: {error}", path.display());
                    BuildError::refused(problem, "make it readable for the agent's user")
                })?;
                text.trim_start_matches('\u{feff}').trim_end_matches(['\r', '\n']).to_owned()
            }
            Self::Env(name) => env::var(name).map_err(|_| {
                let problem = format!("the environment has no {name}, which the option {key} names");
                BuildError::refused(problem, "set it where the agent is started")
            })?,
        };
        if text.chars().any(char::is_control) {
            // It would end in the head of a request.
            return Err(BuildError::refused(
                format!("the option {key} has a control character in it"),
                "check where it comes from",
            ));
        }
        Ok(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(_) => f.write_str("\"...\""),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "expected text in quotes, { file = \"/path\" } or { env = \"NAME\" }";

        struct Source;

        impl<'de> Visitor<'de> for Source {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret::Text(text.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Secret, A::Error> {
                let unknown = || de::Error::custom(EXPECTED);
                let (key, value) = map.next_entry::<String, String>()?.ok_or_else(unknown)?;
                let secret = match key.as_str() {
                    "file" => Secret::File(value.into()),
                    "env" => Secret::Env(value),
                    _ => return Err(unknown()),
                };
                if map.next_key::<String>()?.is_some() { Err(unknown()) } else { Ok(secret) }
            }
        }

        // The usual error would quote the value.
        deserializer.deserialize_any(Source).map_err(|_| de::Error::custom(EXPECTED))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use std::fs;

    use super::*;
    use crate::{Direct, Options};

    #[derive(Debug, Deserialize)]
    struct Table {
        token: Secret,
    }

    fn read(value: impl serde::Serialize) -> Result<Secret, String> {
        let options = Options::from_value(BTreeMap::from([("token", value)]));
        options.extract::<Table>().map(|table| table.token).map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_comes_from_the_configuration_a_file_or_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        fs::write(&path, "\u{feff}from a file\r\n").expect("a write");
        let path = path.to_str().expect("a path");
        let variable = env::var("PATH").expect("a variable");
        let cases = [
            (read("plain"), "plain"),
            (read(BTreeMap::from([("file", path)])), "from a file"),
            (read(BTreeMap::from([("env", "PATH")])), &variable),
        ];
        for (secret, text) in cases {
            assert_eq!(secret.expect("a secret").reveal("token", &Direct::default()).expect("text"), text);
        }
    }

    #[test]
    fn what_is_wrong_with_it_is_said_without_saying_it() {
        for wrong in [
            read(12345),
            read(BTreeMap::from([("fil", "12345")])),
            read(BTreeMap::from([("file", "12345"), ("env", "X")])),
            read(BTreeMap::from([("file", 12345)])),
        ] {
            let error = wrong.expect_err("no secret");
            assert!(error.contains("options.token") && !error.contains("12345"), "{error}");
        }
        for (wrong, word) in [
            (Secret::File("/no/such/file".into()), "/no/such/file"),
            (Secret::Env("NO_SUCH_NAME".to_owned()), "NO_SUCH_NAME"),
            (Secret::Text("12345\nX-Forged: 1".to_owned()), "control"),
        ] {
            let error = wrong.reveal("token", &Direct::default()).expect_err("no text").to_string();
            assert!(error.contains(word) && error.contains("token") && !error.contains("12345"), "{error}");
        }
        assert_eq!(format!("{:?}", Secret::Text("12345".to_owned())), "\"...\"");
    }
}
