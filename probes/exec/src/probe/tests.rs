//! The probe with real programs.

mod answers;
mod ends;
mod rig;
mod text;
