//! What the API server can do to a pass, and a process that ends in it.

use super::case::{Expected, Scenario, Transport};
use super::explore;
use crate::support::script::{ApiFault, Call, Moment, Strike};

fn is_write(call: &Call) -> bool {
    matches!(call, Call::Api { verb, .. } if verb.is_write())
}

fn api_strikes(scenario: Scenario, call: &Call) -> Vec<(Strike, Expected)> {
    if !matches!(call, Call::Api { .. }) {
        return Vec::new();
    }
    // Those that are treated alike strike the other scenarios.
    let is_beyond = scenario.is_beside() || scenario.is_distributed();
    let statuses: &[u16] = if is_beyond {
        &[500, 409, 403, 422]
    } else {
        &[500, 503, 504, 429, 409, 403, 422]
    };
    let mut faults: Vec<ApiFault> = statuses.iter().copied().map(ApiFault::Status).collect();
    faults.extend([ApiFault::Cut, ApiFault::Hang]);
    let mut strikes = Vec::new();
    for fault in faults {
        strikes.push((Strike::Api(Moment::Before, fault), Expected::of(scenario)));
        if is_write(call) {
            strikes.push((Strike::Api(Moment::After, fault), Expected::of(scenario)));
        }
    }
    strikes
}

#[test]
fn a_failing_api_server_costs_no_code_and_no_reset() {
    explore(&Scenario::ALL, Transport::Direct, api_strikes);
}

#[test]
fn a_failing_api_server_costs_no_code_while_a_new_one_is_distributed_and_the_old_one_retired() {
    let scenarios = [&Scenario::BEYOND[..], &[Scenario::Farewell]].concat();
    explore(&scenarios, Transport::Direct, api_strikes);
}

#[test]
fn a_crash_at_any_call_costs_no_code_and_no_reset() {
    let scenarios = [&Scenario::ALL[..], &Scenario::BEYOND, &[Scenario::Farewell]].concat();
    explore(&scenarios, Transport::Direct, |scenario, _| {
        [Moment::Before, Moment::After]
            .map(|moment| (Strike::Crash(moment), Expected::of(scenario)))
            .to_vec()
    });
}
