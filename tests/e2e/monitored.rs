//! The operator as a real Prometheus sees it: all that it tells is well-formed, and each query of the alerts and of the dashboard
//! is evaluated over a run with rotations, a failure and a recovery.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use appcode_operator::clock::{Clock, SystemClock};
use control_plane::Prometheus;
use serde_json::{Value, json};

use crate::alerts::{dashboard, rules};
use crate::prometheus::Server;
use crate::stage::{PATIENCE, Stage};
use crate::{FLAGS, message, stage_with};

fn seconds() -> i64 {
    SystemClock::start().now().as_second()
}

/// What `promtool check metrics` finds.
async fn findings(metrics: &str) -> String {
    let promtool = Prometheus::obtain().await.unwrap().promtool;
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(metrics.as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said
}

/// Waits until a query gives something in what was scraped so far.
async fn until_seen(stage: &Stage, server: &Server, query: &str) {
    let start = std::time::Instant::now();
    while server.now(query).await.is_empty() {
        assert!(start.elapsed() < PATIENCE, "{query}: {}", stage.last_words());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_is_answered_over_a_run_with_rotations_a_failure_and_a_recovery() {
    let is_other = |flag: &&str| !flag.starts_with("--caller-rate");
    let flags: Vec<&str> = FLAGS
        .iter()
        .copied()
        .filter(is_other)
        .chain(["--caller-rate=2"])
        .collect();
    let mut stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &flags).await;
    stage.start_operator();
    let begin = seconds();
    stage.namespace("a");
    let app = stage.app(1);
    let resource = |more| stage.rotation("a", "one", &app.app_id, &more);
    stage.apply(&resource(json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    let server = Server::start(&stage.admin_address()).await;
    until_seen(&stage, &server, "appcode_resources == 1").await;

    // A rotation, by a schedule that goes on.
    stage.apply(&resource(json!({"schedule": {"interval": "20s", "jitter": "0s"}})));
    until_seen(
        &stage,
        &server,
        r#"sum(increase(appcode_rotations_total{trigger="Schedule"}[1m])) > 0"#,
    )
    .await;
    until_seen(&stage, &server, "appcode_rotation_next_timestamp_seconds > time()").await;

    // Others with the same credentials, so many at once that they wait for their turns.
    let other = |number| {
        let app = stage.app(1);
        stage.rotation("a", &format!("other-{number}"), &app.app_id, &json!({}))
    };
    let others: Vec<Value> = (0..40).map(other).collect();
    let others = json!({"apiVersion": "v1", "kind": "List", "items": others});
    stage.apply(&others);
    until_seen(&stage, &server, "sum(increase(appcode_postponed_calls_total[1m])) > 0").await;
    stage.send(&["delete", "--wait=false", "-f", "-"], &others.to_string());

    // Bad credentials, for so long that the next rotation is late.
    stage.credentials("a", "no-such-key", "wrong");
    let alert = |name: &str| {
        let rule = rules().into_iter().find(|rule| rule["alert"] == name).unwrap();
        rule["expr"].as_str().unwrap().to_owned()
    };
    let refused = alert("AppCodeAuthorizationFailing");
    until_seen(&stage, &server, "appcode_overdue_resources > 0").await;
    until_seen(&stage, &server, &refused).await;
    assert!(message(&stage.status("a", "one"), "Stalled").starts_with("CredentialsRejected"));

    // Good ones again.
    stage.credentials("a", &stage.user.ak, &stage.user.sk);
    until_seen(&stage, &server, "sum(appcode_stalled_resources) == 0").await;
    until_seen(&stage, &server, "appcode_overdue_resources == 0").await;
    assert!(server.now(&refused).await.is_empty());
    let end = seconds();

    for (panel, query) in dashboard() {
        let query = query.replace("$namespace", ".*").replace("$__rate_interval", "10s");
        assert!(!query.contains('$'), "{query}");
        let series = server.range(&query, begin, end).await;
        assert!(!series.is_empty(), "{panel}: {query}");
    }
    for rule in rules() {
        server.range(rule["expr"].as_str().unwrap(), begin, end).await;
    }
    let loaded = server.ask("rules", &[("type", "alert")]).await;
    let loaded = loaded["groups"][0]["rules"].as_array().unwrap().clone();
    assert_eq!(loaded.len(), rules().len());
    for rule in loaded {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    // Scraped in OpenMetrics, without a sample that Prometheus would not take.
    let targets = server.ask("targets", &[("state", "active")]).await;
    assert_eq!(targets["activeTargets"][0]["lastError"], "", "{targets}");

    let metrics = stage.metrics_as("text/plain;version=0.0.4").await;
    assert_eq!(findings(&metrics).await, "");
    assert!(metrics.contains(r#"appcode_rotation_next_timestamp_seconds{namespace="a",name="one"}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn series_of_a_resource_end_with_it_and_can_be_limited() {
    let stage = stage_with(&["--resource-metrics=1"]).await;
    stage.namespace("a");
    let series = async || {
        let text = stage.metrics().await;
        let is_ours = |line: &&str| line.starts_with("appcode_rotation_last_success_timestamp_seconds{");
        let names = text
            .lines()
            .filter(is_ours)
            .map(|line| line.split('"').nth(3).unwrap().to_owned());
        let hidden = text
            .lines()
            .find_map(|line| line.strip_prefix("appcode_resources_without_series "));
        (names.collect::<Vec<_>>(), hidden.unwrap().to_owned())
    };
    for name in ["old", "new"] {
        let app = stage.app(1);
        stage.apply(&stage.rotation("a", name, &app.app_id, &json!({"initialRotation": "Immediate"})));
        stage.until_ready("a", name, &app.app_id).await;
        // Ages are told in seconds.
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    assert_eq!(series().await, (vec!["old".to_owned()], "1".to_owned()));
    stage.kubectl(&["delete", "acr", "old", "-n", "a"]);
    let start = std::time::Instant::now();
    while series().await != (vec!["new".to_owned()], "0".to_owned()) {
        assert!(start.elapsed() < PATIENCE, "{:?}", series().await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
