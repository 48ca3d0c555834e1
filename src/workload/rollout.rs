//! What a live read of a workload says of its restart, by the fields that `kubectl rollout status` goes by (the source of
//! kubectl, `pkg/polymorphichelpers/rollout_status.go`, and the API reference of apps/v1).
//!
//! It is stricter than kubectl where kubectl calls an end what leaves pods with the earlier code: a StatefulSet with a
//! partition, and workloads that replace only those pods that a person deletes. Messages hold no counts: each pod that
//! comes up would be another write of the resource's status.

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};

use super::{RestartTarget, Workload};
use crate::ids::RotationId;
use crate::remedy::{Kubectl, tell};

/// What a live read of a workload says of its restart for one rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// There is none of this name, or it is being deleted.
    Missing,
    /// The operator may not read or change it; the API server's words.
    Forbidden(String),
    /// It could not be read or restarted for a reason that may pass.
    Failing(String),
    /// Its pod template does not carry the rotation's id.
    NotRestarted,
    /// It was restarted for this rotation, and its pod template does not say so any more: it was rolled back, or replaced as
    /// a whole. It is never restarted again for the same rotation, and no restart by a person ends this state, since that
    /// sets another annotation: it ends once the workload is not on the list.
    RolledBack,
    /// It is paused, and has not replaced its pods.
    Paused,
    /// Its pods are being replaced.
    Progressing {
        /// What is awaited.
        what: &'static str,
    },
    /// It says that it does not get on. It may yet.
    Stuck {
        /// Why, in its own terms.
        why: &'static str,
    },
    /// It has done what it does by itself; the rest of its pods is left to a person.
    Manual {
        /// What is left, and what to do.
        what: &'static str,
    },
    /// Every pod that it wants was made after the restart and is ready, and no other is left.
    Done,
}

const UNSEEN: &str = "its controller has not taken the restart up yet";
const REPLACING: &str = "not every pod has been replaced yet";
const ENDING: &str = "pods that it no longer wants have not ended yet";
const NOT_AVAILABLE: &str = "not every new pod is available yet";
const NOT_READY: &str = "not every new pod is ready yet";
const NOT_CLOSED: &str = "its controller has not closed the update yet";
const DEADLINE: &str = "it made no progress within its progressDeadlineSeconds";
const ON_DELETE: &str = "its updateStrategy is OnDelete, so a pod keeps the earlier code until somebody deletes it; \
                         delete its pods, each when it suits";
const PARTITION: &str = "its updateStrategy.rollingUpdate.partition keeps the pods below that number as they were, with \
                         the earlier code; lower the partition to 0, which brings the whole new template to all pods, \
                         whatever else was changed in it";

impl Rollout {
    /// What `workload`, none if there is none, says of its restart for the rotation `id`. `was_restarted`: that it was
    /// restarted for it is on record.
    pub fn of(workload: Option<&Workload>, marker: &str, id: &RotationId, was_restarted: bool) -> Self {
        let Some(workload) = workload.filter(|workload| !workload.is_going()) else {
            return Self::Missing;
        };
        if workload.marked(marker) != Some(id.as_str()) {
            return if was_restarted {
                Self::RolledBack
            } else {
                Self::NotRestarted
            };
        }
        match workload {
            Workload::Deployment(it) => deployment(it),
            Workload::StatefulSet(it) => stateful_set(it),
            Workload::DaemonSet(it) => daemon_set(it),
        }
    }

    /// Whether every pod has the new code.
    pub fn is_done(&self) -> bool {
        *self == Self::Done
    }

    /// Whether it does not come to its end unless a person does something.
    pub fn is_held(&self) -> bool {
        match self {
            Self::NotRestarted | Self::Progressing { .. } | Self::Done => false,
            Self::Missing
            | Self::Forbidden(_)
            | Self::Failing(_)
            | Self::RolledBack
            | Self::Paused
            | Self::Stuck { .. }
            | Self::Manual { .. } => true,
        }
    }

    /// For a person: what is the case with `target`, and what to do. The same words as long as it stays so.
    pub fn told(&self, target: &RestartTarget) -> String {
        match self {
            Self::Missing => format!(
                "{target} does not exist, so there is nothing to restart; create it, or take it out of restartTargets"
            ),
            Self::Forbidden(why) => format!(
                "{target} may not be read or restarted by the operator ({why}); give the operator the role \
                 appcode-operator-restart, or take {target} out of restartTargets and restart it yourself"
            ),
            Self::Failing(why) => format!(
                "{target} could not be restarted or looked at ({why}); restart it yourself if that does not end by itself"
            ),
            Self::NotRestarted => format!("{target} has not been restarted yet"),
            Self::RolledBack => format!(
                "{target} was restarted for this rotation, and its pod template was rolled back or replaced since; its pods may \
                 hold the earlier code, and it is not restarted a second time; restart it yourself, and once it has rolled \
                 out, take it out of restartTargets"
            ),
            Self::Paused => format!("{target} is paused, so its pods keep the earlier code; resume it"),
            Self::Progressing { what } => format!("{target} is rolling out: {what}"),
            Self::Stuck { why } => {
                format!("{target} is stuck: {why}; find out what keeps its pods, and correct it")
            }
            Self::Manual { what } => format!("{target} waits for a person: {what}"),
            Self::Done => format!("{target} has rolled out"),
        }
    }

    /// What a person may run about `target`, with the resource's commands from `kubectl`. It resolves what is held, or
    /// shows why it is.
    fn remedy(&self, target: &RestartTarget, kubectl: Kubectl<'_>) -> Vec<String> {
        let workload = target.for_kubectl();
        match self {
            Self::NotRestarted | Self::Progressing { .. } | Self::Done => Vec::new(),
            Self::Missing => vec![kubectl.edit()],
            Self::Forbidden(_) => kubectl.install_again().into(),
            Self::Failing(_) => vec![kubectl.describe(&workload)],
            // Not undone: that brings the template before this one back, whatever that is by now.
            Self::RolledBack => vec![kubectl.rollout("restart", &workload), kubectl.edit()],
            Self::Paused => vec![kubectl.rollout("resume", &workload)],
            Self::Stuck { .. } => vec![kubectl.describe(&workload), kubectl.edit_workload(&workload)],
            Self::Manual { what } if *what == PARTITION => vec![kubectl.lower_partition(&workload)],
            Self::Manual { .. } => vec![kubectl.delete_pod()],
        }
    }
}

/// For a person: what is the case with each workload that has not rolled out, those that need a person first, and the first
/// commands for them.
pub fn told(rollouts: &[(RestartTarget, Rollout)], kubectl: Kubectl<'_>) -> String {
    let is_open = |held: bool| {
        move |of: &&(RestartTarget, Rollout)| {
            let (_, rollout) = of;
            !rollout.is_done() && rollout.is_held() == held
        }
    };
    let held = rollouts.iter().filter(is_open(true));
    let ordered = held.clone().chain(rollouts.iter().filter(is_open(false)));
    let told: Vec<String> = ordered.map(|(target, rollout)| rollout.told(target)).collect();
    if told.is_empty() {
        return "Every workload of restartTargets has rolled out.".to_owned();
    }
    let commands = held.flat_map(|(target, rollout)| rollout.remedy(target, kubectl));
    tell(&format!("{}.", told.join(". ")), commands)
}

fn is_observed(generation: Option<i64>, observed: Option<i64>) -> bool {
    observed.unwrap_or(0) >= generation.unwrap_or(0)
}

fn deployment(it: &Deployment) -> Rollout {
    let (spec, status) = (it.spec.as_ref(), it.status.as_ref());
    let is_seen = is_observed(it.metadata.generation, status.and_then(|it| it.observed_generation));
    let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let pods = status.and_then(|it| it.replicas).unwrap_or(0);
    let updated = status.and_then(|it| it.updated_replicas).unwrap_or(0);
    let available = status.and_then(|it| it.available_replicas).unwrap_or(0);
    let what = if !is_seen {
        UNSEEN
    } else if updated < desired {
        REPLACING
    } else if pods > updated {
        ENDING
    } else if available < updated {
        NOT_AVAILABLE
    } else {
        return Rollout::Done;
    };
    let conditions = status.and_then(|it| it.conditions.as_ref());
    let is_late = conditions.into_iter().flatten().any(|condition| {
        condition.type_ == "Progressing" && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
    });
    if spec.and_then(|spec| spec.paused).unwrap_or(false) {
        Rollout::Paused
    } else if is_seen && is_late {
        // What it says of a change that it has not seen is said of the one before.
        Rollout::Stuck { why: DEADLINE }
    } else {
        Rollout::Progressing { what }
    }
}

fn stateful_set(it: &StatefulSet) -> Rollout {
    let (spec, status) = (it.spec.as_ref(), it.status.as_ref());
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    let is_manual = strategy.is_some_and(|it| it.type_.as_deref() == Some("OnDelete"));
    let partition = strategy
        .and_then(|it| it.rolling_update.as_ref()?.partition)
        .unwrap_or(0);
    let desired = spec.and_then(|spec| spec.replicas).unwrap_or(1);
    let pods = status.map_or(0, |it| it.replicas);
    let updated = status.and_then(|it| it.updated_replicas).unwrap_or(0);
    let ready = status.and_then(|it| it.ready_replicas).unwrap_or(0);
    let is_closed = status.is_none_or(|it| it.current_revision == it.update_revision);
    let what = if !is_observed(it.metadata.generation, status.and_then(|it| it.observed_generation)) {
        UNSEEN
    } else if pods > desired {
        ENDING
    } else if updated < desired && is_manual {
        return Rollout::Manual { what: ON_DELETE };
    } else if updated < desired && partition > 0 && updated >= desired.saturating_sub(partition) {
        return Rollout::Manual { what: PARTITION };
    } else if updated < desired {
        REPLACING
    } else if ready < desired {
        NOT_READY
    } else if desired > 0 && !is_manual && !is_closed {
        NOT_CLOSED // with OnDelete nobody closes it
    } else {
        return Rollout::Done;
    };
    Rollout::Progressing { what }
}

fn daemon_set(it: &DaemonSet) -> Rollout {
    let (spec, status) = (it.spec.as_ref(), it.status.as_ref());
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    let is_manual = strategy.is_some_and(|it| it.type_.as_deref() == Some("OnDelete"));
    let desired = status.map_or(0, |it| it.desired_number_scheduled);
    let updated = status.and_then(|it| it.updated_number_scheduled).unwrap_or(0);
    let available = status.and_then(|it| it.number_available).unwrap_or(0);
    let what = if !is_observed(it.metadata.generation, status.and_then(|it| it.observed_generation)) {
        UNSEEN
    } else if updated < desired && is_manual {
        return Rollout::Manual { what: ON_DELETE };
    } else if updated < desired {
        REPLACING
    } else if available < desired {
        NOT_AVAILABLE
    } else {
        return Rollout::Done;
    };
    Rollout::Progressing { what }
}

#[cfg(test)]
mod tests;
