//! A panic anywhere in a pass is an error of that pass's resource. It ends no worker, leaves no lock behind, forgets no
//! code that only the process holds, and costs no reset.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::api::{ConditionType, RotationStep};
use appcode_operator::clock::{Clock, SystemClock};
use appcode_operator::controller::{Cluster, Context, run};
use appcode_operator::health::Health;
use appcode_operator::metrics::Format;
use appcode_operator::modelarts::{App, AppCode, AppCodes, CloudError, Echo, Target};
use appcode_operator::plan::plan;
use appcode_operator::secret::SecretView;
use async_trait::async_trait;
use cloud_simulator::{Cause, NewApp, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::support::api_server::{DEPLOYMENTS, ROTATIONS, SECRETS};
use crate::support::cloud::DirectAppCodes;
use crate::support::prober::{Gateway, INFERENCE_HOST};
use crate::support::process::Make;
use crate::support::script::{Act, ApiFault, Call, IsCounted, Moment, Strike, Verb};
use crate::support::stage::NAME;
use crate::support::workloads::target;
use crate::support::{Stage, World};

const OTHER: &str = "other";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Admit,
    Show,
    Reset,
    Add,
}

/// When to panic: at which call, before or after its effect, and how often at most.
#[derive(Clone, Copy, Debug)]
struct Trap {
    point: Point,
    moment: Moment,
    times: usize,
}

/// A cloud client that panics in calls about one app.
struct Trapped {
    inner: DirectAppCodes,
    app: String,
    trap: Mutex<Option<Trap>>,
}

impl Trapped {
    /// A client on `stage` whose calls about the stage's own app panic where `trap` says.
    fn new(stage: &Arc<Stage>, trap: Option<Trap>) -> Arc<Self> {
        Arc::new(Self {
            inner: DirectAppCodes {
                stage: Arc::clone(stage),
            },
            app: stage.app.clone(),
            trap: Mutex::new(trap),
        })
    }

    fn set(&self, trap: Option<Trap>) {
        *self.trap.lock().unwrap() = trap;
    }

    fn pass(&self, target: &Target, point: Point, moment: Moment) {
        let is_sprung = {
            let mut trap = self.trap.lock().unwrap();
            let set = trap.as_mut().filter(|trap| {
                trap.point == point && trap.moment == moment && trap.times > 0 && target.app.app_id.as_str() == self.app
            });
            set.is_some_and(|trap| {
                trap.times -= 1;
                true
            })
        };
        assert!(!is_sprung, "a panic on purpose, at {point:?}");
    }
}

#[async_trait]
impl AppCodes for Trapped {
    async fn admit(&self, target: &Target) -> Result<(), CloudError> {
        self.pass(target, Point::Admit, Moment::Before);
        self.inner.admit(target).await
    }

    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        self.pass(target, Point::Show, Moment::Before);
        let app = self.inner.show_app(target).await;
        self.pass(target, Point::Show, Moment::After);
        app
    }

    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Result<App, CloudError> {
        self.pass(target, Point::Reset, Moment::Before);
        let app = self.inner.reset_code(target, code, echo).await;
        self.pass(target, Point::Reset, Moment::After);
        app
    }

    async fn add_code(&self, target: &Target, echo: &Echo) -> Result<App, CloudError> {
        self.pass(target, Point::Add, Moment::Before);
        let app = self.inner.add_code(target, echo).await;
        self.pass(target, Point::Add, Moment::After);
        app
    }

    async fn delete_code(&self, target: &Target, code: &AppCode) -> Result<App, CloudError> {
        self.inner.delete_code(target, code).await
    }
}

/// A world with a resource on the stage's app, which has `codes` codes, and one on another app.
fn world(codes: usize) -> (World, Arc<Trapped>, String) {
    let mut world = World::on(Stage::direct(codes));
    let cloud = Trapped::new(&world.stage, None);
    world.make.instead = Some(cloud.clone());
    world.restart();
    let stage = &world.stage;
    let new = NewApp::of(&stage.user.user_id, &stage.project).codes(1);
    let other = stage
        .cloud
        .with(|cloud| cloud.create_app(stage.time.truth(), new))
        .app_id;
    stage.create_rotation_named(OTHER, |spec| spec["appId"] = json!(other));
    (world, cloud, other)
}

fn panics(world: &World) -> u64 {
    let text = world.ctx.scrape(Format::OpenMetrics, &Health::of(&world.ctx));
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(r#"appcode_reconciles_total{result="panicked"} "#));
    line.map_or(0, |count| count.parse().unwrap())
}

fn rotate(world: &World, name: &str) {
    let change = |object: &mut serde_json::Value| object["spec"]["rotationTrigger"] = json!("now");
    assert!(world.stage.edit_rotation(name, change));
}

#[tokio::test]
async fn a_panic_at_any_call_hinders_no_other_resource_and_costs_no_code_and_no_reset() {
    use Moment::{After, Before};
    for (point, moment) in [
        (Point::Admit, Before),
        (Point::Show, Before),
        (Point::Show, After),
        (Point::Reset, Before),
        (Point::Reset, After),
        (Point::Add, Before),
        (Point::Add, After),
    ] {
        let row = format!("{point:?} {moment:?}");
        let codes = usize::from(point != Point::Add);
        let (mut world, cloud, other) = world(codes);
        let trap = Trap {
            point,
            moment,
            times: usize::MAX,
        };
        if point == Point::Add {
            cloud.set(Some(trap));
            world.stage.create_rotation(|_| ());
        } else {
            world.stage.create_rotation(|_| ());
            world.run_to_rest().await;
            world.assert_ready();
            cloud.set(Some(trap));
            rotate(&world, NAME);
        }
        rotate(&world, OTHER);
        world.run_for(SignedDuration::from_mins(15)).await;
        world.assert_sound();
        assert!(panics(&world) > 0, "{row}");
        assert!(world.status_of(OTHER).is_true(ConditionType::Ready), "{row}");
        let rotated = usize::from(point != Point::Add); // else the trigger was there at first sight
        assert_eq!(world.ledger().resets_applied(&other), rotated, "{row}");
        let most = 1 + SignedDuration::from_mins(15).as_secs() / 10;
        assert!(
            panics(&world) <= most.unsigned_abs(),
            "{row}: {} panics",
            panics(&world)
        );

        cloud.set(None);
        world.run_for(SignedDuration::from_mins(30)).await;
        world.assert_ready();
        assert_eq!(
            world.ledger().acts_applied(&world.stage.app, Cause::Reset),
            codes,
            "{row}"
        );
        let added = world.ledger().acts_applied(&world.stage.app, Cause::Add);
        // An added code is not bound to an old one, so each try that had its effect leaves one.
        assert!(added <= 1 || point == Point::Add, "{row}: {added} codes were added");
    }
}

/// A world with a resource that hands its code over in every way there is, one that does not beside it, and a process
/// that `make` starts in its own way.
async fn handing_over(make: impl FnOnce(&mut Make)) -> (World, String) {
    let (mut world, _, other) = world(1);
    make(&mut world.make);
    world.restart();
    world.stage.is_rolling.store(true, Ordering::Relaxed);
    world.stage.create_workload(&target("Deployment/web"));
    world.stage.create_rotation(|spec| {
        spec["strategy"] = json!("Overlap");
        spec["overlap"] = json!({ "gracePeriod": "1m" });
        spec["restartTargets"] = json!([{ "kind": "Deployment", "name": "web" }]);
        spec["verification"] = json!({ "url": format!("https://{INFERENCE_HOST}/v1/infers/any-service") });
    });
    world.run_to_rest().await;
    world.assert_ready();
    (world, other)
}

/// Rotates both for a while in which the one panics, then in peace.
async fn assert_only_it_is_held_up(world: &mut World, other: &str, row: &str, peace: impl FnOnce(&World)) {
    rotate(world, NAME);
    rotate(world, OTHER);
    world.run_for(SignedDuration::from_mins(15)).await;
    world.assert_sound();
    assert!((1..=91).contains(&panics(world)), "{row}: {} panics", panics(world));
    assert!(world.status_of(OTHER).is_true(ConditionType::Ready), "{row}");
    assert_eq!(world.ledger().resets_applied(other), 1, "{row}");

    let before = panics(world);
    peace(world);
    world.run_for(SignedDuration::from_hours(2)).await;
    world.assert_ready();
    assert_eq!(panics(world), before, "{row}");
    assert_eq!(world.code().as_slice(), world.live(), "{row}: the code before is gone");
    let app = &world.stage.app;
    let acts = [Cause::Add, Cause::Delete].map(|cause| world.ledger().acts_applied(app, cause));
    assert_eq!(acts, [1, 1], "{row}");
}

#[tokio::test]
async fn a_panic_on_the_way_of_a_code_hinders_no_other_resource_and_costs_nothing() {
    let calls: [(&str, IsCounted); 6] = [
        ("a try of the code", |call| *call == Call::Probe),
        ("the deletion", |call| *call == Call::Cloud(Operation::Delete)),
        ("a look at a workload", |call| {
            is_at(call, Verb::Get, DEPLOYMENTS, "web")
        }),
        ("a restart", |call| is_at(call, Verb::Patch, DEPLOYMENTS, "web")),
        ("a write of the Secret", |call| is_at(call, Verb::Patch, SECRETS, NAME)),
        ("a write of the status", |call| {
            is_at(call, Verb::PutStatus, ROTATIONS, NAME)
        }),
    ];
    for (at, is_struck) in calls {
        for moment in [Moment::Before, Moment::After] {
            let (mut world, other) = handing_over(|_| ()).await;
            let act = Act::new("a panic", |_| panic!("a panic on purpose"));
            world.stage.script.begin_lasting(Strike::Act(moment, act), 0, is_struck);
            let peace = |world: &World| world.stage.script.begin(Vec::new());
            let row = format!("{at}, {moment:?}");
            assert_only_it_is_held_up(&mut world, &other, &row, peace).await;
        }
    }
}

fn is_at(call: &Call, at: Verb, of: &'static str, called: &str) -> bool {
    matches!(call, Call::Api { verb, resource, name } if *verb == at && *resource == of && name == called)
}

/// At which step of a rotation the deciding function panics.
static PANICS_AT: Mutex<Option<RotationStep>> = Mutex::new(None);

#[tokio::test]
async fn a_panic_in_the_deciding_function_hinders_no_other_resource_and_costs_nothing() {
    use RotationStep::{Distributed, Persisted, Retiring, Started};
    for step in [Started, Persisted, Distributed, Retiring] {
        let (mut world, other) = handing_over(|make| {
            make.decide = Some(|_| {
                Arc::new(|observed, now| {
                    let present = match &observed.secret {
                        SecretView::Ours(secret) => secret.record.intent.as_ref().map(|intent| intent.step),
                        _ => None,
                    };
                    let panics_at = *PANICS_AT.lock().unwrap();
                    let is_struck = observed.resource.name == NAME && panics_at.is_some() && present == panics_at;
                    assert!(!is_struck, "a panic on purpose");
                    plan(observed, now)
                })
            });
        })
        .await;
        *PANICS_AT.lock().unwrap() = Some(step);
        let peace = |_: &World| *PANICS_AT.lock().unwrap() = None;
        assert_only_it_is_held_up(&mut world, &other, &format!("{step:?}"), peace).await;
    }
}

#[tokio::test]
async fn a_panic_leaves_the_lock_of_its_app_to_the_next() {
    let mut world = World::on(Stage::direct(2));
    let trap = Trap {
        point: Point::Show,
        moment: Moment::After,
        times: 1,
    };
    world.make.instead = Some(Trapped::new(&world.stage, Some(trap)));
    world.restart();
    for (name, code) in [NAME, OTHER].into_iter().zip(world.live()) {
        world.stage.create_secret(&format!("seed-{name}"), &[("code", &code)]);
        let seed = json!({ "secretKeyRef": { "name": format!("seed-{name}"), "key": "code" } });
        world
            .stage
            .create_rotation_named(name, |spec| spec["appCodeFrom"] = seed);
    }
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_ready();
    assert!(world.status_of(OTHER).is_true(ConditionType::Ready));
    assert_eq!(panics(&world), 1);
}

/// A world in which both resources hold a code that the API server did not take.
async fn holding() -> (World, Arc<Trapped>) {
    let (mut world, cloud, _) = world(1);
    world.stage.create_rotation(|_| ());
    world.run_to_rest().await;
    let is_code = |call: &Call| matches!(call, Call::Api { verb: Verb::Patch, .. });
    // The first write of each resource is its intent, and goes through; after it every write fails.
    for name in [NAME, OTHER] {
        rotate(&world, name);
        let strike = Strike::Api(Moment::Before, ApiFault::Status(500));
        world.stage.script.begin_lasting(strike, 1, is_code);
        world.run_for(SignedDuration::from_millis(1)).await;
    }
    assert_eq!(world.ctx.held().len(), 2);
    (world, cloud)
}

#[tokio::test]
async fn a_code_that_only_the_process_holds_outlives_panics() {
    let (mut world, cloud) = holding().await;
    let trap = Trap {
        point: Point::Show,
        moment: Moment::Before,
        times: usize::MAX,
    };
    cloud.set(Some(trap));
    world.run_for(SignedDuration::from_mins(5)).await;
    assert!(panics(&world) > 0);
    assert_eq!(world.ctx.held().len(), 2);
    cloud.set(None);
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(5)).await;
    world.assert_ready();
    assert_eq!((world.mutations(), world.ctx.held().len()), (1, 0));
}

#[tokio::test]
async fn a_panic_while_stopping_does_not_keep_the_codes_of_others_from_being_saved() {
    let (world, cloud) = holding().await;
    world.stage.script.begin(Vec::new());
    let trap = Trap {
        point: Point::Show,
        moment: Moment::Before,
        times: usize::MAX,
    };
    cloud.set(Some(trap));
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    run(Arc::clone(&world.ctx), Health::of(&world.ctx), shutdown).await;
    let held: Vec<String> = world.ctx.held().iter().map(|(key, _)| key.name().to_owned()).collect();
    assert_eq!(held, [NAME], "the panics are its own");
    world.assert_sound();
}

#[tokio::test]
async fn the_only_worker_outlives_panics_and_serves_the_others() {
    let world = World::direct();
    let stage = Arc::clone(&world.stage);
    stage.create_rotation(|_| ());
    let names: Vec<String> = (0..5).map(|number| format!("other-{number}")).collect();
    for name in &names {
        let new = NewApp::of(&stage.user.user_id, &stage.project).codes(1);
        let app = stage.cloud.with(|cloud| cloud.create_app(stage.time.truth(), new));
        stage.create_rotation_named(name, |spec| spec["appId"] = json!(app.app_id));
    }
    let trap = Trap {
        point: Point::Show,
        moment: Moment::Before,
        times: usize::MAX,
    };
    let cloud = Trapped::new(&stage, Some(trap));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::start());
    let cluster = Cluster::new(stage.client(), Duration::from_secs(10));
    let mut settings = world.make.settings.clone();
    settings.concurrency = 1;
    let ctx = Arc::new(Context::new(
        cluster,
        cloud,
        Arc::new(Gateway::of(&stage)),
        clock,
        settings,
        Arc::default(),
        Some(1),
    ));
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(run(Arc::clone(&ctx), Health::of(&ctx), shutdown.clone()));
    let served = async {
        while !names
            .iter()
            .all(|name| world.status_of(name).is_true(ConditionType::Ready))
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let patience = Duration::from_secs(240);
    tokio::time::timeout(patience, served)
        .await
        .expect("the others are served");
    shutdown.cancel();
    running.await.unwrap();
    world.assert_sound();
    assert!(
        ctx.scrape(Format::Text, &Health::of(&ctx))
            .contains(r#"appcode_reconciles_total{result="panicked"}"#)
    );
    assert_eq!(ctx.queue.len(), 6);
}
