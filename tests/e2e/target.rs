//! The target Secret on a real API server with its real garbage collector: whose keys are whose, and what goes with whom.

use std::path::Path;

use serde_json::{Value, json};

use crate::stage::Stage;
use crate::{FLAGS, message, stage};

const OPERATOR: &str = "appcode-operator";

/// Every field that `manager` owns of an object, as paths with dots.
fn owned(object: &Value, manager: &str) -> Vec<String> {
    let mut paths = Vec::new();
    for entry in object["metadata"]["managedFields"].as_array().unwrap() {
        if entry["manager"] == manager {
            walk(&entry["fieldsV1"], "", &mut paths);
        }
    }
    paths.sort_unstable();
    paths.dedup();
    paths
}

fn walk(fields: &Value, path: &str, paths: &mut Vec<String>) {
    let entries = fields.as_object().unwrap();
    if entries.is_empty() {
        paths.push(path.to_owned());
    }
    for (name, below) in entries {
        match name.strip_prefix("f:") {
            Some(name) => walk(below, format!("{path}.{name}").trim_start_matches('.'), paths),
            None => paths.push(path.to_owned()),
        }
    }
}

fn with_fields(stage: &Stage, name: &str) -> Value {
    let text = stage.kubectl(&["get", "secret", name, "-n", "a", "-o", "json", "--show-managed-fields"]);
    serde_json::from_str(&text).unwrap()
}

fn is_ours(path: &str) -> bool {
    let annotation = path.strip_prefix("metadata.annotations.");
    annotation.is_some_and(|key| key.starts_with("appcode.dev/"))
}

#[tokio::test(flavor = "multi_thread")]
async fn only_our_keys_are_ours_in_a_secret_that_others_made() {
    let stage = stage().await;
    stage.namespace("a");
    for (name, policy, by) in [("merged", "Merge", "Helm"), ("adopted", "Adopt", "")] {
        let mut labels = json!({"theirs": "kept"});
        if !by.is_empty() {
            labels["app.kubernetes.io/managed-by"] = json!(by);
        }
        stage.apply(&json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": "a", "labels": labels}, "stringData": {"theirs": "kept"},
        }));
        let app = stage.app(1);
        let target = json!({
            "creationPolicy": policy,
            "template": {"data": {"url": "https://{{ appId }}/{{ appCode }}"}, "annotations": {"example.com/app": "{{ appId }}"}},
        });
        let spec = json!({"target": target, "initialRotation": "Immediate"});
        stage.apply(&stage.rotation("a", name, &app.app_id, &spec));
        stage.until_ready("a", name, &app.app_id).await;
        assert_eq!(stage.resets(&app.app_id), 1);

        let secret = with_fields(&stage, name);
        let others: Vec<String> = owned(&secret, OPERATOR)
            .into_iter()
            .filter(|path| !is_ours(path.as_str()))
            .collect();
        let mut expected = vec!["data.appCode", "data.url", "metadata.annotations.example.com/app"];
        if policy == "Adopt" {
            expected.push("metadata.labels.app.kubernetes.io/managed-by");
        }
        assert_eq!(others, expected, "{secret}");
        assert_eq!(secret["metadata"]["labels"]["theirs"], "kept");
        assert_eq!(secret["data"]["theirs"], "a2VwdA==");
        if policy == "Merge" {
            assert_eq!(secret["metadata"]["labels"], labels);
        }

        // Those who made it apply it again: nothing of ours is lost, and nothing is rotated.
        let code = stage.code("a", name);
        stage.apply(&json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": name, "namespace": "a", "labels": labels}, "stringData": {"theirs": "new"},
        }));
        assert_eq!((stage.code("a", name), stage.resets(&app.app_id)), (code.clone(), 1));

        // With the resource goes nothing of it.
        stage.kubectl(&["delete", "acr", name, "-n", "a"]);
        assert_eq!(stage.code("a", name), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_goes_with_its_resource_only_where_that_was_asked_for() {
    let mut stage = Stage::set_with_controllers(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), FLAGS).await;
    stage.start_operator();
    stage.namespace("a");
    let target = |policy: &str| json!({"target": {"deletionPolicy": policy}});
    let apps = [stage.app(1), stage.app(1), stage.app(1)];
    for (name, app, policy) in [
        ("kept", &apps[0], "Retain"),
        ("gone", &apps[1], "Delete"),
        ("pardoned", &apps[2], "Delete"),
    ] {
        stage.apply(&stage.rotation("a", name, &app.app_id, &target(policy)));
        stage.until_ready("a", name, &app.app_id).await;
    }
    let owners = |name: &str| stage.get("a", "secret", name)["metadata"]["ownerReferences"].clone();
    assert_eq!(owners("kept"), Value::Null);
    assert_eq!(
        owners("gone")[0]["uid"],
        stage.get("a", "acr", "gone")["metadata"]["uid"]
    );
    // A change of mind, before and after.
    stage.apply(&stage.rotation("a", "pardoned", &apps[2].app_id, &target("Retain")));
    stage
        .until("the owner is taken off", || owners("pardoned").is_null())
        .await;
    for name in ["kept", "gone", "pardoned"] {
        stage.kubectl(&["delete", "acr", name, "-n", "a"]);
    }
    stage
        .until("the collector has come by", || {
            stage.get("a", "secret", "gone").is_null()
        })
        .await;
    for (name, app) in [("kept", &apps[0]), ("pardoned", &apps[2])] {
        assert_eq!(stage.code("a", name).as_ref(), app.codes.first(), "{name}");
    }
    assert!(apps.iter().all(|app| stage.resets(&app.app_id) == 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_basic_auth_secret_is_made_filled_and_rotated() {
    let stage = stage().await;
    stage.namespace("a");
    let app = stage.app(1);
    let template = json!({
        "type": "kubernetes.io/basic-auth", "labels": {"example.com/app": "{{ appName }}"},
        "data": {"username": "{{ appName }}", "basic": "{{ (appName ~ ':' ~ appCode) | base64 }}"},
    });
    let target = json!({"key": "password", "template": template});
    let spec = json!({"initialRotation": "Immediate", "target": target});
    stage.apply(&stage.rotation("a", "one", &app.app_id, &spec));
    let text = |key: &str| -> Option<String> {
        let value = stage.get("a", "secret", "one")["data"][key].clone();
        let value: k8s_openapi::ByteString = serde_json::from_value(value).ok()?;
        String::from_utf8(value.0).ok()
    };
    stage
        .until("the Secret holds the new code", || {
            let live = stage.cloud.live_codes(&app.app_id);
            text("password").is_some_and(|code| stage.resets(&app.app_id) == 1 && live.contains(&code))
        })
        .await;
    let secret = stage.get("a", "secret", "one");
    assert_eq!(secret["type"], "kubernetes.io/basic-auth");
    let name = text("username").unwrap();
    assert_eq!(secret["metadata"]["labels"]["example.com/app"], name.as_str());
    let pair = k8s_openapi::ByteString(format!("{name}:{}", text("password").unwrap()).into_bytes());
    assert_eq!(json!(text("basic").unwrap()), json!(pair));

    // Its type cannot be changed in place.
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({"target": {"key": "password"}})));
    stage
        .until("the wrong type is told", || {
            message(&stage.status("a", "one"), "Stalled").starts_with("SecretNotWritable")
        })
        .await;
    assert_eq!(stage.resets(&app.app_id), 1);
}
