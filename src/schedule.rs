//! When the schedule rotates next. Pure: the time comes in, and the spread is a hash of the resource's uid.

mod cron;
mod window;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

pub use self::cron::{Cron, zone};
pub use self::window::Window;

/// When rotations start without being asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timetable {
    /// When one is due.
    pub rhythm: Rhythm,
    /// Longest delay after that; the resource's own share of it never changes.
    pub jitter: SignedDuration,
    /// One may start only while one of these is open; none means at any time.
    pub windows: Vec<Window>,
}

/// When rotations are due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rhythm {
    /// From one completed rotation to the next; longer than zero.
    Interval(SignedDuration),
    /// By the calendar, whenever the last rotation was.
    Cron(Cron),
}

impl Timetable {
    /// The first permitted start of the next rotation, if the current code became current at `since`.
    ///
    /// Missed times collapse into one: however long ago that was, there is one due time, and after the rotation the
    /// next one counts from its completion. What falls due while no window is open starts in the next window.
    pub fn next(&self, since: Timestamp, uid: &str) -> Option<Timestamp> {
        let due = match &self.rhythm {
            Rhythm::Interval(interval) => since.checked_add(*interval).ok()?,
            Rhythm::Cron(cron) => cron.next(since)?,
        };
        let base = if self.is_open(due) { due } else { self.opening(due)? };
        self.delayed(base, uid)
    }

    /// The resource's own share of the jitter after `base`, which ends with the window that is open then.
    fn delayed(&self, base: Timestamp, uid: &str) -> Option<Timestamp> {
        let left = self.end(base).map(|end| end.duration_since(base));
        let longest = left.map_or(self.jitter, |left| left.min(self.jitter));
        base.checked_add(spread(uid, longest)).ok()
    }

    /// The next start as it looks at `now`: the first permitted one or, if that was missed and no window is open, the
    /// next opening, with jitter so that those who wait for it do not start together. A rotation is to start once this is
    /// not in the future.
    pub fn start(&self, since: Timestamp, uid: &str, now: Timestamp) -> Option<Timestamp> {
        let next = self.next(since, uid)?;
        if next > now || self.is_open(now) {
            Some(next)
        } else {
            self.delayed(self.opening(now)?, uid)
        }
    }

    /// The first `n` starts, if each rotation comes when it should.
    pub fn upcoming(&self, since: Timestamp, uid: &str, n: usize) -> Vec<Timestamp> {
        std::iter::successors(self.next(since, uid), |at| self.next(*at, uid))
            .take(n)
            .collect()
    }

    /// In words, why the next rotation comes when it comes.
    pub fn tell(&self) -> String {
        let rhythm = match &self.rhythm {
            Rhythm::Interval(interval) => format!("{interval:#} after the present code became current"),
            Rhythm::Cron(cron) => format!("by {cron}"),
        };
        let delay = if self.jitter.is_zero() {
            String::new()
        } else {
            format!(", delayed by this resource's share of {:#} of jitter", self.jitter)
        };
        let windows = match self.windows.len() {
            0 => "",
            1 => ", and only in the window",
            _ => ", and only in one of the windows",
        };
        format!("{rhythm}{delay}{windows}")
    }

    /// Whether a rotation may start now.
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.windows.is_empty() || self.end(now).is_some()
    }

    /// When the last of the windows closes that are open at `at`.
    fn end(&self, at: Timestamp) -> Option<Timestamp> {
        self.windows.iter().filter_map(|window| window.end(at)).max()
    }

    fn opening(&self, after: Timestamp) -> Option<Timestamp> {
        self.windows.iter().filter_map(|window| window.opening(after)).min()
    }
}

/// A share of `longest` that is always the same for `uid` and uniform over many.
pub fn spread(uid: &str, longest: SignedDuration) -> SignedDuration {
    let digest = Sha256::digest(uid.as_bytes());
    let mut head = [0; 8];
    for (to, from) in head.iter_mut().zip(digest.iter()) {
        *to = *from;
    }
    let share = u64::from_be_bytes(head) >> 16; // 48 bits: the product below fits
    let nanos = longest.as_nanos().max(0).saturating_mul(i128::from(share)) >> 48;
    let seconds = i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX);
    SignedDuration::from_secs(seconds) // whole seconds: times in status have no fractions
}

/// The time of two records that counts: a time in the future is worth nothing, unless there is no other.
///
/// A clock that jumped ahead and back leaves times in the future. Cutting them to `now` on every pass would push the
/// next rotation ahead for ever, so a time that is not in the future wins when there is one, and a cut time is written
/// to status, where the next pass finds it in the past.
pub fn cut_to_now(times: impl IntoIterator<Item = Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let times: Vec<Timestamp> = times.into_iter().collect();
    let past = times.iter().copied().filter(|time| *time <= now).max();
    past.or_else(|| times.first().map(|_| now))
}

#[cfg(test)]
mod tests;
