use pretty_assertions::assert_eq;

use super::*;

#[test]
fn a_resource_that_is_gone_or_held_back_keeps_its_status() {
    let mut o = with(|o| o.resource.generation = 7);
    assert_eq!(folded(&o, &Step::Gone), o.status);
    let held = Step::BackOff {
        after: SignedDuration::from_secs(1),
    };
    assert_eq!(folded(&o, &held), o.status);
    // What was not ready does not expire.
    o.status.last_verified_time = None;
    set_condition(
        &mut o.status,
        ConditionType::Ready,
        "False",
        Reason::Waiting,
        "not yet",
        now(),
    );
    assert_eq!(folded(&o, &held), o.status);
}

#[test]
fn a_refused_schedule_promises_nothing() {
    let mut o = with(|o| wanted(o).schedule = Some(hourly()));
    o.status = folded(&o, &rest());
    assert_eq!(o.status.next_rotation_time, Some(Time(later(3600))));
    let times: Vec<_> = o.status.upcoming.iter().map(|time| time.0).collect();
    assert_eq!(times, [later(3600), later(7200), later(10_800)]);
    o.wanted = Err(Refusal {
        reason: Reason::InvalidSpec,
        message: "wrong".into(),
    });
    let refused = folded(&o, &stop(Reason::InvalidSpec, "wrong"));
    assert_eq!((refused.next_rotation_time, refused.upcoming), (None, Vec::new()));
    assert_eq!(refused.rotation_number, Some(0));
}

#[test]
fn a_completed_rotation_is_shown_once_with_all_that_is_known_of_it() {
    let mut o = completed();
    let intent = ours(&mut o).record.intent.clone().unwrap();
    let wrote = |code, exposure_millis| Happened::Wrote {
        code,
        why: WriteReason::Persist,
        intent: None,
        exposure_millis: Some(exposure_millis),
    };
    let happened = [
        Happened::Abandoned(intent.clone()),
        wrote(code(1), 3),
        wrote(code(2), 40),
    ];
    let step = rest();
    let new = fold(
        Pass {
            happened: &happened,
            ..pass(&o, &step)
        },
        later(60),
    );
    let entry = HistoryEntry {
        rotation_id: intent.rotation_id.to_string(),
        number: 1,
        trigger: Trigger::Spec,
        strategy: Strategy::Reset,
        started_at: Time(now()),
        completed_at: Time(later(5)),
        fingerprint: code(2).short(),
        outcome: Outcome::Recovered,
        exposure_millis: Some(40),
        retired_at: None,
    };
    assert_eq!(new.history, std::slice::from_ref(&entry));
    assert_eq!(
        (new.rotation_number, new.last_rotation_time.clone()),
        (Some(1), Some(Time(later(5))))
    );
    let current = new.current.clone().unwrap();
    assert_eq!((current.fingerprint, current.rotated_at.0), (code(2).short(), later(5)));
    assert_eq!(new.previous.clone().unwrap().fingerprint, code(1).short());
    assert_eq!(new.last_handled_trigger.as_deref(), Some("go"));
    assert_eq!((new.rotation.clone(), new.phase), (None, Some(Phase::Ready)));
    let alone = folded(&o, &step);
    assert_eq!(alone.history[0].exposure_millis, None);
    let other = [wrote(code(1), 3)];
    let other = fold(
        Pass {
            happened: &other,
            ..pass(&o, &step)
        },
        later(60),
    );
    assert_eq!(other.history[0].exposure_millis, None);
    // Once.
    o.status = new;
    let again = folded(&o, &step);
    assert_eq!(again.history, [entry]);
    // A status that is ahead is not set back.
    o.status.rotation_number = Some(4);
    o.status.current.as_mut().unwrap().fingerprint = code(9).short();
    let ahead = folded(&o, &step);
    assert_eq!(ahead.rotation_number, Some(4));
    assert_eq!(ahead.current.unwrap().fingerprint, code(9).short());
}

#[test]
fn what_is_no_rotation_of_ours_makes_no_history() {
    // A code that was taken over.
    assert_eq!(
        (settled().status.last_rotation_time, settled().status.history),
        (None, vec![])
    );
    // A number whose intent is lost, or is another one's.
    for number in [None, Some(9)] {
        let o = {
            let mut o = completed();
            let record = &mut ours(&mut o).record;
            record.intent = record
                .intent
                .take()
                .zip(number)
                .map(|(intent, number)| Intent { number, ..intent });
            o
        };
        let new = folded(&o, &rest());
        assert_eq!((new.rotation_number, new.history), (Some(1), vec![]));
        assert_eq!(new.last_rotation_time, Some(Time(later(5))));
    }
    // Only so many are kept, newest first.
    let mut o = completed();
    let entry = folded(&o, &rest()).history[0].clone();
    let old = |number| HistoryEntry {
        number,
        ..entry.clone()
    };
    o.status.history = vec![old(-1), old(-2), old(-3)];
    let numbers: Vec<_> = folded(&o, &rest()).history.iter().map(|entry| entry.number).collect();
    assert_eq!(numbers, [1, -1, -2]);
    // A record of another app is not published.
    let mut o = completed();
    ours(&mut o).record.app = other_app();
    assert_eq!(folded(&o, &rest()).rotation_number, Some(0));
}

#[test]
fn the_target_moves_once_the_code_is_in_it() {
    let named = |change: fn(&mut Observed)| {
        let o = with(|o| {
            o.status.target.as_mut().unwrap().name = "former".into();
            change(o);
        });
        folded(&o, &rest()).target.unwrap().name
    };
    assert_eq!(named(|_| {}), "target");
    assert_eq!(named(|o| o.status.target = None), "target");
    assert_eq!(named(|o| ours(o).code = None), "former");
    assert_eq!(named(|o| ours(o).is_inherited = true), "former");
    assert_eq!(named(|o| ours(o).record.app = other_app()), "former");
    // A Secret of long ago, and the rotation stands on the one that was left for it.
    let left_at = |number| {
        let mut o = with(|o| o.status.target.as_mut().unwrap().name = "former".into());
        let mut former = ours(&mut o).clone();
        former.record.number = number;
        o.former = SecretView::Ours(former);
        folded(&o, &rest()).target.unwrap().name
    };
    let number = ours(&mut with(|_| ())).record.number;
    assert_eq!(
        (left_at(number + 1).as_str(), left_at(number).as_str()),
        ("former", "target")
    );
    assert_eq!(
        named(|o| {
            ours(o).code = None;
            o.status.target = None;
        }),
        "target"
    );
}

#[test]
fn codes_that_nobody_claims_are_those_still_listed_and_not_ours() {
    let mut o = completed();
    reading(&mut o).codes = vec![code(2), code(3), code(4)];
    let record = &mut ours(&mut o).record;
    record.intent.as_mut().unwrap().unclaimed = vec![code(2), code(3), code(5)];
    assert_eq!(folded(&o, &rest()).unclaimed, [code(3).short()]);
    o.cloud = Cloud::NotAsked;
    o.status.unclaimed = vec!["before".into()];
    assert_eq!(folded(&o, &rest()).unclaimed, ["before"]);
}

#[test]
fn an_open_rotation_is_shown_until_it_is_completed_or_left() {
    let mut o = begun();
    let intent = ours(&mut o).record.intent.clone().unwrap();
    let shown = folded(&o, &wait()).rotation.unwrap();
    assert_eq!(
        (shown.rotation_id, shown.trigger, shown.step, shown.started_at),
        (
            intent.rotation_id.to_string(),
            Trigger::Spec,
            RotationStep::Started,
            Time(now())
        )
    );
    assert_eq!(folded(&o, &wait()).phase, Some(Phase::Rotating));
    assert!(has_open_rotation(&o));
    let closed: [fn(&mut Observed); 6] = [
        // A backup of the Secret was brought back, and its number is mended.
        |o| {
            o.status.rotation_number = Some(1);
            ours(o).record.number = 1;
        },
        |o| ours(o).record.intent.as_mut().unwrap().step = RotationStep::Persisted,
        |o| ours(o).record.intent.as_mut().unwrap().app = other_app(),
        |o| o.status.rotation_number = Some(1),
        |o| ours(o).is_inherited = true,
        |o| o.secret = SecretView::Absent,
    ];
    for close in closed {
        let mut o = begun();
        close(&mut o);
        assert!(!has_open_rotation(&o));
        assert_eq!(folded(&o, &wait()).rotation, None);
    }
    // Nobody knows which app a refused spec is about.
    o.wanted = Err(Refusal {
        reason: Reason::InvalidSpec,
        message: "wrong".into(),
    });
    assert!(has_open_rotation(&o));
}

#[test]
fn a_code_is_verified_by_a_list_that_has_it_and_nothing_else() {
    let verified = |start: fn() -> Observed, step: &Step, change: fn(&mut Observed)| {
        let mut o = start();
        change(&mut o);
        folded(&o, step).last_verified_time != o.status.last_verified_time
    };
    assert!(verified(settled, &rest(), |_| {}));
    assert!(verified(settled, &wait(), |_| {}));
    assert!(!verified(settled, &rest(), |o| o.cloud = Cloud::NotAsked));
    assert!(!verified(settled, &rest(), |o| reading(o).masked = true));
    assert!(!verified(settled, &rest(), |o| reading(o).codes.clear()));
    assert!(!verified(settled, &rest(), |o| ours(o).code = None));
    assert!(!verified(settled, &rest(), |o| ours(o).record.fingerprint = Some(code(2))));
    assert!(!verified(settled, &rest(), |o| ours(o).record.app = other_app()));
    assert!(!verified(begun, &wait(), |_| {}), "the list may be stale");
    assert!(verified(begun, &rest(), |_| {}), "it is left open on purpose");
}

#[test]
fn a_stop_is_a_failure_and_a_wait_keeps_the_last_one() {
    let mut o = with(|o| {
        o.cloud = Cloud::Failed(Failure {
            reason: Reason::AppNotFound,
            message: "gone".into(),
            request_id: Some("request-7".into()),
            is_final: true,
            after: None,
        });
    });
    let step = stop(Reason::AppNotFound, "gone");
    let failures = folded(&o, &step).failures.unwrap();
    let expected = Failures {
        consecutive: 1,
        last_reason: "AppNotFound".into(),
        last_message: "gone".into(),
        last_request_id: Some("request-7".into()),
        next_attempt_time: Some(Time(later(120))),
    };
    assert_eq!(failures, expected);
    let local = with(|_| {});
    assert_eq!(folded(&local, &step).failures.unwrap().last_request_id, None);
    o.status.failures = Some(failures.clone());
    let kept = Failures {
        next_attempt_time: None,
        ..failures
    };
    assert_eq!(folded(&o, &wait()).failures, Some(kept));
    assert_eq!(folded(&o, &rest()).failures, None);
    assert_eq!(folded(&local, &wait()).failures, None);
    // The longer of the two pauses counts.
    let named = folded(&local, &retry(Reason::Retrying, "slow", Some(2)))
        .failures
        .unwrap();
    assert_eq!(named.next_attempt_time.unwrap().0, later(60) + BACKOFF_BASE);
}
