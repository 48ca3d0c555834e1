//! What is applied to the cluster.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use appcode_operator::api::Strategy;
use serde_json::{Value, json};

pub const NAMESPACE: &str = "demo";
pub const NAME: &str = "recommender";
pub const SECRET: &str = "recommender-code";
/// From one completed rotation to the next.
pub const INTERVAL_SECONDS: u64 = 15;

/// How long an old code goes on working with `Overlap`.
pub const GRACE_SECONDS: u64 = 8;

/// Namespace and name of the service account that the operator signs in as.
pub const OPERATOR: (&str, &str) = ("appcode-system", "appcode-operator");

/// What `kubectl apply -k deploy` installs, so that the demo runs under the rights that users grant; nothing else decides them.
const INSTALLED: [&str; 3] = ["namespace.yaml", "serviceaccount.yaml", "rbac.yaml"];

/// The operator's namespace, identity and rights.
pub fn installation() -> Result<String> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize/base");
    let mut all = String::new();
    for name in INSTALLED {
        let path = deploy.join(name);
        let text = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        all += "---\n";
        all += &text;
    }
    Ok(all)
}

/// The user's namespace with the credentials of the cloud.
pub fn tenant(access_key: &str, secret_key: &str) -> Value {
    list(&[
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "cloud-credentials", "namespace": NAMESPACE},
            "stringData": {"accessKey": access_key, "secretKey": secret_key},
        }),
    ])
}

/// The resource that asks for rotations.
pub fn rotation(endpoint: &str, project: &str, app: &str, trigger: &str, strategy: Strategy) -> Value {
    json!({
        "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation",
        "metadata": {"name": NAME, "namespace": NAMESPACE},
        "spec": {
            "endpoint": endpoint, "projectId": project, "appId": app,
            "credentialsRef": {"name": "cloud-credentials"},
            "initialRotation": "Immediate",
            "schedule": {"interval": format!("{INTERVAL_SECONDS}s"), "jitter": "1s"},
            "rotationTrigger": trigger,
            "strategy": strategy.as_str(),
            "overlap": {"gracePeriod": format!("{GRACE_SECONDS}s")},
            "target": {"name": SECRET},
        },
    })
}

fn list(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}
