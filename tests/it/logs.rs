//! What stands on the lines of the log, and how few there are when nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use appcode_operator::args::LogFormat;
use appcode_operator::modelarts::{App, AppCode, AppCodes, CloudError, Echo, Target};
use async_trait::async_trait;
use cloud_simulator::{Fault, Operation};
use jiff::SignedDuration;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use crate::hostile::logs::Kept;
use crate::support::World;
use crate::support::stage::{NAME, NAMESPACE};

/// The rotation of the lines that come from a pass, where one is named.
fn rotations(lines: &[Value]) -> Vec<&str> {
    let mut ids: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["span"]["rotation_id"].as_str())
        .collect();
    ids.dedup();
    ids
}

fn of_message<'a>(lines: &'a [Value], message: &str) -> Vec<&'a Value> {
    lines.iter().filter(|line| line["message"] == message).collect()
}

#[tokio::test]
async fn every_line_of_a_pass_names_its_resource_and_from_its_start_to_its_end_the_rotation() {
    let mut world = World::settled().await;
    let kept = Kept::default();
    let guard = kept.start_at(LogFormat::Json, "debug");
    let lost = Fault::cut_after().at(Operation::Reset);
    world.stage.cloud.with(|cloud| cloud.inject(lost.once()));
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    drop(guard);
    world.assert_ready();
    let mut lines = kept.lines();
    // The simulated cloud tells of itself.
    lines.retain(|line| {
        line["target"]
            .as_str()
            .is_some_and(|target| target.starts_with("appcode_operator"))
    });
    let resource = format!("{NAMESPACE}/{NAME}");
    for line in &lines {
        assert_eq!(line["span"]["resource"], resource.as_str(), "{line}");
        assert_eq!(line["span"]["name"], "reconcile");
        assert_eq!(line["spans"], Value::Null, "said once");
    }
    let id = world.status().history[0].rotation_id.clone();
    assert_eq!(rotations(&lines), [id.as_str()]);
    let named = |line: &Value| line["span"]["rotation_id"] == id.as_str();
    let marked = lines
        .iter()
        .position(|line| line["message"] == "rotation marked")
        .unwrap();
    let written = lines
        .iter()
        .position(|line| line["message"] == "code written into the Secret")
        .unwrap();
    let whole = &lines[marked..=written];
    let bare: Vec<&Value> = whole.iter().filter(|line| !named(line)).collect();
    // A pass that goes on with it knows of it once the Secret is read, which it tells nothing of.
    assert_eq!(bare, Vec::<&Value>::new());
    assert_eq!(of_message(&lines, "the call did not succeed").len(), 1);
    // The event of it is a line as well.
    let told = lines.iter().find(|line| line["reason"] == "Rotated").unwrap();
    assert!(named(told), "{told}");
}

/// A newer version may have left a word in a resource that this one does not know, as after a rollback.
#[tokio::test]
async fn a_resource_that_cannot_be_read_is_told_of_without_what_is_in_it() {
    const SEED: &str = "a-seed-of-a-person";
    let mut world = World::settled().await;
    let code = world.live().remove(0);
    world.stage.edit_rotation(NAME, |object| {
        object["spec"]["appCode"] = json!(SEED);
        object["status"]["appCode"] = json!(code);
        object["status"]["phase"] = json!("Resting");
    });
    let kept = Kept::default();
    let guard = kept.start_at(LogFormat::Json, "trace");
    world.run_for(SignedDuration::from_mins(10)).await;
    drop(guard);
    let lines = kept.lines();
    assert!(
        lines.iter().any(|line| line.to_string().contains("Resting")),
        "nobody is told why"
    );
    let leaking: Vec<&Value> = lines
        .iter()
        .filter(|line| {
            [SEED, code.as_str()]
                .iter()
                .any(|secret| line.to_string().contains(secret))
        })
        .collect();
    assert_eq!(leaking, Vec::<&Value>::new());
}

#[tokio::test]
async fn what_came_of_a_change_is_told_with_the_clouds_id_of_it() {
    let mut world = World::settled().await;
    let kept = Kept::default();
    let guard = kept.start_at(LogFormat::Json, "info");
    let refused = Fault::status_before(429).at(Operation::Reset);
    world.stage.cloud.with(|cloud| cloud.inject(refused.once()));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_hours(1)).await;
    drop(guard);
    world.assert_ready();
    let lines = kept.lines();
    for (message, count) in [("the call did not succeed", 1), ("the call succeeded", 1)] {
        let told = of_message(&lines, message);
        assert_eq!(told.len(), count, "{message}");
        for line in told {
            assert_eq!(line["operation"], "reset");
            assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
            assert!(line["span"]["rotation_id"].is_string(), "{line}");
        }
    }
}

/// A filter that lets only warnings through must not take the resource from them.
#[tokio::test]
async fn a_warning_names_its_resource_whatever_the_level() {
    let mut world = World::settled().await;
    let kept = Kept::default();
    let guard = kept.start_at(LogFormat::Json, "warn");
    world.stage.delete_secret(crate::support::stage::CREDENTIALS);
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_mins(10)).await;
    drop(guard);
    let lines = kept.lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0]["reason"], "CredentialsMissing");
    assert_eq!(lines[0]["span"]["resource"], format!("{NAMESPACE}/{NAME}"));
}

/// A cloud in which each app has one code, and nothing ever changes.
struct Still {
    shown: AtomicUsize,
    changed: AtomicUsize,
}

impl Still {
    fn answer(target: &Target) -> App {
        App {
            name: None,
            remark: None,
            app_type: None,
            owner: None,
            caller: None,
            updated_at: None,
            codes: vec![AppCode::parse(format!("code-of-{}", target.app.app_id)).unwrap()],
            masked: false,
            request_id: Some("request".into()),
        }
    }

    fn change(&self, target: &Target) -> App {
        self.changed.fetch_add(1, Ordering::Relaxed);
        Self::answer(target)
    }
}

#[async_trait]
impl AppCodes for Still {
    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        self.shown.fetch_add(1, Ordering::Relaxed);
        Ok(Self::answer(target))
    }

    async fn reset_code(&self, target: &Target, _: &AppCode, _: &Echo) -> Result<App, CloudError> {
        Ok(self.change(target))
    }

    async fn add_code(&self, target: &Target, _: &Echo) -> Result<App, CloudError> {
        Ok(self.change(target))
    }

    async fn delete_code(&self, target: &Target, _: &AppCode) -> Result<App, CloudError> {
        Ok(self.change(target))
    }
}

/// Lets time pass without keeping notes of it.
async fn pass(world: &mut World, minutes: i64) {
    let end = world.stage.time.truth() + SignedDuration::from_mins(minutes);
    while world.stage.time.truth() < end {
        let left = end.duration_since(world.stage.time.truth());
        world.run_for(left.min(SignedDuration::from_mins(1))).await;
        world.stage.api.forget();
        world.stage.script.begin(Vec::new());
    }
}

/// With their hourly checks, and everything else that comes by itself. `QUIET_RESOURCES=1000` asks for more; it takes minutes.
#[tokio::test]
async fn a_quiet_hour_of_a_large_fleet_is_a_handful_of_lines() {
    let many = std::env::var("QUIET_RESOURCES").map_or(300, |text| text.parse().unwrap());
    let mut world = World::direct();
    world.stage.judge.go_blind();
    let cloud = Arc::new(Still {
        shown: AtomicUsize::new(0),
        changed: AtomicUsize::new(0),
    });
    world.make.instead = Some(cloud.clone());
    world.restart();
    // A hundred keys, so that the rate of one key makes no check rarer.
    for key in 0..100 {
        let keys = [("accessKey", "key"), ("secretKey", "secret")];
        world.stage.create_secret(&format!("keys-{key}"), &keys);
    }
    for number in 0..many {
        world.stage.create_rotation_named(&format!("idle-{number}"), |spec| {
            spec["appId"] = json!(format!("app-{number}"));
            spec["credentialsRef"] = json!({"name": format!("keys-{}", number % 100)});
            spec["schedule"] = json!({"interval": "720h"});
        });
        // As many as the rate over all allows to be taken over in a minute.
        if number % 100 == 99 {
            pass(&mut world, 1).await;
        }
    }
    pass(&mut world, 5).await;
    let before = cloud.shown.load(Ordering::Relaxed);
    let kept = Kept::default();
    let guard = kept.start_at(LogFormat::Json, "info");
    pass(&mut world, 60).await;
    drop(guard);
    let checks = cloud.shown.load(Ordering::Relaxed) - before;
    assert!((many * 9 / 10..=many * 5 / 4).contains(&checks), "{checks} checks");
    assert_eq!(cloud.changed.load(Ordering::Relaxed), 0);
    let text = kept.text();
    let lines = text.lines().count();
    println!("{lines} lines in a quiet hour with {many} resources and {checks} checks");
    assert!(lines <= 5, "{text}");
}
