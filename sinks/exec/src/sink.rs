//! The sink: it encodes, and leaves the rest to a thread.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ebpf_process_core::{
    BuildError, Ledger, Legacy, Settlement, Sink, SinkContext, SinkError, SinkErrorKind, SinkResult, Stop, View,
};
use ebpf_process_delivery::{Delivery, Undelivered};

use crate::encode::{Encoded, Encoder};
use crate::encoding::Encoding;
use crate::engine::{Engine, Times};
use crate::link::Link;
use crate::options::Settings;
use crate::reason;
use crate::restart::Restart;
use crate::shared::{Ends, Program, Shared};
use crate::start::Told;
use crate::target::Target;

/// How often it is looked whether the agent stops, while nothing is known of the program.
const LOOK: Duration = Duration::from_millis(50);

/// How long a program may say that it works, where `delivery.age_limit` says nothing.
const LONGEST_WORK: Duration = Duration::from_secs(3600);

/// What the end of a sink may take where nobody says how long.
const END: Duration = Duration::from_secs(10);

/// Sends batches to a program.
pub(crate) struct ExecSink {
    encoder: Option<Encoder>,
    batch_size: usize,
    delivery: Delivery<Link>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    ledger: Arc<Ledger>,
    stop: Stop,
}

impl ExecSink {
    /// Starts the thread, which starts the program.
    pub(crate) fn start(settings: &Settings, target: Target, context: SinkContext) -> Result<Self, BuildError> {
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let failed = |what: &'static str| {
            move |error: std::io::Error| {
                BuildError::refused(format!("cannot {what}: {error}"), "give the agent more descriptors or threads")
                    .passing(true)
            }
        };
        let (shared, woken) = Shared::new().map_err(failed("make a pipe"))?;
        let shared = Arc::new(shared);
        let told = Told {
            batch_size: settings.batch_size,
            reply_timeout: settings.reply_timeout,
            config: settings.config().clone(),
        };
        let delivery = Delivery::new(Link(Arc::clone(&shared)), &settings.delivery, &context)?;
        let times = Times {
            start: settings.start_timeout,
            reply: settings.reply_timeout,
            age: settings.delivery.age_limit.unwrap_or(LONGEST_WORK),
            close: settings.close_timeout,
        };
        let (ledger, stop) = (Arc::clone(&context.ledger), context.stop.clone());
        let engine = Engine::new(
            context,
            (target, told, times),
            (Arc::clone(&shared), woken),
            Restart::new(settings.delivery.retry_min, settings.delivery.retry_max),
        );
        let thread = thread::Builder::new().name("exec".to_owned()).spawn(move || engine.run());
        let thread = Some(thread.map_err(failed("start a thread"))?);
        Ok(Self { encoder: None, batch_size: size(settings.batch_size), delivery, shared, thread, ledger, stop })
    }

    /// How the program wants its batches. Until it has said so once it is waited for.
    fn encoding(&self) -> Result<Encoding, SinkError> {
        let mut state = self.shared.state();
        loop {
            match (&state.program, state.encoding) {
                (Program::Over(reason), _) => return Err(SinkError::closed(reason.clone())),
                (_, Some(encoding)) => return Ok(encoding),
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
        let encoding = self.encoding().inspect_err(|error| {
            if error.kind() == SinkErrorKind::Failed {
                self.ledger.failed(view.len() as u64);
            }
        })?;
        let known = self.encoder.take_if(|encoder| encoder.encoding() == encoding);
        let encoder = self.encoder.insert(known.unwrap_or_else(|| Encoder::new(encoding, self.batch_size)));
        let Encoded { frames, too_large } = encoder.encode(view);
        self.ledger.rejected(too_large, reason::TOO_LARGE);
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
        Some(Legacy { samples: undelivered.samples(), content: Box::new(undelivered) })
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
