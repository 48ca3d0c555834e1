//! No secret shows anywhere but in the Secrets, whatever fails and however much is logged.

use std::time::Duration;

use cloud_simulator::wire::encode;
use cloud_simulator::{App, Fault, NewApp, Operation, Reply};
use k8s_openapi::ByteString;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use crate::stage::Stage;
use crate::{message, stage_with};

/// So much of a secret is too much.
const PIECE: usize = 20;

/// The spellings in which a secret could slip out, cut down to their ends, since a text may have been cut as well.
pub fn spellings(secret: &str) -> Vec<String> {
    let ends = |whole: String| {
        let characters: Vec<char> = whole.chars().collect();
        let rest = characters.len().saturating_sub(PIECE);
        let start: String = characters.iter().take(PIECE).collect();
        [start, characters[rest..].iter().collect()]
    };
    whole_spellings(secret).into_iter().flat_map(ends).collect()
}

fn whole_spellings(secret: &str) -> Vec<String> {
    let base64 = serde_json::to_value(ByteString(secret.as_bytes().to_vec())).unwrap();
    let base64 = base64.as_str().unwrap().trim_end_matches('=').to_owned();
    let percent = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let escaped = serde_json::to_string(secret).unwrap();
    vec![
        secret.to_owned(),
        base64,
        percent.to_lowercase(),
        percent,
        encode(secret), // as a path has it
        encode(&encode(secret)),
        escaped.trim_matches('"').to_owned(),
    ]
}

impl Stage {
    fn odd_app(&self) -> App {
        let code = "Aa+_!@#$%-=Bb1".repeat(6);
        self.cloud
            .create_app(NewApp::of(&self.user.user_id, &self.project).code(&code))
    }

    /// What the cloud said of a request whose signature it found wrong: it quotes the request, which begins so.
    fn quote(&self, request: &str) -> Option<String> {
        let requests = self.cloud.ledger().requests;
        let refusals = requests.iter().filter_map(|entry| entry.refusal.as_deref());
        let bodies = refusals.filter_map(|body| serde_json::from_str::<Value>(body).ok());
        let mut texts = bodies.filter_map(|body| body["error_msg"].as_str().map(str::to_owned));
        texts.find(|text| text.contains(&format!("canonicalRequest:{request}")))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_json_logs_at_trace_level_events_status_or_the_audit_log() {
    nothing_shows_any_secret("json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_text_logs_at_trace_level_events_status_or_the_audit_log() {
    nothing_shows_any_secret("text").await;
}

async fn nothing_shows_any_secret(format: &str) {
    let mut stage = stage_with(&[&format!("--log-format={format}")]).await;
    stage.cloud.behave(|behaviour| behaviour.echo_canonical_request = true);
    stage.namespace("a");
    let odd = stage.odd_app();
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

    // Answers that are lost, late or wrong.
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

    // A reset whose signature is found wrong is quoted by the gateway, with the live code in its path. Credentials that
    // are refused are left alone, so each has its own.
    for (name, app) in [("quoted", stage.app(1)), ("quoted-odd", stage.odd_app())] {
        stage.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "a"},
            "stringData": {"accessKey": stage.user.ak, "secretKey": stage.user.sk},
        }));
        let fault = Fault::wrong_signature().at(Operation::Reset);
        stage.cloud.inject(fault.app(&app.app_id));
        stage.apply(&stage.rotation("a", &format!("is-{name}"), &app.app_id, &with(name)));
        stage
            .until("the signature of the reset is refused", || {
                message(&stage.status("a", &format!("is-{name}")), "Stalled").starts_with("CredentialsRejected")
            })
            .await;
        let (project, id, code) = (&stage.project, &app.app_id, encode(&app.codes[0]));
        let request = format!("PUT|/v1/{project}/app-auth/apps/{id}/app-code/{code}/|");
        let quote = stage.quote(&request).expect("the cloud has quoted the request");
        assert!(
            spellings(&app.codes[0]).iter().any(|spelling| quote.contains(spelling)),
            "what is looked for below would be found in {quote}"
        );
        assert_eq!(stage.resets(&app.app_id), 0);
    }

    // The API server is gone while a new code is to be saved.
    let down = stage.app(1);
    let held = stage
        .cloud
        .inject(Fault::hold().at(Operation::Reset).app(&down.app_id).once());
    stage.apply(&stage.rotation("a", "down", &down.app_id, &immediate));
    stage
        .until("the reset is done", || stage.resets(&down.app_id) == 1)
        .await;
    stage.plane.stop_api_server();
    stage.cloud.release(held);
    stage
        .until("the pass fails", || {
            std::fs::read_to_string(&stage.log).is_ok_and(|log| log.contains("the pass failed"))
        })
        .await;
    stage.plane.start_api_server().await.unwrap();
    stage.until_ready("a", "down", &down.app_id).await;

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
    // By whichever resource tried the key first.
    let request = format!("GET|/v1/{}/app-auth/apps/", stage.project);
    assert!(stage.quote(&request).is_some());
    tokio::time::sleep(Duration::from_millis(500)).await; // the last lines of the logs
    stage.end_operator("TERM");

    let mut seen = vec![
        ("log", std::fs::read_to_string(&stage.log).unwrap()),
        (
            "audit log",
            std::fs::read_to_string(stage.plane.audit_log().unwrap()).unwrap(),
        ),
    ];
    assert!(seen[0].1.contains("TRACE"), "the log is at trace level");
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
    assert!(secrets.len() >= 14);
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
