//! The command line.

use std::ffi::OsString;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ebpf_process_core::{duration, identity};
use tracing::error;

use crate::app::App;
use crate::by::Rows;
use crate::common::Common;
use crate::exit::{Exit, Refusal};
use crate::log::{Reader, Verbosity};
use crate::{check, list, log, once, privileges, run, settings, sink_test, spool, status};

const ABOUT: &str =
    "Shows what the kernel does for processes and files, and feeds it to netdata, StatsD, InfluxDB and Prometheus.

eBPF programs count, inside the kernel, what processes and their I/O do: started, ended, opened, read, written, \
deleted, failed, how many bytes. Once per interval the totals go to every configured sink. Without a sink, `run` on \
a terminal shows a table.";

const AFTER: &str = "\
Configuration, later wins: built-in default; /etc/ebpf-process/ebpf-process.toml, or the file after --config; \
the files conf.d/*.toml beside it; environment; --set. `ebpf-process config default` prints all keys and what they mean. For example:

  EBPF_PROCESS_SINKS__LAN__TYPE=statsd    in the environment, two underscores between levels
  --set sinks.lan.type=statsd             the same; a VALUE is TOML if it can be, else text
  EBPF_PROCESS_CONFIG=FILE                as --config FILE

Exit codes: 0 fine; 1 it cannot run here, or a fatal error; 2 the command line or the configuration is wrong; 3 \
`sink-test` could not verify everything.

Logs go to stderr. SIGTERM, SIGINT and SIGQUIT end it in order: a last batch, and a bounded time for the sinks; so \
does SIGHUP where there is a controlling terminal, unless `nohup` started it; without a terminal SIGHUP reads the \
configuration again, as `reload` does.

Started by netdata under the name ebpf_process.plugin it takes SECONDS and --config FILE, and reads \
ebpf_process.conf and ebpf-process.toml in netdata's configuration directories as well.

Loading kernel programs takes root, or CAP_BPF and CAP_PERFMON (CAP_SYS_ADMIN before Linux 5.8).";

/// The whole command line; without a command it is `run`.
#[derive(Debug, Parser)]
#[command(name = identity().name(), version = identity().version(), after_help = identity().adapt(AFTER))]
#[command(max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The agent in the foreground; what happens without a command
    #[command(long_about = "Runs the agent in the foreground until SIGTERM or SIGINT.\n\n\
        Every interval one batch goes to every sink of the configuration. With no sink, a terminal shows a table.\n\n\
        With --by the terminal shows the rows of one kind, and no sink of the configuration is fed.")]
    Run {
        #[command(flatten)]
        rows: Rows,
        #[command(flatten)]
        common: Common,
    },
    /// Attach, wait for one interval, print what happened in it, and exit
    Once {
        /// How long to count, 100ms to 1h
        #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
        interval: Duration,
        /// How to print
        #[arg(long, value_name = "FORMAT", default_value = "table")]
        format: String,
        #[command(flatten)]
        rows: Rows,
        #[command(flatten)]
        common: Common,
    },
    /// Is the configuration right, what does this kernel offer, what would be attached, what is missing
    #[command(long_about = "Checks the configuration, attaches every counter once and detaches it again, and tries \
        every sink.\n\n\
        Says per counter which hook would serve it, whether it is exact on this kernel, and what was tried before \
        and why it was not taken; per sink whether its path can be written, its port is free, its receiver answers. \
        Nothing is left behind, also beside a running agent.\n\n\
        Exit code 0 also when some counters find no hook, a receiver does not answer, or a sink's table names a metric, \
        a label or a kind of rows that does not exist (1 with --strict), 1 when no counter finds one or a sink cannot \
        work, 2 when the configuration is wrong.")]
    Check {
        /// How to print
        #[arg(long, value_name = "FORMAT", default_value = "table", value_enum)]
        format: check::Format,
        #[command(flatten)]
        scope: check::Scope,
        #[command(flatten)]
        common: Common,
    },
    /// What a running agent has counted and missed, and what became of each sink's samples
    #[command(long_about = "Asks the running agent over its Unix socket (status.socket), as root or as its user.\n\n\
        Prints per counter what it counted and missed, and per sink its ledger in samples: offered = written \
        + unconfirmed + superseded + failed + dropped + rejected + spooled + queued. Exit code 1 when no agent answers.\n\n\
        With --watch it asks again and again until SIGINT or SIGTERM (exit code 0), on a terminal in one place; an agent \
        that goes away, or is not there yet, is waited for.")]
    Status {
        /// Again every second, or every SECONDS
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = seconds)]
        watch: Option<Duration>,
        /// How to print
        #[arg(long, value_name = "FORMAT", default_value = "table", value_enum)]
        format: status::Format,
        #[command(flatten)]
        common: Common,
    },
    /// Have a running agent read its configuration again
    #[command(
        long_about = "Asks the running agent over its Unix socket (status.socket), as root or as its user, to read its \
        configuration again, and prints what it has changed.\n\n\
        What is the same as before goes on undisturbed. A wrong configuration changes nothing: exit code 2. So does one that \
        cannot be taken over without a restart: exit code 1."
    )]
    Reload {
        #[command(flatten)]
        common: Common,
    },
    /// What this build contains
    List {
        /// Of what
        #[arg(value_enum)]
        what: list::What,
        /// How to print
        #[arg(long, value_name = "FORMAT", default_value = "table", value_enum)]
        format: list::Format,
    },
    /// The commented default, or the effective configuration with the origin of each value
    Config {
        /// Which one
        #[arg(value_enum)]
        which: settings::Which,
        #[command(flatten)]
        common: Common,
    },
    /// What waits on disk for a receiver that is away
    Spool {
        #[command(subcommand)]
        action: spool::Action,
    },
    /// Whether a sink does what it promises: a table of checks, against its real receiver
    #[command(
        long_about = "Drives a sink of this build through the contract that sinks have, with made-up numbers, and judges by \
        what can be read back at the receiver: what the sink says is delivered must be there, and nothing else. Also what \
        strangers write, in Rust or any other language, is tested so.\n\n\
        The program after --verify prints what the receiver has, a line `name{labels} value` for each number. With --receive the \
        test has a receiver of its own, which is slow, refuses and goes away as well. Without either, what concerns delivery is \
        NOT VERIFIED. All metrics have names that begin with conformance_; a receiver that is not on this \
        machine takes --yes. docs/conformance.md says what each check means.\n\n\
        Exit code 0 when all is right, 1 when a check fails, 2 when the command line is wrong, 3 when nothing failed and something \
        could not be verified."
    )]
    SinkTest {
        #[command(flatten)]
        order: sink_test::Order,
    },
    /// Print a completion script for this shell
    Completions {
        /// Which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

/// As [`interval`], and a number alone is one of seconds.
fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse().ok().filter(|_| number).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.map_or_else(|| interval(text), in_range)
}

fn interval(text: &str) -> Result<Duration, String> {
    in_range(duration::parse(text)?)
}

fn in_range(interval: Duration) -> Result<Duration, String> {
    let range = Duration::from_millis(100)..=Duration::from_hours(1);
    if range.contains(&interval) { Ok(interval) } else { Err("it is not between 100ms and 1h".to_owned()) }
}

/// Reads the command line and does what it says.
pub(crate) fn main(app: &App, arguments: &[OsString]) -> Exit {
    let elevated = privileges::elevated();
    if elevated && arguments.len() > 1 {
        log::start(Verbosity::Info, Reader::of_stderr());
        error!("started setuid or with file capabilities this program takes no arguments; start it as a service");
        return Exit::Usage;
    }
    match parse(app, arguments) {
        Ok(cli) => dispatch(app, cli, elevated),
        Err(answer) => {
            // Help and version come this way too. Where they cannot be printed there is nobody to tell.
            let _ = answer.print();
            if answer.exit_code() == 0 { Exit::Fine } else { Exit::Usage }
        }
    }
}

fn parse(app: &App, arguments: &[OsString]) -> Result<Cli, clap::Error> {
    let mut command = command(app);
    let matches = command.try_get_matches_from_mut(arguments).map_err(|error| with_choices(&mut command, error))?;
    Cli::from_arg_matches(&matches)
}

/// Where a command lacks a word that is one of a few, says which those are.
fn with_choices(command: &mut clap::Command, error: clap::Error) -> clap::Error {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return error };
    if error.kind() != ErrorKind::MissingRequiredArgument {
        return error;
    }
    let missing = missing.clone();
    for subcommand in command.get_subcommands_mut() {
        let argument = subcommand.get_positionals().find(|argument| missing.contains(&argument.to_string()));
        let choices = argument.map(clap::Arg::get_possible_values).unwrap_or_default();
        if !choices.is_empty() {
            let words: Vec<&str> = choices.iter().map(clap::builder::PossibleValue::get_name).collect();
            let problem = format!("a word is missing, one of: {}", words.join(", "));
            return subcommand.error(ErrorKind::MissingRequiredArgument, problem);
        }
    }
    error
}

/// The command line of this program: each sink that can print is a format of `once`.
fn command(app: &App) -> clap::Command {
    let formats = PossibleValuesParser::new(once::formats(&app.registry));
    let about = app.about.as_deref().unwrap_or(ABOUT).to_owned();
    Cli::command()
        .about(about)
        .mut_subcommand("once", |once| once.mut_arg("format", |format| format.value_parser(formats)))
}

fn dispatch(app: &App, cli: Cli, elevated: bool) -> Exit {
    let registry = &app.registry;
    let Cli { command: chosen, common } = cli;
    let result = match chosen.unwrap_or(Command::Run { rows: Rows::default(), common: Common::default() }) {
        Command::Run { rows, common: later } => with_log(&common.and(later), elevated, run::verbosity, |common| {
            run::main(registry, &common.sources(elevated), elevated, &rows)
        }),
        Command::Once { interval, format, rows, common: later } => {
            with_log(&common.and(later), elevated, quiet, |common| {
                once::main(registry, &common.sources(elevated), interval, &format, &rows)
            })
        }
        Command::Check { format, scope, common: later } => with_log(&common.and(later), elevated, quiet, |common| {
            check::main(registry, &common.sources(elevated), format, scope)
        }),
        Command::Status { watch, format, common: later } => with_log(&common.and(later), elevated, quiet, |common| {
            status::main(registry, &common.sources(elevated), format, watch)
        }),
        Command::Reload { common: later } => {
            with_log(&common.and(later), elevated, quiet, |common| status::reload(registry, &common.sources(elevated)))
        }
        Command::List { what, format } => with_log(&common, elevated, quiet, |_| list::main(registry, what, format)),
        Command::Config { which, common: later } => with_log(&common.and(later), elevated, quiet, |common| {
            settings::main(registry, &common.sources(elevated), which)
        }),
        Command::Spool { action } => match action {
            spool::Action::Inspect { directory } => {
                with_log(&common, elevated, quiet, |_| spool::main(&directory, false))
            }
            spool::Action::Repair { directory } => {
                with_log(&common, elevated, quiet, |_| spool::main(&directory, true))
            }
            spool::Action::Drain { sink, common: later } => with_log(&common.and(later), elevated, quiet, |common| {
                spool::drain(registry, &common.sources(elevated), &sink)
            }),
        },
        Command::SinkTest { order } => with_log(&common, elevated, quiet, |_| sink_test::main(registry, &order)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(app), identity().name(), &mut script);
            with_log(&common, elevated, quiet, |_| crate::stdout::print(&String::from_utf8_lossy(&script)))
        }
    };
    result.unwrap_or_else(|refusal| {
        error!("{refusal}");
        refusal.exit()
    })
}

const fn quiet() -> Verbosity {
    Verbosity::Warn
}

/// Starts the log, at the level that was asked for or else the command's own, then does the work.
fn with_log(
    common: &Common,
    elevated: bool,
    usual: impl FnOnce() -> Verbosity,
    work: impl FnOnce(&Common) -> Result<Exit, Refusal>,
) -> Result<Exit, Refusal> {
    let asked = match common.log {
        Some(verbosity) => Ok(Some(verbosity)),
        None if elevated => Ok(None),
        None => verbosity_of_environment(),
    };
    let verbosity = asked.as_ref().ok().copied().flatten();
    log::start(verbosity.unwrap_or_else(usual), Reader::of_stderr());
    asked?;
    work(common)
}

/// The level in `EBPF_PROCESS_LOG`, or as that variable is called for this program, if it is set.
pub(crate) fn verbosity_of_environment() -> Result<Option<Verbosity>, Refusal> {
    let variable = identity().variable("LOG");
    let Some(word) = std::env::var_os(&variable) else { return Ok(None) };
    let known = Verbosity::from_str(&word.to_string_lossy(), true);
    known.map(Some).map_err(|_| {
        Refusal::Usage(format!("environment variable {variable}: expected error, warn, info, debug or trace"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command(&App::default()).debug_assert();
    }

    #[test]
    fn a_number_of_seconds_needs_no_unit() {
        let parse = |words: &[&str]| {
            let words: Vec<OsString> = ["ebpf-process", "status"].iter().chain(words).map(OsString::from).collect();
            match parse(&App::default(), &words)?.command {
                Some(Command::Status { watch, .. }) => Ok::<_, clap::Error>(watch),
                other => panic!("{other:?}"),
            }
        };
        for (words, watch) in [
            (&[][..], None),
            (&["--watch"], Some(1_000)),
            (&["--watch", "--format", "json"], Some(1_000)),
            (&["--watch", "5"], Some(5_000)),
            (&["--watch", "0.5"], Some(500)),
            (&["--watch=200ms"], Some(200)),
            (&["--watch", "1m"], Some(60_000)),
        ] {
            let expected = watch.map(Duration::from_millis);
            assert_eq!(parse(words).expect("a right command line"), expected, "{words:?}");
        }
        for wrong in ["0", "", ".", "-1", "2h", "1 2", "x"] {
            parse(&["--watch", wrong]).expect_err("no such time");
        }
    }

    #[test]
    fn what_is_typed_before_the_command_counts_as_well() {
        let parse = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            parse(&App::default(), &words).expect("a right command line")
        };
        let cli = parse(&["ebpf-process", "--set", "a=1", "--config", "x", "run", "--set", "b=2"]);
        let Some(Command::Run { common: later, .. }) = cli.command else { panic!("run") };
        let common = cli.common.and(later);
        assert_eq!((common.set, common.config), (vec!["a=1".to_owned(), "b=2".to_owned()], Some("x".into())));
        assert!(parse(&["ebpf-process", "--set", "a=1"]).command.is_none());
    }

    #[test]
    fn rows_are_chosen_for_once_and_run_and_nothing_about_them_without_a_kind() {
        let parse = |words: &[&str]| {
            let words: Vec<OsString> = ["ebpf-process"].iter().chain(words).map(OsString::from).collect();
            parse(&App::default(), &words)
        };
        for command in ["once", "run"] {
            for kind in ["process", "app", "cgroup", "subtree"] {
                let cli = parse(&[command, "--by", kind, "--sort", "vfs read", "--limit", "5"]).expect("a right one");
                let Some(Command::Once { rows, .. } | Command::Run { rows, .. }) = cli.command else {
                    panic!("{command}")
                };
                assert_eq!(rows.by.map(crate::by::Kind::name), Some(kind));
            }
            for wrong in [["--by", "proces"], ["--sort", "vfs read"], ["--limit", "5"], ["--limit", "0"]] {
                parse(&[&[command], &wrong[..]].concat()).expect_err("a wrong one");
            }
        }
    }
}
