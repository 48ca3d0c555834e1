//! What has happened so far, what comes next, and whether it was enough.

use std::time::{Duration, Instant};

use appcode_operator::api::{HistoryEntry, Trigger};

use crate::manifests::INTERVAL_SECONDS;
use crate::observe::Scene;

/// A scheduled rotation is asked for only if this much time was left for it, slow machines considered.
const SCHEDULE_SLACK: u64 = 15;

/// The course of the demo.
pub struct Story {
    start: Instant,
    limit: Option<Duration>,
    /// Every rotation seen, oldest first.
    rotations: Vec<Seen>,
    triggered: Option<Instant>,
}

/// A completed rotation.
pub struct Seen {
    pub entry: HistoryEntry,
    /// When the demo saw it.
    pub at: Instant,
}

impl Story {
    pub fn new(start: Instant, limit: Option<Duration>) -> Self {
        Self {
            start,
            limit,
            rotations: Vec::new(),
            triggered: None,
        }
    }

    /// Takes over what is new in the scene.
    pub fn follow(&mut self, scene: &Scene) {
        for entry in scene.status.history.iter().rev() {
            if self
                .rotations
                .iter()
                .all(|seen| seen.entry.rotation_id != entry.rotation_id)
            {
                self.rotations.push(Seen {
                    entry: entry.clone(),
                    at: Instant::now(),
                });
            }
        }
    }

    /// Whether it is time to change the trigger: once, when the first rotation has stood for a while.
    pub fn wants_trigger(&self, after: Duration) -> bool {
        self.triggered.is_none() && self.rotations.first().is_some_and(|first| first.at.elapsed() >= after)
    }

    pub fn triggered(&mut self) {
        self.triggered = Some(Instant::now());
    }

    pub fn rotations(&self) -> &[Seen] {
        &self.rotations
    }

    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn is_over(&self) -> bool {
        self.limit.is_some_and(|limit| self.elapsed() >= limit)
    }

    /// What a newcomer should know now.
    pub fn caption(&self) -> &'static str {
        let seen = |trigger| self.seen(trigger).is_some();
        match (self.triggered.is_some(), seen(Trigger::Spec), seen(Trigger::Schedule)) {
            _ if self.rotations.is_empty() => "First sight: the code that the app had is about to be replaced.",
            (false, _, _) => "The first code is in its Secret. In a moment spec.rotationTrigger is changed.",
            (true, false, _) => "spec.rotationTrigger was changed: the code is rotated once more.",
            (true, true, false) => "The changed trigger rotated once. The schedule comes next by itself.",
            (true, true, true) => "Now the schedule goes on, every 15 seconds. Your turn: try the commands.",
        }
    }

    /// What ends the demo.
    pub fn ending(&self) -> String {
        let left = self.limit.map(|limit| limit.saturating_sub(self.elapsed()).as_secs());
        left.map_or_else(
            || "Ctrl-C here ends everything".to_owned(),
            |left| format!("ends by itself in {left}s"),
        )
    }

    /// Whether all happened that had time to happen.
    pub fn judge(&self, resets: usize) -> Result<(), String> {
        let missing = |what: &str| {
            let limit = self.limit.unwrap_or_default().as_secs();
            Err(format!(
                "{what} within DEMO_SECONDS={limit}; resets counted by the cloud: {resets}"
            ))
        };
        if resets == 0 || self.rotations.is_empty() {
            return missing("no rotation happened");
        }
        let Some(by_trigger) = self.seen(Trigger::Spec) else {
            return missing("the changed rotationTrigger caused no rotation");
        };
        let left = self
            .limit
            .unwrap_or_default()
            .saturating_sub(by_trigger.at.duration_since(self.start));
        let had_time = left >= Duration::from_secs(INTERVAL_SECONDS + SCHEDULE_SLACK);
        if had_time && self.seen(Trigger::Schedule).is_none() {
            return missing("the schedule caused no rotation");
        }
        if resets < self.rotations.len() {
            return missing("the resource tells of more rotations than the cloud counted");
        }
        Ok(())
    }

    fn seen(&self, trigger: Trigger) -> Option<&Seen> {
        self.rotations.iter().find(|seen| seen.entry.trigger == trigger)
    }
}
