//! The configuration through its public interface: layers, meanings and refusals.

#![expect(clippy::expect_used, reason = "what a test sets up itself should stop it when it fails")]

mod common;
mod directory;
mod layers;
mod refusals;
