//! The wait for an answer, which ends when the agent does.

use std::time::{Duration, Instant};

use ebpf_process_core::Stop;
use ureq::Error;
use ureq::unversioned::transport::time::Duration as Limit;
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, NextTimeout, Transport};

/// How often it is looked whether the agent stops.
const LOOK: Duration = Duration::from_millis(100);

/// A link above the socket. An answer is waited for no longer than half of what is left of the grace period, also where
/// the request was under way when the agent began to stop: the rest is for whatever else is to be sent, kept on disk
/// or counted.
#[derive(Debug)]
pub(crate) struct Patience(pub(crate) Stop);

impl<In: Transport> Connector<In> for Patience {
    type Out = PatientTransport<In>;

    fn connect(&self, _: &ConnectionDetails<'_>, chained: Option<In>) -> Result<Option<Self::Out>, Error> {
        Ok(chained.map(|inner| PatientTransport { inner, stop: self.0.clone() }))
    }
}

/// See [`Patience`].
#[derive(Debug)]
pub(crate) struct PatientTransport<In> {
    inner: In,
    stop: Stop,
}

impl<In: Transport> Transport for PatientTransport<In> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.inner.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.inner.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let begun = Instant::now();
        let mut limit = timeout.not_zero().map(|limit| *limit);
        let mut hurries = false;
        loop {
            if let Some(grace) = self.stop.remaining().filter(|_| !hurries) {
                hurries = true;
                let end = begun.elapsed() + grace / 2;
                limit = Some(limit.map_or(end, |limit| limit.min(end)));
            }
            let left = limit.map_or(LOOK, |limit| limit.saturating_sub(begun.elapsed()));
            if left.is_zero() {
                return Err(Error::Timeout(timeout.reason));
            }
            match self.inner.await_input(NextTimeout { after: Limit::Exact(left.min(LOOK)), ..timeout }) {
                Err(Error::Timeout(_)) => {}
                outcome => return outcome,
            }
        }
    }

    fn is_open(&mut self) -> bool {
        self.inner.is_open()
    }

    fn is_tls(&self) -> bool {
        self.inner.is_tls()
    }
}
