use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn minutes(minutes: i64) -> SignedDuration {
    SignedDuration::from_mins(minutes)
}

fn interval(interval: i64, jitter: i64) -> Timetable {
    Timetable {
        rhythm: Rhythm::Interval(SignedDuration::from_secs(interval)),
        jitter: SignedDuration::from_secs(jitter),
        windows: Vec::new(),
    }
}

fn cron(text: &str) -> Cron {
    Cron::parse(text, TimeZone::UTC).unwrap()
}

fn by_cron(text: &str, jitter: SignedDuration) -> Timetable {
    Timetable {
        rhythm: Rhythm::Cron(cron(text)),
        jitter,
        windows: Vec::new(),
    }
}

fn window(text: &str, duration: SignedDuration) -> Window {
    Window {
        cron: cron(text),
        duration,
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

/// How many of many resources start in each tenth of `range` after `from`, all of them with the same past.
fn starts_by_tenths(timetable: &Timetable, since: Timestamp, from: Timestamp, range: SignedDuration) -> [u32; 10] {
    let mut tenths = [0; 10];
    for n in 0..5_000 {
        let start = timetable.next(since, &format!("uid-{n}")).unwrap();
        let late = start.duration_since(from);
        assert!(!late.is_negative() && late < range, "{late}");
        tenths[usize::try_from(late.as_secs() * 10 / range.as_secs()).unwrap()] += 1;
    }
    tenths
}

#[test]
fn jitter_spreads_a_cron_and_what_waits_for_a_window_uniformly_and_within_the_window() {
    let daily = by_cron("0 3 * * *", minutes(60));
    let wide = Timetable {
        windows: vec![window("30 4 * * *", minutes(240))],
        ..daily.clone()
    };
    let narrow = Timetable {
        windows: vec![window("30 4 * * *", minutes(20))],
        ..daily.clone()
    };
    let ending = Timetable {
        windows: vec![window("30 2 * * *", minutes(45))],
        ..daily.clone()
    };
    let since = time("2026-03-01T08:00:00Z");
    for (timetable, from, range) in [
        (&daily, "2026-03-02T03:00:00Z", 60),
        (&wide, "2026-03-02T04:30:00Z", 60),
        (&narrow, "2026-03-02T04:30:00Z", 20),
        (&ending, "2026-03-02T03:00:00Z", 15),
    ] {
        let tenths = starts_by_tenths(timetable, since, time(from), minutes(range));
        assert!(tenths.iter().all(|count| (400..600).contains(count)), "{tenths:?}");
    }
}

#[test]
fn a_cron_counts_from_the_calendar() {
    let weekly = by_cron("0 3 * * SUN", SignedDuration::ZERO);
    // 1 March 2026 is a Sunday.
    for (since, next) in [
        ("2026-03-01T02:59:59Z", "2026-03-01T03:00:00Z"),
        ("2026-03-01T03:00:00Z", "2026-03-08T03:00:00Z"),
        ("2026-03-04T17:11:00Z", "2026-03-08T03:00:00Z"),
        ("2025-01-01T00:00:00Z", "2025-01-05T03:00:00Z"),
    ] {
        assert_eq!(weekly.next(time(since), "uid"), Some(time(next)), "{since}");
    }
}

#[test]
fn what_is_due_outside_a_window_starts_with_the_next_and_what_missed_one_with_the_one_after() {
    let timetable = Timetable {
        windows: vec![window("0 22 * * FRI", minutes(120)), window("0 1 * * TUE", minutes(60))],
        ..by_cron("0 3 * * *", SignedDuration::ZERO)
    };
    let since = time("2026-03-01T08:00:00Z"); // a Sunday
    let tuesday = time("2026-03-03T01:00:00Z");
    let friday = time("2026-03-06T22:00:00Z");
    assert_eq!(timetable.next(since, "uid"), Some(tuesday));
    for (now, start) in [
        ("2026-03-02T12:00:00Z", tuesday),
        ("2026-03-03T01:59:59Z", tuesday),
        ("2026-03-03T02:00:00Z", friday),
        ("2026-03-06T21:59:59Z", friday),
    ] {
        assert_eq!(timetable.start(since, "uid", time(now)), Some(start), "{now}");
    }
    // Late, but in a window: nothing more is waited for.
    let late = timetable.start(since, "uid", time("2026-03-06T22:30:00Z")).unwrap();
    assert!(late < friday);
    let upcoming = timetable.upcoming(since, "uid", 3);
    assert_eq!(upcoming, [tuesday, friday, time("2026-03-10T01:00:00Z")]);
}

#[test]
fn a_window_is_open_from_its_firing_until_its_duration_is_over() {
    let window = window("0 22 * * *", minutes(180));
    for (now, end) in [
        ("2026-03-01T21:59:59.999Z", None),
        ("2026-03-01T22:00:00Z", Some("2026-03-02T01:00:00Z")),
        ("2026-03-02T00:59:59.999Z", Some("2026-03-02T01:00:00Z")),
        ("2026-03-02T01:00:00Z", None),
    ] {
        assert_eq!(window.end(time(now)), end.map(time), "{now}");
    }
}

#[test]
fn a_timetable_is_told_in_words() {
    let told = |jitter, windows: usize| {
        let one = window("0 22 * * *", minutes(60));
        let timetable = Timetable {
            windows: vec![one; windows],
            ..interval(90_000, jitter)
        };
        timetable.tell()
    };
    assert_eq!(told(0, 0), "25h after the present code became current");
    let delayed = "25h after the present code became current, delayed by this resource's share of 1m 30s of jitter";
    assert_eq!(told(90, 0), delayed);
    assert_eq!(told(90, 1), format!("{delayed}, and only in the window"));
    assert_eq!(told(90, 2), format!("{delayed}, and only in one of the windows"));
    let by_cron = by_cron("0 3 * * SUN", SignedDuration::ZERO);
    assert_eq!(by_cron.tell(), "by cron \"0 3 * * SUN\" in UTC");
}

#[test]
fn windows_that_overlap_are_one_as_long_as_the_last() {
    let timetable = Timetable {
        windows: vec![window("0 * * * *", minutes(90)), window("30 * * * *", minutes(10))],
        ..interval(24 * 3600, 3600)
    };
    for quarter in 0..96 {
        assert!(timetable.is_open(at(quarter * 900)));
    }
    assert_eq!(
        timetable.end(time("2026-03-01T08:35:00Z")),
        Some(time("2026-03-01T09:30:00Z"))
    );
}

proptest! {
    #[test]
    fn never_due_before_the_interval_nor_after_the_jitter(since in 0i64..4_000_000_000, wait in 1i64..100_000_000, jitter in 0i64..100_000, uid in "[a-f0-9-]{36}") {
        let next = interval(wait, jitter).next(at(since), &uid).unwrap();
        prop_assert!(next >= at(since + wait));
        prop_assert!(next <= at(since + wait + jitter));
        prop_assert_eq!(Some(next), interval(wait, jitter).next(at(since), &uid));
    }

    #[test]
    fn no_interval_overflows(since in any::<i32>(), wait in any::<i64>(), jitter in any::<i64>()) {
        let _ = interval(wait.saturating_abs(), jitter.saturating_abs()).next(at(i64::from(since)), "uid");
    }
}

prop_compose! {
    fn some_window()(
        hours in select(vec!["*", "3", "*/6", "22", "0,12"]), days in select(vec!["* * *", "* * SAT", "1 * *", "L * *", "29 2 *"]),
        minute in 0..60, length in 1i64..10_080, zone_name in select(vec!["Etc/UTC", "Europe/Berlin", "America/St_Johns"]),
    ) -> Window {
        let cron = Cron::parse(&format!("{minute} {hours} {days}"), zone(zone_name).unwrap()).unwrap();
        Window { cron, duration: minutes(length) }
    }
}

prop_compose! {
    fn some_timetable()(
        every in prop_oneof![
            (600i64..10_000_000).prop_map(|secs| Rhythm::Interval(SignedDuration::from_secs(secs))),
            select(vec!["0 * * * *", "15 2 * * *", "30 2 L * *", "0 0 29 2 *", "0 4 1 */3 MON"])
                .prop_map(|text| Rhythm::Cron(Cron::parse(text, zone("Europe/Berlin").unwrap()).unwrap())),
        ],
        jitter in 0i64..3600,
        windows in prop::collection::vec(some_window(), 0..4),
    ) -> Timetable {
        Timetable { rhythm: every, jitter: SignedDuration::from_secs(jitter), windows }
    }
}

use proptest::sample::select;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_start_is_in_a_window_never_before_it_is_due_and_delayed_by_no_more_than_the_jitter(
        timetable in some_timetable(), since in 1_600_000_000i64..2_000_000_000, uid in "[a-f0-9]{8}",
    ) {
        let since = at(since);
        let start = timetable.next(since, &uid).unwrap();
        let due = match &timetable.rhythm {
            Rhythm::Interval(interval) => since + *interval,
            Rhythm::Cron(cron) => cron.next(since).unwrap(),
        };
        prop_assert!(due > since && start >= due && timetable.is_open(start));
        // Without jitter it is the earliest there is: the due time, or the first minute after it that is in a window.
        let earliest = Timetable { jitter: SignedDuration::ZERO, ..timetable.clone() }.next(since, &uid).unwrap();
        prop_assert!(earliest <= start && start.duration_since(earliest) <= timetable.jitter);
        if earliest > due {
            prop_assert!(!timetable.is_open(due) && !timetable.is_open(earliest - minutes(1)));
        }
        // Not across the end of a window: it is open from the earliest time to the start.
        let mut moment = earliest;
        while moment < start {
            prop_assert!(timetable.is_open(moment));
            moment += minutes(1);
        }
        prop_assert_eq!(timetable.start(since, &uid, due), Some(start).filter(|start| *start > due || timetable.is_open(due)));
        let upcoming = timetable.upcoming(since, &uid, 3);
        prop_assert!(upcoming.len() == 3 && upcoming[0] == start);
        prop_assert!(upcoming.is_sorted_by(|one, next| one < next), "{:?}", upcoming);
    }

    #[test]
    fn the_start_as_of_now_is_past_only_where_one_may_start(timetable in some_timetable(), since in 1_600_000_000i64..1_700_000_000, after in 0i64..100_000_000) {
        let now = at(since + after);
        let start = timetable.start(at(since), "uid", now).unwrap();
        prop_assert!(start > now || timetable.is_open(now));
        prop_assert!(start >= timetable.next(at(since), "uid").unwrap());
    }
}
