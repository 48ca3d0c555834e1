use pretty_assertions::assert_eq;

use super::*;
use crate::clock::Still;
use crate::controller::Notice;

/// A queue with resources at rest, and what watches their Secrets.
struct Scene {
    clock: Arc<Still>,
    queue: Queue,
    lookout: Lookout,
}

const CHECK: Duration = Duration::from_secs(3600);

impl Scene {
    /// Each resource with the Secret that it names.
    fn with(resources: &[(&str, &str)]) -> Self {
        let clock = Arc::new(Still::default());
        let queue = Queue::new(Arc::clone(&clock) as Arc<dyn Clock>);
        for (name, target) in resources {
            let notice = Notice {
                namespace: "ns".into(),
                name: (*name).into(),
                target: (*target).into(),
                observed: Some(0),
                app: (String::new(), String::new(), (*name).into()),
                ..Notice::default()
            };
            queue.apply(&notice, true, 1);
        }
        while let Ok(turn) = queue.pop() {
            queue.done(&turn.key, CHECK, false);
        }
        let lookout = Lookout::new(Arc::clone(&clock) as Arc<dyn Clock>);
        Self { clock, queue, lookout }
    }

    fn pass(&self, time: Duration) {
        *self.clock.0.lock().unwrap() += time;
    }

    /// Lets the watch wait as long as it would, and takes the turns that come of it.
    fn turns(&self) -> Vec<String> {
        let (_, wait) = self.lookout.wake(&self.queue);
        self.pass(wait.min(LEAST));
        self.lookout.wake(&self.queue);
        let mut turns = Vec::new();
        while let Ok(turn) = self.queue.pop() {
            assert!(!turn.nudged, "back-off holds");
            self.queue.done(&turn.key, CHECK, false);
            turns.push(turn.key.name().to_owned());
        }
        turns.sort_unstable();
        turns
    }
}

#[test]
fn a_write_of_our_own_wakes_nobody_whether_its_answer_or_its_event_is_first() {
    let scene = Scene::with(&[("a", "a")]);
    scene.lookout.seen("ns", "a", Some("1"));
    scene.lookout.changed("ns", "a", Some("1"));
    assert_eq!(scene.lookout.alarms(), 0, "nothing is kept of it");
    scene.lookout.changed("ns", "a", Some("2"));
    scene.lookout.seen("ns", "a", Some("2"));
    assert_eq!(scene.turns(), Vec::<String>::new());
    assert_eq!(scene.lookout.alarms(), 0);
    // Two writes of one pass, whose first event comes late.
    scene.lookout.seen("ns", "a", Some("4"));
    scene.lookout.changed("ns", "a", Some("3"));
    scene.lookout.changed("ns", "a", Some("4"));
    assert_eq!(scene.turns(), Vec::<String>::new());
}

#[test]
fn a_change_and_a_deletion_by_others_bring_one_turn_each() {
    let scene = Scene::with(&[("a", "a"), ("b", "b")]);
    scene.lookout.seen("ns", "a", Some("1"));
    scene.lookout.seen("ns", "b", Some("2"));
    for version in ["3", "4", "5"] {
        scene.lookout.changed("ns", "a", Some(version));
    }
    assert_eq!(scene.turns(), ["a"], "changes in a row are one");
    scene.lookout.seen("ns", "a", Some("6"));
    scene.lookout.changed("ns", "b", None);
    assert_eq!(scene.turns(), ["b"]);
    scene.lookout.seen("ns", "b", None);
    scene.lookout.changed("ns", "b", None);
    assert_eq!(scene.turns(), Vec::<String>::new(), "a pass has seen that it is gone");
}

#[test]
fn everybody_who_names_the_secret_is_woken_and_nobody_for_a_secret_that_none_names() {
    let scene = Scene::with(&[("a", "shared"), ("shared", "shared"), ("other", "else")]);
    scene.lookout.changed("ns", "shared", Some("1"));
    scene.lookout.changed("elsewhere", "shared", Some("1"));
    scene.lookout.changed("ns", "a", Some("1"));
    scene.lookout.changed("ns", "other", Some("1"));
    assert_eq!(scene.turns(), ["a", "shared"]);
    scene.lookout.wake(&scene.queue);
    assert_eq!(scene.lookout.alarms(), 1, "only of what woke somebody");
}

#[test]
fn a_resource_that_is_in_hand_is_asked_for_again_unless_its_pass_has_seen_the_change() {
    let scene = Scene::with(&[("a", "a")]);
    scene.lookout.seen("ns", "a", Some("1"));
    for is_seen in [true, false] {
        scene.queue.nudge(&Key::new("ns", "a"));
        let turn = scene.queue.pop().unwrap();
        scene.lookout.changed("ns", "a", Some("2"));
        scene.pass(LEAST);
        let (woken, wait) = scene.lookout.wake(&scene.queue);
        assert_eq!((woken, wait), (0, LEAST));
        if is_seen {
            scene.lookout.seen("ns", "a", Some("2"));
        } else {
            scene.lookout.seen("ns", "a", Some("1"));
        }
        scene.queue.done(&turn.key, CHECK, false);
        let expected: &[&str] = if is_seen { &[] } else { &["a"] };
        assert_eq!(scene.turns(), expected);
        scene.lookout.seen("ns", "a", Some("1"));
    }
}

#[test]
fn a_secret_that_is_changed_after_each_repair_is_looked_at_ever_more_seldom() {
    let scene = Scene::with(&[("a", "a")]);
    let mut version = 0;
    let mut turns = Vec::new();
    let hour = scene.clock.uptime() + CHECK;
    scene.lookout.seen("ns", "a", Some("0"));
    scene.lookout.changed("ns", "a", Some("stranger"));
    while scene.clock.uptime() < hour {
        let (woken, wait) = scene.lookout.wake(&scene.queue);
        if woken > 0 {
            let turn = scene.queue.pop().unwrap();
            version += 1;
            scene.lookout.seen("ns", "a", Some(&version.to_string()));
            scene.lookout.changed("ns", "a", Some(&version.to_string()));
            scene.lookout.changed("ns", "a", Some("stranger"));
            scene.queue.done(&turn.key, 2 * CHECK, false);
            turns.push(scene.clock.uptime());
        } else {
            scene.pass(wait);
        }
    }
    let pauses: Vec<u64> = turns
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]).as_secs())
        .collect();
    assert_eq!(pauses[..8], [4, 8, 16, 32, 64, 128, 256, 300], "{pauses:?}");
    assert!(pauses[8..].iter().all(|pause| *pause == MOST.as_secs()), "{pauses:?}");
    assert!(turns.len() < 22, "{}", turns.len());
    // Once that is over, the next change is looked at soon, and nothing is kept.
    scene.lookout.seen("ns", "a", Some("stranger"));
    scene.pass(MOST);
    scene.lookout.wake(&scene.queue);
    scene.pass(FORGET + LEAST);
    scene.lookout.wake(&scene.queue);
    assert_eq!(scene.lookout.alarms(), 0);
    scene.queue.nudge(&Key::new("ns", "a"));
    scene.queue.pop().unwrap();
    scene.queue.done(&Key::new("ns", "a"), CHECK, false);
    scene.lookout.changed("ns", "a", Some("7"));
    assert_eq!(scene.turns(), ["a"]);
}

#[test]
fn a_listing_tells_what_was_changed_or_deleted_while_nobody_watched_and_no_more() {
    let scene = Scene::with(&[("a", "a"), ("b", "b"), ("c", "c"), ("d", "d"), ("new", "new")]);
    for name in ["a", "b", "c"] {
        scene.lookout.seen("ns", name, Some("1"));
    }
    let mut shown = HashSet::new();
    for (name, version) in [("a", "1"), ("b", "2"), ("new", "3")] {
        shown.insert(secret("ns", name));
        scene.lookout.listed("ns", name, version);
    }
    scene
        .lookout
        .end_listing(&shown, &scene.queue, |namespace| namespace == "other");
    scene
        .lookout
        .end_listing(&shown, &scene.queue, |namespace| namespace == "ns");
    assert_eq!(scene.turns(), ["b", "c"]);
}
