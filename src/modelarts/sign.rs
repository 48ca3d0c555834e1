//! AK/SK signatures, `SDK-HMAC-SHA256`: pure functions from a request to its `Authorization` header.
//!
//! The scheme is that of the vendor's SDKs ("AK/SK signing and authentication" in the API gateway's documents): no
//! region or service scope, no derived key. The test vectors beside the tests were made by the vendor's Python SDK.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// Everything but the unreserved characters of RFC 3986, which both the path and the signature leave as they are.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

const ALGORITHM: &str = "SDK-HMAC-SHA256";

/// One path segment, query name or query value, so that nothing in it has a meaning of its own.
pub(super) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The query as it stands in the URL.
pub(super) fn query_string(query: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.join("&")
}

/// The value of `X-Sdk-Date`.
pub(super) fn date(now: Timestamp) -> String {
    now.strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A request as it goes over the wire.
pub(super) struct Signable<'a> {
    /// In upper case.
    pub(super) method: &'a str,
    /// Percent-encoded.
    pub(super) path: &'a str,
    /// Not yet encoded, in any order.
    pub(super) query: &'a [(&'a str, &'a str)],
    /// What to sign; must hold `host` and `x-sdk-date`. A name with `_` is left out, as the gateway drops such headers.
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a [u8],
}

impl Signable<'_> {
    /// The value of `Authorization`.
    pub(super) fn authorization(&self, access_key: &str, secret_key: &str) -> String {
        let headers = self.signed_headers();
        let names = names(&headers);
        let signature = hex(&hmac(secret_key, &self.string_to_sign()));
        format!("{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={signature}")
    }

    fn string_to_sign(&self) -> String {
        let date = self
            .signed_headers()
            .into_iter()
            .find(|(name, _)| name == "x-sdk-date")
            .map(|(_, value)| value);
        let hash = hex(&Sha256::digest(self.canonical_request()));
        format!("{ALGORITHM}\n{}\n{hash}", date.unwrap_or_default())
    }

    fn canonical_request(&self) -> String {
        let headers = self.signed_headers();
        let names = names(&headers);
        let payload = match headers.iter().find(|(name, _)| name == "x-sdk-content-sha256") {
            Some((_, declared)) => (*declared).to_owned(),
            None => hex(&Sha256::digest(self.body)),
        };
        let mut lines = String::new();
        for (name, value) in &headers {
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "{name}:{value}");
        }
        let (path, query) = (canonical_path(self.path), canonical_query(self.query));
        format!("{}\n{path}\n{query}\n{lines}\n{names}\n{payload}", self.method)
    }

    fn signed_headers(&self) -> Vec<(String, &str)> {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| !name.contains('_'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim()))
            .collect();
        headers.sort();
        headers
    }
}

fn names(headers: &[(String, &str)]) -> String {
    let names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
    names.join(";")
}

/// Decoded, split, encoded again: an encoded `/` becomes a separator here, while the wire keeps it. Ends in `/`.
fn canonical_path(path: &str) -> String {
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let segments: Vec<String> = decoded.split('/').map(encode).collect();
    let mut path = segments.join("/");
    if !path.ends_with('/') {
        path.push('/');
    }
    path
}

fn canonical_query(query: &[(&str, &str)]) -> String {
    let mut sorted = query.to_vec();
    sorted.sort_unstable();
    query_string(&sorted)
}

fn hmac(key: &str, text: &str) -> Vec<u8> {
    #[allow(clippy::expect_used, reason = "HMAC is defined for keys of every length")]
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).expect("HMAC takes keys of every length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const VECTORS: &str = include_str!("../../tests/simulator/tests/data/sdk-hmac-sha256-vectors.json");

    fn text(value: &Value) -> String {
        value.as_str().unwrap().to_owned()
    }

    /// The vector's query, its numbers, booleans and lists spelled as the SDK spells them.
    fn query(input: &Value) -> Vec<(String, String)> {
        let one = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        let mut pairs = Vec::new();
        for pair in input["query_params"].as_array().unwrap() {
            let name = text(&pair[0]);
            match &pair[1] {
                Value::Array(values) => pairs.extend(values.iter().map(|value| (name.clone(), one(value)))),
                value => pairs.push((name, one(value))),
            }
        }
        pairs
    }

    /// The headers that the SDK puts there before it signs.
    fn headers(input: &Value) -> Vec<(String, String)> {
        let mut headers: Vec<_> = input["headers"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), text(value)))
            .collect();
        headers.push(("Host".into(), text(&input["host"])));
        for (field, name) in [("project_id", "X-Project-Id"), ("security_token", "X-Security-Token")] {
            if let Some(value) = input[field].as_str() {
                headers.push((name.into(), value.into()));
            }
        }
        let content_type = input["headers"]["Content-Type"].as_str().unwrap_or("application/json");
        if !content_type.starts_with("application/json") && !input["body_utf8"].as_str().unwrap().is_empty() {
            headers.push(("X-Sdk-Content-Sha256".into(), "UNSIGNED-PAYLOAD".into()));
        }
        headers
    }

    #[test]
    fn signs_every_vector_as_the_vendors_sdk_does() {
        let file: Value = serde_json::from_str(VECTORS).unwrap();
        let vectors = file["vectors"].as_array().unwrap();
        assert_eq!(vectors.len(), 17);
        for vector in vectors {
            let (name, input, expected) = (&vector["name"], &vector["input"], &vector["expected"]);
            let (query, headers) = (query(input), headers(input));
            let query: Vec<_> = query
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let headers: Vec<_> = headers
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .collect();
            let request = Signable {
                method: input["method"].as_str().unwrap(),
                path: input["resource_path"].as_str().unwrap(),
                query: &query,
                headers: &headers,
                body: input["body_utf8"].as_str().unwrap().as_bytes(),
            };
            assert_eq!(canonical_path(request.path), text(&expected["canonical_uri"]), "{name}");
            assert_eq!(
                canonical_query(&query),
                text(&expected["canonical_query_string"]),
                "{name}"
            );
            assert_eq!(
                request.canonical_request(),
                text(&expected["canonical_request"]),
                "{name}"
            );
            assert_eq!(request.string_to_sign(), text(&expected["string_to_sign"]), "{name}");
            let authorization = request.authorization(&text(&input["access_key"]), &text(&input["secret_key"]));
            assert_eq!(authorization, text(&expected["authorization"]), "{name}");
            if let Some(code) = input["app_code_decoded"].as_str() {
                assert!(
                    request.path.ends_with(&format!("/{}", encode(code))),
                    "{name}: one segment"
                );
            }
        }
    }

    #[test]
    fn the_date_is_in_utc_and_in_seconds() {
        let time: Timestamp = "2024-01-15T08:30:00.987+00:00".parse().unwrap();
        assert_eq!(date(time), "20240115T083000Z");
    }

    proptest! {
        #[test]
        fn an_encoded_text_is_one_segment_and_reads_back(text in ".{0,100}") {
            let encoded = encode(&text);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b)));
            prop_assert_eq!(percent_decode_str(&encoded).decode_utf8().unwrap(), text);
        }

        #[test]
        fn the_signature_does_not_depend_on_the_order_of_headers_or_query(seed in 0_usize..6) {
            let mut headers = [("host", "h"), ("X-Sdk-Date", "d"), ("x-project-id", "p")];
            let mut query = [("b", "2"), ("a", "1"), ("a", "0")];
            let sign = |headers: &[(&str, &str)], query: &[(&str, &str)]| {
                Signable { method: "GET", path: "/v1/x", query, headers, body: b"" }.authorization("ak", "sk")
            };
            let before = sign(&headers, &query);
            headers.rotate_left(seed % 3);
            query.rotate_left(seed / 2);
            prop_assert_eq!(sign(&headers, &query), before);
        }
    }
}
