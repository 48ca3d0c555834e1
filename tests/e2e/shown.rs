//! A code that is shown on purpose shows where that was asked for and nowhere else, and what a person mends is noticed
//! without a nudge.

use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::canary::spellings;
use crate::stage::Stage;
use crate::{message, stage};

impl Stage {
    /// Creates an object; `apply` would copy the spec into an annotation, and a code with it.
    fn create(&self, object: &Value) {
        self.send(&["create", "--validate=false", "-f", "-"], &object.to_string());
    }

    /// Waits until a resource at rest was checked twice more, so that a whole pass lies in between.
    pub async fn until_checked_again(&self, namespace: &str, name: &str) {
        for _ in 0..2 {
            let checked = self.status(namespace, name)["lastVerifiedTime"].clone();
            self.until("another check", || {
                self.status(namespace, name)["lastVerifiedTime"] != checked
            })
            .await;
        }
    }

    /// Every object that can be listed, but for Secrets.
    fn all_objects(&self) -> Value {
        let kinds = self.kubectl(&["api-resources", "--verbs=list", "-o", "name"]);
        let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "secrets").collect();
        assert!(kinds.contains(&"appcoderotations.appcode.dev") && kinds.contains(&"events.events.k8s.io"));
        let text = self.kubectl(&["get", &kinds.join(","), "-A", "-o", "json"]);
        serde_json::from_str(&text).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_code_shown_on_purpose_shows_nowhere_else_and_mended_credentials_need_no_nudge() {
    let mut stage = stage().await;
    stage.namespace("a");
    let wrong = "a-secret-key-that-belongs-to-nobody";
    stage.namespace("b");
    stage.credentials("b", "no-such-key", wrong);
    let late = stage.app(1);
    stage.create(&stage.rotation("b", "late", &late.app_id, &json!({})));
    stage
        .until("the credentials are refused", || {
            message(&stage.status("b", "late"), "Stalled").starts_with("CredentialsRejected")
        })
        .await;
    stage.credentials("b", &stage.user.ak, &stage.user.sk);

    // A temporary key, an inline seed, and the code in status: all that can be shown is shown.
    let key = stage
        .cloud
        .add_temporary_key(&stage.user.user_id, SignedDuration::from_hours(1));
    stage.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "temporary", "namespace": "a"},
        "stringData": {"accessKey": key.ak, "secretKey": key.sk, "securityToken": key.security_token},
    }));
    let app = stage.app(1);
    let more = json!({
        "appCode": app.codes[0], "statusCode": "Plaintext", "credentialsRef": {"name": "temporary"},
    });
    stage.create(&stage.rotation("a", "shown", &app.app_id, &more));
    stage.until_ready("a", "shown", &app.app_id).await;
    stage.request_rotation("a", "shown", "now");
    stage
        .until("the second code is shown", || {
            let status = stage.status("a", "shown");
            let live = stage.cloud.live_codes(&app.app_id);
            status["rotationNumber"] == 2 && status["appCode"].as_str() == live.first().map(String::as_str)
        })
        .await;

    // A label on a running operator's resource rotates nothing.
    stage.kubectl(&["label", "acr", "shown", "-n", "a", "team=x"]);
    stage.until_checked_again("a", "shown").await;
    assert_eq!(stage.resets(&app.app_id), 2);
    stage.until_ready("b", "late", &late.app_id).await;
    assert_eq!(
        stage.resets(&late.app_id),
        0,
        "a seed that is not exposed is taken over"
    );

    let wide = stage.kubectl(&["get", "acr", "-A", "-o", "wide"]);
    for column in [
        "APP",
        "PHASE",
        "READY",
        "LAST ROTATION",
        "NEXT ROTATION",
        "AGE",
        "STRATEGY",
        "FINGERPRINT",
        "SECRET",
        "MESSAGE",
    ] {
        assert!(wide.contains(column), "{column}: {wide}");
    }
    let told = stage.kubectl(&["describe", "acr", "late", "-n", "b"]);
    assert_eq!(stage.end_operator("TERM"), Some(0));

    let mut objects = stage.all_objects();
    let items = objects["items"].as_array_mut().unwrap();
    let is_shown = |item: &&mut Value| item["kind"] == "AppCodeRotation" && item["metadata"]["name"] == "shown";
    let shown = items.iter_mut().find(is_shown).unwrap();
    let (spec, status) = (shown["spec"]["appCode"].take(), shown["status"]["appCode"].take());
    assert_eq!(spec.as_str(), Some(app.codes[0].as_str()));
    assert_eq!(
        status.as_str(),
        stage.cloud.live_codes(&app.app_id).first().map(String::as_str)
    );

    let audit = stage.plane.audit_log().unwrap();
    let seen = [
        ("log", stage.log_text()),
        ("audit log", std::fs::read_to_string(audit).unwrap()),
        ("objects", format!("{objects:#}")),
        ("kubectl get", wide),
        ("kubectl describe", told),
    ];
    let mut secrets = stage.cloud.ledger().secrets();
    secrets.extend([stage.user.sk.clone(), key.sk, key.security_token, wrong.to_owned()]);
    assert_eq!(
        secrets.len(),
        8,
        "four codes of two apps, and what the credentials hold"
    );
    for (place, text) in &seen {
        for spelling in secrets.iter().flat_map(|secret| spellings(secret)) {
            let line = text.lines().find(|line| line.contains(&spelling));
            assert!(line.is_none(), "{place} shows {spelling}: {}", line.unwrap_or_default());
        }
    }
}
