//! `cargo xtask load`: very many made-up rows through the sinks, what they cost, and whether anything is lost; and `cargo
//! xtask churn`: very many processes beside the agent.

use std::process::Command;

use crate::Outcome;

/// `cargo xtask load [OPTION]...`: the options are those of the program in `tests/load`, which says what is wrong with
/// them.
///
/// # Errors
/// It does not build, a ledger shows a loss, or a bound is passed.
pub(crate) fn run(options: &[&str]) -> Outcome {
    program("load", options)
}

/// `cargo xtask churn [OPTION]...`: as above, with the agent's release build.
///
/// # Errors
/// Something does not build, numbers do not add up, something stays behind, or a bound is passed.
pub(crate) fn churn(options: &[&str]) -> Outcome {
    crate::run(Command::new(env!("CARGO")).args(["build", "--release"]))?;
    program("churn", &[&["churn"], options].concat())
}

fn program(task: &str, arguments: &[&str]) -> Outcome {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--release", "--quiet", "--package", "ebpf-process-load", "--"]).args(arguments);
    let status = cargo.status().map_err(|error| format!("cargo: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{task}: see above").into()) }
}
