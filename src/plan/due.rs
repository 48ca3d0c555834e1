//! Which code a rotation starts from, and whether one is due.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::{AppReading, Planner, Question, SeedView, Step, stop, unsettled, wait};
use crate::api::{CreationPolicy, InitialRotation, Reason, RotationStep, Strategy, Trigger};
use crate::ids::{Fingerprint, RotationId};
use crate::intent::{Call, Consumed, FORMAT_VERSION, Intent, known};
use crate::remedy::{commands, prose};
use crate::secret::Record;

/// Most fingerprints that a message lists; an app of which the documents tell has fewer codes.
const MOST_CHOICES: usize = 8;

/// What the budget is counted over.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Starts that are kept for the budget: some 20 KiB of annotation. A larger budget is none.
const MOST_RECENT: usize = 1000;

/// Codes to choose from, for people.
pub(super) fn told(codes: &[Fingerprint]) -> String {
    let choices = codes.iter().take(MOST_CHOICES).map(Fingerprint::short);
    let more = (codes.len() > MOST_CHOICES).then(|| "others".to_owned());
    choices.chain(more).collect::<Vec<_>>().join(", ")
}

/// What a person whose budget is used up looks for.
fn what_to_take_back(trigger: Trigger) -> &'static str {
    match trigger {
        Trigger::Spec | Trigger::Request => {
            "Find out what changes spec.rotationTrigger or the annotation so often, and take it back."
        }
        Trigger::Target => {
            "Find out what changes the app or the seed that spec names so often, and have it name the one before again."
        }
        Trigger::Initial => {
            "Find out what has this resource begin anew so often; with spec.initialRotation: WhenDue it begins without a \
             rotation."
        }
        Trigger::Schedule => {
            "Find out what else asked for rotations and take that back, or have spec.schedule ask less often."
        }
    }
}

impl Planner<'_> {
    /// No code of this app is current yet: first sight, or another app.
    pub(super) fn is_start(&self) -> bool {
        self.story.current.is_none()
    }

    pub(super) fn starts_by_rotation(&self, app: &AppReading) -> bool {
        let is_exposed = matches!(self.wanted.seed, SeedView::Known { inline: true, .. });
        let default = if is_exposed || app.codes.is_empty() {
            InitialRotation::Immediate
        } else {
            InitialRotation::WhenDue
        };
        self.story.retargeted || self.wanted.initial.unwrap_or(default) == InitialRotation::Immediate
    }

    /// The seed is another one than was last taken into account, and not simply the current code. While a code is still
    /// to be retired the current one is looked after; another seed has its turn after that.
    pub(super) fn is_seed_changed(&self) -> bool {
        self.is_seed_new() && !self.is_retirement_pending()
    }

    /// The same, whether or not it has its turn by now.
    pub(super) fn is_seed_new(&self) -> bool {
        let is_new = |seed| !self.story.is_seed(seed) && !self.story.is_current(Some(seed));
        self.wanted.seed.fingerprint().is_some_and(is_new) && !self.is_start()
    }

    /// The code that is current, or that a start begins with; `None` only for an app without codes.
    pub(super) fn base(&self, app: &AppReading) -> Result<Option<Fingerprint>, Box<Step>> {
        let start = self.is_start() || self.is_seed_changed();
        let named = match (&self.story.current, &self.wanted.seed) {
            (Some(current), _) if !start => app.named(current).ok_or_else(|| current.clone()),
            (_, SeedView::Known { fingerprint, .. }) => {
                app.named(&fingerprint.to_string()).ok_or(fingerprint.to_string())
            }
            (_, SeedView::Unreadable(why)) => {
                return Err(Box::new(self.seed_unreadable(why)));
            }
            (_, SeedView::None) if self.is_sibling_open(app) && self.adopted(app).is_none() => {
                return Err(Box::new(self.await_sibling()));
            }
            (_, SeedView::None) => match app.codes.as_slice() {
                [] => return Ok(None),
                [only] => Ok(*only),
                _ => {
                    return self
                        .adopted(app)
                        .or_else(|| self.found(app))
                        .map(Some)
                        .ok_or_else(|| Box::new(self.ambiguous_start(app)));
                }
            },
        };
        match named {
            Ok(code) => Ok(Some(code)),
            Err(name) => {
                if let Some(step) = unsettled(self.o, Question::NotListed { code: name.clone() }) {
                    return Err(Box::new(step));
                }
                self.adopted(app)
                    .map(Some)
                    .ok_or_else(|| Box::new(self.not_listed(&name, start, app)))
            }
        }
    }

    /// The code that a person named as the answer to an ambiguity, if the cloud lists it.
    pub(super) fn adopted(&self, app: &AppReading) -> Option<Fingerprint> {
        let answer = app.named(self.o.resource.adopt.as_ref()?)?;
        let mut secrets = [self.o.secret.ours(), self.o.former.ours()].into_iter().flatten();
        // It stays on the resource, and a later question is another one.
        let is_used = secrets.any(|secret| secret.record.adopted == Some(answer));
        (!is_used).then_some(answer)
    }

    /// The code that stands already in a Secret that is taken over: whoever reads it uses that one.
    fn found(&self, app: &AppReading) -> Option<Fingerprint> {
        let secret = self
            .o
            .secret
            .ours()
            .filter(|_| self.wanted.layout.creation != CreationPolicy::Create)?;
        secret.code.filter(|code| app.codes.contains(code))
    }

    fn seed_unreadable(&self, why: &str) -> Step {
        let message = format!(
            "The seed cannot be read: {}; nothing is changed without it. Make or mend that Secret, correct spec.appCodeFrom, \
             or remove it if the app has one code only.",
            prose(why)
        );
        let leave_out = self.kubectl().patch(&json!({"appCodeFrom": null}));
        let ways = commands(why).map(str::to_owned).chain([leave_out]);
        self.stop_here(Reason::SeedUnreadable, &message, ways)
    }

    fn ambiguous_start(&self, app: &AppReading) -> Step {
        let message = format!(
            "App {} has several codes and spec names none, so nothing is changed. Answer which one is to be rotated, or \
             name it in spec.appCodeFrom. FINGERPRINT is one of {}.",
            self.wanted.app.app_id,
            told(&app.codes)
        );
        self.stop_there(Reason::AppCodeAmbiguous, &message, [self.kubectl().answer()])
    }

    fn not_listed(&self, code: &str, is_seed: bool, app: &AppReading) -> Step {
        // The fingerprint of a seed that is no code would help to guess what else stands in the Secret that it is read from.
        let short = code.get(..Fingerprint::SHORT).unwrap_or(code);
        let what = if is_seed {
            "The seed".to_owned()
        } else {
            format!("The current code (fingerprint {short})")
        };
        let choices = if app.codes.is_empty() {
            "It lists none: make one in the cloud's console first, and compute its FINGERPRINT.".to_owned()
        } else {
            format!("FINGERPRINT is one of {}.", told(&app.codes))
        };
        let message = format!(
            "{what} is not among the codes that the cloud lists for app {}, so it was reset or deleted elsewhere; nothing \
             is guessed and nothing is changed. Answer which code is the right one, or name it in spec.appCodeFrom. {choices}",
            self.wanted.app.app_id
        );
        self.stop_there(Reason::CodeNotListed, &message, [self.kubectl().answer()])
    }

    /// A code that no call can name: found out before anything is written, since the call would be refused for ever.
    fn unaddressable(&self, base: Fingerprint, app: &AppReading) -> Option<Step> {
        app.unaddressable.contains(&base).then(|| {
            let message = format!(
                "Code {} of app {} holds a slash or is a dot segment, so that no URL can name it and it cannot be reset; \
                 nothing is changed. Add another code to the app, delete this one, and name the new one in \
                 spec.appCodeFrom.",
                base.short(),
                self.wanted.app.app_id
            );
            self.stop_there(Reason::CodeNotAddressable, &message, self.kubectl().another_seed())
        })
    }

    /// Why a rotation is due now, if it is. Reasons that come together share one rotation; the chief one is told.
    pub(super) fn due(&self) -> Option<(Trigger, Consumed)> {
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

    /// When the schedule starts a rotation; in the past only where it may start now.
    pub(super) fn next_scheduled(&self) -> Option<Timestamp> {
        let since = self.story.rotated_at?;
        let timetable = self.wanted.schedule.as_ref()?;
        timetable.start(since, &self.o.resource.uid, self.now)
    }

    /// What earlier rotations have left in the app, as long as it is there.
    fn left_over(&self, app: &AppReading, base: Option<Fingerprint>) -> Vec<Fingerprint> {
        let recorded = self
            .o
            .intent()
            .into_iter()
            .flat_map(|intent| intent.unclaimed.iter().copied());
        // A Secret that was made anew knows nothing of them.
        let shown = self.o.status.unclaimed.iter().filter_map(|text| app.named(text));
        let is_left = |code: &Fingerprint| app.codes.contains(code) && Some(*code) != base;
        let left: BTreeSet<Fingerprint> = recorded.chain(shown).filter(is_left).collect();
        left.into_iter().collect()
    }

    pub(super) fn minimum_interval_left(&self) -> Option<SignedDuration> {
        let completed = self.story.rotated_at.filter(|_| self.story.number > 0);
        // Of another app as well, so that a spec that goes to and fro gains nothing.
        let started = self.recent().into_iter().rfind(|at| *at <= self.now);
        let last = completed.max(started)?;
        let left = self
            .o
            .limits
            .minimum_interval
            .saturating_sub(self.now.duration_since(last));
        left.is_positive().then_some(left)
    }

    /// When the rotations of the last day were started, oldest first. A Secret that was made anew has forgotten them, and
    /// status may not show them all: the longer list counts.
    pub(super) fn recent(&self) -> Vec<Timestamp> {
        let secrets = [self.o.secret.ours(), self.o.former.ours()].into_iter().flatten();
        let shown = self.o.status.history.iter().filter(|entry| entry.number > 0);
        let lists = secrets
            .map(|secret| secret.record.recent.clone())
            .chain([shown.map(|entry| entry.started_at.0).collect()]);
        let is_recent = |at: &Timestamp| self.now.duration_since(*at).abs() < DAY;
        let lists = lists.map(|list| list.into_iter().filter(is_recent).collect::<Vec<_>>());
        let mut recent = lists.max_by_key(Vec::len).unwrap_or_default();
        recent.sort_unstable();
        recent
    }

    /// The budget stops what would go on for ever, such as a loop of somebody's automation that succeeds each time.
    fn exhausted_budget(&self, trigger: Trigger) -> Option<Step> {
        let budget = self.o.limits.daily_budget;
        let recent = self.recent();
        let first = recent.len().checked_sub(budget).and_then(|at| recent.get(at))?;
        let opens = first.checked_add(DAY).unwrap_or(Timestamp::MAX);
        let message = format!(
            "{budget} rotations were started within 24 hours, the most that the operator allows for one resource \
             (--daily-budget), so what is asked for now waits and nothing is changed. The next one may start at \
             {opens:.0}. {}",
            what_to_take_back(trigger)
        );
        // The Secret is looked after meanwhile.
        let after = opens.duration_since(self.now).min(self.o.limits.check_period);
        let commands = match trigger {
            Trigger::Spec | Trigger::Request => self.kubectl().take_back().to_vec(),
            Trigger::Initial | Trigger::Target | Trigger::Schedule => vec![self.kubectl().edit()],
        };
        Some(stop(Reason::BudgetExhausted, &message, commands, after))
    }

    pub(super) fn due_rotation(&self) -> Option<Step> {
        if self.wanted.suspend || self.is_retirement_pending() {
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
            return Some(wait(Reason::Waiting, message, self.sibling_pause()));
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
        if let Some(step) = base.and_then(|base| self.unaddressable(base, app)) {
            return Some(step);
        }
        let strategy = self.wanted.handover.strategy;
        let is_beside = strategy == Strategy::Overlap && base.is_some();
        if let Some(step) = is_beside.then(|| self.no_place_beside(app)).flatten() {
            return Some(step);
        }
        if let Some(step) = self.exhausted_budget(trigger) {
            return Some(step);
        }
        if is_beside && !self.o.resource.has_finalizer {
            return Some(Step::Hold);
        }
        let record = self.record();
        let recent: Vec<_> = record.recent.iter().copied().chain([self.now]).collect();
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
            strategy,
            step: RotationStep::Started,
            app: self.wanted.app.clone(),
            base,
            call: if base.is_some() && !is_beside {
                Call::Reset
            } else {
                Call::Add
            },
            known: known(&app.codes, &before),
            unclaimed: self.left_over(app, base),
            attempt: 1,
            updated_at: app.updated_at,
            started_at: self.now,
            marked_at: self.now,
            outcome: None,
            distribution: None,
        };
        Some(Step::WriteIntent {
            secret: self.wanted.target.name.clone(),
            record: Record {
                recent: recent
                    .iter()
                    .copied()
                    .skip(recent.len().saturating_sub(MOST_RECENT))
                    .collect(),
                intent: Some(intent),
                ..record
            },
        })
    }
}
