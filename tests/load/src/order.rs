//! What is asked for on the command line.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;

use ebpf_process_tests::{Failure, Outcome};

use crate::crowd::Shape;

pub(crate) const USAGE: &str = "usage: cargo xtask load [--rows N] [--columns N] [--histograms N] [--replaced PERCENT] \
    [--seconds SECONDS] [--sinks NAME,...] [--scrape TICKS] [--bound WHAT=NUMBER]... [--warn] [--still | --netdata]";

/// The types of sink, each of which has a receiver.
const SINKS: [&str; 6] = ["netdata", "statsd", "influx", "otlp", "prometheus", "json"];

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) shape: Shape,
    pub(crate) seconds: u32,
    pub(crate) sinks: Vec<String>,
    /// From one scrape to the next, in ticks.
    pub(crate) scrape: u32,
    /// By what they bind; see [`bounds`].
    pub(crate) bounds: BTreeMap<String, f64>,
    /// Whether a bound that is passed is only said.
    pub(crate) warns: bool,
    pub(crate) way: Way,
}

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// All sinks, to loopback, with rows that come and go.
    Crowd,
    /// The same with values that stay, and what one of them costs.
    Still,
    /// A real netdata.
    Netdata,
    /// The plugin that this netdata starts, with the file for its report.
    Plugin(PathBuf),
}

impl Order {
    pub(crate) fn read(arguments: &[String]) -> Outcome<Self> {
        let has = |name: &str| arguments.iter().any(|argument| argument == name);
        let (way, shape) = match (has("--still"), has("--netdata") || has("--plugin")) {
            (false, false) => (Way::Crowd, Shape::CROWD),
            (true, false) => (Way::Still, Shape::STILL),
            (false, true) => (Way::Netdata, Shape::CHARTS),
            (true, true) => return Err(Failure::new(USAGE)),
        };
        let scrape = if way == Way::Still { 1 } else { 5 };
        let sinks = SINKS.map(str::to_owned).to_vec();
        let bounds = bounds(&way);
        let mut order = Self { shape, seconds: 60, sinks, scrape, bounds, warns: false, way };
        let mut rest = arguments.iter().map(String::as_str);
        while let Some(option) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| Failure::new(format!("{option} needs a value\n{USAGE}")));
            match option {
                "--still" | "--netdata" => {}
                "--warn" => order.warns = true,
                "--rows" => order.shape.rows = number(option, value()?)?,
                "--columns" => order.shape.columns = number(option, value()?)?,
                "--histograms" => order.shape.histograms = number(option, value()?)?,
                "--replaced" => order.shape.replaced = number(option, value()?)?,
                "--seconds" => order.seconds = number(option, value()?)?,
                "--scrape" => order.scrape = number(option, value()?)?,
                "--sinks" => order.sinks = sinks_of(value()?)?,
                "--bound" => order.bind(value()?)?,
                "--plugin" => order.way = Way::Plugin(value()?.into()),
                _ => return Err(Failure::new(format!("unknown option {option}\n{USAGE}"))),
            }
        }
        if order.shape.replaced > 100 || order.shape.rows == 0 || order.seconds == 0 || order.scrape == 0 {
            return Err(Failure::new(USAGE));
        }
        Ok(order)
    }

    fn bind(&mut self, text: &str) -> Outcome<()> {
        let known = self.bounds.keys().cloned().collect::<Vec<_>>().join(", ");
        let wrong = || Failure::new(format!("--bound {text}: expected WHAT=NUMBER with one of {known}"));
        let (what, limit) = text.split_once('=').ok_or_else(wrong)?;
        *self.bounds.get_mut(what).ok_or_else(wrong)? = limit.parse().map_err(|_| wrong())?;
        Ok(())
    }
}

/// What may be spent: milliseconds of processor time a tick for the collecting thread and each sink, in
/// [`Way::Still`] nanoseconds a value for each sink; MiB for `resident`, and for `growth` in the second half; percent of
/// a processor for netdata itself.
fn bounds(way: &Way) -> BTreeMap<String, f64> {
    let bounds: &[(&str, f64)] = match way {
        Way::Crowd => &[
            ("collecting", 8.0),
            ("netdata", 25.0),
            ("statsd", 40.0),
            ("influx", 25.0),
            ("otlp", 25.0),
            ("prometheus", 25.0),
            ("json", 25.0),
            ("resident", 128.0),
            ("growth", 8.0),
        ],
        Way::Still => &[
            ("netdata", 80.0),
            ("statsd", 120.0),
            ("influx", 120.0),
            ("otlp", 120.0),
            ("prometheus", 80.0),
            ("json", 80.0),
        ],
        Way::Netdata => &[("percent", 5.0)],
        Way::Plugin(_) => &[],
    };
    bounds.iter().map(|(what, limit)| ((*what).to_owned(), *limit)).collect()
}

fn number<T: FromStr>(option: &str, text: &str) -> Outcome<T> {
    text.parse().map_err(|_| Failure::new(format!("{option} {text}: expected a whole number\n{USAGE}")))
}

fn sinks_of(text: &str) -> Outcome<Vec<String>> {
    let names: Vec<&str> = text.split(',').filter(|name| *name != "none").collect();
    match names.iter().find(|name| !SINKS.contains(name)) {
        Some(unknown) => Err(Failure::new(format!("no sink {unknown:?}; there are {}", SINKS.join(", ")))),
        None => Ok(SINKS.iter().filter(|sink| names.contains(sink)).map(|sink| (*sink).to_owned()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Outcome<Order> {
        Order::read(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_bound_of_something_else_is_refused() {
        let order = read("--rows 7 --bound influx=3.5 --sinks json,influx").unwrap();
        assert_eq!((order.shape.rows, order.bounds["influx"]), (7, 3.5));
        assert_eq!(order.sinks, ["influx", "json"]);
        for wrong in ["--bound carbon=1", "--bound influx", "--still --bound resident=9", "--sinks carbon", "--rows"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
