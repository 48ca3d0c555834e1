//! A code that is in the Secret is brought to its consumers: tried, workloads restarted, their roll-out waited for.
//!
//! Whatever comes of this never changes the app, and the rotation is not lost by it: it stays persisted, with what was
//! done on record, so that no workload is restarted twice for it. With `Overlap` the code before lives until all is done.

use jiff::SignedDuration;

use super::{Observed, Planner, Step};
use crate::api::Reason;
use crate::intent::{Distribution, Intent};
use crate::verification::Probe;
use crate::workload::{RestartTarget, Rollout, told};

/// A gateway may know a new code later than the cloud lists it. The vendor tells of seconds for other changes and of two
/// minutes at most.
const PROPAGATION: SignedDuration = SignedDuration::from_mins(2);

/// How soon, and how late at most, a code is tried again or a roll-out looked at again.
const PAUSES: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(5), SignedDuration::from_mins(5));

impl Planner<'_> {
    /// The next thing to do for the consumers of the last rotation's code. Where nothing of it is left in the app but the
    /// new code, a rotation that is due does not wait for them: a workload that is stuck must not protect a leaked code.
    pub(super) fn distribution(&self) -> Option<Step> {
        let step = self.next_of_distribution()?;
        let Step::Linger { after, .. } = &step else {
            return Some(step);
        };
        let next = if self.is_retirement_pending() {
            None
        } else {
            self.due_rotation()
        };
        match next {
            Some(due @ Step::WriteIntent { .. }) => Some(due),
            Some(Step::Wait { after: sooner, .. }) if sooner < *after => Some(step.sooner(sooner)),
            _ => Some(step),
        }
    }

    fn next_of_distribution(&self) -> Option<Step> {
        let intent = self.unfinished().filter(|intent| intent.is_undistributed())?;
        let done = intent.distribution.as_ref()?;
        let unverified = self.o.unverified();
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
        let delay = handover.restart_delay.saturating_sub(self.age());
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
        let of = |which: fn(&Rollout) -> bool| -> Vec<RestartTarget> {
            let them = rollouts.iter().filter(|(_, rollout)| which(rollout));
            them.map(|(target, _)| target.clone()).collect()
        };
        let fresh = of(|rollout| *rollout == Rollout::NotRestarted);
        if !fresh.is_empty() {
            return self.not_now().or(Some(Step::Restart(fresh)));
        }
        let restarted = of(|rollout| !matches!(rollout, Rollout::Missing | Rollout::Forbidden(_)));
        let restarted: Vec<String> = restarted.iter().map(ToString::to_string).collect();
        if restarted.iter().any(|target| !done.restarted.contains(target)) {
            let kept = done.restarted.iter().filter(|target| !restarted.contains(target));
            let distribution = Distribution {
                restarted: kept.cloned().chain(restarted.iter().cloned()).collect(),
                verified_at: done.verified_at.or(self.is_passed().then_some(self.now)),
                ..done.clone()
            };
            return Some(self.note(Intent {
                distribution: Some(distribution),
                ..intent.clone()
            }));
        }
        let is_waited_for = handover.waits_for_rollout || intent.retires().is_none();
        let is_open = rollouts.iter().any(|(_, rollout)| !rollout.is_done());
        (is_waited_for && is_open).then(|| {
            let is_held = rollouts.iter().any(|(_, rollout)| rollout.is_held());
            let reason = if is_held {
                Reason::RolloutHeld
            } else {
                Reason::RollingOut
            };
            self.linger(reason, told(rollouts))
        })
    }

    /// How long the code has been in the Secret.
    fn age(&self) -> SignedDuration {
        self.story
            .rotated_at
            .map_or(SignedDuration::ZERO, |at| self.now.duration_since(at))
    }

    /// The longer it has taken, the less it matters when it is looked at again: a quarter of that time later.
    fn linger(&self, reason: Reason, message: String) -> Step {
        let pause = (self.age() / 4).clamp(PAUSES.0, PAUSES.1);
        let put_off = self.put_off().unwrap_or_default();
        Step::Linger {
            reason,
            message,
            after: pause.max(put_off).min(self.next_check().max(PAUSES.0)),
        }
    }

    fn is_passed(&self) -> bool {
        let last = self.o.memory.trial.as_ref();
        last.is_some_and(|trial| trial.is_of(self.o.intent()) && trial.outcome.is_passed())
    }

    /// How long the service has asked to be left alone still.
    fn put_off(&self) -> Option<SignedDuration> {
        let trial = self.o.memory.trial.as_ref()?;
        let Probe::Throttled {
            retry_after: Some(after),
        } = trial.outcome
        else {
            return None;
        };
        let after = SignedDuration::try_from(after).ok()?;
        Some(after.saturating_sub(self.o.uptime.saturating_sub(trial.last)))
    }

    /// Whether the pause after the last try of this rotation's code is over.
    fn is_try_due(&self) -> bool {
        let Some(trial) = self
            .o
            .memory
            .trial
            .as_ref()
            .filter(|trial| trial.is_of(self.o.intent()))
        else {
            return true;
        };
        let tried_for = trial.last.saturating_sub(trial.since);
        let pause = (tried_for / 4).clamp(PAUSES.0, PAUSES.1);
        let is_put_off = self.put_off().is_some_and(|left| left.is_positive());
        !is_put_off && self.o.uptime.saturating_sub(trial.last) >= pause
    }
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
    /// Why the code of the last rotation does not count as working yet, while it has still to be tried: it may yet become
    /// known to its gateway, or it has failed for longer than that takes.
    pub fn unverified(&self) -> Option<(Reason, String)> {
        let wanted = self.wanted.as_ref().ok()?;
        let intent = self.intent().filter(|intent| intent.is_undistributed())?;
        let is_done = intent.distribution.as_ref()?.verified_at.is_some();
        if is_done || !wanted.handover.is_verified {
            return None;
        }
        let Some(trial) = self.memory.trial.as_ref().filter(|trial| trial.is_of(Some(intent))) else {
            return Some((
                Reason::Verifying,
                "The new code is in the Secret and is about to be tried.".to_owned(),
            ));
        };
        if trial.outcome.is_passed() {
            return None;
        }
        let reason = if trial.last.saturating_sub(trial.since) < PROPAGATION {
            Reason::Verifying
        } else {
            Reason::VerificationFailed
        };
        let told = trial.outcome.told();
        Some((
            reason,
            format!("The new code is in the Secret, but {told}. It is tried again."),
        ))
    }
}
