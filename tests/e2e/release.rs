//! A release from its install to its end, by Helm's own library on a real API server; in between the operator runs as the
//! installed Deployment says, and rotates nothing by being upgraded, rolled back or installed again.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use crate::deployed::{Deployed, run_pod};
use crate::helm::{NAMESPACE, RELEASE, chart, helm};
use crate::install::{FIRST_WITH_RULES, without_rules};
use crate::stage::Stage;
use crate::{condition, message};

const PROGRAM: &str = env!("CARGO_BIN_EXE_appcode-operator");
const CRD: &str = "appcoderotations.appcode.dev";

impl Stage {
    /// Has Helm do one thing with the release.
    pub fn helm(&self, action: &str, more: &Value) -> Result<Value, String> {
        let mut ask = json!({
            "do": action, "kubeconfig": self.plane.admin_kubeconfig(), "namespace": NAMESPACE,
            "chart": chart(), "name": RELEASE, "values": {},
        });
        for (field, value) in more.as_object().unwrap() {
            ask[field] = value.clone();
        }
        helm(&json!([ask])).remove(0)
    }

    /// Starts the operator as the release's Deployment says, and waits until it is ready by the probe that stands there.
    pub async fn start_release(&mut self) -> Deployed {
        let deployed = Deployed::read(self, NAMESPACE, RELEASE).await;
        self.start_deployed(&deployed);
        let probe = format!("127.0.0.1:{}", deployed.port);
        let answers = || appcode_operator::admin::ask_ready(&probe, std::time::Duration::ZERO).is_ok();
        self.until("the pod is ready", answers).await;
        deployed
    }

    /// Values by which the operator serves the simulated cloud with short times, merged with others.
    pub fn values(&self, more: &Value) -> Value {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut values = json!({
            "cloud": {"allowEndpoints": [format!("{0}={0}", self.cloud.url())]},
            "extraArgs": ["--allow-insecure-loopback"], "port": free,
            "settings": {
                "settleWindow": "6s", "requestDeadline": "2s", "connectTimeout": "1s", "minimumInterval": "7s",
                "dailyBudget": 65000, "checkPeriod": "10m", "callerRate": 50, "totalRate": 200,
            },
        });
        for (field, value) in more.as_object().unwrap() {
            values[field] = value.clone();
        }
        values
    }
}

fn labels(object: &Value) -> &Value {
    &object["metadata"]["labels"]
}

/// The chart with another definition of AppCodeRotation, as an older release of it has one.
fn older_chart(stage: &Stage) -> PathBuf {
    let folder = stage.plane.dir().join("older");
    let copied = std::process::Command::new("cp")
        .arg("-r")
        .arg(chart())
        .arg(&folder)
        .status();
    assert!(copied.unwrap().success());
    let file = folder.join("files/appcoderotations.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let older = text.replacen("description: Time since creation", "description: Age '{{ fail }}'", 1);
    assert_ne!(text, older);
    std::fs::write(file, older).unwrap();
    folder
}

/// What the column of ages says in the definition on the server.
fn column(stage: &Stage) -> String {
    let definition = stage.get("", "crd", CRD);
    let columns = definition["spec"]["versions"][0]["additionalPrinterColumns"].clone();
    let columns: Vec<Value> = serde_json::from_value(columns).unwrap();
    let age = columns.iter().find(|column| column["name"] == "Age").unwrap();
    age["description"].as_str().unwrap().to_owned()
}

/// Everything of one app in the cluster that a release must not touch.
fn kept(stage: &Stage) -> [Value; 2] {
    let secret = stage.get("a", "secret", "one");
    let mut rotation = stage.get("a", "acr", "one");
    rotation["metadata"].as_object_mut().unwrap().remove("resourceVersion");
    rotation["status"] = json!(null);
    assert!(secret.is_object() && rotation["spec"].is_object());
    [secret, rotation]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_upgraded_rolled_back_and_uninstalled_without_a_rotation() {
    let mut stage = Stage::bare(Path::new(PROGRAM)).await;
    let values = stage.values(&json!({}));
    let older = older_chart(&stage);
    stage
        .helm("install", &json!({"values": values, "chart": older}))
        .unwrap();
    assert!(column(&stage).contains("{{ fail }}"), "braces are no template there");
    assert_eq!(
        labels(&stage.get("", "crd", CRD))["app.kubernetes.io/managed-by"],
        "Helm"
    );

    let deployed = stage.start_release().await;
    assert!(deployed.grace.as_secs() >= 60);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", stage.operator_id())).unwrap();
    let core = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    stage.namespace("a");
    let app = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    stage.until_ready("a", "one", &app.app_id).await;
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({"rotationTrigger": "x"})));
    stage
        .until("the trigger is handled", || {
            stage.status("a", "one")["lastHandledTrigger"] == "x"
        })
        .await;
    assert_eq!(stage.resets(&app.app_id), 1);
    let before = kept(&stage);
    let first = stage.get(NAMESPACE, "deployment", RELEASE)["spec"].clone();

    passes_its_test(&stage, deployed.port).await;

    // Upgrade: another definition, another Deployment.
    let upgraded = stage.values(&json!({"log": {"format": "text"}}));
    stage.helm("upgrade", &json!({"values": upgraded})).unwrap();
    assert_eq!(column(&stage), "Time since creation");
    assert_eq!(stage.end_operator("TERM"), Some(0));
    let again = stage.start_release().await;
    assert!(again.args.contains(&"--log-format=text".to_owned()), "{:?}", again.args);

    // What is logged changes under the pod that runs.
    let spec = stage.get(NAMESPACE, "deployment", RELEASE)["spec"].clone();
    let mut talkative = upgraded.clone();
    talkative["log"]["filter"] = json!("debug");
    stage.helm("upgrade", &json!({"values": talkative})).unwrap();
    assert_eq!(stage.get(NAMESPACE, "deployment", RELEASE)["spec"], spec);
    // In place of the kubelet, which brings the files of a pod up to date.
    Deployed::read(&stage, NAMESPACE, RELEASE).await;
    stage
        .until("the new level counts", || {
            let log = stage.log_text();
            log.contains("the log's filter was changed")
        })
        .await;

    // Back.
    stage.helm("rollback", &json!({"revision": 1})).unwrap();
    assert!(column(&stage).contains("{{ fail }}"));
    assert_eq!(stage.get(NAMESPACE, "deployment", RELEASE)["spec"], first);
    assert_eq!(stage.end_operator("TERM"), Some(0));
    stage.start_release().await;

    // Away: what people need stays, what is the release's goes.
    stage.helm("uninstall", &json!({})).unwrap();
    assert_eq!(stage.end_operator("TERM"), Some(0));
    for kind in [
        "deployment",
        "serviceaccount",
        "service",
        "clusterrole",
        "clusterrolebinding",
    ] {
        assert!(stage.get(NAMESPACE, kind, RELEASE).is_null(), "{kind}");
    }
    assert!(stage.get(NAMESPACE, "configmap", &format!("{RELEASE}-log")).is_null());
    assert_eq!(kept(&stage), before);

    // Here again: it takes the definition over, and goes on.
    stage.helm("install", &json!({"values": values})).unwrap();
    assert_eq!(column(&stage), "Time since creation");
    stage.start_release().await;
    stage.until_ready("a", "one", &app.app_id).await;
    assert_eq!(kept(&stage), before);

    // The definition can leave the release and stays.
    let without = stage.values(&json!({"crds": {"enabled": false}}));
    stage.helm("upgrade", &json!({"values": without})).unwrap();
    assert_eq!(kept(&stage), before);
    assert_eq!(stage.resets(&app.app_id), 1, "nothing of all that rotates");

    // Whoever asks for it loses the resources, and no Secret.
    let asked = stage.values(&json!({"crds": {"keep": false}}));
    stage.helm("upgrade", &json!({"values": asked})).unwrap();
    stage.helm("uninstall", &json!({})).unwrap();
    stage
        .until("the definition is gone", || stage.get("", "crd", CRD).is_null())
        .await;
    assert_eq!(stage.get("a", "secret", "one"), before[0]);
    assert_eq!(stage.end_operator("TERM"), Some(0));
}

/// `helm test`, with this test in place of the kubelet and of DNS.
async fn passes_its_test(stage: &Stage, port: u64) {
    let pods: Api<Pod> = Api::namespaced(Stage::client(stage.plane.admin_kubeconfig()).await, NAMESPACE);
    let name = format!("{RELEASE}-test-ready");
    // A pod that names no account has this one; without controllers nobody makes it.
    stage.apply(&json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": NAMESPACE},
    }));
    tokio::task::block_in_place(|| {
        std::thread::scope(|scope| {
            let test = scope.spawn(|| stage.helm("test", &json!({})));
            let kubelet = async {
                let find = || stage.get(NAMESPACE, "pod", &name);
                stage
                    .until("the pod of the test", || find().is_object() || test.is_finished())
                    .await;
                let pod = find();
                if pod.is_null() {
                    return; // what Helm says will tell why
                }
                assert_eq!(crate::restricted::broken(&pod["spec"]), Vec::<String>::new());
                let service = format!("{RELEASE}.{NAMESPACE}.svc");
                let target = stage.get(NAMESPACE, "service", RELEASE)["spec"]["ports"][0]["port"].clone();
                assert_eq!(target, json!(port));
                let output = run_pod(Path::new(PROGRAM), &pod, &service, "127.0.0.1");
                assert!(output.status.success(), "{output:?}");
                let done = Patch::Merge(json!({"status": {"phase": "Succeeded"}}));
                let patched = pods.patch_status(&name, &PatchParams::default(), &done).await;
                patched.unwrap();
            };
            tokio::runtime::Handle::current().block_on(kubelet);
            test.join().unwrap().unwrap();
        });
    });
}

/// By the words of the chart's README.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_was_installed_by_kustomize_makes_way_for_a_release() {
    let stage = Stage::set(Path::new(PROGRAM), &[]).await;
    stage.allow_restarts();
    stage.allow_watching_secrets();
    let file = chart().join("files/appcoderotations.yaml");
    let mut definition: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    if stage
        .plane
        .binaries()
        .minor()
        .is_some_and(|minor| minor < FIRST_WITH_RULES)
    {
        without_rules(&mut definition);
    }
    let mut older = definition.clone();
    older["spec"]["versions"][0]["additionalPrinterColumns"][5]["description"] = json!("old");
    stage.apply(&older);
    stage.namespace("a");
    let rotation = stage.rotation("a", "one", "app", &json!({}));
    stage.apply(&rotation);
    let uid = || stage.get("a", "acr", "one")["metadata"]["uid"].clone();
    let before = uid();
    let refused = stage.helm("install", &json!({})).unwrap_err();
    assert!(refused.contains("invalid ownership metadata"), "{refused}");

    let readme = std::fs::read_to_string(chart().join("README.md")).unwrap();
    let commands = commands_after(&readme, "only the definition is given to the release");
    assert_eq!(commands.len(), 6);
    for command in &commands {
        let mut words: Vec<&str> = command.split_whitespace().collect();
        // The library writes under the name of its program, which is python here and helm elsewhere.
        let by_name = words.iter_mut().find(|word| **word == "--field-manager=helm");
        if let Some(word) = by_name {
            *word = "--field-manager=python";
            words.retain(|word| !word.starts_with("deploy/"));
            words.push("-");
            stage.send(&words, &definition.to_string());
        } else {
            stage.kubectl(&words);
        }
    }
    for kind in ["clusterrole", "clusterrolebinding"] {
        for role in ["appcode-operator-restart", "appcode-operator-watch-secrets"] {
            assert!(stage.get("", kind, role).is_null(), "{kind} {role}");
        }
    }
    stage.helm("install", &json!({})).unwrap();
    assert_eq!(column(&stage), "Time since creation");
    assert_eq!(uid(), before);

    // A second one beside it, without the definition; and one of another name that takes the definition over.
    let beside = json!({"name": "beside", "values": {"crds": {"enabled": false}}});
    stage.helm("install", &beside).unwrap();
    stage.helm("uninstall", &json!({})).unwrap();
    let other = json!({"name": "other"});
    let refused = stage.helm("install", &other).unwrap_err();
    assert!(refused.contains("invalid ownership metadata"), "{refused}");
    let [command] = commands_after(&readme, "hand the definition on:").try_into().unwrap();
    let command = command.replace("NEW_NAMESPACE", NAMESPACE).replace("NEW_NAME", "other");
    stage.kubectl(&command.split_whitespace().collect::<Vec<_>>());
    stage.helm("install", &other).unwrap();
    assert_eq!(uid(), before);
}

/// What `kubectl` is told to do in the first block after these words.
fn commands_after(page: &str, words: &str) -> Vec<String> {
    let (_, rest) = page.split_once(words).unwrap();
    let block = rest.split("```").nth(1).unwrap().replace("\\\n", " ");
    let commands = block.lines().filter_map(|line| line.strip_prefix("$ kubectl "));
    commands.map(str::to_owned).collect()
}

/// Passes on what it gets to `to`, as a proxy for plain http may; counts connections.
async fn proxy(to: String, seen: Arc<AtomicUsize>) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            let mut server = tokio::net::TcpStream::connect(&to).await.unwrap();
            tokio::spawn(async move {
                // Either side may end it.
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_chart_mounts_and_names_reaches_the_operator() {
    let mut stage = Stage::bare(Path::new(PROGRAM)).await;
    let seen = Arc::new(AtomicUsize::new(0));
    let cloud = stage.cloud.url().trim_start_matches("http://").to_owned();
    let proxy = proxy(cloud, Arc::clone(&seen)).await;
    let app = stage.app(1);
    let authority = std::fs::read_to_string(stage.plane.dir().join("ca.crt")).unwrap();
    stage.namespace("a");
    for object in [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own", "namespace": NAMESPACE},
            "stringData": {"accessKey": stage.user.ak, "secretKey": stage.user.sk}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "proxy", "namespace": NAMESPACE},
            "stringData": {"url": format!("http://{proxy}")}}),
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "trust", "namespace": NAMESPACE},
            "data": {"ca.crt": authority}}),
    ] {
        stage.apply(&object);
    }
    let values = stage.values(&json!({
        "defaultIdentity": {"secretName": "own", "allow": [format!("a={}", app.app_id)]},
        "proxy": {"secretName": "proxy"}, "extraCA": {"configMapName": "trust"},
    }));
    stage.helm("install", &json!({"values": values})).unwrap();
    let deployed = stage.start_release().await;
    // Certificates that cannot be read end the program, so it has read these.
    let file = deployed.args.iter().find_map(|arg| arg.strip_prefix("--ca-file="));
    assert_eq!(std::fs::read_to_string(file.unwrap()).unwrap(), authority);

    let without_credentials = |name: &str, app: &str| {
        let mut rotation = stage.rotation("a", name, app, &json!({}));
        rotation["spec"].as_object_mut().unwrap().remove("credentialsRef");
        rotation
    };
    stage.apply(&without_credentials("one", &app.app_id));
    stage.until_ready("a", "one", &app.app_id).await;
    assert!(seen.load(Ordering::Relaxed) > 0, "the cloud was called by the proxy");

    let other = stage.app(1);
    stage.apply(&without_credentials("other", &other.app_id));
    stage
        .until("the app that is not on the list is refused", || {
            condition(&stage.status("a", "other"), "Ready") == "False"
        })
        .await;
    let why = message(&stage.status("a", "other"), "Ready");
    assert!(why.contains("allow-default-identity"), "{why}");
    assert_eq!(stage.end_operator("TERM"), Some(0));
}
