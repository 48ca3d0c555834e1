//! Stops that concern the cluster.

use appcode_operator::api::AppCodeRotation;
use cloud_simulator::{App, Fault, LostAnswer, Operation};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
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

async fn broken_template(case: &Case) -> App {
    let more = json!({"target": {"template": {"data": {"url": "{{ appCode | upper }}"}}}});
    stopped(case, more, &["spec.target.template.data[url]"], "there are base64").await
}

pub async fn template_corrected(mut case: Case) {
    let app = broken_template(&case).await;
    case.edits("s/ | upper//");
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    let secret = case.api::<Secret>().get(NAME).await.unwrap();
    assert!(secret.data.unwrap().contains_key("url"));
}

pub async fn template_left_out(case: Case) {
    let app = broken_template(&case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

/// A Secret of ours of which nothing says that the operator made it, as one of an early build.
async fn old_secret(case: &Case) -> App {
    let app = case.app(1);
    case.start_ready(&app, json!({})).await;
    let unmade = json!({"metadata": {"annotations": {"appcode.dev/created": null}}});
    case.patch::<Secret>(NAME, unmade).await;
    let delete = json!({"spec": {"target": {"deletionPolicy": "Delete"}}});
    case.patch::<AppCodeRotation>(NAME, delete).await;
    case.stops(&["Secret one", "must not be deleted"], "Have it kept").await;
    case.assert_unchanged(&app);
    app
}

pub async fn old_secret_kept(case: Case) {
    let app = old_secret(&case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn old_secret_given(case: Case) {
    let app = old_secret(&case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    let secret = case.api::<Secret>().get(NAME).await.unwrap();
    assert_eq!(secret.metadata.owner_references.map_or(0, |owners| owners.len()), 1);
}

/// Others have put `theirs` on the Secret, and spec comes to name it.
async fn taken(case: &mut Case, theirs: Value, template: Value, what: &str) -> App {
    let app = case.app(1);
    case.start_ready(&app, json!({})).await;
    case.patch::<Secret>(NAME, theirs).await;
    let spec = json!({"spec": {"target": {"template": template}}});
    case.patch::<AppCodeRotation>(NAME, spec).await;
    case.word("KEY", "extra");
    case.stops(&["Secret one", what], "remove it if nobody needs it").await;
    case.assert_unchanged(&app);
    app
}

async fn taken_key(case: &mut Case) -> App {
    let theirs = json!({"stringData": {"extra": "theirs"}});
    taken(case, theirs, json!({"data": {"extra": "{{ appName }}"}}), "key extra").await
}

pub async fn another_key(mut case: Case) {
    let app = taken_key(&mut case).await;
    case.edits("s/ extra: / mine: /");
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    let data = case.api::<Secret>().get(NAME).await.unwrap().data.unwrap();
    assert_eq!(data.keys().collect::<Vec<_>>(), ["appCode", "extra", "mine"]);
    assert_eq!(data["extra"].0, b"theirs");
}

pub async fn key_removed(mut case: Case) {
    let app = taken_key(&mut case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn label_removed(mut case: Case) {
    let labels = json!({"labels": {"extra": "theirs"}});
    let template = json!({"labels": {"extra": "ours"}});
    let app = taken(&mut case, json!({ "metadata": labels }), template, "label extra").await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn annotation_removed(mut case: Case) {
    let annotations = json!({"annotations": {"extra": "theirs"}});
    let template = json!({"annotations": {"extra": "ours"}});
    let app = taken(
        &mut case,
        json!({ "metadata": annotations }),
        template,
        "annotation extra",
    )
    .await;
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

/// The answer to a reset is lost, and the Secret that tells of it cannot be written any more.
pub async fn immutable_secret_of_an_open_rotation(mut case: Case) {
    let app = case.app(1);
    let id = &app.app_id;
    case.start_ready(&app, json!({})).await;
    let late = Fault::late(None, LostAnswer::Cut).at(Operation::Reset).app(id).once();
    let late = case.cloud().inject(late);
    case.request_rotation("now").await;
    case.until("the reset is sent", async || case.suite().changes(id) == 1)
        .await;
    case.patch::<Secret>(NAME, json!({"immutable": true})).await;
    case.stops(&["Secret one", "immutable"], "A rotation is open on it")
        .await;
    assert_eq!(case.cloud().release(late), 1);
    case.file("BACKUP_FILE", "");
    case.follow().await;
    case.ends(NAME, NAME, id, 1).await;
    let secret = case.api::<Secret>().get(NAME).await.unwrap();
    assert_eq!(secret.immutable, None);
}

/// The answer to a reset that did nothing is lost, and spec comes to ask for another type before it is repeated.
pub async fn another_type_in_an_open_rotation(mut case: Case) {
    let app = case.app(1);
    let id = &app.app_id;
    case.start_ready(&app, json!({})).await;
    case.cloud()
        .inject(Fault::cut_before().at(Operation::Reset).app(id).once());
    case.request_rotation("now").await;
    case.until("the reset is sent", async || case.status(NAME).rotation.is_some())
        .await;
    let template = json!({"type": "kubernetes.io/basic-auth", "data": {"username": "any"}});
    case.patch::<AppCodeRotation>(NAME, json!({"spec": {"target": {"template": template}}}))
        .await;
    case.stops(&["Secret one", "its type is not"], "name the type that it has")
        .await;
    case.edits("s/type: kubernetes.io.basic-auth/type: Opaque/");
    case.follow().await;
    case.until("the rotation", async || case.suite().stage.resets(id) > 0)
        .await;
    case.ready(NAME, NAME, id).await;
}

/// Somebody has deleted the Secret, and a finalizer of theirs holds it.
pub async fn secret_held_by_a_finalizer(mut case: Case) {
    let app = case.app(1);
    case.start_ready(&app, json!({})).await;
    case.patch::<Secret>(NAME, json!({"metadata": {"finalizers": ["example.com/hold"]}}))
        .await;
    case.api::<Secret>()
        .delete(NAME, &DeleteParams::default())
        .await
        .unwrap();
    case.stops(&["Secret one", "being deleted"], "Remove the finalizer")
        .await;
    case.assert_unchanged(&app);
    case.file("BACKUP_FILE", "");
    case.edits("/finalizers:/,+1d");
    case.follow().await;
    case.until("it is made again", async || {
        let secret = case.api::<Secret>().get_opt(NAME).await.unwrap();
        secret.is_some_and(|secret| secret.metadata.deletion_timestamp.is_none())
    })
    .await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert_eq!(case.code(NAME).await.as_ref(), app.codes.first());
}

pub async fn immutable_secret_of_others(case: Case) {
    let app = case.app(1);
    case.open().await;
    case.secret(NAME, json!({"other": "kept"})).await;
    case.start_ready(&app, json!({"target": {"creationPolicy": "Merge"}}))
        .await;
    case.patch::<Secret>(NAME, json!({"immutable": true})).await;
    case.stops(&["Secret one", "immutable"], "Have whoever keeps it make it anew")
        .await;
    case.assert_unchanged(&app);
    case.secret("new", json!({"other": "kept"})).await;
    case.follow().await;
    case.ends(NAME, "new", &app.app_id, 0).await;
}

pub async fn unknown_format(mut case: Case) {
    let app = case.app(1);
    case.start_ready(&app, json!({})).await;
    let intent = json!({"metadata": {"annotations": {"appcode.dev/intent": r#"{"formatVersion":99}"#}}});
    case.patch::<Secret>(NAME, intent).await;
    case.stops(
        &["Secret one", "no newer operator version"],
        "kubectl delete secret one -n ",
    )
    .await;
    case.assert_unchanged(&app);
    case.file("BACKUP_FILE", "");
    case.follow().await;
    let copy = std::fs::read_to_string(case.value("BACKUP_FILE")).unwrap();
    assert!(copy.contains("formatVersion") && copy.contains("appCode:"), "{copy}");
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn invalid_spec(mut case: Case) {
    let more = json!({"schedule": {"interval": "1s"}});
    let app = stopped(&case, more, &["spec.schedule.interval"], "must be at least").await;
    case.edits("s/interval: 1s/interval: 720h/");
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

async fn never(case: &Case) -> App {
    let more = json!({"schedule": {"cron": "0 0 31 2 *", "timeZone": "Europe/Berlin"}});
    stopped(case, more, &["spec.schedule.cron"], "correct the day").await
}

pub async fn no_such_date(mut case: Case) {
    let app = never(&case).await;
    case.word("CRON", "0 3 1 * *");
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn interval_instead(mut case: Case) {
    let app = never(&case).await;
    case.word("INTERVAL", "720h");
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

/// A window that never opens beside one that does, which is no matter of how often to rotate.
async fn no_such_window(case: &Case) -> App {
    let window = |cron: &str| json!({"cron": cron, "duration": "6h"});
    let windows = [window("0 22 * * SAT"), window("0 22 30 2 *")];
    let more = json!({"schedule": {"interval": "720h", "windows": windows}});
    let concerned = ["spec.schedule.windows[1].cron", "drops the windows that are right too"];
    stopped(case, more, &concerned, "correct the day").await
}

async fn windows(case: &Case) -> usize {
    let resource = case.api::<AppCodeRotation>().get(NAME).await.unwrap();
    resource.spec.schedule.unwrap().windows.len()
}

pub async fn window_corrected(mut case: Case) {
    let app = no_such_window(&case).await;
    case.edits("s/0 22 30 2/0 22 28 2/");
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert_eq!(windows(&case).await, 2);
}

pub async fn no_windows(case: Case) {
    let app = no_such_window(&case).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert!(case.status(NAME).next_rotation_time.is_some());
    assert_eq!(windows(&case).await, 0);
}

pub async fn another_endpoint(mut case: Case) {
    let more = json!({"endpoint": "https://modelarts.invalid"});
    let app = stopped(&case, more, &["spec.endpoint", "allow-list"], "use region").await;
    let endpoint = case.cloud().url();
    case.word("ENDPOINT", &endpoint);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

async fn verified_by_a_stranger(case: &Case) -> App {
    let more = json!({"verification": {"url": "https://stranger.example/try"}});
    stopped(case, more, &["spec.verification.url", "allow-list"], "name one that is").await
}

pub async fn verified_elsewhere(mut case: Case) {
    let app = verified_by_a_stranger(&case).await;
    let url = format!("{}/v1/infers/ours", case.cloud().url());
    case.word("VERIFICATION_URL", &url);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn not_verified(case: Case) {
    let app = verified_by_a_stranger(&case).await;
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
        case.status(NAME).rotation_number == Some(2)
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

/// Another seed asks for what no annotation takes back.
pub async fn budget_used_up_by_the_spec(mut case: Case) {
    let app = case.app(2);
    let id = &app.app_id;
    case.start_ready(&app, json!({"appCode": app.codes[0]})).await;
    case.request_rotation("second").await;
    case.until("the second rotation", async || {
        case.status(NAME).rotation_number == Some(2)
    })
    .await;
    let another = json!({"spec": {"appCode": app.codes[1]}});
    case.patch::<AppCodeRotation>(NAME, another).await;
    case.stops(&["2 rotations", "--daily-budget", "seed"], "kubectl edit acr one -n ")
        .await;
    assert_eq!(case.suite().changes(id), 2);
    case.edits("/^  appCode: /d");
    case.follow().await;
    case.ends(NAME, NAME, id, 2).await;
    assert!(case.cloud().live_codes(id).contains(&app.codes[1]));
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
