//! Apps, codes and services.

use axum::extract::{Path, State};
use serde::Deserialize;

use super::{Cloud, Error, Given, Result, done, shown};
use crate::model::NewApp;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Name {
    name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Code {
    code: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewService {
    owner: String,
    project: String,
    name: String,
}

pub(super) async fn apps(State(shared): Cloud) -> Result {
    shown(&shared.look(crate::model::Cloud::apps))
}

pub(super) async fn create_app(State(shared): Cloud, Given(new): Given<NewApp>) -> Result {
    let now = shared.clock.now();
    let app = shared.with(|cloud| cloud.caller(&new.owner, None).map(|_| cloud.create_app(now, new)));
    shown(&app.ok_or_else(|| Error::missing("user: owner"))?)
}

pub(super) async fn app(State(shared): Cloud, Path(app): Path<String>) -> Result {
    shown(
        &shared
            .look(|cloud| cloud.app(&app))
            .ok_or_else(|| Error::missing("app"))?,
    )
}

pub(super) async fn remove_app(State(shared): Cloud, Path(app): Path<String>) -> Result {
    let now = shared.clock.now();
    done(shared.with(|cloud| cloud.remove_app(now, &app)), "app")
}

pub(super) async fn rename_app(State(shared): Cloud, Path(app): Path<String>, Given(new): Given<Name>) -> Result {
    done(shared.with(|cloud| cloud.rename_app(&app, &new.name)), "app")
}

pub(super) async fn codes(State(shared): Cloud, Path(app): Path<String>) -> Result {
    shown(
        &shared
            .look(|cloud| cloud.app(&app))
            .ok_or_else(|| Error::missing("app"))?
            .codes,
    )
}

pub(super) async fn add_code(State(shared): Cloud, Path(app): Path<String>, Given(new): Given<Code>) -> Result {
    let now = shared.clock.now();
    let code = shared.with(|cloud| cloud.add_code(now, &app, new.code.as_deref()));
    shown(&serde_json::json!({"code": code.ok_or_else(|| Error::missing("app"))?}))
}

pub(super) async fn remove_code(State(shared): Cloud, Path((app, code)): Path<(String, String)>) -> Result {
    let now = shared.clock.now();
    done(shared.with(|cloud| cloud.remove_code(now, &app, &code)), "code")
}

pub(super) async fn add_service(State(shared): Cloud, Given(new): Given<NewService>) -> Result {
    shown(&shared.with(|cloud| cloud.add_service(&new.owner, &new.project, &new.name)))
}

pub(super) async fn bind(State(shared): Cloud, Path((service, app)): Path<(String, String)>) -> Result {
    done(shared.with(|cloud| cloud.bind(&service, &app)), "service")
}
