//! Runs the whole program.

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use ebpf_process_core::Identity;
use tracing::error;

use crate::app::App;
use crate::exit::Exit;
use crate::log::{self, Reader, Verbosity};
use crate::{cli, plugin, privileges};

impl App {
    /// Runs the program with the arguments of this process and returns its exit code: 0 fine, 1 it
    /// cannot run here or a fatal error, 2 the command line or the configuration is wrong.
    ///
    /// Call it once, on the main thread, before any other thread exists: probes may fork while they are
    /// built, and the name is that of the process from then on.
    pub fn run(self) -> ExitCode {
        self.run_with(std::env::args_os())
    }

    /// The same with other arguments, the program's name first.
    pub fn run_with(self, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        self.dispatch(&arguments).into()
    }

    pub(crate) fn dispatch(&self, arguments: &[OsString]) -> Exit {
        let named = self.identity.clone().is_some_and(Identity::take);
        if !named {
            log::start(Verbosity::Info, Reader::of_stderr());
            error!(
                "{:?} is no name for this program, or not its first one: a name has lower-case letters, digits and \"-\", with a \
                 letter first; this is a mistake in the program",
                self.name
            );
            return Exit::Usage;
        }
        privileges::raise_descriptors();
        let program = if plugin::is_name(arguments.first()) { plugin::main } else { cli::main };
        // A panic must become an exit code: whoever dies of a signal is never restarted by netdata.
        catch_unwind(AssertUnwindSafe(|| program(self, arguments))).unwrap_or(Exit::Failed)
    }
}
