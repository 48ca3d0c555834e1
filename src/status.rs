//! From what a pass saw and did to the status it leaves behind, and to the events it tells. Pure.
//!
//! A status is written only when something other than a time changed, so that the operator does not wake itself; the
//! time of the last check is the exception, once in a check period.

mod conditions;
mod notes;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

pub use self::conditions::{accept, set_condition};
use self::conditions::{conditions, expire, workloads};
pub use self::notes::{Note, UNTOLD, happened_notes, notes};
use crate::api::{
    AppCodeRotationStatus, AppStatus, ConditionType, CurrentCode, Failures, HistoryEntry, OpenRotation, Outcome, Phase,
    PlainCode, PreviousCode, RotationStep, Strategy, VerificationOutcome, VerificationStatus,
};
use crate::ids::Fingerprint;
use crate::intent::Intent;
use crate::limits::backoff;
use crate::plan::{Book, Cloud, Observed, Step, Story, Wanted, WriteReason, retires_at};
use crate::remedy::prose;
use crate::secret::{OurSecret, SecretView};
use crate::workload::RestartTarget;

/// First pause of the back-off.
const BACKOFF_BASE: SignedDuration = SignedDuration::from_secs(5);
/// Longest pause of the back-off.
pub const BACKOFF_CAP: SignedDuration = SignedDuration::from_mins(15);
/// Length of `status.upcoming`.
const UPCOMING: usize = 3;

/// Something that happened in a pass and is worth telling.
#[derive(Clone, Debug, PartialEq)]
pub enum Happened {
    /// A code was written into the Secret.
    Wrote {
        /// Which.
        code: Fingerprint,
        /// What the write meant.
        why: WriteReason,
        /// The rotation that made it, for [`WriteReason::Persist`].
        intent: Option<Intent>,
        /// Milliseconds from the cloud's answer to the Secret being written, if this process had the answer.
        exposure_millis: Option<i64>,
    },
    /// An intent for another app was left behind.
    Abandoned(Intent),
    /// The resource was deleted while the outcome of its rotation was open.
    Forsaken(Intent),
    /// The code before was left in the app.
    NotRetired(Intent),
    /// A workload was restarted.
    Restarted(RestartTarget),
    /// A rotation was marked for its first call.
    Began(Intent),
}

/// A pass that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct Pass<'a> {
    /// What was known at the end.
    pub observed: &'a Observed,
    /// The step that ended it.
    pub step: &'a Step,
    /// What happened on the way.
    pub happened: &'a [Happened],
    /// The code in plain text, if spec wants it in status and the Secret holds it.
    pub plain: Option<&'a PlainCode>,
    /// `historyLimit`.
    pub history_limit: usize,
    /// A random number in `[0, 1)`, for the back-off.
    pub draw: f64,
}

/// The status after a pass.
pub fn fold(pass: Pass<'_>, now: Timestamp) -> AppCodeRotationStatus {
    let o = pass.observed;
    let mut status = o.status.clone();
    if matches!(pass.step, Step::Gone) {
        return status;
    }
    if matches!(pass.step, Step::BackOff { .. }) {
        expire(&mut status, o, now);
        publish_trial(&mut status, o, now);
        workloads(&mut status, o, now);
        return status;
    }
    let is_new_generation = status.observed_generation != Some(o.resource.generation);
    status.observed_generation = Some(o.resource.generation);
    if let Ok(wanted) = &o.wanted {
        publish(&mut status, pass, wanted, now);
    } else {
        // Nobody knows what a refused schedule asks for.
        status.next_rotation_time = None;
        status.upcoming.clear();
    }
    status.failures = failures(pass, now);
    status.app_code = pass.plain.cloned();
    conditions(&mut status, pass, is_new_generation, now);
    status.phase = Some(phase(&status, o));
    status
}

/// What the record and the reading say, as far as status shows it.
fn publish(status: &mut AppCodeRotationStatus, pass: Pass<'_>, wanted: &Wanted, now: Timestamp) {
    let o = pass.observed;
    let story = Story::tell(o, wanted, now);
    let book = o.own_book().filter(|secret| secret.record.app == wanted.app);
    // A Secret of long ago may hold what its own record names while the rotation stands on the one that status names.
    if status.target.is_none() || (is_in_sync(o) && matches!(o.book(), Some((Book::Target, _)))) {
        status.target = Some(wanted.target.clone());
    }
    if let Some(OurSecret { record, .. }) = book {
        if let (Some(code), true) = (record.fingerprint, Some(record.number) >= status.rotation_number) {
            let at = Time(story.rotated_at.unwrap_or(now));
            if Some(record.number) > status.rotation_number && record.number > 0 {
                status.last_rotation_time = Some(at.clone());
                let entry = record.intent.as_ref().filter(|intent| intent.number == record.number);
                status.history.splice(
                    0..0,
                    entry.map(|intent| history_entry(intent, code, &at, pass.happened)),
                );
            }
            status.rotation_number = Some(record.number);
            status.current = Some(CurrentCode {
                fingerprint: code.short(),
                rotated_at: at,
            });
            status.previous = record.previous.map(|code| PreviousCode {
                fingerprint: code.short(),
                retire_after: o
                    .intent()
                    .filter(|intent| intent.retires() == Some(code))
                    .and_then(|intent| retires_at(intent, wanted.handover.grace, now))
                    .map(Time),
            });
            status.app = Some(AppStatus {
                endpoint: wanted.app.endpoint.clone(),
                project_id: wanted.app.project_id.to_string(),
                app_id: wanted.app.app_id.to_string(),
            });
            // One that could not be read when the Secret was made anew was taken into account all the same.
            let shown = status.seed_fingerprint.take().filter(|_| !story.retargeted);
            status.seed_fingerprint = record.seed.map(|seed| seed.short()).or(shown);
            status.last_handled_trigger = story.handled_trigger;
            status.last_handled_request = story.handled_request;
        }
        if let Cloud::Read(app) = &o.cloud {
            // What a Secret that was made anew does not know, status still does.
            let shown = status.unclaimed.iter().filter_map(|text| app.named(text));
            let recorded = record.intent.iter().flat_map(|intent| intent.unclaimed.iter().copied());
            // One that spec names by now is wanted.
            let claimed = [record.fingerprint, wanted.seed.fingerprint()];
            let left = shown
                .chain(recorded)
                .filter(|code| app.codes.contains(code) && !claimed.contains(&Some(*code)));
            let left: BTreeSet<Fingerprint> = left.collect();
            status.unclaimed = left.iter().map(Fingerprint::short).collect();
        }
    }
    if let Some(intent) = retired(o) {
        let mut entries = status.history.iter_mut();
        let entry = entries.find(|entry| entry.rotation_id == intent.rotation_id.as_str());
        if let Some(entry) = entry.filter(|entry| entry.retired_at.is_none()) {
            entry.retired_at = Some(Time(now));
        }
    }
    status.history.truncate(pass.history_limit);
    status.rotation = unfinished(o).map(|intent| mirror(intent, o.status.rotation.as_ref()));
    let since = status.current.as_ref().map(|code| code.rotated_at.0);
    let scheduled = wanted.schedule.as_ref().zip(since);
    let next = scheduled.and_then(|(timetable, since)| timetable.start(since, &o.resource.uid, now));
    status.next_rotation_time = next.map(Time);
    let upcoming = scheduled.map(|(timetable, since)| timetable.upcoming(since, &o.resource.uid, UPCOMING));
    status.upcoming = upcoming.into_iter().flatten().map(Time).collect();
    publish_trial(status, o, now);
    if is_verified(o, pass.step) {
        status.last_verified_time = Some(Time(now));
    }
}

/// The last try of the new code. Its time stands for the first of those that ended alike.
fn publish_trial(status: &mut AppCodeRotationStatus, o: &Observed, now: Timestamp) {
    let Some(trial) = o.trial() else {
        return;
    };
    let new = VerificationStatus {
        time: Time(now),
        outcome: if trial.outcome.is_passed() {
            VerificationOutcome::Passed
        } else {
            VerificationOutcome::Failed
        },
        rotation_id: trial.rotation_id.to_string(),
        message: sentence(&trial.outcome.told()),
    };
    let is_same = status.verification.as_ref().is_some_and(|old| {
        (old.outcome, &old.rotation_id, &old.message) == (new.outcome, &new.rotation_id, &new.message)
    });
    if !is_same {
        status.verification = Some(new);
    }
}

fn sentence(clause: &str) -> String {
    let mut letters = clause.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

/// The rotation as status shows it. What it replaces is carried over from before the call was made, since that is what
/// the Secret is held against when a code is to be deleted.
fn mirror(intent: &Intent, before: Option<&OpenRotation>) -> OpenRotation {
    let before = before.filter(|before| before.rotation_id == intent.rotation_id.as_str());
    let is_beside = intent.strategy == Strategy::Overlap && intent.base.is_some();
    let is_kept = is_beside || intent.is_undistributed();
    OpenRotation {
        rotation_id: intent.rotation_id.to_string(),
        trigger: intent.trigger,
        strategy: intent.strategy,
        step: intent.step,
        started_at: Time(intent.started_at),
        replaces: before.and_then(|before| before.replaces.clone()),
        intent: is_kept.then(|| intent.to_text()),
    }
}

/// The rotation as status shows it from before its call, so that it is found again should the Secret be deleted.
pub fn mirror_before_call(intent: &Intent) -> OpenRotation {
    OpenRotation {
        replaces: intent.base.map(|base| base.short()),
        ..mirror(intent, None)
    }
}

fn history_entry(intent: &Intent, code: Fingerprint, at: &Time, happened: &[Happened]) -> HistoryEntry {
    let exposure_millis = happened.iter().find_map(|happened| match happened {
        Happened::Wrote {
            code: wrote,
            exposure_millis,
            ..
        } if *wrote == code => *exposure_millis,
        _ => None,
    });
    HistoryEntry {
        rotation_id: intent.rotation_id.to_string(),
        number: intent.number,
        trigger: intent.trigger,
        strategy: intent.strategy,
        started_at: Time(intent.started_at),
        completed_at: at.clone(),
        fingerprint: code.short(),
        outcome: intent.outcome.unwrap_or(Outcome::Recovered),
        // The code before goes on working, so nothing is exposed.
        exposure_millis: exposure_millis.filter(|_| intent.strategy == Strategy::Reset),
        retired_at: None,
    }
}

/// Whether a rotation is open that status has to tell of.
pub fn has_open_rotation(o: &Observed) -> bool {
    open_intent(o).is_some()
}

/// The open rotation. One of another app than spec names is not followed, so it is nothing that goes on.
pub fn open_intent(o: &Observed) -> Option<&Intent> {
    let completed = o.own_book().map_or(0, |book| book.record.number);
    let completed = completed.max(o.status.rotation_number.unwrap_or(0));
    own_intent(o).filter(|intent| intent.is_open() && intent.number > completed)
}

/// The rotation that status has to tell of: it is open, or its code has not reached everybody, or the code before still
/// works.
fn unfinished(o: &Observed) -> Option<&Intent> {
    let last = o
        .own_book()
        .map_or(o.status.rotation_number, |book| Some(book.record.number));
    let persisted = || {
        own_intent(o).filter(|intent| {
            // An open one of that number came back with a backup of the Secret; it is over.
            !intent.is_open() && intent.is_unfinished() && Some(intent.number) == last
        })
    };
    open_intent(o).or_else(persisted)
}

/// The last rotation, if the code that it replaced is gone.
fn retired(o: &Observed) -> Option<&Intent> {
    let is_gone = |intent: &&Intent| {
        let is_left = intent.base.is_some_and(|base| intent.unclaimed.contains(&base));
        intent.step == RotationStep::Retired && !is_left
    };
    own_intent(o).filter(is_gone)
}

/// The last rotation of this resource, as the Secret or, should that be gone, as status tells it.
fn own_intent(o: &Observed) -> Option<&Intent> {
    let is_anothers = o.own_book().is_none() && o.book().is_some();
    o.intent().filter(|_| !is_anothers)
}

/// Whether the Secret holds the code that its record names.
fn is_in_sync(o: &Observed) -> bool {
    matches!((o.secret.own(), &o.wanted), (Some(secret), Ok(wanted))
        if secret.is_in_sync() && secret.unfit.is_none() && secret.record.app == wanted.app)
}

/// Whether the cloud listed the code in the Secret in this pass. While what became of a call is being found out, a list
/// with the old code on it proves nothing: it may be stale, or the call may still take effect.
fn is_verified(o: &Observed, step: &Step) -> bool {
    if open_intent(o).is_some() && !matches!(step, Step::Rest { .. }) {
        return false;
    }
    match (&o.secret, &o.cloud) {
        (SecretView::Ours(secret), Cloud::Read(app)) if is_in_sync(o) => {
            !app.masked && secret.code.is_some_and(|code| app.codes.contains(&code))
        }
        _ => false,
    }
}

fn failures(pass: Pass<'_>, now: Timestamp) -> Option<Failures> {
    let old = pass.observed.status.failures.as_ref();
    let in_future = |after: SignedDuration| Some(Time(now.checked_add(after).unwrap_or(now)));
    match pass.step {
        Step::Retry { failure } => {
            let is_same_generation =
                pass.observed.status.observed_generation == Some(pass.observed.resource.generation);
            let before = old.filter(|_| is_same_generation).map_or(0, |old| old.consecutive);
            let consecutive = before.saturating_add(1);
            let pause = backoff(
                u32::try_from(consecutive).unwrap_or(1),
                pass.draw,
                BACKOFF_BASE.unsigned_abs(),
                BACKOFF_CAP.unsigned_abs(),
            );
            let pause = SignedDuration::try_from(pause).unwrap_or(BACKOFF_CAP);
            Some(Failures {
                consecutive,
                last_reason: failure.reason.as_str().to_owned(),
                last_message: prose(&failure.message).to_owned(),
                last_request_id: failure.request_id.clone(),
                next_attempt_time: in_future(pause.max(failure.after.unwrap_or_default())),
            })
        }
        Step::Stop { reason, message, after } => Some(Failures {
            consecutive: 1,
            last_reason: reason.as_str().to_owned(),
            last_message: prose(message).to_owned(),
            last_request_id: match &pass.observed.cloud {
                Cloud::Failed(failure) => failure.request_id.clone(),
                _ => None,
            },
            next_attempt_time: in_future(*after),
        }),
        Step::Wait { .. } | Step::Linger { .. } => old.map(|old| Failures {
            next_attempt_time: None,
            ..old.clone()
        }),
        _ => None,
    }
}

fn is_suspended(o: &Observed) -> bool {
    o.wanted.as_ref().is_ok_and(|wanted| wanted.suspend)
}

fn phase(status: &AppCodeRotationStatus, o: &Observed) -> Phase {
    if status.is_true(ConditionType::Stalled) {
        Phase::Stalled
    } else if is_suspended(o) {
        Phase::Suspended
    } else if let Some(rotation) = &status.rotation {
        match rotation.step {
            RotationStep::Started => Phase::Rotating,
            RotationStep::Persisted => Phase::Distributing,
            RotationStep::Distributed | RotationStep::Retiring | RotationStep::Retired => Phase::Retiring,
        }
    } else if status.is_true(ConditionType::Ready) {
        Phase::Ready
    } else {
        Phase::Pending
    }
}

/// Whether `new` is worth a write.
pub fn is_worth_writing(
    old: &AppCodeRotationStatus,
    new: &AppCodeRotationStatus,
    check_period: SignedDuration,
) -> bool {
    let timeless = |status: &AppCodeRotationStatus| {
        let mut status = status.clone();
        status.last_verified_time = None;
        if let Some(failures) = &mut status.failures {
            failures.next_attempt_time = None;
        }
        status
    };
    let is_checked = match (&old.last_verified_time, &new.last_verified_time) {
        (None, Some(_)) => true,
        // Checks come up to a tenth early; half a period tells a check from a pass in between.
        (Some(old), Some(new)) => {
            new.0.duration_since(old.0).abs() >= SignedDuration::from_secs(check_period.as_secs() / 2)
        }
        _ => false,
    };
    is_checked || timeless(old) != timeless(new)
}

#[cfg(test)]
mod tests;
