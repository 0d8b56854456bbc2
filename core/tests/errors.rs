//! What `?` makes of any error, and what becomes of the sink.

use std::error::Error;
use std::fmt;
use std::io;

use ebpf_process_core::testkit::Bench;
use ebpf_process_core::{
    BuildError, BuildErrorKind, Column, EntityKind, Options, OptionsError, ProbeError, ProbeResult, SinkError,
    SinkErrorKind, SinkResult, Unit,
};

/// An error with another one behind it.
#[derive(Debug)]
struct Outer(io::Error);

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no\nluck")
    }
}

impl Error for Outer {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.0)
    }
}

fn wrong_options() -> OptionsError {
    Options::none().refuse("path", "is wrong")
}

/// One error for each of these functions, by `?` alone.
fn all<R>() -> Vec<R>
where
    R: From<io::Error> + From<std::num::ParseIntError> + From<OptionsError> + From<Outer> + From<Box<Outer>>,
{
    let outer = || Outer(io::Error::other("disk full"));
    let tries: [fn() -> Result<(), R>; 3] = [
        || Err(io::Error::from(io::ErrorKind::BrokenPipe))?,
        || {
            "x".parse::<u8>()?;
            Ok(())
        },
        || Err(wrong_options())?,
    ];
    let mut errors: Vec<R> = tries.into_iter().filter_map(|attempt| attempt().err()).collect();
    errors.extend([R::from(outer()), R::from(Box::new(outer()))]);
    errors
}

#[test]
fn every_error_becomes_a_sinks_or_a_probes_and_says_what_lies_behind_it() {
    let texts = [
        "broken pipe",
        "invalid digit found in string",
        "options.path: is wrong",
        "no luck: disk full",
        "no luck: disk full",
    ];
    let shown: Vec<String> = all::<SinkError>().iter().map(ToString::to_string).collect();
    assert_eq!(shown, texts.map(|text| format!("cannot deliver a batch: {text}")));
    let shown: Vec<String> = all::<ProbeError>().iter().map(ToString::to_string).collect();
    assert_eq!(shown, texts.map(|text| format!("cannot collect: {text}")));
    let built = all::<BuildError>();
    assert_eq!(built.iter().map(ToString::to_string).collect::<Vec<_>>(), texts);
    assert!(built[0].source().is_some_and(<dyn Error + Send + Sync>::is::<io::Error>));
    assert!(SinkError::from(wrong_options()).source().is::<OptionsError>());
    assert!(ProbeError::from(wrong_options()).source().is::<OptionsError>());
}

#[test]
fn text_and_boxed_errors_are_causes_as_well() {
    let boxed = || Box::<dyn Error + Send + Sync>::from("it is full");
    let sink = || -> SinkResult { Err(SinkError::failed(boxed())) };
    let probe = || -> ProbeResult { Err(ProbeError::new(boxed())) };
    assert_eq!(sink().expect_err("an error").to_string(), "cannot deliver a batch: it is full");
    assert_eq!(probe().expect_err("an error").to_string(), "cannot collect: it is full");
    assert_eq!(SinkError::closed("gone").to_string(), "the receiver is gone: gone");
}

#[test]
fn only_who_says_so_closes_a_sink() {
    use io::ErrorKind;
    let kinds = [
        ErrorKind::BrokenPipe,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionAborted,
        ErrorKind::NotConnected,
        ErrorKind::UnexpectedEof,
        ErrorKind::WriteZero,
        ErrorKind::NotFound,
        ErrorKind::Interrupted,
        ErrorKind::StorageFull,
        ErrorKind::Other,
    ];
    for kind in kinds {
        assert_eq!(SinkError::from(io::Error::from(kind)).kind(), SinkErrorKind::Failed, "{kind}");
    }
    // Nor does any number of the system's.
    for number in 1..=133 {
        assert_eq!(SinkError::from(io::Error::from_raw_os_error(number)).kind(), SinkErrorKind::Failed, "{number}");
    }
    assert_eq!(SinkError::closed(io::Error::from(ErrorKind::Other)).kind(), SinkErrorKind::Closed);
}

#[test]
fn wrong_options_are_told_from_what_the_machine_cannot_do() {
    let kinds: Vec<BuildErrorKind> = all::<BuildError>().iter().map(BuildError::kind).collect();
    let mut expected = [BuildErrorKind::Refused; 5];
    expected[2] = BuildErrorKind::Options;
    assert_eq!(kinds, expected);
    assert_eq!(BuildError::from(wrong_options()).passing(true).kind(), BuildErrorKind::Options, "they stay wrong");
    let busy = BuildError::refused("it is busy", "wait").passing(true);
    assert!(busy.is_passing() && busy.kind() == BuildErrorKind::Passing);
    assert_eq!((busy.problem(), busy.way_out(), &*busy.to_string()), ("it is busy", "wait", "it is busy; wait"));
    assert_eq!(busy.passing(false).kind(), BuildErrorKind::Refused);
    let taken = BuildError::taken("port 80 is in use", "take another one");
    assert!(taken.is_passing() && taken.kind() == BuildErrorKind::Taken);
}

#[test]
fn a_probes_own_mistake_says_whose_it_is() {
    let mut bench = Bench::new();
    let recorder = bench.recorder();
    let mut declare = || -> Result<(), BuildError> {
        let kind = recorder.kind(EntityKind::new("disk").keys(["disk", "disk"]))?;
        recorder.column(kind, Column::counter("demo.calls", Unit::CALLS, "Calls"))?;
        Ok(())
    };
    let error = declare().expect_err("a label twice");
    assert!(error.to_string().ends_with("; this is a mistake in the probe, please report it"), "{error}");
}

#[test]
fn what_is_not_there_or_in_use_passes_and_everything_else_stays() {
    for (error, kind) in [
        (io::ErrorKind::NotFound, BuildErrorKind::Passing),
        (io::ErrorKind::AddrNotAvailable, BuildErrorKind::Passing),
        (io::ErrorKind::AddrInUse, BuildErrorKind::Taken),
        (io::ErrorKind::PermissionDenied, BuildErrorKind::Refused),
        (io::ErrorKind::Other, BuildErrorKind::Refused),
    ] {
        let build = || -> Result<(), BuildError> { Err(io::Error::from(error))? };
        assert_eq!(build().expect_err("an error").kind(), kind, "{error:?}");
    }
}
