//! The `AppCodeRotation` resource: what a person writes, what the operator answers. No I/O and no decisions.
//!
//! Doc comments on fields are what `kubectl explain` prints. Fields of `spec` are texts as they were written;
//! [`crate::validate`] turns them into checked types, so that one bad field is reported instead of hiding the object.

mod schema;
mod status;

use std::collections::BTreeMap;
use std::fmt;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::status::*;

/// API group of the resource and prefix of every annotation.
pub const GROUP: &str = "appcode.dev";

/// Annotation on the resource: each new value rotates once and stays.
pub const ROTATE_REQUESTED_AT: &str = "appcode.dev/rotate-requested-at";

/// Annotation on the resource: a person's answer to an ambiguity, the fingerprint (16 or more hex digits) of a listed code.
pub const ADOPT_FINGERPRINT: &str = "appcode.dev/adopt-fingerprint";

/// Annotation on the resource: each new value has the operator look at once, and changes nothing else.
pub const CHECK_REQUESTED_AT: &str = "appcode.dev/check-requested-at";

/// Finalizer on the resource while a code of it is still to be retired.
pub const FINALIZER: &str = "appcode.dev/retirement";

/// Field manager of every write, and the value of `app.kubernetes.io/managed-by` on our Secrets.
pub const MANAGER: &str = "appcode-operator";

// What spans fields, in the words of both the CRD and `validate`.
pub(crate) const ONE_OF_REGION_ENDPOINT: &str = "set exactly one of region and endpoint";
pub(crate) const ONE_SEED: &str = "set at most one of appCode and appCodeFrom";
pub(crate) const SEED_NOT_TARGET: &str =
    "appCodeFrom must not name the target Secret: the operator writes there, so the seed would never be seen to change";
pub(crate) const CREDENTIALS_NOT_TARGET: &str =
    "credentialsRef must not name the target Secret: the operator writes codes there";
pub(crate) const INTERVAL_POSITIVE: &str = "interval must be longer than zero";
pub(crate) const JITTER_SHORTER: &str = "jitter must be shorter than the interval";
pub(crate) const ONE_OF_CRON_INTERVAL: &str =
    "set exactly one of cron and interval: cron for times of the calendar, interval for a time after the last rotation";
pub(crate) const ZONE_WITH_CRON: &str =
    "timeZone needs cron: an interval has no time zone, and each window has its own";
pub(crate) const WINDOW_LENGTH: &str = "duration must be 1m to 168h";
pub(crate) const GRACE_LENGTH: &str = "gracePeriod must be at most 720h";
pub(crate) const RESTART_DELAY_LENGTH: &str = "restartDelay must be at most 10m";
pub(crate) const VERIFICATION_STATUS: &str =
    "expectStatus must not be 401, 403 or 429: these are how a gateway refuses a code or puts a caller off";
pub(crate) const VERIFICATION_TIMEOUT: &str = "timeout must be 1s to 60s";
pub(crate) const PREVIOUS_IS_ANOTHER_KEY: &str =
    "previousKey must differ from key: the one holds the code before, the other the code";
pub(crate) const KEY_NOT_TEMPLATE: &str =
    "template.data must name neither key nor previousKey: these always hold the plain codes";
pub(crate) const DELETE_NEEDS_CREATE: &str =
    "deletionPolicy Delete needs creationPolicy Create: a Secret that others made is never deleted with this resource";
pub(crate) const BASIC_AUTH_KEYS: &str =
    "a Secret of type kubernetes.io/basic-auth needs username or password: name one in template.data, or as key";

/// What should be rotated, when, and where the code goes.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "appcode.dev",
    version = "v1alpha1",
    kind = "AppCodeRotation",
    plural = "appcoderotations",
    shortname = "acr",
    category = "appcode",
    namespaced,
    status = "AppCodeRotationStatus",
    derive = "PartialEq",
    doc = "Rotates one app code of a Huawei Cloud ModelArts app: resets it on a schedule or when asked, and keeps the code in a Secret.",
    printcolumn(name = "App", type_ = "string", json_path = ".spec.appId", description = "The app whose code is rotated"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase", description = "Where the rotation stands"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#, description = "Whether the Secret holds a code that the cloud lists"),
    printcolumn(name = "Last Rotation", type_ = "date", json_path = ".status.lastRotationTime", description = "Time since the last rotation"),
    printcolumn(name = "Next Rotation", type_ = "string", json_path = ".status.nextRotationTime", description = "When the schedule rotates next, as a time in UTC: a column of ages cannot show what is to come"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "Time since creation"),
    printcolumn(name = "Strategy", type_ = "string", json_path = ".spec.strategy", priority = 1, description = "How a rotation replaces the code; nothing stands for Reset"),
    printcolumn(name = "Fingerprint", type_ = "string", json_path = ".status.current.fingerprint", priority = 1, description = "Stands for the code in the Secret"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.target.name", priority = 1, description = "The Secret that holds the code"),
    printcolumn(name = "Message", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].message"#, priority = 1, description = "What is the case, and what to do"),
    validation = Rule::new("!has(self.spec.appCodeFrom) || self.spec.appCodeFrom.secretKeyRef.name != (has(self.spec.target) && has(self.spec.target.name) ? self.spec.target.name : self.metadata.name)").message(SEED_NOT_TARGET),
    validation = Rule::new("!has(self.spec.credentialsRef) || self.spec.credentialsRef.name != (has(self.spec.target) && has(self.spec.target.name) ? self.spec.target.name : self.metadata.name)").message(CREDENTIALS_NOT_TARGET),
)]
#[serde(rename_all = "camelCase")]
#[schemars(transform = schema::AbsentRatherThanNull)]
#[x_kube(
    validation = Rule::new("has(self.region) != has(self.endpoint)").message(ONE_OF_REGION_ENDPOINT),
    validation = Rule::new("!(has(self.appCode) && has(self.appCodeFrom))").message(ONE_SEED)
)]
pub struct AppCodeRotationSpec {
    /// Region of the app, such as `cn-north-4`. The endpoint follows from it. Set either this or `endpoint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[a-z]{2}-[a-z]{2,20}-[0-9]{1,3}$"))]
    pub region: Option<String>,

    /// Origin of a ModelArts endpoint, such as `https://modelarts.example.com`. It must be on the operator's
    /// allow-list. Set either this or `region`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 300), regex(pattern = r"^https?://[^/@?#\s]+/?$"))]
    pub endpoint: Option<String>,

    /// Id of the IAM project that holds the app. Changing it starts anew with another app.
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub project_id: String,

    /// Id of the app, as the console and the API show it. Changing it starts anew with another app.
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[A-Za-z0-9_-]+$"))]
    pub app_id: String,

    /// ModelArts workspace of the app. Default: `0`, the default workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9-]+$"))]
    pub workspace_id: Option<String>,

    /// Name that the app is expected to have. If the app has another name, nothing is rotated and the resource says
    /// `AppNameMismatch`. Default: whatever name the app has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255))]
    pub app_name: Option<String>,

    /// Remark to send with each change, at most 200 characters. Default: the app's own present remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 200))]
    pub app_remark: Option<String>,

    /// The seed: the code to start from, in plain text. It is stale after the first rotation and then ignored; a
    /// changed value starts anew from that code. Whoever may read this resource reads it, so it is rotated at once by
    /// default (`initialRotation`). Prefer `appCodeFrom`. Default: the only code that the app has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_code: Option<PlainCode>,

    /// Where the seed stands, instead of `appCode`. An absent or unreadable Secret is no error after the first rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_code_from: Option<AppCodeSource>,

    /// Secret in this namespace with the cloud credentials of the IAM user that created the app: `accessKey` and
    /// `secretKey` (and `securityToken` for temporary keys), or `domainName`, `userName` and `password`, or `token`.
    /// It is read anew for each use, so changing it needs no restart. Default: the operator's own credentials, where its
    /// administrator allows them for this namespace and app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<SecretReference>,

    /// How a rotation replaces the code. `Reset`: the code is replaced and the old one dies at once; until consumers have
    /// read the Secret again their calls fail. `Overlap`: a second code is added and published, and the old one is
    /// deleted once the named workloads have rolled out and a grace period is over; it needs a free place among the five
    /// codes of the app. Default: `Reset`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<Strategy>,

    /// How long the old code goes on working with strategy `Overlap`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Overlap>,

    /// When to rotate without being asked. Default: only when asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,

    /// What to do with the seed at first sight. `Immediate`: rotate it at once. `WhenDue`: take it over, and wait for
    /// the schedule or a trigger. Default: `Immediate` if the seed stands in this resource in plain text or the app has
    /// no code, else `WhenDue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_rotation: Option<InitialRotation>,

    /// Any text. A changed value rotates once; removing it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub rotation_trigger: Option<String>,

    /// Holds everything that changes the app. A rotation whose outcome is open is still settled by reading, and its
    /// code is saved. Default: `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,

    /// The Secret that holds the code. Default: the resource's name, key `appCode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<SecretTarget>,

    /// Workloads of this namespace that read the Secret and do not notice its changes, at most 16. Once the Secret holds a
    /// new code, each is restarted once, as `kubectl rollout restart` does: by an annotation on its pod template, and at
    /// the pace of its own update strategy. How far they are is told by the condition `WorkloadsReady`. The operator needs
    /// a role for this that its administrator grants apart. Default: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["kind".into(), "name".into()]))]
    pub restart_targets: Vec<WorkloadReference>,

    /// Time from the writing of the Secret to the restart of the workloads, such as `90s`: at most `10m`. Pods that have
    /// the Secret as a volume see a change up to some two minutes late; a pod that is started anew mostly sees it at once.
    /// Default: `0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 22),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?$")
    )]
    #[x_kube(validation = Rule::new("duration(self) <= duration('10m')").message(RESTART_DELAY_LENGTH))]
    pub restart_delay: Option<String>,

    /// A request that shows whether a new code works, tried with the header `X-Apig-AppCode: <code>` as a consumer would:
    /// after the code is in the Secret, before the resource is `Ready` again, and before any old code is retired. It
    /// is tried again for a while, since a gateway may learn of a new code late. A try that fails never changes the app;
    /// what came of the last one is in `status.verification`. Default: none, and what the cloud lists counts as working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verification: Option<VerificationSpec>,

    /// What status shows of the code. `Fingerprint`: 16 hex digits that stand for it. `Plaintext`: also the code
    /// itself in `status.appCode`, readable by whoever may read this resource. Default: `Fingerprint`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<StatusCode>,

    /// How many past rotations `status.history` keeps. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50))]
    pub history_limit: Option<i32>,
}

/// How long the old code goes on working with strategy `Overlap`.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Overlap {
    /// How long the old code works after the new one has reached its consumers, such as `1h` or `90s`; at most `720h`.
    /// `0s`: it is deleted as soon as they have it. A change counts for a code that is waiting already, so `0s` kills a
    /// leaked one. Default: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 22),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?$")
    )]
    #[x_kube(validation = Rule::new("duration(self) <= duration('720h')").message(GRACE_LENGTH))]
    pub grace_period: Option<String>,

    /// Whether the old code is kept until every workload of `restartTargets` has rolled out. Default: `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_for_rollout: Option<bool>,
}

/// A reference to a Secret in the resource's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// Where a code is read from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AppCodeSource {
    /// A key of a Secret in this namespace. It must not be the target.
    pub secret_key_ref: SecretKeyReference,
}

/// A key of a Secret in the resource's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyReference {
    /// Name of the Secret.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
    /// Key whose value is the code.
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"))]
    pub key: String,
}

/// When to rotate without being asked.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.cron) != has(self.interval)").message(ONE_OF_CRON_INTERVAL),
    validation = Rule::new("!has(self.timeZone) || has(self.cron)").message(ZONE_WITH_CRON),
    validation = Rule::new("!has(self.jitter) || !has(self.interval) || duration(self.jitter) < duration(self.interval)").message(JITTER_SHORTER)
)]
pub struct Schedule {
    /// Time from one completed rotation to the next, such as `720h`, `90m` or `1h30m`: hours, minutes and seconds, in
    /// this order. Not shorter than the operator's minimum interval (10 minutes unless it was set otherwise). Set either
    /// this or `cron`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 22),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?$")
    )]
    #[x_kube(validation = Rule::new("duration(self) > duration('0s')").message(INTERVAL_POSITIVE))]
    pub interval: Option<String>,

    /// Times of the calendar, such as `0 3 * * SUN`: minute, hour, day of month, month and day of week, or `@hourly`,
    /// `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly` or `@annually`. Months and days may be named by three
    /// letters, `L` is the last day of the month, and if both day of month and day of week are given either is enough.
    /// It counts from the calendar: a rotation for another reason does not move it, but stands for a firing whose start
    /// jitter or windows still delay just then; times that were missed become one. A local time that is skipped when clocks go forward means the first instant after the gap, one that comes
    /// twice when they go back the first of the two. Firings must be at least the operator's minimum interval apart
    /// (10 minutes unless it was set otherwise). Set either this or `interval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 6, max = 100),
        regex(
            pattern = r"^(@(annually|daily|hourly|midnight|monthly|weekly|yearly)|[0-9*/,-]+ +[0-9*/,-]+ +[0-9Ll*/,-]+ +[0-9A-Za-z*/,-]+ +[0-9A-Za-z*/,-]+)$"
        )
    )]
    pub cron: Option<String>,

    /// IANA time zone of `cron`, such as `Europe/Berlin`; the operator brings the zones' rules along. Default:
    /// `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: Option<String>,

    /// Longest delay after the time that is due, shorter than the interval or than the shortest time between two
    /// firings of `cron`. It spreads the rotations of many resources; each resource always has the same share of it. It
    /// ends with the window in which the delay starts. `0s`: none. Default: a tenth of the interval or of that shortest
    /// time, at most `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 22),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?$")
    )]
    pub jitter: Option<String>,

    /// Scheduled rotations start only while one of these windows is open, at most 8; what falls due in between starts
    /// in the next one. Rotations for other reasons do not wait for a window. Default: open at all times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub windows: Vec<ScheduleWindow>,
}

/// A time in which scheduled rotations may start.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleWindow {
    /// When the window opens: a cron like that of the schedule, such as `0 22 * * MON-FRI`.
    #[schemars(
        length(min = 6, max = 100),
        regex(
            pattern = r"^(@(annually|daily|hourly|midnight|monthly|weekly|yearly)|[0-9*/,-]+ +[0-9*/,-]+ +[0-9Ll*/,-]+ +[0-9A-Za-z*/,-]+ +[0-9A-Za-z*/,-]+)$"
        )
    )]
    pub cron: String,

    /// How long it stays open, such as `6h`: `1m` to `168h`. A rotation that has started in it is finished in any case.
    #[schemars(
        length(min = 2, max = 22),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?$")
    )]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1m') && duration(self) <= duration('168h')").message(WINDOW_LENGTH))]
    pub duration: String,

    /// IANA time zone of the window's `cron`, such as `Europe/Berlin`. Default: `Etc/UTC`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"))]
    pub time_zone: Option<String>,
}

/// What to do with the seed at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum InitialRotation {
    /// Rotate at once.
    Immediate,
    /// Take the seed over and wait.
    WhenDue,
}

/// What status shows of the code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum StatusCode {
    /// 16 hex digits that stand for the code.
    #[default]
    Fingerprint,
    /// The code itself as well.
    Plaintext,
}

/// The Secret that holds the code.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.previousKey) || self.previousKey != (has(self.key) ? self.key : 'appCode')").message(PREVIOUS_IS_ANOTHER_KEY),
    validation = Rule::new("!has(self.template) || !has(self.template.data) || !((has(self.key) ? self.key : 'appCode') in self.template.data || (has(self.previousKey) && self.previousKey in self.template.data))").message(KEY_NOT_TEMPLATE),
    validation = Rule::new("!has(self.template) || !has(self.template.type) || self.template.type != 'kubernetes.io/basic-auth' || (has(self.key) && self.key in ['username', 'password']) || (has(self.template.data) && ('username' in self.template.data || 'password' in self.template.data))").message(BASIC_AUTH_KEYS),
    validation = Rule::new("!has(self.deletionPolicy) || self.deletionPolicy != 'Delete' || !has(self.creationPolicy) || self.creationPolicy == 'Create'").message(DELETE_NEEDS_CREATE)
)]
pub struct SecretTarget {
    /// Name of the Secret, in the resource's namespace. Default: the resource's name. What becomes of a Secret that
    /// exists and was not made for this resource says `creationPolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: Option<String>,
    /// Key under which the code stands, always the plain code. Default: `appCode`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"))]
    pub key: Option<String>,
    /// Key under which the code before stands for as long as it still works beside the new one. A reset kills the old
    /// code at once, so the key is then absent. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^(\.?[-_a-zA-Z0-9])[-._a-zA-Z0-9]*$"))]
    pub previous_key: Option<String>,
    /// What else is written on the Secret. Changing it writes the Secret anew and rotates nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<SecretTemplate>,
    /// What may become of a Secret that exists. `Create`: one that was not made for this resource is left alone, and
    /// the resource says `SecretConflict`; one that is absent is made. `Adopt`: one that nobody else keeps is taken
    /// over, with all else that is in it; an absent one is made. `Merge`: only our keys are written into a Secret that
    /// others keep; an absent one is waited for. The last two take over the code under `key` as the seed if the spec
    /// names none and the cloud lists it. Default: `Create`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub creation_policy: Option<CreationPolicy>,
    /// What becomes of the Secret when this resource is deleted. `Retain`: it stays. `Delete`: it is deleted too, by an
    /// owner reference; only with `creationPolicy: Create`, and only a Secret that the operator made. Default: `Retain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// What is written on the Secret besides the plain code.
///
/// Templates are Jinja: `{{ appCode }}`, `{% if previousAppCode %}`, the filters `base64`, `json` and `urlencode`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretTemplate {
    /// Type of the Secret: `Opaque` or `kubernetes.io/basic-auth`. It cannot be changed on a Secret that exists.
    /// Default: `Opaque`.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<SecretType>,
    /// Labels, each value a template that uses no code, at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub labels: BTreeMap<String, TemplateText>,
    /// Annotations, each value a template that uses no code, at most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub annotations: BTreeMap<String, TemplateText>,
    /// Keys of the Secret, each value a template, at most 32. A template may use `appCode`, `previousAppCode` (the code
    /// before while it still works, else empty), `projectId`, `appId`, `appName` (as the app is named now) and
    /// `endpoint`, and nothing else. All that is rendered may have 64 KiB. Neither `key` nor `previousKey` can be named.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub data: BTreeMap<String, TemplateText>,
}

/// A template: text with `{{ appCode }}` and the like in it, at most 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TemplateText(#[schemars(length(max = 16384))] pub String);

/// Type of a Secret that the operator writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SecretType {
    /// Any keys.
    #[default]
    Opaque,
    /// `username`, `password` or both, and any other keys.
    #[serde(rename = "kubernetes.io/basic-auth")]
    BasicAuth,
}

impl SecretType {
    /// The word that stands in `type` of a Secret.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opaque => "Opaque",
            Self::BasicAuth => "kubernetes.io/basic-auth",
        }
    }
}

/// What may become of a Secret that exists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum CreationPolicy {
    /// Only a Secret that was made for the resource is written.
    #[default]
    Create,
    /// A Secret that nobody else keeps is taken over.
    Adopt,
    /// Our keys are written into a Secret that others keep.
    Merge,
}

/// What becomes of the Secret when the resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It stays.
    #[default]
    Retain,
    /// It is deleted too.
    Delete,
}

/// A workload of the resource's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WorkloadReference {
    /// What it is: a `Deployment`, a `StatefulSet` or a `DaemonSet`, of the group apps.
    pub kind: WorkloadKind,
    /// Name of the workload.
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub name: String,
}

/// A kind of workload that can be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum WorkloadKind {
    /// Pods that are alike.
    Deployment,
    /// Pods with names of their own.
    StatefulSet,
    /// A pod on each node.
    DaemonSet,
}

/// A request that shows whether a code works.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VerificationSpec {
    /// Where the code is tried, such as `https://inference.example.com/v1/health`: `https`, a host in lower case, with a
    /// port if need be, a path and perhaps a query, both percent-encoded. The host is shown the code, so it must be on
    /// the operator's allow-list. Name what needs the code (else its answer proves nothing), costs little and changes
    /// nothing. Redirects are not followed.
    #[schemars(
        length(min = 1, max = 2048),
        regex(pattern = r"^https?://[a-z0-9.:\[\]-]+([/?][!$-~]*)?$")
    )]
    pub url: String,

    /// How it is asked: `GET`, `HEAD`, or `POST` with an empty body. Default: `GET`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<VerificationMethod>,

    /// HTTP status of an answer that shows that the code works, 200 to 499; its body does not count. It may be one with
    /// which the service behind the gateway turns an empty request down, such as 400, but none that the gateway has for a
    /// code that does not work (401, 403) or for too many calls (429). Default: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 200, max = 499))]
    #[x_kube(validation = Rule::new("!(self in [401, 403, 429])").message(VERIFICATION_STATUS))]
    pub expect_status: Option<i32>,

    /// Longest time for one try, from the look-up of the name to the end of the answer: `1s` to `60s`. Default: `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 2, max = 22),
        regex(pattern = r"^([0-9]{1,5}h)?([0-9]{1,7}m)?([0-9]{1,7}s)?$")
    )]
    #[x_kube(validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('60s')").message(VERIFICATION_TIMEOUT))]
    pub timeout: Option<String>,
}

/// How a code is tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum VerificationMethod {
    /// Asks for the whole answer.
    #[default]
    Get,
    /// Asks for the head of the answer.
    Head,
    /// Sends an empty body.
    Post,
}

/// A code that stands in a resource in plain text. It is written to and read from the API server and nowhere else:
/// there is no `Display`, and `Debug` is redacted.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainCode(pub String);

impl fmt::Debug for PlainCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlainCode([redacted])")
    }
}

impl JsonSchema for PlainCode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PlainCode".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 512,
            "pattern": "^[!-)+-~]+$",
        })
    }
}

impl AppCodeRotation {
    /// Name of the Secret that the spec asks for.
    pub fn target_name(&self) -> String {
        let named = self.spec.target.as_ref().and_then(|target| target.name.clone());
        named.unwrap_or_else(|| self.metadata.name.clone().unwrap_or_default())
    }
}
