//! Other resources that claim the same app or Secret: what of them a decision rests on, and whose a Secret is.

use std::mem::take;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;

use super::observe::{Pass, identity, mirror, readable, shown_target};
use super::{Context, Error, Key, Neighbour};
use crate::api::{AppCodeRotation, AppCodeRotationStatus, ConditionType, Reason};
use crate::ids::{AppIdentity, Fingerprint};
use crate::intent::{Call, Intent, furthest};
use crate::plan::{Cloud, Failure, Observed, OpenSibling, Shares, Sibling, Standing};
use crate::secret::{self, Asker, OurSecret, Record, SecretView, view};

/// Other resources that are looked at. An app holds five codes at most, so that more than four others are in each other's
/// way already. Of more than these the youngest do nothing, so that whoever acts has looked at all others who may.
const MOST_SIBLINGS: usize = 32;

/// Reads the other resources of the app. Returns why that is not allowed, if so: without them nothing is safe to decide.
pub(super) async fn read_siblings(ctx: &Context, pass: &mut Pass, app: &AppIdentity) -> Result<Option<Failure>, Error> {
    let mut siblings = Vec::new();
    let neighbours = ctx.queue.neighbours(&pass.key, MOST_SIBLINGS);
    for neighbour in neighbours.nearest {
        match read_sibling(ctx, pass, &neighbour, app).await? {
            Ok(sibling) => siblings.extend(sibling),
            Err(failure) => return Ok(Some(failure)),
        }
    }
    pass.observed.siblings = siblings;
    pass.observed.is_crowded = neighbours.is_crowded;
    Ok(None)
}

/// Reads them once more where the outcome of a rotation is looked for on a list that was just read: what another replica has
/// put on it for one of them since the first reading was marked there before. What they had then stays theirs.
pub(super) async fn read_siblings_again(
    ctx: &Context,
    pass: &mut Pass,
    app: &AppIdentity,
) -> Result<Option<Failure>, Error> {
    let is_open = pass.observed.intent().is_some_and(Intent::is_open);
    if pass.observed.siblings.is_empty() || !is_open {
        return Ok(None);
    }
    let before = take(&mut pass.observed.siblings);
    let failure = read_siblings(ctx, pass, app).await?;
    pass.observed.siblings.extend(before);
    Ok(failure)
}

async fn read_sibling(
    ctx: &Context,
    pass: &Pass,
    neighbour: &Neighbour,
    app: &AppIdentity,
) -> Result<Result<Option<Sibling>, Failure>, Error> {
    let failed = |source| Error::Cluster {
        doing: "read another resource of the app",
        source,
    };
    let namespace = neighbour.key.namespace();
    let read = async |name: &str| readable(ctx.cluster.secret(namespace, name).await).map_err(failed);
    // What another app's resource keeps in its Secret is of no interest.
    let secret = if neighbour.is_on_app {
        read(&neighbour.target).await?
    } else {
        Ok(None)
    };
    let them = ctx.cluster.rotation(&neighbour.key).await.map_err(failed)?;
    let Some((us, them)) = pass.resource.as_ref().zip(them) else {
        return Ok(Ok(None));
    };
    // While it moves to another Secret, its code and what is open are still on the one before.
    let shown = shown_target(&them, ctx.recall(&neighbour.key).unshown.as_ref());
    let former = match shown.filter(|shown| neighbour.is_on_app && shown.name != neighbour.target) {
        Some(shown) => read(&shown.name).await?,
        None => Ok(None),
    };
    let lost = secret.as_ref().err().or(former.as_ref().err());
    if let Some(why) = lost.filter(|_| them.status.as_ref().is_some_and(|status| status.rotation.is_some())) {
        // The resource may be somebody else's: its name is for the administrator's eyes only.
        tracing::warn!(sibling = %neighbour.key, why, "the Secret of a resource with an open rotation may not be read");
        return Ok(Err(Failure {
            reason: Reason::Waiting,
            message: "The operator may not read the Secret of another resource on this app that has an open rotation. \
                      Ask the operator's administrator to mend its rights; its log tells which."
                .into(),
            request_id: None,
            is_final: false,
            after: None,
        }));
    }
    // What else a Secret holds that may not be read is told by status.
    let (secret, former) = (secret.unwrap_or_default(), former.unwrap_or_default());
    let about = |secret| sibling(us, &them, secret, app, neighbour.is_on_app);
    let before = former.as_ref().and_then(|former| about(Some(former)));
    let mut now = about(secret.as_ref());
    if let (Some(now), Some(before)) = (&mut now, before) {
        now.holds.extend(before.holds);
        now.open = now.open.take().or(before.open);
    }
    Ok(Ok(now))
}

/// A sibling's Secret and resource, as far as decisions go.
fn sibling(
    us: &AppCodeRotation,
    them: &AppCodeRotation,
    secret: Option<&Secret>,
    app: &AppIdentity,
    is_on_app: bool,
) -> Option<Sibling> {
    let key = format!("{}/{}", them.namespace()?, them.name_any());
    let code_key = them
        .spec
        .target
        .as_ref()
        .and_then(|target| target.key.clone())
        .unwrap_or_else(|| "appCode".to_owned());
    // Whatever its policy: a Secret that says so is the sibling's.
    let asker = Asker {
        creation: None,
        ..Asker::of(&key, app, &code_key)
    };
    let status = them.status.clone().unwrap_or_default();
    let record = match view(secret, asker) {
        SecretView::Ours(OurSecret { record, .. }) => Some(record),
        _ => None,
    };
    // What a Secret that was deleted has said of a second code still stands in status.
    let mirror = mirror(&status).filter(|intent| intent.app == *app);
    let number = record.as_ref().map_or(0, |record| record.number);
    let number = number.max(status.rotation_number.unwrap_or(0));
    let intent = furthest(
        record.as_ref().and_then(|record| record.intent.as_ref()),
        mirror.as_ref(),
    );
    let open = intent.filter(|intent| intent.is_open() && intent.number > number);
    let holds = record
        .as_ref()
        .and_then(|record| record.fingerprint)
        .into_iter()
        .chain(open.and_then(|intent| intent.base))
        .chain(intent.and_then(Intent::retires))
        .collect();
    let open = open.map(|intent| OpenSibling {
        base: intent.base,
        marked_at: intent.marked_at,
        adds: intent.call == Call::Add,
    });
    let age = |resource: &AppCodeRotation| (created(resource), resource.metadata.uid.clone());
    let is_near = them.namespace() == us.namespace();
    let is_on_secret = is_near && them.target_name() == us.target_name() && !is_stuck(them);
    Some(Sibling {
        name: is_near.then(|| them.name_any()),
        shares: match (is_on_app, is_on_secret) {
            (true, true) => Shares::Both,
            (true, false) => Shares::App,
            (false, true) => Shares::Secret,
            (false, false) => return None, // the watch saw an earlier spec of it
        },
        is_older: age(them) < age(us),
        created: created(them),
        // A look at which the cloud told nothing, and nobody was asked for help, settles nothing of what it claims.
        is_judged: status.condition(ConditionType::Authorized).is_some() || is_stalled(&status),
        standing: match status.condition(ConditionType::Authorized).map(|it| it.status.as_str()) {
            // One that is going does nothing more, and must not hold up others for as long as a finalizer keeps it.
            _ if them.metadata.deletion_timestamp.is_some() && open.is_none() => Standing::Refused,
            Some("True") => Standing::Authorized,
            _ if is_discounted(them) => Standing::Refused,
            _ => Standing::Unknown,
        },
        holds,
        // What another resource has taken over is no longer its own, and a newer record tells more.
        shown: shown_code(&status, app).filter(|_| match &record {
            Some(record) => Some(record.number) <= status.rotation_number,
            None => secret.and_then(secret::keeper).is_none_or(|by| by == key),
        }),
        open,
    })
}

/// The fingerprint of the current code, if status shows one of this app.
fn shown_code(status: &AppCodeRotationStatus, app: &AppIdentity) -> Option<String> {
    let is_its = status
        .app
        .as_ref()
        .and_then(identity)
        .is_some_and(|shown| shown == *app);
    let current = status.current.as_ref().filter(|_| is_its)?;
    Some(current.fingerprint.clone())
}

/// Takes in which codes are others' by their status: a Secret that was deleted, or may not be read, tells of none, and will
/// hold that one again. Whose credentials are refused will not, and must not keep a code alive by a word in status.
pub(super) fn claim_shown(observed: &mut Observed) {
    let Cloud::Read(app) = &observed.cloud else { return };
    let siblings = observed.siblings.iter_mut();
    for sibling in siblings.filter(|sibling| sibling.standing != Standing::Refused) {
        let shown = sibling.shown.as_deref().and_then(|shown| app.named(shown));
        let shown = shown.filter(|code| !sibling.holds.contains(code));
        sibling.holds.extend(shown);
    }
}

/// Whether it cannot make a Secret, so that others need not leave it the name.
fn is_stuck(resource: &AppCodeRotation) -> bool {
    let status = resource.status.clone().unwrap_or_default();
    let is_held = resource.spec.suspend == Some(true) && status.current.is_none();
    is_stalled(&status) || is_held || resource.metadata.deletion_timestamp.is_some()
}

/// Whether nothing counts that it claims: the cloud refuses its credentials, or it was stopped before the cloud was ever asked
/// for it. Whatever its Secret says then, it has begun nothing: that needs a reading first, of which status tells.
pub(super) fn is_discounted(resource: &AppCodeRotation) -> bool {
    let Some(status) = &resource.status else { return false };
    match status.condition(ConditionType::Authorized).map(|it| it.status.as_str()) {
        Some("True") => false,
        Some("False") => true,
        _ => is_stalled(status) && status.observed_generation == resource.metadata.generation,
    }
}

fn is_stalled(status: &AppCodeRotationStatus) -> bool {
    status.is_true(ConditionType::Stalled)
}

pub(super) fn created(resource: &AppCodeRotation) -> Timestamp {
    resource
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(Timestamp::UNIX_EPOCH, |time| time.0)
}

/// Another resource of this namespace that keeps the target Secret.
pub(super) struct Keeper {
    pub(super) name: Key,
    /// None if it is gone or going, or names other Secrets by now.
    pub(super) resource: Option<AppCodeRotation>,
}

impl Keeper {
    /// The Secret as `us` sees it, which is `view` through the keeper's eyes. Of those that name one Secret the oldest
    /// keeps it; a younger keeper gives it up once no rotation of it is open, and one whose credentials the cloud refuses
    /// cannot hold it. A Secret with another app's code is never taken from a keeper that is there: whoever uses it
    /// would be left with a code for the wrong app.
    pub(super) fn view(
        &self,
        us: Option<&AppCodeRotation>,
        secret: Option<&Secret>,
        app: &AppIdentity,
        seed: Option<Fingerprint>,
        view: SecretView,
    ) -> SecretView {
        let claim = self
            .resource
            .as_ref()
            .zip(us)
            .and_then(|(them, us)| sibling(us, them, secret, app, true));
        let gives_way = match &claim {
            Some(claim) => claim.standing == Standing::Refused || (!claim.is_older && claim.open.is_none()),
            None => self.resource.is_none(),
        };
        let claimed = || SecretView::Claimed(self.name.name().to_owned());
        let view = view.strict();
        let SecretView::Ours(secret) = view else {
            return if self.resource.is_some() { claimed() } else { view };
        };
        // What it has not published yet it could not find again.
        let published = self
            .resource
            .as_ref()
            .map(|them| them.status.clone().unwrap_or_default());
        let is_unpublished =
            published.is_some_and(|status| secret.record.number > status.rotation_number.unwrap_or_default());
        if !gives_way || is_unpublished || (self.resource.is_some() && secret.record.app != *app) {
            return claimed();
        }
        // A resource that comes from another Secret, or names a seed that the keeper did not know, brings its own story
        // with it: what the keeper recorded is of no interest, unless it waits for the outcome of a call.
        let known = [secret.record.seed, secret.record.fingerprint];
        let brings_story = us.is_some_and(is_moved) || (seed.is_some() && !known.contains(&seed));
        match &claim {
            Some(claim) if brings_story && claim.open.is_some() => return claimed(),
            None if brings_story && secret.record.open_intent(0).is_some() => {
                return SecretView::Foreign {
                    why: "a rotation is open on it that an AppCodeRotation began which is gone",
                };
            }
            _ => {}
        }
        let record = if brings_story {
            Record {
                recent: secret.record.recent,     // a Secret that changes hands renews nobody's budget
                rendered: secret.record.rendered, // nor does it keep what nobody names any more
                ..Record::new(secret.record.app)
            }
        } else {
            secret.record
        };
        SecretView::Ours(OurSecret {
            is_inherited: true,
            record,
            ..secret
        })
    }
}

/// Whether a resource had another Secret before it was sent to the one that it names now.
fn is_moved(resource: &AppCodeRotation) -> bool {
    let status = resource.status.as_ref().filter(|status| status.current.is_some());
    let former = status.and_then(|status| status.target.as_ref());
    former.is_some_and(|former| former.name != resource.target_name())
}

/// Who keeps the target Secret of `key`, if that is another resource.
pub(super) async fn keeper(ctx: &Context, key: &Key, secret: Option<&Secret>) -> Result<Option<Keeper>, Error> {
    let by = secret.and_then(secret::keeper).and_then(|by| by.split_once('/'));
    let name = by.map(|(namespace, name)| Key::new(namespace, name));
    let Some(name) = name.filter(|name| name != key && name.namespace() == key.namespace()) else {
        return Ok(None);
    };
    let resource = ctx.cluster.rotation(&name).await;
    let resource = resource.map_err(|source| Error::Cluster {
        doing: "read the resource that keeps the target Secret",
        source,
    })?;
    let held = secret.map(ResourceExt::name_any);
    let unshown = ctx.recall(&name).unshown;
    let names_it = |resource: &AppCodeRotation| {
        let shown = shown_target(resource, unshown.as_ref());
        held.as_ref().is_some_and(|held| resource.target_name() == *held)
            || shown.is_some_and(|target| Some(target.name) == held)
    };
    Ok(Some(Keeper {
        name,
        resource: resource.filter(|it| it.metadata.deletion_timestamp.is_none() && names_it(it)),
    }))
}
