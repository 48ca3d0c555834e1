//! What has happened so far, what comes next, and whether it was enough.

use std::time::{Duration, Instant};

use appcode_operator::api::{HistoryEntry, Strategy, Trigger};

use crate::manifests::{GRACE_SECONDS, INTERVAL_SECONDS};
use crate::observe::Scene;

/// What comes later is asked for only if this much time was left for it, slow machines considered.
const SLACK: u64 = 15;

/// The course of the demo.
pub struct Story {
    start: Instant,
    limit: Option<Duration>,
    /// Every rotation seen, oldest first.
    rotations: Vec<Seen>,
    /// How often the trigger was changed.
    acts: usize,
    /// Whether an old code that lived on has gone since.
    is_retired: bool,
}

/// What the demo changes, in order: `rotationTrigger` and strategy.
const ACTS: [(&str, Strategy); 2] = [("second", Strategy::Reset), ("third", Strategy::Overlap)];

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
            acts: 0,
            is_retired: false,
        }
    }

    /// Takes over what is new in the scene.
    pub fn follow(&mut self, scene: &Scene) {
        self.is_retired |= scene.status.history.iter().any(|entry| entry.retired_at.is_some());
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

    /// What is to be changed now: each when what the one before brought about has stood for a while.
    pub fn next_act(&mut self, after: Duration) -> Option<(&'static str, Strategy)> {
        let act = ACTS.get(self.acts)?;
        let before = if self.acts == 0 {
            self.rotations.first()
        } else {
            self.seen(Trigger::Spec)
        };
        let is_time = before.is_some_and(|seen| seen.at.elapsed() >= after);
        self.acts += usize::from(is_time);
        is_time.then_some(*act)
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
        match (self.acts, self.seen(Trigger::Spec).is_some(), self.overlap().is_some()) {
            _ if self.rotations.is_empty() => "First sight: the code that the app had is about to be replaced.",
            (0, ..) => "The first code is in its Secret. In a moment spec.rotationTrigger is changed.",
            (1, false, _) => "spec.rotationTrigger was changed: the code is rotated once more.",
            (1, true, _) => "Each time the old code died at once. In a moment: the same with strategy Overlap.",
            (_, _, false) => "strategy: Overlap: a second code is made beside the first.",
            (_, _, true) if !self.is_retired => "Both codes are served until the grace period is over.",
            _ if !self.is_schedule_seen() => "The old code is gone, and nobody was refused. The schedule comes next.",
            _ => "Now the schedule goes on, every 15 seconds. Your turn: try the commands.",
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

    /// Whether all happened that had time to happen; `made` counts the codes that the cloud made.
    pub fn judge(&self, made: usize) -> Result<(), String> {
        let limit = self.limit.unwrap_or_default();
        let missing = |what: &str| {
            Err(format!(
                "{what} within DEMO_SECONDS={}; new codes counted by the cloud: {made}",
                limit.as_secs()
            ))
        };
        let had = |seen: &Seen, seconds: u64| {
            let left = limit.saturating_sub(seen.at.duration_since(self.start));
            left >= Duration::from_secs(seconds + SLACK)
        };
        if made == 0 || self.rotations.is_empty() {
            return missing("no rotation happened");
        }
        let Some(by_trigger) = self.seen(Trigger::Spec) else {
            return missing("the changed rotationTrigger caused no rotation");
        };
        let Some(overlap) = self.overlap() else {
            return if had(by_trigger, INTERVAL_SECONDS) {
                missing("strategy Overlap caused no rotation")
            } else {
                Ok(())
            };
        };
        if had(overlap, GRACE_SECONDS) && !self.is_retired {
            return missing("the old code did not go after its grace period");
        }
        if had(overlap, INTERVAL_SECONDS) && !self.is_schedule_seen() {
            return missing("the schedule caused no rotation");
        }
        if made < self.rotations.len() {
            return missing("the resource tells of more rotations than the cloud counted");
        }
        Ok(())
    }

    fn seen(&self, trigger: Trigger) -> Option<&Seen> {
        self.rotations.iter().find(|seen| seen.entry.trigger == trigger)
    }

    fn overlap(&self) -> Option<&Seen> {
        self.rotations
            .iter()
            .find(|seen| seen.entry.strategy == Strategy::Overlap)
    }

    fn is_schedule_seen(&self) -> bool {
        self.seen(Trigger::Schedule).is_some()
    }
}
