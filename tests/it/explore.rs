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
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use self::bugs::{Plant, ShownBy};
use self::run::play;
use self::shrink::{shrink, tell};
use self::story::Story;

/// Stories in `make test`.
const SEEDS: u64 = 1_500;
/// Failures after which no more are looked for.
const MOST_FAILED: usize = 3;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Plays the seeds on all cores. Returns the first few that end badly.
fn failing(seeds: std::ops::Range<u64>) -> Vec<u64> {
    let next = AtomicU64::new(seeds.start);
    let (calls, hits) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let failed = Mutex::new(Vec::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || failed.lock().unwrap().len() >= MOST_FAILED {
                return;
            }
            let outcome = play(&Story::from_seed(seed), None, false);
            calls.fetch_add(outcome.calls, Ordering::Relaxed);
            hits.fetch_add(outcome.hits.len(), Ordering::Relaxed);
            if !outcome.wrong.is_empty() {
                failed.lock().unwrap().push(seed);
            }
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    let (calls, hits) = (calls.into_inner(), hits.into_inner());
    println!("{} stories, {calls} calls, {hits} of them struck", seeds.end - seeds.start);
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
    let from = number("EXPLORE_FROM").unwrap_or_default();
    let failed = failing(from..from + number("EXPLORE_SEEDS").unwrap_or(SEEDS));
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
            stories.into_iter().find_map(|(place, story)| found(format!("story {place}"), story))
        }
    }
}

#[test]
fn each_planted_bug_is_found() {
    let mut wrong = Vec::new();
    for plant in bugs::all() {
        match shows(&plant) {
            Some((name, story, found)) => {
                println!("{}: {name}: {}", plant.name, found.join("; "));
                let without = play(&story, None, false).wrong;
                if !without.is_empty() {
                    wrong.push(format!("{name} ends badly without '{}' too: {without:?}", plant.name));
                }
            }
            None => wrong.push(format!("nothing shows '{}'", plant.name)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
