//! What an earlier version left behind is taken over by this one: nothing is rotated for that, and what is not understood is
//! left alone and said so.
//!
//! `tests/e2e/upgrade/VERSION` holds what a version left in a cluster: the definition, resources with their status, Secrets
//! with annotations and intents in each step. The version wrote it itself:
//! `UPGRADE_RECORD=tests/e2e/upgrade/1.2.3 cargo test --test e2e upgrade::this`, to be done for each release and committed.
//! With `UPGRADE_OTHER=PROGRAM` the way back ends with that program, an earlier release, instead of a restart of this one.

mod recording;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};

use cloud_simulator::Operation;
use serde_json::{Value, json};

use self::recording::{NAMESPACE, Recording};
use crate::stage::Stage;
use crate::{FLAGS, condition, message};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/upgrade")
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_appcode-operator"))
}

/// Calls that change an app.
fn mutating_calls(stage: &Stage) -> usize {
    let ledger = stage.cloud.ledger();
    [Operation::Reset, Operation::Add, Operation::Delete]
        .map(|operation| ledger.calls(operation))
        .iter()
        .sum()
}

impl Stage {
    fn resource(&self, name: &str) -> Value {
        self.get(NAMESPACE, "acr", name)
    }

    fn target(&self, name: &str) -> Value {
        self.get(NAMESPACE, "secret", name)
    }

    /// The intent on a Secret.
    fn intent(&self, name: &str) -> Value {
        let text = self.target(name)["metadata"]["annotations"]["appcode.dev/intent"].clone();
        serde_json::from_str(text.as_str().unwrap_or("null")).unwrap()
    }
}

/// When each resource was last verified.
fn seen(stage: &Stage, recording: &Recording) -> Vec<Value> {
    let of = |name: &String| stage.status(NAMESPACE, name)["lastVerifiedTime"].clone();
    recording.resources().iter().map(of).collect()
}

async fn until_all_were_looked_at(stage: &Stage, recording: &Recording, loaded: &[Value]) {
    let names = recording.resources();
    // Of an open rotation nothing is verified, and what is not understood is not looked at.
    let is_looked_at = |(name, (old, new)): (&String, (&Value, &Value))| {
        ["newer", "unmade"].contains(&name.as_str()) || (new.is_string() && old != new)
    };
    stage
        .until("all were looked at", || {
            let now = seen(stage, recording);
            names.iter().zip(loaded.iter().zip(&now)).all(is_looked_at)
                && stage.status(NAMESPACE, "unmade")["phase"] == "Suspended"
        })
        .await;
    stage
        .until("the newer format is refused", || {
            message(&stage.status(NAMESPACE, "newer"), "Stalled").starts_with("UnknownIntentFormat")
        })
        .await;
}

/// Numbers, times and histories go on, and so does what was under way.
fn assert_all_went_on(stage: &Stage, recording: &Recording) {
    // What was handled stays handled, and numbers, times and histories go on.
    for name in ["taken", "rotated", "seeded", "extended"] {
        let (old, new) = (recording.status(name), stage.status(NAMESPACE, name));
        assert_eq!(condition(&new, "Ready"), "True", "{name}");
        let past = |status: &Value| status["history"].as_array().map(Vec::len);
        assert_eq!(past(&new), past(old), "{name}");
        for field in ["rotationNumber", "lastHandledTrigger", "lastHandledRequest", "phase"] {
            assert_eq!(new[field], old[field], "{name}: {field}");
        }
    }
    // A code whose answer the version before never got.
    let status = stage.status(NAMESPACE, "lost");
    assert_eq!(status["history"][0]["outcome"], "Recovered");
    assert_eq!(condition(&status, "Ready"), "True");
    // A call that had no effect, and is not repeated while the resource is suspended.
    assert_eq!(stage.intent("unmade")["step"], "Started");
    assert_eq!(stage.status(NAMESPACE, "unmade")["rotation"]["step"], "Started");
    // A code before that still has its grace period, and one whose consumers have not got the new one.
    for (name, phase) in [("overlapping", "Retiring"), ("handing", "Distributing")] {
        let object = stage.resource(name);
        assert_eq!(object["status"]["phase"], phase, "{name}");
        assert_eq!(
            object["metadata"]["finalizers"],
            json!(["appcode.dev/retirement"]),
            "{name}"
        );
        assert_eq!(stage.cloud.live_codes(recording.app(name)).len(), 2, "{name}");
    }
}

/// Brings a recorded state into a fresh cluster and cloud, upgrades, and checks what comes of each resource.
async fn take_over(recording: &Recording) {
    let mut stage = Stage::set(program(), FLAGS).await;
    stage.namespace(NAMESPACE);
    recording.load(&stage);
    let specs = |stage: &Stage| -> Vec<Value> {
        let names = recording.resources();
        names.iter().map(|name| stage.resource(name)["spec"].clone()).collect()
    };
    let before = specs(&stage);
    let foreign = stage.target("newer");

    let loaded = seen(&stage, recording);

    // The upgrade: the definition and all else that `deploy/` installs, and the program.
    stage.install();
    assert_eq!(
        specs(&stage),
        before,
        "the definition takes what was stored under the one before"
    );
    stage.start_operator();
    until_all_were_looked_at(&stage, recording, &loaded).await;

    // Each Secret holds a code that works, and nobody was asked to change one.
    for name in &recording.resources() {
        let app = recording.app(name);
        let live = stage.cloud.live_codes(app);
        let code = stage.code(NAMESPACE, name).expect("the Secret has a code");
        assert!(live.contains(&code), "{name}");
    }
    assert_eq!(mutating_calls(&stage), 0);

    assert_all_went_on(&stage, recording);
    // A later version's format: not one byte of the Secret is changed, and a person is told.
    assert_eq!(stage.target("newer"), foreign);
    let said = message(&stage.status(NAMESPACE, "newer"), "Stalled");
    assert!(said.contains("format version"), "{said}");
    // A later version's additions to this format are read over and left.
    let annotations = stage.target("extended")["metadata"]["annotations"].clone();
    assert_eq!(annotations["appcode.dev/of-a-later-version"], "kept");

    // It goes on from there: a request rotates once.
    stage.request_rotation(NAMESPACE, "rotated", "after the upgrade");
    stage
        .until("the request is handled", || {
            stage.status(NAMESPACE, "rotated")["lastHandledRequest"] == "after the upgrade"
        })
        .await;
    assert_eq!(stage.resets(recording.app("rotated")), 1);
    assert_eq!(mutating_calls(&stage), 1);

    // And back: the definition of that version takes what this one has stored, and its program, where there is one to run,
    // changes nothing either.
    assert_eq!(stage.end_operator("TERM"), Some(0));
    recording.apply_definition(&stage);
    assert_eq!(specs(&stage), before);
    if let Some(other) = std::env::var_os("UPGRADE_OTHER") {
        stage.use_program(Path::new(&other));
    }
    stage.start_operator();
    let checked = stage.status(NAMESPACE, "rotated")["lastVerifiedTime"].clone();
    stage
        .until("it was looked at again", || {
            stage.status(NAMESPACE, "rotated")["lastVerifiedTime"] != checked
        })
        .await;
    assert_eq!(mutating_calls(&stage), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn this_version_takes_its_own_state_over() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("UPGRADE_RECORD").map_or_else(
        || scratch.path().to_owned(),
        |folder| Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
    );
    scene::record().await.save(&folder);
    take_over(&Recording::read(&folder)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_each_version_before_is_taken_over_without_a_rotation() {
    let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    assert!(!folders.is_empty(), "there is none to go from");
    for folder in folders {
        println!("from {}", folder.display());
        take_over(&Recording::read(&folder)).await;
    }
}
