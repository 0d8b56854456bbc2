//! The sink: it encodes, and leaves the rest to a thread.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ebpf_process_core::{
    BuildError, Ledger, Legacy, Settlement, Sink, SinkContext, SinkError, SinkErrorKind, SinkResult, Stop, View,
};
use ebpf_process_delivery::{Delivery, Undelivered};
use ebpf_process_peer::{Restart, Target};

use crate::encode::Encoder;
use crate::encoded::Encoded;
use crate::engine::{Engine, Times};
use crate::form::FormContext;
use crate::line_encode::LineEncoder;
use crate::link::Link;
use crate::options::Settings;
use crate::shared::{Ends, Program, Shared};
use crate::start::Told;
use crate::words::{Formats, Words};

/// How often it is looked whether the agent stops, while nothing is known of the program.
const LOOK: Duration = Duration::from_millis(50);

/// How long a program may say that it works, where `delivery.age_limit` says nothing.
const LONGEST_WORK: Duration = Duration::from_secs(3600);

/// What the end of a sink may take where nobody says how long.
const END: Duration = Duration::from_secs(10);

/// Makes batches of views, in the words that a program wants.
enum Says {
    Json(Encoder),
    Lines(LineEncoder),
}

impl Says {
    fn new(words: Words, context: &FormContext, limit: usize) -> Self {
        match words {
            Words::Json(encoding) => Self::Json(Encoder::new(encoding, limit)),
            Words::Lines(format) => Self::Lines(LineEncoder::new(format, context, limit)),
        }
    }

    const fn words(&self) -> Words {
        match self {
            Self::Json(encoder) => Words::Json(encoder.encoding()),
            Self::Lines(encoder) => Words::Lines(encoder.format()),
        }
    }

    fn encode(&mut self, view: View<'_>) -> Encoded {
        match self {
            Self::Json(encoder) => encoder.encode(&view),
            Self::Lines(encoder) => encoder.encode(&view),
        }
    }
}

/// Sends batches to a program.
pub(crate) struct ExecSink {
    says: Option<Says>,
    batch_size: usize,
    /// What the next format of lines begins with.
    lines: FormContext,
    delivery: Delivery<Link>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    ledger: Arc<Ledger>,
    stop: Stop,
}

impl ExecSink {
    /// Starts the thread, which starts the program.
    pub(crate) fn start(
        settings: &Settings,
        target: Target,
        formats: Formats,
        context: SinkContext,
    ) -> Result<Self, BuildError> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let failed = |what: &'static str| {
            move |error: std::io::Error| {
                BuildError::refused(format!("cannot {what}: {error}"), "give the agent more descriptors or threads")
                    .passing(true)
            }
        };
        let (shared, ears) = Shared::new().map_err(failed("make a pipe"))?;
        let shared = Arc::new(shared);
        let told = Told {
            batch_size: settings.batch_size,
            reply_timeout: settings.reply_timeout,
            config: settings.config().clone(),
        };
        let delivery = Delivery::new(Link::new(Arc::clone(&shared), formats), &settings.delivery, &context)?;
        let times = Times {
            start: settings.start_timeout,
            reply: settings.reply_timeout,
            age: settings.delivery.age_limit.unwrap_or(LONGEST_WORK),
            close: settings.close_timeout,
        };
        let lines = FormContext { host: context.host.clone(), joins: context.joins };
        let (ledger, stop) = (Arc::clone(&context.ledger), context.stop.clone());
        let engine = Engine::new(
            context,
            (target, formats),
            (told, times),
            (Arc::clone(&shared), ears),
            Restart::new(settings.delivery.retry_min, settings.delivery.retry_max),
        );
        let thread = thread::Builder::new().name("exec".to_owned()).spawn(move || engine.run());
        let thread = Some(thread.map_err(failed("start a thread"))?);
        let batch_size = size(settings.batch_size);
        Ok(Self { says: None, batch_size, lines, delivery, shared, thread, ledger, stop })
    }

    /// How the program wants its batches. Until it has said so once it is waited for.
    fn words(&self) -> Result<Words, SinkError> {
        let mut state = self.shared.state();
        loop {
            match (&state.program, state.words) {
                (Program::Over(reason), _) => return Err(SinkError::closed(reason.clone())),
                (_, Some(words)) => return Ok(words),
                (Program::Down(reason, _), None) => return Err(SinkError::failed(reason.clone())),
                (Program::Starting | Program::Working, None) if self.stop.remaining().is_some() => {
                    return Err(SinkError::failed("the agent stops before the program has said hello"));
                }
                (Program::Starting | Program::Working, None) => self.shared.wait(&mut state, LOOK),
            }
        }
    }

    /// The time for the end begins.
    fn begin_end(&self, limit: Duration) {
        self.shared.state().ends = Some(Ends::within(limit));
        self.shared.wake();
    }

    /// Nothing more is sent: the program is ended.
    fn end(&mut self) {
        let now = Instant::now();
        self.shared.state().ends.get_or_insert_with(|| Ends::within(Duration::ZERO)).sending = now;
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            // It ends in time; if it has panicked there is nothing to be done about it.
            let _ = thread.join();
        }
    }
}

impl Sink for ExecSink {
    fn write(&mut self, view: &View<'_>) -> SinkResult {
        let words = self.words().inspect_err(|error| {
            if error.kind() == SinkErrorKind::Failed {
                self.ledger.failed(view.len() as u64);
            }
        })?;
        let known = self.says.take_if(|says| says.words() == words);
        let says = self.says.insert(known.unwrap_or_else(|| Says::new(words, &self.lines, self.batch_size)));
        // A program that wants another format later gets no difference for a second time.
        self.lines.joins = true;
        let Encoded { frames, unchanged, superseded, rejected } = says.encode(*view);
        self.ledger.written(unchanged);
        self.ledger.superseded(superseded);
        for (samples, reason) in rejected {
            self.ledger.rejected(samples, reason);
        }
        for frame in frames {
            self.delivery.offer(frame);
        }
        Ok(())
    }

    fn flush(&mut self) -> SinkResult {
        if let Program::Over(reason) = &self.shared.state().program {
            return Err(SinkError::closed(reason.clone()));
        }
        self.delivery.work();
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.delivery.due()
    }

    fn close(&mut self) -> SinkResult {
        self.begin_end(self.stop.remaining().unwrap_or(END));
        self.delivery.close();
        self.end();
        Ok(())
    }

    fn bequeath(&mut self) -> Option<Legacy> {
        self.begin_end(self.stop.remaining().unwrap_or(END));
        let undelivered = self.delivery.bequeath();
        self.end();
        Some(Legacy::new(undelivered.samples(), undelivered))
    }

    fn inherit(&mut self, legacy: Legacy) {
        if let Ok(undelivered) = legacy.content.downcast::<Undelivered>() {
            self.delivery.inherit(*undelivered);
        }
    }

    fn settles(&self) -> Settlement {
        Settlement::BySink
    }
}

impl Drop for ExecSink {
    fn drop(&mut self) {
        self.end();
    }
}
