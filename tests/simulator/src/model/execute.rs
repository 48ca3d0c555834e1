//! What the cloud answers once it knows who asks: apps as wholes. Their codes are changed in [`super::change`].

use jiff::Timestamp;
use serde_json::json;

use super::calls::How;
use super::{AppRequest, Call, Caller, Cloud, ListQuery, NewApp};
use crate::ledger::Cause;
use crate::wire::{Answer, Refusal};

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
        Ok(self.app_answer(now, &app, false, how))
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
