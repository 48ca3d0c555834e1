use super::*;
use crate::api::{Outcome, RotationStep, Strategy, Trigger};
use crate::intent::Call;

/// The attempt that is marked next, and the rotation that it is of.
fn attempt(o: &Observed) -> Option<(u32, Call)> {
    let open = o.book().unwrap().1.record.intent.clone().unwrap();
    match plan(o, now()) {
        Step::WriteIntent { record, .. } => {
            let intent = record.intent.unwrap();
            (intent.rotation_id == open.rotation_id).then_some((intent.attempt, intent.call))
        }
        _ => None,
    }
}

/// Nothing came of the call, which is long settled.
fn without_effect() -> Observed {
    begun_with(|o| {
        o.draw += 1;
        marked(o, 20_000);
        settle_outcome(o, 20_000);
        o.uptime = secs(30_000);
    })
}

#[test]
fn a_call_goes_out_after_its_mark_and_only_then() {
    check(
        begun,
        &[
            ("not marked by this pass", |_| {}, "settle"),
            // An intent numbered at what is completed is stale: what is asked for is a rotation of its own, in its time.
            ("completed already", |o| rotated(o, 1, 700), "wait Waiting"),
            ("marked", |o| o.memory.marked = Some(Attempt::of(intent(o))), "mutate"),
            (
                "another attempt was marked",
                |o| {
                    o.memory.marked = Some(Attempt::of(intent(o)));
                    intent(o).attempt = 2;
                },
                "settle",
            ),
            (
                "another rotation was marked",
                |o| {
                    o.memory.marked = Some(Attempt::of(intent(o)));
                    intent(o).rotation_id = crate::ids::RotationId::from_random(99);
                },
                "settle",
            ),
        ],
    );
}

#[test]
fn a_new_code_in_the_place_of_the_old_one_is_persisted_with_all_that_was_used_up() {
    let mut o = begun();
    list(&mut o, &[2]);
    o.resource.request = Some("later".into());
    intent(&mut o).consumed.seed = Some(code(9));
    intent(&mut o).consumed.request = Some("please".into());
    ours(&mut o.secret).record.handled_trigger = Some("before".into());
    let Step::WriteCode {
        secret,
        code: made,
        record,
        why,
    } = plan(&o, now())
    else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!((secret.as_str(), made, why), ("target", code(2), WriteReason::Persist));
    let open = intent(&mut o).clone();
    let expected = Record {
        app: open.app.clone(),
        number: open.number,
        fingerprint: Some(code(2)),
        previous: Some(code(1)),
        rotated_at: Some(now()),
        seed: Some(code(9)),
        handled_trigger: Some("go".into()),
        handled_request: Some("please".into()),
        recent: vec![now()],
        adopted: None,
        rendered: None,
        intent: Some(Intent {
            step: RotationStep::Persisted,
            outcome: Some(Outcome::Recovered),
            ..open
        }),
    };
    assert_eq!(record, expected);
}

#[test]
fn a_list_that_is_older_than_the_mark_is_read_again_before_a_code_is_taken_from_it() {
    let at = |code: u8, settled: Option<i64>| {
        begun_with(|o| {
            marked(o, 500);
            intent(o).updated_at = Some(100);
            list(o, &[code]);
            reading(o).updated_at = Some(99);
            if let Some(seconds) = settled {
                let intent = intent(o).clone();
                settle_outdated(o, &intent, seconds);
            }
        })
    };
    assert_eq!(decided(&at(2, None)), "settle");
    assert_eq!(decided(&at(2, Some(119))), "wait Settling");
    assert_eq!(decided(&at(2, Some(239))), "wait Settling");
    // Then the app's clock is not to be relied on.
    assert_eq!(decided(&at(2, Some(240))), "write Persist");
    // That the call had no effect is believed much later, and only when it has been asked for itself.
    assert_eq!(decided(&at(1, Some(1799))), "wait Settling");
    assert_eq!(decided(&at(1, Some(1800))), "settle");
    let mut o = at(2, None);
    reading(&mut o).updated_at = Some(100);
    assert_eq!(decided(&o), "write Persist");
}

#[test]
fn what_a_rotation_did_not_use_up_stays_as_it_was() {
    let mut o = begun();
    list(&mut o, &[2]);
    let open = intent(&mut o);
    open.consumed = crate::intent::Consumed::default();
    open.base = None;
    open.call = Call::Add;
    open.updated_at = None;
    let record = &mut ours(&mut o.secret).record;
    record.seed = Some(code(9));
    record.handled_trigger = Some("before".into());
    record.handled_request = Some("earlier".into());
    let Step::WriteCode { record, .. } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!((record.previous, record.seed), (Some(code(1)), Some(code(9))));
    assert_eq!(record.handled_trigger.as_deref(), Some("before"));
    assert_eq!(record.handled_request.as_deref(), Some("earlier"));
}

#[test]
fn a_call_without_effect_is_settled_then_paused_and_then_repeated() {
    let at = |settled: i64, marked_ago: i64| {
        begun_with(|o| {
            marked(o, marked_ago);
            settle_outcome(o, settled);
        })
    };
    for (settled, marked_ago, expected, left) in [
        (0, 0, "wait Settling", 120),
        (119, 500, "wait Settling", 1),
        (120, 0, "wait Retrying", 120),
        (120, 119, "wait Retrying", 1),
    ] {
        let step = plan(&at(settled, marked_ago), now());
        assert_eq!((word(&step).as_str(), pause(&step)), (expected, secs(left)));
    }
    assert_eq!(attempt(&at(120, 120)), Some((2, Call::Reset)));
    assert_eq!(
        attempt(&at(120, -1)),
        Some((2, Call::Reset)),
        "marked by a clock that was set back"
    );
    // What certainly had no effect is repeated at once.
    let sure = begun_with(|o| o.memory.not_applied = Some(Attempt::of(intent(o))));
    assert_eq!(attempt(&sure), Some((2, Call::Reset)));
    // That the cloud denies an addition does not make it sure: nothing is gone by which it could be told.
    let denied = |settled: Option<i64>| {
        begun_with(|o| {
            marked(o, 500);
            o.memory.not_applied = Some(Attempt::of(intent(o)));
            o.memory.denied = Some(Denial {
                attempt: Attempt::of(intent(o)),
                generation: o.resource.generation,
                failure: failure(Reason::NotAuthorized, true),
            });
            if let Some(seconds) = settled {
                settle_outcome(o, seconds);
            }
        })
    };
    assert_eq!(decided(&denied(None)), "settle");
    // Status goes on saying what a person must act on.
    assert_eq!(decided(&denied(Some(119))), "stop NotAuthorized");
    let mut mended = denied(Some(119));
    mended.resource.generation += 1;
    assert_eq!(decided(&mended), "wait Settling");
    assert_eq!(attempt(&denied(Some(120))), Some((2, Call::Reset)));
    // Another attempt's question is another one.
    let other = begun_with(|o| {
        settle_outcome(o, 500);
        intent(o).attempt = 2;
    });
    assert_eq!(decided(&other), "settle");
}

/// It may be carried out within a settle window, and listed within another one.
#[test]
fn an_addition_without_effect_is_repeated_only_after_two_settle_windows() {
    let at = |settled: i64, marked_ago: i64| {
        begun_with(|o| {
            wanted(o).handover.strategy = Strategy::Overlap;
            intent(o).strategy = Strategy::Overlap;
            intent(o).call = Call::Add;
            marked(o, marked_ago);
            settle_outcome(o, settled);
        })
    };
    // What comes to light meanwhile is seen sooner.
    for (settled, left) in [(0, 120), (120, 120), (121, 119), (239, 1)] {
        let step = plan(&at(settled, 500), now());
        assert_eq!((word(&step).as_str(), pause(&step)), ("wait Settling", secs(left)));
    }
    assert_eq!(attempt(&at(240, 500)), Some((2, Call::Add)));
    // A person who names a code in its place waits as long.
    let named = |settled: i64| {
        let mut o = at(settled, 500);
        list(&mut o, &[1, 2]);
        intent(&mut o).known.push(code(2));
        o.resource.adopt = Some(code(2).to_string());
        settle_outcome(&mut o, settled);
        o
    };
    assert_eq!(decided(&named(239)), "wait Settling");
    assert!(matches!(plan(&named(240), now()), Step::WriteCode { code: named, .. } if named == code(2)));
}

#[test]
fn another_attempt_starts_from_what_is_listed_at_its_mark() {
    let mut o = begun_with(|o| {
        marked(o, 500);
        list(o, &[1, 2]);
        reading(o).updated_at = Some(77);
        let intent = intent(o);
        (intent.started_at, intent.updated_at) = (ago(500), Some(78));
        let intent = intent.clone();
        // The app's clock was set back.
        settle_outdated(o, &intent, 1800);
        settle_outcome(o, 120);
    });
    let before = intent(&mut o).clone();
    let Step::WriteIntent { secret, record } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    let mut known = vec![code(1), code(2)];
    known.sort_unstable();
    let expected = Intent {
        attempt: 2,
        known,
        unclaimed: vec![code(2)],
        updated_at: Some(77),
        marked_at: now(),
        ..before
    };
    assert_eq!((secret.as_str(), record.intent), ("target", Some(expected)));
}

#[test]
fn the_pause_doubles_with_each_attempt_up_to_four_hours() {
    for (attempt, pause_seconds) in [(1, 120), (2, 240), (3, 480), (7, 7680), (8, 14_400), (200, 14_400)] {
        let step = plan(
            &begun_with(|o| {
                intent(o).attempt = attempt;
                settle_outcome(o, 200);
            }),
            now(),
        );
        assert_eq!(
            (word(&step).as_str(), pause(&step)),
            ("wait Retrying", secs(pause_seconds)),
            "{attempt}"
        );
    }
}

#[test]
fn a_call_is_repeated_only_while_its_reasons_stand() {
    type Change = fn(&mut Observed);
    let cases: &[(&str, Change, bool)] = &[
        ("asked for", |_| {}, true),
        ("another resource", |o| intent(o).uid = "another".into(), false),
        ("held", |o| wanted(o).suspend = true, false),
        ("withdrawn", |o| wanted(o).trigger = None, false),
        ("another value", |o| wanted(o).trigger = Some("more".into()), false),
        (
            "a request",
            |o| {
                wanted(o).trigger = None;
                intent(o).consumed.request = Some("please".into());
                o.resource.request = Some("please".into());
            },
            true,
        ),
        (
            "another request",
            |o| {
                wanted(o).trigger = None;
                intent(o).consumed.request = Some("please".into());
                o.resource.request = Some("now".into());
            },
            false,
        ),
        (
            "nothing was asked for and nothing is",
            |o| {
                wanted(o).trigger = None;
                intent(o).consumed.trigger = None;
            },
            false,
        ),
        (
            "the schedule",
            |o| {
                wanted(o).trigger = None;
                intent(o).trigger = Trigger::Schedule;
                wanted(o).schedule = Some(crate::schedule::Timetable {
                    rhythm: crate::schedule::Rhythm::Interval(secs(90_000)),
                    jitter: SignedDuration::ZERO,
                    windows: Vec::new(),
                });
            },
            true,
        ),
        (
            "a schedule that is gone",
            |o| {
                wanted(o).trigger = None;
                intent(o).trigger = Trigger::Schedule;
            },
            false,
        ),
        (
            "another target",
            |o| {
                wanted(o).trigger = None;
                intent(o).trigger = Trigger::Target;
            },
            true,
        ),
        (
            "first sight, and there is a current code",
            |o| {
                wanted(o).trigger = None;
                intent(o).trigger = Trigger::Initial;
            },
            false,
        ),
        (
            "first sight",
            |o| {
                wanted(o).trigger = None;
                intent(o).trigger = Trigger::Initial;
                ours(&mut o.secret).record.fingerprint = None;
                o.status.current = None;
            },
            true,
        ),
        (
            "a code to add, though the list looks full, which the cloud knows better",
            |o| {
                intent(o).call = Call::Add;
                list(o, &[1, 3, 4, 5, 6]);
                intent(o).known.extend([3, 4, 5, 6].map(code));
                settle_outcome(o, 9_000);
            },
            true,
        ),
        (
            "a code to add, though it is held",
            |o| {
                list(o, &[]);
                settle_outcome(o, 9_000);
                wanted(o).suspend = true;
                intent(o).call = Call::Add;
            },
            true,
        ),
        (
            "a code to add, but held, and nothing is missing",
            |o| {
                wanted(o).suspend = true;
                intent(o).call = Call::Add;
            },
            false,
        ),
        (
            "a first code to add, but held",
            |o| {
                list(o, &[]);
                settle_outcome(o, 9_000);
                wanted(o).suspend = true;
                intent(o).call = Call::Add;
                intent(o).base = None;
            },
            false,
        ),
    ];
    for (name, change, expected) in cases {
        let mut o = without_effect();
        change(&mut o);
        assert_eq!(attempt(&o).is_some(), *expected, "{name}: {:?}", plan(&o, now()));
        // The pause is not waited for where nothing follows it.
        marked(&mut o, 0);
        let waits = matches!(
            plan(&o, now()),
            Step::Wait {
                reason: Reason::Retrying,
                ..
            }
        );
        assert_eq!(waits, *expected, "{name}: {:?}", plan(&o, now()));
    }
}

#[test]
fn a_half_reset_is_finished_by_a_code_that_is_added() {
    let lost = |listed: &[u8], known: &[u8], settled: i64| {
        begun_with(|o| {
            o.draw += 1;
            list(o, listed);
            intent(o).known.extend(known.iter().copied().map(code));
            settle_outcome(o, settled);
        })
    };
    assert_eq!(decided(&lost(&[], &[], 119)), "wait Settling");
    assert_eq!(attempt(&lost(&[], &[], 120)), Some((2, Call::Add)));
    assert_eq!(attempt(&lost(&[2, 3, 4, 5], &[2, 3, 4, 5], 120)), Some((2, Call::Add)));
    let full = plan(&lost(&[2, 3, 4, 5, 6], &[2, 3, 4, 5, 6], 120), now());
    assert_eq!(
        (word(&full).as_str(), pause(&full)),
        ("stop CapacityExhausted", secs(3600))
    );
    // A person who names a code spares the app another one, unless it is somebody else's.
    let mut o = lost(&[2, 3], &[2, 3], 119);
    o.resource.adopt = Some(code(3).to_string());
    assert_eq!(decided(&o), "wait Settling", "ours may still come to light");
    settle_outcome(&mut o, 120);
    assert!(matches!(plan(&o, now()), Step::WriteCode { code: named, .. } if named == code(3)));
    o.siblings = vec![Sibling {
        holds: vec![code(3)],
        ..sibling()
    }];
    assert_eq!(attempt(&o), Some((2, Call::Add)));
    for change in [(|o| wanted(o).app_name = Some("x".into())) as fn(&mut Observed), |o| {
        o.may_mutate = false;
    }] {
        let mut o = lost(&[], &[], 120);
        change(&mut o);
        assert_eq!(attempt(&o), None);
        assert!(matches!(plan(&o, now()), Step::Stop { .. } | Step::Wait { .. }));
    }
}

#[test]
fn a_reset_that_seemed_to_be_half_done_is_made_again_while_its_base_is_listed_after_all() {
    let mut o = without_effect();
    intent(&mut o).call = Call::Add;
    assert_eq!(attempt(&o), Some((2, Call::Reset)));
    list(&mut o, &[]);
    settle_outcome(&mut o, 9_000);
    assert_eq!(attempt(&o), Some((2, Call::Add)));
}

#[test]
fn of_several_new_codes_a_person_names_ours() {
    let several = |adopt: u8| {
        begun_with(|o| {
            list(o, &[2, 3]);
            o.resource.adopt = Some(code(adopt).short());
        })
    };
    let stopped = plan(&several(1), now());
    assert_eq!(
        (word(&stopped).as_str(), pause(&stopped)),
        ("stop AmbiguousOutcome", secs(3600))
    );
    assert!([2, 3].iter().all(|n| message(&stopped).contains(&code(*n).short())));
    let Step::WriteCode {
        code: taken,
        record,
        why,
        ..
    } = plan(&several(3), now())
    else {
        panic!("{:?}", plan(&several(3), now()))
    };
    assert_eq!((taken, why), (code(3), WriteReason::Persist));
    assert_eq!(record.intent.unwrap().unclaimed, [code(2)]);
    // One of them that is a sibling's is no answer, and then no question either.
    let mut o = several(1);
    o.siblings = vec![Sibling {
        holds: vec![code(2)],
        ..sibling()
    }];
    assert!(matches!(plan(&o, now()), Step::WriteCode { code: taken, .. } if taken == code(3)));
}
