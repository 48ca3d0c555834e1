//! The chart, by Helm's own library: it lints, renders over a matrix of values what a real API server takes as it is written,
//! and refuses values that contradict each other.

mod rendered;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use control_plane::Binaries;
use serde_json::{Value, json};

use crate::install::{FIRST_WITH_KIND_CHANGES, FIRST_WITH_RULES, assert_holds, without_rules};
use crate::restricted;
use crate::stage::Stage;

pub const RELEASE: &str = "appcode-operator";
pub const NAMESPACE: &str = "appcode-system";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

pub fn chart() -> PathBuf {
    root().join("deploy/helm/appcode-operator")
}

/// A Python with Helm's library, set up once per user: `$XDG_CACHE_HOME/appcode-operator/python/…`.
fn python() -> PathBuf {
    static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
        let requirements = root().join("tests/helm/requirements.txt");
        let text = std::fs::read_to_string(&requirements).unwrap();
        let pinned = text.lines().find(|line| line.contains("==")).unwrap();
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache
            .unwrap_or_else(|| PathBuf::from(std::env::var_os("HOME").expect("HOME or XDG_CACHE_HOME")).join(".cache"));
        let folder = cache.join("appcode-operator/python");
        let home = folder.join(pinned.replace("==", "-"));
        let python = home.join("bin/python3");
        if !python.exists() {
            // Made aside and moved, so that neither a broken attempt nor a second test leaves half of one.
            let draft = folder.join(format!("draft-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            eprintln!("setting up Python with {pinned} in {}", home.display());
            run(Command::new("python3").args(["-m", "venv"]).arg(&draft));
            let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"];
            run(Command::new(draft.join("bin/python3")).args(pip).arg(&requirements));
            if std::fs::rename(&draft, &home).is_err() {
                std::fs::remove_dir_all(&draft).unwrap();
            }
        }
        python
    });
    PYTHON.clone()
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}; Python 3 with venv is needed"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
}

/// Has Helm do all of these, in one process; what came of each.
pub fn helm(asks: &Value) -> Vec<Result<Value, String>> {
    let mut command = Command::new(python());
    command.arg(root().join("tests/helm/driver.py"));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(asks.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let answers = answers.into_iter().map(|answer| match &answer["error"] {
        Value::String(error) => Err(error.clone()),
        _ => Ok(answer["ok"].clone()),
    });
    answers.collect()
}

/// The objects in rendered manifests, in the order of the files' names; hooks and notes are left out.
fn objects(rendered: &Value) -> Vec<Value> {
    let mut objects = Vec::new();
    for (file, text) in rendered.as_object().unwrap() {
        if file.ends_with("NOTES.txt") || file.contains("/tests/") {
            continue;
        }
        objects.extend(documents(text.as_str().unwrap()));
    }
    objects
}

pub fn documents(text: &str) -> Vec<Value> {
    let parts = text.split("\n---").map(|part| part.trim_start_matches("---"));
    let parsed = parts.map(|part| serde_saphyr::from_str(part).unwrap_or_else(|error| panic!("{error}: {part}")));
    parsed.filter(Value::is_object).collect()
}

/// Has the chart rendered for a release of this name.
fn ask(name: &str, values: &Value) -> Value {
    json!({"do": "render", "chart": chart(), "name": name, "namespace": NAMESPACE, "values": values})
}

/// What the chart renders by these values for each, hooks left out.
pub fn render(values: &[Value]) -> Vec<Vec<Value>> {
    let asks: Vec<Value> = values.iter().map(|values| ask(RELEASE, values)).collect();
    let rendered = helm(&json!(asks)).into_iter();
    rendered.map(|rendered| objects(&rendered.unwrap())).collect()
}

/// Values one by one, each with what makes it worth a try, and all combinations of those that change rights.
fn matrix() -> Vec<Value> {
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let mut matrix = vec![
        json!({}),
        json!({"replicas": 3, "podDisruptionBudget": {"maxUnavailable": "50%"}}),
        json!({"podDisruptionBudget": {"enabled": false}, "topologySpreadConstraints": []}),
        json!({"replicas": 0, "fullnameOverride": "other", "commonLabels": {"team": "ml"}, "podLabels": {"a": "b"}}),
        json!({"image": {"repository": "images.example:5000/appcode-operator", "digest": digest, "pullPolicy": "Always"}}),
        json!({"image": {"tag": "0.1.0-debug"}, "imagePullSecrets": [{"name": "pull"}]}),
        json!({"crds": {"enabled": false}}),
        json!({"crds": {"keep": false}}),
        json!({"rbac": {"create": false}, "serviceAccount": {"create": false, "name": "by-hand"}}),
        json!({"serviceAccount": {"name": "named", "annotations": {"example.com/a": "b"}}}),
        json!({"defaultIdentity": {"secretName": "own", "allow": ["inference=app-1", "inference=app-2"]}}),
        json!({"extraCA": {"configMapName": "trust", "key": "bundle.pem"}}),
        json!({"extraCA": {"secretName": "trust"}, "defaultIdentity": {"secretName": "own"}}),
        json!({"proxy": {"url": "http://proxy.example:3128"}}),
        json!({"proxy": {"secretName": "proxy", "key": "address"}}),
        json!({"cloud": {
            "allowEndpoints": ["https://modelarts.example.com=https://iam.example.com"],
            "verificationHosts": ["a.example", "b.example:8443"],
        }}),
        json!({"settings": {
            "minimumInterval": "1h", "dailyBudget": 3, "settleWindow": "5m", "checkPeriod": "2h", "requestDeadline": "1m30s",
            "connectTimeout": "3s", "callerRate": 0.5, "totalRate": 5, "concurrency": 4, "forbidPlaintextStatus": true,
            "apiDeadline": "10s", "watchRequest": "2m", "shutdownGrace": "40s", "resourceMetrics": 0,
        }, "log": {"filter": "appcode_operator=debug", "format": "text"}, "port": 9090}),
        json!({
            "podSecurityContext": {"runAsUser": null, "runAsGroup": null, "fsGroup": null},
            "defaultIdentity": {"secretName": "own"},
        }),
        json!({
            "priorityClassName": "system-cluster-critical", "nodeSelector": {"kubernetes.io/os": "linux"},
            "tolerations": [{"key": "dedicated", "operator": "Exists", "effect": "NoSchedule"}],
            "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app.kubernetes.io/name": RELEASE}}},
            ]}},
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "DoNotSchedule"},
            ],
            "podAnnotations": {"example.com/a": "b"}, "terminationGracePeriodSeconds": 90,
            "resources": {"requests": {"memory": "64Mi"}, "limits": {"memory": "256Mi", "cpu": "1"}},
        }),
        json!({"networkPolicy": {
            "enabled": true, "apiServer": {"cidrs": ["10.0.0.1/32", "fd00::1/128"]},
            "cloud": {"cidrs": ["0.0.0.0/0", "10.9.8.0/24"], "ports": [443, 3128]},
            "metricsFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        }}),
        json!({"replicas": 1, "leaderElection": {"enabled": false}}),
        json!({"leaderElection": {"leaseDuration": "1m"}}),
        json!({"alerts": {"enabled": true, "labels": {"release": "prometheus"}}, "dashboard": {"enabled": true}}),
        json!({"alerts": {"enabled": true, "runbookBaseUrl": "https://docs.example/appcode-operator/"},
            "dashboard": {"enabled": true, "labels": {"grafana": "team"}}}),
        json!({"networkPolicy": {
            "enabled": true, "apiServer": {"cidrs": ["192.168.0.10/32"], "ports": [443, 5443]}, "cloud": {"cidrs": ["::/0"]},
        }, "podMonitor": {"enabled": true}}),
        json!({"podMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "interval": "1m30s"}}),
        json!({"serviceMonitor": {"enabled": true, "interval": "1d"}}),
        json!({"global": {"of": "a parent chart"}, "extraArgs": ["--allow-insecure-loopback"]}),
    ];
    for bits in 0..32_u8 {
        let is_set = |bit: u8| bits & (1 << bit) != 0;
        matrix.push(json!({
            "watchNamespaces": if is_set(0) { json!(["a", "b"]) } else { json!([]) },
            "rbac": {
                "scope": if is_set(0) && is_set(1) { "Namespaces" } else { "Cluster" },
                "createSecrets": is_set(2), "restartWorkloads": is_set(3), "watchSecrets": is_set(4),
            },
        }));
    }
    matrix
}

/// Kinds that a cluster has once the Prometheus operator is installed there.
fn install_monitors(stage: &Stage) {
    for (kind, plural) in [
        ("PodMonitor", "podmonitors"),
        ("ServiceMonitor", "servicemonitors"),
        ("PrometheusRule", "prometheusrules"),
    ] {
        stage.apply(&json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }}}],
            },
        }));
        let name = format!("crd/{plural}.monitoring.coreos.com");
        stage.kubectl(&["wait", "--for=condition=Established", &name, "--timeout=60s"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_chart_lints_and_a_server_takes_what_it_renders_as_it_is_written() {
    let stage = Stage::bare(Path::new(env!("CARGO_BIN_EXE_appcode-operator"))).await;
    install_monitors(&stage);
    for namespace in [NAMESPACE, "a", "b"] {
        stage.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {
            "name": namespace, "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        }}));
    }
    let minor = stage.plane.binaries().minor().unwrap_or(u32::MAX);
    let matrix = matrix();
    let lints: Vec<Value> = matrix
        .iter()
        .map(|values| json!({"do": "lint", "chart": chart(), "values": values, "kube": format!("v1.{}.0", minor.min(40))}))
        .collect();
    for (values, findings) in matrix.iter().zip(helm(&json!(lints))) {
        assert_eq!(findings, Ok(json!([])), "{values}");
    }
    // Without controllers nobody makes the account that a pod has if it names none.
    stage.apply(&json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE},
    }));
    for (values, mut objects) in matrix.iter().zip(render(&matrix)) {
        for object in &mut objects {
            let pod = &object["spec"]["template"]["spec"];
            if object["kind"] == "Deployment" {
                assert_eq!(restricted::broken(pod), Vec::<String>::new(), "{values}");
                // Where the server has the admission plugin, the namespace's label makes it judge this.
                let labels = json!({"name": "try", "namespace": NAMESPACE});
                let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": labels, "spec": pod});
                dry_run(&stage, &[without_references(pod)]);
            }
            if minor < FIRST_WITH_RULES {
                without_rules(object);
            }
            if object["kind"] == "PodDisruptionBudget" && minor < 21 {
                object["apiVersion"] = json!("policy/v1beta1");
            }
        }
        for (taken, written) in dry_run(&stage, &objects).iter().zip(&objects) {
            assert_holds(taken, written, &format!("{values}: {}", written["kind"]));
        }
    }
}

/// A pod that admission does not turn away for what is not there in this cluster.
fn without_references(mut pod: Value) -> Value {
    for field in ["serviceAccountName", "priorityClassName"] {
        pod["spec"].as_object_mut().unwrap().remove(field);
    }
    pod["spec"]["automountServiceAccountToken"] = json!(false);
    pod
}

/// What the server would store.
fn dry_run(stage: &Stage, objects: &[Value]) -> Vec<Value> {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let create = [
        "create",
        "--dry-run=server",
        "--validate=false",
        "-o",
        "json",
        "-f",
        "-",
    ];
    // One document after the other.
    let answer = stage.send(&create, &list);
    let objects = serde_json::Deserializer::from_str(&answer).into_iter::<Value>();
    objects.map(Result::unwrap).collect()
}

#[test]
fn a_packaged_chart_renders_what_its_folder_renders() {
    let into = tempfile::tempdir().unwrap();
    let asks = json!([{"do": "package", "chart": chart(), "into": into.path()}]);
    let packaged = helm(&asks).remove(0).unwrap();
    let mut from_package = ask(RELEASE, &json!({}));
    from_package["chart"] = packaged;
    let rendered = helm(&json!([from_package, ask(RELEASE, &json!({}))]));
    assert_eq!(rendered[0], rendered[1]);
    assert!(!objects(rendered[0].as_ref().unwrap()).is_empty());
}

/// Takes away what only Helm writes, and what only Kustomize brings along.
fn alike(mut objects: Vec<Value>) -> Vec<Value> {
    let helms = [
        "app.kubernetes.io/instance",
        "app.kubernetes.io/managed-by",
        "app.kubernetes.io/version",
        "helm.sh/chart",
    ];
    objects.retain(|object| object["kind"] != "Namespace");
    for object in &mut objects {
        let is_definition = object["kind"] == "CustomResourceDefinition";
        let meta = object["metadata"].as_object_mut().unwrap();
        if let Some(labels) = meta.get_mut("labels").and_then(Value::as_object_mut) {
            labels.retain(|name, _| !helms.contains(&name.as_str()));
        }
        if is_definition {
            meta.remove("labels");
            meta.remove("annotations");
        }
    }
    objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
    objects
}

/// The overlay that has what older API servers do not take.
const WITH_BUDGET: &str = "kustomize/overlays/disruption-budget";

#[tokio::test(flavor = "multi_thread")]
async fn kustomize_renders_what_the_chart_renders() {
    let cases = [
        (".", json!({})),
        ("kustomize/base", json!({})),
        (WITH_BUDGET, json!({})),
        (
            "kustomize/overlays/namespaced",
            json!({"rbac": {"scope": "Namespaces"}, "watchNamespaces": ["inference"]}),
        ),
        (
            "kustomize/overlays/no-create",
            json!({"rbac": {"createSecrets": false}}),
        ),
        (
            "kustomize/overlays/restart",
            json!({"rbac": {"restartWorkloads": true}}),
        ),
        (
            "kustomize/overlays/watch-secrets",
            json!({"rbac": {"watchSecrets": true}}),
        ),
        (
            "kustomize/overlays/namespaced-watch-secrets",
            json!({"rbac": {"scope": "Namespaces", "watchSecrets": true}, "watchNamespaces": ["inference"]}),
        ),
        (
            "kustomize/overlays/namespaced-no-create-restart",
            json!({
                "rbac": {"scope": "Namespaces", "createSecrets": false, "restartWorkloads": true},
                "watchNamespaces": ["inference"],
            }),
        ),
    ];
    let kubectl = Binaries::obtain().await.unwrap().kubectl;
    let kubectl = |args: &[&str]| {
        let output = Command::new(&kubectl).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "{args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let version: Value = serde_json::from_str(&kubectl(&["version", "--client", "-o", "json"])).unwrap();
    let minor = version["clientVersion"]["minor"]
        .as_str()
        .unwrap()
        .trim_end_matches('+');
    let is_old = minor.parse::<u32>().is_ok_and(|minor| minor < FIRST_WITH_KIND_CHANGES);
    let values = cases.iter().map(|(folder, values)| {
        let mut values = values.clone();
        values["podDisruptionBudget"] = json!({"enabled": *folder == WITH_BUDGET});
        values
    });
    let values: Vec<Value> = values.collect();
    for ((folder, _), rendered) in cases.iter().zip(render(&values)) {
        let path = root().join("deploy").join(folder);
        let text = if is_old {
            println!("kubectl is too old for {folder}: its files are compared as they are");
            if *folder != "kustomize/base" {
                continue;
            }
            let mut files: Vec<PathBuf> = std::fs::read_dir(&path)
                .unwrap()
                .map(|file| file.unwrap().path())
                .collect();
            files.retain(|file| !file.ends_with("kustomization.yaml"));
            files.push(root().join("crds/appcoderotations.yaml"));
            let texts: Vec<String> = files
                .iter()
                .map(|file| std::fs::read_to_string(file).unwrap())
                .collect();
            texts.join("\n---\n")
        } else {
            kubectl(&["kustomize", &path.display().to_string()])
        };
        let (ours, theirs) = (alike(documents(&text)), alike(rendered));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            pretty_assertions::assert_eq!(ours, theirs, "{folder}");
        }
        assert_eq!(ours.len(), theirs.len(), "{folder}");
    }
}
