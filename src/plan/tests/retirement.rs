use super::*;
use crate::api::{RotationStep, Strategy};
use crate::intent::{Call, Distribution};
use crate::status::mirror_before_call;

const HOUR: i64 = 3600;

fn overlapping(o: &mut Observed) {
    wanted(o).handover.strategy = Strategy::Overlap;
    o.resource.has_finalizer = true;
    ask(o);
}

/// A second code is asked for and the call was marked just now.
fn adding() -> Observed {
    let mut o = with(overlapping);
    let Step::WriteIntent { record, .. } = plan(&o, now()) else {
        panic!("a rotation begins: {:?}", plan(&o, now()))
    };
    ours(&mut o.secret).record = record;
    o.draw += 1;
    o
}

/// The second code is in the Secret since so long, and the code before still works.
fn handed_over_since(seconds: i64) -> Observed {
    let mut o = adding();
    let marked = intent(&mut o).clone();
    list(&mut o, &[1, 2]);
    let app = reading(&mut o);
    app.updated_at = app.updated_at.map(|at| at + 1);
    let Step::WriteCode { record, code: made, .. } = plan(&o, now()) else {
        panic!("it is persisted: {:?}", plan(&o, now()))
    };
    assert_eq!(made, code(2));
    let secret = ours(&mut o.secret);
    (secret.record, secret.code) = (record, Some(code(2)));
    o.status.rotation = Some(mirror_before_call(&marked));
    o.status.last_handled_trigger = Some("go".into());
    o.status.current.as_mut().unwrap().fingerprint = code(2).short();
    rotated(&mut o, 1, seconds);
    o.resource.has_finalizer = true;
    distributed(&mut o, seconds);
    o
}

fn distributed(o: &mut Observed, seconds: i64) {
    intent(o).distribution.as_mut().unwrap().distributed_at = Some(ago(seconds));
}

/// The code before may be deleted now.
fn due() -> Observed {
    handed_over_since(HOUR)
}

/// It was deleted so long ago, as far as anybody knows.
fn deleting(o: &mut Observed, seconds: i64) {
    let marked = intent(o).next_retirement(ago(seconds));
    *intent(o) = marked;
}

fn base_is_gone(o: &mut Observed) {
    list(o, &[2]);
}

fn gone(settled: i64) -> impl Fn(&mut Observed) {
    move |o| {
        base_is_gone(o);
        settle_outcome(o, settled);
    }
}

#[test]
fn a_second_code_is_added_where_there_is_a_place_for_it() {
    let o = with(overlapping);
    let Step::WriteIntent { record, .. } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    let intent = record.intent.unwrap();
    assert_eq!(
        (intent.strategy, intent.call, intent.base),
        (Strategy::Overlap, Call::Add, Some(code(1)))
    );
    check(
        settled,
        &[
            (
                "four codes",
                |o| {
                    overlapping(o);
                    list(o, &[1, 2, 3, 4]);
                },
                "intent",
            ),
            (
                "five codes",
                |o| {
                    overlapping(o);
                    o.resource.has_finalizer = false;
                    list(o, &[1, 2, 3, 4, 5]);
                },
                "stop CapacityExhausted",
            ),
            (
                "five codes, and a reset",
                |o| {
                    ask(o);
                    list(o, &[1, 2, 3, 4, 5]);
                },
                "intent",
            ),
        ],
    );
    // A first code is added in any case.
    let first = with(|o| {
        overlapping(o);
        o.secret = SecretView::Absent;
        o.status = crate::api::AppCodeRotationStatus::default();
        list(o, &[]);
    });
    assert_eq!(decided(&first), "intent");
    let full = plan(
        &with(|o| {
            overlapping(o);
            o.resource.has_finalizer = false;
            list(o, &[1, 2, 3, 4, 5]);
        }),
        now(),
    );
    assert!(
        message(&full).contains("Reset, which kills the old code at once"),
        "{full:?}"
    );
}

#[test]
fn an_addition_is_repeated_only_while_it_is_wanted_and_has_a_place() {
    let lost = || {
        let mut o = adding();
        intent(&mut o).marked_at = ago(9000);
        settle_outcome(&mut o, 9000);
        o
    };
    check(
        lost,
        &[
            ("wanted", |_| {}, "intent"),
            // Nothing is left to be deleted, so nothing holds the resource.
            ("held", |o| wanted(o).suspend = true, "release"),
            ("withdrawn", |o| wanted(o).trigger = None, "release"),
            (
                "held, and released",
                |o| {
                    wanted(o).suspend = true;
                    o.resource.has_finalizer = false;
                },
                "rest",
            ),
            (
                "no place",
                |o| {
                    list(o, &[1, 3, 4, 5, 6]);
                    intent(o).known.extend([3, 4, 5, 6].map(code));
                    settle_outcome(o, 9000);
                },
                "stop CapacityExhausted",
            ),
            (
                "another one named",
                |o| {
                    list(o, &[1, 3]);
                    intent(o).known.push(code(3));
                    settle_outcome(o, 9000);
                    o.resource.adopt = Some(code(3).short());
                },
                "write Persist",
            ),
            (
                "the present one named",
                |o| o.resource.adopt = Some(code(1).short()),
                "intent",
            ),
        ],
    );
}

#[test]
fn two_additions_at_a_time_are_a_persons_to_tell_apart() {
    fn other(o: &mut Observed, adds: bool, marked: i64, base: u8) {
        list(o, &[1, 2]);
        reading(o).updated_at = Some(i64::MAX);
        let marked_at = intent(o).marked_at - secs(marked);
        let open = OpenSibling {
            base: Some(code(base)),
            marked_at,
            adds,
        };
        o.siblings.push(Sibling {
            open: Some(open),
            ..sibling()
        });
    }
    let long_ago = || {
        let mut o = adding();
        intent(&mut o).marked_at = ago(9000);
        o
    };
    check(
        long_ago,
        &[
            (
                "alone",
                |o| {
                    other(o, true, 0, 1);
                    o.siblings.clear();
                },
                "write Persist",
            ),
            ("it resets", |o| other(o, false, 0, 1), "write Persist"),
            ("together", |o| other(o, true, 0, 1), "stop AmbiguousOutcome"),
            ("a while before", |o| other(o, true, 360, 1), "stop AmbiguousOutcome"),
            ("long before", |o| other(o, true, 361, 1), "write Persist"),
            ("a while after", |o| other(o, true, -360, 1), "stop AmbiguousOutcome"),
            ("long after", |o| other(o, true, -361, 1), "write Persist"),
            (
                "answered",
                |o| {
                    other(o, true, 0, 1);
                    o.resource.adopt = Some(code(2).short());
                },
                "write Persist",
            ),
            (
                "ours resets",
                |o| {
                    other(o, true, 0, 2);
                    intent(o).call = Call::Reset;
                    list(o, &[2, 3]);
                    intent(o).known.push(code(2));
                },
                "write Persist",
            ),
        ],
    );
}

#[test]
fn a_code_is_persisted_with_what_is_left_to_do_for_it() {
    let mut o = handed_over_since(0);
    let written = intent(&mut o);
    assert_eq!(written.step, RotationStep::Distributed);
    let expected = Distribution {
        distributed_at: Some(now()),
        ..Distribution::default()
    };
    assert_eq!(written.distribution, Some(expected));
    assert_eq!(written.retires(), Some(code(1)));
}

#[test]
fn the_finalizer_stands_while_a_code_is_to_be_retired() {
    check(
        || handed_over_since(0),
        &[
            ("pending", |_| {}, "linger Retiring"),
            ("not held yet", |o| o.resource.has_finalizer = false, "hold"),
            ("retired", |o| intent(o).step = RotationStep::Retired, "release"),
            (
                "not held yet, and due",
                |o| {
                    distributed(o, HOUR);
                    o.resource.has_finalizer = false;
                },
                "hold",
            ),
        ],
    );
    // A rotation that is not the last one has nothing left to retire.
    let mut o = due();
    rotated(&mut o, 2, HOUR);
    assert_eq!(decided(&o), "release");
    o.resource.has_finalizer = false;
    assert_eq!(decided(&o), "rest");
    check(
        settled,
        &[
            ("a leftover", |o| o.resource.has_finalizer = true, "release"),
            ("nothing", |_| {}, "rest"),
        ],
    );
}

#[test]
fn the_code_before_works_until_its_grace_period_is_over() {
    let at = |seconds: i64, grace: i64| {
        let mut o = handed_over_since(seconds);
        wanted(&mut o).handover.grace = secs(grace);
        plan(&o, now())
    };
    assert_eq!(word(&at(-50, 1800)), "record", "a time still to come is put right");
    for (seconds, grace, left) in [(0, 1800, 1800), (1799, 1800, 1), (0, 2 * HOUR, HOUR)] {
        let step = at(seconds, grace);
        assert_eq!((word(&step).as_str(), pause(&step)), ("linger Retiring", secs(left)));
    }
    assert_eq!(word(&at(1800, 1800)), "intent");
    assert_eq!(word(&at(0, 0)), "intent");
    // Not asked, it is looked at again with the next check at the latest.
    let mut o = handed_over_since(0);
    o.cloud = Cloud::NotAsked;
    wanted(&mut o).handover.grace = secs(9 * HOUR);
    o.status.last_verified_time = Some(Time(ago(600)));
    let step = plan(&o, now());
    assert!(
        pause(&step) <= secs(HOUR - 600) && pause(&step) > secs(HOUR - 600 - HOUR / 10),
        "{step:?}"
    );
    check(
        || handed_over_since(0),
        &[
            ("held", |o| wanted(o).suspend = true, "rest"),
            (
                "due and held",
                |o| {
                    distributed(o, HOUR);
                    wanted(o).suspend = true;
                },
                "rest",
            ),
        ],
    );
}

#[test]
fn what_is_asked_for_meanwhile_starts_after_that() {
    let asked = || {
        let mut o = handed_over_since(0);
        o.limits.minimum_interval = SignedDuration::ZERO;
        wanted(&mut o).trigger = Some("more".into());
        o
    };
    let step = plan(&asked(), now());
    assert_eq!(word(&step), "linger Retiring");
    assert!(
        message(&step).contains("what is asked for now starts after that"),
        "{step:?}"
    );
    assert!(!message(&plan(&handed_over_since(0), now())).contains("asked for"));
    check(
        asked,
        &[
            (
                "not asked of the cloud",
                |o| o.cloud = Cloud::NotAsked,
                "linger Retiring",
            ),
            (
                "retired",
                |o| {
                    intent(o).step = RotationStep::Retired;
                    o.resource.has_finalizer = false;
                },
                "hold",
            ),
        ],
    );
    check(
        due,
        &[
            (
                "the cloud is asked once it is over",
                |o| o.cloud = Cloud::NotAsked,
                "ask",
            ),
            (
                "not while it is held",
                |o| {
                    o.cloud = Cloud::NotAsked;
                    wanted(o).suspend = true;
                },
                "rest",
            ),
        ],
    );
}

#[test]
fn the_code_before_is_deleted_after_a_mark() {
    let o = due();
    let Step::WriteIntent { secret, record } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    let before = o.intent().unwrap().clone();
    let expected = Intent {
        step: RotationStep::Retiring,
        call: Call::Delete,
        attempt: before.attempt + 1,
        marked_at: now(),
        ..before
    };
    assert_eq!((secret.as_str(), record.intent), ("target", Some(expected)));
    assert_eq!((record.number, record.fingerprint), (1, Some(code(2))));
    // A Secret that has forgotten which code that is learns it again.
    let mut o = due();
    ours(&mut o.secret).record.previous = None;
    assert!(matches!(plan(&o, now()), Step::WriteIntent { record, .. } if record.previous == Some(code(1))));
    check(
        due,
        &[
            ("this process ends", |o| o.may_mutate = false, "wait Waiting"),
            (
                "marked",
                |o| {
                    deleting(o, 0);
                    o.memory.marked = Some(Attempt::of(intent(o)));
                },
                "mutate",
            ),
            (
                "marked to be added, and found by another process",
                |o| o.memory.marked = Some(Attempt::of(intent(o))),
                "intent",
            ),
            ("gone by another hand", base_is_gone, "settle"),
            ("gone by another hand, for a while", |o| gone(119)(o), "wait Settling"),
            ("gone by another hand, for sure", |o| gone(120)(o), "record"),
            (
                "gone by ours",
                |o| {
                    deleting(o, 0);
                    base_is_gone(o);
                },
                "record",
            ),
            ("listed still", |o| deleting(o, 0), "linger Retiring"),
            ("listed for long", |o| deleting(o, 240), "intent"),
            ("marked by a clock that was set back", |o| deleting(o, -1), "intent"),
            (
                "certainly not deleted",
                |o| {
                    deleting(o, 0);
                    o.memory.not_applied = Some(Attempt::of(intent(o)));
                },
                "intent",
            ),
        ],
    );
    for (ago, left) in [(0, 240), (239, 1)] {
        let mut o = due();
        deleting(&mut o, ago);
        assert_eq!(pause(&plan(&o, now())), secs(left));
    }
}

/// What is left over once the code before is retired, or none if it is not yet.
fn left(o: &Observed) -> Option<Vec<Fingerprint>> {
    match plan(o, now()) {
        Step::WriteRecord { secret, record } => {
            assert_eq!(secret, "target");
            let intent = record.intent.unwrap();
            assert_eq!(intent.step, RotationStep::Retired);
            Some(intent.unclaimed)
        }
        _ => None,
    }
}

#[test]
fn a_code_on_which_status_and_the_secret_do_not_agree_is_left() {
    let of = |change: fn(&mut Observed)| {
        let mut o = due();
        change(&mut o);
        let first = left(&o);
        settle_outcome(&mut o, 120);
        let then = left(&o);
        assert!(first.is_none() || first == then);
        then
    };
    let is_left = Some(vec![code(1)]);
    assert_eq!(of(|_| {}), None, "it is deleted");
    // Another process may have written status since it was read, so that is looked at once more.
    let mut o = due();
    o.status.rotation = None;
    assert_eq!(left(&o), None);
    assert_eq!(
        of(|o| ours(&mut o.secret).record.previous = None),
        None,
        "forgotten is not otherwise"
    );
    assert_eq!(of(|o| o.status.rotation = None), is_left);
    assert_eq!(of(|o| o.status.rotation.as_mut().unwrap().replaces = None), is_left);
    assert_eq!(
        of(|o| o.status.rotation.as_mut().unwrap().replaces = Some(code(9).short())),
        is_left
    );
    assert_eq!(
        of(|o| o.status.rotation.as_mut().unwrap().rotation_id = "another".into()),
        is_left
    );
    assert_eq!(of(|o| ours(&mut o.secret).record.previous = Some(code(9))), is_left);
    // Wanted back by a spec that names it anew; one that names it still says nothing new.
    assert_eq!(of(|o| seed(o, 1, false)), is_left);
    let named_before = |o: &mut Observed| {
        seed(o, 1, false);
        ours(&mut o.secret).record.seed = Some(code(1));
    };
    assert_eq!(of(named_before), None);
    let claim = |o: &mut Observed| {
        o.siblings = vec![Sibling {
            is_older: false,
            holds: vec![code(1)],
            ..sibling()
        }];
    };
    assert_eq!(of(claim), is_left);
    let mut o = due();
    gone(120)(&mut o);
    assert_eq!(left(&o), Some(Vec::new()), "nothing is left of what is gone");
}

#[test]
fn a_deleted_resource_is_held_for_two_minutes_at_most() {
    fn going(grace: i64, held: i64) -> Observed {
        let mut o = handed_over_since(0);
        wanted(&mut o).handover.grace = secs(grace);
        o.resource.deleting = true;
        o.resource.held_since = Some(ago(held));
        o
    }
    check(
        || going(0, 0),
        &[
            ("at once", |_| {}, "intent"),
            ("not asked", |o| o.cloud = Cloud::NotAsked, "ask"),
            ("masked", |o| reading(o).masked = true, "release"),
            ("unsupported", |o| reading(o).is_supported = false, "release"),
            (
                "may not be written",
                |o| o.secret_refused = Some("no".into()),
                "release",
            ),
            ("postponed", |o| o.cloud = Cloud::Postponed(secs(1)), "linger Retiring"),
            ("held by suspend", |o| wanted(o).suspend = true, "release"),
            (
                "nothing to retire",
                |o| intent(o).step = RotationStep::Retired,
                "release",
            ),
            ("without a finalizer", |o| o.resource.has_finalizer = false, "gone"),
            ("not held", |o| o.resource.held_since = None, "gone"),
            (
                "a refused spec",
                |o| {
                    o.wanted = Err(Refusal {
                        reason: Reason::InvalidSpec,
                        message: "wrong".into(),
                    });
                },
                "release",
            ),
            (
                "gone",
                |o| {
                    deleting(o, 0);
                    base_is_gone(o);
                },
                "record",
            ),
            ("gone by another hand", base_is_gone, "settle"),
            ("named back as the seed", |o| seed(o, 1, false), "record"),
            (
                "named back after the mark",
                |o| {
                    deleting(o, 0);
                    o.memory.marked = Some(Attempt::of(intent(o)));
                    seed(o, 1, false);
                },
                "record",
            ),
            ("this process ends", |o| o.may_mutate = false, "linger Retiring"),
        ],
    );
    for (is_final, expected) in [(true, "release"), (false, "linger Retiring")] {
        let mut o = going(0, 0);
        o.cloud = Cloud::Failed(failure(Reason::NotAuthorized, is_final));
        assert_eq!(decided(&o), expected);
    }
    for (grace, held, expected) in [
        (0, 119, "intent"),
        (0, 120, "release"),
        (60, 0, "linger Retiring"),
        (120, 0, "linger Retiring"),
        (121, 0, "release"),
        (60, 60, "linger Retiring"),
        (61, 60, "release"),
        (60, -500, "linger Retiring"),
    ] {
        assert_eq!(decided(&going(grace, held)), expected, "{grace} {held}");
    }
    // A cloud that does not answer is asked again soon. No pause is longer than the hold.
    let mut o = going(0, 0);
    o.cloud = Cloud::Postponed(secs(1));
    assert_eq!(pause(&plan(&o, now())), secs(20));
    assert_eq!(pause(&plan(&going(60, 0), now())), secs(60));
    let mut o = going(0, 100);
    o.cloud = Cloud::Postponed(secs(1));
    assert_eq!(pause(&plan(&o, now())), secs(20));
    o.resource.held_since = Some(ago(110));
    assert_eq!(pause(&plan(&o, now())), secs(10));
    let mut o = going(0, 0);
    deleting(&mut o, 0);
    assert_eq!(pause(&plan(&o, now())), secs(120));
}

#[test]
fn a_rotation_is_found_again_in_status_when_its_secret_is_gone() {
    let lost = || {
        let mut o = adding();
        o.mirror = Some(intent(&mut o).clone());
        o.secret = SecretView::Absent;
        o
    };
    let o = lost();
    let Step::CreateSecret { secret, record } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!((secret.as_str(), record.intent), ("target", o.mirror.clone()));
    check(
        lost,
        &[
            ("not asked", |o| o.cloud = Cloud::NotAsked, "ask"),
            ("completed", |o| o.status.rotation_number = Some(1), "create"),
            (
                "of another app",
                |o| o.mirror.as_mut().unwrap().app = other_app(),
                "create",
            ),
        ],
    );
    let number = |change: fn(&mut Observed)| {
        let mut o = adding();
        o.mirror = Some(intent(&mut o).clone());
        change(&mut o);
        o.intent().map(|intent| (intent.number, intent.attempt))
    };
    fn mirrored(o: &mut Observed, number: i64) {
        let mirror = o.mirror.as_mut().unwrap();
        (mirror.number, mirror.attempt) = (number, 9);
    }
    assert_eq!(number(|o| mirrored(o, 0)), Some((1, 1)));
    assert_eq!(
        number(|o| mirrored(o, 1)),
        Some((1, 9)),
        "of two that are equal the later attempt"
    );
    assert_eq!(number(|o| mirrored(o, 2)), Some((2, 9)), "the Secret is older");
    assert_eq!(number(|o| o.secret = SecretView::Absent), Some((1, 1)));
    assert_eq!(
        number(|o| {
            o.secret = SecretView::Absent;
            o.mirror = None;
        }),
        None
    );
    assert_eq!(number(|o| wanted(o).app = other_app()), None);
}

#[test]
fn each_step_of_a_rotation_says_what_is_left_of_it() {
    use RotationStep::{Distributed, Persisted, Retired, Retiring, Started};
    let mut o = due();
    let whole = intent(&mut o).clone();
    let of = |step, strategy, base: bool, distribution: bool| {
        let intent = Intent {
            step,
            strategy,
            base: whole.base.filter(|_| base),
            distribution: whole.distribution.clone().filter(|_| distribution),
            ..whole.clone()
        };
        (
            intent.retires().is_some(),
            intent.is_undistributed(),
            intent.is_unfinished(),
        )
    };
    assert_eq!(of(Started, Strategy::Overlap, true, true), (false, false, true));
    assert_eq!(of(Persisted, Strategy::Overlap, true, true), (true, true, true));
    assert_eq!(of(Distributed, Strategy::Overlap, true, true), (true, false, true));
    assert_eq!(of(Retiring, Strategy::Overlap, true, true), (true, false, true));
    assert_eq!(of(Retired, Strategy::Overlap, true, true), (false, false, false));
    assert_eq!(of(Persisted, Strategy::Overlap, false, false), (false, false, false));
    assert_eq!(of(Persisted, Strategy::Reset, true, true), (false, true, true));
    assert_eq!(of(Persisted, Strategy::Reset, true, false), (false, false, false));
    assert_eq!(of(Distributed, Strategy::Reset, true, true), (false, false, false));
    // When it may retire its base.
    let at = |step, distributed_at: Option<i64>| {
        let intent = Intent {
            step,
            distribution: Some(Distribution {
                distributed_at: distributed_at.map(ago),
                ..Distribution::default()
            }),
            ..whole.clone()
        };
        retires_at(&intent, secs(100), now())
    };
    assert_eq!(at(Distributed, Some(30)), Some(now() + secs(70)));
    assert_eq!(at(Retiring, Some(-30)), None, "written by a clock that ran ahead");
    assert_eq!(at(Distributed, None), None);
    assert_eq!(at(Persisted, Some(30)), None);
    assert_eq!(at(Retired, Some(30)), None);
    assert_eq!(
        retires_at(
            &Intent {
                distribution: None,
                ..whole.clone()
            },
            secs(100),
            now()
        ),
        None
    );
    assert_eq!(retires_at(&whole, SignedDuration::MAX, now()), Some(Timestamp::MAX));
    // What was noted first stays.
    let again = whole
        .distributed(Some(ago(5)), ago(4))
        .distributed(Some(ago(3)), ago(2));
    let distribution = again.distribution.unwrap();
    assert_eq!(
        (distribution.verified_at, distribution.distributed_at),
        (Some(ago(5)), Some(ago(2)))
    );
    assert_eq!(again.step, Distributed);
}

#[test]
fn a_code_that_the_cloud_does_not_delete_is_left_after_ten_refusals() {
    let refused = |times: usize| {
        let mut o = due();
        let intent = intent(&mut o).clone();
        (0..times).for_each(|_| o.memory.refuse(&intent, "no".into()));
        o
    };
    assert_eq!(left(&refused(9)), None);
    assert_eq!(left(&refused(10)), Some(vec![code(1)]));
    // Each process that ended has taken its count along.
    let after = |hours, attempts, times| {
        let mut o = refused(times);
        intent(&mut o).attempt = attempts;
        let done = intent(&mut o).distribution.as_mut().unwrap();
        done.distributed_at = done.distributed_at.map(|at| at - SignedDuration::from_hours(hours));
        left(&o)
    };
    assert_eq!(
        (after(71, 11, 1), after(73, 10, 1), after(73, 11, 0)),
        (None, None, None)
    );
    assert_eq!(after(73, 11, 1), Some(vec![code(1)]));
    let mut o = refused(10);
    o.memory.refusals.as_mut().unwrap().rotation_id = crate::ids::RotationId::from_random(99);
    assert_eq!(left(&o), None, "another rotation's");
    let intent = intent(&mut o).clone();
    o.memory.refuse(&intent, "no".into());
    assert_eq!(o.memory.refusals(&intent).map(|refusals| refusals.count), Some(1));
}

#[test]
fn a_secret_that_spec_names_again_learns_that_the_code_before_was_retired_on_another() {
    fn retired_there(o: &mut Observed) {
        let mut there = ours(&mut o.secret).clone();
        there.record.intent.as_mut().unwrap().step = RotationStep::Retired;
        o.former = SecretView::Ours(there);
        o.resource.has_finalizer = false;
        list(o, &[2]);
    }
    check(due, &[("retired there", retired_there, "write Repair")]);
    let mut o = due();
    retired_there(&mut o);
    match plan(&o, now()) {
        Step::WriteCode { secret, record, .. } => {
            assert_eq!(
                (secret.as_str(), record.intent.unwrap().step),
                ("target", RotationStep::Retired)
            );
        }
        step => panic!("{step:?}"),
    }
}

#[test]
fn a_grace_period_of_which_nobody_knows_the_start_counts_from_now() {
    let noted = |step, distribution: Option<Distribution>| {
        let mut o = handed_over_since(0);
        (intent(&mut o).step, intent(&mut o).distribution) = (step, distribution);
        match plan(&o, now()) {
            Step::WriteRecord { record, .. } => record.intent.unwrap().distribution.unwrap().distributed_at,
            other => panic!("nothing is noted: {other:?}"),
        }
    };
    let ahead = Distribution {
        distributed_at: Some(ago(-50)),
        ..Distribution::default()
    };
    assert_eq!(noted(RotationStep::Distributed, Some(ahead)), Some(now()));
    assert_eq!(noted(RotationStep::Retiring, None), Some(now()));
    assert_eq!(
        noted(RotationStep::Persisted, None),
        None,
        "it has to be distributed first"
    );
}

#[test]
fn a_finalizer_that_may_not_be_touched_stops_everything() {
    let o = with(|o| o.finalizer_refused = Some("no".into()));
    assert_eq!(decided(&o), "stop FinalizerRefused");
}

#[test]
fn a_finalizer_for_another_app_goes_before_the_cloud_is_asked_for_this_one() {
    fn moved(o: &mut Observed) {
        let app = other_app();
        o.status.app = Some(crate::api::AppStatus {
            endpoint: app.endpoint.clone(),
            project_id: app.project_id.to_string(),
            app_id: app.app_id.to_string(),
        });
        o.resource.generation += 1;
        o.resource.has_finalizer = true;
        o.cloud = Cloud::NotAsked;
    }
    check(
        || with(moved),
        &[
            ("nothing is followed", |_| {}, "release"),
            ("the same app", |o| o.status.app = None, "ask"),
            ("without a finalizer", |o| o.resource.has_finalizer = false, "ask"),
            (
                "a code of this app is to be saved",
                |o| {
                    o.memory.held = Some(Held {
                        intent: intent(&mut begun()).clone(),
                        code: code(2),
                    });
                },
                "ask",
            ),
        ],
    );
    assert_eq!(decided(&begun_with(moved)), "ask", "a rotation of this app is open");
}

#[test]
fn another_seed_has_its_turn_once_the_code_before_is_retired() {
    let seeded = || {
        let mut o = handed_over_since(0);
        list(&mut o, &[1, 2, 3]);
        seed(&mut o, 3, false);
        o
    };
    check(
        seeded,
        &[
            ("its turn is to come", |_| {}, "linger Retiring"),
            (
                "its turn has come",
                |o| {
                    intent(o).step = RotationStep::Retired;
                    o.limits.minimum_interval = SignedDuration::ZERO;
                },
                "intent",
            ),
            (
                "its turn has come, and another resource has that code",
                |o| {
                    intent(o).step = RotationStep::Retired;
                    o.siblings = vec![Sibling {
                        holds: vec![code(3)],
                        ..sibling()
                    }];
                },
                "release",
            ),
            (
                "the same without the finalizer",
                |o| {
                    intent(o).step = RotationStep::Retired;
                    o.resource.has_finalizer = false;
                    o.siblings = vec![Sibling {
                        holds: vec![code(3)],
                        ..sibling()
                    }];
                },
                "stop Conflict",
            ),
        ],
    );
    // What is mended meanwhile does not use it up.
    let mut o = seeded();
    ours(&mut o.secret).code = None;
    assert!(matches!(plan(&o, now()), Step::WriteCode { record, .. } if record.seed.is_none()));
    seed(&mut o, 2, false);
    assert!(matches!(plan(&o, now()), Step::WriteCode { record, .. } if record.seed == Some(code(2))));
}
