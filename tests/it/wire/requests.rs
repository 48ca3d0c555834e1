//! What each call looks like when it arrives.

use appcode_operator::modelarts::{AppCodes, AppType, CloudErrorKind, Credentials};
use hmac::{Hmac, KeyInit, Mac};
use pretty_assertions::assert_eq;
use sha2::{Digest, Sha256};

use super::server::Seen;
use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .concat()
}

/// Checks the signature as a gateway does: from the request as it arrived and the headers that it declares.
fn assert_signed(seen: &Seen, secret_key: &str) {
    let authorization = seen.header("authorization").unwrap();
    let fields = authorization.strip_prefix("SDK-HMAC-SHA256 ").unwrap();
    let field = |name: &str| {
        let found = fields
            .split(", ")
            .find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.unwrap().to_owned()
    };
    assert_eq!(field("Access"), ACCESS_KEY);
    let names = field("SignedHeaders");
    assert!(
        names.contains("host") && names.contains("x-sdk-date") && names.contains("x-project-id"),
        "{names}"
    );
    let headers = names
        .split(';')
        .map(|name| format!("{name}:{}\n", seen.header(name).unwrap_or_else(|| panic!("{name}"))))
        .collect::<Vec<_>>()
        .concat();
    let mut query: Vec<&str> = seen.query().split('&').collect();
    query.sort_unstable();
    // No code with a slash is ever sent, so decoding and encoding again changes nothing.
    let canonical = format!(
        "{}\n{}/\n{}\n{headers}\n{names}\n{}",
        seen.method,
        seen.path(),
        query.join("&"),
        hex(&Sha256::digest(&seen.body)),
    );
    let date = seen.header("x-sdk-date").unwrap();
    let text = format!("SDK-HMAC-SHA256\n{date}\n{}", hex(&Sha256::digest(canonical)));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes()).unwrap();
    mac.update(text.as_bytes());
    assert_eq!(field("Signature"), hex(&mac.finalize().into_bytes()));
}

#[tokio::test]
async fn a_read_asks_for_plain_codes_of_the_workspace() {
    let server = answers_well();
    let app = client()
        .show_app(&target(&server.origin, "https://iam", keys()))
        .await
        .unwrap();
    assert_eq!(app.codes.iter().map(AppCode::expose).collect::<Vec<_>>(), [NEW]);
    assert_eq!(
        (app.name.as_deref(), app.remark.as_deref()),
        (Some("app_demo"), Some("démo"))
    );
    assert_eq!(
        (app.app_type, app.owner.as_deref(), app.caller),
        (Some(AppType::Gateway), Some("owner"), None)
    );
    let seen = server.only();
    assert_eq!(seen.method, "GET");
    assert_eq!(
        seen.target,
        format!("/v1/{PROJECT}/app-auth/apps/{APP}?workspace_id=0&iphertext_enabled=true")
    );
    assert!(seen.body.is_empty());
    assert_signed(&seen, SECRET_KEY);
}

#[tokio::test]
async fn a_reset_names_its_code_as_one_segment_and_echoes_the_app() {
    let server = answers_well();
    let odd = "+Ab0_!@#$%-=%2F%25?&;:,'\"<>[]{}|^`~.";
    let app = client()
        .reset_code(&target(&server.origin, "https://iam", keys()), &code(odd), &echo())
        .await
        .unwrap();
    assert_eq!(app.codes.len(), 1);
    let seen = server.only();
    assert_eq!(seen.method, "PUT");
    let segment = "%2BAb0_%21%40%23%24%25-%3D%252F%2525%3F%26%3B%3A%2C%27%22%3C%3E%5B%5D%7B%7D%7C%5E%60~.";
    assert_eq!(
        seen.target,
        format!("/v1/{PROJECT}/app-auth/apps/{APP}/app-code/{segment}")
    );
    assert_eq!(
        String::from_utf8_lossy(&seen.body),
        r#"{"app_name":"app_demo","app_remark":"démo","workspace_id":"0"}"#
    );
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_signed(&seen, SECRET_KEY);
}

#[tokio::test]
async fn an_added_code_is_a_post_without_a_code() {
    let server = answers_well();
    client()
        .add_code(&target(&server.origin, "https://iam", keys()), &echo())
        .await
        .unwrap();
    let seen = server.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.clone()),
        ("POST", format!("/v1/{PROJECT}/app-auth/apps/{APP}/app-code"))
    );
    assert_eq!(
        String::from_utf8_lossy(&seen.body),
        r#"{"app_name":"app_demo","app_remark":"démo","workspace_id":"0"}"#
    );
    assert_signed(&seen, SECRET_KEY);
}

#[tokio::test]
async fn requests_are_signed_for_the_time_of_sending_and_carry_nothing_needless() {
    let server = answers_well();
    let options = HttpOptions {
        user_agent: "test/1".into(),
        ..options()
    };
    for (call, outcome) in each_call(&client_with(&options), &target(&server.origin, "https://iam", keys())).await {
        assert!(outcome.is_ok(), "{call}: {outcome:?}");
    }
    for seen in server.seen() {
        assert_eq!(seen.header("x-sdk-date"), Some("20261125T040506Z"));
        assert_eq!(seen.header("x-project-id"), Some(PROJECT));
        assert_eq!(seen.header("host"), server.origin.strip_prefix("http://"));
        assert_eq!(seen.header("user-agent"), Some("test/1"));
        for absent in [
            "accept-encoding",
            "cookie",
            "referer",
            "x-auth-token",
            "x-security-token",
            "proxy-authorization",
        ] {
            assert_eq!(seen.header(absent), None, "{absent}");
        }
    }
}

#[tokio::test]
async fn a_temporary_key_signs_its_token_too() {
    let server = answers_well();
    let credentials = Credentials::Keys {
        access_key: ACCESS_KEY.into(),
        secret_key: SECRET_KEY.into(),
        security_token: Some("canary-security-token".into()),
    };
    client()
        .reset_code(
            &target(&server.origin, "https://iam", credentials),
            &code(CODE),
            &echo(),
        )
        .await
        .unwrap();
    let seen = server.only();
    assert_eq!(seen.header("x-security-token"), Some("canary-security-token"));
    assert!(seen.header("authorization").unwrap().contains(";x-security-token"));
    assert_signed(&seen, SECRET_KEY);
}

#[tokio::test]
async fn a_plain_token_is_passed_through_and_nothing_is_signed() {
    let server = answers_well();
    let credentials = Credentials::Token("canary-token\n".into());
    client()
        .show_app(&target(&server.origin, &Server::nowhere(), credentials))
        .await
        .unwrap();
    let seen = server.only();
    assert_eq!(
        (seen.header("x-auth-token"), seen.header("authorization")),
        (Some("canary-token"), None)
    );
}

#[tokio::test]
async fn credentials_that_no_header_can_carry_are_not_sent() {
    let server = answers_well();
    for credentials in [
        Credentials::Token("canary\ntoken".into()),
        Credentials::Keys {
            access_key: "canary\r\nx: y".into(),
            secret_key: "s".into(),
            security_token: None,
        },
    ] {
        let error = client()
            .show_app(&target(&server.origin, "https://iam", credentials))
            .await
            .unwrap_err();
        assert_eq!(error.kind, CloudErrorKind::NotSent);
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_code_that_no_url_can_name_is_refused_before_anything_is_sent() {
    let server = answers_well();
    for text in [".", "..", "a/b", "/", "canary/../x"] {
        let target = target(&server.origin, "https://iam", keys());
        let error = client().reset_code(&target, &code(text), &echo()).await.unwrap_err();
        assert_eq!(error.kind, CloudErrorKind::Refused, "{text}");
        assert!(
            error.is_not_applied() && error.message.contains("create another one"),
            "{error}"
        );
        assert!(!error.message.contains("canary"));
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn a_proxy_is_used_when_it_is_named() {
    let proxy = answers_well();
    let options = HttpOptions {
        proxy: Some(proxy.origin.clone().into()),
        ..options()
    };
    let nowhere = Server::nowhere();
    client_with(&options)
        .show_app(&target(&nowhere, "https://iam", keys()))
        .await
        .unwrap();
    assert!(
        proxy.only().target.starts_with(&format!("{nowhere}/v1/")),
        "asked for in absolute form"
    );
}
