//! Random stories, each from one seed: a world, what goes wrong in it, and who goes on at each call.
//!
//! A story that ends badly is told with its seed, shrunk to the shortest one that still ends badly, in words and with its
//! trace. `EXPLORE_SEED=7` plays one seed and shows its trace; `EXPLORE_SEEDS=100000` plays more of them, and
//! `EXPLORE_FROM` says where to begin.

mod bugs;
mod people;
mod run;
mod shrink;
mod story;
mod verdict;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::bugs::{Plant, ShownBy};
use self::run::play;
use self::shrink::{shrink, tell};
use self::story::Story;

/// Stories in `make test`.
const SEEDS: u64 = 1_600;
/// Failures after which no more are looked for.
const MOST_FAILED: usize = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Does each piece of work on some core.
pub fn on_all_cores(pieces: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
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

/// Plays so many seeds. Returns the first few that end badly.
fn failing(from: u64, seeds: usize) -> Vec<u64> {
    let (calls, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    on_all_cores(seeds, |piece| {
        if failed.lock().unwrap().len() >= MOST_FAILED {
            return;
        }
        let seed = from + piece as u64;
        let outcome = play(&Story::from_seed(seed), None, false);
        calls.fetch_add(outcome.calls, Ordering::Relaxed);
        hits.fetch_add(outcome.hits.len(), Ordering::Relaxed);
        if !outcome.wrong.is_empty() {
            failed.lock().unwrap().push(seed);
        }
    });
    let (calls, hits) = (calls.into_inner(), hits.into_inner());
    println!("{seeds} stories, {calls} calls, {hits} of them struck");
    let mut failed = failed.into_inner().unwrap();
    failed.sort_unstable();
    failed
}

#[test]
fn every_story_of_a_fixed_set_ends_well() {
    if let Some(seed) = number("EXPLORE_SEED") {
        let story = Story::from_seed(seed);
        let outcome = play(&story, None, true);
        println!("{}\n{}", tell(&story, &outcome), outcome.trace);
        assert_eq!(outcome.wrong, Vec::<String>::new());
        return;
    }
    let seeds = number("EXPLORE_SEEDS").unwrap_or(SEEDS);
    let failed = failing(
        number("EXPLORE_FROM").unwrap_or_default(),
        usize::try_from(seeds).unwrap(),
    );
    let stories: Vec<String> = failed
        .iter()
        .map(|seed| {
            let shrunk = shrink(Story::from_seed(*seed), None);
            let outcome = play(&shrunk, None, true);
            format!("seed {seed}\n{}\n{}", tell(&shrunk, &outcome), outcome.trace)
        })
        .collect();
    assert!(stories.is_empty(), "{}", stories.join("\n\n"));
}

/// Mistakes that the exploration has found in the operator, each as the story that showed it.
#[test]
fn stories_that_once_ended_badly_end_well() {
    for (name, story) in bugs::once_real() {
        let wrong = play(&story, None, false).wrong;
        assert_eq!(wrong, Vec::<String>::new(), "{name}");
    }
}

#[test]
fn a_seed_gives_the_same_trace_to_the_byte() {
    for seed in 0..60 {
        let trace = || play(&Story::from_seed(seed), None, true).trace;
        let first = trace();
        assert!(first.lines().count() > 10);
        assert!(first == trace(), "seed {seed} has two traces");
    }
}

/// What shows a planted bug: the seed or the place of the story, and what is wrong in it.
fn shows(plant: &Plant) -> Option<(String, Story, Vec<String>)> {
    let wrong = |story: &Story| play(story, Some(plant), false).wrong;
    let found = |name: String, story: Story| {
        let wrong = wrong(&story);
        (!wrong.is_empty()).then_some((name, story, wrong))
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

/// Nothing if the bug is shown, and only the bug is.
fn is_found(plant: &Plant) -> Result<(), String> {
    let (name, story, found) = shows(plant).ok_or_else(|| format!("nothing shows '{}'", plant.name))?;
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
    on_all_cores(plants.len(), |at| {
        if let Err(why) = is_found(&plants[at]) {
            wrong.lock().unwrap().push(why);
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
