//! Asks the cloud what the app is like, and puts what comes of it into words.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;

use super::observe::{Pass, readable};
use super::others::{claim_shown, read_siblings, read_siblings_again};
use super::{Context, Error};
use crate::api::Reason;
use crate::ids::Fingerprint;
use crate::intent::Intent;
use crate::modelarts::{App, AppType, Caller, CloudError, CloudErrorKind, Credentials, Echo, Target};
use crate::plan::{AppReading, Cloud, Failure, INSTALL_AGAIN};
use crate::remedy::tell;
use crate::status::BACKOFF_CAP;
use crate::telemetry::causes;
use crate::validate::Validated;

/// How long a pass waits for another one on the same app, and how soon it is repeated if that took longer.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);
const LOCK_RETRY: SignedDuration = SignedDuration::from_secs(5);

/// What the operator's administrator has to correct, or a tenant to do without, where its own credentials do not serve.
const OWN_CREDENTIALS: &str = "The operator's administrator has to correct its Secret with them; or name credentials of your own in spec.credentialsRef.";

/// Reads the credentials, the siblings' Secrets and the app, in this order, and the siblings' once more where a rotation is open.
pub(super) async fn ask_cloud(ctx: &Context, pass: &mut Pass) -> Result<(), Error> {
    let Some(validated) = pass.validated.clone() else {
        return Ok(());
    };
    if pass.app_guard.is_none() {
        let lock = ctx.app_lock(&validated.app).lock_owned();
        tokio::select! {
            biased;
            guard = lock => pass.app_guard = Some(guard),
            // An app whose endpoint hangs must not hold a worker for each of its resources.
            () = ctx.clock.sleep(LOCK_PATIENCE) => {
                pass.observed.cloud = Cloud::Postponed(LOCK_RETRY);
                return Ok(());
            }
        }
    }
    let caller = match caller(ctx, pass, &validated).await? {
        Ok(caller) => caller,
        Err(lack) => {
            pass.observed.cloud = Cloud::Failed(Failure {
                reason: Reason::CredentialsMissing,
                message: lack,
                request_id: None,
                is_final: true,
                after: Some(pass.observed.limits.local_retry()),
            });
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
    if answer.is_ok()
        && let Some(failure) = read_siblings_again(ctx, pass, &target.app).await?
    {
        pass.observed.cloud = Cloud::Failed(failure);
        return Ok(());
    }
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
                request_id = error.request_id,
                "the app was not read"
            );
            pass.observed.cloud = failed(&error, pass);
            // Its code may die meanwhile, so a refusal to show the app is not believed for long.
            let is_open = pass.observed.intent().is_some_and(Intent::is_open);
            if let Cloud::Failed(failure) = &mut pass.observed.cloud
                && failure.is_final
                && is_open
            {
                let limits = &pass.observed.limits;
                let soon = limits.local_retry().saturating_mul(5).min(limits.check_period);
                failure.after.get_or_insert(soon);
            }
        }
    }
    Ok(())
}

/// Who asks the cloud; or what the credentials lack, as a message for the person who must act.
async fn caller(ctx: &Context, pass: &Pass, validated: &Validated) -> Result<Result<Caller, String>, Error> {
    let kubectl = pass.observed.resource.kubectl();
    let Some(name) = &validated.credentials else {
        let caller = ctx.settings.identity.caller();
        return Ok(caller.map_err(|lack| {
            let prose =
                format!("The operator's own credentials: {lack}; nothing is changed meanwhile. {OWN_CREDENTIALS}");
            tell(&prose, kubectl.other_credentials())
        }));
    };
    let secret = ctx.cluster.secret(pass.key.namespace(), name).await;
    let secret = readable(secret).map_err(|source| Error::Cluster {
        doing: "read the credentials Secret",
        source,
    })?;
    let lacks = |what: &str, to_do: &str, commands: &[String]| {
        let prose = format!("Credentials Secret {name}: {what}; nothing is changed meanwhile. {to_do}");
        Err(tell(&prose, commands.iter().cloned()))
    };
    let secret = match secret {
        Ok(Some(secret)) => secret,
        Ok(None) => {
            let make = [kubectl.make_credentials(name)];
            return Ok(lacks("it does not exist", "Create it in this namespace.", &make));
        }
        Err(why) => {
            let what = format!("the operator may not read it: {why}");
            let to_do = format!("Give the operator its rights back: {INSTALL_AGAIN}.");
            return Ok(lacks(&what, &to_do, &kubectl.install_again()));
        }
    };
    // Its token would pass for one of the cloud's, but nobody outside of the cluster may see it.
    if secret.type_.as_deref() == Some("kubernetes.io/service-account-token") {
        let what = "it holds the token of a service account, which is not sent to the cloud";
        let to_do = "Name another Secret in spec.credentialsRef.";
        return Ok(lacks(what, to_do, &kubectl.other_credentials()));
    }
    let field = |key: &str| -> Option<String> {
        let value = secret.data.as_ref()?.get(key)?;
        Some(std::str::from_utf8(&value.0).ok()?.to_owned())
    };
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let meta = &secret.metadata;
    let Some(credentials) = Credentials::from_fields(field) else {
        let mend = [kubectl.mend_credentials(name)];
        return Ok(lacks(Credentials::FIELDS, "Put what is missing into it.", &mend));
    };
    Ok(Ok(Caller {
        source: format!("{}/{name}", pass.key.namespace()),
        version: format!("{}/{}", text(meta.uid.as_ref()), text(meta.resource_version.as_ref())),
        credentials,
    }))
}

/// Makes a reading of what the cloud said; the codes themselves stay in the pass.
pub(super) fn take_in(ctx: &Context, pass: &mut Pass, app: App) {
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
    // What templates are rendered with must not change with the kind of answer.
    let known = Some(pass.echo.name.clone()).filter(|name| !name.is_empty());
    if !app.masked {
        pass.observed.shown_at = Some(pass.observed.uptime);
        pass.observed.memory.settle_by(&codes);
    }
    pass.observed.cloud = Cloud::Read(AppReading {
        name: app.name.or(known),
        is_supported: !matches!(app.app_type, Some(AppType::Other(_))),
        is_owned: app.owner.zip(app.caller).map(|(owner, caller)| owner == caller),
        updated_at: app.updated_at,
        codes,
        unaddressable,
        masked: app.masked,
    });
    claim_shown(&mut pass.observed);
}

/// What a failed call leaves to know.
pub(super) fn failed(error: &CloudError, pass: &Pass) -> Cloud {
    match error.kind {
        CloudErrorKind::Postponed { after } => Cloud::Postponed(SignedDuration::try_from(after).unwrap_or(BACKOFF_CAP)),
        _ => Cloud::Failed(failure(error, pass)),
    }
}

/// What a failed call means for the resource, in words for the person who must act.
fn failure(error: &CloudError, pass: &Pass) -> Failure {
    let (reason, message, after) = match refused(error, pass) {
        Ok((reason, message)) => {
            let is_soon = reason == Reason::CredentialsRejected;
            (reason, message, is_soon.then(|| pass.observed.limits.local_retry()))
        }
        Err((message, after)) => (Reason::Retrying, message, after),
    };
    Failure {
        reason,
        message,
        request_id: error.request_id.clone(),
        is_final: reason != Reason::Retrying,
        after,
    }
}

/// Why the cloud refused, which only a person can mend; or else why nothing came of the call, and when to try again.
fn refused(error: &CloudError, pass: &Pass) -> Result<(Reason, String), (String, Option<SignedDuration>)> {
    let app = pass.observed.wanted.as_ref();
    let app = app.map_or_else(|_| String::new(), |wanted| wanted.app.app_id.to_string());
    let validated = pass.validated.as_ref();
    let named = validated.and_then(|validated| validated.credentials.as_ref());
    let whose = named.map_or_else(
        || "the operator's own credentials".to_owned(),
        |name| format!("the credentials in Secret {name}"),
    );
    let (said, kubectl) = (&error.message, pass.observed.resource.kubectl());
    let rejected = |what: &str| {
        let (to_do, commands) = match named {
            Some(name) => (
                "Correct that Secret, whose other keys stay (remove a securityToken of the keys before), or name another one in \
                 spec.credentialsRef; no restart is needed.",
                vec![kubectl.mend_credentials(name)],
            ),
            None => (OWN_CREDENTIALS, kubectl.other_credentials().into()),
        };
        let message = tell(&format!("{what}; nothing is changed. {to_do}"), commands);
        Ok((Reason::CredentialsRejected, message))
    };
    match &error.kind {
        CloudErrorKind::CredentialsRejected => rejected(&format!("The cloud refuses {whose}: {said}")),
        CloudErrorKind::LockedOut { .. } => rejected(&format!(
            "The cloud has refused {whose}, which are left alone for some minutes so that the key is not locked"
        )),
        CloudErrorKind::NotAuthorized => {
            let message = format!(
                "The user of {whose} may not act on app {app}: {said}; nothing is changed. Name the credentials of the IAM \
                 user that created the app, with ModelArts rights in its project, in spec.credentialsRef."
            );
            Ok((Reason::NotAuthorized, tell(&message, kubectl.other_credentials())))
        }
        CloudErrorKind::AppNotFound | CloudErrorKind::NotFound => {
            let message = format!(
                "The cloud knows no app {app} in this project, or does not show it to the user of {whose}, so nothing is \
                 changed. Check spec.projectId, spec.appId, spec.workspaceId and the region, and use the IAM user that \
                 created the app."
            );
            let ids = kubectl.patch(&json!({"appId": "APP_ID", "projectId": "PROJECT_ID"}));
            Ok((Reason::AppNotFound, tell(&message, [ids])))
        }
        CloudErrorKind::Refused => {
            let message =
                format!("The cloud refuses the request for app {app}: {said}; nothing is changed. Correct the spec.");
            Ok((Reason::InvalidSpec, tell(&message, [kubectl.edit()])))
        }
        CloudErrorKind::Throttled { retry_after } => {
            let after = retry_after.and_then(|after| SignedDuration::try_from(after).ok());
            let message = tell(&format!("The cloud asks to slow down: {said}."), []);
            Err((message, after.map(|after| after.min(BACKOFF_CAP))))
        }
        CloudErrorKind::NotSent | CloudErrorKind::Postponed { .. } | CloudErrorKind::UnknownOutcome => {
            let message = format!("The cloud gave no answer that can be used for app {app}: {said}.");
            Err((tell(&message, []), None))
        }
    }
}
