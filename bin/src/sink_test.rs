//! `sink-test`: a sink through the conformance kit.

mod receive;
mod target;
mod verify;
mod which;

use clap::Args;
use ebpf_process_config::Sources;
use ebpf_process_core::Registry;
use ebpf_process_core::engine::SystemClock;
use ebpf_process_core::testkit::conformance::Kit;

use crate::configuration;
use crate::exit::{Exit, Refusal};
use crate::sink_test::receive::{PLACE, Receive, Receiver};
use crate::sink_test::target::Target;
use crate::sink_test::verify::Verifier;
use crate::sink_test::which::Which;
use crate::stdout;

/// What is tested, and how.
#[derive(Args, Clone, Debug)]
pub(crate) struct Order {
    #[command(flatten)]
    which: Which,
    /// Further arguments of the program behind --exec, such as begin with "-"
    #[arg(last = true, value_name = "ARG", conflicts_with_all = ["kind", "address"])]
    further: Vec<String>,
    /// Set one option of the sink, for example address=udp://127.0.0.1:8125; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// A program that prints what the receiver has, a line `name{labels} value` for each number
    #[arg(long, value_name = "PROGRAM")]
    verify: Option<std::path::PathBuf>,
    /// Judge by what a receiver of the test's own gets, over tcp, udp or http in one of the formats lines, influx, statsd,
    /// graphite and prometheus, or from the sink exec. An option says by {receiver} where it is, for example
    /// --set address=tcp://{receiver} --receive tcp:graphite
    #[arg(
        long,
        value_name = "CARRIER:FORMAT|exec",
        value_enum,
        hide_possible_values = true,
        conflicts_with = "verify"
    )]
    receive: Option<Receive>,
    /// Write to a receiver that is not on this machine
    #[arg(long)]
    yes: bool,
    /// From what names and numbers are made [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// How often a sink is built anew to see whether something grows; as often as a minute allows
    #[arg(long, value_name = "NUMBER", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(20..=1000))]
    rebuilds: u32,
    /// Print the table as JSON
    #[arg(long)]
    json: bool,
}

/// The sink's name in the configuration that is made of the order.
const NAME: &str = "conformance";

/// Makes the test and prints its table.
pub(crate) fn main(registry: &Registry, order: &Order) -> Result<Exit, Refusal> {
    let Order { which, further, set, verify, receive, yes, seed, rebuilds, json } = order;
    if let Some(wrong) = set.iter().find(|setting| !setting.contains('=')) {
        return Err(Refusal::Usage(format!("--set {wrong}: expected KEY=VALUE, an option of the sink")));
    }
    let (kind, own) = which.settings(further)?;
    let receiver = receive.map(Receiver::start).transpose()?;
    let place = receiver.as_ref().map(Receiver::place);
    if let (Some(receive), false) = (receive, own.iter().chain(set).any(|setting| setting.contains(PLACE))) {
        let problem = format!("--receive {receive}: no option of the sink has {PLACE} in it");
        return Err(Refusal::Usage(format!(
            "{problem}, which stands for where the receiver is: {}",
            receive.example()
        )));
    }
    let settings = own.iter().chain(set).map(|setting| format!("sinks.{NAME}.options.{setting}"));
    let settings = settings.map(|setting| place.map_or(setting.clone(), |place| setting.replace(PLACE, place)));
    let settings = [format!("sinks.{NAME}.type={kind}")].into_iter().chain(settings);
    let plan = configuration::plan(registry, &Sources::built_in().set(settings))?;
    let Some(sink) = plan.sinks.into_iter().find(|sink| sink.spec.name == NAME) else {
        return Err(Refusal::Usage(format!("{kind}: no such type of sink; `ebpf-process list sinks` has them")));
    };
    if sink.claims.stdout {
        let problem = format!("{kind}: with these options it writes to standard output, where the table goes");
        return Err(Refusal::Usage(format!("{problem}; give it a file or an address by --set")));
    }
    let target = Target::of(&*sink.plugin, &sink.options, place);
    if !yes && !target.is_local {
        let problem = format!("{kind} writes to {}, which is not known to be this machine", target.name);
        return Err(Refusal::Usage(format!(
            "{problem}: metrics whose names begin with conformance_ would stay there; say --yes if that is meant"
        )));
    }
    let seed = seed.unwrap_or_else(drawn);
    let kit = Kit::of(sink.plugin, sink.options).seed(seed).rebuilds(*rebuilds).target(target.name);
    let kit = match (verify, &receiver) {
        (None, None) => kit,
        (None, Some(receiver)) => receiver.equip(kit),
        (Some(program), _) => {
            let mut verifier = Verifier::new(program)?;
            kit.read_back(move || verifier.readings())
        }
    };
    let report = kit.run();
    receiver.iter().for_each(Receiver::tell_losses);
    let text = if *json { format!("{}\n", report.to_json()) } else { format!("{report}\n") };
    stdout::print(&text)?;
    Ok(match report.exit() {
        0 => Exit::Fine,
        3 => Exit::Unverified,
        _ => Exit::Failed,
    })
}

/// A seed that is another one each time, and short enough to be typed.
fn drawn() -> u64 {
    use ebpf_process_core::engine::Clock as _;
    u64::from(SystemClock.now().wall.subsec_nanos())
}
