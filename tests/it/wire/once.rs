//! A change is sent once, by every layer, whatever happens to its connection.

use appcode_operator::modelarts::CloudErrorKind;

use super::*;

#[tokio::test]
async fn a_change_never_rides_on_a_used_connection() {
    // A connection dies with the second request on it: the classic race of keep-alive, in which clients send again.
    let server = Server::start(|seen| match seen.earlier_on_connection {
        0 => Reply::json(200, &app_json(&[NEW])),
        _ => Reply::close(),
    });
    let (client, target) = (client(), target(&server.origin, "https://iam", keys()));
    for _ in 0..3 {
        for (call, outcome) in each_call(&client, &target).await {
            assert!(outcome.is_ok() || call == "GET", "{call}: {outcome:?}");
        }
    }
    assert_eq!((server.count("PUT"), server.count("POST")), (3, 3));
    assert!(
        server
            .seen()
            .iter()
            .all(|seen| seen.method == "GET" || seen.earlier_on_connection == 0)
    );
}

#[tokio::test]
async fn reads_share_a_connection() {
    let server = answers_well();
    let (client, target) = (client(), target(&server.origin, "https://iam", keys()));
    for _ in 0..3 {
        client.show_app(&target).await.unwrap();
    }
    assert_eq!((server.connections(), server.count("GET")), (1, 3));
}

#[tokio::test]
async fn a_connection_closed_after_an_answer_costs_no_change() {
    let server = Server::start(|_| Reply::Last(server::response(200, &[], app_json(&[NEW]).as_bytes())));
    let (client, target) = (client(), target(&server.origin, "https://iam", keys()));
    for _ in 0..3 {
        for (call, outcome) in each_call(&client, &target).await {
            assert!(outcome.is_ok(), "{call}: {outcome:?}");
        }
    }
    assert_eq!(
        (server.count("GET"), server.count("PUT"), server.count("POST")),
        (3, 3, 3)
    );
}

#[tokio::test]
async fn a_cut_at_any_point_leaves_a_change_unknown_and_sent_once() {
    let answer = server::response(
        200,
        &[("Content-Type", "application/json")],
        app_json(&[NEW]).as_bytes(),
    );
    for length in [0, 1, 12, 40, answer.len() / 2, answer.len() - 1] {
        let part = answer[..length].to_vec();
        let server = Server::start(move |_| Reply::Last(part.clone()));
        let target = target(&server.origin, "https://iam", keys());
        for (call, outcome) in each_call(&client(), &target).await {
            let error = outcome.unwrap_err();
            assert_eq!(
                error.kind,
                CloudErrorKind::UnknownOutcome,
                "{call} cut after {length}: {error}"
            );
            assert_eq!(server.count(call), 1, "{call} cut after {length}");
        }
    }
}

#[tokio::test]
async fn a_connection_closed_before_anything_was_read_is_unknown_and_tried_once() {
    let server = Server::closing_at_once();
    let target = target(&server.origin, "https://iam", keys());
    let error = client().reset_code(&target, &code(CODE), &echo()).await.unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::UnknownOutcome, "{error}");
    assert_eq!(server.connections(), 1);
    let error = client().add_code(&target, &echo()).await.unwrap_err();
    assert_eq!(error.kind, CloudErrorKind::UnknownOutcome, "{error}");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn answers_that_invite_to_repeat_are_not_followed() {
    for (status, headers) in [
        (408, &[("Connection", "close")][..]),
        (425, &[]),
        (429, &[("Retry-After", "0")]),
        (500, &[]),
        (502, &[]),
        (503, &[("Retry-After", "0")]),
        (504, &[]),
        (421, &[]),
    ] {
        let server = Server::start(move |_| Reply::new(status, headers, b""));
        let target = target(&server.origin, "https://iam", keys());
        for (call, outcome) in each_call(&client(), &target).await {
            assert!(outcome.is_err());
            assert_eq!(server.count(call), 1, "{call} {status}");
        }
    }
}

#[tokio::test]
async fn a_refused_connection_proves_that_nothing_was_sent() {
    let target = target(&Server::nowhere(), "https://iam", keys());
    for (call, outcome) in each_call(&client(), &target).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, CloudErrorKind::NotSent, "{call}: {error}");
        assert!(error.message.contains("no connection"), "{error}");
    }
}

#[tokio::test]
async fn a_name_that_does_not_exist_proves_that_nothing_was_sent() {
    let target = target("http://does-not-exist.invalid", "https://iam", keys());
    for (call, outcome) in each_call(&client(), &target).await {
        assert_eq!(outcome.unwrap_err().kind, CloudErrorKind::NotSent, "{call}");
    }
}

#[tokio::test]
async fn a_name_that_points_at_loopback_is_not_connected_to() {
    let server = answers_well();
    let origin = server.origin.replace("http://127.0.0.1", "https://localhost");
    let strict = HttpOptions {
        allow_insecure_loopback: false,
        ..options()
    };
    let error = client_with(&strict)
        .show_app(&target(&origin, "https://iam", keys()))
        .await
        .unwrap_err();
    assert_eq!((error.kind, server.connections()), (CloudErrorKind::NotSent, 0));
    assert!(error.message.contains("no address"), "{}", error.message);
}

#[tokio::test]
async fn a_handshake_that_stalls_or_fails_proves_that_nothing_was_sent() {
    for server in [
        Server::saying(b""),
        Server::saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        Server::closing_at_once(),
    ] {
        let origin = server.origin.replace("http://", "https://");
        for (call, outcome) in each_call(&client_with(&impatient()), &target(&origin, "https://iam", keys())).await {
            let error = outcome.unwrap_err();
            assert_eq!(error.kind, CloudErrorKind::NotSent, "{call}: {error}");
        }
    }
}

#[tokio::test]
async fn plain_http_is_not_connected_to_unless_it_was_opened() {
    let server = answers_well();
    let strict = HttpOptions {
        allow_insecure_loopback: false,
        ..options()
    };
    for (call, outcome) in each_call(&client_with(&strict), &target(&server.origin, "https://iam", keys())).await {
        assert_eq!(outcome.unwrap_err().kind, CloudErrorKind::NotSent, "{call}");
    }
    assert_eq!(server.connections(), 0);
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_unknown() {
    let server = Server::start(|_| {
        Reply::Write(Box::new(|_| {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        }))
    });
    let target = target(&server.origin, "https://iam", keys());
    for (call, outcome) in each_call(&client_with(&impatient()), &target).await {
        let error = outcome.unwrap_err();
        assert_eq!(error.kind, CloudErrorKind::UnknownOutcome, "{call}: {error}");
        assert!(error.message.contains("no answer within"), "{error}");
        assert_eq!(server.count(call), 1, "{call}");
    }
}
