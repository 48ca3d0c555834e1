//! What comes late: a list that lags behind all the time, and an effect that nobody waits for any more.

use std::time::Duration;

use cloud_simulator::{Fault, Half, Lag, LostAnswer, Operation};

use super::case::{Case, learn};
use super::expected::{Expected, NEXT_CHECK, SLOW, Toll};
use super::judge;
use super::scenario::{Scenario, Transport};
use crate::support::script::{ApiFault, Call, Moment, Strike};

const SCENARIOS: [Scenario; 4] = [Scenario::Trigger, Scenario::First, Scenario::Add, Scenario::AtOnce];

fn is_change(call: &Call) -> bool {
    matches!(call, Call::Cloud(Operation::Reset | Operation::Add))
}

/// Whether the change of a scenario is one that is made twice if it is repeated.
fn adds(scenario: Scenario) -> bool {
    matches!(scenario, Scenario::Add | Scenario::AtOnce)
}

/// What leaves the outcome of the change open, and how many changes more there are in the end.
fn openings(scenario: Scenario, calls: &[Call]) -> Vec<(usize, Strike, isize)> {
    let change = calls.iter().position(is_change).unwrap();
    let Call::Cloud(operation) = calls[change] else {
        unreachable!()
    };
    let cloud = |fault: Fault| Strike::Cloud(fault.at(operation).once());
    let late = Fault::late(Some(Duration::from_secs(60)), LostAnswer::Cut);
    let mut openings = vec![
        (change, Strike::Crash(Moment::Before), 0),
        (change, Strike::Crash(Moment::After), 0),
        (change, cloud(Fault::cut_before()), 0),
        (change, cloud(Fault::cut_after()), 0),
        (change, cloud(late), 0),
        (change + 1, Strike::Crash(Moment::Before), 0),
        (change + 1, Strike::Api(Moment::Before, ApiFault::Status(409)), 0),
        (change + 1, Strike::Api(Moment::After, ApiFault::Cut), 0),
        (change + 1, Strike::Crash(Moment::After), 0),
    ];
    if !adds(scenario) {
        openings.push((change, cloud(Fault::half_reset(Half::NoneMade)), 1));
        openings.push((change, cloud(Fault::half_reset(Half::BothPresent)), 1));
    }
    openings
}

/// A list that lags behind for less than the settle window never brings a second change about, not even one that is late.
#[test]
fn reads_that_lag_all_the_time_cost_no_code_and_no_change() {
    let mut cases = Vec::new();
    for scenario in SCENARIOS {
        let calls = learn(scenario);
        let is_show = |call: &Call| *call == Call::Cloud(Operation::Show);
        let show = calls.iter().position(is_show).unwrap();
        for (at, first, changes) in openings(scenario, &calls) {
            for millis in [1_000, 60_000, 110_000] {
                // Ordered at the very first reading, so that all that follow lag.
                let lag = Strike::Cloud(Fault::stale(Lag::Millis(millis)));
                // While a code is held that no reading shows yet, a reading is made at ever longer pauses from two seconds.
                let toll = Toll::default().changes(changes..=changes).minutes(SLOW).looks(6);
                cases.push(Case {
                    name: format!("{scenario:?}: reads lag by {millis} ms, and {first:?} at call {at}"),
                    scenario,
                    transport: Transport::Direct,
                    strikes: vec![(show, lag), (at, first.clone())],
                    expected: Expected::of(scenario, [&toll]),
                });
            }
        }
    }
    judge(&cases);
}

/// An effect later than anything that is waited for: a reset names its base, so that only one of two has an effect. An
/// addition, for which two windows are waited, is made twice, and nothing tells which is ours.
#[test]
fn an_effect_later_than_the_settle_window_costs_a_change_only_where_it_cannot_be_told_from_another() {
    let mut cases = Vec::new();
    let scenarios = [
        Scenario::Trigger,
        Scenario::Scheduled,
        Scenario::First,
        Scenario::Add,
        Scenario::AtOnce,
    ];
    for scenario in scenarios {
        let calls = learn(scenario);
        let at = calls.iter().position(is_change).unwrap();
        let Call::Cloud(operation) = calls[at] else {
            unreachable!()
        };
        for minutes in [3, 5, 30] {
            let toll = if adds(scenario) && minutes > 4 {
                Toll::default()
                    .changes(1..=1)
                    .stops("AmbiguousOutcome")
                    .may_leave()
                    .late(NEXT_CHECK)
            } else {
                Toll::default()
            };
            let late = Fault::late(Some(Duration::from_secs(60 * minutes)), LostAnswer::Cut);
            cases.push(Case {
                name: format!("{scenario:?}: the change takes effect after {minutes} minutes"),
                scenario,
                transport: Transport::Direct,
                strikes: vec![(at, Strike::Cloud(late.at(operation).once()))],
                expected: Expected::of(scenario, [&toll]),
            });
        }
    }
    judge(&cases);
}
