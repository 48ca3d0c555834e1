//! One run: a prepared world, what strikes it, and what must have come of it.

use std::sync::Arc;
use std::time::Duration;

use appcode_operator::api::{ConditionType, Phase};
use cloud_simulator::{Cause, Operation};
use jiff::SignedDuration;

use super::expected::{End, Expected, Toll};
use super::scenario::{Scenario, Transport};
use crate::explore::people::secret_of;
use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::judge::{leaks, readable};
use crate::support::process::Make;
use crate::support::script::{ApiFault, Call, Strike};
use crate::support::stage::{NAME, NAMESPACE};
use crate::support::world::Trace;
use crate::support::{Stage, World, alone};

/// How long a call may take where one hangs for ever.
const SHORT_DEADLINE: Duration = Duration::from_millis(250);
pub const DEADLINE: Duration = Duration::from_secs(10);

/// By then any run has long ended, which takes a part of a second.
const STUCK: Duration = Duration::from_secs(60);

pub struct Case {
    pub name: String,
    pub scenario: Scenario,
    pub transport: Transport,
    pub strikes: Vec<(usize, Strike)>,
    pub expected: Expected,
}

/// Changes how an operator works once its world is prepared.
pub type Change<'a> = &'a dyn Fn(&Arc<Stage>, &mut Make);

/// The world before a run, with another operator in it if there is a change.
pub async fn prepared(
    scenario: Scenario,
    transport: Transport,
    deadline: Duration,
    change: Option<Change<'_>>,
) -> World {
    let mut world = scenario.prepare(transport, deadline).await;
    if let Some(change) = change {
        change(&world.stage, &mut world.make);
        world.restart();
    }
    world
}

/// Runs it alone. What waits for ever, which takes no time of the run's own, is a fault of the test.
fn unless_stuck<T>(run: impl Future<Output = T>) -> T {
    let ended = alone(async { tokio::time::timeout(STUCK, run).await });
    ended.unwrap_or_else(|_| panic!("the run stands still"))
}

/// The calls of a run that nothing strikes, up to rest.
pub fn learn(scenario: Scenario) -> Vec<Call> {
    learn_with(scenario, Vec::new(), &[], None)
}

/// The same under strikes of these tolls, and of a changed operator.
pub fn learn_with(
    scenario: Scenario,
    strikes: Vec<(usize, Strike)>,
    tolls: &[&Toll],
    change: Option<Change<'_>>,
) -> Vec<Call> {
    let expected = Expected::of(scenario, tolls.iter().copied());
    unless_stuck(async {
        let mut world = prepared(scenario, Transport::Direct, DEADLINE, change).await;
        let count = strikes.len();
        world.stage.script.begin(strikes);
        play(&mut world, count, &expected).await;
        world.stage.script.calls()
    })
}

/// Lets a world run to where it is expected to rest.
async fn play(world: &mut World, strikes: usize, expected: &Expected) -> Trace {
    let Expected { end, within, .. } = expected;
    let are_met = |world: &World| world.stage.script.struck() >= strikes;
    if !end.may_wait {
        return world.run_until(|world| are_met(world) && end.may_stop(world)).await;
    }
    world.run_while(|world| !are_met(world), |_| false).await;
    // Workloads are looked at as long as they keep the rotation from its end.
    let mut trace = world.run_for(*within).await;
    while world.let_go(&mut trace).await {
        world.run_for(*within).await;
    }
    trace.is_at_rest = true;
    trace
}

impl Case {
    /// Runs it. On failure: what is wrong, and how it came to be.
    pub fn run(&self) -> Result<(), String> {
        self.run_with(None)
    }

    /// The same of a changed operator.
    pub fn run_with(&self, change: Option<Change<'_>>) -> Result<(), String> {
        unless_stuck(async {
            let hangs = |(_, strike): &(usize, Strike)| matches!(strike, Strike::Api(_, ApiFault::Hang));
            let deadline = if self.strikes.iter().any(hangs) {
                SHORT_DEADLINE
            } else {
                DEADLINE
            };
            let mut world = prepared(self.scenario, self.transport, deadline, change).await;
            world.stage.script.begin(self.strikes.clone());
            // The one that is played again is told with all that was said.
            if std::env::var_os("EXPLORE_PAIR").is_some() {
                world.stage.trace.begin();
            }
            let mut trace = play(&mut world, self.strikes.len(), &self.expected).await;
            if self.expected.end.late > 0 {
                let late = SignedDuration::from_mins(self.expected.end.late);
                world.run_for(late).await;
            }
            let wrong = self.check(&mut world, &mut trace).await;
            let problems = wrong.join("\n  ");
            if wrong.is_empty() {
                Ok(())
            } else {
                Err(format!("{}\n  {problems}\n{}", self.name, story(&world, &trace)))
            }
        })
    }

    async fn check(&self, world: &mut World, trace: &mut Trace) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut must = |holds: bool, what: String| {
            if !holds {
                wrong.push(what);
            }
        };
        let Expected {
            changes,
            end,
            within,
            looks,
            calls: most_calls,
            strangers,
        } = &self.expected;
        let calls = world.stage.script.calls();
        must(
            world.stage.script.struck() == self.strikes.len(),
            "a strike missed its call".into(),
        );
        must(trace.is_at_rest, format!("I4: not at rest after {} turns", trace.turns));
        must(trace.elapsed <= *within, format!("I4: rest after {:#}", trace.elapsed));
        // What bounds the calls: a handful of looks, and one more try of a change at most for each strike.
        let count = |of: Operation| calls.iter().filter(|call| **call == Call::Cloud(of)).count();
        let sent = count(Operation::Reset) + count(Operation::Add);
        must(
            count(Operation::Show) <= *looks,
            format!("I5: {} looks", count(Operation::Show)),
        );
        must(
            sent <= changes.end() + self.strikes.len(),
            format!("I5: {sent} changes were tried"),
        );
        let deletions = count(Operation::Delete);
        must(
            deletions <= changes.end() + self.strikes.len(),
            format!("I5: {deletions} deletions were tried"),
        );
        must(calls.len() <= *most_calls, format!("I5: {} calls", calls.len()));

        must(
            changes.contains(&world.mutations()),
            format!("I2: {} changes", world.mutations()),
        );
        must(is_in_order(world), "I3: the Secret went back to an older code".into());
        let limit = self.scenario.codes() + changes.end() + strangers;
        must(
            world.stage.judge.most_live() <= limit,
            format!("P2: {} codes at a time", world.stage.judge.most_live()),
        );
        check_end(world, end, &mut must);

        // After the last fault there is silence.
        let changing = [Operation::Reset, Operation::Add, Operation::Delete];
        let tried = |world: &World| changing.map(|operation| world.calls(operation)).iter().sum::<usize>();
        let (before, writes) = (tried(world), world.writes());
        let quiet = if end.may_wait { 1 } else { 4 };
        world.run_for(SignedDuration::from_hours(quiet)).await;
        must(
            tried(world) == before,
            "I9: changed something again without a reason".into(),
        );
        must(
            world.writes() <= writes + 6 * world.leaders(),
            format!("I4: {} writes in 4 quiet hours", world.writes() - writes),
        );
        check_end(world, end, &mut must);
        if self.scenario.is_beside() {
            check_retired(world, *changes.end(), end, &mut must);
        }
        let found = leaks(&world.stage, &readable(&world.stage));
        must(found.is_empty(), format!("I7: {found:?} can be read"));
        wrong.extend(world.stage.judge.violations());
        wrong.extend(world.stage.api.violations());
        wrong.sort();
        wrong.dedup();
        wrong
    }
}

/// The code in the Secret that the resource names by now.
fn code(world: &World) -> Option<String> {
    world.stage.code_in(&secret_of(&world.stage, 0))
}

fn check_end(world: &World, end: &End, must: &mut impl FnMut(bool, String)) {
    let live = world.live();
    if end.is_gone {
        let is_gone = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none();
        must(is_gone, "the resource is still there".into());
        let is_live = world.code().is_none_or(|code| live.contains(&code));
        let is_empty = world.stage.secret(NAME).is_some() && world.code().is_none() && world.mutations() > 0;
        // What a person wrote over it once it was nobody's any more stays.
        let is_broken = world.stage.judge.is_broken(NAME);
        let secret = world.stage.secret(NAME);
        let is_left = end.may_leave && secret.is_some_and(|secret| world.stage.judge.has_open(&secret));
        must(
            is_broken || is_left || (is_live && !is_empty),
            "I1: the retained Secret holds no live code".into(),
        );
        return;
    }
    if let Some(stalled) = world.stalled().filter(|_| !end.stops.is_empty()) {
        must(end.stops.contains(&stalled.as_str()), format!("stopped for {stalled}"));
        check_stopped(world, must);
        return;
    }
    let status = world.status();
    let (ready, reason, message) = world.condition(ConditionType::Ready);
    must(ready == "True", format!("I4: Ready={ready} {reason}: {message}"));
    let code = code(world);
    must(
        code.as_ref().is_some_and(|code| live.contains(code)),
        "I1: the Secret holds no live code".into(),
    );
    let shown = status.current.map(|current| current.fingerprint);
    must(
        shown == code.map(|code| world.fingerprint(&code)),
        "status shows another code".into(),
    );
    let is_waiting = end.may_wait && status.phase == Some(Phase::Distributing);
    let resource = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap();
    let wanted = resource["spec"]["rotationTrigger"].as_str().map(str::to_owned);
    // With `Overlap` the next rotation comes only when the code before is retired.
    let is_next = is_waiting && resource["spec"]["strategy"] == "Overlap";
    must(
        status.last_handled_trigger == wanted || is_next,
        format!("I8: handled {:?}", status.last_handled_trigger),
    );
    must(
        status.observed_generation == resource["metadata"]["generation"].as_i64(),
        "I8: another generation was observed".into(),
    );
    must(
        status.rotation.is_none() || is_waiting,
        "a rotation is still shown as open".into(),
    );
}

/// Who waits for a person has lost nothing, and says for what.
fn check_stopped(world: &World, must: &mut impl FnMut(bool, String)) {
    let (name, live) = (secret_of(&world.stage, 0), world.live());
    let code = world.stage.code_in(&name);
    // A Secret that a person has broken is theirs to mend.
    if !world.stage.judge.is_broken(&name) {
        let is_open = world
            .stage
            .secret(&name)
            .is_some_and(|secret| world.stage.judge.has_open(&secret));
        must(
            is_open || code.as_ref().is_none_or(|code| live.contains(code)),
            "I1: the Secret of a stopped one holds a code that is not live".into(),
        );
        let written = world.stage.judge.written(&name);
        must(
            written.last().is_none_or(|last| Some(last) == code.as_ref()),
            "I1: a stopped one has lost the code that it wrote last".into(),
        );
    }
    let status = world.status();
    must(
        status.phase == Some(Phase::Stalled),
        format!("stopped, and its phase is {:?}", status.phase),
    );
    let (_, _, message) = world.condition(ConditionType::Stalled);
    must(!message.is_empty(), "stopped, and nobody is told why".into());
    let resource = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap_or_default();
    must(
        status.observed_generation == resource["metadata"]["generation"].as_i64(),
        "I8: another generation was observed by a stopped one".into(),
    );
}

/// The code before is gone for a reason that is told, or still there for one; and nothing is left behind for it.
fn check_retired(world: &World, changes: usize, end: &End, must: &mut impl FnMut(bool, String)) {
    let deleted = world.ledger().acts_applied(&world.stage.app, Cause::Delete);
    must(deleted <= changes, format!("P2: {deleted} codes were deleted"));
    let is_waiting = end.may_wait && !end.is_gone && world.status().rotation.is_some();
    let is_left = world.live().len() > 1 && !is_waiting;
    let is_told = world.events().contains(&"NotRetired".to_owned()) || end.may_stop(world);
    must(
        !is_left || is_told || end.may_leave,
        format!("{} codes are left and nobody says so", world.live().len()),
    );
    let resource = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap_or_default();
    // An addition whose outcome a person has to tell is still under way.
    let is_open = is_waiting || end.may_stop(world);
    must(
        resource["metadata"]["finalizers"].is_null() || is_open,
        "a finalizer is left behind".into(),
    );
}

/// Whether the operator's writes went from older codes to newer ones only.
pub fn is_in_order(world: &World) -> bool {
    let ledger = world.ledger();
    let written = world.stage.judge.written(NAME);
    let ranks: Vec<_> = written
        .iter()
        .map(|code| ledger.age_rank(&world.stage.app, code))
        .collect();
    ranks.is_sorted()
}

fn story(world: &World, trace: &Trace) -> String {
    let mut text = format!(
        "  {} turns, {} crashes, {:#}; events {:?}\n",
        trace.turns,
        trace.crashes,
        trace.elapsed,
        world.events()
    );
    let mut lines: Vec<String> = Vec::new();
    let calls = world.stage.script.calls();
    lines.extend(
        calls
            .iter()
            .take(200)
            .enumerate()
            .map(|(number, call)| format!("{number}: {call}")),
    );
    for resource in [ROTATIONS, SECRETS] {
        lines.extend(
            world
                .stage
                .api
                .object(resource, NAMESPACE, NAME)
                .map(|object| object.to_string()),
        );
    }
    for effect in world.ledger().effects {
        let print = world.fingerprint(&effect.code);
        lines.push(format!("{:?} {:?} {print}", effect.change, effect.cause));
    }
    lines.push(world.stage.trace.text());
    text.extend(lines.into_iter().map(|line| format!("    {line}\n")));
    text
}
