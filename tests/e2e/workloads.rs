//! Restarts of workloads with Kubernetes' own controllers, and what is said of them, side by side with kubectl.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use appcode_operator::controller::Cluster;
use appcode_operator::controller::workloads::{Fence, Marking, Restarted, look, restart};
use appcode_operator::ids::RotationId;
use appcode_operator::workload::{RestartTarget, Rollout, WorkloadKind, marker};
use serde_json::{Value, json};

use crate::player::{Player, Readiness, add_node};
use crate::rights::{granted, requests};
use crate::stage::{PATIENCE, Stage};

const NAMESPACE: &str = "shop";
const SECRET: &str = "checkout";
/// Replicas of workloads that have a number of them, and nodes.
const PODS: usize = 2;

fn target(text: &str) -> RestartTarget {
    RestartTarget::parse(text).unwrap()
}

/// A namespace with the Secret, and the operator's calls under its own identity.
struct Scene {
    stage: Stage,
    player: Player,
    cluster: Cluster,
    marker: String,
}

impl Scene {
    async fn set() -> Self {
        let stage = Stage::set_with_controllers(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &[]).await;
        stage.namespace(NAMESPACE);
        stage.apply(&json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": NAMESPACE},
            "stringData": {"appCode": "new"},
        }));
        let admin = Stage::client(stage.plane.admin_kubeconfig()).await;
        for number in 0..PODS {
            add_node(&admin, &format!("node-{number}")).await;
        }
        let operator = Stage::client(stage.operator_kubeconfig()).await;
        Self {
            player: Player::start(admin, NAMESPACE),
            cluster: Cluster::new(operator, Duration::from_secs(10)),
            marker: marker("checkout"),
            stage,
        }
    }

    /// A workload with `more` merged over its spec; waits until all of its pods are ready.
    async fn create(&self, target: &RestartTarget, more: &Value) {
        let labels = json!({"app": target.to_string().replace('/', "-")});
        let mut spec = json!({
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "automountServiceAccountToken": false,
                    "containers": [{"name": "main", "image": "registry.example/web:1"}],
                },
            },
        });
        match target.kind {
            WorkloadKind::Deployment => spec["replicas"] = json!(PODS),
            WorkloadKind::StatefulSet => {
                spec["replicas"] = json!(PODS);
                spec["serviceName"] = json!("web");
            }
            WorkloadKind::DaemonSet => {}
        }
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        self.stage.apply(&json!({
            "apiVersion": "apps/v1", "kind": target.kind.as_str(),
            "metadata": {"name": target.name, "namespace": NAMESPACE}, "spec": spec,
        }));
        let ready = |status: &Value| match target.kind {
            WorkloadKind::DaemonSet => status["numberAvailable"].clone(),
            _ => status["readyReplicas"].clone(),
        };
        self.stage
            .until(&format!("{target} is ready"), || {
                ready(&self.object(target)["status"]) == json!(PODS)
            })
            .await;
    }

    fn object(&self, target: &RestartTarget) -> Value {
        self.stage.get(NAMESPACE, target.kind.as_str(), &target.name)
    }

    fn change(&self, target: &RestartTarget, patch: &Value) {
        let kind = target.kind.as_str();
        self.stage.kubectl(&[
            "patch",
            kind,
            &target.name,
            "-n",
            NAMESPACE,
            "--type=merge",
            "-p",
            &patch.to_string(),
        ]);
    }

    fn pods(&self, target: &RestartTarget) -> Vec<Value> {
        let label = format!("app={}", target.to_string().replace('/', "-"));
        let text = self
            .stage
            .kubectl(&["get", "pods", "-n", NAMESPACE, "-l", &label, "-o", "json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// How many pods of a workload were made for a rotation.
    fn pods_of(&self, target: &RestartTarget, id: &RotationId) -> usize {
        let pods = self.pods(target).into_iter();
        pods.filter(|pod| pod["metadata"]["annotations"][&self.marker] == id.as_str())
            .count()
    }

    async fn restart(&self, target: &RestartTarget, id: &RotationId) -> Restarted {
        let secret = self.stage.get(NAMESPACE, "secret", SECRET);
        let fence = Fence {
            secret: SECRET,
            resource_version: secret["metadata"]["resourceVersion"].as_str().unwrap(),
        };
        let marking = self.marking(id);
        restart(&self.cluster, marking, fence, target, || true).await.unwrap()
    }

    fn marking<'a>(&'a self, id: &'a RotationId) -> Marking<'a> {
        Marking {
            namespace: NAMESPACE,
            marker: &self.marker,
            id,
        }
    }

    async fn look(&self, target: &RestartTarget, id: &RotationId) -> Rollout {
        let targets = std::slice::from_ref(target);
        let read = self.cluster.workload(NAMESPACE, target).await;
        // As if it had been recorded once it was marked.
        let marks: Vec<String> = read
            .ok()
            .flatten()
            .iter()
            .map(|workload| workload.mark(target))
            .collect();
        let mut found = look(&self.cluster, self.marking(id), targets, &marks).await;
        found.remove(0).rollout
    }

    /// Looks until `is_so` holds.
    async fn until(&self, target: &RestartTarget, id: &RotationId, what: &str, is_so: impl Fn(&Rollout) -> bool) {
        let start = Instant::now();
        loop {
            let rollout = self.look(target, id).await;
            if is_so(&rollout) {
                return;
            }
            let object = || format!("{:#}", self.object(target)["status"]);
            assert!(
                start.elapsed() < PATIENCE,
                "{target} is never {what}: {rollout:?} {}",
                object()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn until_done(&self, target: &RestartTarget, id: &RotationId) {
        self.until(target, id, "done", Rollout::is_done).await;
        let desired = self.object(target)["spec"]["replicas"].as_u64().unwrap_or(PODS as u64);
        assert_eq!(self.pods_of(target, id) as u64, desired, "every pod is new");
        assert_eq!(self.pods(target).len() as u64, desired, "no pod is left");
    }

    /// What kubectl says at this moment.
    fn kubectl_says(&self, target: &RestartTarget) -> String {
        let target = target.to_string().to_lowercase();
        self.stage
            .kubectl(&["rollout", "status", &target, "-n", NAMESPACE, "--watch=false"])
    }
}

fn is_progressing(rollout: &Rollout) -> bool {
    matches!(rollout, Rollout::Progressing { .. })
}

fn is_manual(rollout: &Rollout) -> bool {
    matches!(rollout, Rollout::Manual { .. })
}

fn id(number: u64) -> RotationId {
    RotationId::from_random(number)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_is_restarted_with_the_optional_role_and_followed_to_its_end() {
    let scene = Scene::set().await;
    let all = WorkloadKind::ALL.map(|kind| target(&format!("{kind}/web")));
    for target in &all {
        scene.create(target, &json!({})).await;
    }

    // Without the role it is told what is lacking, by reading and by restarting.
    for target in &all {
        assert!(matches!(scene.look(target, &id(1)).await, Rollout::Forbidden(why) if why.contains("web")));
        assert!(matches!(scene.restart(target, &id(1)).await, Restarted::Forbidden(_)));
    }
    scene.stage.allow_restarts();
    for target in &all {
        scene
            .until(target, &id(1), "allowed", |it| !matches!(it, Rollout::Forbidden(_)))
            .await;
        assert_eq!(
            scene.look(target, &id(1)).await,
            Rollout::RolledBack,
            "none is on the template"
        );
        let before = scene.pods(target);

        // New pods that are not ready hold it; kubectl waits as well.
        scene.player.set(Readiness::Never);
        assert!(matches!(scene.restart(target, &id(1)).await, Restarted::Now(_)));
        assert_eq!(scene.restart(target, &id(1)).await, Restarted::Already);
        scene.until(target, &id(1), "progressing", is_progressing).await;
        scene
            .stage
            .until("a new pod is there", || scene.pods_of(target, &id(1)) > 0)
            .await;
        assert!(is_progressing(&scene.look(target, &id(1)).await));
        let said = scene.kubectl_says(target);
        assert!(said.to_lowercase().contains("waiting"), "{said}");

        scene.player.set(Readiness::After(Duration::ZERO));
        scene.until_done(target, &id(1)).await;
        let said = scene.kubectl_says(target);
        assert!(!said.to_lowercase().contains("waiting"), "{said}");
        let names = |pods: &[Value]| {
            pods.iter()
                .map(|pod| pod["metadata"]["uid"].clone())
                .collect::<Vec<_>>()
        };
        let (old, new) = (names(&before), names(&scene.pods(target)));
        assert!(!old.iter().any(|uid| new.contains(uid)), "every pod was replaced");
    }

    // A second rotation restarts them again, and the first one's mark counts no longer.
    for target in &all {
        assert!(matches!(scene.restart(target, &id(2)).await, Restarted::Now(_)));
        scene.until_done(target, &id(2)).await;
        assert_eq!(scene.look(target, &id(1)).await, Rollout::RolledBack);
    }

    let used = || -> BTreeSet<_> {
        let requests = requests(&scene.stage).into_iter();
        requests.filter(|(_, what)| what.starts_with("apps:")).collect()
    };
    let granted = granted("components/restart/rbac-restart.yaml");
    scene
        .stage
        .until("the log has every kind of request", || used().len() >= granted.len())
        .await;
    assert_eq!(used(), granted, "used and granted are the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_is_late_paused_rolled_back_or_empty_says_so() {
    let scene = Scene::set().await;
    scene.stage.allow_restarts();
    let web = target("Deployment/web");
    scene.create(&web, &json!({"progressDeadlineSeconds": 2})).await;

    scene.player.set(Readiness::Never);
    scene.restart(&web, &id(1)).await;
    scene
        .until(&web, &id(1), "stuck", |it| matches!(it, Rollout::Stuck { .. }))
        .await;
    scene.player.set(Readiness::After(Duration::ZERO));
    scene.until_done(&web, &id(1)).await;

    scene.change(&web, &json!({"spec": {"paused": true}}));
    assert!(matches!(
        scene.look(&web, &id(1)).await,
        Rollout::Done | Rollout::Paused
    ));
    scene.until_done(&web, &id(1)).await; // it is paused, and has nothing to do
    scene.restart(&web, &id(2)).await;
    scene
        .stage
        .until("its controller has seen the restart", || {
            let object = scene.object(&web);
            object["status"]["observedGeneration"] == object["metadata"]["generation"]
        })
        .await;
    assert_eq!(scene.look(&web, &id(2)).await, Rollout::Paused);
    assert_eq!(scene.pods_of(&web, &id(2)), 0);
    scene.change(&web, &json!({"spec": {"paused": false}}));
    scene.until_done(&web, &id(2)).await;

    scene
        .stage
        .kubectl(&["rollout", "undo", "deployment/web", "-n", NAMESPACE]);
    assert_eq!(scene.look(&web, &id(2)).await, Rollout::RolledBack);
    scene
        .stage
        .kubectl(&["rollout", "undo", "deployment/web", "-n", NAMESPACE]);
    scene.until_done(&web, &id(2)).await; // forward again

    scene.change(&web, &json!({"spec": {"replicas": 0}}));
    scene.until_done(&web, &id(2)).await;
    scene.restart(&web, &id(3)).await;
    scene.until_done(&web, &id(3)).await;
    scene
        .stage
        .kubectl(&["delete", "deployment", "web", "-n", NAMESPACE, "--wait"]);
    assert_eq!(scene.look(&web, &id(3)).await, Rollout::Missing);
    assert_eq!(scene.restart(&web, &id(4)).await, Restarted::Missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_update_strategy_leaves_to_a_person_is_done_once_the_person_did_it() {
    let scene = Scene::set().await;
    scene.stage.allow_restarts();
    let set = target("StatefulSet/parted");
    let partition =
        |number: u32| json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": number}}});
    scene.create(&set, &partition(1)).await;
    scene.restart(&set, &id(1)).await;
    scene.until(&set, &id(1), "left to a person", is_manual).await;
    scene
        .stage
        .until("the pod above the partition is new", || {
            scene.pods_of(&set, &id(1)) == 1
        })
        .await;
    assert!(is_manual(&scene.look(&set, &id(1)).await));
    // What kubectl calls complete leaves a pod with the earlier code.
    let said = scene.kubectl_says(&set);
    assert!(said.contains("complete"), "{said}");
    scene.change(&set, &json!({"spec": partition(0)}));
    scene.until_done(&set, &id(1)).await;

    for target in [target("StatefulSet/by-hand"), target("DaemonSet/by-hand")] {
        scene
            .create(&target, &json!({"updateStrategy": {"type": "OnDelete"}}))
            .await;
        scene.restart(&target, &id(1)).await;
        scene.until(&target, &id(1), "left to a person", is_manual).await;
        for pod in scene.pods(&target) {
            assert!(is_manual(&scene.look(&target, &id(1)).await));
            let name = pod["metadata"]["name"].as_str().unwrap();
            scene.stage.kubectl(&["delete", "pod", name, "-n", NAMESPACE, "--wait"]);
        }
        scene.until_done(&target, &id(1)).await;
    }
}
