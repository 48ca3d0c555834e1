//! What is done for the consumers of a new code: it is tried, and their workloads are restarted.

use super::observe::Pass;
use super::workloads::{self, Fence, Marking, Restarted};
use super::written::moved;
use super::{Context, Error};
use crate::ids::RotationId;
use crate::plan::Trial;
use crate::secret::{OurSecret, SecretView};
use crate::status::Happened;
use crate::telemetry::causes;
use crate::verification::Probe;
use crate::workload::{RestartTarget, Rollout, marker};

/// Tries the code that the Secret holds. One that was tried before waits as after a try where as many are being tried as may be.
pub(super) async fn verify(ctx: &Context, pass: &mut Pass) -> Result<(), Error> {
    let rotation_id = rotation_id(pass);
    let validated = pass.validated.as_ref();
    let asked = validated.and_then(|validated| Some((validated.app.clone(), validated.verification.clone()?)));
    let (Some(rotation_id), Some((app, verification)), Some(code)) = (rotation_id, asked, pass.in_secret.clone())
    else {
        return Err(Error::UnknownCode);
    };
    let print = code.fingerprint(&app);
    let generation = pass.observed.resource.generation;
    let before = pass.observed.memory.trial.take();
    let before = before
        .filter(|trial| trial.rotation_id == rotation_id && trial.code == print && trial.generation == generation);
    let place = ctx.tries.try_acquire();
    let (since, outcome) = match (&place, before) {
        (Err(_), Some(trial)) => {
            let outcome = match trial.outcome {
                // The time that was asked for is over.
                Probe::Throttled { .. } => Probe::Throttled { retry_after: None },
                outcome => outcome,
            };
            (Some(trial.since), outcome)
        }
        (_, before) => {
            let outcome = ctx.prober.probe(&verification, &code).await;
            tracing::info!(outcome = outcome.category(), "the new code was tried");
            (before.map(|trial| trial.since), outcome)
        }
    };
    drop(place);
    pass.observed.uptime = ctx.uptime();
    pass.observed.memory.trial = Some(Trial {
        since: since.unwrap_or(pass.observed.uptime),
        last: pass.observed.uptime,
        rotation_id,
        code: print,
        generation,
        outcome,
    });
    Ok(())
}

/// Reads the workloads.
pub(super) async fn look(ctx: &Context, pass: &mut Pass) {
    let (Some(validated), Some(rotation_id)) = (&pass.validated, rotation_id(pass)) else {
        return;
    };
    let marker = marker(pass.key.name());
    let marking = Marking {
        namespace: pass.key.namespace(),
        marker: &marker,
        id: &rotation_id,
    };
    let intent = pass.observed.intent();
    let distribution = intent
        .and_then(|intent| intent.distribution.clone())
        .unwrap_or_default();
    let targets = &validated.restart_targets;
    let looked = workloads::look(&ctx.cluster, marking, targets, &distribution.restarted).await;
    pass.observed.marked = looked.iter().filter_map(|it| it.mark.clone()).collect();
    pass.observed.rollouts = Some(looked.into_iter().map(|it| (it.target, it.rollout)).collect());
    note_unrestarted(ctx, pass);
}

/// Remembers since when a workload fails to be restarted for the last rotation, until each of them was.
fn note_unrestarted(ctx: &Context, pass: &mut Pass) {
    pass.observed.uptime = ctx.uptime();
    let Some(intent) = pass.observed.intent() else { return };
    let done = intent.distribution.clone().unwrap_or_default();
    let id = intent.rotation_id.clone();
    let rollouts = pass.observed.rollouts.iter().flatten();
    let open: Vec<_> = rollouts.filter(|(target, _)| !done.has_restarted(target)).collect();
    let is_failing = open.iter().any(|(_, rollout)| matches!(rollout, Rollout::Failing(_)));
    let is_open = open.iter().any(|(_, rollout)| *rollout == Rollout::NotRestarted);
    let before = pass
        .observed
        .memory
        .unrestarted
        .take()
        .filter(|(before, _)| *before == id);
    pass.observed.memory.unrestarted = match before {
        Some(before) if is_failing || is_open => Some(before),
        _ => is_failing.then_some((id, pass.observed.uptime)),
    };
}

/// Restarts `targets`, unless the Secret has changed since that was decided. What becomes of one of them is told, and
/// keeps none of the others from its restart.
pub(super) async fn restart(ctx: &Context, pass: &mut Pass, targets: &[RestartTarget]) -> Result<(), Error> {
    let Some(rotation_id) = rotation_id(pass) else {
        return Ok(());
    };
    let secret = pass.observed.target.clone();
    let SecretView::Ours(OurSecret { resource_version, .. }) = pass.secret(&secret).clone() else {
        return moved(ctx, pass, "restart the workloads").await;
    };
    let marker = marker(pass.key.name());
    let (mut failed, mut restarted) = (Vec::new(), Vec::new());
    for target in targets {
        let marking = Marking {
            namespace: pass.key.namespace(),
            marker: &marker,
            id: &rotation_id,
        };
        let fence = Fence {
            secret: &secret,
            resource_version: &resource_version,
        };
        let why = match workloads::restart(&ctx.cluster, marking, fence, target, || ctx.leadership.is_held()).await {
            Ok(Restarted::Superseded) => {
                let done = restarted.into_iter().map(|(target, _)| Happened::Restarted(target));
                pass.happened.extend(done);
                return moved(ctx, pass, "restart the workloads").await;
            }
            Ok(Restarted::Now(mark)) => {
                tracing::info!(%target, "workload restarted");
                restarted.push((target.clone(), mark));
                Rollout::Failing(
                    "its pod template does not keep the mark of its restart, as an admission webhook may take it off"
                        .into(),
                )
            }
            Ok(Restarted::Already) => continue,
            Ok(Restarted::Missing) => Rollout::Missing,
            Ok(Restarted::Forbidden(why)) => Rollout::Forbidden(why),
            Err(error) => {
                tracing::warn!(%target, error = %causes(&error), "the workload was not restarted");
                Rollout::Failing(error.to_string())
            }
        };
        failed.push((target.clone(), why));
    }
    pass.in_vain.retain(|(target, _)| !targets.contains(target));
    pass.in_vain.append(&mut failed);
    look(ctx, pass).await;
    for (target, mark) in restarted {
        let mut rollouts = pass.observed.rollouts.iter().flatten();
        let seen = rollouts.find(|(seen, _)| *seen == target).map(|(_, rollout)| rollout);
        // Without its mark it is as it was.
        if seen == Some(&Rollout::NotRestarted) {
            continue;
        }
        // One that cannot be looked at just now has taken the mark all the same.
        if !pass.observed.marked.contains(&mark) {
            pass.observed.marked.push(mark);
        }
        pass.happened.push(Happened::Restarted(target));
    }
    // One that still looks as if nobody had tried would be tried again at once, and again, in turns with another one.
    for (target, rollout) in pass.observed.rollouts.iter_mut().flatten() {
        let told = pass.in_vain.iter().find(|(failed, _)| failed == target);
        if let Some((_, why)) = told.filter(|_| *rollout == Rollout::NotRestarted) {
            *rollout = why.clone();
        }
    }
    note_unrestarted(ctx, pass);
    Ok(())
}

fn rotation_id(pass: &Pass) -> Option<RotationId> {
    pass.observed.intent().map(|intent| intent.rotation_id.clone())
}
