//! How often and how soon: token bucket, breaker and back-off.
//!
//! Pure: the time comes in as the process's uptime and the draw as a number, so that nothing here waits or guesses.

use std::time::Duration;

/// A token bucket that hands out slots in time instead of refusing.
///
/// It keeps one instant, the time at which the next slot would be free if the burst were used up, so it needs no
/// refill and cannot drift.
#[derive(Clone, Debug)]
pub struct Bucket {
    interval: Duration,
    tolerance: Duration,
    next: Duration,
}

impl Bucket {
    /// Slowest rate taken, one an hour; a rate of zero, below zero or not a number means this.
    pub const SLOWEST_PER_SECOND: f64 = 1.0 / 3600.0;
    /// Fastest rate taken.
    pub const FASTEST_PER_SECOND: f64 = 1_000_000.0;

    /// A full bucket: `burst` slots at once (at least one), then `per_second`.
    pub fn new(per_second: f64, burst: u32) -> Self {
        let rate = if per_second.is_nan() { 0.0 } else { per_second };
        let rate = rate.clamp(Self::SLOWEST_PER_SECOND, Self::FASTEST_PER_SECOND);
        let interval = Duration::from_secs_f64(1.0 / rate);
        Self {
            interval,
            tolerance: interval.saturating_mul(burst.max(1) - 1),
            next: Duration::ZERO,
        }
    }

    /// How long a slot reserved at `uptime` would have to wait.
    pub fn wait(&self, uptime: Duration) -> Duration {
        self.next.saturating_sub(self.tolerance).saturating_sub(uptime)
    }

    /// Reserves the next slot and says how long to wait for it.
    pub fn take(&mut self, uptime: Duration) -> Duration {
        let wait = self.wait(uptime);
        self.next = self.next.max(uptime).saturating_add(self.interval);
        wait
    }

    /// Hands out nothing before `until`, and after it no burst.
    pub fn pause(&mut self, until: Duration) {
        self.next = self.next.max(until.saturating_add(self.tolerance));
    }

    /// Whether it has no memory of anything: dropping it and making a new one changes nothing.
    pub fn is_full(&self, uptime: Duration) -> bool {
        self.next <= uptime
    }
}

/// Whether credentials may be tried, so that bad ones do not lock their key.
///
/// The cloud locks a key after five failures in a row. So one version of the credentials is tried by one call at a
/// time until a call proves that they work; a rejection closes it for a while; and another version starts afresh.
#[derive(Clone, Debug)]
pub struct Breaker {
    version: String,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unproven,
    Probing,
    Proven,
    Open { until: Duration },
}

/// What [`Breaker::enter`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Go: the credentials worked before.
    Pass,
    /// Go, alone: the outcome must be told by [`Breaker::record`].
    Probe,
    /// Another call is trying them now.
    Busy,
    /// Not before this time has passed.
    Closed(Duration),
}

/// What a call proved about its credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// They work.
    Accepted,
    /// They do not work, or their key is locked: none may use them for this long.
    Rejected(Duration),
    /// Nothing.
    Unknown,
}

impl Breaker {
    /// A breaker that knows nothing yet of `version`.
    pub fn new(version: impl Into<String>) -> Self {
        Self {
            version: version.into(),
            state: State::Unproven,
        }
    }

    /// What [`Breaker::enter`] would say, without entering.
    pub fn peek(&self, version: &str, uptime: Duration) -> Entry {
        match self.state {
            _ if version != self.version => Entry::Probe,
            State::Proven => Entry::Pass,
            State::Probing => Entry::Busy,
            State::Open { until } if uptime < until => Entry::Closed(until.saturating_sub(uptime)),
            State::Unproven | State::Open { .. } => Entry::Probe,
        }
    }

    /// Asks to make a call with `version`. After [`Entry::Probe`] a [`Breaker::record`] must follow.
    pub fn enter(&mut self, version: &str, uptime: Duration) -> Entry {
        let entry = self.peek(version, uptime);
        if entry == Entry::Probe {
            version.clone_into(&mut self.version);
            self.state = State::Probing;
        }
        entry
    }

    /// Tells what a call with `version` proved. What an older version proved is of no interest.
    pub fn record(&mut self, version: &str, verdict: Verdict, uptime: Duration) {
        if version != self.version {
            return;
        }
        self.state = match (self.state, verdict) {
            // A call that began before the rejection says nothing about after it.
            (State::Open { .. }, Verdict::Accepted) => self.state,
            (_, Verdict::Accepted) => State::Proven,
            (State::Open { until }, Verdict::Rejected(time)) => State::Open {
                until: until.max(uptime.saturating_add(time)),
            },
            (_, Verdict::Rejected(time)) => State::Open {
                until: uptime.saturating_add(time),
            },
            (State::Probing, Verdict::Unknown) => State::Unproven,
            (state, Verdict::Unknown) => state,
        };
    }

    /// Whether forgetting it is harmless: neither closed nor being tried.
    pub fn is_idle(&self, uptime: Duration) -> bool {
        match self.state {
            State::Unproven | State::Proven => true,
            State::Probing => false,
            State::Open { until } => until <= uptime,
        }
    }
}

/// How long to wait after `failures` failures in a row: exponential with full jitter over a floor.
///
/// The result lies between half of `base` and `base` doubled for each failure after the first, and never above `cap`;
/// `draw` from 0 to 1 chooses the place between. It is never zero (at least a millisecond).
pub fn backoff(failures: u32, draw: f64, base: Duration, cap: Duration) -> Duration {
    let floor = (base / 2).min(cap);
    let doubled = base.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(31)));
    let ceiling = doubled.min(cap);
    let draw = if draw.is_nan() { 1.0 } else { draw.clamp(0.0, 1.0) };
    let span = ceiling.saturating_sub(floor).as_secs_f64();
    let extra = Duration::try_from_secs_f64(span * draw).unwrap_or(Duration::ZERO);
    floor
        .saturating_add(extra)
        .clamp(floor, ceiling)
        .max(Duration::from_millis(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(2.0, 3);
        let waits: Vec<_> = (0..5).map(|_| bucket.take(SECOND).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 500, 1000]);
        assert_eq!(bucket.wait(SECOND).as_millis(), 1500);
        assert!(!bucket.is_full(SECOND));
        assert!(bucket.is_full(10 * SECOND));
        assert_eq!(bucket.take(10 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_paused_bucket_waits_and_then_has_no_burst() {
        let mut bucket = Bucket::new(1.0, 5);
        bucket.pause(60 * SECOND);
        assert_eq!(bucket.take(Duration::ZERO), 60 * SECOND);
        assert_eq!(bucket.take(60 * SECOND), SECOND);
        bucket.pause(10 * SECOND);
        assert_eq!(
            bucket.wait(60 * SECOND),
            2 * SECOND,
            "a shorter pause does not undo a longer one"
        );
    }

    #[test]
    fn a_senseless_rate_is_the_slowest_one() {
        for rate in [0.0, -1.0, f64::NAN, f64::NEG_INFINITY] {
            let mut bucket = Bucket::new(rate, 0);
            assert_eq!(bucket.take(Duration::ZERO), Duration::ZERO);
            assert_eq!(bucket.wait(Duration::ZERO).as_secs(), 3600);
        }
        assert!(Bucket::new(f64::INFINITY, 1).take(Duration::ZERO).is_zero());
    }

    #[test]
    fn unproven_credentials_are_tried_by_one_call_at_a_time() {
        let mut breaker = Breaker::new("1");
        assert_eq!(breaker.enter("1", SECOND), Entry::Probe);
        assert_eq!(breaker.enter("1", SECOND), Entry::Busy);
        breaker.record("1", Verdict::Unknown, SECOND);
        assert_eq!(breaker.enter("1", SECOND), Entry::Probe);
        breaker.record("1", Verdict::Accepted, SECOND);
        assert_eq!(breaker.enter("1", SECOND), Entry::Pass);
        assert_eq!(breaker.enter("1", SECOND), Entry::Pass);
        breaker.record("1", Verdict::Unknown, SECOND);
        assert_eq!(breaker.enter("1", SECOND), Entry::Pass);
    }

    #[test]
    fn a_rejection_closes_until_its_time_is_over_and_then_one_call_probes() {
        let mut breaker = Breaker::new("1");
        breaker.enter("1", SECOND);
        breaker.record("1", Verdict::Rejected(330 * SECOND), SECOND);
        assert_eq!(breaker.enter("1", 31 * SECOND), Entry::Closed(300 * SECOND));
        breaker.record("1", Verdict::Accepted, 31 * SECOND);
        assert_eq!(
            breaker.enter("1", 330 * SECOND),
            Entry::Closed(SECOND),
            "a late success does not open it"
        );
        assert!(!breaker.is_idle(330 * SECOND));
        assert_eq!(breaker.enter("1", 331 * SECOND), Entry::Probe);
        assert_eq!(breaker.enter("1", 331 * SECOND), Entry::Busy);
        breaker.record("1", Verdict::Rejected(330 * SECOND), 332 * SECOND);
        assert_eq!(breaker.enter("1", 333 * SECOND), Entry::Closed(329 * SECOND));
    }

    #[test]
    fn another_version_of_the_credentials_starts_afresh() {
        let mut breaker = Breaker::new("1");
        breaker.enter("1", SECOND);
        breaker.record("1", Verdict::Rejected(330 * SECOND), SECOND);
        assert_eq!(breaker.enter("2", 2 * SECOND), Entry::Probe);
        breaker.record("1", Verdict::Rejected(330 * SECOND), 2 * SECOND);
        assert_eq!(
            breaker.enter("2", 2 * SECOND),
            Entry::Busy,
            "what version 1 proves does not touch version 2"
        );
        breaker.record("2", Verdict::Accepted, 2 * SECOND);
        assert_eq!(breaker.enter("2", 2 * SECOND), Entry::Pass);
    }

    #[test]
    fn the_longer_of_two_rejections_counts() {
        let mut breaker = Breaker::new("1");
        breaker.record("1", Verdict::Rejected(100 * SECOND), SECOND);
        breaker.record("1", Verdict::Rejected(10 * SECOND), 2 * SECOND);
        assert_eq!(breaker.enter("1", 2 * SECOND), Entry::Closed(99 * SECOND));
    }

    #[test]
    fn back_off_doubles_from_its_base_up_to_its_cap() {
        let delays: Vec<_> = (0..8)
            .map(|n| backoff(n, 1.0, 5 * SECOND, 60 * SECOND).as_secs())
            .collect();
        assert_eq!(delays, [5, 5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(backoff(9, 0.0, 5 * SECOND, 60 * SECOND).as_millis(), 2500);
        assert_eq!(backoff(1, 0.5, Duration::ZERO, SECOND), Duration::from_millis(1));
    }

    #[test]
    fn the_draw_chooses_the_place_between_the_bounds() {
        for (failures, draw, millis) in [
            (2, 0.0, 2000),
            (2, 0.5, 5000),
            (2, 0.25, 3500),
            (2, 1.0, 8000),
            (2, f64::NAN, 8000),
        ] {
            assert_eq!(
                backoff(failures, draw, 4 * SECOND, 60 * SECOND).as_millis(),
                millis,
                "{draw}"
            );
        }
    }

    #[test]
    fn a_breaker_may_be_forgotten_unless_it_is_closed_or_being_tried() {
        let mut breaker = Breaker::new("1");
        assert!(breaker.is_idle(SECOND));
        breaker.enter("1", SECOND);
        assert!(!breaker.is_idle(SECOND));
        breaker.record("1", Verdict::Accepted, SECOND);
        assert!(breaker.is_idle(SECOND));
        breaker.record("1", Verdict::Rejected(10 * SECOND), SECOND);
        assert!(!breaker.is_idle(10 * SECOND) && breaker.is_idle(11 * SECOND));
    }

    proptest! {
        #[test]
        fn a_bucket_never_exceeds_its_rate(rate in 0.1_f64..50.0, burst in 1_u32..20, steps in prop::collection::vec(0_u64..3000, 1..60)) {
            let mut bucket = Bucket::new(rate, burst);
            let mut now = Duration::ZERO;
            let mut slots = Vec::new();
            for step in steps {
                now += Duration::from_millis(step);
                slots.push(now + bucket.take(now));
            }
            for (first, start) in slots.iter().enumerate() {
                for (last, end) in slots.iter().enumerate().skip(first) {
                    let seen = f64::from(u32::try_from(last - first).unwrap()) + 1.0;
                    let span = end.saturating_sub(*start).as_secs_f64();
                    prop_assert!(seen <= f64::from(burst) + span * rate + 1e-3, "{} slots in {} s", seen, span);
                }
            }
        }

        #[test]
        fn slots_come_in_order(rate in 0.1_f64..50.0, steps in prop::collection::vec((0_u64..3000, prop::option::of(0_u64..9000)), 1..60)) {
            let mut bucket = Bucket::new(rate, 3);
            let (mut now, mut before) = (Duration::ZERO, Duration::ZERO);
            for (step, pause) in steps {
                now += Duration::from_millis(step);
                if let Some(pause) = pause {
                    let until = now + Duration::from_millis(pause);
                    bucket.pause(until);
                    prop_assert!(now + bucket.wait(now) >= until);
                }
                let slot = now + bucket.take(now);
                prop_assert!(slot >= before);
                before = slot;
            }
        }

        #[test]
        fn a_breaker_lets_one_probe_in_and_nobody_while_closed(events in prop::collection::vec((0_u8..4, 0_u8..3, 0_u64..200), 1..100)) {
            let mut breaker = Breaker::new("0");
            let (mut now, mut probing, mut closed_until) = (Duration::ZERO, 0_u32, Duration::ZERO);
            for (event, verdict, step) in events {
                now += Duration::from_secs(step);
                if event < 3 {
                    match breaker.enter("0", now) {
                        Entry::Probe => { probing += 1; prop_assert!(now >= closed_until); }
                        Entry::Pass => prop_assert!(now >= closed_until),
                        Entry::Busy => prop_assert_eq!(probing, 1),
                        Entry::Closed(time) => prop_assert_eq!(now + time, closed_until),
                    }
                    prop_assert!(probing <= 1);
                } else if probing == 1 {
                    probing = 0;
                    let verdict = [Verdict::Accepted, Verdict::Rejected(330 * SECOND), Verdict::Unknown][usize::from(verdict)];
                    if let Verdict::Rejected(time) = verdict {
                        closed_until = now + time;
                    }
                    breaker.record("0", verdict, now);
                }
            }
        }

        #[test]
        fn back_off_stays_within_its_bounds(failures in any::<u32>(), draw in any::<f64>(), base in 1_u64..100_000, cap in 1_u64..10_000_000) {
            let (base, cap) = (Duration::from_millis(base), Duration::from_millis(cap));
            let delay = backoff(failures, draw, base, cap);
            prop_assert!(!delay.is_zero() && delay <= cap);
            prop_assert!(delay >= (base / 2).min(cap));
        }

        #[test]
        fn a_larger_draw_never_shortens_the_wait(failures in 0_u32..40, a in 0.0_f64..1.0, b in 0.0_f64..1.0) {
            let (low, high) = (a.min(b), a.max(b));
            let wait = |draw| backoff(failures, draw, SECOND, 900 * SECOND);
            prop_assert!(wait(low) <= wait(high));
        }
    }
}
