//! What the operator costs while it has nothing to do, and how soon it is ready: `make bench-idle`.
//!
//! A real control plane and the simulated cloud. Each resource has an app of its own, is taken over once and then rests.
//! Measured in the same run and in turns: the operator; kube's own `Controller` as it comes, which holds the same
//! resources and does nothing; and a bare paged list of them. Then all of it once more beside many Secrets of strangers.
//! What it prints are figures of this run; nothing is judged, but for Secrets that are listed or watched.
//!
//! `RESOURCES=1000,10000` are the steps, `FOREIGN=30000` the strangers' Secrets of `FOREIGN_BYTES=10240`, `ROUNDS=3` the
//! starts of each program in a step, `SECONDS=60` how long it is looked at while it rests. `OPERATOR` and `PEER` are the
//! programs.

mod audit;
mod handover;
mod measure;
#[path = "../rig/mod.rs"]
mod rig;

use std::time::Duration;

use anyhow::{Result, bail};
use cloud_simulator::{NewApp, User};
use control_plane::Identity;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use serde_json::json;

use self::measure::Bench;
use self::rig::{Rig, number};

/// Where the measured resources are.
const NAMESPACE: &str = "bench";
/// Where the Secrets of strangers are.
const STRANGERS: &str = "strangers";

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let steps = std::env::var("RESOURCES").unwrap_or_else(|_| "1000,10000".into());
    let steps: Vec<usize> = steps
        .split(',')
        .map(|step| step.trim().parse())
        .collect::<Result<_, _>>()?;
    let foreign = number("FOREIGN", 30_000)?;

    let peer = Identity {
        user: measure::PEER.to_owned(),
        groups: vec!["system:masters".to_owned()],
    };
    let rig = Rig::set(vec![peer], true).await?;
    let (user, project) = rig.cloud.add_tenant("bench");
    rig.namespace(NAMESPACE, &user).await?;
    let mut bench = Bench::new(rig)?;
    let mut apps = Vec::new();
    for step in steps {
        let new = step.saturating_sub(apps.len());
        let made = make(&bench, &user, &project, new).await?;
        let named = apps.len();
        apps.extend(made);
        let fresh = apps.get(named..).unwrap_or_default();
        bench.take_over(apps.len()).await?;
        bench.measure(&format!("{step} resources"), fresh, 0).await?;
        if named == 0 {
            bench.measure_checks().await?;
            // Behind those whose rotation was asked for and those that are left for the strangers' step.
            let left = apps.get(2 * measure::ROTATED..).unwrap_or_default();
            bench.measure_handovers(left).await?;
        }
    }
    if foreign > 0 {
        let bytes = number("FOREIGN_BYTES", 10_240)?;
        make_strangers(&bench.rig, &user, foreign, bytes).await?;
        let title = format!(
            "{} resources beside {foreign} Secrets of strangers, {bytes} bytes each",
            apps.len()
        );
        let rotated_before = measure::ROTATED;
        bench.measure(&title, &apps, rotated_before).await?;
    }
    bench.finish().await
}

/// Apps of one code, with a resource each.
async fn make(bench: &Bench, user: &User, project: &str, count: usize) -> Result<Vec<String>> {
    let app = |_| bench.rig.cloud.create_app(NewApp::of(&user.user_id, project).codes(1));
    let apps: Vec<String> = (0..count).map(app).map(|app| app.app_id).collect();
    let schedule = json!({ "interval": "720h" });
    bench.rig.rotations(NAMESPACE, project, apps.clone(), &schedule).await?;
    Ok(apps)
}

async fn make_strangers(rig: &Rig, user: &User, count: u32, bytes: u32) -> Result<()> {
    rig.namespace(STRANGERS, user).await?;
    let secrets: Api<Secret> = Api::namespaced(rig.client.clone(), STRANGERS);
    let content = "x".repeat(usize::try_from(bytes)?);
    // By parts, so that not all of them are in memory at a time.
    for part in 0..count.div_ceil(1000) {
        let numbers = part * 1000..count.min((part + 1) * 1000);
        let object =
            |number| json!({ "metadata": { "name": format!("stranger-{number}") }, "stringData": { "x": content } });
        rig.create_all(&secrets, numbers.map(object).collect()).await?;
    }
    Ok(())
}

/// Waits for `wanted` to come about, within reason.
async fn until(what: &str, mut wanted: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    for _ in 0..1800 {
        if wanted().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    bail!("waited in vain: {what}")
}
