//! Which probes the configuration asks for.

use std::sync::Arc;

use ebpf_process_core::{Options, OptionsError, ProbePlugin, Registry, Scope, nearest_of};
use figment::value::{Dict, Value};

use crate::error::ConfigError;
use crate::load::Loaded;
use crate::name::{NAME_RULE, is_name};
use crate::raw::RawProbe;

/// A probe to build.
#[derive(Clone)]
pub struct PlannedProbe {
    /// Its name in the configuration.
    pub name: String,
    /// Its type.
    pub plugin: Arc<dyn ProbePlugin>,
    /// Its own table, with the common keys that it knows.
    pub options: Options,
}

/// The keys of a probe's table that are not its own.
const COMMON: [&str; 2] = ["enabled", "type"];

/// The probes that are switched on: first those of which there is one of a type, in the registry's order, then those
/// that the configuration names, by name. With what their numbers describe.
pub(crate) fn plan_probes(
    loaded: &Loaded,
    registry: &Registry,
    table: &Dict,
) -> Result<(Vec<PlannedProbe>, Scope), ConfigError> {
    let of_one_name = registry.probes().filter(|plugin| !plugin.is_named());
    let mut all: Vec<_> = of_one_name.map(|plugin| (plugin.name(), plugin)).collect();
    for (key, value) in table {
        if let Some(plugin) = named(loaded, registry, key, value)? {
            all.push((key, plugin));
        }
    }
    let mut probes = Vec::new();
    let mut scope = Scope::Host;
    for (name, plugin) in all {
        let own_keys = match table.get(name) {
            Some(Value::Dict(_, own)) => own.clone(),
            _ => Dict::new(),
        };
        let (probe, enabled) = plan_probe(loaded, table, &own_keys, name, plugin)?;
        let knows_only = plugin.common_keys().contains(&"only");
        if enabled && knows_only && (own_keys.contains_key("only") || table.contains_key("only")) {
            scope = Scope::Filtered;
        }
        if enabled {
            probes.push(probe);
        }
    }
    Ok((probes, scope))
}

/// A probe, and whether it is switched on.
fn plan_probe(
    loaded: &Loaded,
    table: &Dict,
    own_keys: &Dict,
    name: &str,
    plugin: &Arc<dyn ProbePlugin>,
) -> Result<(PlannedProbe, bool), ConfigError> {
    let path = format!("probes.{name}");
    let own = loaded.part(Options::at(&*path), &["probes", name], |_| true);
    let raw = own.extract::<RawProbe>().map_err(|error| loaded.located(error))?;
    // Who writes a table for a probe of its own wants it.
    let enabled = raw.enabled.unwrap_or_else(|| plugin.is_named() || plugin.is_default());
    let inherited = |key: &str| plugin.common_keys().contains(&key) && !own_keys.contains_key(key);
    let options = loaded.part(Options::at(&*path), &["probes"], inherited);
    let options = loaded.part(options, &["probes", name], |key| !COMMON.contains(&key));
    // A disabled probe's table is read as well: a typo in it should not wait for the day it is enabled.
    if let Err(mut error) = plugin.catalog(&options) {
        let key = error.key.strip_prefix(&path).and_then(|rest| rest.strip_prefix('.')).unwrap_or_default();
        let first = key.split('.').next().unwrap_or_default();
        if inherited(first) && table.contains_key(first) {
            error.key = format!("probes.{key}");
        } else if error.nearest.is_none() {
            error.nearest = nearest_of(first, COMMON);
        }
        return Err(loaded.located(error).into());
    }
    Ok((PlannedProbe { name: name.to_owned(), plugin: Arc::clone(plugin), options }, enabled))
}

/// The type of a probe that has its name from the configuration; none if this key of `[probes]` is not one.
fn named<'a>(
    loaded: &Loaded,
    registry: &'a Registry,
    key: &str,
    value: &Value,
) -> Result<Option<&'a Arc<dyn ProbePlugin>>, ConfigError> {
    let refuse = |key: String, problem: String| Err(loaded.refuse(key, problem).into());
    let known = registry.find_probe(key).filter(|plugin| !plugin.is_named());
    if registry.probes().any(|plugin| plugin.common_keys().contains(&key)) {
        return Ok(None);
    }
    let Value::Dict(_, own) = value else {
        return match known {
            Some(_) => refuse(format!("probes.{key}"), "expected a table".to_owned()),
            None => Err(unknown(loaded, registry, key, false).into()),
        };
    };
    let raw = || loaded.part(Options::at(format!("probes.{key}")), &["probes", key], |_| true).extract::<RawProbe>();
    let kind = if own.contains_key("type") { raw().map_err(|error| loaded.located(error))?.kind } else { None };
    let kind = match kind {
        Some(kind) => kind,
        None if known.is_some() => return Ok(None),
        None => return Err(unknown(loaded, registry, key, true).into()),
    };
    if known.is_some() {
        if kind == key {
            return Ok(None);
        }
        let problem = format!("[probes.{key}] is the probe {key}; give one of another type another name");
        return refuse(format!("probes.{key}.type"), problem);
    }
    if !is_name(key) {
        let path = format!("probes.\"{}\"", key.escape_debug());
        return refuse(path, format!("a probe's name has {NAME_RULE}"));
    }
    match registry.find_probe(&kind) {
        Some(plugin) if plugin.is_named() => Ok(Some(plugin)),
        Some(_) => {
            let problem = format!("there is one probe of the type {kind} at most: [probes.{kind}]");
            refuse(format!("probes.{key}.type"), problem)
        }
        None => {
            let types = types(registry);
            let problem = format!(
                "unknown probe type \"{}\"; this build has {}",
                kind.escape_debug(),
                if types.is_empty() { "none".to_owned() } else { types.join(", ") }
            );
            let mut error = loaded.refuse(format!("probes.{key}.type"), problem);
            error.nearest = nearest_of(&kind, types);
            Err(error.into())
        }
    }
}

/// The types of which there may be many.
fn types(registry: &Registry) -> Vec<&str> {
    registry.probes().filter(|plugin| plugin.is_named()).map(|plugin| plugin.name()).collect()
}

fn unknown(loaded: &Loaded, registry: &Registry, key: &str, is_table: bool) -> OptionsError {
    let one = registry.probes().filter(|plugin| !plugin.is_named());
    let names: Vec<&str> = one.map(|plugin| plugin.name()).collect();
    let mut keys: Vec<&str> = registry.probes().flat_map(|plugin| plugin.common_keys().iter().copied()).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut problem = if is_table {
        format!("this build has no such probe; it has {}", names.join(", "))
    } else {
        format!("unknown key; known here are {}", keys.iter().chain(&names).copied().collect::<Vec<_>>().join(", "))
    };
    let types: Vec<_> = types(registry).into_iter().map(|kind| format!("type = \"{kind}\"")).collect();
    if is_table && !types.is_empty() {
        problem = format!("{problem}, and any with {}", types.join(" or "));
    }
    let mut error = loaded.refuse(format!("probes.{key}"), problem);
    error.nearest = nearest_of(key, names.into_iter().chain(keys));
    error
}
