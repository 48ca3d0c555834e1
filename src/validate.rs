//! From what a person wrote to checked types, or every reason why not at once. No I/O.
//!
//! The rules are those of the CRD (lengths, patterns, ranges, CEL), checked again because old API servers drop CEL, and
//! those that only the operator can know: which endpoints are allowed, the minimum interval, whether plain text is.
//! A message says which field breaks which rule. It never quotes a value: that may be a secret put in the wrong field.

#[cfg(test)]
mod lines;
mod problem;
mod schedule;
#[cfg(test)]
mod tests;
mod text;
mod verification;

use jiff::SignedDuration;

pub use self::problem::{Problem, Remedy};
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
