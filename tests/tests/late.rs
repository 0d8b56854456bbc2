//! What comes, or becomes another one, once the agent has given up its rights: started by root, with a broker.

use ebpf_process_tests::configured::{Configured, newest};
use ebpf_process_tests::database::{Database, Identity};
use ebpf_process_tests::workload::Place;
use ebpf_process_tests::{Failure, Outcome, agent, live, receivers};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Neither root nor whom root's agent becomes.
const STRANGER: u32 = 65533;

/// Where the agent's network has an address once it has an interface.
const LATER: &str = "10.77.0.2";

/// What the workload reads, a byte at a time.
const READS: u64 = 2_345;

/// An agent that counts what one process does. Nobody listens at the discard port.
fn plan(folder: &Path, pid: u32, sinks: &str) -> String {
    format!(
        "interval = \"100ms\"\ngrace = \"2s\"\n[status]\nsocket = \"{}/status.sock\"\n[probes]\nonly = {{ pid = {pid} }}\n{sinks}\n",
        folder.display()
    )
}

fn lines(name: &str, path: &Path) -> String {
    format!("[sinks.{name}]\ntype = \"json\"\nqueue = 512\noptions.path = \"{}\"\n", path.display())
}

fn sending(name: &str, url: &str, more: &str) -> String {
    format!(
        "[sinks.{name}]\ntype = \"influx\"\nqueue = 512\n[sinks.{name}.options]\nurl = \"{url}\"\ndatabase = \"d\"\n{more}\n\
         [sinks.{name}.options.delivery]\nretry_min = \"100ms\"\nretry_max = \"200ms\"\n"
    )
}

/// The same with a spool.
fn spooling(name: &str, url: &str, spool: &Path) -> String {
    format!("{}spool = \"{}\"\n", sending(name, url, ""), spool.display())
}

fn all_are_in(agent: &mut Configured, lines: &Path) -> Outcome<()> {
    agent.wait(&format!("{READS} reads in {}", lines.display()), |_| {
        Ok(newest(lines, "vfs.calls", ("operation", "read"))?.filter(|reads| *reads == READS).map(drop))
    })
}

#[test]
fn a_reload_brings_a_file_anywhere_and_a_spool_where_the_agent_may_go_and_says_where_it_may_not() {
    live::test("late-places", agent::can_run(), places);
}

fn places() -> Outcome<()> {
    // Root's and nobody else's: the agent can look into neither of them.
    let (config, elsewhere) = (temporary()?, temporary()?);
    let folder = agent::folder()?;
    let (own, other) = (folder.path(), elsewhere.path());
    let mut workload = Place::new()?.reads(READS)?;
    let at_first = lines("first", &own.join("first")) + &sending("db", "http://127.0.0.1:9", "");
    let text = |sinks: &str| plan(own, workload.pid(), sinks);
    let mut agent = Configured::start(&config.path().join("agent.toml"), &text(&at_first))?;
    agent.wait_for_batch()?;

    let spool =
        |directory: &Path| lines("first", &own.join("first")) + &spooling("db", "http://127.0.0.1:9", directory);
    let output = agent.reload(&text(&spool(&other.join("spool"))))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let names_it = said.contains(&format!("sinks.db uses the directory {}", other.join("spool").display()));
    if output.status.code() != Some(1) || !names_it || !said.contains("restart it") {
        return Err(Failure::new(format!("a spool elsewhere: {}: {said}", output.status)));
    }

    let later = spool(&own.join("spools/db")) + &lines("second", &other.join("second"));
    let changes = agent.becomes(&text(&later))?;
    if !changes.contains("sink db") || !changes.contains("sink second") {
        return Err(Failure::new(format!("the reload changed only this: {changes}")));
    }
    workload.run_to_next_stop()?;
    all_are_in(&mut agent, &own.join("first"))?;
    all_are_in(&mut agent, &other.join("second"))?;
    agent.wait("frames in the spool", |_| {
        let files = fs::read_dir(own.join("spools/db")).into_iter().flatten().flatten();
        let sizes =
            files.filter(|file| file.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit()));
        Ok(sizes.filter_map(|file| file.metadata().ok()).any(|file| file.len() > 0).then_some(()))
    })?;
    workload.run_to_end()?;
    agent.stop().map(drop)
}

fn temporary() -> Outcome<TempDir> {
    tempfile::tempdir().map_err(Failure::at("a folder"))
}

/// Frames of an outage are on disk.
fn some_are_in_the_spool(agent: &mut Configured, spool: &Path) -> Outcome<()> {
    agent.wait(&format!("frames in {}", spool.display()), |_| {
        let files = fs::read_dir(spool).into_iter().flatten().flatten();
        let segments =
            files.filter(|file| file.file_name().to_string_lossy().starts_with(|first: char| first.is_ascii_digit()));
        Ok(segments.filter_map(|file| file.metadata().ok()).any(|file| file.len() > 0).then_some(()))
    })
}

fn all_have_come(agent: &mut Configured, database: &Database) -> Outcome<()> {
    agent.wait(&format!("{READS} reads in the database"), |_| Ok((database.reads() == READS).then_some(())))
}

/// Replaces a file of root's, which nobody else may read, by another one.
fn replace(path: &Path, text: &str) -> Outcome<()> {
    let new = path.with_extension("new");
    fs::write(&new, text).map_err(Failure::at(new.display()))?;
    fs::set_permissions(&new, Permissions::from_mode(0o600)).map_err(Failure::at("a mode"))?;
    fs::rename(&new, path).map_err(Failure::at(path.display()))
}

#[test]
fn a_certificate_and_a_token_that_are_replaced_are_read_again() {
    live::test("late-secrets", agent::can_run(), secrets);
}

fn secrets() -> Outcome<()> {
    let (folder, database) = (temporary()?, Database::start()?);
    let [ca, token] = ["ca.pem", "token"].map(|name| folder.path().join(name));
    let identities = [Identity::new()?, Identity::new()?];
    let show = |identity: &Identity, text: &str| {
        database.becomes(identity, text);
        replace(&ca, &identity.certificate)?;
        replace(&token, text)
    };
    show(&identities[0], "first")?;
    let mut workload = Place::new()?.reads(READS)?;
    let url = format!("https://localhost:{}", database.address().port());
    let files = format!("ca_file = \"{}\"\ntoken = {{ file = \"{}\" }}", ca.display(), token.display());
    let text = plan(folder.path(), workload.pid(), &sending("db", &url, &files));
    let mut agent = Configured::start(&folder.path().join("agent.toml"), &text)?;
    agent.wait("the first numbers", |_| Ok(database.has_heard_somebody().then_some(())))?;
    show(&identities[1], "second")?;
    workload.run_to_next_stop()?;
    all_have_come(&mut agent, &database)?;
    workload.run_to_end()?;
    agent.stop().map(drop)
}

#[test]
fn a_host_that_is_renamed_has_its_new_name_at_the_receiver() {
    let needs = agent::can_run().and_then(|()| receivers::program("hostname", "hostname").map(drop));
    live::test("late-host-name", needs, renamed);
}

fn renamed() -> Outcome<()> {
    let (folder, database) = (temporary()?, Database::start()?);
    let mut workload = Place::new()?.reads(READS)?;
    let text = plan(folder.path(), workload.pid(), &sending("db", &format!("http://{}", database.address()), ""));
    let command = agent::command_by("unshare", "util-linux", &["--uts"])?;
    let mut agent = Configured::start_by(command, &folder.path().join("agent.toml"), &text)?;
    agent.wait("the first numbers", |_| Ok(database.has_heard_somebody().then_some(())))?;
    within(&agent, "--uts", &["hostname", "another-name"])?;
    workload.run_to_next_stop()?;
    agent.wait("all reads under the new name", |_| {
        Ok((database.reads_of("another-name") == Some(READS)).then_some(()))
    })?;
    workload.run_to_end()?;
    agent.stop().map(drop)
}

/// Runs a program in a namespace of the agent's.
fn within(agent: &Configured, namespace: &str, command: &[&str]) -> Outcome<()> {
    let mut entering = Command::new(receivers::program("nsenter", "util-linux")?);
    let target = agent.pid().to_string();
    let output = entering.args([namespace, "--target", &target, "--"]).args(command).output();
    let output = output.map_err(Failure::at("nsenter"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))))
}

#[test]
fn an_address_that_comes_later_is_listened_at_and_sent_to() {
    let needs = agent::can_run().and_then(|()| receivers::program("ip", "iproute2").map(drop));
    live::test("late-interface", needs, interface);
}

fn interface() -> Outcome<()> {
    const PORT: u16 = 18_125;
    let folder = temporary()?;
    let mut workload = Place::new()?.reads(READS)?;
    let sinks = format!(
        "[sinks.lan]\ntype = \"statsd\"\nqueue = 512\noptions.address = \"udp://{LATER}:{PORT}\"\n\
         [sinks.page]\ntype = \"prometheus\"\noptions.listen = \"{LATER}:{PORT}\"\n"
    );
    // In a network that has never had an address the kernel lets a socket have any.
    let with_loopback = "ip link set lo up && exec \"$0\" \"$@\"";
    let command = agent::command_by("unshare", "util-linux", &["--net", "sh", "-c", with_loopback])?;
    let text = plan(folder.path(), workload.pid(), &sinks);
    let mut agent = Configured::start_by(command, &folder.path().join("agent.toml"), &text)?;
    agent.wait_for_batch()?;
    agent
        .wait("the page is absent", |agent| Ok(state_of(agent, "page")?.filter(|state| state == "absent").map(drop)))?;
    for command in [
        "ip link add late type veth peer name other",
        "ip link set other up",
        "ip link set late up",
        &format!("ip address add {LATER}/24 dev late"),
    ] {
        within(&agent, "--net", &command.split(' ').collect::<Vec<_>>())?;
    }
    let receiver = in_network_of(&agent, || UdpSocket::bind((LATER, PORT)))?;
    receiver.set_read_timeout(Some(Duration::from_millis(100))).map_err(Failure::at("a limit"))?;
    workload.run_to_next_stop()?;
    let mut sum = 0;
    let mut buffer = vec![0; 1 << 16];
    agent.wait("increments of all reads", |_| {
        while let Ok(length) = receiver.recv(&mut buffer) {
            sum += increments(&String::from_utf8_lossy(&buffer[..length]));
        }
        Ok((sum == READS).then_some(()))
    })?;
    agent.wait("the page has all reads", |agent| {
        let page = in_network_of(agent, || scrape(PORT));
        Ok(page.ok().filter(|page| page.lines().any(has_all_reads)).map(drop))
    })?;
    workload.run_to_end()?;
    agent.stop().map(drop)
}

#[test]
fn the_only_sinks_port_is_waited_for_and_not_for_ever() {
    live::test("late-port", agent::can_run(), port);
}

fn port() -> Outcome<()> {
    let folder = temporary()?;
    let config = folder.path().join("agent.toml");
    let hold = |address: SocketAddr| TcpListener::bind(address).map_err(Failure::at("a port"));
    let holder = hold(([127, 0, 0, 1], 0).into())?;
    let address = holder.local_addr().map_err(Failure::at("the port"))?;
    let sink = format!("[sinks.page]\ntype = \"prometheus\"\noptions.listen = \"{address}\"\n");
    let text = plan(folder.path(), std::process::id(), &sink);
    let mut agent = Configured::start(&config, &text)?;
    let absent = format!("the sink is absent: cannot listen at {address}");
    agent.wait("the page is absent", |agent| Ok(agent.log()?.contains(&absent).then_some(())))?;
    drop(holder);
    agent.wait_for_batch()?;
    agent.wait("the page works", |agent| Ok(state_of(agent, "page")?.filter(|state| state == "working").map(drop)))?;
    agent.stop()?;
    let holder = hold(address)?;
    let output = agent::command()?.arg("run").arg("--config").arg(&config).output();
    let output = output.map_err(Failure::at("running the agent"))?;
    drop(holder);
    let said = String::from_utf8_lossy(&output.stderr);
    let names_it = said.contains(&format!("error: sinks.page: cannot listen at {address}"));
    if output.status.code() == Some(1) && names_it {
        return Ok(());
    }
    Err(Failure::new(format!("a port that somebody keeps: {}: {said}", output.status)))
}

/// The state of a sink, as the status has it.
fn state_of(agent: &Configured, sink: &str) -> Outcome<Option<String>> {
    let status = agent.status()?;
    let sinks = status["sinks"].as_array().into_iter().flatten();
    let mut found = sinks.filter(|found| found["name"] == sink).filter_map(|found| found["state"].as_str());
    Ok(found.next().map(str::to_owned))
}

/// What the lines add to the reads.
fn increments(packet: &str) -> u64 {
    let values = packet.lines().filter_map(|line| line.strip_suffix("|c")?.split_once("vfs.read.calls:"));
    values.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
}

fn scrape(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect((LATER, port))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page).map(|_| page)
}

fn has_all_reads(line: &str) -> bool {
    line.contains("vfs_calls_total{") && line.contains("operation=\"read\"") && line.ends_with(&format!(" {READS}"))
}

/// Does something in the agent's network, by a thread that enters it. What it has opened stays there.
fn in_network_of<T: Send>(agent: &Configured, work: impl FnOnce() -> std::io::Result<T> + Send) -> Outcome<T> {
    let path = format!("/proc/{}/ns/net", agent.pid());
    let network = File::open(&path).map_err(Failure::at(path))?;
    let enter = move || {
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    };
    let done = thread::scope(|scope| scope.spawn(enter).join());
    done.map_err(|_| Failure::new("the thread has panicked"))?.map_err(Failure::at("in the agent's network"))
}

#[test]
fn what_is_mounted_later_is_used_or_named() {
    live::test("late-mounts", agent::can_run(), mounts);
}

fn mounts() -> Outcome<()> {
    let (config, logs, spools, far) = (temporary()?, agent::folder()?, agent::folder()?, agent::folder()?);
    let (near, beyond) = (Database::start()?, Database::start()?);
    near.is_away(true);
    beyond.is_away(true);
    let mut workload = Place::new()?.reads(READS)?;
    let (log, spool, hidden) = (logs.path().join("lines"), spools.path().join("db"), far.path().join("db"));
    let sinks = lines("lines", &log)
        + &spooling("near", &format!("http://{}", near.address()), &spool)
        + &spooling("beyond", &format!("http://{}", beyond.address()), &hidden);
    let command = agent::command_by("unshare", "util-linux", &["--mount", "--propagation", "private"])?;
    let text = plan(config.path(), workload.pid(), &sinks);
    let mut agent = Configured::start_by(command, &config.path().join("agent.toml"), &text)?;
    agent.wait_for_batch()?;
    some_are_in_the_spool(&mut agent, &spool)?;
    some_are_in_the_spool(&mut agent, &hidden)?;
    for directory in [logs.path(), &spool, far.path()] {
        within(&agent, "--mount", &["mount", "-t", "tmpfs", "late", &directory.display().to_string()])?;
    }
    // As the agent sees them.
    let seen = |path: &Path| PathBuf::from(format!("/proc/{}/root{}", agent.pid(), path.display()));
    let (log, spool) = (seen(&log), seen(&spool));
    workload.run_to_next_stop()?;
    all_are_in(&mut agent, &log)?;
    some_are_in_the_spool(&mut agent, &spool)?;
    let named = format!("{} has been closed to this agent since its start", hidden.display());
    agent.wait("the hidden spool's name in the log", |agent| Ok(agent.log()?.contains(&named).then_some(())))?;
    near.is_away(false);
    beyond.is_away(false);
    all_have_come(&mut agent, &near)?;
    // From memory.
    all_have_come(&mut agent, &beyond)?;
    workload.run_to_end()?;
    agent.stop().map(drop)
}

#[test]
fn what_logrotate_creates_and_a_spool_that_is_made_anew_lose_no_number() {
    live::test("late-rotation", agent::can_run(), rotation);
}

fn rotation() -> Outcome<()> {
    // The way to the spool is closed to the agent's user.
    let (folder, closed, database) = (temporary()?, temporary()?, Database::start()?);
    let (log, spool) = (folder.path().join("lines"), closed.path().join("spool"));
    database.is_away(true);
    let mut workload = Place::new()?.reads(READS)?;
    let create = || {
        fs::write(&log, "").map_err(Failure::at(log.display()))?;
        fs::set_permissions(&log, Permissions::from_mode(0o640)).map_err(Failure::at("a mode"))?;
        chown(&log, Some(STRANGER), Some(STRANGER)).map_err(Failure::at("an owner"))
    };
    create()?;
    let sinks = lines("lines", &log) + &spooling("db", &format!("http://{}", database.address()), &spool);
    let text = plan(folder.path(), workload.pid(), &sinks);
    let mut agent = Configured::start(&folder.path().join("agent.toml"), &text)?;
    agent.wait_for_batch()?;
    some_are_in_the_spool(&mut agent, &spool)?;
    fs::rename(&log, log.with_extension("1")).map_err(Failure::at("rotating"))?;
    create()?;
    fs::remove_dir_all(&spool).and_then(|()| fs::create_dir(&spool)).map_err(Failure::at("making a spool anew"))?;
    workload.run_to_next_stop()?;
    all_are_in(&mut agent, &log)?;
    some_are_in_the_spool(&mut agent, &spool)?;
    database.is_away(false);
    all_have_come(&mut agent, &database)?;
    workload.run_to_end()?;
    agent.stop().map(drop)
}
