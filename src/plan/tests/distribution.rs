use std::time::Duration;

use super::*;
use crate::api::{RotationStep, Strategy, WorkloadKind};
use crate::intent::Distribution;
use crate::status::mirror_before_call;
use crate::verification::Probe;
use crate::workload::Rollout;

const UPTIME: i64 = 50_000;

fn target(name: &str) -> RestartTarget {
    RestartTarget {
        kind: WorkloadKind::Deployment,
        name: name.into(),
    }
}

/// The new code has been in the Secret for ten seconds; it is to be tried, and two workloads are to be restarted.
fn persisted(strategy: Strategy) -> Observed {
    let mut o = with(|o| {
        ask(o);
        o.resource.has_finalizer = strategy == Strategy::Overlap;
        let handover = &mut wanted(o).handover;
        handover.strategy = strategy;
        handover.is_verified = true;
        handover.restarts = vec![target("web"), target("job")];
    });
    let Step::WriteIntent { record, .. } = plan(&o, now()) else {
        panic!("a rotation begins: {:?}", plan(&o, now()))
    };
    ours(&mut o.secret).record = record;
    o.draw += 1;
    let marked = intent(&mut o).clone();
    list(&mut o, if strategy == Strategy::Reset { &[2] } else { &[1, 2] });
    let app = reading(&mut o);
    app.updated_at = app.updated_at.map(|at| at + 1);
    let Step::WriteCode { record, code: made, .. } = plan(&o, now()) else {
        panic!("it is persisted: {:?}", plan(&o, now()))
    };
    let secret = ours(&mut o.secret);
    (secret.record, secret.code) = (record, Some(made));
    if strategy == Strategy::Overlap {
        o.status.rotation = Some(mirror_before_call(&marked));
    }
    o.status.last_handled_trigger = Some("go".into());
    o.status.current.as_mut().unwrap().fingerprint = made.short();
    rotated(&mut o, 1, 10);
    o.uptime = secs(UPTIME);
    o
}

fn with_reset() -> Observed {
    persisted(Strategy::Reset)
}

fn with_overlap() -> Observed {
    persisted(Strategy::Overlap)
}

fn unverified(o: &mut Observed) {
    wanted(o).handover.is_verified = false;
}

fn without_restarts(o: &mut Observed) {
    wanted(o).handover.restarts.clear();
}

/// The first and the last try were made so long ago.
fn tried(o: &mut Observed, since: i64, last: i64, outcome: Probe) {
    o.memory.trial = Some(Trial {
        rotation_id: intent(o).rotation_id.clone(),
        code: ours(&mut o.secret).code.unwrap(),
        generation: o.resource.generation,
        since: secs(UPTIME - since),
        last: secs(UPTIME - last),
        outcome,
    });
}

fn refused() -> Probe {
    Probe::Refused { status: 401 }
}

fn looked(o: &mut Observed, web: Rollout, job: Rollout) {
    let rollouts = vec![(target("web"), web), (target("job"), job)];
    let is_marked = |rollout: &Rollout| {
        !matches!(
            rollout,
            Rollout::Missing
                | Rollout::Forbidden(_)
                | Rollout::Failing(_)
                | Rollout::NotRestarted
                | Rollout::RolledBack
        )
    };
    let marked = rollouts.iter().filter(|(_, rollout)| is_marked(rollout));
    o.marked = marked.map(|(target, _)| format!("{target}/uid")).collect();
    o.rollouts = Some(rollouts);
}

fn restarted(o: &mut Observed, names: &[&str]) {
    let names = names.iter().map(|name| format!("Deployment/{name}/uid")).collect();
    intent(o).distribution.as_mut().unwrap().restarted = names;
}

fn noted(o: &Observed) -> (RotationStep, Distribution) {
    match plan(o, now()) {
        Step::WriteRecord { secret, record } => {
            assert_eq!((secret.as_str(), record.fingerprint), ("target", Some(code(2))));
            let intent = record.intent.unwrap();
            (intent.step, intent.distribution.unwrap())
        }
        other => panic!("nothing is noted: {other:?}"),
    }
}

const MOVING: Rollout = Rollout::Progressing { what: "pods" };

#[test]
fn what_is_to_be_done_for_consumers_is_on_record_from_the_start() {
    for mut o in [with_reset(), with_overlap()] {
        let open = intent(&mut o);
        assert_eq!(
            (open.step, open.distribution.clone()),
            (RotationStep::Persisted, Some(Distribution::default()))
        );
    }
}

#[test]
fn either_a_try_or_a_restart_is_something_to_do() {
    let awaited = |change: fn(&mut Observed)| {
        let mut o = with(|o| {
            ask(o);
            change(o);
        });
        let Step::WriteIntent { record, .. } = plan(&o, now()) else {
            panic!("a rotation begins: {:?}", plan(&o, now()))
        };
        ours(&mut o.secret).record = record;
        list(&mut o, &[2]);
        match plan(&o, now()) {
            Step::WriteCode { record, .. } => record.intent.unwrap().distribution,
            other => panic!("it is persisted: {other:?}"),
        }
    };
    let open = Some(Distribution::default());
    assert_eq!(awaited(|o| wanted(o).handover.is_verified = true), open);
    assert_eq!(awaited(|o| wanted(o).handover.restarts = vec![target("web")]), open);
    assert_eq!(awaited(|_| {}), None);
}

#[test]
fn a_code_is_tried_before_anything_is_restarted_for_it() {
    for start in [with_reset as fn() -> Observed, with_overlap] {
        check(
            start,
            &[
                ("not tried", |_| {}, "verify"),
                ("tried just now", |o| tried(o, 0, 0, refused()), "linger Verifying"),
                ("tried a while ago", |o| tried(o, 4, 4, refused()), "linger Verifying"),
                ("tried five seconds ago", |o| tried(o, 5, 5, refused()), "verify"),
                (
                    "tried for long, a quarter of that ago",
                    |o| tried(o, 250, 50, refused()),
                    "verify",
                ),
                ("passed", |o| tried(o, 0, 0, Probe::Passed), "look"),
                (
                    "another rotation's",
                    |o| {
                        tried(o, 0, 0, Probe::Passed);
                        o.memory.trial.as_mut().unwrap().rotation_id = crate::ids::RotationId::from_random(99);
                    },
                    "verify",
                ),
                (
                    "another code's, that has since been replaced in the Secret",
                    |o| {
                        tried(o, 0, 0, Probe::Passed);
                        o.memory.trial.as_mut().unwrap().code = code(9);
                    },
                    "verify",
                ),
                (
                    "passed before",
                    |o| intent(o).distribution.as_mut().unwrap().verified_at = Some(now()),
                    "look",
                ),
                ("not to be tried", unverified, "look"),
            ],
        );
    }
    check(
        with_overlap,
        &[
            (
                "tried for long, lately",
                |o| tried(o, 240, 40, refused()),
                "linger VerificationFailed",
            ),
            // No pause is longer than five minutes.
            ("five minutes ago", |o| tried(o, 40_000, 300, refused()), "verify"),
            (
                "a second less",
                |o| tried(o, 40_000, 299, refused()),
                "linger VerificationFailed",
            ),
        ],
    );
}

#[test]
fn a_code_that_does_not_work_yet_has_two_minutes_to_become_known() {
    let reason = |since, last| {
        let mut o = with_overlap();
        tried(&mut o, since, last, refused());
        o.unverified(now()).map(|(reason, _)| reason)
    };
    assert_eq!(reason(119, 0), Some(Reason::Verifying));
    assert_eq!(reason(120, 0), Some(Reason::VerificationFailed));
    assert_eq!(
        reason(400, 300),
        Some(Reason::Verifying),
        "what counts is how long it was tried"
    );
    let of = |change: fn(&mut Observed)| {
        let mut o = with_overlap();
        change(&mut o);
        o.unverified(now()).map(|(reason, _)| reason)
    };
    // Whoever does without a verification retires the code before.
    let mut o = with_overlap();
    tried(&mut o, 240, 40, refused());
    let (_, told) = o.unverified(now()).unwrap();
    assert!(told.contains("retired though the new one never passed"), "{told}");
    assert_eq!(of(|_| {}), Some(Reason::Verifying));
    assert_eq!(of(|o| tried(o, 0, 0, Probe::Passed)), None);
    assert_eq!(of(unverified), None);
    assert_eq!(of(|o| intent(o).step = RotationStep::Distributed), None);
    assert_eq!(
        of(|o| intent(o).distribution.as_mut().unwrap().verified_at = Some(now())),
        None
    );
}

#[test]
fn who_asks_to_be_left_alone_is_left_alone() {
    let throttled = |after: Option<u64>, last: i64| {
        let mut o = with_overlap();
        let retry_after = after.map(Duration::from_secs);
        tried(&mut o, last, last, Probe::Throttled { retry_after });
        plan(&o, now())
    };
    let step = throttled(Some(60), 20);
    assert_eq!((word(&step).as_str(), pause(&step)), ("linger Verifying", secs(40)));
    assert_eq!(word(&throttled(Some(60), 59)), "linger Verifying");
    assert_eq!(word(&throttled(Some(60), 60)), "verify");
    assert_eq!(word(&throttled(None, 5)), "verify");
    let step = throttled(None, 4);
    assert_eq!((word(&step).as_str(), pause(&step)), ("linger Verifying", secs(5)));
}

#[test]
fn workloads_are_restarted_once_after_the_delay() {
    let start = || {
        let mut o = with_overlap();
        unverified(&mut o);
        o
    };
    check(
        start,
        &[
            ("not looked at", |_| {}, "look"),
            (
                "the delay",
                |o| wanted(o).handover.restart_delay = secs(11),
                "linger Distributing",
            ),
            (
                "the delay is over",
                |o| wanted(o).handover.restart_delay = secs(10),
                "look",
            ),
            ("fresh", |o| looked(o, Rollout::NotRestarted, Rollout::Done), "restart"),
            (
                "fresh, and this process ends",
                |o| {
                    looked(o, Rollout::NotRestarted, Rollout::Done);
                    o.may_mutate = false;
                },
                "wait Waiting",
            ),
            (
                "restarted, not on record",
                |o| looked(o, MOVING, Rollout::Done),
                "record",
            ),
            (
                "restarted and on record",
                |o| {
                    looked(o, MOVING, Rollout::Done);
                    restarted(o, &["web", "job"]);
                },
                "linger RollingOut",
            ),
            (
                "one cannot be restarted",
                |o| {
                    looked(o, Rollout::Missing, MOVING);
                    restarted(o, &["job"]);
                },
                "linger RolloutHeld",
            ),
            (
                "one may not be restarted",
                |o| {
                    looked(o, Rollout::Done, Rollout::Forbidden("no".into()));
                    restarted(o, &["web"]);
                },
                "linger RolloutHeld",
            ),
            (
                "nobody waits for it",
                |o| {
                    looked(o, MOVING, Rollout::Missing);
                    restarted(o, &["web"]);
                    wanted(o).handover.waits_for_rollout = false;
                },
                "record",
            ),
            (
                "all is done",
                |o| {
                    looked(o, Rollout::Done, Rollout::Done);
                    restarted(o, &["web", "job"]);
                },
                "record",
            ),
            ("nothing to restart", without_restarts, "record"),
        ],
    );
    let mut o = start();
    wanted(&mut o).handover.restart_delay = secs(70);
    assert_eq!(pause(&plan(&o, now())), secs(60));
    looked(&mut o, Rollout::NotRestarted, Rollout::NotRestarted);
    wanted(&mut o).handover.restart_delay = SignedDuration::ZERO;
    assert_eq!(plan(&o, now()), Step::Restart(vec![target("web"), target("job")]));
    looked(&mut o, Rollout::Done, Rollout::NotRestarted);
    assert_eq!(plan(&o, now()), Step::Restart(vec![target("job")]));
    // With Reset the code before is dead, and what is not waited for is at least told.
    let mut o = with_reset();
    unverified(&mut o);
    looked(&mut o, MOVING, Rollout::Done);
    restarted(&mut o, &["web", "job"]);
    wanted(&mut o).handover.waits_for_rollout = false;
    assert_eq!(decided(&o), "linger RollingOut");
}

#[test]
fn where_no_roll_out_is_waited_for_a_restart_that_fails_is_tried_again_for_two_minutes() {
    let failing = |failed_for: i64, change: fn(&mut Observed)| {
        let mut o = with_overlap();
        unverified(&mut o);
        rotated(&mut o, 1, 9000);
        looked(&mut o, MOVING, Rollout::Failing("the API server failed".into()));
        restarted(&mut o, &["web"]);
        o.memory.unrestarted = Some((intent(&mut o).rotation_id.clone(), secs(UPTIME - failed_for)));
        wanted(&mut o).handover.waits_for_rollout = false;
        change(&mut o);
        plan(&o, now())
    };
    for (failed_for, pause_then) in [(0, 5), (20, 5), (80, 20), (119, 29)] {
        let step = failing(failed_for, |_| {});
        assert_eq!(
            (word(&step).as_str(), pause(&step).as_secs()),
            ("linger RolloutHeld", pause_then)
        );
        let Step::Linger { message, .. } = step else {
            unreachable!()
        };
        assert!(
            message.contains("for two minutes") && !message.contains("ends the wait"),
            "{message}"
        );
    }
    assert_eq!(word(&failing(120, |_| {})), "record");
    assert_eq!(word(&failing(0, |o| o.memory.unrestarted = None)), "record");
    let another = |o: &mut Observed| {
        o.memory.unrestarted.as_mut().unwrap().0 = crate::ids::RotationId::from_random(99);
    };
    assert_eq!(word(&failing(0, another)), "record");
    // One that is waited for is tried again as soon, and for as long as it takes.
    let waits = |o: &mut Observed| wanted(o).handover.waits_for_rollout = true;
    for (failed_for, pause_then) in [(0, 5), (80, 20), (8000, 300)] {
        let step = failing(failed_for, waits);
        assert_eq!(
            (word(&step).as_str(), pause(&step).as_secs()),
            ("linger RolloutHeld", pause_then)
        );
    }
}

#[test]
fn a_clock_that_is_set_back_ends_no_trial_early() {
    let mut o = with_reset();
    rotated(&mut o, 1, -7200);
    tried(&mut o, 60, 0, refused());
    let step = plan(&o, now());
    assert_eq!((word(&step).as_str(), pause(&step)), ("linger Verifying", secs(15)));
    tried(&mut o, 121, 1, refused());
    assert_eq!(word(&plan(&o, now())), "look");
}

#[test]
fn a_workload_is_on_record_by_kind_and_name_whichever_it_was() {
    let mut o = with_overlap();
    restarted(&mut o, &["web"]);
    let done = intent(&mut o).distribution.clone().unwrap();
    let stateful = RestartTarget {
        kind: WorkloadKind::StatefulSet,
        name: "web".into(),
    };
    let is_on_record = |target: &RestartTarget| done.has_restarted(target);
    assert!(is_on_record(&target("web")));
    assert!(!is_on_record(&target("we")) && !is_on_record(&target("web2")) && !is_on_record(&stateful));
}

#[test]
fn what_was_done_is_noted_as_it_is_done() {
    let mut o = with_overlap();
    tried(&mut o, 30, 0, Probe::Passed);
    looked(&mut o, MOVING, Rollout::Missing);
    restarted(&mut o, &["old"]);
    let (step, distribution) = noted(&o);
    assert_eq!((step, distribution.verified_at), (RotationStep::Persisted, Some(now())));
    assert_eq!(distribution.restarted, ["Deployment/old/uid", "Deployment/web/uid"]);
    intent(&mut o).distribution.as_mut().unwrap().verified_at = Some(ago(7));
    assert_eq!(noted(&o).1.verified_at, Some(ago(7)));
    // Known ones are not noted twice.
    looked(&mut o, MOVING, MOVING);
    restarted(&mut o, &["old", "web"]);
    assert_eq!(
        noted(&o).1.restarted,
        ["Deployment/old/uid", "Deployment/web/uid", "Deployment/job/uid"]
    );
    let mut o = with_overlap();
    unverified(&mut o);
    looked(&mut o, MOVING, Rollout::Missing);
    assert_eq!(noted(&o).1.verified_at, None);
    // A try that failed, or another rotation's, is no proof.
    let mut o = with_reset();
    tried(&mut o, 240, 40, refused());
    looked(&mut o, MOVING, MOVING);
    assert_eq!(noted(&o).1.verified_at, None);
    // The end.
    let mut o = with_overlap();
    without_restarts(&mut o);
    tried(&mut o, 30, 0, Probe::Passed);
    let expected = Distribution {
        verified_at: Some(now()),
        restarted: Vec::new(),
        distributed_at: Some(now()),
    };
    assert_eq!(noted(&o), (RotationStep::Distributed, expected));
    unverified(&mut o);
    assert_eq!(noted(&o).1.verified_at, None);
}

#[test]
fn a_code_that_a_person_names_in_the_place_of_a_tried_one_has_still_to_be_tried() {
    let tried_at = |o: &Observed| match plan(o, now()) {
        Step::WriteCode { code, record, .. } => (code, record.intent.unwrap().distribution.unwrap().verified_at),
        step => panic!("{step:?}"),
    };
    let mut o = with_reset();
    intent(&mut o).distribution.as_mut().unwrap().verified_at = Some(ago(7));
    ours(&mut o.secret).code = Some(code(5));
    assert_eq!(tried_at(&o), (code(2), Some(ago(7))));
    list(&mut o, &[3]);
    settle(&mut o, gone(2), 3600);
    o.resource.adopt = Some(code(3).short());
    assert_eq!(tried_at(&o), (code(3), None));
}

#[test]
fn with_reset_a_code_that_fails_holds_nothing_back_for_long() {
    let start = || {
        let mut o = with_reset();
        tried(&mut o, 240, 40, refused());
        o
    };
    check(
        start,
        &[
            ("not looked at", |_| {}, "look"),
            (
                "all restarted",
                |o| {
                    looked(o, Rollout::Done, Rollout::Done);
                    restarted(o, &["web", "job"]);
                },
                "linger VerificationFailed",
            ),
            ("nothing to restart", without_restarts, "linger VerificationFailed"),
            (
                "it may become known",
                |o| tried(o, 100, 0, refused()),
                "linger Verifying",
            ),
        ],
    );
}

#[test]
fn a_roll_out_is_looked_at_again_after_a_quarter_of_the_time_that_it_takes() {
    let at = |age: i64| {
        let mut o = with_overlap();
        unverified(&mut o);
        rotated(&mut o, 1, age);
        looked(&mut o, MOVING, MOVING);
        restarted(&mut o, &["web", "job"]);
        pause(&plan(&o, now()))
    };
    for (age, expected) in [(0, 5), (20, 5), (24, 6), (400, 100), (1200, 300), (9000, 300)] {
        assert_eq!(at(age), secs(expected), "{age}");
    }
    // No longer than to the next check.
    let mut o = with_overlap();
    unverified(&mut o);
    rotated(&mut o, 1, 9000);
    looked(&mut o, MOVING, MOVING);
    restarted(&mut o, &["web", "job"]);
    o.limits.check_period = secs(200);
    assert_eq!(pause(&plan(&o, now())), secs(200));
    o.limits.check_period = secs(2);
    assert_eq!(pause(&plan(&o, now())), secs(5));
}

#[test]
fn a_rotation_that_is_due_does_not_wait_for_consumers_unless_a_code_is_to_be_retired() {
    fn moving(o: &mut Observed) {
        unverified(o);
        looked(o, MOVING, MOVING);
        restarted(o, &["web", "job"]);
        wanted(o).trigger = Some("more".into());
        o.limits.minimum_interval = SignedDuration::ZERO;
        ours(&mut o.secret).record.recent.clear();
    }
    let asked = |start: fn() -> Observed| {
        move || {
            let mut o = start();
            moving(&mut o);
            o
        }
    };
    check(
        asked(with_reset),
        &[
            ("asked for", |_| {}, "intent"),
            (
                "not asked for",
                |o| wanted(o).trigger = Some("go".into()),
                "linger RollingOut",
            ),
            (
                "something else is to be done first",
                |o| looked(o, Rollout::NotRestarted, MOVING),
                "restart",
            ),
            ("held", |o| wanted(o).suspend = true, "linger RollingOut"),
        ],
    );
    check(asked(with_overlap), &[("asked for", |_| {}, "linger RollingOut")]);
    // What waits itself is looked at again when it may start.
    for (interval, expected) in [(9100, 100), (9299, 299), (9301, 300), (9900, 300)] {
        let mut o = asked(with_reset)();
        rotated(&mut o, 1, 9000);
        o.limits.minimum_interval = secs(interval);
        let step = plan(&o, now());
        assert_eq!(
            (word(&step).as_str(), pause(&step)),
            ("linger RollingOut", secs(expected))
        );
    }
    // What stops is told once consumers have the code.
    let mut o = asked(with_reset)();
    reading(&mut o).unaddressable = vec![code(2)];
    assert_eq!(decided(&o), "linger RollingOut");
}

#[test]
fn what_needs_nothing_of_the_cloud_does_not_wait_for_it() {
    fn away(o: &mut Observed) {
        o.cloud = Cloud::Failed(failure(Reason::Retrying, false));
    }
    check(
        || {
            let mut o = with_overlap();
            away(&mut o);
            o
        },
        &[
            ("to be tried", |_| {}, "verify"),
            ("to be restarted", unverified, "look"),
            ("to be waited for", |o| tried(o, 0, 0, refused()), "retry"),
            (
                "a newer code is to be saved first",
                |o| {
                    o.memory.held = Some(Held {
                        intent: intent(o).clone(),
                        code: code(3),
                    });
                },
                "retry",
            ),
            (
                "the Secret is to be mended first",
                |o| ours(&mut o.secret).code = Some(code(1)),
                "retry",
            ),
        ],
    );
}

#[test]
fn a_code_on_its_way_is_looked_at_again_soon_whatever_else_is_waited_for() {
    let pause = |change: fn(&mut Observed)| {
        let mut o = with_overlap();
        change(&mut o);
        distribution_pause(&o, now())
    };
    assert_eq!(pause(|o| rotated(o, 1, 400)), Some(secs(100)));
    assert_eq!(pause(|o| intent(o).step = RotationStep::Distributed), None);
    assert_eq!(pause(|o| ours(&mut o.secret).code = Some(code(1))), None);
}
