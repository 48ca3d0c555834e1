//! The times in which scheduled rotations may start.

use jiff::{SignedDuration, Timestamp};

use super::cron::Cron;

/// Opens with each firing of a cron and stays open for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it opens.
    pub cron: Cron,
    /// How long it stays open; longer than zero. It is time that passes, whatever the clocks show.
    pub duration: SignedDuration,
}

impl Window {
    /// When it closes, if it is open at `at`. It is open when it opens, and closed when it closes.
    pub fn end(&self, at: Timestamp) -> Option<Timestamp> {
        let end = self.cron.last(at)?.checked_add(self.duration).ok()?;
        (end > at).then_some(end)
    }

    /// When it opens next, after `after`.
    pub fn opening(&self, after: Timestamp) -> Option<Timestamp> {
        self.cron.next(after)
    }
}
