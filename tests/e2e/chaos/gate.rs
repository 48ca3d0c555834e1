//! A gate in front of the API server that sees each request and can hold one: before the server gets it, or after the
//! server has answered.
//!
//! To the operator it speaks plain HTTP, as `kubectl proxy` does, and passes the operator's own token on, so that the
//! server sees the same identity with the same rights.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::stream;
use http::{HeaderMap, Method, StatusCode, header};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

const BODY_LIMIT: usize = 4 << 20;

/// Where a request is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The server has not got it.
    Before,
    /// The server has answered, and the client has not got the answer.
    After,
}

/// A request as the gate sees it.
pub struct Seen<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path without the query.
    pub path: &'a str,
    /// Its whole body.
    pub body: &'a [u8],
}

/// What is waited for: the first request that fits is held.
struct Order {
    when: When,
    fits: Box<dyn Fn(&Seen<'_>) -> bool + Send>,
    caught: oneshot::Sender<()>,
    goes_on: oneshot::Receiver<()>,
}

/// The hold on a request, taken or still waited for. When it is dropped, a request held before the server is lost, and
/// of one held after it the answer.
pub struct Hold {
    caught: oneshot::Receiver<()>,
    goes_on: oneshot::Sender<()>,
}

impl Hold {
    /// Waits until a request is held.
    pub async fn caught(&mut self) {
        (&mut self.caught).await.expect("the gate is there");
    }

    /// Lets the request go on to the server, whether or not its client still waits.
    pub fn let_go(self) {
        let _ = self.goes_on.send(());
    }
}

/// A running gate; it ends when it is dropped.
pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<io::Result<()>>,
}

struct Shared {
    server: String,
    client: reqwest::Client,
    order: Mutex<Option<Order>>,
}

impl Gate {
    /// A gate to the server at `server`, which proves itself by `authority`, as PEM.
    pub async fn to(server: &str, authority: &[u8]) -> anyhow::Result<Self> {
        let authority = reqwest::Certificate::from_pem(authority)?;
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([authority]);
        let shared = Arc::new(Shared {
            server: server.to_owned(),
            client: client.build()?,
            order: Mutex::default(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(enter).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, shared, task })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Holds the first request from now on that fits.
    pub fn hold(&self, when: When, fits: impl Fn(&Seen<'_>) -> bool + Send + 'static) -> Hold {
        let (caught, is_caught) = oneshot::channel();
        let (goes_on, may_go_on) = oneshot::channel();
        let order = Order {
            when,
            fits: Box::new(fits),
            caught,
            goes_on: may_go_on,
        };
        *self.shared.order.lock().unwrap() = Some(order);
        Hold {
            caught: is_caught,
            goes_on,
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn enter(State(shared): State<Arc<Shared>>, request: Request) -> Result<Response, StatusCode> {
    // A task of its own: what is held goes its way also when the client is killed meanwhile.
    let passed = tokio::spawn(async move { shared.pass(request).await });
    passed.await.ok().flatten().ok_or(StatusCode::BAD_GATEWAY)
}

impl Shared {
    /// The server's answer; none if it never got the request or its answer is lost.
    async fn pass(&self, request: Request) -> Option<Response> {
        let (head, body) = request.into_parts();
        let body = to_bytes(body, BODY_LIMIT).await.ok()?;
        let seen = Seen {
            method: &head.method,
            path: head.uri.path(),
            body: &body,
        };
        let order = self.order.lock().unwrap().take_if(|order| (order.fits)(&seen));
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let Some(order) = order else {
            return self.forward(head.method, path, head.headers, body).await;
        };
        if order.when == When::Before {
            let _ = order.caught.send(());
            order.goes_on.await.ok()?;
            return self.forward(head.method, path, head.headers, body).await;
        }
        let answer = self.forward(head.method, path, head.headers, body).await;
        let _ = order.caught.send(());
        order.goes_on.await.ok().and(answer)
    }

    async fn forward(&self, method: Method, path: &str, mut headers: HeaderMap, body: Bytes) -> Option<Response> {
        headers.remove(header::HOST);
        let request = self.client.request(method, format!("{}{path}", self.server));
        let answer = request.headers(headers).body(body).send().await.ok()?;
        let mut response = Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            if ![header::TRANSFER_ENCODING, header::CONNECTION].contains(name) {
                response = response.header(name, value);
            }
        }
        // A watch answers piece by piece.
        let pieces = stream::unfold(answer, async |mut answer| {
            let piece = answer.chunk().await.transpose()?;
            Some((piece, answer))
        });
        response.body(Body::from_stream(pieces)).ok()
    }
}
