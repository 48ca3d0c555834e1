//! The Secret as it should be: which code it holds, what its record says, and whose it is.

use jiff::SignedDuration;

use super::open::SIBLING_RETRY;
use super::{AppReading, Book, Planner, Question, Shares, Sibling, Standing, Step, WriteReason, stop, unsettled, wait};
use crate::api::Reason;
use crate::ids::Fingerprint;
use crate::intent::{CAPACITY, Intent};
use crate::remedy::NO_TEMPLATE;
use crate::secret::{OurSecret, Record, SecretView};

/// How long an older resource that was not looked at yet is waited for.
const NEWBORN: SignedDuration = SignedDuration::from_secs(60);
/// How far this machine's clock may be from that of the API server, or of another replica.
pub const CLOCKS: SignedDuration = SignedDuration::from_mins(10);

/// What the deletion of a resource may take along.
pub(super) const GOES_TOO: &str = "its Secret goes too where its spec.target.deletionPolicy is Delete";

impl Planner<'_> {
    /// Takes a seed over, repairs, moves to another Secret; or says that the current code is not listed.
    pub(super) fn secret_in_order(&self) -> Option<Step> {
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
            if let Some(step) = self.newborn_sibling().or_else(|| self.outdated(app)) {
                return Some(step);
            }
        } else if self.is_seed_changed() {
            return None;
        }
        let record = self.record_of(current);
        let name = self.wanted.target.name.clone();
        // Once status names the new Secret nobody looks at the one before.
        let is_owned = self.o.former.own().is_some_and(|former| former.extras.owners.is_some());
        if let Some(former) = self.o.status.target.as_ref().filter(|_| is_owned) {
            let secret = former.name.clone();
            return Some(Step::Disown { secret });
        }
        // One of long ago may say all but the last rotation, which stands on the Secret that is left for it.
        let is_behind = matches!(self.o.book(), Some((Book::Former, _)));
        match &self.o.secret {
            SecretView::Absent => Some(Step::CreateSecret { secret: name, record }),
            SecretView::Ours(secret)
                if secret.code != Some(current)
                    || is_behind
                    || !is_recorded(secret, &record)
                    || !self.is_laid_out(secret, &record, app) =>
            {
                let is_answer = self.adopted(app) == Some(current) && !self.story.is_current(Some(current));
                let why = if self.is_start() || secret.record.rotated_at.is_none() || is_answer {
                    WriteReason::Adopt
                } else if secret.code != Some(current) || is_behind || !is_recorded(secret, &record) {
                    WriteReason::Repair
                } else {
                    WriteReason::Render
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
            // The code is in place, whatever became of the rest.
            SecretView::Ours(secret) => secret
                .record
                .rendered
                .as_ref()?
                .fault
                .as_ref()
                .map(|fault| self.faulty(fault)),
            _ => None,
        }
    }

    /// Whether all that is ours besides the code is as spec wants it, and still there.
    fn is_laid_out(&self, secret: &OurSecret, record: &Record, app: &AppReading) -> bool {
        let key = &self.wanted.target.key;
        let shape = record.shape(&self.wanted.layout, key, app.name.as_deref(), &app.codes);
        !secret.extras.is_astray && secret.record.rendered.as_ref().map(|rendered| &rendered.shape) == shape.as_ref()
    }

    fn faulty(&self, fault: &str) -> Step {
        let message = format!(
            "{fault}, with the values that it has by now. Secret {} holds the code under key {}, its other keys are as they \
             were, and nothing more is changed. Correct the template, or do without ({NO_TEMPLATE}).",
            self.wanted.target.name, self.wanted.target.key
        );
        self.stop_there(Reason::TemplateInvalid, &message, self.kubectl().another_template())
    }

    /// A template that fails with the app's present name, found out before a rotation that would then be half published.
    pub(super) fn unrenderable(&self) -> Option<Step> {
        let layout = &self.wanted.layout;
        if self.wanted.suspend || layout.is_plain() || self.due().is_none() {
            return None;
        }
        let name = self.app()?.name.as_deref().unwrap_or_default();
        let fault = layout.trial(&self.wanted.app, name).err()?;
        let message = format!(
            "{fault}, with the values that it has by now, so nothing is changed. Correct the template, or do without \
             ({NO_TEMPLATE})."
        );
        Some(self.stop_there(Reason::TemplateInvalid, &message, self.kubectl().another_template()))
    }

    /// The record for a Secret that holds `current`, which no rotation of this pass made.
    fn record_of(&self, current: Fingerprint) -> Record {
        let mut record = self.record();
        if !self.story.is_current(Some(current)) {
            // What was tried was the code that the rotation has made.
            record.intent = record.intent.as_ref().map(Intent::untried);
        }
        let is_start = self.is_start();
        let seed = self.wanted.seed.fingerprint().filter(|_| !self.is_seed_new());
        Record {
            fingerprint: Some(current),
            rotated_at: if is_start { None } else { self.story.rotated_at },
            seed: seed.or(record.seed),
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
            adopted: self.o.answer().or(record.adopted),
            ..record
        }
    }

    /// The record that the next one grows from.
    pub(super) fn record(&self) -> Record {
        let recorded = self.book().map(|book| &book.record);
        let recorded = recorded.filter(|record| record.app == self.wanted.app);
        Record {
            number: self.story.number,
            handled_trigger: self.story.handled_trigger.clone(),
            handled_request: self.story.handled_request.clone(),
            recent: self.recent(),
            intent: self.o.intent().cloned(),
            // A Secret that was made anew or comes from a backup does not know the code that is still to be retired.
            previous: self
                .o
                .intent()
                .and_then(Intent::retires)
                .or_else(|| recorded.and_then(|record| record.previous)),
            ..recorded.map_or_else(|| Record::new(self.wanted.app.clone()), Clone::clone)
        }
    }

    /// The Secret whose record counts: of the one in spec and the one before, the one with the higher number.
    pub(super) fn book(&self) -> Option<&OurSecret> {
        self.o.book().map(|(_, secret)| secret)
    }

    pub(super) fn book_name(&self) -> String {
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

    // ── other resources on the same code ───────────────────────────────────────────────────────────────────────────

    fn conflict(&self, base: Option<Fingerprint>) -> Option<Step> {
        let (app, kubectl) = (&self.wanted.app.app_id, self.kubectl());
        let (message, other_way) = if let Some((rival, base)) =
            base.and_then(|base| Some((self.rival_for_code(base)?, base)))
        {
            if rival.standing == Standing::Unknown {
                return Some(self.await_elder(rival));
            }
            let message = format!(
                "Code {} of app {app} is already rotated by {}, so nothing is changed. Delete one of the two ({GOES_TOO}), or \
                 name another code of the app in spec.appCodeFrom.",
                base.short(),
                rival.told()
            );
            (message, None)
        } else if let Some(who) = self.rival_for_secret() {
            let message = format!(
                "Secret {} is also the target of {who}, so nothing is changed. Name another Secret in spec.target.name, \
                 or delete one of the two resources ({GOES_TOO}).",
                self.wanted.target.name
            );
            (message, Some(kubectl.another_target()))
        } else if self.o.is_crowded {
            let message = format!(
                "Dozens of older resources rotate codes of app {app}, which holds {CAPACITY} at most, so nothing is \
                 changed. Delete those that are not needed ({GOES_TOO})."
            );
            (message, None)
        } else {
            return None;
        };
        // Those that wait must not take the calls of the others; when one of them goes, they are looked at in any case.
        let limits = &self.o.limits;
        let after = limits.local_retry().max(limits.check_period / 4);
        let commands = other_way.into_iter().chain([kubectl.delete()]);
        Some(stop(Reason::Conflict, &message, commands, after))
    }

    /// Older resources that the cloud took the credentials of: what they claim is theirs.
    fn elders(&self) -> impl Iterator<Item = &Sibling> {
        let siblings = self.o.siblings.iter();
        siblings.filter(|sibling| sibling.is_older && sibling.standing == Standing::Authorized)
    }

    /// The older resource whose code it is. At a start it is so before that one's status can say that the cloud takes its
    /// credentials.
    fn rival_for_code(&self, base: Fingerprint) -> Option<&Sibling> {
        let is_elder = |sibling: &&Sibling| {
            let is_known = sibling.standing == Standing::Authorized || self.is_start();
            sibling.is_older && is_known && sibling.holds.contains(&base)
        };
        let elders = self.credible_siblings().filter(is_elder);
        elders.max_by_key(|elder| elder.standing == Standing::Authorized)
    }

    /// It may turn out that the cloud does not take the other one's credentials, so that nobody is asked for anything yet. The
    /// longer that one has been there, the later that is looked at again.
    fn await_elder(&self, rival: &Sibling) -> Step {
        let message = format!(
            "The current code may belong to {}, of which the cloud has not told yet whether it takes the credentials.",
            rival.told()
        );
        let age = self.now.duration_since(rival.created).abs();
        wait(
            Reason::Waiting,
            &message,
            (age / 4).clamp(SIBLING_RETRY.0, SIBLING_RETRY.1),
        )
    }

    /// Who makes a Secret that several resources name. One that is there already is its keeper's until an older resource
    /// has taken it over, so that there is always one that acts.
    fn rival_for_secret(&self) -> Option<String> {
        let is_free = matches!(self.o.secret, SecretView::Absent);
        let mut rivals = self.elders().filter(|elder| elder.shares != Shares::App);
        rivals.next().filter(|_| is_free).map(Sibling::told)
    }

    /// A list without a code that another resource has in its Secret may be older than that code, and what is on it may have
    /// been replaced: no code is taken over from it until a later reading agrees.
    fn outdated(&self, app: &AppReading) -> Option<Step> {
        let held = |sibling: &Sibling| {
            let missing = sibling.holds.iter().find(|code| !app.codes.contains(code));
            let shown = sibling.shown.as_ref().filter(|shown| app.named(shown).is_none());
            missing.map(ToString::to_string).or_else(|| shown.cloned())
        };
        let code = self.credible_siblings().find_map(held)?;
        unsettled(self.o, Question::NotListed { code })
    }

    /// An older resource on the same app or Secret that nobody has looked at yet might claim the same.
    pub(super) fn newborn_sibling(&self) -> Option<Step> {
        // A clock that is some minutes late makes it wait longer; one that is far off, not at all.
        let age = |sibling: &Sibling| self.now.duration_since(sibling.created);
        let siblings = self.o.siblings.iter();
        let waited_for = siblings.filter(|sibling| sibling.is_older && !sibling.is_judged);
        let is_new = |age: &SignedDuration| *age < NEWBORN && age.abs() < CLOCKS;
        let youngest = waited_for.map(age).filter(is_new).map(SignedDuration::abs).min()?;
        let message = "An older resource on the same app or Secret has not been looked at yet; it goes first.";
        Some(wait(Reason::Waiting, message, youngest / 4))
    }
}

impl Sibling {
    /// Who it is, as far as this resource's status may tell.
    fn told(&self) -> String {
        self.name.as_ref().map_or_else(
            || "an older resource in another namespace".to_owned(),
            |name| format!("the older AppCodeRotation {name}"),
        )
    }
}

/// Whether the Secret's record already says what it should, in the name of this resource: until it does, others that wait
/// for the same Secret take it for theirs as well.
fn is_recorded(secret: &OurSecret, record: &Record) -> bool {
    !secret.is_inherited
        && secret.record.app == record.app
        && secret.record.fingerprint == record.fingerprint
        && secret.record.number == record.number
        && secret.record.seed == record.seed
        && secret.record.rotated_at.is_some()
}
