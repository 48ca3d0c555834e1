//! Takes the Lease, renews it, gives it up.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::lease::given_up;
use super::{Leadership, LeaseTimes, Move, Standing, View, judge};
use crate::api::MANAGER;
use crate::clock::Clock;
use crate::health::Health;
use crate::telemetry::causes;

/// How often it is asked whether the resources are still in sight: that they are not for long tells nobody.
const LOOK_PERIOD: Duration = Duration::from_secs(2);

/// One replica's part in the election.
pub struct Election {
    leases: Api<Lease>,
    name: String,
    me: String,
    times: LeaseTimes,
    clock: Arc<dyn Clock>,
    leadership: Leadership,
    health: Arc<Health>,
    view: Option<View>,
    /// What stands in the Lease is not known, since a write failed.
    is_unsure: bool,
    /// How often in a row the Lease could not be read or written.
    failures: u32,
    /// How often in a row the watch on it failed.
    watch_failures: u32,
}

/// Why the Lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("the API server failed")]
    Failed(#[from] kube::Error),
    #[error("no answer in time")]
    Timeout,
}

impl Trouble {
    fn is_conflict(&self) -> bool {
        matches!(self, Self::Failed(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists())
    }
}

impl Election {
    /// A part for the replica `me`, which no other replica and no earlier process may be called. Nothing is done yet.
    pub fn new(
        client: Client,
        (namespace, name): (&str, &str),
        me: String,
        times: LeaseTimes,
        clock: Arc<dyn Clock>,
        leadership: Leadership,
        health: Arc<Health>,
    ) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me,
            times,
            clock,
            leadership,
            health,
            view: None,
            is_unsure: true,
            failures: 0,
            watch_failures: 0,
        }
    }

    /// Takes part until `over`, and gives the Lease up then. A process that was asked to stop goes on until its last code
    /// is saved.
    pub async fn run(mut self, over: CancellationToken) {
        while !over.is_cancelled() {
            let could_lead = self.may_lead();
            let wait = if could_lead {
                self.take_part().await
            } else {
                self.stand_back().await
            };
            let until = self.clock.uptime().saturating_add(wait);
            tokio::select! {
                () = over.cancelled() => {}
                () = self.seen_change(until, could_lead) => {}
            }
            self.notice_end();
        }
        self.give_up("stopping").await;
    }

    /// Whether this process sees what it leads. One that is asked to stop and leads sees nothing any more, and needs to see
    /// nothing for saving its last code; the Lease is kept for that.
    fn may_lead(&self) -> bool {
        self.health.can_lead() || (self.health.is_closed() && self.leadership.is_held())
    }

    /// One look at the Lease, and one write if it is ours or free. Returns how long until the next look at the latest.
    async fn take_part(&mut self) -> Duration {
        // The last write or the watch tells as much as a reading; and no write goes over what was not seen.
        if self.is_unsure
            && let Err(trouble) = self.read().await
        {
            return self.troubled(&trouble, "read");
        }
        let Some(view) = &self.view else {
            return self.times.pause();
        };
        let sent = self.clock.uptime();
        let written = match judge(view, &self.me, &self.name, self.times, sent, self.clock.now()) {
            Move::Create(lease) => self.bounded(self.leases.create(&params(), &lease)).await,
            Move::Replace(lease) => self.bounded(self.leases.replace(&self.name, &params(), &lease)).await,
            Move::Follow(end) => {
                self.recover();
                self.follow(end);
                return end.saturating_sub(sent);
            }
        };
        match written {
            Ok(lease) => {
                self.recover();
                self.view = Some(View::after(self.view.take(), Some(lease), sent));
                self.lead(sent.saturating_add(self.times.lead()));
                self.times.renewal()
            }
            Err(trouble) => {
                // Somebody else's may stand there now, or ours after all.
                self.is_unsure = true;
                self.troubled(&trouble, "written")
            }
        }
    }

    async fn read(&mut self) -> Result<(), Trouble> {
        let lease = self.bounded(self.leases.get_opt(&self.name)).await?;
        self.view = Some(View::after(self.view.take(), lease, self.clock.uptime()));
        self.is_unsure = false;
        Ok(())
    }

    async fn bounded<T>(&self, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Trouble> {
        match tokio::time::timeout(self.times.request(), call).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Trouble::Timeout),
        }
    }

    /// Told once, and then shown by `/readyz` only, until it works again. Returns the pause before the next try.
    fn troubled(&mut self, trouble: &Trouble, done: &str) -> Duration {
        if trouble.is_conflict() {
            tracing::debug!("another replica was quicker");
            return self.times.pause();
        }
        let error = causes(trouble);
        if self.failures == 0 {
            tracing::warn!(%error, "the Lease could not be {done}; it is tried again until it can");
        } else {
            tracing::debug!(%error, "the Lease could not be {done} again");
        }
        self.failures = self.failures.saturating_add(1);
        self.pause_after(self.failures)
    }

    /// Who leads has no time to lose; anybody else asks ever more seldom, but is there when the Lease of another one ends.
    fn pause_after(&self, failures: u32) -> Duration {
        let shortest = self.times.pause();
        if self.leadership.is_held() {
            return shortest;
        }
        let left = match self.leadership.standing() {
            Standing::Follows { until, .. } => until.saturating_sub(self.clock.uptime()),
            Standing::Leads { .. } | Standing::Unknown => Duration::ZERO,
        };
        let pause = self.times.patience(failures);
        if left.is_zero() {
            pause
        } else {
            pause.min(left.max(shortest))
        }
    }

    fn recover(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("the Lease can be read and written again");
        }
    }

    fn lead(&self, until: Duration) {
        let was_held = self.leadership.is_held();
        self.leadership.set(Standing::Leads { until });
        if !was_held {
            tracing::info!(identity = self.me, "this replica leads now");
        }
    }

    fn follow(&self, until: Duration) {
        let leader = self.view.as_ref().and_then(View::holder).unwrap_or_default();
        let is_new = match self.leadership.standing() {
            Standing::Leads { .. } => {
                tracing::warn!(
                    leader,
                    "another replica has taken the Lease; no change is started any more"
                );
                false
            }
            Standing::Follows { leader: former, .. } => former != leader,
            Standing::Unknown => true,
        };
        if is_new {
            tracing::info!(leader, "another replica leads; this one stands by");
        }
        self.leadership.set(Standing::Follows {
            leader: leader.to_owned(),
            until,
        });
    }

    /// The lead ends by the clock when it could not be renewed.
    fn notice_end(&self) {
        if matches!(self.leadership.standing(), Standing::Leads { .. }) && !self.leadership.is_held() {
            tracing::warn!("the Lease could not be renewed in time; no change is started any more");
            self.leadership.set(Standing::Unknown);
        }
    }

    /// A replica that does not see the resources leaves them to another one.
    async fn stand_back(&mut self) -> Duration {
        self.give_up("the resources cannot be listed or watched").await;
        if let Err(trouble) = self.read().await {
            return self.troubled(&trouble, "read");
        }
        self.recover();
        let now = self.clock.uptime();
        let view = self.view.as_ref().filter(|view| now < view.end(self.times));
        match view.and_then(|view| Some((view.holder()?, view.end(self.times)))) {
            Some((holder, end)) if holder != self.me => self.follow(end),
            _ => self.leadership.set(Standing::Unknown),
        }
        self.times.renewal()
    }

    /// Gives the Lease up if it is ours, so that another replica need not wait until it runs out.
    async fn give_up(&mut self, why: &str) {
        if !matches!(self.leadership.standing(), Standing::Leads { .. }) {
            return;
        }
        self.leadership.set(Standing::Unknown);
        let ours = self.view.take().and_then(|view| view.lease);
        let Some(lease) = ours.map(|lease| given_up(&lease, self.clock.now())) else {
            return;
        };
        match self.bounded(self.leases.replace(&self.name, &params(), &lease)).await {
            Ok(_) => tracing::info!(why, "the Lease was given up"),
            Err(trouble) => {
                tracing::warn!(error = %causes(&trouble), "the Lease was not given up; it runs out by itself");
            }
        }
    }

    /// Returns when the resources have come into sight, or are out of it for too long, since it was found whether this process
    /// `could_lead`.
    async fn sight_changed(&self, could_lead: bool) {
        while self.may_lead() == could_lead {
            tokio::select! {
                () = self.health.changed() => {}
                () = self.clock.sleep(LOOK_PERIOD) => {}
            }
        }
    }

    /// Returns at the uptime `until`, or before when somebody else's Lease has changed. Each renewal by its holder is
    /// taken in on the way, so that a replica that stands by asks for nothing.
    async fn seen_change(&mut self, until: Duration, could_lead: bool) {
        let until_then = |clock: &Arc<dyn Clock>| until.saturating_sub(clock.uptime());
        let is_following = matches!(self.leadership.standing(), Standing::Follows { .. }) && could_lead;
        let version = self
            .view
            .as_ref()
            .and_then(|view| view.lease.as_ref()?.metadata.resource_version.clone());
        let (true, Some(version)) = (is_following, version) else {
            tokio::select! {
                () = self.clock.sleep(until_then(&self.clock)) => {}
                () = self.sight_changed(could_lead) => {}
            }
            return;
        };
        let fields = format!("metadata.name={}", self.name);
        let timeout = u32::try_from(self.times.duration.as_secs()).unwrap_or(u32::MAX);
        let watch = WatchParams::default()
            .fields(&fields)
            .timeout(timeout.saturating_mul(2).clamp(1, 290));
        let (leases, clock) = (self.leases.clone(), Arc::clone(&self.clock));
        let next = async {
            let events = leases.watch(&watch, &version).await?;
            pin_mut!(events);
            loop {
                match events.next().await {
                    Some(Ok(WatchEvent::Modified(lease))) => return Ok(lease),
                    Some(Ok(WatchEvent::Bookmark(_) | WatchEvent::Added(_))) => {}
                    Some(Ok(WatchEvent::Error(status))) => return Err(kube::Error::Api(status)),
                    Some(Err(error)) => return Err(error),
                    // Who led may lead on for its time, though somebody has deleted the Lease. It is read when that is over.
                    Some(Ok(WatchEvent::Deleted(_))) | None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            lease = next => match lease {
                Ok(lease) => {
                    self.watch_failures = 0;
                    self.view = Some(View::after(self.view.take(), Some(lease), clock.uptime()));
                }
                Err(error) => {
                    self.is_unsure = true;
                    self.watch_failures = self.watch_failures.saturating_add(1);
                    tracing::debug!(error = %causes(&error), "the watch on the Lease failed");
                    clock.sleep(self.pause_after(self.watch_failures).min(until_then(&clock))).await;
                }
            },
            () = clock.sleep(until_then(&clock)) => self.is_unsure = true,
        }
    }
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

#[cfg(test)]
mod tests;
