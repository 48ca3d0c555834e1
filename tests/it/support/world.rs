//! The operator's process on a stage: the real controller, its queue fed and emptied by hand.

use std::sync::Arc;
use std::time::Duration;

use appcode_operator::api::{AppCodeRotationStatus, ConditionType};
use appcode_operator::controller::{Context, Turn, run, take_turn};
use appcode_operator::health::Health;
use appcode_operator::ids::{AppId, Fingerprint};
use appcode_operator::leader::Standing;
use cloud_simulator::{Ledger, Operation};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Stage;
use super::api_server::{EVENTS, ROTATIONS};
use super::gate::ProcessId;
use super::process::{Make, Process};
use super::script::{Call, Verb};
use super::stage::{NAME, NAMESPACE};

/// A wait as long as this is rest: all that is due sooner was done.
const REST: Duration = Duration::from_secs(50 * 60);
/// How soon a process that does not lead tries again to save what it holds.
const HELD_PAUSE: Duration = Duration::from_secs(2);
/// Turns after which a run has failed to come to rest.
const MOST_TURNS: usize = 200;

/// What the operator did until it rested.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pub turns: usize,
    pub elapsed: SignedDuration,
    pub crashes: usize,
    /// Whether it rested at all.
    pub is_at_rest: bool,
}

pub struct World {
    pub stage: Arc<Stage>,
    /// That of the present process.
    pub ctx: Arc<Context>,
    pub make: Make,
    pub process: Process,
    /// Those that were taken over from.
    others: Vec<Other>,
    /// Number of the process that was started last.
    started: ProcessId,
}

/// A process that led before.
struct Other {
    process: Process,
    /// Its turn, if it is in one.
    turn: Option<JoinHandle<()>>,
    /// Whether it works on as if it led.
    leads_on: bool,
}

/// Begins a turn of a process.
fn begin(stage: &Arc<Stage>, process: &Process, turn: Turn) -> JoinHandle<()> {
    let (stage, ctx, number) = (Arc::clone(stage), Arc::clone(&process.ctx), process.number);
    tokio::spawn(async move {
        take_turn(&ctx, turn).await;
        stage.relay.turn_over(number);
    })
}

impl World {
    /// Over HTTP, with an app of one code.
    pub async fn new() -> Self {
        Self::with_codes(1).await
    }

    pub async fn with_codes(codes: usize) -> Self {
        Self::on(Stage::over_http(codes).await)
    }

    /// Over HTTP, with a resource that has taken the app's only code over.
    pub async fn settled() -> Self {
        let mut world = Self::new().await;
        world.stage.create_rotation(|_| ());
        world.run_to_rest().await;
        world.assert_ready();
        world
    }

    pub fn direct() -> Self {
        Self::on(Stage::direct(1))
    }

    pub fn on(stage: Arc<Stage>) -> Self {
        Self::with_deadline(stage, Duration::from_secs(10))
    }

    /// No call on the API server takes longer than `deadline`; that matters only where one hangs.
    pub fn with_deadline(stage: Arc<Stage>, deadline: Duration) -> Self {
        let make = Make::new(&stage, deadline);
        let process = make.start(&stage, 0);
        Self {
            stage,
            ctx: Arc::clone(&process.ctx),
            make,
            process,
            others: Vec::new(),
            started: 0,
        }
    }

    /// Ends the process and starts another.
    pub fn restart(&mut self) {
        let next = self.start();
        self.process = next;
    }

    /// Starts one more process, which is the present one from now on.
    fn start(&mut self) -> Process {
        self.started += 1;
        let process = self.make.start_late(&self.stage, self.started);
        self.ctx = Arc::clone(&process.ctx);
        process
    }

    /// Takes the next turn if one is due; else tells how long there is none. A crash ends the process in the turn.
    async fn step(&mut self, trace: &mut Trace) -> Option<Duration> {
        self.process.sync(&self.stage);
        let alarm = self.process.wake();
        let wait = match self.ctx.queue.pop() {
            Ok(turn) => {
                trace.turns += 1;
                let task = begin(&self.stage, &self.process, turn);
                self.carry(task, trace).await;
                None
            }
            Err(wait) => self.step_of_others(wait.min(alarm), trace).await,
        };
        self.stage.judge.look(&self.stage);
        wait
    }

    /// Waits for the end of the present process's turn; it may crash in it, stand still, or be asked to end.
    async fn carry(&mut self, mut task: JoinHandle<()>, trace: &mut Trace) {
        let stage = Arc::clone(&self.stage);
        let number = self.process.number;
        loop {
            tokio::select! {
                biased;
                () = stage.crashed.notified() => {
                    if self.bury(trace) {
                        task.abort();
                        return;
                    }
                }
                (process, takeover) = stage.relay.taken_over() => {
                    if process == number {
                        let next = self.start();
                        let process = std::mem::replace(&mut self.process, next);
                        if !takeover.leads_on {
                            process.ctx.leadership.set(Standing::Unknown);
                        }
                        let leads_on = takeover.leads_on;
                        self.others.push(Other { process, turn: Some(task), leads_on });
                        return;
                    }
                }
                ended = &mut task => {
                    ended.unwrap();
                    break;
                }
            }
        }
        if stage.is_ending(number) {
            self.end(trace).await;
        }
    }

    /// The present process was asked to end. Another one comes after it.
    async fn end(&mut self, trace: &mut Trace) {
        let ctx = Arc::clone(&self.ctx);
        if self.wind_down(ctx, trace).await {
            self.restart();
        }
    }

    /// A process that was asked to end goes the operator's own way down. Returns whether it has got to its end; it may crash.
    async fn wind_down(&mut self, ctx: Arc<Context>, trace: &mut Trace) -> bool {
        let over = CancellationToken::new();
        over.cancel();
        let stage = Arc::clone(&self.stage);
        let health = Health::of(&ctx);
        let way_down = run(ctx, health, over);
        tokio::select! {
            biased;
            () = stage.crashed.notified() => {
                self.bury(trace);
                false
            }
            () = Box::pin(way_down) => true,
        }
    }

    /// Processes that have crashed are gone. Returns whether the present one has, which is replaced.
    fn bury(&mut self, trace: &mut Trace) -> bool {
        let dead = self.stage.gate.take_crashed();
        trace.crashes += dead.len();
        self.others.retain(|other| !dead.contains(&other.process.number));
        for process in &dead {
            self.stage.relay.turn_over(*process);
        }
        let is_dead = dead.contains(&self.process.number);
        if is_dead {
            self.restart();
        }
        is_dead
    }

    /// A turn of a process that led before, if it may take one and one is due; else how long nobody has one.
    async fn step_of_others(&mut self, mut wait: Duration, trace: &mut Trace) -> Option<Duration> {
        for at in 0..self.others.len() {
            let other = &mut self.others[at];
            if other.turn.is_some() {
                continue;
            }
            let number = other.process.number;
            if self.stage.is_ending(number) {
                let ctx = Arc::clone(&other.process.ctx);
                if self.wind_down(ctx, trace).await {
                    self.others.retain(|other| other.process.number != number);
                }
                return None;
            }
            other.process.sync(&self.stage);
            let ctx = &other.process.ctx;
            let turn = if other.leads_on {
                ctx.queue.pop()
            } else {
                // As one that does not lead it only saves what nobody else has.
                let held = ctx.held();
                let turn = held.iter().find_map(|(key, _)| ctx.queue.pop_one(key));
                turn.ok_or(if held.is_empty() { wait } else { HELD_PAUSE })
            };
            match turn {
                Ok(turn) => {
                    trace.turns += 1;
                    other.turn = Some(begin(&self.stage, &other.process, turn));
                    self.follow(number, trace).await;
                    return None;
                }
                Err(pause) => wait = wait.min(pause),
            }
        }
        Some(wait)
    }

    /// Waits for the end of the turn of a process that led before.
    async fn follow(&mut self, number: ProcessId, trace: &mut Trace) {
        let stage = Arc::clone(&self.stage);
        let place = |others: &[Other]| others.iter().position(|other| other.process.number == number);
        let Some(mut task) = place(&self.others).and_then(|at| self.others[at].turn.take()) else {
            return;
        };
        loop {
            tokio::select! {
                biased;
                () = stage.crashed.notified() => {
                    self.bury(trace);
                    if place(&self.others).is_none() {
                        task.abort();
                        return;
                    }
                }
                _ = stage.relay.taken_over() => {
                    // Somebody leads already; it goes on later.
                    let at = place(&self.others).unwrap();
                    self.others[at].turn = Some(task);
                    return;
                }
                ended = &mut task => return ended.unwrap(),
            }
        }
    }

    /// Turns of others that ended meanwhile are over.
    fn reap(&mut self) {
        for other in &mut self.others {
            if other.turn.as_ref().is_some_and(JoinHandle::is_finished) {
                other.turn = None;
            }
        }
    }

    /// Takes turns and lets time pass until nothing is due for long, or every resource waits for a person.
    pub async fn run_to_rest(&mut self) -> Trace {
        self.run_until(|_| true).await
    }

    /// The same, but a resource that waits for a person rests only where `may_stop` allows it.
    pub async fn run_until(&mut self, may_stop: impl Fn(&Self) -> bool) -> Trace {
        self.run_while(|_| true, may_stop).await
    }

    /// The same, and it is over once `goes_on` does not hold.
    pub async fn run_while(&mut self, goes_on: impl Fn(&Self) -> bool, may_stop: impl Fn(&Self) -> bool) -> Trace {
        let start = self.stage.time.truth();
        let mut trace = Trace::default();
        let mut quiet = 0;
        while trace.turns < MOST_TURNS && goes_on(self) {
            self.reap();
            let (writes, turns) = (self.writes(), trace.turns);
            let wait = self.step(&mut trace).await;
            if trace.turns > turns {
                quiet = if self.writes() == writes { quiet + 1 } else { 0 };
            }
            let rotations = self.stage.api.objects(ROTATIONS);
            let stalled = rotations.iter().filter(|rotation| is_stalled(rotation)).count();
            let is_stuck = stalled > 0 && stalled == rotations.len() && quiet > 2 * stalled && may_stop(self);
            // Two that check by themselves have a longest pause of half a period at least.
            let rest = if self.others.iter().any(|other| other.leads_on) {
                REST / 2
            } else {
                REST
            };
            let is_over = wait.is_some_and(|wait| wait >= rest) && (stalled == 0 || may_stop(self));
            trace.elapsed = self.stage.time.truth().duration_since(start);
            if is_stuck || is_over {
                if self.let_go(&mut trace).await {
                    quiet = 0;
                    continue;
                }
                if !self.stage.is_awaiting() {
                    trace.is_at_rest = true;
                    break;
                }
            }
            self.stage.wait(wait.unwrap_or_default());
        }
        trace
    }

    /// Lets the process end its turn that stands still longest. Returns whether there was one.
    pub async fn let_go(&mut self, trace: &mut Trace) -> bool {
        let Some(process) = self.stage.relay.let_go() else {
            return false;
        };
        self.follow(process, trace).await;
        true
    }

    /// Takes turns for as long as `time`, whatever is due.
    pub async fn run_for(&mut self, time: SignedDuration) -> Trace {
        let end = self.stage.time.truth() + time;
        let mut trace = Trace::default();
        loop {
            self.reap();
            let left = Duration::try_from(end.duration_since(self.stage.time.truth())).unwrap_or_default();
            if let Some(wait) = self.step(&mut trace).await {
                self.stage.wait(wait.min(left));
            }
            if left.is_zero() || trace.turns > 20 * MOST_TURNS {
                return trace;
            }
        }
    }

    /// How many processes work as if they led.
    pub fn leaders(&self) -> usize {
        1 + self.others.iter().filter(|other| other.leads_on).count()
    }

    /// Writes on the API server so far.
    pub fn writes(&self) -> usize {
        self.stage.api.count_asked(|asked| asked.verb.is_write())
    }
}

/// What a test looks at.
impl World {
    pub fn status(&self) -> AppCodeRotationStatus {
        self.status_of(NAME)
    }

    pub fn status_of(&self, name: &str) -> AppCodeRotationStatus {
        let object = self.stage.api.object(ROTATIONS, NAMESPACE, name).unwrap();
        match object.get("status") {
            Some(status) => serde_json::from_value(status.clone()).unwrap(),
            None => AppCodeRotationStatus::default(),
        }
    }

    /// Reason and message of a condition, with its status in front.
    pub fn condition(&self, kind: ConditionType) -> (String, String, String) {
        self.condition_of(NAME, kind)
    }

    pub fn condition_of(&self, name: &str, kind: ConditionType) -> (String, String, String) {
        let status = self.status_of(name);
        let found = status.condition(kind).cloned();
        found.map_or_else(Default::default, |c| (c.status, c.reason, c.message))
    }

    /// When a condition last changed.
    pub fn since(&self, kind: ConditionType) -> Option<Timestamp> {
        let status = self.status();
        status.condition(kind).map(|condition| condition.last_transition_time.0)
    }

    pub fn is_ready(&self) -> bool {
        self.status().is_true(ConditionType::Ready)
    }

    /// Why it stopped, or nothing.
    pub fn stalled(&self) -> Option<String> {
        self.stalled_of(NAME)
    }

    pub fn stalled_of(&self, name: &str) -> Option<String> {
        let (status, reason, _) = self.condition_of(name, ConditionType::Stalled);
        (status == "True").then_some(reason)
    }

    pub fn code(&self) -> Option<String> {
        self.stage.code_in(NAME)
    }

    /// What stands for a code of the stage's app.
    pub fn fingerprint(&self, code: &str) -> String {
        Fingerprint::of(&AppId::parse(self.stage.app.clone()).unwrap(), code).short()
    }

    pub fn live(&self) -> Vec<String> {
        self.stage.live()
    }

    pub fn ledger(&self) -> Ledger {
        self.stage.cloud.with(|cloud| cloud.ledger().clone())
    }

    pub fn calls(&self, operation: Operation) -> usize {
        self.ledger().calls(operation)
    }

    /// Resets and additions that had an effect.
    pub fn mutations(&self) -> usize {
        use cloud_simulator::Cause;
        let ledger = self.ledger();
        let app = &self.stage.app;
        ledger.acts_applied(app, Cause::Reset) + ledger.acts_applied(app, Cause::Add)
    }

    /// Reasons of all events, oldest first.
    pub fn events(&self) -> Vec<String> {
        let asked = self.stage.api.asked().into_iter();
        let events = asked.filter(|asked| asked.resource == EVENTS && asked.verb == Verb::Create);
        events
            .map(|event| event.body["reason"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Calls of the script that are about the API server, by verb and resource.
    pub fn api_calls(&self, wanted: Verb, of: &str) -> usize {
        self.stage
            .script
            .count(|call| matches!(call, Call::Api { verb, resource, .. } if *verb == wanted && *resource == of))
    }

    /// What must hold in every test, whatever it is about.
    pub fn assert_sound(&self) {
        let violations = [self.stage.judge.violations(), self.stage.api.violations()].concat();
        assert_eq!(violations, Vec::<String>::new());
        for rotation in self.stage.api.objects(ROTATIONS) {
            assert!(rotation["status"]["observedGeneration"].as_i64() <= rotation["metadata"]["generation"].as_i64());
            assert_told(&rotation);
        }
    }

    /// The Secret holds a live code and the resource says so.
    pub fn assert_ready(&self) {
        self.assert_sound();
        let (ready, reason, message) = self.condition(ConditionType::Ready);
        assert_eq!((ready.as_str(), reason.as_str()), ("True", "CodeListed"), "{message}");
        let code = self.code().expect("the Secret holds a code");
        assert!(self.live().contains(&code), "the code is live");
        assert_eq!(self.stalled(), None);
    }
}

/// A resource that needs a person says that nothing is changed, and what resolves it.
fn assert_told(rotation: &Value) {
    use appcode_operator::remedy::{commands, prose};

    let conditions = rotation["status"]["conditions"].as_array();
    let is_it = |condition: &&Value| condition["type"] == "Stalled" && condition["status"] == "True";
    let Some(stalled) = conditions.and_then(|conditions| conditions.iter().find(is_it)) else {
        return;
    };
    let message = stalled["message"].as_str().expect("a condition has a message");
    let reassures = ["nothing is changed", "nothing more is changed"];
    assert!(reassures.iter().any(|text| prose(message).contains(text)), "{message}");
    let commands: Vec<&str> = commands(message).collect();
    let is_command = |line: &&str| line.starts_with("kubectl ");
    assert!((1..=2).contains(&commands.len()), "{message}");
    assert!(commands.iter().all(is_command), "{message}");
}

fn is_stalled(rotation: &Value) -> bool {
    let conditions = rotation["status"]["conditions"].as_array();
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition["type"] == "Stalled" && condition["status"] == "True")
    })
}
