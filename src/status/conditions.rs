//! The conditions, with the words that people read.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::{Pass, is_in_sync, is_suspended, is_verified, open_intent, unfinished};
use crate::api::{AppCodeRotationStatus, ConditionType, Reason};
use crate::intent::Intent;
use crate::plan::{CLOCKS, Cloud, Observed, Step};
use crate::remedy::prose;
use crate::secret::SecretView;
use crate::workload::{self, RestartTarget};

const ACCEPTED: &str = "The cloud took the credentials.";
const AT_WORK: &str = "Nothing needs a person.";

/// Check periods without an answer after which it is no longer known whether the code works.
const PERIODS_UNTIL_UNKNOWN: i32 = 3;

/// Says that the cloud has taken the credentials and that nothing is stopped, before a call that changes the app: what an
/// earlier pass has said to the contrary would have other resources of the app take what the call makes for their own.
pub fn accept(status: &mut AppCodeRotationStatus, now: Timestamp) {
    set_condition(
        status,
        ConditionType::Authorized,
        "True",
        Reason::CredentialsAccepted,
        ACCEPTED,
        now,
    );
    set_condition(status, ConditionType::Stalled, "False", Reason::Idle, AT_WORK, now);
}

/// `Ready` may not rest on an answer that is too old.
pub(super) fn expire(status: &mut AppCodeRotationStatus, o: &Observed, now: Timestamp) {
    if status.is_true(ConditionType::Ready) && !is_fresh(o, now) {
        set_condition(
            status,
            ConditionType::Ready,
            "Unknown",
            Reason::NotVerified,
            NOT_VERIFIED,
            now,
        );
    }
}

const NOT_VERIFIED: &str =
    "The cloud has not been reached for three check periods, so it is not known whether the code still works.";

fn is_fresh(o: &Observed, now: Timestamp) -> bool {
    let longest = o.limits.check_period.saturating_mul(PERIODS_UNTIL_UNKNOWN);
    o.status
        .last_verified_time
        .as_ref()
        .map(|time| now.duration_since(time.0))
        // A time far to come is of a clock that was wrong, and tells nothing.
        .is_some_and(|age| age <= longest && age > -CLOCKS)
}

pub(super) fn conditions(status: &mut AppCodeRotationStatus, pass: Pass<'_>, is_new_generation: bool, now: Timestamp) {
    let o = pass.observed;
    let secret = &o.target;
    let mut set = |kind, value, reason, message: &str| set_condition(status, kind, value, reason, message, now);

    // Once too old to rely on, it stays unknown until the cloud is reached: it did not become wrong by another failure.
    let is_unverified = |ready: &Condition| ready.reason == Reason::NotVerified.as_str();
    let was_unverified = o.status.condition(ConditionType::Ready).is_some_and(is_unverified);
    let was_ready = (o.status.is_true(ConditionType::Ready) || was_unverified) && !is_new_generation;
    let mut ready_message = format!("Secret {secret} holds a code that the cloud lists.");
    if let Step::Linger { reason, message, .. } = pass.step {
        // What `kubectl get -o wide` shows of a rotation that is under way.
        let more = match reason {
            Reason::RollingOut | Reason::RolloutHeld => "How far its workloads are is told by WorkloadsReady.",
            _ => prose(message),
        };
        ready_message = format!("{ready_message} {more}");
    }
    let unverified = o.unverified(now).filter(|_| is_in_sync(o));
    match (pass.step, &unverified) {
        // The commands stand once: in `Stalled`, or in `Reconciling`.
        (Step::Stop { reason, message, .. }, _) => set(ConditionType::Ready, "False", *reason, prose(message)),
        (_, Some((reason, message))) => {
            let is_failed = *reason == Reason::VerificationFailed;
            let value = if is_failed { "False" } else { "Unknown" };
            set(ConditionType::Ready, value, *reason, prose(message));
        }
        _ if is_verified(o, pass.step) => set(ConditionType::Ready, "True", Reason::CodeListed, &ready_message),
        (Step::Retry { failure }, _) if !was_ready => {
            set(ConditionType::Ready, "False", failure.reason, &failure.message);
        }
        (Step::Wait { reason, message, .. }, _) => set(ConditionType::Ready, "Unknown", *reason, message),
        _ if open_intent(o).is_some() => {
            let message = "A rotation is open; what became of its call is found out by reading.";
            set(ConditionType::Ready, "Unknown", Reason::Rotating, message);
        }
        _ if was_ready && is_in_sync(o) && is_fresh(o, now) => {
            set(ConditionType::Ready, "True", Reason::CodeListed, &ready_message);
        }
        _ if was_ready => set(ConditionType::Ready, "Unknown", Reason::NotVerified, NOT_VERIFIED),
        _ if is_suspended(o) => {
            let message = "Suspended before the first code was taken over. Set spec.suspend to false to go on.";
            set(ConditionType::Ready, "False", Reason::Suspended, message);
        }
        _ => set(
            ConditionType::Ready,
            "False",
            Reason::Waiting,
            "No code was taken over yet.",
        ),
    }

    under_way(&mut set, pass);
    authorized(&mut set, o);
    match &o.secret {
        SecretView::Ours(_) if is_in_sync(o) => {
            let message = format!("Secret {secret} holds the code of its record.");
            set(ConditionType::SecretSynced, "True", Reason::CodeListed, &message);
        }
        _ => {
            let (reason, message) = match pass.step {
                Step::Stop { reason, message, .. } => (*reason, prose(message)),
                _ => (Reason::Waiting, "The code is not in the Secret yet."),
            };
            set(ConditionType::SecretSynced, "False", reason, message);
        }
    }
    if pass.plain.is_some() {
        let message =
            "Whoever may read this resource reads the code in status.appCode. Remove spec.statusCode to end this.";
        set(ConditionType::CodeExposed, "True", Reason::PlaintextRequested, message);
    } else {
        status
            .conditions
            .retain(|condition| condition.type_ != ConditionType::CodeExposed.as_str());
    }
    workloads(status, o, now);
}

/// `Authorized`.
fn authorized(set: &mut impl FnMut(ConditionType, &'static str, Reason, &str), o: &Observed) {
    // A list that is masked proves no right on the app.
    let is_shown = o.reading().is_some_and(|app| !app.masked);
    match &o.cloud {
        Cloud::Failed(failure) if is_about_credentials(failure.reason) => {
            set(
                ConditionType::Authorized,
                "False",
                failure.reason,
                prose(&failure.message),
            );
        }
        // Also where a later call of the same pass fails: that is no word against the credentials, and other resources of
        // the app go by this condition.
        _ if is_shown || o.shown_at.is_some() => {
            set(ConditionType::Authorized, "True", Reason::CredentialsAccepted, ACCEPTED);
        }
        _ => {}
    }
}

/// `Reconciling` and `Stalled`.
fn under_way(set: &mut impl FnMut(ConditionType, &'static str, Reason, &str), pass: Pass<'_>) {
    let o = pass.observed;
    match pass.step {
        Step::Wait { reason, message, .. } | Step::Linger { reason, message, .. } => {
            set(ConditionType::Reconciling, "True", *reason, message);
        }
        Step::Retry { failure } => set(ConditionType::Reconciling, "True", failure.reason, &failure.message),
        _ if is_suspended(o) => set(
            ConditionType::Reconciling,
            "False",
            Reason::Suspended,
            &format!("Changes are held by spec.suspend. {}", next_rotation(o)),
        ),
        _ => {
            let message = if matches!(pass.step, Step::Stop { .. }) {
                "Nothing is under way.".to_owned()
            } else {
                format!("Nothing is under way. {}", next_rotation(o))
            };
            set(ConditionType::Reconciling, "False", Reason::Idle, &message);
        }
    }
    match pass.step {
        Step::Stop { reason, message, .. } => set(ConditionType::Stalled, "True", *reason, message),
        Step::Linger {
            reason: Reason::RolloutHeld | Reason::VerificationFailed,
            ..
        } => {
            let message =
                "Nothing is stopped, but the rotation may not end unless a person helps: Reconciling says how.";
            set(ConditionType::Stalled, "False", Reason::Idle, message);
        }
        _ => set(ConditionType::Stalled, "False", Reason::Idle, AT_WORK),
    }
}

/// `WorkloadsReady`: what is known of the workloads that are restarted, kept from the last look.
pub(super) fn workloads(status: &mut AppCodeRotationStatus, o: &Observed, now: Timestamp) {
    let restarts = o.wanted.as_ref().map(|wanted| wanted.handover.restarts.as_slice());
    if restarts.is_ok_and(<[RestartTarget]>::is_empty) {
        status
            .conditions
            .retain(|condition| condition.type_ != ConditionType::WorkloadsReady.as_str());
        return;
    }
    let is_undistributed = unfinished(o).is_some_and(Intent::is_undistributed);
    let last = status.condition(ConditionType::WorkloadsReady);
    let is_stale = last.is_some_and(|last| last.observed_generation != status.observed_generation);
    let is_open = last.is_some_and(|last| last.status == "False");
    let kubectl = o.resource.kubectl();
    let (value, reason, message) = match &o.rollouts {
        Some(rollouts) if rollouts.iter().all(|(_, rollout)| rollout.is_done()) => {
            ("True", Reason::RolledOut, workload::told(rollouts, kubectl))
        }
        Some(rollouts) => {
            let is_held = rollouts.iter().any(|(_, rollout)| rollout.is_held());
            let reason = if is_held {
                Reason::RolloutHeld
            } else {
                Reason::RollingOut
            };
            ("False", reason, workload::told(rollouts, kubectl))
        }
        None if is_undistributed && status.is_true(ConditionType::WorkloadsReady) => {
            let message = "The workloads are still to be restarted with the new code.";
            ("False", Reason::RollingOut, message.to_owned())
        }
        // Nobody waits for them any more, or they may be others by now.
        None if !is_undistributed && (is_open || is_stale) => {
            let message = "The workloads are not looked at until the next rotation restarts them.";
            let held = last.filter(|last| is_open && !is_stale && last.reason == Reason::RolloutHeld.as_str());
            let message = match held {
                Some(held) => format!("{message} When last looked at: {}", prose(&held.message)),
                None => message.to_owned(),
            };
            ("Unknown", Reason::NotVerified, message)
        }
        None => return,
    };
    set_condition(status, ConditionType::WorkloadsReady, value, reason, &message, now);
}

/// Why the next rotation comes when it comes.
fn next_rotation(o: &Observed) -> String {
    let timetable = o.wanted.as_ref().ok().and_then(|wanted| wanted.schedule.as_ref());
    timetable.map_or_else(
        || "No schedule is set: a rotation comes when it is asked for.".to_owned(),
        |timetable| format!("The next rotation by the schedule comes {}.", timetable.tell()),
    )
}

fn is_about_credentials(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::CredentialsMissing | Reason::CredentialsRejected | Reason::NotAuthorized | Reason::AppNotFound
    )
}

/// Sets one condition; its transition time moves only when its status moves.
pub fn set_condition(
    status: &mut AppCodeRotationStatus,
    kind: ConditionType,
    value: &str,
    reason: Reason,
    message: &str,
    now: Timestamp,
) {
    let before = status.condition(kind).filter(|before| before.status == value);
    let condition = Condition {
        type_: kind.as_str().to_owned(),
        status: value.to_owned(),
        reason: reason.as_str().to_owned(),
        message: message.to_owned(),
        observed_generation: status.observed_generation,
        last_transition_time: before.map_or(Time(now), |before| before.last_transition_time.clone()),
    };
    match status.conditions.iter_mut().find(|other| other.type_ == kind.as_str()) {
        Some(other) => *other = condition,
        None => status.conditions.push(condition),
    }
}
