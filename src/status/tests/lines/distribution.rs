use pretty_assertions::assert_eq;

use super::*;
use crate::api::{VerificationOutcome, WorkloadKind};
use crate::intent::Distribution;
use crate::plan::Trial;
use crate::verification::Probe;
use crate::workload::{RestartTarget, Rollout};

fn web() -> RestartTarget {
    RestartTarget {
        kind: WorkloadKind::Deployment,
        name: "web".into(),
    }
}

/// The new code is in the Secret, is to be tried, and a workload is to be restarted.
fn undistributed() -> Observed {
    let mut o = completed();
    let handover = &mut wanted(&mut o).handover;
    handover.is_verified = true;
    handover.restarts = vec![web()];
    ours(&mut o).record.intent.as_mut().unwrap().distribution = Some(Distribution::default());
    o
}

fn tried(o: &mut Observed, seconds: i64, outcome: Probe) {
    let rotation_id = ours(o).record.intent.as_ref().unwrap().rotation_id.clone();
    o.memory.trial = Some(Trial {
        generation: o.resource.generation,
        code: ours(o).code.unwrap(),
        rotation_id,
        since: SignedDuration::ZERO,
        last: SignedDuration::from_secs(seconds),
        outcome,
    });
}

fn refused() -> Probe {
    Probe::Refused { status: 401 }
}

fn linger(reason: Reason) -> Step {
    Step::Linger {
        reason,
        message: "something is awaited".into(),
        after: SignedDuration::from_secs(9),
    }
}

#[test]
fn ready_does_not_stand_over_a_code_that_was_not_seen_to_work() {
    let ready = |change: fn(&mut Observed), step: &Step| {
        let mut o = undistributed();
        change(&mut o);
        condition(&folded(&o, step), ConditionType::Ready)
    };
    let waits = linger(Reason::Verifying);
    assert_eq!(ready(|_| {}, &waits), said("Unknown", Reason::Verifying));
    assert_eq!(
        ready(|o| tried(o, 119, refused()), &waits),
        said("Unknown", Reason::Verifying)
    );
    assert_eq!(
        ready(|o| tried(o, 120, refused()), &waits),
        said("False", Reason::VerificationFailed)
    );
    assert_eq!(
        ready(|o| tried(o, 0, Probe::Passed), &waits),
        said("True", Reason::CodeListed)
    );
    assert_eq!(
        ready(|o| wanted(o).handover.is_verified = false, &waits),
        said("True", Reason::CodeListed)
    );
    let stopped = stop(Reason::NotOwner, "another's");
    assert_eq!(ready(|_| {}, &stopped), said("False", Reason::NotOwner));
    // Where the Secret does not hold it, that is what is told.
    let edited = |o: &mut Observed| ours(o).code = Some(code(9));
    assert_eq!(ready(edited, &wait()), said("Unknown", Reason::Settling));
}

#[test]
fn the_last_try_is_shown_with_the_time_since_when_it_ends_so() {
    let mut o = undistributed();
    assert_eq!(folded(&o, &rest()).verification, None);
    tried(&mut o, 0, refused());
    let shown = folded(&o, &rest()).verification.unwrap();
    let id = ours(&mut o).record.intent.as_ref().unwrap().rotation_id.to_string();
    assert_eq!((shown.time.0, shown.outcome), (later(60), VerificationOutcome::Failed));
    assert_eq!(shown.rotation_id, id);
    assert!(
        shown.message.ends_with('.') && shown.message.contains("401"),
        "{}",
        shown.message
    );
    // The same again keeps its time; anything else does not.
    let at = |o: &Observed| fold(pass(o, &rest()), later(90)).verification.unwrap().time.0;
    o.status.verification = Some(shown.clone());
    assert_eq!(at(&o), later(60));
    o.status.verification.as_mut().unwrap().rotation_id = "another".into();
    assert_eq!(at(&o), later(90));
    o.status.verification = Some(shown);
    tried(&mut o, 0, Probe::Refused { status: 403 });
    assert_eq!(at(&o), later(90));
    tried(&mut o, 0, Probe::Passed);
    let passed = folded(&o, &rest()).verification.unwrap();
    assert_eq!(passed.outcome, VerificationOutcome::Passed);
    // Of another rotation nothing is shown, and what was shown stays.
    o.memory.trial.as_mut().unwrap().rotation_id = crate::ids::RotationId::from_random(99);
    assert_eq!(folded(&o, &rest()).verification, o.status.verification);
}

#[test]
fn workloads_ready_says_what_was_seen_at_the_last_look() {
    let of = |change: &dyn Fn(&mut Observed)| {
        let mut o = undistributed();
        change(&mut o);
        condition(&folded(&o, &rest()), ConditionType::WorkloadsReady)
    };
    let looked = |rollout: Rollout| move |o: &mut Observed| o.rollouts = Some(vec![(web(), rollout.clone())]);
    let moving = Rollout::Progressing { what: "pods" };
    assert_eq!(of(&|_| {}), None);
    assert_eq!(of(&looked(Rollout::Done)), said("True", Reason::RolledOut));
    assert_eq!(of(&looked(moving)), said("False", Reason::RollingOut));
    assert_eq!(of(&looked(Rollout::Missing)), said("False", Reason::RolloutHeld));
    let was = |value: &'static str| {
        move |o: &mut Observed| {
            let status = &mut o.status;
            set_condition(
                status,
                ConditionType::WorkloadsReady,
                value,
                Reason::RolledOut,
                "",
                now(),
            );
        }
    };
    // Of the rotation before it says nothing any more.
    assert_eq!(of(&was("True")), said("False", Reason::RollingOut));
    assert_eq!(of(&was("False")), said("False", Reason::RolledOut));
    let finished = |o: &mut Observed| {
        was("True")(o);
        ours(o).record.intent.as_mut().unwrap().step = RotationStep::Distributed;
    };
    assert_eq!(of(&finished), said("True", Reason::RolledOut));
    // Nobody waits for them any more, or they may be others by now.
    let let_go = |o: &mut Observed| {
        finished(o);
        was("False")(o);
    };
    assert_eq!(of(&let_go), said("Unknown", Reason::NotVerified));
    // What was left as it was is named on.
    let message = |reason: Reason| {
        let mut o = undistributed();
        finished(&mut o);
        let told = "Deployment/web is paused.\n      kubectl resume";
        set_condition(
            &mut o.status,
            ConditionType::WorkloadsReady,
            "False",
            reason,
            told,
            now(),
        );
        let new = folded(&o, &rest());
        new.condition(ConditionType::WorkloadsReady).unwrap().message.clone()
    };
    assert!(message(Reason::RolloutHeld).ends_with("When last looked at: Deployment/web is paused."));
    assert!(!message(Reason::RollingOut).contains("Deployment/web"));
    let edited = |o: &mut Observed| {
        finished(o);
        o.resource.generation += 1;
    };
    assert_eq!(of(&edited), said("Unknown", Reason::NotVerified));
    let nothing = |o: &mut Observed| {
        was("True")(o);
        wanted(o).handover.restarts.clear();
    };
    assert_eq!(of(&nothing), None);
    let mut o = undistributed();
    nothing(&mut o);
    let before = o.status.conditions.len();
    assert_eq!(folded(&o, &rest()).conditions.len(), before - 1, "only that one goes");
}

#[test]
fn what_holds_a_new_code_up_is_told_once() {
    let told_of = |reason, before: Option<Reason>| {
        let mut o = undistributed();
        if let Some(before) = before {
            let status = &mut o.status;
            set_condition(status, ConditionType::Reconciling, "True", before, "", now());
        }
        let step = linger(reason);
        // The rotation itself was told before.
        o.status.rotation_number = Some(1);
        told(&o, &step, &folded(&o, &step))
    };
    for reason in [Reason::VerificationFailed, Reason::RolloutHeld] {
        assert_eq!(told_of(reason, None), [reason]);
        assert_eq!(told_of(reason, Some(Reason::RollingOut)), [reason]);
        assert_eq!(told_of(reason, Some(reason)), []);
    }
    assert_eq!(told_of(Reason::RollingOut, None), []);
}

#[test]
fn that_every_workload_has_the_new_code_is_told_once() {
    let mut o = undistributed();
    o.status.rotation_number = Some(1);
    let told_with = |o: &mut Observed, rollout: Rollout| {
        o.rollouts = Some(vec![(web(), rollout)]);
        let step = linger(Reason::RollingOut);
        let new = folded(o, &step);
        let told = told(o, &step, &new);
        o.status = new;
        told
    };
    let progressing = Rollout::Progressing { what: "slow" };
    assert_eq!(told_with(&mut o, progressing.clone()), []);
    assert_eq!(told_with(&mut o, Rollout::Done), [Reason::RolledOut]);
    assert_eq!(told_with(&mut o, Rollout::Done), []);
}

#[test]
fn that_nothing_holds_a_new_code_up_any_more_is_told_once() {
    let told_of = |before: Reason, step: &Step| {
        let mut o = undistributed();
        wanted(&mut o).handover.is_verified = false;
        o.status.rotation_number = Some(1);
        let status = &mut o.status;
        set_condition(status, ConditionType::Reconciling, "True", before, "", now());
        told(&o, step, &folded(&o, step))
    };
    for reason in [Reason::VerificationFailed, Reason::RolloutHeld] {
        assert_eq!(told_of(reason, &rest()), [Reason::CodeListed]);
        assert_eq!(told_of(reason, &linger(reason)), []);
    }
    assert_eq!(told_of(Reason::RollingOut, &rest()), []);
    // It is no good end that what held it up is left as it is.
    let mut o = undistributed();
    o.status.rotation_number = Some(1);
    set_condition(
        &mut o.status,
        ConditionType::Reconciling,
        "True",
        Reason::RolloutHeld,
        "",
        now(),
    );
    o.rollouts = Some(vec![(web(), Rollout::Missing)]);
    assert_eq!(told(&o, &rest(), &folded(&o, &rest())), []);
}

#[test]
fn what_is_awaited_is_said_where_people_look() {
    let messages = |reason| {
        let mut o = undistributed();
        wanted(&mut o).handover.is_verified = false;
        let status = folded(&o, &linger(reason));
        let message = |kind| status.condition(kind).unwrap().message.clone();
        (message(ConditionType::Ready), message(ConditionType::Stalled))
    };
    let (ready, stalled) = messages(Reason::Retiring);
    assert!(ready.ends_with("something is awaited"), "{ready}");
    // How far workloads are changes often, so that Ready leaves it to another condition.
    for reason in [Reason::RollingOut, Reason::RolloutHeld] {
        let (ready, _) = messages(reason);
        assert!(
            ready.contains("WorkloadsReady") && !ready.contains("awaited"),
            "{ready}"
        );
    }
    // That a person can help is said though nothing is stopped.
    assert_eq!(messages(Reason::RollingOut).1, stalled);
    for reason in [Reason::RolloutHeld, Reason::VerificationFailed] {
        assert_ne!(messages(reason).1, stalled);
    }
}
