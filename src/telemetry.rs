//! Logs: format and filter.

use tracing::{Level, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::LogFormat;
use crate::modelarts::scrub;

/// Crates whose lines below `warn` may hold URLs or header values. A code is part of the reset URL.
const QUIET: &[&str] = &[
    "h2",
    "hyper",
    "hyper_util",
    "reqwest",
    "rustls",
    "tower",
    "tower_http",
    "kube_client",
];

/// Starts logging to standard error.
///
/// # Errors
/// When `filter` cannot be read.
pub fn start(format: LogFormat, filter: &str) -> Result<(), ParseError> {
    subscriber(format, filter, std::io::stderr).map(SubscriberInitExt::init)
}

/// What [`start`] installs, writing elsewhere.
///
/// # Errors
/// When `filter` cannot be read.
pub fn subscriber<W>(format: LogFormat, filter: &str, writer: W) -> Result<impl Subscriber + Send + Sync, ParseError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let asked: EnvFilter = filter.parse()?;
    let is_open = filter_fn(|meta| {
        let krate = meta.target().split("::").next().unwrap_or_default();
        *meta.level() <= Level::WARN || !QUIET.contains(&krate)
    });
    let filter = asked.and(is_open);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter)))
}

/// An error and its causes in one line, for a log field. The line formats differ in whether they show causes at all.
///
/// Causes may quote what an API server or a library was given, so they go through the scrubber like every other text.
pub fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = chain.map(ToString::to_string).collect();
    scrub(&texts.join(": "), &[])
}
