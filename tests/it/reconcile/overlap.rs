//! `Overlap`: a second code beside the first, and the first one retired later.

use std::time::Duration;

use appcode_operator::api::{ConditionType, FINALIZER, Phase, Strategy};
use appcode_operator::health::Health;
use appcode_operator::metrics::Format;
use cloud_simulator::{Cause, Fault, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::World;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::script::{ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};
use crate::support::workloads::{Played, target};

async fn settled(grace: &str) -> World {
    settled_in(World::new().await, grace).await
}

/// A resource that rests with the app's only code, and rotates by overlap with this grace period.
pub(super) async fn settled_in(mut world: World, grace: &str) -> World {
    world.stage.create_rotation(|spec| {
        spec["strategy"] = json!("Overlap");
        spec["overlap"] = json!({ "gracePeriod": grace });
    });
    world.run_to_rest().await;
    world.assert_ready();
    world
}

fn finalizers(world: &World) -> Value {
    let rotation = world.stage.api.object(ROTATIONS, NAMESPACE, NAME);
    rotation.map_or(Value::Null, |rotation| rotation["metadata"]["finalizers"].clone())
}

fn deletions(world: &World) -> usize {
    world.ledger().acts_applied(&world.stage.app, Cause::Delete)
}

#[tokio::test]
async fn both_codes_work_until_the_grace_period_is_over() {
    let mut world = settled("1h").await;
    let old = world.code().unwrap();
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;

    world.assert_ready();
    let new = world.code().unwrap();
    assert_ne!(new, old);
    assert_eq!(world.live().len(), 2, "the code before still works");
    let status = world.status();
    assert_eq!(status.phase, Some(Phase::Retiring));
    assert_eq!(finalizers(&world), json!([FINALIZER]));
    let previous = status.previous.unwrap();
    assert_eq!(previous.fingerprint, world.fingerprint(&old));
    let rotated = status.current.unwrap().rotated_at.0;
    assert_eq!(
        previous.retire_after.unwrap().0,
        rotated + SignedDuration::from_hours(1)
    );
    assert_eq!(status.history[0].strategy, Strategy::Overlap);
    assert_eq!(status.history[0].exposure_millis, None);
    assert_eq!(world.condition(ConditionType::Reconciling).1, "Retiring");

    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(world.live(), vec![new]);
    assert_eq!((world.mutations(), deletions(&world)), (1, 1));
    let status = world.status();
    assert_eq!(status.phase, Some(Phase::Ready));
    assert!(status.history[0].retired_at.is_some() && status.rotation.is_none());
    assert_eq!(status.previous.unwrap().retire_after, None);
    assert_eq!(finalizers(&world), Value::Null);
    assert!(world.events().contains(&"Retired".to_owned()));
}

#[tokio::test]
async fn without_a_grace_period_the_old_code_goes_as_soon_as_the_new_one_is_in_the_secret() {
    let mut world = settled("0s").await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.live(), vec![world.code().unwrap()]);
    assert_eq!(finalizers(&world), Value::Null);
}

#[tokio::test]
async fn a_grace_period_that_is_cut_short_retires_at_once() {
    let mut world = settled("24h").await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_eq!(world.live().len(), 2);
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["overlap"]["gracePeriod"] = json!("0s"));
    world.run_for(SignedDuration::from_mins(1)).await;
    world.assert_ready();
    assert_eq!(world.live().len(), 1);
}

#[tokio::test]
async fn a_second_trigger_waits_for_the_retirement_and_codes_are_never_stacked() {
    let mut world = settled("2h").await;
    for value in ["one", "two", "three"] {
        world.stage.set_trigger(value);
        world.run_for(SignedDuration::from_mins(30)).await;
        assert_eq!(world.live().len(), 2, "{value}");
        assert_eq!(world.mutations(), 1, "{value}");
    }
    let (_, _, message) = world.condition(ConditionType::Reconciling);
    assert!(message.contains("what is asked for now starts after that"), "{message}");
    world.run_for(SignedDuration::from_hours(1)).await;
    assert_eq!(
        (world.mutations(), deletions(&world)),
        (2, 1),
        "the last value alone is left to do"
    );
    world.run_for(SignedDuration::from_hours(12)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), deletions(&world)), (2, 2));
    assert_eq!(world.status().last_handled_trigger.as_deref(), Some("three"));
}

#[tokio::test]
async fn without_a_free_place_nothing_is_changed() {
    let mut world = World::with_codes(5).await;
    let seed = world.live()[0].clone();
    world.stage.create_secret("seed", &[("code", &seed)]);
    world.stage.create_rotation(|spec| {
        spec["strategy"] = json!("Overlap");
        spec["appCodeFrom"] = json!({"secretKeyRef": {"name": "seed", "key": "code"}});
    });
    world.run_to_rest().await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_sound();
    assert_eq!(world.stalled().as_deref(), Some("CapacityExhausted"));
    assert_eq!((world.mutations(), world.live().len()), (0, 5));
    // A place that becomes free is found.
    let unused = world
        .live()
        .into_iter()
        .find(|code| Some(code) != world.code().as_ref());
    let (now, app) = (world.stage.time.truth(), world.stage.app.clone());
    world
        .stage
        .cloud
        .with(|cloud| cloud.remove_code(now, &app, &unused.unwrap()));
    world.run_for(SignedDuration::from_hours(4)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), deletions(&world)), (1, 1));
}

#[tokio::test]
async fn suspend_holds_the_retirement_and_lets_it_go_on_later() {
    let mut world = settled("1h").await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["suspend"] = json!(true));
    world.run_for(SignedDuration::from_hours(5)).await;
    world.assert_sound();
    assert_eq!(world.live().len(), 2);
    assert_eq!(world.status().phase, Some(Phase::Suspended));
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["suspend"] = json!(false));
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.live().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_of_the_addition_is_settled_by_reading() {
    let mut world = settled("1h").await;
    let lost = Fault::cut_after().at(Operation::Add).once();
    world.stage.cloud.with(|cloud| cloud.inject(lost));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.live().len()), (1, 2));
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), deletions(&world), world.live().len()), (1, 1, 1));
}

#[tokio::test]
async fn a_secret_that_is_deleted_in_the_grace_period_comes_back_and_the_old_code_is_retired() {
    let mut world = settled("1h").await;
    let old = world.code().unwrap();
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    let new = world.code().unwrap();
    assert!(world.stage.delete_secret(NAME));
    world.run_for(SignedDuration::from_hours(4)).await;
    world.assert_ready();
    assert_eq!(world.code(), Some(new));
    assert!(!world.live().contains(&old));
    assert_eq!((world.mutations(), deletions(&world)), (1, 1));
}

#[tokio::test]
async fn a_stranger_who_names_another_code_on_the_secret_gets_nothing_deleted() {
    let mut world = settled("1h").await;
    let (now, app) = (world.stage.time.truth(), world.stage.app.clone());
    let strangers = world.stage.cloud.with(|cloud| cloud.add_code(now, &app, None)).unwrap();
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    let print = {
        let app = appcode_operator::ids::AppId::parse(&world.stage.app).unwrap();
        appcode_operator::ids::Fingerprint::of(&app, &strangers).to_string()
    };
    world.stage.judge.excuse(NAME);
    world.stage.api.edit(SECRETS, NAMESPACE, NAME, |secret| {
        let notes = &mut secret["metadata"]["annotations"];
        let mut intent: Value = serde_json::from_str(notes["appcode.dev/intent"].as_str().unwrap()).unwrap();
        intent["base"] = json!(print);
        notes["appcode.dev/intent"] = json!(intent.to_string());
        notes["appcode.dev/previous-fingerprint"] = json!(print);
    });
    world.run_for(SignedDuration::from_hours(4)).await;
    assert!(world.live().contains(&strangers));
    assert_eq!(deletions(&world), 0);
    assert!(world.events().contains(&"NotRetired".to_owned()));
}

#[tokio::test]
async fn a_deleted_resource_retires_what_is_due_and_leaves_what_is_not() {
    for (grace, left) in [("1m", 1), ("24h", 2)] {
        let mut world = settled(grace).await;
        world.stage.set_trigger("one");
        world.run_for(SignedDuration::from_secs(20)).await;
        assert_eq!(world.live().len(), 2);
        assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
        world.run_for(SignedDuration::from_mins(5)).await;
        assert!(
            world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none(),
            "{grace}: it is gone"
        );
        assert_eq!(world.live().len(), left, "{grace}");
        let told = world.events().contains(&"NotRetired".to_owned());
        assert_eq!(told, left == 2, "{grace}: {:?}", world.events());
    }
}

#[tokio::test]
async fn a_code_that_is_left_is_told_of_once_though_the_answer_that_lets_its_resource_go_is_lost() {
    let is_finalizer =
        |call: &Call| matches!(call, Call::Api { verb: Verb::Patch, resource, .. } if *resource == ROTATIONS);
    let leave = |world: &World, way: &str| {
        if way == "moved to another app" {
            world.stage.edit_rotation(NAME, |object| {
                object["spec"]["appId"] = json!("0123456789abcdef0123456789abcdef");
            });
            return;
        }
        if way == "deleted, and held by somebody else too" {
            world.stage.edit_rotation(NAME, |object| {
                object["metadata"]["finalizers"] = json!([FINALIZER, "example.com/other"]);
            });
        }
        assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
    };
    for way in [
        "deleted",
        "deleted, and held by somebody else too",
        "moved to another app",
    ] {
        let faults = [
            (Moment::After, ApiFault::Cut),
            (Moment::After, ApiFault::Hang),
            (Moment::Before, ApiFault::Status(503)),
        ];
        for fault in faults {
            let mut world = settled("24h").await;
            world.stage.set_trigger("one");
            world.run_for(SignedDuration::from_mins(5)).await;
            leave(&world, way);
            let lost = Strike::Api(fault.0, fault.1);
            world.stage.script.begin_if(vec![(0, lost)], is_finalizer);
            world.run_for(SignedDuration::from_mins(5)).await;
            assert_eq!(world.stage.script.struck(), 1, "{way}, {fault:?}");
            assert_eq!(world.live().len(), 2, "{way}, {fault:?}");
            let told = world.events().iter().filter(|reason| *reason == "NotRetired").count();
            assert_eq!(told, 1, "{way}, {fault:?}: {:?}", world.events());
        }
    }
}

#[tokio::test]
async fn while_readings_lag_a_deleted_resource_does_not_look_at_the_app_all_the_time() {
    let mut world = settled("1m").await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(50)).await;
    assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
    world.stage.api.lag(Duration::from_secs(60));
    world.stage.edit_secret(NAME, &[("appCode", "edited-by-somebody")]);
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(5)).await;
    assert!(world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none());
    // One for each pass, and those come after growing pauses.
    let looks = world.stage.script.count(|call| *call == Call::Cloud(Operation::Show));
    assert!(looks <= 10, "{looks} looks");
}

#[tokio::test]
async fn a_deletion_does_not_wait_for_a_cloud_that_is_down() {
    let mut world = settled("1m").await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(20)).await;
    world.stage.cloud.with(|cloud| cloud.inject(Fault::status_before(503)));
    assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
    world.run_for(SignedDuration::from_mins(3)).await;
    assert!(world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none());
}

#[tokio::test]
async fn a_clock_that_is_set_back_keeps_neither_the_old_code_nor_a_deleted_resource_for_ever() {
    for is_deleted in [false, true] {
        // Signatures with such a time would be refused.
        let mut world = settled_in(World::direct(), "1m").await;
        world.stage.set_trigger("one");
        world.run_for(SignedDuration::from_secs(20)).await;
        assert_eq!(world.live().len(), 2);
        world.stage.time.set_skew(SignedDuration::from_hours(-24 * 365));
        if is_deleted {
            assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
        }
        world.run_for(SignedDuration::from_hours(3)).await;
        world.assert_sound();
        let is_gone = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none();
        assert_eq!(is_gone, is_deleted);
        assert_eq!(world.live().len(), 1 + usize::from(is_deleted));
    }
}

/// What waited for the retirement may start in the very pass that ended it, after workloads were looked at.
#[tokio::test]
async fn a_rotation_that_follows_at_once_restarts_the_workloads_again() {
    let mut world = settled("0s").await;
    let web = target("Deployment/web");
    world.stage.create_workload(&web);
    world.stage.edit_rotation(NAME, |spec| {
        spec["spec"]["restartTargets"] = json!([{"kind": "Deployment", "name": "web"}]);
    });
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(20)).await;
    world.stage.set_trigger("two"); // waits for web
    world.run_for(SignedDuration::from_mins(20)).await;
    assert_eq!((world.mutations(), world.stage.changes_of(&web)), (1, 1));
    world.stage.play(&web, Played::DONE);
    world.run_for(SignedDuration::from_mins(20)).await;
    assert_eq!((world.mutations(), world.stage.changes_of(&web)), (2, 2));
    world.stage.play(&web, Played::DONE);
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(world.condition(ConditionType::WorkloadsReady).0, "True");
    assert_eq!(world.live(), vec![world.code().unwrap()]);
}

#[tokio::test]
async fn a_deletion_that_stays_refused_ends_neither_readiness_nor_rotations() {
    let mut world = settled("1m").await;
    let old = world.code().unwrap();
    let refused = Fault::status_before(403).at(Operation::Delete);
    world.stage.cloud.with(|cloud| cloud.inject(refused));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_ready();
    assert_eq!(world.condition(ConditionType::Authorized).0, "True");
    assert!(world.live().contains(&old));
    let tries = world.calls(Operation::Delete);
    assert!(
        (2..=4).contains(&tries),
        "it is tried again, after longer and longer pauses: {tries}"
    );
    let (_, reason, message) = world.condition(ConditionType::Reconciling);
    assert_eq!(reason, "Retiring", "{message}");
    assert!(message.contains("deleted again"), "{message}");

    world.run_for(SignedDuration::from_hours(24)).await;
    world.assert_ready();
    assert!(world.events().contains(&"NotRetired".to_owned()));
    assert!(world.status().unclaimed.contains(&world.fingerprint(&old)));
    assert_eq!(finalizers(&world), Value::Null);
    world.stage.set_trigger("two");
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 2);
}

#[tokio::test]
async fn a_deleted_resource_whose_rotation_is_open_says_so() {
    let mut world = settled("1h").await;
    let lost = Fault::status_before(500).at(Operation::Add);
    world.stage.cloud.with(|cloud| cloud.inject(lost));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(20)).await;
    assert_eq!(finalizers(&world), json!([FINALIZER]));
    assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
    world.run_for(SignedDuration::from_mins(5)).await;
    assert!(world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none());
    assert_eq!(world.events().last().map(String::as_str), Some("Abandoned"));
    let text = world.ctx.scrape(Format::Text, &Health::of(&world.ctx));
    let counted = r#"appcode_rotations_unfinished_total{outcome="Abandoned"} 1"#;
    assert!(text.lines().any(|line| line == counted), "{text}");
}

#[tokio::test]
async fn nothing_is_deleted_on_the_word_of_an_earlier_answer() {
    // In between a person takes the new code away: the old one alone works then.
    let mut world = settled("0s").await;
    let old = world.code().unwrap();
    let removed = std::sync::atomic::AtomicBool::new(false);
    let tamper = move |stage: &crate::support::Stage, asked: &mut crate::support::api_server::Asked| {
        let has_code = asked.resource == SECRETS && !asked.body["data"]["appCode"].is_null();
        if has_code && !removed.swap(true, std::sync::atomic::Ordering::Relaxed) {
            let (now, app) = (stage.time.truth(), stage.app.clone());
            let new = stage.live().into_iter().find(|code| *code != old).unwrap();
            stage.cloud.with(|cloud| cloud.remove_code(now, &app, &new));
        }
        None
    };
    assert!(world.stage.tamper.set(Box::new(tamper)).is_ok());
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!((world.mutations(), deletions(&world), world.live().len()), (1, 0, 1));
}

#[tokio::test]
async fn a_finalizer_is_left_on_nobody_whose_rotation_is_not_repeated() {
    let mut world = settled("1h").await;
    let lost = Fault::status_before(500).at(Operation::Add);
    world.stage.cloud.with(|cloud| cloud.inject(lost));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(20)).await;
    assert_eq!(finalizers(&world), json!([FINALIZER]));
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["suspend"] = json!(true));
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_sound();
    assert_eq!(finalizers(&world), Value::Null);
}

#[tokio::test]
async fn a_code_that_is_left_for_another_app_is_told_of_though_that_app_cannot_be_read() {
    let mut world = settled("24h").await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!((world.live().len(), finalizers(&world)), (2, json!([FINALIZER])));
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["appId"] = json!("0123456789abcdef0123456789abcdef");
    });
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!(world.stalled().as_deref(), Some("AppNotFound"));
    assert_eq!(finalizers(&world), Value::Null);
    let told = world.events().iter().filter(|reason| *reason == "NotRetired").count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn a_code_that_is_named_back_as_the_seed_is_not_told_to_be_deleted() {
    let mut world = settled("24h").await;
    let old = world.code().unwrap();
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    world.stage.create_secret("seed", &[("code", &old)]);
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["appCodeFrom"] = json!({"secretKeyRef": {"name": "seed", "key": "code"}});
    });
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_sound();
    assert!(world.live().contains(&old));
    assert!(
        !world.events().contains(&"NotRetired".to_owned()),
        "{:?}",
        world.events()
    );
    assert!(!world.status().unclaimed.contains(&world.fingerprint(&old)));
    // The rotation that another seed asks for starts from it.
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_sound();
    assert_eq!(world.status().rotation_number, Some(2));
    assert_eq!(world.status().previous.unwrap().fingerprint, world.fingerprint(&old));
    assert!(world.live().contains(&old));
}

#[tokio::test]
async fn a_code_that_is_named_back_as_the_seed_outlives_a_resource_that_is_deleted() {
    let mut world = settled("1m").await;
    let old = world.code().unwrap();
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(20)).await;
    assert_eq!(world.live().len(), 2);
    world.stage.create_secret("seed", &[("code", &old)]);
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["appCodeFrom"] = json!({"secretKeyRef": {"name": "seed", "key": "code"}});
    });
    assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
    world.run_for(SignedDuration::from_mins(5)).await;
    assert!(world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none());
    assert!(world.live().contains(&old));
    assert_eq!((world.live().len(), deletions(&world)), (2, 0));
}

#[tokio::test]
async fn what_is_unclaimed_is_neither_forgotten_with_the_secret_nor_told_when_it_is_gone() {
    let mut world = settled("1m").await;
    let old = world.code().unwrap();
    let refused = Fault::status_before(403).at(Operation::Delete);
    world.stage.cloud.with(|cloud| cloud.inject(refused));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_hours(24)).await;
    let left = vec![world.fingerprint(&old)];
    assert_eq!(world.status().unclaimed, left);
    assert!(world.stage.delete_secret(NAME));
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!(world.status().unclaimed, left);
    // The Secret does not say it, and the next rotation does not forget it.
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["strategy"] = json!("Reset"));
    world.stage.set_trigger("two");
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.status().unclaimed), (2, left));
    let (now, app) = (world.stage.time.truth(), world.stage.app.clone());
    world.stage.cloud.with(|cloud| cloud.remove_code(now, &app, &old));
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!(world.status().unclaimed, Vec::<String>::new());
}

#[tokio::test]
async fn a_deletion_is_bounded_by_the_time_that_the_process_runs_too() {
    // Its clock is set back again and again, and the cloud is down.
    let mut world = settled_in(World::direct(), "1m").await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    world.stage.set_trigger("two");
    world.run_for(SignedDuration::from_secs(20)).await;
    world.stage.cloud.with(|cloud| cloud.inject(Fault::status_before(503)));
    assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
    let start = world.stage.time.truth();
    for _ in 0..24 {
        let passed = world.stage.time.truth().duration_since(start);
        world.stage.time.set_skew(SignedDuration::ZERO - passed);
        world.run_for(SignedDuration::from_secs(10)).await;
    }
    assert!(world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none());
}

/// Where the operator's rights are roles in the namespace these go with it; one on the resources alone may be left.
#[tokio::test]
async fn a_right_on_the_resource_alone_is_enough_to_let_it_go() {
    let mut world = settled("1m").await;
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(20)).await;
    assert_eq!(finalizers(&world), json!([FINALIZER]));
    for verb in [Verb::Get, Verb::Create, Verb::Patch] {
        world.stage.api.revoke(SECRETS, verb, true);
    }
    assert!(world.stage.api.delete(ROTATIONS, NAMESPACE, NAME));
    world.run_for(SignedDuration::from_mins(5)).await;
    assert!(world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none());
}
