//! The shortest story that still ends badly, and how it is told.

use std::fmt::Write as _;

use super::bugs::Plant;
use super::run::{Outcome, play};
use super::story::{Named, Order, Story};
use crate::support::invariant::Invariant;

/// Leaves out and simplifies as long as the story still breaks `invariant`: one that breaks another one may have another
/// cause.
pub fn shrink(story: Story, plant: Option<&Plant>, invariant: Invariant) -> Story {
    let mut story = story;
    let is_shown = |story: &Story| {
        let wrong = play(story, plant, false).wrong;
        wrong.iter().any(|broken| broken.invariant == invariant)
    };
    loop {
        let shorter = simpler(&story).into_iter().find(is_shown);
        match shorter {
            Some(shorter) => story = shorter,
            None => return story,
        }
    }
}

/// Every story that is simpler by one thing, those first that are simpler by much.
fn simpler(story: &Story) -> Vec<Story> {
    let mut simpler = Vec::new();
    for left_out in 0..story.events.len() {
        let mut shorter = story.clone();
        shorter.events.remove(left_out);
        simpler.push(shorter);
    }
    for at in 0..story.events.len() {
        let mut once = story.clone();
        once.events[at].times /= 2;
        if once.events[at].times > 0 {
            simpler.push(once);
        }
    }
    let mut setting = |change: fn(&mut Story)| {
        let mut plainer = story.clone();
        change(&mut plainer);
        if format!("{:?}", plainer.setting) != format!("{:?}", story.setting) {
            simpler.push(plainer);
        }
    };
    setting(|story| story.setting.resources = 1);
    setting(|story| story.setting.operators = 1);
    setting(|story| story.setting.order = Order::AsTheyCome);
    setting(|story| story.setting.is_scheduled = false);
    setting(|story| story.setting.is_immediate = false);
    setting(|story| story.setting.named = Named::No);
    setting(|story| story.setting.codes = story.setting.codes.min(1));
    setting(|story| story.setting.is_settled = false);
    setting(|story| story.setting.is_dressed = false);
    setting(|story| story.setting.delay = 0);
    setting(|story| story.setting.is_verified = false);
    setting(|story| story.setting.is_restarting = false);
    setting(|story| story.setting.grace = None);
    setting(|story| story.setting.grace = story.setting.grace.and(Some(0)));
    simpler
}

/// The story in words: the world, then one line for each event, then what is wrong.
pub fn tell(story: &Story, outcome: &Outcome) -> String {
    let mut text = format!("{}\n", story.setting);
    for (id, event) in story.events.iter().enumerate() {
        let hits: Vec<String> = outcome
            .hits
            .iter()
            .filter(|hit| hit.id == id)
            .map(|hit| format!("{} ({})", hit.number, hit.call))
            .collect();
        let place = if hits.is_empty() {
            "when all is at rest".to_owned()
        } else {
            format!("at call {}", hits.join(" and "))
        };
        writeln!(text, "  {place}: {}", event.what).unwrap();
    }
    for wrong in &outcome.wrong {
        writeln!(text, "  but {wrong}").unwrap();
    }
    text
}
