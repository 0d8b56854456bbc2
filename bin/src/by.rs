//! `--by`: one kind of rows, in place of the host's numbers.

use std::num::NonZeroUsize;

use clap::{Args, ValueEnum};
use ebpf_process_config::{Plan, Sources};
use ebpf_process_core::{EntityKind, Selection, identity, nearest_of};

use crate::exit::Refusal;
use crate::table::Choice;
use crate::{stdout, table};

/// How many rows a table has unless `--limit` says otherwise: with all around them they fit 80x24.
const USUAL_LIMIT: usize = 20;

/// What the rows of a table may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A process with all its threads
    Process,
    /// Processes that belong together, by the rules of probes.apps
    App,
    /// A control group: a service, a container
    Cgroup,
    /// A control group with all that are below it; an event is in the row of each of them
    Subtree,
}

impl Kind {
    /// The kind's name in the data model and in `probes.by`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Process => EntityKind::PROCESS,
            Self::App => "app",
            Self::Cgroup => "cgroup",
            Self::Subtree => "subtree",
        }
    }
}

/// What is typed about the rows.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct Rows {
    /// Show who did it, a row for each; sets probes.by
    #[arg(long, value_name = "KIND", value_enum)]
    pub(crate) by: Option<Kind>,
    /// The column that sorts the table, the largest first, for example "vfs read"; without it those with most calls come first
    #[arg(long, value_name = "COLUMN", requires = "by")]
    pub(crate) sort: Option<String>,
    /// The most rows in the table; the rest is one row more [default: 20]
    #[arg(long, value_name = "N", requires = "by")]
    pub(crate) limit: Option<NonZeroUsize>,
}

impl Rows {
    /// The layers of the configuration, which have the probes make these rows.
    pub(crate) fn asked_of(&self, sources: Sources) -> Sources {
        match self.by {
            Some(kind) => sources.by(kind.name()),
            None => sources,
        }
    }

    /// What a sink takes that prints these rows and nothing else.
    pub(crate) fn selection(&self) -> Selection {
        Selection { kinds: self.by.map(|kind| vec![kind.name().to_owned()]), ..Selection::default() }
    }

    /// Refuses what is about a table where none is printed.
    pub(crate) fn without_table(&self, format: &str) -> Result<(), Refusal> {
        let option = match self {
            Self { sort: Some(_), .. } => "--sort",
            Self { limit: Some(_), .. } => "--limit",
            _ => return Ok(()),
        };
        Err(Refusal::Usage(format!("{option} is for --format table; {format} has all rows and columns, in no order")))
    }

    /// Refuses a table that is drawn over itself where there is no terminal for it.
    pub(crate) fn want_terminal(&self) -> Result<(), Refusal> {
        match self.by.map(Kind::name) {
            Some(kind) if !stdout::is_terminal() => Err(Refusal::Usage(format!(
                "--by {kind} shows a table, and standard output is no terminal to show it on; use `{} once --by \
                 {kind}`, or give sinks these rows with --set 'probes.by=[\"{kind}\"]'",
                identity().name()
            ))),
            _ => Ok(()),
        }
    }

    /// The rows that a table of this plan's numbers shows, if it is to show one kind. Refused where no probe makes such
    /// rows, or they do not have the column.
    pub(crate) fn choice(&self, plan: &Plan) -> Result<Option<Choice>, Refusal> {
        let Some(kind) = self.by.map(Kind::name) else { return Ok(None) };
        // The plan was made from these catalogs: none is wrong.
        let catalogs = plan.probes.iter().filter_map(|probe| probe.plugin.catalog(&probe.options).ok()).flatten();
        let declared: Vec<_> = catalogs.filter(|declared| declared.kind.name() == kind).collect();
        let mut titles: Vec<String> = Vec::new();
        for title in declared.iter().filter_map(|declared| table::title(&declared.column)) {
            if !titles.contains(&title) {
                titles.push(title);
            }
        }
        if titles.is_empty() {
            return Err(Refusal::Usage(format!(
                "--by {kind}: no probe that is enabled makes such rows; enable one with --set probes.NAME.enabled=true"
            )));
        }
        let sort = self.sort.as_deref().map(|typed| column(kind, typed, &titles)).transpose()?;
        Ok(Some(Choice { kind, sort, limit: self.limit.map_or(USUAL_LIMIT, NonZeroUsize::get) }))
    }
}

/// The title that is meant: how it is written, in which case and with what between its words, is nobody's mistake.
fn column(kind: &str, typed: &str, titles: &[String]) -> Result<String, Refusal> {
    let words = |text: &str| {
        let text = text.to_lowercase();
        text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
    };
    let meant = words(typed);
    if let Some(title) = titles.iter().find(|title| words(title) == meant) {
        return Ok(title.clone());
    }
    let nearest = nearest_of(&meant, titles.iter().map(String::as_str));
    let nearest = nearest.map_or_else(String::new, |nearest| format!("; did you mean \"{nearest}\"?"));
    Err(Refusal::Usage(format!(
        "--sort \"{}\": there is no such column by {kind}; there are {}{nearest}",
        typed.escape_debug(),
        titles.join(", ")
    )))
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::{
        BuildError, Column, Declared, Options, OptionsError, Probe, ProbeContext, ProbePlugin, Registry, Unit,
    };
    use serde::Deserialize;

    use super::*;
    use crate::exit::Exit;

    /// A probe that makes rows of the kinds that it is told.
    struct Told;

    #[derive(Deserialize)]
    #[serde(default, deny_unknown_fields)]
    #[derive(Default)]
    struct ToldOptions {
        by: Vec<String>,
    }

    impl ProbePlugin for Told {
        fn name(&self) -> &'static str {
            "told"
        }

        fn summary(&self) -> &'static str {
            "makes rows"
        }

        fn common_keys(&self) -> &'static [&'static str] {
            &["by"]
        }

        fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError> {
            let calls =
                |operation| Column::counter("vfs.calls", Unit::CALLS, "Calls").labels([("operation", operation)]);
            let columns = [
                calls("read"),
                calls("write"),
                Column::counter("vfs.bytes", Unit::BYTES, "Bytes").labels([("operation", "read")]),
                Column::histogram("vfs.sizes", Unit::BYTES, "No single numbers"),
            ];
            let kinds = options.extract::<ToldOptions>()?.by.into_iter().map(EntityKind::new);
            let kinds = kinds.chain([EntityKind::host()]);
            Ok(kinds
                .flat_map(|kind| columns.iter().map(move |column| Declared::new(kind.clone(), column.clone())))
                .collect())
        }

        fn build(&self, _: &Options, _: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
            unreachable!("a choice builds nothing")
        }
    }

    const TOLD: Told = Told;

    fn choice(rows: &Rows, settings: &[&str]) -> Result<Option<Choice>, Refusal> {
        let registry = Registry::default().probe(TOLD);
        let settings = settings.iter().map(|setting| (*setting).to_owned());
        let loaded = rows.asked_of(Sources::built_in().set(settings)).load(&registry).expect("a configuration");
        rows.choice(&Plan::new(&loaded, &registry).expect("a plan"))
    }

    fn sorted(sort: &str) -> Rows {
        Rows { by: Some(Kind::App), sort: Some(sort.to_owned()), limit: None }
    }

    #[test]
    fn nothing_typed_is_no_choice_and_takes_every_kind() {
        assert_eq!(choice(&Rows::default(), &[]).expect("no refusal"), None);
        assert_eq!(Rows::default().selection(), Selection::default());
        let selection = Rows { by: Some(Kind::Cgroup), ..Rows::default() }.selection();
        assert!(selection.takes_kind("cgroup") && !selection.takes_kind("host") && !selection.takes_kind("process"));
    }

    #[test]
    fn a_column_is_named_as_it_is_shown_in_any_case() {
        for typed in ["vfs read bytes", "VFS READ BYTES", "vfs.read-bytes", " vfs_read  bytes "] {
            let choice = choice(&sorted(typed), &["probes.by=[\"process\"]"]).expect("a choice").expect("rows");
            assert_eq!((choice.kind, choice.sort.as_deref(), choice.limit), ("app", Some("vfs read bytes"), 20));
        }
        let rows = Rows { limit: NonZeroUsize::new(3), by: Some(Kind::Process), sort: None };
        let expected = Choice { kind: "process", sort: None, limit: 3 };
        assert_eq!(choice(&rows, &[]).expect("a choice"), Some(expected));
    }

    #[test]
    fn an_unknown_column_is_refused_with_those_that_there_are() {
        for (typed, problem) in [
            (
                "vfs raed",
                "--sort \"vfs raed\": there is no such column by app; there are vfs read, vfs write, vfs read bytes; \
                did you mean \"vfs read\"?",
            ),
            (
                "\u{1b}[2J",
                "--sort \"\\u{1b}[2J\": there is no such column by app; there are vfs read, vfs write, vfs read bytes",
            ),
        ] {
            let refusal = choice(&sorted(typed), &[]).expect_err("no such column");
            assert_eq!((refusal.to_string().as_str(), refusal.exit()), (problem, Exit::Usage));
        }
    }

    #[test]
    fn where_no_probe_makes_such_rows_it_says_so() {
        let refusal = choice(&sorted("vfs read"), &["probes.told.enabled=false"]).expect_err("no rows");
        assert!(refusal.to_string().starts_with("--by app: no probe that is enabled makes such rows"), "{refusal}");
    }
}
