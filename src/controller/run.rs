//! The watch that fills the queue, the workers that empty it, and the way down.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::Api;
use kube::runtime::watcher::{self, Event, watcher};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::lookout::Watch;
use super::notice::Notice;
use super::trouble::Trouble;
use super::{Context, Error, HELD_RETRY, Next, Turn, pause_after, reconcile, span_of};
use crate::health::Health;
use crate::telemetry::causes;

/// Objects in one page of the listing. An object may have 1.5 MiB, and a page is in memory twice: as many of the largest
/// stay below what the manifests allow the pod.
pub(super) const PAGE_SIZE: u32 = 25;

/// The first pause after a failure of the watch, and the longest. A trigger waits as long once the server is back.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Works until `shutdown`, then carries through what has started.
///
/// No resource is touched before the first listing is complete: until then the queue does not know which resources
/// share an app.
pub async fn run(ctx: Arc<Context>, health: Arc<Health>, shutdown: CancellationToken) {
    let mut tasks = JoinSet::new();
    let listed = CancellationToken::new();
    for source in health.sources() {
        let feed = Feed {
            ctx: Arc::clone(&ctx),
            health: Arc::clone(&health),
            source,
            listed: listed.clone(),
        };
        let shutdown = shutdown.clone();
        tasks.spawn(async move { shutdown.run_until_cancelled(feed.watch()).await.unwrap_or_default() });
    }
    tokio::select! {
        () = listed.cancelled() => {}
        () = shutdown.cancelled() => {}
    }
    if let Some(lookout) = &ctx.lookout {
        for source in health.sources() {
            let watch = Watch {
                ctx: Arc::clone(&ctx),
                lookout: Arc::clone(lookout),
                health: Arc::clone(&health),
                source,
            };
            let shutdown = shutdown.clone();
            tasks.spawn(async move { shutdown.run_until_cancelled(watch.run()).await.unwrap_or_default() });
        }
    }
    ctx.queue.open();
    for _ in 0..ctx.settings.concurrency.max(1) {
        tasks.spawn(work(Arc::clone(&ctx), shutdown.clone()));
    }
    shutdown.cancelled().await;
    health.close();
    ctx.stop();
    let until = ctx.clock.uptime().saturating_add(ctx.settings.grace);
    let rest = async { while tasks.join_next().await.is_some() {} };
    tokio::join!(rest, Box::pin(save_what_is_held(&ctx, until)));
    // A turn that ended meanwhile may have left one more.
    Box::pin(save_what_is_held(&ctx, until)).await;
}

/// One watch, of one namespace or of all.
struct Feed {
    ctx: Arc<Context>,
    health: Arc<Health>,
    source: Option<String>,
    listed: CancellationToken,
}

impl Feed {
    async fn watch(self) {
        let client = self.ctx.cluster.client();
        let api: Api<Notice> = match &self.source {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let seconds = u32::try_from(self.ctx.settings.watch_request.as_secs()).unwrap_or(u32::MAX);
        let config = watcher::Config::default().page_size(PAGE_SIZE).timeout(seconds.max(1));
        let mut events = watcher(api, config).boxed();
        let mut round = 0_u32;
        let mut was_listed = false;
        let mut trouble = Trouble::none(PAUSES);
        loop {
            let now = self.ctx.clock.uptime();
            let event = tokio::select! {
                event = events.next(), if trouble.pause(now).is_zero() => event,
                () = self.ctx.clock.sleep(trouble.glance(now)) => {
                    self.glance(&mut trouble);
                    continue;
                }
            };
            match event {
                None => return,
                Some(Ok(event)) => {
                    // A listing begins before the server is asked for it, so that its begin says nothing of the server.
                    if !matches!(event, Event::Init) {
                        self.health.answered(self.source.as_deref());
                        if trouble.end() {
                            tracing::info!("the watch works again");
                        }
                    }
                    self.take(event, &mut round, &mut was_listed);
                }
                Some(Err(error)) => {
                    self.glance(&mut trouble);
                    self.fail(&error, &mut trouble);
                }
            }
        }
    }

    /// A server that is away for long is told of once; `/readyz` says how it is now.
    fn fail(&self, error: &watcher::Error, trouble: &mut Trouble) {
        self.health.failed(self.source.as_deref());
        let error = causes(error);
        if trouble.begin(self.ctx.clock.uptime(), self.ctx.draw_share()) {
            tracing::warn!(%error, "the watch failed; it is started again until it works");
        } else {
            tracing::debug!(%error, "the watch failed again");
        }
    }

    /// That it works again may be told by an answer that brings no event.
    fn glance(&self, trouble: &mut Trouble) {
        if self.health.sees(self.source.as_deref()) && trouble.end_quietly(self.ctx.clock.uptime()) {
            tracing::info!("the watch works again");
        }
    }

    fn take(&self, event: Event<Notice>, round: &mut u32, was_listed: &mut bool) {
        let (ctx, queue) = (&self.ctx, &self.ctx.queue);
        match event {
            Event::Init => *round = round.wrapping_add(1),
            // A resource that a later listing shows for the first time was created while the watch was away.
            Event::InitApply(notice) => ctx.apply(&notice, !*was_listed, *round),
            Event::Apply(notice) => ctx.apply(&notice, false, *round),
            Event::Delete(notice) => self.ctx.deleted(&notice.key()),
            Event::InitDone => {
                let is_ours = |namespace: &str| self.source.as_ref().is_none_or(|source| source == namespace);
                for key in queue.unseen(*round, is_ours) {
                    self.ctx.deleted(&key);
                }
                *was_listed = true;
                if self.health.listed(self.source.as_deref()) {
                    self.listed.cancel();
                    let seconds = self.ctx.cloud.backlog(queue.overdue()).as_secs();
                    tracing::info!(
                        resources = queue.len(),
                        seconds,
                        "all resources are known; looking at each of them takes about so many seconds"
                    );
                }
            }
        }
    }
}

/// Takes turns until shutdown; a turn that has begun comes to its end.
async fn work(ctx: Arc<Context>, shutdown: CancellationToken) {
    while let Some(turn) = shutdown.run_until_cancelled(next_turn(&ctx)).await {
        take_turn(&ctx, turn).await;
    }
}

/// The next turn: one that saves a code which nobody else has comes before all others, and a replica that does not lead takes
/// no others.
pub async fn next_turn(ctx: &Context) -> Turn {
    loop {
        let leads = ctx.leadership.is_held();
        let turn = async {
            loop {
                if let Some(turn) = ctx.held().iter().find_map(|(key, _)| ctx.queue.pop_one(key)) {
                    return turn;
                }
                if leads {
                    return ctx.queue.next().await;
                }
                ctx.clock.sleep(HELD_RETRY.0).await;
            }
        };
        tokio::select! {
            turn = turn => return turn,
            () = ctx.leadership.changed(leads) => {}
        }
    }
}

/// One turn: a pass over the resource, and when its next turn comes. A panic in it is a failure of that resource and of
/// nothing else.
pub async fn take_turn(ctx: &Arc<Context>, turn: Turn) {
    let key = turn.key.clone();
    let nudged = turn.nudged;
    ctx.metrics.waited(ctx.waited(&turn));
    let span = span_of(&key);
    tracing::trace!(parent: &span, nudged, waited = ?turn.waited, "its turn begins");
    let outcome = pass(ctx, turn, &span).await;
    let _in_span = span.enter();
    match outcome {
        Ok(Ok(Some(next))) => ctx.queue.done(&key, next.after, next.nudged),
        Ok(Ok(None)) => ctx.finished(&key),
        Ok(Err(error)) => {
            tracing::warn!(category = error.category(), error = %causes(&error), "the pass failed");
            ctx.queue.failed(&key, nudged, |failures| pause_after(ctx, failures));
        }
        Err(error) => {
            tracing::error!(panicked = error.is_panic(), "the pass broke; this is a bug");
            ctx.queue.failed(&key, nudged, |failures| pause_after(ctx, failures));
        }
    }
}

/// One pass on a task of its own, so that a panic ends that task only.
async fn pass(ctx: &Arc<Context>, turn: Turn, span: &Span) -> Result<Result<Option<Next>, Error>, JoinError> {
    let since = ctx.clock.uptime();
    let task = tokio::spawn({
        let ctx = Arc::clone(ctx);
        async move { Box::pin(reconcile(&ctx, &turn)).await }.instrument(span.clone())
    });
    let outcome = task.await;
    let took = ctx.clock.uptime().saturating_sub(since);
    match &outcome {
        Ok(outcome) => ctx.metrics.reconciled(outcome.as_ref().map(drop), took),
        Err(_) => ctx.metrics.panicked(took),
    }
    outcome
}

/// Tries to save codes that only this process holds, up to the uptime `until`.
async fn save_what_is_held(ctx: &Arc<Context>, until: Duration) {
    loop {
        let held = ctx.held();
        if held.is_empty() {
            return;
        }
        if ctx.clock.uptime() >= until {
            for (key, fingerprint) in held {
                let _in_span = span_of(&key).entered();
                tracing::error!(
                    %fingerprint,
                    "stopping with a code that is not in its Secret; the next start finds it by reading the app"
                );
            }
            return;
        }
        // A turn that is under way saves its own.
        for (key, _) in held.into_iter().filter(|(key, _)| !ctx.queue.is_running(key)) {
            let turn = Turn {
                key: key.clone(),
                nudged: true,
                waited: Duration::ZERO,
            };
            let span = span_of(&key);
            let outcome = pass(ctx, turn, &span).await;
            let _in_span = span.enter();
            match outcome {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(error = %causes(&error), "the code is not saved yet");
                }
                Err(error) => {
                    tracing::error!(panicked = error.is_panic(), "the pass broke; this is a bug");
                }
            }
        }
        ctx.clock.sleep(Duration::from_millis(500)).await;
    }
}
