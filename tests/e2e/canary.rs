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

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_json_logs_at_trace_level_metrics_events_status_or_the_audit_log() {
    nothing_shows_any_secret("json").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_text_logs_at_trace_level_metrics_events_status_or_the_audit_log() {
    nothing_shows_any_secret("text").await;
}

async fn nothing_shows_any_secret(format: &str) {
    let mut stage = stage_with(&[&format!("--log-format={format}")]).await;
    stage.cloud.behave(|behaviour| behaviour.echo_canonical_request = true);
    stage.namespace("a");
    let identity = stage.operator_token();
    stage.cloud.count_requests_with(&identity);
    let token = stage.cloud.issue_token(&stage.user.user_id, &stage.project);
    answers_are_lost_or_wrong(&stage, &token).await;
    resets_are_quoted(&stage).await;
    the_api_server_is_gone_while_a_code_is_saved(&mut stage).await;

    let wrong = "wrong-secret-key-that-is-a-canary-too";
    stage.credentials("a", &stage.user.ak, wrong);
    stage.request_rotation("a", "odd", "now");
    stage.until_refused("odd").await;
    // By whichever resource tried the key first.
    let request = format!("GET|/v1/{}/app-auth/apps/", stage.project);
    assert!(stage.quote(&request).is_some());
    tokio::time::sleep(Duration::from_millis(500)).await; // the last lines of the logs
    let metrics = stage.metrics().await;
    for outcome in ["Completed", "Recovered"] {
        let name = format!(r#"appcode_rotations_total{{trigger="Initial",strategy="Reset",outcome="{outcome}"}} "#);
        let count = metrics.lines().find_map(|line| line.strip_prefix(&name));
        assert_ne!(count.unwrap(), "0", "{outcome}");
    }
    stage.end_operator("TERM");

    let misdirected = stage.cloud.requests_with_unwanted();
    assert_eq!(
        misdirected, 0,
        "requests to the cloud hold the token for the API server"
    );
    let requests = stage.cloud.ledger().requests.len();
    assert!(requests > 20, "the cloud got {requests} requests");
    let mut secrets = stage.cloud.ledger().secrets();
    assert!(
        secrets.len() >= 10,
        "two codes of each of four apps, and one of each of two"
    );
    secrets.extend([
        stage.user.sk.clone(),
        stage.user.password.clone(),
        token,
        wrong.to_owned(),
        identity,
    ]);
    // Every answer about an app tells these of it, and nobody has asked for them.
    let apps = stage.cloud.apps();
    assert!(apps.len() >= 6, "{} apps", apps.len());
    secrets.extend(apps.into_iter().flat_map(|app| [app.app_key, app.app_secret]));
    for (place, text) in seen(&stage).into_iter().chain([("metrics", metrics)]) {
        assert!(!text.is_empty());
        for spelling in secrets.iter().flat_map(|secret| spellings(secret)) {
            let line = text.lines().find(|line| line.contains(&spelling));
            assert!(line.is_none(), "{place} shows {spelling}: {}", line.unwrap_or_default());
        }
    }
}

/// All that is looked at, with its name.
fn seen(stage: &Stage) -> Vec<(&'static str, String)> {
    let log = stage.log_text();
    assert!(log.contains("TRACE"), "the log is at trace level");
    let audit = std::fs::read_to_string(stage.plane.audit_log().unwrap()).unwrap();
    let kinds = [
        "acr",
        "events",
        "events.v1.events.k8s.io",
        "namespaces",
        "configmaps",
        "serviceaccounts",
    ];
    let objects = kinds.map(|kind| (kind, stage.kubectl(&["get", kind, "-A", "-o", "json"])));
    [("log", log), ("audit log", audit)]
        .into_iter()
        .chain(objects)
        .collect()
}

async fn answers_are_lost_or_wrong(stage: &Stage, token: &str) {
    let (odd, plain, by_token) = (stage.odd_app(), stage.app(1), stage.app(1));
    let user = &stage.user;
    stage.secret(
        "password",
        &json!({"domainName": user.account_name, "userName": user.name, "password": user.password}),
    );
    stage.secret("token", &json!({"token": token}));
    let before = |status| Fault::status_before(Reply::from(status)).at(Operation::Show);
    let after = |status| Fault::status_after(Reply::from(status)).at(Operation::Reset);
    let cut = Fault::cut_after().at(Operation::Reset);
    stage.cloud.inject(cut.app(&odd.app_id).once());
    stage.cloud.inject(after(500).app(&plain.app_id).once());
    stage.cloud.inject(before(503).app(&by_token.app_id).times(2));
    for (name, app, credentials) in [
        ("odd", &odd, "credentials"),
        ("plain", &plain, "password"),
        ("by-token", &by_token, "token"),
    ] {
        stage.rotate_at_once(name, app, credentials);
    }
    for (name, app) in [("odd", &odd), ("plain", &plain), ("by-token", &by_token)] {
        stage.until_ready("a", name, &app.app_id).await;
        assert_eq!(stage.resets(&app.app_id), 1, "{name}");
    }
}

/// A reset whose signature is found wrong is quoted by the gateway, with the live code in its path.
async fn resets_are_quoted(stage: &Stage) {
    for (name, app) in [("quoted", stage.app(1)), ("quoted-odd", stage.odd_app())] {
        // Credentials that are refused are left alone, so each has its own.
        let keys = json!({"accessKey": stage.user.ak, "secretKey": stage.user.sk});
        let credentials = format!("keys-{name}");
        stage.secret(&credentials, &keys);
        let fault = Fault::wrong_signature().at(Operation::Reset);
        stage.cloud.inject(fault.app(&app.app_id));
        stage.rotate_at_once(name, &app, &credentials);
        stage.until_refused(name).await;
        let (project, id, code) = (&stage.project, &app.app_id, encode(&app.codes[0]));
        let quote = stage.quote(&format!("PUT|/v1/{project}/app-auth/apps/{id}/app-code/{code}/|"));
        let quote = quote.expect("the cloud has quoted the reset");
        let is_seen = spellings(&app.codes[0]).iter().any(|spelling| quote.contains(spelling));
        assert!(is_seen, "what is looked for would be found in {quote}");
        assert_eq!(stage.resets(&app.app_id), 0);
    }
}

async fn the_api_server_is_gone_while_a_code_is_saved(stage: &mut Stage) {
    let app = stage.app(1);
    let fault = Fault::hold().at(Operation::Reset).app(&app.app_id);
    let held = stage.cloud.inject(fault.once());
    stage.rotate_at_once("down", &app, "credentials");
    stage
        .until("the reset is done", || stage.resets(&app.app_id) == 1)
        .await;
    stage.plane.stop_api_server();
    stage.cloud.release(held);
    stage
        .until("a pass fails and tells why", || {
            let log = stage.log_text();
            let failed = log.lines().filter(|line| line.contains("the pass failed"));
            failed.into_iter().any(|line| line.contains("Connection refused"))
        })
        .await;
    stage.plane.start_api_server().await.unwrap();
    stage.until_ready("a", "down", &app.app_id).await;
}

impl Stage {
    /// What the operator shows the API server.
    fn operator_token(&self) -> String {
        let text = std::fs::read_to_string(self.operator_kubeconfig()).unwrap();
        let config: Value = serde_json::from_str(&text).unwrap();
        config["users"][0]["user"]["token"].as_str().unwrap().to_owned()
    }

    fn odd_app(&self) -> App {
        let code = "Aa+_!@#$%-=Bb1".repeat(6);
        self.cloud
            .create_app(&NewApp::of(&self.user.user_id, &self.project).code(&code))
    }

    fn secret(&self, name: &str, data: &Value) {
        self.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "a"}, "stringData": data,
        }));
    }

    fn rotate_at_once(&self, name: &str, app: &App, credentials: &str) {
        let more = json!({"initialRotation": "Immediate", "credentialsRef": {"name": credentials}});
        self.apply(&self.rotation("a", name, &app.app_id, &more));
    }

    async fn until_refused(&self, name: &str) {
        self.until(&format!("the credentials of {name} are refused"), || {
            message(&self.status("a", name), "Stalled").starts_with("CredentialsRejected")
        })
        .await;
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
