//! What stands on the target Secret besides the plain code: templates, the key of the code before, the owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use appcode_operator::api::ConditionType;
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::api_server::{self, Asked, ROTATIONS, SECRETS};
use crate::support::judge::{leaks, readable};
use crate::support::script::Verb;
use crate::support::stage::{NAME, NAMESPACE, code_of};
use crate::support::{Stage, World};

fn template() -> Value {
    json!({
        "labels": {"team": "{{ appName }}"},
        "annotations": {"example.com/endpoint": "{{ endpoint }}"},
        "data": {
            "config.json": "{\"code\": {{ appCode | json }}, \"app\": \"{{ appId }}\"}",
            "before": "{{ previousAppCode }}",
        },
    })
}

async fn dressed(target: Value) -> World {
    let mut world = World::new().await;
    world.stage.create_rotation(|spec| spec["target"] = target);
    world.run_to_rest().await;
    world
}

fn secret(world: &World) -> Value {
    world.stage.secret(NAME).unwrap()
}

fn text(world: &World, key: &str) -> Option<String> {
    code_of(&secret(world), key)
}

fn edit_target(world: &World, change: impl FnOnce(&mut Value)) {
    world
        .stage
        .edit_rotation(NAME, |object| change(&mut object["spec"]["target"]));
}

fn assert_dressed(world: &World) {
    world.assert_ready();
    let code = world.code().unwrap();
    let config = format!("{{\"code\": \"{code}\", \"app\": \"{}\"}}", world.stage.app);
    assert_eq!(text(world, "config.json"), Some(config));
    assert_eq!(
        text(world, "before").as_deref(),
        Some(""),
        "a reset leaves no code before"
    );
    let meta = &secret(world)["metadata"];
    assert_eq!(meta["labels"]["team"], "checkout-app");
    assert_eq!(
        meta["annotations"]["example.com/endpoint"],
        world.stage.endpoint.as_str()
    );
    assert_eq!(leaks(&world.stage, &readable(&world.stage)), Vec::<String>::new());
}

#[tokio::test]
async fn a_template_is_rendered_with_each_code() {
    let mut world = dressed(json!({"template": template()})).await;
    assert_dressed(&world);
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    assert_dressed(&world);
    assert_eq!(world.mutations(), 1);
    let (version, writes) = (
        secret(&world)["metadata"]["resourceVersion"].clone(),
        world.stage.api.writes(),
    );
    world.run_for(SignedDuration::from_hours(5)).await;
    assert_dressed(&world);
    assert_eq!(
        secret(&world)["metadata"]["resourceVersion"],
        version,
        "at rest nothing is written"
    );
    assert!(world.stage.api.writes() - writes <= 6, "but the time of each check");
}

#[tokio::test]
async fn a_changed_template_is_rendered_without_a_rotation_and_takes_away_what_it_no_longer_names() {
    let mut world = dressed(json!({"template": template()})).await;
    world.stage.edit_secret(NAME, &[("theirs", "kept")]);
    world.stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
        object["metadata"]["labels"]["theirs"] = json!("kept");
        object["metadata"]["annotations"]["theirs"] = json!("kept");
    });
    edit_target(&world, |target| {
        target["template"] = json!({"data": {"url": "https://x/{{ appCode }}"}});
    });
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0);
    let url = format!("https://x/{}", world.code().unwrap());
    assert_eq!(text(&world, "url"), Some(url));
    let keys: Vec<String> = secret(&world)["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["appCode", "theirs", "url"]);
    let meta = secret(&world)["metadata"].clone();
    assert_eq!(meta["labels"]["team"], Value::Null);
    assert_eq!(meta["annotations"]["example.com/endpoint"], Value::Null);
    assert_eq!(
        (&meta["labels"]["theirs"], &meta["annotations"]["theirs"]),
        (&json!("kept"), &json!("kept"))
    );
    assert_eq!(world.events(), ["Adopted", "Rendered"]);

    edit_target(&world, |target| *target = json!({}));
    world.run_to_rest().await;
    world.assert_ready();
    let keys: Vec<String> = secret(&world)["data"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["appCode", "theirs"]);
    assert_eq!(
        secret(&world)["metadata"]["annotations"]["appcode.dev/rendered"],
        Value::Null
    );
    assert_eq!((world.mutations(), world.events().len()), (0, 3));
}

#[tokio::test]
async fn what_is_edited_of_a_rendering_is_put_right_at_the_next_check() {
    let mut world = dressed(json!({"template": template()})).await;
    world.stage.edit_secret(NAME, &[("config.json", "{}")]);
    world.stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
        object["metadata"]["labels"]["team"] = json!("theirs");
    });
    world.run_for(SignedDuration::from_hours(2)).await;
    assert_dressed(&world);
    assert_eq!(
        (world.mutations(), world.events().last().unwrap().as_str()),
        (0, "Rendered")
    );
}

#[tokio::test]
async fn a_renamed_app_is_rendered_anew() {
    let mut world = dressed(json!({"template": template()})).await;
    world
        .stage
        .cloud
        .with(|cloud| cloud.rename_app(&world.stage.app, "new-name"));
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(secret(&world)["metadata"]["labels"]["team"], "new-name");
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn another_key_moves_the_code_and_the_rendering() {
    let mut world = dressed(json!({"template": {"data": {"new": "{{ appId }}"}}})).await;
    edit_target(&world, |target| {
        *target = json!({"key": "new", "template": {"data": {"bearer": "Bearer {{ appCode }}"}}});
    });
    world.run_to_rest().await;
    world.assert_sound();
    let code = text(&world, "new").unwrap();
    assert!(world.live().contains(&code));
    assert_eq!(text(&world, "bearer"), Some(format!("Bearer {code}")));
    assert_eq!(text(&world, "appCode"), None);
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn after_a_reset_there_is_no_code_before() {
    let mut world = dressed(json!({"previousKey": "previous"})).await;
    world.stage.edit_secret(NAME, &[("theirs", "x")]);
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!((world.mutations(), text(&world, "previous")), (1, None));
    // Whatever somebody puts there is not ours until it is written.
    edit_target(&world, |target| *target = json!({}));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(text(&world, "theirs").as_deref(), Some("x"));
}

#[tokio::test]
async fn a_broken_template_stops_before_any_change() {
    for broken in [
        "{{ appCode | upper }}",
        "{{ nothing }}",
        "{% if %}",
        "{{ [1] * 100000000 }}",
    ] {
        let mut world = World::new().await;
        world.stage.create_rotation(|spec| {
            spec["initialRotation"] = json!("Immediate");
            spec["target"] = json!({"template": {"data": {"url": broken}}});
        });
        world.run_for(SignedDuration::from_hours(2)).await;
        world.assert_sound();
        let (_, reason, message) = world.condition(ConditionType::Stalled);
        assert_eq!(reason, "TemplateInvalid", "{broken}");
        assert!(
            message.contains("nothing is changed") && message.contains("data[url]"),
            "{message}"
        );
        assert_eq!((world.ledger().requests.len(), world.stage.secret(NAME)), (0, None));
        edit_target(&world, |target| {
            target["template"]["data"]["url"] = json!("{{ appCode }}");
        });
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!((world.mutations(), text(&world, "url")), (1, world.code()));
    }
}

#[tokio::test]
async fn a_template_that_fails_with_the_apps_own_name_stops_before_the_first_change() {
    let mut world = World::new().await;
    world
        .stage
        .cloud
        .with(|cloud| cloud.rename_app(&world.stage.app, "not a label"));
    world.stage.create_rotation(|spec| {
        spec["initialRotation"] = json!("Immediate");
        spec["target"] = json!({"template": template()});
    });
    world.run_for(SignedDuration::from_mins(10)).await;
    world.assert_sound();
    let (_, reason, message) = world.condition(ConditionType::Stalled);
    assert_eq!((reason.as_str(), world.mutations()), ("TemplateInvalid", 0));
    assert!(
        message.contains("nothing is changed") && !message.contains("not a label"),
        "{message}"
    );
}

#[tokio::test]
async fn a_template_that_fails_with_the_real_code_loses_none() {
    // Tried codes are made of one letter; a real one is not.
    let template = "{% if appCode == 'x' or appCode[:3] == 'xxx' %}fine{% else %}{{ appCode.no.no }}{% endif %}";
    let mut world = World::new().await;
    world.stage.create_rotation(|spec| {
        spec["initialRotation"] = json!("Immediate");
        spec["target"] = json!({"template": {"data": {"url": template}}});
    });
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_sound();
    let (_, reason, message) = world.condition(ConditionType::Stalled);
    assert_eq!(
        (reason.as_str(), world.mutations()),
        ("TemplateInvalid", 1),
        "{message}"
    );
    assert!(message.contains("nothing more is changed"), "{message}");
    assert!(
        world.live().contains(&world.code().unwrap()),
        "the new code is saved all the same"
    );
    assert_eq!(text(&world, "url"), None);
    assert_eq!(leaks(&world.stage, &message), Vec::<String>::new());
    let writes = world.stage.secret(NAME).unwrap()["metadata"]["resourceVersion"].clone();
    world.stage.set_trigger("again");
    world.run_for(SignedDuration::from_hours(3)).await;
    assert_eq!(world.mutations(), 1, "nothing is rotated while it fails");
    assert_eq!(
        secret(&world)["metadata"]["resourceVersion"],
        writes,
        "nor written again and again"
    );

    edit_target(&world, |target| {
        target["template"]["data"]["url"] = json!("{{ appCode }}");
    });
    world.run_for(SignedDuration::from_hours(1)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), text(&world, "url")), (2, world.code()));
}

#[tokio::test]
async fn a_basic_auth_secret_is_made_without_a_code() {
    for target in [
        json!({"key": "password", "template": {"type": "kubernetes.io/basic-auth", "data": {"username": "{{ appId }}"}}}),
        json!({"key": "password", "template": {"type": "kubernetes.io/basic-auth"}}),
        json!({"template": {"type": "kubernetes.io/basic-auth", "data": {"password": "{{ appCode }}"}}}),
    ] {
        let key = target["key"].as_str().unwrap_or("appCode").to_owned();
        let named = target["template"]["data"]["username"].is_string();
        let world = dressed(target).await;
        world.assert_sound();
        let secret = secret(&world);
        assert_eq!(secret["type"], "kubernetes.io/basic-auth");
        let code = code_of(&secret, &key).unwrap();
        assert!(world.live().contains(&code));
        assert_eq!(code_of(&secret, "password"), Some(code));
        assert_eq!(code_of(&secret, "username"), named.then(|| world.stage.app.clone()));
        assert!(world.is_ready());
    }
}

#[tokio::test]
async fn another_type_needs_another_secret() {
    let mut world = World::settled().await;
    edit_target(&world, |target| {
        *target = json!({"template": {"type": "kubernetes.io/basic-auth", "data": {"username": "x"}}});
    });
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_sound();
    let (_, reason, message) = world.condition(ConditionType::Stalled);
    assert_eq!((reason.as_str(), world.mutations()), ("SecretNotWritable", 0));
    assert!(message.contains("kubernetes.io/basic-auth"), "{message}");
    world.stage.delete_secret(NAME);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(
        (world.mutations(), secret(&world)["type"].as_str()),
        (1, Some("kubernetes.io/basic-auth"))
    );
}

fn owners(world: &World) -> Vec<(String, String)> {
    let owners = secret(world)["metadata"]["ownerReferences"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    owners
        .iter()
        .map(|owner| (text(&owner["kind"]), text(&owner["uid"])))
        .collect()
}

fn own(world: &World) -> (String, String) {
    let object = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap();
    (
        "AppCodeRotation".into(),
        object["metadata"]["uid"].as_str().unwrap().to_owned(),
    )
}

#[tokio::test]
async fn the_owner_reference_follows_the_policy_and_the_resource() {
    let mut world = dressed(json!({"deletionPolicy": "Delete"})).await;
    world.assert_ready();
    assert_eq!(owners(&world), [own(&world)]);
    let reference = secret(&world)["metadata"]["ownerReferences"][0].clone();
    assert_eq!(
        (&reference["controller"], &reference["name"]),
        (&json!(true), &json!(NAME))
    );
    assert_eq!(reference["blockOwnerDeletion"], Value::Null);

    // Another owner is nobody's business.
    world.stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
        let other = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "other", "uid": "1"});
        object["metadata"]["ownerReferences"]
            .as_array_mut()
            .unwrap()
            .push(other);
    });
    edit_target(&world, |target| target["deletionPolicy"] = json!("Retain"));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(owners(&world), [("ConfigMap".to_owned(), "1".to_owned())]);
    edit_target(&world, |target| target["deletionPolicy"] = json!("Delete"));
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(owners(&world), [("ConfigMap".to_owned(), "1".to_owned()), own(&world)]);

    // The resource is made again before the collector has come by.
    let before = own(&world);
    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
    world
        .stage
        .create_rotation(|spec| spec["target"] = json!({"deletionPolicy": "Delete"}));
    world.run_to_rest().await;
    world.assert_ready();
    assert!(own(&world) != before);
    assert_eq!(owners(&world), [("ConfigMap".to_owned(), "1".to_owned()), own(&world)]);
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn a_forged_note_of_what_was_rendered_takes_nothing_away() {
    let mut world = dressed(json!({"template": {"data": {"url": "x"}}})).await;
    world.stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
        object["metadata"]["annotations"]["appcode.dev/rendered"] = json!(
            r#"{"shape":"x","content":"y","data":["appCode"],"labels":["app.kubernetes.io/managed-by"],"annotations":["appcode.dev/app","appcode.dev/resource"]}"#
        );
    });
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_sound();
    // What it does not name may be anybody's.
    assert_eq!(world.stalled().as_deref(), Some("SecretConflict"));
    assert_eq!((world.mutations(), text(&world, "url").as_deref()), (0, Some("x")));
    let code = world.code().unwrap();
    assert!(world.live().contains(&code));
}

#[tokio::test]
async fn the_code_before_stands_under_its_key_while_it_works_and_no_longer() {
    let mut world = World::new().await;
    world.stage.create_rotation(|spec| {
        spec["strategy"] = json!("Overlap");
        spec["overlap"] = json!({"gracePeriod": "3h"});
        spec["target"] =
            json!({"previousKey": "previous", "template": {"data": {"both": "{{ appCode }} {{ previousAppCode }}"}}});
    });
    world.run_to_rest().await;
    world.assert_ready();
    let old = world.code().unwrap();
    assert_eq!(text(&world, "previous"), None, "there was none");
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    let new = world.code().unwrap();
    assert_eq!(text(&world, "previous"), Some(old.clone()));
    assert_eq!(text(&world, "both"), Some(format!("{new} {old}")));

    // It is kept in order, and moves with its key; another template rotates nothing.
    world.stage.edit_secret(NAME, &[("previous", "edited")]);
    world.run_for(SignedDuration::from_mins(65)).await;
    assert_eq!(text(&world, "previous"), Some(old.clone()));
    edit_target(&world, |target| {
        target["previousKey"] = json!("before");
        target["template"]["data"]["both"] = json!("{{ previousAppCode }}|{{ appCode }}");
    });
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(
        (text(&world, "previous"), text(&world, "before")),
        (None, Some(old.clone()))
    );
    assert_eq!(text(&world, "both"), Some(format!("{old}|{new}")));
    assert_eq!(world.live().len(), 2);

    world.run_for(SignedDuration::from_hours(4)).await;
    world.assert_ready();
    assert_eq!(world.live(), vec![new.clone()]);
    assert_eq!(text(&world, "before"), None, "it works no longer");
    assert_eq!(text(&world, "both"), Some(format!("|{new}")));
    assert_eq!(leaks(&world.stage, &readable(&world.stage)), Vec::<String>::new());
}

#[tokio::test]
async fn a_code_before_that_somebody_deletes_is_taken_away_at_the_next_check() {
    let mut world = World::new().await;
    world.stage.create_rotation(|spec| {
        spec["strategy"] = json!("Overlap");
        spec["overlap"] = json!({"gracePeriod": "24h"});
        spec["target"] = json!({"previousKey": "previous"});
    });
    world.run_to_rest().await;
    let old = world.code().unwrap();
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!(text(&world, "previous"), Some(old.clone()));
    let (app, now) = (world.stage.app.clone(), world.stage.time.truth());
    world.stage.cloud.with(|cloud| cloud.remove_code(now, &app, &old));
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(text(&world, "previous"), None);
}

#[tokio::test]
async fn a_secret_that_the_target_leaves_is_kept_if_the_policy_is_to_retain() {
    for policy in ["Retain", "Delete"] {
        let mut world = dressed(json!({"deletionPolicy": "Delete"})).await;
        edit_target(&world, |target| {
            *target = json!({"name": "other", "deletionPolicy": policy});
        });
        world.run_to_rest().await;
        world.assert_sound();
        assert!(world.is_ready() && world.stage.code_in("other").is_some());
        let is_owned = !owners(&world).is_empty();
        assert_eq!(is_owned, policy == "Delete");
    }
}

/// An admission policy that refuses what `is_refused`, until the flag is taken down.
fn refuse(world: &World, is_refused: impl Fn(&Value) -> bool + Send + Sync + 'static) -> Arc<AtomicBool> {
    let flag = Arc::new(AtomicBool::new(true));
    let is_on = Arc::clone(&flag);
    let tamper = move |_: &Stage, asked: &mut Asked| {
        let is_meant = asked.resource == SECRETS && is_on.load(Ordering::Relaxed) && is_refused(&asked.body);
        is_meant.then(|| api_server::refuse(403, "Forbidden", "denied by a policy of labels"))
    };
    assert!(world.stage.tamper.set(Box::new(tamper)).is_ok());
    flag
}

#[tokio::test]
async fn a_new_code_does_not_wait_for_labels_that_admission_refuses() {
    let mut world = World::new().await;
    let policy = refuse(&world, |body| !body["metadata"]["labels"]["team"].is_null());
    world.stage.create_rotation(|spec| {
        spec["initialRotation"] = json!("Immediate");
        spec["target"] = json!({"template": template()});
    });
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_sound();
    assert_eq!((world.mutations(), world.code()), (1, world.live().pop()));
    let (_, reason, message) = world.condition(ConditionType::Stalled);
    assert_eq!(reason, "SecretNotWritable", "{message}");
    assert!(message.contains("denied by a policy of labels"), "{message}");
    policy.store(false, Ordering::Relaxed);
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_dressed(&world);
    assert_eq!(world.mutations(), 1);
}

/// As some do; so that one code is cut wherever the message is, and another one is too short to look like one.
#[tokio::test]
async fn a_policy_that_quotes_what_it_refuses_shows_no_code() {
    const SHORT: &str = "our-code";
    for resource in [SECRETS, ROTATIONS] {
        for before in (230..310).step_by(10) {
            let mut world = World::new().await;
            let code = world.live().remove(0);
            let (app, now) = (world.stage.app.clone(), world.stage.time.truth());
            world.stage.cloud.with(|cloud| cloud.add_code(now, &app, Some(SHORT)));
            let tamper = move |stage: &Stage, asked: &mut Asked| {
                let said = format!("refused {} {SHORT} {}", "-".repeat(before), stage.live().join(" "));
                let is_meant = asked.resource == resource && asked.verb == Verb::Patch;
                is_meant.then(|| api_server::refuse(403, "Forbidden", &said))
            };
            assert!(world.stage.tamper.set(Box::new(tamper)).is_ok());
            world.stage.create_rotation(|spec| {
                spec["strategy"] = json!("Overlap");
                spec["appCode"] = json!(SHORT);
                spec["initialRotation"] = json!("Immediate");
            });
            world.run_for(SignedDuration::from_mins(20)).await;
            let (_, reason, message) = world.condition(ConditionType::Stalled);
            assert!(message.contains("refused"), "{before}: {reason}: {message}");
            let shown = readable(&world.stage);
            assert!(
                !shown.contains(&code[..8]) && !shown.contains(SHORT),
                "{before}: {message}"
            );
        }
    }
}

#[tokio::test]
async fn the_mark_of_a_secret_that_is_adopted_meets_admission_before_the_call() {
    let mut world = World::new().await;
    world.stage.create_secret(NAME, &[("theirs", "kept")]);
    let policy = refuse(&world, |body| !body["metadata"]["labels"].is_null());
    world.stage.create_rotation(|spec| {
        spec["initialRotation"] = json!("Immediate");
        spec["target"] = json!({"creationPolicy": "Adopt"});
    });
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_sound();
    assert_eq!(
        (world.mutations(), world.stalled().as_deref()),
        (0, Some("SecretNotWritable"))
    );
    policy.store(false, Ordering::Relaxed);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}
