//! The vendor's Python SDK as a client: what it signs must be taken, and what we answer it must understand.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use cloud_simulator::{Operation, Options, Simulator};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::bench::Bench;

const SDK: &str = "huaweicloudsdkcore==3.1.219";

/// A Python with the SDK, set up once per user: `$XDG_CACHE_HOME/appcode-operator/python/…`.
fn python() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache
        .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME or XDG_CACHE_HOME")).join(".cache"));
    let folder = cache.join("appcode-operator/python");
    let home = folder.join(SDK.replace("==", "-"));
    let python = home.join("bin/python3");
    if !python.exists() {
        // Made aside and moved, so that neither a broken attempt nor a second test run leaves half of one.
        let draft = folder.join(format!("draft-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        eprintln!("setting up Python with {SDK} in {}", home.display());
        run(Command::new("python3").args(["-m", "venv"]).arg(&draft));
        run(Command::new(draft.join("bin/python3")).args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            SDK,
        ]));
        if std::fs::rename(&draft, &home).is_err() {
            std::fs::remove_dir_all(&draft).unwrap();
        }
    }
    python
}

fn run(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; Python 3 with venv is needed"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    output
}

fn drive(given: &Value) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vendor_sdk.py");
    let mut command = Command::new(python());
    command
        .arg(&script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // Nothing of this leaves the machine, whatever proxies its user has.
    for proxy in [
        "http_proxy",
        "https_proxy",
        "all_proxy",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
    ] {
        command.env_remove(proxy);
    }
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(given.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn given(bench: &Bench) -> Value {
    let Bench {
        sim,
        user,
        project,
        app,
    } = bench;
    let temporary = sim.add_temporary_key(&user.user_id, SignedDuration::from_hours(24));
    sim.with(|cloud| cloud.add_federated("cluster", "header.claims.signature", &user.user_id));
    json!({
        "url": sim.url(), "ak": user.ak, "sk": user.sk, "project": project, "temporary": temporary,
        "app": app.app_id, "name": app.app_name, "code": app.codes[0], "special": app.codes[1],
        "idToken": "header.claims.signature",
    })
}

fn assert_refused(done: &Value, status: u16, code: &str, message: &str) {
    assert_eq!(
        (&done["status"], &done["errorCode"]),
        (&json!(status), &json!(code)),
        "{done}"
    );
    assert!(done["errorMsg"].as_str().unwrap().contains(message), "{done}");
    assert_eq!(
        done["requestId"].as_str().map(str::len),
        Some(32),
        "the SDK found the request id"
    );
}

fn assert_resets(sim: &Simulator, app: &str, done: &Value) {
    let ledger = sim.ledger();
    assert_eq!(ledger.resets_applied(app), 2);
    let made = ledger.codes_ever(app);
    let [hex, special, first, second, added] = made.as_slice() else {
        panic!("{made:?}")
    };
    let listed = |step: &str| {
        let mut codes: Vec<String> = serde_json::from_value(done[step]["app"]["app_codes"].clone()).unwrap();
        codes.sort();
        codes
    };
    let sorted = |codes: &[&String]| {
        let mut codes: Vec<String> = codes.iter().map(|code| (*code).clone()).collect();
        codes.sort();
        codes
    };
    assert_eq!(listed("show"), sorted(&[hex, special]));
    assert_eq!(listed("reset"), sorted(&[first, special]));
    assert_eq!(listed("resetSpecial"), sorted(&[first, second]));
    assert_eq!(listed("add"), sorted(&[first, second, added]));
    assert_eq!(listed("delete"), sorted(&[first, second]));
}

#[tokio::test(flavor = "multi_thread")]
async fn understands_the_vendors_sdk_and_is_understood() {
    let special = format!("+/!@#$%-_={}", "Zz9".repeat(20));
    let hex = "1f5f6cb703864cc580d1ba2cdfd77a271a74eee8e5a242e8b5adc009f77a8b2a";
    let bench = Bench::with(Options::default(), |app| app.code(hex).code(&special)).await;
    let given = given(&bench);
    let done = tokio::task::spawn_blocking(move || drive(&given)).await.unwrap();

    for step in [
        "show",
        "reset",
        "resetSpecial",
        "add",
        "delete",
        "list",
        "exists",
        "temporaryKey",
        "projectLookUp",
        "federated",
    ] {
        assert_eq!(done[step]["status"], 200, "{step}: {}", done[step]);
    }
    assert_resets(&bench.sim, &bench.app.app_id, &done);
    assert_eq!(
        (&done["list"]["total_count"], &done["exists"]["exists"]),
        (&json!(1), &json!(true))
    );
    assert_refused(&done["resetAgain"], 404, "ModelArts.3923", "does not exist");
    assert_refused(&done["wrongSecret"], 401, "APIGW.0301", "verify aksk signature fail");
    assert_refused(&done["wrongToken"], 401, "APIGW.0301", "decrypt token fail");
    let calls = |operation| bench.sim.calls(operation);
    assert_eq!(
        (
            calls(Operation::Projects),
            calls(Operation::IdToken),
            calls(Operation::TemporaryKey)
        ),
        (1, 1, 1)
    );
}
