//! What a server gets, and what becomes of it when the server misbehaves.

#![expect(clippy::expect_used, reason = "a test's own mistake should stop the test")]

mod changes;
mod faults;
mod files;
mod many;
mod replies;
mod requests;
mod server;
mod sink;
mod tls;
mod trials;
