//! A resource that is made again, restored or copied: nothing rotates because of that alone.

use serde_json::{Value, json};

use crate::stage::Stage;
use crate::{condition, message, stage};

/// Each cluster has an operator that knows nothing of the other one.
#[tokio::test(flavor = "multi_thread")]
async fn a_resource_copied_into_another_cluster_rotates_nothing_with_or_without_its_secret() {
    let stage = stage().await;
    stage.namespace("a");
    let (kept, left) = (stage.app(1), stage.app(1));
    for (name, app) in [("kept", &kept), ("left", &left)] {
        let more = json!({"rotationTrigger": "x", "schedule": {"interval": "720h"}});
        stage.apply(&stage.rotation("a", name, &app.app_id, &more));
        stage.until_ready("a", name, &app.app_id).await;
        stage.request_rotation("a", name, "first");
        stage
            .until("the request is handled", || stage.resets(&app.app_id) == 1)
            .await;
        stage.until_ready("a", name, &app.app_id).await;
    }
    let mut other = stage.another().await;
    other.namespace("a");
    other.apply(&backed_up(stage.get("a", "secret", "kept")));
    for name in ["kept", "left"] {
        let mut resource = backed_up(stage.get("a", "acr", name));
        resource.as_object_mut().unwrap().remove("status");
        other.apply(&resource);
    }
    other.start_operator();
    other.until_ready("a", "kept", &kept.app_id).await;
    other.until_ready("a", "left", &left.app_id).await;
    let status = other.status("a", "kept");
    assert_eq!(
        (&status["rotationNumber"], &status["lastHandledRequest"]),
        (&json!(1), &json!("first"))
    );
    let since = |stage: &Stage| stage.status("a", "kept")["current"]["rotatedAt"].clone();
    assert_eq!(since(&other), since(&stage), "the schedule goes on where it was");
    for (name, app) in [("kept", &kept), ("left", &left)] {
        assert_eq!(other.code("a", name), stage.code("a", name));
        assert_eq!(stage.resets(&app.app_id), 1, "{name}");
    }

    // One of the two must go: the one that does not rotate says so, and guesses nothing.
    other.request_rotation("a", "kept", "second");
    stage
        .until("the first cluster has lost its code", || {
            message(&stage.status("a", "kept"), "Stalled").starts_with("CodeNotListed")
        })
        .await;
    assert_eq!(stage.resets(&kept.app_id), 2);
}

/// What a backup holds of an object.
fn backed_up(mut object: Value) -> Value {
    let meta = object["metadata"].as_object_mut().unwrap();
    meta.retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&field.as_str()));
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resource_made_again_restored_or_copied_rotates_nothing() {
    let stage = stage().await;
    stage.namespace("a");
    let app = stage.app(1);
    let resource = stage.rotation(
        "a",
        "one",
        &app.app_id,
        &json!({"rotationTrigger": "x", "schedule": {"interval": "720h"}}),
    );
    stage.apply(&resource);
    stage.until_ready("a", "one", &app.app_id).await;
    stage.request_rotation("a", "one", "first");
    stage
        .until("the request is handled", || stage.resets(&app.app_id) == 1)
        .await;
    stage.until_ready("a", "one", &app.app_id).await;
    // The schedule counts from there; only the jitter is another one for another uid.
    let since = |namespace| stage.status(namespace, "one")["current"]["rotatedAt"].clone();
    let (code, rotated_at) = (stage.code("a", "one"), since("a"));

    // Deleted and applied again, as Argo CD or Flux may do it.
    let annotated = backed_up(stage.get("a", "acr", "one"));
    stage.kubectl(&["delete", "acr", "one", "-n", "a"]);
    assert_eq!(stage.code("a", "one"), code, "the Secret is retained");
    let mut again = annotated.clone();
    again.as_object_mut().unwrap().remove("status");
    stage.apply(&again);
    stage.until_ready("a", "one", &app.app_id).await;
    assert_eq!((stage.code("a", "one"), stage.resets(&app.app_id)), (code.clone(), 1));
    let status = stage.status("a", "one");
    assert_eq!((&status["rotationNumber"], since("a")), (&json!(1), rotated_at));
    assert_eq!(status["lastHandledRequest"], "first");

    // Its status is wiped, as a restore without it does.
    let mut wiped = stage.get("a", "acr", "one");
    wiped.as_object_mut().unwrap().remove("status");
    let path = "/apis/appcode.dev/v1alpha1/namespaces/a/appcoderotations/one/status";
    stage.send(&["replace", "--raw", path, "-f", "-"], &wiped.to_string());
    stage.until_ready("a", "one", &app.app_id).await;
    let status = stage.status("a", "one");
    assert_eq!(
        (&status["rotationNumber"], &status["lastHandledTrigger"]),
        (&json!(1), &json!("x"))
    );
    assert_eq!((stage.code("a", "one"), stage.resets(&app.app_id)), (code.clone(), 1));

    // Another namespace gets copies of both, as Velero makes them: the older resource keeps the code.
    stage.namespace("b");
    let mut secret = backed_up(stage.get("a", "secret", "one"));
    for object in [&mut secret, &mut again] {
        object["metadata"]["namespace"] = json!("b");
    }
    stage.apply(&secret);
    stage.apply(&again);
    stage
        .until("the copy stops", || {
            condition(&stage.status("b", "one"), "Stalled") == "True"
        })
        .await;
    // An edit is looked at at once; without one it takes up to a minute.
    let touch = |limit: u8| {
        let change = format!("{{\"spec\":{{\"historyLimit\":{limit}}}}}");
        stage.kubectl(&["patch", "acr", "one", "-n", "b", "--type=merge", "-p", &change]);
    };
    // Without the copied Secret it is the code that is taken.
    stage.kubectl(&["delete", "secret", "one", "-n", "b"]);
    touch(5);
    stage
        .until("the copy leaves the code to the older resource", || {
            let status = stage.status("b", "one");
            status["conditions"].to_string().contains("\"Conflict\"")
        })
        .await;
    let shown = stage.status("b", "one")["conditions"].to_string();
    assert!(
        !shown.contains("a/one") && shown.contains("another namespace"),
        "{shown}"
    );
    assert_eq!((stage.code("a", "one"), stage.resets(&app.app_id)), (code, 1));
    // When the older one goes, the next takes over.
    stage.kubectl(&["delete", "acr", "one", "-n", "a"]);
    touch(6);
    stage.until_ready("b", "one", &app.app_id).await;
    assert_eq!(stage.resets(&app.app_id), 1, "and still nothing was rotated for that");
}
