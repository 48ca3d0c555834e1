//! What one process remembers of a resource from pass to pass.

use jiff::SignedDuration;

use super::Failure;
use crate::api::Outcome;
use crate::ids::{Fingerprint, RotationId};
use crate::intent::Intent;
use crate::verification::Probe;

/// What this process remembers of a resource between passes. Losing it costs time, never a code.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The attempt that this pass has just marked and not yet made.
    pub marked: Option<Attempt>,
    /// An attempt of this process that certainly had no effect.
    pub not_applied: Option<Attempt>,
    /// An addition of this process that the cloud has refused, and what it said. Nothing is gone by which one that was made all
    /// the same could be told, so that is not believed before the list says so too.
    pub denied: Option<Denial>,
    /// Negatives that wait for a second reading, one of each kind of question at most.
    pub settling: Vec<Settling>,
    /// A code that an answer told and that is not in the Secret yet.
    pub held: Option<Held>,
    /// The last try of a new code.
    pub trial: Option<Trial>,
    /// Uptime when a deleted resource that our finalizer holds was first seen.
    pub leaving: Option<SignedDuration>,
    /// What the cloud said when the code before was to be deleted, if it refuses that.
    pub refusals: Option<Refusals>,
    /// The rotation of which a workload could not be restarted, and the uptime at which that was first seen.
    pub unrestarted: Option<(RotationId, SignedDuration)>,
}

/// An addition that the cloud has refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// The call.
    pub attempt: Attempt,
    /// Generation of the spec that it was made for: a later one may have mended what the cloud minded.
    pub generation: i64,
    /// What the cloud said.
    pub failure: Failure,
}

/// The cloud's refusals to delete the code that a rotation has replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusals {
    /// The rotation.
    pub rotation_id: RotationId,
    /// How many there were.
    pub count: u32,
    /// The last one, for people.
    pub why: String,
}

/// The tries of one rotation's code so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trial {
    /// The rotation.
    pub rotation_id: RotationId,
    /// The code that was tried: another one may have come into the Secret since.
    pub code: Fingerprint,
    /// Generation of the spec that said how to try.
    pub generation: i64,
    /// Uptime of the first try.
    pub since: SignedDuration,
    /// Uptime of the last one.
    pub last: SignedDuration,
    /// What came of that.
    pub outcome: Probe,
}

impl Memory {
    /// Whether the intent's present attempt was marked by this pass and must go out now or never.
    pub fn is_marked(&self, intent: &Intent) -> bool {
        self.marked.as_ref().is_some_and(|attempt| attempt.is_of(intent))
    }

    /// Whether the intent's present attempt certainly had no effect.
    pub fn is_not_applied(&self, intent: &Intent) -> bool {
        self.not_applied.as_ref().is_some_and(|attempt| attempt.is_of(intent))
    }

    /// What the cloud said to the intent's present attempt, if that is an addition which it says it has not made.
    pub fn denial(&self, intent: &Intent) -> Option<&Denial> {
        self.denied.as_ref().filter(|denied| denied.attempt.is_of(intent))
    }

    /// What the cloud said to the deletions of this rotation, if it has refused any.
    pub fn refusals(&self, intent: &Intent) -> Option<&Refusals> {
        let refusals = self.refusals.as_ref();
        refusals.filter(|refusals| refusals.rotation_id == intent.rotation_id)
    }

    /// One more refusal.
    pub fn refuse(&mut self, intent: &Intent, why: String) {
        let count = self.refusals(intent).map_or(0, |refusals| refusals.count);
        self.refusals = Some(Refusals {
            rotation_id: intent.rotation_id.clone(),
            count: count.saturating_add(1),
            why,
        });
    }

    /// The settling of `question`, if it was begun.
    pub fn settling(&self, question: &Question) -> Option<&Settling> {
        self.settling.iter().find(|settling| settling.question == *question)
    }

    /// Begins to settle a question, in the place of the last one of its kind. Each kind has a place of its own: two
    /// questions that are open together would else put each other off for ever.
    pub fn begin_settling(&mut self, settling: Settling) {
        let kind = std::mem::discriminant(&settling.question);
        self.settling
            .retain(|other| std::mem::discriminant(&other.question) != kind);
        self.settling.push(settling);
    }

    /// The cloud lists these codes now: what another list has begun to settle begins anew.
    pub fn settle_by(&mut self, codes: &[Fingerprint]) {
        self.settling.retain(|settling| settling.codes == codes);
    }

    /// How the code of `intent` was learned, if it is persisted now.
    pub fn outcome(&self, intent: &Intent) -> Outcome {
        match &self.held {
            Some(held) if held.intent.rotation_id == intent.rotation_id => Outcome::Completed,
            _ => Outcome::Recovered,
        }
    }
}

/// One attempt of one rotation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attempt {
    /// The rotation.
    pub rotation_id: RotationId,
    /// Which attempt of it.
    pub number: u32,
}

impl Attempt {
    /// The present attempt of `intent`.
    pub fn of(intent: &Intent) -> Self {
        Self {
            rotation_id: intent.rotation_id.clone(),
            number: intent.attempt,
        }
    }

    pub(super) fn is_of(&self, intent: &Intent) -> bool {
        self.rotation_id == intent.rotation_id && self.number == intent.attempt
    }
}

/// What is being settled.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Question {
    /// Whether an attempt had an effect.
    Outcome {
        /// The rotation.
        rotation_id: RotationId,
        /// Which attempt of it.
        attempt: u32,
    },
    /// Whether lists that are older than an attempt go on being shown, so that the app's own clock is not to be relied on.
    Outdated {
        /// The rotation.
        rotation_id: RotationId,
        /// Which attempt of it.
        attempt: u32,
    },
    /// Whether a code is really gone.
    NotListed {
        /// Its fingerprint as far as it is known.
        code: String,
    },
}

/// A negative that waits for a second reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settling {
    /// What is asked.
    pub question: Question,
    /// Uptime when it was first asked with these codes listed.
    pub since: SignedDuration,
    /// The codes that were listed.
    pub codes: Vec<Fingerprint>,
}

/// A code that only this process knows to be ours. The code itself is kept by the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The rotation that made it.
    pub intent: Intent,
    /// Stands for it.
    pub code: Fingerprint,
}
