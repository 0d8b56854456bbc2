//! The two formats of a page, and which one a scrape asks for.

/// How a page is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus's own text, version 0.0.4: every scraper reads it.
    Text,
    /// `OpenMetrics` 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a reply in this format says it is.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Whether the values of a request's `Accept` headers ask for what a person reads: HTML, or anything
    /// at all as curl does. A scraper takes anything as well, but names its formats first: one that
    /// was aimed at the wrong path must learn of it.
    pub(crate) fn is_for_people<'a>(accept: impl Iterator<Item = &'a str>) -> bool {
        let (mut person, mut scraper) = (false, false);
        for range in accept.flat_map(|value| value.split(',')) {
            match range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
                "text/html" | "*/*" => person = true,
                "text/plain" | "application/openmetrics-text" => scraper = true,
                _ => {}
            }
        }
        person && !scraper
    }

    /// The format that the values of a request's `Accept` headers prefer; text if they name neither.
    pub(crate) fn negotiate<'a>(accept: impl Iterator<Item = &'a str>) -> Self {
        let (mut text, mut openmetrics) = (0.0, 0.0);
        for range in accept.flat_map(|value| value.split(',')) {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default().to_ascii_lowercase();
            let (mut quality, mut version) = (1.0, None);
            for (key, value) in parts.filter_map(|part| part.split_once('=')) {
                let value = value.trim().trim_matches('"');
                match key.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.parse::<f32>().ok().filter(|q| (0.0..=1.0).contains(q)).unwrap_or(0.0),
                    "version" => version = Some(value),
                    _ => {}
                }
            }
            match (name.as_str(), version) {
                ("application/openmetrics-text", None | Some("1.0.0")) => openmetrics = quality.max(openmetrics),
                ("text/plain", None | Some("0.0.4")) => text = quality.max(text),
                _ => {}
            }
        }
        if openmetrics > 0.0 && openmetrics >= text { Self::OpenMetrics } else { Self::Text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scrape_gets_the_format_that_it_prefers() {
        let prometheus_2 = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                            text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
                            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            (&[][..], Format::Text),
            (&["*/*"], Format::Text),
            (&["text/html, */*;q=0.8"], Format::Text),
            (&["application/openmetrics-text"], Format::OpenMetrics),
            (&["Application/OpenMetrics-Text ; Version = \"1.0.0\" ; q = 1"], Format::OpenMetrics),
            (&["application/openmetrics-text; version=0.0.1"], Format::Text),
            (&["application/openmetrics-text; q=0"], Format::Text),
            (&["application/openmetrics-text; q=many"], Format::Text),
            (&["application/openmetrics-text; q=0.2, text/plain"], Format::Text),
            (&["text/plain", "application/openmetrics-text"], Format::OpenMetrics),
            (&[prometheus_2], Format::OpenMetrics),
            (&[prometheus_3], Format::OpenMetrics),
            (&[",;=,q=;"], Format::Text),
        ] {
            assert_eq!(Format::negotiate(accept.iter().copied()), format, "{accept:?}");
        }
    }
}
