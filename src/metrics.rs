//! What the operator counts and times, for `/metrics`. All of it is registered here; the words of labels are in `labels`.
//!
//! Label values come from closed sets, and every series of a counter is there from the start: what shows up with a one
//! has no increase that a query could see. The exception are the two times of each resource, for so many resources as the
//! operator's administrator allows, and only for as long as the resource is there.

mod labels;
mod levels;
mod process;
mod resources;
pub mod table;
#[cfg(test)]
mod tests;

use std::fmt::Debug;
use std::hash::Hash;
use std::time::Duration;

use http::StatusCode;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use self::labels::{
    CallLabels, LimitLabels, OperationLabels, ReconcileLabels, RequestLabels, RotationLabels, UnfinishedLabels,
    VerbLabels,
};
pub use self::labels::{Format, Limit, Operation, Unfinished, Verb};
use self::levels::Gauges;
pub use self::levels::Levels;
use self::process::Process;
use self::resources::Shown;
use crate::api::{Outcome, Strategy, Trigger};
use crate::controller::Error;
use crate::modelarts::CloudError;

/// Bounds in seconds: two requests to the API server, or half an hour without it.
const EXPOSURE: [f64; 11] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 300.0, 1800.0];
/// Bounds in seconds: a pass waits for the cloud, and for its turn to ask it.
const RECONCILE: [f64; 10] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0];
/// Bounds in seconds: from a quick read to a time-out.
const CLOUD_CALL: [f64; 9] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// Bounds in seconds: from a quick read to the deadline.
const API_REQUEST: [f64; 8] = [0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 15.0];
/// Bounds in seconds: a free worker takes what is due at once; after a long pause of the operator thousands are due.
const QUEUE_WAIT: [f64; 9] = [0.005, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];
/// Bounds in seconds: a call waits for ten seconds at most.
const LIMITER_WAIT: [f64; 6] = [0.05, 0.25, 1.0, 2.5, 5.0, 10.0];
/// Bounds in seconds: from the pause after a throttled answer to a long line, or a user that the cloud has locked.
const POSTPONEMENT: [f64; 7] = [5.0, 15.0, 60.0, 300.0, 900.0, 1800.0, 3600.0];

/// The word for success, where the others are categories of errors.
const OK: &str = "ok";
/// The word for a pass that did not even fail.
const PANICKED: &str = "panicked";

/// Every metric of the operator.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    rotations: Family<RotationLabels, Counter>,
    unfinished: Family<UnfinishedLabels, Counter>,
    exposure: Histogram,
    reconciles: Family<ReconcileLabels, Counter>,
    reconcile_duration: Histogram,
    cloud_calls: Family<CallLabels, Counter>,
    cloud_call_duration: Family<OperationLabels, Histogram>,
    api_requests: Family<RequestLabels, Counter>,
    api_request_duration: Family<VerbLabels, Histogram>,
    queue_wait: Histogram,
    hastened: Counter,
    limiter_wait: Histogram,
    postponed: Family<LimitLabels, Counter>,
    postponement: Histogram,
    gauges: Gauges,
    shown: Shown,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            rotations: Family::default(),
            unfinished: Family::default(),
            exposure: Histogram::new(EXPOSURE),
            reconciles: Family::default(),
            reconcile_duration: Histogram::new(RECONCILE),
            cloud_calls: Family::default(),
            cloud_call_duration: Family::new_with_constructor(|| Histogram::new(CLOUD_CALL)),
            api_requests: Family::default(),
            api_request_duration: Family::new_with_constructor(|| Histogram::new(API_REQUEST)),
            queue_wait: Histogram::new(QUEUE_WAIT),
            hastened: Counter::default(),
            limiter_wait: Histogram::new(LIMITER_WAIT),
            postponed: Family::default(),
            postponement: Histogram::new(POSTPONEMENT),
            gauges: Gauges::default(),
            shown: Shown::default(),
        };
        metrics.register();
        metrics.begin_series();
        metrics
    }
}

impl Metrics {
    /// Prefix, unit and `_total` are added to the names, and a full stop to the help.
    fn register(&mut self) {
        // The names of these are the same for every program.
        self.registry.register_collector(Box::new(Process));
        let registry = self.registry.sub_registry_with_prefix("appcode");
        registry.register(
            "rotations",
            "Rotations whose code this process wrote into the Secret",
            self.rotations.clone(),
        );
        registry.register(
            "rotations_unfinished",
            "Rotations that came to no code in the Secret: left behind with their app or resource, stopped because nothing \
             tells which code is theirs, or without effect and given up for another one",
            self.unfinished.clone(),
        );
        registry.register_with_unit(
            "rotation_exposure",
            "Time from the cloud's answer with a new code until the Secret holds it; not known where the answer was lost",
            Unit::Seconds,
            self.exposure.clone(),
        );
        registry.register(
            "reconciles",
            "Passes over a resource, by what came of them",
            self.reconciles.clone(),
        );
        registry.register_with_unit(
            "reconcile_duration",
            "Time that a pass took, with all that it waited for",
            Unit::Seconds,
            self.reconcile_duration.clone(),
        );
        registry.register(
            "cloud_calls",
            "Calls on an app that were handed to the client, and the sign-ins that passwords need, by what came of them",
            self.cloud_calls.clone(),
        );
        registry.register_with_unit(
            "cloud_call_duration",
            "Time that a call took, without the wait for its turn; a call on an app includes the sign-in that it waited for",
            Unit::Seconds,
            self.cloud_call_duration.clone(),
        );
        registry.register(
            "api_requests",
            "Requests on the API server, by what came of them",
            self.api_requests.clone(),
        );
        registry.register_with_unit(
            "api_request_duration",
            "Time until the API server's answer began",
            Unit::Seconds,
            self.api_request_duration.clone(),
        );
        registry.register_with_unit(
            "queue_wait",
            "Time from when a resource was due until a worker took it",
            Unit::Seconds,
            self.queue_wait.clone(),
        );
        registry.register(
            "hastened_checks",
            "Checks that came early because the watch on Secrets told of a change by somebody else; with --watch-secrets only",
            self.hastened.clone(),
        );
        registry.register_with_unit(
            "limiter_wait",
            "Time that a call on the cloud waited for its turn, of those that were let through",
            Unit::Seconds,
            self.limiter_wait.clone(),
        );
        registry.register(
            "postponed_calls",
            "Calls on the cloud that were not made but put off, by the limit that they met",
            self.postponed.clone(),
        );
        registry.register_with_unit(
            "postponement",
            "How long the calls that were put off are to stay away",
            Unit::Seconds,
            self.postponement.clone(),
        );
        self.gauges.register(registry);
        registry.register_collector(Box::new(self.shown.clone()));
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The program that runs", Info::new(version));
    }

    fn begin_series(&self) {
        for trigger in Trigger::ALL {
            for strategy in Strategy::ALL {
                for outcome in Outcome::ALL {
                    begin(&self.rotations, &rotation_labels(trigger, strategy, outcome));
                }
            }
        }
        for outcome in Unfinished::ALL.map(Unfinished::as_str) {
            begin(&self.unfinished, &UnfinishedLabels { outcome });
        }
        for result in [OK, PANICKED].into_iter().chain(Error::CATEGORIES) {
            begin(&self.reconciles, &ReconcileLabels { result });
        }
        for limit in Limit::ALL.map(Limit::as_str) {
            begin(&self.postponed, &LimitLabels { limit });
        }
        for verb in Verb::ALL.map(Verb::as_str) {
            begin(&self.api_request_duration, &VerbLabels { verb });
            for outcome in ANSWERS {
                begin(&self.api_requests, &RequestLabels { verb, outcome });
            }
        }
        for operation in Operation::ALL.map(Operation::as_str) {
            begin(&self.cloud_call_duration, &OperationLabels { operation });
            for outcome in [OK].into_iter().chain(CloudError::CATEGORIES) {
                begin(&self.cloud_calls, &CallLabels { operation, outcome });
            }
        }
    }

    /// Counts a rotation whose code was written into the Secret, `exposure` after the cloud's answer, if there was one.
    ///
    /// Never twice; not at all where the answer to that write was lost, since it is then not known to be this process's.
    pub fn rotated(&self, trigger: Trigger, strategy: Strategy, outcome: Outcome, exposure: Option<Duration>) {
        count(&self.rotations, &rotation_labels(trigger, strategy, outcome));
        if let Some(exposure) = exposure {
            self.exposure.observe(exposure.as_secs_f64());
        }
    }

    /// Counts a rotation that came to no code.
    pub fn left_unfinished(&self, outcome: Unfinished) {
        let outcome = outcome.as_str();
        count(&self.unfinished, &UnfinishedLabels { outcome });
    }

    /// Counts a pass that came to its end or failed.
    pub fn reconciled(&self, outcome: Result<(), &Error>, took: Duration) {
        self.passed(outcome.err().map_or(OK, Error::category), took);
    }

    /// Counts a pass that broke, which is a bug.
    pub fn panicked(&self, took: Duration) {
        self.passed(PANICKED, took);
    }

    fn passed(&self, result: &'static str, took: Duration) {
        count(&self.reconciles, &ReconcileLabels { result });
        self.reconcile_duration.observe(took.as_secs_f64());
    }

    /// Counts a call on the cloud.
    pub fn called(&self, operation: Operation, outcome: Result<(), &CloudError>, took: Duration) {
        let operation = operation.as_str();
        let outcome = outcome.err().map_or(OK, CloudError::category);
        count(&self.cloud_calls, &CallLabels { operation, outcome });
        self.cloud_call_duration
            .get_or_create(&OperationLabels { operation })
            .observe(took.as_secs_f64());
    }

    /// Counts a turn that a worker took, so long after it was due.
    pub fn waited(&self, wait: Duration) {
        self.queue_wait.observe(wait.as_secs_f64());
    }

    /// Counts checks that were brought forward.
    pub fn hastened(&self, checks: usize) {
        self.hastened.inc_by(u64::try_from(checks).unwrap_or(u64::MAX));
    }

    /// Counts a call on the cloud that was let through after `wait`.
    pub fn admitted(&self, wait: Duration) {
        self.limiter_wait.observe(wait.as_secs_f64());
    }

    /// Counts a call on the cloud that is to stay away for `after`.
    pub fn postponed(&self, limit: Limit, after: Duration) {
        count(&self.postponed, &LimitLabels { limit: limit.as_str() });
        self.postponement.observe(after.as_secs_f64());
    }

    /// Counts a request on the API server with the status of its answer, if there was one.
    pub fn asked(&self, verb: Verb, status: Option<StatusCode>, took: Duration) {
        let (verb, outcome) = (verb.as_str(), answer(status));
        count(&self.api_requests, &RequestLabels { verb, outcome });
        self.api_request_duration
            .get_or_create(&VerbLabels { verb })
            .observe(took.as_secs_f64());
    }

    /// All metrics in `format`, with the gauges at `levels`.
    pub fn encode(&self, format: Format, levels: Levels) -> String {
        self.gauges.set(&levels);
        self.shown.set(levels.census.shown);
        let mut out = String::new();
        let written = match format {
            Format::OpenMetrics => text::encode(&mut out, &self.registry),
            Format::Text => prometheus_text::encode(&mut out, &self.registry),
        };
        debug_assert!(written.is_ok(), "a String takes all that is written");
        out
    }
}

/// All that [`answer`] may be.
const ANSWERS: [&str; 8] = [
    OK,
    "conflict",
    "failed",
    "invalid",
    "not_found",
    "refused",
    "throttled",
    "unanswered",
];

/// A closed set of words for answers of the API server.
fn answer(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16()) {
        None => "unanswered",
        Some(101 | 200..=299) => OK,
        Some(401 | 403) => "refused",
        Some(404) => "not_found",
        Some(409) => "conflict",
        Some(429) => "throttled",
        Some(400..=499) => "invalid",
        Some(_) => "failed",
    }
}

fn rotation_labels(trigger: Trigger, strategy: Strategy, outcome: Outcome) -> RotationLabels {
    RotationLabels {
        trigger: trigger.as_str(),
        strategy: strategy.as_str(),
        outcome: outcome.as_str(),
    }
}

fn begin<L: Clone + Eq + Hash, M>(family: &Family<L, M>, labels: &L) {
    drop(family.get_or_create(labels));
}

fn count<L: Clone + Debug + Eq + Hash>(family: &Family<L, Counter>, labels: &L) {
    debug_assert!(family.get(labels).is_some(), "outside of the closed set: {labels:?}");
    family.get_or_create(labels).inc();
}
