//! The rights that the chart gives in each mode, held against what the operator asks of the API server by the server's own
//! audit log: what is granted and not used is too much, what is used and not granted fails.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::helm::{RELEASE, render};
use crate::rights::{lines, requests, rules_of};
use crate::stage::Stage;

const USER: &str = "system:serviceaccount:appcode-system:appcode-operator";

/// Values that change rights, each mode with the name of its resource.
fn modes() -> [(&'static str, Value); 6] {
    let scoped = json!({"scope": "Namespaces", "createSecrets": false, "restartWorkloads": true, "watchSecrets": true});
    [
        ("cluster", json!({})),
        (
            "namespaces",
            json!({"rbac": {"scope": "Namespaces"}, "watchNamespaces": ["a"]}),
        ),
        ("no-create", json!({"rbac": {"createSecrets": false}})),
        ("restarts", json!({"rbac": {"restartWorkloads": true}})),
        ("watch", json!({"rbac": {"watchSecrets": true}})),
        ("all-of-it", json!({"rbac": scoped, "watchNamespaces": ["a"]})),
    ]
}

type Rights = BTreeSet<(String, String)>;

/// What the chart grants, and in which namespaces; none means everywhere.
fn granted(values: &Value) -> (Rights, Option<BTreeSet<String>>) {
    let objects = render(std::slice::from_ref(values)).remove(0);
    let roles: Vec<&Value> = objects.iter().filter(|object| object["rules"].is_array()).collect();
    let rights = roles.iter().flat_map(|role| rules_of(role)).collect();
    // That for the Lease is always beside the operator.
    let is_of_lease = |role: &&Value| {
        role["metadata"]["name"]
            .as_str()
            .is_some_and(|name| name.ends_with("-lease"))
    };
    let roles: Vec<&Value> = roles.into_iter().filter(|role| !is_of_lease(role)).collect();
    let places: BTreeSet<String> = roles
        .iter()
        .filter_map(|role| role["metadata"]["namespace"].as_str().map(str::to_owned))
        .collect();
    let is_cluster = roles.iter().any(|role| role["kind"] == "ClusterRole");
    assert_ne!(is_cluster, !places.is_empty(), "one or the other");
    (rights, (!is_cluster).then_some(places))
}

/// One workload of each kind; nothing runs them.
fn workloads() -> [Value; 3] {
    ["Deployment", "StatefulSet", "DaemonSet"].map(|kind| {
        let mut spec = json!({
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "main", "image": "images.example/web:1"}]},
            },
        });
        if kind == "StatefulSet" {
            spec["serviceName"] = json!("web");
        }
        json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "web", "namespace": "a"}, "spec": spec})
    })
}

/// A resource in `a` that uses every right there is: taken over, rotated in both ways, told of.
async fn story(stage: &Stage, mode: &str, rights: &Rights) {
    let has = |verb: &str, what: &str| rights.contains(&(verb.to_owned(), what.to_owned()));
    let app = stage.app(1);
    let mut target = json!({});
    if !has("create", ":secrets") {
        // As the chart's README says.
        stage.kubectl(&["create", "secret", "generic", mode, "-n", "a"]);
        target = json!({"creationPolicy": "Merge"});
    }
    stage.apply(&stage.rotation("a", mode, &app.app_id, &json!({"target": target})));
    stage.until_ready("a", mode, &app.app_id).await;
    let mut steps = vec![
        json!({"strategy": "Overlap", "overlap": {"gracePeriod": "0s"}}),
        json!({}),
    ];
    if has("patch", "apps:deployments") {
        let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
        steps[1]["restartTargets"] = json!(kinds.map(|kind| json!({"kind": kind, "name": "web"})));
    }
    for (number, mut more) in steps.into_iter().enumerate() {
        let trigger = format!("trigger-{number}");
        more["rotationTrigger"] = json!(trigger);
        more["target"] = target.clone();
        stage.apply(&stage.rotation("a", mode, &app.app_id, &more));
        let is_handled = || stage.status("a", mode)["lastHandledTrigger"] == trigger;
        stage.until(&format!("{mode}: {trigger} is handled"), is_handled).await;
        stage.until_ready("a", mode, &app.app_id).await;
        let is_held = || !stage.get("a", "acr", mode)["metadata"]["finalizers"].is_null();
        stage
            .until(&format!("{mode}: the finalizer is gone"), || !is_held())
            .await;
    }
    assert_eq!(stage.resets(&app.app_id), 1, "the other one was an overlap");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_each_mode_of_the_chart_every_right_that_it_grants_is_used_and_no_other() {
    let mut stage = Stage::bare(Path::new(env!("CARGO_BIN_EXE_appcode-operator"))).await;
    stage.namespace("a");
    stage.namespace("b");
    for workload in &workloads() {
        stage.apply(workload);
    }
    for (mode, values) in modes() {
        println!("mode {mode}");
        let (rights, places) = granted(&values);
        let begin = requests(&stage).len();
        let values = stage.values(&values);
        // From one mode to the next by an upgrade, which must leave no right behind.
        let action = if begin == 0 { "install" } else { "upgrade" };
        stage.helm(action, &json!({"values": values})).unwrap();
        let is_cluster = places.is_none();
        for (kind, namespace) in [
            ("clusterrole", ""),
            ("clusterrolebinding", ""),
            ("role", "a"),
            ("rolebinding", "a"),
        ] {
            let is_there = !stage.get(namespace, kind, RELEASE).is_null();
            assert_eq!(is_there, is_cluster == namespace.is_empty(), "{mode}: {kind}");
        }
        for verb in ["list", "watch", "delete", "update", "deletecollection"] {
            let who = format!("--as={USER}");
            let (is_allowed, ..) = stage.run(&["auth", "can-i", verb, "secrets", "-n", "a", &who], "");
            let is_granted = rights.contains(&(verb.to_owned(), ":secrets".to_owned()));
            assert_eq!(is_allowed, is_granted, "{mode}: {verb} secrets");
        }
        // The one of the mode before would be taken, and none made.
        stage.kubectl(&["delete", "lease", RELEASE, "-n", "appcode-system", "--ignore-not-found"]);
        let deployed = stage.start_release().await;
        if places.is_some() {
            // Nobody looks there.
            stage.apply(&stage.rotation(
                "b",
                mode,
                &stage.app(1).app_id,
                &json!({"initialRotation": "Immediate"}),
            ));
        }
        story(&stage, mode, &rights).await;
        let used = |stage: &Stage| -> Rights { requests(stage)[begin..].iter().cloned().collect() };
        let is_all = || {
            rights
                .iter()
                .filter(|right| right.0 != "watch")
                .all(|right| used(&stage).contains(right))
        };
        stage.until(&format!("{mode}: every right is used"), is_all).await;
        stage.stand_by(&deployed).await;
        // A watch is written down when it ends.
        assert_eq!(stage.end_operator("TERM"), Some(0));
        let watches = rights.iter().filter(|right| right.0 == "watch");
        let is_over = || watches.clone().all(|right| used(&stage).contains(right));
        stage.until("the end of all watches", is_over).await;
        assert_eq!(used(&stage), rights, "{mode}: used and granted");
        if let Some(places) = places {
            let ours = lines(&stage)
                .into_iter()
                .filter(|line| line["objectRef"]["resource"].is_string());
            let asked: BTreeSet<String> = ours
                .skip(begin)
                .filter(|line| line["objectRef"]["resource"] != "leases")
                .map(|line| line["objectRef"]["namespace"].as_str().unwrap_or_default().to_owned())
                .collect();
            assert_eq!(asked, places, "{mode}");
            assert!(stage.status("b", mode).is_null());
        }
        for namespace in ["a", "b"] {
            stage.kubectl(&["delete", "acr", "--all", "-n", namespace]);
        }
    }
}
