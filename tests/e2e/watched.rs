//! `--watch-secrets`: quick repair where the right is granted, and nothing else where it is not.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::rights::lines;
use crate::stage::Stage;

/// No check comes while this lasts.
const FLAGS: &[&str] = &["--watch-secrets", "--check-period=6h", "--caller-rate=50", "--log=info"];

/// What the log says of the watch, oldest first.
fn told(stage: &Stage) -> Vec<String> {
    let log = stage.log_text();
    let lines = log
        .lines()
        .filter(|line| line.contains("watch on Secrets") || line.contains("kube_runtime"));
    let message = |line| {
        serde_json::from_str::<Value>(line).unwrap()["message"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    lines.map(message).collect()
}

/// How often the operator has listed Secrets or begun to watch them.
fn asked(stage: &Stage) -> Vec<Value> {
    let is_wide = |line: &Value| {
        line["objectRef"]["resource"] == "secrets" && (line["verb"] == "list" || line["verb"] == "watch")
    };
    lines(stage).into_iter().filter(is_wide).collect()
}

async fn has(stage: &Stage, sample: &str) -> bool {
    stage.metrics().await.lines().any(|line| line == sample)
}

async fn until_metric(stage: &Stage, sample: &str) {
    for _ in 0..1000 {
        if has(stage, sample).await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("waited in vain: {sample}\n{}", stage.last_words());
}

async fn probe(stage: &Stage, path: &str) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}{path}", stage.admin_address());
    client.get(url).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_secret_is_repaired_at_once_where_secrets_may_be_watched_and_nothing_else_changes_where_not() {
    let mut stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), FLAGS).await;
    stage.start_operator();
    stage.namespace("a");
    let app = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    let code = stage.code("a", "one").unwrap();
    let secret = |field: &str| stage.get("a", "secret", "one")["metadata"][field].clone();

    // The right is lacking: that is told once, and tried again ever more seldom.
    stage
        .until("the watch is refused three times", || asked(&stage).len() >= 3)
        .await;
    assert!(has(&stage, "appcode_secret_watch_up 0").await);
    assert_eq!(
        (probe(&stage, "/livez").await, probe(&stage, "/readyz").await),
        (200, 200)
    );
    let [only] = told(&stage).try_into().unwrap();
    assert!(only.contains("needs the right to list and watch Secrets"), "{only}");
    for line in asked(&stage) {
        assert_eq!(line["responseStatus"]["code"], 403, "{line:#}");
    }

    // It is granted: the watch works without a restart, and brings no passes by itself.
    stage.allow_watching_secrets();
    until_metric(&stage, "appcode_secret_watch_up 1").await;
    stage.until("that is told too", || told(&stage).len() == 2).await;
    for line in asked(&stage) {
        let asked = line["requestURI"].as_str().unwrap();
        assert!(
            asked.contains("labelSelector=app.kubernetes.io%2Fmanaged-by%3Dappcode-operator"),
            "{asked}"
        );
    }

    let is_repaired = || stage.code("a", "one").as_ref() == Some(&code);
    let uid = secret("uid");
    stage.kubectl(&["delete", "secret", "one", "-n", "a"]);
    stage.until("the deleted one is made again", is_repaired).await;
    assert_ne!(secret("uid"), uid);

    let patch = json!({"stringData": {"appCode": "wrong"}}).to_string();
    stage.kubectl(&["patch", "secret", "one", "-n", "a", "-p", &patch]);
    stage.until("the edited one is put right", is_repaired).await;

    // One without the label is none that the watch sees any more.
    stage.kubectl(&["label", "secret", "one", "-n", "a", "app.kubernetes.io/managed-by-"]);
    let is_stopped = || crate::message(&stage.status("a", "one"), "Stalled").starts_with("SecretConflict");
    stage.until("a Secret without the label is told of", is_stopped).await;
    stage.kubectl(&[
        "label",
        "secret",
        "one",
        "-n",
        "a",
        "app.kubernetes.io/managed-by=appcode-operator",
    ]);
    stage.until_ready("a", "one", &app.app_id).await;
    assert_eq!(stage.code("a", "one").as_ref(), Some(&code));

    // A rotation is no change by somebody else.
    let hastened = |metrics: &str| {
        let sample = metrics
            .lines()
            .find_map(|line| line.strip_prefix("appcode_hastened_checks_total "));
        sample.and_then(|number| number.parse::<u32>().ok()).unwrap()
    };
    let before = hastened(&stage.metrics().await);
    assert_eq!(before, 4);
    assert_eq!(stage.resets(&app.app_id), 0, "what was listed served all along");
    stage.request_rotation("a", "one", "now");
    stage
        .until("the request is handled", || {
            stage.status("a", "one")["lastHandledRequest"] == "now"
        })
        .await;
    stage.until_ready("a", "one", &app.app_id).await;
    tokio::time::sleep(Duration::from_secs(4)).await; // longer than what would come of it
    assert_eq!(hastened(&stage.metrics().await), before);
    assert_eq!(told(&stage).len(), 2);
}
