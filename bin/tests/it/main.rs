//! The binary as a user sees it: arguments, environment, files and signals in; output and exit code out.
//!
//! Nothing here needs rights or a kernel: where an agent has to run, its own numbers are its only probe.

#![expect(clippy::expect_used, reason = "what a test sets up itself should stop it when it fails")]

mod agent;
mod broker;
mod elevated;
mod examples;
mod identity;
mod lifetime;
mod netdata;
mod notify;
mod openers;
mod output;
mod refusals;
mod rows;
mod sink_test;
mod spool;
mod status;
mod terminal;
mod trials;
mod two_agents;
mod watch;
