//! One effect for each step. What it learns goes into the pass; what it cannot do is either learned too or an error.

use std::mem::take;
use std::time::Duration;

use super::ask::{failed, take_in};
use super::observe::{Pass, look_again};
use super::others::is_discounted;
use super::render::{code_patch, first};
use super::written::{asks_the_same, insist, moved, read_on, refuse_if_astray, resource_again, written};
use super::{Context, Error, cluster::ClusterError};
use crate::api::{AppCodeRotationStatus, CreationPolicy, Failures, Outcome, RotationStep, Strategy};
use crate::ids::{AppIdentity, Fingerprint};
use crate::intent::{Call, Intent, Verdict};
use crate::metrics::{Operation, Unfinished};
use crate::modelarts::{AppCode, CloudError, CloudErrorKind};
use crate::plan::{Attempt, Cloud, Denial, Held, Question, Settling, WriteReason, retires_at};
use crate::secret::{OurSecret, Record, SecretView, mark, new_secret, owners_patch, patch};
use crate::status::{Happened, accept, mirror_before_call, open_intent};
use crate::telemetry::causes;

/// How old a reading of the resource may be on which a call is marked: about as old as one is after the app was read, and
/// too young for people to have changed their minds.
const FRESH: Duration = Duration::from_secs(2);

/// Creates the target Secret with the record alone.
pub(super) async fn create_secret(ctx: &Context, pass: &mut Pass, name: &str, record: &Record) -> Result<(), Error> {
    if is_unwanted(ctx, pass, name).await? {
        return Ok(());
    }
    let body = new_secret(pass.key.namespace(), name, &pass.key.to_string(), record, first(pass));
    let result = ctx.cluster.create_secret(pass.key.namespace(), &body).await;
    if written(ctx, pass, name, result, "create the target Secret").await? {
        // The code is written only after all was read again, under the version that the new Secret has: another replica may
        // have rotated meanwhile, on a Secret that is deleted by now.
        read_on(ctx, pass).await?;
    }
    Ok(())
}

/// Whether the resource went since it was read, or names another Secret by now. A patch is fenced by the Secret; only this
/// keeps a Secret from being made for nobody, in all but the instant between the two requests.
async fn is_unwanted(ctx: &Context, pass: &mut Pass, secret: &str) -> Result<bool, Error> {
    let fresh = resource_again(ctx, pass).await?;
    let is_wanted = fresh.is_some_and(|fresh| {
        let meta = &fresh.metadata;
        let is_same =
            meta.uid.as_deref() == Some(pass.observed.resource.uid.as_str()) && meta.deletion_timestamp.is_none();
        // No version fences a create: what status has come to tell meanwhile, of a Secret that is gone by now, does.
        let is_told = pass.resource.as_ref().is_some_and(|read| read.status == fresh.status);
        is_same && is_told && fresh.target_name() == secret
    });
    if !is_wanted {
        moved(ctx, pass, "make the Secret").await?;
    }
    Ok(!is_wanted)
}

/// Writes the intent under the fence. Only then may the call be made, and only promptly.
pub(super) async fn write_intent(ctx: &Context, pass: &mut Pass, name: &str, record: Record) -> Result<(), Error> {
    let (Some(target), Some(intent)) = (pass.target.clone(), record.intent.clone()) else {
        return Err(Error::UnknownCode);
    };
    // Waiting for the limiter comes first: a marked call goes out at once or never.
    if let Err(error) = ctx.cloud.admit(&target).await {
        pass.observed.cloud = failed(&error, pass);
        return Ok(());
    }
    // Somebody may have suspended or deleted the resource while the pass stood in line.
    let age = ctx.clock.uptime().saturating_sub(pass.read_at);
    if age > FRESH && !asks_the_same(ctx, pass).await? {
        return moved(ctx, pass, "mark a call").await;
    }
    // Nor is a call marked that would not be made.
    if !ctx.may_mutate() {
        pass.observed.may_mutate = false;
        return Ok(());
    }
    if intent.is_open() && !(claim(ctx, pass, &intent).await? && is_shown_still(ctx, pass, &intent).await?) {
        return Ok(());
    }
    let attempt = Attempt::of(&intent);
    let namespace = pass.key.namespace().to_owned();
    let resource = pass.key.to_string();
    // Others may see the mark from the moment it is applied, which is some time before its answer is here.
    let marked_at = ctx.clock.uptime();
    let left = left_behind(pass, &intent);
    let is_new = intent.is_open() && intent.attempt == 1;
    // Only one without effect makes way for another one of the same app.
    let is_instead = is_new && open_intent(&pass.observed).is_some_and(|old| old.rotation_id != intent.rotation_id);
    let result = match pass.secret(name).clone() {
        SecretView::Ours(OurSecret {
            resource_version,
            record: old,
            ..
        }) => {
            // What stands there is about that Secret, whichever the rest of the record comes from.
            let record = Record {
                rendered: old.rendered,
                ..record
            };
            let mut patch = patch(&resource_version, &resource, &record, None);
            if name == pass.observed.target && is_adopted(pass) {
                mark(&mut patch);
            }
            ctx.cluster.patch_secret(&namespace, name, &patch).await
        }
        _ if is_unwanted(ctx, pass, name).await? => return Ok(()),
        _ => {
            let secret = new_secret(&namespace, name, &resource, &record, first(pass));
            ctx.cluster.create_secret(&namespace, &secret).await
        }
    };
    let is_written = written(ctx, pass, name, result, "write the intent").await?;
    if is_written {
        pass.marked_at = marked_at;
        // Only a mark that is certainly our own: after a conflict or a lost answer the same number may be another
        // replica's, whose call is on its way.
        pass.observed.memory.not_applied = Some(attempt.clone());
        pass.observed.memory.marked = Some(attempt);
        pass.observed.memory.settling.clear();
        if intent.is_open() {
            pass.begun = Some(intent.clone());
            // What they said was about the rotation before; of the same one it still holds.
            pass.observed.rollouts = None;
            pass.in_vain.clear();
        }
        pass.happened.extend(left);
        // Should the clock jump and a schedule come due within this pass, the next rotation has another name.
        pass.observed.draw = pass.observed.draw.wrapping_add(1);
        if is_instead {
            ctx.metrics.left_unfinished(Unfinished::NoEffect);
        }
        pass.happened.extend(is_new.then(|| Happened::Began(intent.clone())));
        tracing::info!(
            app_id = %intent.app.app_id, trigger = intent.trigger.as_str(),
            step = ?intent.step, attempt = intent.attempt, "rotation marked"
        );
    }
    Ok(())
}

/// Whether the target Secret is to bear our label though others made it. That meets admission before the call.
fn is_adopted(pass: &Pass) -> bool {
    let policy = pass.validated.as_ref().map(|validated| validated.layout.creation);
    let is_fit = pass.observed.secret.ours().is_some_and(|secret| secret.unfit.is_none());
    policy == Some(CreationPolicy::Adopt) && is_fit
}

/// Rotations of another app that nobody follows any more once `intent` is written. Of those that had the finalizer set was
/// told when it was taken off.
fn left_behind(pass: &Pass, intent: &Intent) -> Vec<Happened> {
    let newest = newest_of_others(pass, &intent.app).filter(|old| !is_beside(old));
    // With each attempt they are still there; the first one has told of them.
    let told = newest.filter(|_| intent.attempt == 1).and_then(told_of);
    told.into_iter().collect()
}

/// The last rotation of another app than `app`.
fn newest_of_others(pass: &Pass, app: &AppIdentity) -> Option<Intent> {
    let observed = &pass.observed;
    let secrets = [observed.secret.ours(), observed.former.ours()].into_iter().flatten();
    let recorded = secrets.filter_map(|secret| secret.record.intent.as_ref());
    let others = recorded.chain(&observed.mirror).filter(|old| old.app != *app);
    others.max_by_key(|old| (old.number, old.step)).cloned()
}

/// What is worth telling of a rotation that is left where it is.
pub(super) fn told_of(old: Intent) -> Option<Happened> {
    if old.is_open() {
        Some(Happened::Abandoned(old))
    } else {
        old.retires().map(|_| Happened::NotRetired(old))
    }
}

/// Writes the record alone: a rotation whose code is in the Secret has come a step further, and no call follows.
pub(super) async fn write_record(ctx: &Context, pass: &mut Pass, name: &str, record: &Record) -> Result<(), Error> {
    let SecretView::Ours(OurSecret { resource_version, .. }) = pass.secret(name).clone() else {
        return look_again(ctx, pass).await;
    };
    let patch = patch(&resource_version, &pass.key.to_string(), record, None);
    let result = ctx.cluster.patch_secret(pass.key.namespace(), name, &patch).await;
    let is_written = written(ctx, pass, name, result, "note how far the rotation has come").await?;
    if let Some(intent) = record.intent.as_ref().filter(|_| is_written) {
        tracing::info!(step = ?intent.step, "rotation has come further");
        if intent.step == RotationStep::Retired {
            let is_left = intent.base.is_some_and(|base| intent.unclaimed.contains(&base));
            // One that became current again is nothing that was left.
            let is_left = is_left && intent.base != record.fingerprint;
            // Nor is one that spec names as the next seed.
            let wanted = pass.observed.wanted.as_ref().ok();
            let seed = wanted.and_then(|wanted| wanted.seed.fingerprint());
            let is_left = is_left && intent.base != seed;
            pass.happened
                .extend(is_left.then(|| Happened::NotRetired(intent.clone())));
            pass.observed.memory.settling.clear();
        }
        read_before_retiring(ctx, pass, intent).await?;
    }
    Ok(())
}

/// A code is deleted, or left for good, only on readings that are later than the writing of the one that takes its place:
/// of the app, and of a status in which another replica may have shown the rotation meanwhile.
async fn read_before_retiring(ctx: &Context, pass: &mut Pass, intent: &Intent) -> Result<(), Error> {
    let now = ctx.now();
    let grace = pass.observed.wanted.as_ref().map(|wanted| wanted.handover.grace);
    let at = grace.ok().and_then(|grace| retires_at(intent, grace, now));
    if at.is_none_or(|at| at > now) {
        return Ok(());
    }
    let (rollouts, marked) = (pass.observed.rollouts.take(), take(&mut pass.observed.marked));
    Box::pin(read_on(ctx, pass)).await?;
    // What was seen of the workloads is of this rotation.
    if pass
        .observed
        .intent()
        .is_some_and(|last| last.rotation_id == intent.rotation_id)
    {
        (pass.observed.rollouts, pass.observed.marked) = (rollouts, marked);
    }
    Ok(())
}

/// Takes our owner reference off a Secret that spec no longer names.
pub(super) async fn disown(ctx: &Context, pass: &mut Pass, name: &str) -> Result<(), Error> {
    let change = pass.secret(name).ours().and_then(|secret| {
        let owners = secret.extras.owners.as_ref()?;
        Some(owners_patch(&secret.resource_version, owners))
    });
    let Some(change) = change else {
        return look_again(ctx, pass).await;
    };
    let result = ctx.cluster.patch_secret(pass.key.namespace(), name, &change).await;
    written(ctx, pass, name, result, "take the owner reference off the Secret").await?;
    Ok(())
}

/// Whether it has, or had, the finalizer set for it.
pub(super) fn is_beside(intent: &Intent) -> bool {
    intent.strategy == Strategy::Overlap && intent.base.is_some()
}

/// Makes the one call that was just marked.
pub(super) async fn mutate(ctx: &Context, pass: &mut Pass, intent: &Intent) -> Result<(), Error> {
    pass.observed.memory.marked = None;
    let target = pass.target.clone().ok_or(Error::UnknownCode)?;
    // Only a code that this pass has read is ever named; an added one needs none.
    let base = match intent.call {
        Call::Add => None,
        Call::Reset | Call::Delete => {
            let base = intent.base.and_then(|base| pass.codes.get(&base).cloned());
            Some(base.ok_or(Error::UnknownCode)?)
        }
    };
    if is_shown_first(intent) && !show_in_status(ctx, pass, intent).await? {
        return Ok(());
    }
    let is_prompt = ctx.clock.uptime().saturating_sub(pass.marked_at) <= ctx.settings.prompt;
    if !is_prompt || !ctx.may_mutate() {
        // Where writes are that slow, another mark at once would be as late.
        pass.observed.may_mutate = false;
        return Ok(()); // `not_applied` still says that it was never made
    }
    (pass.observed.memory.not_applied, pass.observed.memory.denied) = (None, None);
    let answer = match (intent.call, &base) {
        (Call::Reset, Some(code)) => ctx.cloud.reset_code(&target, code, &pass.echo).await,
        (Call::Delete, Some(code)) => ctx.cloud.delete_code(&target, code).await,
        _ => ctx.cloud.add_code(&target, &pass.echo).await,
    };
    let answered_at = ctx.clock.uptime();
    match answer {
        Ok(app) => {
            tracing::info!(
                operation = operation(intent.call), request_id = app.request_id,
                app_id = %intent.app.app_id, "the call succeeded"
            );
            let is_masked = app.masked;
            // How often it had failed before is over.
            pass.observed.status.failures = None;
            take_in(ctx, pass, app);
            if is_masked || is_outdated(pass, intent) {
                // The change took effect, and only a read may ask for codes in plain text, or shows the app as it is by now.
                pass.observed.cloud = Cloud::NotAsked;
            } else if intent.is_open() {
                hold(pass, intent, answered_at);
            }
        }
        Err(error) => {
            tracing::warn!(
                error = %causes(&error), category = error.category(), status = error.status, request_id = error.request_id,
                operation = operation(intent.call), app_id = %intent.app.app_id, "the call did not succeed"
            );
            if intent.call == Call::Delete && is_refused(&error.kind) {
                refused(pass, intent, &error);
                return Ok(());
            }
            // "Not found" while the base is listed is a contradiction, not a proof. Taken for one, the call would be made
            // again at once, and again; so it is settled by reading and paced like an unknown outcome.
            if error.is_not_applied() && error.kind != CloudErrorKind::NotFound {
                pass.observed.memory.not_applied = Some(Attempt::of(intent));
            }
            pass.observed.cloud = match error.kind {
                CloudErrorKind::UnknownOutcome | CloudErrorKind::NotFound => Cloud::NotAsked,
                _ => failed(&error, pass),
            };
            let is_refused = matches!(error.kind, CloudErrorKind::NotAuthorized | CloudErrorKind::Refused);
            if let Cloud::Failed(failure) = &pass.observed.cloud
                && is_refused
                && intent.call == Call::Add
            {
                pass.observed.memory.denied = Some(Denial {
                    attempt: Attempt::of(intent),
                    generation: pass.observed.resource.generation,
                    failure: failure.clone(),
                });
            }
        }
    }
    Ok(())
}

/// Whether the answer to the call shows the app as it was before.
fn is_outdated(pass: &Pass, intent: &Intent) -> bool {
    let app = pass.observed.reading();
    app.is_some_and(|app| intent.is_outdated(app.reading(&[])))
}

/// How the log names a call, as the metrics do.
fn operation(call: Call) -> &'static str {
    let operation = match call {
        Call::Reset => Operation::Reset,
        Call::Add => Operation::Add,
        Call::Delete => Operation::Delete,
    };
    operation.as_str()
}

/// Whether the cloud has understood the call and does not do it.
fn is_refused(kind: &CloudErrorKind) -> bool {
    use CloudErrorKind::{AppNotFound, NotAuthorized, NotFound, Refused};
    matches!(kind, AppNotFound | NotAuthorized | NotFound | Refused)
}

/// A code that may not be deleted says nothing of the one in the Secret: what was read of that stands.
fn refused(pass: &mut Pass, intent: &Intent, error: &CloudError) {
    if let Cloud::Failed(failure) = failed(error, pass) {
        pass.observed.memory.refuse(intent, failure.message);
    }
    if error.kind == CloudErrorKind::NotFound {
        pass.observed.cloud = Cloud::NotAsked;
    }
}

/// Shows the intent in status too. Returns whether it stands there: an added code whose Secret is deleted could not be
/// found again otherwise, since the list does not tell it from a stranger's.
async fn show_in_status(ctx: &Context, pass: &mut Pass, intent: &Intent) -> Result<bool, Error> {
    let status = AppCodeRotationStatus {
        rotation: Some(mirror_before_call(intent)),
        ..pass.observed.status.clone()
    };
    let is_shown = write_status(ctx, pass, status).await?;
    if is_shown {
        pass.observed.mirror = Some(intent.clone());
    }
    Ok(is_shown)
}

/// Whether a call is made only once status shows its rotation.
fn is_shown_first(intent: &Intent) -> bool {
    intent.strategy == Strategy::Overlap && intent.call == Call::Add
}

/// Whether the rotation that is to be marked once more can be shown in status, if it has to be. A mark without a call would change
/// the Secret and count as an attempt, again and again for as long as the right to write status is lost.
async fn is_shown_still(ctx: &Context, pass: &mut Pass, intent: &Intent) -> Result<bool, Error> {
    let last = open_intent(&pass.observed).filter(|last| last.rotation_id == intent.rotation_id);
    match last.filter(|_| is_shown_first(intent)).cloned() {
        Some(last) => show_in_status(ctx, pass, &last).await,
        None => Ok(true),
    }
}

/// Takes back in status what has the claims of this resource count for nothing, before it claims anything new: others of the
/// app would take what its call makes for their own. Returns whether the intent may be written.
async fn claim(ctx: &Context, pass: &mut Pass, intent: &Intent) -> Result<bool, Error> {
    // A call that the cloud refuses again and again, though it answers readings, must not have status go to and fro.
    let last = pass.observed.memory.not_applied.as_ref();
    let was_refused = last.is_some_and(|attempt| attempt.rotation_id == intent.rotation_id);
    if was_refused || !pass.resource.as_ref().is_some_and(is_discounted) {
        return Ok(true);
    }
    let mut status = pass.observed.status.clone();
    accept(&mut status, ctx.now());
    write_status(ctx, pass, status).await
}

/// Writes status in the middle of a pass. Returns whether it was written.
async fn write_status(ctx: &Context, pass: &mut Pass, status: AppCodeRotationStatus) -> Result<bool, Error> {
    let Some(mut resource) = pass.resource.clone() else {
        return Ok(false);
    };
    // Whoever comes after a crash must not wait for what an earlier failure asked for. How many there were still counts.
    let failures = status.failures.map(|failures| Failures {
        next_attempt_time: None,
        ..failures
    });
    resource.status = Some(AppCodeRotationStatus { failures, ..status });
    match ctx.cluster.replace_status(&pass.key, &resource).await {
        Ok(fresh) => {
            pass.observed.status = fresh.status.clone().unwrap_or_default();
            pass.resource = Some(fresh);
            Ok(true)
        }
        Err(ClusterError::Conflict | ClusterError::NotFound) => {
            moved(ctx, pass, "show the rotation in status").await.map(|()| false)
        }
        Err(source) => Err(Error::Cluster {
            doing: "show the rotation in status",
            source,
        }),
    }
}

/// Keeps a code that the answer told, until it is in the Secret.
fn hold(pass: &mut Pass, intent: &Intent, answered_at: Duration) {
    let Cloud::Read(app) = &pass.observed.cloud else { return };
    let claimed: Vec<Fingerprint> = pass
        .observed
        .siblings
        .iter()
        .flat_map(|s| s.holds.iter().copied())
        .collect();
    if let Verdict::Ours(code) = intent.resolve(app.reading(&claimed))
        && let Some(value) = pass.codes.get(&code)
    {
        pass.held = Some((value.clone(), answered_at));
        pass.observed.memory.held = Some(Held {
            intent: intent.clone(),
            code,
        });
    }
}

/// Writes a code and the record that goes with it, in one write under the fence.
pub(super) async fn write_code(
    ctx: &Context,
    pass: &mut Pass,
    name: &str,
    code: Fingerprint,
    plain: Record,
    why: WriteReason,
) -> Result<(), Error> {
    let value: AppCode = match (pass.codes.get(&code), &pass.observed.memory.held, &pass.held) {
        (Some(value), _, _) => value.clone(),
        (None, Some(held), Some((value, _))) if held.code == code => value.clone(),
        _ => return Err(Error::UnknownCode),
    };
    let SecretView::Ours(OurSecret { code: was, .. }) = pass.secret(name) else {
        return look_again(ctx, pass).await;
    };
    let was = *was;
    let (patch, whole) = code_patch(pass, name, &value, plain.clone(), false).ok_or(Error::UnknownCode)?;
    let is_target = name == pass.observed.target;
    let (mut result, mut record) = (insist(ctx, pass, name, &patch).await, whole);
    // Labels, annotations and further keys meet admission only now. The code does not wait for them; they are tried again
    // when it is in.
    let mut is_bare = false;
    if let (Err(ClusterError::Refused(_)), true) = (&result, was != Some(code)) {
        let (without, bare) = code_patch(pass, name, &value, plain, true).ok_or(Error::UnknownCode)?;
        is_bare = without != patch;
        if is_bare {
            (result, record) = (insist(ctx, pass, name, &without).await, bare);
        }
    }
    let is_written = written(ctx, pass, name, result, "write the code into the Secret").await?;
    if is_written {
        let rotation = record.intent.filter(|_| why == WriteReason::Persist);
        let exposure = pass
            .held
            .as_ref()
            .filter(|_| pass.observed.memory.held.as_ref().is_some_and(|held| held.code == code));
        let exposure = exposure.map(|(_, answered_at)| ctx.clock.uptime().saturating_sub(*answered_at));
        if let Some(intent) = &rotation {
            let outcome = intent.outcome.unwrap_or(Outcome::Recovered);
            ctx.metrics.rotated(intent.trigger, intent.strategy, outcome, exposure);
        }
        let exposure_millis = exposure.and_then(|exposure| i64::try_from(exposure.as_millis()).ok());
        tracing::info!(
            fingerprint = %code.short(), ?why, number = record.number,
            "code written into the Secret"
        );
        if why == WriteReason::Persist {
            pass.observed.memory.held = None;
            pass.held = None;
        }
        pass.observed.memory.settling.clear();
        if !is_bare {
            refuse_if_astray(pass, name);
        }
        pass.in_secret = Some(value).filter(|_| is_target);
        // Only the record was brought up to date, which is nothing to tell.
        if why != WriteReason::Repair || was != Some(code) {
            pass.happened.push(Happened::Wrote {
                code,
                why,
                intent: rotation.clone(),
                exposure_millis,
            });
        }
        if let Some(intent) = rotation {
            read_before_retiring(ctx, pass, &intent).await?;
        }
    }
    Ok(())
}

/// Remembers a negative and the reading that it rests on.
pub(super) fn begin_settling(ctx: &Context, pass: &mut Pass, question: Question) {
    let codes = pass.observed.reading().map(|app| app.codes.clone()).unwrap_or_default();
    pass.observed.uptime = ctx.uptime();
    pass.observed.memory.begin_settling(Settling {
        question,
        since: pass.observed.uptime,
        codes,
    });
}

/// Forgets a code that can no longer be saved.
pub(super) fn drop_held(pass: &mut Pass) {
    if let Some(held) = pass.observed.memory.held.take() {
        tracing::warn!(
            fingerprint = %held.code.short(), app_id = %held.intent.app.app_id,
            "a code was not saved: something newer is recorded, or the cloud lists it no more"
        );
    }
    pass.held = None;
}
