//! Requests and answers as plain data, and the percent-encoding that both signing and routing rest on.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};

/// All but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Percent-encodes everything but unreserved characters.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Undoes percent-encoding; a plus stays a plus, and what is not UTF-8 is replaced.
pub fn decode(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// A request as it came over the wire.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Upper case.
    pub method: String,
    /// Path and query, still percent-encoded.
    pub target: String,
    /// Names in any case, in the order received.
    pub headers: Vec<(String, String)>,
    /// The bytes that were sent.
    pub body: Vec<u8>,
}

impl Request {
    /// Whether it holds this text, in its target, a header or its body.
    pub fn holds(&self, text: &str) -> bool {
        let headers = self.headers.iter().flat_map(|(name, value)| [name, value]);
        let body = String::from_utf8_lossy(&self.body);
        headers.chain([&self.target]).any(|part| part.contains(text)) || body.contains(text)
    }

    /// A request without headers and body.
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The first header of that name, in any case, without white space around it.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim())
    }

    /// The path as sent.
    pub fn path(&self) -> &str {
        self.target
            .split_once('?')
            .map_or(self.target.as_str(), |(path, _)| path)
    }

    /// The query's names and values, decoded, in the order sent.
    pub fn query(&self) -> Vec<(String, String)> {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let split = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        split.map(|(name, value)| (decode(name), decode(value))).collect()
    }
}

/// An answer, before it becomes bytes on a connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers besides the content length.
    pub headers: Vec<(String, String)>,
    /// The bytes that are sent.
    pub body: Vec<u8>,
}

impl Answer {
    /// A JSON answer.
    pub fn json(status: u16, body: &Value) -> Self {
        Self::text(status, "application/json", &body.to_string())
    }

    /// An answer of any text.
    pub fn text(status: u16, content_type: &str, body: &str) -> Self {
        Self {
            status,
            headers: vec![("Content-Type".into(), content_type.into())],
            body: body.into(),
        }
    }

    /// An answer without a body.
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The first header of that name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The body as JSON, `null` where it is none.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }
}

/// Who words the refusal, which decides its shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `error_code` and `error_msg`.
    Service,
    /// The same with `request_id`.
    Gateway,
    /// `error` with `code`, `message` and `title`.
    Iam,
}

/// Why a request is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Error code; the IAM shape does not show it.
    pub code: String,
    /// Text for people.
    pub message: String,
    /// How the body is built.
    pub shape: Shape,
}

impl Refusal {
    /// A refusal by ModelArts itself.
    pub fn service(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: format!("ModelArts.{code}"),
            message: message.into(),
            shape: Shape::Service,
        }
    }

    /// A refusal by the gateway in front, whose codes come with either of two prefixes.
    pub fn gateway(status: u16, prefix: &str, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: format!("{prefix}.{code}"),
            message: message.into(),
            shape: Shape::Gateway,
        }
    }

    /// A refusal by the token service.
    pub fn iam(status: u16, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            code: format!("IAM.{code}"),
            message: message.into(),
            shape: Shape::Iam,
        }
    }

    /// The answer that carries it.
    pub fn answer(&self, request_id: &str) -> Answer {
        let body = match self.shape {
            Shape::Service => json!({"error_code": self.code, "error_msg": self.message}),
            Shape::Gateway => json!({"error_code": self.code, "error_msg": self.message, "request_id": request_id}),
            Shape::Iam => {
                let title = match self.status {
                    400 => "Bad Request",
                    401 => "Unauthorized",
                    403 => "Forbidden",
                    404 => "Not Found",
                    _ => "Internal Server Error",
                };
                json!({"error": {"code": self.status, "message": self.message, "title": title}})
            }
        };
        Answer::json(self.status, &body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_wherever_a_request_holds_it() {
        let plain = Request::new("GET", "/v1/apps");
        assert!(!plain.holds("canary"));
        let target = Request::new("GET", "/v1/apps?token=canary");
        let header = Request {
            headers: vec![("Authorization".into(), "Bearer canary".into())],
            ..plain.clone()
        };
        let body = Request {
            body: b"\xff{\"token\":\"canary\"}".to_vec(),
            ..plain
        };
        assert!([target, header, body].iter().all(|request| request.holds("canary")));
    }
}
