//! Memory of the operator at rest, for numbers of resources: `make bench`.
//!
//! A real control plane and the simulated cloud. Each resource has an app of its own, is taken over once and then rests.
//! Resident memory is read before the first resource, after each step and, as the floor, for none. What it prints are
//! figures of this run; nothing is judged.
//!
//! `RESOURCES=1000,10000` are the steps; `OPERATOR` is the program.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use appcode_operator::api::AppCodeRotation;
use cloud_simulator::{NewApp, Simulator};
use control_plane::{ControlPlane, Identity};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

const NAMESPACE: &str = "bench";
/// Requests under way at once while resources are made.
const WRITERS: usize = 16;

struct Operator(Child);

impl Drop for Operator {
    fn drop(&mut self) {
        // Both fail only for a child that is already gone.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Operator {
    fn start(program: &PathBuf, kubeconfig: &std::path::Path, cloud: &str) -> Result<Self> {
        let child = Command::new(program)
            .args([
                "--allow-insecure-loopback",
                "--caller-rate=10000",
                "--total-rate=10000",
                "--log=warn",
            ])
            .args([
                format!("--allow-endpoint={cloud}={cloud}"),
                "--admin-address=127.0.0.1:0".into(),
            ])
            .env("KUBECONFIG", kubeconfig)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("{} could not be started", program.display()))?;
        Ok(Self(child))
    }

    /// `VmRSS` and `VmHWM` in KiB.
    fn memory(&self) -> Result<[u64; 2]> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let field = |name: &str| -> Result<u64> {
            let line = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .context("no such field")?;
            Ok(line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?)
        };
        Ok([field("VmRSS")?, field("VmHWM")?])
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let steps = std::env::var("RESOURCES").unwrap_or_else(|_| "1000,10000".into());
    let steps: Vec<usize> = steps
        .split(',')
        .map(|step| step.trim().parse())
        .collect::<Result<_, _>>()?;
    let program =
        std::env::var_os("OPERATOR").map_or_else(|| env!("CARGO_BIN_EXE_appcode-operator").into(), PathBuf::from);

    let cloud = Simulator::start(cloud_simulator::Options::default()).await?;
    let (user, project) = cloud.add_tenant("bench");
    let identity = Identity::service_account("appcode-system", "appcode-operator");
    let operator_name = identity.user.clone();
    let options = control_plane::Options {
        identities: vec![identity],
        ..control_plane::Options::default()
    };
    let plane = ControlPlane::start(options)
        .await
        .context("the control plane did not start")?;
    install(&plane)?;
    let kubeconfig = Kubeconfig::read_from(plane.admin_kubeconfig())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config)?;
    let namespace: Namespace = serde_json::from_value(json!({ "metadata": { "name": NAMESPACE } }))?;
    Api::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await?;
    let credentials: Secret = serde_json::from_value(json!({
        "metadata": { "name": "credentials" }, "stringData": { "accessKey": user.ak, "secretKey": user.sk },
    }))?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    secrets.create(&PostParams::default(), &credentials).await?;

    let operator = Operator::start(&program, plane.kubeconfig(&operator_name)?, &cloud.url())?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let [floor, _] = operator.memory()?;
    println!(
        "{:>9} {:>9} {:>9} {:>14} {:>9}",
        "resources", "RSS KiB", "peak KiB", "B/resource", "seconds"
    );
    println!("{:>9} {floor:>9}", 0);
    let rotations: Api<AppCodeRotation> = Api::namespaced(client.clone(), NAMESPACE);
    let mut made = 0;
    for step in steps {
        let start = Instant::now();
        let names: Vec<String> = (made..step)
            .map(|number| {
                let new = NewApp::of(&user.user_id, &project)
                    .codes(1)
                    .name(&format!("app-{number}"));
                cloud.create_app(new).app_id
            })
            .collect();
        let made_all = stream::iter(names)
            .map(|app| create(&rotations, &cloud, &project, app))
            .buffer_unordered(WRITERS);
        for result in made_all.collect::<Vec<Result<()>>>().await {
            result?;
        }
        made = step;
        until_ready(&rotations, step).await?;
        tokio::time::sleep(Duration::from_secs(10)).await;
        let [resident, peak] = operator.memory()?;
        let share = resident.saturating_sub(floor) * 1024 / u64::try_from(step)?.max(1);
        println!(
            "{step:>9} {resident:>9} {peak:>9} {share:>14} {:>9}",
            start.elapsed().as_secs()
        );
    }
    drop(operator);
    // The same set, listed by a process that has just started.
    let again = Operator::start(&program, plane.kubeconfig(&operator_name)?, &cloud.url())?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let [resident, peak] = again.memory()?;
    println!("after a restart {resident} KiB, peak {peak} KiB");
    drop(again);
    plane.stop().await?;
    cloud.stop().await;
    Ok(())
}

fn install(plane: &ControlPlane) -> Result<()> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    let files = [
        "crds/appcoderotations",
        "deploy/kustomize/base/namespace",
        "deploy/kustomize/base/serviceaccount",
        "deploy/kustomize/base/rbac",
    ];
    let mut create = vec!["create".to_owned(), "--validate=false".to_owned()];
    create.extend(files.map(|file| format!("-f={root}{file}.yaml")));
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

async fn create(rotations: &Api<AppCodeRotation>, cloud: &Simulator, project: &str, app: String) -> Result<()> {
    let object: Value = json!({
        "apiVersion": "appcode.dev/v1alpha1", "kind": "AppCodeRotation", "metadata": { "name": format!("app-{app}") },
        "spec": {
            "endpoint": cloud.url(), "projectId": project, "appId": app, "credentialsRef": { "name": "credentials" },
            "schedule": { "interval": "720h" },
        },
    });
    rotations
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

/// Waits until `count` resources are ready.
async fn until_ready(rotations: &Api<AppCodeRotation>, count: usize) -> Result<()> {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let mut ready = 0;
        let mut params = ListParams::default().limit(500);
        loop {
            let page = rotations.list(&params).await?;
            let is_ready = |rotation: &&AppCodeRotation| {
                let status = rotation.status.as_ref();
                status.is_some_and(|status| status.is_true(appcode_operator::api::ConditionType::Ready))
            };
            ready += page.items.iter().filter(is_ready).count();
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        if ready >= count {
            return Ok(());
        }
    }
}
