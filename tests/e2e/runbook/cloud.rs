//! Stops that concern the cloud.

use cloud_simulator::{App, AppType, NewApp, User};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::{Value, json};

use super::case::{Case, NAME};

/// A resource that stops, and the app that it is about.
async fn stopped(case: &Case, app: &App, more: Value, concerned: &[&str], remedy: &str) {
    case.open().await;
    case.rotation(NAME, &app.app_id, more).await;
    case.stops(concerned, remedy).await;
    case.assert_unchanged(app);
}

fn owner(case: &Case) -> User {
    case.suite().stage.user.clone()
}

pub async fn credentials_missing(mut case: Case) {
    let app = case.app(1);
    let more = json!({"credentialsRef": {"name": "absent"}});
    let concerned = ["Credentials Secret absent", "does not exist"];
    case.word("CREDENTIALS", "absent");
    stopped(&case, &app, more, &concerned, "Create it in this namespace").await;
    case.files_of(&owner(&case));
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn credentials_incomplete(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    let (namespace, half) = (case.namespace().to_owned(), json!({"accessKey": owner(&case).ak}));
    case.apply_secret(&namespace, "half", half).await;
    case.rotation(NAME, &app.app_id, json!({"credentialsRef": {"name": "half"}}))
        .await;
    case.word("CREDENTIALS", "half");
    case.stops(
        &["Credentials Secret half", "it needs accessKey and secretKey"],
        "Put what is missing",
    )
    .await;
    case.assert_unchanged(&app);
    case.files_of(&owner(&case));
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    case.assert_kept(&namespace, "half", &["accessKey", "secretKey"]).await;
}

pub async fn credentials_of_the_cluster(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    let account = json!({"kubernetes.io/service-account.name": "robot"});
    case.create::<ServiceAccount>(json!({"metadata": {"name": "robot"}}))
        .await;
    let kind = "kubernetes.io/service-account-token";
    case.create::<Secret>(json!({"metadata": {"name": "robot", "annotations": account}, "type": kind}))
        .await;
    case.rotation(NAME, &app.app_id, json!({"credentialsRef": {"name": "robot"}}))
        .await;
    case.stops(&["Credentials Secret robot", "service account"], "Name another Secret")
        .await;
    case.assert_unchanged(&app);
    case.files_of(&owner(&case));
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn credentials_rejected(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    let wrong = json!({"accessKey": "no-such-key", "secretKey": "no-such-secret"});
    let namespace = case.namespace().to_owned();
    case.apply_secret(&namespace, "wrong", wrong).await;
    case.rotation(NAME, &app.app_id, json!({"credentialsRef": {"name": "wrong"}}))
        .await;
    case.word("CREDENTIALS", "wrong");
    case.stops(&["credentials in Secret wrong"], "Correct that Secret")
        .await;
    case.assert_unchanged(&app);
    case.files_of(&owner(&case));
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    case.assert_kept(&namespace, "wrong", &["accessKey", "secretKey"]).await;
}

/// The keys are right, and the token of others is still beside them.
pub async fn token_left(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    let owner = owner(&case);
    let mixed = json!({"accessKey": owner.ak, "secretKey": owner.sk, "securityToken": "of-other-keys"});
    case.secret("mixed", mixed).await;
    case.rotation(NAME, &app.app_id, json!({"credentialsRef": {"name": "mixed"}}))
        .await;
    case.word("CREDENTIALS", "mixed");
    case.stops(&["credentials in Secret mixed"], "remove a securityToken")
        .await;
    case.assert_unchanged(&app);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn not_authorized(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    case.credentials("strangers", &case.suite().stranger).await;
    case.rotation(NAME, &app.app_id, json!({"credentialsRef": {"name": "strangers"}}))
        .await;
    case.stops(&[&app.app_id, "Secret strangers"], "spec.credentialsRef")
        .await;
    case.assert_unchanged(&app);
    case.files_of(&owner(&case));
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

/// Only the token that a password is changed for tells who the caller is.
pub async fn not_owner(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    let colleague = &case.suite().colleague;
    let password = json!({
        "domainName": colleague.account_name, "userName": colleague.name, "password": colleague.password,
    });
    case.secret("colleagues", password).await;
    case.rotation(NAME, &app.app_id, json!({"credentialsRef": {"name": "colleagues"}}))
        .await;
    case.stops(&[&app.app_id, "another IAM user"], "spec.credentialsRef")
        .await;
    case.assert_unchanged(&app);
    case.files_of(&owner(&case));
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn no_such_app(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    case.rotation(NAME, "mistyped", json!({})).await;
    case.stops(&["mistyped"], "spec.projectId, spec.appId").await;
    case.assert_unchanged(&app);
    case.word("PROJECT_ID", &app.project_id);
    case.word("APP_ID", &app.app_id);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

/// The right ids at an endpoint where there is no such app.
pub async fn another_region(mut case: Case) {
    let app = case.app(1);
    let more = json!({"endpoint": case.suite().elsewhere.url()});
    stopped(&case, &app, more, &[&app.app_id], "the region").await;
    let endpoint = case.cloud().url();
    case.word("ENDPOINT", &endpoint);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn another_gateway(mut case: Case) {
    let (user, project) = (&case.suite().stage.user.user_id, &case.suite().stage.project);
    let on_roma = NewApp::of(user, project).codes(1).on(AppType::Apic);
    let wrong = case.cloud().create_app(&on_roma);
    stopped(&case, &wrong, json!({}), &[&wrong.app_id, "gateway"], "spec.appId").await;
    let app = case.app(1);
    case.word("APP_ID", &app.app_id);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    case.assert_unchanged(&wrong);
}

pub async fn another_name(mut case: Case) {
    let app = case.app(1);
    let more = json!({"appName": "expected"});
    stopped(
        &case,
        &app,
        more,
        &[&app.app_id, "not named \"expected\""],
        "spec.appName",
    )
    .await;
    case.word("APP_NAME", &app.app_name);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn another_app(mut case: Case) {
    let (user, project) = (&case.suite().stage.user.user_id, &case.suite().stage.project);
    let app = case
        .cloud()
        .create_app(&NewApp::of(user, project).codes(1).name("meant"));
    let wrong = case.app(1);
    let more = json!({"appName": "meant"});
    stopped(
        &case,
        &wrong,
        more,
        &[&wrong.app_id, "not named \"meant\""],
        "spec.appId",
    )
    .await;
    case.word("APP_ID", &app.app_id);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    case.assert_unchanged(&wrong);
}
