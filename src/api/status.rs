//! The answer: everything under `status`, the condition types and the reasons.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PlainCode;

/// What the operator knows about the rotation.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = super::schema::AbsentRatherThanNull)]
pub struct AppCodeRotationStatus {
    /// Generation of the spec that the rest of status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// `Ready`: the Secret holds a code that the cloud listed when last asked. `Reconciling`: work is under way or will
    /// be tried again. `Stalled`: a person must act, the message says how. `Authorized`: the credentials were taken.
    /// `SecretSynced`: the Secret is as it should be. `WorkloadsReady`: every workload of `restartTargets` was restarted
    /// with the present code and has rolled out; the message names those that have not. `CodeExposed`: the code stands in
    /// status in plain text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// For people: `Pending` (not yet seen through), `Ready`, `Rotating` (a rotation is open), `Distributing` (the new
    /// code is in the Secret and has still to reach its consumers), `Retiring` (they have it, and the code before still
    /// works), `Suspended`, `Stalled` (a person must act).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,

    /// Number of the last completed rotation. It only grows; a rotation that was given up leaves a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation_number: Option<i64>,

    /// The code that the Secret holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<CurrentCode>,

    /// The code before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousCode>,

    /// Fingerprint of the seed that was last taken into account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed_fingerprint: Option<String>,

    /// When the cloud last listed the code that the Secret holds. `Ready` rests on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_verified_time: Option<Time>,

    /// The last try of a new code by `spec.verification`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationStatus>,

    /// The rotation that is not finished, if there is one: its outcome is open, its code has not reached its consumers, or
    /// the code that it replaced still works.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<OpenRotation>,

    /// When the last rotation was completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation_time: Option<Time>,

    /// When the schedule rotates next, jitter and windows included. Absent without a schedule. While `suspend` holds
    /// it, when it would.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,

    /// The next times of the schedule, at most three, jitter and windows included, if each rotation comes when it
    /// should. They change with a rotation or the spec only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upcoming: Vec<Time>,

    /// The value of `rotationTrigger` that was last taken into account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_trigger: Option<String>,

    /// The value of the annotation `appcode.dev/rotate-requested-at` that was last taken into account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_request: Option<String>,

    /// What has failed since the last success. Back-off is counted here, so a restart forgets nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<Failures>,

    /// Past rotations, newest first, at most `historyLimit`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<HistoryEntry>,

    /// The Secret that holds the code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<TargetStatus>,

    /// The app that the rest of status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppStatus>,

    /// Fingerprints of codes that appeared in the app during a rotation of ours and that nobody claims, and of codes of ours
    /// that were not retired. Delete them in the console if nobody uses them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclaimed: Vec<String>,

    /// The code in plain text; only with `statusCode: Plaintext`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_code: Option<PlainCode>,
}

/// Where the rotation stands, in one word for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Not yet seen through.
    Pending,
    /// The Secret holds a listed code and nothing is under way.
    Ready,
    /// A rotation is open.
    Rotating,
    /// The new code is in the Secret and has still to reach its consumers.
    Distributing,
    /// Consumers have the new code, and the code before still works.
    Retiring,
    /// `suspend` holds it.
    Suspended,
    /// A person must act.
    Stalled,
}

/// The code that the Secret holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CurrentCode {
    /// First 16 hex digits of SHA-256 over app id, a zero byte and the code.
    pub fingerprint: String,
    /// When it became the current code: by a rotation or, for a seed, by being taken over.
    pub rotated_at: Time,
}

/// The code before the current one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PreviousCode {
    /// First 16 hex digits of SHA-256 over app id, a zero byte and the code.
    pub fingerprint: String,
    /// With strategy `Overlap`: no earlier than this it is deleted in the cloud, and until then it works. Absent while
    /// the new code has still to reach its consumers, and once it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retire_after: Option<Time>,
}

/// The last try of a new code.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VerificationStatus {
    /// When it was made; of several that ended alike, the first.
    pub time: Time,
    /// `Passed`: the answer had the status that is expected. `Failed`: it had another one, or there was none.
    pub outcome: VerificationOutcome,
    /// Id of the rotation whose code was tried.
    pub rotation_id: String,
    /// What came of it, without secrets.
    pub message: String,
}

/// What came of a try of a new code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum VerificationOutcome {
    /// The answer had the status that is expected.
    Passed,
    /// It had another one, or there was none.
    Failed,
}

/// A rotation that is not finished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OpenRotation {
    /// Id of the rotation; the same in logs, events and on the Secret.
    pub rotation_id: String,
    /// Why it was started: `Initial` (first sight), `Target` (another app or a changed seed), `Spec` (a changed
    /// `rotationTrigger`), `Request` (the annotation `appcode.dev/rotate-requested-at`), `Schedule`.
    pub trigger: Trigger,
    /// How it replaces the code: `Reset` or `Overlap`.
    pub strategy: Strategy,
    /// How far it has come: `Started` (its call may have been sent), `Persisted` (its code is in the Secret),
    /// `Distributed` (its consumers have it), `Retiring` (the code before is being deleted) or `Retired` (that is gone).
    pub step: RotationStep,
    /// When it was started.
    pub started_at: Time,
    /// Fingerprint of the code that it replaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
    /// With strategy `Overlap`, and with any strategy while the code is on its way to its consumers: what the operator has
    /// noted on the Secret, so that it finds the rotation again should the Secret be deleted meanwhile. It holds whole
    /// fingerprints and no code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intent: Option<String>,
}

/// Why a rotation was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Trigger {
    /// First sight of the resource.
    Initial,
    /// Another app or a changed seed.
    Target,
    /// A changed `rotationTrigger`.
    Spec,
    /// A changed annotation `appcode.dev/rotate-requested-at`.
    Request,
    /// The schedule.
    Schedule,
}

impl Trigger {
    /// Every one.
    pub const ALL: [Self; 5] = [Self::Initial, Self::Target, Self::Spec, Self::Request, Self::Schedule];

    /// The word that stands in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "Initial",
            Self::Target => "Target",
            Self::Spec => "Spec",
            Self::Request => "Request",
            Self::Schedule => "Schedule",
        }
    }
}

/// How a rotation replaces the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Strategy {
    /// The old code is reset and dies at once.
    #[default]
    Reset,
    /// A second code is added and published; the old one is deleted once consumers have the new one.
    Overlap,
}

impl Strategy {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Reset, Self::Overlap];

    /// The word that stands in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Reset => "Reset",
            Self::Overlap => "Overlap",
        }
    }
}

/// How far a rotation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum RotationStep {
    /// The intent is written; the call may have been sent.
    Started,
    /// The new code is in the Secret.
    Persisted,
    /// The new code has reached its consumers.
    Distributed,
    /// The code before is being deleted.
    Retiring,
    /// The code before is gone.
    Retired,
}

/// What has failed since the last success.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failures {
    /// Failures in a row.
    pub consecutive: i32,
    /// Reason of the last one.
    pub last_reason: String,
    /// What happened, without secrets.
    pub last_message: String,
    /// Request id of the cloud's answer, for the vendor's support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_request_id: Option<String>,
    /// No earlier than this is it tried again, unless the spec changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
}

/// One past rotation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// Id of the rotation.
    pub rotation_id: String,
    /// Its number.
    pub number: i64,
    /// Why it was started: `Initial` (first sight), `Target` (another app or a changed seed), `Spec` (a changed
    /// `rotationTrigger`), `Request` (the annotation `appcode.dev/rotate-requested-at`), `Schedule`.
    pub trigger: Trigger,
    /// How it replaced the code: `Reset` (the old code died at once) or `Overlap` (it was deleted later).
    pub strategy: Strategy,
    /// When it was started.
    pub started_at: Time,
    /// When its code was in the Secret.
    pub completed_at: Time,
    /// Fingerprint of its code.
    pub fingerprint: String,
    /// `Completed`: the answer to our call told the code. `Recovered`: the code was found by reading after a lost answer
    /// or a crash.
    pub outcome: Outcome,
    /// Milliseconds from the cloud's answer to the Secret being written: how long the old code was dead and the new one
    /// not yet published. Absent when the answer was lost, and with `Overlap`, where the old code goes on working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exposure_millis: Option<i64>,
    /// With `Overlap`: when the code before was seen to be gone. Absent while it still works, or was left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retired_at: Option<Time>,
}

/// How the code of a rotation was learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Outcome {
    /// From the answer to our call.
    Completed,
    /// By reading, after a lost answer or a crash.
    Recovered,
}

impl Outcome {
    /// Every one.
    pub const ALL: [Self; 2] = [Self::Completed, Self::Recovered];

    /// The word that stands in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "Completed",
            Self::Recovered => "Recovered",
        }
    }
}

/// The Secret that holds the code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetStatus {
    /// Name of the Secret.
    pub name: String,
    /// Key under which the code stands.
    pub key: String,
}

/// The app that status is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppStatus {
    /// Origin of the ModelArts endpoint.
    pub endpoint: String,
    /// The IAM project that holds the app.
    pub project_id: String,
    /// Id of the app.
    pub app_id: String,
}

/// Types of conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionType {
    /// The Secret holds a code that the cloud listed when last asked, for this generation.
    Ready,
    /// Work is under way or will be tried again.
    Reconciling,
    /// A person must act.
    Stalled,
    /// The credentials were taken by the cloud.
    Authorized,
    /// The Secret is as it should be.
    SecretSynced,
    /// Every workload of `restartTargets` was restarted with the present code and has rolled out.
    WorkloadsReady,
    /// The code stands in status in plain text.
    CodeExposed,
}

impl ConditionType {
    /// The word that stands in `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciling => "Reconciling",
            Self::Stalled => "Stalled",
            Self::Authorized => "Authorized",
            Self::SecretSynced => "SecretSynced",
            Self::WorkloadsReady => "WorkloadsReady",
            Self::CodeExposed => "CodeExposed",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Why a condition is as it is: a closed set, the same words in conditions, events and metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[$doc])* $name,)+
        }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The word that stands in `reason`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }
        }
    };
}

reasons! {
    /// The code in the Secret was listed by the cloud when last asked.
    CodeListed,
    /// The cloud took the credentials.
    CredentialsAccepted,
    /// A rotation was completed.
    Rotated,
    /// The seed was taken over without a rotation.
    Adopted,
    /// The Secret was brought back to the code that it should hold.
    Repaired,
    /// The new code is in the Secret and is being brought to its consumers.
    Distributing,
    /// The new code is being tried; its gateway may not know it yet.
    Verifying,
    /// The new code was tried for longer than a gateway takes to know it, and does not work.
    VerificationFailed,
    /// Workloads are being restarted.
    RollingOut,
    /// A workload does not get on with its restart.
    RolloutHeld,
    /// Every workload of `restartTargets` has rolled out with the new code.
    RolledOut,
    /// A workload was restarted.
    Restarted,
    /// The code before still works until its grace period is over.
    Retiring,
    /// The code before was deleted.
    Retired,
    /// The code before was left in the app, because it is not certainly ours to delete or the resource went first.
    NotRetired,
    /// Keys, labels, annotations or the owner of the Secret were brought to what `spec.target` says; its code stayed.
    Rendered,
    /// A rotation is open.
    Rotating,
    /// The outcome of a call is being found out by reading.
    Settling,
    /// Something is awaited: a sibling, the minimum interval, the API server.
    Waiting,
    /// Nothing is wanted or under way.
    Idle,
    /// `suspend` holds every change.
    Suspended,
    /// A try failed in a way that may pass; it will be made again.
    Retrying,
    /// The cloud was not reached for three check periods, so it is not known whether the code works.
    NotVerified,
    /// The code stands in status in plain text because `statusCode` says so.
    PlaintextRequested,
    /// An intent for another app was left behind; nothing more is done about it.
    Abandoned,
    /// The spec breaks a rule; the message lists every one.
    InvalidSpec,
    /// The schedule names dates that never come, or a window that never opens.
    ScheduleNeverFires,
    /// A template of the Secret is refused, or fails with the values that it is given.
    TemplateInvalid,
    /// The credentials Secret is absent or lacks a key.
    CredentialsMissing,
    /// The cloud refuses the credentials.
    CredentialsRejected,
    /// The caller may not do this.
    NotAuthorized,
    /// The app belongs to another IAM user than the caller.
    NotOwner,
    /// The cloud knows no such app, or does not show it to the caller.
    AppNotFound,
    /// The app lives on a gateway without app codes.
    AppTypeUnsupported,
    /// The app has another name than `appName`.
    AppNameMismatch,
    /// The app has several codes and none was named.
    AppCodeAmbiguous,
    /// The code that should be current is not listed by the cloud.
    CodeNotListed,
    /// The seed is needed and cannot be read.
    SeedUnreadable,
    /// The cloud shows codes masked only.
    CodesMasked,
    /// The code holds a slash or is a dot segment, so that no URL can name it and no call can reset it.
    CodeNotAddressable,
    /// The app can hold no further code.
    CapacityExhausted,
    /// A Secret of the target's name exists and was not made for this resource.
    SecretConflict,
    /// The target Secret cannot be written.
    SecretNotWritable,
    /// The API server does not let the operator set or remove its finalizer on the resource.
    FinalizerRefused,
    /// Another resource claims the same code.
    Conflict,
    /// The endpoint, or the host of the verification, is not on the operator's allow-list.
    EndpointNotAllowed,
    /// The resource names no credentials, and the operator's own may not be used for its namespace and app.
    IdentityNotAllowed,
    /// Several codes appeared during a rotation and nothing tells which is ours.
    AmbiguousOutcome,
    /// Too many rotations were started within a day.
    BudgetExhausted,
    /// The intent on the Secret was written by a newer or unknown version.
    UnknownIntentFormat,
}

impl Reason {
    /// The reason of this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|reason| reason.as_str() == word)
    }

    /// Those for which a resource stops until a person has acted: the ones from [`Reason::InvalidSpec`] on.
    pub fn stops() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied().filter(|reason| *reason >= Self::InvalidSpec)
    }
}

impl AppCodeRotationStatus {
    /// The condition of type `kind`.
    pub fn condition(&self, kind: ConditionType) -> Option<&Condition> {
        self.conditions
            .iter()
            .find(|condition| condition.type_ == kind.as_str())
    }

    /// Whether the condition of type `kind` is `True`.
    pub fn is_true(&self, kind: ConditionType) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == "True")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use pretty_assertions::assert_eq;

    use super::*;

    #[test]
    fn the_runbook_has_a_heading_for_each_reason_to_stop_and_no_other() {
        let page = include_str!("../../docs/runbook.md");
        let mut is_about_stops = false;
        let mut headings = BTreeSet::new();
        for line in page.lines() {
            if let Some(heading) = line.strip_prefix("## ") {
                is_about_stops = heading.starts_with("Stops");
            } else if let Some(heading) = line.strip_prefix("### ").filter(|_| is_about_stops) {
                headings.insert(heading);
            }
        }
        assert_eq!(Reason::stops().map(Reason::as_str).collect::<BTreeSet<_>>(), headings);
    }

    #[test]
    fn every_reason_is_found_by_its_word() {
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.as_str()), Some(*reason));
        }
        assert_eq!(Reason::from_word("invalidSpec"), None);
    }
}
