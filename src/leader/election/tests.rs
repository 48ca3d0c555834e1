use std::io::Write;
use std::sync::Mutex;

use async_trait::async_trait;
use http::{Method, Request, Response};
use jiff::Timestamp;
use kube::client::Body;
use pretty_assertions::assert_eq;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::subscriber::NoSubscriber;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Time that passes when it is told to, from one end of a sleep to the next.
struct Quick {
    uptime: watch::Sender<Duration>,
    /// When those end that sleep.
    ends: Arc<Mutex<Vec<Duration>>>,
}

/// Somebody who sleeps until then, or has given it up.
struct Sleeper(Arc<Mutex<Vec<Duration>>>, Duration);

impl Drop for Sleeper {
    fn drop(&mut self) {
        let mut ends = self.0.lock().unwrap();
        let place = ends.iter().position(|end| *end == self.1).unwrap();
        ends.swap_remove(place);
    }
}

#[async_trait]
impl Clock for Quick {
    fn now(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH
    }
    fn uptime(&self) -> Duration {
        *self.uptime.borrow()
    }
    async fn sleep(&self, time: Duration) {
        let end = self.uptime().saturating_add(time);
        self.ends.lock().unwrap().push(end);
        let _sleeper = Sleeper(Arc::clone(&self.ends), end);
        let mut uptime = self.uptime.subscribe();
        uptime.wait_for(|now| *now >= end).await.unwrap();
    }
}

/// An API server with one Lease, which it may forbid.
#[derive(Default)]
struct Server {
    lease: Option<Value>,
    version: u64,
    is_forbidden: bool,
    asked: usize,
}

impl Server {
    fn answer(&mut self, method: &Method, body: &[u8]) -> (u16, Value) {
        self.asked += 1;
        let status = |code: u16, reason: &str| (code, json!({"kind": "Status", "code": code, "reason": reason}));
        if self.is_forbidden {
            return status(403, "Forbidden");
        }
        if method == Method::GET {
            return self
                .lease
                .clone()
                .map_or_else(|| status(404, "NotFound"), |lease| (200, lease));
        }
        let mut lease: Value = serde_json::from_slice(body).unwrap();
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.lease = Some(lease.clone());
        (200, lease)
    }
}

/// The lines of the log.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        self.clone()
    }
}

impl Lines {
    fn count(&self, part: &str) -> usize {
        let bytes = self.0.lock().unwrap();
        String::from_utf8_lossy(&bytes)
            .lines()
            .filter(|line| line.contains(part))
            .count()
    }
}

const TIMES: LeaseTimes = LeaseTimes {
    duration: Duration::from_secs(30),
};

struct Scene {
    clock: Arc<Quick>,
    server: Arc<Mutex<Server>>,
    health: Arc<Health>,
    leadership: Leadership,
}

impl Scene {
    /// With an election that has begun.
    fn set(server: Server) -> (Self, Election) {
        let clock = Arc::new(Quick {
            uptime: watch::Sender::new(Duration::ZERO),
            ends: Arc::default(),
        });
        let server = Arc::new(Mutex::new(server));
        let service = tower::service_fn({
            let server = Arc::clone(&server);
            move |request: Request<Body>| {
                let server = Arc::clone(&server);
                async move {
                    let (parts, body) = request.into_parts();
                    let body = body.collect_bytes().await.unwrap();
                    let (code, answer) = server.lock().unwrap().answer(&parts.method, &body);
                    let answer = Response::builder()
                        .status(code)
                        .body(Body::from(answer.to_string().into_bytes()));
                    Ok::<_, std::convert::Infallible>(answer.unwrap())
                }
            }
        });
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let health = Arc::new(Health::new(Arc::clone(&time), &[], Duration::from_secs(24 * 3600)));
        health.answered(None);
        health.listed(None);
        let leadership = Leadership::new(Arc::clone(&time));
        let election = Election::new(
            Client::new(service, "ns"),
            ("ns", "lease"),
            "me".into(),
            TIMES,
            time,
            leadership.clone(),
            Arc::clone(&health),
        );
        let scene = Self {
            clock,
            server,
            health,
            leadership,
        };
        (scene, election)
    }

    /// Lets so many seconds pass. Returns how often the server was asked in them.
    async fn pass(&self, seconds: u64) -> usize {
        let before = self.server.lock().unwrap().asked;
        let end = self.clock.uptime() + Duration::from_secs(seconds);
        loop {
            // All else is done that can be done without time.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let next = self.clock.ends.lock().unwrap().iter().min().copied();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.clock.uptime.send_replace(next);
        }
        self.clock.uptime.send_replace(end);
        self.server.lock().unwrap().asked - before
    }
}

#[tokio::test]
async fn a_lease_that_is_forbidden_is_told_of_once_and_asked_for_ever_more_seldom() {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(lines.clone())
        .finish();
    // With one subscriber alone, a line whose place another thread has passed first is switched off.
    let _another = tracing::Dispatch::new(NoSubscriber::new());
    let _guard = tracing::subscriber::set_default(subscriber);
    let (scene, election) = Scene::set(Server {
        is_forbidden: true,
        ..Server::default()
    });
    let over = CancellationToken::new();
    let running = tokio::spawn(election.run(over.clone()));
    let asked = scene.pass(600).await;
    assert!((55..=70).contains(&asked), "{asked} requests in ten minutes");
    assert_eq!(lines.count("WARN"), 1);
    assert!(!scene.leadership.is_held());

    scene.server.lock().unwrap().is_forbidden = false;
    scene.pass(TIMES.renewal().as_secs()).await;
    assert!(scene.leadership.is_held(), "no later than by a renewal");
    assert_eq!(lines.count("the Lease can be read and written again"), 1);
    // While it leads, it loses no time.
    scene.server.lock().unwrap().is_forbidden = true;
    let asked = scene.pass(20).await;
    assert!(asked >= 5, "{asked}");
    assert!(!scene.leadership.is_held());
    over.cancel();
    running.await.unwrap();
}

/// The watch that failed when it was asked to stop is not begun again, and is not needed for saving a code.
#[tokio::test]
async fn a_replica_without_sight_keeps_the_lease_while_it_stops_and_gives_it_up_otherwise() {
    for is_stopping in [true, false] {
        let (scene, election) = Scene::set(Server::default());
        let over = CancellationToken::new();
        let running = tokio::spawn(election.run(over.clone()));
        scene.pass(10).await;
        assert!(scene.leadership.is_held());
        scene.health.failed(None);
        if is_stopping {
            scene.health.close();
        }
        scene.pass(120).await;
        assert_eq!(scene.leadership.is_held(), is_stopping);
        over.cancel();
        running.await.unwrap();
        let lease = scene.server.lock().unwrap().lease.clone().unwrap();
        assert_eq!(lease["spec"]["holderIdentity"], "", "given up at the end at the latest");
    }
}
