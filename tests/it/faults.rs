//! Every single fault at every call of a pass, before and after its effect; then the run to rest; then the judge.
//! `make test` tries all of them in typical passes and a share in those that resemble them; `EXPLORE_SINGLES=all` tries all.
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
use crate::support::api_server::SECRETS;
use crate::support::script::{Act, Call, Moment, Strike, Verb};

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

/// Scenarios whose passes are made up of what those of others are made of are struck one time in so many by `make test`.
const ONE_IN: usize = 4;

/// Whether a strike of a call is tried. Those of a scenario that others resemble are spread so that each call is struck, and
/// each strike is met, in turn. So are those over HTTP, which the judge tells nothing new but how answers are read.
fn is_tried(struck: &Struck<'_>, transport: Transport, number: usize) -> bool {
    let Struck { scenario, at, .. } = *struck;
    let is_due = (scenario as usize + at + number).is_multiple_of(ONE_IN);
    // No typical pass makes a Secret.
    let is_create = matches!(struck.call(), Call::Api { verb: Verb::Create, resource, .. } if *resource == SECRETS);
    let is_every = || std::env::var("EXPLORE_SINGLES").is_ok_and(|which| which == "all");
    let is_typical = scenario.is_typical() && transport != Transport::Http;
    is_typical || is_create || is_due || is_every()
}

/// Runs `strikes` of the calls of the scenarios, each with what must come of it, and reports every one that fails.
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
            for (number, (strike, toll)) in strikes(&struck).into_iter().enumerate() {
                if !is_tried(&struck, transport, number) {
                    continue;
                }
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
