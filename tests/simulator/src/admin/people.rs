//! Accounts, users, keys and tokens.

use axum::extract::{Path, State};
use jiff::SignedDuration;
use serde::Deserialize;
use serde_json::json;

use super::{Cloud, Error, Given, Json, Result, done, shown};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct InAccount {
    account_id: String,
    #[serde(default = "default_region")]
    region: String,
}

fn default_region() -> String {
    "cn-north-4".into()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct NewUser {
    account_id: String,
    name: String,
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Password {
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Life {
    #[serde(default = "default_seconds")]
    seconds: i64,
}

fn default_seconds() -> i64 {
    900
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Scope {
    project_id: Option<String>,
}

pub(super) async fn add_tenant(State(shared): Cloud, Given(Name { name }): Given<Name>) -> Result {
    let (account, user, project) = shared.with(|cloud| cloud.add_tenant(&name));
    Ok(Json(json!({"account": account, "user": user, "projectId": project})))
}

pub(super) async fn add_account(State(shared): Cloud, Given(Name { name }): Given<Name>) -> Result {
    shown(&shared.with(|cloud| cloud.add_account(&name)))
}

pub(super) async fn add_project(State(shared): Cloud, Given(new): Given<InAccount>) -> Result {
    let id = shared.with(|cloud| cloud.add_project(&new.account_id, &new.region));
    Ok(Json(json!({"projectId": id})))
}

pub(super) async fn add_workspace(State(shared): Cloud, Given(new): Given<InAccount>) -> Result {
    let id = shared.with(|cloud| cloud.add_workspace(&new.account_id));
    Ok(Json(json!({"workspaceId": id})))
}

pub(super) async fn add_user(State(shared): Cloud, Given(new): Given<NewUser>) -> Result {
    shown(&shared.with(|cloud| cloud.add_user(&new.account_id, &new.name, &new.password)))
}

pub(super) async fn remove_user(State(shared): Cloud, Path(user): Path<String>) -> Result {
    done(shared.with(|cloud| cloud.remove_user(&user)), "user")
}

pub(super) async fn set_password(
    State(shared): Cloud,
    Path(user): Path<String>,
    Given(new): Given<Password>,
) -> Result {
    done(shared.with(|cloud| cloud.set_password(&user, &new.password)), "user")
}

pub(super) async fn add_key(State(shared): Cloud, Path(user): Path<String>) -> Result {
    let key = shared.with(|cloud| cloud.caller(&user, None).map(|_| cloud.add_key(&user)));
    shown(&key.ok_or_else(|| Error::missing("user"))?)
}

pub(super) async fn add_temporary_key(
    State(shared): Cloud,
    Path(user): Path<String>,
    Given(Life { seconds }): Given<Life>,
) -> Result {
    let (now, life) = (shared.clock.now(), SignedDuration::from_secs(seconds));
    let key = shared.with(|cloud| {
        cloud
            .caller(&user, None)
            .map(|_| cloud.add_temporary_key(now, &user, life))
    });
    shown(&key.ok_or_else(|| Error::missing("user"))?)
}

pub(super) async fn issue_token(
    State(shared): Cloud,
    Path(user): Path<String>,
    Given(Scope { project_id }): Given<Scope>,
) -> Result {
    let (now, project) = (shared.clock.now(), project_id.as_deref());
    let token = shared.with(|cloud| {
        cloud
            .caller(&user, None)
            .map(|_| cloud.issue_token(now, &user, project))
    });
    Ok(Json(json!({"token": token.ok_or_else(|| Error::missing("user"))?})))
}

pub(super) async fn expire_tokens(State(shared): Cloud, Path(user): Path<String>) -> Result {
    let now = shared.clock.now();
    Ok(Json(
        json!({"tokens": shared.with(|cloud| cloud.expire_tokens(now, &user))}),
    ))
}

pub(super) async fn revoke_tokens(State(shared): Cloud, Path(user): Path<String>) -> Result {
    Ok(Json(json!({"tokens": shared.with(|cloud| cloud.revoke_tokens(&user))})))
}

pub(super) async fn revoke_key(State(shared): Cloud, Path(ak): Path<String>) -> Result {
    done(shared.with(|cloud| cloud.revoke_key(&ak)), "key")
}

pub(super) async fn lock_key(State(shared): Cloud, Path(ak): Path<String>) -> Result {
    let now = shared.clock.now();
    let locked = shared.with(|cloud| {
        cloud.lock_key(now, &ak);
        cloud.is_locked(now, &ak)
    });
    done(locked, "key")
}
