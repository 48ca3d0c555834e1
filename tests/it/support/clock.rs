//! Time that passes only when it is told to.

use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::clock::Clock;
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};

use super::gate::{Gate, ProcessId};

/// The true time, which the cloud and the API server see, and how far the operator's wall clock is from it.
#[derive(Clone)]
pub struct Time(Arc<Mutex<Inner>>);

struct Inner {
    truth: Timestamp,
    skew: SignedDuration,
    was_skewed: bool,
}

impl Default for Time {
    fn default() -> Self {
        let truth = "2026-03-01T08:00:00.123456789Z".parse().unwrap();
        Self(Arc::new(Mutex::new(Inner {
            truth,
            skew: SignedDuration::ZERO,
            was_skewed: false,
        })))
    }
}

impl Time {
    pub fn truth(&self) -> Timestamp {
        self.0.lock().unwrap().truth
    }

    pub fn advance(&self, by: Duration) {
        self.0.lock().unwrap().truth += by;
    }

    /// Sets the operator's wall clock wrong.
    pub fn set_skew(&self, skew: SignedDuration) {
        let mut inner = self.0.lock().unwrap();
        inner.skew = skew;
        inner.was_skewed = true;
    }

    /// Whether the wall clock was ever set wrong.
    pub fn was_skewed(&self) -> bool {
        self.0.lock().unwrap().was_skewed
    }

    fn wall(&self) -> Timestamp {
        let inner = self.0.lock().unwrap();
        inner.truth + inner.skew
    }
}

/// The clocks of one process. Its uptime starts with it and does not follow the wall clock's jumps.
pub struct ProcessClock {
    time: Time,
    started: Timestamp,
    gate: Gate,
    process: ProcessId,
}

impl ProcessClock {
    pub fn start(time: Time, gate: Gate, process: ProcessId) -> Self {
        let started = time.truth();
        Self {
            time,
            started,
            gate,
            process,
        }
    }
}

#[async_trait]
impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        self.time.wall()
    }

    fn uptime(&self) -> Duration {
        Duration::try_from(self.time.truth().duration_since(self.started)).unwrap()
    }

    /// Passes at once, unless a gate is shut.
    async fn sleep(&self, time: Duration) {
        if self.gate.is_shut() {
            return self.gate.pass(self.process, Some(self.time.truth() + time)).await;
        }
        if self.time.truth().checked_add(time).is_err() {
            return pending().await; // for ever
        }
        self.time.advance(time);
        tokio::task::yield_now().await;
    }
}
