//! What a program says, in its format, as answers.

use std::collections::HashSet;
use std::sync::Arc;

use ebpf_process_peer::{Owner, cleaned, told};
use tracing::warn;

use crate::answer::Answer;
use crate::columns::Columns;
use crate::gathered::{Gathered, Whole};
use crate::message::{self, Hello, Message};
use crate::options::Format;
use crate::point::{Found, into_rows};
use crate::spec::Spec;
use crate::{influx, openmetrics};

/// Names that are remembered as refused, so that each is said once.
const REMEMBERED: usize = 1000;

/// Rows of an answer at most, beyond those that may have a row: they are counted in the row `other`.
const OTHERS: usize = 65_536;

/// Listens to one program after the other.
#[derive(Debug)]
pub(crate) struct Listener {
    owner: Owner,
    words: Words,
    /// Rows of an answer that are looked at.
    most: usize,
    said: HashSet<String>,
}

#[derive(Debug)]
enum Words {
    Json {
        /// None before the first hello.
        columns: Option<Columns>,
        /// By column of the last hello: its place, and what it is. None before the hello of the program that runs.
        hello: Option<Vec<(usize, Spec)>>,
    },
    Text {
        read: fn(&str) -> Result<Found, String>,
        columns: Columns,
        gathered: Gathered,
    },
}

/// What a line is.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A part of something.
    Nothing,
    /// The program has said what it has.
    Hello,
    /// A whole answer, to this question if it says so.
    Answer(Said),
    /// Not an answer but meant as one: why.
    Wrong(String),
    /// It breaks the protocol: why.
    Broken(String),
    /// A hello that cannot be: why.
    Refused(String),
    /// It cannot work: why.
    Fatal(String),
}

/// An answer that is to be read: whoever does not need it saves the work.
#[derive(Debug)]
pub(crate) enum Said {
    /// Its question, and the rest.
    Json(u64, serde_json::Map<String, serde_json::Value>),
    /// Without a question.
    Text(String),
}

impl Listener {
    /// For a probe with these options.
    pub(crate) fn new(owner: Owner, format: Format, kind: &str, keys: Vec<String>, rows: usize) -> Self {
        let text =
            |read| Words::Text { read, columns: Columns::new(kind.to_owned(), keys), gathered: Gathered::default() };
        let words = match format {
            Format::Json => Words::Json { columns: None, hello: None },
            Format::OpenMetrics => text(openmetrics::read),
            Format::Influx => text(influx::read),
        };
        Self { owner, words, most: rows + OTHERS, said: HashSet::new() }
    }

    /// Another program is heard from here on. What the one before had numbers for, this one may have too.
    pub(crate) fn begin(&mut self) {
        match &mut self.words {
            Words::Json { hello, .. } => *hello = None,
            Words::Text { gathered, .. } => *gathered = Gathered::default(),
        }
    }

    /// Whether it is known what the program has.
    pub(crate) const fn is_greeted(&self) -> bool {
        match &self.words {
            Words::Json { hello, .. } => hello.is_some(),
            Words::Text { .. } => true,
        }
    }

    /// Takes a line in.
    pub(crate) fn hear(&mut self, line: &[u8]) -> Heard {
        let is_greeted = self.is_greeted();
        match &mut self.words {
            Words::Json { .. } => match Message::read(line) {
                Err(problem) => Heard::Broken(format!("what the program says {problem}: {}", told(line))),
                Ok(Message::Fatal(reason)) => Heard::Fatal(told(reason.as_bytes())),
                Ok(Message::Hello(_)) if is_greeted => Heard::Wrong("it says hello twice".to_owned()),
                Ok(Message::Hello(hello)) => match hello.and_then(|hello| self.greet(hello)) {
                    Ok(()) => Heard::Hello,
                    Err(refused) => Heard::Refused(refused),
                },
                Ok(Message::Answer(..)) if !is_greeted => {
                    Heard::Broken(format!("the program says something else than hello: {}", told(line)))
                }
                Ok(Message::Answer(None, _)) => Heard::Wrong(format!("its tick is no number: {}", told(line))),
                Ok(Message::Answer(Some(tick), rest)) => Heard::Answer(Said::Json(tick, rest)),
            },
            Words::Text { gathered, .. } => {
                if line.starts_with(b"{\"fatal\"")
                    && let Ok(Message::Fatal(reason)) = Message::read(line)
                {
                    return Heard::Fatal(told(reason.as_bytes()));
                }
                match gathered.push(line) {
                    None => Heard::Nothing,
                    Some(Whole::Ok(text)) => Heard::Answer(Said::Text(text)),
                    Some(Whole::Err(problem)) => Heard::Wrong(format!("its answer {problem}")),
                }
            }
        }
    }

    /// Reads a whole answer as that to a question. An error is what is wrong with it.
    pub(crate) fn read(&mut self, said: Said, tick: u64) -> Result<Answer, String> {
        let mut refused = Vec::new();
        let (rows, schema) = match (&mut self.words, said) {
            (Words::Json { columns: Some(columns), hello: Some(hello) }, Said::Json(_, mut rest)) => {
                let rows = message::rows(&mut rest, columns.schema().keys.len(), hello, self.most)?;
                (rows, Arc::clone(columns.schema()))
            }
            (Words::Text { read, columns, .. }, Said::Text(text)) => {
                let found = read(&text)?;
                refused = found.refused;
                let rows = into_rows(found.points, columns, self.most, &mut refused)?;
                (rows, Arc::clone(columns.schema()))
            }
            _ => return Err("it is in another format".to_owned()),
        };
        for (name, why) in refused {
            self.refuse(&name, &why);
        }
        Ok(Answer { tick, schema, rows })
    }

    /// Says once that something of this name is left out.
    fn refuse(&mut self, name: &str, why: &str) {
        if self.said.len() < REMEMBERED && self.said.insert(name.to_owned()) {
            let (sink, probe) = (self.owner.sink(), self.owner.probe());
            let name = cleaned(name.as_bytes(), 200);
            let why = cleaned(why.as_bytes(), 400);
            warn!(sink, probe, "{name} of the program is left out: {why}");
        }
    }

    /// Takes a hello in. It may have more columns than those before it, or fewer, in any order.
    fn greet(&mut self, said: Hello) -> Result<(), String> {
        let Words::Json { columns, hello } = &mut self.words else { return Ok(()) };
        let known = columns.get_or_insert_with(|| Columns::new(said.kind.clone(), said.keys.clone()));
        let schema = known.schema();
        if schema.kind != said.kind || schema.keys != said.keys {
            return Err(format!(
                "it had the kind {} with the keys {:?} before, now {} with {:?}: another kind is another probe's, or this \
                 one's after a reload with other options",
                schema.kind, schema.keys, said.kind, said.keys
            ));
        }
        let place = |spec: Spec| Ok((known.place(&spec)?, spec));
        *hello = Some(said.columns.into_iter().map(place).collect::<Result<_, String>>()?);
        Ok(())
    }
}
