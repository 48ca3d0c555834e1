//! Every single fault at every call of a pass, before and after its effect; then the run to rest; then the judge.
//!
//! A pass is run once without faults to learn its calls. Then it is run again for each call and each thing that can
//! strike it. What must hold is read from the cloud's ledger and the Secrets; our own status is asked only whether it
//! tells the truth. Beyond single faults, `pairs` strikes a run twice and `lasting` strikes every call of a kind for hours.

mod acts;
mod case;
mod cloud;
mod cluster;
mod expected;
mod lasting;
mod late;
mod pairs;
mod replicas;
mod scenario;
mod sign_in;

use self::case::{Case, learn};
use self::expected::{Expected, Toll};
use self::scenario::{Scenario, Transport};
use crate::support::script::{Act, Call, Moment, Strike};

/// What can strike a call, each with what that may cost.
type Strikes = Vec<(Strike, Toll)>;

/// The call that is struck, in its run.
struct Struck<'a> {
    scenario: Scenario,
    calls: &'a [Call],
    at: usize,
}

impl Struck<'_> {
    fn call(&self) -> &Call {
        &self.calls[self.at]
    }

    /// When something strikes that does not depend on what the process does between two calls: after one of them and before
    /// the next are the same.
    fn gap(&self) -> &'static [Moment] {
        if self.at + 1 < self.calls.len() {
            &[Moment::Before]
        } else {
            &[Moment::Before, Moment::After]
        }
    }

    /// All that can strike it, each with what that may cost.
    fn all(&self) -> Strikes {
        let of_call: [fn(&Call) -> Strikes; 2] = [cloud::strikes, cloud::tries];
        let of_run: [fn(&Struck<'_>) -> Strikes; 14] = [
            cluster::strikes,
            cluster::ends,
            cluster::stale,
            cluster::rights,
            cluster::watches,
            replicas::takeovers,
            acts::of_secrets,
            acts::of_labels,
            acts::of_triggers,
            acts::of_deletion,
            acts::of_remaking,
            acts::of_clocks,
            acts::of_grace,
            acts::of_workloads,
        ];
        let of_call = of_call.into_iter().flat_map(|list| list(self.call()));
        of_call.chain(of_run.into_iter().flat_map(|list| list(self))).collect()
    }
}

/// What somebody else does at this call.
fn gaps(struck: &Struck<'_>, act: &Act, toll: &Toll) -> Strikes {
    let strike = |moment: &Moment| (Strike::Act(*moment, act.clone()), toll.clone());
    struck.gap().iter().map(strike).collect()
}

/// Runs `strikes` of every call of every scenario, each with what must come of it, and reports every one that fails.
fn explore(scenarios: &[Scenario], transport: Transport, strikes: impl Fn(&Struck<'_>) -> Strikes) {
    let mut cases = Vec::new();
    for scenario in scenarios.iter().copied() {
        let calls = learn(scenario, Vec::new());
        for at in scenario.news(&calls)..calls.len() {
            let struck = Struck {
                scenario,
                calls: &calls,
                at,
            };
            for (strike, toll) in strikes(&struck) {
                let name = format!("{scenario:?}: {strike:?} at call {at}, {}", struck.call());
                cases.push(Case {
                    name,
                    scenario,
                    transport,
                    strikes: vec![(at, strike)],
                    expected: Expected::of(scenario, [&toll]),
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
