//! What is left of a rotation whose code has not reached its consumers, or whose code before is still there.

use appcode_operator::api::{AppCodeRotation, AppCodeRotationStatus, ConditionType, Phase};
use cloud_simulator::App;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::case::{Case, NAME};

const WEB: &str = "web";

/// A resource that has made a second code and cannot go on.
async fn rotated(case: &Case, more: Value) -> App {
    let app = case.app(1);
    let mut spec = json!({"strategy": "Overlap", "overlap": {"gracePeriod": "0s"}});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    case.start_ready(&app, spec).await;
    case.request_rotation("now").await;
    app
}

fn said(status: &AppCodeRotationStatus, kind: ConditionType) -> String {
    let found = status.condition(kind);
    found.map_or_else(String::new, |it| format!("{}: {}", it.reason, it.message))
}

/// Waits until a condition has the case's reason; what it says names `what`, and the code before still works.
async fn is_held(case: &Case, app: &App, kind: ConditionType, what: &[&str]) {
    case.until("what does not go on", async || {
        said(&case.status(NAME).await, kind).starts_with(case.reason().as_str())
    })
    .await;
    let status = case.status(NAME).await;
    for text in what {
        let said = said(&status, kind);
        assert!(said.contains(text), "{text} is not in: {said}");
        assert!(case.describe().await.contains(text), "{text}");
    }
    assert!(said(&status, ConditionType::Reconciling).contains("The code before works until"));
    assert_eq!(case.suite().changes(&app.app_id), 1);
    assert_eq!(case.cloud().data_plane_status(&app.codes[0]), 200);
}

/// The code before is gone, and the one in the Secret is the only one.
async fn ends(case: &Case, app: &App) {
    case.ends(NAME, NAME, &app.app_id, 2).await;
    assert_eq!(case.cloud().live_codes(&app.app_id).len(), 1);
    case.until("nothing is left to do", async || {
        case.status(NAME).await.phase == Some(Phase::Ready)
    })
    .await;
}

/// A service that the app may not call.
async fn unverified(case: &Case) -> App {
    let (user, project) = (&case.suite().stage.user.user_id, &case.suite().stage.project);
    let service = case.cloud().add_service(user, project, "theirs").service_id;
    let url = format!("{}/v1/infers/{service}", case.cloud().url());
    let app = rotated(case, json!({"verification": {"url": url, "method": "POST"}})).await;
    is_held(case, &app, ConditionType::Ready, &["HTTP 403", "spec.verification.url"]).await;
    app
}

pub async fn another_url(mut case: Case) {
    let app = unverified(&case).await;
    let url = format!("{}/v1/infers/ours", case.cloud().url());
    case.word("VERIFICATION_URL", &url);
    case.follow().await;
    ends(&case, &app).await;
}

pub async fn no_verification(case: Case) {
    let app = unverified(&case).await;
    case.follow().await;
    ends(&case, &app).await;
}

fn restarts() -> Value {
    json!({"restartTargets": [{"kind": "Deployment", "name": WEB}]})
}

/// A Deployment in the case's namespace, once that is there.
async fn deploy(case: &Case, is_paused: bool) {
    case.open().await;
    let labels = json!({"app": WEB});
    let pod = json!({"containers": [{"name": "main", "image": "registry.example/web:1"}]});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let spec = json!({"paused": is_paused, "selector": {"matchLabels": labels}, "template": template});
    case.create::<Deployment>(json!({"metadata": {"name": WEB}, "spec": spec}))
        .await;
}

pub async fn paused(mut case: Case) {
    deploy(&case, true).await;
    let _player = case.player();
    let app = rotated(&case, restarts()).await;
    let what = ["Deployment/web is paused", "kubectl rollout resume deployment/web -n "];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    case.word("WORKLOAD", WEB);
    case.follow().await;
    ends(&case, &app).await;
    assert!(case.status(NAME).await.is_true(ConditionType::WorkloadsReady));
}

pub async fn no_such_workload(case: Case) {
    case.open().await;
    let app = rotated(&case, restarts()).await;
    let what = ["Deployment/web does not exist", "restartTargets"];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    case.follow().await;
    ends(&case, &app).await;
}

pub async fn not_waited_for(case: Case) {
    deploy(&case, true).await;
    let mut more = restarts();
    more["overlap"] = json!({"gracePeriod": "1h"});
    let app = rotated(&case, more).await;
    is_held(&case, &app, ConditionType::WorkloadsReady, &["Deployment/web"]).await;
    case.follow().await;
    ends(&case, &app).await;
}

/// Takes a right from the operator, so nothing else may run beside it.
pub async fn no_right_to_restart(mut case: Case) {
    case.word("OVERLAY", "deploy/kustomize/overlays/restart");
    let bindings: Api<ClusterRoleBinding> = Api::all(case.suite().client.clone());
    bindings
        .delete("appcode-operator-restart", &DeleteParams::default())
        .await
        .unwrap();
    deploy(&case, false).await;
    let _player = case.player();
    let app = rotated(&case, restarts()).await;
    let what = ["may not be read", "appcode-operator-restart"];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    case.follow().await;
    ends(&case, &app).await;
    assert!(case.status(NAME).await.is_true(ConditionType::WorkloadsReady));
}

/// As above: the role is as it was before there was a finalizer.
pub async fn no_right_to_hold(mut case: Case) {
    case.word("OVERLAY", "deploy");
    let roles: Api<ClusterRole> = Api::all(case.suite().client.clone());
    let mut role = roles.get("appcode-operator").await.unwrap();
    let is_on_it = |resources: &Option<Vec<String>>| resources.iter().flatten().any(|it| it == "appcoderotations");
    for rule in role.rules.iter_mut().flatten().filter(|rule| is_on_it(&rule.resources)) {
        rule.verbs.retain(|verb| verb != "patch");
    }
    let patch = Patch::Merge(json!({"rules": role.rules}));
    let params = PatchParams::default();
    roles.patch("appcode-operator", &params, &patch).await.unwrap();
    let app = rotated(&case, json!({})).await;
    case.stops(&["finalizer", "forbidden", "helm upgrade"], "kubectl apply -k")
        .await;
    case.assert_unchanged(&app);
    case.follow().await;
    ends(&case, &app).await;
}

pub async fn left_code(mut case: Case) {
    case.open().await;
    let app = rotated(&case, json!({"overlap": {"gracePeriod": "1h"}})).await;
    case.until("the grace period runs", async || {
        case.status(NAME).await.phase == Some(Phase::Retiring)
    })
    .await;
    case.api::<AppCodeRotation>()
        .delete(NAME, &DeleteParams::default())
        .await
        .unwrap();
    case.until("the event", async || case.follow().await.contains("NotRetired"))
        .await;
    let told = case.follow().await;
    case.fingerprint(&app.app_id, &app.codes[0]).await;
    assert!(told.contains(case.value("FINGERPRINT")), "{told}");
    assert!(case.cloud().remove_code(&app.app_id, &app.codes[0]));
    assert_eq!(
        case.cloud().live_codes(&app.app_id),
        Vec::from_iter(case.code(NAME).await)
    );
    assert_eq!(case.suite().changes(&app.app_id), 1);
}
