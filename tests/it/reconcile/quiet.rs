//! How little is done when there is little to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use appcode_operator::api::ConditionType;
use appcode_operator::args::LogFormat;
use appcode_operator::controller::run;
use appcode_operator::health::Health;
use appcode_operator::leader::Standing;
use appcode_operator::modelarts::{App, AppCode, AppCodes, CloudError, Echo, Target};
use async_trait::async_trait;
use cloud_simulator::{NewApp, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::hostile::logs::Kept;
use crate::support::api_server::{EVENTS, ROTATIONS, SECRETS};
use crate::support::cloud::DirectAppCodes;
use crate::support::script::{Call, Verb};
use crate::support::stage::NAME;
use crate::support::{Stage, World};

#[tokio::test]
async fn a_resource_at_rest_is_not_touched_between_checks() {
    let mut world = World::settled().await;
    let writes = world.writes();
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(50)).await;
    assert_eq!(world.stage.script.calls(), [], "nothing is asked of anybody");
    world.restart();
    world.run_for(SignedDuration::from_mins(2)).await;
    assert_eq!(world.writes(), writes, "a restart writes nothing");
    world.run_for(SignedDuration::from_hours(20)).await;
    world.assert_ready();
    let checks = world.calls(Operation::Show);
    assert!((20..=26).contains(&checks), "{checks} checks in a day");
    let (status, events) = (world.writes() - writes, world.events().len());
    assert!(status <= checks, "one status write a check, for the time");
    assert_eq!(events, 1, "only the first one");
}

#[tokio::test]
async fn what_stays_wrong_is_told_once() {
    let mut world = World::settled().await;
    world.stage.delete_secret(crate::support::stage::CREDENTIALS);
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(10)).await;
    let writes = world.writes();
    world.run_for(SignedDuration::from_hours(12)).await;
    assert_eq!(world.events(), ["Adopted", "CredentialsMissing"]);
    assert_eq!(
        world.writes(),
        writes,
        "a status that says the same is not written again"
    );
}

#[tokio::test]
async fn a_cloud_that_is_away_is_asked_ever_more_rarely_and_told_once() {
    let mut world = World::settled().await;
    let asked = world.calls(Operation::Show);
    let fault = world
        .stage
        .cloud
        .with(|cloud| cloud.inject(cloud_simulator::Fault::status_before(503)));
    world.run_for(SignedDuration::from_hours(2)).await;
    assert!(world.is_ready(), "an answer that is not too old still counts");
    world.run_for(SignedDuration::from_hours(2)).await;
    let (status, reason, _) = world.condition(ConditionType::Ready);
    assert_eq!((status.as_str(), reason.as_str()), ("Unknown", "NotVerified"));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_sound();
    let calls = world.calls(Operation::Show) - asked;
    assert!((20..=120).contains(&calls), "{calls} calls in six hours");
    let told = world.events().iter().filter(|reason| *reason == "Retrying").count();
    assert_eq!(told, 1);
    world.stage.cloud.with(|cloud| cloud.clear(fault));
    world.run_for(SignedDuration::from_mins(31)).await;
    world.assert_ready();
    assert_eq!(world.mutations(), 1);
}

/// The least that a crash-safe reset can cost.
#[tokio::test]
async fn a_rotation_costs_three_writes_one_event_and_two_cloud_calls() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    world.stage.script.begin(Vec::new());
    world.run_to_rest().await;
    world.assert_ready();
    let calls = [
        world.api_calls(Verb::Get, SECRETS),
        world.api_calls(Verb::Get, ROTATIONS),
        world.api_calls(Verb::Patch, SECRETS),
        world.api_calls(Verb::PutStatus, ROTATIONS),
        world.api_calls(Verb::Create, EVENTS),
    ];
    assert_eq!(
        calls,
        [2, 1, 2, 1, 1],
        "reads of Secrets and resource, writes of Secret, status and event"
    );
    let cloud = world
        .stage
        .script
        .count(|call| matches!(call, crate::support::script::Call::Cloud(_)));
    assert_eq!((cloud, world.stage.script.calls().len()), (2, 9));
}

/// No event tells that a watch works again when nothing is changed.
#[tokio::test]
async fn each_failure_of_the_watch_is_told_and_its_end_too_though_nothing_happens_meanwhile() {
    let world = World::direct();
    let stage = Arc::clone(&world.stage);
    stage.create_rotation(|_| ());
    let cloud = DirectAppCodes {
        stage: Arc::clone(&stage),
    };
    let kept = Kept::default();
    let _guard = kept.start_at(LogFormat::Json, "info");
    let ctx = world.make.on_the_machine(&stage, Arc::new(cloud));
    ctx.leadership.set(Standing::Unknown); // so that nothing is written, which would be an event
    let (health, shutdown) = (Health::of(&ctx), CancellationToken::new());
    stage.api.revoke(ROTATIONS, Verb::Watch, true);
    let running = tokio::spawn(run(Arc::clone(&ctx), Arc::clone(&health), shutdown.clone()));
    let told = |message: &str| {
        let lines = kept.lines().into_iter();
        lines.filter(|line| line["message"] == message).count()
    };
    let pause = || tokio::time::sleep(Duration::from_millis(50));
    for number in 1..=2 {
        while !health.is_listed() || health.is_watching() {
            pause().await;
        }
        stage.api.revoke(ROTATIONS, Verb::Watch, false);
        while told("the watch works again") < number {
            // The client's layer tells this of the answer; this client has none.
            health.answered(None);
            pause().await;
        }
        let failed = "the watch failed; it is started again until it works";
        assert_eq!(told(failed), number);
        // The watch that works ends with its next event.
        stage.api.revoke(ROTATIONS, Verb::Watch, true);
        stage.set_trigger("one");
    }
    shutdown.cancel();
    running.await.unwrap();
}

/// A standby asks for no turns; from the lead on somebody must.
#[tokio::test]
async fn a_replica_that_takes_the_lead_with_dead_workers_is_stuck_after_minutes() {
    let world = World::direct();
    let ctx = &world.ctx;
    let wait = |minutes: u64| world.stage.wait(Duration::from_secs(60 * minutes));
    let until = Duration::MAX;
    ctx.leadership.set(Standing::Unknown);
    ctx.queue.open();
    wait(600);
    assert_eq!(ctx.stuck(), Vec::<String>::new());
    ctx.leadership.set(Standing::Leads { until });
    wait(4);
    assert_eq!(ctx.stuck(), Vec::<String>::new());
    wait(2);
    assert_eq!(ctx.stuck(), ["no worker has asked for a turn for 6 minutes"]);
    ctx.queue.pop().unwrap_err();
    assert_eq!(ctx.stuck(), Vec::<String>::new());
}

#[tokio::test]
async fn a_broken_election_is_no_life() {
    let world = World::direct();
    let task = tokio::spawn(std::future::pending::<()>());
    world.ctx.rest_on(task.abort_handle());
    assert_eq!(world.ctx.stuck(), Vec::<String>::new());
    task.abort();
    task.await.unwrap_err();
    let stuck = world.ctx.stuck();
    assert_eq!(
        stuck,
        ["the election has broken, so that this replica never leads again"]
    );
    world.ctx.stop();
    assert_eq!(world.ctx.stuck(), Vec::<String>::new(), "it ends with the process");
}

/// Counts what runs at the same time.
struct Gauge {
    inner: DirectAppCodes,
    now: AtomicUsize,
    most: AtomicUsize,
}

#[async_trait]
impl AppCodes for Gauge {
    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.now.fetch_sub(1, Ordering::SeqCst);
        self.inner.show_app(target).await
    }

    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Result<App, CloudError> {
        self.inner.reset_code(target, code, echo).await
    }

    async fn add_code(&self, target: &Target, echo: &Echo) -> Result<App, CloudError> {
        self.inner.add_code(target, echo).await
    }

    async fn delete_code(&self, target: &Target, code: &AppCode) -> Result<App, CloudError> {
        self.inner.delete_code(target, code).await
    }
}

#[tokio::test]
async fn the_running_operator_serves_every_resource_and_no_more_than_allowed_at_a_time() {
    let world = World::direct();
    let stage = Arc::clone(&world.stage);
    let names: Vec<String> = (0..110).map(|n| format!("app-{n:03}")).collect();
    for name in &names {
        let new = cloud_simulator::NewApp::of(&stage.user.user_id, &stage.project).codes(1);
        let app = stage.cloud.with(|cloud| cloud.create_app(stage.time.truth(), new));
        stage.create_rotation_named(name, |spec| spec["appId"] = json!(app.app_id));
    }
    let inner = DirectAppCodes {
        stage: Arc::clone(&stage),
    };
    let gauge = Arc::new(Gauge {
        inner,
        now: AtomicUsize::new(0),
        most: AtomicUsize::new(0),
    });
    let ctx = world.make.on_the_machine(&stage, Arc::clone(&gauge) as _);
    let (health, shutdown) = (Health::of(&ctx), CancellationToken::new());
    let running = tokio::spawn(run(Arc::clone(&ctx), Arc::clone(&health), shutdown.clone()));

    let is_ready = |stage: &Stage, name: &str| {
        let object = stage
            .api
            .object(ROTATIONS, crate::support::stage::NAMESPACE, name)
            .unwrap();
        object["status"]["phase"] == "Ready"
    };
    until(&stage, |stage| names.iter().all(|name| is_ready(stage, name))).await;
    assert_eq!(gauge.most.load(Ordering::SeqCst), 4, "as many as allowed, and no more");
    assert!(health.can_lead() && health.is_watching());
    assert_eq!(ctx.queue.len(), names.len());

    // The watch brings a new resource, and takes a deleted one away.
    stage.create_rotation(|_| ());
    until(&stage, |stage| is_ready(stage, NAME)).await;
    stage.api.delete(ROTATIONS, crate::support::stage::NAMESPACE, NAME);
    while ctx.queue.len() != names.len() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    running.await.unwrap();
    world.assert_sound();
    assert_eq!(world.mutations(), 0);
}

#[tokio::test]
async fn a_listing_that_is_refused_is_no_sign_of_life_and_is_asked_for_less_and_less() {
    let world = World::direct();
    let stage = Arc::clone(&world.stage);
    stage.create_rotation(|_| ());
    stage.api.revoke(ROTATIONS, Verb::List, true);
    let cloud = DirectAppCodes {
        stage: Arc::clone(&stage),
    };
    let ctx = world.make.on_the_machine(&stage, Arc::new(cloud));
    let (health, shutdown) = (Health::of(&ctx), CancellationToken::new());
    let running = tokio::spawn(run(Arc::clone(&ctx), Arc::clone(&health), shutdown.clone()));
    let refused = |stage: &Stage| {
        let asked = stage.api.asked();
        asked.iter().filter(|asked| asked.verb == Verb::List).count()
    };
    let quiet = std::cell::Cell::new(Duration::ZERO);
    until(&stage, |stage| {
        let now = health.quiet_for();
        assert!(now >= quiet.replace(now), "a refused listing passed for an answer");
        refused(stage) >= 4
    })
    .await;
    assert!(!health.is_watching() && !health.can_lead());

    stage.api.revoke(ROTATIONS, Verb::List, false);
    until(&stage, |_| world.is_ready()).await;
    assert!(health.is_watching() && health.can_lead());
    shutdown.cancel();
    running.await.unwrap();
    assert_eq!(world.mutations(), 0);
}

async fn until(stage: &Stage, wanted: impl Fn(&Stage) -> bool) {
    while !wanted(stage) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn many_that_are_due_at_once_after_a_long_pause_rotate_once_each_and_take_turns() {
    const MANY: usize = 24;
    let mut world = World::direct();
    let (user, project) = (world.stage.user.user_id.clone(), world.stage.project.clone());
    let now = world.stage.time.truth();
    let names: Vec<String> = (0..MANY).map(|number| format!("many-{number}")).collect();
    let mut apps = Vec::new();
    for name in &names {
        let new = NewApp::of(&user, &project).codes(1).name(name);
        let app = world.stage.cloud.with(|cloud| cloud.create_app(now, new)).app_id;
        world.stage.create_rotation_named(name, |spec| {
            spec["appId"] = json!(app);
            spec["schedule"] = json!({ "interval": "24h" });
        });
        apps.push(app);
    }
    world.run_for(SignedDuration::from_hours(2)).await;
    assert!(
        names
            .iter()
            .all(|name| world.status_of(name).is_true(ConditionType::Ready))
    );
    // The operator is down for three months. A spec that is changed after its return does not wait for the rest.
    world.stage.time.advance(Duration::from_secs(90 * 24 * 3600));
    world.restart();
    let reads = |world: &World| {
        let asked = world.stage.api.asked();
        asked.iter().filter(|asked| !asked.verb.is_write()).count()
    };
    let before = reads(&world);
    world.run_for(SignedDuration::from_secs(20)).await;
    let last = names.last().unwrap();
    world
        .stage
        .edit_rotation(last, |object| object["spec"]["rotationTrigger"] = json!("now"));
    world.run_for(SignedDuration::from_secs(40)).await;
    assert_eq!(world.status_of(last).last_handled_trigger.as_deref(), Some("now"));
    world.run_for(SignedDuration::from_mins(30)).await;
    world.assert_sound();
    for (name, app) in names.iter().zip(&apps) {
        assert_eq!(world.ledger().resets_applied(app), 1, "{name}");
        assert!(world.status_of(name).is_true(ConditionType::Ready), "{name}");
    }
    let reads = reads(&world) - before;
    assert!(reads <= MANY * 16, "{reads} reads of the API server");
}

#[tokio::test]
async fn a_fleet_larger_than_the_call_rate_is_checked_less_often_and_stays_ready() {
    const MANY: usize = 30;
    let mut world = World::direct();
    // Thirty readings take 38 s at the default rate of one caller: more than three of these periods.
    world.make.settings.limits.check_period = SignedDuration::from_secs(10);
    world.restart();
    let (user, project) = (world.stage.user.user_id.clone(), world.stage.project.clone());
    let now = world.stage.time.truth();
    let names: Vec<String> = (0..MANY).map(|number| format!("many-{number}")).collect();
    for name in &names {
        let new = NewApp::of(&user, &project).codes(1).name(name);
        let app = world.stage.cloud.with(|cloud| cloud.create_app(now, new)).app_id;
        world
            .stage
            .create_rotation_named(name, |spec| spec["appId"] = json!(app));
    }
    world.run_for(SignedDuration::from_mins(5)).await;
    world.stage.script.begin(Vec::new());
    for _ in 0..60 {
        world.run_for(SignedDuration::from_secs(10)).await;
        for name in &names {
            let (ready, reason, _) = world.condition_of(name, ConditionType::Ready);
            assert_eq!((ready.as_str(), reason.as_str()), ("True", "CodeListed"), "{name}");
        }
    }
    world.assert_sound();
    // Each is still looked at: half of the rate goes to checks.
    let looks = world.stage.script.count(|call| *call == Call::Cloud(Operation::Show));
    assert!((200..=300).contains(&looks), "{looks} readings in ten minutes");
}
