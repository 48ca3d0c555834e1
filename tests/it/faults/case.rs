//! One run: a prepared world, what strikes it, and what must have come of it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use appcode_operator::api::Phase;
use cloud_simulator::{Cause, Operation};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::support::api_server::{ROTATIONS, SECRETS};
use crate::support::judge::{leaks, readable};
use crate::support::prober::INFERENCE_HOST;
use crate::support::script::{ApiFault, Call, Strike};
use crate::support::stage::{NAME, NAMESPACE};
use crate::support::workloads::target;
use crate::support::world::Trace;
use crate::support::{Stage, World, alone};

/// What is restarted where codes are distributed.
pub const WORKLOADS: [(&str, &str); 2] = [("Deployment", "web"), ("StatefulSet", "db")];
/// How long a call may take where one hangs for ever.
const SHORT_DEADLINE: Duration = Duration::from_millis(250);
pub const DEADLINE: Duration = Duration::from_secs(10);

/// The pass that is struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A rotation asked for by `rotationTrigger`.
    Trigger,
    /// The same while the resource has a schedule.
    Scheduled,
    /// First sight: the only code is taken over.
    Adopt,
    /// First sight: an inline seed is rotated at once.
    First,
    /// First sight of an app without codes.
    Add,
    /// As `Trigger` with `Overlap`; the old code is retired at once.
    AtOnce,
    /// The same with a grace period that ends within the run.
    Grace,
    /// As `Trigger`, and the new code is tried and two workloads are restarted with it.
    RollOut,
    /// As `Grace` with the tries and the restarts of `RollOut`.
    Handover,
    /// The resource was deleted in the grace period, which ends soon.
    Farewell,
}

impl Scenario {
    /// A code is replaced or made, and nothing more is done for it.
    pub const ALL: [Self; 5] = [Self::Trigger, Self::Scheduled, Self::Adopt, Self::First, Self::Add];
    /// A new code is brought to its consumers, or the one before is retired.
    pub const BEYOND: [Self; 4] = [Self::AtOnce, Self::Grace, Self::RollOut, Self::Handover];

    /// Resets and additions that it makes, or has made already.
    pub fn mutations(self) -> usize {
        usize::from(self != Self::Adopt)
    }

    /// Whether a code is put beside the one before, which is deleted later.
    pub fn is_beside(self) -> bool {
        matches!(self, Self::AtOnce | Self::Grace | Self::Handover | Self::Farewell)
    }

    /// Whether the new code is tried and workloads are restarted with it.
    pub fn is_distributed(self) -> bool {
        matches!(self, Self::RollOut | Self::Handover)
    }

    /// The first of its calls that another scenario does not make in the same way.
    pub fn news(self, calls: &[Call]) -> usize {
        let is_change = |call: &Call| matches!(call, Call::Cloud(Operation::Reset | Operation::Add));
        let change = calls.iter().position(is_change).unwrap_or_default();
        match self {
            // Up to the write of the code they are as `Trigger` or `AtOnce`.
            Self::Grace | Self::RollOut | Self::Handover => change + 2,
            _ => 0,
        }
    }

    fn grace(self) -> Option<&'static str> {
        match self {
            Self::AtOnce => Some("0s"),
            Self::Grace | Self::Handover => Some("10m"),
            Self::Farewell => Some("1m"),
            _ => None,
        }
    }

    fn spec(self, spec: &mut Value) {
        if self == Self::Scheduled {
            spec["schedule"] = json!({ "interval": "48h" });
        }
        if let Some(grace) = self.grace() {
            spec["strategy"] = json!("Overlap");
            spec["overlap"] = json!({ "gracePeriod": grace });
        }
        if self.is_distributed() {
            spec["restartTargets"] = WORKLOADS
                .map(|(kind, name)| json!({ "kind": kind, "name": name }))
                .into();
            spec["verification"] = json!({ "url": format!("https://{INFERENCE_HOST}/v1/infers/any-service") });
        }
    }

    fn codes(self) -> usize {
        usize::from(self != Self::Add)
    }

    pub async fn prepare(self, transport: Transport, deadline: Duration) -> World {
        let stage = match transport {
            Transport::Http => Stage::over_http(self.codes()).await,
            Transport::Direct => Stage::direct(self.codes()),
        };
        let mut world = World::with_deadline(stage, deadline);
        if self.is_distributed() {
            world.stage.is_rolling.store(true, Ordering::Relaxed);
            for (kind, name) in WORKLOADS {
                world.stage.create_workload(&target(&format!("{kind}/{name}")));
            }
        }
        match self {
            Self::Trigger
            | Self::Scheduled
            | Self::AtOnce
            | Self::Grace
            | Self::RollOut
            | Self::Handover
            | Self::Farewell => {
                world.stage.create_rotation(|spec| self.spec(spec));
                world.run_to_rest().await;
                world.assert_ready();
                world.stage.set_trigger("one");
                if self == Self::Farewell {
                    world.run_for(SignedDuration::from_secs(20)).await;
                    assert_eq!(world.live().len(), 2);
                    world.stage.api.delete(ROTATIONS, NAMESPACE, NAME);
                }
            }
            Self::Adopt | Self::Add => {
                world.stage.create_rotation(|_| ());
            }
            Self::First => {
                let seed = world.live().remove(0);
                world.stage.create_rotation(|spec| spec["appCode"] = json!(seed));
            }
        }
        world
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Http,
    Direct,
}

/// How a run may end.
#[derive(Clone, Debug)]
pub enum End {
    /// Ready with a live code.
    Ready,
    /// Ready, or stopped for one of these reasons: a person must act, and the docs say so.
    ReadyOr(&'static [&'static str]),
    /// Ready at the next routine check, or stopped for one of these reasons.
    AtNextCheck(&'static [&'static str]),
    /// Ready; that the rotation has reached its consumers may wait for a person who mends a workload.
    Waiting,
    /// The resource is gone.
    Gone,
}

impl End {
    fn may_stop(&self, world: &World) -> bool {
        match self {
            Self::Ready | Self::Waiting => false,
            Self::ReadyOr(reasons) | Self::AtNextCheck(reasons) => {
                world.stalled().is_some_and(|reason| reasons.contains(&reason.as_str()))
            }
            Self::Gone => true,
        }
    }
}

/// What must have come of a run.
#[derive(Clone, Debug)]
pub struct Expected {
    /// Changes of the app that had an effect.
    pub mutations: std::ops::RangeInclusive<usize>,
    pub end: End,
    /// From the start of the run to rest.
    pub within: SignedDuration,
    /// The most readings of the app until then.
    pub looks: usize,
}

impl Expected {
    /// Exactly the changes of the scenario, and ready after two longest pauses at most, the grace period apart.
    pub fn of(scenario: Scenario) -> Self {
        let is_gone = scenario == Scenario::Farewell;
        Self {
            mutations: scenario.mutations()..=scenario.mutations(),
            end: if is_gone { End::Gone } else { End::Ready },
            within: SignedDuration::from_secs(2 * 15 * 60 + 10) + beyond(scenario),
            looks: 14,
        }
    }

    pub fn mutations(self, mutations: std::ops::RangeInclusive<usize>) -> Self {
        Self { mutations, ..self }
    }

    pub fn end(self, end: End) -> Self {
        Self { end, ..self }
    }

    /// The time that the scenario takes by itself comes on top.
    pub fn within(self, minutes: i64, scenario: Scenario) -> Self {
        let within = SignedDuration::from_mins(minutes) + beyond(scenario);
        Self { within, ..self }
    }

    pub fn looks(self, looks: usize) -> Self {
        Self { looks, ..self }
    }
}

/// The grace period, the roll-outs, and a routine check that comes soon after them.
fn beyond(scenario: Scenario) -> SignedDuration {
    let is_long = scenario.is_beside() || scenario.is_distributed();
    SignedDuration::from_mins(if is_long { 35 } else { 0 })
}

pub struct Case {
    pub name: String,
    pub scenario: Scenario,
    pub transport: Transport,
    pub strikes: Vec<(usize, Strike)>,
    pub expected: Expected,
}

/// The calls of a run under `strikes`, up to rest.
pub fn learn(scenario: Scenario, strikes: Vec<(usize, Strike)>) -> Vec<Call> {
    alone(async {
        let mut world = scenario.prepare(Transport::Direct, DEADLINE).await;
        world.stage.script.begin(strikes);
        world.run_to_rest().await;
        world.stage.script.calls()
    })
}

impl Case {
    /// Runs it. On failure: what is wrong, and how it came to be.
    pub fn run(&self) -> Result<(), String> {
        alone(async {
            let hangs = |(_, strike): &(usize, Strike)| matches!(strike, Strike::Api(_, ApiFault::Hang));
            let deadline = if self.strikes.iter().any(hangs) {
                SHORT_DEADLINE
            } else {
                DEADLINE
            };
            let mut world = self.scenario.prepare(self.transport, deadline).await;
            world.stage.script.begin(self.strikes.clone());
            let end = self.expected.end.clone();
            let mut trace = if matches!(end, End::Waiting) {
                // Workloads are looked at as long as they keep the rotation from its end.
                let trace = world.run_for(SignedDuration::from_hours(1)).await;
                Trace {
                    is_at_rest: true,
                    ..trace
                }
            } else {
                world.run_until(move |world| end.may_stop(world)).await
            };
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
            mutations,
            end,
            within,
            looks,
        } = &self.expected;
        let calls = world.stage.script.calls();
        must(
            world.stage.script.struck() == self.strikes.len(),
            "a strike missed its call".into(),
        );
        must(trace.is_at_rest, format!("I4: not at rest after {} turns", trace.turns));
        must(trace.elapsed <= *within, format!("I4: rest after {:#}", trace.elapsed));
        // What bounds the calls: a handful of looks and one more change at most, however it is struck.
        let count = |of: Operation| calls.iter().filter(|call| **call == Call::Cloud(of)).count();
        let changes = count(Operation::Reset) + count(Operation::Add);
        must(
            count(Operation::Show) <= *looks,
            format!("I5: {} looks", count(Operation::Show)),
        );
        must(
            changes <= mutations.end() + 1,
            format!("I5: {changes} changes were tried"),
        );
        let most_calls = if matches!(end, End::Waiting) { 250 } else { 140 };
        must(calls.len() <= most_calls, format!("I5: {} calls", calls.len()));

        must(
            mutations.contains(&world.mutations()),
            format!("I2: {} changes", world.mutations()),
        );
        must(is_in_order(world), "I3: the Secret went back to an older code".into());
        let limit = self.scenario.codes() + mutations.end();
        must(
            world.stage.judge.most_live() <= limit,
            format!("P2: {} codes at a time", world.stage.judge.most_live()),
        );
        if !matches!(end, End::AtNextCheck(_)) {
            check_end(world, end, &mut must);
        }

        // After the last fault there is silence.
        let tried = |world: &World| world.calls(Operation::Reset) + world.calls(Operation::Add);
        let (before, writes) = (tried(world), world.writes());
        let quiet = if matches!(end, End::Waiting) { 1 } else { 4 };
        world.run_for(SignedDuration::from_hours(quiet)).await;
        must(tried(world) == before, "I9: rotated again without a reason".into());
        must(
            world.writes() <= writes + if matches!(end, End::AtNextCheck(_)) { 8 } else { 6 },
            format!("I4: {} writes in 4 quiet hours", world.writes() - writes),
        );
        check_end(world, end, &mut must);
        if self.scenario.is_beside() {
            check_retired(world, mutations, end, &mut must);
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

fn check_end(world: &World, end: &End, must: &mut impl FnMut(bool, String)) {
    let live = world.live();
    if matches!(end, End::Gone) {
        let is_gone = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).is_none();
        must(is_gone, "the resource is still there".into());
        let is_live = world.code().is_none_or(|code| live.contains(&code));
        let is_empty = world.stage.secret(NAME).is_some() && world.code().is_none() && world.mutations() > 0;
        must(
            is_live && !is_empty,
            "I1: the retained Secret holds no live code".into(),
        );
        return;
    }
    if let (End::ReadyOr(reasons) | End::AtNextCheck(reasons), Some(stalled)) = (end, world.stalled()) {
        must(reasons.contains(&stalled.as_str()), format!("stopped for {stalled}"));
        return;
    }
    let status = world.status();
    let (ready, reason, message) = world.condition(appcode_operator::api::ConditionType::Ready);
    must(ready == "True", format!("I4: Ready={ready} {reason}: {message}"));
    let code = world.code();
    must(
        code.as_ref().is_some_and(|code| live.contains(code)),
        "I1: the Secret holds no live code".into(),
    );
    let shown = status.current.map(|current| current.fingerprint);
    must(
        shown == code.map(|code| world.fingerprint(&code)),
        "status shows another code".into(),
    );
    let resource = world.stage.api.object(ROTATIONS, NAMESPACE, NAME).unwrap();
    let wanted = resource["spec"]["rotationTrigger"].as_str().map(str::to_owned);
    must(
        status.last_handled_trigger == wanted,
        format!("I8: handled {:?}", status.last_handled_trigger),
    );
    must(
        status.observed_generation == resource["metadata"]["generation"].as_i64(),
        "I8: another generation was observed".into(),
    );
    let is_waiting = matches!(end, End::Waiting) && status.phase == Some(Phase::Distributing);
    must(
        status.rotation.is_none() || is_waiting,
        "a rotation is still shown as open".into(),
    );
}

/// The code before is gone for a reason that is told, or still there for one; and nothing is left behind for it.
fn check_retired(
    world: &World,
    mutations: &std::ops::RangeInclusive<usize>,
    end: &End,
    must: &mut impl FnMut(bool, String),
) {
    let deleted = world.ledger().acts_applied(&world.stage.app, Cause::Delete);
    must(deleted <= *mutations.end(), format!("P2: {deleted} codes were deleted"));
    let is_waiting = matches!(end, End::Waiting) && world.status().rotation.is_some();
    let is_left = world.live().len() > 1 && !is_waiting;
    let is_told = world.events().contains(&"NotRetired".to_owned()) || end.may_stop(world);
    // A second code of ours, or one that nobody could find again.
    let is_excused = *mutations.end() > 1 || matches!(end, End::AtNextCheck(_));
    must(
        !is_left || is_told || is_excused,
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
            .take(60)
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
    text.extend(lines.into_iter().map(|line| format!("    {line}\n")));
    text
}
