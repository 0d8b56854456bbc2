//! The sink whose items are packed into frames, which a delivery keeps until they have arrived.

use std::time::Instant;

use ebpf_process_core::{Legacy, Settlement, Sink, SinkError, View};

use crate::delivery::Delivery;
use crate::packer::{Limits, Packer};
use crate::submit::Submit;
use crate::undelivered::Undelivered;

/// Turns views into items.
pub trait Items: Send {
    /// Gives each item of a view to `take`, in order, with the number of samples that it carries. What of the view is in
    /// no item and never will be is the ledger's to know before this returns.
    fn encode(&mut self, view: &View<'_>, take: &mut dyn FnMut(&[u8], u32));
}

/// Packs the items of each view into frames and has them delivered; on the sink's thread. What is undelivered at the end
/// goes to a successor of the same kind.
#[derive(Debug)]
pub struct PackedSink<I, C> {
    items: I,
    packer: Packer,
    delivery: Delivery<C>,
}

impl<I: Items, C: Submit> PackedSink<I, C> {
    /// No frame is larger or waits longer for more items than the limits say.
    pub fn new(items: I, limits: Limits, delivery: Delivery<C>) -> Self {
        Self { items, packer: Packer::new(limits), delivery }
    }

    /// Has the delivery take what was waiting for more.
    fn offer_rest(&mut self) {
        if let Some(frame) = self.packer.take() {
            self.delivery.offer(frame);
        }
    }
}

impl<I: Items, C: Submit + Send> Sink for PackedSink<I, C> {
    fn write(&mut self, view: &View<'_>) -> Result<(), SinkError> {
        let Self { items, packer, delivery } = self;
        let now = Instant::now();
        items.encode(view, &mut |item, samples| {
            if let Some(frame) = packer.push(item, samples, now) {
                delivery.offer(frame);
            }
        });
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        if let Some(frame) = self.packer.take_due(Instant::now()) {
            self.delivery.offer(frame);
        }
        self.delivery.work();
        Ok(())
    }

    fn due(&self) -> Option<Instant> {
        self.packer.due().into_iter().chain(self.delivery.due()).min()
    }

    fn close(&mut self) -> Result<(), SinkError> {
        self.offer_rest();
        self.delivery.close();
        Ok(())
    }

    fn bequeath(&mut self) -> Option<Legacy> {
        self.offer_rest();
        let undelivered = self.delivery.bequeath();
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
