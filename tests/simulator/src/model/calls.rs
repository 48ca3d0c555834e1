//! What can be asked of the cloud.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::faults::{Half, Lag};

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

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
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
