//! What all passes share: settings, clients, the queue, and what this process remembers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use rand::{Rng, RngExt, SeedableRng};
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

use super::cluster::Cluster;
use super::lookout::Lookout;
use super::notice::Notice;
use super::queue::{Key, Queue, Turn};
use crate::api::TargetStatus;
use crate::clock::Clock;
use crate::health::Health;
use crate::identity::Identity;
use crate::ids::AppIdentity;
use crate::intent::Intent;
use crate::leader::Leadership;
use crate::metrics::{Format, Levels, Metrics};
use crate::modelarts::{AppCode, AppCodes};
use crate::plan::{Limits, Memory, Observed, Step, plan};
use crate::secret::is_marked;
use crate::validate::{Rules, Validated};
use crate::verification::Prober;

/// A pass waits for the cloud, the API server and the passes over other resources of its app, each of which is bounded; one
/// that takes longer than this has met a fault of ours.
const MOST_TURN: Duration = Duration::from_secs(30 * 60);
/// Workers ask for turns once a minute even if nothing is due.
const MOST_IDLE: Duration = Duration::from_secs(5 * 60);

/// How soon a resource is looked for again that was not found. One that is gone leaves the queue by the watch; but an API
/// server that has just started may not know the kind yet, and the watch tells nothing of that.
const UNSEEN_RETRY: Duration = Duration::from_secs(60);

/// What the operator was started with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The operator's own credentials, for resources that name none.
    pub identity: Identity,
    /// What decisions rest on.
    pub limits: Limits,
    /// What specs are checked against.
    pub rules: Rules,
    /// Namespaces that are served; empty means all.
    pub namespaces: Vec<String>,
    /// Passes at a time.
    pub concurrency: usize,
    /// Longest time for saving what is held once the process was asked to stop.
    pub grace: Duration,
    /// Longest that a call may take to start after its mark; later it is not made.
    pub prompt: Duration,
    /// Longest time for one request of the watch; the next one follows.
    pub watch_request: Duration,
    /// Whether our Secrets are watched, so that a damaged one is repaired before its next check.
    pub watch_secrets: bool,
    /// Most resources that metrics show one by one.
    pub resource_metrics: usize,
    /// Who reports events: the pod's name, at most 128 characters.
    pub instance: String,
}

/// From what was observed to the one next step.
pub type Decide = dyn Fn(&Observed, Timestamp) -> Step + Send + Sync;

/// Everything a pass needs.
pub struct Context {
    /// The API server.
    pub cluster: Cluster,
    /// The cloud.
    pub cloud: Arc<dyn AppCodes>,
    /// Who tries new codes.
    pub prober: Arc<dyn Prober>,
    /// How many codes may be tried again at once: a quarter of the workers, as a host that hangs is tried again and again.
    pub tries: Semaphore,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What the operator was started with.
    pub settings: Settings,
    /// What wakes it.
    pub queue: Arc<Queue>,
    /// What wakes it sooner, if that was asked for.
    pub lookout: Option<Arc<Lookout>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether this process may start changes: it leads for ever, unless an election says otherwise.
    pub leadership: Leadership,
    /// What decides: [`plan`], unless a test plants a mistake.
    pub decide: Arc<Decide>,
    random: Mutex<rand::rngs::StdRng>,
    memories: Mutex<HashMap<Key, Remembered>>,
    apps: Mutex<HashMap<AppIdentity, Weak<tokio::sync::Mutex<()>>>>,
    stopping: AtomicBool,
    election: OnceLock<AbortHandle>,
}

/// What is kept of a resource between passes.
#[derive(Clone, Default)]
pub(super) struct Remembered {
    pub(super) memory: Memory,
    /// The code of `memory.held`, and the uptime at which the cloud told it.
    pub(super) held: Option<(AppCode, Duration)>,
    /// The spec that the held code belongs to, should the resource be gone.
    pub(super) validated: Option<Validated>,
    pub(super) unshown: Option<Unshown>,
    /// The last rotation that this process has marked, until status tells what came of it. Should its Secret be deleted or set back
    /// before, nothing else would.
    pub(super) begun: Option<Intent>,
}

/// A Secret that was written for a resource whose status did not name one yet. Should spec name another one before it does, or
/// another replica that knows nothing of it write that status, nothing else would tell of this one.
#[derive(Clone)]
pub(super) struct Unshown {
    /// Uid of the resource.
    pub(super) uid: String,
    pub(super) target: TargetStatus,
}

impl Context {
    /// A context; `seed` makes its random numbers repeatable.
    pub fn new(
        cluster: Cluster,
        cloud: Arc<dyn AppCodes>,
        prober: Arc<dyn Prober>,
        clock: Arc<dyn Clock>,
        settings: Settings,
        metrics: Arc<Metrics>,
        seed: Option<u64>,
    ) -> Self {
        let random = seed.map_or_else(
            || rand::rngs::StdRng::from_rng(&mut rand::rng()),
            rand::rngs::StdRng::seed_from_u64,
        );
        Self {
            cluster,
            cloud,
            prober,
            tries: Semaphore::new((settings.concurrency / 4).max(1)),
            queue: Arc::new(Queue::new(Arc::clone(&clock))),
            lookout: settings
                .watch_secrets
                .then(|| Arc::new(Lookout::new(Arc::clone(&clock)))),
            leadership: Leadership::alone(Arc::clone(&clock)),
            clock,
            settings,
            metrics,
            decide: Arc::new(plan),
            random: Mutex::new(random),
            memories: Mutex::default(),
            apps: Mutex::default(),
            stopping: AtomicBool::new(false),
            election: OnceLock::new(),
        }
    }

    /// From now on no change is started; what has started is carried through.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// This task takes part in the election; it ends no sooner than this process, unless by a fault of ours.
    pub fn rest_on(&self, election: AbortHandle) {
        self.election.get_or_init(|| election);
    }

    pub(super) fn may_mutate(&self) -> bool {
        !self.stopping.load(Ordering::SeqCst) && self.leadership.is_held()
    }

    /// What shows that this process no longer does its work, although nothing has told it to stop; empty if it does.
    pub fn stuck(&self) -> Vec<String> {
        let now = self.clock.uptime();
        let pulse = self.queue.pulse();
        let mut stuck = Vec::new();
        if let Some((key, since)) = pulse.longest
            && now.saturating_sub(since) > MOST_TURN
        {
            let minutes = now.saturating_sub(since).as_secs() / 60;
            stuck.push(format!("the pass over {key} has taken {minutes} minutes"));
        }
        let is_busy = pulse.running >= self.settings.concurrency.max(1);
        // A replica that stands by asks for none.
        if let (Some(led_since), Some(asked)) = (self.leadership.held_since(), pulse.asked) {
            let idle = now.saturating_sub(asked.max(led_since));
            if !is_busy && idle > MOST_IDLE {
                let minutes = idle.as_secs() / 60;
                stuck.push(format!("no worker has asked for a turn for {minutes} minutes"));
            }
        }
        // A code that only this process has is not thrown away for a lead.
        let has_ended = self.election.get().is_some_and(AbortHandle::is_finished);
        if has_ended && !self.stopping.load(Ordering::SeqCst) && self.held().is_empty() {
            stuck.push("the election has broken, so that this replica never leads again".to_owned());
        }
        stuck
    }

    /// Resources whose code only this process holds, with its fingerprint.
    pub fn held(&self) -> Vec<(Key, String)> {
        let memories = lock(&self.memories);
        let held = memories
            .iter()
            .filter_map(|(key, kept)| Some((key.clone(), kept.memory.held.as_ref()?.code.short())));
        held.collect()
    }

    /// Of how many resources anything is kept between passes; of one at rest without an open rotation nothing is.
    pub fn remembered(&self) -> usize {
        lock(&self.memories).len()
    }

    /// How long the resource of a turn that begins now has waited for a worker. While another replica leads none waits for ours.
    pub(super) fn waited(&self, turn: &Turn) -> Duration {
        let led_since = self.leadership.held_since();
        let led = led_since.map(|since| self.clock.uptime().saturating_sub(since));
        led.map_or(turn.waited, |led| turn.waited.min(led))
    }

    /// The metrics, with what they tell of the present state.
    pub fn scrape(&self, format: Format, health: &Health) -> String {
        let quiet = health.quiet_for().as_secs_f64();
        let led_since = self.leadership.held_since();
        // A replica that stands by takes no turns: it is no backlog that its queue is full.
        let backlog = led_since.map(|_| self.cloud.backlog(self.queue.overdue()));
        let levels = Levels {
            census: self
                .queue
                .census(self.clock.now(), self.settings.resource_metrics, led_since),
            unsaved_codes: self.held().len(),
            backlog: backlog.unwrap_or_default(),
            leads: led_since.is_some(),
            watches: health.is_listed() && health.is_watching(),
            sees_secrets: health.sees_all_secrets(),
            tasks: tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks()),
            last_sign: self.clock.now().as_duration().as_secs_f64() - quiet,
        };
        self.metrics.encode(format, levels)
    }

    /// A pass has seen a Secret as it is here, or left it so. The watch tells of no Secret without our label.
    pub(super) fn saw(&self, namespace: &str, name: &str, secret: Option<&Secret>) {
        if let Some(lookout) = &self.lookout {
            let ours = secret.filter(|secret| is_marked(secret));
            lookout.seen(
                namespace,
                name,
                ours.and_then(|secret| secret.metadata.resource_version.as_deref()),
            );
        }
    }

    pub(super) fn serves(&self, namespace: &str) -> bool {
        let served = &self.settings.namespaces;
        served.is_empty() || served.iter().any(|name| name == namespace)
    }

    pub(super) fn uptime(&self) -> SignedDuration {
        SignedDuration::try_from(self.clock.uptime()).unwrap_or(SignedDuration::MAX)
    }

    /// The wall clock in whole seconds, as times in status have no fractions: what is read back equals what was written.
    pub(super) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    pub(super) fn draw_number(&self) -> u64 {
        lock(&self.random).next_u64()
    }

    pub(super) fn draw_share(&self) -> f64 {
        lock(&self.random).random()
    }

    /// One pass at a time for each app: no two resources of one app change it together.
    pub(super) fn app_lock(&self, app: &AppIdentity) -> Arc<tokio::sync::Mutex<()>> {
        let mut apps = lock(&self.apps);
        if let Some(held) = apps.get(app).and_then(Weak::upgrade) {
            return held;
        }
        apps.retain(|_, lock| lock.strong_count() > 0);
        let fresh = Arc::new(tokio::sync::Mutex::new(()));
        apps.insert(app.clone(), Arc::downgrade(&fresh));
        fresh
    }

    pub(super) fn recall(&self, key: &Key) -> Remembered {
        lock(&self.memories).get(key).cloned().unwrap_or_default()
    }

    /// Takes in what the watch saw of a resource, as [`Queue::apply`] does.
    pub fn apply(&self, notice: &Notice, is_listing: bool, round: u32) {
        let former = self.lookout.is_some().then(|| self.queue.target(&notice.key()));
        self.queue.apply(notice, is_listing, round);
        if let Some(former) = former.filter(|former| *former != notice.target) {
            self.leave(&notice.namespace, &former);
        }
    }

    /// A resource no longer names this Secret. What was seen of it is kept only for others that do.
    pub(super) fn leave(&self, namespace: &str, target: &str) {
        if let Some(lookout) = self
            .lookout
            .as_ref()
            .filter(|_| !self.queue.is_target(namespace, target))
        {
            lookout.forget(namespace, target);
        }
    }

    /// Takes in that a turn found nothing left to do, as [`Queue::finished`] does.
    pub(super) fn finished(&self, key: &Key) {
        let target = self.queue.target(key);
        self.queue.finished(key, UNSEEN_RETRY, || self.forget(key));
        self.leave(key.namespace(), &target);
    }

    /// Takes in that a resource was deleted. It keeps its turns while a code of it is still to be saved.
    pub fn deleted(&self, key: &Key) {
        // A turn that is under way may be making a code just now.
        let target = self.queue.target(key);
        if self.queue.deleted(key, || self.is_held(key)) {
            self.forget(key);
            self.leave(key.namespace(), &target);
        }
    }

    pub(super) fn is_held(&self, key: &Key) -> bool {
        lock(&self.memories)
            .get(key)
            .is_some_and(|kept| kept.memory.held.is_some())
    }

    /// Forgets a resource that is gone, unless its code is still to be saved.
    pub(super) fn forget(&self, key: &Key) {
        lock(&self.memories).retain(|other, kept| other != key || kept.memory.held.is_some());
    }

    pub(super) fn remember(&self, key: &Key, kept: Remembered) {
        let mut memories = lock(&self.memories);
        if kept.memory == Memory::default() && kept.unshown.is_none() && kept.begun.is_none() {
            memories.remove(key);
        } else {
            memories.insert(key.clone(), kept);
        }
    }
}

/// None of the guarded maps is left half-changed by a panic.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
