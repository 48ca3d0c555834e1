//! Apps, and what a stranger to the client may do to them.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Cloud;
use super::codes::Act;
use super::stored::StoredApp;
use crate::ledger::Cause;

/// The gateway on which an app is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum AppType {
    /// The shared gateway.
    #[default]
    #[serde(rename = "APIG")]
    Apig,
    /// A dedicated gateway.
    #[serde(rename = "DEDICATE_APIG")]
    DedicateApig,
    /// ROMA Connect, which knows no app codes.
    #[serde(rename = "APIC")]
    Apic,
}

impl AppType {
    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apig => "APIG",
            Self::DedicateApig => "DEDICATE_APIG",
            Self::Apic => "APIC",
        }
    }
}

/// The codes that an app starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Codes {
    /// So many, made as the service makes them.
    Count(usize),
    /// These, of any text.
    Given(Vec<String>),
}

impl Default for Codes {
    fn default() -> Self {
        Self::Count(0)
    }
}

/// An app to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewApp {
    /// IAM user id of its creator.
    pub owner: String,
    /// The project.
    pub project: String,
    /// The workspace.
    #[serde(default = "default_workspace")]
    pub workspace: String,
    /// Its id, or one as the service makes up.
    #[serde(default)]
    pub app_id: Option<String>,
    /// A name, or one as the console makes up.
    #[serde(default)]
    pub app_name: Option<String>,
    /// A remark; an empty one is not shown.
    #[serde(default)]
    pub app_remark: String,
    /// The gateway.
    #[serde(default)]
    pub app_type: AppType,
    /// Its codes.
    #[serde(default)]
    pub codes: Codes,
}

fn default_workspace() -> String {
    "0".into()
}

impl NewApp {
    /// An app of a user in a project, without codes.
    pub fn of(user_id: &str, project_id: &str) -> Self {
        Self {
            owner: user_id.to_owned(),
            project: project_id.to_owned(),
            workspace: default_workspace(),
            app_id: None,
            app_name: None,
            app_remark: String::new(),
            app_type: AppType::default(),
            codes: Codes::default(),
        }
    }

    /// Starts with so many codes.
    #[must_use]
    pub fn codes(mut self, count: usize) -> Self {
        self.codes = Codes::Count(count);
        self
    }

    /// Starts with this code, and those named before.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        match &mut self.codes {
            Codes::Given(codes) => codes.push(code.to_owned()),
            Codes::Count(_) => self.codes = Codes::Given(vec![code.to_owned()]),
        }
        self
    }

    /// Sets the id, which must be free, for an app that is known from elsewhere.
    #[must_use]
    pub fn id(mut self, app_id: &str) -> Self {
        self.app_id = Some(app_id.to_owned());
        self
    }

    /// Sets the name.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.app_name = Some(name.to_owned());
        self
    }

    /// Sets the remark.
    #[must_use]
    pub fn remark(mut self, remark: &str) -> Self {
        remark.clone_into(&mut self.app_remark);
        self
    }

    /// Sets the gateway.
    #[must_use]
    pub fn on(mut self, app_type: AppType) -> Self {
        self.app_type = app_type;
        self
    }

    /// Sets the workspace.
    #[must_use]
    pub fn workspace(mut self, workspace_id: &str) -> Self {
        workspace_id.clone_into(&mut self.workspace);
        self
    }
}

/// An app as its creator knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// 32 hex digits, or `logic-app-` and a UUID on a dedicated gateway.
    pub app_id: String,
    /// Name.
    pub app_name: String,
    /// Remark, perhaps empty.
    pub app_remark: String,
    /// 32 hex digits.
    pub app_key: String,
    /// 32 hex digits.
    pub app_secret: String,
    /// The gateway.
    pub app_type: AppType,
    /// Its creator.
    pub user_id: String,
    /// Its project.
    pub project_id: String,
    /// Its workspace.
    pub workspace_id: String,
    /// The codes it has now, in the order kept.
    pub codes: Vec<String>,
    /// Epoch milliseconds.
    pub created_at: i64,
    /// Epoch milliseconds.
    pub updated_at: i64,
}

impl Cloud {
    /// Makes an app, by no one's request.
    #[allow(clippy::missing_panics_doc, reason = "it finds what it stored")]
    pub fn create_app(&mut self, now: Timestamp, new: NewApp) -> App {
        let app_id = self.store_app(now, &new);
        let act = self.new_act(now, None, Cause::Admin);
        let codes = match new.codes {
            Codes::Given(codes) => codes,
            Codes::Count(count) => (0..count).map(|_| self.new_code()).collect(),
        };
        for code in codes {
            self.make_code(act, &app_id, code, None);
        }
        #[allow(clippy::expect_used, reason = "it was stored a few lines above")]
        self.app(&app_id).expect("an app that was just stored")
    }

    pub(super) fn store_app(&mut self, now: Timestamp, new: &NewApp) -> String {
        let id = self.new_uuid();
        let app_id = new.app_id.clone().unwrap_or_else(|| match new.app_type {
            AppType::DedicateApig => format!("logic-app-{}", hyphenated(&id)),
            AppType::Apig | AppType::Apic => id,
        });
        let name = new
            .app_name
            .clone()
            .unwrap_or_else(|| format!("app_{}", self.new_text(5, b"abcdefghijkmnpqrstuvwxyz")));
        let millis = now.as_millisecond();
        let stored = StoredApp {
            app_id: app_id.clone(),
            name,
            remark: new.app_remark.clone(),
            app_key: self.new_id(),
            app_secret: self.new_id(),
            app_type: new.app_type,
            user_id: new.owner.clone(),
            project_id: new.project.clone(),
            workspace_id: new.workspace.clone(),
            codes: Vec::new(),
            created_at: millis,
            updated_at: millis,
            changed_at: now,
            changed_by: self.ledger.acts(),
            past: VecDeque::new(),
        };
        self.apps.insert(app_id.clone(), stored);
        app_id
    }

    /// An app as it is now.
    pub fn app(&self, app_id: &str) -> Option<App> {
        self.apps.get(app_id).map(|app| App {
            app_id: app.app_id.clone(),
            app_name: app.name.clone(),
            app_remark: app.remark.clone(),
            app_key: app.app_key.clone(),
            app_secret: app.app_secret.clone(),
            app_type: app.app_type,
            user_id: app.user_id.clone(),
            project_id: app.project_id.clone(),
            workspace_id: app.workspace_id.clone(),
            codes: app.codes.clone(),
            created_at: app.created_at,
            updated_at: app.updated_at,
        })
    }

    /// All apps.
    pub fn apps(&self) -> Vec<App> {
        self.apps.keys().filter_map(|app_id| self.app(app_id)).collect()
    }

    /// The codes of an app, none if there is no such app.
    pub fn live_codes(&self, app_id: &str) -> Vec<String> {
        self.apps.get(app_id).map(|app| app.codes.clone()).unwrap_or_default()
    }

    /// Adds a code as somebody else would: the given one or a new one. `None` if there is no such app.
    pub fn add_code(&mut self, now: Timestamp, app_id: &str, code: Option<&str>) -> Option<String> {
        self.apps.get(app_id)?;
        let code = code.map_or_else(|| self.new_code(), str::to_owned);
        let act = self.new_act(now, None, Cause::Admin);
        self.remember(act, app_id);
        self.make_code(act, app_id, code.clone(), None);
        Some(code)
    }

    /// Removes a code as somebody else would. False if the app does not have it.
    pub fn remove_code(&mut self, now: Timestamp, app_id: &str, code: &str) -> bool {
        let Some(app) = self
            .apps
            .get(app_id)
            .filter(|app| app.codes.iter().any(|listed| listed == code))
        else {
            return false;
        };
        let app_id = app.app_id.clone();
        let act = self.new_act(now, None, Cause::Admin);
        self.remember(act, &app_id);
        self.end_code(act, &app_id, code).is_some()
    }

    /// Removes an app with its codes as somebody else would. False if there is none.
    pub fn remove_app(&mut self, now: Timestamp, app_id: &str) -> bool {
        let act = self.new_act(now, None, Cause::Admin);
        self.drop_app(act, app_id)
    }

    /// Gives an app another name as somebody else would. False if there is none.
    pub fn rename_app(&mut self, app_id: &str, name: &str) -> bool {
        let app = self.apps.get_mut(app_id);
        app.map(|app| name.clone_into(&mut app.name)).is_some()
    }

    pub(super) fn drop_app(&mut self, act: Act, app_id: &str) -> bool {
        for code in self.live_codes(app_id) {
            self.end_code(act, app_id, &code);
        }
        self.apps.remove(app_id).is_some()
    }
}

fn hyphenated(hex: &str) -> String {
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| hex.get(range).unwrap_or_default());
    parts.join("-")
}
