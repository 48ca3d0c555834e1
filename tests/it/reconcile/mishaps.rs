//! What goes wrong between a person's change and the pass that sees it through, and who may hold a rotation up.

use std::time::Duration;

use appcode_operator::api::{ConditionType, ROTATE_REQUESTED_AT};
use cloud_simulator::{Body, Cloud, Fault, Lag, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::World;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::script::{ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};

fn is_status(call: &Call) -> bool {
    matches!(
        call,
        Call::Api {
            verb: Verb::PutStatus,
            ..
        }
    )
}

fn is_target_read(call: &Call) -> bool {
    matches!(call, Call::Api { verb: Verb::Get, resource: SECRETS, name } if name == NAME)
}

fn is_secret_patch(call: &Call) -> bool {
    matches!(
        call,
        Call::Api {
            verb: Verb::Patch,
            resource: SECRETS,
            ..
        }
    )
}

fn is_patch(call: &Call) -> bool {
    matches!(call, Call::Api { verb: Verb::Patch, .. })
}

async fn settled_with_overlap() -> World {
    let mut world = World::settled().await;
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["strategy"] = json!("Overlap"));
    world.run_to_rest().await;
    world
}

/// Stopped by the app's name, which was put right again a moment ago; the next look is an hour away.
async fn stopped_and_mended() -> World {
    let mut world = World::settled().await;
    let app = world.stage.app.clone();
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["appName"] = json!("expected"));
    world.run_to_rest().await;
    assert_eq!(world.stalled().as_deref(), Some("AppNameMismatch"));
    world.stage.cloud.with(|cloud| cloud.rename_app(&app, "expected"));
    world
}

#[tokio::test]
async fn a_crash_before_the_report_does_not_leave_a_dead_code_behind_an_older_back_off() {
    let mut world = stopped_and_mended().await;
    let crash = |moment| Strike::Crash(moment);
    // The code is in no Secret yet when the process ends, and status still says to wait for an hour.
    world.stage.script.begin_if(vec![(1, crash(Moment::Before))], is_patch);
    world.stage.annotate(NAME, ROTATE_REQUESTED_AT, "now");
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!(world.mutations(), 1);
    world.assert_ready();
}

/// Somebody had replaced the app's code before the resource came, so that it never saw the one before.
#[tokio::test]
async fn an_answer_that_shows_the_app_as_it_was_before_the_mark_tells_of_no_code() {
    let mut world = World::new().await;
    let old = world.live().remove(0);
    let (time, app) = (world.stage.time.clone(), world.stage.app.clone());
    time.advance(Duration::from_secs(60));
    world.stage.cloud.with(|cloud| {
        cloud.add_code(time.truth(), &app, None);
        cloud.remove_code(time.truth(), &app, &old);
    });
    world.stage.create_rotation(|_| ());
    world.run_to_rest().await;
    world.assert_ready();
    let lag = Fault::stale(Lag::Millis(3_600_000)).at(Operation::Reset).once();
    world.stage.cloud.with(|cloud| cloud.inject(lag));
    world.stage.set_trigger("one");
    // The reading after it is as good as any.
    world.run_for(SignedDuration::from_secs(10)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert!(!world.stage.judge.written(NAME).contains(&old));
}

/// It was left with a record of its own, which is in order and old.
#[tokio::test]
async fn a_rotation_that_is_open_is_found_where_spec_names_a_secret_of_long_ago_meanwhile() {
    let name = |world: &World, secret: &str| {
        world
            .stage
            .edit_rotation(NAME, |object| object["spec"]["target"] = json!({"name": secret}));
    };
    for is_carried_out in [true, false] {
        let mut world = World::settled().await;
        name(&world, "moved");
        world.run_to_rest().await;
        world.stage.set_trigger("one");
        world.run_to_rest().await;
        let moment = if is_carried_out { Moment::After } else { Moment::Before };
        let is_reset = |call: &Call| *call == Call::Cloud(Operation::Reset);
        world.stage.script.begin_if(vec![(0, Strike::Crash(moment))], is_reset);
        world.stage.set_trigger("two");
        let away = world
            .stage
            .cloud
            .with(|cloud| cloud.inject(Fault::status_before(503).at(Operation::Show).skip(1)));
        world.run_for(SignedDuration::from_secs(20)).await;
        name(&world, NAME);
        world.run_for(SignedDuration::from_mins(5)).await;
        world.stage.cloud.with(|cloud| cloud.clear(away));
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!(world.mutations(), 2);
        assert_eq!(world.code(), world.live().pop());
    }
}

/// The second one comes hours after the first, and a good one stands between them.
#[tokio::test]
async fn two_bad_lists_with_a_good_one_between_them_prove_nothing() {
    let mut world = World::settled().await;
    let app = world.stage.app.clone();
    let empty = format!(r#"{{"app":{{"app_id":"{app}","app_codes":[]}}}}"#);
    for _ in 0..2 {
        let fault = Fault::body(Body::Text(empty.clone())).at(Operation::Show).once();
        let fault = world.stage.cloud.with(|cloud| cloud.inject(fault));
        for _ in 0..20 {
            world.run_for(SignedDuration::from_mins(10)).await;
            assert_eq!(world.stalled(), None);
        }
        let is_met = !world.stage.cloud.with(|cloud| cloud.clear(fault));
        assert!(is_met, "nobody has asked");
    }
    world.assert_ready();
}

#[tokio::test]
async fn a_secret_that_is_deleted_before_status_tells_of_its_code_is_made_again_with_it() {
    for is_answer_lost in [false, true] {
        let mut world = World::settled().await;
        world.stage.api.revoke(ROTATIONS, Verb::PutStatus, true);
        if is_answer_lost {
            let lost = Fault::cut_after().at(Operation::Reset).once();
            world.stage.cloud.with(|cloud| cloud.inject(lost));
        }
        world.stage.set_trigger("one");
        world.run_for(SignedDuration::from_mins(1)).await;
        assert_eq!(world.mutations(), 1);
        world.stage.judge.excuse(NAME);
        world.stage.delete_secret(NAME);
        world.run_for(SignedDuration::from_mins(10)).await;
        world.stage.api.revoke(ROTATIONS, Verb::PutStatus, false);
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!(world.mutations(), 1, "lost: {is_answer_lost}");
    }
}

#[tokio::test]
async fn an_addition_that_the_cloud_refuses_is_a_stop_until_it_does_not() {
    for status in [400, 403] {
        let mut world = settled_with_overlap().await;
        let refused = Fault::status_before(status).at(Operation::Add);
        world.stage.cloud.with(|cloud| cloud.inject(refused));
        world.stage.set_trigger("one");
        world.run_for(SignedDuration::from_mins(10)).await;
        let (stalled, since) = (world.stalled(), world.since(ConditionType::Stalled));
        assert!(stalled.is_some());
        world.run_for(SignedDuration::from_hours(12)).await;
        assert_eq!((world.stalled(), world.since(ConditionType::Stalled)), (stalled, since));
        assert!(world.calls(Operation::Add) > 2, "{status}");
        world.stage.cloud.with(Cloud::clear_all);
        world.run_for(SignedDuration::from_hours(5)).await;
        assert_eq!(world.mutations(), 1);
        world.assert_ready();
    }
}

#[tokio::test]
async fn without_the_right_to_write_status_an_addition_is_marked_once() {
    let mut world = settled_with_overlap().await;
    world.stage.api.revoke(ROTATIONS, Verb::PutStatus, true);
    world.stage.script.begin(Vec::new());
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(10)).await;
    assert_eq!((world.mutations(), world.stage.script.count(is_secret_patch)), (0, 1));
    world.stage.api.revoke(ROTATIONS, Verb::PutStatus, false);
    world.run_for(SignedDuration::from_mins(10)).await;
    assert_eq!(world.mutations(), 1);
    world.assert_ready();
}

#[tokio::test]
async fn a_resource_that_is_made_again_while_readings_lag_is_looked_at_soon() {
    let mut world = World::settled().await;
    world.run_for(SignedDuration::from_mins(1)).await;
    world.stage.api.lag(Duration::from_secs(60));
    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
    world.stage.create_rotation(|_| ());
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn a_persons_request_outlives_a_pass_that_fails() {
    let mut world = stopped_and_mended().await;
    let strike = Strike::Api(Moment::Before, ApiFault::Status(500));
    world.stage.script.begin(vec![(0, strike)]);
    world.stage.annotate(NAME, ROTATE_REQUESTED_AT, "now");
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_is_told_and_nothing_is_changed() {
    let mut world = World::settled().await;
    let strike = Strike::Api(Moment::Before, ApiFault::Status(403));
    world.stage.script.begin_lasting(strike, 0, is_target_read);
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(30)).await;
    assert_eq!(world.stalled().as_deref(), Some("SecretNotWritable"));
    let (ready, _, message) = world.condition(ConditionType::Ready);
    assert_eq!(ready, "False");
    assert!(message.contains("may not read Secret checkout"), "{message}");
    assert_eq!(world.mutations(), 0);
    assert_eq!(world.events(), ["Adopted", "SecretNotWritable"]);
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn an_open_rotation_on_a_secret_that_was_locked_stops_without_a_storm() {
    let mut world = World::settled().await;
    world
        .stage
        .cloud
        .with(|cloud| cloud.inject(Fault::cut_after().at(Operation::Reset).once()));
    world
        .stage
        .script
        .begin_if(vec![(0, Strike::Crash(Moment::After))], is_patch);
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(1)).await;
    world
        .stage
        .api
        .edit(SECRETS, NAMESPACE, NAME, |secret| secret["immutable"] = json!(true));
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["target"] = json!({ "name": "another" }));
    let writes = world.writes();
    world.run_for(SignedDuration::from_hours(6)).await;
    assert_eq!(world.stalled().as_deref(), Some("SecretNotWritable"));
    let (_, _, message) = world.condition(ConditionType::Stalled);
    assert!(message.contains("Secret checkout cannot be written"), "{message}");
    assert!(world.writes() - writes <= 6, "{} writes", world.writes() - writes);
}

#[tokio::test]
async fn a_resource_with_refused_credentials_cannot_squat_on_an_app() {
    let mut world = World::settled().await;
    // An open intent as ours would be, on a Secret and a resource that somebody made up elsewhere.
    world
        .stage
        .cloud
        .with(|cloud| cloud.inject(Fault::cut_before().at(Operation::Reset).once()));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(30)).await;
    let open = world.stage.secret(NAME).unwrap();
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    let now = world.stage.time.truth();
    let mut squatter = json!({
        "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation",
        "metadata": { "namespace": "elsewhere", "name": NAME },
        "spec": {
            "endpoint": world.stage.endpoint, "projectId": world.stage.project, "appId": world.stage.app,
            "credentialsRef": { "name": "none" },
        },
    });
    world.stage.api.apply_new(ROTATIONS, squatter.take(), now);
    world.stage.api.apply_new(SECRETS, made_up(open), now);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.stage.set_trigger("two");
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 2);
}

/// The Secret of another namespace's resource, with an open intent that nothing will ever end.
fn made_up(mut secret: Value) -> Value {
    secret["metadata"] = json!({
        "namespace": "elsewhere", "name": NAME, "labels": secret["metadata"]["labels"],
        "annotations": secret["metadata"]["annotations"],
    });
    let annotations = &mut secret["metadata"]["annotations"];
    annotations["appcode.dev/resource"] = json!(format!("elsewhere/{NAME}"));
    let mut intent: Value = serde_json::from_str(annotations["appcode.dev/intent"].as_str().unwrap()).unwrap();
    assert_eq!(intent["step"], "Started");
    intent.as_object_mut().unwrap().remove("base");
    annotations["appcode.dev/intent"] = json!(intent.to_string());
    secret
}

#[tokio::test]
async fn a_code_that_no_url_can_name_stops_before_anything_is_written() {
    let mut world = World::with_codes(0).await;
    let (app, now) = (world.stage.app.clone(), world.stage.time.truth());
    let code = format!("{}/{}", "a".repeat(40), "b".repeat(23));
    world.stage.cloud.with(|cloud| cloud.add_code(now, &app, Some(&code)));
    world.stage.create_rotation(|_| ());
    world.run_to_rest().await;
    world.assert_ready();
    world.stage.set_trigger("one");
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_eq!(world.stalled().as_deref(), Some("CodeNotAddressable"));
    assert_eq!(
        (world.stage.script.count(is_patch), world.calls(Operation::Reset)),
        (0, 0)
    );
    assert!(world.stage.script.count(is_status) <= 3);
    assert_eq!(world.code(), Some(code), "the code still works");
}

#[tokio::test]
async fn a_secret_that_no_status_could_name_is_not_left_behind_when_spec_names_another_one() {
    let mut world = World::new().await;
    let seed = world.live().remove(0);
    let strike = Strike::Api(Moment::Before, ApiFault::Status(503));
    world.stage.script.begin_lasting(strike, 0, is_status);
    world.stage.create_rotation(|spec| spec["appCode"] = json!(seed));
    world.run_for(SignedDuration::from_mins(1)).await;
    assert_eq!((world.mutations(), world.code()), (1, world.live().pop()));
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["target"] = json!({ "name": "another" }));
    world.run_for(SignedDuration::from_mins(1)).await;
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert_eq!(world.stage.code_in("another"), world.live().pop());
    assert_eq!(world.ctx.remembered(), 0, "status tells of it by now");
}
