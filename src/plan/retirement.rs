//! With `Overlap` the code before is retired, once consumers have the new one and the grace period is over.
//!
//! Nothing here is in a hurry: the new code works already, and until it is retired so does the old one. Only the code
//! that the last rotation replaced is ever deleted, only while status, the Secret and the cloud agree on it, and only while
//! the Secret holds another one that the cloud lists.

use jiff::{SignedDuration, Timestamp};

use super::open::attempt_pause;
use super::{Cloud, INSTALL_AGAIN, Observed, Planner, Question, Step, Story, stop, unsettled};
use crate::api::{Reason, RotationStep};
use crate::ids::Fingerprint;
use crate::intent::{Distribution, Intent};
use crate::secret::{Record, SecretView};

/// How long a deleted resource is held to retire the code before.
const FAREWELL: SignedDuration = SignedDuration::from_mins(2);

/// Refusals to delete a code after which it is left where it is, so that other rotations can go on. By the pauses between
/// them that is most of a day, in which a right can be given back.
const MOST_REFUSALS: u32 = 10;
/// After this time and as many attempts one refusal is enough: a process that is started again and again never counts to ten.
const LONGEST_REFUSAL: SignedDuration = SignedDuration::from_hours(72);

impl Planner<'_> {
    /// The last rotation while it is persisted and something is left to be done for it.
    pub(super) fn unfinished(&self) -> Option<&Intent> {
        let intent = self.o.intent()?;
        // Where no code is current none was ever persisted, whatever a record says.
        let is_ours = self.book().is_none_or(|book| book.record.app == self.wanted.app);
        let is_last = is_ours && intent.number == self.story.number && !self.is_start() && !intent.is_open();
        (is_last && intent.is_unfinished()).then_some(intent)
    }

    /// Whether the code before is still to be retired, so that no other rotation may start: codes are never stacked.
    pub(super) fn is_retirement_pending(&self) -> bool {
        self.unfinished().is_some_and(|intent| intent.retires().is_some())
    }

    /// The finalizer stands on the resource from before a second code is added until the first one is retired. It is set
    /// before the call, so that a refusal comes before anything is changed.
    pub(super) fn hold(&self) -> Option<Step> {
        (self.is_held() && !self.o.resource.has_finalizer).then_some(Step::Hold)
    }

    /// Takes the finalizer off, unless a rotation is about to start that needs it.
    pub(super) fn released(&self, next: Option<Step>) -> Option<Step> {
        let is_start = matches!(next, Some(Step::Hold | Step::WriteIntent { .. }));
        let is_over = self.o.resource.has_finalizer && !self.is_held();
        if is_over && !is_start {
            Some(Step::Release)
        } else {
            next
        }
    }

    /// Such a stop lasts until a person acts: the finalizer does not wait with it once nothing is to be retired.
    pub(super) fn unheld(&self, step: Step) -> Step {
        let is_over = self.o.resource.has_finalizer && !self.is_held() && self.open().is_none();
        if is_over && matches!(step, Step::Stop { .. }) {
            Step::Release
        } else {
            step
        }
    }

    /// Takes the finalizer off that was set for a rotation of another app, which nobody follows any more. That app may be
    /// one that the cloud does not show, so this comes before it is asked.
    pub(super) fn another_app(&self) -> Option<Step> {
        let is_followed = self.is_retirement_pending() || self.open().is_some() || self.o.memory.held.is_some();
        let is_left = self.o.resource.has_finalizer && self.story.retargeted && !is_followed;
        (is_left && self.o.cloud == Cloud::NotAsked).then_some(Step::Release)
    }

    /// Whether a code may have to be retired. A rotation that is open and comes this far has had no effect, and is not
    /// repeated.
    fn is_held(&self) -> bool {
        self.is_retirement_pending()
    }

    /// The API server will not have the finalizer set or taken off.
    pub(super) fn finalizer_refused(&self) -> Option<Step> {
        let why = self.o.finalizer_refused.as_ref()?;
        let message = format!(
            "The API server does not let the operator set or remove its finalizer on this resource: {why}; nothing more is \
             changed. Mend the policy that refuses it, or give the operator its rights back: {INSTALL_AGAIN}."
        );
        Some(self.stop_here(Reason::FinalizerRefused, &message, self.kubectl().install_again()))
    }

    /// When the code before may be deleted, while that is pending.
    pub(super) fn retires_at(&self) -> Option<Timestamp> {
        self.unfinished()
            .and_then(|intent| retires_at(intent, self.wanted.handover.grace, self.now))
    }

    /// Whether the cloud has to be asked because the code before is to be deleted now.
    pub(super) fn is_retirement_due(&self) -> bool {
        self.retires_at().is_some_and(|at| at <= self.now) && !self.wanted.suspend
    }

    /// Deletes the code before, once consumers have the new one and the grace period is over.
    pub(super) fn retirement(&self) -> Option<Step> {
        let intent = self.unfinished().filter(|_| !self.wanted.suspend)?;
        if let Some(step) = self.given_back(intent) {
            return Some(step);
        }
        let Some(at) = self.retires_at() else {
            return self.mended(intent);
        };
        if at > self.now {
            let message = if self.due().is_some() {
                "The code before still works until its grace period is over; what is asked for now starts after that. \
                 Set spec.overlap.gracePeriod to 0s to retire it at once."
            } else {
                "The code before still works until its grace period is over."
            };
            return Some(Step::Linger {
                reason: Reason::Retiring,
                message: message.to_owned(),
                after: at.duration_since(self.now).min(self.next_check()),
            });
        }
        self.retire(intent)
    }

    /// Spec names the code before as its new seed, so somebody wants it to go on working, and it is left.
    fn given_back(&self, intent: &Intent) -> Option<Step> {
        let base = intent.retires()?;
        let is_wanted = self.wanted.seed.fingerprint() == Some(base) && !self.story.is_seed(base);
        is_wanted.then(|| self.note(intent.retired(true)))
    }

    /// A record that does not say since when consumers have the code, or names a time that is still to come, as after a
    /// clock was set back: the grace period is counted from now.
    fn mended(&self, intent: &Intent) -> Option<Step> {
        let is_distributed = matches!(intent.step, RotationStep::Distributed | RotationStep::Retiring);
        if !is_distributed && intent.distribution.is_some() {
            return None; // it is on its way
        }
        Some(self.note(Intent {
            distribution: Some(Distribution {
                distributed_at: is_distributed.then_some(self.now),
                ..intent.distribution.clone().unwrap_or_default()
            }),
            ..intent.clone()
        }))
    }

    fn retire(&self, intent: &Intent) -> Option<Step> {
        // A deleted resource comes here without anybody having looked before.
        if let Some(step) = self.given_back(intent) {
            return Some(step);
        }
        let app = self.o.reading()?;
        let base = intent.retires()?;
        // What was marked may also have been an addition that another process has found the code of since.
        if intent.step == RotationStep::Retiring && self.o.memory.is_marked(intent) {
            return Some(Step::Mutate(intent.clone()));
        }
        // Whoever reads the Secret must have another code that works.
        let held = self.o.secret.own().filter(|secret| secret.is_in_sync());
        let held = held
            .and_then(|secret| secret.code)
            .filter(|code| app.codes.contains(code));
        let held = held.filter(|code| self.story.is_current(Some(*code)))?;
        let question = Question::Outcome {
            rotation_id: intent.rotation_id.clone(),
            attempt: intent.attempt,
        };
        if !app.codes.contains(&base) {
            // Gone already is as good. A call of ours explains it; else one more reading has to agree.
            let is_asked_for = intent.step == RotationStep::Retiring;
            return unsettled(self.o, question)
                .filter(|_| !is_asked_for)
                .or_else(|| Some(self.note(intent.retired(false))));
        }
        if held == base || self.claimed().contains(&base) {
            return Some(self.note(intent.retired(true)));
        }
        if !self.is_agreed(intent, base) {
            // Another process may just be about to write into status what this one found on the Secret.
            return unsettled(self.o, question).or_else(|| Some(self.note(intent.retired(true))));
        }
        let refusals = self.o.memory.refusals(intent);
        // Who has just started knows of few refusals, and of the attempts and their time from the Secret.
        let due = self.retires_at();
        let is_late = due.is_some_and(|due| self.now.duration_since(due) > LONGEST_REFUSAL);
        let is_endless = is_late && intent.attempt > MOST_REFUSALS;
        if refusals.is_some_and(|refusals| is_endless || refusals.count >= MOST_REFUSALS) {
            return Some(self.note(intent.retired(true)));
        }
        if intent.step == RotationStep::Retiring && !self.o.memory.is_not_applied(intent) {
            let pause = attempt_pause(self.o.limits.settle_window, intent.attempt);
            let left = pause.saturating_sub(self.now.duration_since(intent.marked_at));
            if left.is_positive() && left <= pause {
                let why = refusals.map_or("It is still listed.", |refusals| &refusals.why);
                let message = format!("The code before is deleted again after a pause. {why}");
                return Some(Step::Linger {
                    reason: Reason::Retiring,
                    message,
                    after: left,
                });
            }
        }
        self.not_now().or_else(|| {
            Some(Step::WriteIntent {
                secret: self.book_name(),
                record: self.record_with(intent.next_retirement(self.now)),
            })
        })
    }

    /// Whether status and the Secret name the same code as the one before: the annotations alone choose nothing.
    fn is_agreed(&self, intent: &Intent, base: Fingerprint) -> bool {
        let is_shown = self.o.status.rotation.as_ref().is_some_and(|shown| {
            let replaces = shown.replaces.as_ref().is_some_and(|code| base.is_named_by(code));
            shown.rotation_id == intent.rotation_id.as_str() && replaces
        });
        // A Secret that was deleted meanwhile and made anew has forgotten the code before.
        let recorded = self.book().and_then(|book| book.record.previous);
        is_shown && recorded.is_none_or(|previous| previous == base)
    }

    /// How far the rotation has come, written under the fence.
    pub(super) fn note(&self, intent: Intent) -> Step {
        Step::WriteRecord {
            secret: self.book_name(),
            record: self.record_with(intent),
        }
    }

    fn record_with(&self, intent: Intent) -> Record {
        Record {
            intent: Some(intent),
            ..self.record()
        }
    }
}

/// What is still done for a deleted resource that our finalizer holds: the code before is retired if that can be done
/// soon, else it is left. A deletion must not wait for a cloud that is down, nor for a long grace period.
pub(super) fn farewell(o: &Observed, now: Timestamp) -> Option<Step> {
    let since = o.resource.held_since.filter(|_| o.resource.has_finalizer)?;
    if let Some(why) = &o.finalizer_refused {
        let message = format!(
            "The API server does not let the operator remove its finalizer, so this resource stays: {why}; nothing more is \
             changed. Mend the policy that refuses it, or give the operator its rights back: {INSTALL_AGAIN}."
        );
        let commands = o.resource.kubectl().install_again();
        let after = o.limits.local_retry();
        return Some(stop(Reason::FinalizerRefused, &message, commands, after));
    }
    let Ok(wanted) = &o.wanted else {
        return Some(Step::Release);
    };
    let story = Story::tell(o, wanted, now);
    let planner = Planner { o, wanted, story, now };
    // By the clock on the wall, so that it holds over restarts, and by one that only grows, should that one be set back.
    let seen_for = o
        .memory
        .leaving
        .map_or(SignedDuration::ZERO, |seen| o.uptime.saturating_sub(seen));
    let left = since.min(now).checked_add(FAREWELL).unwrap_or(now).duration_since(now);
    let left = left.min(FAREWELL.saturating_sub(seen_for));
    let end = now.checked_add(left).unwrap_or(now);
    let in_time = planner.retires_at().filter(|at| *at <= end);
    let is_writable = matches!(&o.secret, SecretView::Ours(secret) if secret.locked.is_none() && !secret.is_inherited);
    let may_try = is_writable && now < end && !wanted.suspend && o.secret_refused.is_none();
    let (Some(intent), Some(at), true) = (planner.unfinished(), in_time, may_try) else {
        return Some(Step::Release);
    };
    let linger = |after: SignedDuration| Step::Linger {
        reason: Reason::Retiring,
        message: "The resource is being deleted; the code before is retired first.".to_owned(),
        after: after.min(end.duration_since(now)),
    };
    if at > now {
        return Some(linger(at.duration_since(now)));
    }
    match &o.cloud {
        Cloud::NotAsked => Some(Step::AskCloud),
        Cloud::Read(app) if app.masked || !app.is_supported => Some(Step::Release),
        Cloud::Read(_) => match planner.retire(intent) {
            Some(Step::Linger { after, .. } | Step::Wait { after, .. }) => Some(linger(after)),
            // Nothing else in the Secret works, so the code before must stay.
            None => Some(Step::Release),
            step => step,
        },
        Cloud::Failed(failure) if failure.is_final => Some(Step::Release),
        Cloud::Failed(_) | Cloud::Postponed(_) => Some(linger(o.limits.local_retry() / 3)),
    }
}

/// When `intent` may retire its base: once its code was distributed and `grace` has passed since. None while that is not
/// known, as when the record names a time that is still to come.
pub fn retires_at(intent: &Intent, grace: SignedDuration, now: Timestamp) -> Option<Timestamp> {
    intent.retires()?;
    let is_distributed = matches!(intent.step, RotationStep::Distributed | RotationStep::Retiring);
    let distributed_at = intent
        .distribution
        .as_ref()?
        .distributed_at
        .filter(|_| is_distributed)?;
    let known = Some(distributed_at).filter(|at| *at <= now)?;
    Some(known.checked_add(grace).unwrap_or(Timestamp::MAX))
}
