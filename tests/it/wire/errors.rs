//! Which answer proves what, and that no error tells a secret.

use appcode_operator::modelarts::{CloudErrorKind as Kind, Credentials};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pretty_assertions::assert_eq;

use super::*;

const LOCKED: &str = "Incorrect IAM authentication information: AK access failed to reach the limit,forbidden";
const WRONG: &str = "Incorrect IAM authentication information: verify aksk signature fail";

#[tokio::test]
async fn an_answer_means_the_same_from_either_gateway_prefix() {
    let lock = Kind::LockedOut {
        retry_after: Duration::from_secs(330),
    };
    for (status, code, message, [show, reset, add]) in [
        (400, "ModelArts.0104", "", [Kind::Refused, Kind::Refused, Kind::Refused]),
        (
            401,
            "APIG.0301",
            WRONG,
            [
                Kind::CredentialsRejected,
                Kind::CredentialsRejected,
                Kind::CredentialsRejected,
            ],
        ),
        (
            401,
            "APIGW.0301",
            WRONG,
            [
                Kind::CredentialsRejected,
                Kind::CredentialsRejected,
                Kind::CredentialsRejected,
            ],
        ),
        (401, "APIG.0301", LOCKED, [lock.clone(), lock.clone(), lock.clone()]),
        (401, "APIGW.0301", LOCKED, [lock.clone(), lock.clone(), lock]),
        (
            403,
            "ModelArts.0108",
            "",
            [Kind::NotAuthorized, Kind::NotAuthorized, Kind::NotAuthorized],
        ),
        (
            404,
            "ModelArts.3923",
            "",
            [Kind::AppNotFound, Kind::NotFound, Kind::NotFound],
        ),
        (404, "APIG.0101", "", [Kind::Refused, Kind::Refused, Kind::Refused]),
        (404, "APIGW.0101", "", [Kind::Refused, Kind::Refused, Kind::Refused]),
        (
            409,
            "ModelArts.3929",
            "",
            [Kind::UnknownOutcome, Kind::UnknownOutcome, Kind::UnknownOutcome],
        ),
        (
            500,
            "ModelArts.3927",
            "",
            [Kind::UnknownOutcome, Kind::UnknownOutcome, Kind::UnknownOutcome],
        ),
        (
            503,
            "APIG.0613",
            "",
            [Kind::UnknownOutcome, Kind::UnknownOutcome, Kind::UnknownOutcome],
        ),
    ] {
        let server = Server::start(move |_| Reply::error(status, code, message));
        let outcomes = each_call(&client(), &target(&server.origin, "https://iam", keys())).await;
        for ((call, outcome), kind) in outcomes.into_iter().zip([show, reset, add]) {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind, kind, "{call} {status} {code}");
            assert_eq!(error.is_not_applied(), kind != Kind::UnknownOutcome);
            assert_eq!((error.status, error.code.as_deref()), (Some(status), Some(code)));
            assert_eq!(error.request_id.as_deref(), Some("request-1"));
            assert!(error.message.contains(&format!("HTTP {status} {code}")), "{error}");
        }
    }
}

#[tokio::test]
async fn throttling_tells_how_long_to_wait() {
    for (value, seconds) in [
        ("7", Some(7)),
        ("0", Some(1)),
        ("86400", Some(900)),
        ("-1", None),
        ("later", None),
        ("Wed, 25 Nov 2026 04:06:06 GMT", Some(59)),
    ] {
        let server = Server::start(move |_| {
            Reply::new(
                429,
                &[("Retry-After", value)],
                br#"{"error_code":"APIG.0308","error_msg":"slow"}"#,
            )
        });
        for (_, outcome) in each_call(&client(), &target(&server.origin, "https://iam", keys())).await {
            let Kind::Throttled { retry_after } = outcome.unwrap_err().kind else {
                panic!("{value}")
            };
            assert_eq!(retry_after.map(|wait| wait.as_secs()), seconds, "{value}");
        }
    }
}

#[tokio::test]
async fn a_clock_out_of_time_is_told_in_minutes() {
    let text = "Incorrect IAM authentication information: signature expired, signature time:20261125T040506Z,server time:20261125T060608Z";
    let server = Server::start(move |_| Reply::error(401, "APIG.0301", text));
    let error = client()
        .show_app(&target(&server.origin, "https://iam", keys()))
        .await
        .unwrap_err();
    assert_eq!(error.kind, Kind::CredentialsRejected);
    assert_eq!(
        error.message,
        "show app: HTTP 401 APIG.0301: the clocks differ, the cloud's is 121 min ahead; set this machine's clock"
    );
}

/// Every secret that a server has seen in a request, as it may say it back.
fn spellings(secret: &str) -> Vec<String> {
    let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
    let json = serde_json::to_string(secret).unwrap();
    vec![
        secret.to_owned(),
        encoded
            .replace("%2B", "%2b")
            .replace("%2F", "%2f")
            .replace("%5C", "%5c")
            .replace("%3D", "%3d"),
        encoded,
        json.trim_matches('"').to_owned(),
        json.trim_matches('"').replace('/', "\\/"),
    ]
}

#[tokio::test]
async fn no_error_tells_a_secret_that_the_server_says_back() {
    let short_code = "Canary+code#1%/x".replace('/', "&");
    let security_token = "Canary-St/1+=";
    let token = "CanaryToken/1+=";
    let url = format!("https://host/v1/{PROJECT}/app-auth/apps/{APP}/app-code/{short_code}");
    let secrets = [
        short_code.as_str(),
        SECRET_KEY,
        ACCESS_KEY,
        PASSWORD,
        security_token,
        token,
    ];
    let mut echoes: Vec<String> = secrets.iter().flat_map(|secret| spellings(secret)).collect();
    echoes.push(url.clone());
    echoes.push(format!(
        "canonicalRequest:PUT|/v1/p/app-auth/apps/a/app-code/{short_code}/||host:h|"
    ));
    let client = client();
    let statuses = [200, 302, 400, 401, 403, 404, 408, 429, 500, 503];
    for (number, echo_text) in echoes.iter().enumerate() {
        let status = statuses[number % statuses.len()];
        let reply = serde_json::json!({"error_code": echo_text, "error_msg": format!("failed: {echo_text} was wrong")})
            .to_string();
        let id: String = echo_text.chars().filter(char::is_ascii_graphic).collect();
        let iam = Server::start(|_| Reply::new(201, &[("X-Subject-Token", "CanaryToken/1+=")], b"{}"));
        let server =
            Server::start(move |_| Reply::new(status, &[("X-Request-Id", &id), ("Location", &id)], reply.as_bytes()));
        for credentials in [
            Credentials::Keys {
                access_key: ACCESS_KEY.into(),
                secret_key: SECRET_KEY.into(),
                security_token: Some(security_token.into()),
            },
            password(),
            Credentials::Token(token.into()),
        ] {
            let mine: &[&str] = match &credentials {
                Credentials::Keys { .. } => &[ACCESS_KEY, SECRET_KEY, security_token],
                Credentials::Password { .. } => &[PASSWORD, token],
                Credentials::Token(_) => &[token],
            };
            let target = target(&server.origin, &iam.origin, credentials.clone());
            let error = client
                .reset_code(&target, &code(&short_code), &echo())
                .await
                .unwrap_err();
            let text = format!("{error} {error:?} {error:#?}");
            for secret in mine.iter().chain([&short_code.as_str()]) {
                for spelling in spellings(secret) {
                    assert!(!text.contains(&spelling), "{spelling} in {text}");
                }
            }
            assert!(!text.contains("://"), "{text}");
        }
    }
}

#[tokio::test]
async fn no_error_of_the_connection_tells_the_url() {
    for origin in [
        Server::nowhere(),
        Server::closing_at_once().origin,
        "http://does-not-exist.invalid".into(),
    ] {
        for (_, outcome) in each_call(&client(), &target(&origin, "https://iam", keys())).await {
            let error = outcome.unwrap_err();
            let text = format!("{error} {error:?}");
            for secret in [CODE, SECRET_KEY, ACCESS_KEY, "://", "app-code"] {
                assert!(!text.contains(secret), "{secret} in {text}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_of_a_sign_in_tells_no_password() {
    for spelling in spellings(PASSWORD) {
        let reply = serde_json::json!({"error": {"code": 401, "message": format!("bad: {spelling}."), "title": "Unauthorized"}});
        let iam = Server::start(move |_| Reply::json(401, &reply.to_string()));
        let error = client()
            .show_app(&target(&Server::nowhere(), &iam.origin, password()))
            .await
            .unwrap_err();
        assert_eq!(error.kind, Kind::CredentialsRejected);
        let text = format!("{error} {error:?}");
        assert!(!text.contains(&spelling) && !text.contains(PASSWORD), "{text}");
        assert_eq!(error.message, "sign in: HTTP 401: bad: ….");
    }
}
