//! Mistakes around the function that decides: each changes what it sees, or what it says.

use std::sync::Arc;

use appcode_operator::api::{Outcome, RotationStep};
use appcode_operator::controller::Decide;
use appcode_operator::ids::Fingerprint;
use appcode_operator::intent::{Call, Intent, Reading};
use appcode_operator::plan::{Cloud, Handover, Observed, Step, WriteReason, plan};
use appcode_operator::secret::{Extras, Record, SecretView};
use appcode_operator::template::Layout;
use jiff::SignedDuration;

use crate::support::gate::ProcessId;

/// Decides as the operator does, from what `change` made of what was observed.
fn seeing(change: impl Fn(&mut Observed) + Send + Sync + 'static) -> Arc<Decide> {
    Arc::new(move |observed, now| {
        let mut observed = observed.clone();
        change(&mut observed);
        plan(&observed, now)
    })
}

fn record(observed: &mut Observed) -> Option<&mut Record> {
    match &mut observed.secret {
        SecretView::Ours(secret) => Some(&mut secret.record),
        _ => None,
    }
}

fn intent(observed: &mut Observed) -> Option<&mut Intent> {
    record(observed)?.intent.as_mut().filter(|intent| intent.is_open())
}

fn listed(observed: &mut Observed) -> Option<&mut Vec<Fingerprint>> {
    match &mut observed.cloud {
        Cloud::Read(app) => Some(&mut app.codes),
        _ => None,
    }
}

fn completed(observed: &Observed) -> i64 {
    observed.status.rotation_number.unwrap_or_default()
}

/// The first operators are not restarted ones.
pub fn rotate_on_restart(number: ProcessId) -> Arc<Decide> {
    seeing(move |observed| {
        if number > 1 {
            observed.resource.request = Some(format!("restart {number}"));
        }
    })
}

pub fn adopt_early(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        let Some(open) = intent(observed).cloned() else { return };
        let Some(codes) = listed(observed) else { return };
        let reading = Reading {
            listed: codes,
            updated_at: None,
            claimed: &[],
        };
        if open.new_codes(reading).len() == 1 {
            codes.retain(|code| Some(*code) != open.base);
        }
    })
}

pub fn ignore_numbers(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        let recorded = record(observed).map_or(0, |record| record.highest_number());
        let highest = recorded.max(completed(observed));
        if let Some(held) = &mut observed.memory.held {
            held.intent.number = held.intent.number.max(highest + 1);
        }
    })
}

/// What only its own resource may repeat, any resource of that name repeats.
pub fn ignore_uid(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        let uid = observed.resource.uid.clone();
        if let Some(intent) = intent(observed) {
            intent.uid = uid;
        }
    })
}

pub fn ignore_siblings(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| observed.siblings.clear())
}

pub fn trust_app(_: ProcessId) -> Arc<Decide> {
    trusting(|intent, observed| {
        if let Ok(wanted) = &observed.wanted {
            intent.app.app_id = wanted.app.app_id.clone();
        }
    })
}

pub fn trust_endpoint(_: ProcessId) -> Arc<Decide> {
    trusting(|intent, observed| {
        if let Ok(wanted) = &observed.wanted {
            intent.app.endpoint.clone_from(&wanted.app.endpoint);
        }
    })
}

/// An open intent is taken for one of ours.
fn trusting(change: fn(&mut Intent, &Observed)) -> Arc<Decide> {
    seeing(move |observed| {
        let seen = observed.clone();
        if let Some(intent) = intent(observed) {
            change(intent, &seen);
            intent.uid.clone_from(&seen.resource.uid);
        }
    })
}

pub fn trust_code(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        let recorded = record(observed).and_then(|record| record.fingerprint);
        if let Some(codes) = listed(observed) {
            codes.extend(recorded.filter(|code| !codes.contains(code)));
        }
    })
}

pub fn forget_handled(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        observed.status.last_handled_request = None;
        if let Some(record) = record(observed) {
            record.handled_request = None;
        }
    })
}

fn handover(observed: &mut Observed) -> Option<&mut Handover> {
    observed.wanted.as_mut().ok().map(|wanted| &mut wanted.handover)
}

pub fn ignore_grace(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        if let Some(handover) = handover(observed) {
            handover.grace = SignedDuration::ZERO;
        }
    })
}

pub fn ignore_rollouts(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        if let Some(handover) = handover(observed) {
            handover.waits_for_rollout = false;
        }
    })
}

pub fn ignore_trials(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        if let Some(handover) = handover(observed) {
            handover.is_verified = false;
        }
    })
}

/// What a rotation is about to retire counts as its own, whoever else holds it.
pub fn retire_what_others_hold(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        let retiring = record(observed).and_then(|record| record.intent.as_ref()?.retires());
        for sibling in &mut observed.siblings {
            sibling.holds.retain(|code| Some(*code) != retiring);
        }
    })
}

/// What is asked for during a grace period begins at once.
pub fn stack_codes(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        let wanted = observed.wanted.as_ref().ok().and_then(|wanted| wanted.trigger.clone());
        let Some(record) = record(observed).filter(|record| record.handled_trigger != wanted) else {
            return;
        };
        if let Some(intent) = record.intent.as_mut().filter(|intent| intent.retires().is_some()) {
            intent.step = RotationStep::Retired;
        }
    })
}

/// The finalizer is never taken off.
pub fn keep_finalizer(_: ProcessId) -> Arc<Decide> {
    Arc::new(|observed, now| match plan(observed, now) {
        Step::Release => {
            let mut observed = observed.clone();
            observed.resource.has_finalizer = false;
            plan(&observed, now)
        }
        step => step,
    })
}

pub fn forget_known(_: ProcessId) -> Arc<Decide> {
    Arc::new(|observed, now| match plan(observed, now) {
        Step::WriteIntent { secret, mut record } => {
            if let Some(intent) = &mut record.intent {
                intent.known.clear();
            }
            Step::WriteIntent { secret, record }
        }
        step => step,
    })
}

/// An intent that nobody repeats any more is written off.
pub fn close_unrepeated(_: ProcessId) -> Arc<Decide> {
    Arc::new(|observed, now| {
        let step = plan(observed, now);
        let mut seen = observed.clone();
        let Some(open) = intent(&mut seen).cloned() else {
            return step;
        };
        let is_repeatable = open.call == Call::Reset && matches!(step, Step::Rest { .. });
        let (Some(base), true, Cloud::Read(app)) = (open.base, is_repeatable, &observed.cloud) else {
            return step;
        };
        let Some(record) = record(&mut seen).filter(|_| app.codes.contains(&base)) else {
            return step;
        };
        record.intent = Some(Intent {
            step: RotationStep::Persisted,
            outcome: Some(Outcome::Recovered),
            ..open
        });
        Step::WriteCode {
            secret: observed.target.clone(),
            code: base,
            record: record.clone(),
            why: WriteReason::Repair,
        }
    })
}

/// What is not as spec has it is left so until there is another code.
pub fn keep_rendering(_: ProcessId) -> Arc<Decide> {
    Arc::new(|observed, now| {
        let step = plan(observed, now);
        let is_render = matches!(&step, Step::WriteCode { why, .. } if *why == WriteReason::Render);
        let mut seen = observed.clone();
        match (&mut seen.secret, &mut seen.wanted) {
            (SecretView::Ours(secret), Ok(wanted)) if is_render => {
                wanted.layout = Layout::default();
                secret.record.rendered = None;
                secret.extras = Extras::default();
                plan(&seen, now)
            }
            _ => step,
        }
    })
}

pub fn keep_owner(_: ProcessId) -> Arc<Decide> {
    seeing(|observed| {
        if let SecretView::Ours(secret) = &mut observed.secret
            && secret.extras.owners.take().is_some()
        {
            secret.extras.is_astray = false;
        }
    })
}

pub fn wait_briefly(_: ProcessId) -> Arc<Decide> {
    Arc::new(|observed, now| {
        let mut step = plan(observed, now);
        if let Step::Wait { after, .. } = &mut step {
            *after = SignedDuration::from_secs(1).min(*after);
        }
        step
    })
}
