//! What the program says.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::integers::Integers;
use crate::words::{Formats, Words};

/// The version of the protocol that is spoken here.
pub(crate) const VERSION: u64 = 1;

/// Batches that may be unanswered, at most.
const WIDEST: u64 = 64;

/// The longest that a program may ask to be left alone.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// A line of the program's.
#[derive(Debug, PartialEq)]
pub(crate) enum Message {
    /// What it wants, or why it cannot have that.
    Hello(Result<Hello, String>),
    /// What became of a batch; an error is what is wrong with the answer.
    Answer(Result<(u64, Answer), String>),
    /// It cannot work before somebody changes something.
    Fatal(String),
}

/// What a program wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) words: Words,
    /// How many batches may be unanswered.
    pub(crate) window: usize,
    /// Whether what has to be sent again holds back what is newer.
    pub(crate) ordered: bool,
}

/// What became of a batch.
#[derive(Debug, PartialEq)]
pub(crate) enum Answer {
    /// It has all of it.
    Accepted,
    /// It has all but these.
    Rejected(Vec<Rejection>),
    /// It wants nothing of it.
    RejectedWhole(String),
    /// It has nothing of it, and wants it again.
    Later(Duration, String),
    /// It is at it.
    Working,
}

/// A part of a batch that is refused.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "SaidRejection")]
pub(crate) struct Rejection {
    pub(crate) place: Place,
    pub(crate) reason: String,
}

/// Where in a batch something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A row, or its value in a column.
    Row(u64, Option<usize>),
    /// A line, from 0 on.
    Line(u64),
}

impl Rejection {
    /// The line that it is about.
    pub(crate) const fn line(&self) -> Option<u64> {
        match self.place {
            Place::Line(line) => Some(line),
            Place::Row(..) => None,
        }
    }
}

/// A refusal as it is said.
#[derive(Debug, Deserialize)]
struct SaidRejection {
    row: Option<u64>,
    column: Option<usize>,
    line: Option<u64>,
    #[serde(default)]
    reason: String,
}

impl TryFrom<SaidRejection> for Rejection {
    type Error = &'static str;

    fn try_from(said: SaidRejection) -> Result<Self, Self::Error> {
        let SaidRejection { row, column, line, reason } = said;
        let place = match (row, column, line) {
            (Some(row), column, None) => Place::Row(row, column),
            (None, None, Some(line)) => Place::Line(line),
            _ => return Err("each names a row, a row and a column, or a line"),
        };
        Ok(Self { place, reason })
    }
}

impl Message {
    /// Reads a line, in which one of these formats may be wanted; an error is what is wrong with it.
    pub(crate) fn read(line: &[u8], formats: Formats) -> Result<Self, &'static str> {
        let Ok(value) = serde_json::from_slice::<Value>(line) else { return Err("is no JSON") };
        let Value::Object(mut object) = value else { return Err("is no object") };
        if let Some(versions) = object.remove("ebpf_process") {
            Ok(Self::Hello(hello(&versions, &object, formats)))
        } else if let Some(reason) = object.get("fatal") {
            Ok(Self::Fatal(words(Some(reason))))
        } else if let Some(batch) = object.remove("batch") {
            let number = batch.as_u64().ok_or_else(|| "an answer's batch is no number".to_owned());
            Ok(Self::Answer(number.and_then(|number| Ok((number, answer(object)?)))))
        } else {
            Err("has none of the keys ebpf_process, batch and fatal")
        }
    }
}

fn hello(versions: &Value, object: &Map<String, Value>, formats: Formats) -> Result<Hello, String> {
    let spoken = versions.as_array().is_some_and(|versions| versions.iter().any(|it| it.as_u64() == Some(VERSION)));
    if !spoken {
        return Err(format!("no common version: this agent speaks [{VERSION}], the program {versions}"));
    }
    let integers = match object.get("integers").map(Value::as_str) {
        None | Some(Some("numbers")) => Integers::Numbers,
        Some(Some("text")) => Integers::Text,
        Some(_) => return Err("integers has to be \"numbers\" or \"text\"".to_owned()),
    };
    let format = object.get("format").and_then(Value::as_str);
    let words = format.and_then(|format| formats.of(format, integers));
    let words = words.ok_or_else(|| format!("format has to be {}", formats.names()))?;
    let window = object.get("window").map_or(Some(1), Value::as_u64).filter(|window| (1..=WIDEST).contains(window));
    let window = window.and_then(|window| usize::try_from(window).ok());
    let window = window.ok_or_else(|| format!("window has to be a number from 1 to {WIDEST}"))?;
    let ordered = object.get("ordered").map_or(Some(true), Value::as_bool);
    let ordered = ordered.ok_or("ordered has to be true or false")?;
    Ok(Hello { words, window, ordered })
}

fn answer(mut object: Map<String, Value>) -> Result<Answer, String> {
    let said: Vec<&str> =
        ["ok", "rejected", "retry_after", "working"].into_iter().filter(|word| object.contains_key(*word)).collect();
    let [word] = said[..] else {
        return Err(if said.is_empty() {
            "it says nothing of the batch".to_owned()
        } else {
            format!("it says {} at once", said.join(" and "))
        });
    };
    let reason = words(object.get("reason"));
    match (word, object.remove(word).unwrap_or_default()) {
        ("ok", Value::Bool(true)) => Ok(Answer::Accepted),
        ("working", Value::Bool(true)) => Ok(Answer::Working),
        ("rejected", Value::Bool(true)) => Ok(Answer::RejectedWhole(reason)),
        ("rejected", Value::Array(list)) => {
            let rejections = serde_json::from_value(Value::Array(list));
            rejections.map(Answer::Rejected).map_err(|error| format!("rejected cannot be read: {error}"))
        }
        ("retry_after", Value::Number(seconds)) => {
            let wait = seconds.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            let wait = wait.ok_or("retry_after has to be seconds")?;
            Ok(Answer::Later(wait.min(LONGEST_WAIT), reason))
        }
        (word, _) => Err(format!("its {word} cannot be that")),
    }
}

fn words(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(words)) => words.clone(),
        Some(other) => other.to_string(),
        None => "no reason given".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::encoding::{Encoding, Format};
    use crate::form::LineFormat;

    static PLAIN: [LineFormat; 1] = [LineFormat { name: "plain", form: |_| unreachable!("nothing is written") }];

    fn read(line: &str) -> Message {
        Message::read(line.as_bytes(), Formats(&PLAIN)).expect(line)
    }

    #[test]
    fn a_hello_says_what_the_program_wants() {
        let rows = Words::Json(Encoding { format: Format::Rows, integers: Integers::Numbers });
        let hello = |line| match read(line) {
            Message::Hello(hello) => hello,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            hello(r#"{"ebpf_process":[1],"format":"rows","colour":"red"}"#),
            Ok(Hello { words: rows, window: 1, ordered: true })
        );
        let all = r#"{"ebpf_process":[2,1],"format":"samples","window":64,"integers":"text","ordered":false}"#;
        let words = Words::Json(Encoding { format: Format::Samples, integers: Integers::Text });
        assert_eq!(hello(all), Ok(Hello { words, window: 64, ordered: false }));
        let plain = Hello { words: Words::Lines(PLAIN[0]), window: 1, ordered: true };
        assert_eq!(hello(r#"{"ebpf_process":[1],"format":"plain","integers":"text"}"#), Ok(plain));
        for (line, problem) in [
            (r#"{"ebpf_process":[2],"format":"rows"}"#, "no common version"),
            (r#"{"ebpf_process":1,"format":"rows"}"#, "no common version"),
            (r#"{"ebpf_process":[1],"format":"xml"}"#, r#"format has to be "rows", "samples" or "plain""#),
            (r#"{"ebpf_process":[1]}"#, "format"),
            (r#"{"ebpf_process":[1],"format":"rows","window":65}"#, "window"),
            (r#"{"ebpf_process":[1],"format":"rows","window":0}"#, "window"),
            (r#"{"ebpf_process":[1],"format":"rows","integers":"roman"}"#, "integers"),
            (r#"{"ebpf_process":[1],"format":"rows","ordered":1}"#, "ordered"),
        ] {
            assert!(hello(line).expect_err(line).contains(problem), "{line}");
        }
    }

    #[test]
    fn an_answer_says_one_thing() {
        let answer = |line: &str| match read(line) {
            Message::Answer(answer) => answer,
            other => panic!("{other:?}"),
        };
        assert_eq!(answer(r#"{"batch":1,"ok":true}"#), Ok((1, Answer::Accepted)));
        assert_eq!(answer(r#"{"batch":2,"working":true}"#), Ok((2, Answer::Working)));
        let whole = Answer::RejectedWhole("no".to_owned());
        assert_eq!(answer(r#"{"batch":3,"rejected":true,"reason":"no"}"#), Ok((3, whole)));
        let some = vec![
            Rejection { place: Place::Row(5, None), reason: "old".to_owned() },
            Rejection { place: Place::Row(6, Some(2)), reason: String::new() },
            Rejection { place: Place::Line(0), reason: String::new() },
        ];
        let line = r#"{"batch":4,"rejected":[{"row":5,"reason":"old"},{"row":6,"column":2},{"line":0}]}"#;
        assert_eq!(answer(line), Ok((4, Answer::Rejected(some))));
        let later = Answer::Later(Duration::from_millis(1500), "no reason given".to_owned());
        assert_eq!(answer(r#"{"batch":5,"retry_after":1.5}"#), Ok((5, later)));
        for wrong in [
            r#"{"batch":1}"#,
            r#"{"batch":1,"ok":true,"rejected":true}"#,
            r#"{"batch":1,"ok":false}"#,
            r#"{"batch":-1,"ok":true}"#,
            r#"{"batch":"1","ok":true}"#,
            r#"{"batch":1,"retry_after":-1}"#,
            r#"{"batch":1,"retry_after":"soon"}"#,
            r#"{"batch":1,"rejected":[{"line":-1}]}"#,
            r#"{"batch":1,"rejected":[{"line":1,"row":1}]}"#,
            r#"{"batch":1,"rejected":[{"column":1}]}"#,
            r#"{"batch":1,"rejected":[{}]}"#,
            r#"{"batch":1,"rejected":[{"row":1,"column":-1}]}"#,
        ] {
            assert!(answer(wrong).is_err(), "{wrong}");
        }
        let longest = Answer::Later(LONGEST_WAIT, "no reason given".to_owned());
        assert_eq!(answer(r#"{"batch":5,"retry_after":1e300}"#).ok().map(|_| ()), None, "no duration has so many");
        assert_eq!(answer(r#"{"batch":5,"retry_after":1e9}"#), Ok((5, longest)));
        assert_eq!(read(r#"{"fatal":"no table"}"#), Message::Fatal("no table".to_owned()));
    }

    proptest! {
        #[test]
        fn any_line_is_a_message_or_an_error(line in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = Message::read(&line, Formats(&PLAIN));
        }
    }
}
