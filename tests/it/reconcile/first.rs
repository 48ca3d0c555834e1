//! First sight of a resource.

use appcode_operator::api::{ADOPT_FINGERPRINT, ConditionType, Phase, Trigger};
use cloud_simulator::{Cause, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::World;
use crate::support::stage::NAME;

#[tokio::test]
async fn an_inline_seed_is_rotated_at_once() {
    let mut world = World::new().await;
    let seed = world.live().remove(0);
    world.stage.create_rotation(|spec| spec["appCode"] = json!(seed));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert_ne!(world.code().unwrap(), seed);
    let status = world.status();
    assert_eq!(status.rotation_number, Some(1));
    assert_eq!(status.history[0].trigger, Trigger::Initial);
    assert_eq!(status.phase, Some(Phase::Ready));
    assert_eq!(world.events(), ["Rotated"]);
}

#[tokio::test]
async fn an_inline_seed_waits_when_the_spec_says_so() {
    let mut world = World::new().await;
    let seed = world.live().remove(0);
    world.stage.create_rotation(|spec| {
        spec["appCode"] = json!(seed);
        spec["initialRotation"] = json!("WhenDue");
    });
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.code()), (0, Some(seed)));
    assert_eq!(world.events(), ["Adopted"]);
}

#[tokio::test]
async fn a_seed_in_a_secret_is_taken_over_without_rotating() {
    let mut world = World::with_codes(3).await;
    let seed = world.live().remove(1);
    world.stage.create_secret("seed", &[("code", &format!("{seed}\n"))]);
    world
        .stage
        .create_rotation(|spec| spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": "seed", "key": "code" } }));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.code()), (0, Some(seed)));
    assert_eq!(world.status().rotation_number, Some(0));
    assert_eq!(world.events(), ["Adopted"]);
}

#[tokio::test]
async fn a_seed_in_a_secret_is_rotated_at_once_when_the_spec_says_so() {
    let mut world = World::with_codes(3).await;
    let seed = world.live().remove(1);
    world.stage.create_secret("seed", &[("code", &seed)]);
    world.stage.create_rotation(|spec| {
        spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": "seed", "key": "code" } });
        spec["initialRotation"] = json!("Immediate");
    });
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert!(!world.live().contains(&seed));
    // A seed that was used up may go.
    world.stage.delete_secret("seed");
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn the_only_code_of_an_app_is_taken_over_when_no_seed_is_named() {
    let mut world = World::settled().await;
    world.run_for(SignedDuration::from_hours(24)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.code()), (0, world.live().pop()));
    assert_eq!(world.events(), ["Adopted"]);
}

#[tokio::test]
async fn an_app_without_codes_gets_one() {
    let mut world = World::with_codes(0).await;
    world.stage.create_rotation(|_| ());
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.ledger().acts_applied(&world.stage.app, Cause::Add), 1);
    assert_eq!(world.calls(Operation::Reset), 0);
    world.stage.set_trigger("again");
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.ledger().resets_applied(&world.stage.app), 1);
    assert_eq!(world.live().len(), 1);
}

#[tokio::test]
async fn an_app_with_several_codes_needs_an_answer_and_takes_it() {
    let mut world = World::with_codes(3).await;
    world
        .stage
        .create_rotation(|spec| spec["rotationTrigger"] = json!("baseline"));
    world.run_to_rest().await;
    world.assert_sound();
    assert_eq!(world.stalled().as_deref(), Some("AppCodeAmbiguous"));
    assert_eq!(world.code(), None);
    let wanted = world.live().remove(2);
    let fingerprint = world.fingerprint(&wanted);
    let (_, _, message) = world.condition(ConditionType::Stalled);
    assert!(
        message.contains(&fingerprint) && message.contains("kubectl annotate"),
        "{message}"
    );
    let (_, _, ready) = world.condition(ConditionType::Ready);
    assert!(
        message.starts_with(&ready) && !ready.contains("kubectl"),
        "commands stand once: {ready}"
    );

    world.stage.annotate(NAME, ADOPT_FINGERPRINT, "0123456789abcdef");
    world.run_to_rest().await;
    assert_eq!(
        world.stalled().as_deref(),
        Some("AppCodeAmbiguous"),
        "no listed code has it"
    );
    world.stage.annotate(NAME, ADOPT_FINGERPRINT, &fingerprint);
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.code()), (0, Some(wanted)));
}

#[tokio::test]
async fn first_sight_takes_the_present_trigger_and_request_as_the_baseline() {
    let mut world = World::new().await;
    world
        .stage
        .create_rotation(|spec| spec["rotationTrigger"] = json!("old"));
    world
        .stage
        .annotate(NAME, appcode_operator::api::ROTATE_REQUESTED_AT, "long ago");
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0);
    let status = world.status();
    assert_eq!(status.last_handled_trigger.as_deref(), Some("old"));
    assert_eq!(status.last_handled_request.as_deref(), Some("long ago"));
}

#[tokio::test]
async fn the_apps_own_name_and_remark_are_sent_back() {
    let mut world = World::new().await;
    world.stage.cloud.with(|cloud| cloud.behaviour.apply_names = true);
    world
        .stage
        .create_rotation(|spec| spec["initialRotation"] = json!("Immediate"));
    world.run_to_rest().await;
    world.assert_ready();
    let app = world.stage.cloud.with(|cloud| cloud.app(&world.stage.app)).unwrap();
    assert_eq!((app.app_name.as_str(), app.app_remark.as_str()), ("checkout-app", ""));
}

#[tokio::test]
async fn a_password_and_a_token_serve_as_well_as_keys() {
    for kind in ["password", "token"] {
        let mut world = World::new().await;
        let user = &world.stage.user;
        let token = world.stage.cloud.with(|cloud| {
            let now = world.stage.time.truth();
            cloud.issue_token(now, &user.user_id, Some(&world.stage.project))
        });
        let (name, password) = (user.name.clone(), user.password.clone());
        let account = user.account_name.clone();
        world.stage.delete_secret("credentials");
        if kind == "token" {
            world.stage.create_secret("credentials", &[("token", &token)]);
        } else {
            let data = [
                ("domainName", account.as_str()),
                ("userName", &name),
                ("password", &password),
            ];
            world.stage.create_secret("credentials", &data);
        }
        world
            .stage
            .create_rotation(|spec| spec["initialRotation"] = json!("Immediate"));
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!(world.mutations(), 1, "{kind}");
    }
}
