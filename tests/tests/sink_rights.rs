//! A sink of root's agent that writes where another user's files are: the agent's broker opens them.

use ebpf_process_tests::agent::{self, Agent};
use ebpf_process_tests::held::{Held, kept_with_broker};
use ebpf_process_tests::{Failure, Outcome, live, wait};
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// Neither root nor whom root's agent becomes.
const STRANGER: u32 = 65533;
/// Whom root's agent becomes where the machine has no user for it.
const NOBODY: u32 = 65534;
const LIMIT: Duration = Duration::from_mins(1);
const RIGHT: &str = "CAP_DAC_OVERRIDE";

/// A folder with a file in it, both somebody's.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(owner: u32) -> Outcome<Self> {
        let this = Self { folder: tempfile::tempdir().map_err(Failure::at("a folder"))? };
        chown(this.folder.path(), Some(owner), Some(owner)).map_err(Failure::at("the folder's owner"))?;
        create(&this.file(), owner)?;
        Ok(this)
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("lines.json")
    }

    fn settings(&self) -> Vec<String> {
        vec!["sinks.lines.type=json".to_owned(), format!("sinks.lines.options.path=\"{}\"", self.file().display())]
    }

    /// What logrotate does by `create 0640 somebody`. In a directory of the agent's user's that has to be this user: what it
    /// could have put there itself is opened for it only as it may open it.
    fn rotate(&self, owner: u32) -> Outcome<()> {
        fs::rename(self.file(), self.folder.path().join("lines.json.1")).map_err(Failure::at("rotating"))?;
        create(&self.file(), owner)
    }

    fn wait_until_it_grows(&self, what: &str) -> Outcome<()> {
        let has_grown = || fs::metadata(self.file()).is_ok_and(|file| file.len() > 0);
        wait::until(what, LIMIT, || Ok(has_grown().then_some(())))
    }

    /// What `check` says of it.
    fn checked(&self) -> Outcome<String> {
        let mut command = agent::command()?;
        command.arg("check");
        for setting in self.settings() {
            command.args(["--set", &setting]);
        }
        let output = command.output().map_err(Failure::at("check"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

fn create(path: &Path, owner: u32) -> Outcome<()> {
    fs::write(path, "").map_err(Failure::at(path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o640)).map_err(Failure::at("a mode"))?;
    chown(path, Some(owner), Some(owner)).map_err(Failure::at("an owner"))
}

#[test]
fn what_the_agent_may_not_open_is_opened_for_it_also_after_a_rotation_and_no_right_is_kept_for_that() {
    live::test("opened-for-a-sink", agent::can_run(), || [STRANGER, NOBODY].into_iter().try_for_each(opened));
}

fn opened(owner: u32) -> Outcome<()> {
    let place = Place::new(owner)?;
    let said = place.checked()?;
    if said.lines().any(|line| line.trim_start().starts_with(RIGHT)) {
        return Err(Failure::new(format!("check says that it is kept: {said}")));
    }
    let mut agent = Agent::start(&place.settings())?;
    agent.wait_for_first_batch()?;
    place.wait_until_it_grows("the first lines")?;
    if let Some(held) = Held::of_threads(agent.pid())?.iter().find(|held| !held.is_no_more_than(kept_with_broker())) {
        return Err(Failure::new(format!("a thread holds {held:?}")));
    }
    place.rotate(owner)?;
    place.wait_until_it_grows("lines after the rotation")?;
    agent.stop().map(drop)
}
