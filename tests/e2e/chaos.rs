//! Programs are killed, stopped and cut off at bad moments, while every resource is rotated all the time.
//!
//! The judge is the cloud's ledger and the Secrets, never the operator: once it is left alone, every request was
//! answered by exactly one reset, every live code is in its Secret, and no Secret ever went back to an older code.
//!
//! The sizes are short by default; `make e2e-chaos` sets longer ones. `CHAOS_SEED` repeats the choice of moments, but
//! not to the byte what real programs do at them.

mod fleet;
mod gate;
mod history;
mod outages;
mod points;
mod traffic;
mod wire;

use std::time::Duration;

use cloud_simulator::{Fault, Operation};
use rand::RngExt;

use self::fleet::{Fleet, SETTLE_WINDOW};
use self::gate::Gate;
use self::points::POINTS;
use self::wire::{Mode, Wire};

/// A size by its variable.
fn size(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |size| size.parse().expect("a size is a number"))
}

fn count(variable: &str, default: u32) -> usize {
    size(variable, default).try_into().unwrap()
}

/// How often a long run is judged on its way.
const JUDGED_EVERY: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_lose_no_code_and_cost_no_reset() {
    let kills = count("CHAOS_KILLS", 12);
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
    let rounds = count("CHAOS_ROUNDS", 1);
    let mut fleet = Fleet::gather("kills at points").await;
    let gate = Gate::to(fleet.stage.plane.url(), &fleet.authority()).await.unwrap();
    let kubeconfig = fleet.kubeconfig_by(&format!("http://{}", gate.address()));
    // Some resources are left to be killed at, the others are busy all the time.
    let (targets, busy) = fleet.members.split_at(4);
    let targets = targets.to_vec();
    let traffic = fleet
        .asker
        .keep_asking(busy.iter().map(|member| member.name.clone()).collect());
    let kills = rounds * POINTS.len();
    for kill in 0..kills {
        let point = POINTS[kill % POINTS.len()];
        let target = &targets[kill % targets.len()];
        fleet.kill_at(point, target, &gate, &kubeconfig).await;
    }
    drop(traffic);
    fleet.stage.start_operator();
    fleet.judge(kills).await;
}

/// There is no lease yet, so two operators at once are two that both may act: only the `resourceVersion` of each write
/// keeps them apart, as it must.
#[tokio::test(flavor = "multi_thread")]
async fn two_operators_that_are_stopped_in_turns_lose_no_code_and_cost_no_reset() {
    let hand_overs = count("CHAOS_HAND_OVERS", 4);
    let mut fleet = Fleet::gather("hand-overs").await;
    let kubeconfig = fleet.stage.operator_kubeconfig().to_owned();
    let two = [(); 2].map(|()| fleet.stage.run_operator(&kubeconfig));
    let traffic = fleet.traffic();
    for hand_over in 0..hand_overs {
        fleet.pause(Duration::from_secs(2)).await;
        // Every second time one of the two waits for the answer of a reset that is done.
        let held = (hand_over % 2 == 1).then(|| fleet.stage.cloud.inject(Fault::hold().at(Operation::Reset).once()));
        if let Some(fault) = held {
            fleet.until_struck(fault).await;
        }
        let stopped = &two[fleet.random.random_range(0..2)];
        stopped.signal("STOP");
        tokio::time::sleep(SETTLE_WINDOW).await;
        fleet.pause(SETTLE_WINDOW).await;
        if let Some(fault) = held {
            fleet.stage.cloud.release(fault);
        }
        stopped.signal("CONT");
    }
    drop(traffic);
    fleet.judge(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outages_of_the_server_its_store_the_network_and_the_cloud_lose_no_code_and_cost_no_reset() {
    let outage = Duration::from_secs(size("CHAOS_OUTAGE_SECONDS", 6).into());
    let mut fleet = Fleet::gather("outages").await;
    let server = fleet.stage.plane.url().trim_start_matches("https://").parse().unwrap();
    let wire = Wire::to(server).await.unwrap();
    let kubeconfig = fleet.kubeconfig_by(&format!("https://{}", wire.address()));
    let _operator = fleet.stage.run_operator(&kubeconfig);
    for round in 1..=count("CHAOS_OUTAGES", 1) {
        println!("chaos, outages: round {round}");
        fleet.without_store_past_and_server(&wire, outage).await;
        for mode in [Mode::BlackHole, Mode::Freeze] {
            fleet.with_wire(&wire, mode, outage).await;
        }
        fleet.without_cloud(outage).await;
    }
}
