//! Every single fault at every call of a pass, before and after its effect; then the run to rest; then the judge.
//!
//! A pass is run once without faults to learn its calls. Then it is run again for each call and each thing that can
//! strike it. What must hold is read from the cloud's ledger and the Secrets; our own status is asked only whether it
//! tells the truth. Beyond single faults, `pairs` strikes a run twice and `lasting` strikes every call of a kind for hours.

mod acts;
mod case;
mod cloud;
mod cluster;
mod lasting;
mod pairs;

use self::case::{Case, Scenario, Transport, learn};
use crate::support::script::{Call, Strike};

/// Runs `strikes` of every call of every scenario, each with what must come of it, and reports every one that fails.
fn explore(
    scenarios: &[Scenario],
    transport: Transport,
    strikes: impl Fn(Scenario, &Call) -> Vec<(Strike, case::Expected)>,
) {
    let mut cases = Vec::new();
    for scenario in scenarios {
        let calls = learn(*scenario, Vec::new());
        for (at, call) in calls.iter().enumerate().skip(scenario.news(&calls)) {
            for (strike, expected) in strikes(*scenario, call) {
                let name = format!("{scenario:?}: {strike:?} at call {at}, {call}");
                cases.push(Case {
                    name,
                    scenario: *scenario,
                    transport,
                    strikes: vec![(at, strike)],
                    expected,
                });
            }
        }
    }
    judge(&cases);
}

fn judge(cases: &[Case]) {
    assert!(!cases.is_empty());
    let mut failed = Vec::new();
    for case in cases {
        if let Err(why) = case.run() {
            println!("failed: {}", why.lines().take(4).collect::<Vec<_>>().join("\n"));
            failed.push(why);
        }
    }
    println!("{} cases, {} failed", cases.len(), failed.len());
    assert!(
        failed.is_empty(),
        "{} of {} failed:\n\n{}",
        failed.len(),
        cases.len(),
        failed.join("\n\n")
    );
}
