//! The sink in an agent, and receivers that do what a test says.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

#[path = "../reader/mod.rs"]
mod reader;
mod replies;
mod requests;
mod server;
mod sink;
mod spooled;
mod trials;
