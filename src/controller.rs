//! The shell around [`crate::plan`]: look, plan, act until there is nothing to do but wait, then report.
//!
//! Nothing here assumes why it was called, or that an earlier pass came to its end. Effects are thin; everything that
//! is decided is decided in the pure modules.

mod act;
mod ask;
mod cluster;
mod context;
mod distribute;
mod finalizer;
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
mod written;

use std::time::Duration;

pub use self::cluster::{Cluster, ClusterError};
pub use self::context::{Context, Decide, Settings};
use self::context::{Remembered, Unshown, lock};
pub use self::lookout::Lookout;
pub use self::notice::Notice;
pub use self::queue::{Haste, Key, Neighbour, Neighbours, Queue, Turn};
pub use self::run::{next_turn, run, take_turn};
pub use self::signs::{Census, Signs, Why};
use crate::ids::RotationId;
use crate::plan::{Cloud, Observed, Step};
use crate::status::BACKOFF_CAP;

/// More steps than any pass needs; a pass that takes them is a fault of ours and must not spin.
const MOST_STEPS: usize = 32;
/// How soon a pass is repeated while a code is held in memory only: at first, and when that has gone on for long.
const HELD_RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));

/// How soon a resource is looked at again by a process that lost its lead in the middle of a pass, should it lead again then.
const FOLLOWER_RETRY: Duration = Duration::from_secs(60);

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
    /// The same without these codes in what the API server said.
    fn without(self, codes: &[&str]) -> Self {
        match self {
            Self::Cluster { doing, source } => Self::Cluster {
                doing,
                source: source.without(codes),
            },
            other => other,
        }
    }

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
            let error = error.without(&pass.known_codes());
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
        (pass.unshown, pass.begun) = (None, None);
        ctx.remember(&turn.key, pass.remembered());
        let after = if leads { HELD_RETRY.0 } else { FOLLOWER_RETRY };
        let nudged = turn.nudged;
        return Ok(pass.resource.is_some().then_some(Next { after, nudged }));
    }
    // Folds all into status and events (I/O, may fail).
    let wait = report::report(ctx, &pass, &step).await?;
    // Status names the Secret and tells of its code by now, unless nothing was learned.
    if !matches!(step, Step::BackOff { .. }) && pass.forget_shown() {
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
            Step::Hold => finalizer::hold_resource(ctx, pass, true).await?,
            Step::Release => finalizer::hold_resource(ctx, pass, false).await?,
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
