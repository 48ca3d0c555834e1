//! What is done for the consumers of a new code: it is tried, and their workloads are restarted.

use jiff::Timestamp;

use super::act::moved;
use super::observe::Pass;
use super::workloads::{self, Fence, Marking, Restarted};
use super::{ClusterError, Context, Error};
use crate::ids::RotationId;
use crate::plan::Trial;
use crate::secret::{OurSecret, SecretView};
use crate::workload::{RestartTarget, Rollout, marker};

/// Tries the code that the Secret holds.
pub(super) async fn verify(ctx: &Context, pass: &mut Pass) -> Result<(), Error> {
    let rotation = pass.observed.intent().map(|intent| intent.rotation_id.clone());
    let verification = pass
        .validated
        .as_ref()
        .and_then(|validated| validated.verification.clone());
    let (Some(rotation_id), Some(verification), Some(code)) = (rotation, verification, pass.in_secret.clone()) else {
        return Err(Error::UnknownCode);
    };
    let outcome = ctx.prober.probe(&verification, &code).await;
    tracing::info!(%rotation_id, outcome = outcome.category(), "the new code was tried");
    let before = pass.observed.memory.trial.take();
    let before = before.filter(|trial| trial.rotation_id == rotation_id);
    pass.observed.uptime = ctx.uptime();
    pass.observed.memory.trial = Some(Trial {
        since: before.map_or(pass.observed.uptime, |trial| trial.since),
        last: pass.observed.uptime,
        rotation_id,
        outcome,
    });
    Ok(())
}

/// Reads the workloads.
pub(super) async fn look(ctx: &Context, pass: &mut Pass) -> Result<(), Error> {
    let Some(validated) = &pass.validated else {
        return Ok(());
    };
    let Some(rotation_id) = rotation_id(pass) else {
        return Ok(());
    };
    let marker = marker(pass.key.name());
    let marking = Marking {
        namespace: pass.key.namespace(),
        marker: &marker,
        id: &rotation_id,
        since: written_at(pass),
    };
    let restarted: Vec<RestartTarget> = pass
        .observed
        .intent()
        .and_then(|intent| intent.distribution.as_ref())
        .into_iter()
        .flat_map(|distribution| distribution.restarted.iter())
        .filter_map(|target| RestartTarget::parse(target))
        .collect();
    let rollouts = workloads::look(&ctx.cluster, marking, &validated.restart_targets, &restarted).await;
    pass.observed.rollouts = Some(rollouts.map_err(failed("read a workload"))?);
    Ok(())
}

/// Restarts `targets`, unless the Secret has changed since that was decided.
pub(super) async fn restart(ctx: &Context, pass: &mut Pass, targets: &[RestartTarget]) -> Result<(), Error> {
    let Some(rotation_id) = rotation_id(pass) else {
        return Ok(());
    };
    let secret = pass.observed.target.clone();
    let SecretView::Ours(OurSecret { resource_version, .. }) = pass.secret(&secret).clone() else {
        return moved(ctx, pass, "restart the workloads").await;
    };
    let marker = marker(pass.key.name());
    let mut refused = Vec::new();
    for target in targets {
        let marking = Marking {
            namespace: pass.key.namespace(),
            marker: &marker,
            id: &rotation_id,
            since: written_at(pass),
        };
        let fence = Fence {
            secret: &secret,
            resource_version: &resource_version,
        };
        let restarted = workloads::restart(&ctx.cluster, marking, fence, target).await;
        match restarted.map_err(failed("restart a workload"))? {
            Restarted::Now => {
                tracing::info!(%rotation_id, %target, "workload restarted");
                pass.happened.push(crate::status::Happened::Restarted(target.clone()));
            }
            Restarted::Already => {}
            Restarted::Missing => refused.push((target.clone(), Rollout::Missing)),
            Restarted::Forbidden(why) => refused.push((target.clone(), Rollout::Forbidden(why))),
            Restarted::Superseded => return moved(ctx, pass, "restart the workloads").await,
        }
    }
    look(ctx, pass).await?;
    // A workload that may be read but not changed would look as if nobody had tried.
    for (target, rollout) in pass.observed.rollouts.iter_mut().flatten() {
        let refusal = refused.iter().find(|(refused, _)| refused == target);
        if let Some((_, why)) = refusal.filter(|_| *rollout == Rollout::NotRestarted) {
            *rollout = why.clone();
        }
    }
    Ok(())
}

/// When the code was written into the Secret.
fn written_at(pass: &Pass) -> Timestamp {
    let record = pass.observed.own_book().map(|secret| &secret.record);
    record
        .and_then(|record| record.rotated_at)
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

fn rotation_id(pass: &Pass) -> Option<RotationId> {
    pass.observed.intent().map(|intent| intent.rotation_id.clone())
}

fn failed(doing: &'static str) -> impl Fn(ClusterError) -> Error {
    move |source| Error::Cluster { doing, source }
}
