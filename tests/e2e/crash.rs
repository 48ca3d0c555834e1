//! The program is killed, stopped and started.

use std::path::Path;

use cloud_simulator::{Fault, Operation};
use serde_json::json;

use crate::stage::Stage;

/// A deadline that a held answer does not reach before the program is killed, on the slowest machine.
pub const PATIENT: &[&str] = &[
    "--settle-window=40s",
    "--request-deadline=30s",
    "--minimum-interval=41s",
    "--check-period=5s",
    "--caller-rate=50",
];

async fn stage() -> Stage {
    let mut stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), PATIENT).await;
    stage.start_operator();
    stage
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_between_reset_and_write_costs_no_code_and_no_reset_and_a_restart_rotates_nothing() {
    let mut stage = stage().await;
    stage.namespace("a");
    let app = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    assert_eq!(stage.resets(&app.app_id), 0, "a seed that is not exposed is taken over");

    // The reset is done and its answer is held back; then the program is killed.
    stage.cloud.inject(Fault::hold().at(Operation::Reset).once());
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({"rotationTrigger": "x"})));
    stage
        .until("the reset is done", || stage.resets(&app.app_id) == 1)
        .await;
    assert_eq!(stage.end_operator("KILL"), None);
    let live = stage.cloud.live_codes(&app.app_id);
    assert_eq!(
        stage.code("a", "one").as_ref(),
        Some(&app.codes[0]),
        "the Secret still holds the dead code"
    );

    stage.start_operator();
    stage
        .until("the code is recovered", || {
            stage.code("a", "one").as_ref() == live.first()
        })
        .await;
    stage
        .until("the rotation is published", || {
            stage.status("a", "one")["rotationNumber"] == 1
        })
        .await;
    assert_eq!(stage.resets(&app.app_id), 1, "no extra reset");
    assert_eq!(stage.status("a", "one")["history"][0]["outcome"], "Recovered");

    // An orderly end and a new start rotate nothing, even with the resource touched.
    for signal in ["TERM", "KILL"] {
        let code = stage.end_operator(signal);
        assert_eq!(code, (signal == "TERM").then_some(0));
        let checked = stage.status("a", "one")["lastVerifiedTime"].clone();
        stage.kubectl(&[
            "label",
            "acr",
            "one",
            "-n",
            "a",
            "--overwrite",
            &format!("touched={signal}"),
        ]);
        stage.start_operator();
        stage
            .until("it was looked at again", || {
                stage.status("a", "one")["lastVerifiedTime"] != checked
            })
            .await;
    }
    assert_eq!(stage.resets(&app.app_id), 1);
    assert_eq!(stage.cloud.live_codes(&app.app_id), live);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_a_call_saves_its_code_first_and_starts_nothing_new() {
    let mut stage = stage().await;
    stage.namespace("a");
    let (app, other) = (stage.app(1), stage.app(1));
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    stage.apply(&stage.rotation("a", "two", &other.app_id, &json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    stage.until_ready("a", "two", &other.app_id).await;

    // The answer comes within the deadline, but after SIGTERM and after somebody asks for another rotation.
    let held = stage.cloud.inject(Fault::hold().at(Operation::Reset).once());
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({"rotationTrigger": "x"})));
    stage
        .until("the reset is done", || stage.resets(&app.app_id) == 1)
        .await;
    stage.signal_operator("TERM");
    stage
        .until("the signal is heard", || stage.log_text().contains("asked to stop"))
        .await;
    stage.apply(&stage.rotation("a", "two", &other.app_id, &json!({"rotationTrigger": "x"})));
    assert_eq!(stage.cloud.release(held), 1, "the call is still waiting for its answer");
    assert_eq!(stage.await_operator(), Some(0));
    assert_eq!(
        stage.code("a", "one"),
        stage.cloud.live_codes(&app.app_id).first().cloned()
    );
    assert_eq!(stage.status("a", "one")["rotationNumber"], 1);
    assert_eq!(stage.resets(&other.app_id), 0);

    // What was asked meanwhile is not forgotten.
    stage.start_operator();
    stage
        .until("the request is handled after the start", || {
            stage.status("a", "two")["lastHandledTrigger"] == "x"
        })
        .await;
    assert_eq!((stage.resets(&app.app_id), stage.resets(&other.app_id)), (1, 1));
}
