//! The newest batch, for whoever asks between two ticks.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::batch::Batch;
use crate::lens::Lens;
use crate::selection::Selection;
use crate::view::{KeptView, View};

/// The newest batch. Looking at it never delays the collecting thread.
#[derive(Debug, Default)]
pub struct LastBatch(Mutex<Option<Arc<Batch>>>);

impl LastBatch {
    /// Looks at all of the newest batch, under its own names; `None` before there is one.
    pub fn look<R>(&self, look: impl FnOnce(&View<'_>) -> R) -> Option<R> {
        let batch = self.get()?;
        let lens = Arc::new(Lens::new(&Selection::default(), &batch.live.layout, 0));
        Some(look(&KeptView::of(batch, lens).view()))
    }

    pub(crate) fn get(&self) -> Option<Arc<Batch>> {
        self.0.lock().clone()
    }

    pub(crate) fn set(&self, batch: &Arc<Batch>) {
        *self.0.lock() = Some(Arc::clone(batch));
    }
}
