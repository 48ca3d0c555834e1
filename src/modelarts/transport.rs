//! One HTTP request, sent once, and as much of its answer as may be kept.
//!
//! Nothing here knows what the calls mean. It knows what an error proves about sending: the request has certainly not
//! been sent, or it may have been taken.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use jiff::Timestamp;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Client, ClientBuilder, Method, Url, redirect, retry, tls};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretString};

use super::{handshake, refusal};

/// Longest body that is read of an answer.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// Longest token that the service issues.
const MAX_TOKEN: usize = 64 * 1024;

/// How the client connects. The defaults suit the public cloud.
#[derive(Clone, Debug)]
pub struct HttpOptions {
    /// Bound on name lookup, connect and TLS handshake together. Must be shorter than `request_deadline`, so that a
    /// connection that never came about is told from an answer that never came. Default 5 s.
    pub connect_timeout: Duration,
    /// Bound on one request from its start to the last byte of its answer. Default 30 s.
    pub request_deadline: Duration,
    /// Latest that a change may be sent after it was asked for, signing in included; later it is not sent. Whoever
    /// waits for its effect counts on this. Default 5 s.
    pub send_within: Duration,
    /// PEM certificates that are trusted besides those of the system.
    pub extra_ca_pem: Option<Vec<u8>>,
    /// URL of a proxy for every request. None is used unless it is named here, whatever the environment says.
    pub proxy: Option<SecretString>,
    /// Whether plain `http` is possible and names may resolve to loopback, for local simulators.
    pub allow_insecure_loopback: bool,
    /// `User-Agent` of every request.
    pub user_agent: String,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            request_deadline: Duration::from_secs(30),
            send_within: Duration::from_secs(5),
            extra_ca_pem: None,
            proxy: None,
            allow_insecure_loopback: false,
            user_agent: concat!("appcode-operator/", env!("CARGO_PKG_VERSION")).into(),
        }
    }
}

/// Why no client can be made of the options. No text of the options is repeated: a proxy's URL may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpSetupError {
    /// The two bounds contradict each other.
    #[error("the connect time-out must be above zero and below the request deadline")]
    Deadlines,
    /// The extra certificates cannot be read.
    #[error("the extra CA file must hold PEM certificates: one at least, and none that cannot be read")]
    ExtraCa,
    /// The proxy's URL cannot be read.
    #[error("the proxy is not a URL")]
    Proxy,
    /// The user agent cannot be sent.
    #[error("the user agent is not a header value")]
    UserAgent,
    /// TLS cannot be set up.
    #[error("no TLS client could be made; are the system's CA certificates installed?")]
    Tls,
}

/// A request that failed to bring an answer. The text holds no URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SendError {
    /// Nothing was sent.
    NotSent(String),
    /// It may have been taken.
    Unknown(String),
}

/// A request as it goes out.
pub(crate) struct Outgoing<'a> {
    pub(crate) method: Method,
    /// Origin without a trailing slash.
    pub(crate) origin: &'a str,
    /// Percent-encoded.
    pub(crate) path: &'a str,
    /// Percent-encoded, without the question mark.
    pub(crate) query: &'a str,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<Zeroizing<Vec<u8>>>,
}

/// An answer of any status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(super) request_id: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// `X-Subject-Token`.
    pub(super) token: Option<SecretString>,
    /// The whole body, or why there is none.
    pub(super) body: Result<Zeroizing<Vec<u8>>, String>,
}

/// The clients: reads may share a connection, changes never do.
pub(super) struct Transport {
    reads: Line,
    changes: Line,
    deadline: Duration,
}

impl Transport {
    pub(super) fn new(options: &HttpOptions) -> Result<Self, HttpSetupError> {
        if options.connect_timeout.is_zero() || options.connect_timeout >= options.request_deadline {
            return Err(HttpSetupError::Deadlines);
        }
        Ok(Self {
            reads: Line::of(options, builder(options)?)?,
            changes: Line::without_reuse(options)?,
            deadline: options.request_deadline,
        })
    }

    /// Sends `request` once. A sign-in counts as a change here, since each failed one counts against the user.
    pub(super) async fn send(&self, request: Outgoing<'_>, now: Timestamp) -> Result<Answer, SendError> {
        let line = if request.method == Method::GET {
            &self.reads
        } else {
            &self.changes
        };
        line.send(request, self.deadline, now).await
    }
}

/// One client, and what has to be known to tell of its failures.
pub(crate) struct Line {
    client: Client,
    connect_timeout: Duration,
    has_proxy: bool,
}

impl Line {
    /// A client that opens a connection for each request.
    pub(crate) fn without_reuse(options: &HttpOptions) -> Result<Self, HttpSetupError> {
        // A pool repeats a request whose reused connection died before it was written. Without a pool none is reused.
        Self::of(options, builder(options)?.pool_max_idle_per_host(0))
    }

    fn of(options: &HttpOptions, builder: ClientBuilder) -> Result<Self, HttpSetupError> {
        Ok(Self {
            client: builder.build().map_err(|_| HttpSetupError::Tls)?,
            connect_timeout: options.connect_timeout,
            has_proxy: options.proxy.is_some(),
        })
    }

    /// Sends `request` once. By `deadline` it is over, the reading of the body included.
    pub(crate) async fn send(
        &self,
        request: Outgoing<'_>,
        deadline: Duration,
        now: Timestamp,
    ) -> Result<Answer, SendError> {
        let query = if request.query.is_empty() {
            String::new()
        } else {
            format!("?{}", request.query)
        };
        let url = Url::parse(&format!("{}{}{query}", request.origin, request.path))
            .ok()
            // A URL parser resolves dot segments; what it would send must be what was signed.
            .filter(|url| url.path() == request.path && url.query().unwrap_or_default() == request.query)
            .ok_or_else(|| SendError::NotSent("the call has no URL of its own".into()))?;
        let peer = self.peer(&url);
        let mut call = self
            .client
            .request(request.method, url)
            .headers(request.headers)
            .timeout(deadline);
        if let Some(body) = request.body {
            call = call.body(body.to_vec());
        }
        let sent = call.send().await;
        let mut response = sent.map_err(|error| self.send_error(error, &peer, deadline))?;
        let headers = response.headers();
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let retry_after = text(RETRY_AFTER).and_then(|value| refusal::retry_after(value, text(DATE), now));
        let request_id = text(HeaderName::from_static("x-request-id")).and_then(request_id);
        let token = text(HeaderName::from_static("x-subject-token"))
            .filter(|token| (1..=MAX_TOKEN).contains(&token.len()))
            .map(SecretString::from);
        let status = response.status().as_u16();
        let body = read(&mut response).await;
        Ok(Answer {
            status,
            request_id,
            retry_after,
            token,
            body,
        })
    }

    /// Who may have failed when a connection to `url` did.
    fn peer(&self, url: &Url) -> String {
        let proxy = if self.has_proxy { " (or its proxy)" } else { "" };
        format!("{}{proxy}", host(url).unwrap_or_default())
    }

    fn send_error(&self, error: reqwest::Error, peer: &str, deadline: Duration) -> SendError {
        let error = error.without_url();
        if error.is_builder() {
            return SendError::NotSent("the request could not be built".into());
        }
        if error.is_connect() {
            return SendError::NotSent(if let Some(problem) = handshake::problem(&error, peer) {
                format!("no connection: {problem}")
            } else if error.is_timeout() {
                let bound = self.connect_timeout.as_secs_f32();
                format!("no connection to {peer} within {bound} s, TLS handshake included")
            } else {
                format!("no connection to {peer}: {}", innermost(&error))
            });
        }
        if error.is_timeout() {
            SendError::Unknown(format!("no answer within {} s", deadline.as_secs_f32()))
        } else {
            SendError::Unknown(format!("no answer: {}", innermost(&error)))
        }
    }
}

/// The cause that says something: connection refused, name not known.
fn innermost(error: &reqwest::Error) -> String {
    let causes = std::iter::successors(std::error::Error::source(error), |cause| cause.source());
    causes.last().map(ToString::to_string).unwrap_or_default()
}

/// The authority as the HTTP stack writes it into `Host`: with the port only if it is not the scheme's own.
pub(super) fn host(url: &Url) -> Option<String> {
    let host = url.host_str()?;
    Some(
        url.port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
    )
}

fn builder(options: &HttpOptions) -> Result<ClientBuilder, HttpSetupError> {
    let user_agent = HeaderValue::from_str(&options.user_agent).map_err(|_| HttpSetupError::UserAgent)?;
    let mut builder = Client::builder()
        .user_agent(user_agent)
        .connect_timeout(options.connect_timeout)
        .timeout(options.request_deadline)
        .redirect(redirect::Policy::none())
        .referer(false)
        // By default a request that the server did not take is sent again.
        .retry(retry::never())
        .no_proxy()
        // HTTP/2 gains nothing at one call a second, and its layers may repeat what a peer refused to take.
        .http1_only()
        .tls_version_min(tls::Version::TLS_1_2)
        .https_only(!options.allow_insecure_loopback)
        .dns_resolver(Arc::new(Resolver {
            allow_loopback: options.allow_insecure_loopback,
        }));
    if let Some(pem) = &options.extra_ca_pem {
        builder = builder.tls_certs_merge(certificates(pem).ok_or(HttpSetupError::ExtraCa)?);
    }
    if let Some(proxy) = &options.proxy {
        builder = builder.proxy(reqwest::Proxy::all(proxy.expose_secret()).map_err(|_| HttpSetupError::Proxy)?);
    }
    Ok(builder)
}

/// The certificates in `pem`: at least one, each fit to be trusted.
fn certificates(pem: &[u8]) -> Option<Vec<reqwest::Certificate>> {
    // Left to the client, one that cannot be read would be told as TLS that cannot be set up at all.
    let mut roots = RootCertStore::empty();
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.ok()?;
        certificates.push(reqwest::Certificate::from_der(&certificate).ok()?);
        roots.add(certificate).ok()?;
    }
    (!certificates.is_empty()).then_some(certificates)
}

/// Reads the body up to [`MAX_BODY`], by count and not by what the answer announces.
async fn read(response: &mut reqwest::Response) -> Result<Zeroizing<Vec<u8>>, String> {
    let too_long = || format!("the answer is longer than {MAX_BODY} bytes");
    let announced = response
        .content_length()
        .map_or(Ok(MAX_BODY), usize::try_from)
        .unwrap_or(usize::MAX);
    if announced > MAX_BODY {
        return Err(too_long());
    }
    // At its full size from the start: growing would leave copies of codes behind.
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > MAX_BODY => return Err(too_long()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body),
            Err(error) if error.is_timeout() => return Err("the answer did not end in time".into()),
            Err(_) => return Err("the answer was cut".into()),
        }
    }
}

/// A request id as support knows them; anything else could be anything.
fn request_id(text: &str) -> Option<String> {
    let is_id = (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    is_id.then(|| text.to_owned())
}

/// The system's resolver without the addresses where no cloud is: a name that was allowed must not become a way to the
/// pod's own ports or to a node's metadata service.
struct Resolver {
    allow_loopback: bool,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allow_loopback = self.allow_loopback;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let usable: Vec<_> = found
                .filter(|address| is_usable(address.ip(), allow_loopback))
                .collect();
            if usable.is_empty() {
                return Err("the name has no address that may be connected to".into());
            }
            Ok(Box::new(usable.into_iter()) as Addrs)
        })
    }
}

fn is_usable(address: IpAddr, allow_loopback: bool) -> bool {
    let address = address.to_canonical();
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !is_link_local && !address.is_unspecified() && !address.is_multicast() && (allow_loopback || !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_where_no_cloud_is_are_not_used() {
        for (address, allow_loopback, expected) in [
            ("203.0.113.7", false, true),
            ("10.0.0.1", false, true),
            ("100.125.0.1", false, true),
            ("2001:db8::1", false, true),
            ("127.0.0.1", false, false),
            ("127.8.8.8", false, false),
            ("::1", false, false),
            ("::ffff:127.0.0.1", false, false),
            ("127.0.0.1", true, true),
            ("::1", true, true),
            ("169.254.169.254", true, false),
            ("::ffff:169.254.169.254", true, false),
            ("fe80::1", true, false),
            ("0.0.0.0", true, false),
            ("::", true, false),
            ("224.0.0.1", true, false),
            ("ff02::1", true, false),
            ("255.255.255.255", true, false),
        ] {
            assert_eq!(
                is_usable(address.parse().unwrap(), allow_loopback),
                expected,
                "{address} {allow_loopback}"
            );
        }
    }

    #[test]
    fn options_that_contradict_or_cannot_be_read_are_refused_without_being_quoted() {
        let refused = |options: HttpOptions| Transport::new(&options).err();
        let second = Duration::from_secs(1);
        let default = HttpOptions::default;
        assert_eq!(refused(default()), None);
        let same = HttpOptions {
            connect_timeout: second,
            request_deadline: second,
            ..default()
        };
        assert_eq!(refused(same), Some(HttpSetupError::Deadlines));
        let zero = HttpOptions {
            connect_timeout: Duration::ZERO,
            ..default()
        };
        assert_eq!(refused(zero), Some(HttpSetupError::Deadlines));
        for pem in [
            &b""[..],
            b"canary",
            b"-----BEGIN CERTIFICATE-----\ncanary\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n",
        ] {
            let options = HttpOptions {
                extra_ca_pem: Some(pem.to_vec()),
                ..default()
            };
            assert_eq!(refused(options), Some(HttpSetupError::ExtraCa));
        }
        let proxy = HttpOptions {
            proxy: Some("http://canary:canary@".into()),
            ..default()
        };
        assert_eq!(refused(proxy), Some(HttpSetupError::Proxy));
        let agent = HttpOptions {
            user_agent: "a\nb".into(),
            ..default()
        };
        assert_eq!(refused(agent), Some(HttpSetupError::UserAgent));
    }

    #[test]
    fn only_what_looks_like_a_request_id_is_kept() {
        assert_eq!(request_id("abc-DEF_0"), Some("abc-DEF_0".into()));
        for text in ["", "a b", "a/b", "a\tb", &"a".repeat(65)] {
            assert_eq!(request_id(text), None);
        }
    }
}
