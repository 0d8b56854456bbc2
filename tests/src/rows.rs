//! What the tests know of each probe: a file for each, all of them in one list.

pub mod file;
pub mod mount;
pub mod process;
pub mod sync;

use crate::known::Rows;

/// Every probe's, in the order in which their metrics are listed.
pub static ROWS: [&Rows; 4] = [&file::ROWS, &process::ROWS, &sync::ROWS, &mount::ROWS];

/// The probes that run only where the configuration says so.
pub fn off_by_default() -> impl Iterator<Item = &'static str> {
    ROWS.iter().filter(|rows| !rows.is_default).map(|rows| rows.probe)
}

/// The settings that switch those on.
pub fn switched_on() -> impl Iterator<Item = String> {
    off_by_default().map(|probe| format!("probes.{probe}.enabled=true"))
}
