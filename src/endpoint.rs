//! Which hosts the operator may talk to.
//!
//! Pure text work: nothing here resolves a name or opens a connection. A region becomes an endpoint by table and
//! pattern; an endpoint that a user wrote must equal an entry of the operator's allow-list in scheme, host and port.
//! Each entry pairs ModelArts with its IAM, so that a password never goes to a guessed host.

use std::net::{Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::ids::BadId;

/// Where the cloud's services are. Made by [`Endpoint::for_region`] or [`EndpointRules::check`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Origin of ModelArts, without a trailing slash.
    pub modelarts: String,
    /// Origin of IAM, where a password may be sent.
    pub iam: String,
}

impl Endpoint {
    /// The public endpoints of a region such as `cn-north-4`.
    ///
    /// The pattern is that of the vendor's SDKs, `{service}.{region}.myhuaweicloud.com`, with their two exceptions:
    /// ModelArts of ap-southeast-1 is under `.cn`, and Europe is a site of its own under `.eu`.
    ///
    /// # Errors
    /// When `region` is not two letters, a word and a number, joined by hyphens and all in lower case.
    pub fn for_region(region: &str) -> Result<Self, BadId> {
        if !is_region(region) {
            return Err(BadId {
                what: "region",
                rule: "a region such as cn-north-4",
            });
        }
        let (modelarts, iam) = match region {
            "ap-southeast-1" => ("cn", "com"),
            "eu-west-101" => ("eu", "eu"),
            _ => ("com", "com"),
        };
        Ok(Self {
            modelarts: format!("https://modelarts.{region}.myhuaweicloud.{modelarts}"),
            iam: format!("https://iam.{region}.myhuaweicloud.{iam}"),
        })
    }

    /// Whose users sign in here: the regions of one site share theirs, and another site does not know them.
    ///
    /// The domain behind the region where IAM's host has one, else IAM's origin.
    pub fn site(&self) -> &str {
        let host = self
            .iam
            .strip_prefix("https://iam.")
            .and_then(|host| host.split_once('.'));
        host.filter(|(region, _)| is_region(region))
            .map_or(&self.iam, |(_, domain)| domain)
    }

    /// Reads an allow-list entry, `MODELARTS_URL=IAM_URL`.
    ///
    /// # Errors
    /// When either side is not a plain origin: `https://host` with an optional port, or `http://` on loopback.
    pub fn parse_pair(text: &str) -> Result<Self, BadId> {
        let pair = || BadId {
            what: "allowed endpoint",
            rule: "MODELARTS_URL=IAM_URL",
        };
        let (modelarts, iam) = text.split_once('=').ok_or_else(pair)?;
        Ok(Self {
            modelarts: Origin::parse(modelarts)?.text,
            iam: Origin::parse(iam)?.text,
        })
    }
}

fn is_region(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [area, place, number] = parts.as_slice() else {
        return false;
    };
    let lower = |part: &str| part.bytes().all(|b| b.is_ascii_lowercase());
    area.len() == 2
        && lower(area)
        && (2..=20).contains(&place.len())
        && lower(place)
        && (1..=3).contains(&number.len())
        && number.bytes().all(|b| b.is_ascii_digit())
}

/// Why an endpoint is not used. The text itself is left out: it may hold a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// It is not an origin.
    #[error(transparent)]
    Malformed(#[from] BadId),
    /// Plain `http` that the operator's settings do not open.
    #[error("plain http is refused; only a loopback endpoint may use it, and only with the flag for local simulators")]
    Insecure,
    /// It is not on the list.
    #[error("the endpoint is not on the operator's allow-list")]
    NotAllowed,
}

/// The operator's settings on endpoints. The default allows none but those of [`Endpoint::for_region`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointRules {
    /// The pairs that may be used.
    pub allowed: Vec<Endpoint>,
    /// Whether `http` to loopback is open, for local simulators. Such an endpoint must still be on the list.
    pub allow_insecure_loopback: bool,
}

impl EndpointRules {
    /// The allowed pair whose ModelArts origin equals `endpoint` in scheme, host and port.
    ///
    /// # Errors
    /// See [`EndpointError`].
    pub fn check(&self, endpoint: &str) -> Result<Endpoint, EndpointError> {
        let origin = self.open(endpoint)?;
        for pair in &self.allowed {
            if self.open(&pair.modelarts)?.text == origin.text {
                let iam = self.open(&pair.iam)?.text;
                return Ok(Endpoint {
                    modelarts: origin.text,
                    iam,
                });
            }
        }
        Err(EndpointError::NotAllowed)
    }

    /// Checks the settings themselves, for the start of the program.
    ///
    /// # Errors
    /// When an entry of the list could never be used.
    pub fn validate(&self) -> Result<(), EndpointError> {
        self.allowed
            .iter()
            .try_for_each(|pair| self.check(&pair.modelarts).map(|_| ()))
    }

    fn open(&self, text: &str) -> Result<Origin, EndpointError> {
        let origin = Origin::parse(text)?;
        if origin.is_plain && !self.allow_insecure_loopback {
            return Err(EndpointError::Insecure);
        }
        Ok(origin)
    }
}

/// A scheme, a host and perhaps a port, in the one spelling that every URL parser agrees on.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    /// The whole, without a trailing slash.
    pub(crate) text: String,
    pub(crate) host: String,
    /// The scheme's own where the text names none.
    pub(crate) port: u16,
    /// Whether it is `http`, and so a loopback.
    pub(crate) is_plain: bool,
}

impl Origin {
    /// The parser of the HTTP client must read `text` back unchanged: then no other spelling of an address (decimal,
    /// octal, upper case, full-width) and no user, path, query or fragment gets through.
    pub(crate) fn parse(text: &str) -> Result<Self, BadId> {
        let bad = || BadId {
            what: "endpoint",
            rule: "https:// and a lower-case host name, with a port if need be",
        };
        let text = text.strip_suffix('/').unwrap_or(text);
        let url = Url::parse(text).map_err(|_| bad())?;
        let host = url.host_str().filter(|host| is_plain_host(host)).ok_or_else(bad)?;
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        let canonical = format!("{}://{host}{port}", url.scheme());
        let default_port = match url.scheme() {
            "https" => ":443",
            "http" => ":80",
            _ => return Err(bad()),
        };
        if url.port() == Some(0) || (text != canonical && text.strip_suffix(default_port) != Some(&canonical)) {
            return Err(bad());
        }
        let is_plain = url.scheme() == "http";
        if is_plain && !is_loopback(host) {
            return Err(BadId {
                what: "endpoint",
                rule: "https unless the host is loopback",
            });
        }
        Ok(Self {
            host: host.to_owned(),
            port: url.port_or_known_default().ok_or_else(bad)?,
            text: canonical,
            is_plain,
        })
    }
}

fn is_plain_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return address
            .parse::<Ipv6Addr>()
            .is_ok_and(|address| address.to_ipv4_mapped().is_none());
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()) || host == "[::1]"
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules(pairs: &[&str], allow_insecure_loopback: bool) -> EndpointRules {
        let allowed = pairs.iter().map(|pair| Endpoint::parse_pair(pair).unwrap()).collect();
        EndpointRules {
            allowed,
            allow_insecure_loopback,
        }
    }

    const PAIR: &str = "https://modelarts.example.com=https://iam.example.com:8443";

    #[test]
    fn a_region_becomes_its_endpoints() {
        for (region, modelarts, iam) in [
            (
                "cn-north-4",
                "https://modelarts.cn-north-4.myhuaweicloud.com",
                "https://iam.cn-north-4.myhuaweicloud.com",
            ),
            (
                "ap-southeast-1",
                "https://modelarts.ap-southeast-1.myhuaweicloud.cn",
                "https://iam.ap-southeast-1.myhuaweicloud.com",
            ),
            (
                "eu-west-101",
                "https://modelarts.eu-west-101.myhuaweicloud.eu",
                "https://iam.eu-west-101.myhuaweicloud.eu",
            ),
            (
                "sa-brazil-1",
                "https://modelarts.sa-brazil-1.myhuaweicloud.com",
                "https://iam.sa-brazil-1.myhuaweicloud.com",
            ),
        ] {
            let endpoint = Endpoint::for_region(region).unwrap();
            assert_eq!((endpoint.modelarts.as_str(), endpoint.iam.as_str()), (modelarts, iam));
        }
    }

    #[test]
    fn regions_of_one_site_share_it_and_a_pair_of_other_hosts_has_its_own() {
        let of = |region| Endpoint::for_region(region).unwrap().site().to_owned();
        assert_eq!(of("cn-north-4"), "myhuaweicloud.com");
        assert_eq!(of("ap-southeast-1"), of("cn-north-4"));
        assert_eq!(of("eu-west-101"), "myhuaweicloud.eu");
        let pair = |text| Endpoint::parse_pair(text).unwrap().site().to_owned();
        assert_eq!(pair(PAIR), "https://iam.example.com:8443");
        assert_eq!(
            pair("https://here.example=https://iam.cn-north-4.myhuaweicloud.com"),
            of("cn-north-4")
        );
    }

    #[test]
    fn what_is_not_a_region_is_refused() {
        for text in [
            "",
            "cn",
            "cn-north",
            "cn-north-",
            "cn-north-4444",
            "CN-north-4",
            "cn-north-4.evil.com",
            "cn-north-4/",
            "cn-north-4#",
            "cn-north-4@evil",
            "cn--4",
            "cn-north-4-x",
            " cn-north-4",
            "cn-nörth-4",
            "c-north-4",
            "cn-north-4\n",
            "127-0-1",
        ] {
            assert!(Endpoint::for_region(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn an_allowed_endpoint_brings_its_own_iam() {
        let rules = rules(&["https://other.example.com=https://iam.other", PAIR], false);
        for text in [
            "https://modelarts.example.com",
            "https://modelarts.example.com/",
            "https://modelarts.example.com:443",
        ] {
            let endpoint = rules.check(text).unwrap();
            assert_eq!(endpoint.modelarts, "https://modelarts.example.com");
            assert_eq!(endpoint.iam, "https://iam.example.com:8443");
        }
    }

    #[test]
    fn no_other_spelling_of_a_host_gets_through() {
        let rules = rules(
            &[
                PAIR,
                "https://127.0.0.1=https://127.0.0.1",
                "https://[::1]=https://[::1]",
            ],
            true,
        );
        for text in [
            "",
            "modelarts.example.com",
            "//modelarts.example.com",
            "https:",
            "https://",
            "https:///",
            "https:modelarts.example.com",
            "http://modelarts.example.com",
            "HTTPS://modelarts.example.com",
            "ftp://modelarts.example.com",
            "file:///etc/passwd",
            "https://MODELARTS.example.com",
            "https://modelarts.example.com.",
            "https://modelarts.example.com:444",
            "https://modelarts.example.com:0",
            "https://modelarts.example.com:0443",
            "https://modelarts.example.com:",
            "https://modelarts.example.com:99999",
            "https://modelarts.example.com//",
            "https://modelarts.example.com/v1",
            "https://modelarts.example.com?",
            "https://modelarts.example.com?x=1",
            "https://modelarts.example.com#",
            "https://modelarts.example.com#@evil",
            "https://user@modelarts.example.com",
            "https://user:pass@modelarts.example.com",
            "https://modelarts.example.com@evil.com",
            "https://@modelarts.example.com",
            "https://modelarts.example.com\\@evil.com",
            "https:\\\\modelarts.example.com",
            "https://evil.com/modelarts.example.com",
            "https://modelarts.example.com.evil.com",
            "https://xmodelarts.example.com",
            "https://example.com",
            "https://modelarts%2eexample.com",
            "https://modelarts。example.com",
            "https://modelarts.example.com\t",
            " https://modelarts.example.com",
            "https://modelarts.example.com\0",
            "https://modelarts.exa\nmple.com",
            "https://2130706433",
            "https://0177.0.0.1",
            "https://0x7f.0.0.1",
            "https://0x7f000001",
            "https://127.1",
            "https://127.0.1",
            "https://127.0.0.2",
            "https://[::ffff:127.0.0.1]",
            "https://[::ffff:7f00:1]",
            "https://[0:0:0:0:0:0:0:1]",
            "https://[::1%25lo]",
            "https://127.0.0.1.",
            "https://169.254.169.254",
            "https://0.0.0.0",
            "https://[::]",
            "https://localhost",
            "https://①②⑦.0.0.1",
            "https://xn--",
            "https://-a.example.com",
        ] {
            let refused = rules.check(text).unwrap_err();
            assert!(text.len() < 9 || !refused.to_string().contains(text), "{refused}");
        }
        assert!(rules.check("https://127.0.0.1").is_ok());
        assert!(rules.check("https://[::1]").is_ok());
    }

    #[test]
    fn plain_http_needs_loopback_the_flag_and_the_list() {
        let pair = "http://127.0.0.1:9000=http://localhost:9001";
        assert_eq!(
            rules(&[pair], true).check("http://127.0.0.1:9000").unwrap().iam,
            "http://localhost:9001"
        );
        assert_eq!(
            rules(&[pair], false).check("http://127.0.0.1:9000"),
            Err(EndpointError::Insecure)
        );
        assert_eq!(
            rules(&[], true).check("http://127.0.0.1:9000"),
            Err(EndpointError::NotAllowed)
        );
        assert_eq!(
            rules(&[pair], true).check("http://127.0.0.1:9001"),
            Err(EndpointError::NotAllowed)
        );
        assert_eq!(
            rules(&[pair], true).check("https://127.0.0.1:9000"),
            Err(EndpointError::NotAllowed)
        );
        assert_eq!(rules(&[pair], false).validate(), Err(EndpointError::Insecure));
        assert_eq!(rules(&[pair], true).validate(), Ok(()));
        for host in [
            "10.0.0.1",
            "modelarts.example.com",
            "localhost.example.com",
            "[::ffff:127.0.0.1]",
            "[fe80::1]",
            "0.0.0.0",
        ] {
            assert!(
                Endpoint::parse_pair(&format!("http://{host}=https://iam.example.com")).is_err(),
                "{host}"
            );
        }
    }

    #[test]
    fn a_secure_endpoint_never_brings_a_plain_iam_unasked() {
        let rules = rules(&["https://modelarts.example.com=http://127.0.0.1:9001"], false);
        assert_eq!(
            rules.check("https://modelarts.example.com"),
            Err(EndpointError::Insecure)
        );
    }

    proptest! {
        #[test]
        fn only_the_listed_origin_is_ever_returned(text in ".{0,60}|https?://[a-z0-9.:@/\\[\\]%]{0,40}") {
            let rules = rules(&[PAIR], true);
            if let Ok(endpoint) = rules.check(&text) {
                prop_assert_eq!(endpoint.modelarts, "https://modelarts.example.com");
            }
        }
    }
}
