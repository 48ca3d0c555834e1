//! What to do about the Lease, from what was read of it. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};

/// A Lease whose holder writes an absurd duration is not waited for longer than this.
const LONGEST: Duration = Duration::from_secs(600);

/// The times of an election. All follow from one, so that they fit each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// How long others wait after they saw the last renewal.
    pub duration: Duration,
}

impl LeaseTimes {
    /// From one renewal to the next.
    pub fn renewal(self) -> Duration {
        self.duration / 3
    }

    /// How long the lead lasts after a renewal was sent: it ends well before others may take it.
    pub fn lead(self) -> Duration {
        self.duration * 2 / 3
    }

    /// Longest time for one request about the Lease: two of them fit between a renewal that is due and the end of the lead.
    pub fn request(self) -> Duration {
        (self.duration / 8).min(Duration::from_secs(10))
    }

    /// Pause after a request that failed.
    pub fn pause(self) -> Duration {
        (self.duration / 20).min(Duration::from_secs(2))
    }

    /// Pause of a replica that does not lead after `failures` in a row: twice as long each time, up to a renewal's period, by
    /// which a take-over is late at most.
    pub fn patience(self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        self.pause().saturating_mul(doubled).min(self.renewal())
    }
}

/// What was read of the Lease, and since when it has stood so.
///
/// Clocks of two machines are never compared: a Lease has run out when *this* process has seen no change of it for as long
/// as its holder said.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// The Lease; none if there is none.
    pub lease: Option<Lease>,
    /// Uptime at which this version of it was first seen.
    pub since: Duration,
}

impl View {
    /// The view after `lease` was read at the uptime `now`.
    pub fn after(former: Option<Self>, lease: Option<Lease>, now: Duration) -> Self {
        match former {
            Some(former) if version(former.lease.as_ref()) == version(lease.as_ref()) => former,
            _ => Self { lease, since: now },
        }
    }

    /// Who holds the Lease; none if it is free, or was given up.
    pub fn holder(&self) -> Option<&str> {
        let spec = self.lease.as_ref()?.spec.as_ref()?;
        spec.holder_identity.as_deref().filter(|holder| !holder.is_empty())
    }

    /// Uptime at which the Lease runs out unless it is renewed before.
    pub fn end(&self, times: LeaseTimes) -> Duration {
        let spec = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let told = spec.and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
        let duration = told.map_or(times.duration, Duration::from_secs);
        self.since.saturating_add(duration.min(LONGEST))
    }
}

fn version(lease: Option<&Lease>) -> Option<(Option<&str>, Option<&str>)> {
    let meta = &lease?.metadata;
    Some((meta.uid.as_deref(), meta.resource_version.as_deref()))
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Write this Lease, which is new: it must not exist yet.
    Create(Lease),
    /// Write this Lease over the one that was read, and over no other.
    Replace(Lease),
    /// Somebody else leads, up to this uptime at least.
    Follow(Duration),
}

/// What a process that wants to lead does about the Lease `name`, at the uptime `uptime` and the wall-clock time `now`.
pub fn judge(view: &View, me: &str, name: &str, times: LeaseTimes, uptime: Duration, now: Timestamp) -> Move {
    let ours = |acquired: MicroTime, transitions: i32| LeaseSpec {
        holder_identity: Some(me.to_owned()),
        lease_duration_seconds: Some(i32::try_from(times.duration.as_secs()).unwrap_or(i32::MAX).max(1)),
        acquire_time: Some(acquired),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    };
    let Some(lease) = &view.lease else {
        return Move::Create(Lease {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(ours(MicroTime(now), 0)),
        });
    };
    let holder = view.holder();
    let end = view.end(times);
    if holder.is_some_and(|holder| holder != me) && uptime < end {
        return Move::Follow(end);
    }
    let former = lease.spec.clone().unwrap_or_default();
    let transitions = former.lease_transitions.unwrap_or_default();
    let spec = if holder == Some(me) {
        ours(former.acquire_time.unwrap_or(MicroTime(now)), transitions)
    } else {
        ours(MicroTime(now), transitions.saturating_add(1))
    };
    Move::Replace(Lease {
        metadata: lease.metadata.clone(),
        spec: Some(spec),
    })
}

/// The Lease as it is given up: whoever sees it may take it at once.
pub fn given_up(lease: &Lease, now: Timestamp) -> Lease {
    let former = lease.spec.clone().unwrap_or_default();
    Lease {
        metadata: lease.metadata.clone(),
        spec: Some(LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(now)),
            ..former
        }),
    }
}

#[cfg(test)]
mod tests {
    use pretty_assertions::assert_eq;

    use super::*;

    const TIMES: LeaseTimes = LeaseTimes {
        duration: Duration::from_secs(30),
    };
    const START: Duration = Duration::from_secs(1000);

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn lease(holder: &str, version: &str) -> Lease {
        Lease {
            metadata: ObjectMeta {
                uid: Some("uid".into()),
                resource_version: Some(version.into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.into()),
                lease_duration_seconds: Some(30),
                acquire_time: Some(MicroTime(at(-100))),
                renew_time: Some(MicroTime(at(-100))),
                lease_transitions: Some(4),
                ..LeaseSpec::default()
            }),
        }
    }

    fn view(lease: Option<Lease>) -> View {
        View { lease, since: START }
    }

    fn judged(view: &View, after: u64) -> Move {
        judge(view, "me", "name", TIMES, START + Duration::from_secs(after), at(0))
    }

    fn written(step: Move) -> LeaseSpec {
        match step {
            Move::Create(lease) | Move::Replace(lease) => lease.spec.unwrap(),
            Move::Follow(_) => panic!("nothing is written"),
        }
    }

    #[test]
    fn the_lead_ends_before_others_may_take_it_and_two_renewals_fit_in_between() {
        for seconds in [1, 5, 15, 30, 600] {
            let times = LeaseTimes {
                duration: Duration::from_secs(seconds),
            };
            let two_tries = (times.request() + times.pause()) * 2;
            assert!(times.renewal() + two_tries < times.lead() + times.pause());
            assert!(times.lead() + times.request() <= times.duration);
        }
    }

    #[test]
    fn who_does_not_lead_asks_ever_more_seldom_and_is_never_late_by_more_than_a_renewal() {
        let pauses: Vec<u128> = (1..7).map(|failures| TIMES.patience(failures).as_millis()).collect();
        assert_eq!(pauses, [1500, 3000, 6000, 10000, 10000, 10000]);
        assert_eq!(TIMES.patience(u32::MAX), TIMES.renewal());
    }

    #[test]
    fn one_that_is_not_there_is_made_and_one_that_is_ours_renewed() {
        let Move::Create(made) = judged(&view(None), 0) else {
            panic!("it must be made");
        };
        assert_eq!(made.metadata.name.as_deref(), Some("name"));
        assert_eq!(made.metadata.resource_version, None);
        let Move::Replace(renewed) = judged(&view(Some(lease("me", "7"))), 1) else {
            panic!("it must be renewed");
        };
        assert_eq!(renewed.metadata.resource_version.as_deref(), Some("7"));
        let spec = renewed.spec.unwrap();
        assert_eq!(spec.acquire_time, Some(MicroTime(at(-100))));
        assert_eq!(
            (spec.renew_time, spec.lease_transitions),
            (Some(MicroTime(at(0))), Some(4))
        );
    }

    #[test]
    fn another_ones_is_taken_only_after_it_was_seen_unchanged_for_its_whole_duration() {
        let seen = view(Some(lease("other", "7")));
        assert_eq!(judged(&seen, 29), Move::Follow(START + Duration::from_secs(30)));
        let taken = written(judged(&seen, 30));
        assert_eq!(
            (taken.holder_identity.as_deref(), taken.lease_transitions),
            (Some("me"), Some(5))
        );
        assert_eq!(taken.acquire_time, Some(MicroTime(at(0))));
    }

    #[test]
    fn what_its_clock_says_counts_for_nothing() {
        let mut skewed = lease("other", "7");
        skewed.spec.as_mut().unwrap().renew_time = Some(MicroTime(at(-1_000_000)));
        assert!(matches!(judged(&view(Some(skewed.clone())), 1), Move::Follow(_)));
        skewed.spec.as_mut().unwrap().renew_time = Some(MicroTime(at(1_000_000)));
        assert!(matches!(judged(&view(Some(skewed)), 30), Move::Replace(_)));
    }

    #[test]
    fn each_renewal_begins_the_wait_anew_and_seeing_the_same_one_again_does_not() {
        let late = START + Duration::from_secs(20);
        let same = View::after(Some(view(Some(lease("other", "7")))), Some(lease("other", "7")), late);
        assert_eq!(same.since, START);
        let renewed = View::after(Some(same), Some(lease("other", "8")), late);
        assert_eq!(renewed.since, late);
        let mut again = lease("other", "8");
        again.metadata.uid = Some("another".into());
        assert_eq!(View::after(Some(renewed), Some(again), START).since, START);
    }

    #[test]
    fn one_that_was_given_up_or_names_nobody_is_free_at_once() {
        let free = given_up(&lease("other", "7"), at(0));
        assert_eq!(free.metadata.resource_version.as_deref(), Some("7"));
        assert!(matches!(judged(&view(Some(free)), 0), Move::Replace(_)));
        let empty = Lease {
            spec: None,
            ..lease("other", "7")
        };
        assert_eq!(written(judged(&view(Some(empty)), 0)).lease_transitions, Some(1));
    }

    #[test]
    fn an_absurd_duration_is_not_waited_for() {
        for (told, waited) in [(i32::MAX, 600), (-1, 30), (0, 0)] {
            let mut odd = lease("other", "7");
            odd.spec.as_mut().unwrap().lease_duration_seconds = Some(told);
            assert_eq!(
                view(Some(odd)).end(TIMES),
                START + Duration::from_secs(waited),
                "{told}"
            );
        }
    }
}
