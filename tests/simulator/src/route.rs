//! From a request to the call that it makes. Segments are split first and decoded then, so a code may hold a slash.

use serde::Deserialize;
use serde_json::Value;

use crate::model::{AppRequest, Behaviour, Call, ListQuery, Operation};
use crate::wire::{Refusal, Request, decode};

/// A request, understood as far as possible. Faults strike by operation and app even where the body makes no sense.
#[derive(Debug)]
pub(crate) struct Routed {
    pub(crate) operation: Operation,
    pub(crate) app: Option<String>,
    pub(crate) call: Result<Call, Refusal>,
}

impl Call {
    /// Method, operation and app of a call.
    pub(crate) fn describe(&self) -> (&'static str, Operation, Option<&str>) {
        match self {
            Self::List { .. } => ("GET", Operation::List, None),
            Self::Create { .. } => ("POST", Operation::Create, None),
            Self::Show { app, .. } => ("GET", Operation::Show, Some(app)),
            Self::DeleteApp { app, .. } => ("DELETE", Operation::DeleteApp, Some(app)),
            Self::Exists { .. } => ("GET", Operation::Exists, None),
            Self::AddCode { app, .. } => ("POST", Operation::Add, Some(app)),
            Self::ResetCode { app, .. } => ("PUT", Operation::Reset, Some(app)),
            Self::DeleteCode { app, .. } => ("DELETE", Operation::Delete, Some(app)),
            Self::ResetSecret { app, .. } => ("PUT", Operation::ResetSecret, Some(app)),
            Self::BoundApis { app, .. } => ("GET", Operation::BoundApis, Some(app)),
            Self::Authorize { bind: true, .. } => ("POST", Operation::Authorize, None),
            Self::Authorize { bind: false, .. } => ("DELETE", Operation::Unauthorize, None),
            Self::SignIn { .. } => ("POST", Operation::Token, None),
            Self::Projects { .. } => ("GET", Operation::Projects, None),
            Self::TemporaryKey { .. } => ("POST", Operation::TemporaryKey, None),
            Self::IdToken { .. } => ("POST", Operation::IdToken, None),
            Self::MetadataSession => ("PUT", Operation::Metadata, None),
            Self::MetadataKey { .. } => ("GET", Operation::Metadata, None),
            Self::PodIdentity { .. } => ("POST", Operation::PodIdentity, None),
            Self::Infer { .. } => ("POST", Operation::DataPlane, None),
        }
    }
}

pub(crate) fn route(request: &Request, behaviour: &Behaviour) -> Routed {
    let prefix = behaviour.gateway_prefix.as_str();
    let missing = || {
        let text = "The API does not exist or has not been published in the environment";
        Refusal::gateway(404, prefix, "0101", text)
    };
    let path = request.path();
    let has_encoded_slash = path.to_ascii_lowercase().contains("%2f");
    let segments: Vec<String> = path.trim_start_matches('/').split('/').map(decode).collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let found = if has_encoded_slash && behaviour.refuse_encoded_slash {
        None
    } else {
        find(request, &segments)
    };
    let Some(call) = found else {
        return Routed {
            operation: Operation::Unknown,
            app: None,
            call: Err(missing()),
        };
    };
    match call {
        Ok(call) => {
            let (_, operation, app) = call.describe();
            Routed {
                operation,
                app: app.map(str::to_owned),
                call: Ok(call),
            }
        }
        Err((stand_in, refusal)) => {
            let (_, operation, app) = stand_in.describe();
            Routed {
                operation,
                app: app.map(str::to_owned),
                call: Err(refusal),
            }
        }
    }
}

/// A call, or one like it with the reason why it cannot be made.
type Found = Option<Result<Call, (Call, Refusal)>>;

fn find(request: &Request, segments: &[&str]) -> Found {
    match segments {
        ["v1", project, "app-auth", "apps"] => find_apps(request, (*project).to_owned()),
        ["v1", project, "app-auth", "apps", rest @ ..] => find_app(request, (*project).to_owned(), rest),
        ["v1", project, "services", service, "app-auth-apis", api, "app-auth-api"] => {
            find_authorization(request, project, service, api)
        }
        ["v1", "infers", service, ..] => Some(Ok(Call::Infer {
            service: (*service).to_owned(),
            code: request.get("X-Apig-AppCode").map(str::to_owned),
        })),
        _ => find_identity(request, segments).map(Ok),
    }
}

fn find_identity(request: &Request, segments: &[&str]) -> Option<Call> {
    let body = || serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let header = |name: &str| request.get(name).map(str::to_owned);
    match (request.method.as_str(), segments) {
        ("POST", ["v3", "auth", "tokens"]) => Some(Call::SignIn { body: body() }),
        ("GET", ["v3", "projects"]) => Some(Call::Projects {
            name: query(request, "name"),
        }),
        ("POST", ["v3.0", "OS-CREDENTIAL", "securitytokens"]) => Some(Call::TemporaryKey {
            body: body(),
            token: header("X-Auth-Token"),
        }),
        ("POST", ["v3.0", "OS-AUTH", "id-token", "tokens"]) => Some(Call::IdToken {
            provider: header("X-Idp-Id"),
            body: body(),
        }),
        ("PUT", ["meta-data", "latest", "api", "token"]) => Some(Call::MetadataSession),
        ("GET", ["openstack", "latest", "securitykey"]) => Some(Call::MetadataKey {
            session: header("X-Metadata-Token"),
        }),
        ("POST", ["pod-identity"]) => Some(Call::PodIdentity {
            authorization: header("Authorization"),
        }),
        _ => None,
    }
}

fn find_apps(request: &Request, project: String) -> Found {
    match request.method.as_str() {
        "GET" => {
            let query = list_query(request, "app_name");
            Some(match query {
                Ok(query) => Ok(Call::List { project, query }),
                Err(refusal) => Err((
                    Call::List {
                        project,
                        query: ListQuery::default(),
                    },
                    refusal,
                )),
            })
        }
        "POST" => Some(with_body(request, |body| Call::Create { project, body })),
        _ => None,
    }
}

fn find_app(request: &Request, project: String, rest: &[&str]) -> Found {
    let workspace = || query(request, "workspace_id").unwrap_or_else(|| "0".into());
    match (request.method.as_str(), rest) {
        ("GET", [app]) => Some(Ok(Call::Show {
            project,
            app: (*app).to_owned(),
            workspace: workspace(),
            plain: is_plain(request),
        })),
        ("DELETE", [app]) => Some(Ok(Call::DeleteApp {
            project,
            app: (*app).to_owned(),
            workspace: workspace(),
        })),
        ("GET", [name, "exists"]) => Some(Ok(Call::Exists {
            project,
            name: (*name).to_owned(),
            workspace: workspace(),
        })),
        ("GET", [app, "auth-apis"]) => {
            let app = (*app).to_owned();
            Some(match list_query(request, "service_name") {
                Ok(query) => Ok(Call::BoundApis { project, app, query }),
                Err(refusal) => Err((
                    Call::BoundApis {
                        project,
                        app,
                        query: ListQuery::default(),
                    },
                    refusal,
                )),
            })
        }
        ("PUT", [app, "app-secret"]) => {
            let app = (*app).to_owned();
            Some(with_body(request, |body| Call::ResetSecret { project, app, body }))
        }
        ("POST", [app, "app-code"]) => {
            let app = (*app).to_owned();
            Some(with_body(request, |body| Call::AddCode { project, app, body }))
        }
        ("PUT", [app, "app-code", code]) => {
            let (app, code) = ((*app).to_owned(), (*code).to_owned());
            Some(with_body(request, |body| Call::ResetCode {
                project,
                app,
                code,
                body,
            }))
        }
        ("DELETE", [app, "app-code", code]) => Some(Ok(Call::DeleteCode {
            project,
            app: (*app).to_owned(),
            code: (*code).to_owned(),
            workspace: workspace(),
        })),
        _ => None,
    }
}

fn find_authorization(request: &Request, project: &str, service: &str, api: &str) -> Found {
    #[derive(Deserialize)]
    struct Named {
        app_id: String,
    }
    #[derive(Deserialize)]
    struct Apps {
        apps: Vec<Named>,
    }
    let bind = match request.method.as_str() {
        "POST" => true,
        "DELETE" => false,
        _ => return None,
    };
    let call = |apps| Call::Authorize {
        project: project.to_owned(),
        service: service.to_owned(),
        api: api.to_owned(),
        apps,
        bind,
    };
    Some(match serde_json::from_slice::<Apps>(&request.body) {
        Ok(body) => Ok(call(body.apps.into_iter().map(|app| app.app_id).collect())),
        Err(_) => Err((call(Vec::new()), parameter_error("apps is required"))),
    })
}

fn with_body(request: &Request, call: impl FnOnce(Option<AppRequest>) -> Call) -> Result<Call, (Call, Refusal)> {
    if request.body.is_empty() {
        return Ok(call(None));
    }
    match serde_json::from_slice(&request.body) {
        Ok(body) => Ok(call(Some(body))),
        Err(_) => Err((call(None), parameter_error("the body is not valid"))),
    }
}

fn parameter_error(text: &str) -> Refusal {
    Refusal::service(400, "0104", format!("Parameter error: {text}."))
}

fn query(request: &Request, name: &str) -> Option<String> {
    let pairs = request.query();
    pairs.into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

fn is_plain(request: &Request) -> bool {
    query(request, "iphertext_enabled").is_some_and(|value| value.eq_ignore_ascii_case("true"))
}

fn list_query(request: &Request, name_field: &str) -> Result<ListQuery, Refusal> {
    let number = |name: &str| match query(request, name) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| parameter_error(&format!("{name} is not a number"))),
    };
    let ids = request
        .query()
        .into_iter()
        .filter(|(name, _)| name == "app_ids")
        .map(|(_, value)| value);
    Ok(ListQuery {
        name: query(request, name_field),
        limit: number("limit")?,
        offset: number("offset")?.unwrap_or_default(),
        descending: query(request, "order").as_deref() == Some("desc"),
        sort_by: query(request, "sort_by"),
        workspace: query(request, "workspace_id"),
        plain: is_plain(request),
        plain_apps: ids.collect(),
    })
}
