//! Answers that a fault makes up.

use serde::{Deserialize, Serialize};

use crate::wire::Answer;

/// An answer made up by a fault. `Reply::from(503)` words itself as the cloud would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Error code; the usual one of the status if absent.
    pub code: Option<String>,
    /// Error text; the usual one of the status if absent.
    pub message: Option<String>,
    /// More headers, for example `Location` or `Retry-After`.
    pub headers: Vec<(String, String)>,
    /// The whole body, in place of the error object.
    pub body: Option<String>,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

impl Reply {
    /// Sets the error code.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// Sets the error text.
    #[must_use]
    pub fn message(mut self, message: &str) -> Self {
        self.message = Some(message.to_owned());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    pub(crate) fn error_code(&self, prefix: &str) -> String {
        self.code.clone().unwrap_or_else(|| match self.status {
            401 => format!("{prefix}.0301"),
            403 => "ModelArts.0108".into(),
            404 => format!("{prefix}.0101"),
            408 => "ModelArts.6100".into(),
            409 => "ModelArts.3929".into(),
            429 => format!("{prefix}.0308"),
            502 => format!("{prefix}.0202"),
            503 => "ModelArts.4700".into(),
            504 => format!("{prefix}.0203"),
            _ => "ModelArts.0010".into(),
        })
    }

    fn error_message(&self) -> String {
        let usual = match self.status {
            401 => "Incorrect IAM authentication information: decrypt token fail",
            403 => "You are not authorized to perform the operation.",
            404 => "The API does not exist or has not been published in the environment",
            408 => "Request timed out.",
            409 => "The request conflicts with another one.",
            429 => "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute",
            502 => "Backend unavailable",
            503 => "The gateway is being upgraded.",
            504 => "Backend timeout",
            _ => "Internal error.",
        };
        self.message.clone().unwrap_or_else(|| usual.to_owned())
    }

    pub(crate) fn answer(&self, prefix: &str, request_id: &str) -> Answer {
        let mut answer = if let Some(body) = &self.body {
            Answer::text(self.status, "application/json", body)
        } else {
            let (code, message) = (self.error_code(prefix), self.error_message());
            let body = serde_json::json!({"error_code": code, "error_msg": message, "request_id": request_id});
            Answer::json(self.status, &body)
        };
        answer.headers.extend(self.headers.iter().cloned());
        answer
    }
}
