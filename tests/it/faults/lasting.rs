//! Faults that stay for hours: how often anybody is asked meanwhile, and that all comes right afterwards.
//!
//! The cloud fails for longer than the API server: its pauses grow to hours, those of the API server to a minute.

use std::ops::RangeInclusive;

use appcode_operator::api::ConditionType;
use cloud_simulator::{Body, Cloud, Fault, Half, Lag, Operation, Reply};
use jiff::SignedDuration;
use serde_json::json;

use super::case::{Change, DEADLINE, is_in_order, prepared};
use super::scenario::{Scenario, Transport};
use crate::explore::bugs;
use crate::support::judge::{leaks, readable};
use crate::support::script::{ApiFault, Call, IsCounted, Moment, Strike, Verb};
use crate::support::{World, alone};

/// How long the cloud fails.
const CLOUD_HOURS: i64 = 12;
/// How long the API server fails.
const API_HOURS: i64 = 1;

/// The most that may be asked for while a fault lasts.
struct Most {
    looks: usize,
    changes: usize,
    writes: usize,
    reads: usize,
}

/// What a cloud may be asked for in [`CLOUD_HOURS`]. Looks: the longest back-off is 15 minutes, with its spread half of it
/// on average, and refused credentials are tried every 6 minutes at most. Changes: each look may bring one where it is certain
/// that the last one had no effect. Reads: a person may mend the credentials, and they are read once a minute for that.
const OF_THE_CLOUD: Most = Most {
    looks: 130,
    changes: 130,
    writes: 400,
    reads: 2300,
};

/// Writes in [`CLOUD_HOURS`] of a rotation that is shown in status before its mark is renewed, and once more before its call.
const WRITES_BESIDE: usize = 650;

/// Changes in [`CLOUD_HOURS`] where what became of the last one is not known: pauses doubling from the settle window to
/// four hours.
const UNCERTAIN_CHANGES: usize = 10;

/// What may be asked for in [`API_HOURS`]. A pass that fails is repeated after half a minute on average, with more at the
/// start, and makes three tries of one write; a look may go before each.
const OF_THE_API_SERVER: Most = Most {
    looks: 3 * 150,
    changes: 1,
    writes: 3 * 150,
    reads: 12 * 150,
};

/// The same of a rotation that adds a code, shows that in status before, and deletes one.
const OF_THE_API_SERVER_BESIDE: Most = Most {
    changes: 2,
    writes: 8 * 150,
    ..OF_THE_API_SERVER
};

fn exceeded(world: &World, most: &Most) -> Vec<String> {
    let count = |wanted: &dyn Fn(&Call) -> bool| world.stage.script.count(wanted);
    let is_write = |call: &Call| matches!(call, Call::Api { verb, .. } if verb.is_write());
    let is_read = |call: &Call| matches!(call, Call::Api { verb, .. } if !verb.is_write());
    let is_change = |call: &Call| matches!(call, Call::Cloud(Operation::Reset | Operation::Add | Operation::Delete));
    let counts = [
        (
            "looks",
            count(&|call| *call == Call::Cloud(Operation::Show)),
            most.looks,
        ),
        ("changes", count(&is_change), most.changes),
        ("writes", count(&is_write), most.writes),
        ("reads", count(&is_read), most.reads),
    ];
    let exceeded = counts.into_iter().filter(|(_, count, most)| count > most);
    exceeded
        .map(|(what, count, most)| format!("I5: {count} {what}, and {most} are the most"))
        .collect()
}

/// What is wrong once nothing has failed for long enough.
fn afterwards(world: &World, mutations: RangeInclusive<usize>) -> Vec<String> {
    let mut wrong = [world.stage.judge.violations(), world.stage.api.violations()].concat();
    let (ready, reason, message) = world.condition(ConditionType::Ready);
    if ready != "True" {
        wrong.push(format!("I4: Ready={ready} {reason}: {message}"));
    }
    let live = world.live();
    if world.code().is_none_or(|code| !live.contains(&code)) {
        wrong.push("I1: the Secret holds no live code".into());
    }
    if !mutations.contains(&world.mutations()) {
        wrong.push(format!("I2: {} changes", world.mutations()));
    }
    if !is_in_order(world) {
        wrong.push("I3: the Secret went back to an older code".into());
    }
    let found = leaks(&world.stage, &readable(&world.stage));
    if !found.is_empty() {
        wrong.push(format!("I7: {found:?} can be read"));
    }
    wrong
}

/// What was found wrong in each case, by its name.
#[derive(Default)]
struct Report {
    cases: usize,
    failed: Vec<String>,
}

impl Report {
    fn add(&mut self, name: &str, wrong: &[String]) {
        self.cases += 1;
        if !wrong.is_empty() {
            self.failed.push(format!("{name}\n  {}", wrong.join("\n  ")));
        }
    }

    fn judge(self) {
        let Self { cases, failed } = self;
        println!("{cases} cases, {} failed", failed.len());
        assert!(failed.is_empty(), "of {cases} cases failed:\n{}", failed.join("\n"));
    }
}

/// An answer of 200 that shows the app as it was when the fault began.
fn nothing_done(world: &World) -> Fault {
    let app = world.stage.cloud.with(|cloud| cloud.app(&world.stage.app)).unwrap();
    let body = json!({ "app": {
        "app_id": world.stage.app, "app_name": app.app_name, "app_type": "APIG", "user_id": app.user_id,
        "app_codes": app.codes, "updated_at": app.updated_at,
    }});
    Fault::status_before(Reply::from(200).body(&body.to_string()))
}

/// Faults, and the most changes that each may bring about. Of statuses that are treated alike there is one: every other
/// one strikes single calls elsewhere.
fn lasting(world: &World) -> Vec<(Fault, usize)> {
    let status = |status: u16| Fault::status_before(Reply::from(status));
    let certain = [
        status(400),
        status(401),
        status(403),
        status(429),
        Fault::throttle(Some("0")),
        // By its code: the gateway does not know the path.
        status(404),
    ];
    let uncertain = [
        status(500),
        Fault::status_before(Reply::from(404).code("ModelArts.3923")),
        Fault::cut_before(),
        Fault::cut_after(),
        Fault::status_after(Reply::from(404)),
        Fault::status_after(Reply::from(500)),
        Fault::stale(Lag::OneChange),
        Fault::masked(),
        Fault::body(Body::Html),
        Fault::body(Body::Text(r#"{"app":{}}"#.into())),
        nothing_done(world),
    ];
    let with = |faults: Vec<Fault>, most| faults.into_iter().map(move |fault| (fault, most));
    with(certain.into(), OF_THE_CLOUD.changes)
        .chain(with(uncertain.into(), UNCERTAIN_CHANGES))
        .collect()
}

/// Each lasting fault at every call of `operation`, with `first` as a fault that comes once before.
fn explore(report: &mut Report, scenario: Scenario, operation: Operation, first: Option<&Fault>, mutations: usize) {
    for number in 0.. {
        let Some((name, wrong)) = try_one(number, scenario, operation, first, mutations, &|_, _| ()) else {
            break;
        };
        report.add(&name, &wrong);
    }
}

/// The lasting fault of a number, if there is one: its name and what is wrong.
fn try_one(
    number: usize,
    scenario: Scenario,
    operation: Operation,
    first: Option<&Fault>,
    mutations: usize,
    change: Change<'_>,
) -> Option<(String, Vec<String>)> {
    alone(async {
        let mut world = prepared(scenario, Transport::Direct, DEADLINE, Some(change)).await;
        let (fault, changes) = lasting(&world).get(number)?.clone();
        let name = format!("{scenario:?}: {first:?}, and {:?} at every {operation:?}", fault.kind);
        world.stage.cloud.with(|cloud| {
            if let Some(first) = first {
                cloud.inject(first.clone());
            }
            cloud.inject(fault.at(operation))
        });
        world.stage.script.begin(Vec::new());
        world.run_for(SignedDuration::from_hours(CLOUD_HOURS)).await;
        // The call that `first` strikes is one more, and so is the one that goes well before a deletion.
        let changes = changes + usize::from(first.is_some() || operation == Operation::Delete);
        let most = if scenario.is_beside() {
            WRITES_BESIDE
        } else {
            OF_THE_CLOUD.writes
        };
        let mut wrong = exceeded(
            &world,
            &Most {
                changes,
                writes: most,
                ..OF_THE_CLOUD
            },
        );
        world.stage.cloud.with(Cloud::clear_all);
        // A change may be paused for four hours, and a resource that was stopped is looked at within the next one.
        world.run_for(SignedDuration::from_hours(6)).await;
        wrong.extend(afterwards(&world, mutations..=mutations));
        if scenario.is_beside() && world.live().len() > 1 {
            wrong.push("the code before was never retired".into());
        }
        Some((name, wrong))
    })
}

/// Place of a plain 500 among the faults.
const FAILED: usize = 6;

/// A single fault does not show it, since the reading that comes next tells what became of the call.
#[test]
fn a_cloud_that_fails_for_hours_shows_the_planted_bug_that_500_is_taken_for_not_applied() {
    let bugs = bugs::all();
    let plant = bugs
        .iter()
        .find(|plant| plant.name == "500 is taken for 'not applied'")
        .unwrap();
    let run = |change: Change<'_>| try_one(FAILED, Scenario::Trigger, Operation::Reset, None, 1, change).unwrap();
    let (name, wrong) = run(&|stage, make| plant.set(stage, make));
    assert!(wrong.iter().any(|wrong| wrong.contains("changes")), "{name}: {wrong:?}");
    assert_eq!(run(&|_, _| ()).1, Vec::<String>::new());
}

#[test]
fn a_cloud_that_fails_for_hours_is_asked_rarely_and_all_comes_right_afterwards() {
    let mut report = Report::default();
    // One that has a code already, one that starts with none, one that shows in status what it adds: others meet the cloud as
    // one of these does.
    for (scenario, change) in [
        (Scenario::Trigger, Operation::Reset),
        (Scenario::Add, Operation::Add),
        (Scenario::AtOnce, Operation::Add),
    ] {
        explore(&mut report, scenario, Operation::Show, None, 1);
        explore(&mut report, scenario, change, None, 1);
    }
    report.judge();
}

#[test]
fn a_cloud_that_deletes_nothing_for_hours_is_asked_rarely_and_the_code_before_is_retired_afterwards() {
    let mut report = Report::default();
    explore(&mut report, Scenario::AtOnce, Operation::Delete, None, 1);
    report.judge();
}

#[test]
fn a_code_that_a_half_reset_took_is_replaced_however_long_adding_one_fails() {
    let mut report = Report::default();
    let half = Fault::half_reset(Half::NoneMade).at(Operation::Reset).once();
    explore(&mut report, Scenario::Trigger, Operation::Add, Some(&half), 2);
    report.judge();
}

const VERBS: [(Verb, IsCounted); 4] = [
    (Verb::Get, |call| is(call, Verb::Get)),
    (Verb::Create, |call| is(call, Verb::Create)),
    (Verb::Patch, |call| is(call, Verb::Patch)),
    (Verb::PutStatus, |call| is(call, Verb::PutStatus)),
];

fn is(call: &Call, wanted: Verb) -> bool {
    matches!(call, Call::Api { verb, .. } if *verb == wanted)
}

#[test]
fn an_api_server_that_fails_for_an_hour_is_asked_rarely_and_all_comes_right_afterwards() {
    // One of each kind that is told apart: not found, a conflict, a refusal, and what may pass. A resource that is new
    // meets fewer of them: what else it writes is a Secret that is created.
    let scenarios: [(Scenario, &[u16]); 4] = [
        (Scenario::Trigger, &[404, 409, 422, 500]),
        (Scenario::First, &[409, 500]),
        (Scenario::Add, &[409]),
        (Scenario::Handover, &[409, 500]),
    ];
    let mut report = Report::default();
    for (scenario, statuses) in scenarios {
        for (verb, is_counted) in VERBS {
            // With one let through, the intent is written and the code is held back.
            for (status, skip) in statuses.iter().flat_map(|status| [(*status, 0), (*status, 1)]) {
                let wrong = alone(async {
                    let mut world = scenario.prepare(Transport::Direct, DEADLINE).await;
                    let strike = Strike::Api(Moment::Before, ApiFault::Status(status));
                    world.stage.script.begin_lasting(strike, skip, is_counted);
                    world.run_for(SignedDuration::from_hours(API_HOURS)).await;
                    let most = match scenario {
                        Scenario::Handover => &OF_THE_API_SERVER_BESIDE,
                        _ => &OF_THE_API_SERVER,
                    };
                    let mut wrong = exceeded(&world, most);
                    world.stage.script.begin(Vec::new());
                    world.run_for(SignedDuration::from_mins(95)).await;
                    wrong.extend(afterwards(&world, scenario.changes()..=scenario.changes()));
                    wrong
                });
                let name = format!("{scenario:?}: {status} at every {verb:?} but the first {skip}");
                report.add(&name, &wrong);
            }
        }
    }
    report.judge();
}
