use super::*;
use crate::schedule::{Rhythm, Timetable};
use crate::schedule::{Window, spread};

const HOUR: i64 = 3600;

fn unasked() -> Observed {
    with(|o| o.cloud = Cloud::NotAsked)
}

fn verified(o: &mut Observed, seconds_ago: i64) {
    o.status.last_verified_time = Some(Time(ago(seconds_ago)));
}

fn early() -> i64 {
    spread("us", secs(HOUR / 10)).as_secs()
}

fn every(interval: i64) -> Option<Timetable> {
    Some(Timetable {
        rhythm: Rhythm::Interval(secs(interval)),
        jitter: SignedDuration::ZERO,
        windows: Vec::<Window>::new(),
    })
}

#[test]
fn a_secret_that_cannot_be_used_stops_with_its_name_and_the_way_out() {
    let cases: &[Case<&[&str]>] = &[
        (
            "foreign",
            |o| {
                o.secret = SecretView::Foreign {
                    why: "was made by hand",
                }
            },
            &[
                "SecretConflict",
                "Secret target exists and was made by hand",
                "kubectl delete secret target -n ns",
            ],
        ),
        (
            "claimed",
            |o| o.secret = SecretView::Claimed("elder".into()),
            &["Conflict", "Secret target is kept by AppCodeRotation elder"],
        ),
        (
            "forbidden",
            |o| o.secret = SecretView::Forbidden("no get".into()),
            &["SecretNotWritable", "may not read Secret target: no get"],
        ),
        (
            "unreadable",
            |o| o.secret = SecretView::Unreadable("garbage".into()),
            &[
                "UnknownIntentFormat",
                "Secret target says cannot be understood: garbage",
            ],
        ),
        (
            "locked",
            |o| ours(&mut o.secret).locked = Some(Lock::Immutable),
            &["SecretNotWritable", "Secret target cannot be written: it is immutable"],
        ),
        (
            "refused",
            |o| o.secret_refused = Some("a policy".into()),
            &["SecretNotWritable", "refuses to write Secret target: a policy"],
        ),
        (
            "refused and absent",
            |o| {
                o.secret = SecretView::Absent;
                o.secret_refused = Some("a policy".into());
            },
            &["SecretNotWritable", "refuses to write Secret target: a policy"],
        ),
    ];
    for (name, change, words) in cases {
        for cloud in [Cloud::NotAsked, settled().cloud] {
            let o = with(|o| {
                o.cloud = cloud;
                change(o);
            });
            let step = plan(&o, now());
            assert_eq!(word(&step), format!("stop {}", words[0]), "{name}");
            assert_eq!(pause(&step), secs(60), "{name}");
            assert!(
                words[1..].iter().all(|word| message(&step).contains(word)),
                "{name}: {}",
                message(&step)
            );
        }
    }
}

/// The rotation is open on the Secret that status names, and spec names another one by now.
fn moved() -> Observed {
    begun_with(|o| {
        o.former = std::mem::replace(&mut o.secret, SecretView::Absent);
        o.status.target.as_mut().unwrap().name = "former".into();
    })
}

#[test]
fn what_is_open_on_the_secret_before_is_finished_there_whatever_the_new_one_is() {
    for secret in [
        SecretView::Foreign {
            why: "was made by hand",
        },
        SecretView::Unreadable("garbage".into()),
        SecretView::Absent,
    ] {
        let mut o = moved();
        o.secret = secret.clone();
        list(&mut o, &[2]);
        let Step::WriteCode {
            secret: name,
            why,
            code: made,
            ..
        } = plan(&o, now())
        else {
            panic!("{:?}", plan(&o, now()))
        };
        assert_eq!(
            (name.as_str(), why, made),
            ("former", WriteReason::Persist, code(2)),
            "{secret:?}"
        );
    }
    let mut o = moved();
    ours(&mut o.former).locked = Some(Lock::Immutable);
    let step = plan(&o, now());
    assert!(message(&step).contains("Secret former cannot be written"), "{step:?}");
    // Nothing is open: the new one counts.
    let mut o = moved();
    o.secret = SecretView::Foreign {
        why: "was made by hand",
    };
    ours(&mut o.former).record.intent = None;
    ours(&mut o.former).locked = Some(Lock::Immutable);
    let step = plan(&o, now());
    assert!(message(&step).contains("Secret target exists"), "{step:?}");
    // What is open there and waits does not hide that the target cannot be written, once it has nothing more to say.
    let mut o = moved();
    o.secret = SecretView::Foreign {
        why: "was made by hand",
    };
    wanted(&mut o).trigger = None;
    settle_former(&mut o, 7200);
    let step = plan(&o, now());
    assert!(message(&step).contains("Secret target exists"), "{step:?}");
}

fn settle_former(o: &mut Observed, seconds: i64) {
    let intent = ours(&mut o.former).record.intent.clone().unwrap();
    let question = Question::Outcome {
        rotation_id: intent.rotation_id,
        attempt: intent.attempt,
    };
    settle(o, question, seconds);
}

#[test]
fn a_failure_holds_back_until_its_time() {
    check(
        unasked,
        &[
            ("none", |_| {}, "rest"),
            ("a second ahead", |o| failed(o, 1), "back off"),
            ("now", |o| failed(o, 0), "rest"),
            ("past", |o| failed(o, -1), "rest"),
            ("two hours ahead", |o| failed(o, 7200), "back off"),
            ("by a clock that was set back", |o| failed(o, 7201), "rest"),
            (
                "two long check periods ahead",
                |o| {
                    o.limits.check_period = secs(2 * HOUR);
                    failed(o, 4 * HOUR);
                },
                "back off",
            ),
            (
                "by a clock that was set back, with long check periods",
                |o| {
                    o.limits.check_period = secs(2 * HOUR);
                    failed(o, 4 * HOUR + 1);
                },
                "rest",
            ),
            (
                "no time",
                |o| {
                    failed(o, 1);
                    o.status.failures.as_mut().unwrap().next_attempt_time = None;
                },
                "rest",
            ),
            (
                "a new generation",
                |o| {
                    failed(o, 60);
                    o.resource.generation = 2;
                },
                "ask",
            ),
            (
                "nudged",
                |o| {
                    failed(o, 60);
                    o.nudged = true;
                },
                "ask",
            ),
            (
                "a code is held",
                |o| {
                    failed(o, 60);
                    let intent = intent(&mut begun()).clone();
                    o.memory.held = Some(Held { intent, code: code(2) });
                },
                "ask",
            ),
            (
                "the cloud was read",
                |o| {
                    failed(o, 60);
                    o.cloud = settled().cloud;
                },
                "rest",
            ),
        ],
    );
    let left = plan(
        &with(|o| {
            o.cloud = Cloud::NotAsked;
            failed(o, 77);
        }),
        now(),
    );
    assert_eq!(left, Step::BackOff { after: secs(77) });
}

fn shown(o: &mut Observed, id: &str) {
    let intent = intent(o).clone();
    o.status.rotation = Some(crate::api::OpenRotation {
        rotation_id: id.into(),
        trigger: intent.trigger,
        strategy: intent.strategy,
        step: intent.step,
        started_at: Time(intent.started_at),
        replaces: None,
        intent: None,
    });
}

#[test]
fn an_open_rotation_that_status_does_not_show_is_not_held_back_by_an_older_failure() {
    let start = || {
        begun_with(|o| {
            o.cloud = Cloud::NotAsked;
            failed(o, 60);
        })
    };
    check(
        start,
        &[
            ("not shown", |_| {}, "ask"),
            ("another is shown", |o| shown(o, "another"), "ask"),
            (
                "it is shown",
                |o| {
                    let id = intent(o).rotation_id.to_string();
                    shown(o, &id);
                },
                "back off",
            ),
            (
                "on a Secret that is another's",
                |o| ours(&mut o.secret).is_inherited = true,
                "back off",
            ),
        ],
    );
}

#[test]
fn the_cloud_is_asked_when_something_rests_on_its_answer() {
    check(
        unasked,
        &[
            ("nothing", |_| {}, "rest"),
            ("it was asked", |o| o.cloud = settled().cloud, "rest"),
            ("a new generation", |o| o.resource.generation = 2, "ask"),
            ("never looked at", |o| o.status.observed_generation = None, "ask"),
            ("nudged", |o| o.nudged = true, "ask"),
            ("not ready", |o| o.status.conditions.clear(), "ask"),
            ("never verified", |o| o.status.last_verified_time = None, "ask"),
            ("just before a check", |o| verified(o, HOUR - early() - 1), "rest"),
            ("a check", |o| verified(o, HOUR - early()), "ask"),
            ("verified now", |o| verified(o, 0), "rest"),
            ("verified in the future", |o| verified(o, -1), "ask"),
            ("the Secret is gone", |o| o.secret = SecretView::Absent, "ask"),
            (
                "the Secret is another's still",
                |o| ours(&mut o.secret).is_inherited = true,
                "ask",
            ),
            (
                "the Secret was edited",
                |o| ours(&mut o.secret).code = Some(code(2)),
                "ask",
            ),
            ("the Secret is empty", |o| ours(&mut o.secret).code = None, "ask"),
            (
                "the Secret is of another code",
                |o| {
                    let secret = ours(&mut o.secret);
                    (secret.code, secret.record.fingerprint) = (Some(code(2)), Some(code(2)));
                    o.status.rotation_number = Some(1);
                },
                "ask",
            ),
            ("a rotation is due", ask, "ask"),
            (
                "a rotation is due and held",
                |o| {
                    ask(o);
                    wanted(o).suspend = true;
                },
                "rest",
            ),
            (
                "a rotation is due after the minimum interval",
                |o| {
                    ask(o);
                    rotated(o, 1, 599);
                },
                "rest",
            ),
            (
                "the minimum interval is over",
                |o| {
                    ask(o);
                    rotated(o, 1, 600);
                },
                "ask",
            ),
        ],
    );
    check(begun, &[("a rotation is open", |o| o.cloud = Cloud::NotAsked, "ask")]);
}

#[test]
fn what_the_cloud_said_is_told_apart() {
    fn refuse(o: &mut Observed, is_final: bool, after: Option<SignedDuration>) {
        o.cloud = Cloud::Failed(Failure {
            after,
            ..failure(Reason::NotAuthorized, is_final)
        });
    }
    check(
        settled,
        &[
            ("final", |o| refuse(o, true, None), "stop NotAuthorized"),
            ("passing", |o| refuse(o, false, None), "retry"),
            ("postponed", |o| o.cloud = Cloud::Postponed(secs(7)), "back off"),
            (
                "unsupported",
                |o| reading(o).is_supported = false,
                "stop AppTypeUnsupported",
            ),
            ("masked", |o| reading(o).masked = true, "stop CodesMasked"),
            ("another's", |o| reading(o).is_owned = Some(false), "stop NotOwner"),
            ("ours", |o| reading(o).is_owned = Some(true), "rest"),
            (
                "named otherwise",
                |o| wanted(o).app_name = Some("x".into()),
                "stop AppNameMismatch",
            ),
            ("named so", |o| wanted(o).app_name = Some("named".into()), "rest"),
            (
                "without a name",
                |o| {
                    wanted(o).app_name = Some("named".into());
                    reading(o).name = None;
                },
                "stop AppNameMismatch",
            ),
        ],
    );
    assert_eq!(pause(&plan(&with(|o| refuse(o, true, Some(secs(9)))), now())), secs(9));
    assert_eq!(pause(&plan(&with(|o| refuse(o, true, None)), now())), secs(HOUR));
    assert_eq!(
        pause(&plan(&with(|o| o.cloud = Cloud::Postponed(secs(7))), now())),
        secs(7)
    );
    // With a rotation open it is said what is waited for, and a wait of nothing is a second.
    for (after, expected) in [(7, 7), (0, 1)] {
        let step = plan(&begun_with(|o| o.cloud = Cloud::Postponed(secs(after))), now());
        assert_eq!((word(&step).as_str(), pause(&step)), ("wait Waiting", secs(expected)));
    }
}

#[test]
fn a_refused_spec_stops_for_an_hour_and_a_deleted_resource_is_left() {
    let refuse = |o: &mut Observed| {
        o.wanted = Err(Refusal {
            reason: Reason::InvalidSpec,
            message: "wrong".into(),
        });
    };
    let step = plan(&with(refuse), now());
    assert_eq!((word(&step).as_str(), pause(&step)), ("stop InvalidSpec", secs(HOUR)));
    assert!(message(&step).contains("nothing is changed: wrong."));
    assert_eq!(plan(&with(|o| o.resource.deleting = true), now()), Step::Gone);
}

#[test]
fn rest_lasts_until_the_next_check_or_rotation() {
    let rest = |change: fn(&mut Observed)| plan(&with(change), now());
    let lasts = |seconds| Step::Rest { after: secs(seconds) };
    assert_eq!(rest(|_| {}), lasts(HOUR));
    assert_eq!(rest(|o| o.cloud = Cloud::NotAsked), lasts(HOUR - early()));
    assert_eq!(
        rest(|o| {
            o.cloud = Cloud::NotAsked;
            verified(o, 600);
        }),
        lasts(HOUR - early() - 600)
    );
    assert_eq!(rest(|o| wanted(o).schedule = every(1800)), lasts(1800));
    assert_eq!(rest(|o| wanted(o).schedule = every(2 * HOUR)), lasts(HOUR));
    assert_eq!(
        rest(|o| {
            wanted(o).schedule = every(1800);
            wanted(o).suspend = true;
        }),
        lasts(HOUR)
    );
    // Due, but not asked for yet because of the minimum interval: the schedule's time is over, the interval's counts.
    let soon = |o: &mut Observed| {
        o.cloud = Cloud::NotAsked;
        rotated(o, 1, 300);
        wanted(o).schedule = every(200);
    };
    assert_eq!(plan(&with(soon), now()), lasts(300));
    let held = with(|o| {
        soon(o);
        wanted(o).suspend = true;
    });
    assert_eq!(plan(&held, now()), lasts(HOUR - early()));
    // Never shorter than a second.
    let just = |o: &mut Observed| {
        o.cloud = Cloud::NotAsked;
        ask(o);
        rotated(o, 1, 599);
    };
    assert_eq!(plan(&with(just), now()), lasts(1));
}
