//! Logs: format and filter, which may change while the program runs.

mod dial;

use std::io::{self, Write};
use std::path::PathBuf;

use tracing::{Level, Subscriber};
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

pub use self::dial::{BadFilter, Dial};
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

/// What of these libraries is only a warning is told by ourselves: the first one warns at each try of a watch that is
/// forbidden, the second one with a whole answer, codes included, where it cannot read it.
const TOLD_BY_US: [&str; 2] = ["kube_runtime::watcher", "kube_client::client"];

/// Starts logging to standard error. The filter is `filter`, or what the file `from` says from now on.
///
/// # Errors
/// When `filter` cannot be read; a file that cannot is told in the log.
pub fn start(format: LogFormat, filter: &str, from: Option<PathBuf>) -> Result<(), BadFilter> {
    let (lines, mut dial) = subscriber(format, filter, std::io::stderr)?;
    lines.init();
    if let Some(file) = from {
        dial.look(&file);
        tokio::spawn(dial.follow(file));
    }
    Ok(())
}

/// What [`start`] installs, writing elsewhere, and what changes its filter.
///
/// # Errors
/// When `filter` cannot be read.
pub fn subscriber<W>(
    format: LogFormat,
    filter: &str,
    writer: W,
) -> Result<(impl Subscriber + Send + Sync, Dial), BadFilter>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (asked, handle) = reload::Layer::<_, Registry>::new(dial::parse(filter)?);
    // Beside what can be changed, so that it holds whatever is asked for.
    let is_open = filter_fn(|meta| {
        let krate = meta.target().split("::").next().unwrap_or_default();
        let is_told = *meta.level() == Level::WARN && TOLD_BY_US.contains(&meta.target());
        !is_told && (*meta.level() <= Level::WARN || !QUIET.contains(&krate))
    });
    let filter_of_all = asked.and(is_open);
    let lines = tracing_subscriber::fmt::layer().with_writer(OneLine(writer));
    let lines = match format {
        // There is one span, so that a list of spans would say everything twice.
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => lines.boxed(),
    };
    let lines = tracing_subscriber::registry().with(lines.with_filter(filter_of_all));
    Ok((lines, Dial::new(filter, handle)))
}

/// Writes each event as one line, whatever stands in it. The text format leaves line ends in a message as they are, so that
/// a name in a spec could forge a line; and both leave control characters that some terminals obey.
struct OneLine<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for OneLine<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }
}

impl<W: Write> Write for OneLine<W> {
    /// Takes one whole event, as the formats write it. Colours are the formatter's own: it lets no other escape through.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = String::with_capacity(text.len());
        for char in text.strip_suffix('\n').unwrap_or(&text).chars() {
            let is_kept = !char.is_control() && !matches!(char, '\u{2028}' | '\u{2029}');
            if is_kept || matches!(char, '\u{1b}' | '\t') {
                line.push(char);
            } else {
                line.extend(format!("\\u{:04x}", u32::from(char)).chars());
            }
        }
        line.push('\n');
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// An error and its causes in one line, for a log field. The line formats differ in whether they show causes at all.
///
/// Causes may quote what an API server or a library was given, so they go through the scrubber like every other text.
pub fn causes(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = chain.map(ToString::to_string).collect();
    scrub(&texts.join(": "), &[])
}
