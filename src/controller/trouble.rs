//! What a watch makes of its failures: when the server is asked again, and when they are over.

use std::time::Duration;

use crate::limits::backoff;

/// How soon after a failure it is seen that a watch works again which brings no event.
const GLANCE: Duration = Duration::from_secs(10);

/// The failures of a watch in a row. What kube's watcher brings does not show their end: nothing comes of a watch that is
/// begun again, of bookmarks, nor of one that ends as it should.
pub(super) struct Trouble {
    /// The first pause after a failure, and the longest.
    pauses: (Duration, Duration),
    failures: u32,
    /// Uptime before which the server is not asked again.
    until: Duration,
}

impl Trouble {
    pub(super) fn none(pauses: (Duration, Duration)) -> Self {
        Self {
            pauses,
            failures: 0,
            until: Duration::ZERO,
        }
    }

    /// Takes in a failure; `draw` from 0 to 1 chooses the pause. Returns whether it is the first in a row.
    pub(super) fn begin(&mut self, now: Duration, draw: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        let pause = backoff(self.failures, draw, self.pauses.0, self.pauses.1);
        self.until = now.saturating_add(pause);
        self.failures == 1
    }

    /// The watch works. Returns whether it did not before.
    pub(super) fn end(&mut self) -> bool {
        std::mem::take(&mut self.failures) > 0
    }

    /// The same for a watch that has brought neither event nor error, if it had the time to: one that fails as soon as it is
    /// answered does not work.
    pub(super) fn end_quietly(&mut self, now: Duration) -> bool {
        now >= self.until.saturating_add(GLANCE) && self.end()
    }

    /// How long the server is not asked yet.
    pub(super) fn pause(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }

    /// How soon there is something to do, should the watch bring nothing.
    pub(super) fn glance(&self, now: Duration) -> Duration {
        match self.pause(now) {
            pause if !pause.is_zero() => pause,
            _ if self.failures > 0 => GLANCE,
            _ => Duration::MAX,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn failures_in_a_row_are_told_once_and_the_server_is_asked_ever_more_seldom() {
        let mut trouble = Trouble::none(PAUSES);
        assert_eq!((trouble.pause(at(0)), trouble.glance(at(0))), (at(0), Duration::MAX));
        let mut now = at(0);
        let mut pauses = Vec::new();
        for number in 0..7 {
            assert_eq!(trouble.begin(now, 1.0), number == 0);
            pauses.push(trouble.pause(now).as_secs());
            assert_eq!(trouble.glance(now), trouble.pause(now));
            now += trouble.pause(now);
            assert_eq!(trouble.glance(now), GLANCE);
            assert!(!trouble.end_quietly(now), "it had no time to fail again");
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
    }

    #[test]
    fn failures_far_apart_do_not_add_up_though_no_event_comes_between_them() {
        let mut trouble = Trouble::none(PAUSES);
        for number in 0..20 {
            let now = at(300 * number);
            assert!(trouble.begin(now, 1.0), "each is told");
            assert_eq!(trouble.pause(now), PAUSES.0);
            let later = now + PAUSES.0 + GLANCE;
            assert!(trouble.end_quietly(later));
            assert!(!trouble.end_quietly(later), "and its end once");
            assert_eq!(trouble.glance(later), Duration::MAX);
        }
    }

    #[test]
    fn an_event_ends_it_at_once() {
        let mut trouble = Trouble::none(PAUSES);
        assert!(trouble.begin(at(0), 1.0));
        assert!(trouble.end());
        assert!(!trouble.end());
    }
}
