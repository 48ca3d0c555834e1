//! What people and other programs do in the middle of a pass.

use std::sync::atomic::Ordering;

use appcode_operator::workload::RestartTarget;
use serde_json::json;

use super::case::{Case, End, Expected, Scenario, Transport, WORKLOADS, learn};
use super::{explore, judge};
use crate::support::Stage;
use crate::support::api_server::SECRETS;
use crate::support::script::{Act, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};
use crate::support::workloads::target;

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

fn grace_ends(stage: &Stage) {
    stage.judge.excuse_grace();
    stage.edit_rotation(NAME, |object| object["spec"]["overlap"]["gracePeriod"] = json!("0s"));
}

fn reset_from_now_on(stage: &Stage) {
    stage.edit_rotation(NAME, |object| object["spec"]["strategy"] = json!("Reset"));
}

fn web() -> RestartTarget {
    let (kind, name) = WORKLOADS[0];
    target(&format!("{kind}/{name}"))
}

/// Pauses a workload. Nothing rolls out from now on.
fn pause(stage: &Stage) {
    stage.judge.excuse_workloads();
    stage.edit_workload(&web(), |object| object["spec"]["paused"] = json!(true));
    stage.is_rolling.store(false, Ordering::Relaxed);
}

/// A person rolls a workload back, or somebody applies it as it stands in a repository.
fn roll_back(stage: &Stage) {
    stage.judge.excuse_workloads();
    stage.edit_workload(&web(), |object| {
        let notes = &mut object["spec"]["template"]["metadata"]["annotations"];
        notes
            .as_object_mut()
            .unwrap()
            .remove(&appcode_operator::workload::marker(NAME));
    });
}

fn remake_workload(stage: &Stage) {
    stage.judge.excuse_workloads();
    stage.delete_workload(&web());
    stage.create_workload(&web());
}

fn touch(stage: &Stage) {
    stage.edit_rotation(NAME, |object| object["metadata"]["labels"] = json!({"team": "x"}));
}

fn delete_rotation(stage: &Stage) {
    stage.api.delete(crate::support::api_server::ROTATIONS, NAMESPACE, NAME);
}

#[test]
fn a_deleted_or_edited_secret_costs_no_reset() {
    let scenarios = [&Scenario::ALL[..], &Scenario::BEYOND].concat();
    explore(&scenarios, Transport::Direct, |scenario, _: &Call| {
        let expected = Expected::of(scenario).end(SECRET_LOST).within(95, scenario);
        let mut strikes = around(&Act::new("the Secret is deleted", delete_secret), &expected);
        strikes.extend(around(&Act::new("the Secret is edited", edit_secret), &expected));
        strikes
    });
}

#[test]
fn a_label_edited_in_the_middle_of_a_pass_changes_nothing() {
    let scenarios = [&Scenario::ALL[..], &Scenario::BEYOND].concat();
    explore(&scenarios, Transport::Direct, |scenario, _: &Call| {
        around(&Act::new("a label is edited", touch), &Expected::of(scenario))
    });
}

#[test]
fn a_trigger_changed_in_the_middle_of_a_pass_is_neither_lost_nor_doubled() {
    let change = |stage: &Stage| stage.set_trigger("two");
    let scenarios = [Scenario::Trigger, Scenario::AtOnce, Scenario::Grace, Scenario::Handover];
    explore(&scenarios, Transport::Direct, move |scenario, _: &Call| {
        // Seen before the intent was written it is one rotation, later it is two.
        let expected = Expected::of(scenario).mutations(1..=2);
        around(&Act::new("the trigger is changed", change), &expected)
    });
}

#[test]
fn a_resource_deleted_in_the_middle_of_a_pass_leaves_no_dead_code() {
    let act = Act::new("the resource is deleted", delete_rotation);
    let mut cases = Vec::new();
    for scenario in Scenario::ALL.into_iter().chain(Scenario::BEYOND) {
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
    let scenarios = [
        Scenario::Trigger,
        Scenario::Adopt,
        Scenario::First,
        Scenario::Add,
        Scenario::Handover,
    ];
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

#[test]
fn a_grace_period_or_strategy_edited_in_the_middle_of_a_pass_is_heeded_and_costs_nothing() {
    let scenarios = [Scenario::AtOnce, Scenario::Grace, Scenario::Handover];
    explore(&scenarios, Transport::Direct, |scenario, _: &Call| {
        let expected = Expected::of(scenario);
        let mut strikes = around(&Act::new("the grace period is ended", grace_ends), &expected);
        strikes.extend(around(
            &Act::new("the strategy is Reset now", reset_from_now_on),
            &expected,
        ));
        strikes
    });
}

#[test]
fn a_workload_changed_by_people_in_the_middle_of_a_pass_loses_no_rotation() {
    explore(&[Scenario::Handover], Transport::Direct, |scenario, _: &Call| {
        // It waits for a person from then on, if it was restarted before; the code before lives on.
        let waiting = Expected::of(scenario).end(End::Waiting);
        let mut strikes = around(&Act::new("a workload is rolled back", roll_back), &waiting);
        strikes.extend(around(&Act::new("a workload is made again", remake_workload), &waiting));
        strikes.extend(around(&Act::new("a workload is paused", pause), &waiting));
        strikes
    });
}
