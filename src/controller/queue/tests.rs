use jiff::Timestamp;

use super::*;
use crate::clock::Still;
use crate::controller::signs::Signs;
use crate::modelarts::Fleet;

fn notice(name: &str, generation: i64, app: &str) -> Notice {
    Notice {
        namespace: "ns".into(),
        name: name.into(),
        uid: format!("uid-{name}"),
        generation,
        observed: Some(1),
        created: Timestamp::UNIX_EPOCH,
        request: None,
        adopt: None,
        deleting: false,
        target: name.into(),
        app: ("endpoint".into(), "project".into(), app.into()),
        ..Notice::default()
    }
}

fn queue() -> (Queue, Arc<Still>) {
    let clock = Arc::new(Still::default());
    (Queue::new(Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn names(queue: &Queue) -> Vec<String> {
    std::iter::from_fn(|| queue.pop().ok())
        .map(|turn| turn.key.name().to_owned())
        .collect()
}

/// There may be tens of thousands: a field more is felt.
#[test]
fn what_is_kept_of_a_resource_is_small() {
    assert!(size_of::<Entry>() <= 88, "{}", size_of::<Entry>());
}

#[test]
fn a_change_goes_before_what_is_merely_due() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    queue.apply(&notice("b", 1, "x"), true, 1);
    queue.apply(&notice("c", 1, "x"), false, 1);
    assert_eq!(names(&queue), ["c", "a", "b"]);
}

#[test]
fn what_is_due_gets_a_turn_however_much_is_changed() {
    let (queue, _) = queue();
    queue.apply(&notice("due", 1, "x"), true, 1);
    let changed: Vec<String> = (0..6).map(|number| format!("changed-{number}")).collect();
    for name in &changed {
        queue.apply(&notice(name, 1, "x"), false, 1);
    }
    let order = names(&queue);
    assert_eq!(order.iter().position(|name| name == "due"), Some(4), "{order:?}");
}

#[test]
fn what_was_made_or_changed_while_nobody_looked_goes_first() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    queue.apply(&notice("b", 2, "x"), true, 1);
    let new = Notice {
        observed: None,
        ..notice("c", 1, "x")
    };
    queue.apply(&new, true, 1);
    assert_eq!(names(&queue), ["b", "c", "a"]);
}

#[test]
fn a_status_write_of_our_own_wakes_nobody() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), false, 1);
    let turn = queue.pop().unwrap();
    queue.apply(&notice("a", 1, "x"), false, 1);
    queue.done(&turn.key, Duration::from_secs(60), false);
    queue.apply(&notice("a", 1, "x"), false, 1);
    assert_eq!(queue.pop(), Err(Duration::from_secs(60)));
}

#[test]
fn a_change_during_a_turn_brings_another_turn_at_once() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    let turn = queue.pop().unwrap();
    assert!(!turn.nudged);
    queue.apply(&notice("a", 2, "x"), false, 1);
    assert!(queue.pop().is_err(), "never twice at a time");
    queue.done(&turn.key, Duration::from_secs(60), false);
    assert_eq!(
        queue.pop(),
        Ok(Turn {
            key: turn.key,
            nudged: true,
            waited: Duration::ZERO
        })
    );
}

#[test]
fn a_resource_made_again_during_its_turn_waits_for_the_end_of_the_turn() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    let turn = queue.pop().unwrap();
    assert!(!queue.deleted(&turn.key, || false));
    let mut again = notice("a", 1, "x");
    again.uid = "another".into();
    queue.apply(&again, true, 2);
    assert!(queue.pop().is_err());
    queue.done(&turn.key, Duration::from_secs(60), false);
    assert_eq!(queue.pop().unwrap().key, turn.key);
}

#[test]
fn failures_in_a_row_are_counted_and_a_success_forgets_them() {
    let (queue, clock) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    let key = Key::new("ns", "a");
    for expected in 1..4 {
        queue.pop().unwrap();
        queue.failed(&key, false, |failures| {
            assert_eq!(failures, expected);
            Duration::from_secs(1)
        });
        *clock.0.lock().unwrap() += Duration::from_secs(1);
    }
    queue.pop().unwrap();
    queue.done(&key, Duration::ZERO, false);
    queue.pop().unwrap();
    queue.failed(&key, false, |failures| Duration::from_secs(u64::from(failures)));
    assert_eq!(queue.pop(), Err(Duration::from_secs(1)));
}

#[test]
fn a_change_that_was_not_seen_through_is_not_forgotten_and_waits_its_time() {
    let (queue, clock) = queue();
    queue.apply(&notice("a", 1, "x"), false, 1);
    let turn = queue.pop().unwrap();
    queue.failed(&turn.key, turn.nudged, |_| Duration::from_secs(1));
    assert_eq!(queue.pop(), Err(Duration::from_secs(1)));
    *clock.0.lock().unwrap() += Duration::from_secs(1);
    let turn = queue.pop().unwrap();
    assert!(turn.nudged);
    queue.done(&turn.key, Duration::from_secs(10), true);
    assert_eq!(queue.pop(), Err(Duration::from_secs(10)));
    queue.apply(&notice("a", 2, "x"), false, 1);
    assert!(queue.pop().unwrap().nudged, "another change does not wait");
}

#[test]
fn a_deleted_resource_keeps_its_turns_until_it_is_finished() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    let turn = queue.pop().unwrap();
    assert!(!queue.deleted(&turn.key, || true));
    queue.done(&turn.key, Duration::from_secs(1), false);
    assert_eq!(queue.pop().unwrap().key, turn.key);
    queue.finished(&turn.key, Duration::from_secs(60), || ());
    assert_eq!(queue.len(), 0);
}

#[test]
fn who_waits_for_a_resource_that_is_deleted_in_its_turn_is_woken_at_the_end_of_it() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    queue.apply(&notice("b", 1, "x"), true, 1);
    queue.apply(&notice("c", 1, "y"), true, 1);
    let turn = queue.pop().unwrap();
    for name in ["b", "c"] {
        assert_eq!(queue.pop().unwrap().key.name(), name);
        queue.done(&Key::new("ns", name), Duration::from_mins(15), false);
    }
    assert!(!queue.deleted(&turn.key, || true));
    let mut is_forgotten = false;
    queue.finished(&turn.key, Duration::from_secs(60), || is_forgotten = true);
    assert!(is_forgotten);
    assert_eq!(names(&queue), ["b"]);
}

#[test]
fn a_resource_made_again_is_not_forgotten_with_the_old_one() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    let turn = queue.pop().unwrap();
    assert!(!queue.deleted(&turn.key, || true));
    queue.apply(&notice("a", 2, "x"), false, 1);
    queue.finished(&turn.key, Duration::from_secs(60), || ());
    assert!(queue.pop().unwrap().nudged);
}

#[test]
fn what_a_new_listing_does_not_show_is_forgotten() {
    let (queue, _) = queue();
    queue.apply(&notice("a", 1, "x"), true, 1);
    queue.apply(&notice("b", 1, "x"), true, 1);
    queue.apply(&notice("b", 1, "x"), true, 2);
    assert_eq!(queue.unseen(2, |_| true), [Key::new("ns", "a")]);
    assert!(queue.deleted(&Key::new("ns", "a"), || false));
    assert_eq!(names(&queue), ["b"]);
    assert_eq!(queue.neighbours(&Key::new("ns", "b"), 4).nearest, []);
}

#[test]
fn resources_of_one_app_know_each_other_and_no_others() {
    let (queue, _) = queue();
    for (name, app) in [("a", "x"), ("b", "x"), ("c", "y")] {
        queue.apply(&notice(name, 1, app), true, 1);
    }
    let near = |name| -> Vec<String> {
        queue
            .neighbours(&Key::new("ns", name), 4)
            .nearest
            .into_iter()
            .map(|n| n.key.name().to_owned())
            .collect()
    };
    assert_eq!(near("a"), ["b"]);
    queue.apply(&notice("b", 2, "y"), false, 1);
    assert_eq!(near("c"), ["b"]);
    assert_eq!(near("a"), Vec::<String>::new());
}

#[test]
fn resources_with_one_target_know_each_other_whatever_app_they_are_for() {
    let (queue, _) = queue();
    let on = |name, app, target: &str| Notice {
        target: target.into(),
        ..notice(name, 1, app)
    };
    queue.apply(&notice("a", 1, "x"), true, 1);
    queue.apply(&on("b", "y", "a"), true, 1);
    queue.apply(&on("c", "z", "a"), true, 1);
    queue.apply(&on("d", "z", "other"), true, 1);
    let near = |name| -> Vec<(String, bool)> {
        let near = queue.neighbours(&Key::new("ns", name), 4).nearest;
        near.into_iter()
            .map(|other| (other.key.name().to_owned(), other.is_on_app))
            .collect()
    };
    assert_eq!(near("a"), [("b".into(), false), ("c".into(), false)]);
    assert_eq!(near("b"), [("a".into(), false), ("c".into(), false)]);
    assert_eq!(
        near("c"),
        [("d".into(), true), ("a".into(), false), ("b".into(), false)]
    );
    while queue.pop().is_ok_and(|turn| {
        queue.done(&turn.key, Duration::from_secs(60), false);
        true
    }) {}
    queue.apply(&on("b", "y", "b"), false, 1);
    assert!(queue.deleted(&Key::new("ns", "c"), || false));
    assert_eq!(near("a"), []);
    assert_eq!(
        names(&queue),
        ["a", "d"],
        "who waited for what b and c had is looked at"
    );
}

#[test]
fn of_many_on_one_app_those_that_may_have_a_code_are_looked_at_first() {
    let (queue, _) = queue();
    for number in 0..6 {
        let created = Timestamp::from_second(number).unwrap();
        let is_bystander = number < 2;
        let notice = notice(&format!("r{number}"), 1, "x");
        queue.apply(
            &Notice {
                created,
                is_bystander,
                ..notice
            },
            true,
            1,
        );
    }
    let look = |number: u8| {
        let near = queue.neighbours(&Key::new("ns", &format!("r{number}")), 3);
        let names: Vec<String> = near.nearest.iter().map(|other| other.key.name().to_owned()).collect();
        (names.join(" "), near.is_crowded)
    };
    assert_eq!(look(5), ("r2 r3 r4".into(), true));
    assert_eq!(look(4), ("r2 r3 r5".into(), false));
    assert_eq!(look(0), ("r2 r3 r4".into(), false));
}

#[test]
fn a_fleet_is_counted_by_its_credentials() {
    let (queue, _) = queue();
    let with = |name, credentials: Option<&str>| Notice {
        credentials: credentials.map(str::to_owned),
        ..notice(name, 1, "x")
    };
    for (name, credentials) in [("a", Some("keys")), ("b", Some("keys")), ("c", None)] {
        queue.apply(&with(name, credentials), true, 1);
    }
    let count = |name| {
        let fleet = queue.fleet(&Key::new("ns", name));
        (fleet.of_caller, fleet.whole)
    };
    assert_eq!((count("a"), count("c")), ((2, 3), (1, 3)));
    assert_eq!(queue.overdue(), Fleet { of_caller: 2, whole: 3 });
    queue.apply(&with("b", None), false, 1);
    assert_eq!((count("a"), count("c")), ((1, 3), (2, 3)));
    assert!(queue.deleted(&Key::new("ns", "c"), || false));
    assert_eq!(count("b"), (1, 2));
}

#[test]
fn a_resource_waits_from_when_it_was_due_until_it_is_taken() {
    let (queue, clock) = queue();
    let at = |seconds| *clock.0.lock().unwrap() = Duration::from_secs(seconds);
    let waiting = || {
        let census = queue.census(Timestamp::UNIX_EPOCH, 0, Some(Duration::ZERO));
        (census.waiting, census.longest_wait.as_secs())
    };
    for name in ["a", "b"] {
        queue.apply(&notice(name, 1, "x"), true, 1);
        let turn = queue.pop().unwrap();
        queue.done(&turn.key, Duration::from_secs(60), false);
    }
    assert_eq!(waiting(), (0, 0), "neither is due");
    at(70);
    assert_eq!(waiting(), (2, 10));
    queue.nudge(&Key::new("ns", "b"));
    at(75);
    assert_eq!(waiting(), (2, 15), "a change does not begin the wait again");
    let waited = || {
        queue
            .pop()
            .map(|turn| (turn.key.name().to_owned(), turn.waited.as_secs()))
    };
    assert_eq!(waited(), Ok(("b".into(), 15)));
    assert_eq!(waiting(), (1, 15));
    assert_eq!(waited(), Ok(("a".into(), 15)));
    assert_eq!(waiting(), (0, 0), "what is in hand does not wait");
    queue.apply(&notice("c", 1, "x"), false, 1);
    at(78);
    assert_eq!(waiting(), (1, 3));
}

#[test]
fn a_census_counts_all_and_shows_the_oldest_one_by_one() {
    use std::num::NonZeroU32;

    use crate::api::Reason;
    use crate::controller::Why;

    let (queue, _) = queue();
    let conflict = Why::Told(Reason::Conflict);
    let due = |next| Signs {
        next: NonZeroU32::new(next),
        ..Signs::default()
    };
    let stopped = Signs {
        stalled: Some(conflict),
        unready: Some(conflict),
        ..due(900)
    };
    for (age, (name, signs)) in [
        ("c", due(970)),
        ("a", stopped),
        ("d", Signs::default()),
        ("b", due(1001)),
    ]
    .into_iter()
    .enumerate()
    {
        let created = Timestamp::from_second(i64::try_from(age).unwrap()).unwrap();
        queue.apply(
            &Notice {
                created,
                signs,
                ..notice(name, 1, name)
            },
            true,
            1,
        );
    }
    let census = |most| queue.census(Timestamp::from_second(1000).unwrap(), most, None);
    let all = census(9);
    assert_eq!((all.resources, all.overdue, all.most_overdue.as_secs()), (4, 2, 100));
    assert_eq!(all.stalled.into_iter().collect::<Vec<_>>(), [(conflict, 1)]);
    assert_eq!(all.unready.into_iter().collect::<Vec<_>>(), [(conflict, 1)]);
    let names = |most| -> Vec<String> {
        let shown = census(most).shown.into_iter();
        shown.map(|(key, _)| key.name().to_owned()).collect()
    };
    assert_eq!((names(9).join(" "), census(9).hidden()), ("c a d b".into(), 0));
    assert_eq!((names(2).join(" "), census(2).hidden()), ("c a".into(), 2));
    assert_eq!((names(0).join(" "), census(0).hidden()), (String::new(), 4));

    // What is gone is not counted, even while a code of it is still to be saved.
    assert!(!queue.deleted(&Key::new("ns", "a"), || true));
    assert!(queue.deleted(&Key::new("ns", "c"), || false));
    let rest = census(9);
    assert_eq!((rest.resources, rest.overdue, rest.stalled.len()), (2, 0, 0));
    assert_eq!(names(9).join(" "), "d b");

    // A later status takes the place of an earlier one.
    queue.apply(
        &Notice {
            signs: due(1),
            ..notice("d", 1, "d")
        },
        false,
        1,
    );
    assert_eq!(census(9).overdue, 1);
}
