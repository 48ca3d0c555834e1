mod lines;

use jiff::{SignedDuration, Timestamp};
use pretty_assertions::assert_eq;
use proptest::prelude::*;

use super::notes::note;
use super::*;
use crate::api::Reason;
use crate::plan::properties::{any_observed, code, now, settled};
use crate::plan::{Failure, plan};

fn pass<'a>(observed: &'a Observed, step: &'a Step) -> Pass<'a> {
    Pass {
        observed,
        step,
        happened: &[],
        plain: None,
        history_limit: 3,
        draw: 1.0,
    }
}

fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

fn retry(reason: Reason, message: &str, after: Option<i64>) -> Step {
    Step::Retry {
        failure: Failure {
            reason,
            message: message.into(),
            request_id: Some("request-1".into()),
            is_final: false,
            after: after.map(SignedDuration::from_secs),
        },
    }
}

fn stop(reason: Reason, message: &str) -> Step {
    Step::Stop {
        reason,
        message: message.into(),
        after: SignedDuration::from_mins(1),
    }
}

fn rest() -> Step {
    Step::Rest {
        after: SignedDuration::from_hours(1),
    }
}

fn ready(status: &AppCodeRotationStatus) -> (&str, &str) {
    let ready = status.condition(ConditionType::Ready).unwrap();
    (&ready.status, &ready.reason)
}

fn told(observed: &Observed, step: &Step, new: &AppCodeRotationStatus) -> Vec<Reason> {
    let notes = notes(pass(observed, step), &observed.status, new);
    notes.into_iter().map(|note| note.reason).collect()
}

#[test]
fn a_transition_time_moves_only_when_the_status_of_its_condition_moves() {
    let mut status = AppCodeRotationStatus::default();
    let mut set = |value: &str, reason, message: &str, at| {
        set_condition(&mut status, ConditionType::Ready, value, reason, message, later(at));
        let ready = status.condition(ConditionType::Ready).unwrap();
        (
            ready.last_transition_time.0.duration_since(now()).as_secs(),
            ready.message.clone(),
        )
    };
    assert_eq!(set("False", Reason::Waiting, "a", 0), (0, "a".into()));
    assert_eq!(set("False", Reason::Retrying, "b", 10), (0, "b".into()));
    assert_eq!(set("True", Reason::CodeListed, "c", 20), (20, "c".into()));
    assert_eq!(set("True", Reason::CodeListed, "c", 30), (20, "c".into()));
    assert_eq!(status.conditions.len(), 1);
}

#[test]
fn times_alone_are_not_worth_a_write_except_once_in_a_check_period() {
    let hour = SignedDuration::from_hours(1);
    let observed = settled();
    let old = observed.status.clone();
    let mut new = old.clone();
    assert!(!is_worth_writing(&old, &new, hour));
    new.last_verified_time = Some(Time(later(20 * 60)));
    assert!(!is_worth_writing(&old, &new, hour), "a pass between two checks");
    new.last_verified_time = Some(Time(later(54 * 60)));
    assert!(is_worth_writing(&old, &new, hour), "a check that came early");
    new.last_verified_time = Some(Time(later(-54 * 60)));
    assert!(is_worth_writing(&old, &new, hour), "the clock was set back");
    new.last_verified_time.clone_from(&old.last_verified_time);
    new.phase = Some(Phase::Suspended);
    assert!(is_worth_writing(&old, &new, hour));
}

#[test]
fn failures_are_counted_pause_longer_each_time_and_end_with_a_success() {
    let mut observed = settled();
    let step = retry(Reason::Retrying, "no answer", None);
    let mut pauses = Vec::new();
    for expected in 1..=12 {
        observed.status = fold(pass(&observed, &step), now());
        let failures = observed.status.failures.clone().unwrap();
        assert_eq!(
            (failures.consecutive, failures.last_reason.as_str()),
            (expected, "Retrying")
        );
        assert_eq!(failures.last_request_id.as_deref(), Some("request-1"));
        pauses.push(failures.next_attempt_time.unwrap().0.duration_since(now()));
    }
    assert_eq!(pauses[0], BACKOFF_BASE);
    assert!(pauses.is_sorted() && pauses[3] > pauses[2]);
    assert_eq!(pauses[11], BACKOFF_CAP);
    observed.status = fold(pass(&observed, &rest()), now());
    assert_eq!(observed.status.failures, None);
}

#[test]
fn a_new_generation_starts_its_failures_afresh_and_a_named_pause_is_kept() {
    let mut observed = settled();
    let step = retry(Reason::Retrying, "no answer", None);
    for _ in 0..5 {
        observed.status = fold(pass(&observed, &step), now());
    }
    observed.resource.generation += 1;
    let slow = retry(Reason::Retrying, "slow down", Some(600));
    let failures = fold(pass(&observed, &slow), now()).failures.unwrap();
    assert_eq!(failures.consecutive, 1);
    assert_eq!(failures.next_attempt_time.unwrap().0, later(600));
}

#[test]
fn ready_outlives_failures_until_the_last_answer_is_three_check_periods_old() {
    let mut observed = settled();
    let step = retry(Reason::Retrying, "no answer", None);
    observed.cloud = Cloud::NotAsked;
    assert_eq!(
        ready(&fold(pass(&observed, &step), later(3 * 3600))),
        ("True", "CodeListed")
    );
    let late = fold(pass(&observed, &step), later(3 * 3600 + 1));
    assert_eq!(ready(&late), ("Unknown", "NotVerified"));
    let held_back = Step::BackOff {
        after: SignedDuration::from_secs(1),
    };
    assert_eq!(
        ready(&fold(pass(&observed, &held_back), later(3 * 3600 + 1))),
        ("Unknown", "NotVerified")
    );
}

#[test]
fn a_stop_is_told_once_for_each_reason_and_generation() {
    let mut observed = settled();
    let step = stop(Reason::CodeNotListed, "The code is gone.");
    let new = fold(pass(&observed, &step), now());
    assert_eq!(
        (new.phase, ready(&new)),
        (Some(Phase::Stalled), ("False", "CodeNotListed"))
    );
    assert_eq!(told(&observed, &step, &new), [Reason::CodeNotListed]);
    observed.status = new;
    let reworded = stop(Reason::CodeNotListed, "The code is gone, still.");
    let again = fold(pass(&observed, &reworded), now());
    assert_eq!(told(&observed, &reworded, &again), []);
    observed.resource.generation += 1;
    let other = fold(pass(&observed, &step), now());
    assert_eq!(told(&observed, &step, &other), [Reason::CodeNotListed]);
    let well = fold(pass(&observed, &rest()), now());
    assert_eq!(told(&observed, &rest(), &well), [Reason::CodeListed]);
}

#[test]
fn a_retry_is_told_when_its_reason_is_new() {
    let mut observed = settled();
    let step = retry(Reason::Retrying, "no answer", None);
    let new = fold(pass(&observed, &step), now());
    assert_eq!(told(&observed, &step, &new), [Reason::Retrying]);
    observed.status = new.clone();
    assert_eq!(told(&observed, &step, &fold(pass(&observed, &step), now())), []);
}

#[test]
fn a_code_in_plain_text_is_told_and_goes_at_once() {
    let mut observed = settled();
    let shown = PlainCode("visible".into());
    let step = rest();
    let with_plain = Pass {
        plain: Some(&shown),
        ..pass(&observed, &step)
    };
    let new = fold(with_plain, now());
    assert!(new.is_true(ConditionType::CodeExposed) && new.app_code.is_some());
    let notes = notes(with_plain, &observed.status, &new);
    assert_eq!(notes.len(), 1);
    assert!(notes[0].is_warning && notes[0].reason == Reason::PlaintextRequested);
    assert!(!notes[0].text.contains("visible"));
    observed.status = new;
    let hidden = fold(pass(&observed, &step), now());
    assert_eq!(
        (&hidden.app_code, hidden.condition(ConditionType::CodeExposed)),
        (&None, None)
    );
}

#[test]
fn a_note_is_cut_at_a_character_within_the_limit_of_events() {
    let text = note(false, Reason::Adopted, "Adopt", "é".repeat(600)).text;
    assert_eq!(text, "é".repeat(512));
}

#[test]
fn an_adopted_code_is_shown_by_its_fingerprint() {
    let observed = settled();
    let status = &observed.status;
    assert_eq!(status.current.as_ref().unwrap().fingerprint, code(1).short());
    assert_eq!((status.rotation_number, status.phase), (Some(0), Some(Phase::Ready)));
    assert_eq!(ready(status), ("True", "CodeListed"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2048) })]

    #[test]
    fn the_same_pass_again_is_not_worth_a_write(mut o in any_observed()) {
        let step = plan(&o, now());
        // A failed try is counted.
        prop_assume!(!matches!(step, Step::Retry { .. }));
        let new = fold(pass(&o, &step), now());
        let before = std::mem::replace(&mut o.status, new.clone());
        let again = fold(pass(&o, &step), later(60));
        prop_assert!(!is_worth_writing(&new, &again, SignedDuration::from_hours(1)), "{new:#?}\n{again:#?}");
        let told = notes(pass(&o, &step), &before, &new);
        prop_assert!(told.iter().all(|note| !UNTOLD.contains(&note.reason)), "{told:?}");
        prop_assert!(notes(pass(&o, &step), &new, &again).is_empty());
    }

    #[test]
    fn ready_is_always_said_and_true_only_on_evidence(o in any_observed()) {
        let step = plan(&o, now());
        if matches!(step, Step::Gone | Step::BackOff { .. }) {
            return Ok(());
        }
        let new = fold(pass(&o, &step), now());
        let said = new.condition(ConditionType::Ready);
        prop_assert!(said.is_some());
        if new.is_true(ConditionType::Ready) {
            let secret = o.secret.ours().unwrap();
            prop_assert!(secret.code.is_some() && secret.code == secret.record.fingerprint);
            if let Some(app) = o.reading() {
                prop_assert!(!app.masked && secret.code.is_some_and(|code| app.codes.contains(&code)));
            }
        }
        let stalled = matches!(step, Step::Stop { .. });
        prop_assert_eq!(new.is_true(ConditionType::Stalled), stalled);
        prop_assert!(!(stalled && new.is_true(ConditionType::Ready)));
        let mut kinds: Vec<&str> = new.conditions.iter().map(|condition| condition.type_.as_str()).collect();
        kinds.sort_unstable();
        prop_assert!(kinds.windows(2).all(|two| two[0] != two[1]));
        prop_assert!(new.conditions.iter().all(|condition| !condition.reason.is_empty() && condition.message.len() < 1024));
        prop_assert_eq!(new.observed_generation, Some(o.resource.generation));
    }
}
