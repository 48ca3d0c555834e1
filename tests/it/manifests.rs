//! What `deploy/` installs: the rights, the hardening, and that the examples are good ones.

use std::path::{Path, PathBuf};

use appcode_operator::api::AppCodeRotation;
use appcode_operator::args::Args;
use appcode_operator::validate::validate;
use clap::{CommandFactory, Parser};
use serde_json::{Value, json};

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
    documents(&deploy().join(name)).remove(0)
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
    let granted = document("rbac.yaml")["rules"].clone();
    let expected = json!([
        {"apiGroups": ["appcode.dev"], "resources": ["appcoderotations"], "verbs": ["get", "list", "watch", "patch"]},
        {"apiGroups": ["appcode.dev"], "resources": ["appcoderotations/status"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "create", "patch"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
    ]);
    assert_eq!(granted, expected);
}

/// Files that `kubectl apply -k deploy` leaves out: an administrator applies them by choice.
const OPTIONAL: [&str; 1] = ["rbac-restart.yaml"];

#[test]
fn the_optional_role_lets_workloads_be_restarted_and_no_more() {
    let [role, binding] = documents(&deploy().join("rbac-restart.yaml")).try_into().unwrap();
    let grant = |resource: &str| json!({"apiGroups": ["apps"], "resources": [resource], "verbs": ["get", "patch"]});
    assert_eq!(
        role["rules"],
        json!([grant("deployments"), grant("statefulsets"), grant("daemonsets")])
    );
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    // To the account that has the other rights.
    let other = documents(&deploy().join("rbac.yaml")).remove(1);
    assert_eq!(binding["subjects"], other["subjects"]);
    assert_ne!(binding["metadata"]["name"], other["metadata"]["name"]);
}

/// The rules of the Pod Security Standard "restricted", as the Kubernetes documentation lists them.
#[test]
fn the_pod_meets_the_restricted_standard() {
    let deployment = document("deployment.yaml");
    let pod = &deployment["spec"]["template"]["spec"];
    for field in ["hostNetwork", "hostPID", "hostIPC", "volumes"] {
        assert!(pod[field].is_null(), "{field}");
    }
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_ne!(pod["securityContext"]["runAsUser"], 0);
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
    for container in pod["containers"].as_array().unwrap() {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
        assert!(context["privileged"].is_null());
        assert!(
            container["ports"]
                .as_array()
                .unwrap()
                .iter()
                .all(|port| port["hostPort"].is_null())
        );
        assert!(container["resources"]["limits"]["memory"].is_string());
        let image = container["image"].as_str().unwrap();
        assert!(image.contains(':') && !image.ends_with(":latest"), "{image}");
    }
}

#[test]
fn the_pod_outlives_a_call_and_the_saving_of_its_code() {
    let args = Args::parse_from(["appcode-operator"]);
    let deployment = document("deployment.yaml");
    let grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        .as_i64()
        .unwrap();
    assert!(grace > args.request_deadline.as_secs() + args.shutdown_grace.as_secs());
    assert_eq!(
        deployment["spec"]["strategy"]["type"], "Recreate",
        "a rolling update runs two replicas for a moment"
    );
}

#[test]
fn each_variable_of_the_pod_is_one_that_the_program_reads() {
    let deployment = document("deployment.yaml");
    let command = Args::command();
    let known: Vec<_> = command
        .get_arguments()
        .filter_map(|arg| arg.get_env()?.to_str())
        .collect();
    for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]
        .as_array()
        .unwrap()
    {
        assert!(known.contains(&variable["name"].as_str().unwrap()), "{variable}");
    }
}

#[test]
fn the_kustomization_names_every_manifest() {
    let named = document("kustomization.yaml")["resources"].clone();
    let named: Vec<&str> = named.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    for file in std::fs::read_dir(deploy()).unwrap() {
        let file = file.unwrap();
        let name = file.file_name().into_string().unwrap();
        if file.path().is_file() && name != "kustomization.yaml" {
            assert_ne!(
                named.contains(&name.as_str()),
                OPTIONAL.contains(&name.as_str()),
                "{name}"
            );
        }
    }
    assert!(named.contains(&"../crds"));
}
