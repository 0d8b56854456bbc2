//! Trying all sinks of a plan at once, within a time limit.

use std::io::{self, IsTerminal as _, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use ebpf_process_config::{Plan, PlannedSink};
use ebpf_process_core::{Finding, Severity, TrialContext, duration};

use crate::destinations::{Holder, PermissionDenied};
use crate::{destinations, engine, status};

/// How long the trials of all sinks may take; they are made side by side.
pub(crate) const LIMIT: Duration = Duration::from_secs(5);

/// What a trial that has used up all its time still gets to report that.
const BEYOND: Duration = Duration::from_secs(1);

/// A person who waits is told what for.
const PROGRESS: Duration = Duration::from_secs(1);

/// What each sink's trial found out, in the order of the plan. Nothing is left behind but, where a trial takes too long,
/// a thread that ends with the process.
pub(crate) fn all(plan: &Plan, limit: Duration) -> Vec<Vec<Finding>> {
    let agent = Running::find(plan);
    let (sender, results) = bounded(plan.sinks.len());
    let mut found: Vec<Option<Vec<Finding>>> = vec![None; plan.sinks.len()];
    for (index, sink) in plan.sinks.iter().enumerate() {
        let PlannedSink { spec, plugin, options, .. } = sink.clone();
        let (running, unseen) = agent.with(sink);
        let mut context = TrialContext::new(spec.name, engine::host(), limit);
        context.instance.clone_from(&plan.instance);
        context.running = running;
        context.agent = agent.answers.as_ref().map(status::Report::pid);
        context.unseen = unseen;
        let sender = sender.clone();
        let trial = move || {
            let outcome = catch_unwind(AssertUnwindSafe(|| plugin.try_out(&options, &context)));
            let findings = outcome.unwrap_or_else(|_| {
                let way_out = "report it to whoever wrote this sink type";
                vec![Finding::error(format!("the sink type {} panicked when it was tried", plugin.name()), way_out)]
            });
            // There is room for all.
            let _ = sender.try_send((index, findings));
        };
        if let Err(error) = thread::Builder::new().name(format!("try {}", sink.spec.name)).spawn(trial) {
            found[index] =
                Some(vec![Finding::error(format!("cannot start a thread: {error}"), "raise the limit on threads")]);
        }
    }
    collect(plan, limit, &results, &mut found);
    let late = || {
        let limit = duration::show(limit);
        let way_out = "look whether its receiver, its disk or the name server hangs";
        vec![Finding::warning(format!("there was no answer within {limit}"), way_out)]
    };
    found.into_iter().map(|findings| findings.unwrap_or_else(late)).collect()
}

/// Waits for the results; on a terminal says for whose.
fn collect(
    plan: &Plan,
    limit: Duration,
    results: &Receiver<(usize, Vec<Finding>)>,
    found: &mut [Option<Vec<Finding>>],
) {
    let start = Instant::now();
    let end = start + limit + BEYOND;
    let mut next = start + PROGRESS;
    let progress = io::stderr().is_terminal();
    let mut said = false;
    while found.iter().any(Option::is_none) {
        match results.recv_deadline(next.min(end)) {
            Ok((index, findings)) => found[index] = Some(findings),
            Err(RecvTimeoutError::Timeout) if Instant::now() < end => {
                next += PROGRESS;
                if progress {
                    let missing = plan.sinks.iter().zip(&*found).filter(|(_, findings)| findings.is_none());
                    let names: Vec<&str> = missing.map(|(sink, _)| sink.spec.name.as_str()).collect();
                    let waited = start.elapsed().as_secs();
                    // Erases the line before; what cannot be shown is no loss.
                    let _ = write!(io::stderr(), "\r\x1b[Kwaiting for {} ({waited} s)", names.join(", "));
                    said = true;
                }
            }
            Err(_) => break,
        }
    }
    if said {
        let _ = write!(io::stderr(), "\r\x1b[K");
    }
}

/// The worst that a list of findings says.
pub(crate) fn worst<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> Severity {
    findings.into_iter().map(|finding| finding.severity).max().unwrap_or(Severity::Fine)
}

/// The agents that run beside this command.
struct Running<'a> {
    plan: &'a Plan,
    /// What the agent at the plan's socket says.
    answers: Option<status::Report>,
}

impl<'a> Running<'a> {
    fn find(plan: &'a Plan) -> Self {
        let answers = plan.status.as_deref().and_then(|path| status::of(path).ok());
        Self { plan, answers }
    }

    /// The process number of the agent that has this sink: it holds the lock of the destination, or says so itself. (An
    /// agent holds the lock also of a sink that it had to leave out: what it says itself counts.) And where nothing can
    /// be seen of agents that may have it.
    fn with(&self, sink: &PlannedSink) -> (Option<u32>, Option<PathBuf>) {
        let destination = sink.plugin.destination(&sink.options);
        let lacks = |pid, destination| {
            let report = self.answers.as_ref().filter(|report| report.pid() == pid);
            report.is_some_and(|report| !report.serves(sink.plugin.name(), destination))
        };
        let mut unseen = None;
        for directory in destinations::directories() {
            let Some(destination) = &destination else { break };
            match destinations::holder(&directory, self.plan.instance.as_deref(), destination) {
                Ok(Some(Holder { pid: Some(pid), .. })) if lacks(pid, destination) => return (None, None),
                Ok(Some(Holder { pid: Some(pid), .. })) => return (Some(pid), None),
                Ok(_) => {}
                Err(PermissionDenied) => unseen = Some(directory),
            }
        }
        let has = |report: &&status::Report| report.has(&sink.spec.name, sink.plugin.name(), destination.as_deref());
        match self.answers.as_ref().filter(has) {
            Some(report) => (Some(report.pid()), None),
            // Where this configuration's agent answers, what it does not have is somebody else's.
            None => (None, unseen.filter(|_| self.answers.is_none())),
        }
    }
}

#[cfg(test)]
mod tests {
    use ebpf_process_config::Sources;
    use ebpf_process_core::{
        BuildError, Claims, Options, OptionsError, Registry, Sink, SinkContext, SinkPlugin, VITALS,
    };

    use super::*;
    use crate::exit::Exit;

    /// A stranger's sink type, of which only the trial matters.
    struct Tried(&'static str, fn(&TrialContext) -> Vec<Finding>);

    impl SinkPlugin for Tried {
        fn name(&self) -> &'static str {
            self.0
        }

        fn summary(&self) -> &'static str {
            "is tried"
        }

        fn check(&self, _: &Options) -> Result<Claims, OptionsError> {
            Ok(Claims::default())
        }

        fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
            Err(BuildError::refused("no", "none"))
        }

        fn try_out(&self, _: &Options, context: &TrialContext) -> Vec<Finding> {
            (self.1)(context)
        }
    }

    const FINE: Tried = Tried("fine", |context| vec![Finding::fine(format!("{} works", context.name))]);
    const SILENT: Tried = Tried("silent", |_| Vec::new());
    const AWAY: Tried = Tried("away", |_| vec![Finding::fine("it has a name"), Finding::warning("no answer", "wait")]);
    const WRONG: Tried = Tried("wrong", |_| vec![Finding::error("no such file", "make it")]);
    const PANICKING: Tried = Tried("panicking", |_| panic!("on purpose"));
    const HANGING: Tried = Tried("hanging", |_| {
        // Nobody ever sends.
        let _ = crossbeam_channel::never::<()>().recv();
        Vec::new()
    });

    fn registry() -> Registry {
        [FINE, SILENT, AWAY, WRONG, PANICKING, HANGING]
            .into_iter()
            .fold(Registry::default().probe(VITALS), Registry::sink)
    }

    fn config(sinks: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("sinks.toml");
        let sinks: Vec<_> = sinks.iter().map(|kind| format!("[sinks.{kind}]\ntype = \"{kind}\"\n")).collect();
        std::fs::write(&path, format!("status.socket = \"\"\n{}", sinks.concat())).expect("a file");
        (folder, path)
    }

    fn tried(sinks: &[&str], limit: Duration) -> Vec<Vec<Finding>> {
        let (_folder, path) = config(sinks);
        let loaded = Sources::command_line(Some(&path)).load(&registry()).expect("a configuration");
        all(&Plan::new(&loaded, &registry()).expect("a plan"), limit)
    }

    #[test]
    fn each_sink_says_what_it_found_and_one_that_panics_or_hangs_is_found_out() {
        // In the order of their names.
        let found = tried(&["away", "fine", "panicking", "silent", "wrong"], Duration::from_secs(600));
        assert_eq!(found[1], [Finding::fine("fine works")]);
        assert_eq!(found[3], []);
        assert_eq!(
            found.iter().map(worst).collect::<Vec<_>>(),
            [Severity::Warning, Severity::Fine, Severity::Error, Severity::Fine, Severity::Error]
        );
        assert!(found[2][0].what.contains("panicked"), "{found:?}");
        let found = tried(&["hanging"], Duration::from_millis(1));
        assert_eq!(found[0][0].what, "there was no answer within 1ms");
        assert_eq!(worst(&found[0]), Severity::Warning);
    }

    #[test]
    fn the_exit_code_says_whether_an_agent_could_run() {
        for (sinks, strict, exit) in [
            (&["fine", "silent"][..], true, Exit::Fine),
            (&["fine", "away"], false, Exit::Fine),
            (&["fine", "away"], true, Exit::Failed),
            (&["away", "wrong"], false, Exit::Failed),
        ] {
            let (_folder, path) = config(sinks);
            let path = path.display().to_string();
            let mut arguments = vec!["ebpf-process", "check", "--config", &path];
            arguments.extend(strict.then_some("--strict"));
            let arguments: Vec<_> = arguments.into_iter().map(Into::into).collect();
            assert_eq!(crate::App::default().registry(registry()).dispatch(&arguments), exit, "{sinks:?} {strict}");
        }
    }
}
