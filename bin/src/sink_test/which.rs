//! Which sink is tested: one of a type, or what stands behind the sink `exec`.

use std::fs;
use std::path::Path;

use clap::{Args, ValueHint};
use ebpf_process_config::quoted;
use rustix::fs::{Access, access};

use crate::exit::Refusal;

/// A sink's type, or the program that is one.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// The sink's type, one of `list sinks`
    #[arg(value_name = "TYPE")]
    kind: Option<String>,
    /// Test a program that speaks the protocol of the sink `exec`, with arguments up to the next option
    #[arg(long, value_name = "PROGRAM", num_args = 1.., value_hint = ValueHint::ExecutablePath)]
    exec: Option<Vec<String>>,
    /// Test one that somebody else has started, behind its socket
    #[arg(long, value_name = "unix:PATH")]
    address: Option<String>,
}

/// The type of sink that has a program behind it.
const EXEC: &str = "exec";

impl Which {
    /// The sink's type, and the setting `KEY=VALUE` that a short form stands for. A program has further arguments.
    pub(crate) fn settings(&self, further: &[String]) -> Result<(&str, Option<String>), Refusal> {
        match self {
            Self { exec: Some(words), .. } => Ok((EXEC, Some(program(words, further)?))),
            Self { address: Some(address), .. } => Ok((EXEC, Some(socket(address)?))),
            Self { kind, .. } => Ok((kind.as_deref().unwrap_or_default(), None)),
        }
    }
}

/// The setting of a program that is there. It is not looked for in `PATH`, and does not start in this directory.
fn program(words: &[String], further: &[String]) -> Result<String, Refusal> {
    let Some((program, arguments)) = words.split_first() else { return Err(refused("", "no program")) };
    let path = absolute(program).map_err(|problem| refused(program, &problem))?;
    if fs::metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
        return Err(refused(program, "is a directory"));
    }
    access(&path, Access::EXEC_OK).map_err(|error| refused(program, &error.to_string()))?;
    let words: Vec<_> = [&path].into_iter().chain(arguments).chain(further).map(|word| quoted(word)).collect();
    Ok(format!("program=[{}]", words.join(", ")))
}

fn refused(program: &str, problem: &str) -> Refusal {
    Refusal::Usage(format!("--exec {program}: {problem}; name a program by its path"))
}

/// The setting of a socket.
fn socket(address: &str) -> Result<String, Refusal> {
    let path = address.strip_prefix("unix:").filter(|path| !path.is_empty()).ok_or("expected unix:PATH".to_owned());
    let path = path.and_then(absolute).map_err(|problem| Refusal::Usage(format!("--address {address}: {problem}")))?;
    Ok(format!("address={}", quoted(&format!("unix:{path}"))))
}

/// A path as the sink wants it.
fn absolute(path: &str) -> Result<String, String> {
    let absolute = std::path::absolute(Path::new(path)).map_err(|error| error.to_string())?;
    absolute.into_os_string().into_string().map_err(|path| format!("{} is no text", path.display()))
}
