//! The checks by name, in the order in which they are made.

/// A check of the kit: a row of its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Row {
    /// The sink takes a batch, flushes and closes in time.
    InTime,
    /// Whatever comes, no sample is lost without being in the ledger.
    Gaps,
    /// What is newer replaces what is older.
    Order,
    /// The batch that comes right before the end is delivered.
    LastBatch,
    /// A batch without samples changes nothing.
    EmptyView,
    /// What has no value in a batch gets none.
    AbsentCells,
    /// Numbers keep all their digits.
    LargeNumbers,
    /// Histograms have the counts of their slots.
    Histograms,
    /// A row that ends has its last value, and one that returns begins anew.
    RowsEnd,
    /// The end of a row that comes with a later batch is taken.
    LateFinal,
    /// Two rows stay two.
    TwinRows,
    /// No name forges a line or breaks the protocol.
    HostileNames,
    /// Ten thousand rows in one batch.
    ManyRows,
    /// A receiver that is slow.
    SlowPeer,
    /// Whatever the receiver answers.
    EachVerdict,
    /// Nothing is acknowledged before it has been sent.
    EarlyAck,
    /// What is acknowledged later than its batch.
    LateAck,
    /// Nothing is acknowledged twice.
    DoubleAck,
    /// Everything is acknowledged, or given up, before the end.
    MissingAck,
    /// A gain is added once.
    DeltaDoubled,
    /// Another sink takes over after the end of the first one.
    Restart,
    /// The selection changes, and another sink takes the place of the first one, while the agent runs.
    Reload,
    /// No method panics, and after a panic another sink works.
    Panic,
    /// Wrong options are refused, by `check` and by `build`.
    Refusal,
    /// `check` reads options and does nothing else.
    CheckHasNoEffect,
    /// Equal batches have equal output.
    Purity,
    /// Sinks that are built and dropped leave nothing behind.
    NoGrowth,
    /// The ledger's columns add up at each step.
    LedgerIdentity,
}

impl Row {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 28] = [
        Self::InTime,
        Self::Gaps,
        Self::Order,
        Self::LastBatch,
        Self::EmptyView,
        Self::AbsentCells,
        Self::LargeNumbers,
        Self::Histograms,
        Self::RowsEnd,
        Self::LateFinal,
        Self::TwinRows,
        Self::HostileNames,
        Self::ManyRows,
        Self::SlowPeer,
        Self::EachVerdict,
        Self::EarlyAck,
        Self::LateAck,
        Self::DoubleAck,
        Self::MissingAck,
        Self::DeltaDoubled,
        Self::Restart,
        Self::Reload,
        Self::Panic,
        Self::Refusal,
        Self::CheckHasNoEffect,
        Self::Purity,
        Self::NoGrowth,
        Self::LedgerIdentity,
    ];

    /// The check's name, as it stands in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InTime => "flush and close in time",
            Self::Gaps => "gaps",
            Self::Order => "order",
            Self::LastBatch => "last batch at close",
            Self::EmptyView => "empty view",
            Self::AbsentCells => "absent cells",
            Self::LargeNumbers => "u64::MAX",
            Self::Histograms => "histograms",
            Self::RowsEnd => "rows that end and return",
            Self::LateFinal => "a late final",
            Self::TwinRows => "two rows of equal cleaned text",
            Self::HostileNames => "hostile names",
            Self::ManyRows => "10,000 rows",
            Self::SlowPeer => "slow peer",
            Self::EachVerdict => "each verdict",
            Self::EarlyAck => "early acknowledgement",
            Self::LateAck => "late acknowledgement",
            Self::DoubleAck => "double acknowledgement",
            Self::MissingAck => "missing acknowledgement",
            Self::DeltaDoubled => "delta doubled after a retry",
            Self::Restart => "restart in the middle",
            Self::Reload => "reload in the middle",
            Self::Panic => "panic",
            Self::Refusal => "refusal at build",
            Self::CheckHasNoEffect => "check without side effects",
            Self::Purity => "purity",
            Self::NoGrowth => "no growth of threads, descriptors, memory",
            Self::LedgerIdentity => "the ledger's identity at each step",
        }
    }

    /// What is expected of the sink.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::InTime => "a batch is settled, and flush and close return",
            Self::Gaps => "what the ledger says is written can be read back, batch after batch",
            Self::Order => "of batches that waited the newest totals are there",
            Self::LastBatch => "the batch before the end can be read back",
            Self::EmptyView => "no error, and nothing changes at the receiver",
            Self::AbsentCells => "what has no value keeps what it had",
            Self::LargeNumbers => "each number as it was, to the last digit",
            Self::Histograms => "the counts of the slots, their number and their sum",
            Self::RowsEnd => "the last value, then totals that begin at 0 again",
            Self::LateFinal => "a row's last value, with the batch after the one that was lost",
            Self::TwinRows => "two series, each with its own total",
            Self::HostileNames => "each name is one series, and nothing else is there",
            Self::ManyRows => "each row can be read back",
            Self::SlowPeer => "the batches arrive all the same",
            Self::EachVerdict => "what was refused is in the ledger, and the next batch arrives",
            Self::EarlyAck => "what is acknowledged can be read back, though the sink gets no further call",
            Self::LateAck => "what is settled later is settled once, and can be read back",
            Self::DoubleAck => "no more is settled than was given",
            Self::MissingAck => "after the end nothing is unsettled",
            Self::DeltaDoubled => "no total is larger than what was counted",
            Self::Restart => "what both sinks were given can be read back",
            Self::Reload => "what was given before and after can be read back",
            Self::Panic => "no method panics; after one by force a new sink works",
            Self::Refusal => "no panic, and both refuse the same options",
            Self::CheckHasNoEffect => "the same answer each time; no file, thread, descriptor or number more",
            Self::Purity => "two sinks with equal batches have equal output",
            Self::NoGrowth => "as many threads and descriptors as before, and no more memory",
            Self::LedgerIdentity => "offered is the sum of the columns",
        }
    }

    /// Whether it can be judged only by what has arrived.
    pub(super) const fn needs_readings(self) -> bool {
        !matches!(
            self,
            Self::InTime
                | Self::DoubleAck
                | Self::MissingAck
                | Self::Panic
                | Self::Refusal
                | Self::CheckHasNoEffect
                | Self::NoGrowth
                | Self::LedgerIdentity
        )
    }
}
