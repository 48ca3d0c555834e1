//! The only place that asks what time it is. Everything that decides takes the time as an argument.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Time as the operator sees it; tests bring their own.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock, which may jump. Schedules and records are written in it.
    fn now(&self) -> Timestamp;

    /// Time since this process started, which only grows, and goes on while the machine is suspended. Waiting, settling and
    /// the lead are measured by it.
    fn uptime(&self) -> Duration;

    /// Returns once `time` has passed on the clock of [`Clock::uptime`].
    async fn sleep(&self, time: Duration);
}

/// The clocks of the machine.
#[derive(Clone, Debug)]
pub struct SystemClock {
    started: Duration,
}

impl SystemClock {
    /// A clock whose uptime starts now.
    pub fn start() -> Self {
        Self { started: since_boot() }
    }
}

fn since_boot() -> Duration {
    // Neither field is ever negative on this clock.
    Duration::try_from(clock_gettime(ClockId::Boottime)).unwrap_or_default()
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        since_boot().saturating_sub(self.started)
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// A clock of unit tests, whose uptime is what they set. Nobody waits on it.
#[cfg(test)]
#[derive(Default)]
pub(crate) struct Still(pub(crate) std::sync::Mutex<Duration>);

#[cfg(test)]
#[async_trait]
impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }

    fn uptime(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    async fn sleep(&self, _: Duration) {}
}
