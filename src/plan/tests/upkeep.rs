use super::*;

fn absent() -> Observed {
    with(|o| o.secret = SecretView::Absent)
}

fn elder(o: &mut Observed, change: fn(&mut Sibling)) {
    let mut elder = Sibling {
        holds: vec![code(1)],
        ..sibling()
    };
    change(&mut elder);
    o.siblings.push(elder);
}

#[test]
fn a_secret_that_is_not_as_it_should_be_is_mended() {
    check(
        settled,
        &[
            ("as it should be", |_| {}, "rest"),
            ("absent", |o| o.secret = SecretView::Absent, "create"),
            (
                "another code",
                |o| ours(&mut o.secret).code = Some(code(2)),
                "write Repair",
            ),
            ("no code", |o| ours(&mut o.secret).code = None, "write Repair"),
            (
                "no code, and an answer that names the current one",
                |o| {
                    ours(&mut o.secret).code = None;
                    o.resource.adopt = Some(code(1).short());
                },
                "write Repair",
            ),
            ("another's", |o| ours(&mut o.secret).is_inherited = true, "write Repair"),
            (
                "behind in its number",
                |o| o.status.rotation_number = Some(3),
                "write Repair",
            ),
            (
                "no fingerprint",
                |o| ours(&mut o.secret).record.fingerprint = None,
                "write Repair",
            ),
            (
                "no time",
                |o| ours(&mut o.secret).record.rotated_at = None,
                "write Adopt",
            ),
            (
                "no code was current yet",
                |o| {
                    let secret = ours(&mut o.secret);
                    secret.record.fingerprint = None;
                    secret.code = None;
                    o.status.current = None;
                },
                "write Adopt",
            ),
            (
                "another app, whose story is not ours",
                |o| ours(&mut o.secret).record.app = other_app(),
                "write Repair",
            ),
        ],
    );
}

#[test]
fn what_is_written_again_keeps_what_is_known() {
    let o = with(|o| {
        rotated(o, 2, 500);
        let secret = ours(&mut o.secret);
        secret.code = None;
        secret.record.previous = Some(code(9));
        secret.record.handled_trigger = Some("go".into());
        secret.record.handled_request = Some("please".into());
        secret.record.recent = vec![ago(700)];
        secret.record.seed = Some(code(8));
        wanted(o).trigger = Some("go".into());
        o.resource.request = Some("please".into());
    });
    let Step::WriteCode {
        secret,
        code: written,
        record,
        ..
    } = plan(&o, now())
    else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!((secret.as_str(), written), ("target", code(1)));
    assert_eq!(&record, &o.secret.ours().unwrap().record);
    // Made anew it is told by status, whose values count as used up.
    let o = with(|o| {
        rotated(o, 2, 500);
        o.secret = SecretView::Absent;
        o.status.last_handled_trigger = Some("go".into());
        o.status.last_handled_request = Some("please".into());
        wanted(o).seed = SeedView::Known {
            fingerprint: code(1),
            inline: false,
        };
    });
    let Step::CreateSecret { record, .. } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!(
        (record.number, record.fingerprint, record.seed),
        (2, Some(code(1)), Some(code(1)))
    );
    assert_eq!(record.rotated_at, Some(ago(500)));
    assert_eq!(record.handled_trigger.as_deref(), Some("go"));
    assert_eq!(record.handled_request.as_deref(), Some("please"));
}

#[test]
fn a_code_that_is_taken_over_became_current_now() {
    let o = with(|o| {
        ours(&mut o.secret).record.rotated_at = None;
        o.status.current = None;
    });
    let Step::WriteCode { record, why, .. } = plan(&o, now() + secs(7)) else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!((record.rotated_at, why), (Some(now() + secs(7)), WriteReason::Adopt));
    let o = with(|o| {
        rotated(o, 2, 500);
        ours(&mut o.secret).code = None;
        o.status.current.as_mut().unwrap().rotated_at = Time(ago(600));
    });
    let Step::WriteCode { record, .. } = plan(&o, now()) else {
        panic!("{:?}", plan(&o, now()))
    };
    assert_eq!(record.rotated_at, Some(ago(500)));
}

#[test]
fn a_code_or_a_secret_of_an_older_resource_is_left_to_it() {
    check(
        settled,
        &[
            ("it holds our code", |o| elder(o, |_| {}), "stop Conflict"),
            ("it is younger", |o| elder(o, |it| it.is_older = false), "rest"),
            (
                "its credentials are refused",
                |o| elder(o, |it| it.standing = Standing::Refused),
                "rest",
            ),
            (
                "nobody knows its credentials",
                |o| elder(o, |it| it.standing = Standing::Unknown),
                "rest",
            ),
            (
                "it holds another code",
                |o| elder(o, |it| it.holds = vec![code(2)]),
                "rest",
            ),
            (
                "the second of two",
                |o| {
                    elder(o, |it| it.holds = vec![code(2)]);
                    elder(o, |_| {});
                },
                "stop Conflict",
            ),
            (
                "it wants our Secret, which is there",
                |o| {
                    elder(o, |it| {
                        it.holds.clear();
                        it.shares = Shares::Both;
                    });
                },
                "rest",
            ),
            ("crowded", |o| o.is_crowded = true, "stop Conflict"),
        ],
    );
    check(
        absent,
        &[
            ("nobody else wants it", |_| {}, "create"),
            (
                "it wants our Secret",
                |o| {
                    elder(o, |it| {
                        it.holds.clear();
                        it.shares = Shares::Secret;
                    });
                },
                "stop Conflict",
            ),
            (
                "both",
                |o| {
                    elder(o, |it| {
                        it.holds.clear();
                        it.shares = Shares::Both;
                    });
                },
                "stop Conflict",
            ),
            ("the app only", |o| elder(o, |it| it.holds.clear()), "create"),
            (
                "a younger one",
                |o| {
                    elder(o, |it| {
                        it.holds.clear();
                        it.shares = Shares::Secret;
                        it.is_older = false;
                    });
                },
                "create",
            ),
        ],
    );
    // At a start no code is taken from one of which status cannot tell anything, nor is a person told to delete one of two.
    check(
        fresh,
        &[
            ("a start without", |_| {}, "create"),
            (
                "nobody knows its credentials",
                |o| elder(o, |it| it.standing = Standing::Unknown),
                "wait Waiting",
            ),
            (
                "nobody knows those of one of two",
                |o| {
                    elder(o, |_| {});
                    elder(o, |it| it.standing = Standing::Unknown);
                },
                "stop Conflict",
            ),
            (
                "its credentials are refused",
                |o| elder(o, |it| it.standing = Standing::Refused),
                "create",
            ),
        ],
    );
    let told = |change: fn(&mut Sibling)| message(&plan(&with(|o| elder(o, change)), now())).to_owned();
    let code_of = format!("Code {} of app", code(1).short());
    assert!(told(|_| {}).contains("rotated by the older AppCodeRotation elder"));
    assert!(told(|_| {}).starts_with(&code_of));
    assert!(told(|_| {}).contains("its Secret goes too where its spec.target.deletionPolicy is Delete"));
    assert!(told(|it| it.name = None).contains("rotated by an older resource in another namespace"));
    let secret = plan(
        &{
            let mut o = absent();
            elder(&mut o, |it| {
                it.holds.clear();
                it.shares = Shares::Secret;
            });
            o
        },
        now(),
    );
    assert!(message(&secret).starts_with("Secret target is also the target of the older AppCodeRotation elder"));
    for (period, after) in [(3600, 900), (100, 60)] {
        let o = with(|o| {
            o.limits.check_period = secs(period);
            elder(o, |_| {});
        });
        assert_eq!(pause(&plan(&o, now())), secs(after));
    }
    assert!(message(&plan(&with(|o| o.is_crowded = true), now())).starts_with("Dozens"));
}

#[test]
fn an_older_resource_of_unknown_credentials_is_looked_at_again_after_a_quarter_of_its_age() {
    for (age, after) in [(0, 5), (400, 100), (-400, 100), (100_000, 900)] {
        let mut o = fresh();
        elder(&mut o, |it| it.standing = Standing::Unknown);
        o.siblings.last_mut().unwrap().created = ago(age);
        assert_eq!(pause(&plan(&o, now())), secs(after), "{age}");
    }
}

#[test]
fn an_older_resource_that_is_new_goes_first_at_a_start() {
    fn newborn(o: &mut Observed, age: i64, change: fn(&mut Sibling)) {
        let mut one = Sibling {
            created: ago(age),
            is_judged: false,
            ..sibling()
        };
        change(&mut one);
        o.siblings.push(one);
    }
    let start = || {
        with(|o| {
            o.secret = SecretView::Absent;
            o.status = crate::api::AppCodeRotationStatus::default();
        })
    };
    check(
        start,
        &[
            ("just made", |o| newborn(o, 0, |_| {}), "wait Waiting"),
            ("nearly a minute old", |o| newborn(o, 59, |_| {}), "wait Waiting"),
            ("a minute old", |o| newborn(o, 60, |_| {}), "create"),
            ("by a clock that is late", |o| newborn(o, -599, |_| {}), "wait Waiting"),
            (
                "by one that is late by too much",
                |o| newborn(o, -600, |_| {}),
                "create",
            ),
            ("by a clock that was set back", |o| newborn(o, -7200, |_| {}), "create"),
            ("looked at", |o| newborn(o, 0, |it| it.is_judged = true), "create"),
            ("younger", |o| newborn(o, 0, |it| it.is_older = false), "create"),
        ],
    );
    // Ever more rarely, as it may be held up: by the youngest one.
    for (ages, after) in [
        (vec![0], 1),
        (vec![8], 2),
        (vec![59], 14),
        (vec![59, 20], 5),
        (vec![-90], 22),
    ] {
        let mut o = start();
        for age in &ages {
            newborn(&mut o, *age, |_| {});
        }
        assert_eq!(pause(&plan(&o, now())).as_secs(), after, "{ages:?}");
    }
    // What is under way is not held up by it.
    check(absent, &[("later", |o| newborn(o, 0, |_| {}), "create")]);
}

#[test]
fn a_list_without_the_code_of_another_resource_is_read_again_before_a_code_is_taken_over_from_it() {
    fn holding(o: &mut Observed, number: u8, standing: Standing) {
        o.siblings.push(Sibling {
            holds: vec![code(number)],
            standing,
            ..sibling()
        });
    }
    check(
        fresh,
        &[
            ("it lacks one", |o| holding(o, 2, Standing::Authorized), "settle"),
            ("nobody knows whose", |o| holding(o, 2, Standing::Unknown), "settle"),
            ("of nobody", |o| holding(o, 2, Standing::Refused), "create"),
            (
                "its status shows one",
                |o| {
                    let shown = Some(code(2).short());
                    o.siblings.push(Sibling { shown, ..sibling() });
                },
                "settle",
            ),
            (
                "it has it",
                |o| {
                    seed(o, 1, false);
                    list(o, &[1, 2]);
                    holding(o, 2, Standing::Authorized);
                },
                "create",
            ),
            (
                "it is still young",
                |o| {
                    holding(o, 2, Standing::Authorized);
                    settle(o, gone(2), 119);
                },
                "wait Settling",
            ),
            (
                "it lacks it for long",
                |o| {
                    holding(o, 2, Standing::Authorized);
                    settle(o, gone(2), 120);
                },
                "create",
            ),
            (
                "the code before is exposed, and is replaced in any case",
                |o| {
                    seed(o, 1, true);
                    holding(o, 2, Standing::Authorized);
                },
                "intent",
            ),
        ],
    );
    // What is under way is not held up by it.
    check(absent, &[("later", |o| holding(o, 2, Standing::Authorized), "create")]);
}
