//! What is kept of an app, how an answer shows it, and who may touch it.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::calls::View;
use super::codes::Snapshot;
use super::{AppType, Caller, Cloud, CodePosition};
use crate::faults::Lag;
use crate::wire::Refusal;

#[derive(Debug, Clone)]
pub(super) struct StoredApp {
    pub(super) app_id: String,
    pub(super) name: String,
    pub(super) remark: String,
    pub(super) app_key: String,
    pub(super) app_secret: String,
    pub(super) app_type: AppType,
    pub(super) user_id: String,
    pub(super) project_id: String,
    pub(super) workspace_id: String,
    pub(super) codes: Vec<String>,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
    pub(super) changed_at: Timestamp,
    pub(super) changed_by: u64,
    pub(super) past: VecDeque<Snapshot>,
}

impl StoredApp {
    /// Codes and time of change as a read that lags behind sees them.
    fn seen(&self, now: Timestamp, lag: Option<(Lag, u64)>) -> (Vec<String>, i64) {
        let oldest_first = || self.past.iter();
        let current = (self.codes.clone(), self.updated_at);
        let old = match lag {
            Some((Lag::OneChange, _)) => self.past.back(),
            Some((Lag::Frozen, after_act)) if self.changed_by > after_act => oldest_first()
                .rfind(|old| old.since_act <= after_act)
                .or_else(|| self.past.front()),
            Some((Lag::Millis(millis), _)) => {
                let back = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
                let then = now.checked_sub(back).unwrap_or(Timestamp::MIN);
                let changed_since = self.changed_at > then;
                let old = oldest_first()
                    .rfind(|old| old.since <= then)
                    .or_else(|| self.past.front());
                old.filter(|_| changed_since)
            }
            None | Some((Lag::Frozen, _)) => None,
        };
        old.map_or(current, |old| (old.codes.clone(), old.updated_at))
    }
}

impl Cloud {
    /// The app as an answer shows it.
    pub(super) fn show(&mut self, now: Timestamp, app_id: &str, plain: bool, view: View) -> Value {
        let bound = self
            .services
            .values()
            .filter(|service| service.apps.contains(app_id))
            .count();
        let Some(app) = self.apps.get(app_id) else {
            return Value::Null;
        };
        let (mut codes, updated_at) = app.seen(now, view.lag);
        let masked = match view.masked {
            Some(even_when_asked) => even_when_asked || !plain,
            None => self.behaviour.mask_unless_asked && !plain,
        };
        if masked {
            codes = codes.iter().map(|code| mask(code)).collect();
        }
        let mut shown = json!({
            "app_id": app.app_id, "app_name": app.name, "app_key": app.app_key, "app_secret": app.app_secret,
            "app_type": app.app_type.as_str(), "user_id": app.user_id, "project_id": app.project_id,
            "created_at": app.created_at, "updated_at": updated_at, "bounded_api_count": bound,
        });
        let remark = app.remark.clone();
        if self.behaviour.code_position == CodePosition::Shuffled {
            self.shuffle(&mut codes);
        }
        if let Value::Object(fields) = &mut shown {
            fields.insert("app_codes".into(), json!(codes));
            if !remark.is_empty() {
                fields.insert("app_remark".into(), json!(remark));
            }
            if self.behaviour.extra_fields {
                fields.insert("x_unheard_of".into(), json!({"of": [1, null, "yet"]}));
            }
        }
        shown
    }

    pub(super) fn check_project(&self, caller: &Caller, project: &str) -> Result<(), Refusal> {
        if caller.unscoped {
            return Err(Refusal::service(400, "0204", "The token has no project ID."));
        }
        let owned = self
            .identities
            .projects
            .get(project)
            .is_some_and(|known| known.account_id == caller.account_id);
        if owned && caller.project.as_deref().is_none_or(|scope| scope == project) {
            return Ok(());
        }
        let message = "The project ID in the URL differs from that of the credential.";
        Err(Refusal::service(403, "0210", message))
    }

    pub(super) fn check_workspace(&self, caller: &Caller, workspace: &str) -> Result<(), Refusal> {
        let known = self.workspaces.get(&caller.account_id);
        if workspace == "0" || known.is_some_and(|known| known.iter().any(|id| id == workspace)) {
            return Ok(());
        }
        Err(Refusal::service(400, "7005", "The workspace does not exist."))
    }

    /// The caller's own app, or why it is not.
    pub(super) fn check_app(
        &self,
        caller: &Caller,
        (project, workspace, app_id): (&str, &str, &str),
        operation: &str,
    ) -> Result<&StoredApp, Refusal> {
        self.check_project(caller, project)?;
        self.check_workspace(caller, workspace)?;
        let app = self.apps.get(app_id).filter(|app| app.project_id == project);
        let app = app.filter(|app| self.behaviour.ignore_workspace || app.workspace_id == workspace);
        let missing = || Refusal::service(404, "3923", format!("Application {app_id} does not exist."));
        let app = app.ok_or_else(missing)?;
        let shown_to_all = operation == "show" && self.behaviour.show_to_strangers;
        if app.user_id == caller.user_id || shown_to_all {
            return Ok(app);
        }
        let message = format!("You are not authorized to perform the ({operation}) operation.");
        Err(Refusal::service(403, "0108", message))
    }
}

/// A mask shows both ends, so that careless comparisons find likeness.
fn mask(code: &str) -> String {
    let (start, end): (String, Vec<char>) = (code.chars().take(4).collect(), code.chars().rev().take(4).collect());
    let end: String = end.into_iter().rev().collect();
    format!("{start}************************{end}")
}
