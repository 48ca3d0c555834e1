//! T10, T15: texts that others wrote reach the log, statuses and events. There they forge no line, drive no terminal and
//! tell no secret, whatever the level and the format.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex};

use appcode_operator::api::ROTATE_REQUESTED_AT;
use appcode_operator::args::LogFormat;
use appcode_operator::telemetry;
use cloud_simulator::{Fault, Reply};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::util::SubscriberInitExt;

use crate::support::World;
use crate::support::api_server::SECRETS;
use crate::support::judge::{leaks, readable};
use crate::support::script::{Act, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};

/// Ends a line, starts another, moves the cursor, reorders what is read, ends the text for C.
const HOSTILE: &str = "x\r\n2026-01-01T00:00:00Z ERROR forged: all is lost\n{\"level\":\"ERROR\",\"message\":\"forged\"}\n\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}2J\u{2028}\u{0}\u{7f}y";

/// Keeps what is logged.
#[derive(Clone, Default)]
pub struct Kept(Arc<Mutex<Vec<u8>>>);

/// With one subscriber alone, a line whose place is first passed by a thread without any is switched off for all.
static ANOTHER: LazyLock<Dispatch> = LazyLock::new(|| Dispatch::new(NoSubscriber::default()));

impl Kept {
    /// Keeps what this thread logs, at the highest level, until the guard is dropped.
    pub fn start(&self, format: LogFormat) -> tracing::subscriber::DefaultGuard {
        self.start_at(format, "trace")
    }

    /// The same at another level.
    pub fn start_at(&self, format: LogFormat, filter: &str) -> tracing::subscriber::DefaultGuard {
        LazyLock::force(&ANOTHER);
        telemetry::subscriber(format, filter, self.clone())
            .unwrap()
            .0
            .set_default()
    }

    /// Keeps what any library logs too, without the operator's own filter.
    pub fn start_unfiltered(&self) -> tracing::subscriber::DefaultGuard {
        LazyLock::force(&ANOTHER);
        let all = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE);
        all.with_writer(self.clone()).set_default()
    }

    /// Each line of what was logged as JSON.
    pub fn lines(&self) -> Vec<Value> {
        let text = self.text();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Kept {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// Each line is one that we wrote: it starts as ours do, and holds nothing that a terminal obeys but our own colours.
fn assert_whole_lines(text: &str, format: LogFormat) {
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        let plain = match format {
            LogFormat::Json => {
                let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
                assert!(event["timestamp"].is_string() && event["level"].is_string(), "{line:?}");
                assert_ne!(event["message"], "forged");
                line.to_owned()
            }
            LogFormat::Text => {
                let plain = without_colours(line);
                let level = plain.split_whitespace().nth(1).unwrap_or_default();
                assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
                assert!(!plain.starts_with("2026-01-01"), "{line:?}");
                plain
            }
        };
        let is_safe = |char: char| !char.is_control() && !matches!(char, '\u{2028}' | '\u{2029}');
        assert!(plain.chars().all(is_safe), "{line:?}");
    }
}

/// Without what the formatter itself writes: `ESC [ digits m`.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.trim_start_matches(|char: char| char.is_ascii_digit());
        plain.push_str(digits.strip_prefix('m').unwrap_or("\u{1b}"));
    }
    plain
}

/// One operator that meets hostile texts everywhere: in the spec, in annotations, from the cloud and the API server.
async fn meets_hostile_texts() -> World {
    let mut world = World::settled().await;
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["appName"] = json!(HOSTILE);
        object["spec"]["appRemark"] = json!(HOSTILE);
        object["spec"]["rotationTrigger"] = json!(HOSTILE);
        object["metadata"]["annotations"][ROTATE_REQUESTED_AT] = json!(HOSTILE);
    });
    world.run_for(SignedDuration::from_hours(1)).await;
    assert_eq!(world.stalled().as_deref(), Some("AppNameMismatch"));
    let app = world.stage.app.clone();
    world.stage.cloud.with(|cloud| cloud.rename_app(&app, HOSTILE));
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    for status in [302, 400, 403, 500] {
        let said = format!("{HOSTILE} {}", world.live()[0]);
        let reply = Reply::from(status).code("ModelArts.1").message(&said);
        let fault = world
            .stage
            .cloud
            .with(|cloud| cloud.inject(Fault::status_before(reply)));
        world.stage.set_trigger(&status.to_string());
        world.run_for(SignedDuration::from_mins(3)).await;
        world.stage.cloud.with(|cloud| cloud.clear(fault));
    }
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    let forge = Act::new("the record is forged", |stage| {
        stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
            object["metadata"]["annotations"]["appcode.dev/fingerprint"] = json!(HOSTILE);
        });
    });
    let is_patch = |call: &Call| matches!(call, Call::Api { verb: Verb::Patch, .. });
    world
        .stage
        .script
        .begin_if(vec![(0, Strike::Act(Moment::Before, forge))], is_patch);
    world.stage.set_trigger("last");
    world.run_for(SignedDuration::from_hours(1)).await;
    world
}

#[tokio::test]
async fn texts_of_others_forge_no_line_and_drive_no_terminal_and_no_secret_is_logged() {
    for format in [LogFormat::Json, LogFormat::Text] {
        let kept = Kept::default();
        let guard = kept.start(format);
        let world = meets_hostile_texts().await;
        drop(guard);
        let text = kept.text();
        assert!(
            text.contains("forged: all is lost") && text.contains("reconcile"),
            "it was logged at all"
        );
        assert_whole_lines(&text, format);
        assert_eq!(leaks(&world.stage, &text), Vec::<String>::new(), "{format:?}");
        let shown = readable(&world.stage);
        assert_eq!(leaks(&world.stage, &shown), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_people_read_of_a_resource_drives_no_terminal() {
    let world = meets_hostile_texts().await;
    let asked = world.stage.api.asked();
    let notes = asked
        .iter()
        .filter_map(|asked| asked.body["note"].as_str().map(str::to_owned));
    let conditions = asked.iter().flat_map(|asked| {
        asked.body["status"]["conditions"]
            .as_array()
            .cloned()
            .unwrap_or_default()
    });
    let messages = conditions.filter_map(|condition| condition["message"].as_str().map(str::to_owned));
    let mut seen = 0;
    for text in notes.chain(messages) {
        // One line for people, and the commands on lines of their own.
        let mut lines = text.split('\n');
        assert!(lines.all(|line| !line.chars().any(char::is_control)), "{text:?}");
        let mut below = text.split('\n').skip(1);
        assert!(below.all(|line| line.starts_with("      kubectl ")), "{text:?}");
        seen += 1;
    }
    assert!(seen > 20, "{seen}");
}
