//! A cluster with resources in each step, as this version leaves them when it is killed.

use cloud_simulator::{App, Fault, Operation};
use serde_json::{Value, json};

use super::program;
use super::recording::{NAMESPACE, Recording};
use crate::stage::Stage;

/// Times that no answer and no settling comes near before the program is killed, on the slowest machine.
const PATIENT: &[&str] = &[
    "--settle-window=70s",
    "--request-deadline=60s",
    "--minimum-interval=71s",
    "--check-period=5s",
    "--caller-rate=50",
];

fn has_intent(stage: &Stage, name: &str) -> bool {
    stage.intent(name)["step"] == "Started"
}

/// Plays until everything is where it should be, kills the program and writes down what is there.
pub async fn record() -> Recording {
    let mut stage = Stage::set(program(), PATIENT).await;
    stage.start_operator();
    stage.namespace(NAMESPACE);
    let overlap = json!({"strategy": "Overlap", "overlap": {"gracePeriod": "24h"}});
    let mut handing = overlap.clone();
    handing["restartTargets"] = json!([{"kind": "Deployment", "name": "web"}]);
    let mut apps: Vec<(&str, App)> = Vec::new();
    for (name, more) in [
        ("taken", json!({})),
        ("rotated", json!({})),
        (
            "seeded",
            json!({"rotationTrigger": "x", "schedule": {"interval": "720h"}}),
        ),
        ("lost", json!({})),
        ("unmade", json!({})),
        ("overlapping", overlap),
        ("handing", handing),
        ("newer", json!({})),
        ("extended", json!({})),
    ] {
        let app = stage.app(1);
        let mut resource = stage.rotation(NAMESPACE, name, &app.app_id, &more);
        if name == "seeded" {
            resource["spec"]["appCode"] = json!(app.codes[0]);
        }
        stage.apply(&resource);
        apps.push((name, app));
    }
    let app = |name: &str| &apps.iter().find(|(other, _)| *other == name).unwrap().1.app_id;
    for (name, app) in &apps {
        stage.until_ready(NAMESPACE, name, &app.app_id).await;
    }
    for name in ["rotated", "newer", "extended", "overlapping", "handing"] {
        stage.request_rotation(NAMESPACE, name, "first");
        stage
            .until(&format!("{name} is rotated"), || {
                stage.status(NAMESPACE, name)["lastHandledRequest"] == "first"
            })
            .await;
    }
    for (name, phase) in [("overlapping", "Retiring"), ("handing", "Distributing")] {
        stage
            .until(&format!("{name} is {phase}"), || {
                stage.status(NAMESPACE, name)["phase"] == phase
            })
            .await;
    }

    // One call has had its effect and no answer, another one no effect; then the program is killed.
    let reset = |name: &str, fault: Fault| fault.at(Operation::Reset).app(app(name));
    stage.cloud.inject(reset("unmade", Fault::cut_before()));
    stage.request_rotation(NAMESPACE, "unmade", "first");
    stage
        .until("status tells of the rotation whose outcome is open", || {
            stage.status(NAMESPACE, "unmade")["rotation"]["step"] == "Started"
        })
        .await;
    stage.cloud.inject(reset("lost", Fault::hold()));
    stage.request_rotation(NAMESPACE, "lost", "first");
    stage
        .until("the code is reset", || stage.resets(app("lost")) == 1)
        .await;
    assert_eq!(stage.end_operator("KILL"), None);
    assert!(has_intent(&stage, "lost") && has_intent(&stage, "unmade"));
    assert_eq!(stage.resets(app("unmade")), 0);
    suspend(&stage, "unmade");

    // What a version after this one may leave: another format, and more in the same one.
    let annotate = |name: &str, change: &dyn Fn(&mut Value)| {
        let mut intent = stage.intent(name);
        change(&mut intent);
        let intent = format!("appcode.dev/intent={intent}");
        let more = "appcode.dev/of-a-later-version=kept";
        stage.kubectl(&[
            "annotate",
            "secret",
            name,
            "-n",
            NAMESPACE,
            "--overwrite",
            &intent,
            more,
        ]);
    };
    annotate("newer", &|intent| intent["formatVersion"] = json!(1000));
    annotate("extended", &|intent| intent["ofALaterVersion"] = json!({"x": [1, 2]}));
    Recording::of(&stage, &apps)
}

fn suspend(stage: &Stage, name: &str) {
    let patch = r#"{"spec":{"suspend":true}}"#;
    stage.kubectl(&["patch", "acr", name, "-n", NAMESPACE, "--type=merge", "-p", patch]);
}
