//! Whether this process leads, and so may start changes: one of several replicas does, which the Lease names.
//!
//! The Lease keeps two replicas from doing the same work. It is not what makes a rotation safe: a process may be stopped
//! between the question whether it leads and the call, for longer than any Lease. What protects a code then is the record
//! on the Secret, which is written under its `resourceVersion` before each call.

mod election;
mod lease;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

pub use self::election::Election;
pub use self::lease::{LeaseTimes, Move, View, judge};
use crate::clock::Clock;

/// What this process knows of its lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It leads until this uptime, unless it renews before.
    Leads {
        /// Uptime of the process.
        until: Duration,
    },
    /// Another one leads until this uptime, unless it renews before.
    Follows {
        /// Its identity.
        leader: String,
        /// Uptime of the process.
        until: Duration,
    },
    /// Nobody is known to lead: nothing was read yet, or the Lease is free, or it could not be read or renewed.
    Unknown,
}

/// Whether this process leads, for all who need to know.
#[derive(Clone)]
pub struct Leadership {
    clock: Arc<dyn Clock>,
    known: Arc<watch::Sender<Known>>,
}

/// What is known, and when the present lead began.
struct Known {
    standing: Standing,
    /// Uptime; of no meaning unless this process leads.
    led_since: Duration,
}

impl Known {
    fn is_held(&self, now: Duration) -> bool {
        matches!(self.standing, Standing::Leads { until } if now < until)
    }
}

impl Leadership {
    /// Nobody is known to lead.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            known: Arc::new(watch::Sender::new(Known {
                standing: Standing::Unknown,
                led_since: Duration::ZERO,
            })),
        }
    }

    /// This process leads for ever: it is the only one, or somebody else has seen to that.
    pub fn alone(clock: Arc<dyn Clock>) -> Self {
        let leadership = Self::new(clock);
        leadership.set(Standing::Leads { until: Duration::MAX });
        leadership
    }

    /// Sets what is known.
    pub fn set(&self, standing: Standing) {
        let now = self.clock.uptime();
        self.known.send_modify(|known| {
            // A renewal begins no lead; one after the end of the lead does.
            if !known.is_held(now) {
                known.led_since = now;
            }
            known.standing = standing;
        });
    }

    /// Whether this process leads now. It ends by the clock too, should nobody be left to say so.
    pub fn is_held(&self) -> bool {
        self.known.borrow().is_held(self.clock.uptime())
    }

    /// Uptime at which the lead began; none unless this process leads now.
    pub fn held_since(&self) -> Option<Duration> {
        let known = self.known.borrow();
        known.is_held(self.clock.uptime()).then_some(known.led_since)
    }

    /// What is known.
    pub fn standing(&self) -> Standing {
        self.known.borrow().standing.clone()
    }

    /// What keeps this process from knowing who leads; none if it knows.
    pub fn trouble(&self) -> Option<&'static str> {
        let now = self.clock.uptime();
        match &self.known.borrow().standing {
            Standing::Leads { until } | Standing::Follows { until, .. } if now < *until => None,
            Standing::Leads { .. } => Some("the Lease could not be renewed, so no change is started"),
            _ => Some("no replica is known to lead, and the Lease could not be taken"),
        }
    }

    /// Returns once this process leads, or no longer does, as opposed to `was_held`.
    pub async fn changed(&self, was_held: bool) {
        let mut changes = self.known.subscribe();
        while self.is_held() == was_held {
            let end = match &changes.borrow_and_update().standing {
                Standing::Leads { until } if was_held => until.saturating_sub(self.clock.uptime()),
                _ => Duration::from_secs(3600),
            };
            tokio::select! {
                // The sender lives as long as we do.
                _ = changes.changed() => {}
                () = self.clock.sleep(end) => {}
            }
        }
    }
}
