//! When the schedule rotates next. Pure: the time comes in, and the spread is a hash of the resource's uid.

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// Rotations at a distance from one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntervalSchedule {
    /// From one completed rotation to the next; longer than zero.
    pub interval: SignedDuration,
    /// Longest delay on top; the resource's own share of it never changes.
    pub jitter: SignedDuration,
}

impl IntervalSchedule {
    /// When the next rotation is due, if the current code became current at `since`.
    ///
    /// Missed times collapse into one: however long ago that was, there is one due time, and after the rotation the
    /// next one counts from its completion.
    pub fn next(&self, since: Timestamp, uid: &str) -> Timestamp {
        let wait = self.interval.saturating_add(spread(uid, self.jitter));
        since.checked_add(wait).unwrap_or(Timestamp::MAX)
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
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn schedule(interval: i64, jitter: i64) -> IntervalSchedule {
        IntervalSchedule {
            interval: SignedDuration::from_secs(interval),
            jitter: SignedDuration::from_secs(jitter),
        }
    }

    #[test]
    fn a_time_in_the_future_counts_only_when_there_is_no_other() {
        assert_eq!(cut_to_now([at(50), at(500)], at(100)), Some(at(50)));
        assert_eq!(cut_to_now([at(500)], at(100)), Some(at(100)));
        assert_eq!(cut_to_now([at(50), at(70)], at(100)), Some(at(70)));
        assert_eq!(cut_to_now([], at(100)), None);
    }

    #[test]
    fn the_spread_over_many_uids_is_uniform() {
        let mut tenths = [0; 10];
        for n in 0..10_000 {
            let second = spread(&format!("uid-{n}"), SignedDuration::from_secs(1000)).as_secs();
            tenths[usize::try_from(second / 100).unwrap()] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn never_due_before_the_interval_nor_after_the_jitter(since in 0i64..4_000_000_000, interval in 1i64..100_000_000, jitter in 0i64..100_000, uid in "[a-f0-9-]{36}") {
            let next = schedule(interval, jitter).next(at(since), &uid);
            prop_assert!(next >= at(since + interval));
            prop_assert!(next <= at(since + interval + jitter));
            prop_assert_eq!(next, schedule(interval, jitter).next(at(since), &uid));
        }

        #[test]
        fn no_interval_overflows(since in any::<i32>(), interval in any::<i64>(), jitter in any::<i64>()) {
            let _ = schedule(interval.saturating_abs(), jitter.saturating_abs()).next(at(i64::from(since)), "uid");
        }
    }
}
