//! The shell around [`crate::plan`]: look, plan, act until there is nothing to do but wait, then report.
//!
//! Nothing here assumes why it was called, or that an earlier pass came to its end. Effects are thin; everything that
//! is decided is decided in the pure modules.

mod act;
mod ask;
mod cluster;
mod distribute;
mod lookout;
mod notice;
mod observe;
mod others;
mod queue;
mod render;
mod report;
mod run;
mod signs;
mod trouble;
pub mod workloads;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use rand::{Rng, RngExt, SeedableRng};
use tokio::task::AbortHandle;

pub use self::cluster::{Cluster, ClusterError};
pub use self::lookout::Lookout;
pub use self::notice::Notice;
pub use self::queue::{Haste, Key, Neighbour, Neighbours, Queue, Turn};
pub use self::run::{run, take_turn};
pub use self::signs::{Census, Signs, Why};
use crate::api::TargetStatus;
use crate::clock::Clock;
use crate::health::Health;
use crate::identity::Identity;
use crate::ids::{AppIdentity, RotationId};
use crate::leader::Leadership;
use crate::metrics::{Format, Levels, Metrics};
use crate::modelarts::{AppCode, AppCodes};
use crate::plan::{Cloud, Limits, Memory, Observed, Step, plan};
use crate::secret::is_marked;
use crate::status::BACKOFF_CAP;
use crate::validate::{Rules, Validated};
use crate::verification::Prober;

/// More steps than any pass needs; a pass that takes them is a fault of ours and must not spin.
const MOST_STEPS: usize = 32;
/// How soon a pass is repeated while a code is held in memory only: at first, and when that has gone on for long.
const HELD_RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// A pass waits for the cloud, the API server and the passes over other resources of its app, each of which is bounded; one
/// that takes longer than this has met a fault of ours.
const MOST_TURN: Duration = Duration::from_secs(30 * 60);
/// Workers ask for turns once a minute even if nothing is due.
const MOST_IDLE: Duration = Duration::from_secs(5 * 60);

/// How soon a resource is looked at again by a process that lost its lead in the middle of a pass, should it lead again then.
const FOLLOWER_RETRY: Duration = Duration::from_secs(60);

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
struct Remembered {
    memory: Memory,
    /// The code of `memory.held`, and the uptime at which the cloud told it.
    held: Option<(AppCode, Duration)>,
    /// The spec that the held code belongs to, should the resource be gone.
    validated: Option<Validated>,
    unshown: Option<Unshown>,
}

/// A Secret that was written for a resource whose status did not name one yet. Should spec name another one before it does, or
/// another replica that knows nothing of it write that status, nothing else would tell of this one.
#[derive(Clone)]
struct Unshown {
    /// Uid of the resource.
    uid: String,
    target: TargetStatus,
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

    fn may_mutate(&self) -> bool {
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

    /// Of how many resources anything is kept between passes; of one at rest nothing is.
    pub fn remembered(&self) -> usize {
        lock(&self.memories).len()
    }

    /// How long the resource of a turn that begins now has waited for a worker. While another replica leads none waits for ours.
    fn waited(&self, turn: &Turn) -> Duration {
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
    fn saw(&self, namespace: &str, name: &str, secret: Option<&Secret>) {
        if let Some(lookout) = &self.lookout {
            let ours = secret.filter(|secret| is_marked(secret));
            lookout.seen(
                namespace,
                name,
                ours.and_then(|secret| secret.metadata.resource_version.as_deref()),
            );
        }
    }

    fn serves(&self, namespace: &str) -> bool {
        let served = &self.settings.namespaces;
        served.is_empty() || served.iter().any(|name| name == namespace)
    }

    fn uptime(&self) -> SignedDuration {
        SignedDuration::try_from(self.clock.uptime()).unwrap_or(SignedDuration::MAX)
    }

    /// The wall clock in whole seconds, as times in status have no fractions: what is read back equals what was written.
    fn now(&self) -> Timestamp {
        let now = self.clock.now();
        Timestamp::from_second(now.as_second()).unwrap_or(now)
    }

    fn draw_number(&self) -> u64 {
        lock(&self.random).next_u64()
    }

    fn draw_share(&self) -> f64 {
        lock(&self.random).random()
    }

    /// One pass at a time for each app: no two resources of one app change it together.
    fn app_lock(&self, app: &AppIdentity) -> Arc<tokio::sync::Mutex<()>> {
        let mut apps = lock(&self.apps);
        if let Some(held) = apps.get(app).and_then(Weak::upgrade) {
            return held;
        }
        apps.retain(|_, lock| lock.strong_count() > 0);
        let fresh = Arc::new(tokio::sync::Mutex::new(()));
        apps.insert(app.clone(), Arc::downgrade(&fresh));
        fresh
    }

    fn recall(&self, key: &Key) -> Remembered {
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
    fn leave(&self, namespace: &str, target: &str) {
        if let Some(lookout) = self
            .lookout
            .as_ref()
            .filter(|_| !self.queue.is_target(namespace, target))
        {
            lookout.forget(namespace, target);
        }
    }

    /// Takes in that a turn found nothing left to do, as [`Queue::finished`] does.
    fn finished(&self, key: &Key) {
        let target = self.queue.target(key);
        self.queue.finished(key, UNSEEN_RETRY);
        self.leave(key.namespace(), &target);
    }

    /// Takes in that a resource was deleted. It keeps its turns while a code of it is still to be saved.
    pub fn deleted(&self, key: &Key) {
        // A turn that is under way may be making a code just now.
        if self.is_held(key) || self.queue.is_running(key) {
            self.queue.outlive(key);
        } else {
            let target = self.queue.target(key);
            self.queue.remove(key);
            self.forget(key);
            self.leave(key.namespace(), &target);
        }
    }

    fn is_held(&self, key: &Key) -> bool {
        lock(&self.memories)
            .get(key)
            .is_some_and(|kept| kept.memory.held.is_some())
    }

    /// Forgets a resource that is gone, unless its code is still to be saved.
    fn forget(&self, key: &Key) {
        lock(&self.memories).retain(|other, kept| other != key || kept.memory.held.is_some());
    }

    fn remember(&self, key: &Key, kept: Remembered) {
        let mut memories = lock(&self.memories);
        if kept.memory == Memory::default() && kept.unshown.is_none() {
            memories.remove(key);
        } else {
            memories.insert(key.clone(), kept);
        }
    }
}

/// None of the guarded maps is left half-changed by a panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A pass that did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not answer, or not as it should.
    #[error("{doing}")]
    Cluster {
        /// What we were doing.
        doing: &'static str,
        /// What came of it.
        #[source]
        source: ClusterError,
    },
    /// A fault of ours.
    #[error("the pass took {MOST_STEPS} steps without coming to rest; this is a bug")]
    Restless,
    /// A fault of ours.
    #[error("a code was to be used that this pass has not read; this is a bug")]
    UnknownCode,
}

impl Error {
    /// All that [`Error::category`] may be.
    pub const CATEGORIES: [&str; 7] = [
        "conflict",
        "not_found",
        "refused",
        "timeout",
        "failed",
        "restless",
        "unknown_code",
    ];

    /// A closed set of words for logs and metric labels.
    pub fn category(&self) -> &'static str {
        match self {
            Self::Cluster { source, .. } => source.category(),
            Self::Restless => "restless",
            Self::UnknownCode => "unknown_code",
        }
    }
}

/// When a resource has its next turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// How long until then, at least.
    pub after: Duration,
    /// Whether somebody's change has not been seen through yet, so that back-off does not hold then either.
    pub nudged: bool,
}

/// The span of all that is logged in a turn of a resource. It is of the highest level, so that no filter takes the name of the
/// resource from a line that it lets through. The rotation is recorded once one is known to be open.
fn span_of(key: &Key) -> tracing::Span {
    tracing::error_span!("reconcile", resource = %key, rotation_id = tracing::field::Empty)
}

/// Names the rotation that the pass is about from now on, on each line of its span.
fn record_rotation(told: &mut Option<RotationId>, step: &Step, observed: &Observed) {
    let begun = match step {
        Step::WriteIntent { record, .. } => record.intent.as_ref(),
        _ => None,
    };
    let held = observed.memory.held.as_ref().map(|held| &held.intent);
    let open = begun
        .or(held)
        .or_else(|| observed.intent().filter(|intent| intent.is_unfinished()));
    let id = open.map(|intent| &intent.rotation_id);
    // In the text format, what is recorded again is written again.
    if id.is_some() && id != told.as_ref() {
        *told = id.cloned();
        tracing::Span::current().record("rotation_id", id.map(tracing::field::display));
    }
}

/// One pass over one resource. Returns when it has its next turn; never, if it is gone.
///
/// # Errors
/// When the API server failed; all that must not be lost is on the Secret or remembered.
pub async fn reconcile(ctx: &Context, turn: &Turn) -> Result<Option<Next>, Error> {
    // Reads the Secrets, then the resource (I/O, may fail).
    let Some(mut pass) = observe::observe(ctx, turn).await? else {
        ctx.forget(&turn.key);
        return Ok(None);
    };
    // Plans (pure) and acts (I/O, may fail) until there is nothing to do but wait.
    let outcome = Box::pin(work(ctx, &mut pass)).await;
    // What a later pass needs is kept, whatever happened.
    let held_since = pass.settle_memory();
    ctx.remember(&turn.key, pass.remembered());
    let step = match outcome {
        Ok(step) => step,
        Err(error) => {
            let is_ours = pass.led || held_since.is_some();
            report::report_failed(ctx, &pass, &error, is_ours).await;
            return Err(error);
        }
    };
    // What was read before somebody else came to lead may be old by now, and status is theirs, but for what was done before:
    // that is fenced by a version that they have not changed yet.
    let leads = ctx.leadership.is_held();
    let is_theirs = !pass.led || (!leads && pass.happened.is_empty());
    if is_theirs && held_since.is_none() {
        report::tell_happened(ctx, &pass).await;
        pass.unshown = None;
        ctx.remember(&turn.key, pass.remembered());
        let after = if leads { HELD_RETRY.0 } else { FOLLOWER_RETRY };
        let nudged = turn.nudged;
        return Ok(pass.resource.is_some().then_some(Next { after, nudged }));
    }
    // Folds all into status and events (I/O, may fail).
    let wait = report::report(ctx, &pass, &step).await?;
    // Status names the Secret by now, unless nothing was learned.
    if !matches!(step, Step::BackOff { .. }) && pass.unshown.take().is_some() {
        ctx.remember(&turn.key, pass.remembered());
    }
    let retry = held_since.map(|since| held_retry(ctx, since));
    let after = wait.into_iter().chain(retry).min();
    let nudged = turn.nudged && matches!(pass.observed.cloud, Cloud::Postponed(_));
    Ok(after.map(|after| Next { after, nudged }))
}

/// The longer a code could not be saved, the less it matters when the next try comes: a quarter of that time later.
fn held_retry(ctx: &Context, since: Duration) -> Duration {
    let age = ctx.clock.uptime().saturating_sub(since);
    (age / 4).clamp(HELD_RETRY.0, HELD_RETRY.1)
}

async fn work(ctx: &Context, pass: &mut observe::Pass) -> Result<Step, Error> {
    let mut rotation = None;
    for _ in 0..MOST_STEPS {
        // Of what another replica may be at work on already only a code is saved that nobody else has.
        if !pass.led && pass.observed.memory.held.is_none() {
            return Ok(Step::Gone);
        }
        let step = (ctx.decide)(&pass.observed, ctx.now());
        record_rotation(&mut rotation, &step, &pass.observed);
        tracing::debug!(?step, "planned");
        match step {
            Step::AskCloud => ask::ask_cloud(ctx, pass).await?,
            Step::CreateSecret { secret, record } => act::create_secret(ctx, pass, &secret, &record).await?,
            Step::WriteIntent { secret, record } => act::write_intent(ctx, pass, &secret, record).await?,
            Step::WriteRecord { secret, record } => act::write_record(ctx, pass, &secret, &record).await?,
            Step::Disown { secret } => act::disown(ctx, pass, &secret).await?,
            Step::Mutate(intent) => act::mutate(ctx, pass, &intent).await?,
            Step::WriteCode {
                secret,
                code,
                record,
                why,
            } => act::write_code(ctx, pass, &secret, code, record, why).await?,
            Step::BeginSettling(question) => act::begin_settling(ctx, pass, question),
            Step::Drop => act::drop_held(pass),
            Step::Verify => distribute::verify(ctx, pass).await?,
            Step::LookAtWorkloads => distribute::look(ctx, pass).await,
            Step::Restart(targets) => distribute::restart(ctx, pass, &targets).await?,
            Step::Hold => act::hold_resource(ctx, pass, true).await?,
            Step::Release => act::hold_resource(ctx, pass, false).await?,
            end => return Ok(end),
        }
    }
    Err(Error::Restless)
}

/// Pause after `failures` passes in a row that did not come to their end.
fn pause_after(ctx: &Context, failures: u32) -> Duration {
    let cap = Duration::from_secs(60).min(BACKOFF_CAP.unsigned_abs());
    crate::limits::backoff(failures, ctx.draw_share(), Duration::from_secs(1), cap)
}
