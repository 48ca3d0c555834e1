//! Reads what a decision rests on. Changes nothing.

use std::collections::HashMap;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tokio::sync::OwnedMutexGuard;

use super::others::{created, keeper};
use super::{ClusterError, Context, Error, Key, Remembered, Turn, Unshown};
use crate::api::{
    ADOPT_FINGERPRINT, AppCodeRotation, AppCodeRotationStatus, AppStatus, FINALIZER, ROTATE_REQUESTED_AT, Strategy,
    TargetStatus,
};
use crate::ids::{AppId, AppIdentity, Fingerprint, ProjectId};
use crate::intent::{Intent, furthest};
use crate::modelarts::{AppCode, Echo, Target};
use crate::plan::{Cloud, Handover, Limits, Memory, Observed, Refusal, ResourceView, SeedView, Wanted};
use crate::remedy::{Kubectl, tell};
use crate::secret::{Asker, NUMBER_LIMIT, OurSecret, SecretView, code_in, view};
use crate::status::Happened;
use crate::validate::{Problem, Seed, Validated, validate};
use crate::workload::{RestartTarget, Rollout};

/// One pass over one resource: what was observed, and what only the shell may hold.
pub(super) struct Pass {
    pub(super) key: Key,
    pub(super) observed: Observed,
    /// The resource as it was read; none once it is gone.
    pub(super) resource: Option<AppCodeRotation>,
    pub(super) validated: Option<Validated>,
    /// Codes that the cloud listed in this pass.
    pub(super) codes: HashMap<Fingerprint, AppCode>,
    /// The code in the target Secret, to be tried and for a status in plain text.
    pub(super) in_secret: Option<AppCode>,
    /// Name and remark of the app, to be sent back as they are.
    pub(super) echo: Echo,
    /// Whom the cloud was asked for.
    pub(super) target: Option<Target>,
    /// The code of `observed.memory.held`, and when the cloud told it.
    pub(super) held: Option<(AppCode, Duration)>,
    /// Since when all of this is read: nothing is older than that.
    pub(super) read_at: Duration,
    /// Whether this replica still led when all of this had been read. What is read later may be another one's work already.
    pub(super) led: bool,
    /// When the attempt in `observed.memory.marked` was marked.
    pub(super) marked_at: Duration,
    pub(super) happened: Vec<Happened>,
    /// Workloads of this rotation that were not restarted although this pass has tried, and why.
    pub(super) in_vain: Vec<(RestartTarget, Rollout)>,
    /// Writes of a Secret that met somebody else's change.
    pub(super) conflicts: u32,
    pub(super) app_guard: Option<OwnedMutexGuard<()>>,
    /// The resource that loses the target Secret when this one writes it.
    pub(super) loser: Option<Key>,
    /// The Secret that was written while status names none.
    pub(super) unshown: Option<Unshown>,
    /// The rotation that this process has marked while status does not tell what came of it.
    pub(super) begun: Option<Intent>,
}

impl Pass {
    /// One that has done nothing yet.
    fn of(key: &Key, observed: Observed) -> Self {
        Self {
            key: key.clone(),
            observed,
            resource: None,
            validated: None,
            codes: HashMap::new(),
            in_secret: None,
            echo: Echo::default(),
            target: None,
            held: None,
            read_at: Duration::ZERO,
            led: false,
            marked_at: Duration::ZERO,
            happened: Vec::new(),
            in_vain: Vec::new(),
            conflicts: 0,
            app_guard: None,
            loser: None,
            unshown: None,
            begun: None,
        }
    }

    /// Every code that this pass knows of: texts of others are shown without them.
    pub(super) fn known_codes(&self) -> Vec<&str> {
        let held = self.held.as_ref().map(|(code, _)| code);
        let codes = self
            .codes
            .values()
            .chain(&self.in_secret)
            .chain(held)
            .map(AppCode::expose);
        let resource = self.resource.as_ref();
        let seed = resource.and_then(|resource| resource.spec.app_code.as_ref());
        let shown = resource.and_then(|resource| resource.status.as_ref()?.app_code.as_ref());
        codes
            .chain(seed.into_iter().chain(shown).map(|code| code.0.as_str()))
            .collect()
    }

    /// Goes on with a rotation that this process has marked, while status does not tell what came of it and no other one was begun
    /// in its place.
    fn take_up(&mut self, begun: Option<Intent>) {
        let observed = &mut self.observed;
        let secrets = [&observed.secret, &observed.former].map(SecretView::ours);
        let recorded = secrets.into_iter().flatten().filter_map(|it| it.record.intent.as_ref());
        let mut told = recorded.chain(&observed.mirror);
        self.begun = begun.filter(|begun| {
            let is_shown = observed.status.rotation_number >= Some(begun.number);
            let is_replaced = told.any(|it| it.rotation_id != begun.rotation_id && it.number >= begun.number);
            let is_its = begun.uid == observed.resource.uid && !observed.resource.deleting;
            is_its && !is_shown && !is_replaced
        });
        let is_wanted = |begun: &&Intent| observed.wanted.as_ref().is_ok_and(|wanted| wanted.app == begun.app);
        let begun = self.begun.as_ref().filter(is_wanted);
        observed.mirror = furthest(observed.mirror.as_ref(), begun).cloned();
    }

    /// Drops what only this pass could use. Returns since when a code is held in memory only, if one is.
    pub(super) fn settle_memory(&mut self) -> Option<Duration> {
        let intent = self.observed.intent();
        let is_open = intent.is_some_and(Intent::is_open);
        let is_on_its_way = intent.is_some_and(Intent::is_undistributed);
        let memory = &mut self.observed.memory;
        memory.marked = None;
        memory.denied = memory.denied.take().filter(|_| is_open);
        memory.unrestarted = memory.unrestarted.take().filter(|_| is_on_its_way);
        let recorded = self.observed.book().map_or(0, |(_, secret)| secret.record.number);
        let memory = &mut self.observed.memory;
        let is_settled = |number| recorded >= number || self.observed.status.rotation_number >= Some(number);
        if memory.held.as_ref().is_some_and(|held| is_settled(held.intent.number)) {
            memory.held = None;
        }
        if memory.held.is_none() {
            self.held = None;
        }
        self.held.as_ref().map(|(_, since)| *since)
    }

    pub(super) fn remembered(&self) -> Remembered {
        Remembered {
            memory: self.observed.memory.clone(),
            held: self.held.clone(),
            validated: self.validated.clone().filter(|_| self.held.is_some()),
            unshown: self.unshown.clone(),
            begun: self.begun.clone(),
        }
    }

    /// What status tells by now need not be remembered. Returns whether anything was.
    pub(super) fn forget_shown(&mut self) -> bool {
        let last = self.observed.intent().filter(|last| !last.is_open());
        let is_over = |begun: &mut Intent| last.is_some_and(|last| last.number >= begun.number);
        let begun = self.begun.take_if(is_over);
        self.unshown.take().is_some() || begun.is_some()
    }

    /// Uid of the resource, as the owner of its Secret; empty once it is gone.
    pub(super) fn owner(&self) -> &str {
        let resource = &self.observed.resource;
        if resource.deleting { "" } else { &resource.uid }
    }

    /// The Secret of that name as this pass knows it.
    pub(super) fn secret(&self, name: &str) -> &SecretView {
        if name == self.observed.target {
            &self.observed.secret
        } else {
            &self.observed.former
        }
    }
}

/// Who asks whether a Secret is theirs; `key` is the resource in whose name it may stand there.
pub(super) fn asker<'a>(
    validated: &'a Validated,
    us: &'a Key,
    uid: &'a str,
    key: &'a str,
    former: Option<&'a AppIdentity>,
    shown: Option<&'a TargetStatus>,
) -> Asker<'a> {
    let shown = shown.filter(|shown| shown.name == validated.target.name);
    Asker {
        us: us.name(),
        uid,
        former_app: former,
        creation: Some(validated.layout.creation),
        deletion: validated.layout.deletion,
        kind: validated.layout.kind(),
        layout: Some(&validated.layout),
        shown_key: shown.map(|shown| shown.key.as_str()),
        ..Asker::of(key, &validated.app, &validated.target.key)
    }
}

/// Reads the Secrets, then the resource. `None` when there is nothing to do for it any more.
pub(super) async fn observe(ctx: &Context, turn: &Turn) -> Result<Option<Pass>, Error> {
    let kept = ctx.recall(&turn.key);
    look(ctx, &turn.key, turn.nudged, kept).await
}

/// Reads all anew in the middle of a pass, because something was found to have changed.
pub(super) async fn look_again(ctx: &Context, pass: &mut Pass) -> Result<(), Error> {
    let kept = Remembered {
        validated: pass.validated.clone(),
        ..pass.remembered()
    };
    let Some(mut fresh) = look(ctx, &pass.key, pass.observed.nudged, kept).await? else {
        // Nothing is to be done for it any more.
        (pass.observed.resource.deleting, pass.observed.resource.has_finalizer) = (true, false);
        pass.observed.memory.held = None;
        return Ok(());
    };
    fresh.happened.append(&mut pass.happened);
    fresh.conflicts = pass.conflicts;
    // The lock is kept for the app that it is for; the spec may name another one by now.
    let app = |pass: &Pass| pass.validated.as_ref().map(|validated| validated.app.clone());
    if app(&fresh) == app(pass) {
        fresh.app_guard = pass.app_guard.take();
        fresh.observed.shown_at = pass.observed.shown_at;
    }
    *pass = fresh;
    Ok(())
}

async fn look(ctx: &Context, key: &Key, nudged: bool, kept: Remembered) -> Result<Option<Pass>, Error> {
    if !ctx.serves(key.namespace()) {
        return Ok(None);
    }
    let read_at = ctx.clock.uptime();
    let (secrets, resource) = read(ctx, key, kept.unshown.as_ref()).await?;
    let is_gone = resource.as_ref().is_none_or(is_going);
    let is_held = resource.as_ref().is_some_and(has_finalizer);
    if is_gone && kept.memory.held.is_none() && !is_held {
        return Ok(None);
    }
    let checked = match (&resource, &kept.validated) {
        (Some(resource), _) => validate(resource, &ctx.settings.rules),
        (None, Some(validated)) => Ok(validated.clone()),
        (None, None) => return Ok(None),
    };
    let wanted = match &checked {
        Ok(validated) => Ok(wanted(validated, read_seed(ctx, key, validated).await?)),
        Err(problems) => Err(refusal(key, problems)),
    };
    // A code that only this process holds is saved as the spec said that it was made for.
    let validated = checked.ok().or(kept.validated);
    let unshown = kept.unshown.filter(|it| it.is_of(resource.as_ref()));
    let status = status(resource.as_ref(), unshown.as_ref());
    let living = resource.as_ref().filter(|_| !is_gone);
    let uid = living.and_then(ResourceExt::uid).unwrap_or_default();
    let former_app = status.app.as_ref().and_then(identity);
    let target = target_name(ctx, key, validated.as_ref());
    let at_target = secrets.get(&target).and_then(|secret| secret.as_ref().ok()?.as_ref());
    let kept_by = keeper(ctx, key, at_target).await?;
    let seed = wanted.as_ref().ok().and_then(|wanted| wanted.seed.fingerprint());
    let see = |name: &str| {
        let (Some(validated), Some(secret)) = (&validated, secrets.get(name)) else {
            return SecretView::Absent;
        };
        let secret = match secret {
            Ok(secret) => secret.as_ref(),
            Err(why) => return SecretView::Forbidden(why.clone()),
        };
        let seen_by = |resource: &str| {
            let asker = asker(
                validated,
                key,
                &uid,
                resource,
                former_app.as_ref(),
                status.target.as_ref(),
            );
            // What spec no longer names is ours only if it says so itself, whoever made it.
            let creation = asker.creation.filter(|_| name == target);
            view(secret, Asker { creation, ..asker })
        };
        match &kept_by {
            Some(keeper) if name == target => {
                let view = seen_by(&keeper.name.to_string());
                keeper.view(resource.as_ref(), secret, &validated.app, seed, view)
            }
            _ => seen_by(&key.to_string()),
        }
    };
    let former = status.target.as_ref().filter(|shown| shown.name != target);
    let former = former.map(|shown| see(&shown.name));
    let secret = see(&target);
    tell_seen(ctx, key, &target, &secret, at_target);
    let in_secret = own_code(validated.as_ref(), at_target, &secret);
    let observed = Observed {
        mirror: mirror(&status),
        limits: limits(ctx, key),
        resource: resource_view(key, resource.as_ref(), is_gone),
        wanted,
        secret,
        target: target.clone(),
        former: former.unwrap_or(SecretView::Absent),
        status,
        cloud: Cloud::NotAsked,
        shown_at: None,
        rollouts: None,
        marked: Vec::new(),
        finalizer_refused: None,
        siblings: Vec::new(),
        is_crowded: false,
        memory: remembered(ctx, kept.memory, is_gone && is_held),
        secret_refused: None,
        nudged,
        may_mutate: ctx.may_mutate(),
        uptime: ctx.uptime(),
        draw: ctx.draw_number(),
    };
    let mut pass = Pass {
        resource,
        validated,
        in_secret,
        held: kept.held,
        read_at,
        led: ctx.leadership.is_held(),
        unshown,
        loser: kept_by.and_then(|keeper| keeper.resource.map(|_| keeper.name)),
        ..Pass::of(key, observed)
    };
    pass.take_up(kept.begun);
    Ok(Some(pass))
}

/// The Secret that spec names, or named when the watch last saw it.
fn target_name(ctx: &Context, key: &Key, validated: Option<&Validated>) -> String {
    validated.map_or_else(|| ctx.queue.target(key), |validated| validated.target.name.clone())
}

/// Tells the watch on Secrets what this pass has seen. A Secret that another resource keeps is seen by that one.
fn tell_seen(ctx: &Context, key: &Key, target: &str, view: &SecretView, secret: Option<&Secret>) {
    if matches!(view, SecretView::Absent) || view.own().is_some() {
        ctx.saw(key.namespace(), target, secret);
    }
}

/// The code that this resource put into its Secret: the status must not show what somebody else keeps there.
fn own_code(validated: Option<&Validated>, secret: Option<&Secret>, view: &SecretView) -> Option<AppCode> {
    let is_own = view.own().is_some_and(OurSecret::is_in_sync);
    let (validated, secret) = validated.zip(secret).filter(|_| is_own)?;
    code_in(secret, &validated.target.key)
}

/// What is remembered of earlier passes, and since when the resource is seen to go while our finalizer holds it.
fn remembered(ctx: &Context, memory: Memory, is_leaving: bool) -> Memory {
    Memory {
        leaving: is_leaving.then(|| memory.leaving.unwrap_or_else(|| ctx.uptime())),
        ..memory
    }
}

/// The intent that status shows. One that status never shows was written there by somebody else.
pub(super) fn mirror(status: &AppCodeRotationStatus) -> Option<Intent> {
    let text = status.rotation.as_ref()?.intent.as_deref()?;
    let intent = Intent::parse(text).ok();
    let is_shown = |intent: &Intent| intent.strategy == Strategy::Overlap || intent.is_undistributed();
    intent.filter(|intent| is_shown(intent) && intent.number <= NUMBER_LIMIT)
}

/// Secrets by name; none where there is no such Secret, and why where it may not be read.
type Secrets = HashMap<String, Result<Option<Secret>, String>>;

/// A Secret that was read, or why it may not be read: that does not pass by itself, so it belongs into status.
pub(super) fn readable(
    read: Result<Option<Secret>, ClusterError>,
) -> Result<Result<Option<Secret>, String>, ClusterError> {
    match read {
        Err(ClusterError::Refused(why)) => Ok(Err(why.to_string())),
        read => read.map(Ok),
    }
}

/// The Secret before the resource, always: then a number in status is never older than the Secret beside it. Which
/// Secrets matter is known for sure only from the resource, so a surprise there means one more round.
async fn read(
    ctx: &Context,
    key: &Key,
    unshown: Option<&Unshown>,
) -> Result<(Secrets, Option<AppCodeRotation>), Error> {
    let failed = |doing| move |source| Error::Cluster { doing, source };
    let mut names = vec![ctx.queue.target(key)];
    loop {
        let mut secrets = Secrets::new();
        for name in names {
            let secret = ctx.cluster.secret(key.namespace(), &name).await;
            secrets.insert(name, readable(secret).map_err(failed("read the target Secret"))?);
        }
        let resource = ctx.cluster.rotation(key).await.map_err(failed("read the resource"))?;
        let Some(resource) = resource else {
            return Ok((secrets, None));
        };
        // A reading that lags may show the one that had its name before, and tells nothing of the one that is there.
        if ctx.queue.is_former(key, created(&resource)) {
            return Err(failed("read the resource that was made again")(ClusterError::Conflict));
        }
        let former = shown_target(&resource, unshown);
        names = std::iter::once(resource.target_name())
            .chain(former.map(|target| target.name))
            .collect();
        names.dedup();
        if names.iter().all(|name| secrets.contains_key(name)) {
            return Ok((secrets, Some(resource)));
        }
    }
}

/// The Secret that a resource has had so far: the one that this process has written, while that says more than status does;
/// else the one that its status names.
pub(super) fn shown_target(resource: &AppCodeRotation, unshown: Option<&Unshown>) -> Option<TargetStatus> {
    let unshown = unshown.filter(|it| it.is_of(Some(resource)));
    match unshown {
        Some(unshown) => Some(unshown.target.clone()),
        None => resource.status.as_ref().and_then(|status| status.target.clone()),
    }
}

/// The status as it stands, with that Secret.
fn status(resource: Option<&AppCodeRotation>, unshown: Option<&Unshown>) -> AppCodeRotationStatus {
    let shown = resource.and_then(|resource| resource.status.clone());
    AppCodeRotationStatus {
        target: resource.and_then(|resource| shown_target(resource, unshown)),
        ..shown.unwrap_or_default()
    }
}

impl Unshown {
    /// Whether it still says more of this resource than its status does: that names no Secret yet or, by another replica that
    /// knew nothing of this one, the one that spec has come to name.
    fn is_of(&self, resource: Option<&AppCodeRotation>) -> bool {
        let is_news = |resource: &AppCodeRotation| {
            let shown = resource.status.as_ref().and_then(|status| status.target.as_ref());
            shown.is_none_or(|shown| shown.name == resource.target_name() && shown.name != self.target.name)
        };
        resource.is_some_and(|resource| resource.metadata.uid.as_ref() == Some(&self.uid) && is_news(resource))
    }
}

/// The operator's limits, with a check period in which the whole fleet can be checked.
fn limits(ctx: &Context, key: &Key) -> Limits {
    let limits = ctx.settings.limits;
    let round = ctx.cloud.round(ctx.queue.fleet(key));
    let round = SignedDuration::try_from(round).unwrap_or(SignedDuration::MAX);
    Limits {
        check_period: limits.check_period.max(round),
        ..limits
    }
}

fn refusal(key: &Key, problems: &[Problem]) -> Refusal {
    let all = Problem::sum_up(problems);
    Refusal {
        reason: all.reason,
        message: tell(&all.message, all.commands(kubectl(key))),
    }
}

fn kubectl(key: &Key) -> Kubectl<'_> {
    Kubectl {
        namespace: key.namespace(),
        name: key.name(),
    }
}

fn resource_view(key: &Key, resource: Option<&AppCodeRotation>, is_gone: bool) -> ResourceView {
    let meta = resource.map(|resource| &resource.metadata);
    ResourceView {
        namespace: key.namespace().to_owned(),
        name: key.name().to_owned(),
        uid: meta.and_then(|meta| meta.uid.clone()).unwrap_or_default(),
        generation: meta.and_then(|meta| meta.generation).unwrap_or_default(),
        deleting: is_gone,
        held_since: meta
            .and_then(|meta| meta.deletion_timestamp.as_ref())
            .filter(|_| resource.is_some_and(has_finalizer))
            .map(|time| time.0),
        has_finalizer: resource.is_some_and(has_finalizer),
        request: annotation(resource, ROTATE_REQUESTED_AT),
        adopt: annotation(resource, ADOPT_FINGERPRINT),
    }
}

fn is_going(resource: &AppCodeRotation) -> bool {
    resource.metadata.deletion_timestamp.is_some()
}

fn has_finalizer(resource: &AppCodeRotation) -> bool {
    resource.finalizers().iter().any(|name| name == FINALIZER)
}

fn annotation(resource: Option<&AppCodeRotation>, key: &str) -> Option<String> {
    let value = resource?.annotations().get(key)?.trim();
    // A longer value than Kubernetes' own limit for labels is no sensible request; it would bloat the Secret.
    (!value.is_empty()).then(|| value.chars().take(256).collect())
}

/// The app that status is about, if what stands there can be one.
pub(super) fn identity(app: &AppStatus) -> Option<AppIdentity> {
    Some(AppIdentity {
        endpoint: app.endpoint.clone(),
        project_id: ProjectId::parse(app.project_id.clone()).ok()?,
        app_id: AppId::parse(app.app_id.clone()).ok()?,
    })
}

/// The seed; one that cannot be read tells why, with what resolves it.
async fn read_seed(ctx: &Context, key: &Key, validated: &Validated) -> Result<SeedView, Error> {
    let known = |code: &AppCode, inline| SeedView::Known {
        fingerprint: code.fingerprint(&validated.app),
        inline,
    };
    let (name, field) = match &validated.seed {
        Seed::None => return Ok(SeedView::None),
        Seed::Inline(code) => return Ok(known(code, true)),
        Seed::Secret { name, key } => (name, key),
    };
    let secret = ctx.cluster.secret(key.namespace(), name).await;
    let secret = readable(secret).map_err(|source| Error::Cluster {
        doing: "read the seed's Secret",
        source,
    })?;
    let code = secret
        .as_ref()
        .map(|secret| secret.as_ref().map(|secret| code_in(secret, field)));
    let kubectl = kubectl(key);
    let told = match code {
        Ok(Some(Some(code))) => return Ok(known(&code, false)),
        Ok(Some(None)) => {
            let lack = format!("Secret {name} holds no app code under key {field}");
            tell(&lack, [kubectl.mend_seed(name, field)])
        }
        Ok(None) => tell(
            &format!("Secret {name} does not exist"),
            [kubectl.make_seed(name, field)],
        ),
        Err(why) => {
            let lack = format!("the operator may not read Secret {name}: {why}");
            tell(&lack, kubectl.install_again())
        }
    };
    Ok(SeedView::Unreadable(told))
}

fn wanted(validated: &Validated, seed: SeedView) -> Wanted {
    Wanted {
        app: validated.app.clone(),
        app_name: validated.app_name.clone(),
        seed,
        schedule: validated.schedule.clone(),
        initial: validated.initial,
        trigger: validated.rotation_trigger.clone(),
        suspend: validated.suspend,
        target: validated.target.clone(),
        handover: Handover {
            strategy: validated.strategy,
            grace: validated.grace,
            waits_for_rollout: validated.waits_for_rollout,
            restarts: validated.restart_targets.clone(),
            restart_delay: validated.restart_delay,
            is_verified: validated.verification.is_some(),
        },
        layout: validated.layout.clone(),
    }
}
