//! What a user asks of the API server, by the server's own audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::Result;
use serde_json::Value;

/// Requests by verb and resource, such as `get secrets`.
pub type Requests = BTreeMap<String, usize>;

/// Reads the log from where it stopped reading the last time.
pub struct Audit {
    log: PathBuf,
    user: &'static str,
    offset: u64,
    all: Requests,
}

impl Audit {
    /// Reads from the beginning.
    pub fn of(log: PathBuf, user: &'static str) -> Self {
        Self {
            log,
            user,
            offset: 0,
            all: Requests::new(),
        }
    }

    /// What the user asked since the last time.
    pub fn news(&mut self) -> Result<Requests> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut lines = BufReader::new(file);
        let mut news = Requests::new();
        let mut line = String::new();
        loop {
            line.clear();
            let read = lines.read_line(&mut line)?;
            // A line without its end is still being written.
            if read == 0 || !line.ends_with('\n') {
                break;
            }
            self.offset += u64::try_from(read)?;
            if !line.contains(self.user) {
                continue;
            }
            let entry: Value = serde_json::from_str(&line)?;
            if entry.pointer("/user/username").is_some_and(|name| name == self.user)
                && let Some(request) = request(&entry)
            {
                *news.entry(request).or_default() += 1;
            }
        }
        for (request, count) in &news {
            *self.all.entry(request.clone()).or_default() += count;
        }
        Ok(news)
    }

    /// All that was read so far.
    pub fn all(&self) -> &Requests {
        &self.all
    }
}

/// Verb and resource. A watch has a line when it starts and one when it ends, and counts by the first.
fn request(entry: &Value) -> Option<String> {
    let text = |place: &str| entry.pointer(place)?.as_str();
    let verb = text("/verb")?;
    let is_counted = (text("/stage")? == "ResponseStarted") == (verb == "watch");
    let resource = text("/objectRef/resource").filter(|_| is_counted)?;
    let sub = text("/objectRef/subresource").map(|sub| format!("/{sub}"));
    Some(format!("{verb} {resource}{}", sub.unwrap_or_default()))
}

/// As text, each count divided by `by`.
pub fn told(requests: &Requests, by: f64) -> String {
    if requests.is_empty() {
        return "none".to_owned();
    }
    let one = |(request, count): (&String, &usize)| format!("{request} {:.2}", as_float(*count) / by);
    requests.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Counts here are far below where this loses anything.
#[allow(clippy::cast_precision_loss, reason = "2^52 of anything are never counted here")]
pub fn as_float(count: usize) -> f64 {
    count as f64
}
