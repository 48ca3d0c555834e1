//! What stops a resource until a person acts, and how little is done meanwhile.

use appcode_operator::api::{ADOPT_FINGERPRINT, CHECK_REQUESTED_AT, ConditionType, Phase};
use appcode_operator::identity::{Allowance, Identity};
use appcode_operator::ids::AppId;
use appcode_operator::remedy;
use cloud_simulator::{AppType, Fault, NewApp, Operation, Reply};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::World;
use crate::support::api_server::SECRETS;
use crate::support::script::{ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::{CREDENTIALS, NAME, NAMESPACE};

/// Stopped for `reason`, with a message that holds `words`, and nothing was changed.
fn assert_stopped(world: &World, reason: &str, words: &str) {
    world.assert_sound();
    let (status, told, message) = world.condition(ConditionType::Stalled);
    assert_eq!((status.as_str(), told.as_str()), ("True", reason), "{message}");
    assert!(message.contains(words), "{message}");
    for command in remedy::commands(&message) {
        assert!(
            page::tells(reason, command),
            "{command} is not under {reason} on the page"
        );
    }
    assert_eq!(world.mutations(), 0);
    assert_eq!(world.condition(ConditionType::Ready).0, "False");
    assert_eq!(world.status().phase, Some(Phase::Stalled));
    assert_eq!(world.events().last().map(String::as_str), Some(reason));
}

/// The commands of the page, as the crate's own tests read it.
#[path = "../../../src/remedy/page.rs"]
mod page;

fn is_read_of(call: &Call, secret: &str) -> bool {
    matches!(call, Call::Api { verb: Verb::Get, resource: SECRETS, name } if name == secret)
}

#[tokio::test]
async fn a_secret_beside_the_target_that_may_not_be_read_is_told_with_what_the_page_says() {
    type Case = (&'static str, &'static str, fn(&Call) -> bool);
    let is_read: [Case; 2] = [
        ("SeedUnreadable", "seed", |call| is_read_of(call, "seed")),
        ("CredentialsMissing", CREDENTIALS, |call| is_read_of(call, CREDENTIALS)),
    ];
    for (reason, secret, is_its) in is_read {
        let mut world = World::new().await;
        let strike = Strike::Api(Moment::Before, ApiFault::Status(403));
        world.stage.script.begin_lasting(strike, 0, is_its);
        world.stage.create_rotation(|spec| {
            if secret == "seed" {
                spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": "seed", "key": "appCode" } });
            }
        });
        world.run_to_rest().await;
        assert_stopped(&world, reason, "may not read");
        let (_, _, message) = world.condition(ConditionType::Stalled);
        assert!(message.contains("kubectl apply -k OVERLAY"), "{message}");
    }
}

#[tokio::test]
async fn a_requested_check_asks_the_cloud_and_changes_nothing() {
    let mut world = World::settled().await;
    let calls = world.ledger().requests.len();
    world.stage.annotate(NAME, CHECK_REQUESTED_AT, "1");
    world.run_for(SignedDuration::from_secs(30)).await;
    world.assert_ready();
    assert!(world.ledger().requests.len() > calls, "it did not look");
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn an_invalid_spec_lists_every_reason_at_once() {
    let mut world = World::new().await;
    world.stage.create_rotation(|spec| {
        spec["region"] = json!("cn-north-4");
        spec["projectId"] = json!("no/project");
        spec["schedule"] = json!({ "interval": "1s", "jitter": "2h" });
        spec["historyLimit"] = json!(1000);
        spec["credentialsRef"] = json!({ "name": NAME });
    });
    world.run_to_rest().await;
    assert_stopped(&world, "InvalidSpec", "exactly one of region and endpoint");
    let (_, _, message) = world.condition(ConditionType::Stalled);
    for word in ["projectId", "interval", "jitter", "historyLimit", "credentialsRef"] {
        assert!(message.contains(word), "{word}: {message}");
    }
    assert_eq!(world.ledger().requests.len(), 0);
    world.stage.edit_rotation(NAME, |object| {
        let spec = object["spec"].as_object_mut().unwrap();
        spec.retain(|key, _| ["endpoint", "appId"].contains(&key.as_str()));
        spec.insert("projectId".into(), json!(world.stage.project));
        spec.insert("credentialsRef".into(), json!({ "name": CREDENTIALS }));
    });
    world.run_to_rest().await;
    world.assert_ready();
}

#[tokio::test]
async fn an_endpoint_off_the_list_gets_no_request() {
    let mut world = World::new().await;
    world
        .stage
        .create_rotation(|spec| spec["endpoint"] = json!("https://modelarts.example.com"));
    world.run_to_rest().await;
    assert_stopped(&world, "EndpointNotAllowed", "allow-list");
    assert_eq!(world.ledger().requests.len(), 0);
}

#[tokio::test]
async fn a_foreign_secret_is_left_alone_and_nothing_is_rotated() {
    let mut world = World::new().await;
    world.stage.create_secret(NAME, &[("appCode", "somebody else's")]);
    let before = world.stage.secret(NAME);
    let seed = world.live().remove(0);
    world.stage.create_rotation(|spec| {
        spec["appCode"] = json!(seed);
        spec["schedule"] = json!({ "interval": "1h" });
    });
    world.run_for(SignedDuration::from_hours(5)).await;
    assert_stopped(&world, "SecretConflict", NAME);
    assert_eq!(world.stage.secret(NAME), before);
    assert_eq!(world.calls(Operation::Reset) + world.calls(Operation::Add), 0);
    world.stage.delete_secret(NAME);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
}

#[tokio::test]
async fn a_copy_of_a_secret_for_another_resource_is_not_ours() {
    let mut world = World::settled().await;
    let mut copy = world.stage.secret(NAME).unwrap();
    copy["metadata"] = json!({
        "namespace": NAMESPACE, "name": "copied",
        "labels": copy["metadata"]["labels"], "annotations": copy["metadata"]["annotations"],
    });
    world.stage.api.apply_new(SECRETS, copy, world.stage.time.truth());
    let before = world.stage.secret("copied");
    world
        .stage
        .create_rotation_named("copied", |spec| spec["initialRotation"] = json!("Immediate"));
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_sound();
    assert_eq!(world.stalled_of("copied").as_deref(), Some("Conflict"));
    assert_eq!((world.mutations(), world.stage.secret("copied")), (0, before));
}

#[tokio::test]
async fn an_immutable_secret_stops_before_any_rotation() {
    let mut world = World::settled().await;
    world
        .stage
        .api
        .edit(SECRETS, NAMESPACE, NAME, |object| object["immutable"] = json!(true));
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    assert_stopped(&world, "SecretNotWritable", "immutable");
    world.stage.delete_secret(NAME);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn a_refused_write_of_the_intent_stops_before_any_rotation() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.stage.script.begin(Vec::new());
    let refused: Vec<_> = (0..60)
        .map(|n| (n, Strike::Api(Moment::Before, ApiFault::Status(403))))
        .collect();
    // Reads are let through: only the patch is struck.
    let is_patch = |call: &Call| matches!(call, Call::Api { verb: Verb::Patch, .. });
    world.stage.script.begin_if(refused, is_patch);
    world.run_for(SignedDuration::from_mins(20)).await;
    assert_stopped(&world, "SecretNotWritable", "rights");
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn an_intent_of_another_version_is_left_as_it_is() {
    let mut world = World::settled().await;
    world.stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
        object["metadata"]["annotations"]["appcode.dev/intent"] = json!(r#"{"formatVersion":2,"step":"Begun"}"#);
    });
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_hours(3)).await;
    assert_stopped(&world, "UnknownIntentFormat", "version 2");
}

#[tokio::test]
async fn missing_credentials_are_noticed_within_a_minute_once_they_are_there() {
    let mut world = World::new().await;
    world.stage.delete_secret(CREDENTIALS);
    world.stage.create_rotation(|_| ());
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_stopped(&world, "CredentialsMissing", CREDENTIALS);
    world.stage.create_secret(CREDENTIALS, &[("accessKey", "only half")]);
    world.run_for(SignedDuration::from_mins(2)).await;
    assert_stopped(&world, "CredentialsMissing", "secretKey");
    assert_eq!(world.ledger().requests.len(), 0);
    let user = world.stage.user.clone();
    world
        .stage
        .edit_secret(CREDENTIALS, &[("accessKey", &user.ak), ("secretKey", &user.sk)]);
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_ready();
    assert_eq!(world.condition(ConditionType::Authorized).0, "True");
}

#[tokio::test]
async fn wrong_keys_are_tried_rarely_and_never_lock_the_key() {
    let mut world = World::new().await;
    let user = world.stage.user.clone();
    world.stage.edit_secret(CREDENTIALS, &[("secretKey", "wrong")]);
    world.stage.create_rotation(|_| ());
    world.stage.create_rotation_named("second", |_| ());
    world.run_for(SignedDuration::from_hours(1)).await;
    assert_stopped(&world, "CredentialsRejected", CREDENTIALS);
    let tries = world.ledger().requests.len();
    assert!(
        tries <= 12,
        "{tries} tries in an hour for two resources with one Secret"
    );
    let is_locked = world
        .stage
        .cloud
        .with(|cloud| cloud.is_locked(world.stage.time.truth(), &user.ak));
    assert!(!is_locked);
    world.stage.edit_secret(CREDENTIALS, &[("secretKey", &user.sk)]);
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_ready();
}

#[tokio::test]
async fn rotated_credentials_need_no_restart() {
    let mut world = World::settled().await;
    let user = world.stage.user.clone();
    let key = world.stage.cloud.with(|cloud| {
        cloud.revoke_key(&user.ak);
        cloud.add_key(&user.user_id)
    });
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(10)).await;
    assert_stopped(&world, "CredentialsRejected", CREDENTIALS);
    assert_eq!(world.condition(ConditionType::Authorized).0, "False");
    world
        .stage
        .edit_secret(CREDENTIALS, &[("accessKey", &key.ak), ("secretKey", &key.sk)]);
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn an_app_of_another_name_is_not_touched() {
    let mut world = World::new().await;
    world.stage.create_rotation(|spec| {
        spec["appName"] = json!("expected");
        spec["initialRotation"] = json!("Immediate");
    });
    world.run_to_rest().await;
    assert_stopped(&world, "AppNameMismatch", "expected");
    let app = world.stage.app.clone();
    world.stage.cloud.with(|cloud| cloud.rename_app(&app, "expected"));
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn an_app_that_does_not_exist_is_asked_for_rarely() {
    let mut world = World::new().await;
    world
        .stage
        .create_rotation(|spec| spec["appId"] = json!("0123456789abcdef0123456789abcdef"));
    world.run_for(SignedDuration::from_hours(6)).await;
    assert_stopped(&world, "AppNotFound", "0123456789abcdef0123456789abcdef");
    let calls = world.calls(Operation::Show);
    assert!(calls <= 8, "{calls} calls in six hours");
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["appId"] = json!(world.stage.app));
    world.run_to_rest().await;
    world.assert_ready();
}

#[tokio::test]
async fn the_app_of_another_user_is_not_touched() {
    let mut world = World::new().await;
    let stage = world.stage.clone();
    let key = stage.cloud.with(|cloud| {
        let other = cloud.add_user(&stage.user.account_id, "other", "Passw0rd!of-the-other");
        (other.ak, other.sk)
    });
    stage.edit_secret(CREDENTIALS, &[("accessKey", &key.0), ("secretKey", &key.1)]);
    stage.create_rotation(|spec| spec["initialRotation"] = json!("Immediate"));
    world.run_to_rest().await;
    world.assert_sound();
    let stalled = world.stalled().unwrap();
    assert!(
        ["AppNotFound", "NotAuthorized"].contains(&stalled.as_str()),
        "{stalled}"
    );
    assert_eq!(world.mutations(), 0);
    // A cloud that shows it all the same lets a password caller know that it is another's.
    stage.cloud.with(|cloud| cloud.behaviour.show_to_strangers = true);
    stage.delete_secret(CREDENTIALS);
    let account = stage.user.account_name.clone();
    let data = [
        ("domainName", account.as_str()),
        ("userName", "other"),
        ("password", "Passw0rd!of-the-other"),
    ];
    stage.create_secret(CREDENTIALS, &data);
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_stopped(&world, "NotOwner", "creator");
    assert_eq!(world.calls(Operation::Reset), 0);
}

#[tokio::test]
async fn an_app_without_app_codes_by_its_gateway_is_not_touched() {
    let mut world = World::new().await;
    let stage = world.stage.clone();
    let app = stage.cloud.with(|cloud| {
        let new = NewApp::of(&stage.user.user_id, &stage.project).on(AppType::Apic);
        cloud.create_app(stage.time.truth(), new)
    });
    stage.create_rotation(|spec| spec["appId"] = json!(app.app_id));
    world.run_to_rest().await;
    assert_stopped(&world, "AppTypeUnsupported", &app.app_id);
    assert_eq!(world.calls(Operation::Add), 0);
}

#[tokio::test]
async fn masked_codes_stop_everything() {
    let mut world = World::new().await;
    let fault = world.stage.cloud.with(|cloud| cloud.inject(Fault::masked()));
    world
        .stage
        .create_rotation(|spec| spec["initialRotation"] = json!("Immediate"));
    world.run_for(SignedDuration::from_hours(3)).await;
    assert_stopped(&world, "CodesMasked", "masked");
    assert_eq!(world.calls(Operation::Reset), 0);
    world.stage.cloud.with(|cloud| cloud.clear(fault));
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
}

#[tokio::test]
async fn a_code_reset_elsewhere_is_told_after_settling_and_a_person_answers() {
    let mut world = World::settled().await;
    let app = world.stage.app.clone();
    let old = world.code().unwrap();
    world.stage.judge.excuse(NAME);
    let new = world.stage.cloud.with(|cloud| {
        let now = world.stage.time.truth();
        cloud.remove_code(now, &app, &old);
        cloud.add_code(now, &app, None).unwrap()
    });
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(90)).await;
    assert_eq!(world.stalled(), None, "one reading is not enough");
    world.run_for(SignedDuration::from_hours(3)).await;
    assert_stopped(&world, "CodeNotListed", &world.fingerprint(&old));
    assert_eq!(world.calls(Operation::Reset), 0);
    world.stage.annotate(NAME, ADOPT_FINGERPRINT, &world.fingerprint(&new));
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1, "the trigger is carried out from there");
    assert!(!world.live().contains(&new));
}

#[tokio::test]
async fn a_seed_that_is_not_listed_is_told_and_nothing_is_guessed() {
    let mut world = World::with_codes(2).await;
    world
        .stage
        .create_rotation(|spec| spec["appCode"] = json!("a-code-of-yesterday"));
    world.run_for(SignedDuration::from_mins(10)).await;
    assert_stopped(&world, "CodeNotListed", "seed");
    let live = world.live().remove(0);
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["appCode"] = json!(live));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn an_unreadable_seed_is_told() {
    let mut world = World::new().await;
    world
        .stage
        .create_rotation(|spec| spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": "seed", "key": "appCode" } }));
    world.run_for(SignedDuration::from_mins(10)).await;
    assert_stopped(&world, "SeedUnreadable", "Secret seed does not exist");
    let code = world.live().remove(0);
    world.stage.create_secret("seed", &[("appCode", &code)]);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
}

#[tokio::test]
async fn a_reset_that_is_not_found_although_its_base_is_listed_is_not_repeated_at_once() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    let not_found = Fault::status_before(Reply::from(404).code("ModelArts.3923")).at(Operation::Reset);
    world.stage.cloud.with(|cloud| cloud.inject(not_found));
    world.run_for(SignedDuration::from_hours(12)).await;
    // A pause that doubles from the settle window up to four hours leaves room for about ten.
    let tried = world.calls(Operation::Reset);
    assert!((1..=12).contains(&tried), "{tried} resets were tried in 12 hours");

    world.stage.cloud.with(cloud_simulator::Cloud::clear_all);
    world.run_for(SignedDuration::from_hours(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn a_refusal_whose_wording_changes_is_told_once() {
    let mut world = World::new().await;
    world.stage.delete_secret(CREDENTIALS);
    world.stage.create_secret(
        CREDENTIALS,
        &[("accessKey", "unknown-key"), ("secretKey", "unknown-secret")],
    );
    world.stage.create_rotation(|_| ());
    // Refused by the cloud, then held back by the breaker, then refused again, and so on.
    world.run_for(SignedDuration::from_hours(2)).await;
    let told = world
        .events()
        .iter()
        .filter(|reason| *reason == "CredentialsRejected")
        .count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn without_credentials_a_resource_acts_as_the_operator_only_where_that_is_allowed() {
    let mut world = World::new().await;
    let user = world.stage.user.clone();
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in [("accessKey", &user.ak), ("secretKey", &user.sk)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    world.make.settings.identity = Identity::Directory(directory.path().into());
    world.make.settings.rules.allowances = vec![Allowance {
        namespace: "elsewhere".into(),
        app_id: AppId::parse(world.stage.app.clone()).unwrap(),
    }];
    world.restart();
    world.stage.create_rotation(|spec| {
        spec.as_object_mut().unwrap().remove("credentialsRef");
    });
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_stopped(&world, "IdentityNotAllowed", "--allow-default-identity=shop=");
    assert_eq!(world.ledger().requests.len(), 0, "nobody is asked on its behalf");
    world.make.settings.rules.allowances[0].namespace = NAMESPACE.into();
    world.restart();
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    // New credentials are taken without a restart, and bad ones are told as the administrator's.
    world.stage.cloud.with(|cloud| cloud.revoke_key(&user.ak));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(20)).await;
    assert_eq!(world.stalled().as_deref(), Some("CredentialsRejected"));
    let (_, _, message) = world.condition(ConditionType::Stalled);
    assert!(message.contains("the operator's own credentials"), "{message}");
    let key = world.stage.cloud.with(|cloud| cloud.add_key(&user.user_id));
    for (name, text) in [("accessKey", &key.ak), ("secretKey", &key.sk)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}
