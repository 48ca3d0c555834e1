//! The events of a pass. Pure.
//!
//! What happened in the pass is told by it. What status shows is told when it first shows it, so that a restart, a re-list or a
//! pass that is repeated tells nothing again.

use super::{Happened, Pass, open_intent, own_intent, retired};
use crate::api::{AppCodeRotationStatus, ConditionType, Outcome, Reason, RotationStep, Strategy};
use crate::ids::Fingerprint;
use crate::plan::{Cloud, Step, WriteReason};
use crate::remedy::{fit, with_prose};

/// Reasons that stand in conditions only: no event has them.
pub const UNTOLD: [Reason; 8] = [
    Reason::CredentialsAccepted,
    Reason::Distributing,
    Reason::Verifying,
    Reason::RollingOut,
    Reason::Retiring,
    Reason::Settling,
    Reason::Idle,
    Reason::Suspended,
];

/// Longest text of an event, in bytes; the API server's own limit is as many characters.
const LONGEST: usize = 1024;

/// An event for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Whether a person may need to act.
    pub is_warning: bool,
    /// Equal to a condition's reason.
    pub reason: Reason,
    /// What the operator did.
    pub action: &'static str,
    /// What happened and, where a person is needed, commands; at most 1,024 bytes.
    pub text: String,
}

/// The events of a pass: what happened, and what changed between the two statuses, in the order in which it came.
pub fn notes(pass: Pass<'_>, old: &AppCodeRotationStatus, new: &AppCodeRotationStatus) -> Vec<Note> {
    let teller = Teller { pass, old, new };
    let mut notes = teller.happened();
    notes.extend(teller.begun());
    notes.extend(teller.retired());
    notes.extend(teller.rolled_out());
    let is_mended = notes.iter().any(|note| MENDS.contains(&note.reason));
    notes.extend(teller.stopped());
    notes.extend(teller.recovered(is_mended));
    notes.extend(teller.held_up());
    notes.extend(teller.failed());
    notes.extend(teller.out_of_reach());
    notes.extend(teller.exposed());
    notes
}

/// What happened in the pass, for when its status could not be written: nothing else tells of it later.
pub fn happened_notes(pass: Pass<'_>) -> Vec<Note> {
    let teller = Teller {
        pass,
        old: &pass.observed.status,
        new: &pass.observed.status,
    };
    teller.happened()
}

/// After these nobody wonders whether an earlier failure goes on.
const MENDS: [Reason; 3] = [Reason::Rotated, Reason::Adopted, Reason::Repaired];

struct Teller<'a> {
    pass: Pass<'a>,
    old: &'a AppCodeRotationStatus,
    new: &'a AppCodeRotationStatus,
}

impl Teller<'_> {
    /// What happened, with the rotation where its code was written: what was done for its consumers came after that.
    fn happened(&self) -> Vec<Note> {
        let mut rotated = self.rotated();
        let mut notes = Vec::new();
        for happened in self.pass.happened {
            if is_persist(happened) {
                notes.extend(rotated.take());
            } else {
                notes.extend(self.note_of(happened));
            }
        }
        notes.extend(rotated);
        notes
    }

    fn app(&self) -> String {
        let wanted = self.pass.observed.wanted.as_ref();
        wanted.map_or_else(|_| String::new(), |wanted| wanted.app.app_id.to_string())
    }

    /// The code that the record names.
    fn code(&self) -> String {
        let book = self.pass.observed.own_book();
        short(book.and_then(|book| book.record.fingerprint))
    }

    fn note_of(&self, happened: &Happened) -> Option<Note> {
        let (app, secret) = (self.app(), &self.pass.observed.target);
        Some(match happened {
            Happened::Began(_)
            | Happened::Wrote {
                why: WriteReason::Persist,
                ..
            } => return None,
            Happened::Wrote {
                code,
                why: WriteReason::Adopt,
                ..
            } => {
                let text = format!(
                    "Took over code {} of app {app} into Secret {secret} without rotating it.",
                    code.short()
                );
                note(false, Reason::Adopted, "Adopt", text)
            }
            Happened::Wrote {
                code,
                why: WriteReason::Render,
                ..
            } => {
                let text = format!(
                    "Brought the keys, labels, annotations and owner of Secret {secret} to what spec.target says; its code {} \
                     of app {app} stays.",
                    code.short()
                );
                note(false, Reason::Rendered, "Render", text)
            }
            Happened::Wrote { code, .. } => {
                let text = format!(
                    "Wrote code {} of app {app} into Secret {secret} again, which did not hold it.",
                    code.short()
                );
                note(false, Reason::Repaired, "Repair", text)
            }
            Happened::Abandoned(intent) => {
                let text = format!(
                    "Left rotation {} of app {} behind, because the resource names another app now. What became of its call is \
                     not found out: look at the codes of that app in the cloud's console.",
                    intent.rotation_id, intent.app.app_id
                );
                note(true, Reason::Abandoned, "Abandon", text)
            }
            Happened::Forsaken(intent) => {
                let text = format!(
                    "The resource is deleted while it is open what became of rotation {} of app {}, so a code that nobody knows \
                     may be left in the app. Look for it in the cloud's console.",
                    intent.rotation_id, intent.app.app_id
                );
                note(true, Reason::Abandoned, "Abandon", text)
            }
            Happened::Restarted(target) => {
                let text = format!(
                    "Restarted {target}, so that it reads the new code {} of app {app}.",
                    self.code()
                );
                note(false, Reason::Restarted, "Restart", text)
            }
            Happened::NotRetired(intent) => {
                let text = format!(
                    "Code {} of app {}, which rotation {} replaced, was not deleted and still works. Delete it in the cloud's \
                     console if nobody uses it.",
                    short(intent.base),
                    intent.app.app_id,
                    intent.rotation_id
                );
                note(true, Reason::NotRetired, "Retire", text)
            }
        })
    }

    /// A rotation that is not completed by the pass that began it; one that is has its own event.
    fn begun(&self) -> Option<Note> {
        let intent = open_intent(self.pass.observed)?;
        let id = intent.rotation_id.as_str();
        let shows = |status: &AppCodeRotationStatus| {
            let rotation = status.rotation.as_ref();
            rotation.is_some_and(|it| it.rotation_id == id && it.step == RotationStep::Started)
        };
        let is_own =
            |happened: &Happened| matches!(happened, Happened::Began(begun) if begun.rotation_id.as_str() == id);
        let is_news = !shows(self.old) || self.pass.happened.iter().any(is_own);
        (is_news && shows(self.new)).then(|| {
            let text = format!(
                "Rotation {id} of app {} has begun (trigger {}, strategy {}, number {}) and is not completed yet: what became of \
                 its call is found out by reading the app.",
                intent.app.app_id,
                intent.trigger.as_str(),
                intent.strategy.as_str(),
                intent.number
            );
            note(false, Reason::Rotating, "Rotate", text)
        })
    }

    /// Told when status first shows the rotation, so that a write that was lost or repeated on the way loses or doubles
    /// nothing. A status that was wiped tells nothing new.
    fn rotated(&self) -> Option<Note> {
        let (old, new) = (self.old, self.new);
        if old.rotation_number.is_none() && !self.pass.happened.iter().any(is_persist) {
            return None;
        }
        let number = new
            .rotation_number
            .filter(|_| new.rotation_number > old.rotation_number)?;
        let (_, book) = self.pass.observed.book()?;
        let intent = book.record.intent.as_ref().filter(|intent| intent.number == number)?;
        let before = intent.base.map(|base| match intent.strategy {
            Strategy::Reset => format!("; {}, the one before, is dead", base.short()),
            Strategy::Overlap => format!("; {}, the one before, works until it is retired", base.short()),
        });
        let found = match intent.outcome {
            Some(Outcome::Recovered) => " The answer of the cloud was lost, and the code was found by reading the app.",
            _ => "",
        };
        let text = format!(
            "Rotated the code of app {} (trigger {}, rotation {}, number {number}): Secret {} holds the new code {}{}.{found}",
            self.app(),
            intent.trigger.as_str(),
            intent.rotation_id,
            self.pass.observed.target,
            book.record.fingerprint?.short(),
            before.unwrap_or_default()
        );
        Some(note(false, Reason::Rotated, "Rotate", text))
    }

    /// Told when history first shows it, as [`Teller::rotated`].
    fn retired(&self) -> Option<Note> {
        let intent = retired(self.pass.observed)?;
        let shows = |status: &AppCodeRotationStatus| {
            let mut entries = status.history.iter();
            entries.any(|entry| entry.rotation_id == intent.rotation_id.as_str() && entry.retired_at.is_some())
        };
        let text = format!(
            "Code {} of app {}, which rotation {} replaced, is gone from the cloud and works no more.",
            short(intent.base),
            self.app(),
            intent.rotation_id
        );
        (shows(self.new) && !shows(self.old)).then(|| note(false, Reason::Retired, "Retire", text))
    }

    fn rolled_out(&self) -> Option<Note> {
        let is_done = |status: &AppCodeRotationStatus| status.is_true(ConditionType::WorkloadsReady);
        let intent = own_intent(self.pass.observed)?;
        let text = format!(
            "Every workload of restartTargets has rolled out with code {} of app {} (rotation {}).",
            self.code(),
            self.app(),
            intent.rotation_id
        );
        (is_done(self.new) && !is_done(self.old)).then(|| note(false, Reason::RolledOut, "Distribute", text))
    }

    /// By reason and generation, not by message: the wording of a refusal may change from one look to the next.
    fn stopped(&self) -> Option<Note> {
        let Step::Stop { reason, message, .. } = self.pass.step else {
            return None;
        };
        let said = |status: &AppCodeRotationStatus| {
            let stalled = status.condition(ConditionType::Stalled);
            let stalled = stalled.filter(|condition| condition.status == "True");
            stalled.map(|condition| (condition.reason.clone(), condition.observed_generation))
        };
        (said(self.old) != said(self.new)).then(|| note(true, *reason, "Stop", self.with_request(message)))
    }

    /// The end of what a warning has told of.
    fn recovered(&self, is_mended: bool) -> Option<Note> {
        let (old, new) = (self.old, self.new);
        if !new.is_true(ConditionType::Ready) || matches!(self.pass.step, Step::Stop { .. } | Step::Retry { .. }) {
            return None;
        }
        let is_failing = |status: &AppCodeRotationStatus| {
            let failures = status.failures.as_ref();
            failures.is_some_and(|failures| failures.next_attempt_time.is_some())
        };
        let was_waiting = old.failures.is_some() && !old.is_true(ConditionType::Ready);
        let is_over = (is_failing(old) && !is_failing(new)) || (was_waiting && new.failures.is_none());
        // What was waited for may be given up, and left as it is.
        let is_left = self.pass.observed.rollouts.iter().flatten().any(|(_, it)| it.is_held());
        let was_held_up = is_held_up(old) && !is_held_up(new) && !is_left;
        let was_stalled = old.is_true(ConditionType::Stalled);
        (was_stalled || ((is_over || was_held_up) && !is_mended)).then(|| {
            let text = format!(
                "All is well again: Secret {} holds code {}, which the cloud lists for app {}.",
                self.pass.observed.target,
                self.code(),
                self.app()
            );
            note(false, Reason::CodeListed, "Check", text)
        })
    }

    fn held_up(&self) -> Option<Note> {
        let Step::Linger { reason, message, .. } = self.pass.step else {
            return None;
        };
        let was = self.old.condition(ConditionType::Reconciling);
        let is_news = was.map(|was| was.reason.as_str()) != Some(reason.as_str());
        (HOLD_UPS.contains(reason) && is_news).then(|| note(true, *reason, "Distribute", message.clone()))
    }

    fn failed(&self) -> Option<Note> {
        let Step::Retry { failure } = self.pass.step else {
            return None;
        };
        let before = self.old.failures.as_ref();
        let is_news = before.is_none_or(|failures| failures.last_reason != failure.reason.as_str());
        is_news.then(|| {
            let text = with_prose(&failure.message, "It is tried again, with growing pauses.");
            note(true, failure.reason, "Retry", self.with_request(&text))
        })
    }

    /// Told besides the failure, which may be hours old by then.
    fn out_of_reach(&self) -> Option<Note> {
        let unknown = |status: &AppCodeRotationStatus| {
            let ready = status.condition(ConditionType::Ready);
            ready
                .filter(|ready| ready.reason == Reason::NotVerified.as_str())
                .map(|ready| ready.message.clone())
        };
        let message = unknown(self.new).filter(|_| unknown(self.old).is_none())?;
        Some(note(true, Reason::NotVerified, "Check", message))
    }

    fn exposed(&self) -> Option<Note> {
        let is_shown = |status: &AppCodeRotationStatus| status.is_true(ConditionType::CodeExposed);
        let text = "status.appCode now shows the code to whoever may read this resource, because spec.statusCode is Plaintext.";
        (is_shown(self.new) && !is_shown(self.old))
            .then(|| note(true, Reason::PlaintextRequested, "Publish", text.into()))
    }

    /// The text with what the vendor's support asks for.
    fn with_request(&self, text: &str) -> String {
        let failed = match &self.pass.observed.cloud {
            Cloud::Failed(failure) => failure.request_id.as_ref(),
            _ => None,
        };
        failed.map_or_else(
            || text.to_owned(),
            |id| with_prose(text, &format!("The cloud's id of the request is {id}.")),
        )
    }
}

/// Reasons for which a rotation lasts until a person helps, though nothing is stopped.
const HOLD_UPS: [Reason; 2] = [Reason::VerificationFailed, Reason::RolloutHeld];

fn is_held_up(status: &AppCodeRotationStatus) -> bool {
    let reconciling = status.condition(ConditionType::Reconciling);
    reconciling.is_some_and(|it| HOLD_UPS.iter().any(|reason| reason.as_str() == it.reason))
}

fn is_persist(happened: &Happened) -> bool {
    matches!(
        happened,
        Happened::Wrote {
            why: WriteReason::Persist,
            ..
        }
    )
}

fn short(code: Option<Fingerprint>) -> String {
    code.as_ref().map(Fingerprint::short).unwrap_or_default()
}

pub(super) fn note(is_warning: bool, reason: Reason, action: &'static str, text: String) -> Note {
    Note {
        is_warning,
        reason,
        action,
        text: fit(text, LONGEST),
    }
}
