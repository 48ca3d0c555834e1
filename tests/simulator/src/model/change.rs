//! Codes and secrets of an app, changed by request: checked in the order in which the real service seems to check.

use jiff::Timestamp;
use serde_json::json;

use super::calls::How;
use super::codes::Act;
use super::{AppRequest, AppType, Call, Caller, Cloud, UnknownCode};
use crate::faults::Half;
use crate::ledger::Cause;
use crate::wire::{Answer, Refusal};

/// Codes that an app can have.
const MOST_CODES: usize = 5;

impl Cloud {
    pub(super) fn change_codes(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        call: &Call,
        how: How,
    ) -> Result<Answer, Refusal> {
        match call {
            Call::AddCode { project, app, body } => {
                let body = self.checked_body(caller, (project, app), body.as_ref(), "add code")?;
                self.add(now, app, &body, how)
            }
            Call::ResetCode {
                project,
                app,
                code,
                body,
            } => {
                let body = self.checked_body(caller, (project, app), body.as_ref(), "reset code")?;
                self.reset(now, app, code, &body, how)
            }
            Call::DeleteCode {
                project,
                app,
                code,
                workspace,
            } => {
                self.check_app(caller, (project, workspace, app), "delete code")?;
                self.delete(now, app, code, how)
            }
            Call::ResetSecret { project, app, body } => {
                let body = self.checked_body(caller, (project, app), body.as_ref(), "reset secret")?;
                let (secret, act) = (self.new_id(), self.new_act(now, how.request, Cause::Reset));
                self.remember(act, app);
                if let Some(app) = self.apps.get_mut(app) {
                    app.app_secret = secret;
                }
                self.apply_names(app, &body);
                self.ledger.mark_effect(how.request);
                Ok(self.app_answer(now, app, false, how))
            }
            _ => Err(self.gateway_refusal(404, "0101", "The API does not exist")),
        }
    }

    /// The body, once it, the app and the caller are found in order.
    fn checked_body(
        &self,
        caller: &Caller,
        (project, app): (&str, &str),
        body: Option<&AppRequest>,
        operation: &str,
    ) -> Result<AppRequest, Refusal> {
        self.check_project(caller, project)?;
        let body = self.required_body(body)?;
        let workspace = body.workspace_id.as_deref().unwrap_or("0");
        self.check_app(caller, (project, workspace, app), operation)?;
        Ok(body)
    }

    pub(super) fn required_body(&self, body: Option<&AppRequest>) -> Result<AppRequest, Refusal> {
        match body {
            None if self.behaviour.accept_missing_body => Ok(AppRequest::default()),
            Some(body) if body.app_name.as_deref().is_some_and(|name| !name.is_empty()) => Ok(body.clone()),
            _ => Err(Refusal::service(400, "0104", "Parameter error: app_name is required.")),
        }
    }

    /// An answer with the app; `plain` where plain text was asked for, which calls that change something cannot do.
    pub(super) fn app_answer(&mut self, now: Timestamp, app: &str, plain: bool, how: How) -> Answer {
        let app = self.show(now, app, plain, how.view);
        Answer::json(200, &json!({"app": app}))
    }

    fn apply_names(&mut self, app: &str, body: &AppRequest) {
        if let Some(app) = self.apps.get_mut(app).filter(|_| self.behaviour.apply_names) {
            app.name = body.app_name.clone().unwrap_or_else(|| app.name.clone());
            app.remark = body.app_remark.clone().unwrap_or_else(|| app.remark.clone());
        }
    }

    fn is_apic(&self, app: &str) -> bool {
        self.apps.get(app).is_some_and(|app| app.app_type == AppType::Apic)
    }

    fn has_code(&self, app: &str, code: &str) -> bool {
        self.apps
            .get(app)
            .is_some_and(|app| app.codes.iter().any(|listed| listed == code))
    }

    fn add(&mut self, now: Timestamp, app: &str, body: &AppRequest, how: How) -> Result<Answer, Refusal> {
        let failed = |reason: &str| {
            let text = format!("Failed to create the application code for application {app} because {reason}.");
            Refusal::service(500, "3924", text)
        };
        if self.is_apic(app) {
            return Err(failed("the gateway does not support application codes"));
        }
        if self.live_codes(app).len() >= MOST_CODES {
            return Err(failed("APIG.3131: The number of app codes exceeds the limit 5"));
        }
        let act = self.new_act(now, how.request, Cause::Add);
        let code = self.new_code();
        self.remember(act, app);
        self.make_code(act, app, code, None);
        self.apply_names(app, body);
        Ok(self.app_answer(now, app, false, how))
    }

    fn reset(&mut self, now: Timestamp, app: &str, code: &str, body: &AppRequest, how: How) -> Result<Answer, Refusal> {
        let failed = |reason: &str| {
            let text = format!("Failed to reset the application code of application {app} because {reason}.");
            Refusal::service(500, "3927", text)
        };
        if self.is_apic(app) {
            return Err(failed("the gateway does not support application codes"));
        }
        if !self.has_code(app, code) {
            return Err(self.unknown_code(code, failed));
        }
        let act = self.new_act(now, how.request, Cause::Reset);
        self.remember(act, app);
        self.apply_names(app, body);
        self.replace_code(act, app, code, how.half);
        match how.half {
            Some(_) => Err(failed("the backend did not answer in time")),
            None => Ok(self.app_answer(now, app, false, how)),
        }
    }

    fn replace_code(&mut self, act: Act, app: &str, code: &str, half: Option<Half>) {
        let place = match half {
            Some(Half::BothPresent) => None,
            Some(Half::NoneMade) | None => self.end_code(act, app, code),
        };
        if half != Some(Half::NoneMade) {
            let new = self.new_code();
            self.make_code(act, app, new, place);
        }
    }

    fn delete(&mut self, now: Timestamp, app: &str, code: &str, how: How) -> Result<Answer, Refusal> {
        let failed = |reason: &str| {
            let text = format!("Failed to delete the application code of application {app} because {reason}.");
            Refusal::service(500, "3934", text)
        };
        if !self.has_code(app, code) {
            return Err(self.unknown_code(code, failed));
        }
        let act = self.new_act(now, how.request, Cause::Delete);
        self.remember(act, app);
        self.end_code(act, app, code);
        Ok(self.app_answer(now, app, false, how))
    }

    fn unknown_code(&self, code: &str, failed: impl FnOnce(&str) -> Refusal) -> Refusal {
        let which = if self.behaviour.echo_codes {
            code
        } else {
            "in the request"
        };
        match self.behaviour.unknown_code {
            UnknownCode::NotFound => Refusal::service(404, "3923", format!("Application code {which} does not exist.")),
            UnknownCode::Failed => failed(&format!("the app code {which} does not exist")),
        }
    }
}
