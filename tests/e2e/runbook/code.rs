//! Stops that concern the code.

use std::time::Duration;

use appcode_operator::api::AppCodeRotation;
use cloud_simulator::{App, Cause, Change, Effect, Fault, Half, LostAnswer, NewApp, Operation};
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::case::{Case, NAME};

const ANSWER: &str = "kubectl annotate acr one -n ";

fn seed_in(secret: &str) -> Value {
    json!({"appCodeFrom": {"secretKeyRef": {"name": secret, "key": "appCode"}}})
}

pub async fn ambiguous_outcome(mut case: Case) {
    let app = case.app(1);
    let id = &app.app_id;
    let late = Fault::late(None, LostAnswer::Cut).at(Operation::Reset).app(id).once();
    let late = case.cloud().inject(late);
    case.open().await;
    case.rotation(NAME, id, json!({"initialRotation": "Immediate"})).await;
    case.until("the reset is sent", async || case.suite().changes(id) == 1)
        .await;
    // A stranger makes a code and the reset happens, between two looks that each prove nothing.
    let theirs = case.cloud().add_code(id, None).unwrap();
    assert_eq!(case.cloud().release(late), 1);
    let is_ours = |effect: &&Effect| effect.app == *id && effect.cause == Cause::Reset && effect.change == Change::Made;
    let ours = case.cloud().ledger().effects.iter().find(is_ours).unwrap().code.clone();
    case.stops(&[id, "Several codes appeared"], ANSWER).await;
    assert_eq!(case.suite().changes(id), 1);

    case.fingerprint(id, &theirs).await;
    let left = case.value("FINGERPRINT").to_owned();
    case.fingerprint(id, &ours).await;
    case.follow().await;
    case.ends(NAME, NAME, id, 1).await;
    assert_eq!(case.code(NAME).await, Some(ours));
    assert_eq!(case.status(NAME).unclaimed, [left]);
}

/// Somebody has put another code in the place of ours.
async fn replaced_code(case: &Case) -> (App, String) {
    let app = case.app(1);
    case.start_ready(&app, json!({})).await;
    let new = case.cloud().add_code(&app.app_id, None).unwrap();
    assert!(case.cloud().remove_code(&app.app_id, &app.codes[0]));
    case.stops(&[&app.app_id, "The current code"], ANSWER).await;
    assert_eq!(case.suite().changes(&app.app_id), 0);
    assert_eq!(case.code(NAME).await.as_ref(), app.codes.first(), "left as it was");
    (app, new)
}

pub async fn not_listed_and_answered(mut case: Case) {
    let (app, new) = replaced_code(&case).await;
    case.fingerprint(&app.app_id, &new).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn not_listed_and_named(mut case: Case) {
    let (app, new) = replaced_code(&case).await;
    case.file("CODE_FILE", &new);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 1).await;
}

async fn two_codes(case: &Case) -> App {
    let app = case.app(2);
    case.open().await;
    case.rotation(NAME, &app.app_id, json!({})).await;
    case.stops(&[&app.app_id, "several codes"], ANSWER).await;
    case.assert_unchanged(&app);
    app
}

pub async fn ambiguous_and_answered(mut case: Case) {
    let app = two_codes(&case).await;
    case.fingerprint(&app.app_id, &app.codes[1]).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert_eq!(case.code(NAME).await.as_ref(), app.codes.get(1));
}

pub async fn ambiguous_and_named(mut case: Case) {
    let app = two_codes(&case).await;
    case.file("CODE_FILE", &app.codes[1]);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert_eq!(case.code(NAME).await.as_ref(), app.codes.get(1));
}

async fn no_seed(case: &Case, codes: usize) -> App {
    let app = case.app(codes);
    case.open().await;
    case.rotation(NAME, &app.app_id, seed_in("seed")).await;
    case.stops(&["Secret seed does not exist"], "spec.appCodeFrom").await;
    case.assert_unchanged(&app);
    app
}

pub async fn seed_made(mut case: Case) {
    let app = no_seed(&case, 2).await;
    case.file("CODE_FILE", &app.codes[1]);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert_eq!(case.code(NAME).await.as_ref(), app.codes.get(1));
}

pub async fn seed_mended(mut case: Case) {
    let app = case.app(2);
    case.open().await;
    let namespace = case.namespace().to_owned();
    case.apply_secret(&namespace, "seed", json!({})).await;
    case.rotation(NAME, &app.app_id, seed_in("seed")).await;
    case.stops(&["Secret seed holds no app code under key appCode"], "mend that Secret")
        .await;
    case.assert_unchanged(&app);
    case.file("CODE_FILE", &app.codes[1]);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert_eq!(case.code(NAME).await.as_ref(), app.codes.get(1));
    case.assert_kept(&namespace, "seed", &["appCode"]).await;
}

pub async fn seed_left_out(case: Case) {
    let app = no_seed(&case, 1).await;
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn masked(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    let (owner, colleague) = (case.suite().stage.user.clone(), case.suite().colleague.clone());
    case.credentials("colleagues", &colleague).await;
    let masked = case.cloud().inject(Fault::masked().app(&app.app_id));
    let more = json!({"credentialsRef": {"name": "colleagues"}});
    case.rotation(NAME, &app.app_id, more).await;
    case.stops(&[&app.app_id, "masked"], "spec.credentialsRef").await;
    case.assert_unchanged(&app);

    case.cloud().clear(masked); // the creator sees them plain
    case.files_of(&owner);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
}

pub async fn not_addressable(mut case: Case) {
    let (user, project) = (&case.suite().stage.user.user_id, &case.suite().stage.project);
    let app = case.cloud().create_app(&NewApp::of(user, project).code("one/two"));
    case.start_ready(&app, json!({})).await;
    case.request_rotation("now").await;
    case.stops(&[&app.app_id, "no URL can name it"], "spec.appCodeFrom")
        .await;
    case.assert_unchanged(&app);

    let new = case.cloud().add_code(&app.app_id, None).unwrap();
    assert!(case.cloud().remove_code(&app.app_id, &app.codes[0]));
    case.file("CODE_FILE", &new);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 1).await;
}

/// An app with more codes than the documents allow stands for one that others filled up again in the meantime.
pub async fn no_room(case: Case) {
    let app = case.app(6);
    let id = &app.app_id;
    let half = Fault::half_reset(Half::NoneMade).at(Operation::Reset).app(id).once();
    case.cloud().inject(half);
    case.open().await;
    case.rotation(NAME, id, json!({"appCode": app.codes[0]})).await;
    case.stops(&[id, "5 codes"], "Delete a code that nobody uses").await;
    assert_eq!(case.suite().changes(id), 1);

    assert!(case.cloud().remove_code(id, &app.codes[5]));
    case.follow().await;
    case.ends(NAME, NAME, id, 2).await;
    assert_eq!(
        case.suite().stage.resets(id),
        1,
        "the other change adds the code that is missing"
    );
    assert_eq!(case.cloud().live_codes(id).len(), 5);
}

pub async fn no_room_beside(case: Case) {
    let app = case.app(5);
    let id = &app.app_id;
    case.open().await;
    let more = json!({"strategy": "Overlap", "appCode": app.codes[0]});
    case.rotation(NAME, id, more).await;
    let concerned = [id.as_str(), "5 codes", "kills the old code at once"];
    case.stops(&concerned, "Delete a code that nobody uses").await;
    case.assert_unchanged(&app);
    case.follow().await;
    case.ends(NAME, NAME, id, 1).await;
    assert_eq!(
        (case.suite().stage.resets(id), case.cloud().live_codes(id).len()),
        (1, 5)
    );
}

/// A resource whose creation is earlier by the API server's clock, which counts seconds.
async fn elder(case: &Case, app: &App, more: Value) {
    case.rotation("elder", &app.app_id, more).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
}

pub async fn elder_deleted(mut case: Case) {
    let app = case.app(1);
    case.open().await;
    elder(&case, &app, json!({})).await;
    case.ready("elder", "elder", &app.app_id).await;
    case.rotation(NAME, &app.app_id, json!({})).await;
    let concerned = [app.app_id.as_str(), "AppCodeRotation elder", "deletionPolicy"];
    case.stops(&concerned, "Delete one of the two").await;
    case.assert_unchanged(&app);

    case.word("NAME", "elder");
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert!(case.api::<AppCodeRotation>().get_opt("elder").await.unwrap().is_none());
    assert!(case.api::<Secret>().get_opt("elder").await.unwrap().is_some());
}

pub async fn another_code(mut case: Case) {
    let app = case.app(2);
    let first = seed_in("first");
    case.open().await;
    case.secret("first", json!({"appCode": app.codes[0]})).await;
    elder(&case, &app, first.clone()).await;
    case.ready("elder", "elder", &app.app_id).await;
    case.rotation(NAME, &app.app_id, first).await;
    case.stops(&[&app.app_id, "AppCodeRotation elder"], "spec.appCodeFrom")
        .await;
    case.assert_unchanged(&app);

    case.file("CODE_FILE", &app.codes[1]);
    case.follow().await;
    case.ends(NAME, NAME, &app.app_id, 0).await;
    assert_eq!(case.code(NAME).await.as_ref(), app.codes.get(1));
    assert_eq!(case.code("elder").await.as_ref(), app.codes.first());
}

pub async fn another_secret(case: Case) {
    let (theirs, app) = (case.app(1), case.app(1));
    let target = json!({"target": {"name": "shared"}});
    case.open().await;
    elder(&case, &theirs, target.clone()).await;
    case.ready("elder", "shared", &theirs.app_id).await;
    case.rotation(NAME, &app.app_id, target).await;
    case.stops(&["Secret shared", "AppCodeRotation elder"], "spec.target.name")
        .await;
    case.assert_unchanged(&app);
    case.follow().await;
    case.ends(NAME, "new", &app.app_id, 0).await;
    case.ready("elder", "shared", &theirs.app_id).await;
    case.assert_unchanged(&theirs);
}
