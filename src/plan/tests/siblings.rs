use super::*;

fn open_sibling(o: &mut Observed, base: Option<u8>, marked_ago: i64) {
    o.siblings.push(Sibling {
        open: Some(OpenSibling {
            base: base.map(code),
            marked_at: ago(marked_ago),
            adds: false,
        }),
        ..sibling()
    });
}

#[test]
fn a_rotation_of_another_resource_is_waited_for_while_it_may_still_change_the_list() {
    fn listed(o: &mut Observed) {
        ask(o);
        list(o, &[1, 2]);
    }
    check(
        settled,
        &[
            (
                "just marked",
                |o| {
                    listed(o);
                    open_sibling(o, Some(2), 0);
                },
                "wait Waiting",
            ),
            (
                "marked a while ago",
                |o| {
                    listed(o);
                    open_sibling(o, Some(2), 360);
                },
                "wait Waiting",
            ),
            (
                "long ago without effect",
                |o| {
                    listed(o);
                    open_sibling(o, Some(2), 361);
                },
                "intent",
            ),
            (
                "far ahead",
                |o| {
                    listed(o);
                    open_sibling(o, Some(2), -361);
                },
                "intent",
            ),
            (
                "long ago with effect",
                |o| {
                    listed(o);
                    open_sibling(o, Some(3), 9000);
                },
                "wait Waiting",
            ),
            (
                "without a code, just marked",
                |o| {
                    listed(o);
                    open_sibling(o, None, 0);
                },
                "wait Waiting",
            ),
            (
                "without a code, long ago",
                |o| {
                    listed(o);
                    open_sibling(o, None, 361);
                },
                "intent",
            ),
            (
                "of bad credentials",
                |o| {
                    listed(o);
                    open_sibling(o, Some(2), 0);
                    o.siblings[0].standing = Standing::Refused;
                },
                "intent",
            ),
            (
                "of unknown credentials",
                |o| {
                    listed(o);
                    open_sibling(o, Some(2), 0);
                    o.siblings[0].standing = Standing::Unknown;
                },
                "wait Waiting",
            ),
        ],
    );
}

#[test]
fn a_sibling_is_looked_at_again_after_a_quarter_of_the_time_that_it_has_been_open() {
    for (marked, expected) in [
        (vec![0], 5),
        (vec![20], 5),
        (vec![24], 6),
        (vec![400], 100),
        (vec![3600], 900),
        (vec![9000], 900),
        (vec![9000, 400], 100),
        (vec![-60], 5),
    ] {
        let o = with(|o| {
            ask(o);
            for seconds in &marked {
                open_sibling(o, Some(3), *seconds);
            }
        });
        let step = plan(&o, now());
        assert_eq!(
            (word(&step).as_str(), pause(&step)),
            ("wait Waiting", secs(expected)),
            "{marked:?}"
        );
    }
    let o = with(|o| {
        ask(o);
        open_sibling(o, Some(3), 4000);
        open_sibling(o, Some(3), 40);
        o.siblings[1].standing = Standing::Refused;
    });
    assert_eq!(pause(&plan(&o, now())), secs(900), "one that does not count");
}

#[test]
fn what_appears_while_another_rotation_is_open_is_no_code_to_start_from() {
    fn replaced(o: &mut Observed) {
        list(o, &[2]);
        open_sibling(o, Some(1), 9000);
    }
    fn seeded(o: &mut Observed) {
        replaced(o);
        seed(o, 2, false);
    }
    check(
        fresh,
        &[
            ("its base is gone", replaced, "wait Waiting"),
            (
                "there are several",
                |o| {
                    replaced(o);
                    list(o, &[2, 3]);
                },
                "wait Waiting",
            ),
            (
                "a person names it",
                |o| {
                    replaced(o);
                    o.resource.adopt = Some(code(2).short());
                },
                "create",
            ),
            ("spec names it", seeded, "create"),
            (
                "its base is listed",
                |o| {
                    list(o, &[2]);
                    open_sibling(o, Some(2), 9000);
                },
                "create",
            ),
            (
                "of bad credentials",
                |o| {
                    replaced(o);
                    o.siblings[0].standing = Standing::Refused;
                },
                "create",
            ),
        ],
    );
}

#[test]
fn two_rotations_wait_for_each_other_until_both_are_lost() {
    fn lost(o: &mut Observed, mine: i64, theirs: i64) {
        marked(o, mine);
        open_sibling(o, Some(3), theirs);
    }
    check(
        begun,
        &[
            (
                "the old code is listed",
                |o| {
                    lost(o, 9000, 9000);
                },
                "wait Waiting",
            ),
            (
                "both lost",
                |o| {
                    lost(o, 9000, 9000);
                    list(o, &[4, 5]);
                },
                "stop AmbiguousOutcome",
            ),
            (
                "both just lost their limit",
                |o| {
                    lost(o, 361, 361);
                    list(o, &[4, 5]);
                },
                "stop AmbiguousOutcome",
            ),
            (
                "ours is young",
                |o| {
                    lost(o, 360, 9000);
                    list(o, &[4, 5]);
                },
                "wait Waiting",
            ),
            (
                "theirs is young",
                |o| {
                    lost(o, 9000, 360);
                    list(o, &[4, 5]);
                },
                "wait Waiting",
            ),
            (
                "one of theirs is young",
                |o| {
                    lost(o, 9000, 9000);
                    open_sibling(o, Some(6), 0);
                    list(o, &[4, 5]);
                },
                "wait Waiting",
            ),
            (
                "answered",
                |o| {
                    lost(o, 9000, 9000);
                    list(o, &[4, 5]);
                    o.resource.adopt = Some(code(4).short());
                },
                "write Persist",
            ),
            (
                "answered with what is not new",
                |o| {
                    lost(o, 9000, 9000);
                    list(o, &[4, 5, 7]);
                    intent(o).known.push(code(7));
                    o.resource.adopt = Some(code(7).short());
                },
                "stop AmbiguousOutcome",
            ),
            (
                "nothing new",
                |o| {
                    lost(o, 9000, 9000);
                    list(o, &[]);
                },
                "settle",
            ),
            (
                "one new code, which is theirs",
                |o| {
                    lost(o, 9000, 9000);
                    list(o, &[4]);
                    o.siblings[0].holds = vec![code(4)];
                },
                "settle",
            ),
            (
                "without an old code",
                |o| {
                    lost(o, 9000, 9000);
                    list(o, &[4, 5]);
                    intent(o).base = None;
                },
                "wait Waiting",
            ),
        ],
    );
    let stopped = plan(
        &begun_with(|o| {
            lost(o, 9000, 9000);
            list(o, &[4, 5]);
        }),
        now(),
    );
    assert_eq!(pause(&stopped), secs(3600));
    assert!(
        message(&stopped).contains("Rotations of this resource and of another one"),
        "{stopped:?}"
    );
}
