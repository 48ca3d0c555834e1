use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use tracing::Dispatch;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::args::LogFormat;
use crate::telemetry::subscriber;

/// What was logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Kept {
    /// The messages since the last time.
    fn take(&self) -> Vec<String> {
        let text = String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap();
        let message = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["message"].as_str().unwrap().to_owned()
        };
        text.lines().map(message).collect()
    }
}

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Kept {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

/// A dial, a file, and all that is logged while `work` turns one by the other.
fn with_dial(work: impl FnOnce(&mut Dial, &Path, &Kept)) {
    let kept = Kept::default();
    let (lines, mut dial) = subscriber(LogFormat::Json, "info", kept.clone()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    // With one subscriber alone, a line that is first passed by a thread without any is switched off for all.
    let _another = Dispatch::new(NoSubscriber::default());
    tracing::subscriber::with_default(lines, || work(&mut dial, &folder.path().join("filter"), &kept));
}

fn lines() {
    tracing::debug!("ours, at debug");
    tracing::warn!("ours, at warn");
    tracing::debug!(target: "reqwest::connect", "a library's, at debug");
    tracing::warn!(target: "hyper", "a library's, at warn");
}

const CHANGED: &str = "the log's filter was changed";
const PROBLEM: &str = "the file with the log's filter cannot be used; the filter stays as it was";

#[test]
fn a_change_of_the_file_counts_at_once_and_is_told_once() {
    with_dial(|dial, file, kept| {
        dial.look(file);
        lines();
        assert_eq!(kept.take(), ["ours, at warn", "a library's, at warn"], "no file");
        std::fs::write(file, "debug\n# nobody reads this\n").unwrap();
        dial.look(file);
        dial.look(file);
        lines();
        let expected = [CHANGED, "ours, at debug", "ours, at warn", "a library's, at warn"];
        assert_eq!(kept.take(), expected);
        // Told though the new filter would keep it back, and the old one back again.
        std::fs::write(file, "error").unwrap();
        dial.look(file);
        lines();
        assert_eq!(kept.take(), [CHANGED]);
        std::fs::write(file, "\n").unwrap();
        dial.look(file);
        lines();
        assert_eq!(kept.take(), [CHANGED, "ours, at warn", "a library's, at warn"], "--log");
        std::fs::remove_file(file).unwrap();
        dial.look(file);
        assert_eq!(kept.take(), [""; 0], "the same as before");
    });
}

#[test]
fn what_libraries_say_of_urls_is_kept_back_whatever_the_file_says() {
    for filter in ["trace", "reqwest=trace,hyper=trace", "reqwest::connect=debug"] {
        with_dial(|dial, file, kept| {
            std::fs::write(file, filter).unwrap();
            dial.look(file);
            lines();
            let told = kept.take();
            assert!(!told.iter().any(|line| line == "a library's, at debug"), "{told:?}");
            let is_asked = filter != "reqwest::connect=debug";
            assert_eq!(told.iter().any(|line| line == "a library's, at warn"), is_asked);
        });
    }
}

#[test]
fn a_file_that_cannot_be_used_leaves_the_filter_and_is_told_once() {
    with_dial(|dial, file, kept| {
        for bad in ["inof", "info,kube_runtime", "appcode_operator=loud", "a[b"] {
            std::fs::write(file, bad).unwrap();
            dial.look(file);
            dial.look(file);
            lines();
            assert_eq!(kept.take(), [PROBLEM, "ours, at warn", "a library's, at warn"], "{bad}");
        }
        std::fs::write(file, b"\xff\xfe").unwrap();
        dial.look(file);
        std::fs::remove_file(file).unwrap();
        std::fs::create_dir(file).unwrap();
        dial.look(file);
        assert_eq!(kept.take(), [PROBLEM, PROBLEM], "no text, and a folder");
        std::fs::remove_dir(file).unwrap();
        std::fs::write(file, "debug").unwrap();
        dial.look(file);
        assert_eq!(kept.take(), [CHANGED]);
    });
}

#[test]
fn one_resource_alone_can_be_made_talkative() {
    with_dial(|dial, file, kept| {
        std::fs::write(file, "info,[reconcile{resource=shop/checkout}]=debug").unwrap();
        dial.look(file);
        kept.take();
        for resource in ["shop/checkout", "shop/other"] {
            tracing::error_span!("reconcile", %resource).in_scope(|| tracing::debug!("of {resource}"));
        }
        assert_eq!(kept.take(), ["of shop/checkout"]);
    });
}

#[test]
fn what_may_be_a_token_is_not_shown() {
    let error = |text: &str| parse(text).unwrap_err().to_string();
    assert!(error("inof").starts_with("\"inof\" is no level"));
    for token in ["abcdefghijklmnopqrstu", "Canary", "canary1", "info,eyJhbGciOi"] {
        assert!(error(token).starts_with("a part of it is no level"), "{token}");
    }
}
