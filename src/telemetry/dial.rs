//! The filter of the log, which a file may change while the program runs.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::{Registry, reload};

/// How often the file is looked at.
const PERIOD: Duration = Duration::from_secs(5);
/// The most that is read of the file, in bytes.
const LONGEST: u64 = 4096;

/// A filter that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadFilter {
    /// It breaks the syntax.
    #[error("it is no filter")]
    Syntax(#[from] tracing_subscriber::filter::ParseError),
    /// A part is a word alone and no level. It would be taken for a target, and a misspelt level so silence all others.
    #[error("{0} is no level (off, error, warn, info, debug, trace); a target is written as TARGET=LEVEL")]
    Level(String),
}

/// Reads a filter: a level, or targets with levels, divided by commas.
pub(super) fn parse(text: &str) -> Result<EnvFilter, BadFilter> {
    let filter = text.parse()?;
    let is_bare = |part: &&str| !part.contains(['=', '[']) && part.parse::<LevelFilter>().is_err();
    // A comma within the fields of a span divides nothing.
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    match parts.filter(|part| !part.contains([']', '{', '}'])).find(is_bare) {
        Some(word) => Err(BadFilter::Level(quoted(word))),
        None => Ok(filter),
    }
}

/// A word as it may be shown. The file may be a wrong one, a token's perhaps, so only what looks like a misspelt level or a
/// target is.
fn quoted(word: &str) -> String {
    let is_plain = word.len() <= 20
        && word
            .chars()
            .all(|char| char.is_ascii_lowercase() || char == '_' || char == ':');
    if is_plain {
        format!("{word:?}")
    } else {
        "a part of it".to_owned()
    }
}

/// Changes the filter of a subscriber.
pub struct Dial {
    handle: reload::Handle<EnvFilter, Registry>,
    /// What counts without a file.
    fallback: String,
    /// What counts now.
    present: String,
    /// What was wrong with the file when it was last looked at.
    problem: Option<String>,
}

impl Dial {
    pub(super) fn new(filter: &str, handle: reload::Handle<EnvFilter, Registry>) -> Self {
        Self {
            handle,
            fallback: filter.to_owned(),
            present: filter.to_owned(),
            problem: None,
        }
    }

    /// Looks at `file` every five seconds, for ever.
    pub async fn follow(mut self, file: PathBuf) {
        loop {
            tokio::time::sleep(PERIOD).await;
            let file = file.clone();
            // A file system that hangs must not hold up those who work.
            let looked = tokio::task::spawn_blocking(move || {
                self.look(&file);
                self
            });
            match looked.await {
                Ok(dial) => self = dial,
                Err(error) => {
                    tracing::error!(panicked = error.is_panic(), "the log's filter is not followed any more");
                    return;
                }
            }
        }
    }

    /// Takes the first line of `file` as the filter from now on, or `--log` where there is no such file or nothing in it.
    /// A filter that cannot be used leaves the present one. Each change and each problem is told once.
    pub fn look(&mut self, file: &Path) {
        let outcome = first_line(file).map_err(|error| error.to_string());
        let outcome = outcome.and_then(|line| self.turn(line.as_deref().unwrap_or(&self.fallback.clone())));
        let problem = outcome.err();
        if problem != self.problem
            && let Some(problem) = &problem
        {
            let (file, filter) = (file.display(), &self.present);
            tracing::warn!(%file, problem, filter, "the file with the log's filter cannot be used; the filter stays as it was");
        }
        self.problem = problem;
    }

    fn turn(&mut self, wanted: &str) -> Result<(), String> {
        if wanted == self.present {
            return Ok(());
        }
        let filter = parse(wanted).map_err(|error| super::causes(&error))?;
        let before = std::mem::replace(&mut self.present, wanted.to_owned());
        // Told while it can be: one of the two filters may keep it back.
        let is_told = tracing::enabled!(Level::INFO);
        let tell = || tracing::info!(filter = wanted, before, "the log's filter was changed");
        if is_told {
            tell();
        }
        self.handle.reload(filter).map_err(|error| error.to_string())?;
        if !is_told {
            tell();
        }
        Ok(())
    }
}

/// The first line of the file, if there is one with something in it.
fn first_line(file: &Path) -> std::io::Result<Option<String>> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut text = String::new();
    opened.take(LONGEST).read_to_string(&mut text)?;
    let line = text.lines().next().unwrap_or_default().trim();
    Ok(Some(line.to_owned()).filter(|line| !line.is_empty()))
}

#[cfg(test)]
mod tests;
