//! Logs: format and filter.

use tracing::Level;
use tracing_subscriber::filter::{EnvFilter, FilterExt, ParseError, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

use crate::args::LogFormat;

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
    let asked: EnvFilter = filter.parse()?;
    let is_open = filter_fn(|meta| {
        let krate = meta.target().split("::").next().unwrap_or_default();
        *meta.level() <= Level::WARN || !QUIET.contains(&krate)
    });
    let filter = asked.and(is_open);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(())
}
