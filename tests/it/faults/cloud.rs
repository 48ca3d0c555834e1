//! What the cloud and the way to it can do to a pass.

use std::time::Duration;

use appcode_operator::verification::Probe;
use cloud_simulator::{Body, Fault, Half, Lag, LostAnswer, Operation, Reply, Which};

use super::expected::Toll;
use super::explore;
use super::scenario::{Scenario, Transport};
use crate::support::cloud::NO_CONNECTION;
use crate::support::script::{Call, Strike};

/// Statuses after which only a slow retry follows.
const FINAL: [u16; 4] = [400, 401, 403, 404];
fn bodies() -> Vec<Body> {
    let text = |text: &str| Body::Text(text.into());
    vec![
        Body::Html,
        Body::Empty,
        Body::Garbage,
        Body::HalfOfIt,
        Body::ByteOrderMark,
        Body::Bytes(200_000),
        text("{}"),
        text("[]"),
        text(r#"{"app":null}"#),
        text(r#"{"app":{"app_id":"of-somebody-else","app_codes":["a-code-of-somebody-else"]}}"#),
        text(r#"{"error_code":"ModelArts.0010","error_msg":"none the less 200"}"#),
    ]
}

/// What the cloud may do to a call.
pub fn strikes(call: &Call) -> Vec<(Strike, Toll)> {
    let Call::Cloud(operation) = *call else {
        return Vec::new();
    };
    let (usual, slow) = (Toll::default, Toll::slow);
    let mut faults = Vec::new();
    for status in [302, 400, 401, 403, 404, 408, 409, 429, 500, 502, 503, 504] {
        let expected = || if FINAL.contains(&status) { slow() } else { usual() };
        let reply = || Reply::from(status).header("Location", "http://127.0.0.1:1/");
        faults.push((Fault::status_before(reply()), expected()));
        faults.push((Fault::status_after(reply()), expected()));
    }
    let missing = || Reply::from(404).code("ModelArts.3923");
    faults.push((Fault::status_before(missing()), slow()));
    faults.push((Fault::status_after(missing()), slow()));
    for retry_after in [None, Some("7"), Some("0"), Some("99999999"), Some("-1"), Some("soon")] {
        faults.push((Fault::throttle(retry_after), usual()));
    }
    faults.push((Fault::cut_before(), usual()));
    faults.push((Fault::cut_after(), usual()));
    faults.push((Fault::cut_in_answer(), usual()));
    faults.extend(bodies().into_iter().map(|body| (Fault::body(body), usual())));
    faults.push((Fault::masked(), slow()));
    faults.push((Fault::stale(Lag::OneChange), usual()));
    faults.push((Fault::stale(Lag::Millis(60_000)), usual()));
    for which in [Which::First, Which::Second] {
        let expected = match operation {
            // Two codes came to be and nothing tells which answer was ours.
            Operation::Add => usual().changes(1..=1).stops("AmbiguousOutcome").may_leave(),
            _ => usual(),
        };
        faults.push((Fault::duplicate(which), expected));
    }
    if operation != Operation::Show {
        let answered = [500, 504].map(|status| LostAnswer::Reply(Reply::from(status)));
        for lost in [LostAnswer::Cut].into_iter().chain(answered) {
            for seconds in [1, 60, 110] {
                faults.push((Fault::late(Some(Duration::from_secs(seconds)), lost.clone()), usual()));
            }
        }
    }
    if operation == Operation::Reset {
        faults.push((Fault::half_reset(Half::NoneMade), usual().changes(1..=1)));
        // It looks as if somebody had added a code, so that the one before is nobody's.
        let both = usual().changes(1..=1).may_leave();
        faults.push((Fault::half_reset(Half::BothPresent), both));
    }
    let strike = |(fault, expected): (Fault, Toll)| (Strike::Cloud(fault.at(operation).once()), expected);
    faults.into_iter().map(strike).collect()
}

/// The connection is never made: no address, nobody who listens, a certificate that is not theirs.
pub fn unsent(call: &Call) -> Vec<(Strike, Toll)> {
    let Call::Cloud(operation) = *call else {
        return Vec::new();
    };
    let fault = Fault::status_before(Reply::from(NO_CONNECTION)).at(operation).once();
    vec![(Strike::Cloud(fault), Toll::default())]
}

/// What a try of a code may end as.
pub fn tries(call: &Call) -> Vec<(Strike, Toll)> {
    if *call != Call::Probe {
        return Vec::new();
    }
    let probes = [
        Probe::Refused { status: 401 },
        Probe::Refused { status: 403 },
        Probe::Throttled { retry_after: None },
        Probe::Throttled {
            retry_after: Some(Duration::from_secs(300)),
        },
        Probe::Unexpected { status: 503 },
        Probe::Unreachable("no route".into()),
    ];
    probes
        .into_iter()
        .map(|probe| (Strike::Probe(probe), Toll::default()))
        .collect()
}

#[test]
fn a_failing_cloud_costs_no_code_and_no_reset() {
    explore(&Scenario::ALL, Transport::Direct, |struck| strikes(struck.call()));
}

#[test]
fn a_failing_cloud_costs_no_code_while_a_new_one_is_distributed_and_the_old_one_retired() {
    let scenarios = [&Scenario::BEYOND[..], &[Scenario::Farewell]].concat();
    explore(&scenarios, Transport::Direct, |struck| strikes(struck.call()));
}

#[test]
fn a_connection_that_is_never_made_costs_no_code_and_no_reset() {
    explore(&Scenario::EVERY, Transport::Direct, |struck| unsent(struck.call()));
}

#[test]
fn a_try_that_fails_costs_no_code_and_restarts_nothing_twice() {
    let scenarios = [Scenario::RollOut, Scenario::Handover];
    explore(&scenarios, Transport::Direct, |struck| tries(struck.call()));
}

#[test]
fn a_failing_cloud_costs_no_code_and_no_reset_over_http() {
    let scenarios = [Scenario::Trigger, Scenario::First, Scenario::Add, Scenario::AtOnce];
    explore(&scenarios, Transport::Http, |struck| strikes(struck.call()));
}
