//! Paths and bodies of the calls we make, and what an answer means. Pure: bytes in, values out.
//!
//! Answers are read leniently, since the API marks no field as required: a field of the wrong type counts as absent and
//! unknown fields are skipped. `app_key` and `app_secret` are skipped too, so that they never become values here.
//!
//! It is public for the fuzz targets; the operator itself reaches it through [`super::HttpAppCodes`].

mod lenient;

use std::time::Duration;

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use self::lenient::{Object, Scalar};
use super::sign::encode;
use super::{App, AppCode, AppType, Echo, Target};

/// Longest name of an unknown kind of gateway that is kept.
const TYPE_LENGTH: usize = 64;

/// Most codes that are read from a list. An app holds five; what lists more than this is not believed to be whole, and
/// no work is done for each of ten thousand.
const MOST_CODES: usize = 64;

/// A token's life where the answer does not tell: the service's documented 24 hours.
const DEFAULT_LIFE: Duration = Duration::from_secs(24 * 60 * 60);

/// Path of an app.
pub fn app_path(target: &Target) -> String {
    let (project, app) = (target.app.project_id.as_str(), target.app.app_id.as_str());
    format!("/v1/{}/app-auth/apps/{}", encode(project), encode(app))
}

/// Path to add a code to an app.
pub fn codes_path(target: &Target) -> String {
    format!("{}/app-code", app_path(target))
}

/// Path of one code of an app. It holds a live secret.
pub fn code_path(target: &Target, code: &AppCode) -> String {
    format!("{}/{}", codes_path(target), encode(code.expose()))
}

#[derive(Serialize)]
struct Change<'a> {
    app_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_remark: Option<&'a str>,
    workspace_id: &'a str,
}

/// Body of every change. The name and the remark are the app's own, should the service ever take them for new ones.
pub(super) fn change_body(target: &Target, echo: &Echo) -> Vec<u8> {
    let change = Change {
        app_name: &echo.name,
        app_remark: echo.remark.as_deref(),
        workspace_id: target.workspace.as_str(),
    };
    to_json(&change)
}

/// Body of a password sign-in, scoped to the project: the service refuses tokens without one.
pub(super) fn sign_in_body(domain: &str, user: &str, password: &SecretString, project: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Name<'a> {
        name: &'a str,
    }
    #[derive(Serialize)]
    struct User<'a> {
        domain: Name<'a>,
        name: &'a str,
        password: &'a str,
    }
    #[derive(Serialize)]
    struct Password<'a> {
        user: User<'a>,
    }
    #[derive(Serialize)]
    struct Identity<'a> {
        methods: [&'static str; 1],
        password: Password<'a>,
    }
    #[derive(Serialize)]
    struct Id<'a> {
        id: &'a str,
    }
    #[derive(Serialize)]
    struct Scope<'a> {
        project: Id<'a>,
    }
    #[derive(Serialize)]
    struct Auth<'a> {
        identity: Identity<'a>,
        scope: Scope<'a>,
    }
    #[derive(Serialize)]
    struct SignIn<'a> {
        auth: Auth<'a>,
    }
    let user = User {
        domain: Name { name: domain },
        name: user,
        password: password.expose_secret(),
    };
    let identity = Identity {
        methods: ["password"],
        password: Password { user },
    };
    to_json(&SignIn {
        auth: Auth {
            identity,
            scope: Scope {
                project: Id { id: project },
            },
        },
    })
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    #[allow(clippy::expect_used, reason = "structs of strings always become JSON")]
    serde_json::to_vec(value).expect("structs of strings always become JSON")
}

#[derive(Deserialize)]
struct AppAnswer {
    app: Object<AppFields>,
}

#[derive(Deserialize)]
struct AppFields {
    #[serde(default)]
    app_codes: Option<Vec<Scalar>>,
    #[serde(default)]
    app_id: Scalar,
    #[serde(default)]
    app_name: Scalar,
    #[serde(default)]
    app_remark: Scalar,
    #[serde(default)]
    app_type: Scalar,
    #[serde(default)]
    updated_at: Scalar,
    #[serde(default)]
    user_id: Scalar,
}

/// Reads the app out of the answer to any of our calls.
///
/// An answer that does not list codes at all is taken for a masked one: an app without codes lists none, and the two
/// must not be mixed up.
///
/// # Errors
/// When it holds no app, or another one. The text is ours and quotes nothing of the answer.
pub fn parse_app(body: &[u8], target: &Target) -> Result<App, &'static str> {
    let Object(AppAnswer { app: Object(fields) }) =
        serde_json::from_slice(body).map_err(|_| "the answer is not an app")?;
    match fields.app_id {
        Scalar::Text(id) if id == target.app.app_id.as_str() => {}
        Scalar::Other => {}
        Scalar::Text(_) | Scalar::Number(_) => return Err("the answer is about another app"),
    }
    let mut masked = fields.app_codes.is_none();
    let mut codes: Vec<AppCode> = Vec::new();
    for value in fields.app_codes.unwrap_or_default() {
        match value.text().map(AppCode::parse) {
            Some(Ok(code)) if codes.iter().any(|known| known.expose() == code.expose()) => {}
            Some(Ok(code)) if codes.len() < MOST_CODES => codes.push(code),
            Some(_) | None => masked = true,
        }
    }
    Ok(App {
        name: fields.app_name.text(),
        remark: fields.app_remark.text().filter(|remark| !remark.is_empty()),
        app_type: fields.app_type.text().as_deref().map(app_type),
        owner: fields.user_id.text(),
        caller: None,
        updated_at: fields.updated_at.number(),
        codes,
        masked,
        request_id: None,
    })
}

fn app_type(name: &str) -> AppType {
    match name {
        "APIG" | "DEDICATE_APIG" => AppType::Gateway,
        _ => AppType::Other(
            name.chars()
                .filter(|char| !char.is_control())
                .take(TYPE_LENGTH)
                .collect(),
        ),
    }
}

/// What a sign-in answer tells besides the token, which is a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedIn {
    /// IAM user id of the caller.
    pub user_id: Option<String>,
    /// From issue to expiry, both by the cloud's clock, so that ours does not matter.
    pub life: Duration,
}

#[derive(Default, Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: TokenFields,
}

#[derive(Default, Deserialize)]
struct TokenFields {
    #[serde(default)]
    expires_at: Scalar,
    #[serde(default)]
    issued_at: Scalar,
    #[serde(default)]
    user: UserFields,
}

#[derive(Default, Deserialize)]
struct UserFields {
    #[serde(default)]
    id: Scalar,
}

/// Reads a sign-in answer; what it does not tell has its documented value.
pub fn parse_sign_in(body: &[u8]) -> SignedIn {
    let token = serde_json::from_slice::<TokenAnswer>(body).unwrap_or_default().token;
    let time = |field: Scalar| field.text().and_then(|text| text.parse::<Timestamp>().ok());
    let life = match (time(token.issued_at), time(token.expires_at)) {
        (Some(issued), Some(expires)) => Duration::try_from(expires.duration_since(issued)).unwrap_or(Duration::ZERO),
        _ => DEFAULT_LIFE,
    };
    SignedIn {
        user_id: token.user.id.text(),
        life: life.min(DEFAULT_LIFE),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::super::tests::target;
    use super::*;

    fn codes(app: &App) -> Vec<&str> {
        app.codes.iter().map(AppCode::expose).collect()
    }

    fn parse(value: &Value) -> Result<App, &'static str> {
        parse_app(value.to_string().as_bytes(), &target())
    }

    #[test]
    fn an_id_and_a_code_are_one_segment_each() {
        let code = AppCode::parse("+_!@#$%-/=%2F..").unwrap();
        assert_eq!(
            code_path(&target(), &code),
            "/v1/project/app-auth/apps/app/app-code/%2B_%21%40%23%24%25-%2F%3D%252F.."
        );
    }

    #[test]
    fn a_change_echoes_name_remark_and_workspace() {
        let body = |echo: &Echo| String::from_utf8(change_body(&target(), echo)).unwrap();
        let echo = Echo {
            name: "a\"é".into(),
            remark: Some("r".into()),
        };
        assert_eq!(
            body(&echo),
            r#"{"app_name":"a\"é","app_remark":"r","workspace_id":"0"}"#
        );
        assert_eq!(
            body(&Echo {
                name: "a".into(),
                remark: None
            }),
            r#"{"app_name":"a","workspace_id":"0"}"#
        );
    }

    #[test]
    fn a_sign_in_is_scoped_to_the_project() {
        let body: Value = serde_json::from_slice(&sign_in_body("d", "u", &"p\"w".into(), "prj")).unwrap();
        assert_eq!(
            body,
            json!({"auth": {
                "identity": {"methods": ["password"], "password": {"user": {"domain": {"name": "d"}, "name": "u", "password": "p\"w"}}},
                "scope": {"project": {"id": "prj"}},
            }})
        );
    }

    #[test]
    fn a_full_answer_is_read() {
        let app = parse(&json!({"app": {
            "app_id": "app", "app_name": "n", "app_remark": "", "app_key": "k", "app_secret": {"deep": []}, "user_id": "u",
            "project_id": "project", "app_type": "DEDICATE_APIG", "app_codes": ["b", "a", "b"], "created_at": 1,
            "updated_at": 1_703_162_907_779_i64, "bounded_api_count": 0, "new_field": [1, {"x": null}],
        }, "other": 1}))
        .unwrap();
        assert_eq!(codes(&app), ["b", "a"]);
        assert!(!app.masked);
        assert_eq!(
            (app.name.as_deref(), app.remark.as_deref(), app.owner.as_deref()),
            (Some("n"), None, Some("u"))
        );
        assert_eq!(
            (app.app_type, app.updated_at),
            (Some(AppType::Gateway), Some(1_703_162_907_779))
        );
    }

    #[test]
    fn masked_and_unreadable_codes_mark_the_list_as_incomplete() {
        for list in [
            json!(["a", "b****c"]),
            json!(["a", null]),
            json!(["a", 5]),
            json!(["a", ["b"]]),
            json!(["a", "x y"]),
            json!(["a", ""]),
        ] {
            let app = parse(&json!({"app": {"app_codes": list}})).unwrap();
            assert!(app.masked, "{list}");
            assert_eq!(codes(&app), ["a"]);
        }
    }

    #[test]
    fn a_list_that_no_app_can_have_is_incomplete() {
        for (listed, read) in [(64, 64), (65, 64), (10_000, 64)] {
            let list: Vec<String> = (0..listed).map(|number| format!("code-{number}")).collect();
            let app = parse(&json!({"app": {"app_codes": list}})).unwrap();
            assert_eq!((codes(&app).len(), app.masked), (read, listed > 64), "{listed}");
        }
    }

    #[test]
    fn a_missing_list_is_not_an_empty_one() {
        for app in [json!({}), json!({"app_codes": null})] {
            assert!(parse(&json!({"app": app})).unwrap().masked);
        }
        let app = parse(&json!({"app": {"app_codes": []}})).unwrap();
        assert!(!app.masked && app.codes.is_empty());
    }

    #[test]
    fn fields_of_the_wrong_type_count_as_absent() {
        let app = parse(&json!({"app": {
            "app_codes": ["a"], "app_name": 5, "app_remark": [], "app_type": null, "updated_at": "soon", "user_id": {"id": 1.5},
        }}))
        .unwrap();
        assert_eq!(
            (app.name, app.remark, app.app_type, app.updated_at, app.owner),
            (None, None, None, None, None)
        );
        assert_eq!(
            parse(&json!({"app": {"updated_at": "17"}})).unwrap().updated_at,
            Some(17)
        );
    }

    #[test]
    fn an_answer_about_another_app_is_an_error() {
        for id in [json!("app2"), json!(""), json!("APP"), json!(5)] {
            assert_eq!(
                parse(&json!({"app": {"app_id": id, "app_codes": ["a"]}})).unwrap_err(),
                "the answer is about another app"
            );
        }
    }

    #[test]
    fn what_is_not_an_app_is_an_error_that_quotes_nothing() {
        let deep = format!("{{\"app\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
        for body in [
            "",
            "null",
            "[]",
            "{}",
            "true",
            "{\"app\":null}",
            "{\"app\":[]}",
            "{\"app\":[[\"canary\"]]}",
            "[{\"app_codes\":[]}]",
            "{\"app\":\"canary\"}",
            "<html>canary</html>",
            "{\"app\":{\"app_codes\":[\"canary\"",
            "{\"app\":{\"app_codes\":\"canary\"}}",
            "\u{feff}{\"app\":{}}",
            "{\"app\":{\"app_id\":\"app\",\"app_id\":\"app\"}}",
            "{\"app\":{},\"app\":{}}",
            "{\"app\":{}}x",
            "{\"app\":{\"app_codes\":{}}}",
            &deep,
        ] {
            let error = parse_app(body.as_bytes(), &target()).unwrap_err();
            assert_eq!(error, "the answer is not an app", "{body:.80}");
        }
        assert!(parse_app(b"{\"app\":{\"app_codes\":[\"\xff\"]}}", &target()).is_err());
    }

    #[test]
    fn an_unknown_gateway_keeps_a_short_name() {
        let app = parse(&json!({"app": {"app_type": "x\n".repeat(100)}})).unwrap();
        assert_eq!(app.app_type, Some(AppType::Other("x".repeat(64))));
    }

    #[test]
    fn a_tokens_life_is_measured_by_the_clouds_clock() {
        let life = |token: Value| {
            parse_sign_in(json!({"token": token}).to_string().as_bytes())
                .life
                .as_secs()
        };
        let issued = "2020-01-04T09:05:22.701000Z";
        assert_eq!(
            life(json!({"issued_at": issued, "expires_at": "2020-01-04T10:05:22.701000Z"})),
            3600
        );
        assert_eq!(
            life(json!({"issued_at": issued, "expires_at": "2019-01-04T10:05:22.701000Z"})),
            0
        );
        assert_eq!(
            life(json!({"issued_at": issued, "expires_at": "9999-01-04T10:05:22.701000Z"})),
            86_400
        );
        assert_eq!(life(json!({"issued_at": issued, "expires_at": "tomorrow"})), 86_400);
        let answer = parse_sign_in(br#"{"token":{"user":{"id":"u1","name":"n"}}}"#);
        assert_eq!(
            answer,
            SignedIn {
                user_id: Some("u1".into()),
                life: DEFAULT_LIFE
            }
        );
        assert_eq!(parse_sign_in(b"<html>").user_id, None);
    }

    proptest! {
        #[test]
        fn no_body_makes_parsing_panic(body in prop::collection::vec(any::<u8>(), 0..200), json in "\\{\"app\":\\{\"app_(codes|id|name)\":[\\[\\]{}\":a-z0-9*,.]{0,40}\\}\\}") {
            let _ = (parse_app(&body, &target()), parse_app(json.as_bytes(), &target()), parse_sign_in(&body), parse_sign_in(json.as_bytes()));
        }

        #[test]
        fn every_listed_code_is_either_read_once_or_marks_the_list(list in prop::collection::vec("[!-~]{1,8}|.{0,8}", 0..8)) {
            let app = parse(&json!({"app": {"app_id": "app", "app_codes": list}})).unwrap();
            let is_read = |text: &String| codes(&app).iter().filter(|code| **code == text).count();
            prop_assert!(list.iter().all(|text| is_read(text) <= 1));
            prop_assert_eq!(list.iter().any(|text| is_read(text) == 0), app.masked);
        }
    }
}
