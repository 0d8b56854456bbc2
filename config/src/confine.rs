//! What a process that has more rights than its caller may do for it by its sinks: write to standard output, and use
//! the network where a plugin says that it does nothing else.

use crate::error::ConfigError;
use crate::plan::Plan;

/// Refuses a plan whose sinks could do more for the caller than the caller may.
pub fn confine(plan: &Plan) -> Result<(), ConfigError> {
    let refused = plan.sinks.iter().find(|sink| !sink.claims.stdout && !sink.plugin.confined(&sink.options));
    match refused {
        None => Ok(()),
        Some(sink) => Err(ConfigError::Key(sink.options.refuse(
            "",
            "a sink of this type may open files, run programs or listen, which is refused to a program that was \
             started setuid or with file capabilities; run the agent as a service, or leave this sink out",
        ))),
    }
}
