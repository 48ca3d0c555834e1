//! The heart of the operator: from what was observed to the one next step. Pure and total.
//!
//! [`plan`] is an ordered chain of small checks; the first that has something to say wins. It knows no codes, only
//! fingerprints, and does no I/O. The caller performs the step, puts what it learned into [`Observed`] and plans again,
//! until the step is to wait. A crash between any two steps is harmless: all that must not be lost is on the Secret.
//!
//! Read it from [`plan`] downwards: what stops at once, what the cloud is asked for, how an open rotation is resolved,
//! how the Secret is kept as it should be, and what starts a rotation.

mod observed;
mod story;

use jiff::{SignedDuration, Timestamp};

pub use self::observed::*;
pub use self::story::Story;
use crate::api::{InitialRotation, Outcome, Reason, RotationStep, Strategy, Trigger};
use crate::ids::{Fingerprint, RotationId};
use crate::intent::{CAPACITY, Call, Consumed, FORMAT_VERSION, Intent, Verdict, known};
use crate::schedule::spread;
use crate::secret::{OurSecret, Record, SecretView};

/// How soon something is looked at again that a change inside the cluster may have mended.
const LOCAL_RETRY: SignedDuration = SignedDuration::from_secs(60);
/// How soon a resource is looked at again that waits for another one.
const SIBLING_RETRY: SignedDuration = SignedDuration::from_secs(5);
/// Longest pause between two attempts of one rotation whose outcomes stay unknown.
const ATTEMPT_PAUSE: SignedDuration = SignedDuration::from_hours(4);
/// How long an older resource that was not looked at yet is waited for.
const NEWBORN: SignedDuration = SignedDuration::from_secs(60);

/// The one next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Read the credentials, the siblings' Secrets and the app.
    AskCloud,
    /// Create the target Secret with this record and no code.
    CreateSecret {
        /// Its name.
        secret: String,
        /// What it says.
        record: Record,
    },
    /// Write the intent in this record on the Secret, or create the Secret with it.
    WriteIntent {
        /// Name of the Secret.
        secret: String,
        /// The record with the intent.
        record: Record,
    },
    /// Make the call that was just marked. Only ever planned right after its [`Step::WriteIntent`].
    Mutate(Intent),
    /// Write the code and this record into the Secret.
    WriteCode {
        /// Name of the Secret.
        secret: String,
        /// Stands for the code, which the cloud listed.
        code: Fingerprint,
        /// What the Secret says afterwards.
        record: Record,
        /// What this write means.
        why: WriteReason,
    },
    /// Remember that a negative was seen; it counts only once a later reading agrees.
    BeginSettling(Question),
    /// Nothing can be done before some time has passed.
    Wait {
        /// What is waited for.
        reason: Reason,
        /// The same for people.
        message: String,
        /// How long, at least.
        after: SignedDuration,
    },
    /// An earlier failure still holds everything back; nothing was learned.
    BackOff {
        /// How long still.
        after: SignedDuration,
    },
    /// A try failed in a way that may pass; back off.
    Retry {
        /// The failure.
        failure: Failure,
    },
    /// A person must act.
    Stop {
        /// Why.
        reason: Reason,
        /// What happened, to what, and what to do.
        message: String,
        /// How soon it is worth another look.
        after: SignedDuration,
    },
    /// All is as it should be.
    Rest {
        /// When to look again.
        after: SignedDuration,
    },
    /// The resource is gone or going: do nothing more for it.
    Gone,
}

/// What a write of a code means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteReason {
    /// The end of a rotation.
    Persist,
    /// The seed is taken over.
    Adopt,
    /// The Secret is brought back to what it should hold.
    Repair,
}

/// What to do next.
pub fn plan(o: &Observed, now: Timestamp) -> Step {
    if o.resource.deleting {
        return gone(o, now);
    }
    let wanted = match &o.wanted {
        Ok(wanted) => wanted,
        Err(refusal) => return stop(refusal.reason, refusal.message.clone(), LOCAL_RETRY.saturating_mul(60)),
    };
    let planner = Planner {
        o,
        wanted,
        story: Story::tell(o, wanted, now),
        now,
    };
    planner
        .unusable_secret()
        .or_else(|| planner.backing_off())
        .or_else(|| planner.unasked())
        .or_else(|| planner.cloud_trouble())
        .or_else(|| planner.held_code())
        .or_else(|| planner.open_intent())
        .or_else(|| planner.refusal())
        .or_else(|| planner.secret_in_order())
        .or_else(|| planner.due_rotation())
        .unwrap_or_else(|| planner.rest())
}

fn stop(reason: Reason, message: impl Into<String>, after: SignedDuration) -> Step {
    Step::Stop {
        reason,
        message: message.into(),
        after,
    }
}

fn wait(reason: Reason, message: &str, after: SignedDuration) -> Step {
    Step::Wait {
        reason,
        message: message.to_owned(),
        after: after.max(SignedDuration::from_secs(1)),
    }
}

/// A deleted resource: a code that this process holds is still saved where its own open intent waits for it.
fn gone(o: &Observed, now: Timestamp) -> Step {
    let (Some(held), SecretView::Ours(secret), Cloud::Read(app)) = (&o.memory.held, &o.secret, &o.cloud) else {
        return if o.memory.held.is_some() && matches!(o.secret, SecretView::Ours(_)) && o.cloud == Cloud::NotAsked {
            Step::AskCloud
        } else {
            Step::Gone
        };
    };
    match &secret.record.intent {
        Some(intent)
            if intent.is_open()
                && intent.rotation_id == held.intent.rotation_id
                && app.codes.contains(&held.code)
                && secret.locked.is_none() =>
        {
            Step::WriteCode {
                secret: o.target_name(),
                code: held.code,
                record: persisted(&secret.record, intent, held.code, o.memory.outcome(intent), now),
                why: WriteReason::Persist,
            }
        }
        _ => Step::Gone,
    }
}

/// The record after the rotation of `intent` made `code`.
fn persisted(record: &Record, intent: &Intent, code: Fingerprint, outcome: Outcome, now: Timestamp) -> Record {
    Record {
        app: intent.app.clone(),
        number: intent.number,
        fingerprint: Some(code),
        previous: intent.base.or(record.fingerprint),
        rotated_at: Some(now),
        seed: intent.consumed.seed.or(record.seed),
        handled_trigger: intent
            .consumed
            .trigger
            .clone()
            .or_else(|| record.handled_trigger.clone()),
        handled_request: intent
            .consumed
            .request
            .clone()
            .or_else(|| record.handled_request.clone()),
        intent: Some(Intent {
            step: RotationStep::Persisted,
            outcome: Some(outcome),
            ..intent.clone()
        }),
    }
}

struct Planner<'a> {
    o: &'a Observed,
    wanted: &'a Wanted,
    story: Story,
    now: Timestamp,
}

impl Planner<'_> {
    // ── before the cloud is asked ──────────────────────────────────────────────────────────────────────────────────

    /// A Secret that may not be written stops everything, unless an open rotation waits on the Secret it had before.
    fn unusable_secret(&self) -> Option<Step> {
        let name = &self.wanted.target.name;
        if self.open().is_some() && self.book_name() != *name {
            return None;
        }
        match &self.o.secret {
            SecretView::Foreign { why } => Some(stop(
                Reason::SecretConflict,
                format!(
                    "Secret {name} exists and {why}, so it is left alone and nothing is rotated. \
                     Delete that Secret, or name another one in spec.target.name."
                ),
                LOCAL_RETRY,
            )),
            SecretView::Unreadable(why) => Some(stop(
                Reason::UnknownIntentFormat,
                format!(
                    "Nothing is done with Secret {name}: {why}. \
                     Run the operator version that wrote it, or repair the appcode.dev annotations."
                ),
                LOCAL_RETRY,
            )),
            SecretView::Ours(OurSecret { locked: Some(why), .. }) => Some(stop(
                Reason::SecretNotWritable,
                format!("Secret {name} cannot be written: {why}. Delete it, and it will be made again."),
                LOCAL_RETRY,
            )),
            SecretView::Absent | SecretView::Ours(_) => self.o.secret_refused.as_ref().map(|why| {
                stop(
                    Reason::SecretNotWritable,
                    format!("The API server refuses to write Secret {name}: {why}. Mend the operator's rights or the policy."),
                    LOCAL_RETRY,
                )
            }),
        }
    }

    /// Back-off from status, so that a restart forgets nothing. A new generation or a person's touch starts afresh.
    fn backing_off(&self) -> Option<Step> {
        let status = &self.o.status;
        let failures = status.failures.as_ref()?;
        let until = failures.next_attempt_time.as_ref()?.0;
        let is_new = status.observed_generation != Some(self.o.resource.generation) || self.o.nudged;
        let left = until.duration_since(self.now);
        // A time far ahead was written by a clock that has since been set back.
        let holds = left.is_positive() && left <= SignedDuration::from_hours(2);
        let has_work = matches!(self.o.cloud, Cloud::Read(_)) || self.o.memory.held.is_some();
        (holds && !is_new && !has_work).then_some(Step::BackOff { after: left })
    }

    /// The cloud is asked when something rests on its answer, and otherwise once in a check period.
    fn unasked(&self) -> Option<Step> {
        let is_wanted = self.o.cloud == Cloud::NotAsked
            && (self.open().is_some()
                || self.o.memory.held.is_some()
                || self.o.status.observed_generation != Some(self.o.resource.generation)
                || !self.is_check_recent()
                || !self.is_secret_in_order()
                || self.o.nudged
                || (self.due().is_some() && !self.wanted.suspend && self.minimum_interval_left().is_none()));
        is_wanted.then_some(Step::AskCloud)
    }

    fn is_check_recent(&self) -> bool {
        self.check_left().is_positive() && self.o.status.is_true(crate::api::ConditionType::Ready)
    }

    /// Time until the next routine check, spread by uid so that a fleet does not ask in step.
    fn check_left(&self) -> SignedDuration {
        let period = self.o.limits.check_period;
        let early = spread(&self.o.resource.uid, SignedDuration::from_secs(period.as_secs() / 10));
        let verified = self.o.status.last_verified_time.as_ref().map(|time| time.0);
        // A time in the future is worth nothing.
        match verified.filter(|time| *time <= self.now) {
            Some(time) => period
                .saturating_sub(early)
                .saturating_sub(self.now.duration_since(time)),
            None => SignedDuration::ZERO,
        }
    }

    fn is_secret_in_order(&self) -> bool {
        match &self.o.secret {
            SecretView::Ours(secret) => {
                secret.code.is_some() && secret.code == secret.record.fingerprint && self.story.is_current(secret.code)
            }
            _ => false,
        }
    }

    // ── what the cloud said ────────────────────────────────────────────────────────────────────────────────────────

    fn cloud_trouble(&self) -> Option<Step> {
        let app = match &self.o.cloud {
            Cloud::NotAsked => return None,
            Cloud::Failed(failure) => return Some(failure.step(self.o.limits.check_period)),
            Cloud::Read(app) => app,
        };
        let id = &self.wanted.app.app_id;
        if !app.is_supported {
            let message = format!("App {id} lives on a gateway without app codes. Name an app of the API gateway.");
            return Some(stop(Reason::AppTypeUnsupported, message, self.o.limits.check_period));
        }
        app.masked.then(|| {
            let message = format!(
                "The cloud shows codes of app {id} masked only, so no reading can be trusted and nothing is changed. \
                 Use credentials of the IAM user that created the app."
            );
            stop(Reason::CodesMasked, message, self.o.limits.check_period)
        })
    }

    fn app(&self) -> Option<&AppReading> {
        self.o.reading()
    }

    /// What forbids a change though it could be made: another name, another owner.
    fn refusal(&self) -> Option<Step> {
        let app = self.app()?;
        let id = &self.wanted.app.app_id;
        if let Some(name) = self
            .wanted
            .app_name
            .as_ref()
            .filter(|name| app.name.as_ref() != Some(*name))
        {
            let message = format!(
                "App {id} is not named {name}, so nothing is rotated. Correct spec.appName or spec.appId, or rename the app."
            );
            return Some(stop(Reason::AppNameMismatch, message, self.o.limits.check_period));
        }
        (app.is_owned == Some(false)).then(|| {
            let message = format!(
                "App {id} was created by another IAM user, and only its creator may change its codes. \
                 Use that user's credentials."
            );
            stop(Reason::NotOwner, message, self.o.limits.check_period)
        })
    }

    // ── a rotation whose outcome is open ───────────────────────────────────────────────────────────────────────────

    /// A code that only this process holds: saved while it is newer than all that is recorded, and listed.
    fn held_code(&self) -> Option<Step> {
        let held = self.o.memory.held.as_ref()?;
        let app = self.app()?;
        let number = held.intent.number;
        if number <= self.o.status.rotation_number.unwrap_or(0) || !app.codes.contains(&held.code) {
            return None;
        }
        let persist = |secret: &OurSecret| Step::WriteCode {
            secret: self.wanted.target.name.clone(),
            code: held.code,
            record: persisted(
                &secret.record,
                &held.intent,
                held.code,
                self.o.memory.outcome(&held.intent),
                self.now,
            ),
            why: WriteReason::Persist,
        };
        match &self.o.secret {
            _ if held.intent.app != self.wanted.app => None,
            SecretView::Absent => Some(Step::CreateSecret {
                secret: self.wanted.target.name.clone(),
                record: Record {
                    intent: Some(held.intent.clone()),
                    ..self.record()
                },
            }),
            SecretView::Ours(secret) => {
                let intent = secret.record.intent.as_ref();
                let is_own = intent.is_some_and(|i| i.is_open() && i.rotation_id == held.intent.rotation_id);
                (is_own || secret.record.highest_number() < number).then(|| persist(secret))
            }
            SecretView::Foreign { .. } | SecretView::Unreadable(_) => None,
        }
    }

    /// The open intent of this app, if there is one.
    fn open(&self) -> Option<&Intent> {
        let completed = self.o.status.rotation_number.unwrap_or(0);
        let intent = self.book()?.record.open_intent(completed)?;
        (intent.app == self.wanted.app).then_some(intent)
    }

    fn open_intent(&self) -> Option<Step> {
        let intent = self.open()?;
        let app = self.app()?;
        if self.o.memory.is_marked(intent) {
            return Some(Step::Mutate(intent.clone()));
        }
        if self.is_sibling_open(app) {
            let message = "A rotation of another resource on this app is open; its outcome is awaited.";
            return Some(wait(Reason::Waiting, message, SIBLING_RETRY));
        }
        let claimed = self.claimed();
        let question = Question::Outcome {
            rotation_id: intent.rotation_id.clone(),
            attempt: intent.attempt,
        };
        match intent.resolve(app.reading(&claimed)) {
            Verdict::Ours(code) => Some(self.persist(intent, code)),
            Verdict::Repeat => {
                if !self.o.memory.is_not_applied(intent) {
                    if let Some(step) = self.unsettled(question) {
                        return Some(step);
                    }
                    let pause = attempt_pause(self.o.limits.settle_window, intent.attempt);
                    let left = pause.saturating_sub(self.now.duration_since(intent.marked_at));
                    if left.is_positive() && left <= pause && self.is_repeatable(intent) {
                        let message = "The last call had no effect; it is made again after a pause.";
                        return Some(wait(Reason::Retrying, message, left));
                    }
                }
                self.is_repeatable(intent)
                    .then(|| self.attempt(intent, intent.call, app, &claimed))
            }
            Verdict::HalfReset => self.unsettled(question).or_else(|| {
                if app.codes.len() >= CAPACITY {
                    return Some(self.capacity());
                }
                Some(self.attempt(intent, Call::Add, app, &claimed))
            }),
            Verdict::Ambiguous => Some(match self.adopted(app) {
                Some(code) => self.persist(intent, code),
                None => self.ambiguous(intent.new_codes(app.reading(&claimed)).as_slice()),
            }),
        }
    }

    fn persist(&self, intent: &Intent, code: Fingerprint) -> Step {
        Step::WriteCode {
            secret: self.book_name(),
            code,
            record: persisted(&self.record(), intent, code, self.o.memory.outcome(intent), self.now),
            why: WriteReason::Persist,
        }
    }

    fn ambiguous(&self, new: &[Fingerprint]) -> Step {
        let choices = new.iter().map(Fingerprint::short).collect::<Vec<_>>().join(", ");
        let message = format!(
            "Several codes appeared in app {} during a rotation and nothing tells which is ours ({choices}). \
             Compare fingerprints (SHA-256 over app id, a zero byte and the code), then answer: \
             kubectl annotate acr {} appcode.dev/adopt-fingerprint=<one of them>.",
            self.wanted.app.app_id, self.o.resource.name
        );
        stop(Reason::AmbiguousOutcome, message, self.o.limits.check_period)
    }

    fn capacity(&self) -> Step {
        let message = format!(
            "App {} holds {CAPACITY} codes, the most it can, so none can be added. Delete one that is not used.",
            self.wanted.app.app_id
        );
        stop(Reason::CapacityExhausted, message, self.o.limits.check_period)
    }

    /// One more attempt of the same rotation: the mark comes first, so two replicas cannot both repeat.
    fn attempt(&self, intent: &Intent, call: Call, app: &AppReading, claimed: &[Fingerprint]) -> Step {
        self.refusal()
            .or_else(|| self.not_now())
            .unwrap_or_else(|| Step::WriteIntent {
                secret: self.book_name(),
                record: Record {
                    intent: Some(intent.next_attempt(call, app.reading(claimed), self.now)),
                    ..self.record()
                },
            })
    }

    /// Whether the reasons of the intent still stand: same resource, not held, value not withdrawn. Adding a code to
    /// finish a half reset needs no reason: it restores what was there.
    fn is_repeatable(&self, intent: &Intent) -> bool {
        if intent.call == Call::Add && intent.base.is_some() {
            return true;
        }
        let consumed = &intent.consumed;
        let stands = match intent.trigger {
            Trigger::Initial => self.story.current.is_none(),
            Trigger::Target => true,
            Trigger::Schedule => self.wanted.schedule.is_some(),
            Trigger::Spec | Trigger::Request => false,
        };
        let is_asked = (consumed.trigger.is_some() && consumed.trigger == self.wanted.trigger)
            || (consumed.request.is_some() && consumed.request == self.o.resource.request);
        intent.uid == self.o.resource.uid && !self.wanted.suspend && (stands || is_asked)
    }

    /// This process may not start a change: it is shutting down or does not lead.
    fn not_now(&self) -> Option<Step> {
        (!self.o.may_mutate).then(|| {
            wait(
                Reason::Waiting,
                "This process may not start a change now.",
                SIBLING_RETRY,
            )
        })
    }

    // ── settling: a negative counts only when two readings agree, with time between them ───────────────────────────

    /// What is left to do before the answer to `question` counts.
    fn unsettled(&self, question: Question) -> Option<Step> {
        let app = self.app()?;
        let window = self.o.limits.settle_window;
        match &self.o.memory.settling {
            Some(settling) if settling.question == question && settling.codes == app.codes => {
                let left = window.saturating_sub(self.o.uptime.saturating_sub(settling.since));
                left.is_positive().then(|| {
                    let message =
                        "What became of a call, or of a code, is not clear yet; the cloud is read again to be sure.";
                    wait(Reason::Settling, message, left)
                })
            }
            _ => Some(Step::BeginSettling(question)),
        }
    }

    // ── siblings ───────────────────────────────────────────────────────────────────────────────────────────────────

    fn claimed(&self) -> Vec<Fingerprint> {
        self.o
            .siblings
            .iter()
            .flat_map(|sibling| sibling.holds.iter().copied())
            .collect()
    }

    /// Whether a sibling's rotation may still change the list. One whose base is listed long after its last mark has
    /// had no effect and does not hold others up.
    fn is_sibling_open(&self, app: &AppReading) -> bool {
        let late = self.o.limits.settle_window.saturating_mul(2);
        self.o
            .siblings
            .iter()
            .filter_map(|sibling| sibling.open.as_ref())
            .any(|open| {
                let is_old = self.now.duration_since(open.marked_at) > late;
                !(is_old && open.base.is_some_and(|base| app.codes.contains(&base)))
            })
    }

    fn conflict(&self, base: Option<Fingerprint>) -> Option<Step> {
        let base = base?;
        let winner = self
            .o
            .siblings
            .iter()
            .find(|s| s.is_older && s.is_authorized && s.holds.contains(&base))?;
        let who = winner.name.as_ref().map_or_else(
            || "an older resource in another namespace".to_owned(),
            |name| format!("the older AppCodeRotation {name}"),
        );
        let message = format!(
            "Code {} of app {} is already rotated by {who}. Delete one of the two, or name another code.",
            base.short(),
            self.wanted.app.app_id
        );
        Some(stop(Reason::Conflict, message, LOCAL_RETRY))
    }

    /// An older resource of the same app that nobody has looked at yet might claim the same code.
    fn newborn_sibling(&self) -> Option<Step> {
        let is_newborn = |s: &Sibling| s.is_older && !s.is_judged && self.now.duration_since(s.created) < NEWBORN;
        let message = "An older resource on the same app has not been looked at yet; it goes first.";
        self.o
            .siblings
            .iter()
            .any(is_newborn)
            .then(|| wait(Reason::Waiting, message, SignedDuration::from_secs(1)))
    }

    // ── the Secret as it should be ─────────────────────────────────────────────────────────────────────────────────

    /// Takes a seed over, repairs, moves to another Secret; or says that the current code is not listed.
    fn secret_in_order(&self) -> Option<Step> {
        let app = self.app()?;
        let base = match self.base(app) {
            Ok(base) => base,
            Err(step) => return Some(*step),
        };
        if let Some(step) = self.conflict(base) {
            return Some(step);
        }
        let current = base?;
        if self.is_start() {
            if self.starts_by_rotation(app) {
                return None;
            }
            if let Some(step) = self.newborn_sibling() {
                return Some(step);
            }
        } else if self.is_seed_changed() {
            return None;
        }
        let record = self.record_of(current);
        let name = self.wanted.target.name.clone();
        match &self.o.secret {
            SecretView::Absent => Some(Step::CreateSecret { secret: name, record }),
            SecretView::Ours(secret) if secret.code != Some(current) || !is_recorded(secret, &record) => {
                let why = if self.is_start() || secret.record.rotated_at.is_none() {
                    WriteReason::Adopt
                } else {
                    WriteReason::Repair
                };
                let record = Record {
                    rotated_at: record.rotated_at.or(Some(self.now)),
                    ..record
                };
                Some(Step::WriteCode {
                    secret: name,
                    code: current,
                    record,
                    why,
                })
            }
            _ => None,
        }
    }

    /// The record for a Secret that holds `current`, which no rotation of this pass made.
    fn record_of(&self, current: Fingerprint) -> Record {
        let record = self.record();
        let is_start = self.is_start();
        Record {
            app: self.wanted.app.clone(),
            number: self.story.number,
            fingerprint: Some(current),
            rotated_at: if is_start { None } else { self.story.rotated_at },
            seed: self.wanted.seed.fingerprint().or(record.seed),
            handled_trigger: if is_start {
                self.wanted.trigger.clone()
            } else {
                self.story.handled_trigger.clone()
            },
            handled_request: if is_start {
                self.o.resource.request.clone()
            } else {
                self.story.handled_request.clone()
            },
            ..record
        }
    }

    /// The record that the next one grows from.
    fn record(&self) -> Record {
        match self.book() {
            Some(book) if book.record.app == self.wanted.app => book.record.clone(),
            Some(book) => Record {
                number: book.record.number,
                handled_trigger: book.record.handled_trigger.clone(),
                handled_request: book.record.handled_request.clone(),
                ..Record::new(self.wanted.app.clone())
            },
            None => Record {
                number: self.story.number,
                handled_trigger: self.story.handled_trigger.clone(),
                handled_request: self.story.handled_request.clone(),
                ..Record::new(self.wanted.app.clone())
            },
        }
    }

    /// The Secret whose record counts: of the one in spec and the one before, the one with the higher number.
    fn book(&self) -> Option<&OurSecret> {
        self.o.book().map(|(_, secret)| secret)
    }

    fn book_name(&self) -> String {
        match self.o.book() {
            Some((Book::Former, _)) => self
                .o
                .status
                .target
                .as_ref()
                .map_or_else(|| self.wanted.target.name.clone(), |t| t.name.clone()),
            _ => self.wanted.target.name.clone(),
        }
    }

    // ── which code, and whether it is due ──────────────────────────────────────────────────────────────────────────

    /// No code of this app is current yet: first sight, or another app.
    fn is_start(&self) -> bool {
        self.story.current.is_none()
    }

    fn starts_by_rotation(&self, app: &AppReading) -> bool {
        let is_exposed = matches!(self.wanted.seed, SeedView::Known { inline: true, .. });
        let default = if is_exposed || app.codes.is_empty() {
            InitialRotation::Immediate
        } else {
            InitialRotation::WhenDue
        };
        self.story.retargeted || self.wanted.initial.unwrap_or(default) == InitialRotation::Immediate
    }

    /// The seed is another one than was last taken into account, and not simply the current code.
    fn is_seed_changed(&self) -> bool {
        let Some(seed) = self.wanted.seed.fingerprint() else {
            return false;
        };
        !self.is_start() && !self.story.is_seed(seed) && !self.story.is_current(Some(seed))
    }

    /// The code that is current, or that a start begins with; `None` only for an app without codes.
    fn base(&self, app: &AppReading) -> Result<Option<Fingerprint>, Box<Step>> {
        let start = self.is_start() || self.is_seed_changed();
        let named = match (&self.story.current, &self.wanted.seed) {
            (Some(current), _) if !start => app.named(current).ok_or_else(|| current.clone()),
            (_, SeedView::Known { fingerprint, .. }) => {
                app.named(&fingerprint.to_string()).ok_or(fingerprint.to_string())
            }
            (_, SeedView::Unreadable(why)) => {
                let message = format!(
                    "The seed cannot be read: {why}. Mend spec.appCodeFrom, or remove it if the app has one code only."
                );
                return Err(Box::new(stop(Reason::CodeNotListed, message, LOCAL_RETRY)));
            }
            (_, SeedView::None) => match app.codes.as_slice() {
                [] => return Ok(None),
                [only] => Ok(*only),
                _ => {
                    return self
                        .adopted(app)
                        .map(Some)
                        .ok_or_else(|| Box::new(self.ambiguous_start(app)));
                }
            },
        };
        match named {
            Ok(code) => Ok(Some(code)),
            Err(name) => {
                if let Some(step) = self.unsettled(Question::NotListed { code: name.clone() }) {
                    return Err(Box::new(step));
                }
                self.adopted(app)
                    .map(Some)
                    .ok_or_else(|| Box::new(self.not_listed(&name, start)))
            }
        }
    }

    /// The code that a person named as the answer to an ambiguity, if the cloud lists it.
    fn adopted(&self, app: &AppReading) -> Option<Fingerprint> {
        app.named(self.o.resource.adopt.as_ref()?)
    }

    fn ambiguous_start(&self, app: &AppReading) -> Step {
        let choices = app.codes.iter().map(Fingerprint::short).collect::<Vec<_>>().join(", ");
        let message = format!(
            "App {} has several codes and spec names none, so nothing is changed. Set spec.appCodeFrom, or answer: \
             kubectl annotate acr {} appcode.dev/adopt-fingerprint=<one of {choices}>.",
            self.wanted.app.app_id, self.o.resource.name
        );
        stop(Reason::AppCodeAmbiguous, message, self.o.limits.check_period)
    }

    fn not_listed(&self, code: &str, is_seed: bool) -> Step {
        let short = code.get(..Fingerprint::SHORT).unwrap_or(code);
        let what = if is_seed { "The seed" } else { "The current code" };
        let message = format!(
            "{what} (fingerprint {short}) is not among the codes that the cloud lists for app {}, so it was reset or \
             deleted elsewhere; nothing is guessed and nothing is changed. Put the right code into spec.appCodeFrom, or \
             name a listed one: kubectl annotate acr {} appcode.dev/adopt-fingerprint=<fingerprint>.",
            self.wanted.app.app_id, self.o.resource.name
        );
        stop(Reason::CodeNotListed, message, self.o.limits.check_period)
    }

    /// Why a rotation is due now, if it is. Reasons that come together share one rotation; the chief one is told.
    fn due(&self) -> Option<(Trigger, Consumed)> {
        let is_start = self.is_start();
        let trigger = self
            .wanted
            .trigger
            .clone()
            .filter(|value| is_start || !self.story.is_trigger_handled(value));
        let request = self
            .o
            .resource
            .request
            .clone()
            .filter(|value| is_start || !self.story.is_request_handled(value));
        let scheduled = self.next_scheduled().is_some_and(|at| at <= self.now);
        let chief = if is_start {
            let starts = self.app().is_none_or(|app| self.starts_by_rotation(app));
            starts.then_some(if self.story.retargeted {
                Trigger::Target
            } else {
                Trigger::Initial
            })
        } else if self.is_seed_changed() {
            Some(Trigger::Target)
        } else if trigger.is_some() {
            Some(Trigger::Spec)
        } else if request.is_some() {
            Some(Trigger::Request)
        } else {
            scheduled.then_some(Trigger::Schedule)
        };
        chief.map(|chief| {
            (
                chief,
                Consumed {
                    trigger,
                    request,
                    seed: self.wanted.seed.fingerprint(),
                },
            )
        })
    }

    fn next_scheduled(&self) -> Option<Timestamp> {
        let since = self.story.rotated_at?;
        Some(self.wanted.schedule?.next(since, &self.o.resource.uid))
    }

    fn minimum_interval_left(&self) -> Option<SignedDuration> {
        let last = self.story.rotated_at.filter(|_| self.story.number > 0)?;
        let left = self
            .o
            .limits
            .minimum_interval
            .saturating_sub(self.now.duration_since(last));
        left.is_positive().then_some(left)
    }

    fn due_rotation(&self) -> Option<Step> {
        if self.wanted.suspend {
            return None;
        }
        let app = self.app()?;
        let (trigger, consumed) = self.due()?;
        if let Some(left) = self.minimum_interval_left() {
            let message = "A rotation is wanted; it starts once the operator's minimum interval has passed.";
            return Some(wait(Reason::Waiting, message, left));
        }
        if self.is_sibling_open(app) {
            let message = "A rotation of another resource on this app is open; this one starts after it.";
            return Some(wait(Reason::Waiting, message, SIBLING_RETRY));
        }
        if let Some(step) = self
            .newborn_sibling()
            .filter(|_| self.is_start())
            .or_else(|| self.not_now())
        {
            return Some(step);
        }
        let base = match self.base(app) {
            Ok(base) => base,
            Err(step) => return Some(*step),
        };
        let record = self.record();
        let before: Vec<Fingerprint> = record
            .intent
            .iter()
            .flat_map(|old| old.known.iter().chain(&old.base))
            .copied()
            .collect();
        let before: Vec<Fingerprint> = record.fingerprint.into_iter().chain(before).collect();
        let intent = Intent {
            format_version: FORMAT_VERSION,
            rotation_id: RotationId::from_random(self.o.draw),
            number: self.story.highest.saturating_add(1),
            uid: self.o.resource.uid.clone(),
            generation: self.o.resource.generation,
            trigger,
            consumed,
            strategy: Strategy::Reset,
            step: RotationStep::Started,
            app: self.wanted.app.clone(),
            base,
            call: if base.is_some() { Call::Reset } else { Call::Add },
            known: known(&app.codes, &before),
            unclaimed: Vec::new(),
            attempt: 1,
            updated_at: app.updated_at,
            started_at: self.now,
            marked_at: self.now,
            outcome: None,
        };
        Some(Step::WriteIntent {
            secret: self.wanted.target.name.clone(),
            record: Record {
                intent: Some(intent),
                ..record
            },
        })
    }

    /// Nothing to do until the next rotation or the next routine check.
    fn rest(&self) -> Step {
        let check = if self.app().is_some() {
            self.o.limits.check_period
        } else {
            self.check_left()
        };
        let schedule = self
            .next_scheduled()
            .filter(|_| !self.wanted.suspend)
            .map(|at| at.duration_since(self.now));
        let interval = self
            .due()
            .filter(|_| !self.wanted.suspend)
            .and_then(|_| self.minimum_interval_left());
        let soonest = schedule.into_iter().chain(interval).fold(check, SignedDuration::min);
        Step::Rest {
            after: soonest.max(SignedDuration::from_secs(1)),
        }
    }
}

/// Pause before attempt `attempt + 1` when the outcome of `attempt` stayed unknown: doubling, so that a cloud that
/// answers and changes nothing is not asked for ever at one pace.
fn attempt_pause(window: SignedDuration, attempt: u32) -> SignedDuration {
    let doublings = attempt.saturating_sub(1).min(20);
    window.saturating_mul(1 << doublings).min(ATTEMPT_PAUSE)
}

/// Whether the Secret's record already says what it should.
fn is_recorded(secret: &OurSecret, record: &Record) -> bool {
    secret.record.app == record.app
        && secret.record.fingerprint == record.fingerprint
        && secret.record.number == record.number
        && secret.record.seed == record.seed
        && secret.record.rotated_at.is_some()
}
