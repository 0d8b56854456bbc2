//! The text format of `OpenMetrics`, and that of Prometheus before it, which differ in what is read here by the name of a
//! counter's family alone.
//!
//! A reader of our own: it takes a text of any length in one pass, knows no recursion, and what it refuses it names.

use std::collections::{BTreeMap, HashMap};

use crate::answer::{Distribution, Value};
use crate::decimal::decimal;
use crate::point::{Found, Point, key_of, name_of, unit_of};
use crate::spec::{Numbers, Spec, slots};

/// What is said of a family before its numbers.
#[derive(Debug, Default)]
struct Family<'a> {
    kind: Option<&'a str>,
    help: String,
    unit: Option<&'a str>,
}

/// One line with a number.
#[derive(Debug, PartialEq)]
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: &'a str,
}

/// The numbers of one histogram, as they come.
#[derive(Debug, Default)]
struct Buckets<'a> {
    /// Bound and count, each as it is written.
    counts: Vec<(String, &'a str)>,
    sum: Option<&'a str>,
}

/// A family and labels.
type Of<'a> = (&'a str, Vec<(&'a str, String)>);

/// Reads a text without its end. An error says which line cannot be read.
pub(crate) fn read(text: &str) -> Result<Found, String> {
    let mut families: HashMap<&str, Family<'_>> = HashMap::new();
    let mut histograms: BTreeMap<Of<'_>, Buckets<'_>> = BTreeMap::new();
    let mut found = Found::default();
    for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let wrong = |problem: &str| format!("line {} of the answer {problem}", index + 1);
        if let Some(comment) = line.strip_prefix('#') {
            describe(comment, &mut families);
            continue;
        }
        let sample = sample(line).map_err(wrong)?;
        let (name, family, part) = belongs(sample.name, &families);
        let kind = family.and_then(|family| family.kind).unwrap_or("unknown");
        match (kind, part) {
            ("summary", _) => found.refuse(&name_of(name), "it is a summary, whose quantiles cannot be added up"),
            ("gaugehistogram", _) => found.refuse(&name_of(name), "it is a histogram of levels"),
            (_, "created") => {}
            ("histogram", "bucket" | "sum" | "count") => {
                let (bound, labels) = sample.labels.into_iter().partition::<Vec<_>, _>(|(key, _)| *key == "le");
                let buckets = histograms.entry((name, labels)).or_default();
                match (part, bound.into_iter().next()) {
                    ("bucket", Some((_, bound))) => buckets.counts.push((bound, sample.value)),
                    ("bucket", None) => return Err(wrong("is a bucket without le")),
                    ("sum", _) => buckets.sum = Some(sample.value),
                    // The last bucket has it.
                    _ => {}
                }
            }
            ("histogram", _) => return Err(wrong("is no part of its histogram")),
            ("counter", _) => {
                let spec = spec(name, family, sample.labels, Numbers::Counter);
                // Whoever counts in parts of its unit, seconds apart, has the whole ones.
                let total = decimal(sample.value, spec.digits());
                let (total, _) = total.ok_or_else(|| wrong("is no total: expected a number from 0 on, below 2^64"))?;
                found.points.push(Point { spec, value: Value::Counter(total) });
            }
            _ => {
                let level: f64 = sample.value.parse().map_err(|_| wrong("has no number behind its name"))?;
                // What is no number is said by leaving it out.
                if level.is_finite() {
                    let spec = spec(sample.name, family, sample.labels, Numbers::Gauge);
                    found.points.push(Point { spec, value: Value::Gauge(level) });
                }
            }
        }
    }
    for ((name, labels), buckets) in histograms {
        match distribution(buckets) {
            Ok((numbers, value)) => {
                let spec = spec(name, families.get(name), labels, numbers);
                found.points.push(Point { spec, value });
            }
            Err(why) => found.refuse(&name_of(name), why),
        }
    }
    Ok(found)
}

/// Takes in a line behind its `#`. What is no description is a comment.
fn describe<'a>(comment: &'a str, families: &mut HashMap<&'a str, Family<'a>>) {
    let mut words = comment.trim_start().splitn(3, [' ', '\t']);
    let (Some(word), Some(name)) = (words.next(), words.next()) else { return };
    let text = words.next().unwrap_or_default();
    match word {
        "TYPE" => families.entry(name).or_default().kind = Some(text.trim()),
        "UNIT" => families.entry(name).or_default().unit = Some(text.trim()).filter(|unit| !unit.is_empty()),
        "HELP" => families.entry(name).or_default().help = unescaped(text),
        _ => {}
    }
}

/// To which family a sample belongs: its name, what is known of it, and which part of it the sample is. Where nothing is
/// known, the name is its own.
fn belongs<'a, 'b>(
    name: &'a str,
    families: &'b HashMap<&'a str, Family<'a>>,
) -> (&'a str, Option<&'b Family<'a>>, &'a str) {
    let known = |name: &str| families.get_key_value(name).filter(|(_, family)| family.kind.is_some());
    for (suffix, kinds) in [
        ("total", &["counter"][..]),
        ("created", &["counter", "histogram", "summary"]),
        ("bucket", &["histogram"]),
        ("sum", &["histogram", "summary"]),
        ("count", &["histogram", "summary"]),
        ("bucket", &["gaugehistogram"]),
        ("gsum", &["gaugehistogram"]),
        ("gcount", &["gaugehistogram"]),
        ("info", &["info"]),
    ] {
        let base = name.strip_suffix(suffix).and_then(|base| base.strip_suffix('_'));
        if let Some((base, family)) = base.and_then(known)
            && family.kind.is_some_and(|kind| kinds.contains(&kind))
        {
            return (base, Some(family), suffix);
        }
    }
    match known(name) {
        // Prometheus has the suffix in the family's name.
        Some((name, family)) if family.kind == Some("counter") => {
            (name.strip_suffix("_total").unwrap_or(name), Some(family), "")
        }
        Some((name, family)) => (name, Some(family), ""),
        None => (name, None, ""),
    }
}

fn spec(name: &str, family: Option<&Family<'_>>, labels: Vec<(&str, String)>, numbers: Numbers) -> Spec {
    let name = name_of(name);
    let unit = family.and_then(|family| family.unit).unwrap_or_else(|| unit_of(&name)).to_owned();
    let labels = labels.into_iter().map(|(key, value)| (key_of(key), value)).collect();
    Spec { name, labels, numbers, unit, help: family.map(|family| family.help.clone()).unwrap_or_default() }
}

/// A histogram out of its buckets, which count what is not above their bound.
fn distribution(buckets: Buckets<'_>) -> Result<(Numbers, Value), &'static str> {
    let Buckets { counts, sum } = buckets;
    let bound = |text: &str| {
        if text == "+Inf" {
            Some(None)
        } else {
            decimal(text, 0).filter(|(_, exact)| *exact).map(|(bound, _)| Some(bound))
        }
    };
    let whole = |text: &str| decimal(text, 0).map(|(whole, _)| whole);
    let others = "its bounds are not 2^k-1 for numbers k one after another, and +Inf";
    let bounds: Option<Vec<_>> = counts.iter().map(|(text, _)| bound(text)).collect();
    let (first, last) = bounds.and_then(|bounds| slots(&bounds)).ok_or(others)?;
    let no_total = "its buckets or its sum are no totals";
    let totals: Option<Vec<u64>> = counts.iter().map(|(_, text)| whole(text)).collect();
    let totals = totals.ok_or(no_total)?;
    let sum = sum.map_or(Some(0), whole).ok_or(no_total)?;
    let mut slots = vec![0; first.into()];
    let mut below = 0;
    for total in totals {
        slots.push(total.checked_sub(below).ok_or("a bucket has less than one below it")?);
        below = total;
    }
    Ok((Numbers::Histogram(first, last), Value::Histogram(Distribution { slots, sum })))
}

/// Reads a line with a number; its time and what stands behind it are nobody's.
fn sample(line: &str) -> Result<Sample<'_>, &'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '.');
    let end = line.find(|c| !is_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("does not begin with a name");
    }
    let (labels, rest) = match rest.trim_start_matches([' ', '\t']).strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let value = rest.split([' ', '\t']).find(|word| !word.is_empty()).ok_or("has no number behind its name")?;
    Ok(Sample { name, labels, value })
}

/// Labels up to their `}`, and what is behind that.
type Labels<'a> = (Vec<(&'a str, String)>, &'a str);

fn labels(mut rest: &str) -> Result<Labels<'_>, &'static str> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if let Some(behind) = rest.strip_prefix('}') {
            return Ok((labels, behind));
        }
        let (key, behind) = rest.split_once('=').ok_or("has labels that do not end")?;
        let key = key.trim_end();
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            return Err("has a label whose key is no word");
        }
        let quoted = behind.trim_start().strip_prefix('"').ok_or("has a label whose value is not in quotes")?;
        let mut escaped = false;
        let end = quoted.find(|c| {
            let ends = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            ends
        });
        let (value, behind) = quoted.split_at(end.ok_or("has a label whose value does not end")?);
        labels.push((key, unescaped(value)));
        rest = &behind[1..];
    }
}

fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut plain = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(other @ ('"' | '\\')) => plain.push(other),
                Some(other) => plain.extend(['\\', other]),
                None => plain.push('\\'),
            },
            (c, false) => plain.push(c),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(text: &str) -> Vec<(String, Value)> {
        let found = read(text).expect("right lines");
        assert_eq!(found.refused, []);
        found.points.into_iter().map(|point| (point.spec.name, point.value)).collect()
    }

    #[test]
    fn families_are_what_they_say_they_are() {
        let text = "# TYPE http_requests counter\n# HELP http_requests All \\\"of\\\" them.\\nReally.\n\
            http_requests_total{method=\"get\",path=\"/a \\\"b\\\" \\\\ }\"} 9007199254740993 1600000000.5 # {id=\"1\"} 1\n\
            http_requests_created{method=\"get\"} 1600000000\n\
            # TYPE cpu_seconds counter\n# UNIT cpu_seconds seconds\ncpu_seconds_total 12.345\n\
            # TYPE joules counter\njoules_total 12.9\n\
            # TYPE temp gauge\ntemp -3.5e1\ntemp{sensor=\"a\",} NaN\n\
            # TYPE build info\nbuild_info{version=\"1\"} 1\n\
            # TYPE mode stateset\nmode{mode=\"on\"} 1\n\
            Untyped:thing 7\n";
        let expected = [
            ("http_requests", Value::Counter(9_007_199_254_740_993)),
            ("cpu_seconds", Value::Counter(12_345_000_000)),
            ("joules", Value::Counter(12)),
            ("temp", Value::Gauge(-35.0)),
            ("build_info", Value::Gauge(1.0)),
            ("mode", Value::Gauge(1.0)),
            ("untyped_thing", Value::Gauge(7.0)),
        ];
        assert_eq!(values(text), expected.map(|(name, value)| (name.to_owned(), value)));
        let found = read(text).expect("right lines");
        let labels = [("method", "get"), ("path", "/a \"b\" \\ }")];
        assert_eq!(found.points[0].spec.labels, labels.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!(found.points[0].spec.help, "All \"of\" them.\nReally.");
        assert_eq!(found.points[1].spec.unit, "seconds");
    }

    #[test]
    fn prometheus_has_the_suffix_in_the_family() {
        let text =
            "# HELP reads_total Reads.\n# TYPE reads_total counter\nreads_total 5\n# TYPE lost counter\nlost 2\n";
        let expected = [("reads", Value::Counter(5)), ("lost", Value::Counter(2))];
        assert_eq!(values(text), expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn histograms_are_by_powers_of_two_and_all_others_are_refused_by_name() {
        let text = "# TYPE size histogram\n\
            size_bucket{a=\"x\",le=\"3\"} 1\nsize_bucket{a=\"x\",le=\"7.0\"} 4\nsize_bucket{a=\"x\",le=\"+Inf\"} 9\n\
            size_count{a=\"x\"} 9\nsize_sum{a=\"x\"} 77\nsize_created{a=\"x\"} 1\n";
        let distribution = Distribution { slots: vec![0, 1, 3, 5], sum: 77 };
        assert_eq!(values(text), [("size".to_owned(), Value::Histogram(distribution))]);
        let point = &read(text).expect("right lines").points[0];
        assert_eq!(point.spec.numbers, Numbers::Histogram(1, 3));
        assert_eq!(point.spec.labels, [("a".to_owned(), "x".to_owned())]);
        let text = "# TYPE other histogram\nother_bucket{le=\"0.1\"} 1\nother_bucket{le=\"+Inf\"} 1\n\
            # TYPE falls histogram\nfalls_bucket{le=\"1\"} 2\nfalls_bucket{le=\"+Inf\"} 1\n\
            # TYPE quantiles summary\nquantiles{quantile=\"0.5\"} 1\nquantiles_sum 4\n\
            # TYPE levels gaugehistogram\nlevels_bucket{le=\"1\"} 1\nlevels_gsum 3\n\
            fine 1\n";
        let found = read(text).expect("right lines");
        let names: Vec<_> = found.refused.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["quantiles", "quantiles", "levels", "levels", "falls", "other"]);
        assert_eq!(found.points.len(), 1);
    }

    #[test]
    fn what_cannot_be_read_is_said_with_its_line() {
        for (line, problem) in [
            ("1abc 1", "does not begin with a name"),
            ("é 1", "does not begin with a name"),
            ("abc", "has no number"),
            ("abc{} ", "has no number"),
            ("abc x", "has no number"),
            ("abc{a=\"1\" 1", "has labels that do not end"),
            ("abc{a=1} 1", "not in quotes"),
            ("abc{a b=\"1\"} 1", "no word"),
            ("abc{a=\"1\\\"} 1", "does not end"),
            ("# TYPE abc counter\nabc_total -1", "is no total"),
            ("# TYPE abc counter\nabc_total NaN", "is no total"),
            ("# TYPE abc histogram\nabc_bucket 1", "without le"),
            ("# TYPE abc histogram\nabc 1", "is no part"),
        ] {
            let error = read(&format!("first 1\n{line}\n")).expect_err(line);
            assert!(error.starts_with("line ") && error.contains(problem), "{line}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_numbers_or_an_error(text in "[ -~\n\té]{0,80}") {
            let _ = read(&text);
        }

        #[test]
        fn almost_right_texts_are_numbers_or_an_error(
            text in "((# (TYPE|UNIT|HELP) a(_total)? (counter|histogram|summary|seconds|.{0,4})\n)|\
                     (a(_total|_bucket|_sum|_count|_created)?([{](le|b)=\"[0-9+Inf\\\\\"]{0,4}\"[,}]{0,2})? [0-9.e+-]{0,6}\n)){0,6}"
        ) {
            let _ = read(&text);
        }

        #[test]
        fn labels_are_what_they_were(value in any::<String>()) {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            prop_assume!(!escaped.contains('\r'));
            let found = read(&format!("a{{b=\"{escaped}\"}} 1\n")).expect("a right line");
            prop_assert_eq!(&found.points[0].spec.labels, &[("b".to_owned(), value)]);
        }
    }
}
