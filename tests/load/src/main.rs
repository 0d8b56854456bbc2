//! What very many rows cost, from the collecting thread to the wire, and whether anything is lost: `cargo xtask load`.
//!
//! A made-up probe, the agent's own loop, and each sink to a receiver on loopback that takes everything and keeps
//! nothing. `--still` says what one value costs, all included; `--netdata` has a real netdata show the rows. `churn` puts
//! very many real processes beside a real agent: `cargo xtask churn`.

mod churn;
mod crowd;
mod measure;
mod netdata;
mod order;
mod receivers;
mod report;
mod sinks;
mod threads;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::process::ExitCode;

use ebpf_process_tests::{Failure, Outcome};

use order::{Order, Way};
use report::Report;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(failure) => {
            // A terminal that is gone has nobody to tell.
            let _ = writeln!(io::stderr(), "{failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[String]) -> Outcome<bool> {
    if let [first, rest @ ..] = arguments
        && first == "churn"
    {
        return churn::run(rest);
    }
    let order = Order::read(arguments)?;
    // A sink may own standard output.
    let terminal = rustix::io::dup(io::stdout()).map_err(Failure::at("standard output"))?;
    let (text, is_good) = match &order.way {
        Way::Netdata => netdata::run(&order)?,
        _ => Report::of(&order, &measure::run(&order)?).finish(&order),
    };
    match &order.way {
        Way::Plugin(path) => {
            // In one step, so that nobody reads half of it.
            let unfinished = path.with_extension("unfinished");
            let text = format!("{}\n{text}", if is_good { "good" } else { "bad" });
            fs::write(&unfinished, text)
                .and_then(|()| fs::rename(&unfinished, path))
                .map_err(Failure::at("a report"))?;
        }
        _ => File::from(terminal).write_all(text.as_bytes()).map_err(Failure::at("the terminal"))?,
    }
    Ok(is_good)
}
