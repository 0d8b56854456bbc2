//! The newest batch, for whoever asks between two ticks.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::batch::Batch;
use crate::selection::Selection;
use crate::view::{Projection, View};

/// The newest batch. Looking at it never delays the collecting thread.
#[derive(Debug, Default)]
pub struct LastBatch(Mutex<Option<Arc<Batch>>>);

impl LastBatch {
    /// Looks at all of the newest batch, under its own names; `None` before there is one.
    pub fn look<R>(&self, look: impl FnOnce(&View<'_>) -> R) -> Option<R> {
        let batch = self.get()?;
        let projection = Projection::new(&Selection::default(), &batch.table);
        Some(look(&View::new(&batch, &projection, batch.elapsed())))
    }

    pub(crate) fn get(&self) -> Option<Arc<Batch>> {
        self.0.lock().clone()
    }

    pub(crate) fn set(&self, batch: &Arc<Batch>) {
        *self.0.lock() = Some(Arc::clone(batch));
    }
}
