//! Hostile names through every sink into the real receiver: one point each, nothing forged, and the receiver takes the
//! next batch. (netdata's plugin, which is read by its standard output, has a test of its own: `tests/netdata.rs`.)

mod influx;
mod otlp;
mod point;
mod prometheus;
mod source;
mod statsd;
