//! No secret shows anywhere but in the Secrets, whatever fails and however much is logged.

use std::time::Duration;

use cloud_simulator::{Fault, NewApp, Operation, Reply};
use k8s_openapi::ByteString;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::{message, stage};

/// The spellings in which a secret could slip out.
pub fn spellings(secret: &str) -> Vec<String> {
    let base64 = serde_json::to_value(ByteString(secret.as_bytes().to_vec())).unwrap();
    let base64 = base64.as_str().unwrap().trim_end_matches('=').to_owned();
    let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let escaped = serde_json::to_string(secret).unwrap();
    vec![
        secret.to_owned(),
        base64,
        percent.to_lowercase(),
        percent,
        escaped.trim_matches('"').to_owned(),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_logs_at_trace_level_events_status_or_the_audit_log() {
    let mut stage = stage().await;
    stage.namespace("a");
    let odd = "Aa+_!@#$%-=Bb1".repeat(6);
    let odd = stage
        .cloud
        .create_app(NewApp::of(&stage.user.user_id, &stage.project).code(&odd));
    let plain = stage.app(1);
    let (password, domain) = (stage.user.password.clone(), stage.user.account_name.clone());
    stage.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "password", "namespace": "a"},
        "stringData": {"domainName": domain, "userName": stage.user.name, "password": password},
    }));
    let token = stage.cloud.issue_token(&stage.user.user_id, &stage.project);
    stage.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "token", "namespace": "a"}, "stringData": {"token": token},
    }));
    let by_token = stage.app(1);

    // Everything that answers with an error may repeat what was sent: the simulated cloud does its worst by default.
    stage
        .cloud
        .inject(Fault::cut_after().at(Operation::Reset).app(&odd.app_id).once());
    stage.cloud.inject(
        Fault::status_after(Reply::from(500))
            .at(Operation::Reset)
            .app(&plain.app_id)
            .once(),
    );
    stage.cloud.inject(
        Fault::status_before(Reply::from(503))
            .at(Operation::Show)
            .app(&by_token.app_id)
            .times(2),
    );
    let immediate = json!({"initialRotation": "Immediate"});
    stage.apply(&stage.rotation("a", "odd", &odd.app_id, &immediate));
    let with = |name| json!({"initialRotation": "Immediate", "credentialsRef": {"name": name}});
    stage.apply(&stage.rotation("a", "plain", &plain.app_id, &with("password")));
    stage.apply(&stage.rotation("a", "by-token", &by_token.app_id, &with("token")));
    for (name, app) in [("odd", &odd), ("plain", &plain), ("by-token", &by_token)] {
        stage.until_ready("a", name, &app.app_id).await;
        assert_eq!(stage.resets(&app.app_id), 1, "{name}");
    }
    // A wrong signature makes the gateway quote the request, path included.
    stage.credentials("a", &stage.user.ak, "wrong-secret-key-that-is-a-canary-too");
    stage.kubectl(&[
        "annotate",
        "acr",
        "odd",
        "-n",
        "a",
        "appcode.dev/rotate-requested-at=now",
    ]);
    stage
        .until("the wrong key is refused", || {
            message(&stage.status("a", "odd"), "Stalled").starts_with("Cred")
        })
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await; // the last lines of the logs
    stage.end_operator("TERM");

    let mut seen = vec![
        ("log", std::fs::read_to_string(&stage.log).unwrap()),
        (
            "audit log",
            std::fs::read_to_string(stage.plane.audit_log().unwrap()).unwrap(),
        ),
    ];
    assert!(seen[0].1.contains("\"TRACE\""), "the log is at trace level");
    for kind in [
        "acr",
        "events",
        "events.v1.events.k8s.io",
        "namespaces",
        "configmaps",
        "serviceaccounts",
    ] {
        seen.push((kind, stage.kubectl(&["get", kind, "-A", "-o", "json"])));
    }
    let mut secrets = stage.cloud.ledger().secrets();
    secrets.extend([
        stage.user.sk.clone(),
        password,
        token,
        "wrong-secret-key-that-is-a-canary-too".to_owned(),
    ]);
    assert!(secrets.len() >= 10);
    for (place, text) in &seen {
        assert!(!text.is_empty());
        for secret in &secrets {
            for spelling in spellings(secret) {
                let line = text.lines().find(|line| line.contains(&spelling));
                assert!(line.is_none(), "{place} shows {spelling}: {}", line.unwrap_or_default());
            }
        }
    }
}
