//! Where the lines are: each part of the status for one thing that is otherwise.
#![allow(
    clippy::items_after_statements,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unnecessary_wraps,
    reason = "a table is as long as its cases, and what makes and what tells one stands beside it"
)]

mod conditions;
mod distribution;
mod handover;
mod published;
mod told;

use super::*;
use crate::api::{Strategy, Trigger};
use crate::ids::{AppId, AppIdentity};
use crate::plan::{AppReading, Refusal};
use crate::schedule::{Rhythm, Timetable};

fn with(change: impl FnOnce(&mut Observed)) -> Observed {
    let mut observed = settled();
    change(&mut observed);
    observed
}

fn wanted(o: &mut Observed) -> &mut Wanted {
    o.wanted.as_mut().unwrap()
}

fn ours(o: &mut Observed) -> &mut OurSecret {
    let SecretView::Ours(secret) = &mut o.secret else {
        panic!("not ours")
    };
    secret
}

fn reading(o: &mut Observed) -> &mut AppReading {
    let Cloud::Read(app) = &mut o.cloud else {
        panic!("not read")
    };
    app
}

fn other_app() -> AppIdentity {
    let mut o = settled();
    AppIdentity {
        app_id: AppId::parse("other").unwrap(),
        ..wanted(&mut o).app.clone()
    }
}

/// A rotation that a trigger asked for is open, and the old code is still listed.
fn begun() -> Observed {
    with(|o| {
        wanted(o).trigger = Some("go".into());
        let Step::WriteIntent { record, .. } = plan(o, now()) else {
            panic!("no rotation begins")
        };
        ours(o).record = record;
    })
}

/// That rotation is completed and the Secret holds the new code; status does not show it yet.
fn completed() -> Observed {
    let mut o = begun();
    reading(&mut o).codes = vec![code(2)];
    let Step::WriteCode { record, .. } = plan(&o, later(5)) else {
        panic!("it is not persisted")
    };
    let secret = ours(&mut o);
    secret.record = record;
    secret.code = Some(code(2));
    o
}

fn wait() -> Step {
    Step::Wait {
        reason: Reason::Settling,
        message: "not clear yet".into(),
        after: SignedDuration::from_secs(9),
    }
}

fn folded(o: &Observed, step: &Step) -> AppCodeRotationStatus {
    fold(pass(o, step), later(60))
}

fn condition(status: &AppCodeRotationStatus, kind: ConditionType) -> Option<(String, String)> {
    let condition = status.condition(kind)?;
    Some((condition.status.clone(), condition.reason.clone()))
}

fn said(value: &str, reason: Reason) -> Option<(String, String)> {
    Some((value.to_owned(), reason.as_str().to_owned()))
}

fn hourly() -> Timetable {
    Timetable {
        rhythm: Rhythm::Interval(SignedDuration::from_hours(1)),
        jitter: SignedDuration::ZERO,
        windows: Vec::new(),
    }
}
