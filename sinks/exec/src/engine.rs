//! The thread that talks to the program: it starts it, says what there is, hears what became of it, and ends it.

use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ebpf_process_core::SinkContext;
use ebpf_process_peer::{
    After, Complaints, Ears, End, Ending, Event, LAST_CHANCE, Mistakes, Owner, Peer, Restart, Target, Why, told,
};
use tracing::{debug, error, info, warn};

use crate::flights::{Flights, Patience, Settled};
use crate::head::head;
use crate::message::{Hello, Message};
use crate::shared::{Program, Shared};
use crate::start::{Start, Told};
use crate::words::Formats;

/// How often it is looked whether a program still runs.
const LOOK: Duration = Duration::from_secs(1);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) start: Duration,
    pub(crate) reply: Duration,
    pub(crate) age: Duration,
    pub(crate) close: Duration,
}

/// The thread's own.
#[derive(Debug)]
pub(crate) struct Engine {
    context: SinkContext,
    target: Target,
    formats: Formats,
    told: Told,
    times: Times,
    shared: Arc<Shared>,
    ears: Ears,
    restart: Restart,
    flights: Flights,
    mistakes: Mistakes,
    complaints: Complaints,
    /// What it fails for, as long as it does.
    failing: Option<String>,
}

impl Engine {
    pub(crate) fn new(
        context: SinkContext,
        (target, formats): (Target, Formats),
        (told, times): (Told, Times),
        (shared, ears): (Arc<Shared>, Ears),
        restart: Restart,
    ) -> Self {
        let owner = Owner::Sink(context.name.clone());
        let (mistakes, complaints) = (Mistakes::new(owner.clone()), Complaints::new(owner));
        Self {
            context,
            target,
            formats,
            told,
            times,
            shared,
            ears,
            restart,
            flights: Flights::new(Patience { reply: times.reply, age: times.age }),
            mistakes,
            complaints,
            failing: None,
        }
    }

    /// Talks to one program after the other, until the sink ends or there is no use.
    pub(crate) fn run(mut self) {
        loop {
            let after = self.converse();
            self.complaints.end(Instant::now());
            match after {
                After::Again(problem) => {
                    let wait = self.restart.failed();
                    self.is_gone(Program::Down(problem.clone(), Instant::now() + wait), &problem, Some(wait));
                    if !self.pause(wait) {
                        return;
                    }
                    self.shared.program_is(Program::Starting);
                }
                After::Over(problem) => {
                    error!(sink = %self.context.name, "{problem}; it is not started again before a reload");
                    self.is_gone(Program::Over(problem.clone()), &problem, None);
                    // The sink hears of it though it has nothing to write.
                    return self.context.waker().wake();
                }
                After::Stopped => {
                    let problem = "the agent stops".to_owned();
                    return self.is_gone(Program::Over(problem.clone()), &problem, None);
                }
            }
        }
    }

    /// There is no program: what it has not answered comes again. Why is said by the delivery where that has something for
    /// the program, and here otherwise, once until it works again or fails for another reason.
    fn is_gone(&mut self, state: Program, problem: &str, wait: Option<Duration>) {
        let is_over = matches!(state, Program::Over(_));
        let submitted = self.shared.program_is(state);
        self.flights.take(submitted);
        let is_said = self.flights.are_lost(problem, wait);
        if is_over || self.failing.as_deref() == Some(problem) {
            return;
        }
        self.failing = Some(problem.to_owned());
        if !is_said {
            self.context.ledger.fails(problem);
            warn!(sink = %self.context.name, "{problem}; it is tried again, further failures like this one are not logged");
        }
    }

    fn works(&mut self) {
        self.restart.works();
        if self.failing.take().is_some() {
            info!(sink = %self.context.name, "the program answers");
        }
    }

    /// Waits before the next attempt. False where the sink ends meanwhile.
    fn pause(&mut self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        loop {
            if self.shared.state().ends.is_some() {
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
        let (mut peer, number) = match self.target.open(&*self.context.opener, self.times.start) {
            Ok(opened) => opened,
            Err(problem) => return After::Again(problem),
        };
        let why = match self.greet(&mut peer, number) {
            Ok(hello) => self.talk(&mut peer, number, &hello),
            Err(why) => why,
        };
        let ended = self.finish(&mut peer, number, &why);
        why.after(ended)
    }

    /// Waits for what the program wants, and tells it where it is.
    fn greet(&mut self, peer: &mut Peer, number: Option<u32>) -> Result<Hello, Why> {
        let deadline = Instant::now() + self.times.start;
        let hello = loop {
            if self.shared.state().ends.is_some() {
                return Err(Why::Stopping);
            }
            if Instant::now() >= deadline {
                let limit = self.times.start;
                return Err(Why::Broken(format!(
                    "the program has not said hello within {limit:?}: does it flush its standard output?"
                )));
            }
            let mut greeting = None;
            for event in self.turn(peer, deadline.min(Instant::now() + LOOK))? {
                match event {
                    Event::Line(line) => match self.read(&line)? {
                        Message::Hello(Ok(hello)) if greeting.is_none() => greeting = Some(hello),
                        Message::Hello(Err(refused)) => {
                            let line = serde_json::json!({ "refused": refused }).to_string() + "\n";
                            peer.send(line.into_bytes().into(), None);
                            // It is short: there is room for it, or nobody reads it.
                            self.turn(peer, Instant::now())?;
                            return Err(Why::Hopeless(format!("the program's hello is refused: {refused}")));
                        }
                        Message::Fatal(reason) => return Err(fatal(&reason)),
                        _ => {
                            return Err(Why::Broken(format!(
                                "the program says something else than hello: {}",
                                told(&line)
                            )));
                        }
                    },
                    event => left(&event)?,
                }
            }
            if let Some(hello) = greeting {
                break hello;
            }
            self.look(number)?;
        };
        let start = Start::new(&self.context, &hello, &self.told).line();
        peer.send(start.into(), None);
        let mut state = self.shared.state();
        (state.words, state.window, state.is_ordered) = (Some(hello.words), hello.window, hello.ordered);
        drop(state);
        let submitted = self.shared.program_is(Program::Working);
        self.flights.take(submitted);
        Ok(hello)
    }

    /// Sends batches and hears answers, until there is a reason not to.
    fn talk(&mut self, peer: &mut Peer, number: Option<u32>, hello: &Hello) -> Why {
        debug!(sink = %self.context.name, "the program takes {hello:?}");
        let mut progress = Instant::now();
        let mut look = progress + LOOK;
        loop {
            let now = Instant::now();
            let mut state = self.shared.state();
            let (submitted, ends) = (std::mem::take(&mut state.submitted), state.ends);
            drop(state);
            self.flights.take(submitted);
            if ends.is_some_and(|ends| ends.sending <= now) {
                return Why::Stopping;
            }
            if let Some(out) = if peer.is_idle() { self.flights.next(hello.words, now) } else { None } {
                progress = now;
                peer.send(head(out.stream, out.number, out.resent).into(), None);
                peer.send(out.body, Some(out.number));
            }
            let (late, due) = (self.flights.overdue(now), self.flights.due());
            if let Some(number) = late {
                return Why::Broken(format!(
                    "the program has not answered batch {number} in time: does it flush its standard output?"
                ));
            }
            let stalled = progress + self.times.reply;
            if !peer.is_idle() && stalled <= now {
                return Why::Broken("the program does not read its standard input".to_owned());
            }
            if look <= now {
                if let Err(why) = self.look(number) {
                    return why;
                }
                look = now + LOOK;
            }
            let stalled = (!peer.is_idle()).then_some(stalled);
            let moments = [due, stalled, ends.map(|ends| ends.sending)];
            let until = moments.into_iter().flatten().fold(look, Instant::min);
            let events = match self.turn(peer, until) {
                Ok(events) => events,
                Err(why) => return why,
            };
            for event in events {
                let heard = match event {
                    Event::Line(line) => self.hear(&line),
                    Event::Progress => {
                        progress = Instant::now();
                        Ok(())
                    }
                    Event::Written(number) => {
                        self.flights.written(number, Instant::now());
                        Ok(())
                    }
                    event => left(&event),
                };
                if let Err(why) = heard {
                    return why;
                }
            }
        }
    }

    /// A turn of the connection.
    fn turn(&mut self, peer: &mut Peer, until: Instant) -> Result<Vec<Event>, Why> {
        let mut events = Vec::new();
        let turned = peer.turn(&mut self.ears, until, &mut self.complaints, &mut events);
        turned.map_err(|error| Why::Broken(format!("cannot wait for the program: {error}")))?;
        Ok(events)
    }

    fn read(&self, line: &[u8]) -> Result<Message, Why> {
        let message = Message::read(line, self.formats);
        message.map_err(|problem| Why::Broken(format!("what the program says {problem}: {}", told(line))))
    }

    /// Takes a line in after the hello.
    fn hear(&mut self, line: &[u8]) -> Result<(), Why> {
        let now = Instant::now();
        let (number, answer) = match self.read(line)? {
            Message::Answer(Ok(answer)) => answer,
            Message::Answer(Err(problem)) => return self.mistake(&format!("{problem}: {}", told(line)), now),
            Message::Hello(_) => return self.mistake("the program says hello twice", now),
            Message::Fatal(reason) => return Err(fatal(&reason)),
        };
        match self.flights.answer(number, answer, now) {
            Ok(Settled::Done { astray }) => {
                self.works();
                if astray > 0 {
                    self.mistake(&format!("it rejects what is not in batch {number}: {}", told(line)), now)?;
                }
            }
            Ok(Settled::Later | Settled::Working) => {}
            Err(problem) => self.mistake(&format!("{problem}: {}", told(line)), now)?,
        }
        Ok(())
    }

    fn mistake(&mut self, what: &str, now: Instant) -> Result<(), Why> {
        let noted = self.mistakes.note(&format!("the program answers wrongly: {what}"), now);
        noted.map_err(|_| Why::Broken("the program answers wrongly more than a hundred times a minute".to_owned()))
    }

    /// Whether the program still runs.
    fn look(&self, number: Option<u32>) -> Result<(), Why> {
        let Some(number) = number else { return Ok(()) };
        match self.context.opener.ended(number) {
            Ok(None) => Ok(()),
            Ok(Some(ended)) => Err(Why::Ended(ended)),
            Err(error) => Err(Why::Broken(format!("cannot look whether the program runs: {error}"))),
        }
    }

    /// Ends the program, and hears what it still says. How it ended, where that is known.
    fn finish(&mut self, peer: &mut Peer, number: Option<u32>, why: &Why) -> Option<ExitStatus> {
        let now = Instant::now();
        let ends = self.shared.state().ends;
        let patience = if matches!(why, Why::Broken(_)) { Duration::ZERO } else { self.times.close };
        let asked = ends.map_or(now + patience, |ends| ends.closing.min(now + patience));
        let killed = ends.map_or(asked + LAST_CHANCE, |ends| ends.killing.min(asked + LAST_CHANCE));
        let ended = if let Why::Ended(ended) = why { Some(*ended) } else { None };
        let mut ending = Ending::new(peer, number, ended, (asked, killed));
        let mut listens = !matches!(why, Why::Broken(_));
        loop {
            let mut events = Vec::new();
            let opener = &*self.context.opener;
            let end = ending.turn((&mut *peer, &mut self.ears), opener, &mut self.complaints, &mut events);
            for event in events {
                if let Event::Line(line) = event {
                    // After nonsense nothing counts.
                    listens = listens && self.hear(&line).is_ok();
                }
            }
            if let Some(End { status, problem }) = end {
                if let Some(problem) = problem {
                    warn!(sink = %self.context.name, "cannot end the program: {problem}");
                }
                return status;
            }
        }
    }
}

/// What the program has done other than speaking.
fn left(event: &Event) -> Result<(), Why> {
    match event {
        Event::InputClosed => Err(Why::Left("reads no more")),
        Event::OutputClosed => Err(Why::Left("closed its standard output")),
        Event::LineTooLong => Err(Why::Broken("the program says a line of more than 1 MiB".to_owned())),
        Event::Line(_) | Event::Progress | Event::Written(_) => Ok(()),
    }
}

fn fatal(reason: &str) -> Why {
    Why::Hopeless(format!("the program cannot work: {}", told(reason.as_bytes())))
}
