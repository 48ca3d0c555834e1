//! What an answer other than success proves, by its status and its error code together.
//!
//! Several codes of the vendor's tables mean different things under different statuses, and the gateway's codes come
//! with the prefix `APIG.` as well as `APIGW.`, so neither is looked at alone.

use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde_json::Value;

use super::CloudErrorKind;
use crate::metrics::Operation;

/// The cloud locks a key for five minutes; half a minute more keeps clear of the edge.
pub(super) const KEY_LOCK: Duration = Duration::from_secs(330);

/// The shortest lock of a user whose password was wrong too often is 15 minutes.
pub(super) const USER_LOCK: Duration = Duration::from_secs(16 * 60);

/// Bounds of what a `Retry-After` may ask for.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15 * 60));

/// A call, as far as it matters for what a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Show,
    Reset,
    Add,
    Delete,
    SignIn,
}

impl Call {
    /// How messages name it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Show => "show app",
            Self::Reset => "reset code",
            Self::Add => "add code",
            Self::Delete => "delete code",
            Self::SignIn => "sign in",
        }
    }

    /// How the log names it, as the metrics do.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::Show => Operation::Show.as_str(),
            Self::Reset => Operation::Reset.as_str(),
            Self::Add => Operation::Add.as_str(),
            Self::Delete => Operation::Delete.as_str(),
            Self::SignIn => Operation::SignIn.as_str(),
        }
    }
}

/// A refusal as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

impl Refusal {
    /// Reads the error out of a body of any of the shapes in use: `error_code` and `error_msg`, `errorCode` and
    /// `errorMsg`, `code` and `message`, each at the top or one level or more below.
    pub(super) fn read(status: u16, body: &[u8]) -> Self {
        let (code, message) = serde_json::from_slice(body)
            .ok()
            .as_ref()
            .and_then(find)
            .unwrap_or_default();
        Self {
            status,
            code: code.filter(|code| is_error_code(code)),
            message,
        }
    }

    /// What it proves, for a call that got this far. `retry_after` is what the answer asks for.
    pub(super) fn kind(&self, call: Call, retry_after: Option<Duration>) -> CloudErrorKind {
        if call == Call::SignIn {
            return self.kind_of_sign_in(retry_after);
        }
        match self.status {
            401 if self.is_key_locked() => CloudErrorKind::LockedOut { retry_after: KEY_LOCK },
            // A token without a project of this region: the credentials are good, elsewhere.
            401 if self.is_model_arts(&["0207", "0212"]) => CloudErrorKind::NotAuthorized,
            401 => CloudErrorKind::CredentialsRejected,
            403 if self.is_model_arts(&["0203", "0206"]) => CloudErrorKind::CredentialsRejected,
            403 => CloudErrorKind::NotAuthorized,
            // The gateway does not know the path: nothing is said about the app.
            404 if self.is_gateway("0101") => CloudErrorKind::Refused,
            404 if call == Call::Show => CloudErrorKind::AppNotFound,
            404 => CloudErrorKind::NotFound,
            429 => CloudErrorKind::Throttled { retry_after },
            400 | 402 | 405 | 406 | 411 | 413 | 414 | 415 | 417 | 422 | 431 | 494 => CloudErrorKind::Refused,
            // Redirects, time-outs, conflicts with a change that may be our own, 5xx (which hold business failures of
            // these calls, half-done ones among them), and whatever is new.
            _ => CloudErrorKind::UnknownOutcome,
        }
    }

    /// A sign-in changes nothing, so whatever else went wrong, the call it was for has not been sent.
    fn kind_of_sign_in(&self, retry_after: Option<Duration>) -> CloudErrorKind {
        match self.status {
            401 if self.is_iam(&["0061"]) => CloudErrorKind::LockedOut { retry_after: USER_LOCK },
            401 | 403 => CloudErrorKind::CredentialsRejected,
            429 => CloudErrorKind::Throttled { retry_after },
            400 | 404 => CloudErrorKind::Refused,
            _ => CloudErrorKind::NotSent,
        }
    }

    /// Whether a fresh token may help: this one has expired, was ended early or cannot be read.
    pub(super) fn is_stale_token(&self) -> bool {
        match self.status {
            401 => match self.code.as_deref() {
                None => true,
                Some(_) if self.is_gateway("0301") => !self.is_key_locked(),
                Some(_) => {
                    self.is_gateway("0307")
                        || self.is_model_arts(&["0202", "0203", "0204", "4127", "4201"])
                        || self.is_iam(&["0001", "0066", "0067"])
                }
            },
            403 => self.is_model_arts(&["0203"]),
            _ => false,
        }
    }

    fn is_key_locked(&self) -> bool {
        self.is_gateway("0301")
            && self
                .message
                .as_deref()
                .is_some_and(|text| text.contains("failed to reach the limit"))
    }

    fn has_code(&self, prefixes: &[&str], number: &str) -> bool {
        let code = self.code.as_deref().and_then(|code| code.rsplit_once('.'));
        code.is_some_and(|(prefix, digits)| digits == number && prefixes.contains(&prefix))
    }

    fn is_gateway(&self, number: &str) -> bool {
        self.has_code(&["APIG", "APIGW"], number)
    }

    fn is_model_arts(&self, numbers: &[&str]) -> bool {
        numbers.iter().any(|number| self.has_code(&["ModelArts"], number))
    }

    fn is_iam(&self, numbers: &[&str]) -> bool {
        numbers.iter().any(|number| self.has_code(&["IAM"], number))
    }

    /// The distance of the two clocks in minutes, where the refusal is about a signature out of time. Positive: the
    /// cloud is ahead.
    pub(super) fn clock_skew_minutes(&self) -> Option<i64> {
        let time = |label: &str| {
            let (_, rest) = self.message.as_deref()?.split_once(label)?;
            let civil = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", rest.get(..16)?).ok()?;
            civil
                .to_zoned(jiff::tz::TimeZone::UTC)
                .ok()
                .map(|zoned| zoned.timestamp())
        };
        let (ours, theirs) = (time("signature time:")?, time("server time:")?);
        Some(theirs.duration_since(ours).as_mins())
    }
}

type Found = (Option<String>, Option<String>);

fn find(value: &Value) -> Option<Found> {
    let object = value.as_object()?;
    for (code, message) in [
        ("error_code", "error_msg"),
        ("errorCode", "errorMsg"),
        ("code", "message"),
    ] {
        if let (Some(code), Some(message)) = (object.get(code), object.get(message)) {
            return Some((code.as_str().map(Into::into), message.as_str().map(Into::into)));
        }
    }
    object.values().find_map(find)
}

/// A word or two and a number, such as `ModelArts.3923`: nothing else is repeated, since an answer may hold anything.
fn is_error_code(text: &str) -> bool {
    let Some((prefix, digits)) = text.rsplit_once('.') else {
        return false;
    };
    (1..=32).contains(&prefix.len())
        && prefix.bytes().all(|b| b.is_ascii_alphabetic() || b == b'.')
        && (1..=8).contains(&digits.len())
        && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Reads `Retry-After`, in seconds or as a date, clamped to 1 s to 15 min. A date is measured against the answer's own
/// `date` where it has one, so that our clock does not matter. What makes no sense is ignored.
pub(super) fn retry_after(value: &str, date: Option<&str>, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    let time = |text: &str| rfc2822::parse(text.trim()).ok().map(|zoned| zoned.timestamp());
    let wait = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        Duration::from_secs(value.parse().unwrap_or(u64::MAX))
    } else {
        let since = date.and_then(time).unwrap_or(now);
        Duration::try_from(time(value)?.duration_since(since)).unwrap_or(Duration::ZERO)
    };
    Some(wait.clamp(RETRY_AFTER.0, RETRY_AFTER.1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refusal(status: u16, code: &str, message: &str) -> Refusal {
        let body = serde_json::json!({"error_code": code, "error_msg": message, "request_id": "r"}).to_string();
        Refusal::read(status, body.as_bytes())
    }

    #[test]
    fn status_and_code_together_say_what_is_proved() {
        use Call::{Add, Delete, Reset, Show, SignIn};
        use CloudErrorKind as K;
        let slow = Some(Duration::from_secs(7));
        let locked = "Incorrect IAM authentication information: AK access failed to reach the limit,forbidden";
        for (call, status, code, message, kind) in [
            (Show, 400, "ModelArts.0210", "", K::Refused),
            (Reset, 400, "APIG.0201", "", K::Refused),
            (
                Show,
                401,
                "APIG.0301",
                "verify aksk signature fail",
                K::CredentialsRejected,
            ),
            (Reset, 401, "APIGW.0301", "ak not exist", K::CredentialsRejected),
            (Reset, 401, "APIG.0301", locked, K::LockedOut { retry_after: KEY_LOCK }),
            (Show, 401, "APIGW.0301", locked, K::LockedOut { retry_after: KEY_LOCK }),
            (Show, 401, "ModelArts.0203", "", K::CredentialsRejected),
            (Show, 401, "APIGW.0307", "", K::CredentialsRejected),
            (Show, 403, "ModelArts.0203", "", K::CredentialsRejected),
            (Show, 403, "ModelArts.0206", "", K::CredentialsRejected),
            (Reset, 403, "ModelArts.0210", "", K::NotAuthorized),
            (Reset, 403, "ModelArts.0108", "", K::NotAuthorized),
            (Show, 403, "APIG.0302", "", K::NotAuthorized),
            (Show, 404, "ModelArts.3923", "", K::AppNotFound),
            (Reset, 404, "ModelArts.3923", "", K::NotFound),
            (Add, 404, "ModelArts.3923", "", K::NotFound),
            (Delete, 404, "ModelArts.3923", "", K::NotFound),
            (Delete, 500, "ModelArts.3934", "", K::UnknownOutcome),
            (Show, 404, "APIGW.0101", "", K::Refused),
            (Reset, 404, "APIG.0101", "", K::Refused),
            (Show, 404, "", "", K::AppNotFound),
            (Reset, 405, "APIG.0502", "", K::Refused),
            (Reset, 408, "ModelArts.6100", "", K::UnknownOutcome),
            (Reset, 409, "ModelArts.3929", "", K::UnknownOutcome),
            (Reset, 429, "APIG.0308", "", K::Throttled { retry_after: slow }),
            (Show, 429, "ModelArts.6101", "", K::Throttled { retry_after: slow }),
            (Reset, 500, "ModelArts.3927", "", K::UnknownOutcome),
            (Add, 500, "ModelArts.3924", "APIG.3131", K::UnknownOutcome),
            (Reset, 502, "APIG.0202", "", K::UnknownOutcome),
            (Reset, 503, "APIG.0613", "", K::UnknownOutcome),
            (Reset, 504, "APIGW.0201", "", K::UnknownOutcome),
            (Reset, 302, "", "", K::UnknownOutcome),
            (Reset, 499, "", "", K::UnknownOutcome),
            (Reset, 600, "", "", K::UnknownOutcome),
            (SignIn, 401, "IAM.0062", "", K::CredentialsRejected),
            (SignIn, 401, "IAM.0061", "", K::LockedOut { retry_after: USER_LOCK }),
            (SignIn, 403, "IAM.0080", "", K::CredentialsRejected),
            (SignIn, 400, "IAM.1109", "", K::Refused),
            (SignIn, 404, "IAM.0004", "", K::Refused),
            (SignIn, 410, "IAM.0020", "", K::NotSent),
            (SignIn, 429, "IAM.0012", "", K::Throttled { retry_after: slow }),
            (SignIn, 500, "IAM.0006", "", K::NotSent),
            (SignIn, 302, "", "", K::NotSent),
        ] {
            assert_eq!(
                refusal(status, code, message).kind(call, slow),
                kind,
                "{call:?} {status} {code} {message}"
            );
        }
        assert!(KEY_LOCK > Duration::from_secs(300) && USER_LOCK > Duration::from_secs(900));
    }

    #[test]
    fn only_what_a_fresh_token_may_cure_is_a_stale_token() {
        for (status, code, message, is_stale) in [
            (401, "APIG.0307", "The token must be updated.", true),
            (401, "APIGW.0307", "", true),
            (
                401,
                "APIG.0301",
                "Incorrect IAM authentication information: token expires, expires_at: x",
                true,
            ),
            (
                401,
                "APIG.0301",
                "Incorrect IAM authentication information: decrypt token fail",
                true,
            ),
            (401, "APIG.0301", "AK access failed to reach the limit,forbidden", false),
            (401, "ModelArts.0202", "", true),
            (401, "ModelArts.4127", "", true),
            (401, "ModelArts.0207", "", false),
            (401, "", "", true),
            (403, "ModelArts.0203", "", true),
            (403, "ModelArts.0108", "", false),
            (400, "ModelArts.0204", "", false),
            (500, "APIG.0307", "", false),
        ] {
            assert_eq!(
                refusal(status, code, message).is_stale_token(),
                is_stale,
                "{status} {code} {message}"
            );
        }
    }

    #[test]
    fn every_shape_of_an_error_body_is_read() {
        let some = |code: &str, message: &str| (Some(code.to_owned()), Some(message.to_owned()));
        for (body, found) in [
            (
                r#"{"error_code":"ModelArts.3923","error_msg":"m"}"#,
                some("ModelArts.3923", "m"),
            ),
            (r#"{"errorCode":"IAM.0011","errorMsg":"m"}"#, some("IAM.0011", "m")),
            (r#"{"code":"SVC.STG.0001","message":"m"}"#, some("SVC.STG.0001", "m")),
            (
                r#"{"error":{"code":401,"message":"m","title":"Unauthorized"}}"#,
                (None, Some("m".into())),
            ),
            (
                r#"{"x":1,"data":{"error_code":"APIG.0308","error_msg":"m"}}"#,
                some("APIG.0308", "m"),
            ),
            (
                r#"{"error_code":"873810a2cd4e4a9c88df5979411d6a50","error_msg":"m"}"#,
                (None, Some("m".into())),
            ),
            (r#"{"error_code":null,"error_msg":7}"#, (None, None)),
            ("<html>", (None, None)),
            ("", (None, None)),
            ("[]", (None, None)),
        ] {
            let refusal = Refusal::read(401, body.as_bytes());
            assert_eq!((refusal.code, refusal.message), found, "{body}");
        }
    }

    #[test]
    fn retry_after_is_honoured_within_bounds_and_garbage_is_ignored() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let seconds = |value: &str, date| retry_after(value, date, now).map(|wait| wait.as_secs());
        for (value, expected) in [
            ("30", Some(30)),
            (" 30 ", Some(30)),
            ("0", Some(1)),
            ("900", Some(900)),
            ("901", Some(900)),
            ("99999999999999999999999999", Some(900)),
            ("-5", None),
            ("1.5", None),
            ("", None),
            ("soon", None),
            ("30; x", None),
            ("Thu, 01 Jan 2026 00:01:00 GMT", Some(60)),
            ("Wed, 31 Dec 2025 00:01:00 GMT", Some(1)),
            ("Fri, 01 Jan 2106 00:01:00 GMT", Some(900)),
        ] {
            assert_eq!(seconds(value, None), expected, "{value}");
        }
        let cloud = Some("Thu, 01 Jan 2026 00:00:50 GMT");
        assert_eq!(seconds("Thu, 01 Jan 2026 00:01:00 GMT", cloud), Some(10));
        assert_eq!(seconds("Thu, 01 Jan 2026 00:01:00 GMT", Some("never")), Some(60));
    }

    #[test]
    fn a_clock_out_of_time_is_measured() {
        let text = "signature expired, signature time:20230527T000431Z,server time:20230527T020608Z";
        assert_eq!(refusal(401, "APIG.0301", text).clock_skew_minutes(), Some(121));
        for text in [
            "",
            "signature time:,server time:",
            "signature time:20230527T000431Z",
            "signature time:éééééééééé,server time:é",
        ] {
            assert_eq!(refusal(401, "APIG.0301", text).clock_skew_minutes(), None);
        }
    }

    proptest! {
        #[test]
        fn a_403_or_less_never_counts_as_unknown_and_5xx_always_does(status in 500_u16..600, code in ".{0,20}") {
            for call in [Call::Show, Call::Reset, Call::Add, Call::Delete] {
                prop_assert_eq!(refusal(status, &code, "").kind(call, None), CloudErrorKind::UnknownOutcome);
            }
            for status in [400, 401, 403, 404, 429] {
                prop_assert_ne!(refusal(status, &code, "").kind(Call::Reset, None), CloudErrorKind::UnknownOutcome);
            }
        }

        #[test]
        fn no_header_or_body_makes_reading_panic(value in ".{0,40}", date in ".{0,40}", body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = retry_after(&value, Some(&date), Timestamp::UNIX_EPOCH);
            let refusal = Refusal::read(401, &body);
            let _ = Refusal { message: Some(value), ..refusal }.clock_skew_minutes();
        }
    }
}
