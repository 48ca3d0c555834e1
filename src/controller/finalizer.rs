//! The finalizer, which holds a resource while a second code is in its app.

use kube::ResourceExt;

use super::act::{is_beside, told_of};
use super::cluster::ClusterError;
use super::observe::{Pass, look_again};
use super::written::moved;
use super::{Context, Error};
use crate::api::FINALIZER;
use crate::status::{Happened, has_open_rotation};

/// Puts our finalizer on the resource, or takes it off.
pub(super) async fn hold_resource(ctx: &Context, pass: &mut Pass, is_held: bool) -> Result<(), Error> {
    let Some(resource) = &pass.resource else {
        pass.observed.resource.has_finalizer = is_held;
        return Ok(());
    };
    let others = resource.finalizers().iter().filter(|name| *name != FINALIZER).cloned();
    let finalizers: Vec<String> = others.chain(is_held.then(|| FINALIZER.to_owned())).collect();
    let version = resource.resource_version().unwrap_or_default();
    let left = if is_held { None } else { given_up(pass) };
    match ctx.cluster.set_finalizers(&pass.key, &version, &finalizers).await {
        Ok(fresh) => {
            pass.observed.resource.has_finalizer = is_held;
            pass.resource = Some(fresh);
            pass.happened.extend(left);
            Ok(())
        }
        Err(ClusterError::NotFound) => {
            pass.observed.resource.has_finalizer = false;
            pass.observed.resource.deleting = true;
            Ok(())
        }
        Err(ClusterError::Conflict) => moved(ctx, pass, "set the finalizer").await,
        Err(ClusterError::Refused(why)) => {
            pass.observed.finalizer_refused = Some(why.without(&pass.known_codes()).to_string());
            Ok(())
        }
        Err(source) => {
            // It may be off, with only the answer lost; and then nobody can tell later what it leaves.
            let uid = pass.observed.resource.uid.clone();
            if left.is_some() && look_again(ctx, pass).await.is_ok() && is_let_go(pass, &uid) {
                pass.happened.extend(left);
                return Ok(());
            }
            let doing = "set the finalizer";
            Err(Error::Cluster { doing, source })
        }
    }
}

/// Whether the finalizer is off the resource of this uid, and no other one has come in its place.
fn is_let_go(pass: &Pass, uid: &str) -> bool {
    let resource = &pass.observed.resource;
    resource.uid == uid && !resource.has_finalizer
}

/// The rotation that nobody follows any more once the finalizer is off: the resource goes, or names another app.
fn given_up(pass: &Pass) -> Option<Happened> {
    let observed = &pass.observed;
    if observed.resource.deleting {
        let intent = observed.intent()?;
        let is_open = has_open_rotation(observed);
        return if is_open {
            Some(Happened::Forsaken(intent.clone()))
        } else {
            intent.retires().map(|_| Happened::NotRetired(intent.clone()))
        };
    }
    let app = &observed.wanted.as_ref().ok()?.app;
    // Status shows it until it was told.
    let left = observed.mirror.as_ref().filter(|old| old.app != *app && is_beside(old));
    left.cloned().and_then(told_of)
}
