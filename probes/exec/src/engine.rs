//! The thread that talks to the program: it starts it, asks it, hears its answers, and ends it.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::Opener;
use ebpf_process_peer::{
    After, Complaints, Ears, End, Ending, Event, LAST_CHANCE, Mistakes, Owner, Peer, Restart, Target, Why,
};
use tracing::{info, warn};

use crate::listener::{Heard, Listener, Said};
use crate::question::Question;
use crate::shared::{Shared, Standing};

/// How often it is looked whether a program still runs.
const LOOK: Duration = Duration::from_secs(1);

/// How long a socket without room is waited for: the end of the probe waits for that too.
const CONNECT: Duration = Duration::from_secs(1);

/// Answers in a tick that nobody has asked for: a program that writes text may do so by its own clock.
const UNASKED: u32 = 100;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) start: Duration,
    pub(crate) reply: Duration,
    pub(crate) close: Duration,
}

/// The thread's own.
#[derive(Debug)]
pub(crate) struct Engine {
    owner: Owner,
    opener: Arc<dyn Opener>,
    target: Target,
    times: Times,
    shared: Arc<Shared>,
    ears: Ears,
    restart: Restart,
    mistakes: Mistakes,
    complaints: Complaints,
    listener: Listener,
    /// What was asked and has no answer, and when.
    asked: Option<(Question, Instant)>,
    /// How many answers there were that nobody had asked for, and the last question then.
    unasked: (u32, u64),
    /// What it fails for, as long as it does.
    failing: Option<String>,
}

impl Engine {
    pub(crate) fn new(
        owner: Owner,
        (opener, target): (Arc<dyn Opener>, Target),
        times: Times,
        (shared, ears): (Arc<Shared>, Ears),
        restart: Restart,
        listener: Listener,
    ) -> Self {
        Self {
            opener,
            target,
            times,
            shared,
            ears,
            restart,
            mistakes: Mistakes::new(owner.clone()),
            complaints: Complaints::new(owner.clone()),
            owner,
            listener,
            asked: None,
            unasked: (0, 0),
            failing: None,
        }
    }

    /// Talks to one program after the other, until the probe ends or there is no use.
    pub(crate) fn run(mut self) {
        loop {
            let after = self.converse();
            self.complaints.end(Instant::now());
            match after {
                After::Again(problem) => {
                    let wait = self.restart.failed();
                    self.fails(&problem);
                    self.shared.program_is(Standing::Down(problem));
                    if !self.pause(wait) {
                        return;
                    }
                    self.shared.program_is(Standing::Starting);
                }
                // The agent's log says it when it hears of it.
                After::Over(problem) => return self.shared.program_is(Standing::Over(problem)),
                After::Stopped => return,
            }
        }
    }

    /// Says why there is no program, once until it works again or fails for another reason.
    fn fails(&mut self, problem: &str) {
        if self.failing.as_deref() != Some(problem) {
            self.failing = Some(problem.to_owned());
            let (sink, probe) = (self.owner.sink(), self.owner.probe());
            warn!(sink, probe, "{problem}; it is tried again, further failures like this one are not logged");
        }
    }

    fn works(&mut self) {
        self.restart.works();
        if self.failing.take().is_some() {
            let (sink, probe) = (self.owner.sink(), self.owner.probe());
            info!(sink, probe, "the program answers");
        }
    }

    /// Waits before the next attempt. False where the probe ends meanwhile.
    fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            if self.shared.ends().is_some() {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            self.ears.wait(left);
        }
    }

    /// Starts a program, talks to it and ends it.
    fn converse(&mut self) -> After {
        if self.shared.ends().is_some() {
            return After::Stopped;
        }
        let (mut peer, number) = match self.target.open(&*self.opener, self.times.start.min(CONNECT)) {
            Ok(opened) => opened,
            Err(problem) => return After::Again(problem),
        };
        self.listener.begin();
        let why = self.talk(&mut peer, number);
        if let Some((question, _)) = self.asked.take() {
            self.shared.ask_again(question);
        }
        let ended = self.finish(&mut peer, number, &why);
        why.after(ended)
    }

    /// Asks and hears answers, until there is a reason not to.
    fn talk(&mut self, peer: &mut Peer, number: Option<u32>) -> Why {
        let began = Instant::now();
        let mut look = began + LOOK;
        loop {
            let now = Instant::now();
            if self.shared.ends().is_some() {
                return Why::Stopping;
            }
            let is_greeted = self.listener.is_greeted();
            let greeting = began + self.times.start;
            if !is_greeted && now >= greeting {
                let limit = self.times.start;
                return Why::Broken(format!(
                    "the program has not said hello within {limit:?}: does it flush its standard output?"
                ));
            }
            if is_greeted {
                self.ask(peer, now);
            }
            let late = self.asked.map(|(_, since)| since + self.times.reply);
            if let Some((Question { tick, .. }, since)) =
                self.asked.filter(|(_, since)| *since + self.times.reply <= now)
            {
                let waited = now.duration_since(since);
                return Why::Broken(format!(
                    "the program has not answered tick {tick} within {waited:.0?}: does it flush its standard output?"
                ));
            }
            if look <= now {
                if let Err(why) = self.look(number) {
                    return why;
                }
                look = now + LOOK;
            }
            let moments = [late, (!is_greeted).then_some(greeting)];
            let until = moments.into_iter().flatten().fold(look, Instant::min);
            let mut events = Vec::new();
            if let Err(error) = peer.turn(&mut self.ears, until, &mut self.complaints, &mut events) {
                return Why::Broken(format!("cannot wait for the program: {error}"));
            }
            for event in events {
                if let Err(why) = self.happens(event, peer) {
                    return why;
                }
            }
        }
    }

    /// Asks what is to be asked. A program that has not answered the last question is not asked another one: it could only
    /// be late with that as well.
    fn ask(&mut self, peer: &mut Peer, now: Instant) {
        let Some(question) = self.shared.question().filter(|_| self.asked.is_none()) else { return };
        self.asked = Some((question, now));
        // One that does not read is late, or writes by its own clock.
        if peer.is_idle() {
            peer.send(question.line().into(), None);
        }
    }

    fn happens(&mut self, event: Event, peer: &mut Peer) -> Result<(), Why> {
        match event {
            Event::Line(line) => self.hear(&line, peer),
            Event::LineTooLong => Err(Why::Broken("the program says a line of more than 1 MiB".to_owned())),
            Event::OutputClosed => Err(Why::Left("closed its standard output")),
            // Who writes by its own clock need not read.
            Event::InputClosed | Event::Progress | Event::Written(_) => Ok(()),
        }
    }

    /// Takes a line in.
    fn hear(&mut self, line: &[u8], peer: &mut Peer) -> Result<(), Why> {
        match self.listener.hear(line) {
            Heard::Nothing => Ok(()),
            Heard::Hello => {
                self.shared.program_is(Standing::Working);
                Ok(())
            }
            Heard::Answer(said) => self.take(said),
            Heard::Wrong(problem) => {
                self.asked = None;
                self.mistake(&problem)
            }
            Heard::Broken(problem) => Err(Why::Broken(problem)),
            Heard::Refused(refused) => {
                let line = serde_json::json!({ "refused": refused }).to_string() + "\n";
                peer.send(line.into_bytes().into(), None);
                // It is short: there is room for it, or nobody reads it.
                let _ = peer.turn(&mut self.ears, Instant::now(), &mut self.complaints, &mut Vec::new());
                Err(Why::Hopeless(format!("the program's hello is refused: {refused}")))
            }
            Heard::Fatal(reason) => Err(Why::Hopeless(format!("the program cannot work: {reason}"))),
        }
    }

    /// Takes an answer.
    fn take(&mut self, said: Said) -> Result<(), Why> {
        let asked = self.asked.map(|(question, _)| question.tick);
        let tick = match (&said, asked) {
            (Said::Json(tick, _), asked) if asked == Some(*tick) => *tick,
            (Said::Json(tick, _), _) => return self.mistake(&format!("nobody has asked for tick {tick}")),
            // A text does not say what it answers, if anything: it is of the tick in which it is whole.
            (Said::Text(_), asked) => {
                let tick = self.shared.tick();
                let (count, of) = self.unasked;
                let count = if of == tick && asked.is_none() { count + 1 } else { 0 };
                self.unasked = (count, tick);
                if count > UNASKED {
                    return self.mistake(&format!("it answers more than {UNASKED} times a tick without being asked"));
                }
                tick
            }
        };
        self.asked = None;
        match self.listener.read(said, tick) {
            Ok(answer) => {
                self.works();
                self.shared.answer(answer);
                Ok(())
            }
            Err(problem) => self.mistake(&problem),
        }
    }

    fn mistake(&mut self, what: &str) -> Result<(), Why> {
        let what = format!("the program answers wrongly: {what}");
        let noted = self.mistakes.note(&what, Instant::now());
        self.shared.program_is(Standing::Wrong(what));
        noted.map_err(|_| Why::Broken("the program answers wrongly more than a hundred times a minute".to_owned()))
    }

    /// Whether the program still runs.
    fn look(&self, number: Option<u32>) -> Result<(), Why> {
        let Some(number) = number else { return Ok(()) };
        match self.opener.ended(number) {
            Ok(None) => Ok(()),
            Ok(Some(ended)) => Err(Why::Ended(ended)),
            Err(error) => Err(Why::Broken(format!("cannot look whether the program runs: {error}"))),
        }
    }

    /// Ends the program, and hears what it still says. How it ended, where that is known.
    fn finish(&mut self, peer: &mut Peer, number: Option<u32>, why: &Why) -> Option<ExitStatus> {
        let now = Instant::now();
        let patience = if matches!(why, Why::Broken(_)) { Duration::ZERO } else { self.times.close };
        let ended = if let Why::Ended(ended) = why { Some(*ended) } else { None };
        let (mut asked, mut killed) = (now + patience, now + patience + LAST_CHANCE);
        if let Some(ends) = self.shared.ends() {
            (asked, killed) = (asked.min(ends.closing), killed.min(ends.killing));
        }
        let mut ending = Ending::new(peer, number, ended, (asked, killed));
        let mut events = Vec::new();
        loop {
            let opener = &*self.opener;
            let end = ending.turn((&mut *peer, &mut self.ears), opener, &mut self.complaints, &mut events);
            // What it still says was answered too late, or nobody wants it.
            events.clear();
            if let Some(End { status, problem }) = end {
                if let Some(problem) = problem {
                    let (sink, probe) = (self.owner.sink(), self.owner.probe());
                    warn!(sink, probe, "cannot end the program: {problem}");
                }
                return status;
            }
        }
    }
}
