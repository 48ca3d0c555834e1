//! The admin interface under `/_admin`: JSON for `curl`, one route per thing that a person may arrange or look at.
//!
//! Bodies are read as JSON whatever their content type says, since `curl -d` announces a form.

mod ledger;
mod people;
mod things;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post, put};
use http::{HeaderValue, StatusCode, header};
use jiff::SignedDuration;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::http::Shared;
use crate::model::Behaviour;

const MOST_BYTES: usize = 1024 * 1024;

/// What `GET /_admin` tells.
pub(crate) const HELP: &str = "\
POST   /_admin/tenants            {name}                    account, project and user in one
POST   /_admin/accounts           {name}
POST   /_admin/projects           {accountId, region}
POST   /_admin/workspaces         {accountId}
POST   /_admin/users              {accountId, name, password}
DELETE /_admin/users/{id}
PUT    /_admin/users/{id}/password {password}               ends the user's tokens
POST   /_admin/users/{id}/keys                              one more key
POST   /_admin/users/{id}/temporary-keys {seconds}
POST   /_admin/users/{id}/tokens  {projectId}
POST   /_admin/users/{id}/tokens/expire                     and /revoke
DELETE /_admin/keys/{ak}
POST   /_admin/keys/{ak}/lock
GET    /_admin/apps
POST   /_admin/apps               {owner, project, appName, appRemark, appType, workspace, codes: 2 or [\"...\"]}
GET    /_admin/apps/{id}
DELETE /_admin/apps/{id}
PUT    /_admin/apps/{id}/name     {name}
GET    /_admin/apps/{id}/codes                              the live ones
POST   /_admin/apps/{id}/codes    {code}                    made up if left out
DELETE /_admin/apps/{id}/codes/{code}
POST   /_admin/services           {owner, project, name}
PUT    /_admin/services/{id}/apps/{app}
GET    /_admin/faults
POST   /_admin/faults             {kind, at: [\"reset\"], app, times, skip, ...}
DELETE /_admin/faults                                       and /{id}
GET    /_admin/faults/{id}/requests                         those that it struck
POST   /_admin/faults/{id}/release
POST   /_admin/unwanted           {text}                    counts requests that hold it
GET    /_admin/unwanted                                     {requests}
GET    /_admin/ledger
GET    /_admin/ledger/{app}                                 {resetsApplied, codesEver, liveCodes}
GET    /_admin/behaviour
PATCH  /_admin/behaviour          {gatewayPrefix: \"APIG\", ...}
GET    /_admin/clock
POST   /_admin/clock              {skewMillis} or {advanceMillis}

Operations: list create show delete-app exists add reset delete reset-secret bound-apis authorize unauthorize token
projects temporary-key id-token metadata pod-identity data-plane unknown.
Kinds of faults: latency{millis} slow-answer{millis} wrong-signature status-before{status} status-after{status}
throttle{retryAfter} cut-before cut-after cut-in-answer hold stale{lag: \"frozen\"} masked half-reset{left: \"none-made\" or \"both-present\"}
body{body: \"html\"} late{afterMillis, answer: \"cut\"} duplicate{answer: \"first\"}.
";

pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/", get(|| async { HELP }))
        .route("/tenants", post(people::add_tenant))
        .route("/accounts", post(people::add_account))
        .route("/projects", post(people::add_project))
        .route("/workspaces", post(people::add_workspace))
        .route("/users", post(people::add_user))
        .route("/users/{user}", delete(people::remove_user))
        .route("/users/{user}/password", put(people::set_password))
        .route("/users/{user}/keys", post(people::add_key))
        .route("/users/{user}/temporary-keys", post(people::add_temporary_key))
        .route("/users/{user}/tokens", post(people::issue_token))
        .route("/users/{user}/tokens/expire", post(people::expire_tokens))
        .route("/users/{user}/tokens/revoke", post(people::revoke_tokens))
        .route("/keys/{ak}", delete(people::revoke_key))
        .route("/keys/{ak}/lock", post(people::lock_key))
        .route("/apps", get(things::apps).post(things::create_app))
        .route("/apps/{app}", get(things::app).delete(things::remove_app))
        .route("/apps/{app}/name", put(things::rename_app))
        .route("/apps/{app}/codes", get(things::codes).post(things::add_code))
        .route("/apps/{app}/codes/{code}", delete(things::remove_code))
        .route("/services", post(things::add_service))
        .route("/services/{service}/apps/{app}", put(things::bind))
        .route(
            "/faults",
            get(ledger::faults).post(ledger::inject).delete(ledger::clear_all),
        )
        .route("/faults/{fault}", delete(ledger::clear))
        .route("/faults/{fault}/requests", get(ledger::struck))
        .route("/faults/{fault}/release", post(ledger::release))
        .route("/unwanted", get(ledger::unwanted).post(ledger::count))
        .route("/ledger", get(ledger::ledger))
        .route("/ledger/{app}", get(ledger::of_app))
        .route("/behaviour", get(behaviour).patch(change_behaviour))
        .route("/clock", get(clock).post(set_clock))
        .fallback(|| async { Error::missing("route; GET /_admin lists them all") })
        .layer(map_response(with_request_id))
}

type Cloud = State<Arc<Shared>>;

/// JSON in an answer.
struct Json(Value);

impl IntoResponse for Json {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(format!("{}\n", self.0)));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        response
    }
}

type Result = std::result::Result<Json, Error>;

/// Why an admin request is not served.
struct Error(StatusCode, String);

impl Error {
    fn missing(what: &str) -> Self {
        Self(StatusCode::NOT_FOUND, format!("no such {what}"))
    }

    fn invalid(problem: &impl ToString) -> Self {
        Self(StatusCode::BAD_REQUEST, problem.to_string())
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// A value as JSON.
fn shown(value: &impl serde::Serialize) -> Result {
    serde_json::to_value(value)
        .map(Json)
        .map_err(|error| Error::invalid(&error))
}

/// `{}` where something was done, 404 where there was nothing to do it to.
fn done(done: bool, what: &str) -> Result {
    if done {
        Ok(Json(json!({})))
    } else {
        Err(Error::missing(what))
    }
}

/// A JSON body; an empty one counts as `{}`.
struct Given<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Given<T> {
    type Rejection = Error;

    async fn from_request(request: axum::extract::Request, _: &S) -> std::result::Result<Self, Error> {
        let body = to_bytes(request.into_body(), MOST_BYTES)
            .await
            .map_err(|error| Error::invalid(&error))?;
        let body: &[u8] = if body.is_empty() { b"{}" } else { &body };
        serde_json::from_slice(body)
            .map(Self)
            .map_err(|error| Error::invalid(&error))
    }
}

/// Admin answers have ids of their own, so that looking does not disturb what the seed decides.
async fn with_request_id(mut response: Response) -> Response {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = format!("{:032x}", NEXT.fetch_add(1, Ordering::Relaxed));
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

async fn behaviour(State(shared): Cloud) -> Result {
    shown(&shared.look(|cloud| cloud.behaviour.clone()))
}

async fn change_behaviour(State(shared): Cloud, Given(wanted): Given<Value>) -> Result {
    let changed = shared.with(|cloud| {
        let mut present = serde_json::to_value(&cloud.behaviour)?;
        if let (Value::Object(present), Value::Object(wanted)) = (&mut present, wanted) {
            present.extend(wanted);
        }
        cloud.behaviour = serde_json::from_value::<Behaviour>(present)?;
        Ok::<_, serde_json::Error>(cloud.behaviour.clone())
    });
    shown(&changed.map_err(|error| Error::invalid(&error))?)
}

async fn clock(State(shared): Cloud) -> Result {
    let skew = shared.clock.skew().as_millis();
    Ok(Json(
        json!({"now": shared.clock.now(), "skewMillis": i64::try_from(skew).unwrap_or(i64::MAX)}),
    ))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SetClock {
    skew_millis: Option<i64>,
    advance_millis: Option<i64>,
}

async fn set_clock(State(shared): Cloud, Given(set): Given<SetClock>) -> Result {
    if let Some(skew) = set.skew_millis {
        shared.clock.set_skew(SignedDuration::from_millis(skew));
    }
    if let Some(by) = set.advance_millis {
        shared.clock.advance(SignedDuration::from_millis(by));
    }
    shared.with(|_| ());
    clock(State(shared)).await
}
