//! Writes down what a pass left behind: status if it changed, one event for what happened, and when to look again.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::{Resource, ResourceExt};

use super::observe::Pass;
use super::{ClusterError, Context, Error};
use crate::api::{AppCodeRotation, AppCodeRotationStatus, ConditionType, MANAGER, PlainCode, Reason};
use crate::metrics::Unfinished;
use crate::plan::{Step, distribution_pause};
use crate::remedy::prose;
use crate::status::{self, Note, fold, happened_notes, is_worth_writing, notes};
use crate::telemetry::causes;

/// Tries of a status write that meets somebody else's change of the spec or metadata.
const TRIES: usize = 3;
const WRITE_STATUS: &str = "write the status";

/// Folds the pass into status and events. Returns how long until the next pass, if there is to be one.
pub(super) async fn report(ctx: &Context, pass: &Pass, step: &Step) -> Result<Option<Duration>, Error> {
    let Some(resource) = &pass.resource else {
        return Ok(None);
    };
    let now = ctx.now();
    let plain = pass
        .in_secret
        .as_ref()
        .filter(|_| pass.validated.as_ref().is_some_and(|v| v.plaintext));
    let plain = plain.map(|code| PlainCode(code.expose().to_owned()));
    let folded = status::Pass {
        observed: &pass.observed,
        step,
        happened: &pass.happened,
        plain: plain.as_ref(),
        history_limit: pass.validated.as_ref().map_or(10, |validated| validated.history_limit),
        draw: ctx.draw_share(),
    };
    let old = &pass.observed.status;
    let new = fold(folded, now);
    let stored = resource.status.clone().unwrap_or_default();
    let written = if is_worth_writing(&stored, &new, pass.observed.limits.check_period) {
        write_status(ctx, pass, resource, &new).await
    } else {
        Ok(true)
    };
    // What status shows is told once it does; what happened would be told by nobody later.
    let is_written = matches!(written, Ok(true));
    let told = if is_written {
        notes(folded, old, &new)
    } else {
        happened_notes(folded)
    };
    for note in told {
        count(ctx, old, &note);
        tell(ctx, resource, &note).await;
    }
    written?;
    tracing::debug!(phase = ?new.phase, is_written, "reported");
    if !is_written {
        // Repeated soon, and ever later should it go on: whoever writes the status all the time must not make us spin. The
        // next pass tells what is still to be told.
        return Err(Error::Cluster {
            doing: WRITE_STATUS,
            source: ClusterError::Conflict,
        });
    }
    let after = next_look(step, &new, now);
    let sooner = distribution_pause(&pass.observed, now).and_then(|pause| Duration::try_from(pause).ok());
    Ok(after.map(|after| sooner.map_or(after, |sooner| after.min(sooner))))
}

/// Counts the end of a rotation that the note tells of, if it came to no code. A stop is told again with each new generation
/// of the spec, and counts once.
fn count(ctx: &Context, old: &AppCodeRotationStatus, note: &Note) {
    let is_stopped = || {
        let stalled = old.condition(ConditionType::Stalled);
        stalled.is_some_and(|stalled| stalled.status == "True" && stalled.reason == note.reason.as_str())
    };
    match note.reason {
        Reason::Abandoned => ctx.metrics.left_unfinished(Unfinished::Abandoned),
        Reason::AmbiguousOutcome if !is_stopped() => ctx.metrics.left_unfinished(Unfinished::AmbiguousOutcome),
        _ => {}
    }
}

/// Tells of a pass that failed: that the outcome of a rotation could not be saved, since `Ready` must not stand over a code that
/// may be dead, where status is ours to write; else what happened. As good as can be: the API server has just failed.
pub(super) async fn report_failed(ctx: &Context, pass: &Pass, error: &Error, is_ours: bool) {
    let is_open = pass.observed.memory.held.is_some() || status::has_open_rotation(&pass.observed);
    if !is_open || !is_ours {
        return tell_happened(ctx, pass).await;
    }
    let step = Step::Wait {
        reason: Reason::Retrying,
        message: format!("A pass failed ({error}), so the rotation is not finished; it is tried again."),
        after: SignedDuration::ZERO,
    };
    if let Err(error) = report(ctx, pass, &step).await {
        tracing::debug!(error = %causes(&error), "the failure was not reported");
    }
}

/// Tells what happened in a pass whose status is not written: nothing else tells of it later.
pub(super) async fn tell_happened(ctx: &Context, pass: &Pass) {
    let Some(resource) = &pass.resource else { return };
    let folded = status::Pass {
        observed: &pass.observed,
        step: &Step::Gone,
        happened: &pass.happened,
        plain: None,
        history_limit: 0,
        draw: 0.0,
    };
    for note in happened_notes(folded) {
        count(ctx, &pass.observed.status, &note);
        tell(ctx, resource, &note).await;
    }
}

/// Replaces the status. When somebody changed spec or metadata meanwhile the same status is written on top of that;
/// when somebody changed the status itself, it is not ours to judge any more: returns `false`, and the pass is repeated.
async fn write_status(
    ctx: &Context,
    pass: &Pass,
    resource: &AppCodeRotation,
    new: &AppCodeRotationStatus,
) -> Result<bool, Error> {
    let shown = new.app_code.iter().map(|code| code.0.as_str());
    let shown: Vec<&str> = shown.chain(pass.known_codes()).collect();
    let failed = |source: ClusterError| Error::Cluster {
        doing: WRITE_STATUS,
        source: source.without(&shown),
    };
    let status_of = |resource: &AppCodeRotation| resource.status.clone().unwrap_or_default();
    let mut base = resource.clone();
    for _ in 0..TRIES {
        base.status = Some(new.clone());
        match ctx.cluster.replace_status(&pass.key, &base).await {
            // Not found is as good: nobody is left to read it.
            Ok(_) | Err(ClusterError::NotFound) => return Ok(true),
            Err(ClusterError::Conflict) => {}
            Err(source) => return Err(failed(source)),
        }
        let Some(fresh) = ctx.cluster.rotation(&pass.key).await.map_err(failed)? else {
            return Ok(true);
        };
        let is_same = fresh.uid() == resource.uid() && status_of(&fresh) == status_of(resource);
        // One that looks as it did, or is of an earlier generation, lags behind what has refused the write.
        let is_behind =
            fresh.resource_version() == base.resource_version() || fresh.metadata.generation < base.metadata.generation;
        if !is_same || is_behind {
            return Ok(false);
        }
        base = fresh;
    }
    Ok(false)
}

/// Tells one event, to the log as well. An event that is lost after a second try is a pity and no more.
async fn tell(ctx: &Context, resource: &AppCodeRotation, note: &Note) {
    let namespace = resource.namespace().unwrap_or_default();
    let now = ctx.clock.now();
    let event = Event {
        metadata: ObjectMeta {
            name: Some(event_name(&resource.name_any(), now, ctx.draw_number())),
            namespace: Some(namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some(note.action.to_owned()),
        event_time: Some(MicroTime(now)),
        note: Some(note.text.clone()),
        reason: Some(note.reason.as_str().to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(AppCodeRotation::api_version(&()).into_owned()),
            kind: Some(AppCodeRotation::kind(&()).into_owned()),
            name: resource.metadata.name.clone(),
            namespace: resource.metadata.namespace.clone(),
            uid: resource.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(MANAGER.to_owned()),
        reporting_instance: Some(ctx.settings.instance.clone()),
        type_: Some(if note.is_warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    };
    if note.is_warning {
        tracing::warn!(reason = note.reason.as_str(), "{}", prose(&note.text));
    } else {
        tracing::info!(reason = note.reason.as_str(), "{}", prose(&note.text));
    }
    let mut outcome = ctx.cluster.create_event(&namespace, &event).await;
    if matches!(outcome, Err(ClusterError::Timeout | ClusterError::Failed(_))) {
        outcome = ctx.cluster.create_event(&namespace, &event).await;
    }
    match outcome {
        // The first try was taken and its answer lost: no other event has this name.
        Ok(()) | Err(ClusterError::Conflict) => {}
        Err(error) => tracing::warn!(error = %causes(&error), "the event was not taken"),
    }
}

/// A name that no other event has, and that sorts by time: `kubectl describe` shows events in the order of their names. It may
/// have 253 characters, as the resource's own name may.
fn event_name(resource: &str, now: Timestamp, draw: u64) -> String {
    let start = resource.get(..resource.len().min(228)).unwrap_or_default();
    let (start, nanos) = (start.trim_end_matches(['.', '-']), now.as_nanosecond());
    format!("{start}.{nanos:016x}{:08x}", draw >> 32)
}

/// How long until the next pass.
fn next_look(step: &Step, status: &AppCodeRotationStatus, now: Timestamp) -> Option<Duration> {
    let after = match step {
        Step::Wait { after, .. }
        | Step::Linger { after, .. }
        | Step::Stop { after, .. }
        | Step::Rest { after }
        | Step::BackOff { after } => *after,
        Step::Retry { .. } => {
            let next = status
                .failures
                .as_ref()
                .and_then(|failures| failures.next_attempt_time.as_ref());
            next.map_or(SignedDuration::from_secs(5), |next| next.0.duration_since(now))
        }
        _ => return None,
    };
    // A tenth of a second late rather than a hair early: an early look would find nothing due.
    let after = Duration::try_from(after).unwrap_or_default();
    Some(after.saturating_add(Duration::from_millis(100)))
}
