use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron(text: &str, zone_name: &str) -> Cron {
    Cron::parse(text, zone(zone_name).unwrap()).unwrap()
}

/// The firings after `start` and not after `end`.
fn firings(cron: &Cron, start: Timestamp, end: Timestamp) -> Vec<Timestamp> {
    let all = std::iter::successors(cron.next(start), |at| cron.next(*at));
    all.take_while(|at| *at <= end).collect()
}

fn dates(text: &str, year: i16) -> Vec<String> {
    let all = firings(
        &cron(text, "Etc/UTC"),
        time(&format!("{}-12-31T23:59:59Z", year - 1)),
        time(&format!("{year}-12-31T23:59:59Z")),
    );
    all.iter().map(|at| at.strftime("%m-%d %H:%M").to_string()).collect()
}

#[test]
fn names_and_fields_mean_what_they_do_in_every_cron() {
    for (text, fields) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * SUN"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 JAN *"),
        ("0 0 * * 7", "0 0 * * 0"),
        ("0 0 * * MON-SUN", "0 0 * * *"),
        ("0 0 * jan-mar sun", "0 0 * 1,2,3 0"),
        ("00 03 * * *", "0  3   * * *"),
        ("*/20 1-5/2 * * *", "0,20,40 1,3,5 * * *"),
    ] {
        let (start, end) = (time("2026-01-31T12:34:56Z"), time("2027-02-05T00:00:00Z"));
        let found = firings(&cron(text, "Etc/UTC"), start, end);
        assert_eq!(found, firings(&cron(fields, "Etc/UTC"), start, end), "{text}");
        assert!(!found.is_empty());
    }
}

#[test]
fn what_is_no_pattern_is_refused() {
    for text in [
        "",
        " ",
        "*",
        "* * * *",
        "* * * * * *",
        "0 0 0 * * * 2026",
        "@reboot",
        "@every 1h",
        "@Daily",
        "@daily @daily",
        " 0 0 * * *",
        "0 0 * * * ",
        "0\t0 * * *",
        "0 0 * * *\n",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * 0 *",
        "* * * * 8",
        "*/0 * * * *",
        "5-1 * * * *",
        "1,,2 * * * *",
        ", * * * *",
        "5/10 * * * *",
        "/5 * * * *",
        "*,5 * * * *",
        "1-2-3 * * * *",
        "JAN * * * *",
        "* * * MON *",
        "* * * * JAN",
        "* * * * SUNMON",
        "* * * 5JAN *",
        "L * * * *",
        "* * * * 5L",
        "* * 15W * *",
        "* * LW * *",
        "* * * * MON#2",
        "* * ? * *",
        "* * * * +1",
        "-1 * * * *",
        "+1 * * * *",
        "001 * * * *",
        "１ * * * *",
        "é * * * *",
    ] {
        assert_eq!(Cron::parse(text, TimeZone::UTC), None, "{text:?}");
    }
    assert_eq!(
        Cron::parse(&format!("{} * * * *", ["1"; 60].join(",")), TimeZone::UTC),
        None
    );
}

#[test]
fn leap_days_and_month_ends_come_when_the_calendar_has_them() {
    assert_eq!(dates("0 3 29 2 *", 2028), ["02-29 03:00"]);
    assert_eq!(dates("0 3 29 2 *", 2026), [""; 0]);
    let century = cron("0 3 29 2 *", "Etc/UTC").next(time("2096-03-01T00:00:00Z"));
    assert_eq!(century, Some(time("2104-02-29T03:00:00Z")), "2100 is no leap year");
    assert_eq!(
        dates("0 3 31 * *", 2026),
        ["01-31", "03-31", "05-31", "07-31", "08-31", "10-31", "12-31"].map(|day| format!("{day} 03:00"))
    );
    for (year, february) in [(2026, "02-28 23:59"), (2028, "02-29 23:59")] {
        let ends = dates("59 23 L * *", year);
        assert!(
            ends.len() == 12 && ends[1] == february && ends[11] == "12-31 23:59",
            "{ends:?}"
        );
    }
    // Either the day of the month or the day of the week is enough if both are given; 13 February 2026 is a Friday.
    assert_eq!(
        dates("0 3 13 2 FRI", 2026),
        ["02-06", "02-13", "02-20", "02-27"].map(|day| format!("{day} 03:00"))
    );
    assert_eq!(dates("0 3 28 2 6", 2026).len(), 4);
}

#[test]
fn the_smallest_gap_is_that_of_the_local_calendar() {
    for (text, minutes) in [
        ("* * * * *", Some(1)),
        ("5 * * * *", Some(60)),
        ("0,50 * * * *", Some(10)),
        ("0,50 3 * * *", Some(50)),
        ("55 23 * * *", Some(24 * 60)),
        ("*/58 0,23 * * *", Some(2)),
        ("0,58 0,23 * * SUN", Some(58)),
        ("0 0 1 * *", Some(28 * 24 * 60)),
        ("0 0 29 2 *", Some(1461 * 24 * 60)),
        ("0 0 1 1 *", Some(365 * 24 * 60)),
        ("0 0 28,1 2,3 *", Some(24 * 60)),
        ("0 12 L * *", Some(28 * 24 * 60)),
        ("0 0 31 2 *", None),
        ("0 0 30-31 2 *", None),
        ("0 0 31 2,4,6,9,11 *", None),
    ] {
        let gap = cron(text, "Europe/Berlin").smallest_gap();
        assert_eq!(gap, minutes.map(SignedDuration::from_mins), "{text}");
    }
}

#[test]
fn a_skipped_time_runs_once_after_the_gap_and_a_repeated_one_the_first_time() {
    let spring = (time("2026-03-29T00:00:00Z"), time("2026-03-29T03:00:00Z"));
    let autumn = (time("2026-10-25T00:00:00Z"), time("2026-10-25T03:00:00Z"));
    for (text, (start, end), expected) in [
        ("30 2 * * *", spring, vec!["2026-03-29T01:00:00Z"]),
        ("*/20 2 * * *", spring, vec!["2026-03-29T01:00:00Z"]),
        (
            "30 2,3 * * *",
            spring,
            vec!["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"],
        ),
        ("30 2 * * *", autumn, vec!["2026-10-25T00:30:00Z"]),
        (
            "30 * * * *",
            autumn,
            vec!["2026-10-25T00:30:00Z", "2026-10-25T02:30:00Z"],
        ),
    ] {
        let expected: Vec<Timestamp> = expected.into_iter().map(time).collect();
        assert_eq!(firings(&cron(text, "Europe/Berlin"), start, end), expected, "{text}");
    }
    // In the second run of the hour the last firing is that of the first run.
    let half_past = cron("30 2 * * *", "Europe/Berlin");
    assert_eq!(
        half_past.last(time("2026-10-25T01:10:00Z")),
        Some(time("2026-10-25T00:30:00Z"))
    );
}

/// A change of a zone's offset between `since` and `until`.
fn changes(zone: &TimeZone, since: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let all = zone.following(since).map(|change| change.timestamp());
    let is_change = |at: &Timestamp| zone.to_offset(*at) != zone.to_offset(*at - SignedDuration::from_secs(1));
    all.take_while(|at| *at < until).filter(is_change).collect()
}

/// What the clock on the wall shows for the first time, minute by minute, and when. A jump of the clock shows all that it
/// jumps over at once; that is the whole rule.
fn shown_first(zone: &TimeZone, start: Timestamp, end: Timestamp) -> Vec<(Timestamp, DateTime)> {
    let minute = SignedDuration::from_mins(1);
    let mut found = Vec::new();
    let mut latest = zone.to_datetime(start);
    let mut at = start + minute;
    while at <= end {
        let shown = zone.to_datetime(at);
        while latest < shown {
            latest += minute;
            found.push((at, latest));
        }
        at += minute;
    }
    found
}

#[test]
fn every_change_of_clocks_in_every_zone_is_met_as_the_rule_says() {
    let (since, until) = (time("2020-01-01T00:00:00Z"), time("2041-01-01T00:00:00Z"));
    let margin = SignedDuration::from_mins(15);
    let zones = TimeZoneDatabase::bundled();
    let mut parsed: HashMap<String, Arc<croner::Cron>> = HashMap::new();
    let (mut tried_zones, mut tried_changes, mut tried_firings) = (0, 0, 0);
    for name in zones.available() {
        let zone = zone(name.as_str()).unwrap();
        tried_zones += 1;
        for change in changes(&zone, since, until) {
            tried_changes += 1;
            let before = zone.to_offset(change - SignedDuration::from_secs(1));
            let shift = SignedDuration::from_secs((zone.to_offset(change).seconds() - before.seconds()).into());
            // The local time in the middle of what is skipped or repeated, and the minutes around the change.
            let edge = before.to_datetime(change);
            let middle = edge + shift / 2;
            // Far enough that the clock shows nothing new before the start and nothing old after the end.
            let reach = shift.abs() + margin;
            let (start, end) = (change - reach, change + reach);
            let shown = shown_first(&zone, start, end);
            for text in [
                "*/13 * * * *".to_owned(),
                format!("{} {} * * *", middle.minute(), middle.hour()),
                format!("{} {} * * *", edge.minute(), edge.hour()),
            ] {
                let pattern = parsed
                    .entry(text.clone())
                    .or_insert_with(|| Arc::new(text.parse().unwrap()));
                let cron = Cron {
                    text: text.as_str().into(),
                    pattern: Arc::clone(pattern),
                    zone: zone.clone(),
                };
                let (minutes, hours) = (pattern.pattern.minutes.clone(), pattern.pattern.hours.clone());
                let (minutes, hours) = (minutes.values(), hours.values());
                let has = |values: &[u16], value: i8| values.contains(&u16::try_from(value).unwrap());
                let is_match = |local: &DateTime| has(&minutes, local.minute()) && has(&hours, local.hour());
                let matching = shown.iter().filter(|(_, local)| is_match(local));
                let mut expected: Vec<Timestamp> = matching.map(|(at, _)| *at).collect();
                expected.dedup();
                assert_eq!(
                    firings(&cron, start, end),
                    expected,
                    "{text} in {} at {change}",
                    name.as_str()
                );
                assert_eq!(
                    cron.last(end).filter(|at| *at > start),
                    expected.last().copied(),
                    "{text} at {change}"
                );
                tried_firings += expected.len();
            }
        }
    }
    println!("{tried_zones} zones, {tried_changes} changes, {tried_firings} firings");
    assert!(tried_zones > 500 && tried_changes > 5_000 && tried_firings > tried_changes);
}

#[test]
fn the_zones_are_those_that_the_program_brings_along() {
    assert!(zone("Europe/Berlin").is_some() && zone("Etc/UTC").is_some());
    for name in [
        "",
        "Local",
        "Etc/Unknown",
        "Europe/Atlantis",
        "../etc/passwd",
        "/etc/localtime",
        "CET-1",
    ] {
        assert!(zone(name).is_none(), "{name}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn the_last_firing_and_the_next_have_none_between_them(
        text in "([0-9]|[1-5][0-9]|\\*/[1-9]) ([0-9]|1[0-9]|\\*|\\*/[1-9]) (\\*|[1-9]|[12][0-9]|L) (\\*|[1-9]) (\\*|[0-7])",
        at in 1_600_000_000i64..2_200_000_000,
    ) {
        let cron = cron(&text, "America/New_York");
        prop_assume!(cron.smallest_gap().is_some());
        let at = Timestamp::from_second(at).unwrap();
        let (last, next) = (cron.last(at).unwrap(), cron.next(at).unwrap());
        prop_assert!(last <= at && at < next);
        prop_assert_eq!(cron.next(last), Some(next));
        prop_assert_eq!(cron.last(next), Some(next));
        prop_assert!(next.duration_since(last) + SignedDuration::from_hours(1) >= cron.smallest_gap().unwrap());
    }

    #[test]
    fn no_text_makes_it_panic_or_search_for_long(text in "[0-9*/, L-]{0,24}|[0-9A-Za-z*/,@ -]{0,40}|.{0,20}") {
        if let Some(cron) = Cron::parse(&text, TimeZone::UTC) {
            prop_assert_eq!(cron.smallest_gap().is_some(), cron.next(time("2026-01-01T00:00:00Z")).is_some());
        }
    }
}
