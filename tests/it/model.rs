//! Every interleaving of one or two replicas with crashes, lost answers, late effects and other people, on a small model.
//!
//! The decisions are the real ones: [`plan`], the record on the Secret, [`fold`]. The world around them is a model of the
//! API server and the cloud, and each effect is carried out as `controller::act` does it. Every reachable state within
//! the budget of faults is visited once; what must hold is asked in each, and from each state that the last fault of a
//! trace has led to, the run must come to rest.

mod world;

use std::collections::HashSet;

use self::world::{Bug, Scenario, World};

/// What may strike in one trace.
#[derive(Clone, Copy, Debug)]
struct Budget {
    replicas: usize,
    faults: u8,
    acts: u8,
    /// How often time passes.
    ticks: u8,
}

/// Visits every state. Returns how many there are, or the trace to one in which something that must hold does not.
fn explore(scenario: Scenario, budget: Budget, bug: Option<Bug>) -> Result<usize, String> {
    let start = World::start(scenario, budget, bug);
    let mut seen = HashSet::from([start.key()]);
    let mut at_rest = HashSet::new();
    let mut open = vec![start];
    while let Some(world) = open.pop() {
        for next in world.successors() {
            if !seen.insert(next.key()) {
                continue;
            }
            // The last fault has struck: from here on there is peace.
            let is_struck = next.faults_left() == 0 && world.faults_left() > 0;
            let wrong = next
                .wrong()
                .or_else(|| is_struck.then(|| next.rest(&mut at_rest)).and_then(Result::err));
            if let Some(wrong) = wrong {
                return Err(format!("{scenario:?}: {wrong}\n  {}", next.trace()));
            }
            if !next.is_unfair() {
                open.push(next);
            }
        }
    }
    Ok(seen.len())
}

/// Two codes side by side have so many more states between two replicas that those are left to `MODEL=all`.
fn for_two() -> &'static [Scenario] {
    let is_all = std::env::var("MODEL").is_ok_and(|which| which == "all");
    if is_all { &ALL } else { &ALL[..2] }
}

const ALL: [Scenario; 3] = [Scenario::Reset, Scenario::Add, Scenario::Beside];

fn all_is_well(scenarios: &[Scenario], budget: Budget) {
    for scenario in scenarios.iter().copied() {
        let states = explore(scenario, budget, None).unwrap_or_else(|trace| panic!("{trace}"));
        println!("{scenario:?}: {states} states under {budget:?}");
        assert!(states > 100);
    }
}

#[test]
fn one_replica_loses_nothing_under_a_fault_and_an_act_of_others() {
    all_is_well(
        &ALL,
        Budget {
            replicas: 1,
            faults: 1,
            acts: 1,
            ticks: 2,
        },
    );
}

#[test]
fn one_replica_loses_nothing_under_two_faults() {
    all_is_well(
        &ALL,
        Budget {
            replicas: 1,
            faults: 2,
            acts: 0,
            ticks: 2,
        },
    );
}

#[test]
fn two_replicas_lose_nothing_under_one_fault() {
    all_is_well(
        for_two(),
        Budget {
            replicas: 2,
            faults: 1,
            acts: 0,
            ticks: 1,
        },
    );
}

#[test]
fn two_replicas_lose_nothing_under_an_act_of_others() {
    all_is_well(
        for_two(),
        Budget {
            replicas: 2,
            faults: 0,
            acts: 1,
            ticks: 1,
        },
    );
}

#[test]
fn two_replicas_put_one_code_beside_another_and_retire_that_one() {
    all_is_well(
        &[Scenario::Beside],
        Budget {
            replicas: 2,
            faults: 0,
            acts: 0,
            ticks: 1,
        },
    );
}

#[test]
fn each_planted_bug_is_found() {
    let budget = Budget {
        replicas: 2,
        faults: 1,
        acts: 0,
        ticks: 1,
    };
    for bug in [Bug::NoFence, Bug::LostIsNotApplied, Bug::NoSettling, Bug::NoIntent] {
        let found = [Scenario::Reset, Scenario::Add].map(|scenario| explore(scenario, budget, Some(bug)));
        assert!(found.iter().any(Result::is_err), "{bug:?} was not found");
    }
    let act = Budget {
        replicas: 1,
        acts: 1,
        ..budget
    };
    for bug in [Bug::NoGrace, Bug::Stacked] {
        let found = explore(Scenario::Beside, act, Some(bug));
        assert!(found.is_err(), "{bug:?} was not found");
    }
}
