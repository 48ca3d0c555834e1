//! Errors in the making: what is known of a failure, and what none of its texts may repeat.

use secrecy::{ExposeSecret, SecretString};

use super::refusal::{Call, Refusal};
use super::token::Token;
use super::transport::Answer;
use super::{AppCode, CloudError, CloudErrorKind, Credentials, Target, scrub};

/// The error that a refusal becomes.
pub(super) fn refused(call: Call, refusal: Refusal, answer: &Answer, secrets: &Secrets<'_>) -> CloudError {
    let kind = refusal.kind(call, answer.retry_after);
    let mut message = format!("{}: HTTP {}", call.name(), refusal.status);
    if let Some(code) = &refusal.code {
        message = format!("{message} {code}");
    }
    if let Some(minutes) = refusal.clock_skew_minutes() {
        // The cloud's own text holds both times, and a message that changes each time is worth less than one that does not.
        let side = if minutes < 0 { "behind" } else { "ahead" };
        let minutes = minutes.abs();
        message =
            format!("{message}: the clocks differ, the cloud's is {minutes} min {side}; set this machine's clock");
    } else if let Some(text) = &refusal.message {
        message = format!("{message}: {text}");
    } else if (300..400).contains(&refusal.status) {
        message = format!("{message}: redirects are not followed");
    }
    let mut failure = Failure::of(kind).about(answer, secrets);
    failure.code = refusal.code.filter(|code| !secrets.are_in(code));
    failure.says(secrets.scrub(&message))
}

/// An error in the making.
#[derive(Clone)]
pub(super) struct Failure {
    kind: CloudErrorKind,
    status: Option<u16>,
    code: Option<String>,
    request_id: Option<String>,
}

impl Failure {
    pub(super) fn of(kind: CloudErrorKind) -> Self {
        Self {
            kind,
            status: None,
            code: None,
            request_id: None,
        }
    }

    pub(super) fn about(self, answer: &Answer, secrets: &Secrets<'_>) -> Self {
        Self {
            status: Some(answer.status),
            request_id: secrets.request_id(answer),
            ..self
        }
    }

    pub(super) fn says(self, message: String) -> CloudError {
        let Self {
            kind,
            status,
            code,
            request_id,
        } = self;
        CloudError {
            kind,
            status,
            code,
            message,
            request_id,
        }
    }
}

/// What no error may repeat.
pub(super) struct Secrets<'a> {
    given: Vec<&'a str>,
    tokens: Vec<SecretString>,
}

impl<'a> Secrets<'a> {
    pub(super) fn of(target: &'a Target, code: Option<&'a AppCode>) -> Self {
        let mut given = match &target.caller.credentials {
            Credentials::Keys {
                access_key,
                secret_key,
                security_token,
            } => {
                let token = security_token.as_ref().map(ExposeSecret::expose_secret);
                [Some(access_key.as_str()), Some(secret_key.expose_secret()), token]
                    .into_iter()
                    .flatten()
                    .collect()
            }
            Credentials::Password { password, .. } => vec![password.expose_secret()],
            Credentials::Token(token) => vec![token.expose_secret()],
        };
        given.extend(code.map(AppCode::expose));
        Self {
            given,
            tokens: Vec::new(),
        }
    }

    pub(super) fn add_token(&mut self, token: Option<&Token>) {
        self.tokens.extend(token.map(|token| token.value.clone()));
    }

    fn all(&self) -> Vec<&str> {
        self.given
            .iter()
            .copied()
            .chain(self.tokens.iter().map(ExposeSecret::expose_secret))
            .collect()
    }

    pub(super) fn scrub(&self, text: &str) -> String {
        scrub(text, &self.all())
    }

    /// The answer's request id, unless it repeats a secret.
    pub(super) fn request_id(&self, answer: &Answer) -> Option<String> {
        answer.request_id.clone().filter(|id| !self.are_in(id))
    }

    fn are_in(&self, text: &str) -> bool {
        self.all()
            .iter()
            .any(|secret| !secret.is_empty() && text.contains(secret))
    }
}
