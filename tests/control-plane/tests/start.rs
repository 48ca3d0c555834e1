//! The promises of this crate, tried on real control planes. Fetches or builds the programs if the machine lacks them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs
)] // A test says what must hold by panicking.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use control_plane::{ControlPlane, Error, Identity, Options};
use serde_json::Value;

const NO_MANAGER: Options = Options {
    identities: Vec::new(),
    audit: false,
    controller_manager: false,
    extra_apiserver_args: Vec::new(),
};

/// Standard output of a command that must succeed.
fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// What a command that must fail said.
fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(
        !output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stderr).unwrap()
}

/// The programs that run with `dir` in their arguments.
fn running_in(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    let mut names: Vec<String> = lines
        .filter(|line| line.contains(dir))
        .map(|line| line.split('\0').next().unwrap().rsplit('/').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn serves_and_leaves_nothing_behind_when_it_stops() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    assert_eq!(output(plane.kubectl().args(["get", "--raw", "/readyz"])), "ok");
    let version: Value = serde_json::from_str(&output(plane.kubectl().args(["get", "--raw", "/version"]))).unwrap();
    assert_eq!(version["gitVersion"], plane.binaries().version.as_str());
    output(
        plane
            .kubectl()
            .args(["create", "namespace", "somewhere", "--validate=false"]),
    );
    assert!(output(plane.kubectl().args(["get", "namespaces", "--output=name"])).contains("namespace/somewhere"));
    // Only the controller manager ends a namespace.
    output(
        plane
            .kubectl()
            .args(["delete", "namespace", "somewhere", "--wait", "--timeout=60s"]),
    );

    let dir = plane.dir().to_path_buf();
    assert_eq!(running_in(&dir), ["etcd", "kube-apiserver", "kube-controller-manager"]);
    plane.stop().await.unwrap();
    assert_eq!(running_in(&dir), [""; 0]);
    assert!(!dir.exists());
}

#[tokio::test]
async fn leaves_nothing_behind_when_it_is_dropped() {
    let plane = ControlPlane::start(NO_MANAGER).await.unwrap();
    let dir = plane.dir().to_path_buf();
    drop(plane);
    assert_eq!(running_in(&dir), [""; 0]);
    assert!(!dir.exists());
}

#[tokio::test]
async fn grants_an_identity_what_is_bound_to_it_and_no_more() {
    let operator = Identity::service_account("operators", "rotator");
    let user = operator.user.clone();
    let plane = ControlPlane::start(Options {
        identities: vec![operator],
        ..NO_MANAGER
    })
    .await
    .unwrap();
    let list = ["get", "secrets", "--namespace=default"];
    let refused = refusal(plane.kubectl_as(&user).unwrap().args(list));
    assert!(refused.contains("Forbidden") && refused.contains(&user), "{refused}");

    // Bound as a deployment binds it: by the account's name, not by the user's.
    let admin = |args: &[&str]| output(plane.kubectl().args(args).arg("--validate=false"));
    admin(&["create", "clusterrole", "reader", "--verb=list", "--resource=secrets"]);
    admin(&[
        "create",
        "clusterrolebinding",
        "reader",
        "--clusterrole=reader",
        "--serviceaccount=operators:rotator",
    ]);
    until("the binding takes effect", || {
        plane
            .kubectl_as(&user)
            .unwrap()
            .args(list)
            .output()
            .unwrap()
            .status
            .success()
    })
    .await;
    refusal(
        plane
            .kubectl_as(&user)
            .unwrap()
            .args(["get", "configmaps", "--namespace=default"]),
    );

    assert!(matches!(plane.kubeconfig("nobody"), Err(Error::UnknownIdentity(_))));
}

#[tokio::test]
async fn refuses_a_stranger() {
    let plane = ControlPlane::start(NO_MANAGER).await.unwrap();
    let kubeconfig = fs::read_to_string(plane.admin_kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_str(&kubeconfig).unwrap();
    config["users"][0]["user"]["token"] = "guessed".into();
    let guessed = plane.dir().join("guessed.kubeconfig");
    fs::write(&guessed, config.to_string()).unwrap();
    refusal(plane.kubectl().env("KUBECONFIG", &guessed).args(["get", "namespaces"]));
}

#[tokio::test]
async fn runs_beside_another() {
    let (one, two) = tokio::join!(ControlPlane::start(NO_MANAGER), ControlPlane::start(NO_MANAGER));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(one.url(), two.url());
    output(
        one.kubectl()
            .args(["create", "namespace", "only-here", "--validate=false"]),
    );
    output(one.kubectl().args(["get", "namespace", "only-here"]));
    assert!(refusal(two.kubectl().args(["get", "namespace", "only-here"])).contains("NotFound"));
    one.stop().await.unwrap();
    assert_eq!(output(two.kubectl().args(["get", "--raw", "/readyz"])), "ok");
}

#[tokio::test]
async fn keeps_its_address_and_data_over_a_restart_of_the_server() {
    let mut plane = ControlPlane::start(Options::default()).await.unwrap();
    let url = plane.url().to_owned();
    output(
        plane
            .kubectl()
            .args(["create", "namespace", "kept", "--validate=false"]),
    );
    plane.stop_api_server();
    refusal(plane.kubectl().args(["get", "namespace", "kept"]));
    plane.start_api_server().await.unwrap();
    assert_eq!(plane.url(), url);
    output(plane.kubectl().args(["get", "namespace", "kept"]));
    // The controller manager outlives its server's absence and finds it again.
    output(
        plane
            .kubectl()
            .args(["delete", "namespace", "kept", "--wait", "--timeout=60s"]),
    );
}

#[tokio::test]
async fn keeps_its_data_over_a_restart_and_a_compaction_of_etcd() {
    let mut plane = ControlPlane::start(NO_MANAGER).await.unwrap();
    output(
        plane
            .kubectl()
            .args(["create", "namespace", "kept", "--validate=false"]),
    );
    let kept = [
        "get",
        "namespace",
        "kept",
        "--output=jsonpath={.metadata.resourceVersion}",
    ];
    let version = output(plane.kubectl().args(kept));
    output(
        plane
            .kubectl()
            .args(["create", "namespace", "later", "--validate=false"]),
    );
    plane.compact_etcd().await.unwrap();
    plane.stop_etcd();
    refusal(plane.kubectl().args([
        "create",
        "namespace",
        "lost",
        "--validate=false",
        "--request-timeout=2s",
    ]));
    plane.start_etcd().await.unwrap();
    until("the server finds etcd again", || {
        plane
            .kubectl()
            .args(["create", "namespace", "found", "--validate=false"])
            .output()
            .unwrap()
            .status
            .success()
    })
    .await;
    assert_eq!(output(plane.kubectl().args(kept)), version);

    // A server without memory of its own cannot tell what was before the compaction.
    plane.stop_api_server();
    plane.start_api_server().await.unwrap();
    let watch = format!("/api/v1/namespaces?watch=true&timeoutSeconds=5&resourceVersion={version}");
    let said = output(plane.kubectl().args(["get", "--raw", &watch]));
    assert!(said.contains("\"code\":410"), "{said}");
}

#[tokio::test]
async fn reads_and_does_not_write_while_etcd_is_full() {
    let plane = ControlPlane::start(NO_MANAGER).await.unwrap();
    let write = |name: &str| {
        let mut kubectl = plane.kubectl();
        kubectl.args(["create", "namespace", name, "--validate=false"]);
        kubectl
    };
    output(&mut write("before"));
    plane.set_etcd_full(true).await.unwrap();
    let said = refusal(&mut write("lost"));
    assert!(said.contains("database space exceeded"), "{said}");
    output(plane.kubectl().args(["get", "namespace", "before"]));
    plane.set_etcd_full(false).await.unwrap();
    output(&mut write("found"));
}

#[tokio::test]
async fn records_who_did_what_without_what_was_said() {
    let plane = ControlPlane::start(Options {
        audit: true,
        ..NO_MANAGER
    })
    .await
    .unwrap();
    let secret = [
        "create",
        "secret",
        "generic",
        "hush",
        "--from-literal=code=do-not-log-this",
        "--validate=false",
    ];
    output(plane.kubectl().args(secret));
    let log = plane.audit_log().unwrap();
    let is_it = |event: &Value| event["verb"] == "create" && event["objectRef"]["name"] == "hush";
    let events = || -> Vec<Value> {
        let text = fs::read_to_string(&log).unwrap();
        // The last line may be half written.
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .filter(is_it)
            .collect()
    };
    until("the audit log has the request", || !events().is_empty()).await;
    let events = events();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["user"]["username"], "admin");
    assert_eq!(events[0]["stage"], "ResponseComplete");
    let code = ["do-not-log-this", "ZG8tbm90LWxvZy10aGlz"];
    assert!(!code.iter().any(|code| fs::read_to_string(&log).unwrap().contains(code)));
}

#[tokio::test]
async fn says_why_a_server_does_not_start() {
    let options = Options {
        extra_apiserver_args: vec!["--no-such-flag".to_owned()],
        ..NO_MANAGER
    };
    let error = ControlPlane::start(options).await.unwrap_err().to_string();
    assert!(
        error.contains("kube-apiserver") && error.contains("no-such-flag"),
        "{error}"
    );
}

/// Runs the program until `end` has ended it; gives the folder of its control plane.
fn run_until(end: impl FnOnce(&mut Child)) -> PathBuf {
    let mut child = Command::new(env!("CARGO_BIN_EXE_control-plane"))
        .args(["run", "--identity=someone"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let admin = lines
        .find_map(|line| line.strip_prefix("export KUBECONFIG=").map(PathBuf::from))
        .unwrap();
    let dir = admin.parent().unwrap().to_path_buf();
    assert_eq!(running_in(&dir), ["etcd", "kube-apiserver", "kube-controller-manager"]);
    end(&mut child);
    dir
}

#[tokio::test]
async fn takes_everything_along_when_its_process_is_killed() {
    let dir = run_until(|child| {
        child.kill().unwrap();
        child.wait().unwrap();
    });
    until("the programs are gone", || running_in(&dir).is_empty()).await;
    // The folder goes with the next start.
    drop(ControlPlane::start(NO_MANAGER).await.unwrap());
    assert!(!dir.exists());
}

#[test]
fn leaves_nothing_behind_at_an_interrupt() {
    let dir = run_until(|child| {
        output(Command::new("kill").args(["-INT", &child.id().to_string()]));
        assert!(child.wait().unwrap().success());
    });
    assert_eq!(running_in(&dir), [""; 0]);
    assert!(!dir.exists());
}
