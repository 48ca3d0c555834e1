//! From what a person wrote to checked types, or every reason why not at once. No I/O.
//!
//! The rules are those of the CRD (lengths, patterns, ranges, CEL), checked again because old API servers drop CEL, and
//! those that only the operator can know: which endpoints are allowed, the minimum interval, whether plain text is.
//! A message says which field breaks which rule. It never quotes a value: that may be a secret put in the wrong field.

#[cfg(test)]
mod lines;
mod schedule;
mod text;
mod verification;

use jiff::SignedDuration;
use serde_json::json;

use self::text::parse_duration;
pub(crate) use self::text::{is_object_name, is_secret_key};
use crate::api::{
    AppCodeRotation, AppCodeRotationSpec, BASIC_AUTH_KEYS, CREDENTIALS_NOT_TARGET, CreationPolicy, DELETE_NEEDS_CREATE,
    DeletionPolicy, GRACE_LENGTH, InitialRotation, KEY_NOT_TEMPLATE, ONE_OF_REGION_ENDPOINT, ONE_SEED,
    PREVIOUS_IS_ANOTHER_KEY, RESTART_DELAY_LENGTH, Reason, SEED_NOT_TARGET, SecretType, StatusCode, Strategy,
    TargetStatus,
};
use crate::endpoint::{Endpoint, EndpointError, EndpointRules};
use crate::identity::Allowance;
use crate::ids::{AppId, AppIdentity, BadId, ProjectId, WorkspaceId};
use crate::modelarts::AppCode;
use crate::remedy::{Kubectl, NO_TEMPLATE};
use crate::schedule::Timetable;
use crate::template::Layout;
use crate::verification::{Verification, VerificationHosts};
use crate::workload::RestartTarget;

/// Key of the target Secret when the spec names none.
pub const DEFAULT_KEY: &str = "appCode";

/// How long the code before works with `Overlap`, once the new one has reached its consumers, when the spec says nothing.
pub const DEFAULT_GRACE: SignedDuration = SignedDuration::from_hours(1);

/// Longest such time.
const LONGEST_GRACE: SignedDuration = SignedDuration::from_hours(720);

/// Length of `status.history` when the spec names none.
pub const DEFAULT_HISTORY: usize = 10;

/// Most entries of `restartTargets`.
const MAX_RESTART_TARGETS: usize = 16;

/// Longest `restartDelay`.
const MAX_RESTART_DELAY: SignedDuration = SignedDuration::from_mins(10);

/// What the operator's settings allow.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Where the cloud may be.
    pub endpoints: EndpointRules,
    /// Where codes may be tried.
    pub verification_hosts: VerificationHosts,
    /// Shortest `schedule.interval`, and shortest time between two firings of `schedule.cron`.
    pub minimum_interval: SignedDuration,
    /// Most rotations of a resource that may start within 24 hours.
    pub daily_budget: usize,
    /// Whether `statusCode: Plaintext` is refused.
    pub forbid_plaintext: bool,
    /// Who may use the operator's own identity, and for which app.
    pub allowances: Vec<Allowance>,
}

/// A spec that keeps every rule, with defaults applied.
#[derive(Clone, Debug)]
pub struct Validated {
    /// Where to ask, and where a password may go.
    pub endpoint: Endpoint,
    /// Which app.
    pub app: AppIdentity,
    /// Workspace to send along. Default: `0`.
    pub workspace: WorkspaceId,
    /// Name that the app must have, if one is asserted.
    pub app_name: Option<String>,
    /// Remark to send instead of the app's own.
    pub app_remark: Option<String>,
    /// The code to start from.
    pub seed: Seed,
    /// Name of the credentials Secret; none for the operator's own identity.
    pub credentials: Option<String>,
    /// How a rotation replaces the code.
    pub strategy: Strategy,
    /// How long the code before works with [`Strategy::Overlap`], once the new one has reached its consumers.
    pub grace: SignedDuration,
    /// Whether it is kept until the workloads that are restarted have rolled out.
    pub waits_for_rollout: bool,
    /// When to rotate without being asked.
    pub schedule: Option<Timetable>,
    /// What to do at first sight, if the spec says so; the default depends on what the app holds.
    pub initial: Option<InitialRotation>,
    /// A changed value rotates once.
    pub rotation_trigger: Option<String>,
    /// Whether everything that changes the app is held.
    pub suspend: bool,
    /// The Secret that holds the code.
    pub target: TargetStatus,
    /// What is restarted once the Secret holds a new code; no two are the same.
    pub restart_targets: Vec<RestartTarget>,
    /// Time from the writing of the Secret to the restart. Default: none.
    pub restart_delay: SignedDuration,
    /// How a new code is tried, if it is.
    pub verification: Option<Verification>,
    /// What that Secret is to be besides the code.
    pub layout: Layout,
    /// Whether status shows the code itself.
    pub plaintext: bool,
    /// Most entries of `status.history`.
    pub history_limit: usize,
}

/// The code to start from.
#[derive(Clone, Debug)]
pub enum Seed {
    /// None given: the only code that the app has.
    None,
    /// Stands in the spec.
    Inline(AppCode),
    /// Stands in a Secret of the same namespace, which is not the target.
    Secret {
        /// The Secret.
        name: String,
        /// Its key.
        key: String,
    },
}

/// A rule that the spec breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// [`Reason::InvalidSpec`], [`Reason::ScheduleNeverFires`] or [`Reason::TemplateInvalid`]; or
    /// [`Reason::EndpointNotAllowed`] or [`Reason::IdentityNotAllowed`] when an administrator could allow it.
    pub reason: Reason,
    /// Which field, which rule, and where it is not plain, what to do.
    pub message: String,
    /// What resolves it.
    pub remedy: Remedy,
}

/// What resolves a [`Problem`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Remedy {
    /// The field that the message names is corrected.
    #[default]
    Edit,
    /// Another endpoint.
    Endpoint,
    /// Credentials of the resource's own.
    Credentials,
    /// Another cron for the schedule, or an interval.
    Schedule,
    /// Other windows, or none.
    Windows,
    /// Another template, or none.
    Template,
    /// A verification elsewhere, or none.
    Verification,
}

impl Remedy {
    fn commands(self, kubectl: Kubectl<'_>) -> Vec<String> {
        match self {
            Self::Edit => vec![kubectl.edit()],
            Self::Endpoint => vec![kubectl.patch(&json!({"endpoint": "ENDPOINT", "region": null}))],
            Self::Credentials => kubectl.other_credentials().into(),
            Self::Schedule => {
                let interval = json!({"cron": null, "interval": "INTERVAL", "timeZone": null});
                let schedules = [json!({"cron": "CRON"}), interval];
                schedules.map(|it| kubectl.patch(&json!({ "schedule": it }))).into()
            }
            Self::Windows => vec![kubectl.edit(), kubectl.patch(&json!({"schedule": {"windows": null}}))],
            Self::Template => kubectl.another_template().into(),
            Self::Verification => kubectl.another_verification().into(),
        }
    }

    /// What one of the commands does besides ending the stop.
    fn caution(self) -> Option<&'static str> {
        match self {
            Self::Edit | Self::Endpoint | Self::Credentials | Self::Schedule => None,
            Self::Windows => Some(
                "windows: null drops the windows that are right too, and a rotation that is overdue then starts at once",
            ),
            Self::Template => Some(NO_TEMPLATE),
            Self::Verification => {
                Some("with verification: null old codes are retired without the new ones being tried")
            }
        }
    }
}

impl Problem {
    /// One problem that tells of all, for a condition: the reason that the author of the spec can act on comes first.
    pub fn sum_up(problems: &[Self]) -> Self {
        let by_admin = [Reason::EndpointNotAllowed, Reason::IdentityNotAllowed];
        let is_spec = |problem: &Self| !by_admin.contains(&problem.reason);
        let reason = problems.iter().find(|problem| is_spec(problem)).or(problems.first());
        let remedy = match problems {
            [first, others @ ..] if others.iter().all(|other| other.remedy == first.remedy) => first.remedy,
            _ => Remedy::Edit,
        };
        let messages = problems.iter().map(|problem| problem.message.as_str());
        let messages: Vec<&str> = messages.chain(remedy.caution()).collect();
        Self {
            reason: reason.map_or(Reason::InvalidSpec, |problem| problem.reason),
            message: messages.join("; "),
            remedy,
        }
    }

    /// The commands that resolve it.
    pub fn commands(&self, kubectl: Kubectl<'_>) -> Vec<String> {
        self.remedy.commands(kubectl)
    }
}

/// Checks the whole spec.
///
/// # Errors
/// With every rule that it breaks, in the order of the fields; never empty.
pub fn validate(resource: &AppCodeRotation, rules: &Rules) -> Result<Validated, Vec<Problem>> {
    let spec = &resource.spec;
    let mut report = Report::default();

    let endpoint = report.endpoint(spec, &rules.endpoints);
    let project_id = report.id(ProjectId::parse(&spec.project_id));
    let app_id = report.id(AppId::parse(&spec.app_id));
    let workspace = report.id(WorkspaceId::parse(spec.workspace_id.as_deref().unwrap_or("0")));
    report.length("spec.appName", spec.app_name.as_deref(), 1, 255);
    report.length("spec.appRemark", spec.app_remark.as_deref(), 0, 200);
    let seed = report.seed(spec);
    match &spec.credentials_ref {
        Some(reference) => report.secret_name("spec.credentialsRef.name", &reference.name),
        None => report.own_identity(resource, rules),
    }
    let grace = report.grace(spec);
    let schedule = spec.schedule.as_ref().map(|schedule| report.schedule(schedule, rules));
    report.length("spec.rotationTrigger", spec.rotation_trigger.as_deref(), 1, 256);
    let target = report.target(resource);
    report.target_is_no_source(spec, &target);
    let restart_targets = report.restart_targets(spec);
    let restart_delay = report.restart_delay(spec.restart_delay.as_deref());
    let verification = spec.verification.as_ref();
    let verification = verification.and_then(|spec| report.verification(spec, &rules.verification_hosts));
    let layout = report.layout(spec, &target.key);
    let plaintext = spec.status_code.unwrap_or_default() == StatusCode::Plaintext;
    if plaintext && rules.forbid_plaintext {
        report.invalid("spec.statusCode: this operator forbids Plaintext; set Fingerprint or leave it out");
    }
    let history_limit = report.history_limit(spec.history_limit);

    let app = match (&endpoint, project_id, app_id) {
        (Some(endpoint), Some(project_id), Some(app_id)) => Some(AppIdentity {
            endpoint: endpoint.modelarts.clone(),
            project_id,
            app_id,
        }),
        _ => None,
    };
    report.templates(&layout, app.as_ref(), spec.app_name.as_deref());

    let (Some(endpoint), Some(app), Some(workspace), Some(seed), true) =
        (endpoint, app, workspace, seed, report.problems.is_empty())
    else {
        return Err(report.problems);
    };
    Ok(Validated {
        app,
        endpoint,
        workspace,
        app_name: spec.app_name.clone(),
        app_remark: spec.app_remark.clone(),
        seed,
        credentials: spec.credentials_ref.as_ref().map(|reference| reference.name.clone()),
        strategy: spec.strategy.unwrap_or_default(),
        grace,
        waits_for_rollout: spec.overlap.as_ref().and_then(|it| it.wait_for_rollout).unwrap_or(true),
        schedule: schedule.flatten(),
        initial: spec.initial_rotation,
        rotation_trigger: spec.rotation_trigger.clone(),
        suspend: spec.suspend.unwrap_or(false),
        target,
        restart_targets,
        restart_delay,
        verification,
        layout,
        plaintext,
        history_limit,
    })
}

/// Collects problems. A check that gives `None` has left at least one here.
#[derive(Default)]
struct Report {
    problems: Vec<Problem>,
}

impl Report {
    fn invalid(&mut self, message: impl Into<String>) {
        self.refuse(Reason::InvalidSpec, message.into(), Remedy::Edit);
    }

    fn refuse(&mut self, reason: Reason, message: String, remedy: Remedy) {
        self.problems.push(Problem {
            reason,
            message,
            remedy,
        });
    }

    /// Without credentials of its own a resource acts as the operator, which its administrator must have allowed.
    fn own_identity(&mut self, resource: &AppCodeRotation, rules: &Rules) {
        let namespace = resource.metadata.namespace.as_deref().unwrap_or_default();
        let app = &resource.spec.app_id;
        let is_allowed = |it: &Allowance| it.namespace == namespace && it.app_id.as_str() == app;
        if !rules.allowances.iter().any(is_allowed) {
            // What is no id may be anything, a secret too, and there is no flag for it.
            let ask = AppId::parse(app).map_or_else(
                |_| String::new(),
                |app| format!(", or ask the operator's administrator for --allow-default-identity={namespace}={app}"),
            );
            let message = format!(
                "spec.credentialsRef is left out, and the operator's own identity may not be used for this app from this \
                 namespace; name a credentials Secret{ask}"
            );
            self.refuse(Reason::IdentityNotAllowed, message, Remedy::Credentials);
        }
    }

    fn endpoint(&mut self, spec: &AppCodeRotationSpec, rules: &EndpointRules) -> Option<Endpoint> {
        if spec.region.is_some() == spec.endpoint.is_some() {
            self.invalid(format!("spec: {ONE_OF_REGION_ENDPOINT}"));
        }
        let by_region = spec
            .region
            .as_deref()
            .and_then(|region| self.id(Endpoint::for_region(region)));
        let by_url = spec.endpoint.as_deref().and_then(|url| self.allowed(rules.check(url)));
        by_region.or(by_url)
    }

    fn allowed(&mut self, checked: Result<Endpoint, EndpointError>) -> Option<Endpoint> {
        match checked {
            Ok(endpoint) => return Some(endpoint),
            Err(EndpointError::Malformed(bad)) => self.invalid(format!("spec.endpoint must be {}", bad.rule)),
            Err(error) => {
                let message =
                    format!("spec.endpoint: {error}; use region, or ask the operator's administrator to allow it");
                self.refuse(Reason::EndpointNotAllowed, message, Remedy::Endpoint);
            }
        }
        None
    }

    fn id<T>(&mut self, parsed: Result<T, BadId>) -> Option<T> {
        parsed.map_err(|bad| self.invalid(format!("spec.{bad}"))).ok()
    }

    /// Counts characters, as the API server does.
    fn length(&mut self, field: &str, text: Option<&str>, min: usize, max: usize) {
        let is_out = |text: &str| !(min..=max).contains(&text.chars().count());
        if text.is_some_and(is_out) {
            self.invalid(match min {
                0 => format!("{field} must have at most {max} characters"),
                _ => format!("{field} must have {min} to {max} characters; leave it out if there is nothing to say"),
            });
        }
    }

    fn seed(&mut self, spec: &AppCodeRotationSpec) -> Option<Seed> {
        if spec.app_code.is_some() && spec.app_code_from.is_some() {
            self.invalid(format!("spec: {ONE_SEED}"));
        }
        let source = spec.app_code_from.as_ref().map(|source| &source.secret_key_ref);
        if let Some(source) = source {
            self.secret_name("spec.appCodeFrom.secretKeyRef.name", &source.name);
            self.secret_key("spec.appCodeFrom.secretKeyRef.key", &source.key);
        }
        match (&spec.app_code, source) {
            (Some(code), _) => match AppCode::parse(code.0.as_str()) {
                Ok(code) => Some(Seed::Inline(code)),
                Err(bad) => {
                    self.invalid(format!("spec.appCode must be {}", bad.rule));
                    None
                }
            },
            (None, Some(source)) => Some(Seed::Secret {
                name: source.name.clone(),
                key: source.key.clone(),
            }),
            (None, None) => Some(Seed::None),
        }
    }

    fn duration(&mut self, field: &str, text: &str) -> Option<SignedDuration> {
        let parsed = parse_duration(text);
        if parsed.is_none() {
            self.invalid(format!(
                "{field} must be hours, minutes and seconds in this order, such as 720h, 1h30m or 90s"
            ));
        }
        parsed
    }

    fn grace(&mut self, spec: &AppCodeRotationSpec) -> SignedDuration {
        let text = spec
            .overlap
            .as_ref()
            .and_then(|overlap| overlap.grace_period.as_deref());
        let grace = text.map_or(Some(DEFAULT_GRACE), |text| {
            self.duration("spec.overlap.gracePeriod", text)
        });
        let grace = grace.unwrap_or(DEFAULT_GRACE);
        if grace > LONGEST_GRACE {
            self.invalid(format!("spec.overlap.{GRACE_LENGTH}"));
        }
        grace
    }

    fn target(&mut self, resource: &AppCodeRotation) -> TargetStatus {
        let target = resource.spec.target.clone().unwrap_or_default();
        let field = if target.name.is_some() {
            "spec.target.name"
        } else {
            "metadata.name, the default of spec.target.name,"
        };
        let name = resource.target_name();
        self.secret_name(field, &name);
        let key = target.key.unwrap_or_else(|| DEFAULT_KEY.to_owned());
        self.secret_key("spec.target.key", &key);
        TargetStatus { name, key }
    }

    fn layout(&mut self, spec: &AppCodeRotationSpec, key: &str) -> Layout {
        let target = spec.target.clone().unwrap_or_default();
        if let Some(previous) = &target.previous_key {
            self.secret_key("spec.target.previousKey", previous);
            if previous == key {
                self.invalid(format!("spec.target: {PREVIOUS_IS_ANOTHER_KEY}"));
            }
        }
        let layout = Layout {
            previous_key: target.previous_key,
            template: target.template.unwrap_or_default(),
            creation: target.creation_policy.unwrap_or_default(),
            deletion: target.deletion_policy.unwrap_or_default(),
        };
        let data = &layout.template.data;
        if data.contains_key(key) || layout.previous_key.as_ref().is_some_and(|key| data.contains_key(key)) {
            self.invalid(format!("spec.target: {KEY_NOT_TEMPLATE}"));
        }
        let has_one = ["username", "password"]
            .iter()
            .any(|name| key == *name || data.contains_key(*name));
        if layout.kind() == SecretType::BasicAuth && !has_one {
            self.invalid(format!("spec.target: {BASIC_AUTH_KEYS}"));
        }
        if layout.deletion == DeletionPolicy::Delete && layout.creation != CreationPolicy::Create {
            self.invalid(format!("spec.target: {DELETE_NEEDS_CREATE}"));
        }
        layout
    }

    /// Templates are tried with what the other fields say, if that can be used.
    fn templates(&mut self, layout: &Layout, app: Option<&AppIdentity>, app_name: Option<&str>) {
        let faults = layout.faults(app, app_name).into_iter();
        self.problems.extend(faults.map(|fault| Problem {
            reason: Reason::TemplateInvalid,
            message: fault.to_string(),
            remedy: Remedy::Template,
        }));
    }

    fn target_is_no_source(&mut self, spec: &AppCodeRotationSpec, target: &TargetStatus) {
        if spec
            .app_code_from
            .as_ref()
            .is_some_and(|source| source.secret_key_ref.name == target.name)
        {
            self.invalid(format!("spec: {SEED_NOT_TARGET}"));
        }
        if spec
            .credentials_ref
            .as_ref()
            .is_some_and(|reference| reference.name == target.name)
        {
            self.invalid(format!("spec: {CREDENTIALS_NOT_TARGET}"));
        }
    }

    fn restart_targets(&mut self, spec: &AppCodeRotationSpec) -> Vec<RestartTarget> {
        if spec.restart_targets.len() > MAX_RESTART_TARGETS {
            self.invalid(format!("spec.restartTargets must be at most {MAX_RESTART_TARGETS}"));
            return Vec::new();
        }
        let mut targets: Vec<RestartTarget> = Vec::new();
        for (at, reference) in spec.restart_targets.iter().enumerate() {
            let target = RestartTarget {
                kind: reference.kind,
                name: reference.name.clone(),
            };
            self.object_name(&format!("spec.restartTargets[{at}].name"), "a workload", &target.name);
            if targets.contains(&target) {
                self.invalid(format!(
                    "spec.restartTargets[{at}] must not name a workload that stands above it"
                ));
            }
            targets.push(target);
        }
        targets
    }

    fn restart_delay(&mut self, text: Option<&str>) -> SignedDuration {
        let delay = text.and_then(|text| self.duration("spec.restartDelay", text));
        let delay = delay.unwrap_or(SignedDuration::ZERO);
        if delay > MAX_RESTART_DELAY {
            self.invalid(format!("spec.{RESTART_DELAY_LENGTH}"));
        }
        delay
    }

    fn secret_name(&mut self, field: &str, name: &str) {
        self.object_name(field, "a Secret", name);
    }

    fn object_name(&mut self, field: &str, what: &str, name: &str) {
        if !is_object_name(name) {
            self.invalid(format!(
                "{field} must be the name of {what}: at most 253 lower-case letters, digits, hyphens and dots, with a \
                 letter or digit at both ends and on both sides of each dot"
            ));
        }
    }

    fn secret_key(&mut self, field: &str, key: &str) {
        if !is_secret_key(key) {
            self.invalid(format!(
                "{field} must be a key of a Secret: at most 253 letters, digits, hyphens, underscores and dots, and \
                 neither a lone dot nor two dots at the start"
            ));
        }
    }

    fn history_limit(&mut self, limit: Option<i32>) -> usize {
        match limit.map(usize::try_from) {
            None => DEFAULT_HISTORY,
            Some(Ok(limit @ 1..=50)) => limit,
            Some(_) => {
                self.invalid("spec.historyLimit must be 1 to 50");
                DEFAULT_HISTORY
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::schedule::Rhythm;

    pub(super) fn rules() -> Rules {
        Rules {
            endpoints: EndpointRules::default(),
            verification_hosts: VerificationHosts::default(),
            minimum_interval: SignedDuration::from_mins(10),
            daily_budget: 1000,
            allowances: Vec::new(),
            forbid_plaintext: false,
        }
    }

    /// A valid resource with `spec` merged over its spec; null removes a field.
    pub(super) fn resource(spec: &Value) -> AppCodeRotation {
        let mut full = json!({
            "region": "cn-north-4",
            "projectId": "0123456789abcdef0123456789abcdef",
            "appId": "app",
            "credentialsRef": {"name": "credentials"},
        });
        for (field, value) in spec.as_object().unwrap() {
            full[field] = value.clone();
        }
        serde_json::from_value(json!({
            "apiVersion": "appcode.dev/v1alpha1",
            "kind": "AppCodeRotation",
            "metadata": {"name": "rotation", "namespace": "team"},
            "spec": full,
        }))
        .unwrap()
    }

    pub(super) fn problems(spec: &Value, rules: &Rules) -> Vec<String> {
        let problems = validate(&resource(spec), rules).err().unwrap_or_default();
        problems.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn a_short_spec_is_filled_with_defaults() {
        let valid = validate(&resource(&json!({"schedule": {"interval": "720h"}})), &rules()).unwrap();
        assert_eq!(valid.endpoint, Endpoint::for_region("cn-north-4").unwrap());
        assert_eq!(valid.app.endpoint, valid.endpoint.modelarts);
        assert_eq!(valid.workspace.as_str(), "0");
        assert_eq!(
            (valid.target.name.as_str(), valid.target.key.as_str()),
            ("rotation", "appCode")
        );
        assert_eq!(
            (valid.history_limit, valid.suspend, valid.plaintext),
            (10, false, false)
        );
        assert!(matches!(valid.seed, Seed::None));
        assert!(valid.restart_targets.is_empty() && valid.restart_delay.is_zero());
        let schedule = valid.schedule.unwrap();
        assert_eq!(schedule.rhythm, Rhythm::Interval(SignedDuration::from_hours(720)));
        assert_eq!(schedule.jitter, SignedDuration::from_hours(1));
        assert!(schedule.windows.is_empty());
    }

    #[test]
    fn what_is_written_is_taken() {
        let spec = json!({
            "workspaceId": "abc", "appName": "name", "appRemark": "", "appCodeFrom": {"secretKeyRef": {"name": "s", "key": "k"}},
            "schedule": {"interval": "1h30m", "jitter": "0s"}, "initialRotation": "WhenDue", "rotationTrigger": "1",
            "suspend": true, "target": {"name": "t.x", "key": ".k"}, "statusCode": "Plaintext", "historyLimit": 50,
            "restartTargets": [{"kind": "Deployment", "name": "web"}, {"kind": "DaemonSet", "name": "web"}],
            "restartDelay": "10m",
        });
        let valid = validate(&resource(&spec), &rules()).unwrap();
        assert!(matches!(&valid.seed, Seed::Secret { name, key } if name == "s" && key == "k"));
        assert_eq!((valid.target.name.as_str(), valid.target.key.as_str()), ("t.x", ".k"));
        assert_eq!((valid.history_limit, valid.suspend, valid.plaintext), (50, true, true));
        assert_eq!(valid.initial, Some(InitialRotation::WhenDue));
        let targets: Vec<String> = valid.restart_targets.iter().map(ToString::to_string).collect();
        assert_eq!(targets, ["Deployment/web", "DaemonSet/web"]);
        assert_eq!(valid.restart_delay, SignedDuration::from_mins(10));
        let schedule = valid.schedule.unwrap();
        assert_eq!(
            (schedule.rhythm, schedule.jitter),
            (Rhythm::Interval(SignedDuration::from_mins(90)), SignedDuration::ZERO)
        );
    }

    #[test]
    fn a_tenth_of_the_interval_spreads_rotations_unless_told_otherwise() {
        for (interval, jitter) in [("10m", 60), ("9h", 3240), ("10h", 3600), ("99999h", 3600)] {
            let valid = validate(&resource(&json!({"schedule": {"interval": interval}})), &rules()).unwrap();
            assert_eq!(
                valid.schedule.unwrap().jitter,
                SignedDuration::from_secs(jitter),
                "{interval}"
            );
        }
    }

    #[test]
    fn every_broken_rule_is_told_at_once() {
        let spec = json!({
            "region": "moon", "endpoint": "http://example.com/v1", "projectId": "a/b", "appId": "", "workspaceId": "..",
            "appName": "", "appRemark": "x".repeat(201), "appCode": "a b",
            "appCodeFrom": {"secretKeyRef": {"name": "A", "key": ".."}}, "credentialsRef": {"name": "a..b"},
            "schedule": {"interval": "0s", "jitter": "1d"}, "rotationTrigger": "", "target": {"name": "-", "key": "/"},
            "restartTargets": [{"kind": "Deployment", "name": "a/b"}, {"kind": "Deployment", "name": "a/b"}],
            "restartDelay": "10m1s",
            "verification": {"url": "moon", "expectStatus": 600, "timeout": "1d"}, "statusCode": "Plaintext", "historyLimit": 0,
        });
        let rules = Rules {
            forbid_plaintext: true,
            ..rules()
        };
        let found = problems(&spec, &rules);
        let fields = [
            "exactly one of region and endpoint",
            "spec.region ",
            "spec.endpoint ",
            "spec.projectId ",
            "spec.appId ",
            "spec.workspaceId ",
            "spec.appName ",
            "spec.appRemark ",
            "at most one of appCode",
            "spec.appCodeFrom.secretKeyRef.name ",
            "spec.appCodeFrom.secretKeyRef.key ",
            "spec.appCode ",
            "spec.credentialsRef.name ",
            "longer than zero",
            "spec.schedule.jitter ",
            "spec.rotationTrigger ",
            "spec.target.name ",
            "spec.target.key ",
            "spec.restartTargets[0].name must be the name of a workload",
            "spec.restartTargets[1].name must be the name of a workload",
            "spec.restartTargets[1] must not name",
            "spec.restartDelay must be at most 10m",
            "spec.verification.timeout ",
            "spec.verification.url ",
            "spec.verification.expectStatus ",
            "spec.statusCode",
            "spec.historyLimit ",
        ];
        assert_eq!(found.len(), fields.len(), "{found:#?}");
        for (message, field) in found.iter().zip(fields) {
            assert!(message.contains(field), "{field}: {found:#?}");
        }
        let summary = Problem::sum_up(&validate(&resource(&spec), &rules).unwrap_err());
        assert_eq!(summary.reason, Reason::InvalidSpec);
        assert!(fields.iter().all(|field| summary.message.contains(field)));
    }

    #[test]
    fn the_minimum_interval_is_told_with_its_flag() {
        let found = problems(&json!({"schedule": {"interval": "9m59s"}}), &rules());
        assert_eq!(
            found,
            ["spec.schedule.interval must be at least 10m, the operator's --minimum-interval"]
        );
        assert!(problems(&json!({"schedule": {"interval": "10m"}}), &rules()).is_empty());
    }

    #[test]
    fn an_endpoint_that_could_be_allowed_has_a_reason_of_its_own() {
        let spec = json!({"region": null, "endpoint": "https://modelarts.example.com"});
        let found = validate(&resource(&spec), &rules()).unwrap_err();
        assert_eq!(Problem::sum_up(&found).reason, Reason::EndpointNotAllowed, "{found:?}");
        let pair = Endpoint::parse_pair("https://modelarts.example.com=https://iam.example.com").unwrap();
        let endpoints = EndpointRules {
            allowed: vec![pair.clone()],
            allow_insecure_loopback: false,
        };
        let valid = validate(&resource(&spec), &Rules { endpoints, ..rules() }).unwrap();
        assert_eq!(valid.endpoint, pair);
    }

    #[test]
    fn neither_source_may_be_the_target() {
        for target in [json!({"name": "mine"}), json!(null)] {
            let name = if target.is_null() { "rotation" } else { "mine" };
            let seed = json!({"target": target, "appCodeFrom": {"secretKeyRef": {"name": name, "key": "k"}}});
            assert_eq!(problems(&seed, &rules()), [format!("spec: {SEED_NOT_TARGET}")]);
            let credentials = json!({"target": target, "credentialsRef": {"name": name}});
            assert_eq!(
                problems(&credentials, &rules()),
                [format!("spec: {CREDENTIALS_NOT_TARGET}")]
            );
        }
    }

    #[test]
    fn more_workloads_than_sixteen_are_refused() {
        let targets = |count: usize| {
            let targets: Vec<Value> = (0..count)
                .map(|at| json!({"kind": "StatefulSet", "name": format!("web-{at}")}))
                .collect();
            json!({"restartTargets": targets})
        };
        assert!(problems(&targets(16), &rules()).is_empty());
        assert_eq!(
            problems(&targets(17), &rules()),
            ["spec.restartTargets must be at most 16"]
        );
    }

    #[test]
    fn lengths_count_characters() {
        assert!(
            problems(
                &json!({"appName": "模".repeat(255), "appRemark": "型".repeat(200)}),
                &rules()
            )
            .is_empty()
        );
        assert_eq!(problems(&json!({"appName": "模".repeat(256)}), &rules()).len(), 1);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic_or_is_quoted(texts in prop::collection::vec("[#-~]{6,40}|.{0,40}", 17), limit: i32) {
            let spec = json!({
                "region": texts[0], "endpoint": texts[1], "projectId": texts[2], "appId": texts[3], "workspaceId": texts[4],
                "appCode": format!("canary{}", texts[5]), "appCodeFrom": {"secretKeyRef": {"name": texts[6], "key": texts[7]}},
                "credentialsRef": {"name": texts[8]}, "schedule": {"interval": texts[9], "jitter": texts[10], "cron": texts[12],
                "timeZone": texts[13], "windows": [{"cron": texts[14], "duration": texts[15], "timeZone": texts[16]}]},
                "target": {"name": texts[11]}, "historyLimit": limit, "restartDelay": texts[9],
                "restartTargets": [{"kind": "Deployment", "name": texts[6]}, {"kind": "Deployment", "name": texts[11]}],
            });
            let found = problems(&spec, &rules());
            prop_assert!(!found.is_empty());
            prop_assert!(!found.iter().any(|message| message.contains("canary")));
        }
    }
}
