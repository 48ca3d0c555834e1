//! The model: a cloud with one app, one Secret, one resource, and replicas between any two steps of a pass.

mod key;

use std::collections::HashSet;
use std::sync::Arc;

use super::Budget;
use appcode_operator::api::{AppCodeRotationStatus, ConditionType, RotationStep, Strategy, TargetStatus};
use appcode_operator::ids::{AppId, AppIdentity, Fingerprint, ProjectId};
use appcode_operator::intent::{Call, Intent, Reading, Verdict};
use appcode_operator::plan::{
    AppReading, Attempt, Cloud, Handover, Held, Limits, Memory, Observed, ResourceView, SeedView, Settling, Step,
    Wanted, plan,
};
use appcode_operator::secret::{Extras, OurSecret, Record, SecretView};
use appcode_operator::status::{Pass, fold, mirror_before_call};
use appcode_operator::template::Layout;
use jiff::{SignedDuration, Timestamp};

/// One tick is longer than every pause of the operator.
const TICK: SignedDuration = SignedDuration::from_hours(5);

/// An attempt is begun again when the other replica writes status between the intent and the call: the call is not made.
const MOST_ATTEMPTS: u32 = 3;

/// What the model starts with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// A code was taken over and a trigger was changed: one PUT is wanted.
    Reset,
    /// First sight of an app without codes: one POST is wanted.
    Add,
    /// As `Reset` with `Overlap`: one POST is wanted, and a DELETE of the code before once time has passed.
    Beside,
}

/// A mistake that the exploration must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Writes do not carry the version they were decided on.
    NoFence,
    /// A lost answer is taken for a call that had no effect.
    LostIsNotApplied,
    /// A negative counts at once.
    NoSettling,
    /// The call is made without an intent on the Secret.
    NoIntent,
    /// The code before is deleted at once.
    NoGrace,
    /// What is to be retired is forgotten when a trigger is changed.
    Stacked,
}

/// The Secret as the API server holds it.
#[derive(Clone, Debug)]
struct Stored {
    version: u32,
    record: Record,
    code: Option<Fingerprint>,
}

#[derive(Clone, Debug, Default)]
struct Replica {
    memory: Memory,
    pass: Option<Box<Begun>>,
}

/// A pass that has begun: the Secret was read, perhaps the resource too.
#[derive(Clone, Debug)]
struct Begun {
    secret: Option<Stored>,
    observed: Option<Observed>,
    status_version: u32,
}

/// One event of a trace, and those before it.
struct Event {
    what: String,
    before: Option<Arc<Event>>,
}

/// What is written to the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// It is made, with a record alone.
    New,
    /// A mark that a call follows.
    Mark,
    /// How far a rotation has come.
    Note,
    Code(Fingerprint),
}

/// How a call that changes the app goes.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Well,
    Refused,
    AnswerLost,
    Late,
    Half,
}

#[allow(clippy::struct_excessive_bools, reason = "each is one free choice")]
#[derive(Clone)]
pub struct World {
    scenario: Scenario,
    bug: Option<Bug>,
    codes: Vec<Fingerprint>,
    ever: Vec<Fingerprint>,
    strangers: Vec<Fingerprint>,
    updated_at: i64,
    in_flight: Option<Intent>,
    secret: Option<Stored>,
    versions: u32,
    trigger: u8,
    triggers: u8,
    uid: u8,
    /// The resource is gone for good.
    is_deleted: bool,
    /// When it was deleted, while a finalizer holds it.
    deleting: Option<Timestamp>,
    has_finalizer: bool,
    /// Ticks when a code was put into the Secret with `Overlap`.
    persisted: u8,
    /// A code was deleted that must not be.
    wrongly_deleted: Option<&'static str>,
    /// A fault has struck.
    is_struck: bool,
    status: AppCodeRotationStatus,
    status_version: u32,
    replicas: Vec<Replica>,
    ticks: u8,
    most_ticks: u8,
    faults: u8,
    acts: u8,
    mutations: u8,
    halves: u8,
    /// Something that the docs name as a limit has happened: the Secret was taken away.
    is_secret_lost: bool,
    written: Vec<Fingerprint>,
    trace: Option<Arc<Event>>,
}

fn app() -> AppIdentity {
    AppIdentity {
        endpoint: "https://cloud".into(),
        project_id: ProjectId::parse("project").unwrap(),
        app_id: AppId::parse("app").unwrap(),
    }
}

impl World {
    pub fn start(scenario: Scenario, budget: Budget, bug: Option<Bug>) -> Self {
        let Budget {
            replicas,
            faults,
            acts,
            ticks,
        } = budget;
        let mut world = Self {
            scenario,
            bug,
            codes: Vec::new(),
            ever: Vec::new(),
            strangers: Vec::new(),
            updated_at: 0,
            in_flight: None,
            secret: None,
            versions: 0,
            trigger: 1,
            triggers: 1,
            uid: 1,
            is_deleted: false,
            deleting: None,
            has_finalizer: false,
            persisted: 0,
            wrongly_deleted: None,
            is_struck: false,
            status: AppCodeRotationStatus::default(),
            status_version: 0,
            replicas: vec![Replica::default(); replicas],
            ticks: 0,
            most_ticks: ticks,
            faults: 0,
            acts: 0,
            mutations: 0,
            halves: 0,
            is_secret_lost: false,
            written: Vec::new(),
            trace: None,
        };
        if scenario != Scenario::Add {
            world.make_code();
            world = world
                .rest(&mut HashSet::new())
                .expect("taking a code over comes to rest");
            world.trigger = 2;
            world.status_version += 1;
            world.ticks = 0;
        }
        world.replicas = vec![Replica::default(); replicas];
        (world.faults, world.acts) = (faults, acts);
        world.trace = None;
        world
    }

    fn strike(&mut self) {
        self.faults -= 1;
        self.is_struck = true;
    }

    pub fn faults_left(&self) -> u8 {
        self.faults + self.acts
    }

    /// One replica has lost the same race again and again. Nothing forbids it, and there is no end to such traces.
    pub fn is_unfair(&self) -> bool {
        let intent = self.secret.as_ref().and_then(|secret| secret.record.intent.as_ref());
        intent.is_some_and(|intent| intent.attempt > MOST_ATTEMPTS)
    }

    /// What led here, in words.
    pub fn trace(&self) -> String {
        let mut lines = Vec::new();
        let mut event = self.trace.as_ref();
        while let Some(one) = event {
            lines.push(one.what.as_str());
            event = one.before.as_ref();
        }
        lines.reverse();
        lines.join("\n  ")
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + TICK * i32::from(self.ticks)
    }

    fn uptime(&self) -> SignedDuration {
        TICK * i32::from(self.ticks)
    }

    fn make_code(&mut self) -> Fingerprint {
        let code = Fingerprint::of(&app().app_id, &self.ever.len().to_string());
        self.ever.push(code);
        self.codes.push(code);
        self.codes.sort_unstable();
        self.updated_at += 1;
        code
    }

    fn then(&self, what: impl Into<String>, change: impl FnOnce(&mut Self)) -> Self {
        let mut next = self.clone();
        next.trace = Some(Arc::new(Event {
            what: what.into(),
            before: self.trace.clone(),
        }));
        change(&mut next);
        next
    }

    // ── what can happen next ───────────────────────────────────────────────────────────────────────────────────────

    pub fn successors(&self) -> Vec<Self> {
        let mut next = Vec::new();
        for replica in 0..self.replicas.len() {
            next.extend(self.steps(replica).into_iter().map(|world| world.think(replica)));
            if self.faults > 0 && self.replicas[replica].pass.is_some() {
                next.push(self.then(format!("{replica} crashes"), |world| {
                    world.strike();
                    world.replicas[replica] = Replica::default();
                }));
            }
        }
        if self.in_flight.is_some() {
            next.push(self.then("the late call takes effect", |world| world.land(Fate::Well)));
        } else if self.ticks < self.most_ticks {
            next.push(self.then("time passes", Self::tick));
        }
        if self.acts > 0 {
            next.extend(self.acts());
        }
        next
    }

    fn acts(&self) -> Vec<Self> {
        let act = |what: &str, change: &dyn Fn(&mut Self)| {
            self.then(what, |world| {
                world.acts -= 1;
                change(world);
            })
        };
        let mut next = vec![
            act("a stranger adds a code", &|world| {
                let code = world.make_code();
                world.strangers.push(code);
            }),
            act("the trigger is changed", &|world| {
                world.trigger += 1;
                world.triggers += 1;
                world.status_version += 1;
            }),
        ];
        if !self.has_finalizer {
            next.push(act("the resource is deleted and made again", &|world| {
                world.uid += 1;
                world.status = AppCodeRotationStatus::default();
                world.status_version += 1;
            }));
        }
        if !self.is_deleted {
            next.push(act("the resource is deleted", &|world| {
                if world.has_finalizer {
                    world.deleting = Some(world.now());
                } else {
                    world.is_deleted = true;
                }
                world.status_version += 1;
            }));
        }
        if self.secret.is_some() {
            next.push(act("the Secret is deleted", &|world| {
                world.secret = None;
                world.is_secret_lost = true;
            }));
        }
        next
    }

    /// What a replica does by itself and nobody sees is no step of its own.
    fn think(mut self, at: usize) -> Self {
        loop {
            let observed = self.replicas[at].pass.as_ref().and_then(|pass| pass.observed.as_ref());
            match observed.map(|observed| plan(observed, self.now())) {
                Some(Step::BeginSettling(question)) => {
                    let since = self.uptime();
                    let codes = self
                        .observed(at)
                        .reading()
                        .map(|app| app.codes.clone())
                        .unwrap_or_default();
                    let settling = Settling { question, since, codes };
                    self.observed(at).memory.begin_settling(settling);
                }
                Some(Step::Drop) => self.observed(at).memory.held = None,
                _ => return self,
            }
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        for replica in &mut self.replicas {
            // A mark that has waited is never acted on.
            replica.memory.marked = None;
            if let Some(observed) = replica.pass.as_mut().and_then(|pass| pass.observed.as_mut()) {
                observed.memory.marked = None;
            }
        }
    }

    /// The next step of a replica, once for each way in which it can go.
    fn steps(&self, at: usize) -> Vec<Self> {
        let Some(pass) = &self.replicas[at].pass else {
            return vec![self.then(format!("{at} reads the Secret"), |world| {
                let (secret, status_version) = (world.secret.clone(), world.status_version);
                world.replicas[at].pass = Some(Box::new(Begun {
                    secret,
                    observed: None,
                    status_version,
                }));
            })];
        };
        let Some(observed) = &pass.observed else {
            return vec![self.then(format!("{at} reads the resource"), |world| world.look(at))];
        };
        let step = plan(observed, self.now());
        let name = format!("{at} {}", named(&step));
        match step {
            Step::AskCloud => vec![self.then(name, |world| world.ask(at))],
            Step::CreateSecret { record, .. } => self.writes(at, &name, &record, Written::New),
            Step::WriteIntent { record, .. } => self.writes(at, &name, &record, Written::Mark),
            Step::WriteRecord { record, .. } => self.writes(at, &name, &record, Written::Note),
            Step::WriteCode { code, record, .. } => self.writes(at, &name, &record, Written::Code(code)),
            Step::Hold | Step::Release => {
                let is_held = step == Step::Hold;
                let mut next = vec![self.then(name.clone(), |world| world.hold(at, is_held, false))];
                if self.faults > 0 {
                    next.push(self.then(format!("{name}, answer lost"), |world| {
                        world.strike();
                        world.hold(at, is_held, true);
                    }));
                }
                next
            }
            Step::Mutate(intent) => {
                let mut fates = vec![Fate::Well];
                if self.faults > 0 {
                    fates.extend([Fate::Refused, Fate::AnswerLost]);
                    if self.in_flight.is_none() {
                        fates.push(Fate::Late);
                    }
                    if intent.call == Call::Reset {
                        fates.push(Fate::Half);
                    }
                }
                let go = |fate| self.then(format!("{name}: {fate:?}"), |world| world.mutate(at, &intent, fate));
                fates.into_iter().map(go).collect()
            }
            end => vec![self.then(name, |world| world.report(at, &end))],
        }
    }

    /// A write to the Secret, that is answered and that is not.
    fn writes(&self, at: usize, name: &str, record: &Record, what: Written) -> Vec<Self> {
        let mut next = vec![self.then(name, |world| world.write(at, record.clone(), what, false))];
        if self.faults > 0 {
            next.push(self.then(format!("{name}, answer lost"), |world| {
                world.strike();
                world.write(at, record.clone(), what, true);
            }));
        }
        next
    }

    fn observed(&mut self, at: usize) -> &mut Observed {
        self.replicas[at].pass.as_mut().unwrap().observed.as_mut().unwrap()
    }

    // ── effects, as controller::act has them ───────────────────────────────────────────────────────────────────────

    fn look(&mut self, at: usize) {
        let mirror = self.status.rotation.as_ref().and_then(|shown| shown.intent.clone());
        let mirror = mirror.and_then(|text| Intent::parse(&text).ok());
        let mirror = mirror.filter(|intent| intent.strategy == Strategy::Overlap && !self.is_deleted);
        let grace = if self.bug == Some(Bug::NoGrace) {
            SignedDuration::ZERO
        } else {
            SignedDuration::from_hours(1)
        };
        let handover = Handover {
            strategy: if self.scenario == Scenario::Beside {
                Strategy::Overlap
            } else {
                Strategy::Reset
            },
            grace,
            ..Handover::default()
        };
        let (deleting, has_finalizer) = (self.deleting, self.has_finalizer);
        let settle_window = if self.bug == Some(Bug::NoSettling) {
            SignedDuration::ZERO
        } else {
            SignedDuration::from_mins(2)
        };
        let memory = self.replicas[at].memory.clone();
        if self.is_deleted && memory.held.is_none() {
            self.replicas[at].pass = None;
            return;
        }
        let is_deleted = self.is_deleted;
        let status = if is_deleted {
            AppCodeRotationStatus::default()
        } else {
            self.status.clone()
        };
        let (uptime, status_version) = (self.uptime(), self.status_version);
        // As good as random: no two intents have it in common.
        let draw = u64::from(self.versions) * 10 + at as u64;
        let (uid, generation) = (self.uid.to_string(), i64::from(self.trigger));
        let trigger = Some(self.trigger.to_string());
        let is_stacked = self.bug == Some(Bug::Stacked) && self.trigger > 2;
        let pass = self.replicas[at].pass.as_mut().unwrap();
        pass.status_version = status_version;
        if let Some(intent) = pass.secret.as_mut().and_then(|secret| secret.record.intent.as_mut())
            && is_stacked
            && intent.retires().is_some()
        {
            intent.step = RotationStep::Retired;
        }
        pass.observed = Some(Observed {
            limits: Limits {
                settle_window,
                minimum_interval: SignedDuration::from_mins(10),
                daily_budget: 1000,
                check_period: SignedDuration::from_hours(1),
            },
            resource: ResourceView {
                namespace: "ns".into(),
                name: "name".into(),
                uid,
                generation,
                deleting: is_deleted || deleting.is_some(),
                held_since: deleting.filter(|_| has_finalizer && !is_deleted),
                has_finalizer: has_finalizer && !is_deleted,
                request: None,
                adopt: None,
            },
            wanted: Ok(Wanted {
                app: app(),
                app_name: None,
                seed: SeedView::None,
                schedule: None,
                initial: None,
                trigger,
                suspend: false,
                target: TargetStatus {
                    name: "secret".into(),
                    key: "appCode".into(),
                },
                handover,
                layout: Layout::default(),
            }),
            status,
            target: "secret".into(),
            secret: seen(pass.secret.as_ref()),
            former: SecretView::Absent,
            mirror,
            cloud: Cloud::NotAsked,
            shown_at: None,
            rollouts: None,
            marked: Vec::new(),
            finalizer_refused: None,
            siblings: Vec::new(),
            is_crowded: false,
            memory,
            secret_refused: None,
            nudged: false,
            may_mutate: true,
            uptime,
            draw,
        });
    }

    fn ask(&mut self, at: usize) {
        let (codes, updated_at, uptime) = (self.codes.clone(), self.updated_at, self.uptime());
        let observed = self.observed(at);
        observed.uptime = uptime;
        observed.memory.settle_by(&codes);
        observed.cloud = Cloud::Read(AppReading {
            name: None,
            is_supported: true,
            is_owned: None,
            updated_at: Some(updated_at),
            codes,
            unaddressable: Vec::new(),
            masked: false,
        });
    }

    fn write(&mut self, at: usize, record: Record, what: Written, is_lost: bool) {
        let decided_on = self
            .observed(at)
            .secret
            .ours()
            .map(|secret| secret.resource_version.clone());
        let present = self.secret.as_ref().map(|secret| secret.version.to_string());
        if decided_on != present && self.bug != Some(Bug::NoFence) {
            return self.end(at); // a conflict: all is read again
        }
        if self.secret.is_none() && (self.is_deleted || self.deleting.is_some()) {
            return self.end(at); // nothing is made for nobody
        }
        self.versions += 1;
        let code = match what {
            Written::Code(code) => {
                self.written.push(code);
                let is_new = self
                    .secret
                    .as_ref()
                    .is_some_and(|secret| secret.record.number < record.number);
                self.persisted = if is_new { self.ticks } else { self.persisted };
                Some(code)
            }
            _ => self.secret.as_ref().and_then(|secret| secret.code),
        };
        let stored = Stored {
            version: self.versions,
            record: record.clone(),
            code,
        };
        if !(what == Written::Mark && self.bug == Some(Bug::NoIntent)) {
            self.secret = Some(stored.clone());
        }
        if is_lost {
            return self.end(at);
        }
        let observed = self.observed(at);
        observed.secret = seen(Some(&stored));
        match (what, record.intent) {
            (Written::Mark, Some(intent)) => {
                observed.memory.not_applied = Some(Attempt::of(&intent));
                observed.memory.marked = Some(Attempt::of(&intent));
                observed.memory.settling.clear();
            }
            (Written::Code(_), _) => {
                observed.memory.held = None;
                observed.memory.settling.clear();
            }
            (Written::Note, Some(intent)) if intent.step == RotationStep::Retired => observed.memory.settling.clear(),
            (Written::Note, _) => {}
            _ => observed.cloud = Cloud::NotAsked,
        }
    }

    /// Puts the finalizer on, or takes it off.
    fn hold(&mut self, at: usize, is_held: bool, is_lost: bool) {
        let pass = self.replicas[at].pass.as_ref().unwrap();
        if pass.status_version != self.status_version || self.is_deleted {
            return self.end(at);
        }
        self.has_finalizer = is_held;
        self.status_version += 1;
        self.is_deleted |= !is_held && self.deleting.is_some();
        if is_lost {
            return self.end(at);
        }
        let version = self.status_version;
        self.replicas[at].pass.as_mut().unwrap().status_version = version;
        self.observed(at).resource.has_finalizer = is_held;
    }

    /// Shows the intent in status, as goes before a code is added beside another. Returns whether it stands there.
    fn show_in_status(&mut self, at: usize, intent: &Intent) -> bool {
        if self.replicas[at].pass.as_ref().unwrap().status_version != self.status_version || self.is_deleted {
            return false;
        }
        self.status.rotation = Some(mirror_before_call(intent));
        self.status_version += 1;
        let (version, status) = (self.status_version, self.status.clone());
        self.replicas[at].pass.as_mut().unwrap().status_version = version;
        let observed = self.observed(at);
        observed.status = status;
        observed.mirror = Some(intent.clone());
        true
    }

    fn mutate(&mut self, at: usize, intent: &Intent, fate: Fate) {
        self.observed(at).memory.marked = None;
        if !matches!(fate, Fate::Well) {
            self.strike();
        }
        if intent.strategy == Strategy::Overlap && intent.call == Call::Add && !self.show_in_status(at, intent) {
            return self.end(at);
        }
        self.observed(at).memory.not_applied = None;
        let is_base_live = intent.base.is_some_and(|base| self.codes.contains(&base));
        let is_gone = intent.call != Call::Add && !is_base_live;
        match fate {
            Fate::Refused => {}
            Fate::Late => self.in_flight = Some(intent.clone()),
            _ => self.apply(intent, fate),
        }
        self.ask(at);
        let is_well = matches!(fate, Fate::Well);
        let is_not_applied = matches!(fate, Fate::Refused);
        let is_mistaken = self.bug == Some(Bug::LostIsNotApplied) && !is_well;
        let observed = self.observed(at);
        if let (true, false, Cloud::Read(app)) = (is_well, is_gone, &observed.cloud) {
            let reading = Reading {
                listed: &app.codes,
                updated_at: app.updated_at,
                claimed: &[],
            };
            if let Verdict::Ours(code) = intent.resolve(reading) {
                observed.memory.held = Some(Held {
                    intent: intent.clone(),
                    code,
                });
            }
            return;
        }
        if is_not_applied || is_mistaken {
            observed.memory.not_applied = Some(Attempt::of(intent));
        }
        observed.cloud = Cloud::NotAsked;
    }

    /// What the cloud does with a call.
    fn apply(&mut self, intent: &Intent, fate: Fate) {
        let (Call::Reset | Call::Delete, Some(base)) = (intent.call, intent.base) else {
            self.mutations += 1;
            self.make_code();
            return;
        };
        let Some(place) = self.codes.iter().position(|code| *code == base) else {
            return;
        };
        self.codes.remove(place);
        self.updated_at += 1;
        if intent.call == Call::Delete {
            self.judge_deletion(base);
            return;
        }
        self.mutations += 1;
        if matches!(fate, Fate::Half) {
            self.halves += 1;
        } else {
            self.make_code();
        }
    }

    fn judge_deletion(&mut self, base: Fingerprint) {
        if !self.written.contains(&base) {
            self.wrongly_deleted = Some("P5: a code was deleted that was never ours");
        } else if self.ticks == self.persisted {
            self.wrongly_deleted = Some("the code before was retired before its grace period was over");
        }
    }

    fn land(&mut self, fate: Fate) {
        if let Some(intent) = self.in_flight.take() {
            self.apply(&intent, fate);
        }
    }

    /// Ends a pass without a report: what is remembered stays.
    fn end(&mut self, at: usize) {
        let mut memory = self.observed(at).memory.clone();
        memory.marked = None;
        let done = self.observed(at).secret.ours().map_or(0, |secret| secret.record.number);
        let completed = self.status.rotation_number.unwrap_or(0);
        memory.held = memory.held.filter(|held| held.intent.number > done.max(completed));
        self.replicas[at] = Replica { memory, pass: None };
    }

    fn report(&mut self, at: usize, step: &Step) {
        let now = self.now();
        let pass = self.replicas[at].pass.as_ref().unwrap();
        let observed = pass.observed.as_ref().unwrap();
        let folded = Pass {
            observed,
            step,
            happened: &[],
            plain: None,
            history_limit: 10,
            draw: 0.5,
        };
        let new = fold(folded, now);
        if pass.status_version == self.status_version && new != self.status && !self.is_deleted {
            self.status = new;
            self.status_version += 1;
        }
        self.end(at);
    }

    // ── what must hold ─────────────────────────────────────────────────────────────────────────────────────────────

    /// What does not hold in this state, though it must.
    pub fn wrong(&self) -> Option<String> {
        let wanted =
            u8::from(self.scenario == Scenario::Add) + self.triggers - u8::from(self.scenario == Scenario::Add);
        if self.mutations > wanted.max(1) + self.halves + u8::from(self.is_secret_lost) {
            return Some(format!("I2: {} changes for {wanted} reasons", self.mutations));
        }
        if !self.is_in_order() {
            return Some("I3: an older code was written over a newer one".into());
        }
        // Documented limits: a half reset together with a stranger's code, and an added code whose answer was lost.
        let is_limit = self.halves > 0 || self.scenario != Scenario::Reset;
        if !is_limit && self.written.iter().any(|code| self.strangers.contains(code)) {
            return Some("I6: a stranger's code was taken".into());
        }
        if let Some(wrong) = self.wrongly_deleted {
            return Some(wrong.into());
        }
        // What was to be retired is forgotten with a resource that is made again.
        let is_forgotten = self.is_secret_lost || self.uid > 1;
        if self.scenario == Scenario::Beside && self.ours() > 2 && !is_forgotten {
            return Some(format!("P2: {} codes of ours at a time", self.ours()));
        }
        let secret = self.secret.as_ref()?;
        let is_live = secret.code.is_none_or(|code| self.codes.contains(&code));
        let is_open = secret
            .record
            .open_intent(self.status.rotation_number.unwrap_or(0))
            .is_some_and(|intent| intent.strategy == Strategy::Reset);
        (!is_live && !is_open && !self.is_secret_lost).then(|| "I1: a dead code and no open intent".into())
    }

    /// How many codes the app has that no stranger made.
    fn ours(&self) -> usize {
        let ours = self.codes.iter().filter(|code| !self.strangers.contains(code));
        ours.count()
    }

    fn is_in_order(&self) -> bool {
        let rank = |code: &Fingerprint| self.ever.iter().position(|made| made == code);
        self.written.iter().map(rank).is_sorted()
    }

    fn secret_version(&self) -> Option<u32> {
        self.secret.as_ref().map(|secret| secret.version)
    }

    /// Runs without faults until nothing changes any more, or until a state of which that is `known` already.
    pub fn rest(&self, known: &mut HashSet<u64>) -> Result<Self, String> {
        let mut world = self.clone();
        (world.faults, world.acts) = (0, 0);
        world.land(Fate::Well);
        for _ in 0..12 {
            if !known.insert(world.key()) {
                return Ok(world);
            }
            for at in 0..world.replicas.len() {
                for _ in 0..60 {
                    world = world.steps(at).remove(0).think(at);
                    if let Some(wrong) = world.wrong() {
                        return Err(format!("on the way to rest: {wrong}\n  {}", world.trace()));
                    }
                    if world.replicas[at].pass.is_none() {
                        break;
                    }
                }
                if world.replicas[at].pass.is_some() {
                    return Err("I4: a pass does not end".into());
                }
            }
            world.tick();
        }
        if world.is_deleted {
            // With a fault besides, a retained Secret may keep a dead code: the docs say so.
            let is_kept = world.secret.as_ref().and_then(|secret| secret.code);
            let is_dead = is_kept.is_some_and(|code| !world.codes.contains(&code));
            if is_dead && !world.is_struck && !world.is_secret_lost {
                return Err("I1: the retained Secret holds a dead code".into());
            }
            return Ok(world);
        }
        let is_stopped = world.status.is_true(ConditionType::Stalled);
        let code = world.secret.as_ref().and_then(|secret| secret.code);
        let is_live = code.is_some_and(|code| world.codes.contains(&code));
        if world.status.is_true(ConditionType::Ready) && !is_live {
            return Err("I1: Ready with a dead code at rest".into());
        }
        let is_ready = is_live && world.status.is_true(ConditionType::Ready);
        if !is_stopped && !is_ready {
            return Err(format!("I4: neither ready nor stopped: {:?}", world.status.conditions));
        }
        if !is_stopped && world.status.last_handled_trigger != Some(world.trigger.to_string()) {
            return Err(format!("I8: handled {:?}", world.status.last_handled_trigger));
        }
        // A rotation whose outcome a person has to tell is still under way.
        if world.has_finalizer && !is_stopped {
            return Err("a finalizer is left behind".into());
        }
        let is_forgotten = world.is_secret_lost || world.uid > 1 || !world.strangers.is_empty();
        if world.scenario == Scenario::Beside && world.ours() > 1 && !is_forgotten {
            return Err(format!("{} codes of ours are left", world.ours()));
        }
        let may_stop = world.is_secret_lost || !world.strangers.is_empty();
        if is_stopped && !may_stop {
            return Err(format!("stopped without need: {:?}", world.status.conditions));
        }
        Ok(world)
    }
}

fn seen(stored: Option<&Stored>) -> SecretView {
    stored.map_or(SecretView::Absent, |stored| {
        SecretView::Ours(OurSecret {
            resource_version: stored.version.to_string(),
            record: stored.record.clone(),
            code: stored.code,
            locked: None,
            unfit: None,
            is_inherited: false,
            extras: Extras::default(),
        })
    })
}

fn named(step: &Step) -> String {
    match step {
        Step::AskCloud => "reads the app".into(),
        Step::CreateSecret { .. } => "creates the Secret".into(),
        Step::WriteIntent { record, .. } => {
            let attempt = record
                .intent
                .as_ref()
                .map(|intent| (intent.number, intent.attempt, intent.call));
            format!("writes the intent {attempt:?}")
        }
        Step::WriteRecord { record, .. } => {
            let step = record.intent.as_ref().map(|intent| intent.step);
            format!("notes {step:?}")
        }
        Step::Hold => "puts the finalizer on".into(),
        Step::Release => "takes the finalizer off".into(),
        Step::Mutate(intent) => format!("calls {:?}", intent.call),
        Step::WriteCode { code, why, .. } => format!("writes code {} ({why:?})", code.short()),
        Step::BeginSettling(_) => "begins to settle".into(),
        other => format!("rests: {other:?}"),
    }
}
