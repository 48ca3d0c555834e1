//! The heart of the operator: from what was observed to the one next step. Pure and total.
//!
//! [`plan`] is an ordered chain of small checks; the first that has something to say wins. It knows no codes, only
//! fingerprints, and does no I/O. The caller performs the step, puts what it learned into [`Observed`] and plans again,
//! until the step is to wait. A crash between any two steps is harmless: all that must not be lost is on the Secret.
//!
//! Read it from [`plan`] downwards: what stops at once, and what the cloud is asked for, are here; how an open rotation
//! is resolved is in `open`, how the Secret is kept as it should be in `upkeep`, how a new code reaches its consumers in
//! `distribution`, how the one before is retired in `retirement`, and what starts a rotation in `due`.

mod distribution;
mod due;
mod memory;
mod observed;
mod open;
#[cfg(test)]
pub(crate) mod properties;
mod retirement;
mod story;
#[cfg(test)]
mod tests;
mod upkeep;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;

pub use self::distribution::distribution_pause;
pub use self::memory::*;
pub use self::observed::*;
use self::open::{rescue, unsettled};
use self::retirement::farewell;
pub use self::retirement::retires_at;
pub use self::story::Story;
pub use self::upkeep::CLOCKS;
use self::upkeep::GOES_TOO;
use crate::api::{ConditionType, CreationPolicy, DeletionPolicy, Reason};
use crate::ids::Fingerprint;
use crate::intent::Intent;
use crate::remedy::{Kubectl, commands, prose, tell};
use crate::schedule::spread;
use crate::secret::{CREATED, Lock, OurSecret, Record, SecretView, Taken, Unfit};
use crate::workload::RestartTarget;

/// How soon something is looked at again that a change inside the cluster may have mended, unless checks come sooner.
const LOCAL_RETRY: SignedDuration = SignedDuration::from_secs(60);

/// How the operator gets back the rights that it was installed with, and no more than those.
pub(crate) const INSTALL_AGAIN: &str =
    "install it again as it was, by helm upgrade with the same values or kubectl apply -k";

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
    /// Write this record: a rotation whose code is in the Secret has come a step further, and no call follows.
    WriteRecord {
        /// Name of the Secret.
        secret: String,
        /// The record with the intent.
        record: Record,
    },
    /// Take our owner reference off a Secret that spec no longer names, so that it outlives the resource.
    Disown {
        /// Name of the Secret.
        secret: String,
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
    /// Forget the code that only this process holds: something newer is recorded, or the cloud lists it no more.
    Drop,
    /// Try the new code as a consumer would.
    Verify,
    /// Read the workloads that are restarted.
    LookAtWorkloads,
    /// Restart these workloads, which do not carry the rotation's mark yet.
    Restart(Vec<RestartTarget>),
    /// Put our finalizer on the resource: a code is to be retired that nobody would delete if the resource went.
    Hold,
    /// Take it off again.
    Release,
    /// The Secret is as it should be and nothing is open, but the rotation is not finished: consumers have not got the code
    /// yet, or the code before still works.
    Linger {
        /// What is waited for.
        reason: Reason,
        /// The same for people.
        message: String,
        /// How long, at least.
        after: SignedDuration,
    },
    /// Nothing can be done before some time has passed.
    Wait {
        /// What is waited for.
        reason: Reason,
        /// The same for people.
        message: String,
        /// How long, at least.
        after: SignedDuration,
    },
    /// An earlier failure or the operator's own pace holds everything back; nothing was learned.
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
        /// What happened, to what, and what to do, with the commands for that.
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
    /// What is ours besides the code is brought to what spec says; the code stays.
    Render,
}

/// What to do next.
pub fn plan(o: &Observed, now: Timestamp) -> Step {
    if o.resource.deleting {
        return rescue(o, now).or_else(|| farewell(o, now)).unwrap_or(Step::Gone);
    }
    let wanted = match &o.wanted {
        Ok(wanted) => wanted,
        Err(refusal) => {
            let refused = || {
                let told = &refusal.message;
                let message = format!("The spec cannot be used, so nothing is changed: {}.", prose(told));
                let commands = commands(told).map(str::to_owned);
                stop(refusal.reason, &message, commands, LOCAL_RETRY.saturating_mul(60))
            };
            return rescue(o, now).unwrap_or_else(refused);
        }
    };
    let planner = Planner {
        o,
        wanted,
        story: Story::tell(o, wanted, now),
        now,
    };
    planner
        .unusable_secret()
        .or_else(|| planner.finalizer_refused())
        .or_else(|| planner.another_app())
        .or_else(|| planner.urgent_distribution())
        .or_else(|| planner.backing_off())
        .or_else(|| planner.unasked())
        .or_else(|| planner.cloud_trouble())
        .or_else(|| planner.held_code())
        .or_else(|| planner.open_intent())
        .or_else(|| planner.unusable_target())
        .or_else(|| planner.refusal().map(|step| planner.unheld(step)))
        .or_else(|| planner.secret_in_order().map(|step| planner.unheld(step)))
        .or_else(|| planner.hold())
        .or_else(|| planner.distribution())
        .or_else(|| planner.retirement())
        .or_else(|| planner.unrenderable())
        .or_else(|| planner.released(planner.due_rotation()))
        .unwrap_or_else(|| planner.rest())
}

/// A stop with the commands that resolve it.
fn stop(reason: Reason, prose: &str, commands: impl IntoIterator<Item = String>, after: SignedDuration) -> Step {
    Step::Stop {
        reason,
        message: tell(prose, commands),
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

struct Planner<'a> {
    o: &'a Observed,
    wanted: &'a Wanted,
    story: Story,
    now: Timestamp,
}

impl Planner<'_> {
    fn kubectl(&self) -> Kubectl<'_> {
        self.o.resource.kubectl()
    }

    /// A stop that a change inside the cluster may end.
    fn stop_here(&self, reason: Reason, prose: &str, commands: impl IntoIterator<Item = String>) -> Step {
        stop(reason, prose, commands, self.o.limits.local_retry())
    }

    /// A stop that a change in the cloud may end.
    fn stop_there(&self, reason: Reason, prose: &str, commands: impl IntoIterator<Item = String>) -> Step {
        stop(reason, prose, commands, self.o.limits.check_period)
    }

    // ── before the cloud is asked ──────────────────────────────────────────────────────────────────────────────────

    /// A Secret that may not be written stops everything, unless an open rotation waits on the Secret it had before.
    fn unusable_secret(&self) -> Option<Step> {
        // The outcome of an open rotation goes where its intent is.
        let (name, secret) = match (self.open(), self.o.book()) {
            (Some(_), Some((Book::Former, _))) => (&self.book_name(), &self.o.former),
            _ => (&self.wanted.target.name, &self.o.secret),
        };
        self.unusable(name, secret).or_else(|| self.unfit(secret))
    }

    /// What spec asks for would do harm to those who made the Secret or keep something in it. Nothing of it is urgent, so the
    /// code of an open rotation is written first, without that.
    fn unfit(&self, secret: &SecretView) -> Option<Step> {
        if self.is_unsaved() {
            return None;
        }
        self.misfit(secret)
    }

    /// Whether a code may be lost if the Secret is not written.
    fn is_unsaved(&self) -> bool {
        self.open().is_some() || self.o.memory.held.is_some()
    }

    /// Why spec may not use the Secret.
    fn misfit(&self, secret: &SecretView) -> Option<Step> {
        let OurSecret { extras, unfit, .. } = secret.ours()?;
        let name = &self.wanted.target.name;
        match unfit {
            Some(Unfit::Foreign(why)) => return Some(self.foreign(name, why)),
            Some(Unfit::Kind(kind)) => return Some(self.locked(name, Lock::Kind(*kind))),
            None => {}
        }
        if let Some(taken) = &extras.taken {
            return Some(self.taken(taken));
        }
        (self.wanted.layout.deletion == DeletionPolicy::Delete && !extras.is_made).then(|| {
            let message = format!(
                "Nothing says that the operator made Secret {name}, so it must not be deleted with this resource and \
                 nothing is changed. Have it kept, or, if nobody else needs it, say by its annotation {CREATED} that it is \
                 the operator's."
            );
            let keep = self.kubectl().patch(&json!({"target": {"deletionPolicy": "Retain"}}));
            let give = self.kubectl().annotate_secret(name, &format!("{CREATED}={name}"));
            self.stop_here(Reason::SecretConflict, &message, [keep, give])
        })
    }

    fn taken(&self, taken: &Taken) -> Step {
        let (name, kubectl) = (&self.wanted.target.name, self.kubectl());
        let (what, remove) = match taken {
            Taken::Key(key) => (format!("key {key}"), kubectl.remove_key(name, key)),
            Taken::Label(key) => (format!("label {key}"), kubectl.unlabel_secret(name, key)),
            Taken::Annotation(key) => (
                format!("annotation {key}"),
                kubectl.annotate_secret(name, &format!("{key}-")),
            ),
        };
        let message = format!(
            "Secret {name} has {what}, which spec.target names too and the operator did not write, so it is left as it is \
             and nothing is changed. Name another one in spec.target, or remove it if nobody needs it."
        );
        self.stop_here(Reason::SecretConflict, &message, [kubectl.edit(), remove])
    }

    /// The same of the target itself, once the open rotation on the other Secret has nothing to say.
    fn unusable_target(&self) -> Option<Step> {
        let target = &self.o.secret;
        self.unusable(&self.wanted.target.name, target)
            .or_else(|| self.unfit(target))
    }

    fn unusable(&self, name: &str, secret: &SecretView) -> Option<Step> {
        let kubectl = self.kubectl();
        let is_others = self.wanted.layout.creation == CreationPolicy::Merge;
        match secret {
            SecretView::Foreign { why } => Some(self.foreign(name, why)),
            SecretView::Claimed(by) => {
                let message = format!(
                    "Secret {name} is kept by AppCodeRotation {by}, so nothing is changed. Name another Secret in \
                     spec.target.name, or delete one of the two resources ({GOES_TOO}): the other one takes over."
                );
                let commands = [kubectl.another_target(), kubectl.delete()];
                Some(self.stop_here(Reason::Conflict, &message, commands))
            }
            SecretView::Forbidden(why) => {
                let message = format!(
                    "The operator may not read Secret {name}: {why}; nothing more is changed. Give it its rights back: \
                     {INSTALL_AGAIN}."
                );
                Some(self.stop_here(Reason::SecretNotWritable, &message, kubectl.install_again()))
            }
            SecretView::Unreadable(why) => {
                let message = format!(
                    "What Secret {name} says cannot be understood: {why}; nothing is changed, so that no code is lost. Run \
                     the operator version that wrote it. Only if no newer operator version exists, keep a copy of the Secret, \
                     with its intent and code, and delete it: it is made again."
                );
                let commands = [kubectl.save_secret(name), kubectl.delete_secret(name)];
                Some(self.stop_here(Reason::UnknownIntentFormat, &message, commands))
            }
            SecretView::Ours(OurSecret { locked: Some(lock), .. }) => Some(self.locked(name, *lock)),
            // What must not be lost is saved all the same.
            SecretView::Absent if is_others && !self.is_unsaved() => {
                let message = format!(
                    "Secret {name} does not exist, and spec.target.creationPolicy is Merge, so it is not made and nothing is \
                     changed. Create it, or have the operator make it."
                );
                let make = kubectl.patch(&json!({"target": {"creationPolicy": "Create"}}));
                Some(self.stop_here(Reason::SecretNotWritable, &message, [kubectl.make_secret(name), make]))
            }
            SecretView::Absent | SecretView::Ours(_) => self.o.secret_refused.as_ref().map(|why| {
                let message = format!(
                    "The API server refuses to write Secret {name}: {why}; nothing more is changed. Mend the policy, or \
                     give the operator its rights back: {INSTALL_AGAIN}."
                );
                self.stop_here(Reason::SecretNotWritable, &message, kubectl.install_again())
            }),
        }
    }

    fn foreign(&self, name: &str, why: &str) -> Step {
        let another = self.kubectl().another_target();
        if self.wanted.layout.creation == CreationPolicy::Merge {
            let message = format!(
                "Secret {name} exists and {why}, so nothing is merged into it and nothing is changed. Name another \
                 Secret in spec.target.name."
            );
            return self.stop_here(Reason::SecretConflict, &message, [another]);
        }
        let message = format!(
            "Secret {name} exists and {why}, so it is left alone and nothing is changed. Name another Secret in \
             spec.target.name, or delete this one if nobody needs it."
        );
        let commands = [another, self.kubectl().delete_secret(name)];
        self.stop_here(Reason::SecretConflict, &message, commands)
    }

    fn locked(&self, name: &str, lock: Lock) -> Step {
        let kubectl = self.kubectl();
        let is_open = self.open().is_some();
        let (what_to_do, commands) = match lock {
            Lock::Going if is_open => (
                "A rotation is open on it that its annotations alone may tell of, so keep a copy. Then remove the finalizer that \
                 holds it, unless whoever put it there does.",
                vec![kubectl.save_secret(name), kubectl.edit_secret(name)],
            ),
            Lock::Going => (
                "Remove the finalizer that holds it, unless whoever put it there does.",
                vec![kubectl.edit_secret(name)],
            ),
            Lock::Kind(_) if is_open => (
                "A rotation is open on it, so correct spec.target.template.type: name the type that it has.",
                vec![kubectl.edit()],
            ),
            Lock::Immutable if is_open => (
                "A rotation is open on it that its annotations alone may tell of, so save a copy and have it made anew from \
                 that, with the same annotations.",
                kubectl.unlock_secret(name).into(),
            ),
            _ if self.wanted.layout.creation == CreationPolicy::Merge => (
                "Have whoever keeps it make it anew, or name another Secret in spec.target.name.",
                vec![kubectl.another_target()],
            ),
            _ => (
                "Delete it, and it will be made again with the same code.",
                vec![kubectl.delete_secret(name)],
            ),
        };
        let why = lock.why();
        let message = format!("Secret {name} cannot be written: {why}; nothing more is changed. {what_to_do}");
        self.stop_here(Reason::SecretNotWritable, &message, commands)
    }

    /// Back-off from status, so that a restart forgets nothing. A new generation or a person's touch starts afresh.
    fn backing_off(&self) -> Option<Step> {
        let status = &self.o.status;
        let failures = status.failures.as_ref()?;
        let until = failures.next_attempt_time.as_ref()?.0;
        let is_new = status.observed_generation != Some(self.o.resource.generation) || self.o.nudged;
        let left = until.duration_since(self.now);
        // A time far ahead was written by a clock that has since been set back.
        let longest = SignedDuration::from_hours(2).max(self.o.limits.check_period.saturating_mul(2));
        let holds = left.is_positive() && left <= longest;
        // An intent that status does not show was written after the failure, by a process that ended before it reported.
        let shown = status.rotation.as_ref().map(|rotation| rotation.rotation_id.as_str());
        let is_own = self.book().is_some_and(|secret| !secret.is_inherited);
        let is_unreported = self
            .open()
            .is_some_and(|intent| is_own && shown != Some(intent.rotation_id.as_str()));
        let has_work = matches!(self.o.cloud, Cloud::Read(_)) || self.o.memory.held.is_some() || is_unreported;
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
                || self.is_retirement_due()
                || (self.due().is_some()
                    && !self.wanted.suspend
                    && !self.is_retirement_pending()
                    && self.minimum_interval_left().is_none()));
        is_wanted.then_some(Step::AskCloud)
    }

    fn is_check_recent(&self) -> bool {
        // A code that has still to be tried is not `Ready`, and another reading would not change that.
        let is_settled = self.o.status.is_true(ConditionType::Ready) || self.o.unverified(self.now).is_some();
        self.check_left().is_positive() && is_settled
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
                let is_fit = secret.unfit.is_none() && !secret.extras.is_astray;
                let is_sound = is_fit && !secret.is_inherited && secret.is_in_sync();
                is_sound && self.story.is_current(secret.code)
            }
            _ => false,
        }
    }

    // ── what the cloud said ────────────────────────────────────────────────────────────────────────────────────────

    fn cloud_trouble(&self) -> Option<Step> {
        let app = match &self.o.cloud {
            Cloud::NotAsked => return None,
            Cloud::Postponed(after) if self.open().is_some() => {
                let message = "Other calls on the app or of the same credentials go first; the outcome of a call is found out after them.";
                return Some(wait(Reason::Waiting, message, *after));
            }
            Cloud::Postponed(after) => return Some(Step::BackOff { after: *after }),
            Cloud::Failed(failure) => return Some(failure.step(self.o.limits.check_period)),
            Cloud::Read(app) => app,
        };
        let id = &self.wanted.app.app_id;
        if !app.is_supported {
            let message = format!(
                "App {id} lives on a gateway without app codes, so nothing is changed. Name an app of the API gateway in \
                 spec.appId."
            );
            let command = self.kubectl().patch(&json!({"appId": "APP_ID"}));
            return Some(self.stop_there(Reason::AppTypeUnsupported, &message, [command]));
        }
        app.masked.then(|| {
            let message = format!(
                "The cloud shows codes of app {id} masked only, so no reading can be trusted and nothing is changed. \
                 Name the credentials of the IAM user that created the app in spec.credentialsRef."
            );
            self.stop_there(Reason::CodesMasked, &message, self.kubectl().other_credentials())
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
                "App {id} is not named {name:?}, so nothing is changed. Correct spec.appName or spec.appId, or rename the app."
            );
            let commands = [json!({"appName": "APP_NAME"}), json!({"appId": "APP_ID"})];
            let commands = commands.map(|spec| self.kubectl().patch(&spec));
            return Some(self.stop_there(Reason::AppNameMismatch, &message, commands));
        }
        (app.is_owned == Some(false)).then(|| {
            let message = format!(
                "App {id} was created by another IAM user, and only its creator may change its codes, so \
                 nothing is changed. Name that user's credentials in spec.credentialsRef."
            );
            self.stop_there(Reason::NotOwner, &message, self.kubectl().other_credentials())
        })
    }

    /// Time until the next routine check, if this pass does none.
    fn next_check(&self) -> SignedDuration {
        if self.app().is_some() {
            self.o.limits.check_period
        } else {
            self.check_left()
        }
    }

    /// Nothing to do until the next rotation or the next routine check.
    fn rest(&self) -> Step {
        let check = self.next_check();
        let schedule = self
            .next_scheduled()
            .filter(|_| !self.wanted.suspend)
            .map(|at| at.duration_since(self.now));
        let interval = self
            .due()
            .filter(|_| !self.wanted.suspend)
            .and_then(|_| self.minimum_interval_left());
        // What is due waits for the minimum interval, and its own time is over.
        let soonest = interval.or(schedule).map_or(check, |left| left.min(check));
        Step::Rest {
            after: soonest.max(SignedDuration::from_secs(1)),
        }
    }
}
