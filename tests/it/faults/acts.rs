//! What people and other programs do in the middle of a pass.

use serde_json::json;

use super::case::{Case, End, Expected, Scenario, Transport, learn};
use super::{explore, judge};
use crate::support::Stage;
use crate::support::api_server::SECRETS;
use crate::support::script::{Act, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};

/// Reasons for which a person is asked after somebody took the Secret away during a change: documented limits.
const SECRET_LOST: End = End::AtNextCheck(&["CodeNotListed"]);

fn around(act: &Act, expected: &Expected) -> Vec<(Strike, Expected)> {
    let strike = |moment| (Strike::Act(moment, act.clone()), expected.clone());
    vec![strike(Moment::Before), strike(Moment::After)]
}

fn delete_secret(stage: &Stage) {
    stage.judge.excuse(NAME);
    stage.delete_secret(NAME);
}

fn edit_secret(stage: &Stage) {
    if stage.secret(NAME).is_some() {
        stage.judge.excuse(NAME);
        stage.edit_secret(NAME, &[("appCode", "edited-by-somebody")]);
    }
}

fn touch(stage: &Stage) {
    stage.edit_rotation(NAME, |object| object["metadata"]["labels"] = json!({"team": "x"}));
}

fn delete_rotation(stage: &Stage) {
    stage.api.delete(crate::support::api_server::ROTATIONS, NAMESPACE, NAME);
}

#[test]
fn a_deleted_or_edited_secret_costs_no_reset() {
    explore(&Scenario::ALL, Transport::Direct, |scenario, _: &Call| {
        let expected = Expected::of(scenario).end(SECRET_LOST).within(95);
        let mut strikes = around(&Act::new("the Secret is deleted", delete_secret), &expected);
        strikes.extend(around(&Act::new("the Secret is edited", edit_secret), &expected));
        strikes
    });
}

#[test]
fn a_label_edited_in_the_middle_of_a_pass_changes_nothing() {
    explore(&Scenario::ALL, Transport::Direct, |scenario, _: &Call| {
        around(&Act::new("a label is edited", touch), &Expected::of(scenario))
    });
}

#[test]
fn a_trigger_changed_in_the_middle_of_a_pass_is_neither_lost_nor_doubled() {
    let change = |stage: &Stage| stage.set_trigger("two");
    explore(&[Scenario::Trigger], Transport::Direct, move |scenario, _: &Call| {
        // Seen before the intent was written it is one rotation, later it is two.
        let expected = Expected::of(scenario).mutations(1..=2);
        around(&Act::new("the trigger is changed", change), &expected)
    });
}

#[test]
fn a_resource_deleted_in_the_middle_of_a_pass_leaves_no_dead_code() {
    let act = Act::new("the resource is deleted", delete_rotation);
    let mut cases = Vec::new();
    for scenario in Scenario::ALL {
        let calls = learn(scenario, Vec::new());
        // A create cannot be fenced by another object: the instant between the last look and the create is left over,
        // and leaves a Secret without a code.
        let is_create = |call: &Call| {
            matches!(
                call,
                Call::Api {
                    verb: Verb::Create,
                    resource: SECRETS,
                    ..
                }
            )
        };
        let create = calls.iter().position(is_create);
        for at in 0..calls.len() {
            for moment in [Moment::Before, Moment::After] {
                let is_left_over = match moment {
                    Moment::Before => create == Some(at),
                    Moment::After => create == Some(at + 1),
                };
                if !is_left_over {
                    cases.push(Case {
                        name: format!("{scenario:?}: the resource is deleted {moment:?} call {at}"),
                        scenario,
                        transport: Transport::Direct,
                        strikes: vec![(at, Strike::Act(moment, act.clone()))],
                        expected: Expected::of(scenario).mutations(0..=1).end(End::Gone),
                    });
                }
            }
        }
    }
    judge(&cases);
}

#[test]
fn a_clock_that_jumps_a_year_rotates_nothing() {
    let scenarios = [Scenario::Trigger, Scenario::Adopt, Scenario::First, Scenario::Add];
    explore(&scenarios, Transport::Direct, |scenario, _: &Call| {
        let jump = |name, days: i64| {
            let skew = jiff::SignedDuration::from_hours(24 * days);
            Act::new(name, move |stage: &Stage| stage.time.set_skew(skew))
        };
        let mut strikes = around(&jump("the clock jumps a year ahead", 365), &Expected::of(scenario));
        strikes.extend(around(
            &jump("the clock jumps a year back", -365),
            &Expected::of(scenario),
        ));
        strikes
    });
}
