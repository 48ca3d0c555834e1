//! The schedule: which of its fields go together, and that it fires, not too often.

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::{Remedy, Report, Rules};
use crate::api::{
    INTERVAL_POSITIVE, JITTER_SHORTER, ONE_OF_CRON_INTERVAL, Reason, Schedule, ScheduleWindow, WINDOW_LENGTH,
    ZONE_WITH_CRON,
};
use crate::schedule::{Cron, Rhythm, Timetable, Window, zone};

/// Longest jitter when the spec names none; shorter periods have a tenth of themselves.
const MAX_DEFAULT_JITTER: SignedDuration = SignedDuration::from_hours(1);
const MAX_WINDOWS: usize = 8;
const DAY_SECONDS: usize = 24 * 60 * 60;
const WINDOW_LENGTHS: [SignedDuration; 2] = [SignedDuration::from_mins(1), SignedDuration::from_hours(7 * 24)];

impl Report {
    pub(super) fn schedule(&mut self, schedule: &Schedule, rules: &Rules) -> Option<Timetable> {
        if schedule.cron.is_some() == schedule.interval.is_some() {
            self.invalid(format!("spec.schedule: {ONE_OF_CRON_INTERVAL}"));
        }
        let interval = schedule.interval.as_deref().map(|text| self.interval(text, rules));
        let cron = schedule.cron.as_deref();
        let cron = cron.map(|text| self.firings(text, schedule.time_zone.as_deref(), rules));
        if schedule.time_zone.is_some() && schedule.cron.is_none() {
            self.invalid(format!("spec.schedule: {ZONE_WITH_CRON}"));
        }
        let jitter = schedule.jitter.as_deref();
        let jitter = jitter.map(|text| self.duration("spec.schedule.jitter", text));
        if let (Some(Some(jitter)), Some(Some(interval))) = (jitter, interval)
            && jitter >= interval
        {
            self.invalid(format!("spec.schedule: {JITTER_SHORTER}"));
        }
        if let (Some(Some(jitter)), Some(Some((_, gap)))) = (jitter, &cron)
            && jitter >= *gap
        {
            self.invalid("spec.schedule.jitter must be shorter than the shortest time between two firings of cron");
        }
        let windows = self.windows(&schedule.windows);
        let (rhythm, period) = match (interval.flatten(), cron.flatten()) {
            (Some(interval), _) => (Rhythm::Interval(interval), interval),
            (None, Some((cron, gap))) => (Rhythm::Cron(cron), gap),
            (None, None) => return None,
        };
        Some(Timetable {
            rhythm,
            jitter: jitter.unwrap_or_else(|| Some(default_jitter(period)))?,
            windows,
        })
    }

    fn interval(&mut self, text: &str, rules: &Rules) -> Option<SignedDuration> {
        let interval = self.duration("spec.schedule.interval", text)?;
        if interval <= SignedDuration::ZERO {
            self.invalid(format!("spec.schedule: {INTERVAL_POSITIVE}"));
        } else if interval < rules.minimum_interval {
            let minimum = rules.minimum_interval;
            self.invalid(format!(
                "spec.schedule.interval must be at least {minimum:#}, the operator's --minimum-interval"
            ));
        } else {
            let seconds = usize::try_from(interval.as_secs()).unwrap_or(usize::MAX);
            self.within_budget("spec.schedule.interval", DAY_SECONDS / seconds.max(1), rules);
        }
        Some(interval)
    }

    /// The cron of the schedule, and the shortest time between two firings.
    fn firings(&mut self, text: &str, zone: Option<&str>, rules: &Rules) -> Option<(Cron, SignedDuration)> {
        let (cron, gap) = self.cron("spec.schedule", text, zone, Remedy::Schedule)?;
        if gap < rules.minimum_interval {
            let minimum = rules.minimum_interval;
            self.invalid(format!(
                "spec.schedule.cron must leave at least {minimum:#} between two firings, the operator's --minimum-interval"
            ));
        } else {
            self.within_budget("spec.schedule.cron", cron.per_day(), rules);
        }
        Some((cron, gap))
    }

    /// A schedule that uses the daily budget up by itself would stop every day.
    fn within_budget(&mut self, field: &str, per_day: usize, rules: &Rules) {
        let budget = rules.daily_budget;
        if per_day > budget {
            self.invalid(format!(
                "{field} asks for {per_day} rotations a day; the operator allows {budget}, its --daily-budget"
            ));
        }
    }

    /// Every window must open at some time. That is all: whatever is due starts when the next one opens, so a schedule
    /// and windows that open never fail to meet.
    fn windows(&mut self, windows: &[ScheduleWindow]) -> Vec<Window> {
        if windows.len() > MAX_WINDOWS {
            self.invalid(format!("spec.schedule.windows must be at most {MAX_WINDOWS}"));
            return Vec::new();
        }
        let checked = windows.iter().enumerate();
        checked
            .filter_map(|(number, window)| self.window(number, window))
            .collect()
    }

    fn window(&mut self, number: usize, window: &ScheduleWindow) -> Option<Window> {
        let path = format!("spec.schedule.windows[{number}]");
        let cron = self.cron(&path, &window.cron, window.time_zone.as_deref(), Remedy::Windows);
        let duration = self.duration(&format!("{path}.duration"), &window.duration)?;
        let [shortest, longest] = WINDOW_LENGTHS;
        if !(shortest..=longest).contains(&duration) {
            self.invalid(format!("{path}: {WINDOW_LENGTH}"));
        }
        let (cron, _) = cron?;
        Some(Window { cron, duration })
    }

    /// A cron that fires, and the shortest time between two firings.
    fn cron(&mut self, path: &str, text: &str, name: Option<&str>, remedy: Remedy) -> Option<(Cron, SignedDuration)> {
        let known = name.map_or(Some(TimeZone::UTC), zone);
        if known.is_none() {
            self.invalid(format!(
                "{path}.timeZone must be a time zone of the IANA database, such as Europe/Berlin"
            ));
        }
        let cron = Cron::parse(text, known.unwrap_or(TimeZone::UTC));
        if cron.is_none() {
            self.invalid(format!(
                "{path}.cron must be minute, hour, day of month, month and day of week, such as 0 3 * * SUN, or one of \
                 @hourly, @daily, @midnight, @weekly, @monthly, @yearly and @annually"
            ));
        }
        let cron = cron?;
        let gap = cron.smallest_gap();
        if gap.is_none() {
            let message = format!("{path}.cron names dates that never come; correct the day of month or the month");
            self.refuse(Reason::ScheduleNeverFires, message, remedy);
        }
        Some((cron, gap?))
    }
}

fn default_jitter(period: SignedDuration) -> SignedDuration {
    let tenth = period.checked_div(10).unwrap_or(SignedDuration::ZERO);
    tenth.min(MAX_DEFAULT_JITTER)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{problems, resource, rules};
    use super::super::{Problem, Validated, validate};
    use super::*;

    fn valid(schedule: &Value) -> Validated {
        validate(&resource(&json!({ "schedule": schedule })), &rules()).unwrap()
    }

    #[test]
    fn a_schedule_that_alone_exceeds_the_daily_budget_is_refused() {
        let tight = Rules {
            daily_budget: 6,
            ..rules()
        };
        let found = |schedule: Value| validate(&resource(&json!({ "schedule": schedule })), &tight).err();
        for asks in [
            json!({"interval": "3h"}),
            json!({"cron": "@hourly"}),
            json!({"cron": "*/30 1-4 * * SUN"}),
        ] {
            let problems = found(asks).unwrap();
            assert!(problems[0].message.contains("--daily-budget"), "{problems:?}");
        }
        for asks in [
            json!({"interval": "4h"}),
            json!({"cron": "0 */4 * * *"}),
            json!({"cron": "@monthly"}),
        ] {
            assert!(found(asks.clone()).is_none(), "{asks}");
        }
    }

    fn refused(schedule: &Value) -> Problem {
        let problems = validate(&resource(&json!({ "schedule": schedule })), &rules()).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        problems.into_iter().next().unwrap()
    }

    #[test]
    fn a_cron_is_of_utc_and_spread_over_a_tenth_of_its_shortest_gap_unless_told_otherwise() {
        for (cron, jitter) in [
            ("@daily", 3600),
            ("0 * * * *", 360),
            ("0,10 3 * * *", 60),
            ("@yearly", 3600),
        ] {
            let timetable = valid(&json!({ "cron": cron })).schedule.unwrap();
            assert_eq!(timetable.jitter, SignedDuration::from_secs(jitter), "{cron}");
            assert_eq!(
                timetable.rhythm,
                Rhythm::Cron(Cron::parse(cron, TimeZone::UTC).unwrap())
            );
        }
        let written = json!({
            "cron": "0 3 * * SUN", "timeZone": "Europe/Berlin", "jitter": "167h59m",
            "windows": [{"cron": "@daily", "duration": "1m"}, {"cron": "0 22 * * *", "duration": "168h", "timeZone": "Asia/Shanghai"}],
        });
        let timetable = valid(&written).schedule.unwrap();
        let berlin = Cron::parse("0 3 * * SUN", zone("Europe/Berlin").unwrap()).unwrap();
        let shanghai = Cron::parse("0 22 * * *", zone("Asia/Shanghai").unwrap()).unwrap();
        assert_eq!(timetable.rhythm, Rhythm::Cron(berlin));
        assert_eq!(timetable.windows[1].cron, shanghai);
        assert_eq!(timetable.windows[1].duration, SignedDuration::from_hours(168));
    }

    #[test]
    fn what_never_fires_has_a_reason_of_its_own() {
        let window = |cron: &str| json!({"interval": "24h", "windows": [{"cron": "@daily", "duration": "1h"}, {"cron": cron, "duration": "1h"}]});
        for cron in ["0 0 31 2 *", "0 0 30,31 FEB *", "0 0 31 4,6,9,11 *"] {
            let problem = refused(&json!({ "cron": cron }));
            assert_eq!(problem.reason, Reason::ScheduleNeverFires, "{cron}");
            assert!(problem.message.starts_with("spec.schedule.cron "), "{problem:?}");
            let problem = refused(&window(cron));
            assert_eq!(problem.reason, Reason::ScheduleNeverFires, "{cron}");
            assert!(
                problem.message.starts_with("spec.schedule.windows[1].cron "),
                "{problem:?}"
            );
        }
        for cron in ["0 0 29 2 *", "0 0 31 2 MON", "0 0 31 */2 *", "0 0 L 2 *"] {
            assert!(
                problems(&json!({"schedule": {"cron": cron}}), &rules()).is_empty(),
                "{cron}"
            );
            assert!(
                problems(&json!({"schedule": window(cron)}), &rules()).is_empty(),
                "{cron}"
            );
        }
    }

    #[test]
    fn firings_closer_than_the_minimum_interval_are_refused() {
        for cron in [
            "* * * * *",
            "*/9 * * * *",
            "0,5 3 * * *",
            "55,0 * * * *",
            "*/58 0,23 * * *",
            "0,59 0,23 1,30 6,7 *",
        ] {
            let found = problems(&json!({"schedule": {"cron": cron}}), &rules());
            assert!(
                found.len() == 1 && found[0].contains("at least 10m"),
                "{cron}: {found:?}"
            );
        }
        let problem = refused(&json!({"cron": "0,5 3 * * *"}));
        let told = "spec.schedule.cron must leave at least 10m between two firings, the operator's --minimum-interval";
        assert_eq!((problem.reason, problem.message.as_str()), (Reason::InvalidSpec, told));
        for cron in ["*/10 * * * *", "5 * * * *", "0 0 * * *", "0,50 * * * *"] {
            assert!(
                problems(&json!({"schedule": {"cron": cron}}), &rules()).is_empty(),
                "{cron}"
            );
        }
    }

    #[test]
    fn a_window_may_open_as_often_as_it_likes() {
        valid(&json!({"interval": "24h", "windows": [{"cron": "* * * * *", "duration": "1m"}]}));
    }

    #[test]
    fn jitter_is_shorter_than_the_shortest_gap() {
        let with = |jitter: &str| json!({"cron": "0 3,5 * * *", "jitter": jitter});
        assert!(
            refused(&with("2h"))
                .message
                .contains("shortest time between two firings")
        );
        let timetable = valid(&with("1h59m59s")).schedule.unwrap();
        assert_eq!(timetable.jitter, SignedDuration::from_secs(2 * 3600 - 1));
    }

    #[test]
    fn fields_that_do_not_go_together_are_told() {
        for (schedule, words) in [
            (json!({}), "exactly one of cron and interval"),
            (
                json!({"cron": "@daily", "interval": "24h"}),
                "exactly one of cron and interval",
            ),
            (json!({"interval": "24h", "timeZone": "Etc/UTC"}), "timeZone needs cron"),
            (
                json!({"cron": "@daily", "timeZone": "Mars/Olympus"}),
                "spec.schedule.timeZone must be",
            ),
            (
                json!({"cron": "@daily", "timeZone": "Etc/Unknown"}),
                "spec.schedule.timeZone must be",
            ),
            (json!({"cron": "@reboot"}), "spec.schedule.cron must be"),
            (
                json!({"interval": "24h", "windows": [{"cron": "@daily", "duration": "59s"}]}),
                "spec.schedule.windows[0]: duration must be 1m to 168h",
            ),
            (
                json!({"interval": "24h", "windows": [{"cron": "@daily", "duration": "1h", "timeZone": ""}]}),
                "spec.schedule.windows[0].timeZone must be",
            ),
            (
                json!({"interval": "24h", "windows": vec![json!({"cron": "@daily", "duration": "1h"}); 9]}),
                "spec.schedule.windows must be at most 8",
            ),
        ] {
            assert!(refused(&schedule).message.contains(words), "{schedule}: {words}");
        }
    }
}
