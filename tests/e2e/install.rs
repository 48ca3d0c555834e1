//! The files in `deploy/` as a user applies them, by what the API server has stored afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::FLAGS;
use crate::stage::{FIRST_WITH_FOLDERS, Stage};

/// The first release whose definitions have rules in CEL; earlier ones drop them.
pub const FIRST_WITH_RULES: u32 = 25;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

/// Every object in the manifests of a folder, by file name.
fn objects(folder: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.is_file() && !file.ends_with("kustomization.yaml"));
    files.sort();
    let text = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let parse = |text: String| {
        let parts = text.split("\n---\n").map(|part| serde_saphyr::from_str(part).unwrap());
        parts.collect::<Vec<Value>>()
    };
    text.flat_map(parse).collect()
}

fn names(objects: &[Value]) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let name = |object: &Value| format!("{} {}", text(&object["kind"]), text(&object["metadata"]["name"]));
    let mut names: Vec<String> = objects.iter().map(name).collect();
    names.sort();
    names
}

pub fn without_rules(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("x-kubernetes-validations");
            fields.values_mut().for_each(without_rules);
        }
        Value::Array(items) => items.iter_mut().for_each(without_rules),
        _ => {}
    }
}

/// Checks that `stored` says what `written` says; a server adds defaults.
pub fn assert_holds(stored: &Value, written: &Value, place: &str) {
    match (stored, written) {
        (Value::Object(stored), Value::Object(written)) => {
            for (name, value) in written {
                let place = format!("{place}.{name}");
                assert_holds(stored.get(name).unwrap_or(&Value::Null), value, &place);
            }
        }
        (Value::Array(stored), Value::Array(written)) => {
            assert_eq!(stored.len(), written.len(), "{place}");
            for (number, (stored, written)) in stored.iter().zip(written).enumerate() {
                assert_holds(stored, written, &format!("{place}[{number}]"));
            }
        }
        // Bounds in a schema are floating point numbers, which a server may print without a fraction.
        (Value::Number(stored), Value::Number(written)) => assert_eq!(stored.as_f64(), written.as_f64(), "{place}"),
        _ => assert_eq!(stored, written, "{place}"),
    }
}

impl Stage {
    fn stored(&self, object: &Value) -> Value {
        let text = |value: &Value| value.as_str().unwrap_or("default").to_owned();
        let (group, _) = object["apiVersion"]
            .as_str()
            .unwrap()
            .rsplit_once('/')
            .unwrap_or_default();
        let kind = format!("{}.{group}", text(&object["kind"]));
        let meta = &object["metadata"];
        self.get(
            &text(&meta["namespace"]),
            kind.trim_end_matches('.'),
            &text(&meta["name"]),
        )
    }

    fn all_stored(&self, objects: &[Value]) -> Vec<Value> {
        objects.iter().map(|object| self.stored(object)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_manifests_install_as_they_are_written_and_a_second_time_changes_nothing() {
    let stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), FLAGS).await;
    stage.allow_restarts();
    let mut written = objects(&root().join("deploy/kustomize/base"));
    written.extend(objects(&root().join("deploy/kustomize/components/restart")));
    written.extend(objects(&root().join("crds")));
    assert_eq!(
        names(&written),
        [
            "ClusterRole appcode-operator",
            "ClusterRole appcode-operator-restart",
            "ClusterRoleBinding appcode-operator",
            "ClusterRoleBinding appcode-operator-restart",
            "ConfigMap appcode-operator-log",
            "CustomResourceDefinition appcoderotations.appcode.dev",
            "Deployment appcode-operator",
            "Namespace appcode-system",
            "Role appcode-operator-lease",
            "RoleBinding appcode-operator-lease",
            "Service appcode-operator",
            "ServiceAccount appcode-operator",
        ]
    );
    if stage
        .plane
        .binaries()
        .minor()
        .is_some_and(|minor| minor < FIRST_WITH_RULES)
    {
        written.iter_mut().for_each(without_rules);
    }
    let installed = stage.all_stored(&written);
    for (stored, written) in installed.iter().zip(&written) {
        assert_holds(stored, written, written["kind"].as_str().unwrap());
    }
    stage.install();
    stage.allow_restarts();
    assert_eq!(stage.all_stored(&written), installed, "versions included");

    // The examples, as they stand in the README.
    let examples = objects(&root().join("deploy/examples"));
    let folder = root().join("deploy/examples").display().to_string();
    stage.kubectl(&["apply", "-f", &folder]);
    let applied = stage.all_stored(&examples);
    for (stored, written) in applied.iter().zip(&examples) {
        let mut written = written.clone();
        written.as_object_mut().unwrap().remove("stringData"); // stored as data
        assert_holds(stored, &written, written["kind"].as_str().unwrap());
    }
    stage.kubectl(&["apply", "-f", &folder]);
    assert_eq!(stage.all_stored(&examples), applied, "versions included");
}

/// The first kubectl whose Kustomize may change the kind of an object.
pub const FIRST_WITH_KIND_CHANGES: u32 = 22;

/// From one overlay to the next as they stand; what an account may do is asked of the server.
#[tokio::test(flavor = "multi_thread")]
async fn the_overlays_give_their_rights_in_their_namespace_and_nowhere_else() {
    let stage = Stage::bare(Path::new(env!("CARGO_BIN_EXE_appcode-operator"))).await;
    if stage
        .kubectl_minor()
        .is_some_and(|minor| minor < FIRST_WITH_KIND_CHANGES.max(FIRST_WITH_FOLDERS))
    {
        println!("kubectl is too old for the overlays that are for one namespace");
        return;
    }
    stage.namespace("inference");
    let who = "--as=system:serviceaccount:appcode-system:appcode-operator";
    let may = |verb: &str, what: &str, namespace: &str| {
        let (is_allowed, ..) = stage.run(&["auth", "can-i", verb, what, "-n", namespace, who], "");
        is_allowed
    };
    for (overlay, may_create, may_restart, may_watch) in [
        ("namespaced", true, false, false),
        ("namespaced-no-create-restart", false, true, false),
        ("namespaced-watch-secrets", true, true, true), // what the one before gave stays
    ] {
        let folder = root()
            .join("deploy/kustomize/overlays")
            .join(overlay)
            .display()
            .to_string();
        stage.kubectl(&["apply", "--validate=false", "-k", &folder]);
        assert!(
            may("get", "secrets", "inference") && may("patch", "secrets", "inference"),
            "{overlay}"
        );
        assert_eq!(may("create", "secrets", "inference"), may_create, "{overlay}");
        assert_eq!(may("patch", "deployments.apps", "inference"), may_restart, "{overlay}");
        for verb in ["list", "watch"] {
            assert_eq!(may(verb, "secrets", "inference"), may_watch, "{overlay}");
        }
        let elsewhere = [
            ("get", "secrets"),
            ("list", "secrets"),
            ("watch", "secrets"),
            ("create", "secrets"),
            ("patch", "deployments.apps"),
        ];
        for (verb, what) in elsewhere {
            assert!(!may(verb, what, "default"), "{overlay}: {verb} {what} elsewhere");
        }
        let pod = stage.get("appcode-system", "deployment", "appcode-operator")["spec"]["template"]["spec"].clone();
        assert_eq!(
            pod["containers"][0]["args"][0], "--watch-namespace=inference",
            "{overlay}"
        );
    }
}
