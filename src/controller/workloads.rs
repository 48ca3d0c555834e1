//! Restarts workloads and looks how far they are. What is done and when is decided elsewhere.
//!
//! That the operator may not read or change a workload is something to tell, not a failure: the rights are optional, and
//! the rotation goes on without them.

use super::cluster::{Cluster, ClusterError};
use crate::ids::RotationId;
use crate::workload::{RestartTarget, Rollout};

/// Tries of a write that meets somebody else's; after that the pass is repeated later. The workload's own controller writes
/// its status often while pods come and go.
const MOST_CONFLICTS: u32 = 5;

/// One rotation of one resource, as its workloads are marked with it.
#[derive(Clone, Copy, Debug)]
pub struct Marking<'a> {
    /// The resource's namespace.
    pub namespace: &'a str,
    /// The annotation: [`crate::workload::marker`].
    pub marker: &'a str,
    /// Its value.
    pub id: &'a RotationId,
}

/// What a look at a workload tells.
#[derive(Clone, Debug, PartialEq)]
pub struct Looked {
    /// The workload.
    pub target: RestartTarget,
    /// How far it is.
    pub rollout: Rollout,
    /// How a record names it, if its pod template carries the rotation's id.
    pub mark: Option<String>,
}

/// The Secret as it was when the restart was decided on.
#[derive(Clone, Copy, Debug)]
pub struct Fence<'a> {
    /// Name of the Secret.
    pub secret: &'a str,
    /// Its `resourceVersion`.
    pub resource_version: &'a str,
}

/// What came of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restarted {
    /// Its pod template carries the rotation's id since this call; how a record names it.
    Now(String),
    /// Its pod template carried the rotation's id before.
    Already,
    /// There is none, or it is being deleted.
    Missing,
    /// The operator may not; the API server's words.
    Forbidden(String),
    /// The Secret has changed since this was decided, or others lead by now: look again. Nothing was restarted.
    Superseded,
}

/// Reads each of `targets` and says what it tells of its restart. `restarted`: the marks of those that are on record as
/// restarted for this rotation.
pub async fn look(
    cluster: &Cluster,
    marking: Marking<'_>,
    targets: &[RestartTarget],
    restarted: &[String],
) -> Vec<Looked> {
    let mut all = Vec::with_capacity(targets.len());
    for target in targets {
        let (rollout, mark) = match cluster.workload(marking.namespace, target).await {
            Ok(workload) => {
                let mark = workload.as_ref().map(|workload| workload.mark(target));
                let was_restarted = mark.as_ref().is_some_and(|mark| restarted.contains(mark));
                let rollout = Rollout::of(workload.as_ref(), marking.marker, marking.id, was_restarted);
                let is_marked = workload.is_some_and(|it| it.marked(marking.marker) == Some(marking.id.as_str()));
                (rollout, mark.filter(|_| is_marked))
            }
            Err(ClusterError::Refused(why)) => (Rollout::Forbidden(why.to_string()), None),
            Err(error) => (Rollout::Failing(error.to_string()), None),
        };
        all.push(Looked {
            target: target.clone(),
            rollout,
            mark,
        });
    }
    all
}

/// Marks `target` with the rotation, which makes its controller replace its pods; one that is marked already is left
/// alone.
///
/// The workload is read first and the Secret after it: if the Secret is still the one of the decision, and the workload
/// then takes a patch under the version that was read, no newer rotation has marked it in between. Whether this process
/// leads still, as `leads` says, is asked for each patch: after a long pause another one may have moved the code to a Secret
/// that this one does not know.
///
/// # Errors
/// When the API server failed, or refuses the Secret. A lost answer is no harm: the next look finds the mark.
pub async fn restart(
    cluster: &Cluster,
    marking: Marking<'_>,
    fence: Fence<'_>,
    target: &RestartTarget,
    leads: impl Fn() -> bool,
) -> Result<Restarted, ClusterError> {
    let Marking { namespace, marker, id } = marking;
    let mut refused = None;
    for _ in 0..MOST_CONFLICTS {
        let workload = match cluster.workload(namespace, target).await {
            Err(ClusterError::Refused(why)) => return Ok(Restarted::Forbidden(why.to_string())),
            read => read?,
        };
        let Some(workload) = workload.filter(|workload| !workload.is_going()) else {
            return Ok(Restarted::Missing);
        };
        if workload.marked(marker) == Some(id.as_str()) {
            return Ok(Restarted::Already);
        }
        let version = workload.resource_version();
        // A write by a reading that lags behind what has refused the last one would be refused again.
        if refused.as_deref() == Some(version) {
            break;
        }
        if !holds(cluster, namespace, fence).await? || !leads() {
            return Ok(Restarted::Superseded);
        }
        match cluster.restart(namespace, target, version, marker, id).await {
            Err(ClusterError::Conflict) => refused = Some(version.to_owned()),
            Err(ClusterError::Refused(why)) => return Ok(Restarted::Forbidden(why.to_string())),
            Err(ClusterError::NotFound) => return Ok(Restarted::Missing),
            patched => return patched.map(|()| Restarted::Now(workload.mark(target))),
        }
    }
    Err(ClusterError::Conflict)
}

/// Whether the Secret is still as it was.
async fn holds(cluster: &Cluster, namespace: &str, fence: Fence<'_>) -> Result<bool, ClusterError> {
    let secret = cluster.secret(namespace, fence.secret).await?;
    Ok(secret.is_some_and(|secret| secret.metadata.resource_version.as_deref() == Some(fence.resource_version)))
}
