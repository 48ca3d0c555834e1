//! Two replicas at once, as without a Lease: one is held up in the middle of a pass while the other one works.

use std::time::Duration;

use appcode_operator::api::ROTATE_REQUESTED_AT;
use cloud_simulator::{Cause, Fault, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;

use super::overlap::settled_in;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::script::{Act, Call, Moment, Strike, Takeover, Verb};
use crate::support::stage::NAME;
use crate::support::{Stage, World};

/// Another replica takes over until it has made so many calls, or rests, and then both work.
fn takeover(after: usize) -> Strike {
    let takeover = Takeover { after, leads_on: true };
    Strike::Takeover(Moment::Before, takeover)
}

#[tokio::test]
async fn a_secret_that_is_made_again_late_gets_the_code_of_the_rotation_in_between() {
    let mut world = settled_in(World::direct(), "1h").await;
    let old = world.code().unwrap();
    world.stage.set_trigger("one");
    world.stage.delete_secret(NAME);
    // When the first replica goes on, the second one has made the Secret again and rotated, and the Secret is deleted anew.
    let delete = Act::new("the Secret is deleted", |stage| assert!(stage.delete_secret(NAME)));
    let strikes = vec![(0, takeover(usize::MAX)), (0, Strike::Act(Moment::Before, delete))];
    let is_create = |call: &Call| {
        let verb = Verb::Create;
        matches!(call, Call::Api { verb: asked, resource, .. } if *asked == verb && *resource == SECRETS)
    };
    world.stage.script.begin_if(strikes, is_create);
    world.run_to_rest().await;

    assert_eq!(world.stage.script.struck(), 2);
    world.assert_ready();
    let new = world.code().unwrap();
    assert_eq!(
        world.stage.judge.written(NAME),
        [old.clone(), old, new.clone(), new.clone()]
    );
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.live()), (1, vec![new]));
}

#[tokio::test]
async fn a_replica_that_read_status_before_the_call_retires_the_code_before_all_the_same() {
    let mut world = settled_in(World::direct(), "0s").await;
    world.stage.set_trigger("one");
    // The second replica has read the Secret and the resource when the first one shows the rotation in status, adds the code
    // and is killed.
    let strikes = vec![(0, takeover(3)), (1, Strike::Crash(Moment::After))];
    let is_shown_or_added = |call: &Call| match call {
        Call::Api { verb, resource, .. } => *verb == Verb::PutStatus && *resource == ROTATIONS,
        Call::Cloud(operation) => *operation == Operation::Add,
        Call::Probe => false,
    };
    world.stage.script.begin_if(strikes, is_shown_or_added);
    let trace = world.run_for(SignedDuration::from_mins(5)).await;

    assert_eq!((world.stage.script.struck(), trace.crashes), (2, 1));
    world.assert_ready();
    assert_eq!(world.live(), [world.code().unwrap()]);
    let deletions = world.ledger().acts_applied(&world.stage.app, Cause::Delete);
    assert_eq!((world.mutations(), deletions), (1, 1));
    assert!(!world.events().contains(&"NotRetired".to_owned()));
}

#[tokio::test]
async fn a_rotation_on_the_secret_that_spec_named_before_is_brought_to_the_one_that_another_replica_has_made() {
    let mut world = World::direct();
    let seed = world.live().remove(0);
    world.stage.create_rotation(|spec| {
        spec["appCode"] = json!(seed);
        spec["initialRotation"] = json!("WhenDue");
    });
    // The first replica is about to take the code over and to rotate it as requested when spec comes to name another Secret.
    // A second one, to which the request is nothing new, takes the code over there.
    let request = Act::new("a rotation is requested", |stage| {
        stage.annotate(NAME, ROTATE_REQUESTED_AT, "2");
    });
    let retarget = Act::new("spec names another Secret", |stage| {
        stage.edit_rotation(NAME, |object| {
            object["spec"]["target"] = json!({ "name": "checkout-moved" });
        });
    });
    let strikes = vec![
        (0, Strike::Act(Moment::Before, request)),
        (1, Strike::Act(Moment::Before, retarget)),
        (1, takeover(usize::MAX)),
    ];
    let is_write =
        |call: &Call| matches!(call, Call::Api { verb, resource, .. } if verb.is_write() && *resource == SECRETS);
    world.stage.script.begin_if(strikes, is_write);
    world.run_to_rest().await;

    assert_eq!(world.stage.script.struck(), 3);
    assert_eq!(world.mutations(), 1);
    let live = world.live();
    assert_eq!(world.stage.code_in("checkout-moved").as_ref(), live.first());
    world.assert_sound();
    assert!(world.is_ready());
    let shown = world.status().current.map(|current| current.fingerprint);
    assert_eq!(shown, Some(world.fingerprint(&live[0])));
}

#[tokio::test]
async fn a_code_that_another_replica_adds_for_another_resource_is_left_to_it() {
    for calls in [8, 12, 16, 20, 24] {
        added_by_another(calls).await;
    }
}

/// The second replica makes so many calls before the first one goes on.
async fn added_by_another(calls: usize) {
    const NAMES: [&str; 2] = ["older", "younger"];
    let mut world = World::on(Stage::direct(2));
    let codes = world.live();
    for (name, code) in NAMES.iter().zip(&codes) {
        world.stage.create_rotation_named(name, |spec| {
            spec["appCode"] = json!(code);
            spec["initialRotation"] = json!("WhenDue");
            spec["strategy"] = json!("Overlap");
            spec["overlap"] = json!({ "gracePeriod": "1h" });
        });
    }
    world.run_to_rest().await;
    let trigger = |stage: &Stage, name: &str| {
        stage.edit_rotation(name, |object| object["spec"]["rotationTrigger"] = json!("go"));
    };
    trigger(&world.stage, NAMES[0]);
    // The addition for the older one is refused. When it is tried again, long after, and the other resource has been looked at,
    // a second replica adds a code for that one before the app is read.
    let ask = Act::new("the younger one is asked for a rotation", move |stage| {
        stage.time.advance(Duration::from_secs(600));
        trigger(stage, NAMES[1]);
    });
    let strikes = vec![
        (1, Strike::Cloud(Fault::throttle(None).at(Operation::Add).once())),
        (2, Strike::Act(Moment::Before, ask)),
        (2, takeover(calls)),
    ];
    world
        .stage
        .script
        .begin_if(strikes, |call| matches!(call, Call::Cloud(_)));
    world.run_for(SignedDuration::from_hours(3)).await;

    assert_eq!(world.stage.script.struck(), 3);
    world.assert_sound();
    let held = NAMES.map(|name| world.stage.code_in(name).unwrap());
    assert!(held[0] != held[1], "each has a code of its own ({calls})");
    let live = world.live();
    assert_eq!((live.len(), world.mutations()), (2, 2), "{live:?}");
    assert_eq!(NAMES.map(|name| world.stalled_of(name)), [None, None]);
}
