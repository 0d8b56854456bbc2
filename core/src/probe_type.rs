//! A type of probe from its options and a function.

use std::fmt;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::access::Access;
use crate::entity::Declared;
use crate::error::BuildError;
use crate::option_doc::OptionDoc;
use crate::options::{Options, OptionsError};
use crate::probe::{Probe, ProbeContext, ProbePlugin};

/// What a type of probe says of itself, by its options.
type Says<O, T> = Box<dyn Fn(&O) -> Vec<T> + Send + Sync>;

/// A type of probe that is its options, its columns and a function which makes a probe. Who has more to say, such as what
/// needs more rights than the agent keeps, implements [`ProbePlugin`].
pub struct ProbeType<O, F> {
    name: String,
    summary: String,
    is_default: bool,
    columns: Says<O, Declared>,
    make: F,
    keys: fn() -> Vec<OptionDoc>,
    opens: Says<O, Access>,
    options: PhantomData<fn() -> O>,
}

impl<O, F, P> ProbeType<O, F>
where
    O: DeserializeOwned + 'static,
    F: Fn(O, &mut ProbeContext<'_>) -> Result<P, BuildError> + Send + Sync,
    P: Probe + 'static,
{
    /// A type of this name (lower-case, one word), with a line for `list probes`. `make` is called whenever a probe is
    /// built; what it is given has been read as `O`, best with `#[serde(deny_unknown_fields)]`.
    pub fn new(name: impl Into<String>, summary: impl Into<String>, make: F) -> Self {
        Self {
            name: name.into(),
            summary: summary.into(),
            is_default: true,
            columns: Box::new(|_| Vec::new()),
            make,
            keys: Vec::new,
            opens: Box::new(|_| Vec::new()),
            options: PhantomData,
        }
    }

    /// It runs where `probes.NAME.enabled = true` says so.
    #[must_use]
    pub fn off_by_default(self) -> Self {
        Self { is_default: false, ..self }
    }

    /// The columns that it declares with these options. `list metrics` shows them, and `check` knows by them what a
    /// sink's selection asks for; see [`ProbePlugin::catalog`].
    #[must_use]
    pub fn columns<I>(mut self, columns: impl Fn(&O) -> I + Send + Sync + 'static) -> Self
    where
        I: IntoIterator<Item = Declared>,
    {
        self.columns = Box::new(move |options| columns(options).into_iter().collect());
        self
    }

    /// What it opens with these options while it runs: see [`SinkPlugin::opens`](crate::SinkPlugin::opens).
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

impl<O, F, P> ProbePlugin for ProbeType<O, F>
where
    O: DeserializeOwned + 'static,
    F: Fn(O, &mut ProbeContext<'_>) -> Result<P, BuildError> + Send + Sync,
    P: Probe + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn summary(&self) -> &str {
        &self.summary
    }

    fn is_default(&self) -> bool {
        self.is_default
    }

    fn options(&self) -> Vec<OptionDoc> {
        (self.keys)()
    }

    fn opens(&self, options: &Options) -> Vec<Access> {
        options.extract().map(|options| (self.opens)(&options)).unwrap_or_default()
    }

    fn catalog(&self, options: &Options) -> Result<Vec<Declared>, OptionsError> {
        Ok((self.columns)(&options.extract()?))
    }

    fn build(&self, options: &Options, mut context: ProbeContext<'_>) -> Result<Box<dyn Probe>, BuildError> {
        Ok(Box::new((self.make)(options.extract()?, &mut context)?))
    }
}

impl<O, F> fmt::Debug for ProbeType<O, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeType").field("name", &self.name).finish_non_exhaustive()
    }
}
