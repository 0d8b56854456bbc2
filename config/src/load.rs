//! The layers of the configuration, and the table they make together.

use std::ffi::OsString;
use std::path::Path;

use ebpf_process_core::{Options, OptionsError, Registry, identity};
use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider as _};

use crate::DEFAULT;
use crate::error::ConfigError;
use crate::files::FileLayer;
use crate::layer::{Layer, in_words, nested, parse_key, parse_toml, parse_value, part};
use crate::netdata::{self, Directories};
use crate::texts::{Syntax, Texts};

/// The origin of what nobody has typed.
const BUILT_IN: &str = "built-in default";

/// Which layers there are. Later ones win: the built-in default, files in their order, each followed by those in the
/// directory `conf.d` beside it, the environment, `--set`, `--by`.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    files: Vec<FileLayer>,
    environment: Vec<(OsString, OsString)>,
    set: Vec<String>,
    by: Option<String>,
    trusted_only: bool,
    named: Named,
}

/// What a file that is named by somebody is to the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Named {
    /// The command line names it: the environment changes nothing.
    #[default]
    Already,
    /// It takes the system file's place.
    Alone,
    /// It comes after all others.
    Last,
}

impl Sources {
    /// The built-in default alone.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// For the command line: `config`, which must exist, or else the system's file, which need not.
    pub fn command_line(config: Option<&Path>) -> Self {
        let (file, named) = match config {
            Some(path) => (FileLayer::named(path), Named::Already),
            None => (FileLayer::system(identity().system_file()), Named::Alone),
        };
        Self { files: vec![file], named, ..Self::default() }
    }

    /// Under netdata: the system's file, `ebpf_process.conf` and `ebpf-process.toml` from the first
    /// of netdata's directories that has them, then `config`, which must exist.
    pub fn netdata(directories: &Directories, config: Option<&Path>) -> Self {
        let mut files = vec![FileLayer::system(identity().system_file())];
        for (name, syntax) in [("ebpf_process.conf", Syntax::Conf), ("ebpf-process.toml", Syntax::Toml)] {
            files.extend(directories.find(name).map(|path| FileLayer::of_netdata(path, syntax)));
        }
        files.extend(config.map(FileLayer::named));
        let named = if config.is_some() { Named::Already } else { Named::Last };
        Self { files, named, ..Self::default() }
    }

    /// Adds the environment: variables that begin with the [program's prefix](ebpf_process_core::Identity::environment_prefix),
    /// `__` between levels, and the file that `CONFIG` behind that prefix names where the command line names none. `LOG` is no
    /// key, but the level of the log. What Kubernetes sets for a service whose name begins
    /// like this program's is none of it.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let [log, config] = ["LOG", "CONFIG"].map(|name| OsString::from(identity().variable(name)));
        let prefix = identity().environment_prefix().as_bytes();
        let ours = |key: &OsString| key.as_encoded_bytes().starts_with(prefix) && *key != log;
        self.environment = variables.into_iter().filter(|(key, _)| ours(key)).collect();
        self.environment.retain(|(key, value)| {
            if *key == config {
                let file = (!value.is_empty()).then(|| FileLayer::named(Path::new(value)));
                match self.named {
                    Named::Already => {}
                    Named::Alone => {
                        if let Some(file) = file {
                            self.files = vec![file];
                        }
                    }
                    Named::Last => self.files.extend(file),
                }
            }
            *key != config && !is_service_link(key, value)
        });
        self.environment.sort();
        self
    }

    /// Adds `KEY=VALUE` settings, in this order.
    #[must_use]
    pub fn set(mut self, settings: impl IntoIterator<Item = String>) -> Self {
        self.set = settings.into_iter().collect();
        self
    }

    /// Has every probe make rows of this kind as well, whatever the layers below say: the kind is added to `probes.by` and
    /// to each `probes.NAME.by` that is there.
    #[must_use]
    pub fn by(mut self, kind: impl Into<String>) -> Self {
        self.by = Some(kind.into());
        self
    }

    /// For a process with more rights than its caller: reads a file only if nobody but root can
    /// change it, and leaves others out with a warning.
    #[must_use]
    pub const fn trusted_only(mut self) -> Self {
        self.trusted_only = true;
        self
    }

    /// Reads all files and makes one table of all layers: [`read`](Self::read), then [`load_texts`](Self::load_texts).
    pub fn load(&self, registry: &Registry) -> Result<Loaded, ConfigError> {
        self.load_texts(&self.read()?, registry)
    }

    /// Reads all files, and asks not what is in them: for whoever hands them to a process that may not read them.
    pub fn read(&self) -> Result<Texts, ConfigError> {
        let mut texts = Texts::default();
        for file in &self.files {
            file.read(self.trusted_only, &mut texts)?;
        }
        Ok(texts)
    }

    /// Makes one table of all layers, of which these are the files; opens nothing. What the default says about probes that
    /// this registry lacks is left out.
    pub fn load_texts(&self, texts: &Texts, registry: &Registry) -> Result<Loaded, ConfigError> {
        let mut warnings = texts.warnings.clone();
        let mut figment = Figment::from(Layer::named(BUILT_IN, built_in(registry)?));
        for file in &texts.files {
            let table = match file.syntax {
                Syntax::Toml => parse_toml(&file.path, &file.text)?,
                Syntax::Conf => netdata::parse(&file.path, &file.text, &mut warnings),
            };
            figment = figment.merge(Layer::file(&file.path, table));
        }
        for (name, value) in &self.environment {
            figment = figment.merge(environment_layer(name, value)?);
        }
        for setting in &self.set {
            figment = figment.merge(set_layer(setting)?);
        }
        if let Some(kind) = &self.by {
            for layer in by_layers(&table_of(&figment), kind) {
                figment = figment.merge(layer);
            }
        }
        let root = table_of(&figment);
        Ok(Loaded { figment, root, warnings })
    }
}

/// Whether a variable is one of those that Kubernetes sets in every container for each service of the namespace: for a
/// service `ebpf-process` `EBPF_PROCESS_SERVICE_HOST`, `EBPF_PROCESS_SERVICE_PORT`, `EBPF_PROCESS_SERVICE_PORT_HTTP`,
/// `EBPF_PROCESS_PORT` and `EBPF_PROCESS_PORT_19435_TCP` with `_PROTO`, `_PORT` and `_ADDR`.
fn is_service_link(key: &OsString, value: &OsString) -> bool {
    let Some(name) = key.to_str().and_then(|name| name.strip_prefix(identity().environment_prefix())) else {
        return false;
    };
    // A key's levels; no service's variable has an empty word.
    if name.contains("__") {
        return false;
    }
    let words: Vec<&str> = name.split('_').collect();
    // What comes first is the rest of the service's name.
    (0..words.len()).any(|start| {
        let number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
        match &words[start..] {
            ["SERVICE", "HOST"] | ["SERVICE", "PORT", ..] => true,
            ["PORT"] => value.to_str().is_some_and(|value| value.contains("://")),
            ["PORT", port, "TCP" | "UDP" | "SCTP", rest @ ..] => {
                number(port) && matches!(rest, [] | ["PROTO" | "PORT" | "ADDR"])
            }
            _ => false,
        }
    })
}

/// The default, without probes and common keys that nothing in the registry knows, and with every
/// probe of the registry enabled.
fn built_in(registry: &Registry) -> Result<Dict, ConfigError> {
    let mut root = parse_toml(Path::new(BUILT_IN), &identity().adapt(DEFAULT))?;
    if let Some(Value::Dict(_, probes)) = root.get_mut("probes") {
        probes.retain(|key, value| match value {
            Value::Dict(..) => registry.find_probe(key).is_some_and(|plugin| !plugin.is_named()),
            _ => registry.probes().any(|plugin| plugin.common_keys().contains(&key.as_str())),
        });
        for plugin in registry.probes().filter(|plugin| !plugin.is_named()) {
            let table = nested(&["enabled".to_owned()], Value::from(plugin.is_default()));
            probes.entry(plugin.name().to_owned()).or_insert_with(|| Value::from(table));
        }
    }
    Ok(root)
}

fn environment_layer(name: &OsString, value: &OsString) -> Result<Layer, ConfigError> {
    let origin = format!("environment variable {}", name.to_string_lossy().escape_debug());
    let refused = |problem: &str| ConfigError::Source { origin: origin.clone(), problem: problem.to_owned() };
    let Some(value) = value.to_str() else { return Err(refused("the value is not UTF-8 text")) };
    let key = name.to_str().and_then(|name| name.strip_prefix(identity().environment_prefix()));
    let Some(key) = key else { return Err(refused("the name is not UTF-8 text")) };
    let segments: Vec<String> = key.split("__").map(str::to_ascii_lowercase).collect();
    if segments.iter().any(String::is_empty) {
        return Err(refused("two underscores separate the levels of a key, and no level may be empty"));
    }
    Ok(Layer::named(origin.clone(), nested(&segments, parse_value(value))))
}

fn set_layer(setting: &str) -> Result<Layer, ConfigError> {
    let refused = |origin: &str, problem: &str| ConfigError::Source {
        origin: format!("--set {}", origin.escape_debug()),
        problem: problem.to_owned(),
    };
    let Some((key, value)) = setting.split_once('=') else {
        return Err(refused(setting, "expected KEY=VALUE, for example --set interval=2s"));
    };
    let Some(segments) = parse_key(key.trim()) else {
        return Err(refused(key, "this is no key; levels are separated by dots, as in sinks.lan.type"));
    };
    Ok(Layer::named(format!("--set {}", key.trim().escape_debug()), nested(&segments, parse_value(value.trim()))))
}

/// What adds a kind to each list of kinds in a configuration. A value that is no list stays, and is refused later.
fn by_layers(root: &Dict, kind: &str) -> Vec<Layer> {
    const KEY: &str = "by";
    let Some(Value::Dict(_, probes)) = root.get("probes") else { return Vec::new() };
    let own = probes.iter().filter_map(|(name, table)| match table {
        Value::Dict(_, table) => table.get(KEY).map(|kinds| (vec![name.clone()], Some(kinds))),
        _ => None,
    });
    let lists = own.chain([(Vec::new(), probes.get(KEY))]).filter_map(|(below, kinds)| match kinds {
        None => Some((below, Vec::new())),
        Some(Value::Array(_, kinds)) => Some((below, kinds.clone())),
        Some(_) => None,
    });
    let layers = lists.map(|(below, mut kinds)| {
        if !kinds.iter().any(|known| known.as_str() == Some(kind)) {
            kinds.push(Value::from(kind));
        }
        let key: Vec<String> = ["probes".to_owned()].into_iter().chain(below).chain([KEY.to_owned()]).collect();
        Layer::named(format!("--by {kind}"), nested(&key, Value::from(kinds)))
    });
    layers.collect()
}

fn table_of(figment: &Figment) -> Dict {
    figment.data().ok().and_then(|mut profiles| profiles.remove(&Profile::Default)).unwrap_or_default()
}

/// All layers in one table, where each value still knows its origin.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub(crate) figment: Figment,
    pub(crate) root: Dict,
    warnings: Vec<String>,
}

impl Loaded {
    /// What was ignored while reading, for the log.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Where the value of a dotted key comes from: a file's path, `built-in default`,
    /// `environment variable NAME`, `--set KEY`.
    pub fn origin(&self, key: &str) -> Option<String> {
        self.figment.find_metadata(key).map(in_words)
    }

    /// The options at `path`, without the keys that are not to be kept, above others.
    pub(crate) fn part(&self, onto: Options, path: &[&str], keep: impl Fn(&str) -> bool) -> Options {
        part(onto, (&self.figment, &self.root), path, keep)
    }

    /// Whether nobody has typed this key.
    pub(crate) fn is_default(&self, key: &str) -> bool {
        self.origin(key).is_some_and(|origin| origin == BUILT_IN)
    }

    /// The error with the origin of its key, or of the nearest table above it that has one.
    pub(crate) fn located(&self, mut error: OptionsError) -> OptionsError {
        let mut key = error.key.as_str();
        loop {
            if let Some(origin) = self.origin(key) {
                error.origin = Some(origin);
                break;
            }
            match key.rfind('.') {
                Some(dot) => key = &key[..dot],
                None => break,
            }
        }
        error
    }

    /// An error about a key whose value is of the right type, but cannot be meant.
    pub(crate) fn refuse(&self, key: String, problem: impl Into<String>) -> OptionsError {
        self.located(OptionsError::new(key, problem))
    }
}
