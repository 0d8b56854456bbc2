//! The loop and what an agent consists of: for the program that runs one, and for tests that do.
//!
//! Not for plugins: a sink and a probe meet none of it. It changes with the agent, also where the rest of this crate stays
//! what it is (`docs/compatibility.md`).

pub use crate::agent::{Agent, Closed, Ended};
pub use crate::clock::{Clock, Moment, SystemClock, Ticker};
pub use crate::last_batch::LastBatch;
pub use crate::outlet_spec::{OutletSpec, WhenFull};
pub use crate::part::{Parts, ProbePart, Setting, SinkMaker, SinkPart};
pub use crate::remote::{NotApplied, Remote};
