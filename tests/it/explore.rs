//! Random stories, each from one seed: a world, what goes wrong in it, and who goes on at each call.
//!
//! A story that ends badly is told with its seed, shrunk to the shortest one that still ends badly, in words and with its
//! trace. `EXPLORE_SEED=7` plays one seed and shows its trace; `EXPLORE_SEEDS=100000` plays more of them, and
//! `EXPLORE_FROM` says where to begin. `EXPLORE_FAILURES=20` looks for more than the first few that end badly.

pub mod bugs;
pub mod people;
mod run;
mod shrink;
pub mod story;
mod verdict;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use self::bugs::{Plant, ShownBy};
use self::run::play;
use self::shrink::{shrink, tell};
use self::story::Story;
use crate::support::invariant::{Broken, Invariant};

/// Stories in `make test`.
const SEEDS: u64 = 2_000;
/// Failures after which no more are looked for.
const MOST_FAILED: u64 = 3;
/// How often a long run tells how far it is.
const PROGRESS: Duration = Duration::from_secs(30);

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Does each piece of work on some core; so many at once on each, as some only wait.
pub fn on_all_cores(at_once: usize, pieces: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores * at_once {
            scope.spawn(|| {
                loop {
                    let piece = next.fetch_add(1, Ordering::Relaxed);
                    if piece >= pieces {
                        return;
                    }
                    work(piece);
                }
            });
        }
    });
}

/// Lets a long run tell how far it is, not too often.
pub struct NowAndThen(Mutex<Instant>);

impl NowAndThen {
    pub fn begin() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Tells, if it is time to.
    pub fn tell(&self, tell: impl FnOnce()) {
        let mut told = self.0.lock().unwrap();
        if told.elapsed() > PROGRESS {
            *told = Instant::now();
            tell();
        }
    }
}

/// Plays so many seeds. Returns the first few that end badly.
fn failing(from: u64, seeds: usize) -> Vec<u64> {
    let [played, calls, hits] = [const { AtomicUsize::new(0) }; 3];
    let failed = Mutex::new(Vec::new());
    let most = number("EXPLORE_FAILURES").unwrap_or(MOST_FAILED);
    let progress = NowAndThen::begin();
    let tell = || {
        let [played, calls, hits] = [&played, &calls, &hits].map(|count| count.load(Ordering::Relaxed));
        println!("{played} of {seeds} stories, {calls} calls, {hits} of them struck");
    };
    on_all_cores(1, seeds, |piece| {
        if failed.lock().unwrap().len() as u64 >= most {
            return;
        }
        let seed = from + piece as u64;
        let outcome = play(&Story::from_seed(seed), None, false);
        played.fetch_add(1, Ordering::Relaxed);
        calls.fetch_add(outcome.calls, Ordering::Relaxed);
        hits.fetch_add(outcome.hits.len(), Ordering::Relaxed);
        if let Some(broken) = outcome.wrong.first() {
            println!("seed {seed} ends badly: {broken}");
            failed.lock().unwrap().push(seed);
        }
        progress.tell(tell);
    });
    tell();
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    failed
}

/// What is printed of a seed whose story ends badly: the shortest story that breaks the same, in words and with its trace.
fn report(seed: u64, plant: Option<&Plant>) -> String {
    let story = Story::from_seed(seed);
    let broken = play(&story, plant, false).wrong;
    let invariant = plant.map_or(broken[0].invariant, |plant| plant.breaks);
    let shrunk = shrink(story, plant, invariant);
    let outcome = play(&shrunk, plant, true);
    format!("seed {seed}\n{}\n{}", tell(&shrunk, &outcome), outcome.trace)
}

#[test]
fn every_story_of_a_fixed_set_ends_well() {
    if let Some(seed) = number("EXPLORE_SEED") {
        let story = Story::from_seed(seed);
        let outcome = play(&story, None, true);
        println!("{}\n{}", tell(&story, &outcome), outcome.trace);
        assert_eq!(outcome.wrong, []);
        return;
    }
    let seeds = number("EXPLORE_SEEDS").unwrap_or(SEEDS);
    let failed = failing(
        number("EXPLORE_FROM").unwrap_or_default(),
        usize::try_from(seeds).unwrap(),
    );
    let stories: Vec<String> = failed.iter().map(|seed| report(*seed, None)).collect();
    assert!(stories.is_empty(), "{}", stories.join("\n\n"));
}

/// Mistakes that the exploration has found in the operator, each as the story that showed it.
#[test]
fn stories_that_once_ended_badly_end_well() {
    for (name, story) in bugs::once_real() {
        let wrong = play(&story, None, false).wrong;
        assert_eq!(wrong, [], "{name}");
    }
}

/// Seeds whose stories have shown mistakes of the operator, for as long as a seed draws the story that it drew then.
const ONCE_REAL: [u64; 20] = [
    27_064, 264_519, 317_869, 334_619, 390_989, 412_774, 417_818, 431_127, 446_252, 448_952, 466_734, 511_762, 520_030,
    528_741, 536_052, 621_226, 672_549, 759_972, 973_554, 988_128,
];

#[test]
fn seeds_that_once_ended_badly_end_well() {
    for seed in ONCE_REAL {
        assert_eq!(play(&Story::from_seed(seed), None, false).wrong, [], "seed {seed}");
    }
}

#[test]
fn a_seed_gives_the_same_trace_to_the_byte() {
    for seed in 0..30 {
        let trace = || play(&Story::from_seed(seed), None, true).trace;
        let first = trace();
        assert!(first.lines().count() > 10);
        assert!(first == trace(), "seed {seed} has two traces");
    }
}

/// What shows a planted bug by what it breaks: the seed or the place of the story, and all that is wrong in it.
fn shows(plant: &Plant) -> Option<(String, Story, Vec<Broken>)> {
    let found = |name: String, story: Story| {
        let wrong = play(&story, Some(plant), false).wrong;
        is_broken(&wrong, plant.breaks).then_some((name, story, wrong))
    };
    match plant.shown_by {
        ShownBy::Seed(first) => (first..SEEDS)
            .chain(0..first)
            .find_map(|seed| found(format!("seed {seed}"), Story::from_seed(seed))),
        ShownBy::Stories(stories) => {
            let stories = stories().into_iter().enumerate();
            stories
                .into_iter()
                .find_map(|(place, story)| found(format!("story {place}"), story))
        }
    }
}

fn is_broken(wrong: &[Broken], invariant: Invariant) -> bool {
    wrong.iter().any(|broken| broken.invariant == invariant)
}

/// Nothing if the bug is shown by what it breaks, and only the bug is.
fn is_found(plant: &Plant) -> Result<(), String> {
    let (name, story, found) =
        shows(plant).ok_or_else(|| format!("nothing shows '{}' by {:?}", plant.name, plant.breaks))?;
    let found: Vec<String> = found.iter().map(ToString::to_string).collect();
    println!("{}: {name}: {}", plant.name, found.join("; "));
    let without = play(&story, None, false).wrong;
    if without.is_empty() {
        return Ok(());
    }
    Err(format!("{name} ends badly without '{}' too: {without:?}", plant.name))
}

#[test]
fn each_planted_bug_is_found() {
    let wanted = std::env::var("EXPLORE_BUG").unwrap_or_default();
    let plants: Vec<Plant> = bugs::all()
        .into_iter()
        .filter(|plant| plant.name.contains(&wanted))
        .collect();
    let wrong = Mutex::new(Vec::new());
    on_all_cores(1, plants.len(), |at| {
        if let Err(why) = is_found(&plants[at]) {
            wrong.lock().unwrap().push(why);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Seeds that show planted bugs, and how many events the shortest story has that shows the same.
const LONG: [(&str, u64, usize); 3] = [
    ("a PUT without an answer is sent once more", 16, 1),
    ("the intent is not written", 2, 0),
    ("other resources of the app are ignored", 29, 0),
];

#[test]
fn a_story_that_ends_badly_is_shrunk_to_a_short_one_that_is_told_in_words() {
    on_all_cores(1, LONG.len(), |at| {
        let (name, seed, events) = LONG[at];
        let plant = bugs::all().into_iter().find(|plant| plant.name == name).unwrap();
        let long = Story::from_seed(seed);
        let short = shrink(long.clone(), Some(&plant), plant.breaks);
        assert!(long.events.len() > events, "{name}: there is something to leave out");
        assert_eq!(short.events.len(), events, "{name}: {}", short.setting);
        let outcome = play(&short, Some(&plant), true);
        assert!(
            is_broken(&outcome.wrong, plant.breaks),
            "{name}: it still shows the bug"
        );
        assert_eq!(play(&short, None, false).wrong, [], "{name}: and only the bug");
        let again = shrink(short.clone(), Some(&plant), plant.breaks);
        assert_eq!(format!("{again:?}"), format!("{short:?}"), "{name}: it is stable");
        let report = report(seed, Some(&plant));
        let told = format!("{}\n", short.setting);
        let told = short
            .events
            .iter()
            .fold(told, |told, event| told + &event.what.to_string());
        for line in told.lines() {
            assert!(report.contains(line), "{name}: '{line}' is not in {report}");
        }
        assert!(report.contains(&format!("but {:?}: ", plant.breaks)), "{report}");
        assert!(report.ends_with(&outcome.trace), "{report}");
    });
}

#[test]
fn the_seed_that_is_printed_gives_the_same_story_and_trace_again() {
    let plant = bugs::all().remove(0);
    let ShownBy::Seed(seed) = plant.shown_by else {
        panic!("it is shown by a seed");
    };
    let first = play(&Story::from_seed(seed), Some(&plant), true);
    let report = report(seed, Some(&plant));
    let printed = report.lines().next().and_then(|line| line.strip_prefix("seed "));
    let again = play(&Story::from_seed(printed.unwrap().parse().unwrap()), Some(&plant), true);
    assert_eq!(again.wrong, first.wrong);
    assert!(first.trace.lines().count() > 10 && again.trace == first.trace);
}
