//! Several resources on one app.

use cloud_simulator::{NewApp, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::script::{Moment, Strike};
use crate::support::stage::NAME;
use crate::support::{Stage, World};

fn seed(code: &str) -> impl FnOnce(&mut Value) {
    let code = code.to_owned();
    move |spec| {
        spec["appCode"] = json!(code);
        spec["schedule"] = json!({ "interval": "1h" });
    }
}

#[tokio::test]
async fn siblings_keep_their_own_codes() {
    let mut world = World::with_codes(3).await;
    let codes = world.live();
    for (name, code) in ["a", "b"].iter().zip(&codes) {
        world.stage.create_rotation_named(name, seed(code));
    }
    for _ in 0..12 {
        world.run_for(SignedDuration::from_mins(30)).await;
    }
    world.assert_sound();
    let (a, b) = (world.stage.code_in("a").unwrap(), world.stage.code_in("b").unwrap());
    let live = world.live();
    assert_eq!(live.len(), 3);
    assert!(a != b && live.contains(&a) && live.contains(&b) && live.contains(&codes[2]));
    for name in ["a", "b"] {
        assert!(world.status_of(name).rotation_number >= Some(5), "{name}");
        assert_eq!(world.stalled_of(name), None);
    }
}

#[tokio::test]
async fn siblings_whose_answers_are_lost_never_take_each_others_code() {
    let mut world = World::with_codes(2).await;
    let codes = world.live();
    for (name, code) in ["a", "b"].iter().zip(&codes) {
        world.stage.create_rotation_named(name, |spec| {
            seed(code)(spec);
            spec["initialRotation"] = json!("WhenDue");
        });
    }
    world.run_to_rest().await;
    let fault = cloud_simulator::Fault::cut_after().at(Operation::Reset).times(2);
    world.stage.cloud.with(|cloud| cloud.inject(fault));
    for name in ["a", "b"] {
        world
            .stage
            .edit_rotation(name, |object| object["spec"]["rotationTrigger"] = json!("go"));
    }
    world.run_for(SignedDuration::from_mins(40)).await;
    world.assert_sound();
    let (a, b) = (world.stage.code_in("a").unwrap(), world.stage.code_in("b").unwrap());
    let live = world.live();
    assert!(a != b && live.contains(&a) && live.contains(&b));
    assert_eq!((live.len(), world.mutations()), (2, 2));
}

#[tokio::test]
async fn of_two_resources_that_name_one_code_the_younger_stops() {
    let mut world = World::new().await;
    world.stage.create_rotation(|_| ());
    world.stage.time.advance(std::time::Duration::from_secs(5));
    world
        .stage
        .create_rotation_named("younger", |spec| spec["initialRotation"] = json!("Immediate"));
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_ready();
    assert_eq!(world.stalled_of("younger").as_deref(), Some("Conflict"));
    assert_eq!(world.mutations(), 0);
    assert_eq!(world.stage.secret("younger"), None);
    // The older one goes on undisturbed, and the younger one takes over when it is gone.
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    world.stage.api.delete(
        crate::support::api_server::ROTATIONS,
        crate::support::stage::NAMESPACE,
        NAME,
    );
    world.run_for(SignedDuration::from_mins(30)).await;
    assert_eq!(world.stalled_of("younger"), None);
    assert_eq!(world.mutations(), 2);
}

/// Two resources with a code each are both asked to rotate, and the process ends at one call of all that follow.
#[tokio::test]
async fn siblings_keep_their_own_codes_whichever_call_the_process_ends_at() {
    let mut number = 0;
    loop {
        for moment in [Moment::Before, Moment::After] {
            let mut world = World::on(Stage::direct(2));
            let codes = world.live();
            for (name, code) in ["a", "b"].iter().zip(&codes) {
                world.stage.create_rotation_named(name, |spec| {
                    spec["appCode"] = json!(code);
                    spec["initialRotation"] = json!("WhenDue");
                });
            }
            world.run_to_rest().await;
            world.stage.script.begin(vec![(number, Strike::Crash(moment))]);
            for name in ["a", "b"] {
                world
                    .stage
                    .edit_rotation(name, |object| object["spec"]["rotationTrigger"] = json!("go"));
            }
            world.run_for(SignedDuration::from_mins(40)).await;
            if world.stage.script.struck() == 0 {
                assert!(number > 20, "only {number} calls");
                return;
            }
            world.assert_sound();
            let held = ["a", "b"].map(|name| world.stage.code_in(name).unwrap());
            let live = world.live();
            let what = format!("crash {moment:?} call {number}");
            assert!(
                held[0] != held[1] && held.iter().all(|code| live.contains(code)),
                "{what}"
            );
            assert_eq!((live.len(), world.mutations()), (2, 2), "{what}");
        }
        number += 1;
    }
}

#[tokio::test]
async fn of_two_resources_on_one_secret_one_waits_and_takes_over_when_the_other_goes() {
    let mut world = World::settled().await;
    let code = world.code();
    world
        .stage
        .create_rotation_named("another", |spec| spec["target"] = json!({ "name": NAME }));
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_ready();
    assert_eq!(world.stalled_of("another").as_deref(), Some("Conflict"));
    let (_, _, message) = world.condition_of("another", appcode_operator::api::ConditionType::Stalled);
    assert!(message.contains("kept by AppCodeRotation checkout"), "{message}");
    world.stage.api.delete(
        crate::support::api_server::ROTATIONS,
        crate::support::stage::NAMESPACE,
        NAME,
    );
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_sound();
    assert_eq!(world.stalled_of("another"), None);
    assert_eq!(
        (world.code(), world.mutations()),
        (code, 0),
        "and nothing was rotated for that"
    );
    let secret = world.stage.secret(NAME).unwrap();
    assert_eq!(
        secret["metadata"]["annotations"]["appcode.dev/resource"],
        "shop/another"
    );
    // The name is taken: the first one waits if it comes back.
    world.stage.create_rotation(|_| ());
    world.run_for(SignedDuration::from_mins(10)).await;
    assert_eq!(world.stalled_of(NAME).as_deref(), Some("Conflict"));
    assert_eq!(world.stalled_of("another"), None);
    world
        .stage
        .edit_rotation("another", |object| object["spec"]["rotationTrigger"] = json!("go"));
    world.run_for(SignedDuration::from_mins(20)).await;
    assert_eq!(world.mutations(), 1);
    assert!(world.live().contains(&world.code().unwrap()));
}

#[tokio::test]
async fn a_spec_that_goes_to_and_fro_between_apps_waits_for_the_minimum_interval() {
    let mut world = World::settled().await;
    let (user, project) = (world.stage.user.user_id.clone(), world.stage.project.clone());
    let now = world.stage.time.truth();
    let new = NewApp::of(&user, &project).codes(1).name("other");
    let other = world.stage.cloud.with(|cloud| cloud.create_app(now, new)).app_id;
    let ours = world.stage.app.clone();
    for app in [&other, &ours, &other, &ours] {
        world
            .stage
            .edit_rotation(NAME, |object| object["spec"]["appId"] = json!(app));
        world.run_for(SignedDuration::from_mins(2)).await;
    }
    world.run_for(SignedDuration::from_mins(1)).await;
    let ledger = world.ledger();
    let made = ledger.resets_applied(&other) + ledger.resets_applied(&ours);
    assert!(made <= 1, "{made} rotations in nine minutes");
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_ready();
}
