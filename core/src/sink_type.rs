//! A type of sink from its options and a function.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::access::Access;
use crate::error::BuildError;
use crate::option_doc::OptionDoc;
use crate::options::{Options, OptionsError};
use crate::sink::{Claims, Sink, SinkContext, SinkPlugin};

/// What a type of sink opens later, by its options.
type Opens<O> = Box<dyn Fn(&O) -> Vec<Access> + Send + Sync>;

/// A type of sink that is its options and a function which makes a sink of them. Who has more to say, such as how a sink is
/// tried out or that it takes standard output, implements [`SinkPlugin`].
///
/// ```
/// use std::io::{self, Write};
///
/// use ebpf_process_core::{Sink, SinkContext, SinkResult, SinkType, View};
///
/// /// Writes lines anywhere.
/// struct Lines<W>(W);
///
/// impl<W: Write + Send> Sink for Lines<W> {
///     fn write(&mut self, view: &View<'_>) -> SinkResult {
///         for sample in view.samples() {
///             writeln!(self.0, "{} {} {}", sample.name(), sample.labels(), sample.value())?;
///         }
///         Ok(())
///     }
/// }
///
/// #[derive(serde::Deserialize)]
/// #[serde(deny_unknown_fields)]
/// struct NoOptions {}
///
/// let lines = SinkType::new("lines", "counters as text", |_: NoOptions, _: SinkContext| Ok(Lines(io::stderr())));
/// # let _ = ebpf_process_core::Registry::default().sink(lines);
/// ```
pub struct SinkType<O, F> {
    name: String,
    summary: String,
    make: F,
    keys: fn() -> Vec<OptionDoc>,
    opens: Opens<O>,
    options: PhantomData<fn() -> O>,
}

impl<O, F, S> SinkType<O, F>
where
    O: DeserializeOwned + 'static,
    F: Fn(O, SinkContext) -> Result<S, BuildError> + Send + Sync,
    S: Sink + 'static,
{
    /// A type of this name (lower-case, one word), with a line for `list sinks`. `make` is called whenever a sink is built;
    /// what it is given has been read as `O`, best with `#[serde(deny_unknown_fields)]`.
    pub fn new(name: impl Into<String>, summary: impl Into<String>, make: F) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            make,
            keys: Vec::new,
            opens: Box::new(|_| Vec::new()),
            options: PhantomData,
        }
    }

    /// What it opens with these options: see [`SinkPlugin::opens`].
    #[must_use]
    pub fn opens<I: IntoIterator<Item = Access>>(mut self, opens: impl Fn(&O) -> I + Send + Sync + 'static) -> Self {
        self.opens = Box::new(move |options| opens(options).into_iter().collect());
        self
    }

    /// Its keys are in `list options`, as [`OptionDoc::of`] reads them from the type.
    #[must_use]
    pub fn documented(self) -> Self
    where
        O: JsonSchema,
    {
        Self { keys: OptionDoc::of::<O>, ..self }
    }
}

impl<O, F, S> SinkPlugin for SinkType<O, F>
where
    O: DeserializeOwned + 'static,
    F: Fn(O, SinkContext) -> Result<S, BuildError> + Send + Sync,
    S: Sink + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn summary(&self) -> &str {
        &self.summary
    }

    fn check(&self, options: &Options) -> Result<Claims, OptionsError> {
        options.extract::<O>().map(|_| Claims::default())
    }

    fn options(&self) -> Vec<OptionDoc> {
        (self.keys)()
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        options.extract().map(|options| (self.opens)(&options)).unwrap_or_default()
    }

    fn build(&self, options: &Options, context: SinkContext) -> Result<Box<dyn Sink>, BuildError> {
        Ok(Box::new((self.make)(options.extract()?, context)?))
    }
}

impl<O, F> fmt::Debug for SinkType<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SinkType").field("name", &self.name).finish_non_exhaustive()
    }
}
