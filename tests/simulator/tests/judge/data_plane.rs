use cloud_simulator::{Request, Service};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::bench::{Bench, Seen};

async fn infer(bench: &Bench, service: &str, code: Option<&str>) -> Seen {
    let mut request = Request::new("POST", &format!("/v1/infers/{service}/predict")).body("{}");
    if let Some(code) = code {
        request = request.header("X-Apig-AppCode", code);
    }
    bench.send(request).await.unwrap()
}

#[tokio::test]
async fn takes_live_codes_and_refuses_dead_ones() {
    let bench = Bench::new().await;
    let seen = infer(&bench, "any", Some(&bench.code())).await;
    assert_eq!(seen.status, 200);
    assert!(seen.body.is_object());
    let new = bench.reset(&bench.code()).await.codes();
    let seen = infer(&bench, "any", Some(&bench.code())).await;
    assert_eq!((seen.status, seen.code()), (401, "APIG.0303"));
    assert_eq!(
        seen.message(),
        "Incorrect app authentication information: app not found with specified appCode"
    );
    assert!(seen.headers.contains_key("x-request-id"));
    assert_eq!(infer(&bench, "any", Some(&new[0])).await.status, 200);
    assert_eq!(infer(&bench, "any", None).await.code(), "APIG.0303");
}

#[tokio::test]
async fn takes_time_to_learn_of_codes() {
    let bench = Bench::new().await;
    bench
        .sim
        .set_propagation(SignedDuration::from_secs(3), SignedDuration::from_secs(10));
    bench.sim.advance(SignedDuration::from_secs(60));
    let (old, new) = (bench.code(), bench.reset(&bench.code()).await.codes()[0].clone());
    let statuses = || (bench.sim.data_plane_status(&old), bench.sim.data_plane_status(&new));
    assert_eq!(statuses(), (200, 401));
    bench.sim.advance(SignedDuration::from_secs(4));
    assert_eq!(statuses(), (401, 401));
    bench.sim.advance(SignedDuration::from_secs(7));
    assert_eq!(statuses(), (401, 200));
}

fn api(bench: &Bench, service: &Service) -> String {
    let (project, service, api) = (&bench.project, &service.service_id, &service.api_id);
    format!("/v1/{project}/services/{service}/app-auth-apis/{api}/app-auth-api")
}

#[tokio::test]
async fn serves_only_the_apps_that_a_service_authorized() {
    let bench = Bench::new().await;
    let service = bench.sim.add_service(&bench.user.user_id, &bench.project, "mnist");
    let seen = infer(&bench, &service.service_id, Some(&bench.code())).await;
    assert_eq!((seen.status, seen.code()), (403, "APIG.0304"));

    let body = json!({"apps": [{"app_id": bench.app.app_id}, {"app_id": "unknown"}]});
    let seen = bench.call("POST", &api(&bench, &service), Some(&body)).await;
    let results = &seen.body["auth_result"];
    assert_eq!(
        (seen.status, &results[0]["success"], &results[1]["success"]),
        (200, &json!(true), &json!(false))
    );
    assert_eq!(
        (&results[0]["reason"], &results[1]["auth_id"]),
        (&json!(""), &json!(""))
    );
    assert_eq!(
        infer(&bench, &service.service_id, Some(&bench.code())).await.status,
        200
    );

    let seen = bench
        .call("GET", &bench.app_path("/auth-apis?service_name=mni"), None)
        .await;
    assert_eq!(
        (&seen.body["total_count"], &seen.body["apis"][0]["support_app_code"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(bench.show().await.body["app"]["bounded_api_count"], 1);
    let seen = bench.call("DELETE", &bench.app_path(""), None).await;
    assert_eq!((seen.status, seen.code()), (500, "ModelArts.3933"), "a bound app stays");

    let seen = bench.call("DELETE", &api(&bench, &service), Some(&body)).await;
    assert_eq!(seen.body["unauth_result"][0]["success"], true);
    assert_eq!(
        infer(&bench, &service.service_id, Some(&bench.code())).await.code(),
        "APIG.0304"
    );
    assert_eq!(
        bench
            .call("POST", &api(&bench, &service), Some(&json!({})))
            .await
            .code(),
        "ModelArts.0104"
    );
}

#[tokio::test]
async fn lets_only_a_services_creator_authorize_apps_for_it() {
    let bench = Bench::new().await;
    let other = bench.sim.add_user(&bench.user.account_id, "other", "pw");
    let theirs = bench.sim.add_service(&other.user_id, &bench.project, "theirs");
    let body = json!({"apps": [{"app_id": bench.app.app_id}]});
    assert_eq!(
        bench.call("POST", &api(&bench, &theirs), Some(&body)).await.code(),
        "ModelArts.0108"
    );
    let wrong = Service {
        api_id: "wrong".into(),
        ..theirs.clone()
    };
    assert_eq!(
        bench.call("POST", &api(&bench, &wrong), Some(&body)).await.code(),
        "ModelArts.3936"
    );
    let missing = Service {
        service_id: "missing".into(),
        ..theirs
    };
    assert_eq!(
        bench.call("POST", &api(&bench, &missing), Some(&body)).await.code(),
        "ModelArts.3935"
    );
    assert_eq!(bench.show().await.body["app"]["bounded_api_count"], Value::from(0));
}
