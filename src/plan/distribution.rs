//! A code that is in the Secret is brought to its consumers: tried, workloads restarted, their roll-out waited for.
//!
//! Whatever comes of this never changes the app, and the rotation is not lost by it: it stays persisted, with what was
//! done on record, so that no workload is restarted twice for it. With `Overlap` the code before lives until all is done.

use jiff::{SignedDuration, Timestamp};

use super::{Observed, Planner, Step, Trial};
use crate::api::Reason;
use crate::intent::{Distribution, Intent};
use crate::remedy::{tell, with_prose};
use crate::verification::Probe;
use crate::workload::{RestartTarget, Rollout, told};

/// A gateway may know a new code later than the cloud lists it. The vendor tells of seconds for other changes and of two
/// minutes at most.
const PROPAGATION: SignedDuration = SignedDuration::from_mins(2);

/// For how long a workload that cannot be read or restarted is tried again where no roll-out is waited for. Afterwards
/// nothing would restart it until the next rotation, and without a bound a workload that always fails would keep a leaked
/// code alive.
const RETRIED: SignedDuration = SignedDuration::from_mins(2);

/// How soon, and how late at most, a code is tried again or a roll-out looked at again.
const PAUSES: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(5), SignedDuration::from_mins(5));

impl Planner<'_> {
    /// What can be done for the consumers at once. It needs nothing of the cloud, so it waits for nothing there.
    pub(super) fn urgent_distribution(&self) -> Option<Step> {
        let is_other_open = self.open().is_some() || self.o.memory.held.is_some();
        if is_other_open || !self.is_secret_in_order() {
            return None;
        }
        let step = self.next_of_distribution()?;
        let is_urgent = matches!(
            step,
            Step::Verify | Step::LookAtWorkloads | Step::Restart(_) | Step::WriteRecord { .. }
        );
        is_urgent.then_some(step)
    }

    /// What is waited for on the consumers' side. Where nothing is left in the app but the new code, a rotation that is due
    /// does not wait for them: a workload that is stuck must not protect a leaked code.
    pub(super) fn distribution(&self) -> Option<Step> {
        let step = self.next_of_distribution().filter(|_| self.is_secret_in_order())?;
        if !matches!(step, Step::Linger { .. }) {
            return Some(step);
        }
        let next = if self.is_retirement_pending() {
            None
        } else {
            self.due_rotation()
        };
        match next {
            Some(due @ (Step::WriteIntent { .. } | Step::Hold)) => Some(due),
            Some(Step::Wait { after, .. }) => self.released(Some(step.sooner(after))),
            _ => self.released(Some(step)),
        }
    }

    fn next_of_distribution(&self) -> Option<Step> {
        let intent = self.unfinished().filter(|intent| intent.is_undistributed())?;
        let done = intent.distribution.as_ref()?;
        let unverified = self.o.unverified(self.now);
        if unverified.is_some() && self.is_try_due() {
            return Some(Step::Verify);
        }
        // With Reset the code before is dead, so that holding the restarts back for long would help nobody.
        let holds_back = |reason: Reason| intent.retires().is_some() || reason == Reason::Verifying;
        if let Some((reason, message)) = unverified.clone().filter(|(reason, _)| holds_back(*reason)) {
            return Some(self.linger(reason, message));
        }
        if let Some(step) = self.restarts(intent, done) {
            return Some(step);
        }
        if let Some((reason, message)) = unverified {
            return Some(self.linger(reason, message));
        }
        let verified_at = self.wanted.handover.is_verified.then_some(self.now);
        Some(self.note(intent.distributed(verified_at, self.now)))
    }

    /// Restarts the workloads, once each, and waits until they have rolled out.
    fn restarts(&self, intent: &Intent, done: &Distribution) -> Option<Step> {
        let handover = &self.wanted.handover;
        if handover.restarts.is_empty() {
            return None;
        }
        let delay = handover.restart_delay.saturating_sub(self.o.age(self.now));
        if delay.is_positive() {
            let message = "The workloads are restarted once spec.restartDelay has passed.";
            return Some(Step::Linger {
                reason: Reason::Distributing,
                message: message.to_owned(),
                after: delay,
            });
        }
        let Some(rollouts) = &self.o.rollouts else {
            return Some(Step::LookAtWorkloads);
        };
        let fresh = rollouts.iter().filter(|(_, rollout)| *rollout == Rollout::NotRestarted);
        let fresh: Vec<RestartTarget> = fresh.map(|(target, _)| target.clone()).collect();
        if !fresh.is_empty() {
            return self.not_now().or(Some(Step::Restart(fresh)));
        }
        if self.o.marked.iter().any(|mark| !done.restarted.contains(mark)) {
            let kept = done.restarted.iter().filter(|mark| !self.o.marked.contains(mark));
            let distribution = Distribution {
                restarted: kept.chain(&self.o.marked).cloned().collect(),
                verified_at: done.verified_at.or(self.is_passed().then_some(self.now)),
                ..done.clone()
            };
            return Some(self.note(Intent {
                distribution: Some(distribution),
                ..intent.clone()
            }));
        }
        self.roll_outs(intent, rollouts)
    }

    /// Waits until the workloads have rolled out, or only for those that are still to be restarted, if spec waits for no
    /// roll-out.
    fn roll_outs(&self, intent: &Intent, rollouts: &[(RestartTarget, Rollout)]) -> Option<Step> {
        let any = |is: fn(&Rollout) -> bool| rollouts.iter().any(|(_, rollout)| is(rollout));
        if !any(|rollout| !rollout.is_done()) {
            return None;
        }
        let is_waited_for = self.wanted.handover.waits_for_rollout || intent.retires().is_none();
        let is_tried_again = self.o.unrestarted_for().is_some_and(|tried_for| tried_for < RETRIED);
        let what_then = match (is_waited_for, is_tried_again) {
            (true, _) if intent.retires().is_none() => "",
            (true, _) => "The code before works until then; spec.overlap.waitForRollout: false ends the wait.",
            (false, true) => {
                "What cannot be restarted for two minutes is left as it is, since spec.overlap.waitForRollout is false."
            }
            (false, false) => return None,
        };
        let reason = if any(Rollout::is_held) {
            Reason::RolloutHeld
        } else {
            Reason::RollingOut
        };
        Some(self.linger(reason, with_prose(&told(rollouts, self.kubectl()), what_then)))
    }

    fn linger(&self, reason: Reason, message: String) -> Step {
        Step::Linger {
            reason,
            message,
            after: pause(self.o, self.now).min(self.next_check().max(PAUSES.0)),
        }
    }

    fn is_passed(&self) -> bool {
        self.o.trial().is_some_and(|trial| trial.outcome.is_passed())
    }

    /// Whether the pause after the last try of this rotation's code is over.
    fn is_try_due(&self) -> bool {
        let generation = self.o.resource.generation;
        let Some(trial) = self.o.trial().filter(|trial| trial.generation == generation) else {
            return true; // a corrected spec need not wait
        };
        let tried_for = trial.last.saturating_sub(trial.since);
        let pause = (tried_for / 4).clamp(PAUSES.0, PAUSES.1);
        put_off(self.o).is_none() && self.o.uptime.saturating_sub(trial.last) >= pause
    }
}

/// The longer it has taken, the less it matters when it is looked at again: a quarter of that time later. A code that is
/// being tried is looked at no later than when it would have to work.
fn pause(o: &Observed, now: Timestamp) -> SignedDuration {
    let age = o.age(now);
    // What may pass is tried again sooner, however old the code is.
    let age_of_wait = o.unrestarted_for().map_or(age, |tried_for| tried_for.min(age));
    let pause = (age_of_wait / 4)
        .clamp(PAUSES.0, PAUSES.1)
        .max(put_off(o).unwrap_or_default());
    let left = PROPAGATION.saturating_sub(age);
    if left.is_positive() {
        pause.min(left.max(PAUSES.0))
    } else {
        pause
    }
}

/// How soon a rotation is to be looked at again whose code is on its way to its consumers, whatever else is waited for.
pub fn distribution_pause(o: &Observed, now: Timestamp) -> Option<SignedDuration> {
    let is_on_its_way = o.own_book()?.is_in_sync() && o.intent()?.is_undistributed();
    is_on_its_way.then(|| pause(o, now))
}

/// How long the service has asked to be left alone still.
fn put_off(o: &Observed) -> Option<SignedDuration> {
    let trial = o.trial()?;
    let Probe::Throttled {
        retry_after: Some(after),
    } = trial.outcome
    else {
        return None;
    };
    let after = SignedDuration::try_from(after).ok()?;
    let left = after.saturating_sub(o.uptime.saturating_sub(trial.last));
    Some(left).filter(SignedDuration::is_positive)
}

impl Step {
    /// The same with another look no later than after `limit`.
    fn sooner(self, limit: SignedDuration) -> Self {
        match self {
            Self::Linger { reason, message, after } => Self::Linger {
                reason,
                message,
                after: after.min(limit),
            },
            step => step,
        }
    }
}

impl Observed {
    /// How long the code has been in the Secret. One that was written at a time still to come, by a clock that has since
    /// been set back, has been there for longer than anything waits.
    fn age(&self, now: Timestamp) -> SignedDuration {
        let at = self.own_book().and_then(|book| book.record.rotated_at);
        let age = at.map(|at| now.duration_since(at)).filter(|age| !age.is_negative());
        // It is at least as old as its first try, which no clock changes.
        let tried_for = || self.trial().map(|trial| self.uptime.saturating_sub(trial.since));
        age.or_else(tried_for).unwrap_or(SignedDuration::from_hours(24))
    }

    /// For how long a workload could not be restarted for the last rotation, if so.
    pub fn unrestarted_for(&self) -> Option<SignedDuration> {
        let (id, since) = self.memory.unrestarted.as_ref()?;
        let is_last = self.intent().is_some_and(|intent| intent.rotation_id == *id);
        is_last.then(|| self.uptime.saturating_sub(*since))
    }

    /// What came of trying the code that the Secret holds, for its last rotation.
    pub fn trial(&self) -> Option<&Trial> {
        let (intent, code) = (self.intent()?, self.own_book()?.code?);
        let trial = self.memory.trial.as_ref();
        trial.filter(|trial| trial.rotation_id == intent.rotation_id && trial.code == code)
    }

    /// Why the code of the last rotation does not count as working yet, while it has still to be tried: it may yet become
    /// known to its gateway, or it has failed for longer than that takes.
    pub fn unverified(&self, now: Timestamp) -> Option<(Reason, String)> {
        let wanted = self.wanted.as_ref().ok()?;
        let intent = self.intent().filter(|intent| intent.is_undistributed())?;
        let is_done = intent.distribution.as_ref()?.verified_at.is_some();
        if is_done || !wanted.handover.is_verified {
            return None;
        }
        let Some(trial) = self.trial() else {
            return Some((
                Reason::Verifying,
                "The new code is in the Secret and is about to be tried.".to_owned(),
            ));
        };
        if trial.outcome.is_passed() {
            return None;
        }
        let tried_for = trial.last.saturating_sub(trial.since);
        let reason = if self.age(now).max(tried_for) < PROPAGATION {
            Reason::Verifying
        } else {
            Reason::VerificationFailed
        };
        let told = trial.outcome.told();
        let what_then = if intent.retires().is_some() {
            " The code before works until it passes; with spec.verification: null it is retired though the new one never passed."
        } else {
            ""
        };
        let prose = format!("The new code is in the Secret, but {told}. It is tried again.{what_then}");
        let is_failed = reason == Reason::VerificationFailed;
        let commands = is_failed.then(|| self.resource.kubectl().another_verification());
        Some((reason, tell(&prose, commands.into_iter().flatten())))
    }
}
