use cloud_simulator::{AppType, Behaviour, Cause, CodePosition, NewApp, Operation, Options, Request, UnknownCode};
use serde_json::{Value, json};

use crate::bench::{Bench, Signer};

fn is_made_by_the_service(code: &str) -> bool {
    let half = |uuid: &str| uuid.as_bytes()[12] == b'4' && matches!(uuid.as_bytes()[16], b'8' | b'9' | b'a' | b'b');
    let hex = code
        .bytes()
        .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    code.len() == 64 && hex && half(&code[..32]) && half(&code[32..])
}

#[tokio::test]
async fn replaces_only_the_code_that_a_reset_names() {
    let bench = Bench::with(Options::default(), |app| app.codes(3)).await;
    let (old, before) = (bench.code(), bench.show().await);
    let seen = bench.reset(&old).await;
    assert_eq!(seen.status, 200, "{seen:?}");
    let codes = seen.codes();
    assert_eq!(codes.len(), 3);
    assert!(!codes.contains(&old));
    assert_eq!(codes.iter().filter(|code| bench.app.codes.contains(code)).count(), 2);
    let new = codes.iter().find(|code| !bench.app.codes.contains(code)).unwrap();
    assert!(is_made_by_the_service(new), "{new}");
    let (app, was) = (&seen.body["app"], &before.body["app"]);
    for field in [
        "app_id",
        "app_key",
        "app_secret",
        "app_name",
        "app_remark",
        "created_at",
        "user_id",
    ] {
        assert_eq!(app[field], was[field], "{field}");
    }
    assert!(app["updated_at"].as_i64() > was["updated_at"].as_i64());
    assert_eq!(bench.show().await.codes(), codes);
    let ledger = bench.sim.ledger();
    assert_eq!(ledger.resets_applied(&bench.app.app_id), 1);
    assert_eq!(ledger.codes_ever(&bench.app.app_id).last(), Some(new));
    let mut live = ledger.live_codes(&bench.app.app_id);
    live.sort();
    assert_eq!(live, codes);
    assert!(ledger.of(Operation::Reset).all(|entry| entry.had_effect));
    assert!(ledger.of(Operation::Show).all(|entry| !entry.had_effect));
}

#[tokio::test]
async fn refuses_to_reset_what_is_not_there() {
    let bench = Bench::new().await;
    let gone = "0".repeat(64);
    let seen = bench.reset(&gone).await;
    assert_eq!((seen.status, seen.code()), (404, "ModelArts.3923"));
    assert!(seen.message().contains(&gone), "an unkind cloud tells the code");
    bench.sim.behave(|behaviour| {
        behaviour.unknown_code = UnknownCode::Failed;
        behaviour.echo_codes = false;
    });
    let seen = bench.reset(&gone).await;
    assert_eq!((seen.status, seen.code()), (500, "ModelArts.3927"));
    assert!(!seen.message().contains(&gone));
    let path = bench.path(&format!("/{}/app-code/{gone}", "f".repeat(32)));
    let seen = bench.call("PUT", &path, Some(&bench.body())).await;
    assert_eq!((seen.status, seen.code()), (404, "ModelArts.3923"));
    assert_eq!(
        seen.message(),
        format!("Application {} does not exist.", "f".repeat(32))
    );
}

#[tokio::test]
async fn refuses_codes_of_an_app_on_roma_connect() {
    let bench = Bench::with(Options::default(), |app| app.on(AppType::Apic)).await;
    assert_eq!(bench.show().await.codes(), Vec::<String>::new());
    let seen = bench.reset("any").await;
    assert_eq!((seen.status, seen.code()), (500, "ModelArts.3927"));
    assert_eq!(bench.add().await.code(), "ModelArts.3924");
}

#[tokio::test]
async fn demands_a_name_in_the_body() {
    let bench = Bench::new().await;
    let path = bench.app_path(&format!("/app-code/{}", bench.code()));
    for body in [None, Some(json!({})), Some(json!({"app_name": ""})), Some(json!([1]))] {
        let seen = bench.call("PUT", &path, body.as_ref()).await;
        assert_eq!((seen.status, seen.code()), (400, "ModelArts.0104"), "{body:?}");
    }
    bench.sim.behave(|behaviour| behaviour.accept_missing_body = true);
    assert_eq!(bench.call("PUT", &path, None).await.status, 200);
    assert_eq!(bench.sim.ledger().resets_applied(&bench.app.app_id), 1);
}

#[tokio::test]
async fn keeps_name_and_remark_unless_told_to_take_them() {
    let bench = Bench::new().await;
    let body = json!({"app_name": "other", "app_remark": "changed"});
    let path = bench.app_path("/app-code");
    assert_eq!(
        bench.call("POST", &path, Some(&body)).await.body["app"]["app_name"],
        "app_demo"
    );
    bench.sim.behave(|behaviour| behaviour.apply_names = true);
    let seen = bench.call("POST", &path, Some(&body)).await;
    assert_eq!(
        (&seen.body["app"]["app_name"], &seen.body["app"]["app_remark"]),
        (&json!("other"), &json!("changed"))
    );
}

#[tokio::test]
async fn stops_adding_at_five_codes() {
    let bench = Bench::new().await;
    for count in 2..=5 {
        let seen = bench.add().await;
        assert_eq!((seen.status, seen.codes().len()), (200, count));
    }
    let seen = bench.add().await;
    assert_eq!((seen.status, seen.code()), (500, "ModelArts.3924"));
    assert!(seen.message().contains("APIG.3131"));
    assert_eq!(bench.sim.live_codes(&bench.app.app_id).len(), 5);
    assert_eq!(bench.sim.ledger().acts_applied(&bench.app.app_id, Cause::Add), 4);
}

#[tokio::test]
async fn deletes_a_code_and_answers_with_the_app() {
    let bench = Bench::new().await;
    let seen = bench.delete(&bench.code()).await;
    assert_eq!((seen.status, seen.codes()), (200, vec![]));
    let again = bench.delete(&bench.code()).await;
    assert_eq!((again.status, again.code()), (404, "ModelArts.3923"));
    bench
        .sim
        .behave(|behaviour| behaviour.unknown_code = UnknownCode::Failed);
    assert_eq!(bench.delete(&bench.code()).await.code(), "ModelArts.3934");
}

#[tokio::test]
async fn shuffles_codes_or_keeps_them_in_a_known_order() {
    let bench = Bench::with(Options::default(), |app| app.codes(5)).await;
    let mut orders = std::collections::BTreeSet::new();
    for _ in 0..20 {
        orders.insert(bench.show().await.body["app"]["app_codes"].to_string());
    }
    assert!(orders.len() > 5, "{} orders", orders.len());
    for (position, place) in [
        (CodePosition::Keep, 1),
        (CodePosition::First, 0),
        (CodePosition::Last, 4),
    ] {
        bench.sim.behave(|behaviour| behaviour.code_position = position);
        let before = bench.sim.live_codes(&bench.app.app_id);
        let seen = bench.reset(&before[1]).await;
        let codes: Vec<String> = serde_json::from_value(seen.body["app"]["app_codes"].clone()).unwrap();
        assert!(!before.contains(&codes[place]), "{position:?}");
    }
}

#[tokio::test]
async fn addresses_codes_of_every_spelling_by_their_decoded_segment() {
    let code = format!("+/_!@#$%-={}", "x".repeat(60));
    let bench = Bench::with(Options::default(), |app| app.code(&code)).await;
    assert_eq!(bench.sim.data_plane_status(&code), 200);
    bench.sim.behave(|behaviour| behaviour.refuse_encoded_slash = true);
    let seen = bench.reset(&code).await;
    assert_eq!((seen.status, seen.code()), (404, "APIGW.0101"));
    bench.sim.behave(|behaviour| behaviour.refuse_encoded_slash = false);
    let seen = bench.reset(&code).await;
    assert_eq!((seen.status, seen.codes().len()), (200, 1), "{seen:?}");
    assert_eq!(bench.sim.data_plane_status(&code), 401);
}

#[tokio::test]
async fn shows_an_app_to_its_creator_alone() {
    let bench = Bench::new().await;
    let stranger = bench.sim.add_user(&bench.user.account_id, "stranger", "pw");
    let signer = Signer::of(&stranger, &bench.project);
    let ask = async |method: &str, path: &str| {
        let request = Request::new(method, path).body(if method == "GET" {
            String::new()
        } else {
            bench.body().to_string()
        });
        bench.send(signer.sign(&bench.sim, request)).await.unwrap()
    };
    let reset = bench.app_path(&format!("/app-code/{}", bench.code()));
    for (method, path) in [
        ("GET", bench.app_path("")),
        ("PUT", reset),
        ("POST", bench.app_path("/app-code")),
    ] {
        let seen = ask(method, &path).await;
        assert_eq!((seen.status, seen.code()), (403, "ModelArts.0108"), "{method}");
    }
    let list = ask("GET", &bench.path("")).await;
    assert_eq!((list.status, &list.body["total_count"]), (200, &json!(0)));
    bench.sim.behave(|behaviour| behaviour.show_to_strangers = true);
    assert_eq!(ask("GET", &bench.app_path("")).await.status, 200);
    assert_eq!(bench.sim.ledger().resets_applied(&bench.app.app_id), 0);
}

#[tokio::test]
async fn knows_the_workspaces_of_the_account() {
    let bench = Bench::new().await;
    let workspace = bench.sim.add_workspace(&bench.user.account_id);
    let other = bench
        .sim
        .create_app(NewApp::of(&bench.user.user_id, &bench.project).workspace(&workspace));
    let show = |app: &str, workspace: &str| bench.path(&format!("/{app}?workspace_id={workspace}"));
    for (app, workspace, status, code) in [
        (&bench.app.app_id, "0", 200, ""),
        (&bench.app.app_id, "nowhere", 400, "ModelArts.7005"),
        (&bench.app.app_id, workspace.as_str(), 404, "ModelArts.3923"),
        (&other.app_id, workspace.as_str(), 200, ""),
        (&other.app_id, "0", 404, "ModelArts.3923"),
    ] {
        let seen = bench.call("GET", &show(app, workspace), None).await;
        assert_eq!((seen.status, seen.code()), (status, code));
    }
    bench.sim.behave(|behaviour| behaviour.ignore_workspace = true);
    assert_eq!(bench.call("GET", &show(&other.app_id, "0"), None).await.status, 200);
}

#[tokio::test]
async fn creates_lists_finds_and_deletes_apps() {
    let bench = Bench::new().await;
    let body = json!({"app_name": "app_second"});
    let made = bench.call("POST", &bench.path(""), Some(&body)).await;
    assert_eq!((made.status, made.codes()), (200, vec![]), "a new app has no codes");
    assert_eq!(made.body["app"].get("app_remark"), None, "an empty remark is left out");
    let again = bench.call("POST", &bench.path(""), Some(&body)).await;
    assert_eq!((again.status, again.code()), (409, "ModelArts.3929"));
    let list = bench
        .call("GET", &bench.path("?order=desc&limit=1&sort_by=app_name"), None)
        .await;
    assert_eq!((&list.body["count"], &list.body["total_count"]), (&json!(1), &json!(2)));
    assert_eq!(list.body["apps"][0]["app_name"], "app_second");
    assert_eq!(bench.call("GET", &bench.path("?limit=many"), None).await.status, 400);
    for (name, exists) in [("app_second", true), ("app_third", false)] {
        let seen = bench.call("GET", &bench.path(&format!("/{name}/exists")), None).await;
        assert_eq!((seen.status, seen.body), (200, json!({"exists": exists})));
    }
    let path = bench.path(&format!("/{}", made.body["app"]["app_id"].as_str().unwrap()));
    let gone = bench.call("DELETE", &path, None).await;
    assert_eq!((gone.status, gone.text.as_str()), (200, ""));
    assert_eq!(bench.call("GET", &path, None).await.code(), "ModelArts.3923");
    let seen = bench
        .call("PUT", &bench.app_path("/app-secret"), Some(&bench.body()))
        .await;
    assert_ne!(seen.body["app"]["app_secret"], bench.app.app_secret.as_str());
    assert_eq!(seen.body["app"]["app_key"], bench.app.app_key.as_str());
}

#[tokio::test]
async fn gives_apps_of_a_dedicated_gateway_their_kind_of_id() {
    let bench = Bench::with(Options::default(), |app| app.on(AppType::DedicateApig).codes(1)).await;
    assert!(bench.app.app_id.starts_with("logic-app-"));
    assert_eq!(bench.app.app_id.len(), "logic-app-".len() + 36);
    assert_eq!(bench.reset(&bench.code()).await.status, 200);
}

#[tokio::test]
async fn masks_codes_and_invents_fields_when_told_to() {
    let behaviour = Behaviour {
        mask_unless_asked: true,
        extra_fields: true,
        ..Behaviour::default()
    };
    let options = Options {
        behaviour,
        ..Options::default()
    };
    let bench = Bench::with(options, |app| app.codes(1)).await;
    let masked = bench.call("GET", &bench.app_path(""), None).await;
    assert!(masked.codes()[0].contains('*'));
    assert!(masked.body["app"].get("x_unheard_of").is_some());
    assert_eq!(bench.show().await.codes(), bench.app.codes);
    let list = bench
        .call("GET", &bench.path(&format!("?app_ids={}", bench.app.app_id)), None)
        .await;
    assert_eq!(list.body["apps"][0]["app_codes"], json!(bench.app.codes));
}

#[tokio::test]
async fn masks_the_answers_of_calls_that_cannot_ask_for_plain_text() {
    let bench = Bench::new().await;
    bench.sim.behave(|behaviour| behaviour.mask_unless_asked = true);
    let is_masked = |codes: Vec<String>| !codes.is_empty() && codes.iter().all(|code| code.contains('*'));
    assert!(is_masked(bench.reset(&bench.code()).await.codes()));
    assert!(is_masked(bench.add().await.codes()));
    let secret = bench.app_path("/app-secret");
    assert!(is_masked(bench.call("PUT", &secret, Some(&bench.body())).await.codes()));
    let live = bench.show().await.codes();
    assert!(live.len() == 2 && !is_masked(live.clone()));
    assert!(is_masked(bench.delete(&live[0]).await.codes()));
    assert_eq!(bench.sim.live_codes(&bench.app.app_id), live[1..]);
}

#[tokio::test]
async fn makes_the_same_codes_from_the_same_seed() {
    let run = async |seed| {
        let bench = Bench::with(
            Options {
                seed,
                ..Options::default()
            },
            |app| app.codes(1),
        )
        .await;
        bench.reset(&bench.code()).await.codes()
    };
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}

#[tokio::test]
async fn knows_no_other_paths() {
    let bench = Bench::new().await;
    for (method, path) in [
        ("GET", "/v2/nothing".to_owned()),
        ("PATCH", bench.app_path("")),
        ("GET", "/".into()),
    ] {
        let seen = bench.call(method, &path, None).await;
        assert_eq!((seen.status, seen.code()), (404, "APIGW.0101"));
        assert!(seen.headers.contains_key("x-request-id"));
        assert_eq!(seen.body["request_id"].as_str().map(str::len), Some(32));
        assert_ne!(seen.body["error_msg"], Value::Null);
    }
}
