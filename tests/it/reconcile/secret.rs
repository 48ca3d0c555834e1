//! The target Secret, and what status shows of it.

use appcode_operator::api::ConditionType;
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::World;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::judge::{leaks, readable};
use crate::support::script::{ApiFault, Call, Moment, Strike};
use crate::support::stage::{NAME, NAMESPACE, code_of};

#[tokio::test]
async fn a_deleted_secret_is_made_again() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    let code = world.code();
    world.stage.delete_secret(NAME);
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.code()), (1, code));
    assert_eq!(world.events().last().map(String::as_str), Some("Repaired"));
    assert_eq!(world.status().rotation_number, Some(1));
    world.stage.set_trigger("two");
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(
        world.status().rotation_number,
        Some(2),
        "the number goes on where it was"
    );
}

/// A rotation follows before the seed can be read again, so that the seed is the current code no more.
#[tokio::test]
async fn a_seed_that_cannot_be_read_while_the_secret_is_made_again_is_not_taken_for_a_new_one() {
    let mut world = World::new().await;
    let seed = world.live().remove(0);
    world.stage.create_secret("seed", &[("code", &seed)]);
    world
        .stage
        .create_rotation(|spec| spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": "seed", "key": "code" } }));
    world.run_to_rest().await;
    let shown = world.status().seed_fingerprint;
    assert_eq!(shown, Some(world.fingerprint(&seed)));
    world.stage.set_trigger("one");
    world.stage.delete_secret(NAME);
    let is_seed = |call: &Call| matches!(call, Call::Api { name, .. } if name == "seed");
    let absent = Strike::Api(Moment::Before, ApiFault::Stale);
    world.stage.script.begin_if(vec![(0, absent)], is_seed);
    world.run_for(SignedDuration::from_hours(3)).await;
    assert_eq!(world.stage.script.struck(), 1);
    world.assert_ready();
    assert_eq!((world.mutations(), world.status().seed_fingerprint), (1, shown));
}

#[tokio::test]
async fn an_edited_code_is_put_right() {
    let mut world = World::settled().await;
    let code = world.code();
    for wrong in ["not the code", "", "two\nlines"] {
        world.stage.judge.excuse(NAME);
        world.stage.edit_secret(NAME, &[("appCode", wrong)]);
        world.run_for(SignedDuration::from_hours(2)).await;
        world.assert_ready();
        assert_eq!((world.mutations(), world.code()), (0, code.clone()));
    }
}

#[tokio::test]
async fn what_others_keep_on_the_secret_is_left_alone() {
    let mut world = World::settled().await;
    world.stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
        object["metadata"]["labels"]["theirs"] = json!("a");
        object["metadata"]["annotations"]["theirs"] = json!("b");
    });
    world.stage.edit_secret(NAME, &[("theirs", "c")]);
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    let secret = world.stage.secret(NAME).unwrap();
    assert_eq!(secret["metadata"]["labels"]["theirs"], "a");
    assert_eq!(secret["metadata"]["annotations"]["theirs"], "b");
    assert_eq!(code_of(&secret, "theirs").as_deref(), Some("c"));
}

#[tokio::test]
async fn plain_text_in_status_is_told_and_ends_at_once() {
    let mut world = World::settled().await;
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["statusCode"] = json!("Plaintext"));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.status().app_code.map(|code| code.0), world.code());
    assert_eq!(world.condition(ConditionType::CodeExposed).0, "True");
    assert_eq!(world.events(), ["Adopted", "PlaintextRequested"]);

    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert_eq!(
        world.status().app_code.map(|code| code.0),
        world.code(),
        "the new code follows"
    );

    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["statusCode"] = json!("Fingerprint"));
    let before = world.stage.time.truth();
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.status().app_code, None);
    assert_eq!(
        world.condition(ConditionType::CodeExposed).0,
        "",
        "the condition is gone"
    );
    let elapsed = world.stage.time.truth().duration_since(before);
    assert!(elapsed < SignedDuration::from_mins(1));
    assert_eq!(leaks(&world.stage, &readable(&world.stage)), Vec::<String>::new());
}

#[tokio::test]
async fn plain_text_ends_although_the_cloud_is_away() {
    let mut world = World::settled().await;
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["statusCode"] = json!("Plaintext"));
    world.run_to_rest().await;
    world
        .stage
        .cloud
        .with(|cloud| cloud.inject(cloud_simulator::Fault::status_before(503)));
    world.stage.edit_rotation(NAME, |object| {
        object["spec"].as_object_mut().unwrap().remove("statusCode");
    });
    world.run_for(SignedDuration::from_mins(1)).await;
    world.assert_sound();
    assert_eq!(world.status().app_code, None);
    assert_eq!(world.condition(ConditionType::CodeExposed).0, "");
}

#[tokio::test]
async fn history_is_kept_up_to_its_limit() {
    let mut world = World::new().await;
    world.stage.create_rotation(|spec| spec["historyLimit"] = json!(3));
    world.run_to_rest().await;
    for number in 1..=5 {
        world.stage.set_trigger(&format!("number {number}"));
        world.run_for(SignedDuration::from_mins(20)).await;
    }
    world.assert_ready();
    let numbers: Vec<_> = world.status().history.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [5, 4, 3]);
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["historyLimit"] = json!(1));
    world.run_to_rest().await;
    assert_eq!(world.status().history.len(), 1);
}

#[tokio::test]
async fn a_code_stands_nowhere_but_in_the_secret() {
    let mut world = World::new().await;
    world
        .stage
        .create_rotation(|spec| spec["schedule"] = json!({ "interval": "1h" }));
    world.run_to_rest().await;
    for fault in [
        cloud_simulator::Fault::cut_after(),
        cloud_simulator::Fault::status_after(500),
    ] {
        let fault = fault.at(cloud_simulator::Operation::Reset).once();
        world.stage.cloud.with(|cloud| cloud.inject(fault));
        world.run_for(SignedDuration::from_hours(3)).await;
    }
    world.assert_ready();
    assert!(world.mutations() >= 4);
    assert_eq!(leaks(&world.stage, &readable(&world.stage)), Vec::<String>::new());
    let secret = world.stage.secret(NAME).unwrap();
    assert_eq!(secret["data"].as_object().unwrap().len(), 1);
    let object = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap();
    let fingerprint = world.fingerprint(&world.code().unwrap());
    assert_eq!(object["status"]["current"]["fingerprint"], fingerprint.as_str());
}

#[tokio::test]
async fn plain_text_shows_only_what_this_resource_put_there() {
    let mut world = World::new().await;
    world
        .stage
        .create_secret("database", &[("password", "canary of somebody else")]);
    world.stage.create_rotation_named("thief", |spec| {
        spec["target"] = json!({ "name": "database", "key": "password" });
        spec["statusCode"] = json!("Plaintext");
    });
    world.stage.create_rotation(|_| ());
    world.run_to_rest().await;
    // The Secret of another resource, by its name and its key.
    world.stage.create_rotation_named("copier", |spec| {
        spec["target"] = json!({ "name": NAME });
        spec["statusCode"] = json!("Plaintext");
    });
    world.run_for(SignedDuration::from_mins(10)).await;
    assert_eq!(world.stalled_of("thief").as_deref(), Some("SecretConflict"));
    assert_eq!(world.stalled_of("copier").as_deref(), Some("Conflict"));
    for name in ["thief", "copier"] {
        assert_eq!(world.status_of(name).app_code, None, "{name}");
    }
    // Nor what somebody puts into its own Secret.
    world.stage.judge.excuse(NAME);
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["statusCode"] = json!("Plaintext"));
    world.run_to_rest().await;
    assert_eq!(world.status().app_code.map(|code| code.0), world.code());
    world.stage.edit_secret(NAME, &[("appCode", "canary of somebody else")]);
    world.run_for(SignedDuration::from_hours(2)).await;
    let shown = world.stage.api.objects(ROTATIONS);
    assert!(
        !shown.iter().any(|object| object.to_string().contains("canary")),
        "{shown:?}"
    );
    world.assert_ready();
}
