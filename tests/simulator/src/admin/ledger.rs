//! Faults to order and what happened.

use axum::extract::{Path, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cloud, Given, Json, Result, done, shown};
use crate::faults::{Fault, FaultId};

pub(super) async fn faults(State(shared): Cloud) -> Result {
    let faults = shared.look(crate::model::Cloud::faults);
    let listed = faults.into_iter().map(|(id, fault)| json!({"id": id, "fault": fault}));
    Ok(Json(Value::Array(listed.collect())))
}

pub(super) async fn inject(State(shared): Cloud, Given(fault): Given<Fault>) -> Result {
    Ok(Json(json!({"id": shared.with(|cloud| cloud.inject(fault))})))
}

pub(super) async fn clear_all(State(shared): Cloud) -> Result {
    shared.with(crate::model::Cloud::clear_all);
    done(true, "fault")
}

pub(super) async fn clear(State(shared): Cloud, Path(fault): Path<u64>) -> Result {
    done(shared.with(|cloud| cloud.clear(FaultId(fault))), "fault")
}

pub(super) async fn struck(State(shared): Cloud, Path(fault): Path<u64>) -> Result {
    shown(&shared.look(|cloud| cloud.ledger().struck_by(FaultId(fault)).cloned().collect::<Vec<_>>()))
}

pub(super) async fn release(State(shared): Cloud, Path(fault): Path<u64>) -> Result {
    let now = shared.clock.now();
    Ok(Json(
        json!({"released": shared.with(|cloud| cloud.release(now, FaultId(fault)))}),
    ))
}

#[derive(Deserialize)]
pub(super) struct Unwanted {
    text: String,
}

pub(super) async fn count(State(shared): Cloud, Given(unwanted): Given<Unwanted>) -> Result {
    shared.with(|cloud| cloud.count_requests_with(&unwanted.text));
    done(true, "text")
}

pub(super) async fn unwanted(State(shared): Cloud) -> Result {
    let requests = shared.look(crate::model::Cloud::requests_with_unwanted);
    Ok(Json(json!({"requests": requests})))
}

pub(super) async fn ledger(State(shared): Cloud) -> Result {
    shown(&shared.look(|cloud| cloud.ledger().clone()))
}

pub(super) async fn of_app(State(shared): Cloud, Path(app): Path<String>) -> Result {
    let told = shared.look(|cloud| {
        let ledger = cloud.ledger();
        json!({
            "resetsApplied": ledger.resets_applied(&app), "codesEver": ledger.codes_ever(&app),
            "liveCodes": ledger.live_codes(&app), "requests": ledger.about(&app).count(),
        })
    });
    Ok(Json(told))
}
