//! For whom a program works.

/// The sink or the probe that has the program: each line of the log about it says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A sink, by its name in the configuration.
    Sink(String),
    /// A probe, by its name in the configuration.
    Probe(String),
}

impl Owner {
    /// The name, where it is a sink's: a field of a line of the log.
    pub fn sink(&self) -> Option<&str> {
        match self {
            Self::Sink(name) => Some(name),
            Self::Probe(_) => None,
        }
    }

    /// The name, where it is a probe's: a field of a line of the log.
    pub fn probe(&self) -> Option<&str> {
        match self {
            Self::Probe(name) => Some(name),
            Self::Sink(_) => None,
        }
    }
}
