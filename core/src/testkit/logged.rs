//! What the log hears.

use std::fmt::{Debug, Display, Formatter, Result, Write as _};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber, subscriber};

/// An event of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Logged {
    /// Its level and its message: `WARN no room`.
    pub said: String,
    /// Its other fields in their order: `sink="db" samples=3`.
    pub fields: String,
}

impl Display for Logged {
    fn fmt(&self, f: &mut Formatter<'_>) -> Result {
        let gap = if self.fields.is_empty() { "" } else { " " };
        write!(f, "{}{gap}{}", self.said, self.fields)
    }
}

impl Visit for Logged {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        // Into memory: nothing here can fail.
        let _ = if field.name() == "message" {
            write!(self.said, " {value:?}")
        } else {
            let gap = if self.fields.is_empty() { "" } else { " " };
            write!(self.fields, "{gap}{field}={value:?}")
        };
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Logged>>>);

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Logged { said: event.metadata().level().to_string(), fields: String::new() };
        event.record(&mut line);
        self.0.lock().push(line);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// What is logged on this thread meanwhile, of all levels.
pub fn logged(act: impl FnOnce()) -> Vec<Logged> {
    let log = Log::default();
    subscriber::with_default(log.clone(), act);
    let lines = log.0.lock();
    lines.clone()
}
