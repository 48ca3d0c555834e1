//! Workloads on the stage. Nothing runs them: a test says how far each is.

use appcode_operator::api::WorkloadKind;
use appcode_operator::workload::RestartTarget;
use serde_json::{Value, json};

use super::Stage;
use super::api_server::{DAEMON_SETS, DEPLOYMENTS, Object, STATEFUL_SETS};
use super::stage::NAMESPACE;

/// Pods of each workload.
const PODS: i32 = 3;

/// How far a workload is with its present template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Played {
    /// So many of its three pods are new; the others are from before.
    Replaced(i32),
    /// All of its pods are new and so many of them ready.
    Ready(i32),
    /// As [`Played::Replaced`] with one new pod, and past its deadline. Only Deployments have one.
    Late,
}

impl Played {
    /// All is done.
    pub const DONE: Self = Self::Ready(PODS);
}

/// Reads `Deployment/web`.
pub fn target(text: &str) -> RestartTarget {
    RestartTarget::parse(text).unwrap()
}

/// The plural that stands in paths.
pub fn plural(kind: WorkloadKind) -> &'static str {
    match kind {
        WorkloadKind::Deployment => DEPLOYMENTS,
        WorkloadKind::StatefulSet => STATEFUL_SETS,
        WorkloadKind::DaemonSet => DAEMON_SETS,
    }
}

/// Whether a workload says that it has rolled out with its present template.
pub fn is_rolled_out(workload: &Value) -> bool {
    let status = &workload["status"];
    let updated = status["updatedReplicas"]
        .as_i64()
        .or(status["updatedNumberScheduled"].as_i64());
    let ready = status["readyReplicas"].as_i64().or(status["numberReady"].as_i64());
    let all = Some(i64::from(PODS));
    status["observedGeneration"] == workload["metadata"]["generation"] && (updated, ready) == (all, all)
}

impl Stage {
    /// Brings every workload that is not paused one step further, as its controller and its pods do in time.
    pub fn roll_on(&self) {
        for kind in WorkloadKind::ALL {
            for workload in self.api.objects(plural(kind)) {
                let name = workload["metadata"]["name"].as_str().unwrap_or_default();
                let target = target(&format!("{kind}/{name}"));
                let is_seen = workload["status"]["observedGeneration"] == workload["metadata"]["generation"];
                if !is_seen {
                    self.play(&target, Played::Replaced(1));
                } else if workload["spec"]["paused"] != true && !is_rolled_out(&workload) {
                    self.play(&target, Played::DONE);
                }
            }
        }
    }

    /// Creates a workload of three pods that has rolled out.
    pub fn create_workload(&self, target: &RestartTarget) {
        let labels = json!({"app": target.name});
        let object = json!({
            "apiVersion": "apps/v1", "kind": target.kind.as_str(),
            "metadata": {"namespace": NAMESPACE, "name": target.name},
            "spec": {
                "replicas": PODS, "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels, "annotations": {"team": "shop"}},
                    "spec": {"containers": [{"name": "main", "image": "registry.example/web:1"}]},
                },
            },
        });
        self.api.apply_new(plural(target.kind), object, self.time.truth());
        self.play(target, Played::DONE);
    }

    /// Changes a workload as a person does; a changed spec is a new generation. Whether there is one.
    pub fn edit_workload(&self, target: &RestartTarget, change: impl FnOnce(&mut Value)) -> bool {
        self.api.edit(plural(target.kind), NAMESPACE, &target.name, change)
    }

    /// Sets a workload's status as its controller would, for its present generation.
    pub fn play(&self, target: &RestartTarget, played: Played) {
        let (updated, ready) = match played {
            Played::Replaced(updated) => (updated, PODS),
            Played::Ready(ready) => (PODS, ready),
            Played::Late => (1, PODS),
        };
        let mut status = match target.kind {
            WorkloadKind::Deployment => {
                json!({"replicas": PODS, "updatedReplicas": updated, "readyReplicas": ready, "availableReplicas": ready})
            }
            WorkloadKind::StatefulSet => json!({
                "replicas": PODS, "updatedReplicas": updated, "readyReplicas": ready, "updateRevision": "new",
                "currentRevision": if played == Played::DONE { "new" } else { "old" },
            }),
            WorkloadKind::DaemonSet => json!({
                "desiredNumberScheduled": PODS, "currentNumberScheduled": PODS, "numberMisscheduled": 0,
                "updatedNumberScheduled": updated, "numberReady": ready, "numberAvailable": ready,
            }),
        };
        if played == Played::Late {
            status["conditions"] = json!([{
                "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": "ReplicaSet \"web-5d4f\" has timed out progressing.",
            }]);
        }
        let exists = self.edit_workload(target, |object| {
            status["observedGeneration"] = object["metadata"]["generation"].clone();
            object["status"] = status;
        });
        assert!(exists, "{target} is played and does not exist");
    }

    /// Deletes a workload. Returns whether there was one.
    pub fn delete_workload(&self, target: &RestartTarget) -> bool {
        self.api.delete(plural(target.kind), NAMESPACE, &target.name)
    }

    pub fn workload(&self, target: &RestartTarget) -> Option<Object> {
        self.api.object(plural(target.kind), NAMESPACE, &target.name)
    }

    /// How often a workload's spec was changed.
    pub fn changes_of(&self, target: &RestartTarget) -> i64 {
        self.workload(target).unwrap()["metadata"]["generation"]
            .as_i64()
            .unwrap()
            - 1
    }

    /// The rotation id that a workload's template carries for the resource called `name`.
    pub fn mark_of(&self, target: &RestartTarget, name: &str) -> Option<String> {
        let workload = self.workload(target)?;
        let annotations = &workload["spec"]["template"]["metadata"]["annotations"];
        annotations[appcode_operator::workload::marker(name)]
            .as_str()
            .map(str::to_owned)
    }
}
