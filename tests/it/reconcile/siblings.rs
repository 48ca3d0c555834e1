//! Several resources on one app.

use cloud_simulator::{Fault, NewApp, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::script::{Act, ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};
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

/// The cloud resets the code and says that there is none.
#[tokio::test]
async fn what_a_sibling_made_that_was_told_it_made_nothing_is_left_to_it() {
    let mut world = World::with_codes(1).await;
    let fault = Fault::status_after(404).at(Operation::Reset).once();
    world.stage.cloud.with(|cloud| cloud.inject(fault));
    for name in ["a", "b"] {
        world
            .stage
            .create_rotation_named(name, |spec| spec["initialRotation"] = json!("Immediate"));
    }
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_sound();
    assert_eq!(
        (world.mutations(), world.live()),
        (1, vec![world.stage.code_in("a").unwrap()])
    );
    assert_eq!(world.stalled_of("b").as_deref(), Some("Conflict"));
}

/// Its Secret tells nothing of its code then, and its status does.
#[tokio::test]
async fn the_code_of_a_sibling_whose_secret_is_gone_or_may_not_be_read_stays_its_own() {
    let is_its = |call: &Call| matches!(call, Call::Api { verb: Verb::Get, name, .. } if name == "older");
    let forbidden = Strike::Api(Moment::After, ApiFault::Status(403));
    let deleted = Act::new("its Secret is deleted", |stage: &Stage| {
        stage.delete_secret("older");
    });
    let stripped = Act::new("its Secret loses its annotations", |stage: &Stage| {
        stage.judge.excuse("older");
        stage.api.edit(SECRETS, NAMESPACE, "older", |secret| {
            secret["metadata"]["annotations"] = json!({});
        });
    });
    let acts = [deleted, stripped].map(|act| Strike::Act(Moment::Before, act));
    for strike in [forbidden].into_iter().chain(acts) {
        let mut world = World::with_codes(1).await;
        world.stage.create_rotation_named("older", |_| ());
        world.run_to_rest().await;
        let code = world.live();
        world
            .stage
            .create_rotation_named("a", |spec| spec["initialRotation"] = json!("Immediate"));
        world.stage.script.begin_if(vec![(0, strike.clone())], is_its);
        world.run_for(SignedDuration::from_hours(3)).await;
        assert_eq!(world.stage.script.struck(), 1);
        world.assert_sound();
        assert_eq!((world.mutations(), world.live()), (0, code.clone()), "{strike:?}");
        assert_eq!(world.stage.code_in("older"), code.first().cloned(), "{strike:?}");
        assert_eq!(world.stalled_of("a").as_deref(), Some("Conflict"));
    }
}

/// A first look at which the cloud told nothing settles nothing.
#[tokio::test]
async fn a_younger_resource_waits_for_an_older_one_whose_first_look_failed() {
    let mut world = World::with_codes(1).await;
    let failed = Fault::status_before(503).at(Operation::Show).once();
    world.stage.cloud.with(|cloud| cloud.inject(failed));
    for name in ["older", "a"] {
        world
            .stage
            .create_rotation_named(name, |spec| spec["initialRotation"] = json!("Immediate"));
        world.run_for(SignedDuration::from_secs(1)).await;
    }
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_sound();
    let held = world.stage.code_in("older").unwrap();
    assert_eq!((world.mutations(), world.live()), (1, vec![held]));
    assert_eq!(world.stalled_of("a").as_deref(), Some("Conflict"));
}

/// Nothing that a resource claims counts while its credentials are missing; once they are there, it does from before its
/// first call on.
#[tokio::test]
async fn what_a_resource_made_that_was_stopped_before_is_left_to_it_after_a_crash() {
    let mut world = World::on(Stage::direct(1));
    for name in ["older", "a"] {
        world.stage.create_rotation_named(name, |spec| {
            spec["credentialsRef"] = json!({"name": "later"});
            spec["initialRotation"] = json!("Immediate");
        });
    }
    world.run_to_rest().await;
    for name in ["older", "a"] {
        assert_eq!(world.stalled_of(name).as_deref(), Some("CredentialsMissing"));
    }
    let data = world.stage.secret("credentials").unwrap()["data"].clone();
    world.stage.create_secret("later", &[]);
    world
        .stage
        .api
        .edit(SECRETS, NAMESPACE, "later", |object| object["data"] = data);
    let is_reset = |call: &Call| matches!(call, Call::Cloud(Operation::Reset));
    let crash = vec![(0, Strike::Crash(Moment::After))];
    world.stage.script.begin_if(crash, is_reset);
    world.stage.edit_rotation("older", |object| {
        object["metadata"]["annotations"] = json!({"appcode.dev/check-requested-at": "now"});
    });
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_sound();
    assert_eq!(world.stage.script.struck(), 1);
    let held = world.stage.code_in("older").unwrap();
    assert_eq!((world.mutations(), world.live()), (1, vec![held]));
    assert_eq!(world.stalled_of("a").as_deref(), Some("Conflict"));
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
    let fault = Fault::cut_after().at(Operation::Reset).times(2);
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
    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
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
            assert!(number < 400, "it never comes to rest");
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
    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
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

/// Two resources with a code each that name one Secret.
fn rivals(older: impl FnOnce(&mut Value), younger: impl FnOnce(&mut Value)) -> World {
    let world = World::on(Stage::direct(2));
    let codes = world.live();
    world.stage.create_rotation_named("older", |spec| {
        spec["appCode"] = json!(codes[0]);
        spec["initialRotation"] = json!("WhenDue");
        older(spec);
    });
    world.stage.time.advance(std::time::Duration::from_secs(5));
    world.stage.create_rotation_named("younger", |spec| {
        spec["appCode"] = json!(codes[1]);
        spec["initialRotation"] = json!("WhenDue");
        younger(spec);
    });
    world
}

fn on_shared(spec: &mut Value) {
    spec["target"] = json!({ "name": "shared" });
}

fn keeper_of(world: &World, secret: &str) -> String {
    let secret = world.stage.secret(secret).unwrap();
    let keeper = secret["metadata"]["annotations"]["appcode.dev/resource"].as_str();
    keeper.unwrap().to_owned()
}

#[tokio::test]
async fn of_two_resources_on_one_secret_the_oldest_acts_once_its_credentials_are_taken() {
    let mut world = rivals(
        |spec| {
            on_shared(spec);
            spec["credentialsRef"] = json!({ "name": "missing" });
        },
        on_shared,
    );
    let codes = world.live();
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_sound();
    assert_eq!(world.stalled_of("older").as_deref(), Some("CredentialsMissing"));
    assert_eq!(
        world.stalled_of("younger"),
        None,
        "worthless credentials hold nobody up"
    );
    assert_eq!(world.stage.code_in("shared").as_ref(), Some(&codes[1]));

    let (access_key, secret_key) = (world.stage.user.ak.clone(), world.stage.user.sk.clone());
    world
        .stage
        .create_secret("missing", &[("accessKey", &access_key), ("secretKey", &secret_key)]);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_sound();
    assert_eq!(
        (world.stalled_of("older"), keeper_of(&world, "shared")),
        (None, "shop/older".into())
    );
    let (_, reason, message) = world.condition_of("younger", appcode_operator::api::ConditionType::Stalled);
    assert_eq!(reason, "Conflict");
    assert!(message.contains("kept by AppCodeRotation older"), "{message}");
    assert_eq!(world.mutations(), 0, "nothing is rotated for that");
    for name in ["older", "younger"] {
        world
            .stage
            .edit_rotation(name, |object| object["spec"]["rotationTrigger"] = json!("go"));
    }
    world.run_for(SignedDuration::from_mins(20)).await;
    assert_eq!(world.mutations(), 1);
    assert!(world.live().contains(&world.stage.code_in("shared").unwrap()));

    // Back to one resource for the Secret: the younger one may have it, or another one.
    world
        .stage
        .edit_rotation("older", |object| object["spec"]["target"] = json!({ "name": "own" }));
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_sound();
    let stalled = ["older", "younger"].map(|name| world.stalled_of(name));
    assert_eq!(stalled, [None, None]);
    assert_eq!(keeper_of(&world, "shared"), "shop/younger");
    for secret in ["own", "shared"] {
        assert!(world.live().contains(&world.stage.code_in(secret).unwrap()), "{secret}");
    }
}

/// The one that has lost the Secret shows for ever in its status which code stood there.
#[tokio::test]
async fn a_code_that_only_the_status_of_a_resource_without_its_secret_shows_is_retired() {
    let mut world = World::with_codes(1).await;
    let code = world.live();
    let on_shared = |spec: &mut Value| {
        on_shared(spec);
        spec["initialRotation"] = json!("WhenDue");
        spec["strategy"] = json!("Overlap");
    };
    world.stage.create_rotation_named("older", |spec| {
        on_shared(spec);
        spec["credentialsRef"] = json!({ "name": "missing" });
    });
    world.stage.time.advance(std::time::Duration::from_secs(5));
    world.stage.create_rotation_named("younger", on_shared);
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!(keeper_of(&world, "shared"), "shop/younger");
    let (access_key, secret_key) = (world.stage.user.ak.clone(), world.stage.user.sk.clone());
    world
        .stage
        .create_secret("missing", &[("accessKey", &access_key), ("secretKey", &secret_key)]);
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!(keeper_of(&world, "shared"), "shop/older");
    assert!(world.status_of("younger").current.is_some());
    world
        .stage
        .edit_rotation("older", |object| object["spec"]["rotationTrigger"] = json!("go"));
    world.run_for(SignedDuration::from_hours(3)).await;
    world.assert_sound();
    assert_eq!(world.mutations(), 1);
    assert_eq!(world.live(), [world.stage.code_in("shared").unwrap()]);
    assert_ne!(world.live(), code);
}

#[tokio::test]
async fn a_secret_with_a_code_for_another_app_is_left_to_its_keeper() {
    let world = World::on(Stage::direct(1));
    let (user, project) = (world.stage.user.user_id.clone(), world.stage.project.clone());
    let now = world.stage.time.truth();
    let new = NewApp::of(&user, &project).codes(1).name("other");
    let other = world.stage.cloud.with(|cloud| cloud.create_app(now, new)).app_id;
    let mut world = world;
    world.stage.create_rotation_named("older", |_| ());
    world.run_to_rest().await;
    world.stage.create_rotation_named("younger", |spec| {
        on_shared(spec);
        spec["appId"] = json!(other);
    });
    world.run_to_rest().await;
    let held = world.stage.code_in("shared");
    world
        .stage
        .edit_rotation("older", |object| on_shared(&mut object["spec"]));
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_sound();
    assert_eq!(
        (world.stalled_of("older").as_deref(), world.stalled_of("younger")),
        (Some("Conflict"), None)
    );
    assert_eq!(
        (world.stage.code_in("shared"), keeper_of(&world, "shared")),
        (held.clone(), "shop/younger".into())
    );

    // Once it is gone, it is the oldest's to make.
    world.stage.delete_secret("shared");
    world.run_for(SignedDuration::from_mins(70)).await;
    world.assert_sound();
    assert_eq!(
        (world.stalled_of("older"), world.stalled_of("younger").as_deref()),
        (None, Some("Conflict"))
    );
    assert_eq!(
        (keeper_of(&world, "shared"), world.mutations()),
        ("shop/older".into(), 0)
    );
}

#[tokio::test]
async fn a_secret_that_nobody_has_yet_is_made_by_the_oldest() {
    let world = World::on(Stage::direct(1));
    let (user, project) = (world.stage.user.user_id.clone(), world.stage.project.clone());
    let now = world.stage.time.truth();
    let new = NewApp::of(&user, &project).codes(1).name("other");
    let other = world.stage.cloud.with(|cloud| cloud.create_app(now, new)).app_id;
    let mut world = world;
    // The younger one is looked at first, since its name comes first.
    world.stage.create_rotation_named("b-older", on_shared);
    world.stage.time.advance(std::time::Duration::from_secs(5));
    world.stage.create_rotation_named("a-younger", |spec| {
        on_shared(spec);
        spec["appId"] = json!(other);
    });
    world.restart();
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_sound();
    assert_eq!(keeper_of(&world, "shared"), "shop/b-older");
    assert_eq!(world.stalled_of("a-younger").as_deref(), Some("Conflict"));
    world.stage.api.delete(ROTATIONS, NAMESPACE, "b-older");
    world.stage.delete_secret("shared");
    world.run_for(SignedDuration::from_mins(1)).await;
    world.assert_sound();
    assert_eq!(
        world.stalled_of("a-younger"),
        None,
        "it does not wait for its next check"
    );
    assert_eq!(
        (keeper_of(&world, "shared"), world.mutations()),
        ("shop/a-younger".into(), 0)
    );
}

/// A Secret made for it by somebody who may create Secrets says that a rotation is open.
#[tokio::test]
async fn a_resource_that_never_came_to_ask_the_cloud_holds_nobody_up() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    let secret = world.stage.secret(NAME).unwrap();
    let mut intent: Value = serde_json::from_str(
        secret["metadata"]["annotations"]["appcode.dev/intent"]
            .as_str()
            .unwrap(),
    )
    .unwrap();
    intent["step"] = json!("Started");
    intent["number"] = json!(40);
    intent["base"] = json!("0".repeat(64));
    // Either the spec is refused before the cloud is asked, or the Secret cannot be written.
    let marks = [world.stage.time.truth(), "2300-01-01T00:00:00Z".parse().unwrap()];
    for (marked, is_locked) in marks.into_iter().flat_map(|marked| [(marked, false), (marked, true)]) {
        intent["markedAt"] = json!(marked.to_string());
        world.stage.create_secret("squatter", &[]);
        world.stage.api.edit(SECRETS, NAMESPACE, "squatter", |object| {
            object["metadata"]["labels"] = secret["metadata"]["labels"].clone();
            object["metadata"]["annotations"] = secret["metadata"]["annotations"].clone();
            object["metadata"]["annotations"]["appcode.dev/resource"] = json!("shop/squatter");
            object["metadata"]["annotations"]["appcode.dev/intent"] = json!(intent.to_string());
            object["immutable"] = json!(is_locked);
        });
        world.stage.create_rotation_named("squatter", |spec| {
            if !is_locked {
                spec.as_object_mut().unwrap().remove("credentialsRef");
            }
        });
        world.run_for(SignedDuration::from_mins(11)).await;
        let expected = if is_locked {
            "SecretNotWritable"
        } else {
            "IdentityNotAllowed"
        };
        assert_eq!(world.stalled_of("squatter").as_deref(), Some(expected));
        let before = world.mutations();
        world.stage.set_trigger(&format!("{marked} {is_locked}"));
        world.run_for(SignedDuration::from_mins(2)).await;
        world.assert_ready();
        assert_eq!(world.mutations(), before + 1);
        world.stage.api.delete(ROTATIONS, NAMESPACE, "squatter");
        world.stage.delete_secret("squatter");
    }
}

#[tokio::test]
async fn a_resource_that_moves_to_a_younger_ones_secret_brings_its_own_code() {
    let mut world = rivals(|_| (), on_shared);
    world.run_to_rest().await;
    world
        .stage
        .edit_rotation("younger", |object| object["spec"]["rotationTrigger"] = json!("go"));
    world.run_for(SignedDuration::from_mins(20)).await;
    let code = world.stage.code_in("older").unwrap();
    world
        .stage
        .edit_rotation("older", |object| on_shared(&mut object["spec"]));
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_sound();
    assert_eq!(world.stalled_of("older"), None);
    assert_eq!((world.stage.code_in("shared"), world.mutations()), (Some(code), 1));
    assert_eq!(world.status_of("older").rotation_number, Some(0));
}

/// The younger one's rotation and the older one's claim on its Secret meet, and the process ends at one call of all.
#[tokio::test]
async fn a_secret_changes_hands_without_a_lost_code_whichever_call_the_process_ends_at() {
    let mut number = 0;
    loop {
        for moment in [Moment::Before, Moment::After] {
            let mut world = rivals(|_| (), on_shared);
            world.run_to_rest().await;
            world.stage.script.begin(vec![(number, Strike::Crash(moment))]);
            world
                .stage
                .edit_rotation("younger", |object| object["spec"]["rotationTrigger"] = json!("go"));
            world
                .stage
                .edit_rotation("older", |object| on_shared(&mut object["spec"]));
            world.run_for(SignedDuration::from_mins(16)).await;
            assert!(number < 400, "it never comes to rest");
            if world.stage.script.struck() == 0 {
                assert!(number > 15, "only {number} calls");
                return;
            }
            let what = format!("crash {moment:?} call {number}");
            world.assert_sound();
            let live = world.live();
            let held = world.stage.code_in("shared").unwrap();
            assert!(live.contains(&held) && live.len() == 2, "{what}");
            assert_eq!(
                (world.stalled_of("older"), keeper_of(&world, "shared")),
                (None, "shop/older".into()),
                "{what}"
            );
            assert_eq!(world.stalled_of("younger").as_deref(), Some("Conflict"), "{what}");
            assert!(world.mutations() <= 1, "{what}");
        }
        number += 1;
    }
}

#[tokio::test]
async fn a_secret_that_was_not_taken_over_is_not_shown_as_ones_own() {
    // The older one has no seed and no credentials: the record of the younger one's Secret would fit.
    let mut world = World::on(Stage::direct(1));
    world.stage.create_rotation_named("older", |spec| {
        on_shared(spec);
        spec["credentialsRef"] = json!({ "name": "missing" });
    });
    world.stage.time.advance(std::time::Duration::from_secs(5));
    world.stage.create_rotation_named("younger", on_shared);
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_sound();
    assert_eq!(world.stalled_of("younger"), None);
    let status = world.status_of("older");
    assert_eq!(
        (status.current, status.rotation_number, status.target.map(|it| it.name)),
        (None, None, Some("shared".into()))
    );
    let (synced, _, _) = world.condition_of("older", appcode_operator::api::ConditionType::SecretSynced);
    assert_eq!(synced, "False");
}

#[tokio::test]
async fn a_resource_that_waits_for_another_secret_still_holds_its_code() {
    let mut world = rivals(|_| (), |_| ());
    world.run_to_rest().await;
    let codes = world.live();
    let (user, project) = (world.stage.user.user_id.clone(), world.stage.project.clone());
    let now = world.stage.time.truth();
    let new = NewApp::of(&user, &project).codes(1).name("other");
    let other = world.stage.cloud.with(|cloud| cloud.create_app(now, new)).app_id;
    world.stage.create_rotation_named("keeper", |spec| {
        on_shared(spec);
        spec["appId"] = json!(other);
    });
    world.run_to_rest().await;
    world
        .stage
        .edit_rotation("older", |object| on_shared(&mut object["spec"]));
    world.run_for(SignedDuration::from_mins(2)).await;
    assert_eq!(world.stalled_of("older").as_deref(), Some("Conflict"));
    world
        .stage
        .create_rotation_named("third", |spec| spec["appCode"] = json!(codes[0]));
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_sound();
    assert_eq!(world.stalled_of("third").as_deref(), Some("Conflict"));
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn a_secret_for_the_app_before_is_left_to_its_keeper() {
    let mut world = rivals(|_| (), on_shared);
    world.run_to_rest().await;
    let (user, project) = (world.stage.user.user_id.clone(), world.stage.project.clone());
    let now = world.stage.time.truth();
    let new = NewApp::of(&user, &project).codes(1).name("other");
    let other = world.stage.cloud.with(|cloud| cloud.create_app(now, new)).app_id;
    let held = world.stage.code_in("shared");
    world.stage.edit_rotation("older", |object| {
        on_shared(&mut object["spec"]);
        object["spec"]["appId"] = json!(other);
        object["spec"].as_object_mut().unwrap().remove("appCode");
    });
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_sound();
    assert_eq!(world.stalled_of("older").as_deref(), Some("Conflict"));
    assert_eq!(
        (world.stage.code_in("shared"), keeper_of(&world, "shared")),
        (held, "shop/younger".into())
    );
    assert_eq!((world.mutations(), world.ledger().resets_applied(&other)), (0, 0));
}
