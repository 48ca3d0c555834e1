//! Eight weeks of schedules in simulated time, with faults on a low flame; `SOAK_SEED` chooses others. `make soak-hour`
//! does the like in real time.

use std::time::Duration;

use appcode_operator::health::Health;
use appcode_operator::metrics::Format;
use cloud_simulator::{Cause, Fault, LostAnswer, NewApp, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::support::World;
use crate::support::script::{ApiFault, Armed, Moment, Strike};

/// From one choice of faults to the next.
const STEP: SignedDuration = SignedDuration::from_hours(6);
/// Eight weeks of them.
const STEPS: i32 = 8 * 7 * 4;
/// Calls among which a fault finds its own.
const CALLS: usize = 30;

/// What a resource asks for, and how many rotations that are in eight weeks from Sunday, 1 March 2026, 08:00 UTC.
fn kinds() -> Vec<(&'static str, Value, usize)> {
    vec![
        (
            "daily",
            json!({ "schedule": { "cron": "0 3 * * *", "jitter": "0s" } }),
            56,
        ),
        (
            "twice-daily",
            json!({ "schedule": { "cron": "0 */12 * * *", "jitter": "0s" } }),
            112,
        ),
        (
            "sundays",
            json!({ "schedule": { "cron": "30 2 * * SUN", "timeZone": "Europe/Berlin", "jitter": "0s" } }),
            8,
        ),
        (
            "monthly",
            json!({ "schedule": { "cron": "@monthly", "jitter": "0s" } }),
            1,
        ),
        (
            "nightly",
            json!({ "schedule": {
                "cron": "0 12 * * *", "jitter": "0s", "windows": [{ "cron": "0 22 * * *", "duration": "6h" }],
            } }),
            56,
        ),
        // Counts from the rotation before; a third of an interval is left for delays.
        (
            "interval",
            json!({ "schedule": { "interval": "36h", "jitter": "0s" } }),
            37,
        ),
        (
            "overlap",
            json!({
                "schedule": { "cron": "0 5 * * *", "jitter": "0s" },
                "strategy": "Overlap", "overlap": { "gracePeriod": "1h" },
            }),
            56,
        ),
        (
            "suspended",
            json!({ "schedule": { "cron": "0 4 * * *" }, "suspend": true }),
            0,
        ),
        ("on-demand", json!({}), 0),
    ]
}

struct Member {
    name: &'static str,
    app: String,
    expected: usize,
}

fn members(world: &World) -> Vec<Member> {
    let stage = &world.stage;
    let member = |(name, more, expected): (&'static str, Value, usize)| {
        let new = NewApp::of(&stage.user.user_id, &stage.project).codes(1).name(name);
        let app = stage
            .cloud
            .with(|cloud| cloud.create_app(stage.time.truth(), new))
            .app_id;
        stage.create_rotation_named(name, |spec| {
            spec["appId"] = json!(app);
            for (field, value) in more.as_object().unwrap() {
                spec[field] = value.clone();
            }
        });
        Member { name, app, expected }
    };
    kinds().into_iter().map(member).collect()
}

/// What may strike: answers that are lost, late or errors, of the cloud and of the API server.
fn strikes() -> Vec<Strike> {
    let later = Duration::from_secs(40);
    let cloud = [
        Fault::cut_before(),
        Fault::cut_after(),
        Fault::status_before(503),
        Fault::status_after(500),
        Fault::throttle(Some("30")),
        Fault::late(Some(later), LostAnswer::Cut),
    ];
    let changes = [Operation::Reset, Operation::Add, Operation::Delete];
    let cloud = cloud
        .into_iter()
        .map(|fault| changes.into_iter().fold(fault, Fault::at));
    let reads = [Fault::cut_before(), Fault::status_before(500), Fault::throttle(None)];
    let reads = reads.into_iter().map(|fault| fault.at(Operation::Show));
    let cloud = cloud.chain(reads).map(|fault| Strike::Cloud(fault.once()));
    let faults = [409, 429, 500, 504]
        .map(ApiFault::Status)
        .into_iter()
        .chain([ApiFault::Cut]);
    let api = faults.flat_map(|fault| [Moment::Before, Moment::After].map(|moment| Strike::Api(moment, fault)));
    cloud.chain(api).collect()
}

/// Series that a scrape finds.
fn series(world: &World) -> usize {
    let text = world.ctx.scrape(Format::OpenMetrics, &Health::of(&world.ctx));
    text.lines().filter(|line| !line.starts_with('#')).count()
}

#[tokio::test]
async fn eight_weeks_of_schedules_lose_nothing_and_leave_nothing_behind() {
    let mut world = World::direct();
    // Checks between the rotations are counted elsewhere.
    world.make.settings.limits.check_period = STEP;
    world.restart();
    let members = members(&world);
    let seed = std::env::var("SOAK_SEED").map_or(8, |seed| seed.parse().unwrap());
    let mut random = StdRng::seed_from_u64(seed);
    let strikes = strikes();
    let mut struck = 0;
    let series_before = series(&world);
    let end = world.stage.time.truth() + STEP * STEPS;
    while world.stage.time.truth() < end {
        let armed = Armed {
            id: 0,
            from: random.random_range(0..CALLS),
            strike: strikes.choose(&mut random).unwrap().clone(),
            times: 1,
        };
        world.stage.script.arm(vec![armed]);
        let left = end.duration_since(world.stage.time.truth());
        world.run_for(STEP.min(left)).await;
        struck += world.stage.script.hits().len();
        world.assert_sound();
        world.stage.api.forget();
    }
    world.stage.script.disarm();
    println!("{struck} calls were struck");
    assert!(struck > 100, "{struck}");
    // What was struck last is settled.
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_sound();

    let ledger = world.ledger();
    for Member { name, app, expected } in &members {
        let (ready, reason, message) = world.condition_of(name, appcode_operator::api::ConditionType::Ready);
        assert_eq!(
            (ready.as_str(), reason.as_str()),
            ("True", "CodeListed"),
            "{name}: {message}"
        );
        let changes = [Cause::Reset, Cause::Add].map(|cause| ledger.acts_applied(app, cause));
        assert_eq!(changes.into_iter().sum::<usize>(), *expected, "{name}");
        assert_eq!(
            world.stage.code_in(name).into_iter().collect::<Vec<_>>(),
            ledger.live_codes(app),
            "{name}"
        );
    }
    assert_eq!(world.ctx.queue.len(), members.len());
    assert_eq!(world.ctx.held(), []);
    assert_eq!(world.ctx.remembered(), 0, "nothing is kept of what is at rest");
    // Each resource has two of its own at most.
    assert!(
        series(&world) <= series_before + 2 * members.len(),
        "{}",
        series(&world)
    );
}
