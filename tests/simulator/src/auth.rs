//! The signature `SDK-HMAC-SHA256`, recomputed from what was received.
//!
//! Pure: whose secret it is, and whether the time fits, is decided elsewhere.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use crate::wire::{Request, decode, encode};

/// Name of the algorithm, first word of the `Authorization` header.
pub const ALGORITHM: &str = "SDK-HMAC-SHA256";

/// Stands for the payload hash where a client does not sign its body.
const UNSIGNED_PAYLOAD: &str = "UNSIGNED-PAYLOAD";

const DATE_FORMAT: &str = "%Y%m%dT%H%M%SZ";

/// What an `Authorization` header claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The access key.
    pub access: String,
    /// Names of the signed headers in the order given.
    pub signed_headers: Vec<String>,
    /// Lower-case hex.
    pub signature: String,
}

impl Claim {
    /// Reads the header; `None` where a part is missing or the algorithm is another one.
    pub fn parse(authorization: &str) -> Option<Self> {
        let rest = authorization.trim().strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let part = |name: &str| {
            let mut parts = rest.split(',').map(str::trim);
            parts.find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        Some(Self {
            access: part("Access")?.to_owned(),
            signed_headers: part("SignedHeaders")?.split(';').map(str::to_owned).collect(),
            signature: part("Signature")?.to_owned(),
        })
    }

    /// Whether the headers without which nothing is bound to a host and a time are signed.
    pub fn covers_the_essentials(&self) -> bool {
        let has = |name: &str| self.signed_headers.iter().any(|signed| signed == name);
        has("host") && has("x-sdk-date")
    }
}

/// The canonical request over the headers that the claim names; a header that was not sent counts as empty.
pub fn canonical_request(request: &Request, signed_headers: &[String]) -> String {
    let headers: String = signed_headers
        .iter()
        .map(|name| format!("{name}:{}\n", request.get(name).unwrap_or_default()))
        .collect();
    let parts = [
        request.method.to_ascii_uppercase(),
        canonical_uri(request.path()),
        canonical_query(request.query()),
        headers,
        signed_headers.join(";"),
        payload_hash(request, signed_headers),
    ];
    parts.join("\n")
}

/// The text under the signature.
pub fn string_to_sign(date: &str, canonical_request: &str) -> String {
    format!("{ALGORITHM}\n{date}\n{}", hex(&Sha256::digest(canonical_request)))
}

/// The signature of a text, lower-case hex.
pub fn signature(secret: &str, string_to_sign: &str) -> String {
    #[allow(clippy::expect_used, reason = "an HMAC takes keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("an HMAC takes keys of every length");
    mac.update(string_to_sign.as_bytes());
    hex(&mac.finalize().into_bytes())
}

/// Reads an `X-Sdk-Date`.
pub fn parse_date(date: &str) -> Option<Timestamp> {
    let civil = DateTime::strptime(DATE_FORMAT, date).ok()?;
    civil.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
}

/// Writes an `X-Sdk-Date`.
pub fn format_date(time: Timestamp) -> String {
    time.strftime(DATE_FORMAT).to_string()
}

/// Decoded first and split then, so an encoded slash becomes a separator here, whatever it is for routing.
fn canonical_uri(path: &str) -> String {
    let decoded = decode(path);
    let mut uri = decoded.split('/').map(encode).collect::<Vec<_>>().join("/");
    if !uri.ends_with('/') {
        uri.push('/');
    }
    uri
}

fn canonical_query(mut query: Vec<(String, String)>) -> String {
    query.sort();
    let pairs = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn payload_hash(request: &Request, signed_headers: &[String]) -> String {
    let declared = signed_headers.iter().any(|name| name == "x-sdk-content-sha256");
    if declared && request.get("x-sdk-content-sha256") == Some(UNSIGNED_PAYLOAD) {
        return UNSIGNED_PAYLOAD.to_owned();
    }
    hex(&Sha256::digest(&request.body))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const VECTORS: &str = include_str!("../tests/data/sdk-hmac-sha256-vectors.json");

    fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
        value.pointer(pointer).and_then(Value::as_str).unwrap()
    }

    fn received(vector: &Value) -> Request {
        let target = text(vector, "/expected/wire_request_target");
        let mut request = Request::new(text(vector, "/input/method"), target).body(text(vector, "/input/body_utf8"));
        for (name, value) in vector["expected"]["headers_after_signing"].as_object().unwrap() {
            request = request.header(name, value.as_str().unwrap());
        }
        request
    }

    #[test]
    fn recomputes_every_signature_of_the_vendor() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = vectors["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 17);
        for vector in vectors {
            let name = text(vector, "/name");
            let request = received(vector);
            let claim = Claim::parse(text(vector, "/expected/authorization")).unwrap();
            assert!(claim.covers_the_essentials(), "{name}");
            let canonical = canonical_request(&request, &claim.signed_headers);
            assert_eq!(canonical, text(vector, "/expected/canonical_request"), "{name}");
            let date = request.get("X-Sdk-Date").unwrap();
            let to_sign = string_to_sign(date, &canonical);
            assert_eq!(to_sign, text(vector, "/expected/string_to_sign"), "{name}");
            assert_eq!(
                signature(text(vector, "/input/secret_key"), &to_sign),
                claim.signature,
                "{name}"
            );
        }
    }

    #[test]
    fn reads_back_the_dates_it_writes() {
        let time: Timestamp = "2024-01-15T08:30:00Z".parse().unwrap();
        assert_eq!(format_date(time), "20240115T083000Z");
        assert_eq!(parse_date("20240115T083000Z"), Some(time));
        assert_eq!(parse_date("yesterday"), None);
    }

    #[test]
    fn makes_nothing_of_another_algorithm() {
        assert_eq!(Claim::parse("Bearer abc"), None);
        assert_eq!(Claim::parse("SDK-HMAC-SHA256 Access=A, Signature=00"), None);
    }
}
