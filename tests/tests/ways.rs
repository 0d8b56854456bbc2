//! What works by how the agent is started: the table of `docs/security.md` is what this finds.

use ebpf_process_tests::configured::{Configured, newest};
use ebpf_process_tests::database::Database;
use ebpf_process_tests::ways::{Installed, Way};
use ebpf_process_tests::workload::Place;
use ebpf_process_tests::{Failure, Outcome, agent, built, live};
use std::fs::{self, Permissions};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::thread;

/// What the processes read, a byte at a time: the first configuration's, and that of other probes.
const READS: [u64; 2] = [1_111, 3_333];

/// Neither root nor the agent's user.
const STRANGER: u32 = 65533;

/// The rows of the table, in its order.
const ROWS: [&str; 9] = [
    "count",
    "a reload: a sink",
    "a reload: a probe, a mode",
    "status socket",
    "rotated file, `create` for the agent's user",
    "rotated file, `create` for another user",
    "spool",
    "listen at a port below 1024",
    "run a program",
];

#[test]
fn what_works_by_how_it_is_started_is_what_the_document_says() {
    let needs = agent::can_run().and_then(|()| Way::needs()).and_then(|()| starter().map(drop));
    live::test("ways", needs, || {
        let found = thread::scope(|scope| {
            let tried = Way::ALL.map(|way| scope.spawn(move || Trial::of(way)));
            let tried =
                tried.into_iter().map(|trial| trial.join().map_err(|_| Failure::new("a trial has panicked"))?);
            tried.collect::<Outcome<Vec<_>>>()
        })?;
        let row = |index: usize| {
            let cells = found.iter().map(|column| if column[index] { " yes" } else { " no" });
            format!("| {} |{} |", ROWS[index], cells.collect::<Vec<_>>().join(" |"))
        };
        let head = format!("| what | {} |", Way::ALL.map(Way::name).join(" | "));
        let found: Vec<String> = std::iter::once(head).chain((0..ROWS.len()).map(row)).collect();
        let written = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/security.md"));
        let written = written.map_err(Failure::at("the document"))?;
        let lacking = found.iter().filter(|row| !written.lines().any(|line| line == **row)).count();
        if lacking == 0 {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{lacking} rows are not in docs/security.md, this is the table:\n{}",
            found.join("\n")
        )))
    });
}

/// The example, which cargo builds with the tests.
fn starter() -> Outcome<PathBuf> {
    built::find("examples/starter", "cargo build -p ebpf-process-tests --examples")
}

/// An agent that was started in a way, and what it is asked for.
struct Trial {
    installed: Installed,
    agent: Configured,
    database: Database,
    /// Whose reads are counted.
    pid: u32,
    mode: &'static str,
}

impl Trial {
    /// What works of the rows.
    fn of(way: Way) -> Outcome<Vec<bool>> {
        Self::all(way).map_err(|failure| Failure::new(format!("{way:?}: {failure}")))
    }

    fn all(way: Way) -> Outcome<Vec<bool>> {
        let (installed, database, place) = (Installed::new(way, &starter()?)?, Database::start()?, Place::new()?);
        let (mut first, mut second) = (place.reads(READS[0])?, place.reads(READS[1])?);
        let text = configuration(&installed, &database, first.pid(), "entry", "");
        let agent = installed.start(&text)?;
        let mut trial = Self { installed, agent, database, pid: first.pid(), mode: "entry" };
        trial.agent.wait("its first batch", |_| Ok(trial.database.has_heard_somebody().then_some(())))?;

        first.run_to_next_stop()?;
        let counts = trial.has_come(READS[0]);
        let mut found = vec![counts.is_ok()];
        let other = Database::start()?;
        let sink = sending("other", &other);
        found.push(trial.takes(&sink)? && trial.hears_of(&other, READS[0]).is_ok());
        (trial.pid, trial.mode) = (second.pid(), "return");
        let is_taken = trial.takes("")?;
        second.run_to_next_stop()?;
        if is_taken {
            trial.has_come(READS[0] + READS[1])?;
        } else {
            // As before.
            (trial.pid, trial.mode) = (first.pid(), "entry");
        }
        found.push(is_taken);
        found.push(trial.agent.status().is_ok());
        found.push(trial.writes_rotated("own", &trial.installed.own(), trial.installed.user())?);
        found.push(trial.writes_rotated("roots", &trial.installed.roots(), STRANGER)?);
        found.push(trial.spools()?);
        found.push(trial.listens()?);
        found.push(trial.runs()?);
        for workload in [&mut first, &mut second] {
            workload.run_to_end()?;
        }
        trial.agent.stop()?;
        Ok(found)
    }

    /// Has it become what it is with more sinks. Whether that is taken over.
    fn takes(&mut self, sinks: &str) -> Outcome<bool> {
        let text = configuration(&self.installed, &self.database, self.pid, self.mode, sinks);
        Ok(!self.agent.reload_by_signal(&text)?.contains("not taken over"))
    }

    fn has_come(&mut self, reads: u64) -> Outcome<()> {
        let database = &self.database;
        self.agent.wait(&format!("{reads} reads"), |_| Ok((database.reads() == reads).then_some(())))
    }

    fn hears_of(&mut self, other: &Database, reads: u64) -> Outcome<()> {
        self.agent.wait("what the new sink sends", |_| Ok((other.reads() == reads).then_some(())))
    }

    /// Whether it goes on in a file that is made for somebody in place of the one it has begun with.
    fn writes_rotated(&mut self, name: &str, directory: &Path, owner: u32) -> Outcome<bool> {
        let path = directory.join("lines");
        let create = || {
            let new = directory.join("new");
            fs::write(&new, "").map_err(Failure::at(new.display()))?;
            fs::set_permissions(&new, Permissions::from_mode(0o640)).map_err(Failure::at("a mode"))?;
            chown(&new, Some(owner), Some(owner)).map_err(Failure::at("an owner"))?;
            fs::rename(&new, &path).map_err(Failure::at("rotating"))
        };
        create()?;
        let sink = format!("[sinks.{name}]\ntype = \"json\"\noptions.path = \"{}\"\n", path.display());
        if !self.takes(&sink)? {
            return Ok(false);
        }
        let said = format!("(sink {name})");
        for _ in 0..2 {
            let grows = self.agent.wait("lines, or why there are none", |agent| {
                if newest(&path, "vfs.calls", ("operation", "read"))?.is_some() {
                    return Ok(Some(true));
                }
                Ok(agent
                    .log()?
                    .lines()
                    .any(|line| line.contains(&said) && line.contains("ermission denied"))
                    .then_some(false))
            })?;
            if !grows {
                return Ok(false);
            }
            create()?;
        }
        Ok(true)
    }

    /// Whether what nobody takes is kept on disk.
    fn spools(&mut self) -> Outcome<bool> {
        let spool = self.installed.own().join("spools/db");
        let away = Database::start()?;
        away.is_away(true);
        let sink = sending("away", &away) + &format!("delivery.spool = \"{}\"\n", spool.display());
        if !self.takes(&sink)? {
            return Ok(false);
        }
        self.agent.wait("frames in the spool", |_| {
            let files = fs::read_dir(&spool).into_iter().flatten().flatten();
            let segments = files
                .filter(|file| file.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit()));
            Ok(segments.filter_map(|file| file.metadata().ok()).any(|file| file.len() > 0).then_some(true))
        })
    }

    /// Whether somebody can connect to a page that only privileged ports have.
    fn listens(&mut self) -> Outcome<bool> {
        // Each way has ports of its own: none connects to another one's page.
        let column = Way::ALL.into_iter().zip(0..).find(|(way, _)| *way == self.installed.way());
        let first = 700 + 50 * column.map_or(0, |(_, column)| column);
        let free = (first..first + 50).find_map(|port| {
            let listener = TcpListener::bind(("127.0.0.1", port)).ok()?;
            listener.local_addr().ok()
        });
        let free = free.ok_or_else(|| Failure::new("no privileged port is free"))?;
        if !self.takes(&format!("[sinks.page]\ntype = \"prometheus\"\noptions.listen = \"{free}\"\n"))? {
            return Ok(false);
        }
        self.agent.wait("a page, or why there is none", |agent| {
            if TcpStream::connect(free).is_ok() {
                return Ok(Some(true));
            }
            Ok(agent
                .log()?
                .lines()
                .any(|line| line.contains("page") && line.contains("ermission denied"))
                .then_some(false))
        })
    }

    /// Whether a sink's program runs, as the agent's user.
    fn runs(&mut self) -> Outcome<bool> {
        let trace = self.installed.own().join("trace");
        if !self.takes(&format!("[sinks.program]\ntype = \"starter\"\noptions.trace = \"{}\"\n", trace.display()))? {
            return Ok(false);
        }
        let user = format!("{}\n", self.installed.user());
        self.agent.wait("what the program leaves", |_| {
            Ok((fs::read_to_string(&trace).ok().as_ref() == Some(&user)).then_some(true))
        })
    }
}

/// What it is started with, and further sinks.
fn configuration(installed: &Installed, database: &Database, pid: u32, mode: &str, sinks: &str) -> String {
    let own = installed.own();
    format!(
        "interval = \"100ms\"\ngrace = \"2s\"\n[status]\nsocket = \"{}/status\"\n\
         [probes]\nmode = \"{mode}\"\nonly = {{ pid = {pid} }}\n{}{sinks}",
        own.display(),
        sending("db", database)
    )
}

fn sending(name: &str, database: &Database) -> String {
    format!(
        "[sinks.{name}]\ntype = \"influx\"\nqueue = 512\n[sinks.{name}.options]\nurl = \"http://{}\"\ndatabase = \"d\"\n\
         delivery.retry_min = \"100ms\"\ndelivery.retry_max = \"200ms\"\n",
        database.address()
    )
}
