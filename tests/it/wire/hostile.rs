//! Answers that no honest cloud gives.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use appcode_operator::modelarts::CloudErrorKind;

use super::*;

async fn assert_all_unknown(what: &str, options: &HttpOptions, server: &Server) {
    let target = target(&server.origin, "https://iam", keys());
    for (call, outcome) in each_call(&client_with(options), &target).await {
        let error = outcome.expect_err(what);
        assert_eq!(error.kind, CloudErrorKind::UnknownOutcome, "{what}, {call}: {error}");
        assert_eq!(server.count(call), 1, "{what}, {call}");
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary") && !text.contains(NEW), "{what}: {text}");
    }
}

#[tokio::test]
async fn no_redirect_is_followed() {
    for status in [300, 301, 302, 303, 304, 305, 307, 308] {
        let other = answers_well();
        let locations = [
            other.origin.clone(),
            format!("{}/v1", other.origin),
            other.origin.replace("http:", ""),
        ];
        for location in locations {
            let server = Server::start(move |_| Reply::new(status, &[("Location", &location), ("Refresh", "0")], b""));
            assert_all_unknown("redirect", &options(), &server).await;
        }
        assert_eq!(other.connections(), 0, "{status}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_the_app_is_unknown_and_never_quoted() {
    let whole = app_json(&[NEW, "canary-code"]);
    for body in [
        "",
        "null",
        "{}",
        "[]",
        "<html>canary</html>",
        "{\"app\":null}",
        &whole[..whole.len() - 1],
        &format!("\u{feff}{whole}"),
        &whole.replace(APP, "another"),
        &whole.replace("\"app_codes\":[", "\"app_codes\":\"canary\",\"x\":["),
    ] {
        let reply = body.to_owned();
        let server = Server::start(move |_| Reply::json(200, &reply));
        assert_all_unknown(body, &options(), &server).await;
    }
}

#[tokio::test]
async fn other_successes_are_not_taken_for_one() {
    for status in [202, 203, 204, 205, 206, 226] {
        let server = Server::start(move |_| {
            let body = if matches!(status, 204 | 205) {
                String::new()
            } else {
                app_json(&[NEW])
            };
            Reply::new(status, &[], body.as_bytes())
        });
        assert_all_unknown(&status.to_string(), &options(), &server).await;
    }
}

#[tokio::test]
async fn a_body_of_64_kib_is_read_and_a_longer_one_is_not() {
    for (length, is_read) in [(64 * 1024, true), (64 * 1024 + 1, false)] {
        let json = app_json(&[NEW]);
        let body = format!("{json}{}", " ".repeat(length - json.len()));
        let plain = body.clone();
        let announced = Server::start(move |_| Reply::new(200, &[], plain.as_bytes()));
        let unannounced = Server::start(move |_| {
            Reply::Last(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{body}").into_bytes())
        });
        for server in [announced, unannounced] {
            let outcome = client().show_app(&target(&server.origin, "https://iam", keys())).await;
            assert_eq!(outcome.is_ok(), is_read, "{length}");
            assert!(is_read || outcome.unwrap_err().message.contains("longer than 65536 bytes"));
        }
    }
}

#[tokio::test]
async fn an_endless_body_is_left_after_64_kib() {
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let server = Server::start(move |_| {
        let count = Arc::clone(&count);
        Reply::Write(Box::new(move |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            for _ in 0..10_000 {
                stream.write_all(format!("10000\r\n{}\r\n", "[".repeat(0x10000)).as_bytes())?;
                count.fetch_add(0x10000, Ordering::SeqCst);
            }
            Ok(())
        }))
    });
    assert_all_unknown("endless", &options(), &server).await;
    // What the kernel's buffers took is lost to the server too; 650 MB it was not.
    assert!(written.load(Ordering::SeqCst) < 100_000_000);
}

#[tokio::test]
async fn a_huge_announcement_reserves_nothing() {
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n";
    for head in [&head[..], b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n{"] {
        let server = Server::start(move |_| Reply::Last(head.to_vec()));
        assert_all_unknown("huge", &options(), &server).await;
    }
}

#[tokio::test]
async fn a_compressed_body_is_not_unpacked() {
    for encoding in ["gzip", "br", "deflate", "zstd"] {
        let server = Server::start(move |_| {
            Reply::new(
                200,
                &[("Content-Encoding", encoding)],
                b"\x1f\x8b\x08\0\0\0\0\0\0\x03canary",
            )
        });
        assert_all_unknown(encoding, &options(), &server).await;
    }
}

#[tokio::test]
async fn a_dripping_answer_ends_with_the_deadline() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: ",
    ] {
        let server = Server::start(move |_| {
            Reply::Write(Box::new(move |stream| {
                stream.write_all(head.as_bytes())?;
                for _ in 0..200 {
                    stream.write_all(b" ")?;
                    stream.flush()?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                Ok(())
            }))
        });
        assert_all_unknown("drip", &impatient(), &server).await;
    }
}

#[tokio::test]
async fn a_refusal_counts_even_when_its_body_never_ends() {
    let server = Server::start(|_| {
        Reply::Write(Box::new(|stream| {
            stream.write_all(b"HTTP/1.1 403 No\r\nContent-Length: 60000\r\n\r\n{")?;
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        }))
    });
    let target = target(&server.origin, "https://iam", keys());
    let error = client_with(&impatient())
        .reset_code(&target, &code(CODE), &echo())
        .await
        .unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::NotAuthorized);
}

#[tokio::test]
async fn ten_thousand_headers_are_refused() {
    let many = Server::start(|_| {
        let lines = (0..10_000)
            .map(|n| format!("X-{n}: canary\r\n"))
            .collect::<Vec<_>>()
            .concat();
        Reply::Last(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{lines}\r\n").into_bytes())
    });
    assert_all_unknown("many headers", &options(), &many).await;
    let long = Server::start(|_| {
        Reply::Last(
            format!(
                "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
                "canary".repeat(1_000_000)
            )
            .into_bytes(),
        )
    });
    assert_all_unknown("a long header", &options(), &long).await;
}

#[tokio::test]
async fn what_is_not_http_is_unknown() {
    for bytes in [
        &b"\0\0\0\0"[..],
        b"SSH-2.0-canary\r\n",
        b"HTTP/9.9 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\0: canary\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
    ] {
        let server = Server::start(move |_| Reply::Last(bytes.to_vec()));
        assert_all_unknown("not HTTP", &options(), &server).await;
    }
}
