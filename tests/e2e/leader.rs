//! The Lease on a real API server: who leads, who takes over and when nobody does.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use appcode_operator::clock::{Clock, SystemClock};
use appcode_operator::health::Health;
use appcode_operator::leader::{Election, Leadership, LeaseTimes, Standing};
use async_trait::async_trait;
use control_plane::{ControlPlane, Options};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::chaos::wire::{Mode, Wire};
use crate::stage::{PATIENCE, Stage};

const NAME: &str = "appcode-operator";
/// A Lease that nobody lives to see run out: who takes it over was given it.
const FOREVER: Duration = Duration::from_secs(3600);
const SHORT: Duration = Duration::from_secs(3);

/// The machine's clock, with a wall clock that is wrong.
struct Skewed {
    clock: SystemClock,
    by: SignedDuration,
}

#[async_trait]
impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        self.clock.now() + self.by
    }

    fn uptime(&self) -> Duration {
        self.clock.uptime()
    }

    async fn sleep(&self, time: Duration) {
        self.clock.sleep(time).await;
    }
}

/// One replica's part, behind a wire of its own.
struct Replica {
    name: &'static str,
    wire: Wire,
    health: Arc<Health>,
    leadership: Leadership,
    over: CancellationToken,
    task: JoinHandle<()>,
}

impl Replica {
    async fn start(plane: &ControlPlane, name: &'static str, duration: Duration, hours: i64) -> Self {
        let server = plane.url().trim_start_matches("https://").parse().unwrap();
        let wire = Wire::to(server).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(Skewed {
            clock: SystemClock::start(),
            by: SignedDuration::from_hours(hours),
        });
        let health = Arc::new(Health::new(Arc::clone(&clock), &[], FOREVER));
        health.listed(None);
        let leadership = Leadership::new(Arc::clone(&clock));
        let over = CancellationToken::new();
        let election = Election::new(
            client_by(plane, &wire).await,
            ("default", NAME),
            name.to_owned(),
            LeaseTimes { duration },
            clock,
            leadership.clone(),
            Arc::clone(&health),
        );
        let task = tokio::spawn(election.run(over.clone()));
        Self {
            name,
            wire,
            health,
            leadership,
            over,
            task,
        }
    }

    fn leads(&self) -> bool {
        self.leadership.is_held()
    }

    async fn stop(self) {
        self.over.cancel();
        self.task.await.unwrap();
    }
}

async fn client_by(plane: &ControlPlane, wire: &Wire) -> Client {
    let mut kubeconfig = Kubeconfig::read_from(plane.admin_kubeconfig()).unwrap();
    for cluster in &mut kubeconfig.clusters {
        cluster.cluster.as_mut().unwrap().server = Some(format!("https://{}", wire.address()));
    }
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn plane() -> ControlPlane {
    ControlPlane::start(Options::default()).await.unwrap()
}

async fn leases(plane: &ControlPlane) -> Api<Lease> {
    Api::namespaced(Stage::client(plane.admin_kubeconfig()).await, "default")
}

fn kubectl(plane: &ControlPlane, args: &[&str]) {
    let output = plane.kubectl().args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn holder(leases: &Api<Lease>) -> String {
    let lease = leases.get(NAME).await.unwrap();
    lease.spec.unwrap().holder_identity.unwrap_or_default()
}

/// Takes the one that leads out of the list, once there is one.
async fn leader(replicas: &mut Vec<Replica>) -> Replica {
    until("one leads", || replicas.iter().any(Replica::leads)).await;
    let place = replicas.iter().position(Replica::leads).unwrap();
    replicas.remove(place)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_leads_and_who_stops_or_sees_nothing_hands_over() {
    let plane = plane().await;
    let leases = leases(&plane).await;
    let mut replicas = Vec::new();
    for name in ["one", "two", "three"] {
        replicas.push(Replica::start(&plane, name, FOREVER, 0).await);
    }
    let first = leader(&mut replicas).await;
    assert_eq!(holder(&leases).await, first.name);
    let is_follower = |replica: &Replica| matches!(replica.leadership.standing(), Standing::Follows { leader, .. } if leader == first.name);
    until("the others know it", || replicas.iter().all(is_follower)).await;
    assert!(replicas.iter().all(|replica| replica.leadership.trouble().is_none()));

    // It is asked to stop: the next one need not wait for the Lease to run out.
    first.stop().await;
    let second = leader(&mut replicas).await;
    assert_eq!(holder(&leases).await, second.name);

    // It does not see the resources any more, for longer than a watch may fail.
    let blind = second;
    blind.health.failed(None);
    let third = leader(&mut replicas).await;
    assert!(!blind.leads());
    assert_eq!(holder(&leases).await, third.name);

    // When it sees them again, it stands by.
    blind.health.answered(None);
    until(
        "it knows who leads",
        || matches!(blind.leadership.standing(), Standing::Follows { leader, .. } if leader == third.name),
    )
    .await;
    third.stop().await;
    until("it leads again", || blind.leads()).await;
    blind.stop().await;
    assert_eq!(holder(&leases).await, "");
    let spec = leases.get(NAME).await.unwrap().spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_to_the_lease_ends_in_one_leader() {
    let plane = plane().await;
    let leases = leases(&plane).await;
    let mut replicas = vec![
        Replica::start(&plane, "one", SHORT, 0).await,
        Replica::start(&plane, "two", SHORT, 0).await,
    ];
    let first = leader(&mut replicas).await;
    kubectl(&plane, &["delete", "lease", NAME]);
    let start = Instant::now();
    while leases.get_opt(NAME).await.unwrap().is_none() {
        assert!(start.elapsed() < PATIENCE, "it is made again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until("one leads again", || first.leads() != replicas[0].leads()).await;

    // Somebody else's name on it: whoever led stops, and the Lease is free once that one does not renew it.
    let patch = json!({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 4}}).to_string();
    kubectl(&plane, &["patch", "lease", NAME, "--type=merge", "-p", &patch]);
    until("it is noticed", || !first.leads() && !replicas[0].leads()).await;
    until("one leads again", || first.leads() || replicas[0].leads()).await;
    assert!(["one", "two"].contains(&holder(&leases).await.as_str()));
}

/// Nothing that three replicas do shows two leaders at one time, whatever becomes of their renewals and however wrong
/// their wall clocks are.
#[tokio::test(flavor = "multi_thread")]
async fn no_two_lead_at_a_time_whatever_becomes_of_renewals_and_clocks() {
    let plane = plane().await;
    let replicas = [
        Replica::start(&plane, "right", SHORT, 0).await,
        Replica::start(&plane, "ahead", SHORT, 5).await,
        Replica::start(&plane, "behind", SHORT, -5).await,
    ];
    let leaderships: Vec<Leadership> = replicas.iter().map(|replica| replica.leadership.clone()).collect();
    let over = CancellationToken::new();
    let watcher = tokio::task::spawn_blocking({
        let over = over.clone();
        move || watch_for_two(&leaderships, &over)
    });
    for round in 0..6 {
        until("one leads", || replicas.iter().any(Replica::leads)).await;
        let Some(leader) = replicas.iter().find(|replica| replica.leads()) else {
            continue;
        };
        let mode = [Mode::BlackHole, Mode::Freeze, Mode::Cut][round % 3];
        leader.wire.set(mode);
        until("it ends", || !leader.leads()).await;
        until("another one leads", || {
            replicas.iter().any(|other| other.name != leader.name && other.leads())
        })
        .await;
        leader.wire.set(Mode::Pass);
    }
    over.cancel();
    let looks = watcher.await.unwrap();
    println!("looked {looks} times");
    assert!(looks > 1000);
}

/// Two that lead at one moment: one led before and after the other was seen to.
fn watch_for_two(replicas: &[Leadership], over: &CancellationToken) -> usize {
    let mut looks = 0;
    while !over.is_cancelled() {
        for one in replicas {
            for other in replicas {
                let (before, seen, after) = (one.standing(), other.is_held(), one.is_held());
                let is_same = std::ptr::eq(one, other);
                let led = matches!(before, Standing::Leads { .. });
                assert!(is_same || !(led && seen && after), "two lead");
            }
        }
        looks += 1;
        std::thread::sleep(Duration::from_millis(1));
    }
    looks
}

/// What an endpoint of the operator with this log answers.
async fn ask(address: &str, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("http://{address}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// A port that was free a moment ago, on an address of loopback where nobody else looks for one.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.3:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn until_answer(address: &str, path: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
    let start = Instant::now();
    loop {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.get(format!("http://{address}{path}")).send().await;
        if let Ok(answer) = answer {
            let status = answer.status().as_u16();
            let body = answer.text().await.unwrap_or_default();
            if wanted(status, &body) {
                return body;
            }
        }
        assert!(start.elapsed() < PATIENCE, "{path} of {address}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn rotate(stage: &Stage, trigger: &str, app: &str) {
    stage.apply(&stage.rotation("a", "one", app, &json!({"rotationTrigger": trigger})));
    stage
        .until("the trigger is handled", || {
            stage.status("a", "one")["lastHandledTrigger"] == trigger
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_standby_takes_over_from_one_that_stops_and_from_one_that_hangs() {
    let flags = [
        "--daily-budget=65000",
        "--settle-window=4s",
        "--request-deadline=1s",
        "--connect-timeout=500ms",
    ];
    let flags = [&flags[..], &["--minimum-interval=5s", "--caller-rate=50"]].concat();
    let stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &flags).await;
    stage.namespace("a");
    let app = stage.app(1);
    stage.apply(&stage.rotation("a", "one", &app.app_id, &json!({})));
    let kubeconfig = stage.operator_kubeconfig();
    let addresses = [free_address(), free_address(), free_address()];
    let run = |address: &str, duration: &str| {
        let flags = [
            format!("--admin-address={address}"),
            format!("--lease-duration={duration}"),
        ];
        stage.run_operator_with(kubeconfig, &flags)
    };
    let leads = |status: u16, body: &str| status == 200 && body == "ok: leads\n";
    let stands_by = |status: u16, body: &str| status == 200 && body.starts_with("ok: stands by for ");

    // An hour's Lease: whoever takes over within the test was handed it.
    let first = run(&addresses[0], "1h");
    until_answer(&addresses[0], "/readyz", leads).await;
    rotate(&stage, "one", &app.app_id).await;
    let second = run(&addresses[1], "3s");
    until_answer(&addresses[1], "/readyz", stands_by).await;
    first.signal("TERM");
    assert_eq!(first.wait(), Some(0));
    until_answer(&addresses[1], "/readyz", leads).await;
    rotate(&stage, "two", &app.app_id).await;

    // One that hangs is not waited for longer than its Lease, and stands by when it is back.
    let third = run(&addresses[2], "3s");
    until_answer(&addresses[2], "/readyz", stands_by).await;
    second.signal("STOP");
    until_answer(&addresses[2], "/readyz", leads).await;
    rotate(&stage, "three", &app.app_id).await;
    second.signal("CONT");
    until_answer(&addresses[1], "/readyz", stands_by).await;
    assert_eq!(stage.resets(&app.app_id), 3);
    drop((second, third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_brings_nothing_more_shows_in_readiness_then_in_liveness_and_costs_the_lead() {
    let flags = ["--watch-request=2s", "--api-deadline=1s", "--lease-duration=3s"];
    let stage = Stage::set(Path::new(env!("CARGO_BIN_EXE_appcode-operator")), &flags).await;
    let server = stage.plane.url().trim_start_matches("https://").parse().unwrap();
    let wire = Wire::to(server).await.unwrap();
    let kubeconfig = stage.kubeconfig_by("wired", &wire.address().to_string());
    let address = free_address();
    let operator = stage.run_operator_with(&kubeconfig, &[format!("--admin-address={address}")]);
    until_answer(&address, "/readyz", |status, _| status == 200).await;
    // A quiet watch is a healthy one: it is answered again and again.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(ask(&address, "/livez").await, (200, "ok\n".to_owned()));
    assert_eq!(ask(&address, "/readyz").await.0, 200);

    wire.set(Mode::BlackHole);
    let missing = until_answer(&address, "/readyz", |status, _| status == 503).await;
    assert!(missing.contains("Lease") || missing.contains("watch"), "{missing}");
    let missing = until_answer(&address, "/readyz", |status, body| {
        status == 503 && body.contains("watch")
    })
    .await;
    assert!(
        missing.contains("the watch on all namespaces has failed for"),
        "{missing}"
    );
    let stuck = until_answer(&address, "/livez", |status, _| status == 503).await;
    assert!(
        stuck.contains("the watch on all namespaces has had no answer for"),
        "{stuck}"
    );

    wire.set(Mode::Pass);
    until_answer(&address, "/livez", |status, _| status == 200).await;
    until_answer(&address, "/readyz", |status, _| status == 200).await;
    drop(operator);
}
