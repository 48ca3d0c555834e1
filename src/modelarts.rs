//! What we need of the cloud: three calls on one app, and what each failure proves.
//!
//! The words are ours and nothing here knows Kubernetes. The facts behind them are those of Huawei Cloud's ModelArts
//! API reference ("App authentication management": `ShowApigApp`, `ResetApigAppCode`, `CreateApigAppCode`,
//! `DeleteApigAppCode`).
//! [`HttpAppCodes`] is the real implementation.

mod failure;
mod guard;
mod handshake;
mod http;
mod measured;
mod refusal;
mod scrub;
mod sign;
mod token;
mod transport;
pub mod wire;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};

pub use self::guard::{GuardOptions, GuardedAppCodes};
pub use self::http::HttpAppCodes;
pub use self::measured::MeasuredAppCodes;
pub use self::scrub::{one_line, scrub};
pub use self::transport::{HttpOptions, HttpSetupError};
pub(crate) use self::transport::{Line, Outgoing, SendError};
pub use crate::endpoint::Endpoint;
use crate::ids::{AppIdentity, BadId, Fingerprint, WorkspaceId};

/// An app code: a bearer secret.
///
/// It has no `Display` and no `Serialize`, its `Debug` is redacted and its memory is zeroed on drop.
#[derive(Clone)]
pub struct AppCode(SecretString);

impl AppCode {
    /// Longest code taken. The gateway's own limit is 180 characters; the margin is for codes of other origins.
    pub const MAX_LENGTH: usize = 512;

    /// Checks that `text` can be a code: 1 to 512 visible ASCII characters without `*`, which only a masked value holds.
    ///
    /// # Errors
    /// When it cannot. The error does not quote the text.
    pub fn parse(text: impl Into<SecretString>) -> Result<Self, BadId> {
        let text = text.into();
        let bytes = text.expose_secret().as_bytes();
        let is_code =
            (1..=Self::MAX_LENGTH).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_graphic() && *b != b'*');
        if is_code {
            Ok(Self(text))
        } else {
            Err(BadId {
                what: "app code",
                rule: "1 to 512 visible ASCII characters without `*`",
            })
        }
    }

    /// The code itself, for a URL, the header or the body of a request, or the data of a Secret, and for nothing else.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether a call can name this code: it stands in a URL as one path segment, and neither a slash (even an encoded
    /// one, which gateways and signatures take for a separator) nor a dot segment survives there.
    pub fn is_addressable(&self) -> bool {
        let code = self.expose();
        !code.contains('/') && code != "." && code != ".."
    }

    /// What stands for this code as a code of `app`.
    pub fn fingerprint(&self, app: &AppIdentity) -> Fingerprint {
        Fingerprint::of(&app.app_id, self.expose())
    }
}

impl fmt::Debug for AppCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppCode([redacted])")
    }
}

/// How a caller proves who it is.
#[derive(Clone)]
pub enum Credentials {
    /// An access key pair, permanent or (with `security_token`) temporary.
    Keys {
        /// Public half.
        access_key: String,
        /// Secret half.
        secret_key: SecretString,
        /// Present for a temporary pair.
        security_token: Option<SecretString>,
    },
    /// An IAM user's password, traded for a token of 24 hours.
    Password {
        /// The account's name.
        domain_name: String,
        /// The IAM user's name.
        user_name: String,
        /// The password.
        password: SecretString,
    },
    /// An IAM token that somebody else keeps fresh.
    Token(SecretString),
}

impl Credentials {
    /// What credentials must consist of, for a person whose do not.
    pub const FIELDS: &'static str = "it needs accessKey and secretKey (and securityToken with temporary keys), or domainName, userName and password, or token";

    /// The credentials in a set of named texts, such as the keys of a Secret; none if no kind is complete. Space around a
    /// text does not count.
    pub fn from_fields(field: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let field = |name: &str| {
            let text = field(name)?.trim().to_owned();
            (!text.is_empty()).then_some(text)
        };
        if let (Some(access_key), Some(secret_key)) = (field("accessKey"), field("secretKey")) {
            return Some(Self::Keys {
                access_key,
                secret_key: secret_key.into(),
                security_token: field("securityToken").map(SecretString::from),
            });
        }
        if let (Some(domain_name), Some(user_name), Some(password)) =
            (field("domainName"), field("userName"), field("password"))
        {
            return Some(Self::Password {
                domain_name,
                user_name,
                password: password.into(),
            });
        }
        field("token").map(|token| Self::Token(token.into()))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Keys { .. } => "Credentials::Keys([redacted])",
            Self::Password { .. } => "Credentials::Password([redacted])",
            Self::Token(_) => "Credentials::Token([redacted])",
        })
    }
}

/// Credentials and where they came from, so that a bad key is known by its place and version, never by its value.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Where the credentials stand: `namespace/name` of the Secret, or `operator` for the operator's own.
    pub source: String,
    /// Version of that place (the Secret's uid and resourceVersion): another version is another chance.
    pub version: String,
    /// The credentials.
    pub credentials: Credentials,
}

/// One app and who asks for it.
#[derive(Clone, Debug)]
pub struct Target {
    /// Where to ask.
    pub endpoint: Endpoint,
    /// Which app. Its `endpoint` equals `endpoint.modelarts`.
    pub app: AppIdentity,
    /// The workspace that is sent along; `0` is the default one.
    pub workspace: WorkspaceId,
    /// Who asks.
    pub caller: Caller,
}

/// The gateway that an app lives on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppType {
    /// Shared or dedicated API gateway: has app codes.
    Gateway,
    /// ROMA Connect or something newer: its name, cut to 64 characters. No app codes.
    Other(String),
}

/// An app as the cloud describes it. `app_secret` and `app_key` are never read.
#[derive(Clone, Debug)]
pub struct App {
    /// Present name.
    pub name: Option<String>,
    /// Present remark; absent and empty are the same.
    pub remark: Option<String>,
    /// `None` when the answer does not say.
    pub app_type: Option<AppType>,
    /// IAM user id of the creator, the only one who may change codes.
    pub owner: Option<String>,
    /// IAM user id of the caller, where the credentials tell it (password tokens do).
    pub caller: Option<String>,
    /// Last change, in milliseconds since 1970 by the cloud's clock.
    pub updated_at: Option<i64>,
    /// Every code of the app, each once, in no order that means anything.
    pub codes: Vec<AppCode>,
    /// Whether at least one value was masked or unreadable, or the answer listed no codes at all (an app without codes
    /// has an empty list), so that `codes` is not the whole list.
    pub masked: bool,
    /// `X-Request-Id` of the answer: what the vendor's support asks for.
    pub request_id: Option<String>,
}

/// What is sent in the body of a change: the app's own present name and remark, so that nothing is renamed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Echo {
    /// `app_name`, required by the API.
    pub name: String,
    /// `app_remark`.
    pub remark: Option<String>,
}

/// Resources that have to share a call rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fleet {
    /// Those that use the same credentials.
    pub of_caller: usize,
    /// All of them.
    pub whole: usize,
}

/// The calls we make. Each call is sent at most once by everything below it, except [`AppCodes::show_app`].
///
/// One repeat is part of a call: after an answer that proves both that nothing was done and that the token is out of
/// date, a password caller signs in again and the call is sent once more.
#[async_trait]
pub trait AppCodes: Send + Sync {
    /// Gets ready for one change: waits for its turn, checks that the credentials are not closed, signs in if need be.
    ///
    /// Called before the intent of a change is written, so that the change itself then goes out at once. It changes
    /// nothing, and an admission that is not used is simply lost.
    async fn admit(&self, target: &Target) -> Result<(), CloudError> {
        let _ = target;
        Ok(())
    }

    /// About how long until the last of the calls that were postponed, and those of `waiting` resources that are still to
    /// come, have had their turns.
    fn backlog(&self, waiting: Fleet) -> Duration {
        let _ = waiting;
        Duration::ZERO
    }

    /// About how long it takes to read the app of each resource once, with half of the rate left to other calls.
    fn round(&self, fleet: Fleet) -> Duration {
        let _ = fleet;
        Duration::ZERO
    }

    /// Reads the app with its codes in plain text.
    async fn show_app(&self, target: &Target) -> Result<App, CloudError>;

    /// Replaces `code`. The old code is dead when the call took effect; the answer lists the new one.
    async fn reset_code(&self, target: &Target, code: &AppCode, echo: &Echo) -> Result<App, CloudError>;

    /// Adds a code that the cloud chooses.
    async fn add_code(&self, target: &Target, echo: &Echo) -> Result<App, CloudError>;

    /// Deletes `code`, which is dead when the call took effect. The answer lists those that are left.
    async fn delete_code(&self, target: &Target, code: &AppCode) -> Result<App, CloudError>;
}

/// What a failed call proves, which decides what may be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloudErrorKind {
    /// No byte of the request was taken: DNS, connect, TLS, or a refusal on our side before sending.
    NotSent,
    /// Not sent: other calls of the operator go first. Nothing is wrong.
    Postponed {
        /// When its turn may come.
        after: Duration,
    },
    /// Refused before any work, for now.
    Throttled {
        /// What the answer asks for, clamped to 1 s to 15 min.
        retry_after: Option<Duration>,
    },
    /// The credentials do not work: wrong signature, unknown key, wrong password, token still refused after a fresh login.
    CredentialsRejected,
    /// The key is locked by the cloud, or closed by our own breaker so that it does not get locked.
    LockedOut {
        /// When a new try makes sense.
        retry_after: Duration,
    },
    /// The caller may not do this (403).
    NotAuthorized,
    /// The app does not exist, or is not the caller's to see (404 on a read).
    AppNotFound,
    /// 404 on a change: nothing was changed by this call; the app or the code is gone.
    NotFound,
    /// 400 and other refusals of the request as such. Not applied.
    Refused,
    /// Whether it was applied is not known: time-out, cut, 408, 5xx, an answer that makes no sense.
    UnknownOutcome,
}

/// A failed call. Its text is free of codes, keys, tokens and URLs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CloudError {
    /// What the failure proves.
    pub kind: CloudErrorKind,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The answer's error code, such as `ModelArts.3923`.
    pub code: Option<String>,
    /// What happened, for people; at most 300 characters.
    pub message: String,
    /// `X-Request-Id` of the answer: what the vendor's support asks for.
    pub request_id: Option<String>,
}

impl CloudError {
    /// All that [`CloudError::category`] may be.
    pub const CATEGORIES: [&str; 10] = [
        "not_sent",
        "postponed",
        "throttled",
        "credentials_rejected",
        "locked_out",
        "not_authorized",
        "app_not_found",
        "not_found",
        "refused",
        "unknown_outcome",
    ];

    /// A closed set of words for metric labels and logs.
    pub fn category(&self) -> &'static str {
        match self.kind {
            CloudErrorKind::NotSent => "not_sent",
            CloudErrorKind::Postponed { .. } => "postponed",
            CloudErrorKind::Throttled { .. } => "throttled",
            CloudErrorKind::CredentialsRejected => "credentials_rejected",
            CloudErrorKind::LockedOut { .. } => "locked_out",
            CloudErrorKind::NotAuthorized => "not_authorized",
            CloudErrorKind::AppNotFound => "app_not_found",
            CloudErrorKind::NotFound => "not_found",
            CloudErrorKind::Refused => "refused",
            CloudErrorKind::UnknownOutcome => "unknown_outcome",
        }
    }

    /// Whether a change that failed so certainly had no effect by this call.
    pub fn is_not_applied(&self) -> bool {
        self.kind != CloudErrorKind::UnknownOutcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{AppId, ProjectId};

    /// An app in a project, asked for with a key pair.
    pub(super) fn target() -> Target {
        let endpoint = Endpoint {
            modelarts: "https://modelarts".into(),
            iam: "https://iam".into(),
        };
        Target {
            app: AppIdentity {
                endpoint: endpoint.modelarts.clone(),
                project_id: ProjectId::parse("project").unwrap(),
                app_id: AppId::parse("app").unwrap(),
            },
            endpoint,
            workspace: WorkspaceId::parse("0").unwrap(),
            caller: Caller {
                source: "ns/credentials".into(),
                version: "1".into(),
                credentials: Credentials::Keys {
                    access_key: "ak".into(),
                    secret_key: "sk".into(),
                    security_token: None,
                },
            },
        }
    }

    #[test]
    fn a_code_that_a_path_cannot_hold_is_told_apart() {
        for (text, expected) in [
            ("a/b", false),
            ("/", false),
            (".", false),
            ("..", false),
            ("...", true),
            ("a%2Fb", true),
            ("+_!@#$%-=?", true),
        ] {
            assert_eq!(AppCode::parse(text).unwrap().is_addressable(), expected, "{text}");
        }
    }

    #[test]
    fn a_code_shows_nothing_of_itself() {
        let code = AppCode::parse("canary-code").unwrap();
        assert_eq!(format!("{code:?}"), "AppCode([redacted])");
        let caller = Caller {
            source: "ns/name".into(),
            version: "1".into(),
            credentials: Credentials::Keys {
                access_key: "canary-ak".into(),
                secret_key: "canary-sk".into(),
                security_token: Some("canary-st".into()),
            },
        };
        assert!(!format!("{caller:?}").contains("canary"));
    }

    #[test]
    fn a_masked_or_broken_value_is_not_a_code() {
        for text in ["", "***", "abc***def", "a b", "a\nb", "a\0b", "é", &"a".repeat(513)] {
            assert!(AppCode::parse(text).is_err(), "{text:?}");
        }
        assert!(AppCode::parse("+/_!@#$%-=azAZ09").is_ok());
    }
}
