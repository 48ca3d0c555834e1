//! Pace and breaker in front of the real client: how the operator as a whole stays within what the cloud allows.
//!
//! Calls wait for a token bucket of their credentials and for one over all; credentials that were rejected are not
//! tried again for a while. Nobody waits long: a call whose turn is far off is postponed with the time to come
//! back, so that one slow account does not hold up the workers of others.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Notify;

use super::refusal::{KEY_LOCK, USER_LOCK};
use super::{App, AppCode, AppCodes, CloudError, CloudErrorKind, Credentials, Echo, Fleet, Target};
use crate::clock::Clock;
use crate::limits::{Breaker, Bucket, Entry, Verdict};
use crate::metrics::{Limit, Metrics};

/// Callers remembered at once.
const MAX_CALLERS: usize = 4096;

/// A throttled answer that names no time means this long; the vendor's advice is 2 to 5 seconds.
const DEFAULT_PAUSE: Duration = Duration::from_secs(5);

/// So many workers at least the shares are counted by: of fewer, none can be spared.
const FEW_WORKERS: usize = 4;

/// Share of the rate that those who were postponed get.
const LINE_SHARE: f64 = 0.8;
/// A line longer than this is told, once in as long a time.
const LONG_LINE: Duration = Duration::from_secs(60);

/// How fast calls may be and how long bad credentials rest.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardOptions {
    /// Calls per second with one credentials Secret. Default 0.8.
    pub per_caller_rate: f64,
    /// Calls per second over all. Default 10.
    pub global_rate: f64,
    /// Calls that one credentials Secret may make at once after a rest. Default 5; over all it is ten times that.
    pub burst: u32,
    /// Longest wait for a turn or for another call's try of the credentials; a call that would wait longer is postponed. Default 10 s.
    pub max_wait: Duration,
    /// How long rejected keys and tokens rest. Default 330 s, as a key is locked for 300 s after five failures.
    pub breaker_open: Duration,
    /// How long a rejected password rests. Default 32 min: accounts may lock a user after three failures in an hour.
    pub breaker_open_password: Duration,
    /// How many resources the operator works on at once. Default 16. The readings with one credentials Secret may wait or be
    /// under way in half of them, and be under way in half of what those with others leave, so that readings that hang leave
    /// one of four or more.
    pub workers: usize,
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self {
            per_caller_rate: 0.8,
            global_rate: 10.0,
            burst: 5,
            max_wait: Duration::from_secs(10),
            breaker_open: KEY_LOCK,
            breaker_open_password: USER_LOCK.saturating_mul(2),
            workers: 16,
        }
    }
}

/// [`AppCodes`] with pace and breaker. Reads and [`AppCodes::admit`] wait for their turn; changes go out at once.
pub struct GuardedAppCodes {
    inner: Arc<dyn AppCodes>,
    clock: Arc<dyn Clock>,
    options: GuardOptions,
    metrics: Arc<Metrics>,
    state: Mutex<GuardState>,
}

struct GuardState {
    all: Bucket,
    /// When the end of the longest line was last logged.
    told: Option<Duration>,
    /// Turns taken by readings, and by readings and admissions: who waits for a reading may want to change something then.
    readings: u32,
    turns: u32,
    /// Readings of all that are under way.
    under_way: usize,
    callers: HashMap<String, CallerState>,
    hasher: RandomState,
}

struct CallerState {
    bucket: Bucket,
    /// The places of those that were postponed, one after another: they come back one at a time and not all together. It
    /// moves a little slower than `bucket`, so that a person's change finds a gap.
    line: Bucket,
    /// When the place of each app comes, by its hash: one that comes back sooner, as it is edited, gets no second one.
    places: HashMap<u64, Duration>,
    /// What is known of the credentials at each site that they are sent to: one may not know what is good at another.
    sites: HashMap<String, Site>,
    /// Readings that wait or are under way.
    readings: usize,
    /// Those of them that are under way.
    under_way: usize,
    used: Duration,
}

struct Site {
    breaker: Breaker,
    /// Rung when a try of unproven credentials has ended.
    tried: Arc<Notify>,
}

/// One of the places for readings with the same credentials, given back when the reading has ended or was given up.
struct Place<'a> {
    guard: &'a GuardedAppCodes,
    target: &'a Target,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let uptime = self.guard.clock.uptime();
        let mut state = self.guard.lock();
        let caller = state.caller(self.target, uptime, &self.guard.options);
        caller.readings = caller.readings.saturating_sub(1);
    }
}

/// A reading that is under way.
struct Reading<'a>(&'a Place<'a>);

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let Place { guard, target } = self.0;
        let uptime = guard.clock.uptime();
        let mut state = guard.lock();
        state.under_way = state.under_way.saturating_sub(1);
        let caller = state.caller(target, uptime, &guard.options);
        caller.under_way = caller.under_way.saturating_sub(1);
    }
}

/// Leave to make one call, given back when the call has ended or was given up.
struct Leave<'a> {
    guard: &'a GuardedAppCodes,
    target: &'a Target,
    /// `None` when the verdict has been told.
    verdict: Option<Verdict>,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(verdict) = self.verdict.take() {
            self.guard.record(self.target, verdict);
        }
    }
}

impl GuardedAppCodes {
    /// `inner` behind a guard that counts in `metrics` whom it lets wait.
    pub fn new(inner: Arc<dyn AppCodes>, clock: Arc<dyn Clock>, options: GuardOptions, metrics: Arc<Metrics>) -> Self {
        let all = Bucket::new(options.global_rate, options.burst.saturating_mul(10));
        let state = Mutex::new(GuardState {
            all,
            told: None,
            readings: 0,
            turns: 0,
            under_way: 0,
            callers: HashMap::new(),
            hasher: RandomState::new(),
        });
        Self {
            inner,
            clock,
            options,
            metrics,
            state,
        }
    }

    fn lock(&self) -> MutexGuard<'_, GuardState> {
        // Every change under the lock is one assignment; a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a reading. Fails at once when all are taken.
    fn place<'a>(&'a self, target: &'a Target) -> Result<Place<'a>, CloudError> {
        let uptime = self.clock.uptime();
        let mut state = self.lock();
        let app = state.hash(target);
        let caller = state.caller(target, uptime, &self.options);
        if caller.readings >= (self.options.workers / 2).max(1) {
            let after = caller.line_up(app, uptime).max(DEFAULT_PAUSE);
            let why = "as many calls with these credentials as may be are under way";
            return Err(self.postponed(Limit::CallerConcurrency, after, why));
        }
        caller.readings += 1;
        Ok(Place { guard: self, target })
    }

    /// Begins a reading whose turn has come. Fails at once where those that are under way, which may hang, take as much as may be.
    fn begin<'a>(&'a self, place: &'a Place<'_>) -> Result<Reading<'a>, CloudError> {
        let uptime = self.clock.uptime();
        let mut state = self.lock();
        let left = self.options.workers.max(FEW_WORKERS).saturating_sub(state.under_way);
        let caller = state.caller(place.target, uptime, &self.options);
        if caller.under_way + 1 >= left {
            let why = "calls with other credentials do not come to an end";
            return Err(self.postponed(Limit::CallerConcurrency, DEFAULT_PAUSE, why));
        }
        caller.under_way += 1;
        state.under_way += 1;
        Ok(Reading(place))
    }

    /// Waits for a turn. Fails at once, without taking a turn, when that is too far off or the credentials are closed.
    async fn pace(&self, target: &Target, is_reading: bool) -> Result<(), CloudError> {
        let uptime = self.clock.uptime();
        let wait = {
            let mut state = self.lock();
            let over_all = state.all.wait(uptime);
            let app = state.hash(target);
            let caller = state.caller(target, uptime, &self.options);
            if let Entry::Closed(time) = caller.site(target).breaker.peek(&target.caller.version, uptime) {
                return Err(self.closed(time));
            }
            let of_caller = caller.bucket.wait(uptime);
            let wait = of_caller.max(over_all);
            if wait > self.options.max_wait {
                let after = caller.line_up(app, uptime).max(wait);
                let end = after.mul_f64(state.calls_each());
                state.tell(end, uptime);
                let limit = if of_caller >= over_all {
                    Limit::CallerRate
                } else {
                    Limit::TotalRate
                };
                return Err(self.postponed(limit, after, "its turn among the operator's calls is far off"));
            }
            caller.bucket.take(uptime);
            state.all.take(uptime);
            state.count(is_reading);
            wait
        };
        self.metrics.admitted(wait);
        if !wait.is_zero() {
            self.clock.sleep(wait).await;
        }
        Ok(())
    }

    /// Leave to call, at once or after the end of another call that tries the same unproven credentials.
    async fn enter<'a>(&'a self, target: &'a Target, may_wait: bool) -> Result<Leave<'a>, CloudError> {
        let deadline = self.clock.uptime().saturating_add(self.options.max_wait);
        loop {
            let uptime = self.clock.uptime();
            let tried = {
                let mut state = self.lock();
                let site = state.caller(target, uptime, &self.options).site(target);
                match site.breaker.enter(&target.caller.version, uptime) {
                    Entry::Pass | Entry::Probe => {
                        return Ok(Leave {
                            guard: self,
                            target,
                            verdict: Some(Verdict::Unknown),
                        });
                    }
                    Entry::Closed(time) => return Err(self.closed(time)),
                    Entry::Busy if !may_wait || uptime >= deadline => {
                        let why = "another call is still trying these credentials";
                        return Err(self.postponed(Limit::Trial, DEFAULT_PAUSE, why));
                    }
                    // Listening starts under the lock, so that no ring is missed.
                    Entry::Busy => Arc::clone(&site.tried).notified_owned(),
                }
            };
            tokio::select! {
                () = tried => {}
                () = self.clock.sleep(deadline.saturating_sub(uptime)) => {}
            }
        }
    }

    fn record(&self, target: &Target, verdict: Verdict) {
        let uptime = self.clock.uptime();
        let mut state = self.lock();
        let site = state.caller(target, uptime, &self.options).site(target);
        site.breaker.record(&target.caller.version, verdict, uptime);
        site.tried.notify_waiters();
    }

    /// Learns from what `inner` said.
    fn learn<T>(&self, mut leave: Leave<'_>, outcome: Result<T, CloudError>) -> Result<T, CloudError> {
        let target = leave.target;
        leave.verdict = Some(match &outcome {
            Ok(_) => Verdict::Accepted,
            Err(error) => self.verdict(target, error),
        });
        if let Err(CloudError {
            kind: CloudErrorKind::Throttled { retry_after },
            ..
        }) = &outcome
        {
            let uptime = self.clock.uptime();
            let until = uptime.saturating_add(retry_after.unwrap_or(DEFAULT_PAUSE));
            self.lock().caller(target, uptime, &self.options).bucket.pause(until);
        }
        outcome
    }

    fn closed(&self, time: Duration) -> CloudError {
        self.metrics.postponed(Limit::Rejected, time);
        let message = "the credentials were rejected lately and are not tried for some minutes, so that the cloud does not \
                       lock them; new credentials are tried at once";
        own_error(CloudErrorKind::LockedOut { retry_after: time }, message)
    }

    fn postponed(&self, limit: Limit, after: Duration, why: &str) -> CloudError {
        self.metrics.postponed(limit, after);
        own_error(CloudErrorKind::Postponed { after }, &format!("not sent: {why}"))
    }

    fn verdict(&self, target: &Target, error: &CloudError) -> Verdict {
        let rest = match target.caller.credentials {
            Credentials::Password { .. } => self.options.breaker_open_password,
            Credentials::Keys { .. } | Credentials::Token(_) => self.options.breaker_open,
        };
        match error.kind {
            CloudErrorKind::CredentialsRejected => Verdict::Rejected(rest),
            CloudErrorKind::LockedOut { retry_after } => Verdict::Rejected(retry_after.max(rest)),
            // Refused for who they are or what they asked for, so the credentials were read and found good.
            CloudErrorKind::NotAuthorized | CloudErrorKind::AppNotFound | CloudErrorKind::NotFound => Verdict::Accepted,
            CloudErrorKind::NotSent
            | CloudErrorKind::Postponed { .. }
            | CloudErrorKind::Throttled { .. }
            | CloudErrorKind::Refused
            | CloudErrorKind::UnknownOutcome => Verdict::Unknown,
        }
    }
}

#[async_trait]
impl AppCodes for GuardedAppCodes {
    async fn admit(&self, target: &Target) -> Result<(), CloudError> {
        self.pace(target, false).await?;
        let leave = self.enter(target, true).await?;
        match self.inner.admit(target).await {
            // An admission may have called nobody, so success proves nothing.
            Ok(()) => Ok(()),
            refusal => self.learn(leave, refusal),
        }
    }

    fn backlog(&self, waiting: Fleet) -> Duration {
        let uptime = self.clock.uptime();
        let state = self.lock();
        let lines = state.callers.values().map(|caller| caller.line.wait(uptime));
        let line = lines.max().unwrap_or_default().as_secs_f64();
        let of_caller = line + calls(waiting.of_caller) / self.options.per_caller_rate;
        let one_call_each = of_caller.max(calls(waiting.whole) / self.options.global_rate);
        Duration::try_from_secs_f64(one_call_each * state.calls_each()).unwrap_or(Duration::MAX)
    }

    fn round(&self, fleet: Fleet) -> Duration {
        let of_caller = calls(fleet.of_caller) / self.options.per_caller_rate;
        let time = of_caller.max(calls(fleet.whole) / self.options.global_rate);
        Duration::try_from_secs_f64(2.0 * time).unwrap_or(Duration::MAX)
    }

    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        let place = self.place(target)?;
        self.pace(target, true).await?;
        let leave = self.enter(target, true).await?;
        let _reading = self.begin(&place)?;
        let outcome = self.inner.show_app(target).await;
        self.learn(leave, outcome)
    }

    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Result<App, CloudError> {
        let leave = self.enter(target, false).await?;
        let outcome = self.inner.reset_code(target, code, echo).await;
        self.learn(leave, outcome)
    }

    async fn add_code(&self, target: &Target, echo: &Echo) -> Result<App, CloudError> {
        let leave = self.enter(target, false).await?;
        let outcome = self.inner.add_code(target, echo).await;
        self.learn(leave, outcome)
    }

    async fn delete_code(&self, target: &Target, code: &AppCode) -> Result<App, CloudError> {
        let leave = self.enter(target, false).await?;
        let outcome = self.inner.delete_code(target, code).await;
        self.learn(leave, outcome)
    }
}

impl CallerState {
    /// Whether forgetting it would change anything.
    fn is_needed(&self, uptime: Duration) -> bool {
        let is_idle = self.sites.values().all(|site| site.breaker.is_idle(uptime));
        self.readings > 0 || !self.bucket.is_full(uptime) || !is_idle
    }

    /// What is known where these credentials are sent to. There are as many sites as the vendor and the allow-list have.
    fn site(&mut self, target: &Target) -> &mut Site {
        let site = self.sites.entry(target.endpoint.site().to_owned());
        site.or_insert_with(|| Site {
            breaker: Breaker::new(target.caller.version.clone()),
            tried: Arc::new(Notify::new()),
        })
    }

    /// How long until the place of an app in line, which it takes now unless it has one.
    fn line_up(&mut self, app: u64, uptime: Duration) -> Duration {
        if let Some(place) = self.places.get(&app).filter(|place| **place > uptime) {
            return place.saturating_sub(uptime);
        }
        // Looked through ever more rarely the more there are.
        if self.places.len().is_power_of_two() {
            self.places.retain(|_, place| *place > uptime);
        }
        let after = self.line.take(uptime);
        self.places.insert(app, uptime.saturating_add(after));
        after
    }
}

impl GuardState {
    fn hash(&self, target: &Target) -> u64 {
        self.hasher.hash_one(&target.app)
    }

    fn count(&mut self, is_reading: bool) {
        // Halved now and then, so that what happens lately counts most.
        if self.turns >= 1000 {
            self.turns /= 2;
            self.readings /= 2;
        }
        self.turns += 1;
        self.readings += u32::from(is_reading);
    }

    /// Turns that a resource takes once it has its reading, this one included.
    fn calls_each(&self) -> f64 {
        f64::from(self.turns.max(1)) / f64::from(self.readings.max(1))
    }

    fn tell(&mut self, after: Duration, uptime: Duration) {
        let is_due = self.told.is_none_or(|told| uptime.saturating_sub(told) >= LONG_LINE);
        if after >= LONG_LINE && is_due {
            self.told = Some(uptime);
            tracing::info!(
                seconds = after.as_secs(),
                "calls on the cloud wait for their turn; the last of those that wait comes in about so many seconds"
            );
        }
    }

    /// The caller's state. When there are too many, those that remember nothing go, then the one that was used longest
    /// ago.
    fn caller(&mut self, target: &Target, uptime: Duration, options: &GuardOptions) -> &mut CallerState {
        let source = &target.caller.source;
        if self.callers.len() >= MAX_CALLERS && !self.callers.contains_key(source) {
            self.callers.retain(|_, caller| caller.is_needed(uptime));
            if self.callers.len() >= MAX_CALLERS {
                let oldest = self.callers.iter().min_by_key(|(_, caller)| caller.used);
                oldest
                    .map(|(source, _)| source.clone())
                    .and_then(|source| self.callers.remove(&source));
            }
        }
        let caller = self.callers.entry(source.clone()).or_insert_with(|| CallerState {
            bucket: Bucket::new(options.per_caller_rate, options.burst),
            line: Bucket::new(options.per_caller_rate * LINE_SHARE, 1),
            places: HashMap::new(),
            sites: HashMap::new(),
            readings: 0,
            under_way: 0,
            used: uptime,
        });
        caller.used = uptime;
        caller
    }
}

fn calls(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

fn own_error(kind: CloudErrorKind, message: &str) -> CloudError {
    CloudError {
        kind,
        status: None,
        code: None,
        message: message.into(),
        request_id: None,
    }
}

#[cfg(test)]
mod tests;
