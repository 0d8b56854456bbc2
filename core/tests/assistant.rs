//! A probe gets the assistant that the agent was given, and refuses requests that it has no answer to.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ebpf_process_core::engine::{Agent, SystemClock};
use ebpf_process_core::{
    Assistant, BuildError, Declared, Message, Options, OptionsError, Probe, ProbeContext, ProbeError, ProbePlugin,
    Recorder,
};

/// Answers with what it was asked.
#[derive(Debug, Default)]
struct Echo(Mutex<Vec<String>>);

impl Assistant for Echo {
    fn assist(&self, probe: &str, request: Message) -> Result<Message, BuildError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(probe.to_owned());
        Ok(request)
    }
}

struct Asks;

struct Nothing;

impl Probe for Nothing {
    fn collect(&mut self, _: &mut Recorder) -> Result<(), ProbeError> {
        Ok(())
    }
}

impl ProbePlugin for Asks {
    fn name(&self) -> &'static str {
        "asks"
    }

    fn summary(&self) -> &'static str {
        "asks its assistant when it is built"
    }

    fn catalog(&self, _: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok(Vec::new())
    }

    fn build(&self, _: &Options, context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        if let Some(assistant) = context.assistant {
            let answer = assistant.assist(self.name(), Message { bytes: vec![7], ..Message::default() })?;
            assert_eq!(answer.bytes, [7]);
        }
        Ok(Box::new(Nothing))
    }
}

#[test]
fn a_probe_is_built_with_the_assistant_that_the_agent_has() {
    let mut agent = Agent::new(Arc::new(SystemClock), Duration::from_secs(1));
    agent.add_probe(&Asks, &Options::none()).expect("built alone");
    let echo = Arc::new(Echo::default());
    let assistant = Arc::clone(&echo);
    agent.set_assistant(assistant);
    agent.add_probe(&Asks, &Options::none()).expect("built with help");
    assert_eq!(*echo.0.lock().expect("a lock"), ["asks"]);
}

#[test]
fn a_probe_that_asks_nothing_answers_nothing() {
    let refused = Asks.assist(&Options::none(), Message::default()).expect_err("no answer").to_string();
    assert!(refused.contains("asks nothing") && refused.contains("report"), "{refused}");
}
