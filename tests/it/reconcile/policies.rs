//! A Secret that others made: taken over, merged into, or left alone.

use appcode_operator::api::ConditionType;
use cloud_simulator::Operation;
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::World;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::script::{ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE, code_of};

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

fn with_policy(world: &World, policy: &str, more: &Value) {
    world.stage.create_rotation(|spec| {
        spec["target"] = json!({"creationPolicy": policy});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
    });
}

fn edit(world: &World, change: impl FnOnce(&mut Value)) {
    world.stage.api.edit(SECRETS, NAMESPACE, NAME, change);
}

fn secret(world: &World) -> Value {
    world.stage.secret(NAME).unwrap()
}

async fn with_theirs(codes: usize) -> World {
    let world = World::with_codes(codes).await;
    world.stage.judge.excuse(NAME);
    world
        .stage
        .create_secret(NAME, &[("theirs", "kept"), ("appCode", "stale")]);
    edit(&world, |object| {
        object["metadata"]["labels"] = json!({"theirs": "kept"});
    });
    world
}

#[tokio::test]
async fn adopt_takes_over_what_nobody_else_keeps_and_leaves_the_rest() {
    let mut world = with_theirs(1).await;
    with_policy(&world, "Adopt", &json!({}));
    world.run_to_rest().await;
    world.assert_ready();
    let secret = secret(&world);
    assert_eq!(code_of(&secret, "theirs").as_deref(), Some("kept"));
    assert_eq!(
        secret["metadata"]["labels"],
        json!({"theirs": "kept", MANAGED_BY: "appcode-operator"})
    );
    assert_eq!((world.mutations(), world.events()), (0, vec!["Adopted".to_owned()]));
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(
        (world.mutations(), code_of(&secret, "theirs").as_deref()),
        (1, Some("kept"))
    );

    // Our mark is put back, but not against somebody else's.
    edit(&world, |object| object["metadata"]["labels"] = json!({}));
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(
        self::secret(&world)["metadata"]["labels"][MANAGED_BY],
        "appcode-operator"
    );
    edit(&world, |object| {
        object["metadata"]["labels"][MANAGED_BY] = json!("Helm");
    });
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_eq!(world.stalled().as_deref(), Some("SecretConflict"));
    assert_eq!(self::secret(&world)["metadata"]["labels"][MANAGED_BY], "Helm");
}

#[tokio::test]
async fn adopt_makes_an_absent_secret_and_rotates_into_one_that_is_there() {
    let mut world = World::new().await;
    with_policy(&world, "Adopt", &json!({}));
    world.run_to_rest().await;
    world.assert_ready();
    let mut world = with_theirs(1).await;
    with_policy(&world, "Adopt", &json!({"initialRotation": "Immediate"}));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert_eq!(secret(&world)["metadata"]["labels"][MANAGED_BY], "appcode-operator");
}

#[tokio::test]
async fn of_several_codes_the_one_that_stands_there_is_the_seed_if_it_is_listed() {
    for policy in ["Adopt", "Merge"] {
        let mut world = with_theirs(3).await;
        let code = world.live().remove(1);
        world.stage.edit_secret(NAME, &[("appCode", &code)]);
        with_policy(&world, policy, &json!({}));
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!((world.mutations(), world.code()), (0, Some(code)), "{policy}");

        // As an editor leaves it; whoever reads the Secret gets it without the end of line.
        let mut world = with_theirs(3).await;
        let code = world.live().remove(1);
        world.stage.edit_secret(NAME, &[("appCode", &format!("{code}\n"))]);
        with_policy(&world, policy, &json!({}));
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!((world.mutations(), world.code()), (0, Some(code)), "{policy}");

        let mut world = with_theirs(3).await;
        with_policy(&world, policy, &json!({}));
        world.run_to_rest().await;
        assert_eq!(world.stalled().as_deref(), Some("AppCodeAmbiguous"), "{policy}");
        assert_eq!(world.code().as_deref(), Some("stale"), "nothing was written");
    }
}

/// What must not be taken over, and how that is told.
#[tokio::test]
async fn what_may_not_be_taken_over_is_refused_before_any_change() {
    let controlled = json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1", "controller": true}]);
    let cases = [
        ("immutable", json!({"immutable": true}), true),
        ("type", json!({"type": "kubernetes.io/tls"}), true),
        ("token", json!({"type": "kubernetes.io/service-account-token"}), true),
        ("controls", json!({"metadata": {"ownerReferences": controlled}}), false),
        ("manages", json!({"metadata": {"labels": {MANAGED_BY: "Helm"}}}), false),
        (
            "another AppCodeRotation",
            json!({"metadata": {"annotations": {"appcode.dev/resource": "shop/gone"}}}),
            true,
        ),
    ];
    for (word, change, is_for_both) in cases {
        for policy in ["Adopt", "Merge"] {
            let mut world = with_theirs(1).await;
            edit(&world, |object| {
                for (field, value) in change.as_object().unwrap() {
                    match value.as_object() {
                        Some(meta) => object["metadata"].as_object_mut().unwrap().extend(meta.clone()),
                        None => object[field] = value.clone(),
                    }
                }
            });
            let before = secret(&world);
            with_policy(&world, policy, &json!({"initialRotation": "Immediate"}));
            world.run_for(SignedDuration::from_mins(20)).await;
            if policy == "Merge" && !is_for_both {
                world.assert_ready();
                assert_eq!(secret(&world)["metadata"]["labels"], before["metadata"]["labels"]);
                assert_eq!(
                    secret(&world)["metadata"]["ownerReferences"],
                    before["metadata"]["ownerReferences"]
                );
                continue;
            }
            world.assert_sound();
            let (_, reason, message) = world.condition(ConditionType::Stalled);
            // One that names a resource which is gone is inherited, as ever, unless it cannot be read.
            let expected = if word == "another AppCodeRotation" {
                "UnknownIntentFormat"
            } else {
                "SecretConflict"
            };
            assert_eq!(reason, expected, "{word} {policy}: {message}");
            assert!(message.contains("nothing is changed"), "{message}");
            assert_eq!((world.mutations(), secret(&world)), (0, before), "{word} {policy}");
            assert_eq!(world.calls(Operation::Show), 0, "{word}: the cloud is not even asked");
        }
    }
}

#[tokio::test]
async fn the_secret_of_another_resource_is_neither_adopted_nor_merged_into() {
    for policy in ["Adopt", "Merge"] {
        for keepers in ["Create", "Adopt", "Merge"] {
            let mut world = with_theirs(1).await;
            if keepers == "Create" {
                world.stage.delete_secret(NAME);
            }
            world
                .stage
                .create_rotation(|spec| spec["target"] = json!({"creationPolicy": keepers}));
            world.run_to_rest().await;
            world.assert_ready();
            let before = secret(&world);
            world.stage.create_rotation_named("second", |spec| {
                spec["target"] = json!({"name": NAME, "key": "second", "creationPolicy": policy});
                spec["initialRotation"] = json!("Immediate");
            });
            world.run_for(SignedDuration::from_mins(20)).await;
            assert_eq!(
                world.stalled_of("second").as_deref(),
                Some("Conflict"),
                "{policy} {keepers}"
            );
            assert_eq!((world.mutations(), secret(&world)), (0, before));
            world.assert_ready();
        }
    }
}

#[tokio::test]
async fn merge_writes_its_own_keys_and_nothing_else() {
    let mut world = with_theirs(1).await;
    edit(&world, |object| {
        object["metadata"]["labels"] = json!({MANAGED_BY: "Helm", "theirs": "kept"});
        object["metadata"]["annotations"] = json!({"theirs": "kept"});
    });
    let template = json!({"creationPolicy": "Merge", "template": {"data": {"url": "x/{{ appCode }}"}}});
    world.stage.create_rotation(|spec| spec["target"] = template);
    world.run_to_rest().await;
    world.assert_ready();
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_ready();
    let found = secret(&world);
    assert_eq!(
        found["metadata"]["labels"],
        json!({MANAGED_BY: "Helm", "theirs": "kept"})
    );
    assert_eq!(code_of(&found, "theirs").as_deref(), Some("kept"));
    assert_eq!(code_of(&found, "url"), Some(format!("x/{}", world.code().unwrap())));
    let annotations = found["metadata"]["annotations"].as_object().unwrap();
    let others = annotations.iter().filter(|(key, _)| !key.starts_with("appcode.dev/"));
    assert_eq!(others.collect::<Vec<_>>(), [(&"theirs".to_owned(), &json!("kept"))]);
    assert_eq!(
        (world.mutations(), found["metadata"]["ownerReferences"].clone()),
        (1, Value::Null)
    );
}

#[tokio::test]
async fn merge_waits_for_a_secret_that_is_absent_and_goes_on_once_it_is_there() {
    let mut world = World::new().await;
    with_policy(&world, "Merge", &json!({"initialRotation": "Immediate"}));
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_sound();
    let (_, reason, message) = world.condition(ConditionType::Stalled);
    assert_eq!(reason, "SecretNotWritable", "{message}");
    assert!(
        message.contains("Create it") && message.contains("nothing is changed"),
        "{message}"
    );
    assert_eq!((world.mutations(), world.stage.secret(NAME)), (0, None));
    world.stage.create_secret(NAME, &[("theirs", "kept")]);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);

    // Deleted and made again by those who keep it: the same code, no rotation.
    let code = world.code();
    world.stage.delete_secret(NAME);
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_eq!(world.stalled().as_deref(), Some("SecretNotWritable"));
    world.stage.create_secret(NAME, &[("theirs", "new")]);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.code()), (1, code));
}

#[tokio::test]
async fn a_code_that_would_be_lost_is_saved_although_the_secret_is_not_to_be_made() {
    let mut world = with_theirs(1).await;
    with_policy(&world, "Merge", &json!({}));
    world.run_to_rest().await;
    world.assert_ready();
    // The code cannot be written, and the Secret goes before it can.
    world.stage.set_trigger("one");
    let strike = Strike::Api(Moment::Before, ApiFault::Status(500));
    world.stage.script.begin_lasting(strike, 1, is_patch);
    world.run_for(SignedDuration::from_mins(2)).await;
    assert_eq!(world.mutations(), 1);
    world.stage.delete_secret(NAME);
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(
        (world.mutations(), secret(&world)["type"].as_str()),
        (1, Some("Opaque"))
    );
}

fn is_patch(call: &Call) -> bool {
    matches!(call, Call::Api { verb: Verb::Patch, .. })
}

#[tokio::test]
async fn a_policy_may_change_and_a_target_may_move() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    let code = world.code();
    // From one Secret to another that others keep.
    world.stage.create_secret("shared", &[("theirs", "kept")]);
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["target"] = json!({"name": "shared", "creationPolicy": "Merge"});
    });
    world.run_to_rest().await;
    world.assert_sound();
    assert!(world.is_ready());
    assert_eq!((world.mutations(), world.stage.code_in("shared")), (1, code.clone()));
    // What was merged into is not made ours by a policy that asks for a Secret of our own.
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["target"] = json!({"name": "shared"}));
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!(world.stalled().as_deref(), Some("SecretConflict"));
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["target"] = json!({"name": "shared", "creationPolicy": "Adopt"});
    });
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_sound();
    assert!(world.is_ready());
    assert_eq!((world.mutations(), world.stage.code_in("shared")), (1, code));
    let status = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap()["status"].clone();
    assert_eq!(status["rotationNumber"], 1);
}

#[tokio::test]
async fn a_secret_that_others_made_never_goes_with_the_resource() {
    let mut world = with_theirs(1).await;
    with_policy(&world, "Adopt", &json!({}));
    world.run_to_rest().await;
    world.assert_ready();
    let before = secret(&world);
    set_target(&world, json!({"deletionPolicy": "Delete"}));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_sound();
    let (_, reason, message) = world.condition(ConditionType::Stalled);
    assert_eq!(reason, "SecretConflict", "{message}");
    assert!(message.contains("appcode.dev/created=checkout"), "{message}");
    assert_eq!((world.mutations(), secret(&world)), (0, before));

    set_target(&world, json!({}));
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    set_target(&world, json!({"deletionPolicy": "Delete"}));
    edit(&world, |object| {
        object["metadata"]["annotations"]["appcode.dev/created"] = json!(NAME);
    });
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(secret(&world)["metadata"]["ownerReferences"][0]["name"], NAME);
}

#[tokio::test]
async fn what_an_earlier_version_made_goes_on_as_its_policy_says() {
    for policy in ["Retain", "Delete"] {
        let mut world = World::new().await;
        world
            .stage
            .create_rotation(|spec| spec["target"] = json!({"deletionPolicy": policy}));
        world.run_to_rest().await;
        world.assert_ready();
        let made = secret(&world)["metadata"]["annotations"]["appcode.dev/created"].clone();
        assert_eq!(made, NAME, "{policy}");
        edit(&world, |object| {
            let notes = object["metadata"]["annotations"].as_object_mut().unwrap();
            notes.remove("appcode.dev/created");
        });
        let owners = secret(&world)["metadata"]["ownerReferences"].clone();
        world.stage.set_trigger("one");
        world.run_for(SignedDuration::from_mins(20)).await;
        world.assert_ready();
        assert_eq!(world.mutations(), 1, "{policy}");
        assert_eq!(secret(&world)["metadata"]["ownerReferences"], owners, "{policy}");
    }
}

fn set_target(world: &World, target: Value) {
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["target"] = target);
}

#[tokio::test]
async fn what_others_have_put_there_is_not_written_over_when_spec_comes_to_name_it() {
    let template = |part: &str| json!({"template": {part: {"theirs": "x"}}});
    let cases = [
        ("key theirs", template("data")),
        ("key theirs", json!({"previousKey": "theirs"})),
        ("label theirs", template("labels")),
        ("annotation theirs", template("annotations")),
    ];
    for (what, mut target) in cases {
        for policy in ["Create", "Adopt", "Merge"] {
            let mut world = World::settled().await;
            world.stage.edit_secret(NAME, &[("theirs", "kept")]);
            edit(&world, |object| {
                object["metadata"]["labels"]["theirs"] = json!("kept");
                object["metadata"]["annotations"]["theirs"] = json!("kept");
            });
            let before = secret(&world);
            target["creationPolicy"] = json!(policy);
            set_target(&world, target.clone());
            world.stage.set_trigger("one");
            world.run_for(SignedDuration::from_mins(20)).await;
            world.assert_sound();
            let (_, reason, message) = world.condition(ConditionType::Stalled);
            assert_eq!(reason, "SecretConflict", "{what} {policy}: {message}");
            assert!(message.contains(what), "{message}");
            assert_eq!((world.mutations(), secret(&world)), (0, before), "{what} {policy}");
        }
        // Gone, it is spec's.
        let mut world = World::settled().await;
        set_target(&world, target.clone());
        world.run_to_rest().await;
        world.assert_ready();
    }
}

/// A rotation whose code is not in the Secret yet.
async fn unsaved(policy: &str) -> World {
    let mut world = with_theirs(1).await;
    with_policy(&world, policy, &json!({}));
    world.run_to_rest().await;
    world.assert_ready();
    world.stage.set_trigger("one");
    let strike = Strike::Api(Moment::Before, ApiFault::Status(500));
    world.stage.script.begin_lasting(strike, 1, is_patch);
    world.run_for(SignedDuration::from_mins(2)).await;
    assert_eq!(world.mutations(), 1);
    assert_ne!(world.code(), world.live().pop());
    world
}

#[tokio::test]
async fn an_edit_of_the_target_keeps_no_new_code_out_of_the_secret() {
    let edits = [
        json!({}),
        json!({"creationPolicy": "Merge", "template": {"type": "kubernetes.io/basic-auth", "data": {"username": "u", "password": "p"}}}),
        json!({"creationPolicy": "Merge", "template": {"data": {"theirs": "x"}}}),
    ];
    for target in edits {
        for is_restarted in [false, true] {
            let mut world = unsaved("Merge").await;
            set_target(&world, target.clone());
            if is_restarted {
                world.restart();
            }
            world.stage.script.begin(Vec::new());
            world.run_for(SignedDuration::from_mins(20)).await;
            world.assert_sound();
            let found = secret(&world);
            assert_eq!((world.code(), world.mutations()), (world.live().pop(), 1), "{target}");
            assert_eq!(code_of(&found, "theirs").as_deref(), Some("kept"), "{target}");
            assert!(world.stalled().is_some(), "{target}");
            assert_eq!(world.status().rotation_number, Some(1), "{target}");
            set_target(&world, json!({"creationPolicy": "Merge"}));
            world.run_for(SignedDuration::from_mins(5)).await;
            world.assert_ready();
        }
    }
}

#[tokio::test]
async fn while_a_rotation_is_open_nobody_is_told_to_delete_its_record() {
    let mut world = unsaved("Adopt").await;
    edit(&world, |object| object["immutable"] = json!(true));
    world.restart();
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(20)).await;
    let (_, reason, message) = world.condition(ConditionType::Stalled);
    assert_eq!(reason, "SecretNotWritable", "{message}");
    assert!(!message.contains("delete"), "{message}");
}
