//! What people and other programs do in the middle of a pass.

use std::sync::atomic::Ordering;

use appcode_operator::workload::RestartTarget;
use jiff::SignedDuration;
use serde_json::json;

use super::expected::{End, NEXT_CHECK, Toll};
use super::scenario::{Scenario, Transport, WORKLOADS};
use super::{Struck, explore, explore_thinly, gaps};
use crate::support::Stage;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::script::{Act, Call, Moment, Strike, Verb};
use crate::support::stage::{NAME, NAMESPACE};
use crate::support::workloads::target;

/// Of the jumps of clocks `make test` tries one in so many.
const CLOCKS_ONE_IN: usize = 12;

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
    stage.api.delete(ROTATIONS, NAMESPACE, NAME);
}

/// Deletes the resource, and nobody makes it again.
fn delete_for_good(stage: &Stage) {
    stage.is_unwanted.store(true, Ordering::Relaxed);
    delete_rotation(stage);
}

/// Deletes the resource and makes it again as it was, once it is gone.
fn remake_rotation(stage: &Stage) {
    let Some(old) = stage.api.object(ROTATIONS, NAMESPACE, NAME) else {
        return;
    };
    if !old["metadata"]["deletionTimestamp"].is_null() {
        return;
    }
    delete_rotation(stage);
    let make = move |stage: &Stage| {
        let is_gone = stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none();
        if is_gone && !stage.is_unwanted.load(Ordering::Relaxed) {
            stage.create_rotation(|spec| *spec = old["spec"].clone());
        }
        is_gone
    };
    if !make(stage) {
        stage.later(make);
    }
}

/// Names that the Secret is deleted.
pub const DELETED: &str = "the Secret is deleted";

/// The Secret is deleted or overwritten. It is repaired, from what the rest of the world tells of its code. In the middle of a
/// change the Secret alone tells of the rotation, so that a person is asked who has deleted it then: a documented limit.
pub fn of_secrets(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let edited = Toll::slow().late(NEXT_CHECK);
    let deleted = if struck.is_under_way() {
        edited.clone().stops("CodeNotListed")
    } else {
        edited.clone()
    };
    let mut strikes = gaps(struck, &Act::new(DELETED, delete_secret), &deleted);
    strikes.extend(gaps(struck, &Act::new("the Secret is edited", edit_secret), &edited));
    strikes
}

/// What means nothing to a rotation.
pub fn of_labels(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    gaps(struck, &Act::new("a label is edited", touch), &Toll::default())
}

/// Another rotation is asked for. Seen before the intent was written both are one, later they are two.
pub fn of_triggers(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let act = Act::new("the trigger is changed", |stage: &Stage| stage.set_trigger("two"));
    gaps(struck, &act, &Toll::slow().changes(0..=1).looks(8).calls(100))
}

/// Names that the resource is deleted.
pub const GONE: &str = "the resource is deleted";

/// The resource goes. One that had not begun yet has no change.
pub fn of_deletion(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let act = Act::new(GONE, delete_for_good);
    let end = End {
        is_gone: true,
        ..End::default()
    };
    let fewer = if struck.scenario == Scenario::Farewell { 0 } else { -1 };
    let toll = Toll::default().changes(fewer..=0).end(end);
    // A pass that is under way comes to its end. Should the outcome stay open none the less, nobody comes back for it: a
    // documented limit.
    let toll = if !struck.is_first && struck.is_under_way() {
        toll.may_leave()
    } else {
        toll
    };
    // A create cannot be fenced by another object: the instant between the last look and the create is left over, and
    // leaves a Secret without a code.
    let is_create = |at: usize| {
        let call = struck.calls.get(at);
        matches!(call, Some(Call::Api { verb: Verb::Create, resource, .. }) if *resource == SECRETS)
    };
    let mut strikes = gaps(struck, &act, &toll);
    strikes.retain(|(strike, _)| match strike {
        Strike::Act(Moment::Before, _) => !is_create(struck.at),
        _ => !is_create(struck.at + 1),
    });
    strikes
}

/// Names that the resource is made again.
pub const REMADE: &str = "the resource is made again";

/// The resource goes and comes again as it was, as another one by its uid.
pub fn of_remaking(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    gaps(struck, &Act::new(REMADE, remake_rotation), &Toll::slow())
}

/// Name jumps after which the clock is late.
pub const YEAR_BACK: &str = "the clock jumps a year back";
pub const MINUTES_BACK: &str = "the clock jumps ten minutes back";

/// The clocks of the operator are wrong from then on.
pub fn of_clocks(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let jump = |name, hours: i64, minutes: i64| {
        let skew = SignedDuration::from_mins(60 * hours + minutes);
        Act::new(name, move |stage: &Stage| stage.time.set_skew(skew))
    };
    // However many rotations a schedule has missed, there is one.
    let ahead = if struck.scenario == Scenario::Scheduled {
        Toll::slow().changes(0..=1).looks(8).calls(60).late(NEXT_CHECK)
    } else {
        Toll::default()
    };
    // What the process does between two calls goes by its clock.
    let around = |(act, toll): (Act, &Toll)| {
        [Moment::Before, Moment::After].map(|moment| (Strike::Act(moment, act.clone()), toll.clone()))
    };
    let usual = Toll::default();
    let jumps = [
        (jump("the clock jumps a year ahead", 24 * 365, 0), &ahead),
        (jump(YEAR_BACK, -24 * 365, 0), &usual),
        (jump("the clock jumps an hour ahead", 1, 0), &usual),
        (jump(MINUTES_BACK, 0, -10), &usual),
        (jump("the clock jumps ten years ahead", 24 * 3652, 0), &ahead),
    ];
    jumps.into_iter().flat_map(around).collect()
}

/// Spec comes to say something else of the code before.
pub fn of_grace(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    if !struck.scenario.is_beside() {
        return Vec::new();
    }
    let mut strikes = gaps(
        struck,
        &Act::new("the grace period is ended", grace_ends),
        &Toll::default(),
    );
    let act = Act::new("the strategy is Reset now", reset_from_now_on);
    strikes.extend(gaps(struck, &act, &Toll::default()));
    strikes
}

/// Somebody changes a workload. It waits for a person from then on, if it was restarted before; the code before lives on.
pub fn of_workloads(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    if !struck.scenario.is_distributed() {
        return Vec::new();
    }
    let waiting = Toll::default().end(End {
        may_wait: true,
        ..End::default()
    });
    let mut strikes = gaps(struck, &Act::new("a workload is rolled back", roll_back), &waiting);
    strikes.extend(gaps(
        struck,
        &Act::new("a workload is made again", remake_workload),
        &waiting,
    ));
    strikes.extend(gaps(struck, &Act::new("a workload is paused", pause), &waiting));
    strikes
}

#[test]
fn a_deleted_or_edited_secret_costs_no_reset() {
    let scenarios = [&Scenario::ALL[..], &Scenario::BEYOND].concat();
    explore(&scenarios, Transport::Direct, of_secrets);
}

#[test]
fn a_label_edited_in_the_middle_of_a_pass_changes_nothing() {
    let scenarios = [&Scenario::ALL[..], &Scenario::BEYOND].concat();
    explore(&scenarios, Transport::Direct, of_labels);
}

#[test]
fn a_trigger_changed_in_the_middle_of_a_pass_is_neither_lost_nor_doubled() {
    let scenarios = [Scenario::Trigger, Scenario::AtOnce, Scenario::Grace, Scenario::Handover];
    explore(&scenarios, Transport::Direct, of_triggers);
}

#[test]
fn a_resource_deleted_in_the_middle_of_a_pass_leaves_no_dead_code() {
    let scenarios = [&Scenario::ALL[..], &Scenario::BEYOND].concat();
    explore(&scenarios, Transport::Direct, of_deletion);
}

#[test]
fn a_resource_made_again_in_the_middle_of_a_pass_costs_no_code() {
    explore(&Scenario::EVERY, Transport::Direct, of_remaking);
}

#[test]
fn a_clock_that_jumps_rotates_nothing_but_what_a_schedule_has_missed() {
    explore_thinly(&Scenario::EVERY, CLOCKS_ONE_IN, of_clocks);
}

#[test]
fn a_grace_period_or_strategy_edited_in_the_middle_of_a_pass_is_heeded_and_costs_nothing() {
    let scenarios = [Scenario::AtOnce, Scenario::Grace, Scenario::Handover];
    explore(&scenarios, Transport::Direct, of_grace);
}

#[test]
fn a_workload_changed_by_people_in_the_middle_of_a_pass_loses_no_rotation() {
    explore(&[Scenario::Handover], Transport::Direct, of_workloads);
}
