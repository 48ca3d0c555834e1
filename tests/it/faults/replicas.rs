//! Another process takes over in the middle of a pass, with and without a Lease, and the call in flight still lands.
//!
//! With a Lease the former holder knows on its return that its lead is over; without one both work on.

use cloud_simulator::Operation;

use super::expected::Toll;
use super::scenario::{Scenario, Transport};
use super::{Struck, explore};
use crate::support::script::{Call, Moment, Strike, Takeover};

/// Calls of the other process after which the former one goes on: in the middle of its pass, or only once it rests.
const AFTER: [usize; 2] = [4, usize::MAX];

/// Before a change is in flight, and before it is sent: the answer that lets it be sent comes late.
fn moments(struck: &Struck<'_>) -> Vec<Moment> {
    let is_change = |call: &Call| matches!(call, Call::Cloud(Operation::Reset | Operation::Add | Operation::Delete));
    let next = struck.calls.get(struck.at + 1);
    if next.is_some_and(is_change) {
        vec![Moment::Before, Moment::After]
    } else {
        struck.gap().to_vec()
    }
}

/// Every way of taking over at this call.
pub fn takeovers(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let mut strikes = Vec::new();
    for leads_on in [false, true] {
        for after in AFTER {
            for moment in moments(struck) {
                let takeover = Takeover { after, leads_on };
                let toll = Toll::default().looks(14).calls(80);
                // An addition that lands when it was long believed not to is an effect later than the settle window: it is
                // made twice, and nothing tells one from the other.
                let is_late = moment == Moment::Before && *struck.call() == Call::Cloud(Operation::Add);
                let toll = if is_late {
                    toll.changes(0..=1).stops("AmbiguousOutcome").may_leave()
                } else {
                    toll
                };
                strikes.push((Strike::Takeover(moment, takeover), toll));
            }
        }
    }
    strikes
}

#[test]
fn a_process_that_takes_over_at_any_call_costs_no_code_and_no_reset() {
    explore(&Scenario::EVERY, Transport::Direct, takeovers);
}
