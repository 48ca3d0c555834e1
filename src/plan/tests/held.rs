use super::*;
use crate::api::Outcome;

fn hold(o: &mut Observed, number: u8) {
    let intent = intent(o).clone();
    o.memory.held = Some(Held {
        intent,
        code: code(number),
    });
}

#[test]
fn a_code_that_only_this_process_holds_is_saved_or_dropped() {
    let start = || {
        begun_with(|o| {
            list(o, &[2]);
            hold(o, 2);
        })
    };
    fn number(o: &mut Observed, number: i64) {
        o.memory.held.as_mut().unwrap().intent.number = number;
    }
    fn another(o: &mut Observed) {
        o.memory.held.as_mut().unwrap().intent.rotation_id = crate::ids::RotationId::from_random(99);
    }
    fn unlisted(o: &mut Observed, settled: i64) {
        list(o, &[1]);
        let code = code(2).to_string();
        settle(o, Question::NotListed { code }, settled);
    }
    fn outdated(o: &mut Observed, settled: Option<i64>) {
        unlisted(o, 120);
        let intent = &mut o.memory.held.as_mut().unwrap().intent;
        intent.updated_at = Some(100);
        let intent = intent.clone();
        reading(o).updated_at = Some(99);
        if let Some(seconds) = settled {
            settle_outdated(o, &intent, seconds);
        }
    }
    check(
        start,
        &[
            ("its intent waits", |_| {}, "write Persist"),
            (
                "another app",
                |o| o.memory.held.as_mut().unwrap().intent.app = other_app(),
                "drop",
            ),
            ("completed already", |o| o.status.rotation_number = Some(1), "drop"),
            ("not listed", |o| list(o, &[1]), "settle"),
            ("not listed still", |o| unlisted(o, 119), "wait Settling"),
            ("not listed for long", |o| unlisted(o, 120), "drop"),
            ("not on a list from before", |o| outdated(o, None), "settle"),
            ("nor on another", |o| outdated(o, Some(1799)), "wait Settling"),
            (
                "not on a list from before for long",
                |o| outdated(o, Some(1800)),
                "drop",
            ),
            (
                "not on the first list from after the call",
                |o| {
                    outdated(o, Some(1800));
                    o.memory.settling.remove(0);
                    reading(o).updated_at = Some(100);
                },
                "settle",
            ),
            ("the Secret is gone", |o| o.secret = SecretView::Absent, "create"),
            ("another rotation of this number is open", another, "drop"),
            (
                "an older rotation is open",
                |o| {
                    another(o);
                    number(o, 2);
                },
                "write Persist",
            ),
            (
                "a newer one is recorded",
                |o| {
                    ours(&mut o.secret).record.number = 2;
                },
                "drop",
            ),
            (
                "an older one is recorded",
                |o| {
                    number(o, 2);
                    let record = &mut ours(&mut o.secret).record;
                    record.number = 1;
                    record.intent = None;
                },
                "write Persist",
            ),
        ],
    );
    let mut o = start();
    let Step::WriteCode {
        code: saved, record, ..
    } = plan(&o, now())
    else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!((saved, record.number), (code(2), 1));
    assert_eq!(record.intent.unwrap().outcome, Some(Outcome::Completed));
    o.secret = SecretView::Absent;
    let Step::CreateSecret { secret, record } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    let held = o.memory.held.clone().unwrap();
    assert_eq!(
        (secret.as_str(), record.number, record.intent),
        ("target", 0, Some(held.intent))
    );
}

#[test]
fn a_code_is_saved_with_what_was_handled_even_where_the_secret_comes_from_a_backup() {
    let o = begun_with(|o| {
        list(o, &[2]);
        hold(o, 2);
        intent(o).number = 3;
        let held = &mut o.memory.held.as_mut().unwrap().intent;
        (held.number, held.consumed.trigger) = (3, None);
        wanted(o).trigger = Some("two".into());
        o.status.rotation_number = Some(2);
        o.status.last_handled_trigger = Some("two".into());
        o.status.last_handled_request = Some("please".into());
        let record = &mut ours(&mut o.secret).record;
        (record.number, record.intent) = (1, None);
        record.handled_trigger = Some("one".into());
    });
    match plan(&o, now()) {
        Step::WriteCode { record, .. } => {
            assert_eq!((record.number, record.handled_trigger.as_deref()), (3, Some("two")));
            assert_eq!(record.handled_request.as_deref(), Some("please"));
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn what_is_being_settled_begins_anew_once_a_list_says_otherwise() {
    let mut o = begun_with(|o| {
        list(o, &[1]);
        let code = code(2).to_string();
        settle(o, Question::NotListed { code }, 1);
    });
    o.memory.settle_by(&[code(1)]);
    assert_eq!(o.memory.settling.len(), 1);
    o.memory.settle_by(&[code(1), code(2)]);
    assert_eq!(o.memory.settling, []);
}

/// Another replica has made it while this one stood still in the middle of its call.
#[test]
fn what_a_later_attempt_has_made_is_left_over_where_the_code_of_an_earlier_one_is_saved() {
    let mut o = begun_with(|o| {
        hold(o, 2);
        list(o, &[2, 3, 4]);
        intent(o).attempt = 2;
        o.siblings = vec![Sibling {
            holds: vec![code(4)],
            ..sibling()
        }];
    });
    let saved = |o: &Observed| match plan(o, now()) {
        Step::WriteCode { code, record, .. } => (code, record.intent.unwrap()),
        step => panic!("{step:?}"),
    };
    let (made, written) = saved(&o);
    assert_eq!((made, written.attempt, written.unclaimed), (code(2), 2, vec![code(3)]));
    intent(&mut o).attempt = 1;
    let (made, written) = saved(&o);
    assert_eq!((made, written.attempt, written.unclaimed), (code(2), 1, vec![]));
}

#[test]
fn a_code_is_rescued_for_a_resource_that_goes_or_whose_spec_is_refused() {
    let going = || {
        begun_with(|o| {
            list(o, &[2]);
            hold(o, 2);
            o.resource.deleting = true;
        })
    };
    fn unlisted(o: &mut Observed, settled: i64) {
        list(o, &[1]);
        let code = code(2).to_string();
        settle(o, Question::NotListed { code }, settled);
    }
    check(
        going,
        &[
            ("listed", |_| {}, "write Persist"),
            ("nothing is held", |o| o.memory.held = None, "gone"),
            ("not asked yet", |o| o.cloud = Cloud::NotAsked, "ask"),
            ("postponed", |o| o.cloud = Cloud::Postponed(secs(1)), "gone"),
            ("masked", |o| reading(o).masked = true, "gone"),
            ("unsupported", |o| reading(o).is_supported = false, "gone"),
            ("may not be written", |o| o.secret_refused = Some("no".into()), "gone"),
            ("not listed", |o| list(o, &[1]), "settle"),
            ("not listed still", |o| unlisted(o, 119), "gone"),
            ("not listed for long", |o| unlisted(o, 120), "drop"),
            ("locked", |o| ours(&mut o.secret).locked = Some(Lock::Immutable), "drop"),
            ("the Secret is gone", |o| o.secret = SecretView::Absent, "drop"),
            (
                "the Secret may not be read",
                |o| o.secret = SecretView::Forbidden("no get".into()),
                "gone",
            ),
            (
                "the Secret may not have been read for a day",
                |o| {
                    o.secret = SecretView::Forbidden("no get".into());
                    o.memory.held.as_mut().unwrap().intent.marked_at = ago(24 * 3600);
                },
                "drop",
            ),
            ("completed", |o| o.status.rotation_number = Some(1), "drop"),
            (
                "another rotation is open",
                |o| intent(o).rotation_id = crate::ids::RotationId::from_random(99),
                "drop",
            ),
            (
                "it was made for another app",
                |o| o.memory.held.as_mut().unwrap().intent.app = other_app(),
                "drop",
            ),
            ("spec names another app", |o| wanted(o).app = other_app(), "drop"),
        ],
    );
    let refused = || {
        let mut o = going();
        o.resource.deleting = false;
        o.wanted = Err(Refusal {
            reason: Reason::InvalidSpec,
            message: "wrong".into(),
        });
        o
    };
    check(
        refused,
        &[
            ("listed", |_| {}, "write Persist"),
            (
                "the Secret is gone",
                |o| o.secret = SecretView::Absent,
                "stop InvalidSpec",
            ),
            ("not listed for long", |o| unlisted(o, 120), "drop"),
        ],
    );
    let Step::WriteCode {
        secret,
        code: saved,
        record,
        why,
    } = plan(&going(), now())
    else {
        panic!("{:?}", plan(&going(), now()))
    };
    assert_eq!((secret.as_str(), saved, why), ("target", code(2), WriteReason::Persist));
    assert_eq!(record.intent.unwrap().outcome, Some(Outcome::Completed));
}
