use pretty_assertions::assert_eq;

use super::*;
use crate::intent::Distribution;

const HOUR: i64 = 3600;

/// The rotation of [`completed`] added a code, and the one before works for an hour.
fn handed_over() -> Observed {
    let mut o = completed();
    reading(&mut o).codes = vec![code(1), code(2)];
    let intent = ours(&mut o).record.intent.as_mut().unwrap();
    intent.strategy = Strategy::Overlap;
    intent.step = RotationStep::Distributed;
    intent.distribution = Some(Distribution {
        distributed_at: Some(later(5)),
        ..Distribution::default()
    });
    o
}

fn intent(o: &mut Observed) -> &mut Intent {
    ours(o).record.intent.as_mut().unwrap()
}

fn linger() -> Step {
    Step::Linger {
        reason: Reason::Retiring,
        message: "still works".into(),
        after: SignedDuration::from_secs(9),
    }
}

#[test]
fn a_code_that_is_to_be_retired_is_shown_with_its_time() {
    let retire_after = |change: fn(&mut Observed)| {
        let mut o = handed_over();
        change(&mut o);
        let previous = folded(&o, &linger()).previous.unwrap();
        (previous.fingerprint, previous.retire_after)
    };
    let at = Some(Time(later(5 + HOUR)));
    assert_eq!(retire_after(|_| {}), (code(1).short(), at));
    assert_eq!(retire_after(|o| intent(o).step = RotationStep::Retired).1, None);
    assert_eq!(retire_after(|o| intent(o).distribution = None).1, None);
    let other = retire_after(|o| ours(o).record.previous = Some(code(9)));
    assert_eq!(other, (code(9).short(), None));
}

#[test]
fn a_rotation_is_shown_until_nothing_is_left_to_do_for_it() {
    let o = handed_over();
    let new = folded(&o, &linger());
    let shown = new.rotation.clone().unwrap();
    assert_eq!((shown.step, shown.replaces), (RotationStep::Distributed, None));
    assert_eq!(
        shown.intent,
        Some(
            handed_over()
                .secret
                .ours()
                .unwrap()
                .record
                .intent
                .clone()
                .unwrap()
                .to_text()
        )
    );
    for (step, phase) in [
        (RotationStep::Persisted, Some(Phase::Distributing)),
        (RotationStep::Distributed, Some(Phase::Retiring)),
        (RotationStep::Retiring, Some(Phase::Retiring)),
        (RotationStep::Retired, Some(Phase::Ready)),
    ] {
        let mut o = handed_over();
        intent(&mut o).step = step;
        let new = folded(&o, &linger());
        assert_eq!(
            (new.phase, new.rotation.is_some()),
            (phase, step != RotationStep::Retired),
            "{step:?}"
        );
        assert!(!has_open_rotation(&o));
    }
    let none: [fn(&mut Observed); 4] = [
        |o| intent(o).number = 9,
        |o| intent(o).app = other_app(),
        |o| ours(o).is_inherited = true,
        |o| intent(o).strategy = Strategy::Reset,
    ];
    for change in none {
        let mut o = handed_over();
        change(&mut o);
        assert_eq!(folded(&o, &linger()).rotation, None);
    }
}

#[test]
fn what_a_rotation_replaces_is_carried_over_from_before_its_call() {
    let mut o = handed_over();
    let shown = mirror_before_call(&intent(&mut o).clone());
    assert_eq!(shown.replaces, Some(code(1).short()));
    assert!(shown.intent.is_some());
    o.status.rotation = Some(shown.clone());
    assert_eq!(folded(&o, &linger()).rotation.unwrap().replaces, Some(code(1).short()));
    o.status.rotation.as_mut().unwrap().rotation_id = "another".into();
    assert_eq!(folded(&o, &linger()).rotation.unwrap().replaces, None);
    // What is kept to be found again is what adds a code beside another one.
    for (strategy, base, is_kept) in [
        (Strategy::Overlap, Some(code(1)), true),
        (Strategy::Overlap, None, false),
        (Strategy::Reset, Some(code(1)), false),
    ] {
        let mut o = handed_over();
        let intent = intent(&mut o);
        (intent.strategy, intent.base) = (strategy, base);
        let shown = mirror_before_call(intent);
        assert_eq!(
            (shown.intent.is_some(), shown.replaces),
            (is_kept, base.map(|base| base.short()))
        );
    }
}

#[test]
fn a_rotation_whose_secret_is_gone_is_shown_from_status() {
    let mut o = begun();
    intent(&mut o).strategy = Strategy::Overlap;
    o.mirror = Some(intent(&mut o).clone());
    o.secret = SecretView::Absent;
    assert!(has_open_rotation(&o));
    assert!(folded(&o, &wait()).rotation.is_some());
    o.status.rotation_number = Some(1);
    assert!(!has_open_rotation(&o));
    // Completed, and the code before is still to be retired.
    let mut o = handed_over();
    o.mirror = Some(intent(&mut o).clone());
    o.secret = SecretView::Absent;
    o.status.rotation_number = Some(1);
    assert!(folded(&o, &linger()).rotation.is_some());
    o.status.rotation_number = Some(2);
    assert_eq!(folded(&o, &linger()).rotation, None);
}

#[test]
fn lingering_is_no_failure_and_hides_none() {
    let mut o = handed_over();
    o.status.failures = Some(Failures {
        consecutive: 2,
        last_reason: "Retrying".into(),
        last_message: String::new(),
        last_request_id: None,
        next_attempt_time: Some(Time(now())),
    });
    let new = folded(&o, &linger());
    let failures = new.failures.clone().unwrap();
    assert_eq!((failures.consecutive, failures.next_attempt_time), (2, None));
    assert_eq!(
        condition(&new, ConditionType::Reconciling),
        said("True", Reason::Retiring)
    );
    assert_eq!(condition(&new, ConditionType::Ready), said("True", Reason::CodeListed));
}

#[test]
fn a_code_that_went_on_working_was_not_exposed_and_its_end_is_noted() {
    let mut o = handed_over();
    let happened = [Happened::Wrote {
        code: code(2),
        why: WriteReason::Persist,
        intent: None,
        exposure_millis: Some(40),
    }];
    let step = linger();
    let new = fold(
        Pass {
            happened: &happened,
            ..pass(&o, &step)
        },
        later(60),
    );
    assert_eq!(
        (new.history[0].exposure_millis, new.history[0].retired_at.clone()),
        (None, None)
    );
    let mut other = new.history[0].clone();
    other.rotation_id = "another".into();
    o.status = new;
    o.status.history.push(other);
    let intent = intent(&mut o).clone();
    let (gone, left) = (intent.retired(false), intent.retired(true));
    let retired = |done: &Intent| {
        let mut o = o.clone();
        *self::intent(&mut o) = done.clone();
        let happened: Vec<_> = (*done == left)
            .then(|| Happened::NotRetired(done.clone()))
            .into_iter()
            .collect();
        let pass = Pass {
            happened: &happened,
            ..pass(&o, &step)
        };
        let new = fold(pass, later(70));
        let told: Vec<_> = notes(pass, &o.status, &new)
            .into_iter()
            .map(|note| (note.is_warning, note.reason, note.text))
            .collect();
        let ends: Vec<_> = new.history.into_iter().map(|entry| entry.retired_at).collect();
        (ends, told)
    };
    let (ends, told) = retired(&gone);
    assert_eq!(ends, [Some(Time(later(70))), None]);
    let text = format!(
        "Code {} of app ours, which rotation {} replaced, is gone from the cloud and works no more.",
        code(1).short(),
        intent.rotation_id
    );
    assert_eq!(told, [(false, Reason::Retired, text)]);
    let (ends, told) = retired(&left);
    assert_eq!(ends, [None, None]);
    assert_eq!((told[0].0, told[0].1), (true, Reason::NotRetired));
    assert!(told[0].2.contains(&code(1).short()), "{told:?}");
}
