//! What can be asked of the cloud, and what it answers once it knows who asks.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::codes::Act;
use super::{AppType, Caller, Cloud, NewApp, UnknownCode};
use crate::faults::{Half, Lag};
use crate::ledger::Cause;
use crate::wire::{Answer, Refusal};

/// Codes that an app can have.
const MOST_CODES: usize = 5;

/// Kinds of requests. In JSON they are in kebab case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// `ListApigApps`
    List,
    /// `CreateApigApp`
    Create,
    /// `ShowApigApp`
    Show,
    /// `DeleteApigApp`
    DeleteApp,
    /// `ApigAppExists`
    Exists,
    /// `CreateApigAppCode`
    Add,
    /// `ResetApigAppCode`
    Reset,
    /// `DeleteApigAppCode`
    Delete,
    /// `ResetApigAppSecret`
    ResetSecret,
    /// `ShowApisBindToApp`
    BoundApis,
    /// `AuthorizeApiToApigApps`
    Authorize,
    /// `DeleteApiAppAuth`
    Unauthorize,
    /// IAM: a token by password.
    Token,
    /// IAM: projects by name.
    Projects,
    /// IAM: a temporary key by token or agency.
    TemporaryKey,
    /// IAM: a token by the token of an identity provider.
    IdToken,
    /// A virtual machine's metadata service.
    Metadata,
    /// A pod's identity agent.
    PodIdentity,
    /// A call of an inference service.
    #[serde(alias = "dataplane")]
    DataPlane,
    /// No such thing.
    Unknown,
}

impl Operation {
    /// Whether a signature or a token must come with it before anything else is looked at.
    pub(super) fn is_guarded(self) -> bool {
        let open = [
            Self::Token,
            Self::TemporaryKey,
            Self::IdToken,
            Self::Metadata,
            Self::PodIdentity,
            Self::DataPlane,
            Self::Unknown,
        ];
        !open.contains(&self)
    }
}

/// Body of the calls that change an app.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct AppRequest {
    /// Required.
    pub app_name: Option<String>,
    /// Remark.
    pub app_remark: Option<String>,
    /// Workspace, by default `"0"`.
    pub workspace_id: Option<String>,
}

/// Query of the calls that list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Part of a name.
    pub name: Option<String>,
    /// Most items.
    pub limit: Option<usize>,
    /// Items left out first.
    pub offset: usize,
    /// Last first.
    pub descending: bool,
    /// Field to sort by.
    pub sort_by: Option<String>,
    /// Workspace.
    pub workspace: Option<String>,
    /// Whether to show everything in plain text.
    pub plain: bool,
    /// Apps to show in plain text.
    pub plain_apps: Vec<String>,
}

impl ListQuery {
    pub(super) fn page<'a, T>(&self, items: &'a [T]) -> impl Iterator<Item = &'a T> {
        items.iter().skip(self.offset).take(self.limit.unwrap_or(1000))
    }
}

/// A request, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the API's parameters")]
pub enum Call {
    /// The caller's apps.
    List { project: String, query: ListQuery },
    /// A new app.
    Create { project: String, body: Option<AppRequest> },
    /// One app.
    Show {
        project: String,
        app: String,
        workspace: String,
        plain: bool,
    },
    /// The end of an app.
    DeleteApp {
        project: String,
        app: String,
        workspace: String,
    },
    /// Whether there is an app of that name.
    Exists {
        project: String,
        name: String,
        workspace: String,
    },
    /// One more code.
    AddCode {
        project: String,
        app: String,
        body: Option<AppRequest>,
    },
    /// Another code in place of one.
    ResetCode {
        project: String,
        app: String,
        code: String,
        body: Option<AppRequest>,
    },
    /// One code less.
    DeleteCode {
        project: String,
        app: String,
        code: String,
        workspace: String,
    },
    /// Another app secret.
    ResetSecret {
        project: String,
        app: String,
        body: Option<AppRequest>,
    },
    /// What the app may call.
    BoundApis {
        project: String,
        app: String,
        query: ListQuery,
    },
    /// Lets apps call a service, or ends it.
    Authorize {
        project: String,
        service: String,
        api: String,
        apps: Vec<String>,
        bind: bool,
    },
    /// A token by password; the body as sent.
    SignIn { body: Value },
    /// Projects by name.
    Projects { name: Option<String> },
    /// A temporary key; the body and the token as sent.
    TemporaryKey { body: Value, token: Option<String> },
    /// A token by the token of an identity provider.
    IdToken { provider: Option<String>, body: Value },
    /// A session of the metadata service.
    MetadataSession,
    /// The agency's key from the metadata service.
    MetadataKey { session: Option<String> },
    /// The agency's key from the pod identity agent.
    PodIdentity { authorization: Option<String> },
    /// A call of a service.
    Infer { service: String, code: Option<String> },
}

/// How an answer shows an app.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct View {
    /// How far back, and the number of acts when the fault was ordered.
    pub(super) lag: Option<(Lag, u64)>,
    /// Asterisks; whether even where plain text was asked for.
    pub(super) masked: Option<bool>,
}

/// How to execute a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct How {
    pub(super) request: Option<u64>,
    pub(super) half: Option<Half>,
    pub(super) view: View,
}

impl Cloud {
    /// Does what a call asks, for a caller where one is needed.
    pub(super) fn execute(
        &mut self,
        now: Timestamp,
        caller: Option<&Caller>,
        call: &Call,
        how: How,
    ) -> Result<Answer, Refusal> {
        match call {
            Call::SignIn { body } => return self.sign_in(now, body),
            Call::TemporaryKey { body, token } => return self.temporary_key(now, body, token.as_deref()),
            Call::IdToken { provider, body } => return self.id_token(now, provider.as_deref(), body),
            Call::MetadataSession => return Ok(self.metadata_session()),
            Call::MetadataKey { session } => return self.metadata_key(now, session.as_deref()),
            Call::PodIdentity { authorization } => return self.pod_identity(now, authorization.as_deref()),
            Call::Infer { service, code } => return self.infer(now, service, code.as_deref()),
            _ => {}
        }
        let caller = caller.ok_or_else(|| self.unauthenticated("x-auth-token not found"))?;
        match call {
            Call::Projects { name } => Ok(self.projects(caller, name.as_deref())),
            Call::List { project, query } => self.list(now, caller, project, query, how),
            Call::Create { project, body } => self.create(now, caller, project, body.as_ref(), how),
            Call::Exists {
                project,
                name,
                workspace,
            } => self.exists(caller, project, name, workspace),
            Call::Show {
                project,
                app,
                workspace,
                plain,
            } => {
                self.check_app(caller, (project, workspace, app), "show")?;
                Ok(self.app_answer(now, app, *plain, how))
            }
            Call::DeleteApp {
                project,
                app,
                workspace,
            } => {
                self.check_app(caller, (project, workspace, app), "delete app")?;
                self.delete_app(now, app, how)
            }
            Call::BoundApis { project, app, query } => {
                let workspace = query.workspace.as_deref().unwrap_or("0");
                self.check_app(caller, (project, workspace, app), "list bound APIs")?;
                Ok(self.bound_apis(app, query))
            }
            Call::Authorize {
                project,
                service,
                api,
                apps,
                bind,
            } => {
                self.check_project(caller, project)?;
                self.authorize(caller, (project, service, api), apps, *bind)
            }
            _ => self.change_codes(now, caller, call, how),
        }
    }

    fn change_codes(&mut self, now: Timestamp, caller: &Caller, call: &Call, how: How) -> Result<Answer, Refusal> {
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
                Ok(self.app_answer(now, app, true, how))
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

    fn required_body(&self, body: Option<&AppRequest>) -> Result<AppRequest, Refusal> {
        match body {
            None if self.behaviour.accept_missing_body => Ok(AppRequest::default()),
            Some(body) if body.app_name.as_deref().is_some_and(|name| !name.is_empty()) => Ok(body.clone()),
            _ => Err(Refusal::service(400, "0104", "Parameter error: app_name is required.")),
        }
    }

    fn app_answer(&mut self, now: Timestamp, app: &str, plain: bool, how: How) -> Answer {
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
        Ok(self.app_answer(now, app, true, how))
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
            None => Ok(self.app_answer(now, app, true, how)),
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
        Ok(self.app_answer(now, app, true, how))
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

    fn create(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        project: &str,
        body: Option<&AppRequest>,
        how: How,
    ) -> Result<Answer, Refusal> {
        self.check_project(caller, project)?;
        let body = match body {
            Some(body) => self.required_body(Some(body))?,
            None => return Err(Refusal::service(400, "0104", "Parameter error: the body is required.")),
        };
        let workspace = body.workspace_id.clone().unwrap_or_else(|| "0".into());
        self.check_workspace(caller, &workspace)?;
        let theirs = self
            .apps
            .values()
            .filter(|app| app.user_id == caller.user_id && app.project_id == project);
        let (name, names): (_, Vec<&str>) = (
            body.app_name.unwrap_or_default(),
            theirs.map(|app| app.name.as_str()).collect(),
        );
        if names.contains(&name.as_str()) {
            let text = format!("Failed to create the application because the name {name} exists.");
            return Err(Refusal::service(409, "3929", text));
        }
        if names.len() >= self.behaviour.apps_per_user {
            return Err(Refusal::service(400, "0118", "The quota of applications is used up."));
        }
        let new = NewApp::of(&caller.user_id, project).name(&name).workspace(&workspace);
        let app = self.store_app(now, &new.remark(&body.app_remark.unwrap_or_default()));
        self.ledger.mark_effect(how.request);
        Ok(self.app_answer(now, &app, true, how))
    }

    fn delete_app(&mut self, now: Timestamp, app: &str, how: How) -> Result<Answer, Refusal> {
        if self.services.values().any(|service| service.apps.contains(app)) {
            let text = format!("Failed to delete application {app} because it is bound to an API.");
            return Err(Refusal::service(500, "3933", text));
        }
        let act = self.new_act(now, how.request, Cause::DeleteApp);
        self.drop_app(act, app);
        self.ledger.mark_effect(how.request);
        Ok(Answer::empty(200))
    }

    fn exists(&self, caller: &Caller, project: &str, name: &str, workspace: &str) -> Result<Answer, Refusal> {
        self.check_project(caller, project)?;
        self.check_workspace(caller, workspace)?;
        let mut theirs = self
            .apps
            .values()
            .filter(|app| app.user_id == caller.user_id && app.project_id == project);
        let exists = theirs.any(|app| app.name == name && app.workspace_id == workspace);
        Ok(Answer::json(200, &json!({"exists": exists})))
    }

    fn list(
        &mut self,
        now: Timestamp,
        caller: &Caller,
        project: &str,
        query: &ListQuery,
        how: How,
    ) -> Result<Answer, Refusal> {
        let workspace = query.workspace.as_deref().unwrap_or("0");
        self.check_project(caller, project)?;
        self.check_workspace(caller, workspace)?;
        let theirs = self.apps.values().filter(|app| {
            app.user_id == caller.user_id
                && app.project_id == project
                && (self.behaviour.ignore_workspace || app.workspace_id == workspace)
                && query.name.as_ref().is_none_or(|part| app.name.contains(part.as_str()))
        });
        let mut found: Vec<_> = theirs
            .map(|app| (app.name.clone(), app.created_at, app.updated_at, app.app_id.clone()))
            .collect();
        match query.sort_by.as_deref() {
            Some("created_at") => found.sort_by_key(|app| app.1),
            Some("updated_at") => found.sort_by_key(|app| app.2),
            _ => found.sort(),
        }
        if query.descending {
            found.reverse();
        }
        let page: Vec<String> = query.page(&found).map(|app| app.3.clone()).collect();
        let mut apps = Vec::new();
        for app in &page {
            let plain = query.plain || query.plain_apps.contains(app);
            apps.push(self.show(now, app, plain, how.view));
        }
        Ok(Answer::json(
            200,
            &json!({"count": apps.len(), "total_count": found.len(), "apps": apps}),
        ))
    }
}
