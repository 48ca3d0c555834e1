//! Whom the client believes to be the cloud: nobody else is sent a request, and the error says what to do.

use std::error::Error;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Shutdown, TcpStream};

use appcode_operator::modelarts::{CloudErrorKind, HttpSetupError};
use pretty_assertions::assert_eq;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A server of which it is known what came of each connection.
pub struct Peer {
    pub server: Server,
    pub origin: String,
    /// For each connection that has ended: whether the client sent more than its part of a failed handshake.
    ended: UnboundedReceiver<bool>,
}

impl Peer {
    /// `meet` serves a connection until its end and returns what `ended` tells of it.
    fn start(seen: Arc<Mutex<Vec<Seen>>>, meet: impl Fn(TcpStream) -> bool + Send + Sync + 'static) -> Self {
        let (sender, ended) = unbounded_channel();
        let server = Server::listen(seen, move |stream| {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let _ = sender.send(meet(stream));
        });
        Self {
            origin: server.origin.replace("http:", "https:"),
            server,
            ended,
        }
    }

    /// Shows `identity` and answers with the app, or with a token if it is asked for one.
    pub fn showing(identity: &Identity, version: &'static SupportedProtocolVersion) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate.der().clone()], identity.key())
            .unwrap();
        let config = Arc::new(config);
        let seen = Arc::default();
        let record = Arc::clone(&seen);
        Self::start(seen, move |stream| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut tls = StreamOwned::new(connection, stream);
            if tls.conn.complete_io(&mut tls.sock).is_err() {
                return false;
            }
            if let Ok(Some(request)) = server::read_request(&mut BufReader::new(&mut tls), 0) {
                let (status, headers) = match request.path() {
                    "/v3/auth/tokens" => (201, &[("X-Subject-Token", "CanaryToken")][..]),
                    _ => (200, &[][..]),
                };
                record.lock().unwrap().push(request);
                let _ = tls.write_all(&server::response(status, headers, app_json(&[NEW]).as_bytes()));
            }
            true
        })
    }

    /// Says `bytes` to whatever comes first.
    pub fn saying(bytes: &'static [u8]) -> Self {
        Self::start(Arc::default(), move |mut stream| {
            let mut arrived = vec![0; 4096];
            let length = stream.read(&mut arrived).unwrap_or(0);
            arrived.truncate(length);
            let _ = stream.write_all(bytes);
            let _ = stream.read_to_end(&mut arrived);
            !is_failed_handshake(&arrived)
        })
    }

    fn host(&self) -> &str {
        self.origin.trim_start_matches("https://")
    }

    /// That there were `count` connections, and that each ended before its handshake did.
    pub async fn assert_no_request(&mut self, count: usize) {
        for _ in 0..count {
            let ending = tokio::time::timeout(Duration::from_secs(30), self.ended.recv()).await;
            assert_eq!(ending, Ok(Some(false)));
        }
        assert_eq!((self.server.connections(), self.server.seen().len()), (count, 0));
    }
}

/// Whether `bytes` are records of the types handshake and alert, the only ones that hold nothing of an application.
fn is_failed_handshake(mut bytes: &[u8]) -> bool {
    while let [kind, 3, _, high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        if !matches!(kind, 21 | 22) || rest.len() < length {
            return false;
        }
        bytes = &rest[length..];
    }
    bytes.is_empty()
}

pub struct Authority {
    pub pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            pem: params.self_signed(&key).unwrap().pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for loopback, changed by `change`.
    pub fn sign(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.issuer).unwrap(),
            key,
        }
    }
}

pub struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Identity {
    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

/// The options of a real installation, with `pem` trusted.
pub fn trusting(pem: &str) -> HttpOptions {
    HttpOptions {
        extra_ca_pem: Some(pem.into()),
        ..HttpOptions::default()
    }
}

/// All that an error may show of itself.
fn all_texts(error: &CloudError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text} {cause} {cause:?}");
        source = cause.source();
    }
    text
}

/// Every call on `peer`, and every sign-in at it, fails before a request is sent and says `problem`, in which HOST is
/// the peer's.
async fn assert_refused(what: &str, options: &HttpOptions, mut peer: Peer, problem: &str) {
    let client = client_with(options);
    let problem = problem.replace("HOST", peer.host());
    let elsewhere = answers_well();
    let calls = target(&peer.origin, "https://iam", keys());
    let sign_ins = target(&elsewhere.origin, &peer.origin, password());
    let of_calls = each_call(&client, &calls).await;
    let of_sign_ins = each_call(&client, &sign_ins).await;
    let calls = ["show app", "reset code", "add code", "delete code"];
    let names = calls.into_iter().chain(["sign in"; 4]);
    for ((call, outcome), name) in of_calls.into_iter().chain(of_sign_ins).zip(names) {
        let error = outcome.expect_err(what);
        assert_eq!(error.kind, CloudErrorKind::NotSent, "{what}, {name}, {call}: {error}");
        assert!(error.is_not_applied());
        assert_eq!(error.message, format!("{name}: {problem}"), "{what}, {call}");
        let text = all_texts(&error);
        for secret in [
            CODE, ACCESS_KEY, SECRET_KEY, PASSWORD, PROJECT, APP, "://", "/v1", "/v3", "app-",
        ] {
            assert!(!text.contains(secret), "{what}, {name}: {secret} in {text}");
        }
    }
    peer.assert_no_request(8).await;
    assert_eq!(elsewhere.connections(), 0, "{what}");
}

/// `identity` is refused over every version of TLS.
async fn assert_identity_refused(what: &str, trusted: &str, identity: &Identity, problem: &str) {
    for version in VERSIONS {
        let problem = format!("no connection: {problem}");
        assert_refused(what, &trusting(trusted), Peer::showing(identity, version), &problem).await;
    }
}

#[tokio::test]
async fn a_certificate_of_an_extra_ca_is_accepted() {
    let (ca, other) = (Authority::new("extra"), Authority::new("other"));
    let identity = ca.sign(|_| ());
    let bundle = format!("# Both are trusted.\n{}\n{}", other.pem, ca.pem);
    for version in VERSIONS {
        for pem in [&ca.pem, &bundle] {
            for (host, allow_insecure_loopback) in [("127.0.0.1", false), ("localhost", true)] {
                let options = HttpOptions {
                    allow_insecure_loopback,
                    ..trusting(pem)
                };
                let (peer, iam) = (Peer::showing(&identity, version), Peer::showing(&identity, version));
                let at_host = |peer: &Peer| peer.origin.replace("127.0.0.1", host);
                let client = client_with(&options);
                for credentials in [keys(), password()] {
                    let target = target(&at_host(&peer), &at_host(&iam), credentials);
                    for (call, outcome) in each_call(&client, &target).await {
                        assert_eq!(outcome, Ok(()), "{call} {host} {version:?}");
                    }
                }
                let count = |method| peer.server.count(method);
                assert_eq!((count("GET"), count("PUT"), count("POST")), (2, 2, 2));
                assert_eq!(iam.server.only().path(), "/v3/auth/tokens");
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_of_an_unknown_ca_is_refused() {
    let (trusted, unknown) = (Authority::new("trusted"), Authority::new("unknown"));
    let problem = "the certificate of HOST is not trusted: unknown issuer; give its CA with --ca-file";
    let identity = unknown.sign(|_| ());
    assert_identity_refused("another CA", &trusted.pem, &identity, problem).await;
    let without = HttpOptions::default();
    let peer = Peer::showing(&identity, &TLS13);
    assert_refused("no extra CA", &without, peer, &format!("no connection: {problem}")).await;
}

#[tokio::test]
async fn a_certificate_of_a_ca_that_only_has_a_trusted_name_is_refused() {
    let (trusted, namesake) = (Authority::new("same"), Authority::new("same"));
    let problem =
        "the certificate of HOST is not trusted: the CA that it names has not signed it; give its CA with --ca-file";
    assert_identity_refused("namesake", &trusted.pem, &namesake.sign(|_| ()), problem).await;
}

#[tokio::test]
async fn a_certificate_out_of_its_time_is_refused() {
    let ca = Authority::new("extra");
    let expired = ca.sign(|params| params.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let problem = "a certificate of HOST expired at 2001-02-03T00:00:00Z; renew it, or set this machine's clock";
    assert_identity_refused("expired", &ca.pem, &expired, problem).await;
    let early = ca.sign(|params| params.not_before = rcgen::date_time_ymd(3001, 2, 3));
    let problem =
        "a certificate of HOST is not valid yet before 3001-02-03T00:00:00Z; replace it, or set this machine's clock";
    assert_identity_refused("not yet valid", &ca.pem, &early, problem).await;
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let ca = Authority::new("extra");
    let problem = "the certificate of HOST is for another name; check the endpoint";
    let name = |name: &str| SanType::DnsName(name.try_into().unwrap());
    for names in [
        vec![name("canary.example"), name(&format!("{CODE}.example"))],
        vec![name("localhost")],
        vec![SanType::IpAddress(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)))],
        Vec::new(),
    ] {
        let other = ca.sign(|params| {
            // What a certificate is called is no name of a host.
            params.distinguished_name.push(DnType::CommonName, "127.0.0.1");
            params.subject_alt_names = names;
        });
        assert_identity_refused("another name", &ca.pem, &other, problem).await;
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_one_of_a_server_is_refused() {
    let ca = Authority::new("extra");
    let of_client = ca.sign(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]);
    let problem = "the certificate of HOST is not accepted: certificate had invalid extensions";
    assert_identity_refused("a client's", &ca.pem, &of_client, problem).await;
    let of_ca = ca.sign(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
    let problem = "the certificate of HOST is not accepted: CaUsedAsEndEntity";
    assert_identity_refused("a CA's", &ca.pem, &of_ca, problem).await;
}

#[tokio::test]
async fn a_loopback_that_may_be_insecure_is_still_to_be_trusted_over_tls() {
    let (trusted, unknown) = (Authority::new("trusted"), Authority::new("unknown"));
    let options = HttpOptions {
        allow_insecure_loopback: true,
        ..trusting(&trusted.pem)
    };
    let mut peer = Peer::showing(&unknown.sign(|_| ()), &TLS13);
    peer.origin = peer.origin.replace("127.0.0.1", "localhost");
    let problem = "no connection: the certificate of HOST is not trusted: unknown issuer; give its CA with --ca-file";
    assert_refused("localhost", &options, peer, problem).await;
}

#[tokio::test]
async fn a_server_of_plain_http_is_sent_nothing_over_https() {
    let problem = "no connection: HOST does not speak TLS; is this a port for plain http?";
    let peer = Peer::saying(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    assert_refused("plain HTTP", &HttpOptions::default(), peer, problem).await;
}

#[tokio::test]
async fn a_server_without_a_version_of_tls_from_1_2_on_is_refused() {
    const SERVER_HELLO_OF_TLS_1_0: &[u8] = b"\x16\x03\x01\0\x2a\x02\0\0\x26\x03\x01\
        01234567890123456789012345678901\0\0\x2f\0";
    const ALERT_PROTOCOL_VERSION: &[u8] = b"\x15\x03\x01\0\x02\x02\x46";
    let problem = "no connection: HOST offers no version of TLS from 1.2 on";
    for bytes in [SERVER_HELLO_OF_TLS_1_0, ALERT_PROTOCOL_VERSION] {
        assert_refused("old TLS", &HttpOptions::default(), Peer::saying(bytes), problem).await;
    }
}

#[tokio::test]
async fn another_failure_of_the_handshake_is_told_as_one() {
    const ALERT_HANDSHAKE_FAILURE: &[u8] = b"\x15\x03\x03\0\x02\x02\x28";
    let peer = Peer::saying(ALERT_HANDSHAKE_FAILURE);
    let problem = "no connection: the TLS handshake with HOST failed: received fatal alert: HandshakeFailure";
    assert_refused("alert", &HttpOptions::default(), peer, problem).await;
}

#[tokio::test]
async fn a_handshake_that_stalls_ends_with_the_connect_time_out() {
    let options = HttpOptions {
        connect_timeout: Duration::from_millis(200),
        ..HttpOptions::default()
    };
    let problem = "no connection to HOST within 0.2 s, TLS handshake included";
    for bytes in [&b""[..], b"\x16\x03\x03\0\x2a\x02"] {
        assert_refused("stall", &options, Peer::saying(bytes), problem).await;
    }
}

#[tokio::test]
async fn a_connection_that_ends_in_the_handshake_carried_nothing() {
    let hang_up = Peer::start(Arc::default(), |mut stream| {
        let mut arrived = Vec::new();
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut arrived);
        !is_failed_handshake(&arrived)
    });
    let problem = "no connection to HOST: tls handshake eof";
    assert_refused("hang-up", &HttpOptions::default(), hang_up, problem).await;
}

#[tokio::test]
async fn a_proxy_is_named_among_those_who_may_show_the_certificate() {
    let (trusted, unknown) = (Authority::new("trusted"), Authority::new("unknown"));
    let mut proxy = Peer::showing(&unknown.sign(|_| ()), &TLS13);
    let options = HttpOptions {
        proxy: Some(proxy.origin.clone().into()),
        ..trusting(&trusted.pem)
    };
    let target = target("https://modelarts.example", "https://iam.example", keys());
    for (call, outcome) in each_call(&client_with(&options), &target).await {
        let error = outcome.expect_err(call);
        assert_eq!(error.kind, CloudErrorKind::NotSent, "{call}: {error}");
        let problem = "no connection: the certificate of modelarts.example (or its proxy) is not trusted";
        assert!(error.message.contains(problem), "{call}: {error}");
    }
    proxy.assert_no_request(4).await;
}

#[test]
fn an_extra_ca_that_cannot_be_read_is_told_at_once() {
    let ca = Authority::new("extra");
    let wrong = |label: &str, content: &str| format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n");
    let identity = ca.sign(|_| ());
    let der = identity.certificate.der().to_vec();
    let not_a_certificate = wrong("CERTIFICATE", "Y2FuYXJ5");
    for (what, pem) in [
        ("empty", Vec::new()),
        ("text", b"canary".to_vec()),
        ("DER", der),
        ("a key", identity.key.serialize_pem().into_bytes()),
        ("not base64", wrong("CERTIFICATE", "canary!").into_bytes()),
        ("nothing between the lines", wrong("CERTIFICATE", "").into_bytes()),
        ("not a certificate", not_a_certificate.clone().into_bytes()),
        (
            "a good one and another",
            [&*ca.pem, &*not_a_certificate].concat().into_bytes(),
        ),
        ("cut", ca.pem.as_bytes()[..ca.pem.len() / 2].to_vec()),
    ] {
        let options = HttpOptions {
            extra_ca_pem: Some(pem),
            ..HttpOptions::default()
        };
        let error = HttpAppCodes::new(&options, Arc::new(FixedClock(Instant::now())), Arc::default()).err();
        assert_eq!(error, Some(HttpSetupError::ExtraCa), "{what}");
        let text = format!("{} {:?}", HttpSetupError::ExtraCa, HttpSetupError::ExtraCa);
        assert!(text.contains("extra CA file must hold PEM certificates"), "{text}");
    }
}
