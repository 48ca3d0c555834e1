//! What a decision rests on: plain data, read by `controller::observe` or made up by a test.

use jiff::{SignedDuration, Timestamp};

use super::{LOCAL_RETRY, Memory, Step};
use crate::api::{AppCodeRotationStatus, InitialRotation, Reason, Strategy, TargetStatus};
use crate::ids::{AppIdentity, Fingerprint};
use crate::intent::{Intent, Reading, furthest};
use crate::remedy::Kubectl;
use crate::schedule::Timetable;
use crate::secret::{OurSecret, Record, SecretView};
use crate::template::Layout;
use crate::validate::DEFAULT_GRACE;
use crate::workload::{RestartTarget, Rollout};

/// Settings of the operator that decisions rest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How far two agreeing readings must lie apart before a negative counts.
    pub settle_window: SignedDuration,
    /// Shortest time between two rotations of a resource; always longer than `settle_window`.
    pub minimum_interval: SignedDuration,
    /// Most rotations of a resource that may start within 24 hours.
    pub daily_budget: usize,
    /// How often a resource at rest is checked against the cloud: as the operator is set, or as long as one round over so
    /// many resources takes at its call rates.
    pub check_period: SignedDuration,
}

impl Limits {
    /// How soon something is looked at again that a change inside the cluster may have mended: never less often than what
    /// is at rest.
    pub fn local_retry(&self) -> SignedDuration {
        LOCAL_RETRY.min(self.check_period)
    }
}

/// Everything that one decision rests on.
#[derive(Clone, Debug)]
pub struct Observed {
    /// The operator's settings.
    pub limits: Limits,
    /// The resource, apart from spec and status.
    pub resource: ResourceView,
    /// The spec in checked form, or why it is refused.
    pub wanted: Result<Wanted, Refusal>,
    /// The status as it was read.
    pub status: AppCodeRotationStatus,
    /// Name of the Secret that is the target: the one in spec, if the spec can be used.
    pub target: String,
    /// That Secret. Read before the resource.
    pub secret: SecretView,
    /// The Secret that status names, where that is another.
    pub former: SecretView,
    /// The intent that status shows, if one of an `Overlap` rotation, or one whose code is on its way to its consumers,
    /// stands there; or the one that this process has marked, while status does not tell what came of it.
    pub mirror: Option<Intent>,
    /// What the cloud said in this pass.
    pub cloud: Cloud,
    /// Uptime at which the cloud has shown the app's codes in this pass, whatever it has said since.
    pub shown_at: Option<SignedDuration>,
    /// What the workloads that are restarted say, if they were looked at in this pass.
    pub rollouts: Option<Vec<(RestartTarget, Rollout)>>,
    /// Those of them that carry the mark of the last rotation, as its record names them.
    pub marked: Vec<String>,
    /// Why the API server will not have our finalizer on the resource, if that was tried in this pass.
    pub finalizer_refused: Option<String>,
    /// Other resources on the same app or with the same target Secret; read together with the cloud.
    pub siblings: Vec<Sibling>,
    /// Whether so many older resources with a code are on the app that not all others were looked at.
    pub is_crowded: bool,
    /// What this process remembers from earlier passes.
    pub memory: Memory,
    /// Why the API server will not have the Secret written, if a write of this pass was refused.
    pub secret_refused: Option<String>,
    /// Whether somebody changed the resource just now, so that back-off does not hold.
    pub nudged: bool,
    /// Whether this process may start a change.
    pub may_mutate: bool,
    /// Time on the clock that only grows.
    pub uptime: SignedDuration,
    /// A random number for the id of a rotation that may start.
    pub draw: u64,
}

/// The resource, apart from spec and status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceView {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Uid; another one means another resource of the same name.
    pub uid: String,
    /// Generation of the spec.
    pub generation: i64,
    /// Whether it is gone or being deleted.
    pub deleting: bool,
    /// When it was deleted, if it is still there because a finalizer of ours holds it.
    pub held_since: Option<Timestamp>,
    /// Whether our finalizer is on it.
    pub has_finalizer: bool,
    /// Value of the request annotation.
    pub request: Option<String>,
    /// Value of the adopt annotation.
    pub adopt: Option<String>,
}

impl ResourceView {
    /// Renders commands about it.
    pub fn kubectl(&self) -> Kubectl<'_> {
        Kubectl {
            namespace: &self.namespace,
            name: &self.name,
        }
    }
}

/// The checked spec, as far as decisions go: fingerprints instead of codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which app.
    pub app: AppIdentity,
    /// The name it must have.
    pub app_name: Option<String>,
    /// The code to start from.
    pub seed: SeedView,
    /// When to rotate without being asked.
    pub schedule: Option<Timetable>,
    /// What to do at first sight, if spec says so.
    pub initial: Option<InitialRotation>,
    /// `rotationTrigger`.
    pub trigger: Option<String>,
    /// Whether changes are held.
    pub suspend: bool,
    /// The Secret and its key, defaults applied.
    pub target: TargetStatus,
    /// What that Secret is to be besides the code.
    pub layout: Layout,
    /// How a new code takes the place of the one before.
    pub handover: Handover,
}

/// How a new code takes the place of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// How a rotation replaces the code.
    pub strategy: Strategy,
    /// How long the code before works with [`Strategy::Overlap`], once the new one has reached its consumers.
    pub grace: SignedDuration,
    /// Whether it is kept until the workloads that are restarted have rolled out.
    pub waits_for_rollout: bool,
    /// What is restarted once the Secret holds a new code.
    pub restarts: Vec<RestartTarget>,
    /// Time from the writing of the Secret to the restart.
    pub restart_delay: SignedDuration,
    /// Whether a new code is tried before it counts as working.
    pub is_verified: bool,
}

impl Default for Handover {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            grace: DEFAULT_GRACE,
            waits_for_rollout: true,
            restarts: Vec::new(),
            restart_delay: SignedDuration::ZERO,
            is_verified: false,
        }
    }
}

/// The code to start from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedView {
    /// None is named.
    None,
    /// One is named but cannot be read: why, with the commands that resolve it.
    Unreadable(String),
    /// It was read.
    Known {
        /// Stands for it.
        fingerprint: Fingerprint,
        /// Whether it stands in the resource in plain text.
        inline: bool,
    },
}

impl SeedView {
    /// The seed's fingerprint, when it was read.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Known { fingerprint, .. } => Some(*fingerprint),
            Self::None | Self::Unreadable(_) => None,
        }
    }
}

/// Why a spec is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `InvalidSpec`, `ScheduleNeverFires`, `TemplateInvalid`, or what an administrator could allow.
    pub reason: Reason,
    /// Every reason at once, and the commands that resolve them.
    pub message: String,
}

/// What the cloud said in this pass.
#[derive(Clone, Debug, PartialEq)]
pub enum Cloud {
    /// It was not asked.
    NotAsked,
    /// It was not asked: other calls of the same credentials go first, for at least this long.
    Postponed(SignedDuration),
    /// It could not be asked, or refused.
    Failed(Failure),
    /// It described the app.
    Read(AppReading),
}

/// Why the cloud gave no answer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// What happened, to what, and what to do, with commands where only a person can mend it; free of secrets.
    pub message: String,
    /// The answer's request id.
    pub request_id: Option<String>,
    /// Whether only a person can mend it.
    pub is_final: bool,
    /// No earlier than this, if the failure says so.
    pub after: Option<SignedDuration>,
}

impl Failure {
    pub(super) fn step(&self, check_period: SignedDuration) -> Step {
        if self.is_final {
            let after = self.after.unwrap_or(check_period);
            return Step::Stop {
                reason: self.reason,
                message: self.message.clone(),
                after,
            };
        }
        Step::Retry { failure: self.clone() }
    }
}

/// An app as decisions see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppReading {
    /// Its present name.
    pub name: Option<String>,
    /// Whether its gateway has app codes.
    pub is_supported: bool,
    /// Whether the caller created it, where that is known.
    pub is_owned: Option<bool>,
    /// Its own time of last change.
    pub updated_at: Option<i64>,
    /// Its codes, sorted, each once.
    pub codes: Vec<Fingerprint>,
    /// Those of them that no URL can name, so that no call can replace them.
    pub unaddressable: Vec<Fingerprint>,
    /// Whether a value was masked, so that `codes` is not the whole list.
    pub masked: bool,
}

impl AppReading {
    /// The listed code that `text` names: 16 or more hex digits of its fingerprint, and of no other's.
    pub fn named(&self, text: &str) -> Option<Fingerprint> {
        let mut named = self.codes.iter().copied().filter(|code| code.is_named_by(text));
        named.next().filter(|_| named.next().is_none())
    }

    /// What an intent is held against.
    pub(crate) fn reading<'a>(&'a self, claimed: &'a [Fingerprint]) -> Reading<'a> {
        Reading {
            listed: &self.codes,
            updated_at: self.updated_at,
            claimed,
        }
    }
}

/// Another resource on the same app or with the same target Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// Its name; none if it is in another namespace, which is not told.
    pub name: Option<String>,
    /// What both of them name.
    pub shares: Shares,
    /// Whether it is older: created earlier, or at the same time with a lower uid.
    pub is_older: bool,
    /// When it was created.
    pub created: Timestamp,
    /// Whether the cloud has been read for it or has refused it at least once, or it was stopped before.
    pub is_judged: bool,
    /// What the cloud made of its credentials.
    pub standing: Standing,
    /// The codes that are its own: the one in its Secret or status and the base of its open rotation.
    pub holds: Vec<Fingerprint>,
    /// The fingerprint of its code as its status shows it; once the list has told which one that is, that is in `holds`.
    pub shown: Option<String>,
    /// Its open rotation.
    pub open: Option<OpenSibling>,
}

/// What two resources have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shares {
    /// The app.
    App,
    /// The target Secret.
    Secret,
    /// Both.
    Both,
}

/// What the cloud last made of a resource's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known yet.
    Unknown,
    /// It took them, so what the resource claims is proven.
    Authorized,
    /// It refused them, or the resource was stopped before the cloud was ever asked for it: nothing that it claims counts.
    Refused,
}

/// A sibling's open rotation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSibling {
    /// The code that it replaces.
    pub base: Option<Fingerprint>,
    /// When its last attempt was marked.
    pub marked_at: Timestamp,
    /// Whether that attempt adds a code while the base stays listed, so that a base on the list says nothing of it.
    pub adds: bool,
}

/// Which Secret the record is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Book {
    /// The one that spec names.
    Target,
    /// The one that status names.
    Former,
}

/// The highest number that a record tells of its own app: an intent of another one is not by an operator.
pub(super) fn last_number(record: &Record) -> i64 {
    let intent = record.intent.as_ref().filter(|intent| intent.app == record.app);
    intent.map_or(record.number, |intent| record.number.max(intent.number))
}

/// Whether of two records of one rotation this one has come further than the other.
fn is_further(record: &Record, other: &Record) -> bool {
    let intents = record.intent.as_ref().zip(other.intent.as_ref());
    intents.is_some_and(|(intent, other)| intent.rotation_id == other.rotation_id && intent.step > other.step)
}

impl Observed {
    /// What the cloud listed in this pass.
    pub fn reading(&self) -> Option<&AppReading> {
        match &self.cloud {
            Cloud::Read(app) => Some(app),
            Cloud::NotAsked | Cloud::Postponed(_) | Cloud::Failed(_) => None,
        }
    }

    /// The listed code that the adopt annotation names.
    pub(super) fn answer(&self) -> Option<Fingerprint> {
        self.reading()?.named(self.resource.adopt.as_ref()?)
    }

    /// The last rotation: as it stands on the Secret whose record counts or, should that be gone or older, as status shows
    /// it. None of another app than spec names.
    pub fn intent(&self) -> Option<&Intent> {
        let book = self.book().map(|(_, secret)| &secret.record);
        let number = book.map_or(0, |record| record.number);
        let mirrored = self.mirror.as_ref().filter(|mirror| mirror.number >= number);
        let intent = furthest(book.and_then(|record| record.intent.as_ref()), mirrored)?;
        let is_wanted = self.wanted.as_ref().map_or(true, |wanted| wanted.app == intent.app);
        is_wanted.then_some(intent)
    }

    /// The Secret whose record counts: of the one in spec and the one before, the one with the higher number or, where both
    /// tell of one rotation, the one on which it has come further.
    pub fn book(&self) -> Option<(Book, &OurSecret)> {
        Self::newest(self.secret.ours(), self.former.ours())
    }

    /// The same without a Secret that is still another resource's: what status may show.
    pub fn own_book(&self) -> Option<&OurSecret> {
        Self::newest(self.secret.own(), self.former.own()).map(|(_, secret)| secret)
    }

    fn newest<'a>(target: Option<&'a OurSecret>, former: Option<&'a OurSecret>) -> Option<(Book, &'a OurSecret)> {
        match (target, former) {
            (Some(target), Some(former)) if last_number(&former.record) > last_number(&target.record) => {
                Some((Book::Former, former))
            }
            // Two operators may carry one rotation on, one on each Secret.
            (Some(target), Some(former)) if is_further(&former.record, &target.record) => Some((Book::Former, former)),
            // A Secret that is only about to be taken over says nothing yet.
            (Some(target), Some(former)) if target.is_blank() && !former.is_blank() => Some((Book::Former, former)),
            (Some(target), _) => Some((Book::Target, target)),
            (None, Some(former)) => Some((Book::Former, former)),
            (None, None) => None,
        }
    }
}
