//! `--watch-secrets`: a damaged Secret is repaired within seconds; without it nothing but the check finds it.

use std::sync::Arc;
use std::time::Duration;

use appcode_operator::controller::run;
use appcode_operator::health::Health;
use appcode_operator::metrics::Format;
use cloud_simulator::Operation;
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::World;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::cloud::DirectAppCodes;
use crate::support::script::{Act, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE, Stage};

/// Far less than a check period.
const SECONDS: SignedDuration = SignedDuration::from_secs(10);

/// A settled world whose operator watches Secrets or not.
async fn settled(watches: bool) -> World {
    let mut world = World::direct();
    world.make.settings.watch_secrets = watches;
    world.restart();
    world.stage.create_rotation(|_| ());
    world.run_to_rest().await;
    world.assert_ready();
    world
}

/// What people do to a Secret, with a word for it.
type Damage = (&'static str, fn(&Stage));

fn damages() -> [Damage; 5] {
    [
        ("deleted", |stage| {
            stage.delete_secret(NAME);
        }),
        ("another code", |stage| stage.edit_secret(NAME, &[("appCode", "wrong")])),
        ("no code", |stage| {
            stage
                .api
                .edit(SECRETS, NAMESPACE, NAME, |object| object["data"] = json!({}));
        }),
        ("no record", |stage| {
            stage.api.edit(SECRETS, NAMESPACE, NAME, |object| {
                object["metadata"]["annotations"]["appcode.dev/fingerprint"] = Value::Null;
            });
        }),
        ("deleted again", |stage| {
            stage.delete_secret(NAME);
        }),
    ]
}

#[tokio::test]
async fn a_damaged_secret_is_repaired_within_seconds() {
    let mut world = settled(true).await;
    let code = world.code();
    for (damage, work) in damages() {
        world.run_for(SignedDuration::from_mins(15)).await;
        world.stage.judge.excuse(NAME);
        work(&world.stage);
        world.run_for(SECONDS).await;
        world.assert_ready();
        assert_eq!(world.code(), code, "{damage}");
    }
    assert_eq!(world.mutations(), 0);
    // And then all is quiet until the next check.
    let before = world.calls(Operation::Show);
    world.run_for(SignedDuration::from_mins(45)).await;
    assert_eq!(world.calls(Operation::Show), before);
}

#[tokio::test]
async fn without_the_flag_only_the_check_finds_it_and_no_secret_is_listed() {
    let mut world = settled(false).await;
    let code = world.code();
    world.stage.delete_secret(NAME);
    world.run_for(SignedDuration::from_mins(45)).await;
    assert_eq!(world.code(), None);
    world.run_for(SignedDuration::from_mins(20)).await;
    world.assert_ready();
    assert_eq!(world.code(), code);
    let asked = world.stage.api.asked();
    let is_wide = |verb| matches!(verb, Verb::List | Verb::Watch);
    assert!(
        !asked
            .iter()
            .any(|asked| asked.resource == SECRETS && is_wide(asked.verb))
    );
}

#[tokio::test]
async fn what_was_seen_of_a_secret_goes_with_the_last_resource_that_names_it() {
    let mut world = settled(true).await;
    let known = |world: &World| world.ctx.lookout.as_ref().unwrap().known();
    assert_eq!(known(&world), 1);
    for target in ["one", "two", "three"] {
        world
            .stage
            .edit_rotation(NAME, |object| object["spec"]["target"] = json!({"name": target}));
        world.run_for(SignedDuration::from_mins(5)).await;
        assert_eq!(known(&world), 1, "{target}");
    }
    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
    world.run_for(SignedDuration::from_mins(5)).await;
    assert_eq!((known(&world), world.ctx.queue.len()), (0, 0));
}

#[tokio::test]
async fn our_own_writes_bring_no_pass_of_their_own() {
    let mut looks = Vec::new();
    for watches in [false, true] {
        let mut world = settled(watches).await;
        for trigger in ["one", "two", "three"] {
            world.stage.set_trigger(trigger);
            world.run_for(SignedDuration::from_mins(30)).await;
        }
        world.assert_ready();
        assert_eq!(world.mutations(), 3);
        let gets = world.stage.api.asked().len();
        looks.push((world.calls(Operation::Show), gets));
    }
    assert_eq!(looks[0], looks[1]);
}

#[tokio::test]
async fn a_fight_over_the_secret_ends_in_few_repairs_an_hour() {
    let mut world = settled(true).await;
    let fight = Act::new("another writer wants another code", |stage: &Stage| {
        stage.judge.excuse(NAME);
        stage.edit_secret(NAME, &[("appCode", "theirs")]);
    });
    let is_write = |call: &Call| matches!(call, Call::Api { verb: Verb::Patch, resource, .. } if *resource == SECRETS);
    world
        .stage
        .script
        .begin_lasting(Strike::Act(Moment::After, fight), 0, is_write);
    world.stage.judge.excuse(NAME);
    world.stage.edit_secret(NAME, &[("appCode", "theirs")]);
    let before = world.calls(Operation::Show);
    world.run_for(SignedDuration::from_hours(3)).await;
    let looks = world.calls(Operation::Show) - before;
    // Eight within the first quarter of an hour, and then one in five minutes.
    assert!((30..=60).contains(&looks), "{looks} readings in three hours");
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(6)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn a_watch_that_is_forbidden_changes_nothing_else_and_works_as_soon_as_it_may() {
    let mut world = World::direct();
    let stage = Arc::clone(&world.stage);
    stage.create_rotation(|_| ());
    stage.api.revoke(SECRETS, Verb::List, true);
    world.make.settings.watch_secrets = true;
    let cloud = DirectAppCodes {
        stage: Arc::clone(&stage),
    };
    let ctx = world.make.on_the_machine(&stage, Arc::new(cloud));
    let (health, shutdown) = (Health::of(&ctx), CancellationToken::new());
    let running = tokio::spawn(run(Arc::clone(&ctx), Arc::clone(&health), shutdown.clone()));
    let up = || {
        ctx.scrape(Format::Text, &health)
            .contains("\nappcode_secret_watch_up 1\n")
    };
    let refused = || {
        let asked = stage.api.asked();
        asked
            .iter()
            .filter(|asked| asked.resource == SECRETS && asked.verb == Verb::List)
            .count()
    };
    until(|| world.is_ready() && refused() >= 2).await;
    assert!(!up());
    assert!(health.can_lead() && health.is_watching());
    assert_eq!((ctx.stuck(), health.stuck(), health.troubles()), Default::default());

    stage.api.revoke(SECRETS, Verb::List, false);
    until(up).await;
    let code = world.code();
    for _ in 0..2 {
        stage.delete_secret(NAME);
        until(|| world.code().is_some()).await;
        until(|| world.events().last().is_some_and(|event| event == "Repaired")).await;
    }
    assert_eq!(world.code(), code);
    assert!(
        ctx.scrape(Format::Text, &health)
            .contains("\nappcode_hastened_checks_total 2\n")
    );

    shutdown.cancel();
    running.await.unwrap();
    world.assert_ready();
    assert_eq!(world.mutations(), 0);
}

async fn until(wanted: impl Fn() -> bool) {
    while !wanted() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
