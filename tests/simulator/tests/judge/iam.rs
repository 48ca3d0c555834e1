use cloud_simulator::{Operation, Request};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::bench::{Bench, Seen, Signer};

fn by_password(bench: &Bench, password: &str, scope: &Value) -> Request {
    let user = json!({
        "domain": {"name": bench.user.account_name}, "name": bench.user.name, "password": password,
    });
    let mut body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}});
    if !scope.is_null() {
        body["auth"]["scope"] = scope.clone();
    }
    Request::new("POST", "/v3/auth/tokens?nocatalog=true")
        .header("content-type", "application/json;charset=utf8")
        .body(body.to_string())
}

async fn sign_in(bench: &Bench) -> String {
    let scope = json!({"project": {"id": bench.project}});
    let seen = bench
        .send(by_password(bench, &bench.user.password, &scope))
        .await
        .unwrap();
    assert_eq!(seen.status, 201, "{seen:?}");
    seen.headers["x-subject-token"].to_str().unwrap().to_owned()
}

async fn show_with(bench: &Bench, token: &str) -> Seen {
    let request = Request::new("GET", &bench.app_path("")).header("X-Auth-Token", token);
    bench.send(request).await.unwrap()
}

#[tokio::test]
async fn gives_a_token_for_a_password_that_opens_the_users_apps() {
    let bench = Bench::new().await;
    let scope = json!({"project": {"name": "cn-north-4"}});
    let seen = bench
        .send(by_password(&bench, &bench.user.password, &scope))
        .await
        .unwrap();
    let body = &seen.body["token"];
    assert_eq!(body["user"]["id"], bench.user.user_id.as_str());
    assert_eq!(body["project"]["id"], bench.project.as_str());
    assert_eq!(body["user"]["domain"]["name"], "acme");
    let life = body["expires_at"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert_eq!(
        life.duration_since(body["issued_at"].as_str().unwrap().parse().unwrap()),
        SignedDuration::from_hours(24)
    );
    let token = seen.headers["x-subject-token"].to_str().unwrap();
    assert!(token.starts_with("MII"), "{token}");
    assert_eq!(show_with(&bench, token).await.status, 200);
    assert_eq!(bench.sim.calls(Operation::Token), 1);
}

#[tokio::test]
async fn refuses_wrong_passwords_and_locks_the_user() {
    let bench = Bench::new().await;
    let scope = json!({"project": {"id": bench.project}});
    for _ in 0..6 {
        let seen = bench.send(by_password(&bench, "wrong", &scope)).await.unwrap();
        let expected = json!({"error": {
            "code": 401, "message": "The username or password is wrong.", "title": "Unauthorized",
        }});
        assert_eq!((seen.status, seen.body), (401, expected));
    }
    let seen = bench
        .send(by_password(&bench, &bench.user.password, &scope))
        .await
        .unwrap();
    assert_eq!(seen.body["error"]["message"], "The account is locked. Try again later.");
    bench.sim.advance(SignedDuration::from_mins(16));
    sign_in(&bench).await;
    let seen = bench
        .send(Request::new("POST", "/v3/auth/tokens").body("{}"))
        .await
        .unwrap();
    assert_eq!((seen.status, &seen.body["error"]["code"]), (400, &json!(400)));
    let scope = json!({"project": {"id": "unknown"}});
    assert_eq!(
        bench
            .send(by_password(&bench, &bench.user.password, &scope))
            .await
            .unwrap()
            .status,
        400
    );
}

#[tokio::test]
async fn refuses_tokens_that_expired_were_ended_or_never_were() {
    let bench = Bench::new().await;
    let token = sign_in(&bench).await;
    let seen = show_with(&bench, "MIInever").await;
    assert_eq!((seen.status, seen.code()), (401, "APIGW.0301"));
    assert!(seen.message().ends_with("decrypt token fail"));

    bench.sim.advance(SignedDuration::from_hours(23));
    assert_eq!(show_with(&bench, &token).await.status, 200);
    bench.sim.advance(SignedDuration::from_hours(2));
    let seen = show_with(&bench, &token).await;
    assert_eq!((seen.status, seen.code()), (401, "APIGW.0301"));
    assert!(seen.message().contains("token expires, expires_at: "));

    let token = sign_in(&bench).await;
    assert_eq!(bench.sim.expire_tokens(&bench.user.user_id), 1);
    assert_eq!(show_with(&bench, &token).await.status, 401);

    let token = sign_in(&bench).await;
    bench.sim.set_password(&bench.user.user_id, "another");
    let seen = show_with(&bench, &token).await;
    assert_eq!(
        (seen.status, seen.code(), seen.message()),
        (401, "APIGW.0307", "The token must be updated")
    );
}

#[tokio::test]
async fn refuses_a_token_of_another_project_or_of_none() {
    let bench = Bench::new().await;
    let other = bench.sim.add_project(&bench.user.account_id, "cn-east-3");
    let token = bench.sim.issue_token(&bench.user.user_id, &other);
    let seen = show_with(&bench, &token).await;
    assert_eq!((seen.status, seen.code()), (403, "ModelArts.0210"));
    let seen = bench
        .send(by_password(&bench, &bench.user.password, &Value::Null))
        .await
        .unwrap();
    let unscoped = seen.headers["x-subject-token"].to_str().unwrap();
    let seen = show_with(&bench, unscoped).await;
    assert_eq!((seen.status, seen.code()), (400, "ModelArts.0204"));
}

#[tokio::test]
async fn lists_the_accounts_projects() {
    let bench = Bench::new().await;
    bench.sim.add_project(&bench.user.account_id, "cn-east-3");
    bench.sim.add_tenant("somebody-else");
    let signer = Signer {
        project: None,
        ..bench.signer()
    };
    let ask = async |path: &str| {
        let seen = bench
            .send(signer.sign(&bench.sim, Request::new("GET", path)))
            .await
            .unwrap();
        seen.body["projects"].as_array().unwrap().clone()
    };
    assert_eq!(ask("/v3/projects").await.len(), 2);
    let named = ask("/v3/projects?name=cn-north-4").await;
    assert_eq!((named.len(), &named[0]["id"]), (1, &json!(bench.project)));
}

#[tokio::test]
async fn trades_a_token_for_a_temporary_key_of_the_user_or_of_an_agency() {
    let bench = Bench::new().await;
    let agency = bench
        .sim
        .with(|cloud| cloud.add_agency(&bench.user.account_id, "operator"));
    let token = sign_in(&bench).await;
    let ask = async |identity: Value| {
        let body = json!({"auth": {"identity": identity}});
        let request = Request::new("POST", "/v3.0/OS-CREDENTIAL/securitytokens").header("X-Auth-Token", &token);
        bench.send(request.body(body.to_string())).await.unwrap()
    };
    let use_it = async |seen: &Seen| {
        let text = |field: &str| seen.body["credential"][field].as_str().unwrap().to_owned();
        let signer = Signer {
            ak: text("access"),
            sk: text("secret"),
            security_token: Some(text("securitytoken")),
            ..bench.signer()
        };
        bench
            .send(signer.sign(&bench.sim, Request::new("GET", &bench.app_path(""))))
            .await
            .unwrap()
    };
    let seen = ask(json!({"methods": ["token"], "token": {"duration_seconds": 900}})).await;
    assert_eq!(seen.status, 201);
    assert_eq!(use_it(&seen).await.status, 200, "still the same user");
    let assume = json!({"agency_name": "operator", "domain_name": "acme", "duration_seconds": 3600});
    let seen = ask(json!({"methods": ["assume_role"], "assume_role": assume})).await;
    assert_eq!(seen.status, 201);
    assert_eq!(
        use_it(&seen).await.code(),
        "ModelArts.0108",
        "an agency did not create the app"
    );
    assert_eq!(bench.sim.ledger().requests.last().unwrap().caller, Some(agency));
    assert_eq!(
        ask(json!({"methods": ["token"], "token": {"duration_seconds": 10}}))
            .await
            .status,
        400
    );
    let missing = json!({"agency_name": "none", "domain_name": "acme"});
    assert_eq!(
        ask(json!({"methods": ["assume_role"], "assume_role": missing}))
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn vouches_for_federated_users_machines_and_pods() {
    let bench = Bench::new().await;
    let user = bench.user.user_id.clone();
    bench.sim.with(|cloud| {
        cloud.add_federated("cluster", "a.b.c", &user);
        cloud.add_pod_identity("pod-token", &user);
    });
    let body = json!({"auth": {"id_token": {"id": "a.b.c"}, "scope": {"project": {"id": bench.project}}}}).to_string();
    let ask = Request::new("POST", "/v3.0/OS-AUTH/id-token/tokens").body(body);
    let seen = bench.send(ask.clone().header("X-Idp-Id", "cluster")).await.unwrap();
    assert_eq!(
        show_with(&bench, seen.headers["x-subject-token"].to_str().unwrap())
            .await
            .status,
        200
    );
    assert_eq!(bench.send(ask.header("X-Idp-Id", "other")).await.unwrap().status, 401);

    let session = bench
        .send(Request::new("PUT", "/meta-data/latest/api/token"))
        .await
        .unwrap()
        .text;
    let ask = Request::new("GET", "/openstack/latest/securitykey").header("X-Metadata-Token", &session);
    let seen = bench.send(ask.clone()).await.unwrap();
    assert!(seen.text.contains("Please configure Cloud Service Agency first"));
    bench.sim.with(|cloud| cloud.set_machine_identity(&user));
    let seen = bench.send(ask).await.unwrap();
    assert!(seen.body["credential"]["securitytoken"].is_string());

    let ask = Request::new("POST", "/pod-identity").body("{}");
    let seen = bench
        .send(ask.clone().header("Authorization", "pod-token"))
        .await
        .unwrap();
    assert!(seen.body["credentials"]["accessKeyId"].is_string());
    assert_eq!(bench.send(ask).await.unwrap().status, 401);
}
