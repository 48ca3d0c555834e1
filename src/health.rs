//! What this process knows of its own health: whether it sees the resources, and since when it does not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Clock;
use crate::controller::Context;

/// How long a watch may fail before this process leaves the resources to another replica.
const PATIENCE: Duration = Duration::from_secs(30);

/// Requests that a healthy watch makes within the time after which a silent one counts as stuck.
const SILENT_FOR: u32 = 3;

/// The health of the watches. A watch is named by its namespace; none means all of them.
pub struct Health {
    clock: Arc<dyn Clock>,
    silence: Duration,
    watches: Mutex<BTreeMap<Option<String>, Watch>>,
    /// Whether each watch on Secrets works. Nothing but a metric depends on it: without them work goes on.
    secrets: Mutex<BTreeMap<Option<String>, bool>>,
    changed: Notify,
    /// Whether the watches were ended, so that what they told last says nothing any more.
    is_closed: AtomicBool,
}

#[derive(Clone, Debug, Default)]
struct Watch {
    is_listed: bool,
    /// Uptime since which it has brought nothing but errors.
    failing: Option<Duration>,
    /// Uptime of the last answer of the API server that was as it should be, or of the start.
    sign: Duration,
    /// Uptime of the last answer, whatever it was, or of the start.
    heard: Duration,
}

impl Health {
    /// Of watches on these namespaces, or on all if there are none. No request of a watch lasts longer than `request`, so
    /// that one which works gives a sign of life at least that often.
    pub fn new(clock: Arc<dyn Clock>, namespaces: &[String], request: Duration) -> Self {
        let sources: Vec<Option<String>> = if namespaces.is_empty() {
            vec![None]
        } else {
            namespaces.iter().cloned().map(Some).collect()
        };
        let now = clock.uptime();
        let start = Watch {
            sign: now,
            heard: now,
            ..Watch::default()
        };
        Self {
            clock,
            silence: request * SILENT_FOR,
            watches: Mutex::new(sources.into_iter().map(|source| (source, start.clone())).collect()),
            secrets: Mutex::default(),
            changed: Notify::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Of the watches that this process needs.
    pub fn of(ctx: &Context) -> Arc<Self> {
        let settings = &ctx.settings;
        Arc::new(Self::new(
            Arc::clone(&ctx.clock),
            &settings.namespaces,
            settings.watch_request,
        ))
    }

    /// The watches that are to run.
    pub fn sources(&self) -> Vec<Option<String>> {
        self.lock().keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Option<String>, Watch>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with(&self, source: Option<&str>, change: impl FnOnce(&mut Watch, Duration)) {
        let now = self.clock.uptime();
        if let Some(watch) = self.lock().get_mut(&source.map(str::to_owned)) {
            change(watch, now);
        }
        self.changed.notify_waiters();
    }

    /// The API server has answered a request of this watch, if only with an error.
    pub fn heard(&self, source: Option<&str>) {
        self.with(source, |watch, now| watch.heard = now);
    }

    /// The API server has answered a request of this watch as it should.
    pub fn answered(&self, source: Option<&str>) {
        self.with(source, |watch, now| {
            watch.sign = now;
            watch.heard = now;
            watch.failing = None;
        });
    }

    /// A listing of this watch was complete. Returns whether it was the last that was missing.
    pub fn listed(&self, source: Option<&str>) -> bool {
        let was_listed = self.is_listed();
        self.with(source, |watch, _| watch.is_listed = true);
        !was_listed && self.is_listed()
    }

    /// This watch has failed; it is started again.
    pub fn failed(&self, source: Option<&str>) {
        self.with(source, |watch, now| {
            watch.failing.get_or_insert(now);
        });
    }

    /// Whether every resource is known, so that work may start.
    pub fn is_listed(&self) -> bool {
        self.lock().values().all(|watch| watch.is_listed)
    }

    /// Whether each watch last brought something other than an error.
    pub fn is_watching(&self) -> bool {
        self.lock().values().all(|watch| watch.failing.is_none())
    }

    /// Whether this watch last brought something other than an error.
    pub fn sees(&self, source: Option<&str>) -> bool {
        let watches = self.lock();
        let watch = watches.get(&source.map(str::to_owned));
        watch.is_some_and(|watch| watch.failing.is_none())
    }

    /// How long ago the API server last answered, as it should, the watch that has waited longest.
    pub fn quiet_for(&self) -> Duration {
        let now = self.clock.uptime();
        let oldest = self.lock().values().map(|watch| watch.sign).min();
        oldest.map_or(Duration::ZERO, |sign| now.saturating_sub(sign))
    }

    /// Whether this process sees the resources well enough to lead.
    pub fn can_lead(&self) -> bool {
        let now = self.clock.uptime();
        let is_well = |watch: &Watch| {
            let failing = watch.failing.map_or(Duration::ZERO, |since| now.saturating_sub(since));
            watch.is_listed && failing <= PATIENCE
        };
        self.lock().values().all(is_well) && self.quiet_for() <= self.silence
    }

    /// The watches are ended, since this process was asked to stop.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.changed.notify_waiters();
    }

    /// Whether the watches were ended.
    pub fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Whether this watch on Secrets works, as its last answer or failure shows.
    pub fn watches_secrets(&self, source: Option<&str>, is_well: bool) {
        let mut secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.insert(source.map(str::to_owned), is_well);
    }

    /// Whether this watch on Secrets last brought something other than an error.
    pub fn sees_secrets(&self, source: Option<&str>) -> bool {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        secrets.get(&source.map(str::to_owned)).copied().unwrap_or(false)
    }

    /// Whether there are watches on Secrets and each last brought something other than an error.
    pub fn sees_all_secrets(&self) -> bool {
        let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
        !secrets.is_empty() && secrets.values().all(|is_well| *is_well)
    }

    /// Returns after something has changed.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What keeps this process from seeing the resources; empty if it sees them.
    pub fn troubles(&self) -> Vec<String> {
        let now = self.clock.uptime();
        let mut troubles = Vec::new();
        for (source, watch) in self.lock().iter() {
            let place = place(source.as_deref());
            if let Some(since) = watch.failing {
                let seconds = now.saturating_sub(since).as_secs();
                troubles.push(format!("the watch on {place} has failed for {seconds} s"));
            } else if !watch.is_listed {
                troubles.push(format!("the resources of {place} are not listed yet"));
            }
        }
        troubles
    }

    /// The watches that the API server has not answered for much longer than a healthy one goes without an answer. One that it
    /// refuses is none of them: a new process would be refused as well.
    pub fn stuck(&self) -> Vec<String> {
        let now = self.clock.uptime();
        let watches = self.lock();
        let silent = watches.iter().filter_map(|(source, watch)| {
            let silence = now.saturating_sub(watch.heard);
            let (place, seconds) = (place(source.as_deref()), silence.as_secs());
            (silence > self.silence).then(|| format!("the watch on {place} has had no answer for {seconds} s"))
        });
        silent.collect()
    }
}

fn place(source: Option<&str>) -> String {
    source.map_or_else(
        || "all namespaces".to_owned(),
        |namespace| format!("namespace {namespace}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Still;

    const REQUEST: Duration = Duration::from_secs(240);

    #[test]
    fn a_server_that_refuses_costs_the_lead_but_no_restart_and_one_that_is_silent_costs_both() {
        let clock = Arc::new(Still::default());
        let health = Health::new(Arc::clone(&clock) as Arc<dyn Clock>, &[], REQUEST);
        health.answered(None);
        health.listed(None);
        assert!(health.can_lead() && health.sees(None));
        for _ in 0..20 {
            *clock.0.lock().unwrap() += REQUEST;
            health.heard(None);
            health.failed(None);
            assert_eq!(health.stuck(), Vec::<String>::new());
        }
        assert!(!health.can_lead() && !health.sees(None) && !health.is_watching());
        assert_eq!(health.quiet_for(), REQUEST * 20, "a refusal is no sign of the watch");
        *clock.0.lock().unwrap() += REQUEST * SILENT_FOR;
        assert_eq!(health.stuck(), Vec::<String>::new());
        *clock.0.lock().unwrap() += Duration::from_secs(1);
        assert_eq!(
            health.stuck(),
            ["the watch on all namespaces has had no answer for 721 s"]
        );
        health.answered(None);
        assert!(health.can_lead() && health.stuck().is_empty());
    }
}
