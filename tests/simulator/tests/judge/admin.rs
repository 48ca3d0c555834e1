use std::io::BufRead;
use std::process::{Child, Command, Stdio};

use cloud_simulator::{Fault, Ledger, Options, Request, Simulator};
use serde_json::{Value, json};

use crate::bench::{Bench, Seen, send};

async fn ask(sim: &Simulator, method: &str, path: &str, body: &Value) -> Seen {
    let mut request = Request::new(method, &format!("/_admin{path}"));
    if !body.is_null() {
        // As `curl -d` announces it.
        request = request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body.to_string());
    }
    send(sim, request).await.unwrap()
}

#[tokio::test]
async fn arranges_a_cloud_over_http() {
    let sim = Simulator::start(Options::default()).await.unwrap();
    let made = ask(&sim, "POST", "/tenants", &json!({"name": "acme"})).await.body;
    let (user, project) = (
        made["user"]["userId"].as_str().unwrap(),
        made["projectId"].as_str().unwrap(),
    );
    let app = json!({"owner": user, "project": project, "appName": "app_one", "codes": 2});
    let app = ask(&sim, "POST", "/apps", &app).await.body;
    let (id, code) = (app["appId"].as_str().unwrap(), app["codes"][0].as_str().unwrap());
    let codes = format!("/apps/{id}/codes");
    assert_eq!(
        ask(&sim, "DELETE", &format!("{codes}/{code}"), &Value::Null)
            .await
            .status,
        200
    );
    assert_eq!(
        ask(&sim, "DELETE", &format!("{codes}/{code}"), &Value::Null)
            .await
            .status,
        404
    );
    let odd = "a/b+c%d";
    ask(&sim, "POST", &codes, &json!({"code": odd})).await;
    assert_eq!(
        ask(&sim, "GET", &codes, &Value::Null)
            .await
            .body
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let path = format!("{codes}/{}", cloud_simulator::wire::encode(odd));
    assert_eq!(ask(&sim, "DELETE", &path, &Value::Null).await.status, 200);
    let told = ask(&sim, "GET", &format!("/ledger/{id}"), &Value::Null).await.body;
    assert_eq!(
        (&told["resetsApplied"], &told["liveCodes"]),
        (&json!(0), &json!([app["codes"][1]]))
    );
    assert_eq!(told["codesEver"].as_array().unwrap().len(), 3);
    let workspace = ask(
        &sim,
        "POST",
        "/workspaces",
        &json!({"accountId": made["account"]["accountId"]}),
    )
    .await;
    assert_eq!(workspace.body["workspaceId"].as_str().map(str::len), Some(32));
}

#[tokio::test]
async fn orders_faults_and_reads_the_ledger_over_http() {
    let bench = Bench::new().await;
    let order = json!({"kind": "half-reset", "left": "both-present", "app": bench.app.app_id, "times": 1});
    let id = ask(&bench.sim, "POST", "/faults", &order).await.body["id"]
        .as_u64()
        .unwrap();
    assert_eq!(
        ask(&bench.sim, "GET", "/faults", &Value::Null).await.body[0]["fault"]["kind"],
        "half-reset"
    );
    assert_eq!(bench.reset(&bench.code()).await.status, 500);
    let seen = ask(&bench.sim, "GET", "/ledger", &Value::Null).await;
    let ledger: Ledger = serde_json::from_value(seen.body).unwrap();
    assert_eq!(ledger, bench.sim.ledger());
    assert_eq!(ledger.requests[0].faults[0].0, id);
    bench.show().await;
    let struck = ask(&bench.sim, "GET", &format!("/faults/{id}/requests"), &Value::Null).await;
    assert_eq!(struck.body, json!([ledger.requests[0]]));
    assert_eq!(ledger.requests[0].error_code.as_deref(), Some("ModelArts.3927"));

    let hold = ask(
        &bench.sim,
        "POST",
        "/faults",
        &json!({"kind": "hold", "at": ["dataplane"]}),
    )
    .await
    .body["id"]
        .clone();
    let released = ask(&bench.sim, "POST", &format!("/faults/{hold}/release"), &Value::Null).await;
    assert_eq!(released.body, json!({"released": 0}));
    assert_eq!(
        ask(&bench.sim, "DELETE", &format!("/faults/{hold}"), &Value::Null)
            .await
            .status,
        200
    );
    assert_eq!(
        ask(&bench.sim, "DELETE", &format!("/faults/{hold}"), &Value::Null)
            .await
            .status,
        404
    );
    ask(&bench.sim, "DELETE", "/faults", &Value::Null).await;
    assert_eq!(bench.sim.faults(), vec![]);
}

#[tokio::test]
async fn changes_users_keys_time_and_behaviour_over_http() {
    let bench = Bench::new().await;
    let (user, ak) = (&bench.user.user_id, &bench.user.ak);
    for path in ["keys", "temporary-keys", "tokens", "tokens/expire", "tokens/revoke"] {
        assert_eq!(
            ask(&bench.sim, "POST", &format!("/users/{user}/{path}"), &Value::Null)
                .await
                .status,
            200,
            "{path}"
        );
    }
    assert_eq!(
        ask(&bench.sim, "POST", "/users/nobody/keys", &Value::Null).await.status,
        404
    );
    let password = json!({"password": "another"});
    assert_eq!(
        ask(&bench.sim, "PUT", &format!("/users/{user}/password"), &password)
            .await
            .status,
        200
    );
    assert_eq!(
        ask(&bench.sim, "POST", &format!("/keys/{ak}/lock"), &Value::Null)
            .await
            .status,
        200
    );
    assert!(bench.sim.is_locked(ak));
    assert_eq!(
        ask(&bench.sim, "DELETE", &format!("/keys/{ak}"), &Value::Null)
            .await
            .status,
        200
    );

    let before = bench.sim.now();
    let seen = ask(&bench.sim, "POST", "/clock", &json!({"advanceMillis": 3_600_000})).await;
    assert_eq!(seen.body["skewMillis"], 3_600_000);
    assert!(bench.sim.now().duration_since(before).as_secs() >= 3600);

    let seen = ask(&bench.sim, "PATCH", "/behaviour", &json!({"gatewayPrefix": "APIG"})).await;
    assert_eq!(
        (&seen.body["gatewayPrefix"], &seen.body["codePosition"]),
        (&json!("APIG"), &json!("shuffled"))
    );
    assert_eq!(bench.show().await.code(), "APIG.0301");
    assert_eq!(
        ask(&bench.sim, "PATCH", "/behaviour", &json!({"unheard": 1}))
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn explains_itself() {
    let bench = Bench::new().await;
    let help = ask(&bench.sim, "GET", "", &Value::Null).await;
    assert!(help.text.contains("/_admin/ledger"));
    assert!(help.headers.contains_key("x-request-id"));
    assert_eq!(ask(&bench.sim, "GET", "/nothing", &Value::Null).await.status, 404);
    assert_eq!(
        ask(&bench.sim, "POST", "/faults", &json!({"kind": "unheard"}))
            .await
            .status,
        400
    );
    assert!(
        bench.sim.ledger().requests.is_empty(),
        "what an admin does is no request"
    );
}

#[test]
fn writes_and_reads_every_kind_of_fault() {
    let kinds = [
        json!({"kind": "latency", "millis": 5}),
        json!({"kind": "slow-answer", "millis": 5}),
        json!({"kind": "status-before", "status": 503}),
        json!({"kind": "status-after", "status": 500, "code": "X.1", "headers": [["Retry-After", "7"]]}),
        json!({"kind": "throttle", "retryAfter": "soon"}),
        json!({"kind": "throttle"}),
        json!({"kind": "cut-before"}),
        json!({"kind": "cut-after"}),
        json!({"kind": "cut-in-answer"}),
        json!({"kind": "hold"}),
        json!({"kind": "stale", "lag": "frozen"}),
        json!({"kind": "stale", "lag": {"millis": 5}}),
        json!({"kind": "masked"}),
        json!({"kind": "half-reset", "left": "none-made"}),
        json!({"kind": "body", "body": "html"}),
        json!({"kind": "body", "body": {"text": "x"}}),
        json!({"kind": "late", "answer": "cut"}),
        json!({"kind": "late", "afterMillis": 5, "answer": {"reply": {"status": 504}}}),
        json!({"kind": "duplicate", "answer": "first"}),
    ];
    for kind in kinds {
        let fault: Fault = serde_json::from_value(kind.clone()).unwrap_or_else(|error| panic!("{kind}: {error}"));
        let written = serde_json::to_value(&fault).unwrap();
        assert_eq!(serde_json::from_value::<Fault>(written).unwrap(), fault);
    }
}

#[tokio::test]
async fn listens_on_loopback_only() {
    let options = Options {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..Options::default()
    };
    assert_eq!(
        Simulator::start(options).await.unwrap_err().kind(),
        std::io::ErrorKind::InvalidInput
    );
}

#[tokio::test]
async fn ends_with_its_last_handle() {
    let bench = Bench::new().await;
    let (sim, address) = (bench.sim.clone(), bench.sim.address());
    drop(bench);
    assert!(tokio::net::TcpStream::connect(address).await.is_ok());
    drop(sim);
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(arguments: &[&str]) -> (Program, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloud-simulator"));
    let command = command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut program = Program(command.spawn().unwrap());
    let output = std::io::BufReader::new(program.0.stdout.take().unwrap());
    let mut text = String::new();
    for line in output.lines() {
        text += &line.unwrap();
        if let Ok(told) = serde_json::from_str(&text) {
            return (program, told);
        }
    }
    panic!("the program ended: {text}");
}

#[test]
fn runs_as_a_program_with_a_demo_or_a_seed_file() {
    let (_program, told) = run(&["--demo", "--seed", "7"]);
    assert!(told["url"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(told["apps"][0]["codes"].as_array().unwrap().len(), 1);
    let (_again, same) = run(&["--demo", "--seed", "7"]);
    assert_eq!(same["users"], told["users"]);

    let seed = json!({
        "accounts": [{"name": "acme", "workspaces": 1, "users": [{"name": "ops", "password": "pw"}]}],
        "apps": [{"user": "ops", "name": "app_one", "type": "DEDICATE_APIG", "codes": ["given"]}],
        "faults": [{"kind": "latency", "millis": 1}], "behaviour": {"gatewayPrefix": "APIG"},
    });
    let path = std::env::temp_dir().join(format!("cloud-simulator-seed-{}.json", std::process::id()));
    std::fs::write(&path, seed.to_string()).unwrap();
    let (_program, told) = run(&["--seed-file", path.to_str().unwrap()]);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(
        (&told["apps"][0]["codes"], &told["faults"]),
        (&json!(["given"]), &json!([1]))
    );
    assert_eq!(told["projects"][0][0], "cn-north-4");
}
