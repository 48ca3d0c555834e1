//! A password instead of keys: the token is refused in the middle of a pass, and signing in anew fails.

use cloud_simulator::{Body, Fault, Operation, Reply};

use super::expected::Toll;
use super::scenario::{Scenario, Transport};
use super::{Struck, explore};
use crate::support::Stage;
use crate::support::script::{Act, Call, Moment, Strike};

fn failures() -> Vec<(&'static str, Fault)> {
    let status = |status: u16| Fault::status_before(Reply::from(status));
    vec![
        ("it answers 400", status(400)),
        ("it answers 401", status(401)),
        ("it answers 403", status(403)),
        ("it answers 429", Fault::throttle(Some("30"))),
        ("it answers 500", status(500)),
        ("it answers 503", status(503)),
        ("it is redirected", status(302)),
        ("its connection is cut", Fault::cut_before()),
        ("its answer is lost", Fault::cut_after()),
        ("its answer is cut", Fault::cut_in_answer()),
        ("its answer is HTML", Fault::body(Body::Html)),
    ]
}

/// Whatever the call, the token is refused at it: nothing is done, and nothing is known to be.
fn strikes(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    if !matches!(struck.call(), Call::Cloud(_)) {
        return Vec::new();
    }
    let strike = |(name, fault): (&'static str, Fault)| {
        let act = Act::new(name, move |stage: &Stage| {
            stage.cloud.with(|cloud| {
                cloud.revoke_tokens(&stage.user.user_id);
                cloud.inject(fault.clone().at(Operation::Token).once())
            });
        });
        (Strike::Act(Moment::Before, act), Toll::slow())
    };
    failures().into_iter().map(strike).collect()
}

#[test]
fn a_sign_in_that_fails_costs_no_code_and_no_reset() {
    let scenarios = [Scenario::Trigger, Scenario::Add, Scenario::AtOnce];
    explore(&scenarios, Transport::Password, strikes);
}
