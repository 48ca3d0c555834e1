//! What a user does and sees.

use serde_json::json;

use crate::{condition, message, stage};

#[tokio::test(flavor = "multi_thread")]
async fn rotates_at_first_sight_by_schedule_by_trigger_by_annotation_and_for_another_app() {
    let stage = stage().await;
    stage.namespace("a");
    let app = stage.app(1);
    let schedule = json!({"interval": "7s", "jitter": "1s"});
    stage.apply(&stage.rotation(
        "a",
        "one",
        &app.app_id,
        &json!({"appCode": app.codes[0], "schedule": schedule}),
    ));
    stage
        .until("the first rotation and one by the schedule", || {
            stage.resets(&app.app_id) >= 2
        })
        .await;
    stage.until_ready("a", "one", &app.app_id).await;

    // Without its schedule it rests; a trigger and an annotation rotate it once each.
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({"appCode": app.codes[0]})));
    stage
        .until("the spec without a schedule is seen", || {
            let object = stage.get("a", "acr", "one");
            object["status"]["observedGeneration"] == object["metadata"]["generation"]
                && object["status"]["nextRotationTime"].is_null()
        })
        .await;
    let before = stage.resets(&app.app_id);
    stage.apply(&stage.rotation(
        "a",
        "one",
        &app.app_id,
        &json!({"appCode": app.codes[0], "rotationTrigger": "x"}),
    ));
    stage
        .until("the trigger is handled", || {
            stage.status("a", "one")["lastHandledTrigger"] == "x"
        })
        .await;
    assert_eq!(stage.resets(&app.app_id), before + 1);
    stage.request_rotation("a", "one", "now");
    stage
        .until("the request is handled", || {
            stage.status("a", "one")["lastHandledRequest"] == "now"
        })
        .await;
    assert_eq!(stage.resets(&app.app_id), before + 2);
    let triggers: Vec<_> = stage.status("a", "one")["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["trigger"].clone())
        .collect();
    assert_eq!(triggers[..2], ["Request", "Spec"]);
    assert_eq!(*triggers.last().unwrap(), "Initial");

    // A label rotates nothing; another app does.
    stage.kubectl(&["label", "acr", "one", "-n", "a", "team=x"]);
    let other = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &other.app_id, &json!({"rotationTrigger": "x"})));
    stage
        .until("the other app is rotated", || stage.resets(&other.app_id) == 1)
        .await;
    stage.until_ready("a", "one", &other.app_id).await;
    assert_eq!(stage.resets(&app.app_id), before + 2);

    let shown = stage.kubectl(&["get", "acr", "-n", "a"]);
    assert!(
        shown.contains("NEXT ROTATION") && shown.contains(&other.app_id) && shown.contains("Ready"),
        "{shown}"
    );
    let told = stage.kubectl(&["describe", "acr", "one", "-n", "a"]);
    assert!(told.contains("Rotated"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn stops_with_a_reason_and_goes_on_once_it_is_mended() {
    let stage = stage().await;
    stage.namespace("a");

    // A spec that breaks two rules, as an old API server lets it in.
    let app = stage.app(1);
    let mut bad = stage.rotation(
        "a",
        "bad",
        &app.app_id,
        &json!({"region": "cn-north-4", "appCode": "x", "appCodeFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}),
    );
    bad["spec"]["schedule"] = json!({"interval": "1s"});
    let (is_taken, _, refused) = stage.run(&["apply", "--validate=false", "-f", "-"], &bad.to_string());
    if is_taken {
        stage
            .until("the bad spec is refused", || {
                condition(&stage.status("a", "bad"), "Stalled") == "True"
            })
            .await;
        let said = message(&stage.status("a", "bad"), "Ready");
        assert!(
            said.starts_with("InvalidSpec")
                && said.contains("region")
                && said.contains("appCodeFrom")
                && said.contains("minimum"),
            "{said}"
        );
    } else {
        assert!(refused.contains("exactly one of region and endpoint"), "{refused}");
    }
    assert_eq!(stage.resets(&app.app_id), 0);

    // A Secret of somebody else is left alone.
    let app = stage.app(1);
    stage.apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine", "namespace": "a"}, "stringData": {"appCode": "precious"}}));
    stage.apply(&stage.rotation("a", "mine", &app.app_id, &json!({"initialRotation": "Immediate"})));
    stage
        .until("the foreign Secret is refused", || {
            message(&stage.status("a", "mine"), "Stalled").starts_with("SecretConflict")
        })
        .await;
    assert_eq!(stage.code("a", "mine").as_deref(), Some("precious"));
    assert_eq!(stage.resets(&app.app_id), 0);

    // Wrong credentials are named, and corrected without a restart.
    let app = stage.app(1);
    stage.credentials("a", "no-such-key", "no-such-secret");
    stage.apply(&stage.rotation("a", "late", &app.app_id, &json!({})));
    stage
        .until("the credentials are refused", || {
            message(&stage.status("a", "late"), "Stalled").starts_with("CredentialsRejected")
        })
        .await;
    stage.credentials("a", &stage.user.ak, &stage.user.sk);
    stage.request_rotation("a", "late", "now");
    stage.until_ready("a", "late", &app.app_id).await;

    // A deleted Secret comes back with the same code, without a reset.
    let (code, resets) = (stage.code("a", "late"), stage.resets(&app.app_id));
    stage.kubectl(&["delete", "secret", "late", "-n", "a"]);
    stage
        .until("the Secret is repaired", || stage.code("a", "late") == code)
        .await;
    assert_eq!(stage.resets(&app.app_id), resets);

    // Plain text in status comes and goes with spec.
    stage.apply(&stage.rotation("a", "late", &app.app_id, &json!({"statusCode": "Plaintext"})));
    stage
        .until("the code is shown", || {
            stage.status("a", "late")["appCode"].as_str() == code.as_deref()
        })
        .await;
    assert_eq!(condition(&stage.status("a", "late"), "CodeExposed"), "True");
    stage.apply(&stage.rotation("a", "late", &app.app_id, &json!({})));
    stage
        .until("the code is hidden", || stage.status("a", "late")["appCode"].is_null())
        .await;
    assert_eq!(stage.resets(&app.app_id), resets);
}
