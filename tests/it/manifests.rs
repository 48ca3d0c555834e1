//! What `deploy/` installs: the rights, the hardening, and that the examples are good ones.

use std::path::{Path, PathBuf};

use appcode_operator::api::AppCodeRotation;
use appcode_operator::args::Args;
use appcode_operator::validate::validate;
use clap::{CommandFactory, Parser};
use serde_json::{Value, json};

#[path = "../e2e/restricted.rs"]
mod restricted;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn documents(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.split("\n---\n")
        .map(|part| serde_saphyr::from_str(part).unwrap())
        .collect()
}

fn document(name: &str) -> Value {
    documents(&deploy().join("kustomize").join(name)).remove(0)
}

#[test]
fn each_example_is_a_resource_that_the_operator_takes() {
    let mut rules = Args::parse_from(["appcode-operator"]).settings().unwrap().rules;
    let (mut rotations, mut by_default) = (0, 0);
    for file in std::fs::read_dir(deploy().join("examples")).unwrap() {
        for document in documents(&file.unwrap().path()) {
            if document["kind"] == "AppCodeRotation" {
                let rotation: AppCodeRotation = serde_json::from_value(document).unwrap();
                if rotation.spec.credentials_ref.is_none() {
                    assert!(validate(&rotation, &rules).is_err(), "nobody has allowed it");
                    let pair = format!("inference={}", rotation.spec.app_id);
                    rules.allowances.push(pair.parse().unwrap());
                    by_default += 1;
                }
                assert!(validate(&rotation, &rules).is_ok(), "{:?}", rotation.metadata.name);
                rotations += 1;
            }
        }
    }
    assert!(rotations >= 3 && by_default == 1);
}

/// kubectl applies the files of a folder in the order of their names.
#[test]
fn the_examples_make_the_namespaces_that_they_use_first() {
    let mut files: Vec<PathBuf> = std::fs::read_dir(deploy().join("examples"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let mut made = Vec::new();
    for document in files.iter().flat_map(|file| documents(file)) {
        if document["kind"] == "Namespace" {
            made.push(document["metadata"]["name"].clone());
        } else {
            assert!(made.contains(&document["metadata"]["namespace"]), "{document}");
        }
    }
    assert_eq!(made, ["inference"]);
}

#[test]
fn the_role_grants_this_and_no_more() {
    let granted = document("base/rbac.yaml")["rules"].clone();
    let expected = json!([
        {"apiGroups": ["appcode.dev"], "resources": ["appcoderotations"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["appcode.dev"], "resources": ["appcoderotations/status"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    ]);
    assert_eq!(granted, expected);
}

#[test]
fn the_optional_role_lets_workloads_be_restarted_and_no_more() {
    let [role, binding] = documents(&deploy().join("kustomize/components/restart/rbac-restart.yaml"))
        .try_into()
        .unwrap();
    let grant = |resource: &str| json!({"apiGroups": ["apps"], "resources": [resource], "verbs": ["get", "patch"]});
    assert_eq!(
        role["rules"],
        json!([grant("deployments"), grant("statefulsets"), grant("daemonsets")])
    );
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    // To the account that has the other rights.
    let other = documents(&deploy().join("kustomize/base/rbac.yaml")).remove(1);
    assert_eq!(binding["subjects"], other["subjects"]);
    assert_ne!(binding["metadata"]["name"], other["metadata"]["name"]);
}

#[test]
fn the_role_for_quick_repair_lets_secrets_be_listed_and_watched_and_comes_with_the_flag() {
    let folder = deploy().join("kustomize/components/watch-secrets");
    let [role, binding] = documents(&folder.join("rbac-watch-secrets.yaml")).try_into().unwrap();
    let expected = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]}]);
    assert_eq!(role["rules"], expected);
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    let other = documents(&deploy().join("kustomize/base/rbac.yaml")).remove(1);
    assert_eq!(binding["subjects"], other["subjects"]);
    let component = std::fs::read_to_string(folder.join("kustomization.yaml")).unwrap();
    assert!(component.contains("value: --watch-secrets"));
    // And neither without asking.
    assert!(!Args::parse_from(["appcode-operator"]).watch_secrets);
}

#[test]
fn the_pod_meets_the_restricted_standard_and_more() {
    let deployment = document("base/deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    assert_eq!(restricted::broken(pod), Vec::<String>::new());
    let log = json!([{"name": "log", "configMap": {"name": "appcode-operator-log", "optional": true}}]);
    assert_eq!(pod["volumes"], log, "no Secret and nothing of the node");
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
        assert!(container["resources"]["limits"]["memory"].is_string());
        let image = container["image"].as_str().unwrap();
        assert!(image.contains(':') && !image.ends_with(":latest"), "{image}");
    }
}

#[test]
fn the_rules_of_the_standard_find_what_breaks_them() {
    let deployment = document("base/deployment.yaml");
    let good = &deployment["spec"]["template"]["spec"];
    let cases = [
        ("/hostNetwork", json!(true), "hostNetwork"),
        (
            "/volumes",
            json!([{"name": "x", "hostPath": {"path": "/"}}]),
            "hostPath",
        ),
        ("/securityContext/runAsNonRoot", json!(null), "runAsNonRoot"),
        ("/securityContext/runAsUser", json!(0), "runAsUser"),
        (
            "/securityContext/seccompProfile",
            json!({"type": "Unconfined"}),
            "seccompProfile",
        ),
        (
            "/containers/0/securityContext/capabilities",
            json!({"drop": ["ALL"], "add": ["SYS_ADMIN"]}),
            "capabilities.add",
        ),
        (
            "/containers/0/securityContext/capabilities",
            json!({}),
            "capabilities.drop",
        ),
        (
            "/containers/0/securityContext/allowPrivilegeEscalation",
            json!(null),
            "allowPrivilegeEscalation",
        ),
        ("/containers/0/securityContext/privileged", json!(true), "privileged"),
        ("/containers/0/ports/0/hostPort", json!(80), "hostPort"),
    ];
    for (place, value, rule) in cases {
        let mut pod = good.clone();
        let (parent, name) = place.rsplit_once('/').unwrap();
        pod.pointer_mut(parent).unwrap()[name] = value;
        assert_eq!(restricted::broken(&pod), [rule]);
    }
}

#[test]
fn the_pod_outlives_a_call_and_the_saving_of_its_code() {
    let args = Args::parse_from(["appcode-operator"]);
    let deployment = document("base/deployment.yaml");
    let grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap();
    assert!(grace > args.request_deadline.as_secs() + args.shutdown_grace.as_secs());
    // A new pod comes first, and the one that leads hands over when it goes.
    let update = json!({"maxSurge": 1, "maxUnavailable": 0});
    assert_eq!(deployment["spec"]["strategy"]["rollingUpdate"], update);
    assert!(args.leader_election);
}

#[test]
fn the_program_takes_the_flags_of_the_pod_and_means_by_them_what_it_means_without() {
    let deployment = document("base/deployment.yaml");
    let flags = deployment["spec"]["template"]["spec"]["containers"][0]["args"].clone();
    let flags: Vec<String> = serde_json::from_value(flags).unwrap();
    let mut with = Args::try_parse_from(std::iter::once("appcode-operator".to_owned()).chain(flags)).unwrap();
    let mut without = Args::parse_from(["appcode-operator"]);
    // The file that is mounted says what the default is.
    let file = with.log_from.take().unwrap();
    let mount = &deployment["spec"]["template"]["spec"]["containers"][0]["volumeMounts"][0];
    assert_eq!(file.parent().and_then(Path::to_str), mount["mountPath"].as_str());
    let key = file.file_name().and_then(|name| name.to_str()).unwrap();
    let text = &document("base/configmap.yaml")["data"][key];
    without.log = text.as_str().unwrap().to_owned();
    // In a pod it is the one that the service account names.
    assert_eq!(
        with.lease_namespace.take().as_deref(),
        deployment["metadata"]["namespace"].as_str()
    );
    assert_eq!(format!("{with:?}"), format!("{without:?}"));
}

#[test]
fn the_base_names_every_manifest() {
    let named = document("base/kustomization.yaml")["resources"].clone();
    let named: Vec<&str> = named.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for file in std::fs::read_dir(deploy().join("kustomize/base")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(named.contains(&name.as_str()) || name == "kustomization.yaml", "{name}");
    }
    assert!(named.contains(&"../../../crds"));
    let documents = documents(&deploy().join("kustomization.yaml"));
    assert_eq!(documents[0]["resources"], json!(["kustomize/base"]));
}

/// The budget is a component, since the base is for API servers of any version.
#[test]
fn the_pods_are_spread_over_nodes_and_a_budget_fits_them() {
    let deployment = document("base/deployment.yaml");
    let selector = &deployment["spec"]["selector"];
    assert_eq!(deployment["spec"]["replicas"], 2);
    let spread = &deployment["spec"]["template"]["spec"]["topologySpreadConstraints"][0];
    assert_eq!(spread["topologyKey"], "kubernetes.io/hostname");
    assert_eq!(&spread["labelSelector"], selector);
    let budget = document("components/disruption-budget/poddisruptionbudget.yaml");
    assert_eq!(budget["spec"], json!({"maxUnavailable": 1, "selector": selector}));
    assert_eq!(budget["metadata"]["namespace"], deployment["metadata"]["namespace"]);
}

/// Each flag of the program, so that none is forgotten in the chart.
#[test]
fn the_chart_has_a_value_for_each_flag() {
    let chart = deploy().join("helm/appcode-operator/templates");
    let read = |file: &str| std::fs::read_to_string(chart.join(file)).unwrap();
    let text = read("_args.tpl") + &read("deployment.yaml") + &read("tests/ready.yaml");
    for arg in Args::command().get_arguments() {
        let (Some(flag), Some(variable)) = (arg.get_long(), arg.get_env().and_then(|name| name.to_str())) else {
            continue; // help and version
        };
        // For a simulated cloud on the same machine only: by extraArgs.
        let is_left_out = flag == "allow-insecure-loopback";
        let is_there = text.contains(&format!("--{flag}"))
            || text.contains(&format!("(list \"{flag}\" "))
            || text.contains(variable);
        assert_ne!(is_there, is_left_out, "--{flag}");
    }
}

#[test]
fn the_chart_brings_the_definition_as_it_was_generated() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| std::fs::read_to_string(path).unwrap();
    let copy = read(deploy().join("helm/appcode-operator/files/appcoderotations.yaml"));
    assert!(copy == read(root.join("crds/appcoderotations.yaml")), "make generate");
}

/// The values and their schema name the same things, and the schema is closed wherever the names are ours.
#[test]
fn the_schema_knows_each_value_of_the_chart_and_no_other() {
    let chart = deploy().join("helm/appcode-operator");
    let values = documents(&chart.join("values.yaml")).remove(0);
    let schema = std::fs::read_to_string(chart.join("values.schema.json")).unwrap();
    let mut schema: Value = serde_json::from_str(&schema).unwrap();
    let global = schema["properties"].as_object_mut().unwrap().remove("global");
    assert!(global.is_some(), "a parent chart hands it down unasked");
    assert_same_names(&values, &schema, "values");
}

fn assert_same_names(values: &Value, schema: &Value, place: &str) {
    let (Some(values), Some(known)) = (values.as_object(), schema["properties"].as_object()) else {
        return; // a list, a text, or a map whose names are Kubernetes' or a person's
    };
    assert_eq!(schema["additionalProperties"], false, "{place}");
    let names = |map: &serde_json::Map<String, Value>| {
        let mut names: Vec<String> = map.keys().cloned().collect();
        names.sort();
        names
    };
    // What a person may give besides the defaults.
    if !["values.affinity", "values.resources"].contains(&place) {
        assert_eq!(names(values), names(known), "{place}");
    }
    for (name, value) in values {
        assert_same_names(value, &known[name], &format!("{place}.{name}"));
    }
}
