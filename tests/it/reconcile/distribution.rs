//! A new code on its way to its consumers: tried, workloads restarted, their roll-out waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use appcode_operator::api::{ConditionType, Phase, VerificationOutcome};
use appcode_operator::verification::Probe;
use cloud_simulator::{Cause, Fault, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::api_server::{Asked, DEPLOYMENTS, refuse};
use crate::support::prober::INFERENCE_HOST;
use crate::support::script::Verb;
use crate::support::stage::{NAME, NAMESPACE};
use crate::support::workloads::{Played, target};
use crate::support::{Stage, World};

/// A resource that rests with the app's only code and has two workloads that read its Secret.
async fn settled(change: impl FnOnce(&mut Value)) -> World {
    settled_in(World::new().await, change).await
}

async fn settled_in(mut world: World, change: impl FnOnce(&mut Value)) -> World {
    for name in ["Deployment/web", "StatefulSet/db"] {
        world.stage.create_workload(&target(name));
    }
    world.stage.create_rotation(|spec| {
        spec["restartTargets"] = json!([{"kind": "Deployment", "name": "web"}, {"kind": "StatefulSet", "name": "db"}]);
        change(spec);
    });
    world.run_to_rest().await;
    world.assert_ready();
    world
}

fn overlap(spec: &mut Value) {
    spec["strategy"] = json!("Overlap");
    spec["overlap"] = json!({"gracePeriod": "10m"});
}

fn verified(spec: &mut Value) {
    spec["verification"] = json!({ "url": format!("https://{INFERENCE_HOST}/v1/infers/any-service") });
}

/// The workloads' controllers see the restart and finish it.
fn roll_out(world: &World) {
    for name in ["Deployment/web", "StatefulSet/db"] {
        world.stage.play(&target(name), Played::DONE);
    }
}

fn restarts(world: &World) -> (i64, i64) {
    let changes = |name| world.stage.changes_of(&target(name));
    (changes("Deployment/web"), changes("StatefulSet/db"))
}

async fn minutes(world: &mut World, minutes: i64) {
    world.run_for(SignedDuration::from_mins(minutes)).await;
    world.assert_sound();
}

#[tokio::test]
async fn each_workload_is_restarted_once_and_its_rollout_waited_for() {
    let mut world = settled(|_| ()).await;
    assert_eq!(restarts(&world), (0, 0), "taking a code over restarts nothing");
    world.stage.set_trigger("one");
    minutes(&mut world, 2).await;
    world.assert_ready();
    assert_eq!(restarts(&world), (1, 1));
    let rotation = world.status().history[0].rotation_id.clone();
    assert_eq!(world.stage.mark_of(&target("Deployment/web"), NAME), Some(rotation));
    assert_eq!(world.condition(ConditionType::WorkloadsReady).0, "False");
    assert_eq!(world.condition(ConditionType::Reconciling).1, "RollingOut");
    assert_eq!(world.status().phase, Some(Phase::Distributing));

    world.stage.play(&target("Deployment/web"), Played::Ready(1));
    world.restart();
    minutes(&mut world, 60).await;
    roll_out(&world);
    minutes(&mut world, 10).await;
    world.assert_ready();
    assert_eq!(world.condition(ConditionType::WorkloadsReady).0, "True");
    assert_eq!(world.status().phase, Some(Phase::Ready));
    world.restart();
    minutes(&mut world, 300).await;
    assert_eq!(restarts(&world), (1, 1), "and never again for the same rotation");
    world.assert_ready();
}

#[tokio::test]
async fn with_reset_a_workload_that_is_stuck_does_not_hold_up_the_next_rotation() {
    let mut world = settled(|_| ()).await;
    world.stage.set_trigger("one");
    minutes(&mut world, 20).await;
    assert_eq!(world.condition(ConditionType::WorkloadsReady).0, "False");
    world.stage.set_trigger("two");
    minutes(&mut world, 5).await;
    assert_eq!((world.mutations(), restarts(&world)), (2, (2, 2)));
    world.assert_ready();
}

#[tokio::test]
async fn the_old_code_lives_until_every_workload_has_rolled_out() {
    let mut world = settled(overlap).await;
    let old = world.code().unwrap();
    world.stage.set_trigger("one");
    minutes(&mut world, 120).await;
    assert!(world.live().contains(&old), "web and db still use it");
    assert_eq!(world.status().previous.unwrap().retire_after, None);
    world.stage.play(&target("Deployment/web"), Played::DONE);
    minutes(&mut world, 120).await;
    assert!(world.live().contains(&old), "db still uses it");
    roll_out(&world);
    minutes(&mut world, 6).await;
    assert!(
        world.live().contains(&old),
        "the grace period begins when all have rolled out"
    );
    minutes(&mut world, 20).await;
    world.assert_ready();
    assert_eq!(world.live(), vec![world.code().unwrap()]);
    assert_eq!((world.mutations(), restarts(&world)), (1, (1, 1)));
}

#[tokio::test]
async fn without_the_wait_the_grace_period_alone_counts() {
    let mut world = settled(|spec| {
        overlap(spec);
        spec["overlap"]["waitForRollout"] = json!(false);
    })
    .await;
    world.stage.set_trigger("one");
    minutes(&mut world, 20).await;
    world.assert_ready();
    assert_eq!((world.live().len(), restarts(&world)), (1, (1, 1)));
}

#[tokio::test]
async fn without_the_wait_a_workload_that_cannot_be_read_for_a_while_is_restarted_all_the_same() {
    let mut world = settled(|spec| {
        overlap(spec);
        spec["overlap"] = json!({"gracePeriod": "0s", "waitForRollout": false});
    })
    .await;
    let is_out = Arc::new(AtomicBool::new(true));
    let flag = Arc::clone(&is_out);
    let tamper = move |_: &Stage, asked: &mut Asked| {
        let is_failing = asked.resource == DEPLOYMENTS && flag.load(Ordering::Relaxed);
        is_failing.then(|| refuse(500, "InternalError", "no"))
    };
    assert!(world.stage.tamper.set(Box::new(tamper)).is_ok());
    world.stage.set_trigger("one");
    minutes(&mut world, 1).await;
    assert_eq!((world.live().len(), restarts(&world)), (2, (0, 1)));
    let (_, reason, message) = world.condition(ConditionType::WorkloadsReady);
    assert_eq!(reason, "RolloutHeld");
    assert!(message.contains("Deployment/web could not be restarted"), "{message}");
    is_out.store(false, Ordering::Relaxed);
    minutes(&mut world, 2).await;
    assert_eq!((world.live().len(), restarts(&world)), (1, (1, 1)));
    world.assert_ready();

    is_out.store(true, Ordering::Relaxed);
    world.stage.set_trigger("two");
    minutes(&mut world, 10).await;
    assert_eq!(
        world.live(),
        vec![world.code().unwrap()],
        "it does not keep the old code for long"
    );
    assert_eq!(restarts(&world), (1, 2));
    minutes(&mut world, 70).await;
    let (value, _, message) = world.condition(ConditionType::WorkloadsReady);
    assert!(value == "Unknown" && message.contains("Deployment/web"), "{message}");
}

#[tokio::test]
async fn a_workload_that_is_missing_paused_stuck_or_rolled_back_is_told_and_loses_nothing() {
    let mut world = settled(overlap).await;
    let web = target("Deployment/web");
    world.stage.delete_workload(&target("StatefulSet/db"));
    world
        .stage
        .edit_workload(&web, |object| object["spec"]["paused"] = json!(true));
    world.stage.set_trigger("one");
    minutes(&mut world, 30).await;
    world.assert_ready();
    let (value, reason, message) = world.condition(ConditionType::WorkloadsReady);
    assert_eq!((value.as_str(), reason.as_str()), ("False", "RolloutHeld"));
    assert!(
        message.contains("StatefulSet/db does not exist") && message.contains("paused"),
        "{message}"
    );
    assert_eq!(
        world.events().iter().filter(|reason| *reason == "RolloutHeld").count(),
        1
    );

    world
        .stage
        .edit_workload(&web, |object| object["spec"]["paused"] = json!(false));
    world.stage.play(&web, Played::Late);
    world.stage.create_workload(&target("StatefulSet/db"));
    minutes(&mut world, 30).await;
    let (_, _, message) = world.condition(ConditionType::WorkloadsReady);
    assert!(message.contains("Deployment/web is stuck"), "{message}");
    assert!(
        world.stage.mark_of(&target("StatefulSet/db"), NAME).is_some(),
        "made anew, it is restarted"
    );

    let marker = appcode_operator::workload::marker(NAME);
    world.stage.edit_workload(&web, |object| {
        let notes = object["spec"]["template"]["metadata"]["annotations"].as_object_mut();
        notes.unwrap().remove(&marker);
    });
    roll_out(&world);
    minutes(&mut world, 30).await;
    let (_, _, message) = world.condition(ConditionType::WorkloadsReady);
    assert!(message.contains("rolled back"), "{message}");
    assert_eq!(
        world.stage.mark_of(&web, NAME),
        None,
        "it is not restarted a second time"
    );
    assert_eq!(world.live().len(), 2);

    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["restartTargets"] = json!([{"kind": "StatefulSet", "name": "db"}]);
    });
    minutes(&mut world, 30).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.live().len()), (1, 1));
}

#[tokio::test]
async fn a_workload_that_is_made_anew_is_restarted_as_one_that_never_was() {
    let mut world = settled(overlap).await;
    world.stage.set_trigger("one");
    minutes(&mut world, 5).await;
    roll_out(&world);
    let db = target("StatefulSet/db");
    world.stage.delete_workload(&db);
    minutes(&mut world, 5).await;
    world.stage.create_workload(&db);
    minutes(&mut world, 10).await;
    assert!(world.stage.mark_of(&db, NAME).is_some());
    roll_out(&world);
    minutes(&mut world, 30).await;
    world.assert_ready();
    assert_eq!((world.live().len(), restarts(&world)), (1, (1, 1)));
}

#[tokio::test]
async fn without_the_right_to_restart_it_says_so_and_does_the_rest() {
    let mut world = settled(|_| ()).await;
    world.stage.api.revoke(DEPLOYMENTS, Verb::Patch, true);
    world.stage.set_trigger("one");
    minutes(&mut world, 10).await;
    world.assert_ready();
    assert_eq!(restarts(&world), (0, 1));
    let (_, reason, message) = world.condition(ConditionType::WorkloadsReady);
    assert_eq!(reason, "RolloutHeld");
    assert!(message.contains("appcode-operator-restart"), "{message}");
    world.stage.api.revoke(DEPLOYMENTS, Verb::Patch, false);
    minutes(&mut world, 10).await;
    roll_out(&world);
    minutes(&mut world, 10).await;
    assert_eq!((restarts(&world), world.status().phase), ((1, 1), Some(Phase::Ready)));
}

#[tokio::test]
async fn the_restart_waits_for_the_delay() {
    let mut world = settled(|spec| spec["restartDelay"] = json!("5m")).await;
    world.stage.set_trigger("one");
    minutes(&mut world, 4).await;
    assert_eq!(restarts(&world), (0, 0));
    minutes(&mut world, 2).await;
    assert_eq!(restarts(&world), (1, 1));
}

#[tokio::test]
async fn the_restart_comes_though_the_clock_is_set_back_meanwhile() {
    let mut world = settled_in(World::direct(), |spec| spec["restartDelay"] = json!("5m")).await;
    world.stage.set_trigger("one");
    minutes(&mut world, 1).await;
    world.stage.time.set_skew(SignedDuration::from_hours(-24 * 365));
    minutes(&mut world, 10).await;
    assert_eq!(restarts(&world), (1, 1));
    let before = world.stage.api.asked().len();
    minutes(&mut world, 60).await;
    let asked = world.stage.api.asked().len() - before;
    assert!(
        asked < 120,
        "{asked} requests in an hour for workloads that stand still"
    );
    roll_out(&world);
    minutes(&mut world, 10).await;
    world.assert_ready();
}

#[tokio::test]
async fn a_code_is_tried_before_workloads_get_it_and_before_the_old_one_goes() {
    let mut world = settled(|spec| {
        overlap(spec);
        verified(spec);
    })
    .await;
    let refused = || Probe::Refused { status: 401 };
    world.stage.probes.lock().unwrap().extend((0..3).map(|_| refused()));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(8)).await;
    assert_eq!(restarts(&world), (0, 0));
    assert_eq!(world.condition(ConditionType::Ready).1, "Verifying");
    minutes(&mut world, 1).await;
    world.assert_ready();
    let status = world.status();
    let tried = status.verification.unwrap();
    assert_eq!(tried.outcome, VerificationOutcome::Passed);
    assert_eq!(tried.rotation_id, status.history[0].rotation_id);
    assert_eq!(restarts(&world), (1, 1));
    assert_eq!(world.stage.tried.lock().unwrap().last(), world.code().as_ref());
    roll_out(&world);
    minutes(&mut world, 30).await;
    world.assert_ready();
    assert_eq!(world.live().len(), 1);
    assert_eq!(
        world.stage.tried.lock().unwrap().len(),
        4,
        "once it has passed it is not tried again"
    );
}

#[tokio::test]
async fn a_code_that_never_passes_changes_nothing_more_with_overlap() {
    let mut world = settled(|spec| {
        overlap(spec);
        verified(spec);
    })
    .await;
    let long = Probe::Throttled { retry_after: None };
    world.stage.probes.lock().unwrap().extend(vec![long; 1000]);
    world.stage.set_trigger("one");
    minutes(&mut world, 600).await;
    let (value, reason, message) = world.condition(ConditionType::Ready);
    assert_eq!(
        (value.as_str(), reason.as_str()),
        ("False", "VerificationFailed"),
        "{message}"
    );
    assert_eq!(
        (world.mutations(), world.live().len(), restarts(&world)),
        (1, 2, (0, 0))
    );
    let tries = world.stage.tried.lock().unwrap().len();
    assert!((100..160).contains(&tries), "{tries} tries in ten hours");
    assert_eq!(
        world
            .events()
            .iter()
            .filter(|reason| *reason == "VerificationFailed")
            .count(),
        1
    );
    world.stage.probes.lock().unwrap().clear();
    minutes(&mut world, 10).await;
    roll_out(&world);
    minutes(&mut world, 30).await;
    world.assert_ready();
    assert_eq!(world.live().len(), 1);
}

#[tokio::test]
async fn with_reset_workloads_do_not_wait_for_long_for_a_try_that_fails() {
    let mut world = settled(verified).await;
    let unreachable = Probe::Unreachable("no route".into());
    world.stage.probes.lock().unwrap().extend(vec![unreachable; 1000]);
    world.stage.set_trigger("one");
    minutes(&mut world, 1).await;
    assert_eq!(restarts(&world), (0, 0));
    minutes(&mut world, 9).await;
    assert_eq!(restarts(&world), (1, 1), "the old code is dead in any case");
    assert_eq!(world.condition(ConditionType::Ready).1, "VerificationFailed");
    world.stage.probes.lock().unwrap().clear();
    roll_out(&world);
    minutes(&mut world, 10).await;
    world.assert_ready();
}

#[tokio::test]
async fn a_crash_anywhere_on_the_way_restarts_nothing_twice() {
    for at in 0..14 {
        let mut world = settled(|spec| {
            overlap(spec);
            verified(spec);
        })
        .await;
        world.stage.script.begin(vec![(
            at + 6,
            crate::support::script::Strike::Crash(crate::support::script::Moment::After),
        )]);
        world.stage.set_trigger("one");
        minutes(&mut world, 5).await;
        roll_out(&world);
        minutes(&mut world, 30).await;
        world.assert_ready();
        assert_eq!(
            (world.mutations(), restarts(&world)),
            (1, (1, 1)),
            "crash after call {}",
            at + 6
        );
        assert_eq!(world.live().len(), 1, "crash after call {}", at + 6);
    }
}

#[tokio::test]
async fn a_lost_answer_of_the_deletion_is_settled_by_reading() {
    for fault in [
        Fault::cut_after(),
        Fault::cut_before(),
        Fault::status_after(500),
        Fault::status_before(429),
    ] {
        let mut world = settled(overlap).await;
        world
            .stage
            .cloud
            .with(|cloud| cloud.inject(fault.clone().at(Operation::Delete).once()));
        world.stage.set_trigger("one");
        minutes(&mut world, 3).await;
        roll_out(&world);
        minutes(&mut world, 60).await;
        world.assert_ready();
        let deleted = world.ledger().acts_applied(&world.stage.app, Cause::Delete);
        assert_eq!((world.live().len(), deleted), (1, 1), "{fault:?}");
    }
}

#[tokio::test]
async fn what_a_person_has_to_do_is_said_where_people_look() {
    let mut world = settled(overlap).await;
    let web = target("Deployment/web");
    world
        .stage
        .edit_workload(&web, |object| object["spec"]["paused"] = json!(true));
    world.stage.set_trigger("one");
    minutes(&mut world, 10).await;
    let (_, reason, message) = world.condition(ConditionType::Reconciling);
    assert_eq!(reason, "RolloutHeld");
    for text in [
        format!("kubectl rollout resume deployment/web -n {NAMESPACE}"),
        "The code before works until then; spec.overlap.waitForRollout: false ends the wait.".to_owned(),
    ] {
        assert!(message.contains(&text), "{text} is not in: {message}");
    }
    let (value, _, message) = world.condition(ConditionType::Ready);
    assert!(value == "True" && message.contains("WorkloadsReady"), "{message}");
    let (value, _, message) = world.condition(ConditionType::Stalled);
    assert!(
        value == "False" && message.contains("unless a person helps"),
        "{message}"
    );
}

/// As where a host hangs that many codes are tried at.
#[tokio::test]
async fn a_code_is_tried_again_when_it_is_its_turn_among_others() {
    let mut world = settled(verified).await;
    let ctx = Arc::clone(&world.ctx);
    let places = u32::try_from(ctx.settings.concurrency / 4).unwrap();
    let taken = ctx.tries.acquire_many(places).await.unwrap();
    world
        .stage
        .probes
        .lock()
        .unwrap()
        .push_back(Probe::Unexpected { status: 503 });
    world.stage.set_trigger("one");
    minutes(&mut world, 1).await;
    let tried = |world: &World| world.stage.tried.lock().unwrap().len();
    assert_eq!((tried(&world), world.code()), (1, world.live().pop()));
    assert_eq!(restarts(&world), (0, 0));
    drop(taken);
    minutes(&mut world, 1).await;
    assert_eq!(tried(&world), 2);
    assert_eq!(restarts(&world), (1, 1));
}

#[tokio::test]
async fn a_corrected_verification_is_tried_at_once() {
    let mut world = settled(|spec| {
        overlap(spec);
        verified(spec);
    })
    .await;
    let refused = Probe::Refused { status: 403 };
    world.stage.probes.lock().unwrap().extend(vec![refused; 1000]);
    world.stage.set_trigger("one");
    minutes(&mut world, 300).await;
    assert_eq!(world.condition(ConditionType::Ready).1, "VerificationFailed");
    let said = world.status().verification.unwrap().message;
    assert!(said.starts_with("The verification was refused with HTTP 403"), "{said}");
    world.stage.probes.lock().unwrap().clear();
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["verification"]["url"] = json!(format!("https://{INFERENCE_HOST}/v1/infers/another"));
    });
    world.run_for(SignedDuration::from_secs(5)).await;
    assert_eq!(
        world.status().verification.unwrap().outcome,
        VerificationOutcome::Passed
    );
}

#[tokio::test]
async fn a_secret_that_is_deleted_on_the_way_to_its_consumers_forgets_neither_trial_nor_restart() {
    let mut world = settled(|spec| {
        verified(spec);
        spec["restartDelay"] = json!("10m");
    })
    .await;
    world
        .stage
        .probes
        .lock()
        .unwrap()
        .extend(vec![Probe::Refused { status: 401 }; 200]);
    world.stage.set_trigger("one");
    minutes(&mut world, 2).await;
    assert_eq!((world.mutations(), restarts(&world)), (1, (0, 0)));
    assert!(!world.is_ready());
    assert!(world.stage.delete_secret(NAME));
    minutes(&mut world, 5).await;
    assert_eq!(world.code(), world.live().pop());
    assert!(!world.is_ready(), "the code has still to be tried");
    world.stage.probes.lock().unwrap().clear();
    minutes(&mut world, 60).await;
    assert_eq!(restarts(&world), (1, 1));
    roll_out(&world);
    minutes(&mut world, 60).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn a_restart_is_told_when_its_mark_is_seen() {
    let mut world = settled(|_| ()).await;
    let tamper = |_: &Stage, asked: &mut Asked| {
        if asked.resource == DEPLOYMENTS && asked.verb == Verb::Patch {
            asked.body_mut()["spec"]["template"]["metadata"]["annotations"] = json!({});
        }
        None
    };
    assert!(world.stage.tamper.set(Box::new(tamper)).is_ok());
    world.stage.set_trigger("one");
    minutes(&mut world, 60).await;
    let told = world
        .events()
        .into_iter()
        .filter(|reason| reason == "Restarted")
        .count();
    assert_eq!(told, 1, "the one that keeps its mark");
    assert_eq!(world.condition(ConditionType::WorkloadsReady).0, "False");
}

#[tokio::test]
async fn a_workload_that_cannot_be_looked_at_after_its_restart_is_not_restarted_again() {
    let mut world = settled(|_| ()).await;
    let is_out = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&is_out);
    let tamper = move |_: &Stage, asked: &mut Asked| {
        if asked.resource != DEPLOYMENTS {
            return None;
        }
        let was_out = flag.load(Ordering::Relaxed);
        if asked.verb == Verb::Patch {
            flag.store(true, Ordering::Relaxed);
        }
        was_out.then(|| refuse(500, "InternalError", "no"))
    };
    assert!(world.stage.tamper.set(Box::new(tamper)).is_ok());
    world.stage.set_trigger("one");
    minutes(&mut world, 2).await;
    assert_eq!(restarts(&world), (1, 1));
    // Somebody takes the mark off before it is looked at again.
    world.stage.api.edit(DEPLOYMENTS, NAMESPACE, "web", |object| {
        object["spec"]["template"]["metadata"]["annotations"] = json!({});
    });
    let before = restarts(&world).0;
    is_out.store(false, Ordering::Relaxed);
    minutes(&mut world, 60).await;
    assert_eq!(restarts(&world).0, before);
}
