//! A step, and the answer to it.

use std::time::Duration;

use serde_json::{Map, Value};
use zerobuffer_verification::{content, size_of, sum};

/// Fields of the answer, or an error's kind and message.
pub(crate) type Answer = Result<Map<String, Value>, (String, String)>;

pub(crate) struct Step(pub(crate) Value);

/// An error of the library, in the form of an answer.
pub(crate) fn told(error: zerobuffer::Error) -> (String, String) {
    (error.kind().name().to_owned(), error.to_string())
}

fn bad(what: &str) -> (String, String) {
    ("BadStep".to_owned(), what.to_owned())
}

/// An answer of these fields.
pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Answer {
    Ok(fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The description of bytes in an answer.
pub(crate) fn described(bytes: &[u8], sequence: u64) -> Answer {
    fields([("size", bytes.len().into()), ("sum", sum(bytes).into()), ("sequence", sequence.into())])
}

impl Step {
    pub(crate) fn id(&self) -> u64 {
        self.0["id"].as_u64().unwrap_or(0)
    }

    pub(crate) fn text(&self, key: &str) -> Result<&str, (String, String)> {
        self.0[key].as_str().ok_or_else(|| bad(&format!("`{key}` is missing")))
    }

    pub(crate) fn text_or<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.0[key].as_str().unwrap_or(default)
    }

    pub(crate) fn number(&self, key: &str, default: u64) -> u64 {
        self.0[key].as_u64().unwrap_or(default)
    }

    pub(crate) fn size(&self, key: &str, default: usize) -> usize {
        self.number(key, default as u64) as usize
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        !self.0[key].is_null()
    }

    pub(crate) fn flag(&self, key: &str) -> bool {
        self.0[key].as_bool().unwrap_or(false)
    }

    /// A time-out in milliseconds; a negative one has no limit.
    pub(crate) fn timeout(&self, key: &str) -> Duration {
        match self.0[key].as_i64() {
            None => Duration::from_secs(5),
            Some(ms) => u64::try_from(ms).map_or(Duration::MAX, Duration::from_millis),
        }
    }

    /// The bytes that the step is about: `text`, or the content of `seed` and `size`.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self.0["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => content(self.number("seed", 1), self.size("size", 0)),
        }
    }

    /// The frames of a stream: seed and size of each.
    pub(crate) fn stream(&self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let (first, count) = (self.number("seed", 1), self.number("count", 1));
        let (low, high) = (self.size("low", 1), self.size("high", 1));
        (first..first + count).map(move |seed| (seed, size_of(seed, low, high)))
    }
}
