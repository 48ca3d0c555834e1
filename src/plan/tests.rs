//! Single decisions as tables: a settled resource, one thing that is otherwise, and the step that follows. The properties
//! say what holds for everything; these say where exactly the lines are.
#![allow(
    clippy::items_after_statements,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unnecessary_wraps,
    reason = "a table is as long as its cases, and what makes and what tells one stands beside it"
)]

mod asked;
mod distribution;
mod due;
mod held;
mod open;
mod pace;
mod retirement;
mod siblings;
mod start;
mod story;
mod target;
mod upkeep;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::properties::{code, now, settled};
use super::*;
use crate::api::Failures;
use crate::ids::{AppId, AppIdentity};
use crate::schedule::{Rhythm, Timetable};

/// One thing that is otherwise, and what comes of it.
type Case<T> = (&'static str, fn(&mut Observed), T);

const DAY: i64 = 24 * 3600;

fn secs(seconds: i64) -> SignedDuration {
    SignedDuration::from_secs(seconds)
}

fn ago(seconds: i64) -> Timestamp {
    now() - secs(seconds)
}

fn with(change: impl FnOnce(&mut Observed)) -> Observed {
    let mut o = settled();
    change(&mut o);
    o
}

fn wanted(o: &mut Observed) -> &mut Wanted {
    o.wanted.as_mut().unwrap()
}

/// A call of the cloud that came to nothing.
fn failure(reason: Reason, is_final: bool) -> Failure {
    Failure {
        reason,
        message: "no".into(),
        request_id: None,
        is_final,
        after: None,
    }
}

fn ours(view: &mut SecretView) -> &mut OurSecret {
    let SecretView::Ours(secret) = view else {
        panic!("not ours: {view:?}")
    };
    secret
}

fn reading(o: &mut Observed) -> &mut AppReading {
    let Cloud::Read(app) = &mut o.cloud else {
        panic!("the cloud was not read")
    };
    app
}

fn list(o: &mut Observed, numbers: &[u8]) {
    let mut codes: Vec<Fingerprint> = numbers.iter().copied().map(code).collect();
    codes.sort_unstable();
    reading(o).codes = codes;
}

fn other_app() -> AppIdentity {
    let mut o = settled();
    AppIdentity {
        app_id: AppId::parse("other").unwrap(),
        ..wanted(&mut o).app.clone()
    }
}

/// The last rotation was completed so long ago.
fn rotated(o: &mut Observed, number: i64, seconds: i64) {
    let record = &mut ours(&mut o.secret).record;
    record.number = number;
    record.rotated_at = Some(ago(seconds));
    o.status.rotation_number = Some(number);
    o.status.current.as_mut().unwrap().rotated_at = Time(ago(seconds));
}

fn ask(o: &mut Observed) {
    wanted(o).trigger = Some("go".into());
}

/// A rotation that a trigger asked for and that was marked just now; the old code is still listed.
fn begun() -> Observed {
    let mut o = with(ask);
    let Step::WriteIntent { record, .. } = plan(&o, now()) else {
        panic!("a rotation begins: {:?}", plan(&o, now()))
    };
    ours(&mut o.secret).record = record;
    o
}

fn begun_with(change: impl FnOnce(&mut Observed)) -> Observed {
    let mut o = begun();
    change(&mut o);
    o
}

fn intent(o: &mut Observed) -> &mut Intent {
    ours(&mut o.secret).record.intent.as_mut().unwrap()
}

/// The answer to this question waits for a second reading since so long.
fn settle(o: &mut Observed, question: Question, seconds: i64) {
    o.uptime = secs(10_000);
    let codes = o.reading().unwrap().codes.clone();
    o.memory.begin_settling(Settling {
        question,
        since: secs(10_000 - seconds),
        codes,
    });
}

/// What became of the open attempt has been asked since so long.
fn settle_outcome(o: &mut Observed, seconds: i64) {
    let intent = intent(o).clone();
    let question = Question::Outcome {
        rotation_id: intent.rotation_id,
        attempt: intent.attempt,
    };
    settle(o, question, seconds);
}

/// Lists that are older than `intent` have been shown since so long.
fn settle_outdated(o: &mut Observed, intent: &Intent, seconds: i64) {
    let question = Question::Outdated {
        rotation_id: intent.rotation_id.clone(),
        attempt: intent.attempt,
    };
    settle(o, question, seconds);
}

fn sibling() -> Sibling {
    Sibling {
        name: Some("elder".into()),
        shares: Shares::App,
        is_older: true,
        created: ago(100_000),
        is_judged: true,
        standing: Standing::Authorized,
        holds: Vec::new(),
        shown: None,
        open: None,
    }
}

/// What stops, waits or is written, in short.
fn word(step: &Step) -> String {
    match step {
        Step::Stop { reason, .. } => format!("stop {}", reason.as_str()),
        Step::Wait { reason, .. } => format!("wait {}", reason.as_str()),
        Step::AskCloud => "ask".into(),
        Step::CreateSecret { .. } => "create".into(),
        Step::WriteIntent { .. } => "intent".into(),
        Step::WriteRecord { .. } => "record".into(),
        Step::Hold => "hold".into(),
        Step::Release => "release".into(),
        Step::Linger { reason, .. } => format!("linger {}", reason.as_str()),
        Step::Mutate(_) => "mutate".into(),
        Step::WriteCode { why, .. } => format!("write {why:?}"),
        Step::BeginSettling(_) => "settle".into(),
        Step::Drop => "drop".into(),
        Step::BackOff { .. } => "back off".into(),
        Step::Retry { .. } => "retry".into(),
        Step::Rest { .. } => "rest".into(),
        Step::Verify => "verify".into(),
        Step::LookAtWorkloads => "look".into(),
        Step::Restart(_) => "restart".into(),
        Step::Gone => "gone".into(),
        Step::Disown { secret } => format!("disown {secret}"),
    }
}

fn decided(o: &Observed) -> String {
    word(&plan(o, now()))
}

fn pause(step: &Step) -> SignedDuration {
    match step {
        Step::Wait { after, .. }
        | Step::Linger { after, .. }
        | Step::BackOff { after }
        | Step::Stop { after, .. }
        | Step::Rest { after } => *after,
        other => panic!("no pause: {other:?}"),
    }
}

fn message(step: &Step) -> &str {
    match step {
        Step::Wait { message, .. } | Step::Linger { message, .. } | Step::Stop { message, .. } => message,
        other => panic!("no message: {other:?}"),
    }
}

fn check(start: impl Fn() -> Observed, cases: &[Case<&str>]) {
    for (name, change, expected) in cases {
        let mut o = start();
        change(&mut o);
        assert_eq!(decided(&o), *expected, "{name}");
    }
}

fn failed(o: &mut Observed, seconds_ahead: i64) {
    o.status.failures = Some(Failures {
        consecutive: 1,
        last_reason: "Retrying".into(),
        last_message: "no answer".into(),
        last_request_id: None,
        next_attempt_time: Some(Time(now() + secs(seconds_ahead))),
    });
}

fn marked(o: &mut Observed, seconds_ago: i64) {
    intent(o).marked_at = ago(seconds_ago);
}

/// Nothing was taken over yet; the app holds one code.
fn fresh() -> Observed {
    with(|o| {
        o.secret = SecretView::Absent;
        o.status = crate::api::AppCodeRotationStatus::default();
    })
}

fn seed(o: &mut Observed, number: u8, inline: bool) {
    wanted(o).seed = SeedView::Known {
        fingerprint: code(number),
        inline,
    };
}

fn gone(number: u8) -> Question {
    Question::NotListed {
        code: code(number).to_string(),
    }
}

fn daily(o: &mut Observed) {
    wanted(o).schedule = Some(Timetable {
        rhythm: Rhythm::Interval(secs(DAY)),
        jitter: SignedDuration::ZERO,
        windows: Vec::new(),
    });
}

/// The record and intent of the rotation that begins.
fn started(o: &Observed) -> (Record, Intent) {
    match plan(o, now()) {
        Step::WriteIntent { record, .. } => {
            let intent = record.intent.clone().unwrap();
            (record, intent)
        }
        other => panic!("no rotation begins: {other:?}"),
    }
}
