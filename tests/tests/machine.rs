//! What files of the machine say, and that nothing depends on it that they cannot know.

use ebpf_process_tests::answer::{finish, served};
use ebpf_process_tests::{Failure, Outcome, agent, live};
use std::fs;
use std::process::Command;

/// The agent in a mount namespace of its own, where `file` is somebody else's.
fn with_another(file: &str, content: &str) -> Outcome<Command> {
    let folder = tempfile::tempdir().map_err(Failure::at("a folder"))?.keep();
    let other = folder.join("file");
    fs::write(&other, content).map_err(Failure::at("a file"))?;
    let mut command = agent::command()?;
    let program = command.get_program().to_owned();
    let kept: Vec<_> =
        command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
    command = Command::new("unshare");
    let script = "mount --bind \"$1\" \"$2\" && rm -r \"$3\" && shift 3 && exec \"$@\"";
    command.env_clear().envs(kept).args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(other).arg(file).arg(folder).arg(program);
    Ok(command)
}

#[test]
fn a_wrong_number_of_possible_processors_costs_neither_memory_nor_numbers() {
    live::test("possible-processors", agent::can_run(), || {
        for wrong in ["0\n", "0-511\n", "nonsense\n"] {
            for object in ["auto", "floor"] {
                let mut agent = with_another("/sys/devices/system/cpu/possible", wrong)?;
                agent.args(["once", "--interval", "100ms", "--set", &format!("probes.object={object}")]);
                served(&finish(&mut agent)?, &["read", "exact"]).map_err(Failure::at(wrong.trim_end()))?;
            }
        }
        Ok(())
    });
}
