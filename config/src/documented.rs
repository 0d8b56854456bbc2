//! Every key of the configuration that belongs to no plugin, for documentation.

use std::path::Path;

use ebpf_process_core::OptionDoc;
use figment::value::{Dict, Value};

use crate::DEFAULT;
use crate::layer::parse_toml;
use crate::literal::literal;
use crate::raw::{RawProbe, RawRoot, RawSink};

/// The keys of a table of the configuration.
#[derive(Debug)]
pub struct DocumentedTable {
    /// Where it stands, `sinks.NAME` for example; empty for the configuration itself.
    pub table: &'static str,
    /// Its keys.
    pub keys: Vec<OptionDoc>,
}

/// The tables that belong to no plugin, each key with the default that is in force.
pub fn documented() -> [DocumentedTable; 3] {
    // What the built-in default says is no default of the type.
    let built_in = parse_toml(Path::new("built-in default"), DEFAULT).unwrap_or_default();
    let root = OptionDoc::of::<RawRoot>().into_iter().map(|mut doc| {
        if let Some(value) = find(&built_in, &doc.key) {
            doc.default = literal(value);
            doc.required = false;
        }
        doc
    });
    [
        DocumentedTable { table: "", keys: root.collect() },
        DocumentedTable { table: "probes.PROBE", keys: OptionDoc::of::<RawProbe>() },
        DocumentedTable { table: "sinks.NAME", keys: OptionDoc::of::<RawSink>() },
    ]
}

fn find<'a>(table: &'a Dict, key: &str) -> Option<&'a Value> {
    match key.split_once('.') {
        None => table.get(key),
        Some((first, rest)) => match table.get(first)? {
            Value::Dict(_, inner) => find(inner, rest),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_meaning_and_the_agents_own_a_default() {
        let tables = documented();
        for DocumentedTable { table, keys } in &tables {
            for doc in keys {
                assert!(!doc.meaning.is_empty(), "{table}.{}", doc.key);
                // An agent that is alone on its host needs no name, and whom it becomes depends on the machine.
                let open = ["instance", "user"].contains(&doc.key.as_str());
                assert!(!table.is_empty() || open || !doc.default.is_empty(), "{}", doc.key);
            }
        }
        let interval = tables[0].keys.iter().find(|doc| doc.key == "interval").expect("a key");
        assert_eq!((interval.kind.as_str(), interval.default.as_str()), ("duration", "\"1s\""));
    }
}
