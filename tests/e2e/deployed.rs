//! What a kubelet would start for a Deployment, as it stands on the API server: the account, the flags, the variables and the
//! mounted files. Nothing of it comes from a test.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::stage::Stage;

/// One container, ready to run.
pub struct Deployed {
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    /// How long the pod has for its end.
    pub grace: Duration,
    /// Port of the probes.
    pub port: u64,
}

impl Deployed {
    /// Reads a Deployment. Only two things differ from what a kubelet does: files are mounted somewhere else, and the
    /// account's token comes by a kubeconfig.
    pub async fn read(stage: &Stage, namespace: &str, name: &str) -> Self {
        let deployment = stage.get(namespace, "deployment", name);
        let pod = &deployment["spec"]["template"]["spec"];
        let [container] = pod["containers"].as_array().unwrap().as_slice() else {
            panic!("one container")
        };
        let mut env = vec![("KUBECONFIG".to_owned(), sign_in(stage, namespace, pod).await)];
        env.extend(list(&container["env"]).map(|variable| {
            let of = &variable["valueFrom"]["secretKeyRef"];
            let value = variable["value"].as_str().map_or_else(
                || content(stage, namespace, "secret", text(&of["name"]), text(&of["key"])),
                str::to_owned,
            );
            (text(&variable["name"]).to_owned(), value)
        }));
        let mut args: Vec<String> = list(&container["args"]).map(|arg| text(arg).to_owned()).collect();
        for mount in list(&container["volumeMounts"]) {
            let volume = list(&pod["volumes"])
                .find(|volume| volume["name"] == mount["name"])
                .unwrap();
            let folder = files(stage, namespace, volume).display().to_string();
            for arg in &mut args {
                *arg = arg.replace(&format!("={}", text(&mount["mountPath"])), &format!("={folder}"));
            }
        }
        Self {
            args,
            env,
            grace: Duration::from_secs(pod["terminationGracePeriodSeconds"].as_u64().unwrap()),
            port: container["ports"][0]["containerPort"].as_u64().unwrap(),
        }
    }
}

/// Runs a pod that ends by itself, with `host` in place of a name that DNS would resolve.
pub fn run_pod(program: &Path, pod: &Value, name: &str, host: &str) -> Output {
    let args = list(&pod["spec"]["containers"][0]["args"]).map(|arg| text(arg).replace(name, host));
    Command::new(program).args(args).env_clear().output().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A kubeconfig with a token of the pod's service account, as the server makes one for a pod.
async fn sign_in(stage: &Stage, namespace: &str, pod: &Value) -> String {
    let account = text(&pod["serviceAccountName"]);
    let accounts: Api<ServiceAccount> = Api::namespaced(Stage::client(stage.plane.admin_kubeconfig()).await, namespace);
    let made = accounts
        .create_token_request(account, &PostParams::default(), &TokenRequest::default())
        .await;
    let token = made.unwrap().status.unwrap().token;
    let admin = std::fs::read_to_string(stage.plane.admin_kubeconfig()).unwrap();
    let mut config: Value = serde_json::from_str(&admin).unwrap();
    config["users"][0]["user"] = json!({"token": token});
    let path = stage.plane.dir().join(format!("{namespace}-{account}.kubeconfig"));
    std::fs::write(&path, config.to_string()).unwrap();
    path.display().to_string()
}

fn content(stage: &Stage, namespace: &str, kind: &str, name: &str, key: &str) -> String {
    let object = stage.get(namespace, kind, name);
    let value = &object["data"][key];
    assert!(value.is_string(), "{kind} {namespace}/{name} has no {key}");
    if kind == "secret" {
        let bytes: ByteString = serde_json::from_value(value.clone()).unwrap();
        String::from_utf8(bytes.0).unwrap()
    } else {
        text(value).to_owned()
    }
}

/// The files of a volume.
fn files(stage: &Stage, namespace: &str, volume: &Value) -> PathBuf {
    let folder = stage.plane.dir().join("volumes").join(text(&volume["name"]));
    std::fs::create_dir_all(&folder).unwrap();
    let (kind, name) = if volume["secret"].is_object() {
        ("secret", text(&volume["secret"]["secretName"]))
    } else {
        ("configmap", text(&volume["configMap"]["name"]))
    };
    let object = stage.get(namespace, kind, name);
    for key in object["data"].as_object().unwrap().keys() {
        std::fs::write(folder.join(key), content(stage, namespace, kind, name, key)).unwrap();
    }
    folder
}
