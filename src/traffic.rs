//! Every request on the API server passes here: counted, timed, and taken as a sign of life of the watch that sent it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use tower::{Layer, Service};

use crate::clock::Clock;
use crate::health::Health;
use crate::metrics::{Metrics, Verb};

/// Puts [`Measured`] around the client's service.
#[derive(Clone)]
pub struct Traffic {
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
    /// What is told of watches.
    pub health: Arc<Health>,
    /// By which they are timed.
    pub clock: Arc<dyn Clock>,
}

impl<S> Layer<S> for Traffic {
    type Service = Measured<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Measured {
            inner,
            traffic: self.clone(),
        }
    }
}

/// A service whose requests are counted.
#[derive(Clone)]
pub struct Measured<S> {
    inner: S,
    traffic: Traffic,
}

impl<S, Body, Answer> Service<Request<Body>> for Measured<S>
where
    S: Service<Request<Body>, Response = Response<Answer>>,
    S::Future: Send + 'static,
    S::Error: 'static,
    Answer: 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let asked = Asked::of(request.method(), request.uri().path(), request.uri().query());
        let (traffic, since) = (self.traffic.clone(), self.traffic.clock.uptime());
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            let status = answer.as_ref().ok().map(Response::status);
            let took = traffic.clock.uptime().saturating_sub(since);
            traffic.metrics.asked(asked.verb, status, took);
            if let Some(status) = status {
                // A restart does not help against a server that refuses, so that any answer counts for liveness.
                if asked.watched == Some(Watched::Resources) {
                    traffic.health.heard(asked.namespace.as_deref());
                }
                match asked.watched.filter(|_| status.is_success()) {
                    Some(Watched::Resources) => traffic.health.answered(asked.namespace.as_deref()),
                    Some(Watched::Secrets) => traffic.health.watches_secrets(asked.namespace.as_deref(), true),
                    None => {}
                }
            }
            answer
        })
    }
}

/// What a request is about, by its address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    verb: Verb,
    namespace: Option<String>,
    /// What is watched by it, if anything is.
    watched: Option<Watched>,
}

/// What the operator watches, the Lease apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Resources,
    Secrets,
}

impl Asked {
    fn of(method: &Method, path: &str, query: Option<&str>) -> Self {
        // /api/v1 or /apis/GROUP/VERSION, then perhaps namespaces/NAME, then KIND[/NAME[/SUBRESOURCE]].
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let skipped = if parts.next() == Some("api") { 1 } else { 2 };
        let mut parts = parts.skip(skipped).peekable();
        let namespace = (parts.peek() == Some(&"namespaces"))
            .then(|| parts.nth(1).map(str::to_owned))
            .flatten();
        let (kind, name) = (parts.next().unwrap_or_default(), parts.next());
        let is_watch =
            query.is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"));
        let verb = match (method.as_str(), name) {
            ("GET", _) if is_watch => Verb::Watch,
            ("GET", None) => Verb::List,
            ("GET", Some(_)) => Verb::Get,
            ("POST", _) => Verb::Create,
            ("PUT", _) => Verb::Update,
            ("PATCH", _) => Verb::Patch,
            _ => Verb::Other,
        };
        let watched = match kind {
            "appcoderotations" => Some(Watched::Resources),
            "secrets" => Some(Watched::Secrets),
            _ => None,
        };
        Self {
            verb,
            namespace,
            watched: watched.filter(|_| matches!(verb, Verb::Watch | Verb::List)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use pretty_assertions::assert_eq;
    use tower::ServiceExt;

    use super::*;
    use crate::clock::Still;

    fn asked(method: &Method, address: &str) -> (Verb, Option<String>, Option<Watched>) {
        let (path, query) = address
            .split_once('?')
            .map_or((address, None), |(path, query)| (path, Some(query)));
        let asked = Asked::of(method, path, query);
        (asked.verb, asked.namespace, asked.watched)
    }

    #[tokio::test]
    async fn any_answer_to_a_watch_shows_that_the_server_is_there_and_a_good_one_that_the_watch_works() {
        let clock = Arc::new(Still::default());
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let health = Arc::new(Health::new(Arc::clone(&time), &[], Duration::ZERO));
        health.failed(None);
        let mut told = Vec::new();
        for (path, status) in [("pods", 200), ("appcoderotations", 403), ("appcoderotations", 200)] {
            let traffic = Traffic {
                metrics: Arc::default(),
                health: Arc::clone(&health),
                clock: Arc::clone(&time),
            };
            let server = tower::service_fn(move |_: Request<()>| async move {
                Ok::<_, Infallible>(Response::builder().status(status).body(()).unwrap())
            });
            let address = format!("/apis/appcode.dev/v1alpha1/{path}?watch=true");
            let request = Request::get(address).body(()).unwrap();
            *clock.0.lock().unwrap() += Duration::from_secs(1);
            traffic.layer(server).oneshot(request).await.unwrap();
            told.push((health.stuck().is_empty(), health.sees(None)));
        }
        assert_eq!(told, [(false, false), (true, false), (true, true)]);
    }

    #[test]
    fn a_request_is_known_by_its_address() {
        let acr = "/apis/appcode.dev/v1alpha1/appcoderotations";
        let in_a = "/apis/appcode.dev/v1alpha1/namespaces/a/appcoderotations";
        let a = Some("a".to_owned());
        let (resources, secrets) = (Some(Watched::Resources), Some(Watched::Secrets));
        for (method, address, expected) in [
            (Method::GET, format!("{acr}?&limit=100"), (Verb::List, None, resources)),
            (
                Method::GET,
                format!("{in_a}?&watch=true&timeoutSeconds=240"),
                (Verb::Watch, a.clone(), resources),
            ),
            (Method::GET, format!("{in_a}/one"), (Verb::Get, a.clone(), None)),
            (
                Method::PUT,
                format!("{in_a}/one/status?fieldManager=x"),
                (Verb::Update, a.clone(), None),
            ),
            (
                Method::PATCH,
                "/api/v1/namespaces/a/secrets/one".into(),
                (Verb::Patch, a.clone(), None),
            ),
            (
                Method::GET,
                "/api/v1/secrets?&labelSelector=x&limit=100".into(),
                (Verb::List, None, secrets),
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/secrets?&watch=true&labelSelector=x".into(),
                (Verb::Watch, a.clone(), secrets),
            ),
            (
                Method::POST,
                "/apis/events.k8s.io/v1/namespaces/a/events".into(),
                (Verb::Create, a.clone(), None),
            ),
            (
                Method::GET,
                "/apis/coordination.k8s.io/v1/namespaces/a/leases?fieldSelector=metadata.name%3Dx&watch=true".into(),
                (Verb::Watch, a, None),
            ),
            (
                Method::DELETE,
                "/api/v1/nodes/watch=true".into(),
                (Verb::Other, None, None),
            ),
        ] {
            assert_eq!(asked(&method, &address), expected, "{address}");
        }
    }
}
