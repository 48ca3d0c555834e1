//! A rotation whose outcome is open: what a reading of the app says about it, and what is done then.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::due::told;
use super::{AppReading, Cloud, Denial, Held, Observed, Planner, Question, Sibling, Standing, Step, WriteReason, wait};
use crate::api::{Reason, RotationStep, Strategy, Trigger};
use crate::ids::Fingerprint;
use crate::intent::{CAPACITY, Call, Distribution, Intent, Verdict};
use crate::secret::{OurSecret, Record, SecretView};

/// How soon, and how late at most, a resource is looked at again that waits for another one.
pub(super) const SIBLING_RETRY: (SignedDuration, SignedDuration) =
    (SignedDuration::from_secs(5), SignedDuration::from_mins(15));
/// For how many settle windows a list has to be shown that is older than the call which it is asked about, before what is not on
/// it counts as gone.
const OUTDATED: i32 = 15;
/// The same before what is on it counts: by then a reading that lags shows the call.
const LAGGED: i32 = 2;
/// Settle windows in which a call is sent after its mark, carried out, and listed.
const LANDED: i32 = 3;
/// How long the code of a resource that is deleted is kept while its Secret may not be read.
const UNREADABLE: SignedDuration = SignedDuration::from_hours(24);
/// Longest pause between two attempts of one rotation whose outcomes stay unknown.
const ATTEMPT_PAUSE: SignedDuration = SignedDuration::from_hours(4);

/// What is still done for a resource that is deleted or whose spec is refused: a code that only this process holds is
/// saved where its own open intent waits for it.
pub(super) fn rescue(o: &Observed, now: Timestamp) -> Option<Step> {
    let held = o.memory.held.as_ref()?;
    // What stands there may still wait for it. For one that is gone nobody may ever give the right back.
    let is_young = now.duration_since(held.intent.marked_at) < UNREADABLE;
    if matches!(o.secret, SecretView::Forbidden(_)) && (is_young || !o.resource.deleting) {
        return None;
    }
    let completed = o.status.rotation_number.unwrap_or(0);
    let waiting = o
        .secret
        .ours()
        .filter(|secret| secret.locked.is_none())
        .and_then(|secret| {
            let intent = secret.record.open_intent(completed)?;
            let is_wanted = o.wanted.as_ref().map_or(true, |wanted| wanted.app == intent.app);
            let is_own = intent.rotation_id == held.intent.rotation_id && intent.app == held.intent.app;
            (is_own && is_wanted).then_some((secret, intent))
        });
    let Some((secret, intent)) = waiting else {
        // Nobody comes back for it; a refused spec may still be mended.
        return o.resource.deleting.then_some(Step::Drop);
    };
    match &o.cloud {
        Cloud::NotAsked => Some(Step::AskCloud),
        Cloud::Read(app) if app.masked || !app.is_supported || o.secret_refused.is_some() => None,
        Cloud::Read(app) if app.codes.contains(&held.code) => Some(Step::WriteCode {
            secret: o.target.clone(),
            code: held.code,
            record: persisted(o, &secret.record, &made_by(o, held, Some(intent), app), held.code, now),
            why: WriteReason::Persist,
        }),
        Cloud::Read(app) => {
            let code = held.code.to_string();
            match unsettled_after(o, Question::NotListed { code }, &held.intent, app) {
                Some(Step::Wait { .. }) => None,
                Some(step) => Some(step),
                None => Some(Step::Drop),
            }
        }
        Cloud::Postponed(_) | Cloud::Failed(_) => None,
    }
}

/// The rotation that has made the held code. Another replica may have made a later attempt of it meanwhile, which `open` on
/// the Secret tells of and the code of which is left over. More than that is not taken from what stands there.
fn made_by(o: &Observed, held: &Held, open: Option<&Intent>, app: &AppReading) -> Intent {
    let later = open.map(|intent| intent.attempt);
    match later.filter(|attempt| *attempt > held.intent.attempt) {
        Some(attempt) => Intent {
            attempt,
            ..held.intent.leaving(held.code, app.reading(&claimed(o)))
        },
        None => held.intent.clone(),
    }
}

/// Codes of siblings, as their Secrets or status tell. Also of those whose credentials are refused by now: a code that is theirs stays so.
fn claimed(o: &Observed) -> Vec<Fingerprint> {
    let siblings = o.siblings.iter();
    siblings.flat_map(|sibling| sibling.holds.iter().copied()).collect()
}

/// What is left to do before the answer to `question` counts: a negative counts only when two readings agree, with the
/// settle window between them.
pub(super) fn unsettled(o: &Observed, question: Question) -> Option<Step> {
    unsettled_within(o, question, o.limits.settle_window)
}

/// The same of a negative that `app` says after the call of `intent`. A list that is older than the call tells nothing of it: only
/// one that goes on being shown says that the app's clock is not to be relied on.
fn unsettled_after(o: &Observed, question: Question, intent: &Intent, app: &AppReading) -> Option<Step> {
    outdated(o, intent, app, OUTDATED).or_else(|| unsettled(o, question))
}

/// What is left to do before a list counts that is older than the call of `intent`: it has to be shown for so many settle windows.
fn outdated(o: &Observed, intent: &Intent, app: &AppReading, windows: i32) -> Option<Step> {
    if !intent.is_outdated(app.reading(&[])) {
        return None;
    }
    let question = Question::Outdated {
        rotation_id: intent.rotation_id.clone(),
        attempt: intent.attempt,
    };
    unsettled_within(o, question, o.limits.settle_window.saturating_mul(windows))
}

/// The same with `window` between the two readings.
fn unsettled_within(o: &Observed, question: Question, window: SignedDuration) -> Option<Step> {
    let codes = &o.reading()?.codes;
    match o.memory.settling(&question) {
        Some(settling) if settling.codes == *codes => {
            let left = window.saturating_sub(o.uptime.saturating_sub(settling.since));
            left.is_positive().then(|| {
                let message =
                    "What became of a call, or of a code, is not clear yet; the cloud is read again to be sure.";
                // What comes to light meanwhile is not waited for to the end.
                wait(Reason::Settling, message, left.min(o.limits.settle_window))
            })
        }
        _ => Some(Step::BeginSettling(question)),
    }
}

/// The record after the rotation of `intent` made `code`.
fn persisted(o: &Observed, record: &Record, intent: &Intent, code: Fingerprint, now: Timestamp) -> Record {
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
        adopted: o.answer().or(record.adopted),
        recent: record.recent.clone(),
        intent: Some(handed_over(o, intent, now)),
        rendered: record.rendered.clone(),
    }
}

/// The intent once its code is in the Secret. What is left to do for it is told by its distribution.
fn handed_over(o: &Observed, intent: &Intent, now: Timestamp) -> Intent {
    let persisted = Intent {
        step: RotationStep::Persisted,
        outcome: Some(o.memory.outcome(intent)),
        ..intent.clone()
    };
    let handover = o.wanted.as_ref().map(|wanted| &wanted.handover);
    // Nobody knows what a refused spec asks for; what turns out not to be asked for is skipped later.
    let is_awaited = handover.map_or(true, |it| it.is_verified || !it.restarts.is_empty());
    if is_awaited {
        Intent {
            distribution: Some(Distribution::default()),
            ..persisted
        }
    } else if persisted.retires().is_some() {
        persisted.distributed(None, now)
    } else {
        persisted
    }
}

impl Planner<'_> {
    /// A code that only this process holds: saved while it is newer than all that is recorded, and listed; else dropped.
    pub(super) fn held_code(&self) -> Option<Step> {
        let held = self.o.memory.held.as_ref()?;
        let app = self.app()?;
        let number = held.intent.number;
        if held.intent.app != self.wanted.app || number <= self.o.status.rotation_number.unwrap_or(0) {
            return Some(Step::Drop);
        }
        if !app.codes.contains(&held.code) {
            let code = held.code.to_string();
            let question = Question::NotListed { code };
            return unsettled_after(self.o, question, &held.intent, app).or(Some(Step::Drop));
        }
        match &self.o.secret {
            SecretView::Absent => Some(Step::CreateSecret {
                secret: self.wanted.target.name.clone(),
                record: Record {
                    intent: Some(held.intent.clone()),
                    ..self.record()
                },
            }),
            SecretView::Ours(OurSecret {
                record, locked: None, ..
            }) => {
                let open = record.open_intent(self.story.number);
                let own = open.filter(|intent| intent.rotation_id == held.intent.rotation_id);
                if own.is_none() && record.highest_number() >= number {
                    return Some(Step::Drop);
                }
                let intent = made_by(self.o, held, own, app);
                // A Secret from a backup does not know what status tells was handled.
                let grown = Record {
                    handled_trigger: self.story.handled_trigger.clone(),
                    handled_request: self.story.handled_request.clone(),
                    recent: self.recent(),
                    ..record.clone()
                };
                Some(Step::WriteCode {
                    secret: self.wanted.target.name.clone(),
                    code: held.code,
                    record: persisted(self.o, &grown, &intent, held.code, self.now),
                    why: WriteReason::Persist,
                })
            }
            _ => None, // `unusable_secret` has told why, and the code is kept
        }
    }

    /// The open intent of this app, if there is one.
    pub(super) fn open(&self) -> Option<&Intent> {
        let intent = self.o.intent()?;
        (intent.is_open() && intent.number > self.story.number).then_some(intent)
    }

    pub(super) fn open_intent(&self) -> Option<Step> {
        let intent = self.open()?;
        let app = self.app()?;
        if self.o.memory.is_marked(intent) {
            return Some(Step::Mutate(intent.clone()));
        }
        if self.book().is_none() {
            // The Secret was deleted, and only status still told of it.
            return Some(Step::CreateSecret {
                secret: self.wanted.target.name.clone(),
                record: self.record(),
            });
        }
        let claimed = self.claimed();
        if self.is_sibling_open(app) || self.is_adding_together(intent) {
            let new = intent.new_codes(app.reading(&claimed));
            if self.is_sibling_open(app) && !self.is_entangled(intent, app) {
                return Some(self.await_sibling());
            } else if !new.is_empty() {
                return Some(self.disentangled(intent, app, &new));
            }
        }
        let question = Question::Outcome {
            rotation_id: intent.rotation_id.clone(),
            attempt: intent.attempt,
        };
        let window = repeat_window(self.o.limits.settle_window, intent.call);
        if let Some(code) = self.named_instead(intent, app, &claimed) {
            // Our own may still come to light, and an answer that was given long ago is not about this.
            return unsettled_within(self.o, question, window).or_else(|| Some(self.persist(intent, code)));
        }
        let verdict = intent.resolve(app.reading(&claimed));
        // A code that is there is proof but where the list may be older than the call, by less than a reading may lag.
        let windows = if matches!(verdict, Verdict::Ours(_)) {
            LAGGED
        } else {
            OUTDATED
        };
        if let Some(step) = outdated(self.o, intent, app, windows) {
            return Some(step);
        }
        match verdict {
            Verdict::Ours(code) => Some(self.persist(intent, code)),
            Verdict::Repeat => {
                let denial = self.o.memory.denial(intent);
                if !self.o.memory.is_not_applied(intent) || denial.is_some() {
                    let pending = unsettled_within(self.o, question, window);
                    if let Some(step) = pending.or_else(|| self.pause(intent, app)) {
                        return Some(self.denied_still(denial, step));
                    }
                }
                if !self.is_repeatable(intent, app) {
                    return None;
                }
                let is_full = intent.strategy == Strategy::Overlap && intent.call == Call::Add;
                let is_full = is_full.then(|| self.no_place_beside(app)).flatten();
                let refused = is_full.or_else(|| self.misfit(&self.o.secret));
                refused.or_else(|| Some(self.attempt(intent, repeated(intent, app), app, &claimed)))
            }
            Verdict::HalfReset => unsettled(self.o, question).or_else(|| {
                if app.codes.len() >= CAPACITY {
                    return Some(self.no_place_again());
                }
                Some(self.attempt(intent, Call::Add, app, &claimed))
            }),
            Verdict::Ambiguous => {
                let new = intent.new_codes(app.reading(&claimed));
                Some(match self.adopted(app).filter(|code| new.contains(code)) {
                    Some(code) => self.persist(&intent.leaving(code, app.reading(&claimed)), code),
                    None => self.ambiguous(&new),
                })
            }
        }
    }

    /// What is left of the pause before the next attempt.
    fn pause(&self, intent: &Intent, app: &AppReading) -> Option<Step> {
        let pause = attempt_pause(self.o.limits.settle_window, intent.attempt);
        let left = pause.saturating_sub(self.now.duration_since(intent.marked_at));
        let message = "The last call had no effect; it is made again after a pause.";
        (left.is_positive() && left <= pause && self.is_repeatable(intent, app))
            .then(|| wait(Reason::Retrying, message, left))
    }

    /// While it is made sure that an addition was refused, what the cloud said to it stands: a person must act all the while.
    fn denied_still(&self, denial: Option<&Denial>, step: Step) -> Step {
        let denial = denial.filter(|denial| denial.generation == self.o.resource.generation);
        let said = denial.map(|denial| denial.failure.step(self.o.limits.check_period));
        match (said, step) {
            (Some(Step::Stop { reason, message, .. }), Step::Wait { after, .. }) => {
                Step::Stop { reason, message, after }
            }
            (_, step) => step,
        }
    }

    /// The code that a person names where one would have to be added and none is new: it spares the app another one.
    fn named_instead(&self, intent: &Intent, app: &AppReading, claimed: &[Fingerprint]) -> Option<Fingerprint> {
        let is_lost = intent.base.is_some_and(|base| !app.codes.contains(&base));
        let is_missing = (is_lost || intent.call == Call::Add) && intent.new_codes(app.reading(claimed)).is_empty();
        let is_free = |code: &Fingerprint| !claimed.contains(code) && intent.base != Some(*code);
        self.adopted(app).filter(|code| is_missing && is_free(code))
    }

    fn persist(&self, intent: &Intent, code: Fingerprint) -> Step {
        Step::WriteCode {
            secret: self.book_name(),
            code,
            record: persisted(self.o, &self.record(), intent, code, self.now),
            why: WriteReason::Persist,
        }
    }

    fn ambiguous(&self, new: &[Fingerprint]) -> Step {
        let message = format!(
            "Several codes appeared in app {} during a rotation and nothing tells which is ours, so none is taken and \
             nothing more is changed. Find out in the console who made which, and answer. FINGERPRINT is one of {} (SHA-256 \
             over app id, a zero byte and the code).",
            self.wanted.app.app_id,
            told(new)
        );
        self.stop_there(Reason::AmbiguousOutcome, &message, [self.kubectl().answer()])
    }

    /// Two replicas can begin rotations of two resources at one time. Once the codes of both are gone, each would wait for
    /// the other for ever, since nothing tells which new code is whose.
    fn is_entangled(&self, intent: &Intent, app: &AppReading) -> bool {
        let is_lost = intent.base.is_some_and(|base| !app.codes.contains(&base));
        let mut others = self.credible_siblings().filter_map(|sibling| sibling.open.as_ref());
        is_lost && self.is_long_ago(intent.marked_at) && others.all(|open| self.is_long_ago(open.marked_at))
    }

    /// Another rotation was adding a code at the time: a new code may be either one's, and no base tells.
    fn is_adding_together(&self, intent: &Intent) -> bool {
        let together = self.o.limits.settle_window.saturating_mul(LANDED);
        let mut others = self.credible_siblings().filter_map(|sibling| sibling.open.as_ref());
        intent.call == Call::Add
            && others.any(|open| open.adds && intent.marked_at.duration_since(open.marked_at).abs() <= together)
    }

    fn disentangled(&self, intent: &Intent, app: &AppReading, new: &[Fingerprint]) -> Step {
        if let Some(code) = self.adopted(app).filter(|code| new.contains(code)) {
            return self.persist(intent, code);
        }
        let message = format!(
            "Rotations of this resource and of another one on app {} were open together, so nothing tells which new code is \
             whose, and nothing more is changed. Find out in the console, and answer. FINGERPRINT is one of {}.",
            self.wanted.app.app_id,
            told(new)
        );
        self.stop_there(Reason::AmbiguousOutcome, &message, [self.kubectl().answer()])
    }

    /// `Overlap` needs a free place in the app, found out before anything is written.
    pub(super) fn no_place_beside(&self, app: &AppReading) -> Option<Step> {
        (app.codes.len() >= CAPACITY).then(|| {
            let message = format!(
                "App {} holds {CAPACITY} codes, the most it can, so there is no place for a second code beside the current one \
                 and nothing is changed. Delete a code that nobody uses in the cloud's console and have the operator look, or \
                 set spec.strategy to Reset, which kills the old code at once: whoever still uses it fails.",
                self.wanted.app.app_id
            );
            let kubectl = self.kubectl();
            let commands = [kubectl.look(), kubectl.patch(&json!({"strategy": "Reset"}))];
            self.stop_there(Reason::CapacityExhausted, &message, commands)
        })
    }

    fn no_place_again(&self) -> Step {
        let message = format!(
            "App {} holds {CAPACITY} codes, the most it can, so the one that a reset removed cannot be replaced and nothing \
             more is changed. Delete a code that nobody uses in the cloud's console and have the operator look.",
            self.wanted.app.app_id
        );
        self.stop_there(Reason::CapacityExhausted, &message, [self.kubectl().look()])
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
    fn is_repeatable(&self, intent: &Intent, app: &AppReading) -> bool {
        let is_lost = intent.base.is_some_and(|base| !app.codes.contains(&base));
        if intent.call == Call::Add && is_lost && intent.strategy == Strategy::Reset {
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
    pub(super) fn not_now(&self) -> Option<Step> {
        (!self.o.may_mutate).then(|| {
            wait(
                Reason::Waiting,
                "This process may not start a change now.",
                SIBLING_RETRY.0,
            )
        })
    }

    // ── siblings ───────────────────────────────────────────────────────────────────────────────────────────────────

    pub(super) fn claimed(&self) -> Vec<Fingerprint> {
        claimed(self.o)
    }

    /// Siblings that may hold us up: one whose claims do not count cannot squat on an app.
    pub(super) fn credible_siblings(&self) -> impl Iterator<Item = &Sibling> {
        let siblings = self.o.siblings.iter();
        siblings.filter(|sibling| sibling.standing != Standing::Refused)
    }

    /// What the list shows while a sibling's rotation is open may be what that one made.
    pub(super) fn await_sibling(&self) -> Step {
        let message = "A rotation of another resource on this app is open; its outcome is awaited.";
        wait(Reason::Waiting, message, self.sibling_pause())
    }

    /// The longer a sibling's rotation has been open, the less it matters when it is looked at again: a quarter of that
    /// time later.
    pub(super) fn sibling_pause(&self) -> SignedDuration {
        let open = self.credible_siblings().filter_map(|sibling| sibling.open.as_ref());
        let last = open.map(|open| open.marked_at).max();
        let age = last.map_or(SignedDuration::ZERO, |at| self.now.duration_since(at));
        (age / 4).clamp(SIBLING_RETRY.0, SIBLING_RETRY.1)
    }

    /// Whether a sibling's rotation may still change the list. One that was marked long ago, and whose base is listed or
    /// which had none, has had no effect and does not hold others up.
    pub(super) fn is_sibling_open(&self, app: &AppReading) -> bool {
        self.credible_siblings()
            .filter_map(|sibling| sibling.open.as_ref())
            .any(|open| {
                let is_without_effect = open.base.is_none_or(|base| app.codes.contains(&base));
                !(self.is_long_ago(open.marked_at) && is_without_effect)
            })
    }

    /// So long that a call made then has had its effect, if any. A time far ahead was written by a clock that has since been
    /// set back, or by nobody of ours.
    fn is_long_ago(&self, marked_at: Timestamp) -> bool {
        self.now.duration_since(marked_at).abs() > self.o.limits.settle_window.saturating_mul(LANDED)
    }
}

/// What is called again. A reset that seemed to be half done, and whose base is listed after all, has only to be made.
fn repeated(intent: &Intent, app: &AppReading) -> Call {
    let is_listed = intent.base.is_some_and(|base| app.codes.contains(&base));
    match (intent.strategy, intent.call) {
        (Strategy::Reset, Call::Add) if is_listed => Call::Reset,
        (_, call) => call,
    }
}

/// How far the readings lie apart by which a call had no effect. A reset that is made again finds its code gone if it was
/// made after all. An addition does not, so that it is given a window to be carried out and one more to be listed.
pub(super) fn repeat_window(window: SignedDuration, call: Call) -> SignedDuration {
    match call {
        Call::Add => window.saturating_mul(2),
        Call::Reset | Call::Delete => window,
    }
}

/// Pause before attempt `attempt + 1` when the outcome of `attempt` stayed unknown: doubling, so that a cloud that
/// answers and changes nothing is not asked for ever at one pace.
pub(super) fn attempt_pause(window: SignedDuration, attempt: u32) -> SignedDuration {
    let doublings = attempt.saturating_sub(1).min(20);
    window.saturating_mul(1 << doublings).min(ATTEMPT_PAUSE)
}
