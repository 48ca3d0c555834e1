//! The cloud on a port: bytes to [`Request`], [`Delivery`] to bytes or to a connection that ends without any.

mod connection;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{ConnectInfo, State};
use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::connection::{BreakingBody, Connection, Listener};
use crate::clock::Clock;
use crate::model::{Cloud, Delivery, Outcome};
use crate::wire::{Answer, Refusal, Request};

/// Largest body that the gateway takes.
const MOST_BYTES: usize = 12 * 1024 * 1024;

/// The cloud with its clock, shared by the server and all handles.
#[derive(Debug)]
pub(crate) struct Shared {
    cloud: Mutex<Cloud>,
    pub(crate) clock: Clock,
    changed: watch::Sender<()>,
    pub(crate) closing: CancellationToken,
}

impl Shared {
    pub(crate) fn new(cloud: Cloud, clock: Clock) -> Self {
        Self {
            cloud: Mutex::new(cloud),
            clock,
            changed: watch::Sender::new(()),
            closing: CancellationToken::new(),
        }
    }

    /// Works on the cloud, up to date, and wakes whoever waits for it to change.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Cloud) -> T) -> T {
        let mut cloud = self.lock();
        cloud.advance(self.clock.now());
        let result = work(&mut cloud);
        drop(cloud);
        self.changed.send_replace(());
        result
    }

    /// Looks at the cloud, up to date.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Cloud) -> T) -> T {
        let mut cloud = self.lock();
        cloud.advance(self.clock.now());
        look(&cloud)
    }

    /// Waits until the cloud looks so.
    pub(crate) async fn until(&self, mut wanted: impl FnMut(&Cloud) -> bool) {
        // Late work becomes due without anybody touching the cloud.
        const LONGEST_NAP: Duration = Duration::from_millis(20);
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (is_wanted, has_late_work) = self.look(|cloud| (wanted(cloud), cloud.next_due().is_some()));
            if is_wanted {
                return;
            }
            if has_late_work {
                let _ = tokio::time::timeout(LONGEST_NAP, changed.changed()).await;
            } else {
                let _ = changed.changed().await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Cloud> {
        self.cloud.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until the cloud closes, then ends every connection.
pub(crate) async fn run(listener: TcpListener, shared: Arc<Shared>) -> std::io::Result<()> {
    let closing = shared.closing.clone();
    let router = Router::new()
        .nest("/_admin", crate::admin::routes())
        .fallback(serve)
        .with_state(shared)
        .into_make_service_with_connect_info::<Connection>();
    let listener = Listener::new(listener, closing.clone());
    axum::serve(listener, router)
        .with_graceful_shutdown(closing.cancelled_owned())
        .await
}

/// A request is served to its end whether or not its client still waits, as real clouds do.
async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: axum::extract::Request,
) -> Response {
    let Some(request) = receive(request).await else {
        return too_large(&shared);
    };
    let closing = shared.closing.clone();
    let work = tokio::spawn(async move {
        tokio::select! {
            () = closing.cancelled() => None,
            outcome = work(&shared, &request) => Some(outcome),
        }
    });
    match work.await {
        Ok(Some(Delivery::Answer(answer) | Delivery::Held(answer))) => whole(answer),
        Ok(Some(Delivery::Broken(answer))) => broken(answer),
        Ok(Some(Delivery::Cut) | None) | Err(_) => {
            connection.cut();
            Response::new(Body::empty())
        }
    }
}

async fn work(shared: &Shared, request: &Request) -> Delivery {
    let arrival = shared.with(|cloud| cloud.arrive(shared.clock.now(), request));
    wait(arrival.latency()).await;
    let Outcome {
        number,
        delay,
        delivery,
    } = shared.with(|cloud| cloud.serve(shared.clock.now(), arrival));
    wait(delay).await;
    if matches!(delivery, Delivery::Held(_)) {
        shared.until(|cloud| !cloud.is_held(number)).await;
    }
    delivery
}

async fn wait(duration: Duration) {
    if !duration.is_zero() {
        tokio::time::sleep(duration).await;
    }
}

async fn receive(request: axum::extract::Request) -> Option<Request> {
    let (parts, body) = request.into_parts();
    let mut headers: Vec<(String, String)> = parts
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        })
        .collect();
    // HTTP/2 has the authority in place of the header.
    if let (None, Some(authority)) = (parts.headers.get(http::header::HOST), parts.uri.authority()) {
        headers.push(("host".into(), authority.to_string()));
    }
    Some(Request {
        method: parts.method.as_str().to_owned(),
        target: parts
            .uri
            .path_and_query()
            .map_or_else(|| "/".into(), ToString::to_string),
        headers,
        body: to_bytes(body, MOST_BYTES).await.ok()?.to_vec(),
    })
}

fn too_large(shared: &Shared) -> Response {
    let (prefix, request_id) = shared.with(|cloud| (cloud.behaviour.gateway_prefix, cloud.new_id()));
    let refusal = Refusal::gateway(413, prefix.as_str(), "0201", "Request body too large");
    whole(refusal.answer(&request_id).with_header("X-Request-Id", &request_id))
}

pub(crate) fn whole(answer: Answer) -> Response {
    respond(answer.status, &answer.headers, Body::from(answer.body))
}

fn broken(answer: Answer) -> Response {
    let mut headers = answer.headers;
    headers.push(("Content-Length".into(), answer.body.len().max(2).to_string()));
    let half = answer
        .body
        .get(..answer.body.len() / 2)
        .map(Bytes::copy_from_slice)
        .unwrap_or_default();
    respond(answer.status, &headers, Body::new(BreakingBody::Bytes(half)))
}

fn respond(status: u16, headers: &[(String, String)], body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}
