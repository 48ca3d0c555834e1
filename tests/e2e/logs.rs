//! The level of the log changes while the program runs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::Stage;
use crate::stage_with;

impl Stage {
    /// The lines of the operator's log; it has no others.
    fn log_lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn count(&self, field: &str, value: &str) -> usize {
        self.log_lines().iter().filter(|line| line[field] == value).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_changes_the_level_without_a_restart_and_a_bad_one_is_told_once() {
    const CHANGED: &str = "the log's filter was changed";
    const PROBLEM: &str = "the file with the log's filter cannot be used; the filter stays as it was";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filter");
    std::fs::write(&file, "info\n").unwrap();
    let stage = stage_with(&[&format!("--log-from={}", file.display())]).await;
    let process = stage.operator_id();
    stage.namespace("a");
    let app = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    assert_eq!(
        stage.count("level", "DEBUG") + stage.count("level", "TRACE"),
        0,
        "not --log"
    );
    assert_eq!(stage.count("message", CHANGED), 1, "at the start");

    // A check comes every eight seconds.
    std::fs::write(&file, "appcode_operator=debug\n").unwrap();
    let is_call = |line: &Value| line["message"] == "called the cloud" && line["span"]["resource"] == "a/one";
    stage
        .until("a call is traced", || stage.log_lines().iter().any(is_call))
        .await;
    let calls = stage.log_lines();
    let call = calls.iter().find(|line| is_call(line)).unwrap();
    assert_eq!(
        (&call["operation"], &call["outcome"], &call["status"]),
        (&json!("show"), &json!("ok"), &json!(200))
    );
    assert!(call["request_id"].is_string(), "{call}");

    std::fs::write(&file, "inof\n").unwrap();
    stage
        .until("the problem is told", || stage.count("message", PROBLEM) == 1)
        .await;
    let calls = stage.log_lines().iter().filter(|line| is_call(line)).count();
    stage
        .until("the level stays", || {
            stage.log_lines().iter().filter(|line| is_call(line)).count() > calls
        })
        .await;
    tokio::time::sleep(Duration::from_secs(6)).await; // it was looked at again
    assert_eq!(stage.count("message", PROBLEM), 1);

    std::fs::remove_file(&file).unwrap();
    stage.until("--log counts", || stage.count("level", "TRACE") > 0).await;
    assert_eq!(stage.count("message", CHANGED), 3);
    assert_eq!(stage.count("message", "started"), 1);
    assert_eq!(stage.operator_id(), process);
}
