//! What rotates, and what does not.

use appcode_operator::api::{ConditionType, Phase, ROTATE_REQUESTED_AT, Trigger};
use cloud_simulator::{NewApp, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::api_server::ROTATIONS;
use crate::support::script::{Act, Call, Moment, Strike};
use crate::support::stage::{CREDENTIALS, NAME, NAMESPACE};
use crate::support::{Stage, World};

#[tokio::test]
async fn the_schedule_rotates_once_an_interval() {
    let mut world = World::new().await;
    world
        .stage
        .create_rotation(|spec| spec["schedule"] = json!({ "interval": "24h", "jitter": "2h" }));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0, "not before it is due");
    for day in 1..=5 {
        let next = world.status().next_rotation_time.unwrap().0;
        world
            .run_for(next.duration_since(world.stage.time.truth()) - SignedDuration::from_secs(1))
            .await;
        assert_eq!(world.mutations(), day - 1, "not a second early");
        world.run_for(SignedDuration::from_mins(1)).await;
        world.assert_ready();
        assert_eq!(world.mutations(), day);
        assert_eq!(world.status().history[0].trigger, Trigger::Schedule);
    }
    let times: Vec<_> = world
        .status()
        .history
        .iter()
        .map(|entry| entry.completed_at.0)
        .collect();
    for pair in times.windows(2) {
        let apart = pair[0].duration_since(pair[1]);
        assert!((24..=26).contains(&apart.as_hours()), "{apart}");
    }
}

#[tokio::test]
async fn missed_times_collapse_into_one() {
    let mut world = World::new().await;
    world
        .stage
        .create_rotation(|spec| spec["schedule"] = json!({ "interval": "1h" }));
    world.run_to_rest().await;
    world.stage.time.advance(std::time::Duration::from_secs(90 * 24 * 3600));
    world.restart();
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn a_changed_trigger_rotates_once_and_a_removed_one_does_not() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    let status = world.status();
    assert_eq!(status.history[0].trigger, Trigger::Spec);
    assert_eq!(status.last_handled_trigger.as_deref(), Some("one"));
    world.stage.edit_rotation(NAME, |object| {
        object["spec"].as_object_mut().unwrap().remove("rotationTrigger");
    });
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn a_request_rotates_once_and_its_annotation_stays() {
    let mut world = World::settled().await;
    world.stage.annotate(NAME, ROTATE_REQUESTED_AT, "2026-03-01T09:00:00Z");
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    let status = world.status();
    assert_eq!(status.history[0].trigger, Trigger::Request);
    assert_eq!(status.last_handled_request.as_deref(), Some("2026-03-01T09:00:00Z"));
    let object = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap();
    assert_eq!(
        object["metadata"]["annotations"][ROTATE_REQUESTED_AT],
        "2026-03-01T09:00:00Z"
    );
}

#[tokio::test]
async fn reasons_that_come_together_share_one_rotation() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.stage.annotate(NAME, ROTATE_REQUESTED_AT, "now");
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    let status = world.status();
    assert_eq!(status.last_handled_trigger.as_deref(), Some("one"));
    assert_eq!(status.last_handled_request.as_deref(), Some("now"));
}

#[tokio::test]
async fn a_second_rotation_waits_for_the_minimum_interval() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.stage.set_trigger("two");
    world.run_for(SignedDuration::from_mins(9)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    let (status, reason, _) = world.condition(ConditionType::Reconciling);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Waiting"));
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 2);
}

#[tokio::test]
async fn another_app_in_the_spec_starts_anew_with_that_app() {
    let mut world = World::settled().await;
    let stage = world.stage.clone();
    let other = stage.cloud.with(|cloud| {
        let new = NewApp::of(&stage.user.user_id, &stage.project).codes(1);
        cloud.create_app(stage.time.truth(), new)
    });
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["appId"] = json!(other.app_id));
    world.run_to_rest().await;
    world.assert_sound();
    assert_eq!(world.mutations(), 0, "the first app is left as it was");
    assert_eq!(world.ledger().resets_applied(&other.app_id), 1);
    let live = stage.cloud.with(|cloud| cloud.live_codes(&other.app_id));
    assert_eq!(live, [world.code().unwrap()]);
    let status = world.status();
    assert_eq!(status.app.unwrap().app_id, other.app_id);
    assert_eq!(status.history[0].trigger, Trigger::Target);
    assert!(world.is_ready());
}

#[tokio::test]
async fn a_changed_seed_starts_anew_from_that_code() {
    let mut world = World::with_codes(2).await;
    let codes = world.live();
    world.stage.create_secret("seed", &[("code", &codes[0])]);
    world
        .stage
        .create_rotation(|spec| spec["appCodeFrom"] = json!({ "secretKeyRef": { "name": "seed", "key": "code" } }));
    world.run_to_rest().await;
    world.stage.edit_secret("seed", &[("code", &codes[1])]);
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    let live = world.live();
    assert!(live.contains(&codes[0]) && !live.contains(&codes[1]));
    // A seed that is the current code already asks for nothing.
    let current = world.code().unwrap();
    world.stage.edit_secret("seed", &[("code", &current)]);
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.code()), (1, Some(current)));
}

#[tokio::test]
async fn another_target_gets_the_code_and_nothing_is_rotated() {
    let mut world = World::settled().await;
    let code = world.code().unwrap();
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["target"] = json!({ "name": "elsewhere", "key": "code" });
    });
    world.run_to_rest().await;
    world.assert_sound();
    assert!(world.is_ready());
    assert_eq!(world.mutations(), 0);
    let secret = world.stage.secret("elsewhere").unwrap();
    assert_eq!(crate::support::stage::code_of(&secret, "code"), Some(code.clone()));
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["target"] = json!({ "name": "elsewhere", "key": "other" });
    });
    world.run_to_rest().await;
    world.assert_sound();
    assert!(world.is_ready());
    let secret = world.stage.secret("elsewhere").unwrap();
    assert_eq!(crate::support::stage::code_of(&secret, "other"), Some(code));
    assert_eq!(
        crate::support::stage::code_of(&secret, "code"),
        None,
        "the former key is removed"
    );
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_sound();
    assert_eq!(world.mutations(), 1);
    let secret = world.stage.secret("elsewhere").unwrap();
    assert_eq!(crate::support::stage::code_of(&secret, "other"), world.live().pop());
}

#[tokio::test]
async fn suspend_holds_a_rotation_until_it_ends() {
    let mut world = World::settled().await;
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["suspend"] = json!(true);
        object["spec"]["rotationTrigger"] = json!("one");
        object["spec"]["schedule"] = json!({ "interval": "1h" });
    });
    world.run_for(SignedDuration::from_hours(30)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0);
    assert_eq!(world.status().phase, Some(Phase::Suspended));
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["suspend"] = json!(false));
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert_eq!(world.status().phase, Some(Phase::Ready));
}

/// A rotation may stand in line for minutes where many are due.
#[tokio::test]
async fn who_suspends_or_deletes_while_a_rotation_is_about_to_begin_stops_it() {
    fn stand_in_line(stage: &Stage) {
        stage.time.advance(std::time::Duration::from_secs(60));
    }
    let suspend = Act::new("it is suspended", |stage: &Stage| {
        stand_in_line(stage);
        stage.edit_rotation(NAME, |object| object["spec"]["suspend"] = json!(true));
    });
    let delete = Act::new("it is deleted", |stage: &Stage| {
        stand_in_line(stage);
        stage.api.delete(ROTATIONS, NAMESPACE, NAME);
    });
    for act in [suspend, delete] {
        let mut world = World::settled().await;
        world.stage.set_trigger("one");
        let is_look = |call: &Call| *call == Call::Cloud(Operation::Show);
        let strike = Strike::Act(Moment::After, act.clone());
        world.stage.script.begin_if(vec![(0, strike)], is_look);
        world.run_for(SignedDuration::from_hours(3)).await;
        world.assert_sound();
        assert_eq!(world.stage.script.struck(), 1);
        assert_eq!(world.mutations(), 0, "{act:?}");
        let secret = world.stage.secret(NAME).unwrap();
        assert!(!world.stage.judge.has_open(&secret), "{act:?}");
    }
}

#[tokio::test]
async fn a_resource_suspended_from_the_start_takes_its_code_over_and_changes_nothing() {
    let mut world = World::new().await;
    let seed = world.live().remove(0);
    world.stage.create_rotation(|spec| {
        spec["suspend"] = json!(true);
        spec["appCode"] = json!(seed);
    });
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_sound();
    assert_eq!(world.mutations(), 0);
    assert_eq!(world.status().phase, Some(Phase::Suspended));
}

#[tokio::test]
async fn nothing_but_a_reason_to_rotate_rotates() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.stage.edit_rotation(NAME, |object| {
        object["metadata"]["labels"] = json!({ "team": "shop" });
        object["metadata"]["annotations"]["note"] = json!("of no interest");
    });
    world.run_for(SignedDuration::from_hours(1)).await;
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["historyLimit"] = json!(3);
        object["spec"]["appRemark"] = json!("a remark");
        object["spec"]["schedule"] = json!({ "interval": "720h" });
    });
    world.run_for(SignedDuration::from_hours(1)).await;
    let key = world.stage.cloud.with(|cloud| cloud.add_key(&world.stage.user.user_id));
    world
        .stage
        .edit_secret(CREDENTIALS, &[("accessKey", &key.ak), ("secretKey", &key.sk)]);
    world.run_for(SignedDuration::from_hours(2)).await;
    world.restart();
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert_eq!(world.calls(Operation::Reset), 1);
}

#[tokio::test]
async fn a_resource_created_again_beside_its_secret_rotates_nothing() {
    let mut world = World::new().await;
    let seed = world.live().remove(0);
    let spec = |spec: &mut serde_json::Value| {
        spec["appCode"] = json!(seed);
        spec["rotationTrigger"] = json!("one");
    };
    world.stage.create_rotation(spec);
    world.run_to_rest().await;
    world.stage.set_trigger("two");
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 2);
    let code = world.code();
    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
    world.run_for(SignedDuration::from_mins(20)).await;
    assert_eq!(world.code(), code, "the Secret is retained");
    world.stage.create_rotation(|new| {
        spec(new);
        new["rotationTrigger"] = json!("two");
    });
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.code()), (2, code));
}

#[tokio::test]
async fn what_asks_without_end_stops_at_the_daily_budget_and_goes_on_a_day_later() {
    let mut world = World::settled().await;
    world.make.settings.limits.daily_budget = 3;
    world.restart();
    for number in 0..6 {
        world.stage.set_trigger(&number.to_string());
        world.run_for(SignedDuration::from_mins(30)).await;
    }
    assert_eq!(world.mutations(), 3);
    let (_, reason, message) = world.condition(ConditionType::Stalled);
    assert_eq!(reason, "BudgetExhausted");
    let recent = world.stage.secret(NAME).unwrap()["metadata"]["annotations"]["appcode.dev/recent-rotations"].clone();
    let first: jiff::Timestamp = recent.as_str().unwrap().split(' ').next().unwrap().parse().unwrap();
    let opens = first + SignedDuration::from_hours(24);
    assert!(message.contains(&format!("{opens:.0}")), "{message}");
    // Neither a restart nor a wiped status opens it early.
    world.restart();
    world.stage.edit_rotation(NAME, |object| {
        object.as_object_mut().unwrap().remove("status");
    });
    world.run_for(SignedDuration::from_hours(20)).await;
    assert_eq!(world.mutations(), 3);
    world.run_for(SignedDuration::from_hours(5)).await;
    assert_eq!(world.mutations(), 4, "what was asked for meanwhile is one rotation");
    world.assert_ready();
}

#[tokio::test]
async fn an_answer_that_was_used_answers_no_later_question() {
    let mut world = World::with_codes(3).await;
    world.stage.create_rotation(|_| ());
    world.run_to_rest().await;
    assert_eq!(world.stalled().as_deref(), Some("AppCodeAmbiguous"));
    let [first, second] = [0, 1].map(|at| world.live()[at].clone());
    world
        .stage
        .annotate(NAME, "appcode.dev/adopt-fingerprint", &world.fingerprint(&first));
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    let adopted = |world: &World| world.events().iter().filter(|reason| *reason == "Adopted").count();
    assert_eq!((world.code().as_ref(), adopted(&world)), (Some(&first), 1));

    // It names the code still when that is gone and another one is answered, and when that is gone too.
    let (now, app) = (world.stage.time.truth(), world.stage.app.clone());
    world.stage.judge.excuse(NAME); // its code is taken away
    world.stage.cloud.with(|cloud| cloud.remove_code(now, &app, &first));
    world.run_for(SignedDuration::from_hours(3)).await;
    assert_eq!(world.stalled().as_deref(), Some("CodeNotListed"));
    world
        .stage
        .annotate(NAME, "appcode.dev/adopt-fingerprint", &world.fingerprint(&second));
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!((world.code().as_ref(), adopted(&world)), (Some(&second), 2));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    let now = world.stage.time.truth();
    let new = world.code().unwrap();
    world.stage.judge.excuse(NAME);
    world.stage.cloud.with(|cloud| {
        cloud.add_code(now, &app, Some(&second)).unwrap();
        cloud.remove_code(now, &app, &new);
    });
    world.run_for(SignedDuration::from_hours(3)).await;
    assert_eq!(
        world.stalled().as_deref(),
        Some("CodeNotListed"),
        "that was no answer to this"
    );
    assert_eq!(world.code(), Some(new));
}
