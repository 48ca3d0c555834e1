//! Programs are killed, stopped and cut off at bad moments, while every resource is rotated all the time. All of them are
//! real, and so are the API server and its store; the cloud is the simulator's program.
//!
//! The judge is the cloud's ledger and the Secrets, never the operator: once it is left alone, every request was
//! answered by exactly one reset, every live code is in its Secret, and no Secret ever went back to an older code.
//!
//! The sizes are short by default; `make e2e-chaos` sets longer ones. `CHAOS_SEED` repeats the choice of moments, but
//! not to the byte what real programs do at them. Another seed has a short run strike other points.

mod fleet;
mod gate;
mod history;
mod members;
mod outages;
mod points;
mod strikes;
mod traffic;
pub mod wire;

use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use rand::RngExt;

use self::fleet::{Fleet, SETTLE_WINDOW};
use self::members::TARGETS;
use self::points::{FIRST, strikes};
use self::wire::{Mode, Wire};
use crate::stage::{NAMESPACE, Operator, Stage};

/// A size by its variable.
fn size(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |size| size.parse().expect("a size is a number"))
}

/// A short Lease.
const LEASE: &str = "--lease-duration=3s";

/// How often a long run is judged on its way.
const JUDGED_EVERY: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_lose_no_code_and_cost_no_reset() {
    let kills = size("CHAOS_KILLS", 10);
    let mut fleet = Fleet::gather("random kills").await;
    let mut traffic = fleet.traffic();
    for kill in 1..=kills {
        fleet.stage.start_operator();
        // Most kills come early and meet what the one before left behind; the others come after an outcome was settled.
        let most = if fleet.random.random_bool(0.7) { 2 } else { 8 };
        fleet.pause(Duration::from_secs(most)).await;
        fleet.stage.end_operator("KILL");
        if kill % JUDGED_EVERY == 0 && kill != kills {
            drop(traffic);
            fleet.stage.start_operator();
            fleet.judge(kill).await;
            fleet.stage.end_operator("KILL");
            traffic = fleet.traffic();
        }
    }
    drop(traffic);
    fleet.stage.start_operator();
    fleet.judge(kills).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_every_point_of_a_rotation_loses_no_code_and_costs_no_reset() {
    let kills = size("CHAOS_POINTS", FIRST.len());
    let mut fleet = Fleet::gather("kills at points").await;
    let mut replica = fleet.replica("killed").await;
    replica.start(&fleet);
    let traffic = fleet.traffic_but(2 * TARGETS);
    let all = strikes(fleet.given);
    println!("chaos, kills at points: {kills} of {}", all.len());
    for (kill, strike) in all.into_iter().cycle().take(kills).enumerate() {
        println!("chaos, kill {}: {strike:?}", kill + 1);
        fleet.kill_at(strike, &mut replica).await;
    }
    drop(traffic);
    fleet.judge(kills).await;
}

/// Two that both lead, as two that a Lease has not kept apart: only the `resourceVersion` of each write does, as it must.
#[tokio::test(flavor = "multi_thread")]
async fn two_operators_that_are_stopped_in_turns_lose_no_code_and_cost_no_reset() {
    let hand_overs = size("CHAOS_HAND_OVERS", 6);
    let mut fleet = Fleet::gather("hand-overs").await;
    let mut two = [fleet.replica("one").await, fleet.replica("two").await];
    for replica in &mut two {
        replica.start(&fleet);
    }
    let traffic = fleet.traffic_but(2 * TARGETS);
    // Every second one is at a point of a rotation. The first is the worst: one has a code in memory that the other one
    // finds too.
    let mut points = strikes(fleet.given).into_iter().cycle();
    for hand_over in 0..hand_overs {
        let chosen = fleet.random.random_range(0..2);
        let (first, other) = (&two[chosen], &two[1 - chosen]);
        fleet.pause(Duration::from_secs(2)).await;
        if hand_over % 2 == 0 {
            first.signal("STOP");
            tokio::time::sleep(SETTLE_WINDOW).await;
            fleet.pause(SETTLE_WINDOW).await;
            first.signal("CONT");
        } else {
            fleet.hand_over_at(points.next().unwrap(), first, other).await;
        }
    }
    drop(traffic);
    fleet.judge(0).await;
}

/// What ends the lead of one of two operators.
#[derive(Clone, Copy, Debug)]
enum End {
    /// It is asked to stop, and hands over.
    Term,
    /// It is gone without a word.
    Kill,
    /// It stands still until after its Lease has run out, and goes on as if nothing had been.
    Stop,
    /// Its renewals are not answered.
    Blocked,
}

/// In turns. The one that goes on as if nothing had been is the worst.
const ENDS: [End; 6] = [End::Stop, End::Term, End::Stop, End::Blocked, End::Stop, End::Kill];

/// Names of two pods that share a Lease.
const PODS: [&str; 2] = ["one", "two"];

/// One of them.
struct Pod {
    name: &'static str,
    wire: Wire,
    kubeconfig: PathBuf,
    operator: Option<Operator>,
}

impl Pod {
    async fn start(fleet: &Fleet, name: &'static str) -> Self {
        let server = fleet.stage.plane.url().trim_start_matches("https://").parse().unwrap();
        let wire = Wire::to(server).await.unwrap();
        let kubeconfig = fleet.stage.kubeconfig_by(name, &wire.address().to_string());
        let operator = Some(fleet.stage.run_pod(name, &kubeconfig));
        Self {
            name,
            wire,
            kubeconfig,
            operator,
        }
    }

    fn signal(&self, signal: &str) {
        self.operator.as_ref().unwrap().signal(signal);
    }
}

async fn leases(fleet: &Fleet) -> Api<Lease> {
    let client = Stage::client(fleet.stage.plane.admin_kubeconfig()).await;
    Api::namespaced(client, NAMESPACE)
}

/// Who of the two holds the Lease, once it is not `other`.
async fn holder(leases: &Api<Lease>, other: Option<&str>) -> &'static str {
    for _ in 0..1_200 {
        let lease = leases.get_opt("appcode-operator").await.expect("the Lease can be read");
        let holder = lease.and_then(|lease| lease.spec?.holder_identity).unwrap_or_default();
        let name = PODS.into_iter().find(|name| holder.starts_with(name));
        if let Some(name) = name.filter(|name| Some(*name) != other) {
            return name;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("nobody else takes the Lease");
}

/// Each time the one that leads is struck, and comes back only once the other one leads.
#[tokio::test(flavor = "multi_thread")]
async fn two_operators_that_hand_a_lease_over_in_every_way_lose_no_code_and_cost_no_reset() {
    let hand_overs = size("CHAOS_LEASES", ENDS.len());
    let mut fleet = Fleet::gather_with("leases", &[LEASE]).await;
    let leases = leases(&fleet).await;
    let mut pods = [Pod::start(&fleet, PODS[0]).await, Pod::start(&fleet, PODS[1]).await];
    let traffic = fleet.traffic();
    for end in ENDS.into_iter().cycle().take(hand_overs) {
        fleet.pause(Duration::from_secs(3)).await;
        let leader = holder(&leases, None).await;
        let pod = pods.iter_mut().find(|pod| pod.name == leader).unwrap();
        match end {
            End::Term => pod.signal("TERM"),
            End::Kill => pod.signal("KILL"),
            End::Stop => pod.signal("STOP"),
            End::Blocked => pod.wire.set(Mode::Freeze),
        }
        let next = holder(&leases, Some(leader)).await;
        println!("chaos, leases: {end:?} hands over from {leader} to {next}");
        match end {
            End::Term | End::Kill => {
                pod.operator.take().unwrap().wait();
                pod.operator = Some(fleet.stage.run_pod(pod.name, &pod.kubeconfig));
            }
            End::Stop => pod.signal("CONT"),
            End::Blocked => pod.wire.set(Mode::Pass),
        }
    }
    drop(traffic);
    fleet.judge(0).await;
}

/// Everything is away once, each time until all is at rest again. Operators reach the API server by `wires`.
async fn play_outages(fleet: &mut Fleet, wires: &[&Wire]) {
    let outage = Duration::from_secs(size("CHAOS_OUTAGE_SECONDS", 6).try_into().unwrap());
    for round in 1..=size("CHAOS_OUTAGES", 1) {
        println!("chaos, outages: round {round}");
        fleet.without_store_past_and_server(wires, outage).await;
        fleet.without_room(outage).await;
        for mode in [Mode::BlackHole, Mode::Freeze] {
            fleet.without_network(wires, mode, outage).await;
        }
        fleet.without_cloud(outage).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_of_the_server_its_store_the_network_and_the_cloud_lose_no_code_and_cost_no_reset() {
    let mut fleet = Fleet::gather("outages").await;
    let server = fleet.stage.plane.url().trim_start_matches("https://").parse().unwrap();
    let wire = Wire::to(server).await.unwrap();
    let kubeconfig = fleet.kubeconfig_by("wired", &format!("https://{}", wire.address()));
    let _operator = fleet.stage.run_operator(&kubeconfig);
    play_outages(&mut fleet, &[&wire]).await;
}

/// Whoever leads cannot renew its Lease while the server is away: a code that is only in memory then has to be saved by one
/// that leads no more, or found again by the next.
#[tokio::test(flavor = "multi_thread")]
async fn outages_that_cost_two_operators_their_lease_lose_no_code_and_cost_no_reset() {
    let mut fleet = Fleet::gather_with("outages with a Lease", &[LEASE]).await;
    let leases = leases(&fleet).await;
    let pods = [Pod::start(&fleet, PODS[0]).await, Pod::start(&fleet, PODS[1]).await];
    holder(&leases, None).await;
    let taken_over = async || {
        let lease = leases.get("appcode-operator").await.unwrap();
        lease.spec.and_then(|spec| spec.lease_transitions).unwrap_or_default()
    };
    let before = taken_over().await;
    play_outages(&mut fleet, &[&pods[0].wire, &pods[1].wire]).await;
    assert!(taken_over().await > before, "nobody has lost the Lease");
}
