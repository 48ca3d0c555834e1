//! What is read from the operator's state when it is scraped.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::controller::{Census, Why};

/// The state at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// The resources that the watch knows.
    pub census: Census,
    /// Codes that only this process holds.
    pub unsaved_codes: usize,
    /// Time until the last of the calls that were postponed has had its turn.
    pub backlog: Duration,
    /// Whether this process leads.
    pub leads: bool,
    /// Whether each watch last brought something other than an error.
    pub watches: bool,
    /// Whether there are watches on Secrets and each last brought something other than an error.
    pub sees_secrets: bool,
    /// Tasks of the runtime that are not done.
    pub tasks: usize,
    /// When the API server last answered the watch that has waited longest, in seconds since 1970.
    pub last_sign: f64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// A gauge for each reason of a closed set.
type ByReason = Family<ReasonLabels, Gauge>;

/// The gauges that are set for each scrape.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    resources: Gauge,
    hidden: Gauge,
    overdue: Gauge,
    most_overdue: Gauge<f64, AtomicU64>,
    stalled: ByReason,
    unready: ByReason,
    waiting: Gauge,
    longest_wait: Gauge<f64, AtomicU64>,
    unsaved_codes: Gauge,
    backlog: Gauge<f64, AtomicU64>,
    leader: Gauge,
    watch_up: Gauge,
    last_sign: Gauge<f64, AtomicU64>,
    secret_watch_up: Gauge,
    tasks: Gauge,
}

impl Gauges {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "resources",
            "Resources that the operator looks after",
            self.resources.clone(),
        );
        registry.register(
            "resources_without_series",
            "Resources, the youngest, that have no series of their own because there are more than --resource-metrics",
            self.hidden.clone(),
        );
        registry.register(
            "overdue_resources",
            "Resources whose scheduled rotation should have come by now; suspended ones do not count",
            self.overdue.clone(),
        );
        registry.register_with_unit(
            "overdue",
            "How late the latest of the scheduled rotations is",
            Unit::Seconds,
            self.most_overdue.clone(),
        );
        registry.register(
            "stalled_resources",
            "Resources that need a person, by the reason of their condition Stalled",
            self.stalled.clone(),
        );
        registry.register(
            "unready_resources",
            "Resources that are not ready, by the reason of their condition Ready; Unseen is one without that condition",
            self.unready.clone(),
        );
        registry.register(
            "queue_depth",
            "Resources that are due and that no worker has taken yet; 0 where another replica leads",
            self.waiting.clone(),
        );
        registry.register_with_unit(
            "queue_oldest",
            "How long the resource that waits longest for a worker has been due, since this replica leads",
            Unit::Seconds,
            self.longest_wait.clone(),
        );
        registry.register(
            "unsaved_codes",
            "New codes that only this process holds, because they could not be written into their Secret yet",
            self.unsaved_codes.clone(),
        );
        registry.register_with_unit(
            "backlog",
            "About how long until the last of the calls that wait for their turn is made; 0 where another replica leads",
            Unit::Seconds,
            self.backlog.clone(),
        );
        registry.register(
            "leader",
            "Whether this process leads, and so does the work: 1 or 0",
            self.leader.clone(),
        );
        registry.register(
            "watch_up",
            "Whether every watch on resources last brought something other than an error: 1 or 0",
            self.watch_up.clone(),
        );
        registry.register_with_unit(
            "watch_last_sign_timestamp",
            "When the API server last answered the watch on resources that has waited longest",
            Unit::Seconds,
            self.last_sign.clone(),
        );
        registry.register(
            "secret_watch_up",
            "Whether every watch on Secrets last brought something other than an error: 1 or 0; always 0 without --watch-secrets",
            self.secret_watch_up.clone(),
        );
        registry.register(
            "tasks",
            "Tasks of the program's runtime that are not done: watches, workers, passes and connections",
            self.tasks.clone(),
        );
    }

    pub(super) fn set(&self, levels: &Levels) {
        let census = &levels.census;
        self.resources.set(number(census.resources));
        self.hidden.set(number(census.hidden()));
        self.overdue.set(number(census.overdue));
        self.most_overdue.set(census.most_overdue.as_secs_f64());
        set_each(&self.stalled, Why::stalled(), &census.stalled);
        set_each(&self.unready, Why::unready(), &census.unready);
        self.waiting.set(number(census.waiting));
        self.longest_wait.set(census.longest_wait.as_secs_f64());
        self.unsaved_codes.set(number(levels.unsaved_codes));
        self.backlog.set(levels.backlog.as_secs_f64());
        self.leader.set(levels.leads.into());
        self.watch_up.set(levels.watches.into());
        self.last_sign.set(levels.last_sign);
        self.secret_watch_up.set(levels.sees_secrets.into());
        self.tasks.set(number(levels.tasks));
    }
}

fn number(level: usize) -> i64 {
    i64::try_from(level).unwrap_or(i64::MAX)
}

/// Sets a gauge for each reason of the set; what stands for another reason counts as [`Why::Other`].
fn set_each(gauges: &ByReason, set: impl Iterator<Item = Why>, counts: &BTreeMap<Why, usize>) {
    let mut levels: BTreeMap<Why, usize> = set.map(|why| (why, 0)).collect();
    for (why, count) in counts {
        let why = if levels.contains_key(why) { *why } else { Why::Other };
        *levels.entry(why).or_default() += count;
    }
    for (why, count) in levels {
        let reason = why.as_str();
        gauges.get_or_create(&ReasonLabels { reason }).set(number(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Reason;
    use crate::metrics::{Format, Metrics};

    #[test]
    fn levels_show_and_a_reason_out_of_place_counts_as_other() {
        let told = Why::Told;
        let levels = Levels {
            census: Census {
                resources: 9,
                overdue: 2,
                most_overdue: Duration::from_secs(90),
                stalled: BTreeMap::from([(told(Reason::Conflict), 3), (told(Reason::Idle), 1)]),
                unready: BTreeMap::from([(told(Reason::Waiting), 4), (Why::Unseen, 1)]),
                waiting: 5,
                longest_wait: Duration::from_millis(1500),
                shown: Vec::new(),
            },
            unsaved_codes: 1,
            backlog: Duration::from_millis(2500),
            leads: true,
            watches: false,
            sees_secrets: true,
            tasks: 7,
            last_sign: 1.5,
        };
        let metrics = Metrics::default();
        let text = metrics.encode(Format::Text, levels);
        for line in [
            "appcode_resources 9",
            "appcode_resources_without_series 9",
            "appcode_overdue_resources 2",
            "appcode_overdue_seconds 90.0",
            r#"appcode_stalled_resources{reason="Conflict"} 3"#,
            r#"appcode_stalled_resources{reason="Other"} 1"#,
            r#"appcode_stalled_resources{reason="BudgetExhausted"} 0"#,
            r#"appcode_unready_resources{reason="Waiting"} 4"#,
            r#"appcode_unready_resources{reason="Unseen"} 1"#,
            "appcode_queue_depth 5",
            "appcode_queue_oldest_seconds 1.5",
            "appcode_unsaved_codes 1",
            "appcode_backlog_seconds 2.5",
            "appcode_leader 1",
            "appcode_watch_up 0",
            "appcode_watch_last_sign_timestamp_seconds 1.5",
            "appcode_secret_watch_up 1",
            "appcode_tasks 7",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}\n{text}");
        }
        let text = metrics.encode(Format::Text, Levels::default());
        assert!(
            text.contains("\nappcode_stalled_resources{reason=\"Conflict\"} 0\n"),
            "what is over goes back to 0: {text}"
        );
    }
}
