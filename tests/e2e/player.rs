//! Plays the kubelets: starts the pods of a namespace, makes them ready when a test wants it, and ends them.
//!
//! The controllers are the real ones. There is no scheduler, so pods have no node, and the API server removes such a pod
//! as soon as it is deleted.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// When a pod that has started becomes ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// So long after its start.
    After(Duration),
    /// Not until the test wants something else.
    Never,
}

/// What happens in a pod's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Its containers start: now they read Secrets.
    Started,
    /// It becomes ready: now it is sent requests.
    Ready,
    /// It is gone, or about to.
    Ended,
}

/// Is told of each moment of each pod, in order.
pub type Watcher = Box<dyn FnMut(Moment, &Pod) + Send>;

/// Plays until it is dropped.
pub struct Player {
    readiness: Arc<Mutex<Readiness>>,
    task: JoinHandle<()>,
}

impl Drop for Player {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Life {
    pod: Pod,
    since: Instant,
    is_ready: bool,
}

impl Player {
    /// Plays the pods of `namespace` as an administrator; each is ready at once.
    pub fn start(client: Client, namespace: &str) -> Self {
        Self::start_watched(client, namespace, Box::new(|_, _| {}))
    }

    /// The same, and tells `watcher` what happens.
    pub fn start_watched(client: Client, namespace: &str, mut watcher: Watcher) -> Self {
        let readiness = Arc::new(Mutex::new(Readiness::After(Duration::ZERO)));
        let wanted = Arc::clone(&readiness);
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let task = tokio::spawn(async move {
            let mut lives = BTreeMap::new();
            loop {
                let readiness = *wanted.lock().unwrap();
                if let Err(error) = look(&pods, &mut lives, readiness, &mut watcher).await {
                    // The API server may be away, or a pod gone between two requests.
                    println!("player: {error}");
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        Self { readiness, task }
    }

    /// From now on pods that are not ready yet become so at this time.
    pub fn set(&self, readiness: Readiness) {
        *self.readiness.lock().unwrap() = readiness;
    }
}

async fn look(
    pods: &Api<Pod>,
    lives: &mut BTreeMap<String, Life>,
    readiness: Readiness,
    watcher: &mut Watcher,
) -> Result<(), kube::Error> {
    let found: BTreeMap<String, Pod> = pods
        .list(&ListParams::default())
        .await?
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .filter_map(|pod| Some((pod.metadata.uid.clone()?, pod)))
        .collect();
    lives.retain(|uid, life| {
        let lives_on = found.contains_key(uid);
        if !lives_on {
            watcher(Moment::Ended, &life.pod);
        }
        lives_on
    });
    for (uid, pod) in found {
        let life = lives.entry(uid).or_insert_with(|| {
            watcher(Moment::Started, &pod);
            let since = Instant::now();
            let is_ready = false;
            Life { pod, since, is_ready }
        });
        let is_time = matches!(readiness, Readiness::After(delay) if life.since.elapsed() >= delay);
        if is_time && !life.is_ready {
            let name = life.pod.metadata.name.as_deref().unwrap();
            pods.patch_status(name, &PatchParams::default(), &Patch::Merge(ready()))
                .await?;
            life.is_ready = true;
            watcher(Moment::Ready, &life.pod);
        }
    }
    Ok(())
}

fn ready() -> Value {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": now.to_string()});
    let conditions = ["Initialized", "ContainersReady", "Ready"].map(condition);
    json!({"status": {"phase": "Running", "startTime": now.to_string(), "conditions": conditions}})
}

/// Makes a node that runs pods of DaemonSets, as far as their controller knows.
pub async fn add_node(client: &Client, name: &str) {
    let nodes: Api<Node> = Api::all(client.clone());
    let node: Node = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
    }))
    .unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    // The server taints a new node; what takes the taint away in a real cluster does not run here.
    let untainted = json!({"spec": {"taints": null}});
    nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(untainted))
        .await
        .unwrap();
}
