//! What must have come of a run: what the pass does by itself, and what each thing that strikes it may cost on top.

use std::ops::RangeInclusive;

use jiff::SignedDuration;

use super::scenario::Scenario;
use crate::support::World;
use crate::support::api_server::ROTATIONS;
use crate::support::stage::{NAME, NAMESPACE};

/// How a run may end other than ready with a live code.
#[derive(Clone, Debug, Default)]
pub struct End {
    /// Reasons for which it may have stopped: a person must act then, and the docs say so.
    pub stops: Vec<&'static str>,
    /// All is well only so many minutes after rest: after the next routine check, or a long pause. Zero if it is so at rest.
    pub late: i64,
    /// That the rotation has reached its consumers may wait for a person who mends a workload.
    pub may_wait: bool,
    /// A code of ours may be left that no Secret holds and nobody tells of: two came to be and nothing tells them apart, or
    /// what told of it was lost, or the resource went while the outcome of its change was open.
    pub may_leave: bool,
    /// The resource is gone.
    pub is_gone: bool,
}

impl End {
    pub fn may_stop(&self, world: &World) -> bool {
        let is_stopped = || {
            let stalled = world.stalled();
            stalled.is_some_and(|reason| self.stops.contains(&reason.as_str()))
        };
        let is_gone = || world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none();
        (self.is_gone && is_gone()) || is_stopped()
    }

    fn join(mut self, other: &Self) -> Self {
        self.stops.extend(&other.stops);
        Self {
            late: self.late.max(other.late),
            may_wait: self.may_wait || other.may_wait,
            may_leave: self.may_leave || other.may_leave,
            is_gone: self.is_gone || other.is_gone,
            ..self
        }
    }
}

/// What one strike may cost beyond what the pass does by itself. By default nothing but a retry soon.
#[derive(Clone, Debug)]
pub struct Toll {
    /// Changes of the app more, or fewer.
    pub changes: RangeInclusive<isize>,
    pub end: End,
    /// Time until rest: two of the longest pauses, if nothing takes longer.
    pub within: SignedDuration,
    /// Readings of the app more.
    pub looks: usize,
    /// Calls of any kind more.
    pub calls: usize,
    /// Codes that somebody else adds.
    pub strangers: usize,
}

impl Default for Toll {
    fn default() -> Self {
        Self {
            changes: 0..=0,
            end: End::default(),
            within: SHORT,
            looks: 0,
            calls: 0,
            strangers: 0,
        }
    }
}

/// Two of the longest pauses and ten seconds.
const SHORT: SignedDuration = SignedDuration::from_secs(2 * 15 * 60 + 10);
/// The slow retry, or the next routine check, and the way to rest after it, in minutes.
pub const SLOW: i64 = 95;
/// By then the next routine check is over, in minutes.
pub const NEXT_CHECK: i64 = 70;

/// Calls for an hour in which workloads keep a rotation from its end.
const LOOKS: usize = 110;

impl Toll {
    pub fn slow() -> Self {
        Self::default().minutes(SLOW)
    }

    pub fn changes(self, changes: RangeInclusive<isize>) -> Self {
        Self { changes, ..self }
    }

    pub fn minutes(self, minutes: i64) -> Self {
        let within = SignedDuration::from_mins(minutes);
        Self { within, ..self }
    }

    pub fn looks(self, looks: usize) -> Self {
        Self { looks, ..self }
    }

    pub fn calls(self, calls: usize) -> Self {
        Self { calls, ..self }
    }

    pub fn strangers(self, strangers: usize) -> Self {
        Self { strangers, ..self }
    }

    /// It may stop for a person.
    pub fn stops(mut self, reason: &'static str) -> Self {
        self.end.stops.push(reason);
        self
    }

    /// All is well only so many minutes after rest.
    pub fn late(mut self, minutes: i64) -> Self {
        self.end.late = minutes;
        self
    }

    /// A code may be left that nobody tells of.
    pub fn may_leave(mut self) -> Self {
        self.end.may_leave = true;
        self
    }

    pub fn end(self, end: End) -> Self {
        Self { end, ..self }
    }
}

/// What must have come of a run.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Changes of the app that had an effect.
    pub changes: RangeInclusive<usize>,
    pub end: End,
    /// From the start of the run to rest.
    pub within: SignedDuration,
    /// The most readings of the app until then.
    pub looks: usize,
    /// The most calls until then.
    pub calls: usize,
    /// Codes that somebody else adds.
    pub strangers: usize,
}

impl Expected {
    /// What comes of the scenario under strikes of these tolls: each is paid, whatever else strikes.
    pub fn of<'a>(scenario: Scenario, tolls: impl IntoIterator<Item = &'a Toll>) -> Self {
        let end = End {
            is_gone: scenario == Scenario::Farewell,
            ..End::default()
        };
        let (mut least, mut most) = (0, 0);
        let mut expected = Self {
            changes: 0..=0,
            end,
            within: SignedDuration::from_mins(beyond(scenario)),
            looks: 14,
            // While workloads are waited for each look at them is a few.
            calls: if scenario.is_distributed() { 180 } else { 140 },
            strangers: 0,
        };
        for toll in tolls {
            least += toll.changes.start();
            most += toll.changes.end();
            expected.end = expected.end.join(&toll.end);
            expected.within += toll.within;
            expected.looks += toll.looks;
            expected.calls += toll.calls;
            expected.strangers += toll.strangers;
        }
        if expected.end.may_wait {
            let hours = usize::try_from(expected.within.as_hours()).unwrap_or_default() + 1;
            expected.calls += hours * LOOKS;
        }
        let of = |change| scenario.changes().saturating_add_signed(change);
        expected.changes = of(least)..=of(most);
        expected
    }
}

/// Minutes of the grace period, the roll-outs, and a routine check that comes soon after them.
pub fn beyond(scenario: Scenario) -> i64 {
    let is_long = scenario.is_beside() || scenario.is_distributed();
    if is_long { 35 } else { 0 }
}
