//! Password callers: signing in, keeping the token, and one forced new sign-in.

use std::sync::atomic::{AtomicUsize, Ordering};

use appcode_operator::metrics::{Format, Levels, Metrics};
use appcode_operator::modelarts::{CloudErrorKind, MeasuredAppCodes};
use pretty_assertions::assert_eq;

use super::*;

/// An IAM that gives out `token-1`, `token-2` and so on.
fn iam() -> Server {
    let count = AtomicUsize::new(0);
    Server::start(move |_| {
        let token = format!("token-{}", count.fetch_add(1, Ordering::SeqCst) + 1);
        let body = br#"{"token":{"issued_at":"2026-11-25T04:00:00.000000Z","expires_at":"2026-11-26T04:00:00.000000Z","user":{"id":"u1"}}}"#;
        Reply::new(201, &[("X-Subject-Token", &token)], body)
    })
}

/// A ModelArts that takes only these tokens.
fn accepting(tokens: &'static [&'static str], status: u16, code: &'static str) -> Server {
    Server::start(move |seen| match seen.header("x-auth-token") {
        Some(token) if tokens.contains(&token) => Reply::json(200, &app_json(&[NEW])),
        _ => Reply::error(status, code, "The token must be updated."),
    })
}

#[tokio::test]
async fn one_sign_in_serves_many_calls_and_tells_who_the_caller_is() {
    let (iam, server) = (iam(), accepting(&["token-1"], 401, "APIG.0307"));
    let (client, target) = (client(), target(&server.origin, &iam.origin, password()));
    let app = client.show_app(&target).await.unwrap();
    assert_eq!(
        (app.caller.as_deref(), app.owner.as_deref()),
        (Some("u1"), Some("owner"))
    );
    for (call, outcome) in each_call(&client, &target).await {
        assert!(outcome.is_ok(), "{call}: {outcome:?}");
    }
    let seen = iam.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/v3/auth/tokens?nocatalog=true")
    );
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    let user = serde_json::json!({"domain": {"name": "account"}, "name": "user", "password": PASSWORD});
    let identity = serde_json::json!({"methods": ["password"], "password": {"user": user}});
    assert_eq!(
        body,
        serde_json::json!({"auth": {"identity": identity, "scope": {"project": {"id": PROJECT}}}})
    );
    assert!(server.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| !String::from_utf8_lossy(&seen.body).contains("anary"))
    );
}

#[tokio::test]
async fn admission_signs_in_so_that_the_change_goes_out_at_once() {
    let (iam, server) = (iam(), accepting(&["token-1"], 401, "APIG.0307"));
    let (client, target) = (client(), target(&server.origin, &iam.origin, password()));
    client.admit(&target).await.unwrap();
    assert_eq!((iam.seen().len(), server.seen().len()), (1, 0));
    client.reset_code(&target, &code(CODE), &echo()).await.unwrap();
    assert_eq!((iam.seen().len(), server.seen().len()), (1, 1));
}

#[tokio::test]
async fn admission_fails_as_the_sign_in_does() {
    let iam = Server::start(|_| Reply::error(401, "IAM.0062", "wrong"));
    let error = client()
        .admit(&target(&Server::nowhere(), &iam.origin, password()))
        .await
        .unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::CredentialsRejected);
    client()
        .admit(&target(&Server::nowhere(), &Server::nowhere(), keys()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stale_token_is_replaced_once_and_the_change_sent_once_more() {
    for (status, refusal) in [
        (401, "APIG.0307"),
        (401, "APIGW.0307"),
        (401, "APIG.0301"),
        (401, "ModelArts.0202"),
        (403, "ModelArts.0203"),
    ] {
        let (iam, server) = (iam(), accepting(&["token-2"], status, refusal));
        let (client, target) = (client(), target(&server.origin, &iam.origin, password()));
        client.reset_code(&target, &code(CODE), &echo()).await.unwrap();
        assert_eq!((iam.seen().len(), server.count("PUT")), (2, 2), "{refusal}");
        client.show_app(&target).await.unwrap();
        assert_eq!(iam.seen().len(), 2, "the new token is kept");
    }
}

#[tokio::test]
async fn a_token_that_is_refused_when_fresh_means_that_the_credentials_do_not_work() {
    let (iam, server) = (iam(), accepting(&[], 401, "APIG.0307"));
    let target = target(&server.origin, &iam.origin, password());
    let error = client().reset_code(&target, &code(CODE), &echo()).await.unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::CredentialsRejected);
    assert_eq!(
        (iam.seen().len(), server.count("PUT")),
        (2, 2),
        "one forced sign-in, no more"
    );
}

#[tokio::test]
async fn only_a_stale_token_is_replaced() {
    for (status, refusal) in [
        (401, "ModelArts.0207"),
        (403, "ModelArts.0108"),
        (500, "ModelArts.3927"),
        (429, "APIG.0308"),
        (404, "ModelArts.3923"),
    ] {
        let (iam, server) = (iam(), accepting(&[], status, refusal));
        let target = target(&server.origin, &iam.origin, password());
        assert!(client().reset_code(&target, &code(CODE), &echo()).await.is_err());
        assert_eq!((iam.seen().len(), server.count("PUT")), (1, 1), "{refusal}");
    }
}

#[tokio::test]
async fn a_caller_with_a_plain_token_or_keys_never_signs_in() {
    let (iam, server) = (iam(), accepting(&[], 401, "APIG.0307"));
    for credentials in [Credentials::Token("t".into()), keys()] {
        let error = client()
            .show_app(&target(&server.origin, &iam.origin, credentials))
            .await
            .unwrap_err();
        assert_eq!(error.kind, CloudErrorKind::CredentialsRejected);
    }
    assert_eq!((iam.connections(), server.count("GET")), (0, 2));
}

#[tokio::test]
async fn a_change_whose_sign_in_fails_is_not_sent_whatever_the_failure() {
    let server = answers_well();
    let cut = Server::start(|_| Reply::close());
    let without_token = Server::start(|_| Reply::json(201, "{}"));
    let html = Server::start(|_| Reply::new(503, &[], b"<html>"));
    let elsewhere = answers_well();
    let location = elsewhere.origin.clone();
    let redirect = Server::start(move |_| Reply::new(307, &[("Location", &location)], b""));
    let slow = Server::saying(b"");
    for iam in [
        Server::nowhere(),
        cut.origin,
        without_token.origin,
        html.origin,
        redirect.origin,
        slow.origin,
    ] {
        let target = target(&server.origin, &iam, password());
        let error = client_with(&impatient())
            .reset_code(&target, &code(CODE), &echo())
            .await
            .unwrap_err();
        assert_eq!(error.kind, CloudErrorKind::NotSent, "{error}");
        assert!(error.message.starts_with("sign in: "), "{error}");
    }
    assert_eq!((server.connections(), elsewhere.connections()), (0, 0));
}

#[tokio::test]
async fn a_refused_sign_in_is_tried_once() {
    for (status, refusal, kind) in [
        (401, "IAM.0062", CloudErrorKind::CredentialsRejected),
        (
            401,
            "IAM.0061",
            CloudErrorKind::LockedOut {
                retry_after: Duration::from_secs(960),
            },
        ),
        (403, "IAM.0080", CloudErrorKind::CredentialsRejected),
        (400, "IAM.1109", CloudErrorKind::Refused),
        (429, "IAM.0012", CloudErrorKind::Throttled { retry_after: None }),
    ] {
        let iam = Server::start(move |_| Reply::error(status, refusal, "no"));
        let error = client()
            .show_app(&target(&Server::nowhere(), &iam.origin, password()))
            .await
            .unwrap_err();
        assert_eq!((error.kind, iam.seen().len()), (kind, 1), "{refusal}");
    }
}

#[tokio::test]
async fn calls_at_once_share_a_sign_in() {
    let (iam, server) = (iam(), accepting(&["token-1"], 401, "APIG.0307"));
    let (client, target) = (client(), target(&server.origin, &iam.origin, password()));
    let call = || client.show_app(&target);
    let all = tokio::join!(call(), call(), call(), call());
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());
    assert_eq!((iam.seen().len(), server.count("GET")), (1, 4));
}

#[tokio::test]
async fn sign_ins_are_counted_beside_the_calls_that_they_are_for() {
    let iam = Server::start(move |seen| {
        if String::from_utf8_lossy(&seen.body).contains("anary") {
            Reply::new(201, &[("X-Subject-Token", "token-1")], b"{}")
        } else {
            Reply::error(401, "IAM.0062", "wrong")
        }
    });
    let server = accepting(&["token-1"], 401, "APIG.0307");
    let (clock, metrics) = (Arc::new(FixedClock(Instant::now())), Arc::new(Metrics::default()));
    let client = HttpAppCodes::new(&options(), clock.clone(), Arc::clone(&metrics)).unwrap();
    let client = MeasuredAppCodes::new(Arc::new(client), clock, Arc::clone(&metrics));
    let wrong = Credentials::Password {
        domain_name: "account".into(),
        user_name: "another".into(),
        password: "wrong".into(),
    };
    let wrong = target(&server.origin, &iam.origin, wrong);
    client.show_app(&wrong).await.unwrap_err();
    client.admit(&wrong).await.unwrap_err();
    let good = target(&server.origin, &iam.origin, password());
    client.show_app(&good).await.unwrap();
    client.show_app(&good).await.unwrap();
    client
        .show_app(&target(&server.origin, &iam.origin, keys()))
        .await
        .unwrap_err();
    let text = metrics.encode(Format::Text, Levels::default());
    let told = |line: &str| assert!(text.lines().any(|found| found == line), "{line} in {text}");
    told(r#"appcode_cloud_calls_total{operation="sign_in",outcome="ok"} 1"#);
    told(r#"appcode_cloud_calls_total{operation="sign_in",outcome="credentials_rejected"} 2"#);
    told(r#"appcode_cloud_call_duration_seconds_count{operation="sign_in"} 3"#);
    told(r#"appcode_cloud_calls_total{operation="show",outcome="ok"} 2"#);
    told(r#"appcode_cloud_call_duration_seconds_count{operation="show"} 4"#);
}

#[tokio::test]
async fn a_long_token_arrives_whole() {
    let token: &'static str = Box::leak("MII".repeat(10_000).into_boxed_str());
    let iam = Server::start(move |_| Reply::new(201, &[("X-Subject-Token", token)], b"{}"));
    let server = answers_well();
    client()
        .show_app(&target(&server.origin, &iam.origin, password()))
        .await
        .unwrap();
    assert_eq!(server.only().header("x-auth-token").map(str::len), Some(30_000));
}
