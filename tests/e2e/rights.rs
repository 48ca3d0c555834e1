//! What the program asks of the API server, by the server's own audit log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use crate::stage::Stage;

const USER: &str = "system:serviceaccount:appcode-system:appcode-operator";

/// Every answered request of the operator, as the audit log has it.
pub fn lines(stage: &Stage) -> Vec<Value> {
    let log = std::fs::read_to_string(stage.plane.audit_log().unwrap()).unwrap();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let ours = lines.filter(|line| line["user"]["username"] == USER && line["stage"] != "RequestReceived");
    // A watch has a line when it starts and one when it ends.
    ours.filter(|line| line["stage"] != "ResponseStarted" || line["verb"] == "watch")
        .collect()
}

/// The same as verb, and resource with its subresource.
pub fn requests(stage: &Stage) -> Vec<(String, String)> {
    let ours = lines(stage).into_iter();
    ours.filter_map(|line| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (group, resource) = (
            text(&line["objectRef"]["apiGroup"]),
            text(&line["objectRef"]["resource"]),
        );
        let sub = line["objectRef"]["subresource"]
            .as_str()
            .map_or(String::new(), |sub| format!("/{sub}"));
        (!resource.is_empty()).then(|| (text(&line["verb"]), format!("{group}:{resource}{sub}")))
    })
    .collect()
}

/// What the roles in a file of `deploy/kustomize/` grant, in the same words.
pub fn granted(file: &str) -> BTreeSet<(String, String)> {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kustomize");
    let text = std::fs::read_to_string(deploy.join(file)).unwrap();
    let objects = text
        .split("\n---\n")
        .map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    let roles = objects.filter(|object| object["rules"].is_array());
    roles.flat_map(|role| rules_of(&role)).collect()
}

/// What a role grants, in the same words.
pub fn rules_of(role: &Value) -> BTreeSet<(String, String)> {
    let mut granted = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        let is_by_name = rule["resourceNames"].is_array();
        assert_eq!(rule.as_object().unwrap().len(), 3 + usize::from(is_by_name), "{rule}");
        assert_eq!(
            [&rule["apiGroups"], &rule["resources"]].map(|list| list.as_array().unwrap().len()),
            [1, 1]
        );
        for verb in rule["verbs"].as_array().unwrap() {
            let (group, resource) = (
                rule["apiGroups"][0].as_str().unwrap(),
                rule["resources"][0].as_str().unwrap(),
            );
            granted.insert((verb.as_str().unwrap().to_owned(), format!("{group}:{resource}")));
        }
    }
    granted
}

/// Whether the ends of the watches on resources and on the Lease are among these requests.
pub fn are_watches_over(requests: &[(String, String)]) -> bool {
    let is_over = |what: &str| requests.iter().any(|(verb, of)| verb == "watch" && of == what);
    is_over("appcode.dev:appcoderotations") && is_over("coordination.k8s.io:leases")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_costs_three_writes_and_one_event_and_every_granted_right_is_used() {
    let flags = [
        "--settle-window=6s",
        "--request-deadline=2s",
        "--connect-timeout=1s",
        "--minimum-interval=7s",
        "--daily-budget=65000",
        "--check-period=10m",
        "--caller-rate=50",
    ];
    let mut stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &flags).await;
    stage.start_operator();
    stage.namespace("a");
    let app = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    stage
        .until("the event of the take-over", || {
            requests(&stage).iter().any(|(_, what)| what == "events.k8s.io:events")
        })
        .await;

    let before = requests(&stage).len();
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({"rotationTrigger": "x"})));
    stage
        .until("the trigger is handled", || {
            stage.status("a", "one")["lastHandledTrigger"] == "x"
        })
        .await;
    let is_told = |stage: &Stage| {
        requests(stage)[before..]
            .iter()
            .any(|(_, what)| what == "events.k8s.io:events")
    };
    stage.until("the event of the rotation", || is_told(&stage)).await;
    assert_eq!(stage.resets(&app.app_id), 1);

    let mut count: BTreeMap<(String, String), usize> = BTreeMap::new();
    for request in &requests(&stage)[before..] {
        *count.entry(request.clone()).or_default() += 1;
    }
    println!("requests of one rotation: {count:?}");
    let of = |verb: &str, what: &str| count.get(&(verb.to_owned(), what.to_owned())).copied().unwrap_or(0);
    assert_eq!(of("patch", ":secrets"), 2, "the intent and the code");
    assert_eq!(of("update", "appcode.dev:appcoderotations/status"), 1);
    assert_eq!(of("create", "events.k8s.io:events"), 1);
    assert!(of("get", ":secrets") + of("get", "appcode.dev:appcoderotations") <= 4);
    assert_eq!(of("list", "appcode.dev:appcoderotations"), 0);

    // The finalizer comes and goes with a code that is to be deleted.
    let overlap = json!({"rotationTrigger": "y", "strategy": "Overlap", "overlap": {"gracePeriod": "0s"}});
    stage.apply(&stage.rotation("a", "one", &app.app_id, &overlap));
    stage
        .until("the code before is gone", || {
            let status = stage.status("a", "one");
            status["lastHandledTrigger"] == "y" && status["phase"] == "Ready"
        })
        .await;
    assert!(stage.get("a", "acr", "one")["metadata"]["finalizers"].is_null());
    let status = stage.status("a", "one");
    assert_eq!(status["history"][0]["strategy"], "Overlap");
    assert!(status["history"][0]["retiredAt"].is_string(), "{status:#}");
    assert_eq!(stage.cloud.live_codes(&app.app_id).len(), 1);

    stage
        .end_standby(|| stage.run_operator(stage.operator_kubeconfig()))
        .await;
    // A watch is written down when it ends.
    assert_eq!(stage.end_operator("TERM"), Some(0));
    stage
        .until("the end of both watches", || are_watches_over(&requests(&stage)))
        .await;
    let used: BTreeSet<_> = requests(&stage).into_iter().collect();
    assert_eq!(used, granted("base/rbac.yaml"), "used and granted are the same");
}
