use cloud_simulator::{Fault, GatewayPrefix, Operation, Request, auth};
use jiff::{SignedDuration, ToSpan};

use crate::bench::{Bench, Signer};

fn show(bench: &Bench) -> Request {
    Request::new("GET", &bench.app_path(""))
}

#[tokio::test]
async fn lets_in_a_request_signed_with_the_owners_key() {
    let bench = Bench::new().await;
    let seen = bench.signed(show(&bench)).await.unwrap();
    assert_eq!(seen.status, 200, "{seen:?}");
    assert_eq!(seen.body["app"]["user_id"], bench.user.user_id.as_str());
    let ledger = bench.sim.ledger();
    assert_eq!(seen.headers["x-request-id"], ledger.requests[0].request_id.as_str());
    assert_eq!(ledger.requests[0].caller.as_deref(), Some(bench.user.user_id.as_str()));
}

#[tokio::test]
async fn refuses_a_wrong_secret_with_either_prefix() {
    for (prefix, code) in [(GatewayPrefix::Apig, "APIG.0301"), (GatewayPrefix::Apigw, "APIGW.0301")] {
        let bench = Bench::new().await;
        bench.sim.behave(|behaviour| behaviour.gateway_prefix = prefix);
        let signer = Signer {
            sk: "wrong".into(),
            ..bench.signer()
        };
        let seen = bench.send(signer.sign(&bench.sim, show(&bench))).await.unwrap();
        assert_eq!((seen.status, seen.code()), (401, code));
        assert!(
            seen.message()
                .starts_with("Incorrect IAM authentication information: verify aksk signature fail, ")
        );
        assert_eq!(seen.body["request_id"], seen.headers["x-request-id"].to_str().unwrap());
        assert!(!seen.message().contains("canonicalRequest"));
    }
}

#[tokio::test]
async fn echoes_the_canonical_request_only_when_told_to() {
    let bench = Bench::new().await;
    bench.sim.behave(|behaviour| behaviour.echo_canonical_request = true);
    let signer = Signer {
        sk: "wrong".into(),
        ..bench.signer()
    };
    let path = bench.app_path(&format!("/app-code/{}", bench.code()));
    let seen = bench
        .send(signer.sign(&bench.sim, Request::new("PUT", &path)))
        .await
        .unwrap();
    assert!(
        seen.message().contains(&format!("canonicalRequest:PUT|{path}/||host:")),
        "{}",
        seen.message()
    );
}

#[tokio::test]
async fn finds_a_good_signature_wrong_when_told_to() {
    let bench = Bench::new().await;
    bench.sim.behave(|behaviour| behaviour.echo_canonical_request = true);
    bench.sim.inject(Fault::wrong_signature().at(Operation::Reset).times(2));
    let code = bench.code();
    let seen = bench.reset(&code).await;
    assert_eq!((seen.status, seen.code()), (401, "APIGW.0301"));
    let path = bench.app_path(&format!("/app-code/{code}"));
    assert!(seen.message().contains(&format!("canonicalRequest:PUT|{path}/||")));
    let entry = bench.sim.ledger().requests.remove(0);
    assert_eq!(entry.refusal, Some(seen.text), "the ledger keeps what a refusal said");
    assert!(!entry.had_effect && entry.faults.len() == 1);

    // Nothing of a request with a token is signed.
    let token = bench.sim.issue_token(&bench.user.user_id, &bench.project);
    let request = Request::new("PUT", &path).header("x-auth-token", &token);
    let seen = bench.send(request.body(bench.body().to_string())).await.unwrap();
    assert_eq!(seen.status, 200);
    assert_eq!(bench.sim.ledger().requests[1].refusal, None);
    assert!(!bench.sim.is_locked(&bench.user.ak));
    assert_eq!(bench.reset(&seen.codes()[0]).await.status, 200);
}

#[tokio::test]
async fn refuses_what_was_changed_after_signing() {
    let bench = Bench::new().await;
    let signed = bench.signer().sign(&bench.sim, show(&bench).body("{}"));
    for changed in [
        Request {
            method: "DELETE".into(),
            ..signed.clone()
        },
        Request {
            target: format!("{}?workspace_id=0", signed.target),
            ..signed.clone()
        },
        Request {
            body: b"{ }".to_vec(),
            ..signed.clone()
        },
    ] {
        assert_eq!(bench.send(changed).await.unwrap().code(), "APIGW.0301");
    }
    assert_eq!(bench.send(signed).await.unwrap().status, 200);
}

#[tokio::test]
async fn refuses_a_clock_that_is_off_by_more_than_fifteen_minutes() {
    let bench = Bench::new().await;
    for (minutes, status) in [(14, 200), (-14, 200), (16, 401), (-16, 401)] {
        let date = auth::format_date(bench.sim.now() + minutes.minutes());
        let signer = Signer {
            date: Some(date.clone()),
            ..bench.signer()
        };
        let seen = bench.send(signer.sign(&bench.sim, show(&bench))).await.unwrap();
        assert_eq!(seen.status, status, "{minutes} minutes");
        let told = format!("signature expired, signature time:{date},server time:");
        assert_eq!(seen.message().contains(&told), status == 401);
    }
    let date = auth::format_date(bench.sim.now());
    bench.sim.set_clock_skew(SignedDuration::from_hours(1));
    let signer = Signer {
        date: Some(date),
        ..bench.signer()
    };
    assert_eq!(
        bench.send(signer.sign(&bench.sim, show(&bench))).await.unwrap().code(),
        "APIGW.0301"
    );
}

#[tokio::test]
async fn locks_a_key_after_six_failures_for_five_minutes() {
    let bench = Bench::new().await;
    let wrong = Signer {
        sk: "wrong".into(),
        ..bench.signer()
    };
    for _ in 0..5 {
        bench.send(wrong.sign(&bench.sim, show(&bench))).await.unwrap();
    }
    assert_eq!(
        bench.signed(show(&bench)).await.unwrap().status,
        200,
        "a success in time starts the count afresh"
    );
    for _ in 0..6 {
        bench.send(wrong.sign(&bench.sim, show(&bench))).await.unwrap();
    }
    assert!(bench.sim.is_locked(&bench.user.ak));
    let seen = bench.signed(show(&bench)).await.unwrap();
    assert_eq!(seen.status, 401);
    assert!(
        seen.message()
            .ends_with("AK access failed to reach the limit,forbidden")
    );
    bench.sim.advance(SignedDuration::from_secs(301));
    assert_eq!(bench.signed(show(&bench)).await.unwrap().status, 200);
}

#[tokio::test]
async fn takes_a_temporary_key_with_its_token_until_it_expires() {
    let bench = Bench::new().await;
    let key = bench
        .sim
        .add_temporary_key(&bench.user.user_id, SignedDuration::from_mins(15));
    let good = Signer {
        ak: key.ak.clone(),
        sk: key.sk.clone(),
        security_token: Some(key.security_token.clone()),
        ..bench.signer()
    };
    let without = Signer {
        security_token: None,
        ..good.clone()
    };
    let other = Signer {
        security_token: Some("other".into()),
        ..good.clone()
    };
    assert_eq!(
        bench.send(good.sign(&bench.sim, show(&bench))).await.unwrap().status,
        200
    );
    for bad in [&without, &other] {
        assert_eq!(
            bench.send(bad.sign(&bench.sim, show(&bench))).await.unwrap().code(),
            "APIGW.0301"
        );
    }
    bench.sim.advance(SignedDuration::from_mins(16));
    let seen = bench.send(good.sign(&bench.sim, show(&bench))).await.unwrap();
    assert!(seen.message().ends_with("calc ak sk signature fail:signature expired"));
}

#[tokio::test]
async fn refuses_a_key_that_was_revoked_and_takes_its_successor() {
    let bench = Bench::new().await;
    let key = bench.sim.rotate_key(&bench.user.user_id, &bench.user.ak);
    let seen = bench.signed(show(&bench)).await.unwrap();
    assert!(
        seen.message()
            .contains(&format!("Get secretKey failed,ak:{},err:ak not exist", bench.user.ak))
    );
    let signer = Signer {
        ak: key.ak,
        sk: key.sk,
        ..bench.signer()
    };
    assert_eq!(
        bench.send(signer.sign(&bench.sim, show(&bench))).await.unwrap().status,
        200
    );
}

#[tokio::test]
async fn demands_a_signature_over_host_and_date_or_a_token() {
    let bench = Bench::new().await;
    let seen = bench.send(show(&bench)).await.unwrap();
    assert_eq!((seen.status, seen.code()), (401, "APIGW.0301"));
    assert!(seen.message().ends_with("x-auth-token not found"));
    let mut signed = bench.signer().sign(&bench.sim, show(&bench));
    for (name, value) in &mut signed.headers {
        if name == "authorization" {
            *value = value.replace("host;", "");
        }
    }
    assert_eq!(bench.send(signed).await.unwrap().status, 401);
}

#[tokio::test]
async fn compares_the_project_in_the_path_with_the_credentials() {
    let bench = Bench::new().await;
    let other = bench.sim.add_project(&bench.user.account_id, "cn-east-3");
    let signer = Signer::of(&bench.user, &other);
    let seen = bench.send(signer.sign(&bench.sim, show(&bench))).await.unwrap();
    assert_eq!((seen.status, seen.code()), (403, "ModelArts.0210"));
    let none = Signer {
        project: None,
        ..bench.signer()
    };
    assert_eq!(
        bench.send(none.sign(&bench.sim, show(&bench))).await.unwrap().status,
        200
    );
}
