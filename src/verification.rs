//! A new code tried as its consumer would use it: which request that is, where it may go, and what its answer means.
//!
//! Checks and meanings are pure; [`HttpProber`] sends. A try tells whether a code works and nothing else: it never
//! changes the app, whatever comes of it. The host is shown the code, so it must be on the operator's own list.

mod http;
mod probe;

use std::fmt;
use std::time::Duration;

use reqwest::Url;

pub use self::http::HttpProber;
pub use self::probe::{Probe, Prober};
use crate::api::{VERIFICATION_STATUS, VERIFICATION_TIMEOUT, VerificationMethod};
use crate::endpoint::Origin;
use crate::ids::BadId;

/// The status that is expected when the spec names none.
pub const DEFAULT_STATUS: i32 = 200;

/// Longest time for one try when the spec names none.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

const TIMEOUTS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];

/// What a gateway answers that does not take the code, and that has had too many calls.
const REFUSALS: [u16; 2] = [401, 403];
const THROTTLED: u16 = 429;

/// Longest URL, in bytes.
const MAX_URL: usize = 2048;

/// A request that shows whether a code works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verification {
    /// Where it goes.
    pub url: ProbeUrl,
    /// How it asks.
    pub method: VerificationMethod,
    /// The status that says that the code works: 200 to 499, and none that refuses a code or puts a caller off.
    pub expect_status: u16,
    /// Longest time for one try: 1 s to 60 s.
    pub timeout: Duration,
}

impl Verification {
    /// Checks the fields of a spec.
    ///
    /// # Errors
    /// With every rule that they break, in the order of the fields; never empty. None quotes a value.
    pub fn check(
        url: &str,
        method: VerificationMethod,
        expect_status: i32,
        timeout: Duration,
        hosts: &VerificationHosts,
    ) -> Result<Self, Vec<VerificationError>> {
        let mut errors = Vec::new();
        let url = hosts.check(url).map_err(|error| errors.push(error)).ok();
        let status = u16::try_from(expect_status)
            .ok()
            .filter(|status| (200..500).contains(status));
        match status {
            None => errors.push(VerificationError::Status),
            Some(status) if status == THROTTLED || REFUSALS.contains(&status) => {
                errors.push(VerificationError::Refusal);
            }
            Some(_) => {}
        }
        let [shortest, longest] = TIMEOUTS;
        if !(shortest..=longest).contains(&timeout) {
            errors.push(VerificationError::Timeout);
        }
        match (url, status) {
            (Some(url), Some(expect_status)) if errors.is_empty() => Ok(Self {
                url,
                method,
                expect_status,
                timeout,
            }),
            _ => Err(errors),
        }
    }
}

/// Why a verification is not made, in words that start with the field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerificationError {
    /// The URL is none, or has another spelling than the one that is sent.
    #[error("url must be {0}")]
    Malformed(&'static str),
    /// Plain `http` that the operator's settings do not open.
    #[error(
        "url: plain http is refused; only a loopback host may use it, and only with the operator's flag for local simulators"
    )]
    Insecure,
    /// The host may not be shown codes.
    #[error("url: the host is not on the operator's allow-list (--verification-hosts)")]
    NotAllowed,
    /// The status cannot be that of an answer to a request that went well.
    #[error("expectStatus must be 200 to 499")]
    Status,
    /// The status says that a code does not work, or nothing about it.
    #[error("{VERIFICATION_STATUS}")]
    Refusal,
    /// The time is too short or too long.
    #[error("{VERIFICATION_TIMEOUT}")]
    Timeout,
}

impl VerificationError {
    /// Whether the operator's administrator could allow it.
    pub fn is_by_admin(self) -> bool {
        matches!(self, Self::Insecure | Self::NotAllowed)
    }
}

/// Where a code may be tried: made by [`VerificationHosts::check`] only.
#[derive(Clone, PartialEq, Eq)]
pub struct ProbeUrl {
    /// Scheme, host and port, without a trailing slash.
    origin: String,
    /// Percent-encoded; at least a slash.
    path: String,
    /// Percent-encoded, without the question mark.
    query: String,
}

/// Shows the origin alone: people put secrets into paths and queries.
impl fmt::Debug for ProbeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProbeUrl({}/…)", self.origin)
    }
}

/// A host and a port that may be shown codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerificationHost {
    host: String,
    port: u16,
}

impl VerificationHost {
    /// Reads an entry of the allow-list, `HOST` or `HOST:PORT`; without a port it is that of `https`. Upper case is taken
    /// for lower case; an address has the one spelling that every URL parser agrees on.
    ///
    /// # Errors
    /// When it is anything else: a pattern, a URL, another spelling of an address.
    pub fn parse(text: &str) -> Result<Self, BadId> {
        let bad = || BadId {
            what: "verification host",
            rule: "a host name or an IP address, with a port if need be, such as inference.example.com:8443",
        };
        if text.contains('/') {
            return Err(bad());
        }
        let origin = Origin::parse(&format!("https://{}", text.to_ascii_lowercase())).map_err(|_| bad())?;
        Ok(Self {
            host: origin.host,
            port: origin.port,
        })
    }
}

/// The operator's settings on where codes may be tried. The default allows no host at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerificationHosts {
    /// The hosts that may be shown codes.
    pub allowed: Vec<VerificationHost>,
    /// Whether `http` to loopback is open, for local simulators. Such a host must still be on the list.
    pub allow_insecure_loopback: bool,
}

impl VerificationHosts {
    /// Reads a URL whose host and port equal those of an entry.
    ///
    /// # Errors
    /// When the list does not allow it, or when it is not written as it is sent: a user, a fragment, another spelling of
    /// an address and what a URL parser would change are refused rather than understood.
    fn check(&self, text: &str) -> Result<ProbeUrl, VerificationError> {
        let (origin, rest) = split(text);
        let origin = Origin::parse(origin).map_err(|bad| VerificationError::Malformed(bad.rule))?;
        let url = tail(&origin, rest).ok_or(VerificationError::Malformed(
            "percent-encoded after its host, without a fragment, dot segments or a lone question mark, and at most 2048 \
             characters long",
        ))?;
        if origin.is_plain && !self.allow_insecure_loopback {
            return Err(VerificationError::Insecure);
        }
        let is_allowed = |entry: &VerificationHost| entry.host == origin.host && entry.port == origin.port;
        if self.allowed.iter().any(is_allowed) {
            Ok(url)
        } else {
            Err(VerificationError::NotAllowed)
        }
    }
}

/// Cuts `text` where the first path, query or fragment could begin in the eyes of any parser.
fn split(text: &str) -> (&str, &str) {
    let scheme = text.find("://").map_or(0, |at| at + "://".len());
    let after = text.get(scheme..).unwrap_or_default();
    let length = after.find(['/', '?', '#', '\\']).unwrap_or(after.len());
    text.split_at_checked(scheme + length).unwrap_or((text, ""))
}

/// The URL of `origin` with `rest` behind it, if the parser of the HTTP client reads all of `rest` back unchanged.
fn tail(origin: &Origin, rest: &str) -> Option<ProbeUrl> {
    let text = format!("{}{rest}", origin.text);
    let url = Url::parse(&text).ok().filter(|_| text.len() <= MAX_URL)?;
    let query = url.query().unwrap_or_default();
    let mark = if query.is_empty() { "" } else { "?" };
    let same = format!("{}{mark}{query}", url.path());
    // A URL without a path is sent with a slash.
    let is_same = same == rest || same.strip_prefix('/') == Some(rest);
    is_same.then(|| ProbeUrl {
        origin: origin.text.clone(),
        path: url.path().to_owned(),
        query: query.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hosts(list: &[&str], allow_insecure_loopback: bool) -> VerificationHosts {
        let allowed = list.iter().map(|text| VerificationHost::parse(text).unwrap()).collect();
        VerificationHosts {
            allowed,
            allow_insecure_loopback,
        }
    }

    fn check(url: &str, hosts: &VerificationHosts) -> Result<ProbeUrl, VerificationError> {
        let checked = Verification::check(url, VerificationMethod::Get, DEFAULT_STATUS, DEFAULT_TIMEOUT, hosts);
        checked.map(|it| it.url).map_err(|errors| {
            assert_eq!(errors.len(), 1, "{errors:?}");
            errors[0]
        })
    }

    #[test]
    fn a_url_is_taken_apart_as_it_is_sent() {
        let hosts = hosts(
            &[
                "api.example.com",
                "api.example.com:8443",
                "127.0.0.1",
                "[2001:db8::1]:99",
            ],
            false,
        );
        for (text, origin, path, query) in [
            ("https://api.example.com", "https://api.example.com", "/", ""),
            ("https://api.example.com/", "https://api.example.com", "/", ""),
            ("https://api.example.com:443/a", "https://api.example.com", "/a", ""),
            (
                "https://api.example.com:8443/v1/a.b/",
                "https://api.example.com:8443",
                "/v1/a.b/",
                "",
            ),
            ("https://api.example.com?x=1", "https://api.example.com", "/", "x=1"),
            (
                "https://api.example.com/a?b=/c?d&e=%20",
                "https://api.example.com",
                "/a",
                "b=/c?d&e=%20",
            ),
            ("https://api.example.com//a//", "https://api.example.com", "//a//", ""),
            (
                "https://api.example.com/a@b:c;d=$!*'(),~",
                "https://api.example.com",
                "/a@b:c;d=$!*'(),~",
                "",
            ),
            (
                "https://api.example.com/https://other/",
                "https://api.example.com",
                "/https://other/",
                "",
            ),
            ("https://127.0.0.1/x", "https://127.0.0.1", "/x", ""),
            ("https://[2001:db8::1]:99/x", "https://[2001:db8::1]:99", "/x", ""),
        ] {
            let url = check(text, &hosts).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((&*url.origin, &*url.path, &*url.query), (origin, path, query), "{text}");
        }
    }

    /// Before the path.
    const BAD_HOSTS: &[&str] = &[
        "",
        "api.example.com",
        "//api.example.com/",
        "/v1",
        "https:",
        "https://",
        "https:///",
        "https:///api.example.com",
        "https:api.example.com",
        "https:/api.example.com",
        "HTTPS://api.example.com/",
        "Https://api.example.com/",
        "http://api.example.com/",
        "ftp://api.example.com/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "javascript://127.0.0.1/",
        "blob:https://api.example.com/",
        "https://API.example.com/",
        "https://api.example.com./",
        "https://api.example.com:/",
        "https://api.example.com:0/",
        "https://api.example.com:0443/",
        "https://api.example.com:99999/",
        "https://api.example.com:443:443/",
        "https://user@api.example.com/",
        "https://user:canary@api.example.com/",
        "https://@api.example.com/",
        "https://:@api.example.com/",
        "https://evil.example@api.example.com/",
        "https://api.example.com#@evil.example/",
        "https://api.example.com\\@evil.example/",
        "https://evil.example\\@api.example.com/",
        "https:\\\\api.example.com/",
        "https://api.example.com\n/",
        "https://api.exam\nple.com/",
        " https://api.example.com/",
        "\u{feff}https://api.example.com/",
        "https://api%2eexample.com/",
        "https://api.example.com%00/",
        "https://api。example.com/",
        "https://аpi.example.com/",
        "https://2130706433/",
        "https://0177.0.0.1/",
        "https://0x7f.0.0.1/",
        "https://0x7f000001/",
        "https://127.1/",
        "https://127.0.1/",
        "https://127.0.0.1./",
        "https://127.0.0.01/",
        "https://①②⑦.0.0.1/",
        "https://127。0。0。1/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:7f00:1]/",
        "https://[0:0:0:0:0:0:0:1]/",
        "https://[::1%25lo]/",
        "https://[::1/",
        "http://2130706433/",
        "http://10.0.0.1/",
        "http://localhost.example.com/",
    ];

    /// From the path on.
    const BAD_TAILS: &[&str] = &[
        "https://api.example.com#",
        "https://api.example.com/#",
        "https://api.example.com/#canary",
        "https://api.example.com/?x#y",
        "https://api.example.com\\x",
        "https://api.example.com/a\\b",
        "https://api.example.com/?",
        "https://api.example.com/a?",
        "https://api.example.com/.",
        "https://api.example.com/..",
        "https://api.example.com/a/../b",
        "https://api.example.com/a/./b",
        "https://api.example.com/%2e%2e/b",
        "https://api.example.com/.%2E/b",
        "https://api.example.com/a b",
        "https://api.example.com/a?b c",
        "https://api.example.com/\"",
        "https://api.example.com/<a>",
        "https://api.example.com/{a}",
        "https://api.example.com/?'",
        "https://api.example.com/é",
        "https://api.example.com/?é",
        "https://api.example.com/\r\nHost: evil.example",
        "https://api.example.com/\n",
        "https://api.example.com/\t",
        "https://api.example.com/a\tb",
        "https://api.example.com/\0",
        "https://api.example.com/\u{7f}",
        "https://api.example.com/\u{202e}",
        "https://api.example.com/ ",
    ];

    #[test]
    fn no_other_spelling_of_a_url_gets_through() {
        let hosts = hosts(&["api.example.com", "127.0.0.1", "[::1]", "localhost"], true);
        let long = format!("https://api.example.com/{}", "a".repeat(MAX_URL));
        for text in BAD_HOSTS.iter().chain(BAD_TAILS).copied().chain([long.as_str()]) {
            let refused = check(text, &hosts).unwrap_err();
            assert!(
                matches!(refused, VerificationError::Malformed(_)),
                "{text:?}: {refused}"
            );
            assert!(text.len() < 9 || !refused.to_string().contains(text), "{refused}");
            assert!(!refused.to_string().contains("canary"), "{refused}");
        }
    }
    #[test]
    fn only_the_listed_host_and_port_are_allowed() {
        let list = hosts(&["api.example.com", "other.example.com:8443", "127.0.0.1:8443"], true);
        for text in [
            "https://example.com/",
            "https://xapi.example.com/",
            "https://a.api.example.com/",
            "https://api.example.com.evil.example/",
            "https://evil.example/api.example.com",
            "https://evil.example/?https://api.example.com",
            "https://api.example.com:8443/",
            "https://api.example.com:80/",
            "https://other.example.com/",
            "https://other.example.com:443/",
            "https://127.0.0.1/",
            "https://127.0.0.2:8443/",
            "https://[::1]:8443/",
            "https://localhost:8443/",
            "https://169.254.169.254/",
            "https://0.0.0.0/",
            "https://10.0.0.1/",
            "http://127.0.0.1/",
        ] {
            assert_eq!(check(text, &list), Err(VerificationError::NotAllowed), "{text}");
        }
        let none = VerificationHosts::default();
        for text in ["https://api.example.com/", "https://127.0.0.1/"] {
            assert_eq!(check(text, &none), Err(VerificationError::NotAllowed), "{text}");
        }
    }

    #[test]
    fn plain_http_needs_loopback_the_flag_and_the_list() {
        let url = "http://127.0.0.1:9000/health";
        let list = ["127.0.0.1:9000", "localhost:80", "api.example.com:80"];
        assert!(check(url, &hosts(&list, true)).is_ok());
        assert!(check("http://localhost/", &hosts(&list, true)).is_ok());
        assert_eq!(check(url, &hosts(&list, false)), Err(VerificationError::Insecure));
        assert_eq!(check(url, &hosts(&[], true)), Err(VerificationError::NotAllowed));
        let plain = check("http://api.example.com/", &hosts(&list, true));
        assert_eq!(
            plain,
            Err(VerificationError::Malformed("https unless the host is loopback"))
        );
    }

    #[test]
    fn an_entry_is_one_host_and_one_port() {
        for (text, host, port) in [
            ("api.example.com", "api.example.com", 443),
            ("API.Example.com:443", "api.example.com", 443),
            ("api:8443", "api", 8443),
            ("127.0.0.1:80", "127.0.0.1", 80),
            ("[::1]", "[::1]", 443),
            ("[2001:DB8::1]:65535", "[2001:db8::1]", 65535),
        ] {
            let entry = VerificationHost::parse(text).unwrap();
            assert_eq!((entry.host.as_str(), entry.port), (host, port), "{text}");
        }
        for text in [
            "",
            " ",
            "*",
            "*.example.com",
            ".example.com",
            "api.example.com.",
            "api..example.com",
            "api_x.example.com",
            "https://api.example.com",
            "api.example.com/",
            "api.example.com/x",
            "api.example.com?x",
            "api.example.com#x",
            "user@api.example.com",
            "api.example.com:",
            "api.example.com:0",
            "api.example.com:080",
            "api.example.com:65536",
            "api.example.com:*",
            " api.example.com",
            "api.example.com\n",
            "api\\example.com",
            "é.example.com",
            "2130706433",
            "0177.0.0.1",
            "0x7f000001",
            "127.1",
            "::1",
            "[::1",
            "[0:0:0:0:0:0:0:1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[fe80::1%25eth0]",
            "10.0.0.0/8",
        ] {
            assert!(VerificationHost::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn every_broken_rule_is_told() {
        let hosts = VerificationHosts::default();
        let check = |status, timeout| Verification::check("", VerificationMethod::Get, status, timeout, &hosts);
        let errors = check(700, Duration::from_millis(999)).unwrap_err();
        let fields: Vec<String> = errors.iter().map(ToString::to_string).collect();
        for (told, field) in fields.iter().zip(["url ", "expectStatus ", "timeout "]) {
            assert!(told.starts_with(field), "{fields:?}");
        }
        assert_eq!(fields.len(), 3);
        for (status, expected) in [
            (i32::MIN, Some(VerificationError::Status)),
            (-200, Some(VerificationError::Status)),
            (199, Some(VerificationError::Status)),
            (200, None),
            (302, None),
            (400, None),
            (401, Some(VerificationError::Refusal)),
            (403, Some(VerificationError::Refusal)),
            (404, None),
            (429, Some(VerificationError::Refusal)),
            (499, None),
            (500, Some(VerificationError::Status)),
            (65736, Some(VerificationError::Status)),
        ] {
            let errors = check(status, DEFAULT_TIMEOUT).unwrap_err();
            assert_eq!(errors.get(1).copied(), expected, "{status}");
        }
    }

    #[test]
    fn a_path_and_a_query_are_not_shown() {
        let url = "https://api.example.com/canary?canary";
        let hosts = hosts(&["api.example.com"], false);
        let checked = Verification::check(url, VerificationMethod::Get, DEFAULT_STATUS, DEFAULT_TIMEOUT, &hosts);
        let shown = format!("{checked:?}");
        assert!(
            shown.contains("api.example.com") && !shown.contains("canary"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn no_text_leads_to_another_host_or_to_another_request(
            text in ".{0,60}|https?://[a-z0-9.:@/\\[\\]%]{0,40}|https://api\\.example\\.com.{0,30}|https://api\\.example\\.com[!-~]{0,20}",
        ) {
            let hosts = hosts(&["api.example.com", "127.0.0.1:99"], true);
            if let Ok(url) = check(&text, &hosts) {
                let mark = if url.query.is_empty() { "" } else { "?" };
                let sent = format!("{}{}{mark}{}", url.origin, url.path, url.query);
                let read = Url::parse(&sent).unwrap();
                prop_assert_eq!(read.as_str(), &sent);
                prop_assert_eq!(Url::parse(&text).unwrap(), read);
                prop_assert!(["https://api.example.com", "https://127.0.0.1:99", "http://127.0.0.1:99"].contains(&&*url.origin));
            }
        }
    }
}
