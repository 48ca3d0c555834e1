//! Stops that concern the cluster.

use appcode_operator::api::AppCodeRotation;
use cloud_simulator::App;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::case::{Case, NAME};

async fn stopped(case: &Case, more: Value, concerned: &[&str], remedy: &str) -> App {
    let app = case.app(1);
    case.open().await;
    case.rotation(NAME, &app.app_id, more).await;
    case.stops(concerned, remedy).await;
    case.assert_unchanged(&app);
    app
}

async fn foreign_secret(case: &Case) -> App {
    let app = case.app(1);
    case.open().await;
    case.secret(NAME, json!({"appCode": "precious"})).await;
    case.rotation(NAME, &app.app_id, json!({})).await;
    case.stops(&["Secret one", "left alone"], "kubectl delete secret one -n ")
        .await;
    case.assert_unchanged(&app);
    assert_eq!(case.code(NAME).await.as_deref(), Some("precious"));
    app
}

pub async fn foreign_secret_left(case: Case) {
    let app = foreign_secret(&case).await;
    case.follow().await;
    case.ends(NAME, "new", &app.app_id, 0).await;
    assert_eq!(case.code(NAME).await.as_deref(), Some("precious"));
}

pub async fn foreign_secret_deleted(case: Case) {
    let app = foreign_secret(&case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn foreign_secret_adopted(case: Case) {
    let app = foreign_secret(&case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

async fn absent_secret(case: &Case) -> App {
    let more = json!({"target": {"creationPolicy": "Merge"}});
    stopped(case, more, &["Secret one", "Merge"], "Create it").await
}

pub async fn absent_secret_created(case: Case) {
    let app = absent_secret(&case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn absent_secret_made(case: Case) {
    let app = absent_secret(&case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn broken_template(case: Case) {
    let more = json!({"target": {"template": {"data": {"url": "{{ appCode | upper }}"}}}});
    let app = stopped(&case, more, &["spec.target.template.data[url]"], "there are base64").await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn immutable_secret(case: Case) {
    let app = case.app(1);
    case.start_ready(&app, json!({})).await;
    case.patch::<Secret>(NAME, json!({"immutable": true})).await;
    case.stops(&["Secret one", "immutable"], "kubectl delete secret one -n ")
        .await;
    case.assert_unchanged(&app);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert_eq!(case.code(NAME).await.as_ref(), app.codes.first());
}

pub async fn unknown_format(case: Case) {
    let app = case.app(1);
    case.start_ready(&app, json!({})).await;
    let intent = json!({"metadata": {"annotations": {"appcode.dev/intent": r#"{"formatVersion":99}"#}}});
    case.patch::<Secret>(NAME, intent).await;
    case.stops(&["Secret one"], "kubectl delete secret one -n ").await;
    case.assert_unchanged(&app);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn invalid_spec(case: Case) {
    let more = json!({"schedule": {"interval": "1s"}});
    let app = stopped(&case, more, &["spec.schedule.interval"], "must be at least").await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn no_such_date(case: Case) {
    let more = json!({"schedule": {"cron": "0 0 31 2 *"}});
    let app = stopped(&case, more, &["spec.schedule.cron"], "correct the day").await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn another_endpoint(mut case: Case) {
    let more = json!({"endpoint": "https://modelarts.invalid"});
    let app = stopped(&case, more, &["spec.endpoint", "allow-list"], "use region").await;
    let endpoint = case.cloud().url();
    case.word("ENDPOINT", &endpoint);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn no_credentials(mut case: Case) {
    let more = json!({"credentialsRef": null});
    let remedy = "--allow-default-identity=identitynotallowed-0=";
    let app = stopped(&case, more, &["spec.credentialsRef"], remedy).await;
    let owner = case.suite().stage.user.clone();
    case.files_of(&owner);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn budget_used_up(case: Case) {
    let app = case.app(1);
    let id = &app.app_id;
    let more = json!({"initialRotation": "Immediate", "rotationTrigger": "first"});
    case.start_ready(&app, more).await;
    case.request_rotation("second").await;
    case.until("the second rotation", async || {
        case.status(NAME).await.rotation_number == Some(2)
    })
    .await;
    let again = json!({
        "metadata": {"annotations": {"appcode.dev/rotate-requested-at": "third"}},
        "spec": {"rotationTrigger": "third"},
    });
    case.patch::<AppCodeRotation>(NAME, again).await;
    case.stops(&["2 rotations", "--daily-budget"], "take it back").await;
    assert_eq!(case.suite().changes(id), 2);
    case.follow().await;
    case.ends(NAME, NAME, id, 2).await;
}

/// Takes rights from the operator, so nothing else may run beside it.
pub async fn lost_rights(mut case: Case) {
    case.word("OVERLAY", "deploy");
    let app = case.app(1);
    case.start_ready(&app, json!({})).await;
    let roles: Api<ClusterRole> = Api::all(case.suite().client.clone());
    let mut role = roles.get("appcode-operator").await.unwrap();
    let is_on_secrets = |resources: &Option<Vec<String>>| resources.iter().flatten().any(|it| it == "secrets");
    for rule in role.rules.iter_mut().flatten() {
        if is_on_secrets(&rule.resources) {
            rule.verbs = vec!["get".to_owned()];
        }
    }
    let patch = Patch::Merge(json!({"rules": role.rules}));
    roles
        .patch("appcode-operator", &PatchParams::default(), &patch)
        .await
        .unwrap();
    case.request_rotation("now").await;
    case.stops(&["Secret one", "forbidden", "helm upgrade"], "kubectl apply -k")
        .await;
    case.assert_unchanged(&app);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 1).await;
}
