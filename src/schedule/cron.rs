//! Cron patterns in a time zone: which instants they mean. Pure: the zone database is the one in the program.

use std::fmt;
use std::sync::{Arc, LazyLock};

use jiff::civil::{self, DateTime};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

/// Longest pattern, in bytes.
const MAX_LENGTH: usize = 100;
const DAY_MINUTES: i64 = 24 * 60;

/// Eight years in which every date that there is comes at least once. Always the same, so that a verdict never changes.
const HORIZON: [DateTime; 2] = [
    civil::datetime(2024, 1, 1, 0, 0, 0, 0),
    civil::datetime(2032, 1, 1, 0, 0, 0, 0),
];

/// A cron pattern in a time zone.
///
/// A local time that is skipped when clocks go forward means the first instant after the gap; one that comes twice when
/// they go back means the first of the two. That is our rule and not the search's of `croner`, which treats patterns
/// with a `*` in hours or minutes in another way; it is asked about the local calendar only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: Arc<str>,
    pattern: Arc<croner::Cron>,
    zone: TimeZone,
}

/// The zone of this name in the program's own copy of the IANA database, so that every replica has the same rules.
pub fn zone(name: &str) -> Option<TimeZone> {
    static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);
    ZONES.get(name).ok().filter(|zone| !zone.is_unknown())
}

impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cron {:?} in {}", self.text, self.zone.iana_name().unwrap_or("UTC"))
    }
}

impl Cron {
    /// Reads five fields (minute, hour, day of month, month, day of week) or one of the names such as `@daily`.
    ///
    /// A field is `*` or a list of numbers and ranges, with `/` and a step after a range or `*`; months and days of the
    /// week may be named by three letters; `L` is the last day of the month. If both day of month and day of week are
    /// given, either is enough, as in every cron.
    pub fn parse(text: &str, zone: TimeZone) -> Option<Self> {
        let fields = match text {
            "@hourly" => "0 * * * *",
            "@daily" | "@midnight" => "0 0 * * *",
            "@weekly" => "0 0 * * 0",
            "@monthly" => "0 0 1 * *",
            "@yearly" | "@annually" => "0 0 1 1 *",
            _ => text,
        };
        let pattern = is_well_formed(fields).then(|| fields.parse().ok()).flatten()?;
        Some(Self {
            text: text.into(),
            pattern: Arc::new(pattern),
            zone,
        })
    }

    /// The first firing after `after`.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let mut local = self.zone.to_datetime(after);
        // Where clocks went back, the local times that follow may mean instants that are over.
        loop {
            local = self.pattern.find_next_occurrence(&local, false).ok()?;
            let at = self.instant(local)?;
            if at > after {
                return Some(at);
            }
        }
    }

    /// The last firing at or before `at`.
    pub fn last(&self, at: Timestamp) -> Option<Timestamp> {
        let local = self.zone.to_datetime(at);
        let mut last = self.instant(self.pattern.find_previous_occurrence(&local, true).ok()?)?;
        // In the second run of a repeated hour, later local times of its first run are over as well.
        while let Some(next) = self.next(last).filter(|next| *next <= at) {
            last = next;
        }
        Some(last)
    }

    /// How often it fires on a day on which it fires.
    pub fn per_day(&self) -> usize {
        let fields = &self.pattern.pattern;
        fields.hours.values().len() * fields.minutes.values().len()
    }

    /// The shortest time between two firings on the local calendar; `None` if it never fires.
    ///
    /// A change of clocks may bring two firings closer, such as those of an hour that is skipped and of the next. That
    /// is no reason to refuse a pattern: the operator's minimum interval keeps the rotations apart then as well.
    pub fn smallest_gap(&self) -> Option<SignedDuration> {
        let mut days = self.days();
        let mut before = days.next()?;
        let mut days_apart: Option<i64> = None;
        for day in days {
            let apart = day.duration_since(before).as_hours() / 24;
            days_apart = Some(days_apart.map_or(apart, |least| least.min(apart)));
            before = day;
            if apart == 1 {
                break;
            }
        }
        let fields = &self.pattern.pattern;
        let (hours, minutes) = (fields.hours.values(), fields.minutes.values());
        let times: Vec<i64> = hours
            .iter()
            .flat_map(|hour| minutes.iter().map(|minute| i64::from(*hour) * 60 + i64::from(*minute)))
            .collect();
        let within = times.iter().zip(times.iter().skip(1)).map(|(one, next)| next - one);
        let apart = days_apart?.saturating_mul(DAY_MINUTES);
        let over_night = times
            .first()
            .zip(times.last())
            .map(|(first, last)| apart + first - last);
        within.chain(over_night).min().map(SignedDuration::from_mins)
    }

    /// The dates of the horizon on which it fires.
    fn days(&self) -> impl Iterator<Item = civil::Date> {
        let [start, end] = HORIZON;
        let first = self.pattern.find_next_occurrence(&start, true).ok();
        let fire = std::iter::successors(first, |at| {
            let last_second = at.date().at(23, 59, 59, 0);
            self.pattern.find_next_occurrence(&last_second, false).ok()
        });
        fire.take_while(move |at| *at < end).map(DateTime::date)
    }

    /// The instant that a local time means.
    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        match self.zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Unambiguous { offset } | AmbiguousOffset::Fold { before: offset, .. } => {
                offset.to_timestamp(local).ok()
            }
            AmbiguousOffset::Gap { before, .. } => {
                // A clock that had not been changed shows it at this instant, which is not before the change.
                let unchanged = before.to_timestamp(local).ok()?;
                let behind = unchanged.checked_add(SignedDuration::from_secs(1)).ok()?;
                let is_change = |at: &Timestamp| {
                    let just_before = at.checked_sub(SignedDuration::from_secs(1));
                    just_before.is_ok_and(|at| self.zone.to_offset(at) == before)
                };
                let mut changes = self.zone.preceding(behind).map(|change| change.timestamp());
                changes.find(is_change)
            }
        }
    }
}

/// Whether this is a pattern as documented, ranges of numbers aside. The parser takes more than that: years, `W`, `#`,
/// empty items, and names in any field.
fn is_well_formed(text: &str) -> bool {
    let fields: Vec<&str> = text.split(' ').filter(|field| !field.is_empty()).collect();
    let is_field = |(number, field): (usize, &&str)| field.split(',').all(|item| is_item(number, item));
    text.len() <= MAX_LENGTH && text.trim() == text && fields.len() == 5 && fields.iter().enumerate().all(is_field)
}

fn is_item(field: usize, item: &str) -> bool {
    let (range, step) = item
        .split_once('/')
        .map_or((item, None), |(range, step)| (range, Some(step)));
    let (first, last) = range
        .split_once('-')
        .map_or((range, None), |(first, last)| (first, Some(last)));
    let is_value = |value: &str| is_number(value) || is_name(field, value);
    let is_range = range == "*" || (is_value(first) && last.is_none_or(is_value));
    (is_range && step.is_none_or(is_number)) || (field == 2 && item.eq_ignore_ascii_case("L"))
}

fn is_number(text: &str) -> bool {
    (1..=2).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_name(field: usize, text: &str) -> bool {
    const MONTHS: &[&str] = &[
        "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC",
    ];
    const DAYS: &[&str] = &["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
    let names = match field {
        3 => MONTHS,
        4 => DAYS,
        _ => &[],
    };
    names.iter().any(|name| name.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests;
