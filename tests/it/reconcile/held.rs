//! A code that is made and cannot be saved at once: it is not lost, and nobody is asked too often meanwhile.

use std::sync::Arc;
use std::time::Duration;

use appcode_operator::controller::{Key, next_turn};
use appcode_operator::health::Health;
use appcode_operator::metrics::Format;
use cloud_simulator::Operation;
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::World;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::script::{Act, ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};

fn is_patch(call: &Call) -> bool {
    matches!(call, Call::Api { verb: Verb::Patch, .. })
}

/// A world that has rotated and cannot write the new code.
async fn holding() -> World {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    let strike = Strike::Api(Moment::Before, ApiFault::Status(500));
    world.stage.script.begin_lasting(strike, 1, is_patch);
    world.run_for(SignedDuration::from_mins(2)).await;
    assert_eq!(world.mutations(), 1);
    assert_eq!(world.ctx.held().len(), 1);
    assert!(!world.live().contains(&world.code().unwrap()));
    assert!(!world.is_ready(), "the Secret holds a dead code");
    world
}

fn heal(world: &World) {
    world.stage.script.begin(Vec::new());
}

#[tokio::test]
async fn it_is_saved_when_the_api_server_is_back() {
    let mut world = holding().await;
    world.run_for(SignedDuration::from_hours(1)).await;
    heal(&world);
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.ctx.held().len()), (1, 0));
}

#[tokio::test]
async fn it_is_saved_before_all_that_is_overdue() {
    let mut world = holding().await;
    for number in 0..100 {
        world.stage.create_rotation_named(&format!("other-{number}"), |_| ());
    }
    world.process.sync(&world.stage);
    world.stage.wait(Duration::from_secs(3600));
    let turn = next_turn(&world.ctx).await;
    assert_eq!(turn.key, Key::new(NAMESPACE, NAME));
    assert!(next_turn(&world.ctx).await.key != turn.key, "nobody has it twice");
}

#[tokio::test]
async fn it_is_saved_once_the_secret_may_be_read_again_for_a_resource_that_was_deleted_meanwhile() {
    let mut world = holding().await;
    world.stage.api.revoke(SECRETS, Verb::Get, true);
    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
    world.run_for(SignedDuration::from_mins(30)).await;
    assert_eq!(world.ctx.held().len(), 1);
    world.stage.api.revoke(SECRETS, Verb::Get, false);
    heal(&world);
    world.run_for(SignedDuration::from_mins(2)).await;
    assert!(world.live().contains(&world.code().unwrap()));
    assert_eq!(world.ctx.held().len(), 0);
}

#[tokio::test]
async fn it_is_saved_for_a_resource_that_was_deleted_meanwhile() {
    let mut world = holding().await;
    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
    world.run_for(SignedDuration::from_mins(30)).await;
    heal(&world);
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_sound();
    assert!(world.live().contains(&world.code().unwrap()));
    assert_eq!(
        (world.ctx.held().len(), world.ctx.queue.len()),
        (0, 0),
        "then it is forgotten"
    );
}

#[tokio::test]
async fn it_is_saved_under_a_spec_that_is_refused_by_now() {
    let mut world = holding().await;
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["historyLimit"] = json!(1000));
    world.run_for(SignedDuration::from_mins(30)).await;
    heal(&world);
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_sound();
    assert!(world.live().contains(&world.code().unwrap()));
    assert_eq!(world.stalled().as_deref(), Some("InvalidSpec"));
}

#[tokio::test]
async fn it_is_dropped_once_the_cloud_lists_it_no_more() {
    let mut world = holding().await;
    let (app, now) = (world.stage.app.clone(), world.stage.time.truth());
    let code = world.live().remove(0);
    world.stage.cloud.with(|cloud| {
        cloud.remove_code(now, &app, &code);
        cloud.add_code(now, &app, None);
        cloud.add_code(now, &app, None);
    });
    world.run_for(SignedDuration::from_mins(30)).await;
    assert_eq!(world.ctx.held(), []);
    let calls = world.calls(Operation::Show);
    world.run_for(SignedDuration::from_hours(12)).await;
    assert!(
        world.calls(Operation::Show) - calls <= 60,
        "asked at the pace of any stop"
    );
    heal(&world);
    world.run_for(SignedDuration::from_hours(1)).await;
    world.assert_sound();
    assert_eq!(world.stalled().as_deref(), Some("AmbiguousOutcome"));
    assert_eq!(world.mutations(), 1);

    // The stop is told again for another spec; it is the same rotation.
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["historyLimit"] = json!(3));
    world.run_for(SignedDuration::from_hours(1)).await;
    let told = world
        .events()
        .iter()
        .filter(|reason| *reason == "AmbiguousOutcome")
        .count();
    assert_eq!((told, world.stalled().as_deref()), (2, Some("AmbiguousOutcome")));
    let text = world.ctx.scrape(Format::Text, &Health::of(&world.ctx));
    let counted = r#"appcode_rotations_unfinished_total{outcome="AmbiguousOutcome"} 1"#;
    assert!(text.lines().any(|line| line == counted), "{text}");
}

#[tokio::test]
async fn an_answer_that_masks_it_is_followed_by_a_read_at_once() {
    let mut world = World::settled().await;
    world.stage.cloud.with(|cloud| cloud.behaviour.mask_unless_asked = true);
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(1)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.calls(Operation::Reset)), (1, 1));
}

#[tokio::test]
async fn a_rotation_is_told_once_although_the_answers_to_its_writes_are_lost() {
    for verb in [Verb::Patch, Verb::PutStatus] {
        let mut world = World::settled().await;
        world.stage.set_trigger("one");
        let is_struck: fn(&Call) -> bool = match verb {
            Verb::Patch => is_patch,
            _ => |call| {
                matches!(
                    call,
                    Call::Api {
                        verb: Verb::PutStatus,
                        ..
                    }
                )
            },
        };
        let cut = || Strike::Api(Moment::After, ApiFault::Cut);
        world.stage.script.begin_if(vec![(0, cut()), (1, cut())], is_struck);
        world.run_for(SignedDuration::from_mins(10)).await;
        world.assert_ready();
        assert_eq!(world.mutations(), 1);
        let told = world.events().iter().filter(|reason| *reason == "Rotated").count();
        let lost = usize::from(verb == Verb::PutStatus);
        assert!((1 - lost..=1).contains(&told), "{verb:?}: told {told} times");
    }
}

#[tokio::test]
async fn a_deleted_secret_is_made_again_for_it() {
    let mut world = holding().await;
    world.stage.api.delete(SECRETS, NAMESPACE, NAME);
    world.run_for(SignedDuration::from_mins(5)).await;
    heal(&world);
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

#[tokio::test]
async fn a_code_made_while_its_resource_is_being_deleted_is_saved() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    // The watch tells of the deletion after the intent was written, in the turn that makes the code.
    let ctx = Arc::clone(&world.ctx);
    let deletion = Act::new("the resource is deleted", move |stage| {
        stage.api.delete(ROTATIONS, NAMESPACE, NAME);
        ctx.deleted(&Key::new(NAMESPACE, NAME));
    });
    let away = || Strike::Api(Moment::Before, ApiFault::Status(500));
    let strikes = (1..6)
        .map(|number| (number, away()))
        .chain([(0, Strike::Act(Moment::After, deletion))]);
    world.stage.script.begin_if(strikes.collect(), is_patch);
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!(world.mutations(), 1);
    world.assert_sound();
    assert!(world.live().contains(&world.code().unwrap()));
    assert_eq!((world.ctx.held().len(), world.ctx.queue.len()), (0, 0));
}
