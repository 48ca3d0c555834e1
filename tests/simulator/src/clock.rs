//! The cloud's time: any source, plus an offset that can be moved while it runs.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Where the cloud gets the time from. Clones share the offset.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    offset: Arc<Mutex<SignedDuration>>,
}

impl Clock {
    /// A clock that asks `source`.
    pub fn new(source: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self {
            source: Arc::new(source),
            offset: Arc::default(),
        }
    }

    /// A clock that stands at `time` until it is moved.
    pub fn standing_at(time: Timestamp) -> Self {
        Self::new(move || time)
    }

    /// The cloud's time. Where an offset leads out of the calendar the source's time is told.
    pub fn now(&self) -> Timestamp {
        let now = (self.source)();
        now.checked_add(self.skew()).unwrap_or(now)
    }

    /// How far the cloud's time is from its source's.
    pub fn skew(&self) -> SignedDuration {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets how far the cloud's time is from its source's.
    pub fn set_skew(&self, skew: SignedDuration) {
        *self.offset.lock().unwrap_or_else(PoisonError::into_inner) = skew;
    }

    /// Lets time pass without waiting for it.
    pub fn advance(&self, by: SignedDuration) {
        let mut offset = self.offset.lock().unwrap_or_else(PoisonError::into_inner);
        *offset = offset.saturating_add(by);
    }
}

impl Default for Clock {
    /// This machine's clock.
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("skew", &self.skew())
            .finish_non_exhaustive()
    }
}
