//! Schedules by the calendar, and windows. The time of the tests starts on Sunday, 1 March 2026, at 08:00 UTC.

use std::time::Duration;

use appcode_operator::api::{ConditionType, Phase, Trigger};
use jiff::{SignedDuration, Timestamp};
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::support::World;
use crate::support::stage::NAME;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

async fn world(schedule: Value) -> World {
    on(World::new().await, schedule).await
}

async fn on(mut world: World, schedule: Value) -> World {
    world.stage.create_rotation(|spec| spec["schedule"] = schedule);
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0, "not before it is due");
    world
}

async fn run_until(world: &mut World, time: Timestamp) {
    let left = time.duration_since(world.stage.time.truth());
    assert!(left.is_positive(), "{time} is over");
    world.run_for(left).await;
}

fn next(world: &World) -> Timestamp {
    world.status().next_rotation_time.unwrap().0
}

fn upcoming(world: &World) -> Vec<Timestamp> {
    world.status().upcoming.into_iter().map(|time| time.0).collect()
}

#[tokio::test]
async fn a_cron_rotates_at_its_local_times_and_no_other_rotation_moves_it() {
    let mut world = world(json!({ "cron": "30 2 * * SUN", "timeZone": "Europe/Berlin", "jitter": "0s" })).await;
    // On 29 March clocks go forward from 02:00 to 03:00, which is 01:00 UTC.
    let sundays = [
        "2026-03-08T01:30:00Z",
        "2026-03-15T01:30:00Z",
        "2026-03-22T01:30:00Z",
        "2026-03-29T01:00:00Z",
        "2026-04-05T00:30:00Z",
    ];
    for (number, sunday) in sundays.into_iter().map(at).enumerate() {
        assert_eq!(next(&world), sunday);
        assert_eq!(upcoming(&world)[0], sunday);
        run_until(&mut world, sunday - SignedDuration::from_secs(1)).await;
        assert_eq!(world.mutations(), 2 * number, "not a second early");
        world.run_for(SignedDuration::from_mins(1)).await;
        world.assert_ready();
        assert_eq!(world.mutations(), 2 * number + 1);
        assert_eq!(world.status().history[0].trigger, Trigger::Schedule);
        world.run_for(SignedDuration::from_hours(50)).await;
        world.stage.set_trigger(&format!("week {number}"));
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!(world.mutations(), 2 * number + 2);
    }
}

#[tokio::test]
async fn missed_firings_become_one() {
    let mut world = world(json!({ "cron": "@hourly", "jitter": "0s" })).await;
    world.stage.time.advance(Duration::from_secs(30 * 24 * 3600 + 600));
    world.restart();
    world.run_for(SignedDuration::from_mins(40)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert_eq!(next(&world), at("2026-03-31T09:00:00Z"));
}

#[tokio::test]
async fn a_schedule_waits_for_its_window_and_a_trigger_does_not() {
    let mut world = world(json!({
        "interval": "24h", "jitter": "1h",
        "windows": [{ "cron": "0 22 * * FRI", "duration": "2h", "timeZone": "Asia/Shanghai" }],
    }))
    .await;
    let friday = at("2026-03-06T14:00:00Z"); // 22:00 in Shanghai
    world.run_for(SignedDuration::from_hours(72)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0, "due for two days, but no window was open");
    let (first, told) = (next(&world), upcoming(&world));
    assert!(first >= friday && first < friday + SignedDuration::from_hours(1));
    assert!(told.len() == 3 && told[0] == first);

    world.stage.set_trigger("now");
    world.run_to_rest().await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
    assert_eq!(next(&world), first, "still due before the window opens");

    run_until(&mut world, first - SignedDuration::from_secs(1)).await;
    assert_eq!(world.mutations(), 1);
    world.run_for(SignedDuration::from_mins(1)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 2);
    assert_eq!(world.status().history[0].trigger, Trigger::Schedule);
    assert_eq!(next(&world).duration_since(first), SignedDuration::from_hours(7 * 24));
}

#[tokio::test]
async fn a_start_may_be_late_within_its_window_and_waits_for_the_next_after_it() {
    let schedule = json!({
        "cron": "0 3 * * *", "jitter": "0s", "windows": [{ "cron": "0 2 * * *", "duration": "3h" }],
    });
    let mut world = world(schedule).await;
    let told = upcoming(&world);
    // Nobody is there at 03:00 nor until the window is over.
    world
        .stage
        .time
        .advance(Duration::try_from(at("2026-03-02T05:00:00Z").duration_since(world.stage.time.truth())).unwrap());
    world.restart();
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0);
    assert_eq!(next(&world), at("2026-03-03T02:00:00Z"));
    assert_eq!(upcoming(&world), told, "no rotation and no other spec");
    run_until(&mut world, at("2026-03-03T02:01:00Z")).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1, "as soon as the next window opens");
    assert_eq!(next(&world), at("2026-03-03T03:00:00Z"));

    world
        .stage
        .time
        .advance(Duration::try_from(at("2026-03-03T04:58:00Z").duration_since(world.stage.time.truth())).unwrap());
    world.restart();
    world.run_for(SignedDuration::from_mins(1)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 2, "late, but within the window");
}

#[tokio::test]
async fn a_suspended_resource_shows_when_it_would_rotate_next() {
    let mut world = world(json!({ "cron": "0 3 * * SUN", "jitter": "0s" })).await;
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["suspend"] = json!(true));
    world.run_to_rest().await;
    assert_eq!(world.status().phase, Some(Phase::Suspended));
    assert_eq!(next(&world), at("2026-03-08T03:00:00Z"));
    assert_eq!(upcoming(&world).len(), 3);
    world.run_for(SignedDuration::from_hours(8 * 24)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn what_never_fires_stops_at_once() {
    for schedule in [
        json!({ "cron": "0 0 31 2 *" }),
        json!({ "interval": "24h", "windows": [{ "cron": "0 0 30 2 *", "duration": "1h" }] }),
    ] {
        let mut world = World::new().await;
        world.stage.create_rotation(|spec| spec["schedule"] = schedule);
        world.run_to_rest().await;
        world.assert_sound();
        assert_eq!(world.stalled().as_deref(), Some("ScheduleNeverFires"));
        let (_, _, message) = world.condition(ConditionType::Stalled);
        assert!(message.contains("never come"), "{message}");
        assert_eq!(world.ledger().requests.len(), 0);
    }
}

#[tokio::test]
async fn a_clock_that_jumps_a_year_ahead_and_back_rotates_once_and_the_schedule_lives_on() {
    for schedule in [
        json!({ "cron": "0 3 * * *", "jitter": "0s" }),
        json!({ "interval": "24h", "jitter": "0s" }),
    ] {
        // Over HTTP the cloud would refuse a signature from another year.
        let mut world = on(World::direct(), schedule.clone()).await;
        world.stage.time.set_skew(SignedDuration::from_hours(365 * 24));
        world.run_for(SignedDuration::from_hours(2)).await;
        world.stage.time.set_skew(SignedDuration::ZERO);
        world.run_for(SignedDuration::from_hours(2)).await;
        assert_eq!(world.mutations(), 1, "{schedule}");
        let left = next(&world).duration_since(world.stage.time.truth());
        assert!(
            left <= SignedDuration::from_hours(24),
            "{schedule}: the next one is {left:#} away"
        );
        world.run_for(SignedDuration::from_hours(72)).await;
        world.assert_ready();
        assert!(
            (3..=4).contains(&world.mutations()),
            "{schedule}: {}",
            world.mutations()
        );
    }
}

#[tokio::test]
async fn a_firing_soon_after_another_rotation_waits_in_silence() {
    let mut world = on(World::direct(), json!({ "cron": "0 12 * * *", "jitter": "0s" })).await;
    run_until(&mut world, at("2026-03-01T11:58:00Z")).await;
    world.stage.set_trigger("just before");
    world.run_for(SignedDuration::from_secs(90)).await;
    assert_eq!(world.mutations(), 1);
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(8)).await;
    let calls = world.stage.script.calls().len();
    assert!(calls <= 12, "{calls} calls while the minimum interval passes");
    world.run_for(SignedDuration::from_mins(4)).await;
    assert_eq!(world.mutations(), 2);
    world.assert_ready();
}
