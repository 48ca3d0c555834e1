//! What the metrics say of what was done.

use std::collections::BTreeMap;
use std::time::Duration;

use appcode_operator::health::Health;
use appcode_operator::leader::Standing;
use appcode_operator::metrics::Format;
use cloud_simulator::{Fault, Operation};
use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pretty_assertions::assert_eq;
use serde_json::json;

use crate::support::World;
use crate::support::api_server::ROTATIONS;
use crate::support::script::{ApiFault, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};

/// Every sample of the running process that is not 0.
fn samples(world: &World) -> BTreeMap<String, String> {
    let text = world.ctx.scrape(Format::OpenMetrics, &Health::of(&world.ctx));
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let samples = samples.map(|line| line.rsplit_once(' ').unwrap());
    samples
        .filter(|(_, value)| *value != "0")
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn told(world: &World, name: &str) -> String {
    samples(world).remove(name).unwrap_or_else(|| "0".to_owned())
}

fn rotations(world: &World) -> Vec<(String, String)> {
    let samples = samples(world).into_iter();
    samples
        .filter(|(name, _)| name.starts_with("appcode_rotations_total"))
        .collect()
}

#[tokio::test]
async fn one_rotation_counts_one() {
    let mut world = World::settled().await;
    assert_eq!(rotations(&world), []);
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_ready();
    let name = r#"appcode_rotations_total{trigger="Spec",strategy="Reset",outcome="Completed"}"#;
    assert_eq!(rotations(&world), [(name.to_owned(), "1".to_owned())]);
    for (name, expected) in [
        ("appcode_rotation_exposure_seconds_count", 1),
        (r#"appcode_cloud_calls_total{operation="reset",outcome="ok"}"#, 1),
        (
            r#"appcode_cloud_calls_total{operation="show",outcome="ok"}"#,
            world.calls(Operation::Show),
        ),
        (r#"appcode_cloud_call_duration_seconds_count{operation="reset"}"#, 1),
        ("appcode_resources", 1),
        ("appcode_unsaved_codes", 0),
    ] {
        assert_eq!(told(&world, name), expected.to_string(), "{name}");
    }
    let passes = told(&world, r#"appcode_reconciles_total{result="ok"}"#);
    assert_eq!(told(&world, "appcode_reconcile_duration_seconds_count"), passes);
}

#[tokio::test]
async fn a_rotation_whose_answer_is_lost_is_counted_as_recovered_and_without_exposure() {
    let mut world = World::settled().await;
    let fault = Fault::cut_after().at(Operation::Reset).once();
    world.stage.cloud.with(|cloud| cloud.inject(fault));
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    world.assert_ready();
    let name = r#"appcode_rotations_total{trigger="Spec",strategy="Reset",outcome="Recovered"}"#;
    assert_eq!(rotations(&world), [(name.to_owned(), "1".to_owned())]);
    assert_eq!(told(&world, "appcode_rotation_exposure_seconds_count"), "0");
    let name = r#"appcode_cloud_calls_total{operation="reset",outcome="unknown_outcome"}"#;
    assert_eq!(told(&world, name), "1");
}

fn unfinished(world: &World) -> Vec<(String, String)> {
    let samples = samples(world).into_iter();
    samples
        .filter(|(name, _)| name.starts_with("appcode_rotations_unfinished_total"))
        .collect()
}

#[tokio::test]
async fn a_rotation_without_effect_counts_when_another_one_takes_its_place() {
    let mut world = World::settled().await;
    let lost = Fault::status_before(500).at(Operation::Reset).once();
    world.stage.cloud.with(|cloud| cloud.inject(lost));
    world.stage.set_trigger("one");
    world.run_for(SignedDuration::from_secs(10)).await;
    // What asked for it is withdrawn before its call could be made again.
    world.stage.set_trigger("two");
    world.run_to_rest().await;
    world.assert_ready();
    let name = r#"appcode_rotations_unfinished_total{outcome="NoEffect"}"#;
    assert_eq!(unfinished(&world), [(name.to_owned(), "1".to_owned())]);
    assert_eq!(rotations(&world).len(), 1);
}

#[tokio::test]
async fn a_code_that_cannot_be_saved_shows_until_it_is() {
    let mut world = World::settled().await;
    world.stage.set_trigger("one");
    let strike = Strike::Api(Moment::Before, ApiFault::Status(500));
    let is_patch = |call: &Call| matches!(call, Call::Api { verb: Verb::Patch, .. });
    world.stage.script.begin_lasting(strike, 1, is_patch);
    world.run_for(SignedDuration::from_mins(2)).await;
    assert_eq!(told(&world, "appcode_unsaved_codes"), "1");
    assert_ne!(told(&world, r#"appcode_reconciles_total{result="failed"}"#), "0");
    assert_eq!(rotations(&world), []);
    world.stage.script.begin(Vec::new());
    world.run_for(SignedDuration::from_mins(2)).await;
    world.assert_ready();
    assert_eq!(told(&world, "appcode_unsaved_codes"), "0");
    assert_eq!(rotations(&world).len(), 1);
}

/// Its queue is full, and no worker of its own takes from it: that is no wait and no backlog.
#[tokio::test]
async fn a_replica_that_stands_by_tells_of_no_queue_and_waits_count_from_the_lead_on() {
    let mut world = World::settled().await;
    let levels = |world: &World| {
        let names = ["queue_depth", "queue_oldest_seconds", "backlog_seconds"];
        names.map(|name| told(world, &format!("appcode_{name}")))
    };
    let until = Duration::from_secs(90);
    world.ctx.leadership.set(Standing::Follows {
        leader: "another".into(),
        until,
    });
    world.stage.set_trigger("one");
    world.process.sync(&world.stage);
    world.stage.wait(Duration::from_secs(7200));
    assert_eq!(levels(&world), ["0", "0.0", "0.0"]);
    assert_eq!(told(&world, "appcode_resources"), "1");

    let until = Duration::MAX;
    world.ctx.leadership.set(Standing::Leads { until });
    world.stage.wait(Duration::from_secs(40));
    let [depth, oldest, backlog] = levels(&world);
    assert_eq!((depth.as_str(), oldest.as_str()), ("1", "40.0"));
    assert_ne!(backlog, "0.0");
    world.ctx.leadership.set(Standing::Leads { until });
    assert_eq!(levels(&world)[1], "40.0", "a renewal begins no lead");
    let waits = |world: &World| told(world, "appcode_queue_wait_seconds_sum").parse::<f64>().unwrap();
    let before = waits(&world);
    world.run_to_rest().await;
    let waited = waits(&world) - before;
    assert!((40.0..60.0).contains(&waited), "{waited}");
    world.assert_ready();
}

#[tokio::test]
async fn the_times_of_a_resource_and_what_is_late_or_stopped_show_and_go_with_it() {
    let mut world = World::settled().await;
    let name =
        |metric| format!(r#"appcode_rotation_{metric}_timestamp_seconds{{namespace="{NAMESPACE}",name="{NAME}"}}"#);
    let (last, next) = (name("last_success"), name("next"));
    assert_eq!([told(&world, &last), told(&world, &next)], ["0", "0"]);

    let schedule = json!({"interval": "2h", "jitter": "0s"});
    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["schedule"] = schedule);
    world.stage.set_trigger("one");
    world.run_to_rest().await;
    let status = world.status();
    let seconds = |time: &Option<Time>| time.as_ref().unwrap().0.as_second().to_string();
    assert_eq!(told(&world, &last), seconds(&status.last_rotation_time));
    assert_eq!(told(&world, &next), seconds(&status.next_rotation_time));
    let late = ["appcode_overdue_resources", "appcode_overdue_seconds"];
    assert_eq!(late.map(|name| told(&world, name)), ["0", "0.0"]);

    // An hour after it was due the credentials are still bad.
    world
        .stage
        .edit_secret("credentials", &[("accessKey", "no-such-key"), ("secretKey", "wrong")]);
    world.run_for(SignedDuration::from_hours(3)).await;
    assert_eq!(told(&world, late[0]), "1");
    let age: f64 = told(&world, late[1]).parse().unwrap();
    assert!((3000.0..4200.0).contains(&age), "{age}");
    for metric in ["stalled", "unready"] {
        let name = format!(r#"appcode_{metric}_resources{{reason="CredentialsRejected"}}"#);
        assert_eq!(told(&world, &name), "1", "{metric}");
    }
    assert_eq!(told(&world, &next), seconds(&status.next_rotation_time));

    world
        .stage
        .edit_rotation(NAME, |object| object["spec"]["suspend"] = json!(true));
    world.run_for(SignedDuration::from_mins(1)).await;
    assert_eq!((told(&world, late[0]), told(&world, &next)), ("0".into(), "0".into()));

    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
    world.run_for(SignedDuration::from_mins(1)).await;
    let text = world.ctx.scrape(Format::OpenMetrics, &Health::of(&world.ctx));
    assert!(!text.contains(NAMESPACE), "{text}");
    assert_eq!(told(&world, "appcode_resources"), "0");
}
