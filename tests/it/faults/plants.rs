//! That single faults show mistakes: an operator with a planted bug fails where the real one does not.
//!
//! The bugs are those of the random stories. Each is met here by one of the tables of this module at one scenario. `lasting`
//! has one that shows only in hours. What one fault cannot show is left to the stories: a masked list that is trusted does no
//! harm as long as the next one is not masked, and a Secret that is written without `resourceVersion` needs two rotations from
//! two bases.

use cloud_simulator::{FaultKind, Operation};

use super::case::{Case, Change, learn_with};
use super::expected::Expected;
use super::scenario::{Scenario, Transport};
use super::{Strikes, Struck, acts, cloud, cluster, people, replicas};
use crate::explore::bugs::{Plant, all};
use crate::support::script::{Call, Strike};

type Table = fn(&Struck<'_>) -> Strikes;

/// What the cloud may do to a change.
fn of_changes(struck: &Struck<'_>) -> Strikes {
    if is_change(struck.call()) {
        cloud::strikes(struck.call())
    } else {
        Vec::new()
    }
}

/// An effect that comes after the cloud has said that it failed, or said nothing.
fn of_late_effects(struck: &Struck<'_>) -> Strikes {
    let mut strikes = of_changes(struck);
    strikes
        .retain(|(strike, _)| matches!(strike, Strike::Cloud(fault) if matches!(fault.kind, FaultKind::Late { .. })));
    strikes
}

fn is_change(call: &Call) -> bool {
    matches!(call, Call::Cloud(Operation::Reset | Operation::Add))
}

fn of_tries(struck: &Struck<'_>) -> Strikes {
    cloud::tries(struck.call())
}

/// The bug, the scenario, and the table that meets it.
const PLANTS: &[(&str, Scenario, Table)] = &[
    (
        "a PUT without an answer is sent once more",
        Scenario::Trigger,
        of_changes,
    ),
    ("the intent is not written", Scenario::Trigger, cluster::ends),
    ("the Secret is created with a code", Scenario::Adopt, cluster::ends),
    (
        "the status is written before the Secret",
        Scenario::Trigger,
        cluster::ends,
    ),
    ("the settle window is forgotten", Scenario::Add, of_changes),
    ("a mark is acted on however late", Scenario::Add, replicas::takeovers),
    ("a restart rotates", Scenario::Trigger, cluster::ends),
    (
        "an intent of another app is trusted",
        Scenario::Trigger,
        people::strikes,
    ),
    (
        "an intent of another endpoint is trusted",
        Scenario::Trigger,
        people::strikes,
    ),
    (
        "a recorded code that is not listed is trusted",
        Scenario::Trigger,
        people::strikes,
    ),
    (
        "the code before is retired before its grace period is over",
        Scenario::Grace,
        cluster::ends,
    ),
    (
        "the code before is retired before workloads have rolled out",
        Scenario::Handover,
        cluster::ends,
    ),
    (
        "the code before is retired though the new one was not seen to work",
        Scenario::Handover,
        of_tries,
    ),
    (
        "the newest code is deleted in the place of the one before",
        Scenario::AtOnce,
        cluster::ends,
    ),
    ("the finalizer is left behind", Scenario::AtOnce, cluster::ends),
    ("a code is deleted without a mark", Scenario::AtOnce, cluster::ends),
    (
        "a POST without an answer is taken for not applied",
        Scenario::AtOnce,
        of_late_effects,
    ),
    ("codes are stacked", Scenario::Grace, acts::of_triggers),
    (
        "workloads are restarted again after a crash",
        Scenario::RollOut,
        cluster::ends,
    ),
];

/// The cases of a table, one after the other.
fn cases(scenario: Scenario, table: Table, change: Change<'_>) -> Vec<Case> {
    let calls = learn_with(scenario, Vec::new(), &[], Some(change));
    let mut cases = Vec::new();
    for at in 0..calls.len() {
        let struck = Struck {
            scenario,
            calls: &calls,
            at,
            is_first: true,
        };
        cases.extend(table(&struck).into_iter().map(|(strike, toll)| Case {
            name: format!("{scenario:?}: {strike:?} at call {at}, {}", calls[at]),
            scenario,
            transport: Transport::Direct,
            strikes: vec![(at, strike)],
            expected: Expected::of(scenario, [&toll]),
        }));
    }
    cases
}

/// The first case in which an operator with this bug fails and one without it does not.
fn shown(plant: &Plant, scenario: Scenario, table: Table) -> Option<String> {
    let nothing: Change<'_> = &|_, _| ();
    let planted: Change<'_> = &|stage, make| plant.set(stage, make);
    let cases = cases(scenario, table, nothing);
    let failed = cases
        .iter()
        .find_map(|case| Some((case, case.run_with(Some(planted)).err()?)));
    let (case, why) = failed?;
    assert_eq!(case.run_with(Some(nothing)), Ok(()));
    Some(why)
}

#[test]
fn single_faults_show_planted_bugs() {
    let bugs = all();
    let mut unseen = Vec::new();
    for (name, scenario, table) in PLANTS {
        let plant = bugs.iter().find(|plant| plant.name == *name).unwrap();
        match shown(plant, *scenario, *table) {
            Some(why) => println!("{name}: {}", why.lines().take(2).collect::<Vec<_>>().join("; ")),
            None => unseen.push(*name),
        }
    }
    assert!(unseen.is_empty(), "no single fault shows {unseen:#?}");
}
