//! What is left of a rotation whose code has not reached its consumers, or whose code before is still there.

use std::fmt::Debug;
use std::time::Duration;

use appcode_operator::api::{AppCodeRotation, AppCodeRotationStatus, ConditionType, Phase};
use cloud_simulator::App;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::case::{Case, NAME};
use crate::player::Readiness;

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
        said(&case.status(NAME), kind).starts_with(case.reason().as_str())
    })
    .await;
    let status = case.status(NAME);
    for text in what {
        let said = said(&status, kind);
        assert!(said.contains(text), "{text} is not in: {said}");
    }
    let message = said(&status, ConditionType::Reconciling);
    assert!(message.contains("The code before works until"), "{message}");
    case.is_told(&message, &case.describe().await);
    assert_eq!(case.suite().changes(&app.app_id), 1);
    assert_eq!(case.cloud().data_plane_status(&app.codes[0]), 200);
}

/// The code before is gone, and the one in the Secret is the only one.
async fn ends(case: &Case, app: &App) {
    case.ends(NAME, NAME, &app.app_id, 2).await;
    assert_eq!(case.cloud().live_codes(&app.app_id).len(), 1);
    case.until("nothing is left to do", async || {
        case.status(NAME).phase == Some(Phase::Ready)
    })
    .await;
}

/// A service that the app may not call.
async fn unverified(case: &Case) -> App {
    let (user, project) = (&case.suite().stage.user.user_id, &case.suite().stage.project);
    let service = case.cloud().add_service(user, project, "theirs").service_id;
    let url = format!("{}/v1/infers/{service}", case.cloud().url());
    let app = rotated(case, json!({"verification": {"url": url, "method": "POST"}})).await;
    case.until("the code is tried", async || case.status(NAME).verification.is_some())
        .await;
    // It has been in the Secret for longer than a gateway takes to know it.
    let at = Timestamp::now() - SignedDuration::from_mins(3);
    let aged = json!({"metadata": {"annotations": {"appcode.dev/rotated-at": at.to_string()}}});
    case.patch::<Secret>(NAME, aged).await;
    let what = ["HTTP 403", "spec.verification.url", "though the new one never passed"];
    is_held(case, &app, ConditionType::Ready, &what).await;
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

/// A workload of one pod in the case's namespace, once that is there.
async fn deploy<K>(case: &Case, more: Value)
where
    K: Resource<Scope = NamespaceResourceScope> + Serialize + DeserializeOwned + Clone + Debug,
    K::DynamicType: Default,
{
    case.open().await;
    let labels = json!({"app": WEB});
    let pod = json!({"containers": [{"name": "main", "image": "registry.example/web:1"}]});
    let template = json!({"metadata": {"labels": labels}, "spec": pod});
    let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    case.create::<K>(json!({"metadata": {"name": WEB}, "spec": spec})).await;
}

/// Follows the page where a workload waits for a person.
async fn follow(case: &Case, app: &App) {
    case.follow().await;
    ends(case, app).await;
    assert!(case.status(NAME).is_true(ConditionType::WorkloadsReady));
}

pub async fn paused(mut case: Case) {
    deploy::<Deployment>(&case, json!({"paused": true})).await;
    let _player = case.player();
    let app = rotated(&case, restarts()).await;
    case.word("WORKLOAD", WEB);
    let what = ["Deployment/web is paused", "kubectl rollout resume deployment/web -n "];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    follow(&case, &app).await;
}

pub async fn no_such_workload(mut case: Case) {
    case.open().await;
    let app = rotated(&case, restarts()).await;
    let what = ["Deployment/web does not exist", "restartTargets"];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    case.edits("/^  restartTargets:$/,/name: web/d");
    case.follow().await;
    ends(&case, &app).await;
}

async fn images(case: &Case) -> Vec<Option<String>> {
    let web = case.api::<Deployment>().get(WEB).await.unwrap();
    let pod = web.spec.unwrap().template.spec.unwrap();
    pod.containers.into_iter().map(|container| container.image).collect()
}

/// Whoever rolls a workload back takes the restart back too, and so does who replaces it by another release. That one stays.
pub async fn rolled_back(mut case: Case) {
    deploy::<Deployment>(&case, json!({})).await;
    let player = case.player();
    player.set(Readiness::Never); // so that the rotation waits for it
    let app = rotated(&case, restarts()).await;
    case.until("the workload is restarted", async || {
        said(&case.status(NAME), ConditionType::WorkloadsReady).starts_with("RollingOut")
    })
    .await;
    case.word("WORKLOAD", WEB);
    case.run("kubectl rollout undo deployment/WORKLOAD -n NAMESPACE").await;
    let what = ["Deployment/web was restarted", "rolled back or replaced since"];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    case.run(
        "kubectl get deployment/WORKLOAD -n NAMESPACE -o yaml \
         | sed '/^  resourceVersion:/d; s#registry.example/web:1#registry.example/web:2#' | kubectl replace -f -",
    )
    .await;
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    player.set(Readiness::After(Duration::ZERO));
    case.edits("/^  restartTargets:$/,/name: web/d");
    case.follow().await;
    ends(&case, &app).await;
    assert_eq!(images(&case).await, [Some("registry.example/web:2".to_owned())]);
}

/// Its new pods do not become ready until their image is corrected.
pub async fn stuck(mut case: Case) {
    deploy::<Deployment>(&case, json!({"progressDeadlineSeconds": 2})).await;
    let player = case.player();
    player.set(Readiness::Never);
    let app = rotated(&case, restarts()).await;
    case.word("WORKLOAD", WEB);
    let what = ["Deployment/web is stuck", "progressDeadlineSeconds"];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    case.edits("s#registry.example/web:1#registry.example/web:2#");
    player.set(Readiness::After(Duration::ZERO));
    follow(&case, &app).await;
}

fn stateful(strategy: &Value) -> Value {
    json!({"replicas": 1, "serviceName": WEB, "updateStrategy": strategy})
}

fn restarts_stateful() -> Value {
    json!({"restartTargets": [{"kind": "StatefulSet", "name": WEB}]})
}

pub async fn left_to_a_person(mut case: Case) {
    deploy::<StatefulSet>(&case, stateful(&json!({"type": "OnDelete"}))).await;
    let _player = case.player();
    let app = rotated(&case, restarts_stateful()).await;
    let what = ["StatefulSet/web waits for a person", "OnDelete"];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    case.word("POD", "web-0");
    follow(&case, &app).await;
}

pub async fn partitioned(mut case: Case) {
    let strategy = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}});
    deploy::<StatefulSet>(&case, stateful(&strategy)).await;
    let _player = case.player();
    let app = rotated(&case, restarts_stateful()).await;
    case.word("WORKLOAD", WEB);
    let what = [
        "StatefulSet/web waits for a person",
        "the whole new template to all pods",
    ];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    follow(&case, &app).await;
}

pub async fn not_waited_for(mut case: Case) {
    case.word("WORKLOAD", WEB);
    deploy::<Deployment>(&case, json!({"paused": true})).await;
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
    deploy::<Deployment>(&case, json!({})).await;
    let _player = case.player();
    let app = rotated(&case, restarts()).await;
    let what = ["may not be read", "appcode-operator-restart"];
    is_held(&case, &app, ConditionType::WorkloadsReady, &what).await;
    follow(&case, &app).await;
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
        case.status(NAME).phase == Some(Phase::Retiring)
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
