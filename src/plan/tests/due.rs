use super::*;
use crate::api::{RotationStep, Strategy, Trigger};
use crate::intent::{Call, Consumed};

#[test]
fn the_chief_reason_of_a_rotation_is_told_and_all_of_them_are_used_up() {
    let reason = |change: fn(&mut Observed)| {
        let o = with(change);
        matches!(plan(&o, now()), Step::WriteIntent { .. }).then(|| started(&o).1.trigger)
    };
    let all = |o: &mut Observed| {
        list(o, &[1, 2]);
        seed(o, 2, false);
        ask(o);
        o.resource.request = Some("please".into());
        daily(o);
        rotated(o, 0, DAY);
    };
    let (_, intent) = started(&with(all));
    assert_eq!((intent.trigger, intent.base), (Trigger::Target, Some(code(2))));
    let without_seed = |o: &mut Observed| {
        all(o);
        seed(o, 1, false);
        ours(&mut o.secret).record.seed = Some(code(1));
    };
    let (_, intent) = started(&with(without_seed));
    let consumed = Consumed {
        trigger: Some("go".into()),
        request: Some("please".into()),
        seed: Some(code(1)),
    };
    assert_eq!((intent.trigger, intent.consumed), (Trigger::Spec, consumed));
    assert_eq!(
        reason(|o| o.resource.request = Some("please".into())),
        Some(Trigger::Request)
    );
    assert_eq!(
        reason(|o| {
            daily(o);
            rotated(o, 0, DAY);
        }),
        Some(Trigger::Schedule)
    );
    assert_eq!(
        reason(|o| {
            daily(o);
            rotated(o, 0, DAY - 1);
        }),
        None
    );
    assert_eq!(reason(daily), None);
    assert_eq!(
        reason(|o| {
            ask(o);
            ours(&mut o.secret).record.handled_trigger = Some("go".into());
        }),
        None
    );
    assert_eq!(
        reason(|o| {
            ask(o);
            o.status.last_handled_trigger = Some("go".into());
        }),
        None
    );
    assert_eq!(
        reason(|o| {
            o.resource.request = Some("please".into());
            o.status.last_handled_request = Some("please".into());
        }),
        None
    );
    assert_eq!(
        reason(|o| {
            ask(o);
            wanted(o).suspend = true;
        }),
        None
    );
}

#[test]
fn a_changed_seed_rotates_the_code_that_it_names() {
    check(
        settled,
        &[
            ("the current code", |o| seed(o, 1, false), "write Repair"),
            (
                "one that was taken into account",
                |o| {
                    ours(&mut o.secret).record.seed = Some(code(2));
                    list(o, &[1, 2]);
                    seed(o, 2, false);
                },
                "rest",
            ),
            (
                "another one",
                |o| {
                    list(o, &[1, 2]);
                    seed(o, 2, false);
                },
                "intent",
            ),
            ("one that is not listed", |o| seed(o, 2, false), "settle"),
            (
                "one that cannot be read",
                |o| wanted(o).seed = SeedView::Unreadable("no".into()),
                "rest",
            ),
        ],
    );
}

#[test]
fn a_current_code_that_is_gone_is_settled_and_then_a_person_says_what_counts() {
    check(
        settled,
        &[
            ("at first", |o| list(o, &[2]), "settle"),
            (
                "too soon",
                |o| {
                    list(o, &[2]);
                    settle(o, gone(1), 119);
                },
                "wait Settling",
            ),
            (
                "the list has changed since",
                |o| {
                    settle(o, gone(1), 120);
                    list(o, &[2]);
                },
                "settle",
            ),
            (
                "settled",
                |o| {
                    list(o, &[2]);
                    settle(o, gone(1), 120);
                },
                "stop CodeNotListed",
            ),
            (
                "answered",
                |o| {
                    list(o, &[2]);
                    settle(o, gone(1), 120);
                    o.resource.adopt = Some(code(2).to_string());
                },
                "write Adopt",
            ),
            (
                "answered before",
                |o| {
                    list(o, &[2]);
                    settle(o, gone(1), 120);
                    o.resource.adopt = Some(code(2).to_string());
                    ours(&mut o.secret).record.adopted = Some(code(2));
                },
                "stop CodeNotListed",
            ),
        ],
    );
    let o = with(|o| {
        list(o, &[2]);
        settle(o, gone(1), 120);
        ask(o);
    });
    let stopped = plan(&o, now());
    assert_eq!(pause(&stopped), secs(3600));
    let told = format!("The current code (fingerprint {}) is not among", code(1).short());
    assert!(message(&stopped).starts_with(&told), "{stopped:?}");
    let waits = plan(
        &with(|o| {
            list(o, &[2]);
            settle(o, gone(1), 50);
        }),
        now(),
    );
    assert_eq!(pause(&waits), secs(70));
}

#[test]
fn a_code_that_no_url_can_name_stops_only_who_wants_to_rotate_it() {
    check(
        settled,
        &[
            ("at rest", |o| reading(o).unaddressable = vec![code(1)], "rest"),
            (
                "due",
                |o| {
                    reading(o).unaddressable = vec![code(1)];
                    ask(o);
                },
                "stop CodeNotAddressable",
            ),
            (
                "another one",
                |o| {
                    list(o, &[1, 2]);
                    reading(o).unaddressable = vec![code(2)];
                    ask(o);
                },
                "intent",
            ),
        ],
    );
}

#[test]
fn a_rotation_waits_for_its_turn() {
    fn open(o: &mut Observed) {
        ask(o);
        o.siblings = vec![Sibling {
            open: Some(OpenSibling {
                base: Some(code(9)),
                marked_at: now(),
                adds: false,
            }),
            ..sibling()
        }];
    }
    fn newborn(o: &mut Observed) {
        o.siblings = vec![Sibling {
            is_judged: false,
            created: now(),
            ..sibling()
        }];
    }
    check(
        settled,
        &[
            ("a sibling's is open", open, "wait Waiting"),
            (
                "this process ends",
                |o| {
                    ask(o);
                    o.may_mutate = false;
                },
                "wait Waiting",
            ),
            (
                "an older one is new, which matters at a start only",
                |o| {
                    ask(o);
                    newborn(o);
                },
                "intent",
            ),
        ],
    );
    check(
        fresh,
        &[
            (
                "a start by rotation",
                |o| {
                    seed(o, 1, true);
                    newborn(o);
                },
                "wait Waiting",
            ),
            ("a start without", newborn, "wait Waiting"),
        ],
    );
    assert_eq!(
        pause(&plan(
            &with(|o| {
                ask(o);
                o.may_mutate = false;
            }),
            now()
        )),
        secs(5)
    );
}

#[test]
fn an_intent_says_all_that_was_known() {
    let o = with(|o| {
        ask(o);
        list(o, &[1, 2]);
        o.resource.generation = 4;
        o.status.observed_generation = Some(4);
        rotated(o, 5, 700);
        let mut old = intent(&mut begun()).clone();
        old.number = 7;
        old.step = RotationStep::Persisted;
        old.known = vec![code(7), code(8)];
        old.base = Some(code(6));
        let record = &mut ours(&mut o.secret).record;
        record.intent = Some(old);
        record.previous = Some(code(6));
    });
    let (record, intent) = started(&o);
    let mut listed = vec![code(1), code(2)];
    listed.sort_unstable();
    let expected: Vec<_> = listed.into_iter().chain([code(7), code(8), code(6)]).collect();
    assert_eq!(intent.known, expected);
    assert_eq!((intent.number, intent.generation, intent.uid.as_str()), (8, 4, "us"));
    assert_eq!(
        (intent.attempt, intent.call, intent.base),
        (1, Call::Reset, Some(code(1)))
    );
    assert_eq!(
        (intent.strategy, intent.step, intent.outcome),
        (Strategy::Reset, RotationStep::Started, None)
    );
    assert_eq!((intent.started_at, intent.marked_at), (now(), now()));
    assert_eq!(intent.updated_at, o.reading().unwrap().updated_at);
    assert_eq!(
        (record.number, record.fingerprint, record.previous),
        (5, Some(code(1)), Some(code(6)))
    );
    // The code of the record is known even where it is not listed.
    let o = with(|o| {
        list(o, &[2]);
        seed(o, 2, false);
    });
    assert_eq!(started(&o).1.known, [code(2), code(1)]);
    let mut o = fresh();
    list(&mut o, &[]);
    let (_, intent) = started(&o);
    assert_eq!((intent.call, intent.base, intent.number), (Call::Add, None, 1));
}

#[test]
fn what_earlier_rotations_left_is_told_of_while_it_is_listed_and_not_replaced() {
    let o = with(|o| {
        ask(o);
        list(o, &[1, 2, 3]);
        let mut old = intent(&mut begun()).clone();
        (old.number, old.step) = (0, RotationStep::Persisted);
        old.unclaimed = vec![code(2), code(9)];
        ours(&mut o.secret).record.intent = Some(old);
        o.status.unclaimed = [1, 3].map(|number| code(number).short()).into();
    });
    let mut left = vec![code(2), code(3)];
    left.sort_unstable();
    assert_eq!(started(&o).1.unclaimed, left);
}
