//! The cloud behind the operator: over HTTP with the real client, or called directly where thousands of runs are made.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::modelarts::{App, AppCode, AppCodes, AppType, CloudError, CloudErrorKind, Echo, Target};
use async_trait::async_trait;
use cloud_simulator::{AppRequest, Call, Cloud, Delivery, Operation, Simulator};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;

use super::Stage;
use super::clock::Time;
use super::gate::ProcessId;
use super::script::{self, Moment, Strike};
use super::stage::told;

/// A cloud that is served or called.
#[allow(clippy::large_enum_variant, reason = "there is one for each run")]
pub enum CloudHandle {
    Http(Simulator),
    Direct(Mutex<Cloud>, Time),
}

impl CloudHandle {
    /// Works on the cloud, up to date.
    pub fn with<T>(&self, work: impl FnOnce(&mut Cloud) -> T) -> T {
        match self {
            Self::Http(simulator) => simulator.with(work),
            Self::Direct(cloud, time) => {
                let mut cloud = cloud.lock().unwrap();
                cloud.advance(time.truth());
                work(&mut cloud)
            }
        }
    }
}

/// Counts each call, lets the script strike it, and has the judge look afterwards.
pub struct Struck {
    pub inner: Arc<dyn AppCodes>,
    pub stage: Arc<Stage>,
    pub process: ProcessId,
}

impl Struck {
    /// `code`: the one that the call names.
    async fn enter(&self, operation: Operation, code: Option<&AppCode>) -> Vec<Strike> {
        self.stage.gate.pass(self.process, None).await;
        self.stage
            .relay
            .before_call(self.process, self.stage.script.len())
            .await;
        let strikes = self.stage.script.enter(script::Call::Cloud(operation));
        self.stage
            .note(self.process, || format!("cloud {operation:?} {}", told(&strikes)));
        self.stage.strike(self.process, &strikes, Moment::Before).await;
        // Not before: it is to strike this call, and others may call while this process stands still.
        for strike in &strikes {
            if let Strike::Cloud(fault) = strike {
                self.stage.cloud.with(|cloud| cloud.inject(fault.clone()));
            }
        }
        self.stage
            .judge
            .sent(&self.stage, self.process, operation, code.map(AppCode::expose));
        strikes
    }

    async fn leave(&self, strikes: &[Strike], answer: &Result<App, CloudError>) {
        self.stage.judge.look(&self.stage);
        self.stage.note(self.process, || {
            let live = self.stage.live();
            match answer {
                Ok(app) => format!(
                    "cloud answered {} codes, masked {}, of {live:?}",
                    app.codes.len(),
                    app.masked
                ),
                Err(error) => format!("cloud answered {:?} {:?}, of {live:?}", error.kind, error.status),
            }
        });
        self.stage.strike(self.process, strikes, Moment::After).await;
    }
}

#[async_trait]
impl AppCodes for Struck {
    async fn admit(&self, target: &Target) -> Result<(), CloudError> {
        self.inner.admit(target).await
    }

    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        let strikes = self.enter(Operation::Show, None).await;
        let answer = self.inner.show_app(target).await;
        // A list that lags tells what was: whoever is shown it has read the app no later than before.
        let live = self.stage.live();
        let is_live = |code: &AppCode| live.iter().any(|live| live == code.expose());
        let is_present = |app: &App| app.codes.len() == live.len() && app.codes.iter().all(is_live);
        match &answer {
            Ok(app) if is_present(app) => self.stage.judge.has_read(self.process),
            Ok(app) if !app.masked => {
                let shown = app.codes.iter().map(|code| code.expose().to_owned());
                self.stage.judge.was_misled(self.process, shown.collect());
            }
            _ => {}
        }
        self.leave(&strikes, &answer).await;
        answer
    }

    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Result<App, CloudError> {
        let strikes = self.enter(Operation::Reset, Some(code)).await;
        let answer = self.inner.reset_code(target, code, echo).await;
        self.leave(&strikes, &answer).await;
        answer
    }

    async fn add_code(&self, target: &Target, echo: &Echo) -> Result<App, CloudError> {
        let strikes = self.enter(Operation::Add, None).await;
        let answer = self.inner.add_code(target, echo).await;
        self.leave(&strikes, &answer).await;
        answer
    }

    async fn delete_code(&self, target: &Target, code: &AppCode) -> Result<App, CloudError> {
        let strikes = self.enter(Operation::Delete, Some(code)).await;
        let answer = self.inner.delete_code(target, code).await;
        self.leave(&strikes, &answer).await;
        answer
    }
}

/// Calls the model without HTTP, as the app's owner. What an answer proves is told as the real client tells it.
pub struct DirectAppCodes {
    pub stage: Arc<Stage>,
}

impl DirectAppCodes {
    fn call(&self, target: &Target, call: Call) -> Result<App, CloudError> {
        let is_show = matches!(call, Call::Show { .. });
        let now = self.stage.time.truth();
        let user = &self.stage.user.user_id;
        let project = target.app.project_id.as_str();
        let delivery = self.stage.cloud.with(|cloud| {
            let caller = cloud.caller(user, Some(project)).unwrap();
            let arrival = cloud.arrive_as(now, &caller, call);
            cloud.serve(now, arrival).delivery
        });
        let Delivery::Answer(answer) = delivery else {
            return Err(error(CloudErrorKind::UnknownOutcome, None, "no answer"));
        };
        if answer.status == NO_CONNECTION {
            return Err(error(CloudErrorKind::NotSent, None, "no connection"));
        }
        if answer.status == 200 {
            return app(&answer.value())
                .filter(|_| is_about(&answer.value(), target))
                .ok_or_else(|| error(CloudErrorKind::UnknownOutcome, Some(200), "not an app"));
        }
        let since = answer.header("Date").and_then(date).unwrap_or(now);
        let wait = answer.header("Retry-After").and_then(|value| retry_after(value, since));
        let kind = refusal(answer.status, &answer.value(), is_show, wait);
        Err(error(kind, Some(answer.status), "refused"))
    }
}

/// Stands for a connection that is never made, as where a name has no address or nobody listens. No cloud answers so.
pub const NO_CONNECTION: u16 = 599;

/// What a refusal proves; the real client says the same, which a test compares.
fn refusal(status: u16, body: &Value, is_show: bool, retry_after: Option<Duration>) -> CloudErrorKind {
    let code = body["error_code"].as_str().unwrap_or_default();
    let (prefix, number) = code.rsplit_once('.').unwrap_or_default();
    let is_gateway = ["APIG", "APIGW"].contains(&prefix);
    let is_locked = is_gateway && number == "0301" && {
        let message = body["error_msg"].as_str().unwrap_or_default();
        message.contains("failed to reach the limit")
    };
    match status {
        401 if is_locked => CloudErrorKind::LockedOut {
            retry_after: Duration::from_secs(330),
        },
        401 if ["ModelArts.0207", "ModelArts.0212"].contains(&code) => CloudErrorKind::NotAuthorized,
        401 => CloudErrorKind::CredentialsRejected,
        403 if ["ModelArts.0203", "ModelArts.0206"].contains(&code) => CloudErrorKind::CredentialsRejected,
        403 => CloudErrorKind::NotAuthorized,
        404 if is_gateway && number == "0101" => CloudErrorKind::Refused,
        404 if is_show => CloudErrorKind::AppNotFound,
        404 => CloudErrorKind::NotFound,
        429 => CloudErrorKind::Throttled { retry_after },
        400 | 402 | 405 | 406 | 411 | 413 | 414 | 415 | 417 | 422 | 431 | 494 => CloudErrorKind::Refused,
        _ => CloudErrorKind::UnknownOutcome,
    }
}

fn date(text: &str) -> Option<Timestamp> {
    rfc2822::parse(text).ok().map(|date| date.timestamp())
}

/// Seconds or a date, from a second to a quarter of an hour.
fn retry_after(value: &str, since: Timestamp) -> Option<Duration> {
    let seconds = value.parse().ok().map(Duration::from_secs);
    let until = || date(value).map(|until| until.duration_since(since));
    let wait = seconds.or_else(|| Some(Duration::try_from(until()?).unwrap_or_default()))?;
    Some(wait.clamp(Duration::from_secs(1), Duration::from_secs(900)))
}

/// The real client takes no answer about another app.
fn is_about(answer: &Value, target: &Target) -> bool {
    let id = &answer["app"]["app_id"];
    id.is_null() || id == target.app.app_id.as_str()
}

fn error(kind: CloudErrorKind, status: Option<u16>, message: &str) -> CloudError {
    CloudError {
        kind,
        status,
        code: None,
        message: message.into(),
        request_id: Some("request".into()),
    }
}

fn app(body: &Value) -> Option<App> {
    let app = body.get("app")?;
    let text = |key: &str| app[key].as_str().map(str::to_owned);
    let listed = app["app_codes"].as_array()?;
    let codes: Vec<AppCode> = listed
        .iter()
        .filter_map(|code| AppCode::parse(code.as_str()?).ok())
        .collect();
    Some(App {
        name: text("app_name"),
        remark: text("app_remark"),
        app_type: (app["app_type"] != "APIC").then_some(AppType::Gateway),
        owner: text("user_id"),
        caller: None,
        updated_at: app["updated_at"].as_i64(),
        masked: codes.len() != listed.len(),
        codes,
        request_id: Some("request".into()),
    })
}

fn body(target: &Target, echo: &Echo) -> AppRequest {
    AppRequest {
        app_name: Some(echo.name.clone()),
        app_remark: echo.remark.clone(),
        workspace_id: Some(target.workspace.as_str().to_owned()),
    }
}

fn place(target: &Target) -> (String, String) {
    (
        target.app.project_id.as_str().to_owned(),
        target.app.app_id.as_str().to_owned(),
    )
}

#[async_trait]
impl AppCodes for DirectAppCodes {
    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        let (project, app) = place(target);
        let workspace = target.workspace.as_str().to_owned();
        let plain = true;
        self.call(
            target,
            Call::Show {
                project,
                app,
                workspace,
                plain,
            },
        )
    }

    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Result<App, CloudError> {
        let (project, app) = place(target);
        let code = code.expose().to_owned();
        let body = Some(body(target, echo));
        self.call(
            target,
            Call::ResetCode {
                project,
                app,
                code,
                body,
            },
        )
    }

    async fn add_code(&self, target: &Target, echo: &Echo) -> Result<App, CloudError> {
        let (project, app) = place(target);
        let body = Some(body(target, echo));
        self.call(target, Call::AddCode { project, app, body })
    }

    async fn delete_code(&self, target: &Target, code: &AppCode) -> Result<App, CloudError> {
        let (project, app) = place(target);
        let code = code.expose().to_owned();
        let workspace = target.workspace.as_str().to_owned();
        self.call(
            target,
            Call::DeleteCode {
                project,
                app,
                code,
                workspace,
            },
        )
    }
}
