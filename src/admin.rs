//! `/livez`, `/readyz` and `/metrics`, and the question whether another operator is ready.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::controller::Context;
use crate::health::Health;
use crate::leader::Standing;
use crate::metrics::Format;

/// Longest time for finding out how the process is; a lock that is not had by then is held for ever.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// What the endpoints tell of.
#[derive(Clone)]
struct Told {
    ctx: Arc<Context>,
    health: Arc<Health>,
}

/// Answers until `shutdown`.
///
/// # Errors
/// When the listener breaks.
pub async fn serve(
    listener: TcpListener,
    ctx: Arc<Context>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Told { ctx, health });
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

type Answer = (StatusCode, String);

/// Whether a restart would help. A code that only this process has is not thrown away for that.
async fn live(State(told): State<Told>) -> Answer {
    let look = tokio::task::spawn_blocking(move || {
        let mut stuck = told.ctx.stuck();
        if told.ctx.held().is_empty() {
            stuck.extend(told.health.stuck());
        }
        stuck
    });
    match tokio::time::timeout(LOOK_WITHIN, look).await {
        Ok(Ok(stuck)) if stuck.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
        Ok(Ok(stuck)) => refused(&stuck),
        Ok(Err(_)) | Err(_) => refused(&["the queue does not answer".to_owned()]),
    }
}

/// Whether this replica does its part: it leads, or knows who does and could take over.
async fn ready(State(Told { ctx, health }): State<Told>) -> Answer {
    let mut missing = health.troubles();
    missing.extend(ctx.leadership.trouble().map(str::to_owned));
    if !missing.is_empty() {
        return refused(&missing);
    }
    let part = match ctx.leadership.standing() {
        Standing::Follows { leader, .. } => format!("ok: stands by for {leader}\n"),
        Standing::Leads { .. } | Standing::Unknown => "ok: leads\n".to_owned(),
    };
    (StatusCode::OK, part)
}

fn refused(why: &[String]) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", why.join("\n")))
}

async fn metrics(State(Told { ctx, health }): State<Told>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    ([(CONTENT_TYPE, format.content_type())], ctx.scrape(format, &health))
}

/// Longest time for one question, and the pause after it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_secs(1);

/// An operator that did not become ready.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operator at {address} is not ready: {why}")]
pub struct NotReady {
    address: String,
    why: String,
}

/// Asks the operator at `address` (`HOST:PORT`) until it says that it is ready. Blocks.
///
/// It speaks as little HTTP as that takes: no certificates are needed for it, which an image may lack.
///
/// # Errors
/// When that took longer than `patience`, with what came of the last question.
pub fn ask_ready(address: &str, patience: Duration) -> Result<(), NotReady> {
    let start = Instant::now();
    loop {
        let why = match status_line(address) {
            Ok(line) if line.split(' ').nth(1) == Some("200") => return Ok(()),
            Ok(line) => format!("it answers {line:?}"),
            Err(error) => error.to_string(),
        };
        if start.elapsed() >= patience {
            let address = address.to_owned();
            return Err(NotReady { address, why });
        }
        std::thread::sleep(PAUSE);
    }
}

fn status_line(address: &str) -> std::io::Result<String> {
    let none = || std::io::Error::other("the host has no address");
    let socket = address.to_socket_addrs()?.next().ok_or_else(none)?;
    let mut stream = TcpStream::connect_timeout(&socket, ANSWER_WITHIN)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.set_write_timeout(Some(ANSWER_WITHIN))?;
    let question = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(1 << 10).read_to_end(&mut answer)?;
    let text = String::from_utf8_lossy(&answer);
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener as Listener;

    use super::*;

    /// Answers one question after the other with these status lines.
    fn answering(lines: &'static [&'static str]) -> String {
        let listener = Listener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for line in lines {
                let (mut stream, _) = listener.accept().unwrap();
                // What is left unread when a connection is closed resets it, and takes the answer along.
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    asked.extend(byte);
                }
                assert!(asked.starts_with(b"GET /readyz HTTP/1.1\r\n"));
                write!(stream, "{line}\r\n\r\n").unwrap();
            }
        });
        address
    }

    #[test]
    fn asks_until_the_answer_is_yes() {
        let address = answering(&["HTTP/1.1 503 Service Unavailable", "HTTP/1.1 200 OK"]);
        assert_eq!(ask_ready(&address, Duration::from_secs(60)), Ok(()));
    }

    #[test]
    fn says_what_the_last_answer_was() {
        let address = answering(&["HTTP/1.1 503 Service Unavailable"]);
        let error = ask_ready(&address, Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(&address) && error.contains("503"), "{error}");
        let error = ask_ready("127.0.0.1:1", Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
    }
}
