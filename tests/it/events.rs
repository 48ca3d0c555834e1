//! Events: each thing once, whatever is restarted, listed again or repeated, and in a good order.

use appcode_operator::api::ConditionType;
use appcode_operator::verification::Probe;
use cloud_simulator::{Fault, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::World;
use crate::support::api_server::EVENTS;
use crate::support::prober::INFERENCE_HOST;
use crate::support::script::{Act, ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::CREDENTIALS;
use crate::support::workloads::target;

fn overlap(spec: &mut Value) {
    spec["strategy"] = json!("Overlap");
    spec["overlap"] = json!({"gracePeriod": "96h"});
}

/// A resource that has taken its code over and is then asked for a rotation.
async fn asked(change: impl FnOnce(&mut Value)) -> World {
    let mut world = World::new().await;
    world.stage.create_workload(&target("Deployment/web"));
    world.stage.create_rotation(change);
    world.run_to_rest().await;
    world.assert_ready();
    world.stage.set_trigger("one");
    world
}

async fn minutes(world: &mut World, minutes: i64) {
    world.run_for(SignedDuration::from_mins(minutes)).await;
    world.assert_sound();
}

/// Starts the process anew, with a listing of everything, over and over: no event comes of it.
async fn assert_quiet(mut world: World, expected: &[&str]) {
    assert_eq!(world.events(), expected);
    for _ in 0..6 {
        world.restart();
        minutes(&mut world, 20).await;
    }
    assert_eq!(world.events(), expected, "the same again");
}

#[tokio::test]
async fn nothing_is_told_again_by_a_restart_in_whatever_state_it_happens() {
    let mut world = asked(|_| ()).await;
    minutes(&mut world, 10).await;
    assert_quiet(world, &["Adopted", "Rotated"]).await;

    let mut world = asked(overlap).await;
    minutes(&mut world, 10).await;
    assert_quiet(world, &["Adopted", "Rotated"]).await;

    let mut world = World::settled().await;
    world.stage.delete_secret(CREDENTIALS);
    world.stage.set_trigger("one");
    minutes(&mut world, 10).await;
    assert_quiet(world, &["Adopted", "CredentialsMissing"]).await;

    let mut world = asked(|_| ()).await;
    let lost = Act::new("the answer is lost, and the cloud is away", |stage| {
        stage
            .cloud
            .with(|cloud| cloud.inject(Fault::cut_after().at(Operation::Reset).once()));
        stage
            .cloud
            .with(|cloud| cloud.inject(Fault::status_before(503).at(Operation::Show)));
    });
    let is_reset = |call: &Call| *call == Call::Cloud(Operation::Reset);
    let strikes = vec![(0, Strike::Act(Moment::Before, lost))];
    world.stage.script.begin_if(strikes, is_reset);
    minutes(&mut world, 10).await;
    assert_quiet(world, &["Adopted", "Rotating", "Retrying"]).await;

    let mut world = World::settled().await;
    world.stage.cloud.with(|cloud| cloud.inject(Fault::status_before(503)));
    minutes(&mut world, 300).await;
    assert_eq!(world.condition(ConditionType::Ready).1, "NotVerified");
    assert_quiet(world, &["Adopted", "Retrying", "NotVerified"]).await;
}

#[tokio::test]
async fn what_holds_a_new_code_up_is_not_told_again_by_a_restart() {
    let restarts = |spec: &mut Value| spec["restartTargets"] = json!([{"kind": "Deployment", "name": "web"}]);
    let mut world = asked(|spec| {
        overlap(spec);
        restarts(spec);
    })
    .await;
    world.stage.edit_workload(&target("Deployment/web"), |object| {
        object["spec"]["paused"] = json!(true);
    });
    minutes(&mut world, 30).await;
    assert_quiet(world, &["Adopted", "Rotated", "Restarted", "RolloutHeld"]).await;

    let world = World::new().await;
    world
        .stage
        .probes
        .lock()
        .unwrap()
        .extend(std::iter::repeat_n(Probe::Refused { status: 401 }, 1000));
    let mut world = world;
    world.stage.create_rotation(|spec| {
        overlap(spec);
        spec["verification"] = json!({"url": format!("https://{INFERENCE_HOST}/v1/infers/any-service")});
    });
    world.run_to_rest().await;
    world.stage.set_trigger("one");
    minutes(&mut world, 30).await;
    assert_quiet(world, &["Adopted", "Rotated", "VerificationFailed"]).await;
}

#[tokio::test]
async fn the_end_of_what_was_told_is_told_too() {
    let mut world = World::settled().await;
    let fault = world.stage.cloud.with(|cloud| cloud.inject(Fault::status_before(503)));
    minutes(&mut world, 300).await;
    world.stage.cloud.with(|cloud| cloud.clear(fault));
    minutes(&mut world, 60).await;
    world.assert_ready();
    assert_quiet(world, &["Adopted", "Retrying", "NotVerified", "CodeListed"]).await;
}

/// The names and reasons of the events that are there, in the order in which `kubectl describe` gets them.
fn stored(world: &World) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let events = world.stage.api.objects(EVENTS).into_iter();
    let mut events: Vec<_> = events
        .map(|event| (text(&event["metadata"]["name"]), text(&event["reason"])))
        .collect();
    events.sort();
    events
}

#[tokio::test]
async fn an_event_that_is_not_taken_is_sent_once_more_and_never_stands_there_twice() {
    let is_event = |call: &Call| matches!(call, Call::Api { verb: Verb::Create, resource, .. } if *resource == EVENTS);
    let failed = |moment, fault| Strike::Api(moment, fault);
    let cases = [
        (vec![(0, failed(Moment::Before, ApiFault::Status(500)))], true),
        (vec![(0, failed(Moment::After, ApiFault::Cut))], true),
        (
            vec![
                (0, failed(Moment::Before, ApiFault::Cut)),
                (1, failed(Moment::Before, ApiFault::Cut)),
            ],
            false,
        ),
        (vec![(0, failed(Moment::Before, ApiFault::Status(403)))], false),
    ];
    for (strikes, is_there) in cases {
        let mut world = World::settled().await;
        world.stage.script.begin_if(strikes, is_event);
        world.stage.set_trigger("one");
        minutes(&mut world, 10).await;
        world.assert_ready();
        world.stage.script.begin(Vec::new());
        world.stage.set_trigger("two");
        minutes(&mut world, 30).await;
        let told: Vec<String> = stored(&world).into_iter().map(|(_, reason)| reason).collect();
        let rotated = if is_there { 2 } else { 1 };
        assert_eq!(told.len(), 1 + rotated, "{told:?}");
        assert_eq!(told[0], "Adopted", "in the order in which they came");
        assert!(told[1..].iter().all(|reason| reason == "Rotated"), "{told:?}");
        assert_eq!(world.mutations(), 2, "no rotation waits for an event");
    }
}

#[tokio::test]
async fn an_event_names_the_pod_that_reports_it_and_when() {
    let mut world = World::settled().await;
    minutes(&mut world, 1).await;
    let events = world.stage.api.objects(EVENTS);
    let event = events.first().unwrap();
    assert_eq!(event["reportingInstance"], "operator-0");
    assert_eq!(event["reportingController"], "appcode-operator");
    assert_eq!((&event["action"], &event["type"]), (&json!("Adopt"), &json!("Normal")));
    let time = event["eventTime"].as_str().unwrap();
    assert!(
        time.ends_with("123456Z"),
        "the clock's own fraction of a second: {time}"
    );
    let name = event["metadata"]["name"].as_str().unwrap();
    assert!(
        name.starts_with("checkout.") && name.len() == "checkout.".len() + 24,
        "{name}"
    );
}
