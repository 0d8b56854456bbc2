//! Whether what the sinks ask for exists: kinds of rows, labels, metrics. A pattern with a typo takes nothing, or leaves
//! out nothing, and nobody would notice.

use std::collections::{BTreeMap, BTreeSet};

use ebpf_process_config::{Plan, PlannedSink};
use ebpf_process_core::{Declared, EntityKind, Finding, Registry, Selection, identity, nearest_of};

use crate::list;

/// All that the probes of this build can count, in any mode: what is off today is no typo.
pub(crate) struct Known {
    kinds: BTreeSet<String>,
    /// The most rows of the kinds that the configuration makes.
    limits: BTreeMap<String, usize>,
    labels: BTreeSet<String>,
    metrics: BTreeSet<String>,
    /// A probe says only while it runs what it counts: then anything may be meant.
    is_open: bool,
}

impl Known {
    pub(crate) fn of(registry: &Registry, plan: &Plan) -> Self {
        // The plan was made from these catalogs: none is wrong.
        let any_mode = registry.probes().filter_map(|probe| list::catalog(&**probe).ok());
        let planned = plan.probes.iter().filter_map(|probe| probe.plugin.catalog(&probe.options).ok());
        let is_open = plan.probes.iter().any(|probe| {
            probe.plugin.is_named() && probe.plugin.catalog(&probe.options).is_ok_and(|columns| columns.is_empty())
        });
        let planned: Vec<Declared> = planned.flatten().collect();
        let mut known = Self {
            kinds: BTreeSet::from([EntityKind::HOST.to_owned()]),
            limits: BTreeMap::new(),
            labels: BTreeSet::new(),
            metrics: BTreeSet::new(),
            is_open,
        };
        for Declared { kind, .. } in &planned {
            // The first one that makes a kind decides.
            known.limits.entry(kind.name().to_owned()).or_insert(kind.row_limit());
        }
        for declared in any_mode.flatten().chain(planned) {
            known.kinds.insert(declared.kind.name().to_owned());
            known.labels.extend(declared.label_keys().map(str::to_owned));
            known.metrics.insert(declared.metric_name());
        }
        known
    }

    /// What a sink's table names that does not exist, each a warning.
    pub(crate) fn lacking(&self, sink: &PlannedSink) -> Vec<Finding> {
        let Selection { kinds, matching, top, top_by, include, exclude, rename, .. } = &sink.spec.selection;
        let (kinds, labels) = (kinds.iter().flatten(), matching.keys());
        let has = |set: &BTreeSet<String>, word: &String| set.contains(word);
        let listed = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let table = &sink.spec.name;
        let mut findings = Vec::new();
        let mut lacks = |key: &str, word: &str, what: &str, known: &BTreeSet<String>, way_out: String| {
            if self.is_open {
                return;
            }
            let nearest = nearest_of(word, known.iter().map(String::as_str));
            let nearest = nearest.map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"));
            let what = format!("sinks.{table}.{key}: {what} \"{}\"{nearest}", word.escape_debug());
            findings.push(Finding::warning(what, way_out));
        };
        for kind in kinds.filter(|kind| !has(&self.kinds, kind)) {
            let way_out = format!("name kinds that there are: {}", listed(&self.kinds));
            lacks("kinds", kind, "there are no rows of the kind", &self.kinds, way_out);
        }
        for label in labels.filter(|label| !has(&self.labels, label)) {
            let way_out = format!("name labels that there are: {}", listed(&self.labels));
            lacks("where", label, "nothing has the label", &self.labels, way_out);
        }
        for kind in top.keys().filter(|kind| !has(&self.kinds, kind)) {
            let way_out = format!("name kinds that there are: {}", listed(&self.kinds));
            lacks("top", kind, "there are no rows of the kind", &self.kinds, way_out);
        }
        let to_list = || format!("`{} list metrics` names all metrics", identity().name());
        // What nobody has written is not there in a build with probes of its own, perhaps.
        let top_by = if *top_by == Selection::default().top_by { &Vec::new() } else { top_by };
        for (key, patterns) in [("top_by", top_by), ("include", include), ("exclude", exclude)] {
            for pattern in patterns.iter().filter(|pattern| !self.has_match(pattern)) {
                lacks(key, pattern, "no metric matches", &self.metrics, to_list());
            }
        }
        for name in rename.keys().filter(|name| !has(&self.metrics, name)) {
            lacks("rename", name, "there is no metric", &self.metrics, to_list());
        }
        for (kind, rows, limit) in top.iter().filter_map(|(kind, rows)| Some((kind, rows, self.limits.get(kind)?))) {
            if rows > limit {
                let what = format!("sinks.{table}.top: {rows} rows of the kind \"{kind}\", which has {limit} at most");
                findings.push(Finding::warning(what, "lower it, or raise probes.rows for a kind of `by`"));
            }
        }
        findings
    }

    fn has_match(&self, pattern: &str) -> bool {
        let alone = Selection { include: vec![pattern.to_owned()], ..Selection::default() };
        self.metrics.iter().any(|name| alone.takes(name))
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_config::Sources;

    use super::*;

    fn found(settings: &[&str]) -> Vec<String> {
        let registry = crate::registry();
        let settings = ["sinks.lan.type=json"].iter().chain(settings).map(|setting| (*setting).to_owned());
        let loaded = Sources::built_in().set(settings).load(&registry).expect("a configuration");
        let plan = Plan::new(&loaded, &registry).expect("a plan");
        let findings = Known::of(&registry, &plan).lacking(&plan.sinks[0]);
        findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn what_there_is_no_such_thing_of_is_said() {
        for (setting, finding) in [
            ("kinds=[\"host\", \"hots\"]", "kinds: there are no rows of the kind \"hots\"; did you mean \"host\"?"),
            ("where={operaton=\"read\"}", "where: nothing has the label \"operaton\"; did you mean \"operation\"?"),
            ("top={snk=20}", "top: there are no rows of the kind \"snk\"; did you mean \"sink\"?"),
            ("top={sink=2000}", "top: 2000 rows of the kind \"sink\", which has 1024 at most"),
            ("top_by=[\"*.byte\"]", "top_by: no metric matches \"*.byte\""),
            ("include=[\"vfs.call\"]", "include: no metric matches \"vfs.call\"; did you mean \"vfs.calls\"?"),
            ("exclude=[\"xyz\\u001b*\"]", "exclude: no metric matches \"xyz\\u{1b}*\""),
            ("rename={\"vfs.*\"=\"x\"}", "rename: there is no metric \"vfs.*\""),
        ] {
            let all = found(&[&format!("sinks.lan.{setting}")]);
            assert!(all.len() == 1 && all[0].starts_with(&format!("sinks.lan.{finding}")), "{all:?}");
        }
    }

    #[test]
    fn what_a_program_may_count_is_no_mistake() {
        let settings = [
            "probes.gpu={type=\"exec\", program=[\"/bin/gpu\"]}",
            "sinks.lan.kinds=[\"gpu\", \"sink\"]",
            "sinks.lan.include=[\"gpu.*\"]",
            "sinks.lan.top={sink=2000}",
        ];
        let found = found(&settings);
        assert!(found.len() == 1 && found[0].contains("2000 rows"), "{found:?}");
    }

    #[test]
    fn what_is_off_today_is_no_mistake() {
        let settings = [
            "probes.vitals.enabled=false",
            "sinks.lan.kinds=[\"host\", \"sink\", \"hook\"]",
            "sinks.lan.where={operation=\"r*\", sink=\"lan\"}",
            "sinks.lan.include=[\"*\", \"vfs.bytes\", \"?ask.exits\"]",
            "sinks.lan.exclude=[\"agent.*\"]",
            "sinks.lan.rename={\"vfs.errors\"=\"x\"}",
        ];
        assert_eq!(found(&settings), [""; 0]);
    }
}
