//! Resources as a GitOps tool holds them: it applies the same manifest again and again, by the server and by itself, and
//! compares. Nothing that it looks at is ever changed by the operator.

#[path = "../it/gitops/health.rs"]
mod health;

use std::collections::BTreeSet;

use cloud_simulator::{Fault, Operation};
use serde_json::{Value, json};

use self::health::{Argo, kstatus};
use crate::stage::{PATIENCE, Stage};
use crate::{condition, stage};

/// How a tool applies.
#[derive(Clone, Copy, Debug)]
enum Tool {
    /// Server-side, and takes what others have changed back, as Flux does.
    Server,
    /// As `kubectl apply` and Argo CD do unless told otherwise.
    Client,
}

impl Tool {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    fn apply(self, stage: &Stage, manifest: &Value) {
        let args: &[&str] = match self {
            Self::Server => &[
                "apply",
                "--server-side",
                "--field-manager=gitops",
                "--force-conflicts",
                "--validate=false",
                "-f",
                "-",
            ],
            Self::Client => &["apply", "--validate=false", "-f", "-"],
        };
        stage.send(args, &manifest.to_string());
    }
}

/// What a tool holds against its manifest: all but the status, and what each write changes. The entry of the manager that
/// writes status names fields of status only.
fn held(object: &Value) -> Value {
    let mut held = object.clone();
    held.as_object_mut().unwrap().remove("status");
    let meta = held["metadata"].as_object_mut().unwrap();
    meta.remove("resourceVersion");
    let managers = meta.remove("managedFields").unwrap_or_default();
    for entry in managers.as_array().into_iter().flatten() {
        let fields: BTreeSet<&String> = entry["fieldsV1"].as_object().unwrap().keys().collect();
        if entry["manager"] == "appcode-operator" {
            assert!(fields.iter().all(|field| *field == "f:status"), "{entry:#}");
        } else {
            assert!(!fields.iter().any(|field| *field == "f:status"), "{entry:#}");
        }
    }
    held
}

fn manifest(stage: &Stage, tool: Tool, app: &str, more: &Value) -> Value {
    let mut manifest = stage.rotation("a", tool.name(), app, more);
    manifest["metadata"]["labels"] = json!({"app.kubernetes.io/instance": "team", "team": "vision"});
    manifest["metadata"]["annotations"] =
        json!({"argocd.argoproj.io/tracking-id": "team:appcode.dev/AppCodeRotation:a/x"});
    manifest
}

async fn nothing_drifts(tool: Tool) {
    let mut stage = stage().await;
    stage.namespace("a");
    let (name, app) = (tool.name(), stage.app(1));
    let more = json!({"schedule": {"interval": "720h"}, "target": {"name": format!("{name}-code")}});
    let quiet = manifest(&stage, tool, &app.app_id, &more);
    tool.apply(&stage, &quiet);
    let is_ready = |stage: &Stage| condition(&stage.status("a", name), "Ready") == "True";
    stage.until("the code is taken over", || is_ready(&stage)).await;
    let first = stage.get("a", "acr", name);
    assert_eq!(first["spec"], quiet["spec"], "nothing is defaulted in place");
    let is_unchanged = |stage: &Stage, expected: &Value, what: &str| {
        let now = stage.get("a", "acr", name);
        assert_eq!(held(&now), *expected, "{what}");
        now
    };

    // At rest: applied again and again, not even a version changes.
    let expected = held(&first);
    for round in 0..5 {
        let before = stage.get("a", "acr", name)["metadata"]["resourceVersion"].clone();
        tool.apply(&stage, &quiet);
        let after = is_unchanged(&stage, &expected, "at rest");
        // A check in between may have written a time into the status.
        println!("{name} {round}: {before} {}", after["metadata"]["resourceVersion"]);
    }

    // While it rotates, over a lost answer and a restart, with the tool at it all the time.
    let mut loud = quiet.clone();
    loud["spec"]["rotationTrigger"] = json!("x");
    stage.cloud.inject(Fault::cut_after().at(Operation::Reset).once());
    tool.apply(&stage, &loud);
    let expected = held(&stage.get("a", "acr", name));
    assert_eq!(expected["spec"], loud["spec"]);
    let start = std::time::Instant::now();
    let mut is_restarted = false;
    while stage.status("a", name)["lastHandledTrigger"] != "x" || !is_ready(&stage) {
        tool.apply(&stage, &loud);
        is_unchanged(&stage, &expected, "while it rotates");
        if !is_restarted && stage.resets(&app.app_id) == 1 {
            stage.end_operator("KILL");
            stage.start_operator();
            is_restarted = true;
        }
        assert!(start.elapsed() < PATIENCE, "{}", stage.last_words());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(stage.resets(&app.app_id), 1, "applying is no reason to rotate");

    // A person's request is an annotation that no manifest has: the tool leaves it, and nothing else comes of it.
    stage.request_rotation("a", name, "now");
    stage
        .until("the request is handled", || {
            stage.status("a", name)["lastHandledRequest"] == "now"
        })
        .await;
    tool.apply(&stage, &loud);
    let mut object = held(&stage.get("a", "acr", name));
    let annotations = object["metadata"]["annotations"].as_object_mut().unwrap();
    assert_eq!(
        annotations.remove("appcode.dev/rotate-requested-at"),
        Some(json!("now"))
    );
    assert_eq!(object, expected);
    assert_eq!(stage.resets(&app.app_id), 2);

    // What tools hang on the resource is not on the Secret, which would make it theirs to prune.
    let secret = stage.get("a", "secret", &format!("{name}-code"));
    let meta = &secret["metadata"];
    assert_eq!(
        meta["labels"],
        json!({"app.kubernetes.io/managed-by": "appcode-operator"})
    );
    let annotations = meta["annotations"].as_object().unwrap();
    assert!(
        annotations.keys().all(|key| key.starts_with("appcode.dev/")),
        "{annotations:?}"
    );
    assert_eq!(meta["ownerReferences"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_drifts_that_is_applied_by_the_server() {
    nothing_drifts(Tool::Server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_drifts_that_is_applied_by_the_client() {
    nothing_drifts(Tool::Client).await;
}

/// The finalizer is the only thing that the operator ever writes outside of status. No tool takes it for drift, as it
/// is in no manifest, and none takes it off.
#[tokio::test(flavor = "multi_thread")]
async fn the_finalizer_comes_and_goes_with_a_retirement_and_no_tool_takes_it_off() {
    let stage = stage().await;
    let argo = Argo::new();
    stage.namespace("a");
    for tool in [Tool::Server, Tool::Client] {
        let (name, app) = (tool.name(), stage.app(1));
        let overlap = |grace: &str, trigger: &str| {
            let more = json!({"strategy": "Overlap", "overlap": {"gracePeriod": grace}, "rotationTrigger": trigger});
            manifest(&stage, tool, &app.app_id, &more)
        };
        tool.apply(&stage, &overlap("1h", "x"));
        stage.until_ready("a", name, &app.app_id).await;
        tool.apply(&stage, &overlap("1h", "y"));
        stage
            .until("the code before waits to be retired", || {
                stage.status("a", name)["phase"] == "Retiring"
            })
            .await;
        for _ in 0..3 {
            tool.apply(&stage, &overlap("1h", "y"));
            let object = stage.get("a", "acr", name);
            assert_eq!(object["metadata"]["finalizers"], json!(["appcode.dev/retirement"]));
            assert_eq!(object["spec"], overlap("1h", "y")["spec"]);
            assert_eq!(
                (kstatus(&object), argo.health(&object).0.as_str()),
                ("InProgress", "Healthy")
            );
        }
        tool.apply(&stage, &overlap("0s", "y"));
        stage
            .until("the finalizer is gone", || {
                let object = stage.get("a", "acr", name);
                object["metadata"]["finalizers"].is_null() && object["status"]["phase"] == "Ready"
            })
            .await;
        let object = stage.get("a", "acr", name);
        assert_eq!(
            (kstatus(&object), argo.health(&object).0.as_str()),
            ("Current", "Healthy")
        );
        assert_eq!(stage.cloud.live_codes(&app.app_id).len(), 1);
    }
}
