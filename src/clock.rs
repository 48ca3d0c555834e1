//! The only place that asks what time it is. Everything that decides takes the time as an argument.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use jiff::Timestamp;

/// Time as the operator sees it; tests bring their own.
#[async_trait]
pub trait Clock: Send + Sync {
    /// The wall clock, which may jump. Schedules and records are written in it.
    fn now(&self) -> Timestamp;

    /// Time since this process started, which only grows. Waiting and settling are measured by it.
    fn uptime(&self) -> Duration;

    /// Returns once `time` has passed on the clock of [`Clock::uptime`].
    async fn sleep(&self, time: Duration);
}

/// The clocks of the machine.
#[derive(Clone, Debug)]
pub struct SystemClock {
    started: Instant,
}

impl SystemClock {
    /// A clock whose uptime starts now.
    pub fn start() -> Self {
        Self {
            started: Instant::now(),
        }
    }
}

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}
