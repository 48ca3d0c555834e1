//! What the API server can do to a pass, and a process that ends in it.

use std::time::Duration;

use appcode_operator::controller::run;
use appcode_operator::health::Health;
use tokio_util::sync::CancellationToken;

use super::case::DEADLINE;
use super::expected::{NEXT_CHECK, SLOW, Toll, beyond};
use super::scenario::{Scenario, Transport};
use super::{Struck, explore, gaps};
use crate::support::api_server::{DEPLOYMENTS, ROTATIONS, STATEFUL_SETS};
use crate::support::process::Make;
use crate::support::script::{Act, ApiFault, Call, Moment, Strike, Verb};
use crate::support::{Stage, alone};

/// How long a right is missing, and how long watches tell nothing, at most.
const AWAY: Duration = Duration::from_secs(600);

/// What the API server may answer, or not.
pub fn strikes(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let Call::Api { verb, .. } = struck.call() else {
        return Vec::new();
    };
    // Those that are treated alike strike the other scenarios.
    let is_beyond = struck.scenario.is_beside() || struck.scenario.is_distributed();
    let statuses: &[u16] = if is_beyond {
        &[500, 409, 403, 422]
    } else {
        &[500, 503, 504, 429, 409, 403, 422]
    };
    let mut faults: Vec<ApiFault> = statuses.iter().copied().map(ApiFault::Status).collect();
    faults.extend([ApiFault::Cut, ApiFault::Hang]);
    let mut strikes = Vec::new();
    for fault in faults {
        strikes.push((Strike::Api(Moment::Before, fault), Toll::default()));
        if verb.is_write() {
            strikes.push((Strike::Api(Moment::After, fault), Toll::default()));
        }
    }
    strikes
}

/// Names a long lag of readings.
pub const LAG_OF_A_MINUTE: &str = "all readings lag by a minute";

/// Readings that show what was, once or for a while.
pub fn stale(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let lag = |name, seconds| Act::new(name, move |stage: &Stage| stage.api.lag(Duration::from_secs(seconds)));
    // A write that is refused while nothing looks moved ends a pass, and the next ones come after growing pauses.
    let calls = if struck.scenario.is_distributed() { 40 } else { 20 };
    let toll = Toll::default().calls(calls);
    let mut strikes = gaps(struck, &lag("all readings lag by five seconds", 5), &toll);
    let toll = toll.looks(4);
    strikes.extend(gaps(struck, &lag(LAG_OF_A_MINUTE, 60), &toll));
    if let Call::Api {
        verb: Verb::Get,
        resource,
        ..
    } = struck.call()
    {
        // A resource as it was before it asked for anything is at rest until the next check.
        let toll = Toll::default();
        let toll = if *resource == ROTATIONS {
            toll.late(NEXT_CHECK + beyond(struck.scenario))
        } else {
            toll
        };
        strikes.push((Strike::Api(Moment::Before, ApiFault::Stale), toll));
    }
    strikes
}

/// Names the loss of a right.
const RIGHT_LOST: &str = "the right to that is lost for ten minutes";

/// The right to make this call is taken away for a while, and so for all like it.
pub fn rights(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let Call::Api { verb, resource, .. } = *struck.call() else {
        return Vec::new();
    };
    let act = Act::new(RIGHT_LOST, move |stage: &Stage| {
        let end = stage.time.truth() + AWAY;
        stage.api.revoke(resource, verb, true);
        stage.later(move |stage| {
            let is_over = stage.time.truth() >= end;
            if is_over {
                stage.api.revoke(resource, verb, false);
            }
            is_over
        });
    });
    let toll = Toll::default().minutes(SLOW).looks(60).calls(600);
    vec![(Strike::Act(Moment::Before, act), toll)]
}

/// Watches that say nothing for a while, that have to list anew, or that say everything again.
pub fn watches(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let away = |name, is_cut: bool| {
        Act::new(name, move |stage: &Stage| {
            let now = stage.time.truth();
            if is_cut {
                stage.sight.cut(now, AWAY);
            } else {
                stage.sight.lag(now, AWAY);
            }
            let sight = stage.sight.now();
            stage.later(move |stage| !sight.is_dark(stage.time.truth()));
        })
    };
    let again = Act::new("the watch tells everything again", |stage: &Stage| stage.sight.repeat());
    let listed = Act::new("the watch lists anew at once", |stage: &Stage| {
        stage.sight.cut(stage.time.truth(), Duration::ZERO);
    });
    let acts = [
        away("the watch lags by ten minutes", false),
        away("the watch is cut for ten minutes", true),
        again,
        listed,
    ];
    acts.iter().flat_map(|act| gaps(struck, act, &Toll::slow())).collect()
}

/// The process ends at once, or is asked to end.
pub fn ends(struck: &Struck<'_>) -> Vec<(Strike, Toll)> {
    let crashes = struck.gap().iter().copied().map(Strike::Crash);
    let strikes = crashes.chain([Moment::Before, Moment::After].map(Strike::Stop));
    strikes.map(|strike| (strike, Toll::default())).collect()
}

#[test]
fn a_failing_api_server_costs_no_code_and_no_reset() {
    explore(&Scenario::ALL, Transport::Direct, strikes);
}

#[test]
fn a_failing_api_server_costs_no_code_while_a_new_one_is_distributed_and_the_old_one_retired() {
    let scenarios = [&Scenario::BEYOND[..], &[Scenario::Farewell]].concat();
    explore(&scenarios, Transport::Direct, strikes);
}

#[test]
fn a_crash_or_a_signal_at_any_call_costs_no_code_and_no_reset() {
    explore(&Scenario::EVERY, Transport::Direct, ends);
}

#[test]
fn readings_that_lag_behind_cost_no_code_and_no_reset() {
    explore(&Scenario::EVERY, Transport::Direct, stale);
}

#[test]
fn a_right_that_is_lost_for_a_while_costs_no_code_and_no_reset() {
    explore(&Scenario::EVERY, Transport::Direct, rights);
}

#[test]
fn watches_that_lag_or_list_anew_or_repeat_themselves_cost_nothing() {
    explore(&Scenario::EVERY, Transport::Direct, watches);
}

/// One of two workloads cannot be read at first, and then both look as if nobody had restarted them.
#[test]
fn workloads_that_look_untouched_for_a_while_are_not_tried_in_turns() {
    alone(async {
        let mut world = Scenario::RollOut.prepare(Transport::Direct, DEADLINE).await;
        let lag = Act::new("all readings lag by five seconds", |stage| {
            stage.api.lag(Duration::from_secs(5));
        });
        let failed = Strike::Api(Moment::Before, ApiFault::Status(500));
        let strikes = vec![(0, Strike::Act(Moment::Before, lag)), (0, failed)];
        let is_second =
            |call: &Call| matches!(call, Call::Api { verb: Verb::Get, resource, .. } if *resource == STATEFUL_SETS);
        world.stage.script.begin_if(strikes, is_second);
        world.run_to_rest().await;
        world.assert_ready();
        assert_eq!(world.stage.script.struck(), 2);
        for kind in [DEPLOYMENTS, STATEFUL_SETS] {
            let tries = world.api_calls(Verb::Patch, kind);
            assert!(tries <= 4, "{tries} tries to restart one of {kind}");
        }
    });
}

/// However many turns are due: who was asked to end must be gone before it is killed.
#[test]
fn no_turn_is_begun_once_the_process_was_asked_to_end() {
    alone(async {
        let stage = Stage::direct(1);
        for name in ["one", "two", "three"] {
            stage.create_rotation_named(name, |_| ());
        }
        let process = Make::new(&stage, DEADLINE).start_late(&stage, 0);
        let over = CancellationToken::new();
        over.cancel();
        let health = Health::of(&process.ctx);
        Box::pin(run(process.ctx, health, over)).await;
        assert_eq!(stage.script.calls(), Vec::new());
    });
}
