//! T13: what fails for ever, or succeeds without changing anything, for ever. Calls stay within the rates and the budgets
//! of the settings, and memory does not grow.

use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::modelarts::{App, AppCode, AppCodes, CloudError, CloudErrorKind, Echo, GuardOptions, Target};
use async_trait::async_trait;
use cloud_simulator::{Fault, Operation, Reply};
use jiff::{SignedDuration, Timestamp};
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::World;
use crate::support::clock::Time;
use crate::support::stage::{CREDENTIALS, NAME};

const MANY: usize = 1000;
/// Until all of them have failed a few times.
const START: SignedDuration = SignedDuration::from_mins(3);
/// Half of the time in which memory is compared.
const HALF: SignedDuration = SignedDuration::from_mins(15);
/// What the second half may need more than the first, in KiB: pages that the allocator keeps, and the notes of the test.
const MOST_GROWTH: usize = 2 << 10;
/// Set for a test that is run in a process of its own.
const ALONE: &str = "HOSTILE_ALONE";

/// A cloud that never does anything, and when it was asked.
struct Failing {
    time: Time,
    asked: Mutex<Vec<Timestamp>>,
}

impl Failing {
    fn fail(&self, target: &Target) -> CloudError {
        self.asked.lock().unwrap().push(self.time.truth());
        let last = target.app.app_id.as_str().bytes().last().unwrap_or_default();
        let kind = match last % 4 {
            0 => CloudErrorKind::NotSent,
            1 => CloudErrorKind::UnknownOutcome,
            2 => CloudErrorKind::Throttled {
                retry_after: Some(Duration::from_secs(1)),
            },
            _ => CloudErrorKind::AppNotFound,
        };
        CloudError {
            kind,
            status: None,
            code: None,
            message: "on purpose".into(),
            request_id: None,
        }
    }

    /// The most calls in any window of `length`.
    fn most_within(&self, length: SignedDuration) -> usize {
        let asked = self.asked.lock().unwrap();
        let mut first = 0;
        let mut most = 0;
        for (number, at) in asked.iter().enumerate() {
            while at.duration_since(asked[first]) >= length {
                first += 1;
            }
            most = most.max(number + 1 - first);
        }
        most
    }
}

#[async_trait]
impl AppCodes for Failing {
    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        Err(self.fail(target))
    }

    async fn reset_code(&self, target: &Target, _: &AppCode, _: &Echo) -> Result<App, CloudError> {
        Err(self.fail(target))
    }

    async fn add_code(&self, target: &Target, _: &Echo) -> Result<App, CloudError> {
        Err(self.fail(target))
    }

    async fn delete_code(&self, target: &Target, _: &AppCode) -> Result<App, CloudError> {
        Err(self.fail(target))
    }
}

/// Many resources, each of an app and with credentials of its own, so that the rate over all is what holds them.
fn many_that_fail() -> (World, Arc<Failing>) {
    let mut world = World::direct();
    world.stage.judge.go_blind();
    let failing = Arc::new(Failing {
        time: world.stage.time.clone(),
        asked: Mutex::default(),
    });
    world.make.instead = Some(failing.clone());
    world.restart();
    for number in 0..MANY {
        let name = format!("many-{number}");
        let credentials = format!("{CREDENTIALS}-{number}");
        world
            .stage
            .create_secret(&credentials, &[("accessKey", &name), ("secretKey", "x")]);
        world.stage.create_rotation_named(&name, |spec| {
            spec["appId"] = json!(format!("app-{number}"));
            spec["credentialsRef"] = json!({ "name": credentials });
            spec["schedule"] = json!({ "interval": "10m" });
        });
    }
    (world, failing)
}

/// Lets time pass without keeping notes of it. Returns the most memory in use meanwhile, in KiB.
async fn pass(world: &mut World, time: SignedDuration) -> usize {
    let mut most = 0;
    let end = world.stage.time.truth() + time;
    while world.stage.time.truth() < end {
        world
            .run_for(SignedDuration::from_mins(1).min(end.duration_since(world.stage.time.truth())))
            .await;
        assert_eq!(world.stage.api.violations(), Vec::<String>::new());
        world.stage.api.forget();
        world.stage.script.begin(Vec::new());
        most = most.max(resident());
    }
    most
}

/// Memory in use by this process, in KiB.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap().trim_end_matches("kB").trim().parse().unwrap()
}

/// Whether this process runs one test only.
pub(super) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// Runs a test in a process of its own: what other tests take and give back would be measured too. Returns the line that
/// it prints of its memory.
pub(super) fn alone(name: &str) -> String {
    let program = std::env::current_exe().unwrap();
    let output = Command::new(program)
        .args(["--exact", name, "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(text.contains("1 passed"), "{text}");
    let told = text.lines().find(|line| line.contains("memory:"));
    told.unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn a_thousand_resources_that_always_fail_stay_within_the_rate_and_in_memory() {
    if !is_alone() {
        let told = alone("hostile::storms::a_thousand_resources_that_always_fail_stay_within_the_rate_and_in_memory");
        println!("{told}");
        return;
    }
    let (mut world, failing) = many_that_fail();
    pass(&mut world, START).await;
    assert!(failing.asked.lock().unwrap().len() >= MANY, "each was looked at");
    let first = pass(&mut world, HALF).await;
    let second = pass(&mut world, HALF).await;
    let GuardOptions { global_rate, burst, .. } = GuardOptions::default();
    for seconds in [1_u32, 10, 60, 600] {
        let most = failing.most_within(SignedDuration::from_secs(seconds.into()));
        let allowed = f64::from(10 * burst) + global_rate * f64::from(seconds) + 1.0;
        let most = f64::from(u32::try_from(most).unwrap());
        assert!(
            most <= allowed,
            "{most} calls within {seconds} s; {allowed} are allowed"
        );
    }
    let total = failing.asked.lock().unwrap().len();
    println!("memory: {total} calls, {first} KiB at most in the first half, {second} KiB in the second");
    assert_eq!(world.ctx.queue.len(), MANY, "one place each");
    assert!(second <= first + MOST_GROWTH, "{first} KiB have become {second} KiB");
}

/// A resource whose cloud takes every reset, says 200 and shows the app as it was.
async fn before_a_deaf_cloud() -> World {
    let mut world = World::settled().await;
    world.make.settings.limits.daily_budget = 6;
    world.make.settings.rules.daily_budget = 6;
    world.restart();
    let app = world.stage.cloud.with(|cloud| cloud.app(&world.stage.app)).unwrap();
    let body = json!({ "app": { "app_id": world.stage.app, "app_type": "APIG", "app_codes": app.codes } });
    let fault = Fault::status_before(Reply::from(200).body(&body.to_string())).at(Operation::Reset);
    world.stage.cloud.with(|cloud| cloud.inject(fault));
    world
}

/// Nothing was changed so far, and a cloud that hears again is asked for one rotation.
async fn assert_nothing_was_lost(world: &mut World, old: Option<String>) {
    world.assert_sound();
    assert_eq!((world.code(), world.mutations()), (old, 0));
    world.stage.cloud.with(cloud_simulator::Cloud::clear_all);
    world.run_for(SignedDuration::from_hours(5)).await;
    world.assert_ready();
    assert!((1..=2).contains(&world.mutations()), "{}", world.mutations());
}

#[tokio::test]
async fn a_cloud_that_always_says_200_with_the_old_code_is_asked_within_the_budget() {
    const DAYS: usize = 3;
    let mut world = before_a_deaf_cloud().await;
    let (old, shows) = (world.code(), world.calls(Operation::Show));
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["schedule"] = json!({ "interval": "4h" }));
    world.run_for(SignedDuration::from_hours(24 * 3)).await;
    let resets = world.calls(Operation::Reset);
    // One rotation is open all the time; its pauses double from the settle window to four hours.
    assert!((DAYS..=DAYS * 12).contains(&resets), "{resets} resets in {DAYS} days");
    let shows = world.calls(Operation::Show) - shows;
    assert!(shows <= DAYS * 200, "{shows} readings in {DAYS} days");
    assert_nothing_was_lost(&mut world, old).await;
}

#[tokio::test]
async fn edits_without_end_do_not_make_a_deaf_cloud_be_asked_more_often_than_once_in_a_settle_window() {
    let mut world = before_a_deaf_cloud().await;
    let (old, shows) = (world.code(), world.calls(Operation::Show));
    for number in 0..180 {
        world.stage.set_trigger(&number.to_string());
        world.run_for(SignedDuration::from_secs(20)).await;
    }
    let resets = world.calls(Operation::Reset);
    assert!((1..=30).contains(&resets), "{resets} resets in an hour");
    let shows = world.calls(Operation::Show) - shows;
    assert!(shows <= 2 * 180 + 30, "{shows} readings for 180 edits");
    // Each of the six may have been started for another edit, and then the day's budget is used up.
    world.run_for(SignedDuration::from_hours(25)).await;
    assert_nothing_was_lost(&mut world, old).await;
}
