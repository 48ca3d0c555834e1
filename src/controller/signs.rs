//! What metrics show of resources: a few bytes of each one's status, and the census of all.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use super::queue::Key;
use crate::api::{ConditionType, Reason};

/// What status tells of a resource, as far as metrics show it. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// When the last rotation was completed.
    pub last_success: Option<NonZeroU32>,
    /// When the schedule's next rotation is due, or was; none while `suspend` holds it.
    pub next: Option<NonZeroU32>,
    /// Why a person must act, if one must.
    pub stalled: Option<Why>,
    /// Why the resource is not ready, if it is not.
    pub unready: Option<Why>,
}

/// Why a condition is as it is: a closed set, whatever stands in a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// One of our reasons.
    Told(Reason),
    /// A word that this version does not know.
    Other,
    /// There is no such condition yet.
    Unseen,
}

/// Reasons for which a resource is not ready though nothing stops it.
const WAITS: [Reason; 8] = [
    Reason::Distributing,
    Reason::NotVerified,
    Reason::Retrying,
    Reason::Rotating,
    Reason::Settling,
    Reason::Suspended,
    Reason::Verifying,
    Reason::Waiting,
];

impl Why {
    /// The word that stands in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Told(reason) => reason.as_str(),
            Self::Other => "Other",
            Self::Unseen => "Unseen",
        }
    }

    /// All for which a resource may be stalled.
    pub fn stalled() -> impl Iterator<Item = Self> {
        Reason::stops().map(Self::Told).chain([Self::Other])
    }

    /// All for which a resource may not be ready.
    pub fn unready() -> impl Iterator<Item = Self> {
        let told = WAITS.into_iter().chain([Reason::VerificationFailed]).map(Self::Told);
        Self::stalled().chain(told).chain([Self::Unseen])
    }
}

/// Status and reason of a condition in a list of them.
pub(super) fn condition(conditions: &Value, kind: ConditionType) -> Option<(&str, Why)> {
    let is_it = |condition: &&Value| condition.get("type").is_some_and(|found| found == kind.as_str());
    let condition = conditions.as_array()?.iter().find(is_it)?;
    let text = |field| condition.get(field).and_then(Value::as_str).unwrap_or_default();
    let why = Reason::from_word(text("reason")).map_or(Why::Other, Why::Told);
    Some((text("status"), why))
}

/// A time of status; none that cannot be read or is of no use, such as one before 1970 or after 2105.
pub(super) fn seconds(time: &Value) -> Option<NonZeroU32> {
    let time: Timestamp = time.as_str()?.parse().ok()?;
    NonZeroU32::new(u32::try_from(time.as_second()).ok()?)
}

/// The resources at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// How many there are.
    pub resources: usize,
    /// How many have a rotation that should have come by now.
    pub overdue: usize,
    /// How late the latest of these is.
    pub most_overdue: Duration,
    /// How many are stopped, by why.
    pub stalled: BTreeMap<Why, usize>,
    /// How many are not ready, by why.
    pub unready: BTreeMap<Why, usize>,
    /// Resources whose turn has come and that no worker has in hand; 0 where none is to take them.
    pub waiting: usize,
    /// How long the one has waited that has waited longest.
    pub longest_wait: Duration,
    /// Those that are shown one by one, oldest first.
    pub shown: Vec<(Key, Signs)>,
}

impl Census {
    /// Takes in a resource. `now` is in seconds since 1970.
    pub(super) fn count(&mut self, signs: &Signs, now: i64) {
        self.resources += 1;
        let late = signs.next.map_or(0, |next| now.saturating_sub(i64::from(next.get())));
        if let Some(late) = u64::try_from(late).ok().filter(|late| *late > 0) {
            self.overdue += 1;
            self.most_overdue = self.most_overdue.max(Duration::from_secs(late));
        }
        for (counts, why) in [(&mut self.stalled, signs.stalled), (&mut self.unready, signs.unready)] {
            if let Some(why) = why {
                *counts.entry(why).or_default() += 1;
            }
        }
    }

    /// How many are not shown one by one.
    pub fn hidden(&self) -> usize {
        self.resources.saturating_sub(self.shown.len())
    }
}
