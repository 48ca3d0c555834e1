//! A code tried as its consumer would: what is sent, to whom, and what comes of each answer.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use appcode_operator::api::VerificationMethod;
use appcode_operator::verification::{
    DEFAULT_STATUS, HttpProber, Probe, Prober as _, Verification, VerificationHost, VerificationHosts,
};
use pretty_assertions::assert_eq;
use rustls::version::{TLS12, TLS13};

use super::tls::{Authority, Peer, trusting};
use super::*;
use crate::hostile::logs::Kept;

const METHODS: [VerificationMethod; 3] = [
    VerificationMethod::Get,
    VerificationMethod::Head,
    VerificationMethod::Post,
];
const PATH: &str = "/v1/infers/0a1b/health?deep=true&x=%2F";

fn prober(options: &HttpOptions) -> HttpProber {
    HttpProber::new(options, Arc::new(FixedClock(Instant::now()))).unwrap()
}

/// A try at `origin`, whose host is allowed.
fn at(origin: &str) -> Verification {
    let host = origin.split_once("://").unwrap().1;
    let hosts = VerificationHosts {
        allowed: vec![VerificationHost::parse(host).unwrap()],
        allow_insecure_loopback: true,
    };
    let (url, patient) = (format!("{origin}{PATH}"), Duration::from_secs(30));
    Verification::check(&url, VerificationMethod::Get, DEFAULT_STATUS, patient, &hosts).unwrap()
}

/// What comes of one try; that it ends is part of what is shown.
async fn try_with(options: &HttpOptions, verification: &Verification) -> Probe {
    one_try(&prober(options), verification).await
}

async fn one_try(prober: &HttpProber, verification: &Verification) -> Probe {
    let code = code(CODE);
    let tried = tokio::time::timeout(Duration::from_secs(90), prober.probe(verification, &code)).await;
    let outcome = tried.expect("a try has an end");
    let text = format!("{outcome:?} {}", outcome.told());
    for hidden in [CODE, "://", "/v1", "deep", "canary"] {
        assert!(!text.contains(hidden), "{hidden} in {text}");
    }
    outcome
}

async fn tried(server: &Server) -> Probe {
    try_with(&options(), &at(&server.origin)).await
}

fn assert_unreachable(outcome: &Probe, says: &str) {
    assert!(
        matches!(outcome, Probe::Unreachable(why) if why.contains(says)),
        "{outcome:?} says nothing of {says}"
    );
}

#[tokio::test]
async fn the_code_goes_out_once_in_its_header_and_with_nothing_else() {
    for method in METHODS {
        let server = Server::start(|_| Reply::new(200, &[], b""));
        let verification = Verification {
            method,
            ..at(&server.origin)
        };
        assert_eq!(try_with(&options(), &verification).await, Probe::Passed);
        let seen = server.only();
        let word = serde_json::to_value(method).unwrap();
        assert_eq!(
            (Some(seen.method.as_str()), seen.target.as_str()),
            (word.as_str(), PATH)
        );
        assert_eq!(seen.header("x-apig-appcode"), Some(CODE));
        let is_post = method == VerificationMethod::Post;
        assert_eq!(seen.header("content-length"), is_post.then_some("0"), "{method:?}");
        let mut names: Vec<String> = seen.headers.iter().map(|(name, _)| name.to_lowercase()).collect();
        names.retain(|name| name != "content-length");
        names.sort();
        assert_eq!(names, ["accept", "host", "user-agent", "x-apig-appcode"], "{method:?}");
        let rest: Vec<&(String, String)> = seen.headers.iter().filter(|(_, value)| value.contains(CODE)).collect();
        assert_eq!((rest.len(), seen.body.len()), (1, 0));
    }
}

#[tokio::test]
async fn a_try_remembers_nothing_of_the_one_before() {
    let server = Server::start(|_| Reply::new(200, &[("Set-Cookie", "a=b; Path=/"), ("ETag", "\"x\"")], b"body"));
    let (prober, verification) = (prober(&options()), at(&server.origin));
    for _ in 0..3 {
        assert_eq!(prober.probe(&verification, &code(CODE)).await, Probe::Passed);
    }
    let seen = server.seen();
    assert_eq!((seen.len(), server.connections()), (3, 3));
    for seen in seen {
        assert_eq!((seen.earlier_on_connection, seen.headers.len()), (0, 4), "{seen:?}");
    }
}

#[tokio::test]
async fn each_status_means_what_it_means_and_none_is_asked_for_twice() {
    let throttled = |seconds: Option<u64>| Probe::Throttled {
        retry_after: seconds.map(Duration::from_secs),
    };
    for (status, headers, outcome) in [
        (200, &[][..], Probe::Passed),
        (204, &[], Probe::Unexpected { status: 204 }),
        (206, &[], Probe::Unexpected { status: 206 }),
        (400, &[], Probe::Unexpected { status: 400 }),
        (401, &[("WWW-Authenticate", "Basic")], Probe::Refused { status: 401 }),
        (403, &[], Probe::Refused { status: 403 }),
        (404, &[], Probe::Unexpected { status: 404 }),
        (407, &[], Probe::Unexpected { status: 407 }),
        (408, &[("Connection", "close")], Probe::Unexpected { status: 408 }),
        (421, &[], Probe::Unexpected { status: 421 }),
        (425, &[], Probe::Unexpected { status: 425 }),
        (429, &[], throttled(None)),
        (429, &[("Retry-After", "0")], throttled(Some(1))),
        (429, &[("Retry-After", "30")], throttled(Some(30))),
        (429, &[("Retry-After", "99999999999999999999")], throttled(Some(900))),
        (429, &[("Retry-After", "soon")], throttled(None)),
        (500, &[], Probe::Unexpected { status: 500 }),
        (503, &[("Retry-After", "0")], Probe::Unexpected { status: 503 }),
        (504, &[], Probe::Unexpected { status: 504 }),
        (999, &[], Probe::Unexpected { status: 999 }),
    ] {
        let server = Server::start(move |_| Reply::new(status, headers, b""));
        assert_eq!(tried(&server).await, outcome, "{status} {headers:?}");
        assert_eq!(server.seen().len(), 1, "{status}");
        let as_asked = Verification {
            expect_status: status,
            ..at(&server.origin)
        };
        assert_eq!(try_with(&options(), &as_asked).await, Probe::Passed, "{status}");
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let prober = prober(&options());
    let other = Server::start(|_| Reply::new(200, &[], b""));
    let port = other.origin.rsplit(':').next().unwrap().to_owned();
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        for location in [
            other.origin.clone(),
            format!("{}/{CODE}", other.origin),
            format!("//127.0.0.1:{port}/"),
            format!("http://localhost:{port}/"),
            "/elsewhere".to_owned(),
            "?x".to_owned(),
            String::new(),
        ] {
            let server =
                Server::start(move |_| Reply::new(status, &[("Location", &location), ("Refresh", "0; url=/")], b""));
            for (count, method) in METHODS.into_iter().enumerate() {
                let verification = Verification {
                    method,
                    ..at(&server.origin)
                };
                let outcome = one_try(&prober, &verification).await;
                assert_eq!(outcome, Probe::Unexpected { status });
                assert!(outcome.told().contains("redirect"));
                assert_eq!(server.seen().len(), count + 1, "{status}");
            }
            let welcome = Verification {
                expect_status: status,
                ..at(&server.origin)
            };
            assert_eq!(one_try(&prober, &welcome).await, Probe::Passed);
            assert_eq!(server.seen().len(), 4, "{status}");
        }
    }
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn a_body_without_end_is_left_after_64_kib_and_the_status_counts() {
    for (status, outcome) in [(200, Probe::Passed), (401, Probe::Refused { status: 401 })] {
        for encoding in ["identity", "gzip"] {
            let written = Arc::new(AtomicUsize::new(0));
            let count = Arc::clone(&written);
            let server = Server::start(move |_| {
                let count = Arc::clone(&count);
                Reply::Write(Box::new(move |stream| {
                    let head = format!(
                        "HTTP/1.1 {status} X\r\nContent-Encoding: {encoding}\r\nTransfer-Encoding: chunked\r\n\r\n"
                    );
                    stream.write_all(head.as_bytes())?;
                    // Empty blocks of a gzip stream: they unpack to nothing, for ever.
                    let lead = b"\x1f\x8b\x08\0\0\0\0\0\0\x03";
                    stream.write_all(b"a\r\n")?;
                    stream.write_all(lead)?;
                    stream.write_all(b"\r\n")?;
                    let blocks = b"\0\0\0\xff\xff".repeat(0x3333);
                    for _ in 0..10_000 {
                        stream.write_all(format!("{:x}\r\n", blocks.len()).as_bytes())?;
                        stream.write_all(&blocks)?;
                        stream.write_all(b"\r\n")?;
                        count.fetch_add(blocks.len(), Ordering::SeqCst);
                    }
                    Ok(())
                }))
            });
            assert_eq!(tried(&server).await, outcome, "{encoding}");
            assert_eq!(server.only().header("accept-encoding"), None);
            // What the kernel's buffers took is lost to the server too; 650 MB it was not.
            assert!(written.load(Ordering::SeqCst) < 100_000_000);
        }
    }
}

#[tokio::test]
async fn a_body_that_is_announced_as_huge_or_cut_changes_nothing() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n{",
        "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let server = Server::start(move |_| Reply::Last(head.as_bytes().to_vec()));
        assert_eq!(tried(&server).await, Probe::Passed, "{head}");
        assert_eq!(server.connections(), 1, "{head}");
    }
}

fn dripping(head: &'static str) -> Server {
    Server::start(move |_| {
        Reply::Write(Box::new(move |stream| {
            stream.write_all(head.as_bytes())?;
            for _ in 0..600 {
                stream.write_all(b" ")?;
                stream.flush()?;
                std::thread::sleep(Duration::from_millis(50));
            }
            Ok(())
        }))
    })
}

#[tokio::test]
async fn a_dripping_answer_ends_with_the_deadline() {
    let body = dripping("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n");
    let head = dripping("HTTP/1.1 200 OK\r\nX: ");
    let soon = |server: &Server| Verification {
        timeout: Duration::from_secs(3),
        ..at(&server.origin)
    };
    let (body_tried, head_tried) = (soon(&body), soon(&head));
    let options = options();
    let (of_body, of_head) = tokio::join!(try_with(&options, &body_tried), try_with(&options, &head_tried));
    assert_eq!(of_body, Probe::Passed);
    assert_unreachable(&of_head, "no answer within 3 s");
    assert_eq!((body.seen().len(), head.seen().len()), (1, 1));
}

#[tokio::test]
async fn what_is_no_answer_is_told_as_none_and_asked_for_once() {
    let many = "X: canary\r\n".repeat(10_000);
    let long = "canary".repeat(1_000_000);
    for bytes in [
        Vec::new(),
        b"\0\0\0\0".to_vec(),
        b"SSH-2.0-canary\r\n".to_vec(),
        b"HTTP/1.1 2".to_vec(),
        b"HTTP/9.9 200 OK\r\n\r\n".to_vec(),
        b"HTTP/1.1 2000 OK\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\n\0: canary\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: canary\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n".to_vec(),
        format!("{CODE} {CODE}\r\n{CODE}\r\n\r\n").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{many}\r\n").into_bytes(),
        format!("HTTP/1.1 200 OK\r\nX: {long}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
    ] {
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]).into_owned();
        let server = Server::start(move |_| Reply::Last(bytes.clone()));
        let outcome = tried(&server).await;
        assert!(matches!(outcome, Probe::Unreachable(_)), "{what:?}: {outcome:?}");
        assert_eq!((server.seen().len(), server.connections()), (1, 1), "{what:?}");
    }
}

#[tokio::test]
async fn a_host_that_cannot_be_reached_is_tried_once_and_told() {
    let refused = try_with(&options(), &at(&Server::nowhere())).await;
    assert_unreachable(&refused, "no connection to 127.0.0.1");
    let unknown = try_with(&options(), &at("https://does-not-exist.invalid")).await;
    assert_unreachable(&unknown, "no connection to does-not-exist.invalid");
    let closing = Server::closing_at_once();
    let cut = tried(&closing).await;
    assert!(matches!(cut, Probe::Unreachable(_)), "{cut:?}");
    assert_eq!(closing.connections(), 1);
    let silent = Server::saying(b"");
    let stalled = try_with(&impatient(), &at(&silent.origin.replace("http:", "https:"))).await;
    assert_unreachable(&stalled, "TLS handshake included");
    assert_eq!(silent.connections(), 1);
}

#[tokio::test]
async fn an_allowed_name_that_points_at_loopback_is_not_connected_to() {
    let server = Server::start(|_| Reply::new(200, &[], b""));
    let strict = HttpOptions::default();
    let name = server.origin.replace("http://127.0.0.1", "https://localhost");
    assert_unreachable(
        &try_with(&strict, &at(&name)).await,
        "no address that may be connected to",
    );
    // A checked URL would not be one of plain http here; the client does not rely on that.
    let plain = try_with(&strict, &at(&server.origin)).await;
    assert!(matches!(plain, Probe::Unreachable(_)), "{plain:?}");
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn only_a_host_with_a_trusted_certificate_sees_the_code() {
    let (trusted, unknown) = (Authority::new("trusted"), Authority::new("unknown"));
    let loose = HttpOptions {
        allow_insecure_loopback: true,
        ..trusting(&trusted.pem)
    };
    let expired = trusted.sign(|params| params.not_after = rcgen::date_time_ymd(2001, 2, 3));
    let other_name = trusted.sign(|params| params.subject_alt_names.clear());
    for version in [&TLS12, &TLS13] {
        for options in [&trusting(&trusted.pem), &loose] {
            let good = Peer::showing(&trusted.sign(|_| ()), version);
            assert_eq!(try_with(options, &at(&good.origin)).await, Probe::Passed);
            assert_eq!(good.server.only().header("x-apig-appcode"), Some(CODE));
            for (identity, says) in [
                (&unknown.sign(|_| ()), "unknown issuer; give its CA with --ca-file"),
                (&expired, "expired at 2001-02-03T00:00:00Z"),
                (&other_name, "is for another name"),
            ] {
                let mut peer = Peer::showing(identity, version);
                assert_unreachable(&try_with(options, &at(&peer.origin)).await, says);
                peer.assert_no_request(1).await;
            }
        }
    }
    let plain = Peer::saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_unreachable(&try_with(&loose, &at(&plain.origin)).await, "does not speak TLS");
}

#[tokio::test]
async fn the_proxy_of_the_settings_is_used() {
    let (proxy, target) = (
        Server::start(|_| Reply::new(200, &[], b"")),
        Server::start(|_| Reply::new(200, &[], b"")),
    );
    let options = HttpOptions {
        proxy: Some(proxy.origin.clone().into()),
        ..options()
    };
    assert_eq!(try_with(&options, &at(&target.origin)).await, Probe::Passed);
    assert_eq!((proxy.seen().len(), target.connections()), (1, 0));
    // Over TLS the proxy is told the host and nothing more.
    let refusing = Server::start(|_| Reply::Last(b"HTTP/1.1 407 canary\r\nContent-Length: 0\r\n\r\n".to_vec()));
    let options = HttpOptions {
        proxy: Some(refusing.origin.clone().into()),
        ..options
    };
    let outcome = try_with(&options, &at("https://inference.example.com")).await;
    assert_unreachable(&outcome, "inference.example.com (or its proxy)");
    let asked = refusing.only();
    assert_eq!(
        (asked.method.as_str(), asked.target.as_str()),
        ("CONNECT", "inference.example.com:443")
    );
    assert!(!format!("{asked:?}").contains(CODE));
}

#[tokio::test]
async fn no_log_of_any_library_holds_the_code() {
    let kept = Kept::default();
    // The operator's own filter must not be needed here.
    let guard = kept.start_unfiltered();
    let ca = Authority::new("unknown");
    let peer = Peer::showing(&ca.sign(|_| ()), &TLS13);
    let trusted = Peer::showing(&ca.sign(|_| ()), &TLS13);
    let echo = Server::start(|_| Reply::new(302, &[("Location", "/x"), ("X-Echo", "other")], b"body"));
    let cut = Server::start(|_| Reply::Last(b"HTTP/1.1 2".to_vec()));
    for method in METHODS {
        for origin in [&echo.origin, &cut.origin, &Server::nowhere(), &peer.origin] {
            let verification = Verification { method, ..at(origin) };
            assert!(!try_with(&options(), &verification).await.is_passed());
        }
    }
    assert_eq!(try_with(&trusting(&ca.pem), &at(&trusted.origin)).await, Probe::Passed);
    drop(guard);
    let text = kept.text();
    assert!(text.contains("hyper"), "it was logged at all");
    assert!(!text.contains(CODE) && !text.contains(&CODE[..16]), "{text}");
}
