use std::io::{Read, Write};
use std::time::{Duration, Instant};

use cloud_simulator::{
    Answered, Body, Cause, Fault, Half, Lag, LostAnswer, Operation, Options, Reply, Request, Simulator, Which,
};
use jiff::SignedDuration;

use crate::bench::Bench;

/// Sends over a socket of its own and tells every byte that came back until the end of the connection.
async fn raw(sim: &Simulator, request: Request) -> Vec<u8> {
    let mut head = format!(
        "{} {} HTTP/1.1\r\ncontent-length: {}\r\n",
        request.method,
        request.target,
        request.body.len()
    );
    for (name, value) in &request.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let (address, bytes) = (sim.address(), [(head + "\r\n").into_bytes(), request.body].concat());
    let exchange = move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(&bytes).unwrap();
        let mut received = Vec::new();
        match stream.read_to_end(&mut received) {
            Ok(_) => received,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => received,
            Err(error) => panic!("{error}"),
        }
    };
    tokio::task::spawn_blocking(exchange).await.unwrap()
}

fn reset_request(bench: &Bench) -> Request {
    let path = bench.app_path(&format!("/app-code/{}", bench.code()));
    bench
        .signer()
        .sign(&bench.sim, Request::new("PUT", &path).body(bench.body().to_string()))
}

#[tokio::test]
async fn answers_with_an_error_before_or_after_the_effect() {
    for status in [500, 502, 503, 504] {
        let bench = Bench::new().await;
        bench
            .sim
            .inject(Fault::status_before(status).at(Operation::Reset).once());
        assert_eq!(bench.reset(&bench.code()).await.status, status);
        assert_eq!(bench.sim.live_codes(&bench.app.app_id), bench.app.codes);
        bench
            .sim
            .inject(Fault::status_after(status).at(Operation::Reset).once());
        let seen = bench.reset(&bench.code()).await;
        assert_eq!(seen.status, status);
        assert_ne!(seen.code(), "");
        assert_ne!(bench.sim.live_codes(&bench.app.app_id), bench.app.codes);
        let effects: Vec<bool> = bench
            .sim
            .ledger()
            .of(Operation::Reset)
            .map(|entry| entry.had_effect)
            .collect();
        assert_eq!(effects, [false, true]);
    }
}

#[tokio::test]
async fn closes_the_connection_without_a_byte_before_or_after_the_effect() {
    let bench = Bench::new().await;
    bench.sim.inject(Fault::cut_before().at(Operation::Reset).once());
    assert_eq!(raw(&bench.sim, reset_request(&bench)).await, b"");
    assert_eq!(bench.sim.live_codes(&bench.app.app_id), bench.app.codes);
    bench.sim.inject(Fault::cut_after().at(Operation::Reset).once());
    assert_eq!(raw(&bench.sim, reset_request(&bench)).await, b"");
    assert_eq!(bench.sim.ledger().resets_applied(&bench.app.app_id), 1);
    assert!(
        bench
            .sim
            .ledger()
            .of(Operation::Reset)
            .all(|entry| entry.answered == Answered::Cut)
    );
    assert_eq!(bench.show().await.status, 200, "others are served on");
}

#[tokio::test]
async fn breaks_off_in_the_middle_of_an_answer() {
    let bench = Bench::new().await;
    bench.sim.inject(Fault::cut_in_answer().at(Operation::Reset).once());
    let received = raw(&bench.sim, reset_request(&bench)).await;
    let text = String::from_utf8(received).unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
    assert!(body.len() < length.unwrap(), "{text}");
    assert_eq!(bench.sim.ledger().resets_applied(&bench.app.app_id), 1);
    bench.sim.inject(Fault::cut_in_answer().at(Operation::Show).once());
    assert!(bench.try_call("GET", &bench.app_path(""), None).await.is_err());
}

#[tokio::test]
async fn holds_an_answer_until_it_is_released() {
    let bench = Bench::new().await;
    let fault = bench.sim.inject(Fault::hold().at(Operation::Reset).once());
    let code = bench.code();
    let answer = bench.reset(&code);
    tokio::pin!(answer);
    tokio::select! {
        seen = &mut answer => panic!("{seen:?}"),
        () = bench.sim.until(|ledger| ledger.requests.iter().any(|entry| entry.answered == Answered::Held)) => {}
    }
    assert_eq!(
        bench.sim.ledger().resets_applied(&bench.app.app_id),
        1,
        "done before the answer"
    );
    assert_eq!(bench.sim.release(fault), 1);
    let seen = answer.await;
    assert_eq!(seen.codes(), bench.sim.live_codes(&bench.app.app_id));
    assert_eq!(
        bench.sim.ledger().of(Operation::Reset).next().unwrap().answered,
        Answered::Status(200)
    );
}

#[tokio::test]
async fn holds_an_answer_for_ever_and_still_stops() {
    let bench = Bench::new().await;
    bench.sim.inject(Fault::hold());
    let waiting = tokio::spawn(raw_of(&bench));
    bench
        .sim
        .until(|ledger| ledger.requests.iter().any(|entry| entry.answered == Answered::Held))
        .await;
    bench.sim.clone().stop().await;
    assert_eq!(waiting.await.unwrap(), b"");
}

fn raw_of(bench: &Bench) -> impl Future<Output = Vec<u8>> + use<> {
    let (sim, request) = (bench.sim.clone(), reset_request(bench));
    async move { raw(&sim, request).await }
}

#[tokio::test]
async fn serves_a_request_to_its_end_though_its_client_left() {
    let bench = Bench::new().await;
    bench
        .sim
        .inject(Fault::latency(Duration::from_millis(100)).at(Operation::Reset));
    let request = reset_request(&bench);
    let gone = tokio::time::timeout(Duration::from_millis(30), bench.send(request)).await;
    assert!(gone.is_err());
    bench
        .sim
        .until(|ledger| ledger.resets_applied(&bench.app.app_id) == 1)
        .await;
}

#[tokio::test]
async fn does_the_work_late_when_told_to() {
    let bench = Bench::new().await;
    let fault = bench.sim.inject(
        Fault::late(None, LostAnswer::Reply(504.into()))
            .at(Operation::Reset)
            .once(),
    );
    assert_eq!(bench.reset(&bench.code()).await.status, 504);
    assert_eq!(bench.show().await.codes(), bench.app.codes);
    bench.sim.advance(SignedDuration::from_hours(1));
    assert_eq!(bench.show().await.codes(), bench.app.codes);
    assert_eq!(bench.sim.release(fault), 1);
    assert_ne!(bench.show().await.codes(), bench.app.codes);
    let entry = bench.sim.ledger().of(Operation::Reset).next().unwrap().clone();
    assert!(entry.had_effect);
    assert_eq!(
        (entry.answered, entry.error_code.as_deref()),
        (Answered::Status(504), Some("APIGW.0203"))
    );
}

#[tokio::test]
async fn does_the_work_after_a_time_by_the_clouds_clock() {
    let bench = Bench::new().await;
    let late = Fault::late(Some(Duration::from_secs(60)), LostAnswer::Cut);
    bench.sim.inject(late.at(Operation::Reset).once());
    assert_eq!(raw(&bench.sim, reset_request(&bench)).await, b"");
    bench.sim.advance(SignedDuration::from_secs(58));
    assert_eq!(bench.sim.live_codes(&bench.app.app_id), bench.app.codes);
    bench.sim.advance(SignedDuration::from_secs(3));
    assert_ne!(bench.sim.live_codes(&bench.app.app_id), bench.app.codes);
}

#[tokio::test]
async fn does_nothing_late_when_the_code_is_dead_by_then() {
    let bench = Bench::new().await;
    let fault = bench.sim.inject(
        Fault::late(None, LostAnswer::Reply(504.into()))
            .at(Operation::Reset)
            .once(),
    );
    bench.reset(&bench.code()).await;
    assert_eq!(bench.reset(&bench.code()).await.status, 200);
    bench.sim.release(fault);
    assert_eq!(bench.sim.ledger().resets_applied(&bench.app.app_id), 1);
}

#[tokio::test]
async fn hangs_up_on_a_late_call_until_it_is_released() {
    let bench = Bench::new().await;
    let fault = bench
        .sim
        .inject(Fault::late(None, LostAnswer::Hang).at(Operation::Reset).once());
    let waiting = tokio::spawn(raw_of(&bench));
    bench
        .sim
        .until(|ledger| ledger.requests.iter().any(|entry| entry.answered == Answered::Held))
        .await;
    assert_eq!(bench.sim.live_codes(&bench.app.app_id), bench.app.codes);
    assert_eq!(bench.sim.release(fault), 2, "the work and the answer");
    bench.sim.clone().stop().await;
    waiting.await.unwrap();
    assert_ne!(bench.sim.live_codes(&bench.app.app_id), bench.app.codes);
}

#[tokio::test]
async fn does_half_a_reset() {
    for (left, count) in [(Half::NoneMade, 0), (Half::BothPresent, 2)] {
        let bench = Bench::new().await;
        bench.sim.inject(Fault::half_reset(left).once());
        let seen = bench.reset(&bench.code()).await;
        assert_eq!((seen.status, seen.code()), (500, "ModelArts.3927"));
        let codes = bench.show().await.codes();
        assert_eq!(codes.len(), count);
        assert_eq!(codes.contains(&bench.code()), left == Half::BothPresent);
        assert_eq!(bench.sim.ledger().resets_applied(&bench.app.app_id), 1);
    }
}

#[tokio::test]
async fn adds_faults_up() {
    let bench = Bench::new().await;
    bench.sim.inject(Fault::half_reset(Half::NoneMade).once());
    bench.sim.inject(Fault::cut_after().at(Operation::Reset).once());
    assert_eq!(raw(&bench.sim, reset_request(&bench)).await, b"");
    assert_eq!(bench.sim.live_codes(&bench.app.app_id), Vec::<String>::new());
}

#[tokio::test]
async fn throttles_with_and_without_a_time() {
    let bench = Bench::new().await;
    bench.sim.inject(Fault::throttle(Some("7")).at(Operation::Show).once());
    bench
        .sim
        .inject(Fault::throttle(None).at(Operation::Show).skip(1).once());
    let first = bench.show().await;
    assert_eq!(
        (
            first.status,
            first.code(),
            first.headers["retry-after"].to_str().unwrap()
        ),
        (429, "APIGW.0308", "7")
    );
    let second = bench.show().await;
    assert_eq!(
        (second.status, second.headers.contains_key("retry-after")),
        (429, false)
    );
    assert_eq!(bench.show().await.status, 200);
}

#[tokio::test]
async fn shows_an_app_as_it_was_for_so_many_reads_or_seconds() {
    let bench = Bench::new().await;
    let frozen = bench.sim.inject(Fault::stale(Lag::Frozen).times(2));
    let new = bench.reset(&bench.code()).await.codes();
    assert_eq!(bench.show().await.codes(), bench.app.codes);
    assert_eq!(
        bench.call("GET", &bench.path(""), None).await.body["apps"][0]["app_codes"][0],
        bench.code()
    );
    assert_eq!(bench.show().await.codes(), new);
    assert!(!bench.sim.clear(frozen), "it has run out");

    bench.sim.advance(SignedDuration::from_secs(60));
    bench.sim.inject(Fault::stale(Lag::Millis(5000)));
    let newer = bench.reset(&new[0]).await.codes();
    assert_eq!(bench.show().await.codes(), new);
    bench.sim.advance(SignedDuration::from_secs(6));
    assert_eq!(bench.show().await.codes(), newer);

    bench.sim.clear_all();
    bench
        .sim
        .inject(Fault::stale(Lag::OneChange).at(Operation::Reset).once());
    assert_eq!(
        bench.reset(&newer[0]).await.codes(),
        newer,
        "a success that shows the old list"
    );
    assert_ne!(bench.show().await.codes(), newer);
}

#[tokio::test]
async fn masks_codes_even_when_plain_text_was_asked_for() {
    let bench = Bench::new().await;
    bench.sim.inject(Fault::masked().once());
    assert!(bench.show().await.codes()[0].contains("****"));
    assert_eq!(bench.show().await.codes(), bench.app.codes);
}

#[tokio::test]
async fn replaces_bodies() {
    let bench = Bench::new().await;
    let ask = async |body: Body| {
        bench.sim.inject(Fault::body(body).at(Operation::Show).once());
        bench.show().await
    };
    let html = ask(Body::Html).await;
    assert_eq!(
        (html.status, html.headers["content-type"].to_str().unwrap()),
        (200, "text/html")
    );
    assert_eq!(ask(Body::Empty).await.text, "");
    assert!(ask(Body::Garbage).await.body.is_null());
    assert!(ask(Body::HalfOfIt).await.body.is_null());
    assert!(ask(Body::ByteOrderMark).await.text.starts_with('{') || bench.sim.calls(Operation::Show) > 0);
    assert_eq!(ask(Body::Bytes(100_000)).await.text.len(), 100_000);
    assert_eq!(ask(Body::Text("{\"app\":{}}".into())).await.text, "{\"app\":{}}");
}

#[tokio::test]
async fn delivers_a_call_twice() {
    for (which, status) in [(Which::First, 200), (Which::Second, 404)] {
        let bench = Bench::new().await;
        bench.sim.inject(Fault::duplicate(which).once());
        assert_eq!(bench.reset(&bench.code()).await.status, status);
        assert_eq!(bench.sim.ledger().resets_applied(&bench.app.app_id), 1);
    }
    let bench = Bench::new().await;
    bench
        .sim
        .inject(Fault::duplicate(Which::First).at(Operation::Add).once());
    assert_eq!(
        bench.add().await.codes().len(),
        2,
        "the first answer is older than the second code"
    );
    assert_eq!(bench.sim.ledger().acts_applied(&bench.app.app_id, Cause::Add), 2);
    assert_eq!(bench.sim.live_codes(&bench.app.app_id).len(), 3);
}

#[tokio::test]
async fn waits_before_the_work_and_before_the_answer() {
    let bench = Bench::new().await;
    bench
        .sim
        .inject(Fault::latency(Duration::from_millis(80)).at(Operation::Show));
    bench
        .sim
        .inject(Fault::slow_answer(Duration::from_millis(70)).at(Operation::Show));
    let start = Instant::now();
    bench.show().await;
    // No upper bound: only that it waited at all is the simulator's doing.
    assert!(start.elapsed() >= Duration::from_millis(150));
}

#[tokio::test]
async fn strikes_only_what_a_fault_names() {
    let bench = Bench::new().await;
    bench
        .sim
        .inject(Fault::status_before(503).at(Operation::Reset).app("another app"));
    bench
        .sim
        .inject(Fault::status_before(503).at(Operation::Add).at(Operation::Delete));
    assert_eq!(bench.reset(&bench.code()).await.status, 200);
    assert_eq!(bench.show().await.status, 200);
    assert_eq!(bench.add().await.status, 503);
    assert_eq!(bench.delete("any").await.status, 503);
    bench.sim.clear_all();
    assert_eq!(bench.add().await.status, 200);
    bench.sim.inject(Fault::status_before(
        Reply::from(307).header("Location", "http://127.0.0.1:1/"),
    ));
    let seen = bench.show().await;
    assert_eq!(
        (seen.status, seen.headers["location"].to_str().unwrap()),
        (307, "http://127.0.0.1:1/")
    );
}

#[tokio::test]
async fn keeps_a_fault_for_requests_that_prove_who_they_are() {
    let bench = Bench::with(Options::default(), |app| app.codes(1)).await;
    bench.sim.inject(Fault::status_before(503).once());
    assert_eq!(
        bench
            .send(Request::new("GET", &bench.app_path("")))
            .await
            .unwrap()
            .status,
        401
    );
    assert_eq!(bench.show().await.status, 503);
}
