//! Every single fault at every call of a pass, before and after its effect; then the run to rest; then the judge.
//! `make test` tries all of them in typical passes and a share in those that resemble them; `EXPLORE_SINGLES=all` tries all,
//! and `EXPLORE_SCENARIO=Trigger` those of one scenario.
//!
//! A pass is run once without faults to learn its calls. Then it is run again for each call and each thing that can
//! strike it. What must hold is read from the cloud's ledger and the Secrets; our own status is asked only whether it
//! tells the truth. Beyond single faults, `pairs` strikes a run twice and `lasting` strikes every call of a kind for hours.

mod acts;
mod alike;
mod case;
mod cloud;
mod cluster;
mod expected;
mod lasting;
mod late;
mod pairs;
mod people;
mod plants;
mod replicas;
mod scenario;
mod sign_in;

use cloud_simulator::Operation;

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
    /// Whether nothing strikes the run before.
    is_first: bool,
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

    /// Whether what is done before this call comes between the write of an intent and that of its code, so that the Secret
    /// alone tells of the rotation.
    fn is_under_way(&self) -> bool {
        self.changes().any(|change| {
            let intent = self.calls[..change].iter().rposition(is_write_of_secret);
            (intent.map_or(0, |intent| intent + 1)..=self.end_of(change)).contains(&self.at)
        })
    }

    /// Whether it comes between the reading of the app that an intent tells of and the write of the code.
    fn is_unseen(&self) -> bool {
        self.changes().any(|change| {
            let is_look = |call: &Call| *call == Call::Cloud(Operation::Show);
            let look = self.calls[..change].iter().rposition(is_look);
            (look.map_or(0, |look| look + 1)..=self.end_of(change)).contains(&self.at)
        })
    }

    fn changes(&self) -> impl Iterator<Item = usize> {
        let is_change = |at: &usize| matches!(self.calls[*at], Call::Cloud(Operation::Reset | Operation::Add));
        (0..self.calls.len()).filter(is_change)
    }

    /// The call that writes the code which a change has made. After another strike the first write may have failed, so that
    /// it may be any later one. What is done with a code at once delays the status that tells of it.
    fn end_of(&self, change: usize) -> usize {
        let later = &self.calls[change..];
        let mut writes = (0..later.len()).filter(|at| is_write_of_secret(&later[*at]));
        let code = if self.is_first && self.scenario != Scenario::RollOut {
            writes.next()
        } else {
            writes.next_back()
        };
        code.map_or(self.calls.len(), |code| change + code)
    }

    /// All that is paired, each with what that may cost.
    fn all(&self) -> Strikes {
        let of_call: [fn(&Call) -> Strikes; 3] = [cloud::strikes, cloud::unsent, cloud::tries];
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

fn is_write_of_secret(call: &Call) -> bool {
    matches!(call, Call::Api { verb: Verb::Create | Verb::Patch, resource, .. } if *resource == SECRETS)
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
    let is_due = is_due(struck, number, ONE_IN);
    // No typical pass makes a Secret.
    let is_create = matches!(struck.call(), Call::Api { verb: Verb::Create, resource, .. } if *resource == SECRETS);
    let is_typical = struck.scenario.is_typical() && transport != Transport::Http;
    is_typical || is_create || is_due || is_every()
}

fn is_due(struck: &Struck<'_>, number: usize, one_in: usize) -> bool {
    (struck.scenario as usize + struck.at + number).is_multiple_of(one_in)
}

fn is_every() -> bool {
    std::env::var("EXPLORE_SINGLES").is_ok_and(|which| which == "all")
}

/// Runs `strikes` of the calls of the scenarios, each with what must come of it, and reports every one that fails.
fn explore(scenarios: &[Scenario], transport: Transport, strikes: impl Fn(&Struck<'_>) -> Strikes) {
    judge(&cases(scenarios, transport, strikes, &|struck, number| {
        is_tried(struck, transport, number)
    }));
}

/// The same of a table that tells something new at few calls of each scenario: `make test` tries one in so many of it.
fn explore_thinly(scenarios: &[Scenario], one_in: usize, strikes: impl Fn(&Struck<'_>) -> Strikes) {
    let is_tried = |struck: &Struck<'_>, number| is_due(struck, number, one_in) || is_every();
    judge(&cases(scenarios, Transport::Direct, strikes, &is_tried));
}

/// A case for each strike that is to be tried.
fn cases(
    scenarios: &[Scenario],
    transport: Transport,
    strikes: impl Fn(&Struck<'_>) -> Strikes,
    is_tried: &dyn Fn(&Struck<'_>, usize) -> bool,
) -> Vec<Case> {
    let only = std::env::var("EXPLORE_SCENARIO").ok();
    let is_wanted = |scenario: &Scenario| only.as_ref().is_none_or(|only| *only == format!("{scenario:?}"));
    let mut cases = Vec::new();
    for scenario in scenarios.iter().copied().filter(is_wanted) {
        let calls = learn(scenario);
        for at in scenario.news(&calls)..calls.len() {
            let struck = Struck {
                scenario,
                calls: &calls,
                at,
                is_first: true,
            };
            for (number, (strike, toll)) in strikes(&struck).into_iter().enumerate() {
                if !is_tried(&struck, number) {
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
    cases
}

fn judge(cases: &[Case]) {
    let is_part = std::env::var_os("EXPLORE_SCENARIO").is_some();
    assert!(is_part || !cases.is_empty());
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
