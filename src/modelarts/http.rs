//! The real cloud: credentials to headers, calls to requests, answers to what they prove.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Url};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::failure::{Failure, Secrets, refused};
use super::refusal::{Call, Refusal};
use super::sign::{self, Signable};
use super::token::{Fresh, Token, Tokens};
use super::transport::{Answer, HttpOptions, HttpSetupError, Outgoing, SendError, Transport, host};
use super::{App, AppCode, AppCodes, CloudError, CloudErrorKind, Credentials, Echo, Target, wire};
use crate::clock::Clock;
use crate::metrics::{Metrics, Operation};

const JSON: &str = "application/json";

/// [`AppCodes`] over HTTPS. Credentials come with each call; only tokens are kept.
pub struct HttpAppCodes {
    transport: Transport,
    tokens: Tokens,
    send_within: Duration,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
}

impl HttpAppCodes {
    /// A client that connects as `options` say, signs with the time of `clock` and counts its sign-ins in `metrics`. Only it
    /// knows of those; the calls on apps are counted around it.
    ///
    /// # Errors
    /// When the options contradict each other or hold something unreadable.
    pub fn new(options: &HttpOptions, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Result<Self, HttpSetupError> {
        Ok(Self {
            transport: Transport::new(options)?,
            tokens: Tokens::default(),
            send_within: options.send_within,
            clock,
            metrics,
        })
    }
}

/// One of our calls, before it has credentials.
struct Plan<'a> {
    call: Call,
    method: Method,
    path: Zeroizing<String>,
    query: &'a [(&'a str, &'a str)],
    body: Option<Vec<u8>>,
    /// What an error must not repeat, besides the credentials.
    code: Option<&'a AppCode>,
}

#[async_trait]
impl AppCodes for HttpAppCodes {
    async fn admit(&self, target: &Target) -> Result<(), CloudError> {
        self.token(target, None).await.map(|_| ())
    }

    async fn show_app(&self, target: &Target) -> Result<App, CloudError> {
        let query = [
            ("workspace_id", target.workspace.as_str()),
            ("iphertext_enabled", "true"),
        ];
        let path = wire::app_path(target).into();
        let plan = Plan {
            call: Call::Show,
            method: Method::GET,
            path,
            query: &query,
            body: None,
            code: None,
        };
        self.run(target, &plan).await
    }

    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Result<App, CloudError> {
        addressable(Call::Reset, code)?;
        let body = Some(wire::change_body(target, echo));
        let path = wire::code_path(target, code).into();
        let plan = Plan {
            call: Call::Reset,
            method: Method::PUT,
            path,
            query: &[],
            body,
            code: Some(code),
        };
        self.run(target, &plan).await
    }

    async fn add_code(&self, target: &Target, echo: &Echo) -> Result<App, CloudError> {
        let body = Some(wire::change_body(target, echo));
        let path = wire::codes_path(target).into();
        let plan = Plan {
            call: Call::Add,
            method: Method::POST,
            path,
            query: &[],
            body,
            code: None,
        };
        self.run(target, &plan).await
    }

    async fn delete_code(&self, target: &Target, code: &AppCode) -> Result<App, CloudError> {
        addressable(Call::Delete, code)?;
        let query = [("workspace_id", target.workspace.as_str())];
        let path = wire::code_path(target, code).into();
        let plan = Plan {
            call: Call::Delete,
            method: Method::DELETE,
            path,
            query: &query,
            body: None,
            code: Some(code),
        };
        self.run(target, &plan).await
    }
}

/// Refuses a call on a code that no URL can name.
fn addressable(call: Call, code: &AppCode) -> Result<(), CloudError> {
    if code.is_addressable() {
        return Ok(());
    }
    let name = call.name();
    let message = format!(
        "{name}: the code holds a slash or is a dot segment, which no URL can name; delete it in the console and create \
         another one"
    );
    Err(Failure::of(CloudErrorKind::Refused).says(message))
}

impl HttpAppCodes {
    async fn run(&self, target: &Target, plan: &Plan<'_>) -> Result<App, CloudError> {
        let asked_at = self.clock.uptime();
        let outcome = self.call(target, plan, asked_at).await;
        match &outcome {
            Ok((status, app)) => self.trace(plan.call, Ok(*status), app.request_id.as_deref(), asked_at),
            Err(error) => self.trace(plan.call, Err(error), error.request_id.as_deref(), asked_at),
        }
        outcome.map(|(_, app)| app)
    }

    /// Traces one call: what was asked for and what came of it, never a URL, a header or a body.
    fn trace(&self, call: Call, outcome: Result<u16, &CloudError>, request_id: Option<&str>, since: Duration) {
        let took = self.clock.uptime().saturating_sub(since);
        tracing::debug!(
            operation = call.operation(),
            outcome = outcome.map_or_else(CloudError::category, |_| "ok"),
            status = outcome.map_or_else(|error| error.status, Some),
            took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            request_id,
            "called the cloud"
        );
    }

    async fn call(&self, target: &Target, plan: &Plan<'_>, asked_at: Duration) -> Result<(u16, App), CloudError> {
        let mut token = self.token(target, None).await?;
        self.in_time(plan, asked_at)?;
        let mut secrets = Secrets::of(target, plan.code);
        secrets.add_token(token.as_ref());
        let mut answer = self.send(target, plan, token.as_ref(), &secrets).await?;
        let stale = token
            .as_ref()
            .filter(|_| read_refusal(&answer).is_some_and(|refusal| refusal.is_stale_token()));
        if let Some(serial) = stale.map(|token| token.serial) {
            // The answer proves that nothing was done, so this is not a repeat of a change.
            tracing::debug!(
                operation = plan.call.operation(),
                status = answer.status,
                request_id = secrets.request_id(&answer),
                "the token is out of date; signing in again"
            );
            token = self.token(target, Some(serial)).await?;
            self.in_time(plan, asked_at)?;
            secrets.add_token(token.as_ref());
            answer = self.send(target, plan, token.as_ref(), &secrets).await?;
        }
        let status = answer.status;
        let mut app = understand(plan.call, answer, target, &secrets)?;
        app.caller = token.and_then(|token| token.user_id);
        Ok((status, app))
    }

    /// Refuses to send a change that signing in has delayed.
    fn in_time(&self, plan: &Plan<'_>, asked_at: Duration) -> Result<(), CloudError> {
        if plan.call == Call::Show || self.clock.uptime().saturating_sub(asked_at) <= self.send_within {
            return Ok(());
        }
        let message = format!("{}: not sent, since signing in took too long", plan.call.name());
        Err(Failure::of(CloudErrorKind::NotSent).says(message))
    }

    /// The token of a password caller; another caller needs none.
    async fn token(&self, target: &Target, refused: Option<u64>) -> Result<Option<Token>, CloudError> {
        let Credentials::Password {
            domain_name,
            user_name,
            password,
        } = &target.caller.credentials
        else {
            return Ok(None);
        };
        let sign_in = async {
            let since = self.clock.uptime();
            let outcome = self.sign_in(target, domain_name, user_name, password).await;
            let took = self.clock.uptime().saturating_sub(since);
            self.metrics
                .called(Operation::SignIn, outcome.as_ref().map(|_| ()), took);
            match &outcome {
                Ok(fresh) => self.trace(Call::SignIn, Ok(fresh.status), fresh.request_id.as_deref(), since),
                Err(error) => self.trace(Call::SignIn, Err(error), error.request_id.as_deref(), since),
            }
            outcome
        };
        self.tokens
            .get(target, self.clock.uptime(), refused, sign_in)
            .await
            .map(Some)
    }

    async fn sign_in(
        &self,
        target: &Target,
        domain: &str,
        user: &str,
        password: &SecretString,
    ) -> Result<Fresh, CloudError> {
        let secrets = Secrets::of(target, None);
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json;charset=utf8"));
        let body = wire::sign_in_body(domain, user, password, target.app.project_id.as_str());
        let outgoing = Outgoing {
            method: Method::POST,
            origin: &target.endpoint.iam,
            path: "/v3/auth/tokens",
            query: "nocatalog=true",
            headers,
            body: Some(body.into()),
        };
        // Whatever happened to a sign-in, the call that it is for has not been sent.
        let failure = Failure::of(CloudErrorKind::NotSent);
        let answer = self.transport.send(outgoing, self.clock.now()).await;
        let answer = answer.map_err(|(SendError::NotSent(text) | SendError::Unknown(text))| {
            failure.clone().says(secrets.scrub(&format!("sign in: {text}")))
        })?;
        if let Some(refusal) = read_refusal(&answer) {
            return Err(refused(Call::SignIn, refusal, &answer, &secrets));
        }
        let (failure, status) = (failure.about(&answer, &secrets), answer.status);
        let request_id = secrets.request_id(&answer);
        let body = answer.body.unwrap_or_default();
        let Some(value) = answer.token else {
            return Err(failure.says(format!("sign in: HTTP {status} without a token")));
        };
        let signed_in = wire::parse_sign_in(&body);
        // It was not among the secrets yet when the id was looked at.
        let request_id = request_id.filter(|id| !id.contains(value.expose_secret()));
        Ok(Fresh {
            value,
            user_id: signed_in.user_id,
            life: signed_in.life,
            status,
            request_id,
        })
    }

    async fn send(
        &self,
        target: &Target,
        plan: &Plan<'_>,
        token: Option<&Token>,
        secrets: &Secrets<'_>,
    ) -> Result<Answer, CloudError> {
        let not_sent = |text: &str| Failure::of(CloudErrorKind::NotSent).says(text.to_owned());
        let origin = &target.endpoint.modelarts;
        let host = Url::parse(origin)
            .ok()
            .and_then(|url| host(&url))
            .ok_or_else(|| not_sent("the endpoint is not a URL"))?;
        let headers = self
            .headers(target, plan, token, &host)
            .ok_or_else(|| not_sent("the credentials hold characters that no header can carry"))?;
        let query = sign::query_string(plan.query);
        let body = plan.body.clone().map(Zeroizing::new);
        let outgoing = Outgoing {
            method: plan.method.clone(),
            origin,
            path: &plan.path,
            query: &query,
            headers,
            body,
        };
        self.transport.send(outgoing, self.clock.now()).await.map_err(|error| {
            let (kind, text) = match error {
                SendError::NotSent(text) => (CloudErrorKind::NotSent, text),
                SendError::Unknown(text) => (CloudErrorKind::UnknownOutcome, text),
            };
            Failure::of(kind).says(secrets.scrub(&format!("{}: {text}", plan.call.name())))
        })
    }

    /// The headers of one sending: a signature is never used twice, since it holds the time.
    fn headers(&self, target: &Target, plan: &Plan<'_>, token: Option<&Token>, host: &str) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(JSON));
        if plan.body.is_some() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        let token = match &target.caller.credentials {
            Credentials::Keys {
                access_key,
                secret_key,
                security_token,
            } => {
                let date = sign::date(self.clock.now());
                let mut signed = vec![
                    ("host", host),
                    ("x-sdk-date", &date),
                    ("x-project-id", target.app.project_id.as_str()),
                ];
                if let Some(token) = security_token {
                    signed.push(("x-security-token", token.expose_secret()));
                }
                if plan.body.is_some() {
                    signed.push(("content-type", JSON));
                }
                let body = plan.body.as_deref().unwrap_or_default();
                let request = Signable {
                    method: plan.method.as_str(),
                    path: &plan.path,
                    query: plan.query,
                    headers: &signed,
                    body,
                };
                let authorization = request.authorization(access_key, secret_key.expose_secret());
                for (name, value) in signed.iter().skip(1) {
                    headers.insert(HeaderName::from_bytes(name.as_bytes()).ok()?, secret_value(value)?);
                }
                headers.insert(AUTHORIZATION, secret_value(&authorization)?);
                return Some(headers);
            }
            Credentials::Password { .. } => &token?.value,
            Credentials::Token(token) => token,
        };
        headers.insert(
            HeaderName::from_static("x-auth-token"),
            secret_value(token.expose_secret().trim())?,
        );
        Some(headers)
    }
}

fn secret_value(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The refusal in an answer whose status is not success.
fn read_refusal(answer: &Answer) -> Option<Refusal> {
    let body = answer.body.as_ref().map_or(&[][..], |body| body.as_slice());
    (!matches!(answer.status, 200 | 201)).then(|| Refusal::read(answer.status, body))
}

fn understand(call: Call, answer: Answer, target: &Target, secrets: &Secrets<'_>) -> Result<App, CloudError> {
    if let Some(refusal) = read_refusal(&answer) {
        return Err(refused(call, refusal, &answer, secrets));
    }
    let failure = Failure::of(CloudErrorKind::UnknownOutcome).about(&answer, secrets);
    let request_id = secrets.request_id(&answer);
    let status = answer.status;
    let app = answer
        .body
        .and_then(|body| wire::parse_app(&body, target).map_err(ToOwned::to_owned));
    let app = app.map(|app| App {
        // Nor may it be one of the codes that the answer tells.
        request_id: request_id.filter(|id| !app.codes.iter().any(|code| id.contains(code.expose()))),
        ..app
    });
    app.map_err(|problem| failure.says(format!("{}: HTTP {status}, but {problem}", call.name())))
}
