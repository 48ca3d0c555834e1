//! One effect for each step. What it learns goes into the pass; what it cannot do is either learned too or an error.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use secrecy::SecretString;

use super::observe::{Pass, asker, identity, look_again, readable, sibling};
use super::{Context, Error, cluster::ClusterError};
use crate::api::{Outcome, Reason};
use crate::ids::{AppIdentity, Fingerprint};
use crate::intent::{Call, Intent, Verdict};
use crate::modelarts::{App, AppCode, AppType, Caller, CloudError, CloudErrorKind, Credentials, Echo, Target, scrub};
use crate::plan::{AppReading, Attempt, Cloud, Failure, Held, Question, Settling, WriteReason};
use crate::secret::{CodeChange, OurSecret, Record, SecretView, new_secret, patch, view};
use crate::status::{BACKOFF_CAP, Happened};
use crate::telemetry::causes;

/// An app holds five codes at most, so it has at most four other owners.
const MOST_SIBLINGS: usize = 4;
/// How soon a Secret that a person may mend is looked at again.
const CREDENTIALS_RETRY: SignedDuration = SignedDuration::from_secs(60);
/// Tries of one write that fails in a way that may pass, within one pass.
const WRITE_TRIES: u32 = 3;
/// Writes of a Secret that may meet somebody else's change within one pass; after that the pass is repeated later.
const MOST_CONFLICTS: u32 = 3;

/// Reads the credentials, the siblings' Secrets and the app, in this order.
pub(super) async fn ask_cloud(ctx: &Context, pass: &mut Pass) -> Result<(), Error> {
    let Some(validated) = pass.validated.clone() else {
        return Ok(());
    };
    if pass.app_guard.is_none() {
        pass.app_guard = Some(ctx.app_lock(&validated.app).lock_owned().await);
    }
    let secret = ctx.cluster.secret(pass.key.namespace(), &validated.credentials).await;
    let secret = readable(secret).map_err(|source| Error::Cluster {
        doing: "read the credentials Secret",
        source,
    })?;
    let may_not = |why| format!("the operator may not read it: {why}");
    let secret = secret.map_err(may_not);
    let caller = match secret
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|secret| credentials(secret.as_ref()))
    {
        Ok(credentials) => Caller {
            source: format!("{}/{}", pass.key.namespace(), validated.credentials),
            version: version(secret.as_ref().ok().and_then(Option::as_ref)),
            credentials,
        },
        Err(lack) => {
            pass.observed.cloud = Cloud::Failed(lacking(&validated.credentials, &lack));
            return Ok(());
        }
    };
    let target = Target {
        endpoint: validated.endpoint.clone(),
        app: validated.app.clone(),
        workspace: validated.workspace.clone(),
        caller,
    };
    if let Some(failure) = read_siblings(ctx, pass, &target.app).await? {
        pass.observed.cloud = Cloud::Failed(failure);
        return Ok(());
    }
    let answer = ctx.cloud.show_app(&target).await;
    pass.target = Some(target);
    match answer {
        Ok(app) => {
            pass.echo = Echo {
                name: app.name.clone().unwrap_or_default(),
                remark: validated.app_remark.clone().or_else(|| app.remark.clone()),
            };
            take_in(ctx, pass, app);
        }
        Err(error) => {
            tracing::debug!(
                error = %causes(&error),
                category = error.category(),
                "the app was not read"
            );
            pass.observed.cloud = failed(&error, pass);
        }
    }
    Ok(())
}

/// What credentials that cannot be used mean for the resource.
fn lacking(secret: &str, lack: &str) -> Failure {
    Failure {
        reason: Reason::CredentialsMissing,
        message: format!("Credentials Secret {secret}: {lack}."),
        request_id: None,
        is_final: true,
        after: Some(CREDENTIALS_RETRY),
    }
}

/// Reads the other resources of the app. Returns why that is not allowed, if so: without them nothing is safe to decide.
async fn read_siblings(ctx: &Context, pass: &mut Pass, app: &AppIdentity) -> Result<Option<Failure>, Error> {
    let failed = |source| Error::Cluster {
        doing: "read another resource of the app",
        source,
    };
    let mut siblings = Vec::new();
    for neighbour in ctx.queue.neighbours(&pass.key, MOST_SIBLINGS) {
        let namespace = neighbour.key.namespace();
        let secret = ctx.cluster.secret(namespace, &neighbour.target).await;
        let secret = match readable(secret).map_err(failed)? {
            Ok(secret) => secret,
            Err(why) => {
                return Ok(Some(Failure {
                    reason: Reason::Waiting,
                    message: format!(
                        "The operator may not read the Secret of another resource on this app: {why}. Mend its rights."
                    ),
                    request_id: None,
                    is_final: false,
                    after: None,
                }));
            }
        };
        let Some(them) = ctx.cluster.rotation(&neighbour.key).await.map_err(failed)? else {
            continue;
        };
        if let Some(us) = &pass.resource {
            siblings.extend(sibling(us, &them, secret.as_ref(), app));
        }
    }
    pass.observed.siblings = siblings;
    Ok(None)
}

/// Makes a reading of what the cloud said; the codes themselves stay in the pass.
fn take_in(ctx: &Context, pass: &mut Pass, app: App) {
    let Some(validated) = &pass.validated else { return };
    let mut codes: Vec<Fingerprint> = Vec::with_capacity(app.codes.len());
    let mut unaddressable = Vec::new();
    for code in app.codes {
        let print = code.fingerprint(&validated.app);
        codes.push(print);
        if !code.is_addressable() {
            unaddressable.push(print);
        }
        pass.codes.insert(print, code);
    }
    codes.sort_unstable();
    codes.dedup();
    pass.observed.uptime = ctx.uptime();
    pass.observed.cloud = Cloud::Read(AppReading {
        name: app.name,
        is_supported: !matches!(app.app_type, Some(AppType::Other(_))),
        is_owned: app.owner.zip(app.caller).map(|(owner, caller)| owner == caller),
        updated_at: app.updated_at,
        codes,
        unaddressable,
        masked: app.masked,
    });
}

fn version(secret: Option<&Secret>) -> String {
    let meta = secret.map(|secret| &secret.metadata);
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    format!(
        "{}/{}",
        text(meta.and_then(|m| m.uid.as_ref())),
        text(meta.and_then(|m| m.resource_version.as_ref()))
    )
}

/// The credentials in a Secret, or what it lacks.
fn credentials(secret: Option<&Secret>) -> Result<Credentials, String> {
    let secret = secret.ok_or("it does not exist; create it in this namespace")?;
    let field = |key: &str| -> Option<String> {
        let value = secret.data.as_ref()?.get(key)?;
        let text = std::str::from_utf8(&value.0).ok()?.trim();
        (!text.is_empty()).then(|| text.to_owned())
    };
    if let (Some(access_key), Some(secret_key)) = (field("accessKey"), field("secretKey")) {
        let security_token = field("securityToken").map(SecretString::from);
        return Ok(Credentials::Keys {
            access_key,
            secret_key: secret_key.into(),
            security_token,
        });
    }
    if let (Some(domain_name), Some(user_name), Some(password)) =
        (field("domainName"), field("userName"), field("password"))
    {
        return Ok(Credentials::Password {
            domain_name,
            user_name,
            password: password.into(),
        });
    }
    field("token")
        .map(|token| Credentials::Token(token.into()))
        .ok_or_else(|| "it needs accessKey and secretKey, or domainName, userName and password, or token".to_owned())
}

/// What a failed call leaves to know.
fn failed(error: &CloudError, pass: &Pass) -> Cloud {
    match error.kind {
        CloudErrorKind::Postponed { after } => Cloud::Postponed(SignedDuration::try_from(after).unwrap_or(BACKOFF_CAP)),
        _ => Cloud::Failed(failure(error, pass)),
    }
}

/// What a failed call means for the resource, in words for the person who must act.
fn failure(error: &CloudError, pass: &Pass) -> Failure {
    let (app, credentials) = match &pass.validated {
        Some(validated) => (validated.app.app_id.to_string(), validated.credentials.clone()),
        None => Default::default(),
    };
    let said = &error.message;
    let soon = Some(CREDENTIALS_RETRY);
    let (reason, message, is_final, after) = match &error.kind {
        CloudErrorKind::CredentialsRejected => (
            Reason::CredentialsRejected,
            format!(
                "The cloud refuses the credentials in Secret {credentials}: {said}. Correct them; no restart is needed."
            ),
            true,
            soon,
        ),
        CloudErrorKind::LockedOut { .. } => (
            Reason::CredentialsRejected,
            format!(
                "The credentials in Secret {credentials} were refused, and are left alone for some minutes so that the key is not locked. Correct them; no restart is needed."
            ),
            true,
            soon,
        ),
        CloudErrorKind::NotAuthorized => (
            Reason::NotAuthorized,
            format!(
                "The caller of Secret {credentials} may not act on app {app}: {said}. Use the IAM user that created the app, with ModelArts rights in its project."
            ),
            true,
            None,
        ),
        CloudErrorKind::AppNotFound | CloudErrorKind::NotFound => (
            Reason::AppNotFound,
            format!(
                "The cloud knows no app {app} in this project, or does not show it to the caller of Secret {credentials}. Check spec.projectId, spec.appId and the region, and use the IAM user that created the app."
            ),
            true,
            None,
        ),
        CloudErrorKind::Refused => (
            Reason::InvalidSpec,
            format!("The cloud refuses the request for app {app}: {said}. Correct the spec."),
            true,
            None,
        ),
        CloudErrorKind::Throttled { retry_after } => {
            let after = retry_after
                .and_then(|after| SignedDuration::try_from(after).ok())
                .map(|after| after.min(BACKOFF_CAP));
            (
                Reason::Retrying,
                format!("The cloud asks to slow down: {said}."),
                false,
                after,
            )
        }
        CloudErrorKind::NotSent | CloudErrorKind::Postponed { .. } | CloudErrorKind::UnknownOutcome => (
            Reason::Retrying,
            format!("The cloud gave no answer that can be used for app {app}: {said}."),
            false,
            None,
        ),
    };
    Failure {
        reason,
        message,
        request_id: error.request_id.clone(),
        is_final,
        after,
    }
}

/// Creates the target Secret with the record alone.
pub(super) async fn create_secret(ctx: &Context, pass: &mut Pass, name: &str, record: &Record) -> Result<(), Error> {
    if is_gone(ctx, pass).await? {
        return Ok(());
    }
    let body = new_secret(pass.key.namespace(), name, &pass.key.to_string(), record);
    let result = ctx.cluster.create_secret(pass.key.namespace(), &body).await;
    written(ctx, pass, name, result, "create the target Secret").await?;
    // The code is written only after the app was read again, under the version that the new Secret has.
    pass.observed.cloud = Cloud::NotAsked;
    Ok(())
}

/// Whether the resource went since it was read. A patch is fenced by the Secret; only this keeps a Secret from being made
/// for nobody, in all but the instant between the two requests.
async fn is_gone(ctx: &Context, pass: &mut Pass) -> Result<bool, Error> {
    let fresh = ctx.cluster.rotation(&pass.key).await;
    let fresh = fresh.map_err(|source| Error::Cluster {
        doing: "read the resource again",
        source,
    })?;
    let uid = &pass.observed.resource.uid;
    let is_there = fresh
        .is_some_and(|fresh| fresh.metadata.uid.as_ref() == Some(uid) && fresh.metadata.deletion_timestamp.is_none());
    if !is_there {
        look_again(ctx, pass).await?;
    }
    Ok(!is_there)
}

/// Writes the intent under the fence. Only then may the call be made, and only promptly.
pub(super) async fn write_intent(ctx: &Context, pass: &mut Pass, name: &str, record: Record) -> Result<(), Error> {
    let (Some(target), Some(intent)) = (pass.target.clone(), record.intent.clone()) else {
        return Err(Error::UnknownCode);
    };
    // Waiting for the limiter comes first: a marked call goes out at once or never.
    if let Err(error) = ctx.cloud.admit(&target).await {
        pass.observed.cloud = failed(&error, pass);
        return Ok(());
    }
    let attempt = Attempt::of(&intent);
    let namespace = pass.key.namespace().to_owned();
    let resource = pass.key.to_string();
    // Others may see the mark from the moment it is applied, which is some time before its answer is here.
    let marked_at = ctx.clock.uptime();
    let (result, replaced) = match pass.secret(name).clone() {
        SecretView::Ours(OurSecret {
            resource_version,
            record: old,
            ..
        }) => {
            let patch = patch(&resource_version, &resource, &record, None);
            (ctx.cluster.patch_secret(&namespace, name, &patch).await, old.intent)
        }
        _ if is_gone(ctx, pass).await? => return Ok(()),
        _ => {
            let secret = new_secret(&namespace, name, &resource, &record);
            (ctx.cluster.create_secret(&namespace, &secret).await, None)
        }
    };
    let is_written = written(ctx, pass, name, result, "write the intent").await?;
    if is_written {
        pass.marked_at = marked_at;
        // Only a mark that is certainly our own: after a conflict or a lost answer the same number may be another
        // replica's, whose call is on its way.
        pass.observed.memory.not_applied = Some(attempt.clone());
        pass.observed.memory.marked = Some(attempt);
        pass.observed.memory.settling.clear();
        let left = replaced
            .filter(|old| old.is_open() && old.app != intent.app)
            .map(Happened::Abandoned);
        pass.happened.extend(left);
        tracing::info!(
            rotation_id = %intent.rotation_id, app_id = %intent.app.app_id, trigger = intent.trigger.as_str(),
            attempt = intent.attempt, "rotation marked"
        );
    }
    Ok(())
}

/// Makes the one call that was just marked.
pub(super) async fn mutate(ctx: &Context, pass: &mut Pass, intent: &Intent) -> Result<(), Error> {
    pass.observed.memory.marked = None;
    let is_prompt = ctx.clock.uptime().saturating_sub(pass.marked_at) <= ctx.settings.prompt;
    if !is_prompt || !ctx.may_mutate() {
        pass.observed.may_mutate = ctx.may_mutate();
        return Ok(()); // `not_applied` still says that it was never made
    }
    let target = pass.target.clone().ok_or(Error::UnknownCode)?;
    // Only a reset names the base, and only a base that this pass has read; an added code needs none.
    let base = match (intent.call, intent.base) {
        (Call::Add, _) => None,
        (Call::Reset, base) => {
            let base = base.and_then(|base| pass.codes.get(&base).cloned());
            Some(base.ok_or(Error::UnknownCode)?)
        }
    };
    pass.observed.memory.not_applied = None;
    let answer = match &base {
        Some(code) => ctx.cloud.reset_code(&target, code, &pass.echo).await,
        None => ctx.cloud.add_code(&target, &pass.echo).await,
    };
    let answered_at = ctx.clock.uptime();
    match answer {
        Ok(app) => {
            let is_masked = app.masked;
            take_in(ctx, pass, app);
            if is_masked {
                // The change took effect, and only a read may ask for codes in plain text.
                pass.observed.cloud = Cloud::NotAsked;
            } else {
                hold(pass, intent, answered_at);
            }
        }
        Err(error) => {
            tracing::warn!(
                error = %causes(&error), category = error.category(), request_id = error.request_id,
                rotation_id = %intent.rotation_id, app_id = %intent.app.app_id, "the call did not succeed"
            );
            // "Not found" while the base is listed is a contradiction, not a proof. Taken for one, the call would be made
            // again at once, and again; so it is settled by reading and paced like an unknown outcome.
            if error.is_not_applied() && error.kind != CloudErrorKind::NotFound {
                pass.observed.memory.not_applied = Some(Attempt::of(intent));
            }
            pass.observed.cloud = match error.kind {
                CloudErrorKind::UnknownOutcome | CloudErrorKind::NotFound => Cloud::NotAsked,
                _ => failed(&error, pass),
            };
        }
    }
    Ok(())
}

/// Keeps a code that the answer told, until it is in the Secret.
fn hold(pass: &mut Pass, intent: &Intent, answered_at: Duration) {
    let Cloud::Read(app) = &pass.observed.cloud else { return };
    let claimed: Vec<Fingerprint> = pass
        .observed
        .siblings
        .iter()
        .flat_map(|s| s.holds.iter().copied())
        .collect();
    let reading = crate::intent::Reading {
        listed: &app.codes,
        updated_at: app.updated_at,
        claimed: &claimed,
    };
    if let Verdict::Ours(code) = intent.resolve(reading)
        && let Some(value) = pass.codes.get(&code)
    {
        pass.held = Some((value.clone(), answered_at));
        pass.observed.memory.held = Some(Held {
            intent: intent.clone(),
            code,
        });
    }
}

/// Writes a code and the record that goes with it, in one write under the fence.
pub(super) async fn write_code(
    ctx: &Context,
    pass: &mut Pass,
    name: &str,
    code: Fingerprint,
    record: Record,
    why: WriteReason,
) -> Result<(), Error> {
    let value: AppCode = match (pass.codes.get(&code), &pass.observed.memory.held, &pass.held) {
        (Some(value), _, _) => value.clone(),
        (None, Some(held), Some((value, _))) if held.code == code => value.clone(),
        _ => return Err(Error::UnknownCode),
    };
    let SecretView::Ours(OurSecret {
        resource_version,
        code: was,
        ..
    }) = pass.secret(name).clone()
    else {
        return look_again(ctx, pass).await;
    };
    let Some(validated) = pass.validated.clone() else {
        return Err(Error::UnknownCode);
    };
    let is_target = name == validated.target.name;
    let shown = pass.observed.status.target.clone().filter(|shown| shown.name == name);
    let shown_key = shown.as_ref().map(|shown| shown.key.as_str());
    let key = &validated.target.key;
    let change = CodeChange {
        // A Secret that spec no longer names keeps the key that its readers know.
        key: shown_key.filter(|_| !is_target).unwrap_or(key),
        former_key: shown_key.filter(|_| is_target),
        code: &value,
    };
    let patch = patch(&resource_version, &pass.key.to_string(), &record, Some(change));
    let mut tries = 0;
    let result = loop {
        let result = ctx.cluster.patch_secret(pass.key.namespace(), name, &patch).await;
        tries += 1;
        match result {
            // Should an earlier try have been applied after all, this one meets a conflict, and all is read again.
            Err(ClusterError::Timeout | ClusterError::Failed(_)) if tries < WRITE_TRIES => {
                ctx.clock.sleep(Duration::from_millis(100) * 4_u32.pow(tries)).await;
            }
            result => break result,
        }
    };
    let is_written = written(ctx, pass, name, result, "write the code into the Secret").await?;
    if is_written {
        let rotation = record.intent.filter(|_| why == WriteReason::Persist);
        let exposure = pass
            .held
            .as_ref()
            .filter(|_| pass.observed.memory.held.as_ref().is_some_and(|held| held.code == code));
        let exposure = exposure.map(|(_, answered_at)| ctx.clock.uptime().saturating_sub(*answered_at));
        if let Some(intent) = &rotation {
            let outcome = intent.outcome.unwrap_or(Outcome::Recovered);
            ctx.metrics.rotated(intent.trigger, intent.strategy, outcome, exposure);
        }
        let exposure_millis = exposure.and_then(|exposure| i64::try_from(exposure.as_millis()).ok());
        tracing::info!(
            fingerprint = %code.short(), ?why, number = record.number,
            rotation_id = rotation.as_ref().map(|intent| tracing::field::display(intent.rotation_id.clone())),
            "code written into the Secret"
        );
        if why == WriteReason::Persist {
            pass.observed.memory.held = None;
            pass.held = None;
        }
        pass.observed.memory.settling.clear();
        pass.in_secret = Some(value).filter(|_| validated.plaintext && is_target);
        // Only the record was brought up to date, which is nothing to tell.
        if why != WriteReason::Repair || was != Some(code) {
            pass.happened.push(Happened::Wrote {
                code,
                why,
                intent: rotation,
                exposure_millis,
            });
        }
    }
    Ok(())
}

/// Takes in the outcome of a write to a Secret. Returns whether it was written.
async fn written(
    ctx: &Context,
    pass: &mut Pass,
    name: &str,
    result: Result<Secret, ClusterError>,
    doing: &'static str,
) -> Result<bool, Error> {
    match result {
        Ok(secret) => {
            let Some(validated) = pass.validated.clone() else {
                return Ok(true);
            };
            let former = pass.observed.status.app.as_ref().and_then(identity);
            let key = pass.key.to_string();
            let seen = view(Some(&secret), asker(&validated, &key, former.as_ref()));
            if name == pass.observed.target {
                pass.observed.secret = seen;
            } else {
                pass.observed.former = seen;
            }
            Ok(true)
        }
        // Somebody moved: what was decided rests on something that is no longer so.
        Err(source @ (ClusterError::Conflict | ClusterError::NotFound)) => {
            pass.conflicts += 1;
            if pass.conflicts >= MOST_CONFLICTS {
                return Err(Error::Cluster { doing, source });
            }
            look_again(ctx, pass).await.map(|()| false)
        }
        Err(ClusterError::Refused(why)) => {
            let codes: Vec<&str> = pass.codes.values().map(AppCode::expose).collect();
            pass.observed.secret_refused = Some(scrub(&why, &codes));
            Ok(false)
        }
        Err(source) => Err(Error::Cluster { doing, source }),
    }
}

/// Remembers a negative and the reading that it rests on.
pub(super) fn begin_settling(ctx: &Context, pass: &mut Pass, question: Question) {
    let codes = pass.observed.reading().map(|app| app.codes.clone()).unwrap_or_default();
    pass.observed.uptime = ctx.uptime();
    pass.observed.memory.begin_settling(Settling {
        question,
        since: pass.observed.uptime,
        codes,
    });
}

/// Forgets a code that can no longer be saved.
pub(super) fn drop_held(pass: &mut Pass) {
    if let Some(held) = pass.observed.memory.held.take() {
        tracing::warn!(
            fingerprint = %held.code.short(), rotation_id = %held.intent.rotation_id, app_id = %held.intent.app.app_id,
            "a code was not saved: something newer is recorded, or the cloud lists it no more"
        );
    }
    pass.held = None;
}
