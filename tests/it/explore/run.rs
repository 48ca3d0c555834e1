//! Plays a story: one thread, simulated time, and at each call the story's order says who goes on.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use appcode_operator::controller::take_turn;
use appcode_operator::health::Health;
use appcode_operator::leader::Standing;
use appcode_operator::metrics::Format;
use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::task::JoinHandle;

use super::bugs::Plant;
use super::people::{Deed, NAMES, WORKLOADS, end_grace, give_credentials, give_rights, make, mend_workloads, resume};
use super::story::{Event, Order, Setting, Story, What};
use super::verdict::{Verdict, is_at_rest};
use crate::support::Stage;
use crate::support::gate::{ProcessId, Waiting};
use crate::support::invariant::{Broken, Invariant};
use crate::support::process::{Make, Process};
use crate::support::script::{Act, Armed, Hit, Strike};
use crate::support::workloads::target;

/// Real time never matters: no call hangs.
const DEADLINE: Duration = Duration::from_secs(3600);
/// A wait as long as this is rest, if the resources say so too: it is longer than the settle window.
const REST: Duration = Duration::from_secs(4 * 60);
/// How soon somebody looks whom nobody wakes.
const NEVER: Duration = Duration::from_secs(3600);
/// In peace every process looks at least once more before it is judged.
const LOOK: SignedDuration = SignedDuration::from_mins(65);
/// Peace that has not come to rest by then never does. Two attempts may lie four hours apart.
const LONGEST: SignedDuration = SignedDuration::from_hours(20);
/// How long it must be silent at the end: long enough for any loop, and for two rotations.
const SILENCE: SignedDuration = SignedDuration::from_mins(25);
/// Calls that no story needs until there is rest.
const MOST_CALLS: usize = 3_000;
/// Answers that a person gives for one resource.
const MOST_ANSWERS: usize = 3;
/// Turns of one process at a time.
const AT_A_TIME: usize = 2;

/// What came of a story.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What must hold and does not.
    pub wrong: Vec<Broken>,
    pub calls: usize,
    /// Events that found their calls.
    pub hits: Vec<Hit>,
    pub trace: String,
}

/// Plays it. A trace is kept only where somebody will read it.
pub fn play(story: &Story, plant: Option<&Plant>, is_traced: bool) -> Outcome {
    // A runtime of its own, so that what a crash leaves hanging ends with it. It does no I/O.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.unwrap().block_on(async {
        let mut run = Run::new(story, plant);
        if is_traced {
            run.stage.trace.begin();
        }
        let wrong = run.play().await;
        Outcome {
            wrong,
            calls: run.stage.script.len(),
            hits: run.stage.script.hits(),
            trace: run.stage.trace.text(),
        }
    })
}

struct Turn {
    process: ProcessId,
    task: JoinHandle<()>,
}

pub struct Run<'a> {
    pub story: &'a Story,
    pub stage: Arc<Stage>,
    make: Make,
    /// Those that take turns.
    operators: Vec<Process>,
    /// Those that were told to end, or lead no more, and still save what they hold.
    ending: Vec<Process>,
    turns: Vec<Turn>,
    started: ProcessId,
    random: StdRng,
    last: Option<ProcessId>,
    /// Places whose operators are to be replaced.
    restarts: Arc<Mutex<Vec<usize>>>,
    /// Turns that ended since the last write.
    quiet: usize,
    writes: usize,
    broken: Vec<Broken>,
}

impl<'a> Run<'a> {
    fn new(story: &'a Story, plant: Option<&Plant>) -> Self {
        let stage = Stage::direct(story.setting.codes);
        stage.gate.shut();
        if story.setting.operators > 1 && story.setting.resources > story.setting.codes {
            stage.judge.allow_rivals();
        }
        let mut make = Make::new(&stage, DEADLINE);
        if let Some(plant) = plant {
            plant.set(&stage, &mut make);
        }
        let mut run = Self {
            story,
            make,
            operators: Vec::new(),
            ending: Vec::new(),
            turns: Vec::new(),
            started: 0,
            random: StdRng::seed_from_u64(story.seed),
            last: None,
            restarts: Arc::default(),
            quiet: 0,
            writes: 0,
            broken: Vec::new(),
            stage,
        };
        for _ in 0..story.setting.operators {
            let operator = run.make.start(&run.stage, run.started);
            run.started += 1;
            run.operators.push(operator);
        }
        run
    }

    async fn play(&mut self) -> Vec<Broken> {
        let setting = &self.story.setting;
        if setting.is_restarting {
            self.stage.is_rolling.store(true, Ordering::Relaxed);
            for name in WORKLOADS {
                self.stage.create_workload(&target(name));
            }
        }
        for which in 0..setting.resources {
            make(&self.stage, setting, which);
        }
        if setting.is_settled {
            self.go(SignedDuration::ZERO).await;
            self.stage
                .edit_rotation(NAMES[0], |object| object["spec"]["rotationTrigger"] = json!("1"));
        }
        let began = self.stage.time.truth();
        self.storm().await;
        let mut verdict = Verdict::begin(self, began);
        self.mend();
        // What was put off by a clock that has since been set back waits for up to two hours.
        let has_jumped = self.story.deeds().any(|deed| matches!(deed, Deed::Jump(_)));
        if !self.go(if has_jumped { 4 * LOOK } else { LOOK }).await {
            self.broken
                .push(Invariant::ComesToRest.broken("it does not come to rest"));
        }
        verdict.order(self);
        // One answer may bring the next question up.
        for _ in 0..MOST_ANSWERS {
            if !verdict.answer_as_a_person(self) {
                break;
            }
            self.go(LOOK).await;
        }
        verdict.end(self);
        let before = Verdict::level(self);
        self.pass(SILENCE).await;
        verdict.silence(self, &before);
        for operator in self.operators.iter().chain(&self.ending) {
            self.broken.extend(faults_of_ours(operator));
        }
        // A pass that reads the same old state again and again is ended, as it should be.
        let is_lagging = self.story.deeds().any(|deed| matches!(deed, Deed::Lag(_)));
        self.broken
            .retain(|broken| !(is_lagging && broken.how.ends_with("restless")));
        verdict.sum_up(self, &self.broken)
    }

    /// Everything in the story happens.
    async fn storm(&mut self) {
        let armed = self
            .story
            .events
            .iter()
            .enumerate()
            .map(|(id, event)| self.arm(id, event));
        let armed = armed.collect();
        self.stage.script.arm(armed);
        loop {
            self.go(SignedDuration::ZERO).await;
            // No more calls come by themselves: what people do happens anyway.
            match self.stage.script.next_armed().map(|armed| armed.strike) {
                Some(Strike::Act(_, act)) => {
                    self.stage.note(0, || format!("at rest: {act:?}"));
                    (act.work)(&self.stage);
                }
                Some(_) => {}
                None => break,
            }
        }
    }

    fn arm(&self, id: usize, event: &Event) -> Armed {
        let strike = match &event.what {
            What::Strike(strike) => strike.clone(),
            What::Deed(moment, deed) => Strike::Act(*moment, self.act(deed)),
        };
        Armed {
            id,
            from: event.at,
            strike,
            times: event.times,
        }
    }

    fn act(&self, deed: &Deed) -> Act {
        let (deed, setting) = (deed.clone(), self.story.setting.clone());
        let restarts = Arc::clone(&self.restarts);
        Act::new("somebody does something", move |stage: &Stage| {
            if let Deed::Restart(place) = deed {
                restarts.lock().unwrap().push(place);
            } else {
                deed.work(stage, &setting);
            }
        })
    }

    /// From now on nothing goes wrong, and what people broke that only they can mend is mended.
    fn mend(&mut self) {
        self.stage.script.disarm();
        self.stage.cloud.with(cloud_simulator::Cloud::clear_all);
        give_credentials(&self.stage);
        give_rights(&self.stage);
        for which in 0..self.story.setting.resources {
            resume(&self.stage, which);
            end_grace(&self.stage, which);
        }
        if self.story.setting.is_restarting {
            mend_workloads(&self.stage, self.story.is_meddled());
        }
        self.stage.note(0, || "peace".into());
    }

    /// Goes on until there is rest, for `least` at least. Returns whether there is.
    async fn go(&mut self, least: SignedDuration) -> bool {
        let start = self.stage.time.truth();
        let before = self.stage.script.len();
        self.quiet = 0;
        loop {
            let Some(wait) = self.move_on().await else {
                if self.stage.script.len() > before + MOST_CALLS {
                    return false;
                }
                continue;
            };
            let passed = self.stage.time.truth().duration_since(start);
            let is_stuck = self.quiet > 3 * self.story.setting.resources * self.operators.len();
            let is_rest = least.is_zero() || is_at_rest(&self.stage, self.story);
            if passed >= least && is_rest && (wait >= REST || is_stuck) {
                return true;
            }
            if passed > LONGEST {
                return false;
            }
            self.stage.wait(wait);
        }
    }

    /// Goes on for as long as `time`, whatever is due.
    async fn pass(&mut self, time: SignedDuration) {
        let end = self.stage.time.truth() + time;
        let before = self.stage.script.len();
        loop {
            let left = Duration::try_from(end.duration_since(self.stage.time.truth())).unwrap_or_default();
            if left.is_zero() || self.stage.script.len() > before + MOST_CALLS {
                return;
            }
            if let Some(wait) = self.move_on().await {
                self.stage.wait(wait.min(left));
            }
        }
    }

    /// One move of somebody, or how long nobody can move.
    async fn move_on(&mut self) -> Option<Duration> {
        // More than once, as the first one may wake a task that runs after this one.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.bury();
        self.reap();
        self.let_go();
        self.replace();
        let waits = self.take_turns()?;
        let now = self.stage.time.truth();
        let waiting = self.stage.gate.waiting();
        let free: Vec<Waiting> = waiting
            .iter()
            .copied()
            .filter(|waiting| waiting.until.is_none_or(|until| until <= now))
            .collect();
        if let Some(chosen) = self.choose(&free) {
            self.last = Some(chosen.process);
            self.stage.gate.let_through(chosen.ticket);
            return None;
        }
        let sleeps = waiting.iter().filter_map(|waiting| waiting.until);
        let sleeps = sleeps.map(|until| Duration::try_from(until.duration_since(now)).unwrap_or_default());
        Some(sleeps.chain([waits]).min().unwrap_or(NEVER))
    }

    fn choose(&mut self, free: &[Waiting]) -> Option<Waiting> {
        let first = *free.first()?;
        let Order::OneIn(calls) = self.story.setting.order else {
            return Some(first);
        };
        let same = free.iter().find(|waiting| Some(waiting.process) == self.last);
        match same {
            Some(same) if !self.random.random_ratio(1, calls) => Some(*same),
            _ => free.choose(&mut self.random).copied(),
        }
    }

    /// Those that crashed are replaced at once.
    fn bury(&mut self) {
        for number in self.stage.gate.take_crashed() {
            self.stage.note(number, || "crashed".into());
            self.stage.gate.end(number);
            self.turns.retain(|turn| {
                if turn.process == number {
                    turn.task.abort();
                }
                turn.process != number
            });
            self.ending.retain(|ending| ending.number != number);
            let place = self.operators.iter().position(|operator| operator.number == number);
            if let Some(place) = place {
                let next = self.start();
                let dead = std::mem::replace(&mut self.operators[place], next);
                self.broken.extend(faults_of_ours(&dead));
            }
        }
    }

    /// Processes so far.
    pub fn started(&self) -> usize {
        usize::try_from(self.started).unwrap()
    }

    fn start(&mut self) -> Process {
        let operator = self.make.start_late(&self.stage, self.started);
        self.started += 1;
        operator
    }

    fn reap(&mut self) {
        let before = self.turns.len();
        self.turns.retain(|turn| !turn.task.is_finished());
        let writes = self.stage.api.writes();
        if writes > std::mem::replace(&mut self.writes, writes) {
            self.quiet = 0;
        } else {
            self.quiet += before - self.turns.len();
        }
    }

    /// Those that are told to end start nothing any more; the next one does not wait for them, as with a lease that was
    /// given up or lost.
    fn replace(&mut self) {
        let lapsed = std::mem::take(&mut *self.stage.lapsed.lock().unwrap());
        for number in lapsed {
            let place = self.operators.iter().position(|operator| operator.number == number);
            // One that leads no more already has nothing to lose.
            let Some(place) = place else { continue };
            let next = self.start();
            let old = std::mem::replace(&mut self.operators[place], next);
            old.ctx.leadership.set(Standing::Unknown);
            self.stage.note(old.number, || "has lost its Lease".into());
            self.ending.push(old);
        }
        let places = std::mem::take(&mut *self.restarts.lock().unwrap());
        for place in places {
            let next = self.start();
            let old = std::mem::replace(&mut self.operators[place], next);
            old.ctx.stop();
            self.stage.note(old.number, || "is told to end".into());
            self.ending.push(old);
        }
    }

    /// Begins all turns that are due. Returns how long there is none, or nothing if one was begun.
    fn take_turns(&mut self) -> Option<Duration> {
        let mut wait = NEVER;
        let mut has_begun = false;
        for at in 0..self.operators.len() {
            self.operators[at].sync(&self.stage);
            let ctx = Arc::clone(&self.operators[at].ctx);
            let process = self.operators[at].number;
            while self.turns.iter().filter(|turn| turn.process == process).count() < AT_A_TIME {
                match ctx.queue.pop() {
                    Ok(turn) => {
                        let ctx = Arc::clone(&ctx);
                        let task = tokio::spawn(async move { take_turn(&ctx, turn).await });
                        self.turns.push(Turn { process, task });
                        has_begun = true;
                    }
                    Err(until) => {
                        wait = wait.min(until);
                        break;
                    }
                }
            }
        }
        (!has_begun).then_some(wait)
    }

    /// A process that was told to end is gone with its last turn. What it still holds is found as after a crash.
    fn let_go(&mut self) {
        let turns = &self.turns;
        let is_busy = |process: &Process| turns.iter().any(|turn| turn.process == process.number);
        let (busy, idle): (Vec<_>, Vec<_>) = self.ending.drain(..).partition(is_busy);
        self.ending = busy;
        self.broken.extend(idle.iter().flat_map(faults_of_ours));
    }
}

/// What a process says of itself that no process should.
fn faults_of_ours(process: &Process) -> Vec<Broken> {
    let counted = process.ctx.scrape(Format::OpenMetrics, &Health::of(&process.ctx));
    let is_counted = |result: &&str| {
        let series = format!("appcode_reconciles_total{{result=\"{result}\"}} ");
        counted
            .lines()
            .any(|line| line.strip_prefix(&series).is_some_and(|count| count != "0"))
    };
    ["panicked", "restless", "unknown_code"]
        .into_iter()
        .filter(is_counted)
        .map(|result| Invariant::Sound.broken(format!("a pass ended as {result}")))
        .collect()
}

impl Setting {
    pub fn names(&self) -> impl Iterator<Item = (usize, &'static str)> {
        NAMES.into_iter().take(self.resources).enumerate()
    }
}
