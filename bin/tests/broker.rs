//! The broker as a process: what it starts, what is done in its children, and what it makes of what is no request.
//!
//! It is forked by a process with one thread, which the harness for tests is not; so this is a program of its own, with
//! the broker's files in it.

#![expect(clippy::expect_used, reason = "what a test sets up itself should stop it when it fails")]

#[expect(dead_code, unused_imports, reason = "the agent uses all of it")]
#[path = "../src/broker"]
mod broker {
    pub(crate) mod allowed;
    pub(crate) mod assist;
    pub(crate) mod capabilities;
    pub(crate) mod client;
    pub(crate) mod language;
    pub(crate) mod open;
    pub(crate) mod programs;
    pub(crate) mod serve;
    pub(crate) mod user;
    pub(crate) mod walk;
    pub(crate) mod wire;
}

#[expect(unused_imports, reason = "its own tests are the library's")]
#[path = "../src/accounts.rs"]
mod accounts;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use broker::allowed::Allowed;
use broker::client::Client;
use broker::language::{Reply, Request, decode, encode};
use broker::serve::Server;
use broker::user::User;
use broker::wire::{self, Arrival, LONGEST, MOST_DESCRIPTORS, Socket};
use ebpf_process_config::{Plan, Sources};
use ebpf_process_core::{
    Access, Assistant as _, BuildError, Claims, Declared, Message, Opener as _, Options, OptionsError, Probe,
    ProbeContext, ProbePlugin, Program, Registry, Sink, SinkContext, SinkPlugin,
};
use ebpf_process_probes::fork_apart;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

const NOBODY: u32 = 65_534;

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_mins(1);

fn main() {
    if !rustix::process::geteuid().is_root() {
        let _ =
            writeln!(io::stderr(), "SKIPPED the broker as a process: it takes root to have rights that others lack");
        return;
    }
    // The broker inherits it: one of its children panics on purpose.
    let said = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload_as_str() != Some("on purpose") {
            said(panic);
        }
    }));
    a_program_runs_as_the_agents_user_with_nothing_but_its_pipes();
    programs_end_with_the_broker();
    what_a_probe_needs_done_is_done_in_a_child();
    what_is_no_request_is_refused_and_nothing_of_it_stays();
    signals_that_ask_for_the_end_are_the_agents();
}

/// A sink that runs programs and reads a file.
struct Starting;

fn program(script: &str) -> Program {
    Program {
        path: "/bin/sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("WORD".into(), "two words".into())],
        ..Program::default()
    }
}

/// One that is somebody else in a directory and in limits of its own.
fn somebody() -> Program {
    Program {
        directory: Some("/usr".into()),
        user: Some("7".into()),
        group: Some("8".into()),
        memory: Some(64 << 20),
        ..program("id -u; id -g; id -G; pwd; ulimit -d")
    }
}

fn unknown() -> Program {
    Program { user: Some("nobody knows\n".into()), ..program("id") }
}

const SAYS_WHO_IT_IS: &str = "id -u; id -G; grep -E '^(Cap|NoNew|SigBlk)' /proc/self/status; \
    echo fd $(ls /proc/$$/fd | grep -c .); cut -d' ' -f6 /proc/$$/stat; echo $$; tr '\\0' '\\n' < /proc/$$/environ; \
    pwd; umask; ulimit -d; read line; echo \"said $line\"; echo \"and $line\" >&2; exit 7";
const ENDS_WHEN_ASKED: &str = "trap 'exit 9' TERM; sleep 1000 & echo $!; wait";
const LEAVES: &str = "sleep 1000 & echo $!; exit 8";
const SLEEPS: &str = "sleep 1000 & echo $!; wait";

impl SinkPlugin for Starting {
    fn name(&self) -> &'static str {
        "starting"
    }

    fn summary(&self) -> &'static str {
        "starts programs"
    }

    fn check(&self, _: &Options) -> Result<Claims, OptionsError> {
        Ok(Claims::default())
    }

    fn build(&self, _: &Options, _: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        Err(BuildError::refused("it is not built", "do not"))
    }

    fn opens(&self, _: &Options) -> Vec<Access> {
        let missing = Program { path: "/no/such/program".into(), ..Program::default() };
        let known = [SAYS_WHO_IT_IS, SLEEPS, ENDS_WHEN_ASKED, LEAVES].map(program);
        let programs = known.into_iter().chain([somebody(), unknown(), missing]).map(Access::Program);
        programs.chain([Access::Read("/proc/self/comm".into())]).collect()
    }
}

/// A probe for which something is done with more rights.
struct Assisted;

impl ProbePlugin for Assisted {
    fn name(&self) -> &'static str {
        "assisted"
    }

    fn summary(&self) -> &'static str {
        "has things done"
    }

    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }

    fn build(&self, _: &Options, _: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        Err(BuildError::refused("it is not built", "do not"))
    }

    fn assist(&self, _: &Options, request: Message) -> Result<Message, BuildError> {
        let null = || OwnedFd::from(File::open("/dev/null").expect("a file"));
        match &*request.bytes {
            b"many" => Ok(Message { bytes: vec![7; 200_000], descriptors: (0..600).map(|_| null()).collect() }),
            b"refused" => Err(BuildError::refused("not here", "go elsewhere").passing(true)),
            b"panics" => panic!("on purpose"),
            b"dies" => {
                kill_process(rustix::process::getpid(), Signal::KILL).expect("a signal");
                Ok(request)
            }
            b"leaks" => {
                (0..100).for_each(|_| std::mem::forget(null()));
                Ok(Message::default())
            }
            _ => Ok(request),
        }
    }
}

/// A broker and who asks it.
struct Rig {
    client: Option<Client>,
    pid: Pid,
}

impl Rig {
    fn new() -> Self {
        let (ours, rig) = Self::raw();
        Self { client: Some(Client::new(ours)), ..rig }
    }

    /// The same with the socket itself.
    fn raw() -> (Socket, Self) {
        let registry = Registry::default().sink(Starting).probe(Assisted);
        let (folder, path) = configuration();
        let loaded = Sources::command_line(Some(&path)).load(&registry).expect("a configuration");
        let plan = Plan::new(&loaded, &registry).expect("a plan");
        drop(folder);
        let (ours, its) = wire::pair().expect("sockets");
        let user = User { uid: NOBODY, gid: NOBODY, groups: vec![7] };
        let allowed = Allowed::of(&plan);
        let broker = fork_apart(its.into(), |socket| {
            broker::capabilities::limit().expect("fewer capabilities");
            Server::new(socket.into(), allowed, user, || Err("it is not read".to_owned())).run();
            0
        });
        let pid = i32::try_from(broker.expect("a child")).ok().and_then(Pid::from_raw).expect("a number");
        // Once it answers it has let go of what it has inherited.
        ours.send(&encode(0, &Request::Configuration), &[]).expect("it is sent");
        assert!(matches!(answer(&ours), Reply::Refused(_)));
        (ours, Self { client: None, pid })
    }

    fn client(&self) -> &Client {
        self.client.as_ref().expect("it is asked by a client")
    }

    fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid.as_raw_nonzero())).expect("it lives").count()
    }

    /// Closes the socket; the broker ends by itself.
    fn end(mut self) {
        drop(self.client.take());
        let (_, status) = waitpid(Some(self.pid), WaitOptions::empty()).expect("a child").expect("it has ended");
        assert_eq!(status.exit_status(), Some(0));
    }
}

fn configuration() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("config.toml");
    fs::write(&path, "[sinks.x]\ntype = \"starting\"\n").expect("a file");
    (folder, path)
}

fn a_program_runs_as_the_agents_user_with_nothing_but_its_pipes() {
    let rig = Rig::new();
    let before = rig.descriptors();
    let client = rig.client();
    let started = client.start(&program(SAYS_WHO_IT_IS)).expect("a program");
    assert_eq!(client.ended(started.number).expect("it runs"), None);
    File::from(started.input).write_all(b"hello\n").expect("a line");
    let mut said = String::new();
    File::from(started.output).read_to_string(&mut said).expect("text");
    let mut complained = String::new();
    File::from(started.errors).read_to_string(&mut complained).expect("text");
    assert_eq!(complained, "and hello\n");
    let number = started.number;
    let none = "0000000000000000";
    let sets = format!("CapInh:\t{none}\nCapPrm:\t{none}\nCapEff:\t{none}\nCapBnd:\t{none}\nCapAmb:\t{none}");
    // The shell has the end of a pipe open beside its three, to read how many there are.
    assert_eq!(
        said,
        format!(
            "65534\n65534 7\nSigBlk:\t{none}\n{sets}\nNoNewPrivs:\t1\nfd 4\n{number}\n{number}\n\
             LANG=C.UTF-8\nPATH=/usr/bin:/bin\nWORD=two words\n/\n0077\nunlimited\nsaid hello\n"
        )
    );
    let ended = wait_for("its end", || client.ended(number).expect("it was started"));
    assert_eq!(ended.code(), Some(7));
    assert!(client.ended(number).is_err() && client.end(number).is_err(), "its end was told");

    let refused = client.start(&Program { path: "/no/such/program".into(), ..Program::default() });
    assert!(refused.expect_err("there is none").to_string().contains("cannot start /no/such/program: No such file"));
    for other in [
        program("id"),
        Program { environment: Vec::new(), ..program(SLEEPS) },
        Program { arguments: Vec::new(), ..program(SLEEPS) },
    ] {
        assert!(client.start(&other).is_err(), "it is not configured");
    }

    let sleeper = client.start(&program(SLEEPS)).expect("a program");
    let below = first_line(&sleeper.output);
    assert_eq!(client.end(sleeper.number).expect("ended").signal(), Some(9));
    wait_for("the end of what it had started", || is_over(&below));
    let asked = client.start(&program(ENDS_WHEN_ASKED)).expect("a program");
    let below = first_line(&asked.output);
    client.terminate(asked.number).expect("it is asked");
    let ended = wait_for("its end", || client.ended(asked.number).expect("it was started"));
    assert_eq!(ended.code(), Some(9));
    wait_for("the end of what it had started", || is_over(&below));
    let leaves = client.start(&program(LEAVES)).expect("a program");
    let below = first_line(&leaves.output);
    let ended = wait_for("its end", || client.ended(leaves.number).expect("it was started"));
    assert_eq!(ended.code(), Some(8));
    wait_for("the end of what it has left", || is_over(&below));

    let other = client.start(&somebody()).expect("a program");
    let mut said = String::new();
    File::from(other.output).read_to_string(&mut said).expect("text");
    assert_eq!(said, "7\n8\n8\n/usr\n65536\n");
    client.end(other.number).expect("ended");
    let refused = client.start(&unknown()).expect_err("there is nobody of that name");
    assert_eq!(refused.to_string(), "there is no user \"nobody knows\\n\" in /etc/passwd");

    let many: Vec<_> = (0..100).map_while(|_| client.start(&program(SLEEPS)).ok()).collect();
    assert_eq!(many.len(), 64);
    for started in many {
        client.end(started.number).expect("ended");
    }
    assert_eq!(rig.descriptors(), before);
    rig.end();
}

fn programs_end_with_the_broker() {
    for killed in [false, true] {
        let mut rig = Rig::new();
        let started = rig.client().start(&program(SLEEPS)).expect("a program");
        let below = first_line(&started.output);
        let number = started.number.to_string();
        if killed {
            kill_process(rig.pid, Signal::KILL).expect("a signal");
            assert!(rig.client().wait_for_end(), "the agent sees it");
            drop(rig.client.take());
            waitpid(Some(rig.pid), WaitOptions::empty()).expect("a child");
            // What the program had started is nobody's by then.
            let below = below.parse().ok().and_then(Pid::from_raw).expect("a number");
            kill_process(below, Signal::KILL).expect("a signal");
        } else {
            rig.end();
            wait_for("the end of what it had started", || is_over(&below));
        }
        wait_for("the program's end", || is_over(&number));
    }
}

fn what_a_probe_needs_done_is_done_in_a_child() {
    let rig = Rig::new();
    let (before, client) = (rig.descriptors(), rig.client());
    let ask = |bytes: &[u8], descriptors| client.assist("assisted", Message { bytes: bytes.to_vec(), descriptors });
    let files: Vec<OwnedFd> = (0..64).map(|_| File::open("/proc/self/comm").expect("a file").into()).collect();
    let answer = ask(b"other", files).expect("an answer");
    assert_eq!((answer.bytes, answer.descriptors.len()), (b"other".to_vec(), 64));
    assert!(fs::metadata(format!("/proc/self/fd/{}", number_of(&answer.descriptors[63]))).is_ok());
    let answer = ask(&vec![1; 64 << 10], Vec::new()).expect("an answer");
    assert_eq!(answer.bytes.len(), 64 << 10);
    let answer = ask(b"many", Vec::new()).expect("an answer");
    assert_eq!((answer.bytes.len(), answer.descriptors.len()), (200_000, 600));
    drop(answer.descriptors);
    match ask(b"refused", Vec::new()) {
        Err(refusal) if refusal.is_passing() => {
            assert_eq!((refusal.problem(), refusal.way_out()), ("not here", "go elsewhere"));
        }
        other => panic!("{other:?}"),
    }
    for crash in [&b"panics"[..], b"dies"] {
        let error = ask(crash, Vec::new()).expect_err("a crash").to_string();
        assert!(error.contains("for the probe assisted has crashed"), "{error}");
    }
    ask(b"leaks", Vec::new()).expect("an answer");
    assert!(ask(&vec![1; (64 << 10) + 1], Vec::new()).is_err());
    assert!(client.assist("other", Message::default()).is_err());
    let too_many = (0..65).map(|_| File::open("/dev/null").expect("a file").into()).collect();
    assert!(ask(b"", too_many).is_err());
    assert_eq!(rig.descriptors(), before);
    rig.end();
}

fn what_is_no_request_is_refused_and_nothing_of_it_stays() {
    let (socket, rig) = Rig::raw();
    let before = rig.descriptors();
    let mut random = fastrand::Rng::with_seed(7);
    let null = File::open("/dev/null").expect("a file");
    let right = Request::Read("/proc/self/comm".into());
    for round in 0..10_000_u32 {
        let mut message = if round % 2 == 0 {
            (0..random.usize(0..300)).map(|_| random.u8(..)).collect()
        } else {
            let mut message = encode(round, &right);
            for _ in 0..random.usize(1..4) {
                let at = random.usize(..message.len());
                message[at] = random.u8(..);
            }
            message.truncate(random.usize(0..=message.len()));
            message
        };
        let brought = if random.u8(..8) == 0 { random.usize(1..=MOST_DESCRIPTORS) } else { 0 };
        if random.u16(..1000) == 0 {
            message.resize(LONGEST + random.usize(1..1000), 0);
        }
        if brought == 0 && decode(&message).1.as_ref() == Some(&right) {
            continue;
        }
        socket.send(&message, &vec![null.as_fd(); brought]).expect("it is sent");
        assert!(matches!(answer(&socket), Reply::Refused(_)), "{message:?} with {brought}");
    }
    // What is in the language and nobody may ask for, and a way round about it.
    let folder = tempfile::tempdir().expect("a folder");
    let link = folder.path().join("link");
    symlink("/proc/self/comm", &link).expect("a link");
    for request in [
        Request::Read("/proc/self/../self/comm".into()),
        Request::Read("/proc//self/comm".into()),
        Request::Read("/proc/self/comm/".into()),
        Request::Read("/etc/shadow".into()),
        Request::Read(link),
        Request::Append("/proc/self/comm".into()),
        Request::Listen(([0, 0, 0, 0], 22).into()),
        Request::Start(program("id")),
        Request::End(std::process::id()),
        Request::End(u32::MAX),
        Request::Configuration,
        Request::Assist("file".to_owned(), Vec::new()),
    ] {
        socket.send(&encode(1, &request), &[]).expect("it is sent");
        assert!(matches!(answer(&socket), Reply::Refused(_)), "{request:?}");
    }
    socket.send(&encode(1, &right), &[null.as_fd()]).expect("it is sent");
    assert!(matches!(answer(&socket), Reply::Refused(_)), "it brings something");
    assert_eq!(rig.descriptors(), before, "nothing of them stays");
    socket.send(&encode(1, &right), &[]).expect("it is sent");
    assert!(!matches!(answer(&socket), Reply::Refused(_)), "it is served all the same");
    drop(socket);
    rig.end();
}

fn signals_that_ask_for_the_end_are_the_agents() {
    let rig = Rig::new();
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::QUIT, Signal::USR1, Signal::PIPE, Signal::ALARM] {
        kill_process(rig.pid, signal).expect("a signal");
    }
    rig.client().read(Path::new("/proc/self/comm")).expect("a file");
    rig.client().asks_to_read(Path::new("/proc/self/comm")).expect("by the broker");
    rig.end();
}

/// The last message of an answer.
fn answer(socket: &Socket) -> Reply {
    let mut buffer = vec![0; LONGEST];
    loop {
        socket.wait(Instant::now() + LIMIT).expect("an answer");
        let Ok(Arrival::Message(length, _)) = socket.receive(&mut buffer, MOST_DESCRIPTORS) else {
            panic!("the broker has ended")
        };
        match decode(&buffer[..length]).1.expect("an answer") {
            Reply::Part(_) => {}
            last => return last,
        }
    }
}

fn number_of(descriptor: &OwnedFd) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(descriptor)
}

fn first_line(output: &OwnedFd) -> String {
    let mut output = File::from(output.try_clone().expect("a descriptor"));
    let (mut line, mut byte) = (String::new(), [0]);
    while output.read(&mut byte).expect("a byte") > 0 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    line
}

/// Whether a process has ended, though nobody may have waited for it.
fn is_over(number: &str) -> Option<()> {
    let stat = fs::read_to_string(format!("/proc/{number}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z ")).then_some(())
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < LIMIT, "it takes too long: {what}");
        std::thread::yield_now();
    }
}
