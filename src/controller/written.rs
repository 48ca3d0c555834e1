//! What comes of a write to a Secret: it is tried again, taken in, or what it was decided on is read once more.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::Value;

use super::Error;
use super::cluster::ClusterError;
use super::context::{Context, Unshown};
use super::observe::{Pass, asker, identity, look_again};
use crate::api::{ADOPT_FINGERPRINT, AppCodeRotation, ROTATE_REQUESTED_AT};
use crate::plan::Cloud;
use crate::secret::{Asker, OurSecret, SecretView, view};

/// Tries of one write that fails in a way that may pass, within one pass.
const WRITE_TRIES: u32 = 3;
/// Writes of a Secret that may meet somebody else's change within one pass; after that the pass is repeated later.
const MOST_CONFLICTS: u32 = 3;

/// The app is read again before anything more is done, and the rest too if the resource has changed: what status says is
/// never older than the Secret beside it.
pub(super) async fn read_on(ctx: &Context, pass: &mut Pass) -> Result<(), Error> {
    let fresh = resource_again(ctx, pass).await?;
    let version = |resource: &Option<AppCodeRotation>| resource.as_ref().and_then(ResourceExt::resource_version);
    if version(&fresh) != version(&pass.resource) {
        return look_again(ctx, pass).await;
    }
    pass.observed.cloud = Cloud::NotAsked;
    Ok(())
}

/// Whether the resource still asks for what this pass has read. Others may write their labels and annotations as often as
/// they like.
pub(super) async fn asks_the_same(ctx: &Context, pass: &Pass) -> Result<bool, Error> {
    let asked = |resource: &AppCodeRotation| {
        let meta = &resource.metadata;
        let notes = [ROTATE_REQUESTED_AT, ADOPT_FINGERPRINT].map(|note| resource.annotations().get(note).cloned());
        (
            meta.uid.clone(),
            meta.generation,
            meta.deletion_timestamp.clone(),
            notes,
        )
    };
    let fresh = resource_again(ctx, pass).await?;
    Ok(fresh.as_ref().map(asked) == pass.resource.as_ref().map(asked))
}

pub(super) async fn resource_again(ctx: &Context, pass: &Pass) -> Result<Option<AppCodeRotation>, Error> {
    let fresh = ctx.cluster.rotation(&pass.key).await;
    fresh.map_err(|source| Error::Cluster {
        doing: "read the resource again",
        source,
    })
}

/// Writes a code, and tries again what may pass.
pub(super) async fn insist(ctx: &Context, pass: &Pass, name: &str, patch: &Value) -> Result<Secret, ClusterError> {
    let mut tries = 0;
    loop {
        let result = ctx.cluster.patch_secret(pass.key.namespace(), name, patch).await;
        tries += 1;
        match result {
            // Should an earlier try have been applied after all, this one meets a conflict, and all is read again.
            Err(ClusterError::Timeout | ClusterError::Failed(_)) if tries < WRITE_TRIES => {
                ctx.clock.sleep(Duration::from_millis(100) * 4_u32.pow(tries)).await;
            }
            result => return result,
        }
    }
}

/// Something between us and the store that changes what is written would make us write for ever.
pub(super) fn refuse_if_astray(pass: &mut Pass, name: &str) {
    let is_changed = |secret: &OurSecret| {
        let is_whole = secret.unfit.is_none() && secret.extras.taken.is_none();
        secret.extras.is_astray && is_whole
    };
    let is_astray = pass.secret(name).ours().is_some_and(is_changed);
    if is_astray && name == pass.observed.target {
        let why = "what is written is changed on its way, as by an admission webhook";
        pass.observed.secret_refused = Some(why.to_owned());
    }
}

/// Takes in the outcome of a write to a Secret. Returns whether it was written.
pub(super) async fn written(
    ctx: &Context,
    pass: &mut Pass,
    name: &str,
    result: Result<Secret, ClusterError>,
    doing: &'static str,
) -> Result<bool, Error> {
    match result {
        Ok(secret) => {
            ctx.saw(pass.key.namespace(), name, Some(&secret));
            let Some(validated) = pass.validated.clone() else {
                return Ok(true);
            };
            let former = pass.observed.status.app.as_ref().and_then(identity);
            let key = pass.key.to_string();
            let asker = asker(
                &validated,
                &pass.key,
                pass.owner(),
                &key,
                former.as_ref(),
                pass.observed.status.target.as_ref(),
            );
            let is_target = name == pass.observed.target;
            let creation = asker.creation.filter(|_| is_target);
            let seen = view(Some(&secret), Asker { creation, ..asker });
            if pass.observed.status.target.is_none() {
                let (uid, target) = (pass.observed.resource.uid.clone(), validated.target);
                pass.unshown = Some(Unshown { uid, target });
            }
            if is_target {
                pass.observed.secret = seen;
                // It must not go on saying that it is ready.
                if let Some(loser) = pass.loser.take() {
                    ctx.queue.nudge(&loser);
                }
            } else {
                pass.observed.former = seen;
            }
            Ok(true)
        }
        Err(ClusterError::Conflict | ClusterError::NotFound) => moved(ctx, pass, doing).await.map(|()| false),
        Err(ClusterError::Refused(why)) => {
            pass.observed.secret_refused = Some(why.without(&pass.known_codes()).to_string());
            Ok(false)
        }
        Err(source) => Err(Error::Cluster { doing, source }),
    }
}

/// Somebody moved: what was decided rests on something that is no longer so.
pub(super) async fn moved(ctx: &Context, pass: &mut Pass, doing: &'static str) -> Result<(), Error> {
    pass.conflicts += 1;
    if pass.conflicts < MOST_CONFLICTS {
        let before = Box::new(sight(pass));
        Box::pin(look_again(ctx, pass)).await?;
        // Where nothing looks moved, readings lag behind what refuses the write, and would decide on the same one at once.
        if sight(pass) != *before {
            return Ok(());
        }
    }
    let source = ClusterError::Conflict;
    Err(Error::Cluster { doing, source })
}

/// All that a write of a pass is decided on in the cluster.
fn sight(pass: &Pass) -> (Option<String>, bool, SecretView, SecretView) {
    let version = pass.resource.as_ref().and_then(ResourceExt::resource_version);
    let observed = &pass.observed;
    let is_going = observed.resource.deleting && !observed.resource.has_finalizer;
    (version, is_going, observed.secret.clone(), observed.former.clone())
}
