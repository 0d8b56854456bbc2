//! How bytes become numbers: the formats of lines.

mod graphite;
mod influx;
mod prometheus;
mod statsd;
mod value;

use std::str::from_utf8;

use crate::sink_test::receive::stored::{Point, Says};

use value::value;

/// A format of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// `name{labels} value`, whatever name and labels are.
    Lines,
    /// InfluxDB's line protocol.
    Influx,
    /// StatsD in all dialects: counters add up.
    Statsd,
    /// Graphite's `path value time`.
    Graphite,
    /// Prometheus's text format, and `OpenMetrics`.
    Prometheus,
}

impl Format {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Influx => "influx",
            Self::Statsd => "statsd",
            Self::Graphite => "graphite",
            Self::Prometheus => "prometheus",
        }
    }

    /// The numbers of some lines. An error says what is not by the rules: nothing of them counts then.
    pub(super) fn read(self, bytes: &[u8]) -> Result<Vec<Point>, String> {
        let text = from_utf8(bytes).map_err(|error| format!("no text, but other bytes: {error}"))?;
        if self == Self::Influx {
            return influx::read(text);
        }
        let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
        let mut points = Vec::new();
        for line in lines.filter(|line| !line.trim().is_empty()) {
            let outcome = match self {
                Self::Statsd => statsd::read(line, &mut points),
                Self::Graphite => graphite::read(line, &mut points),
                Self::Prometheus => prometheus::read(line, &mut points),
                Self::Lines | Self::Influx => plain(line, &mut points),
            };
            outcome.map_err(|problem| format!("no line of {}, {problem}: {line}", self.name()))?;
        }
        Ok(points)
    }
}

/// The value is what stands behind the last blank.
fn plain(line: &str, points: &mut Vec<Point>) -> Result<(), &'static str> {
    let (text, number) = line.trim_end().rsplit_once(' ').ok_or("no blank before a value")?;
    points.push(Point::new(text.trim(), Says::Is(None, value(number)?)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use ebpf_process_core::testkit::conformance::Number;

    use super::*;

    fn is(series: &str, time: Option<i64>, number: impl Into<Number>) -> Point {
        Point::new(series, Says::Is(time, number.into()))
    }

    fn gains(series: &str, number: impl Into<Number>) -> Point {
        Point::new(series, Says::Gains(number.into()))
    }

    #[test]
    fn each_format_is_read_by_its_rules() {
        let read = |format: Format, text: &str| format.read(text.as_bytes());
        assert_eq!(
            read(Format::Lines, "a.b{c=d e} 7\r\n\nb 1.5\n"),
            Ok(vec![is("a.b{c=d e}", None, 7_u64), is("b", None, 1.5)])
        );
        assert_eq!(
            read(
                Format::Influx,
                "m\\ n,k=v\\,w a=18446744073709551615u,b=-2i,c=0.5,d=\"x\ny\",e=t 1700000000000000000\nm a=3\n"
            ),
            Ok(vec![
                is("m n.a{k=v,w}", Some(1_700_000_000_000_000_000), u64::MAX),
                is("m n.b{k=v,w}", Some(1_700_000_000_000_000_000), -2_i64),
                is("m n.c{k=v,w}", Some(1_700_000_000_000_000_000), 0.5),
                is("m.a{}", None, 3.0),
            ])
        );
        assert_eq!(
            read(
                Format::Statsd,
                "a.b:17|c\na:2|c|@0.5|#t:v,w\na;t=v:1:2|c\ng:1.5|g\ng:-0.5|g\ng:+1|g\nt:320|ms|#t:v\n"
            ),
            Ok(vec![
                gains("a.b", 17_u64),
                gains("a{t:v,w}", 4.0),
                gains("a;t=v", 1_u64),
                gains("a;t=v", 2_u64),
                is("g", None, 1.5),
                gains("g", -0.5),
                gains("g", 1_u64),
                gains("t{t:v}", 1_u64),
            ])
        );
        assert_eq!(
            read(Format::Graphite, "a.b 18446744073709551615 1700000000\na;t=v 1.5 -1\n"),
            Ok(vec![is("a.b", Some(1_700_000_000), u64::MAX), is("a;t=v", None, 1.5)])
        );
        assert_eq!(
            read(
                Format::Prometheus,
                "# HELP a b\na_total{b=\"c} \\\" 9\",d=\"\"} 7\nb 1e3 1700000000000\nh_bucket{le=\"+Inf\"} 5 # {id=\"1\"} 3\n# EOF\n"
            ),
            Ok(vec![
                is("a_total{b=\"c} \\\" 9\",d=\"\"}", None, 7_u64),
                is("b", Some(1_700_000_000_000), 1000.0),
                is("h_bucket{le=\"+Inf\"}", None, 5_u64),
            ])
        );
    }

    #[test]
    fn what_is_not_by_the_rules_is_said_and_nothing_of_it_counts() {
        for (format, wrong) in [
            (Format::Lines, "a"),
            (Format::Lines, "a b"),
            (Format::Lines, "a NaN"),
            (Format::Influx, "m,k=v"),
            (Format::Influx, "m a=1 2 3"),
            (Format::Influx, "m,k=a b c=1"),
            (Format::Statsd, "a"),
            (Format::Statsd, ":1|c"),
            (Format::Statsd, "a b:1|c"),
            (Format::Statsd, "a:1"),
            (Format::Statsd, "a:x|c"),
            (Format::Statsd, "a:1|q"),
            (Format::Statsd, "a:-1|c"),
            (Format::Statsd, "a:1|c|@0"),
            (Format::Statsd, "a:1|c|what"),
            (Format::Graphite, "a 1"),
            (Format::Graphite, "a 1 2 3"),
            (Format::Graphite, "a x 1"),
            (Format::Graphite, "a 1 1.5x"),
            (Format::Graphite, "a\u{e9}\u{7}b 1 1"),
            (Format::Prometheus, "a"),
            (Format::Prometheus, "a.b 1"),
            (Format::Prometheus, "a{b=c} 1"),
            (Format::Prometheus, "a{b=\"c 1"),
            (Format::Prometheus, "a{b=\"c\"d=\"e\"} 1"),
            (Format::Prometheus, "a{b=\"\\c\"} 1"),
            (Format::Prometheus, "a 1 x"),
            (Format::Prometheus, "9a 1"),
        ] {
            let right = match format {
                Format::Lines | Format::Prometheus => "a 1\n",
                Format::Influx => "m a=1\n",
                Format::Statsd => "a:1|c\n",
                Format::Graphite => "a 1 1\n",
            };
            let outcome = format.read(format!("{right}{wrong}\n").as_bytes());
            let problem = outcome.expect_err(&format!("{wrong:?} is no line of {}", format.name()));
            assert!(problem.starts_with("no line of"), "{problem}");
        }
        assert!(Format::Lines.read(b"a\xff 1").is_err());
    }
}
