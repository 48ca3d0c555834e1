//! The trace of calls in the log: each one with what came of it and the cloud's id of it, and nothing of what it carried.

use appcode_operator::args::LogFormat;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};

use super::*;
use crate::hostile::logs::Kept;

/// The lines that tell of a call, without when and how long.
fn calls(kept: &Kept) -> Vec<Value> {
    let mut lines = kept.lines();
    lines.retain(|line| line["message"] == "called the cloud");
    for line in &mut lines {
        assert_eq!(line["level"], "DEBUG");
        assert!(line["took_ms"].is_u64(), "{line}");
        let fields = line.as_object_mut().unwrap();
        fields.retain(|name, _| ["operation", "outcome", "status", "request_id"].contains(&name.as_str()));
    }
    lines
}

#[tokio::test]
async fn each_call_is_traced_with_its_outcome_and_the_clouds_id_of_it() {
    let kept = Kept::default();
    let guard = kept.start_at(LogFormat::Json, "debug");
    let iam = Server::start(|_| {
        let headers = [
            ("X-Subject-Token", "canary-token"),
            ("X-Request-Id", "id-of-the-sign-in"),
        ];
        Reply::new(201, &headers, b"{}")
    });
    let good = Server::start(|_| Reply::new(200, &[("X-Request-Id", "id-good")], app_json(&[NEW]).as_bytes()));
    let body = json!({"error_code": "ModelArts.0104", "error_msg": "no"}).to_string();
    let bad = Server::start(move |_| Reply::new(403, &[("X-Request-Id", "id-bad")], body.as_bytes()));
    for server in [&good, &bad] {
        let outcomes = each_call(&client(), &target(&server.origin, &iam.origin, keys())).await;
        assert_eq!(
            outcomes.iter().all(|(_, outcome)| outcome.is_ok()),
            server.origin == good.origin
        );
    }
    let by_password = target(&good.origin, &iam.origin, password());
    client().show_app(&by_password).await.unwrap();
    let nobody = target(&Server::nowhere(), &iam.origin, keys());
    client().show_app(&nobody).await.unwrap_err();
    drop(guard);

    let operations = ["show", "reset", "add", "delete"];
    let good =
        |operation: &str| json!({"operation": operation, "outcome": "ok", "status": 200, "request_id": "id-good"});
    let bad = |operation: &str| json!({"operation": operation, "outcome": "not_authorized", "status": 403, "request_id": "id-bad"});
    let mut expected: Vec<Value> = operations.iter().map(|operation| good(operation)).collect();
    expected.extend(operations.iter().map(|operation| bad(operation)));
    expected.push(json!({"operation": "sign_in", "outcome": "ok", "status": 201, "request_id": "id-of-the-sign-in"}));
    expected.push(good("show"));
    expected.push(json!({"operation": "show", "outcome": "not_sent"}));
    assert_eq!(calls(&kept), expected);
    let text = kept.text();
    for secret in [CODE, NEW, ACCESS_KEY, SECRET_KEY, "anary", "://", "app-auth"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn an_id_that_repeats_a_secret_is_not_told() {
    let kept = Kept::default();
    let guard = kept.start(LogFormat::Json);
    let iam = Server::start(|_| {
        let headers = [("X-Subject-Token", "canary-token"), ("X-Request-Id", "canary-token")];
        Reply::new(201, &headers, b"{}")
    });
    for id in [CODE, NEW, "canary-token"] {
        let server = Server::start(move |_| Reply::new(200, &[("X-Request-Id", id)], app_json(&[NEW]).as_bytes()));
        let target = target(&server.origin, &iam.origin, password());
        let app = client().reset_code(&target, &code(CODE), &echo()).await.unwrap();
        assert_eq!(app.request_id, None, "{id}");
    }
    drop(guard);
    let text = kept.text();
    assert_eq!(calls(&kept).len(), 6, "each call and its sign-in");
    for secret in [CODE, NEW, "canary-token"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
