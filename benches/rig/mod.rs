//! What measurements of the real program stand on: a control plane with the operator's rights installed, a simulated
//! cloud, resources on it, and programs that are measured from outside.

pub mod program;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use appcode_operator::api::{AppCodeRotation, ConditionType};
use cloud_simulator::Simulator;
use control_plane::{ControlPlane, Identity};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt};
use serde_json::{Value, json};

/// Requests under way at once while objects are made.
const WRITERS: usize = 16;
/// The name of the credentials Secret in each namespace.
pub const CREDENTIALS: &str = "credentials";
/// The user that the operator signs in as.
pub const OPERATOR: &str = "system:serviceaccount:appcode-system:appcode-operator";

/// A control plane and a cloud.
pub struct Rig {
    /// The control plane.
    pub plane: ControlPlane,
    /// The cloud.
    pub cloud: Simulator,
    /// A client of the administrator.
    pub client: Client,
}

impl Rig {
    /// Starts both. `others` may sign in besides the operator.
    pub async fn set(others: Vec<Identity>, has_audit: bool) -> Result<Self> {
        let cloud = Simulator::start(cloud_simulator::Options::default()).await?;
        let mut identities = others;
        identities.push(Identity::service_account("appcode-system", "appcode-operator"));
        let options = control_plane::Options {
            identities,
            audit: has_audit,
            controller_manager: false,
            // In MiB. By default the log begins anew after 100 of them, and what was not read yet is gone.
            extra_apiserver_args: vec!["--audit-log-maxsize=100000".to_owned()],
        };
        let plane = ControlPlane::start(options)
            .await
            .context("the control plane did not start")?;
        install(&plane)?;
        let kubeconfig = Kubeconfig::read_from(plane.admin_kubeconfig())?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        let client = Client::try_from(config)?;
        Ok(Self { plane, cloud, client })
    }

    /// A namespace with the credentials of a user.
    pub async fn namespace(&self, name: &str, user: &cloud_simulator::User) -> Result<()> {
        let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": name } }))?;
        let params = PostParams::default();
        Api::all(self.client.clone()).create(&params, &namespace).await?;
        let credentials: Secret = serde_json::from_value(json!({
            "metadata": { "name": CREDENTIALS }, "stringData": { "accessKey": user.ak, "secretKey": user.sk },
        }))?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), name);
        secrets.create(&params, &credentials).await?;
        Ok(())
    }

    /// Makes a resource for each of these apps, named after it. `schedule` is theirs.
    pub async fn rotations(&self, namespace: &str, project: &str, apps: Vec<String>, schedule: &Value) -> Result<()> {
        let rotations: Api<AppCodeRotation> = Api::namespaced(self.client.clone(), namespace);
        let object = |app: &str| {
            json!({
                "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation",
                "metadata": { "name": name_of(app) },
                "spec": {
                    "endpoint": self.cloud.url(), "projectId": project, "appId": app,
                    "credentialsRef": { "name": CREDENTIALS }, "schedule": schedule,
                },
            })
        };
        let objects = apps.iter().map(|app| object(app));
        self.create_all(&rotations, objects.collect()).await
    }

    /// Creates objects, many at once.
    pub async fn create_all<K>(&self, api: &Api<K>, objects: Vec<Value>) -> Result<()>
    where
        K: kube::Resource + Clone + serde::Serialize + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let params = PostParams::default();
        let made = stream::iter(objects).map(async |object| {
            api.create(&params, &serde_json::from_value(object)?).await?;
            anyhow::Ok(())
        });
        let mut made = std::pin::pin!(made.buffer_unordered(WRITERS));
        while let Some(result) = made.next().await {
            result?;
        }
        Ok(())
    }

    /// `namespace/name` of every resource that is not `Ready`.
    pub async fn unready(&self) -> Result<Vec<String>> {
        let rotations: Api<AppCodeRotation> = Api::all(self.client.clone());
        let mut unready = Vec::new();
        let mut params = ListParams::default().limit(500);
        loop {
            let page = rotations.list(&params).await?;
            let is_ready = |rotation: &&AppCodeRotation| {
                let status = rotation.status.as_ref();
                !status.is_some_and(|status| status.is_true(ConditionType::Ready))
            };
            let names = page.items.iter().filter(is_ready);
            unready.extend(names.map(|one| format!("{}/{}", one.namespace().unwrap_or_default(), one.name_any())));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(unready),
            }
        }
    }

    /// The kubeconfig of the operator's identity.
    pub fn operator(&self) -> Result<&Path> {
        Ok(self.plane.kubeconfig(OPERATOR)?)
    }

    /// Ends both.
    pub async fn stop(self) -> Result<()> {
        self.plane.stop().await?;
        self.cloud.stop().await;
        Ok(())
    }
}

/// The name of the resource of an app, and of its Secret.
pub fn name_of(app: &str) -> String {
    format!("app-{app}")
}

/// The program that `variable` names, or else this one of the present build.
pub fn program(variable: &str, otherwise: &str) -> PathBuf {
    std::env::var_os(variable).map_or_else(|| otherwise.into(), PathBuf::from)
}

/// A number of the environment.
pub fn number(variable: &str, default: u32) -> Result<u32> {
    let Ok(text) = std::env::var(variable) else {
        return Ok(default);
    };
    text.parse().with_context(|| format!("{variable} is no number"))
}

/// How busy the machine is, by itself: cores, and how many processes wanted one in the last minute.
pub fn machine() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default().to_owned();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cores} cores, load {load}")
}

/// Installs what `deploy/` gives the operator, without its Deployment.
fn install(plane: &ControlPlane) -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let base = root.join("deploy/kustomize/base");
    let is_wanted = |name: &str| {
        ["namespace", "serviceaccount", "rbac"]
            .iter()
            .any(|start| name.starts_with(start))
    };
    let mut files: Vec<PathBuf> = std::fs::read_dir(&base)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().is_some_and(|name| is_wanted(&name.to_string_lossy())))
        .collect();
    files.sort(); // the namespace goes before what is in it
    files.insert(0, root.join("crds/appcoderotations.yaml"));
    let mut create = vec!["create".to_owned(), "--validate=false".to_owned()];
    create.extend(files.iter().map(|file| format!("-f={}", file.display())));
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "crd/appcoderotations.appcode.dev",
    ];
    for arguments in [create, wait.map(str::to_owned).to_vec()] {
        let done = plane.kubectl().args(&arguments).output()?;
        if !done.status.success() {
            bail!("kubectl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        }
    }
    Ok(())
}
