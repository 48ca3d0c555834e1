//! From what a person wrote to checked types, or every reason why not at once. No I/O.
//!
//! The rules are those of the CRD (lengths, patterns, ranges, CEL), checked again because old API servers drop CEL, and
//! those that only the operator can know: which endpoints are allowed, the minimum interval, whether plain text is.
//! A message says which field breaks which rule. It never quotes a value: that may be a secret put in the wrong field.

use jiff::SignedDuration;

use crate::api::{
    AppCodeRotation, AppCodeRotationSpec, CREDENTIALS_NOT_TARGET, INTERVAL_POSITIVE, InitialRotation, JITTER_SHORTER,
    ONE_OF_REGION_ENDPOINT, ONE_SEED, Reason, SEED_NOT_TARGET, Schedule, StatusCode, TargetStatus,
};
use crate::endpoint::{Endpoint, EndpointError, EndpointRules};
use crate::ids::{AppId, AppIdentity, BadId, ProjectId, WorkspaceId};
use crate::modelarts::AppCode;
pub use crate::schedule::IntervalSchedule;

/// Key of the target Secret when the spec names none.
pub const DEFAULT_KEY: &str = "appCode";

/// Length of `status.history` when the spec names none.
pub const DEFAULT_HISTORY: usize = 10;

/// Longest jitter when the spec names none; shorter intervals have a tenth of themselves.
const MAX_DEFAULT_JITTER: SignedDuration = SignedDuration::from_hours(1);

/// What the operator's settings allow.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Where the cloud may be.
    pub endpoints: EndpointRules,
    /// Shortest `schedule.interval`.
    pub minimum_interval: SignedDuration,
    /// Whether `statusCode: Plaintext` is refused.
    pub forbid_plaintext: bool,
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
    /// Name of the credentials Secret.
    pub credentials: String,
    /// When to rotate without being asked.
    pub schedule: Option<IntervalSchedule>,
    /// What to do at first sight, if the spec says so; the default depends on what the app holds.
    pub initial: Option<InitialRotation>,
    /// A changed value rotates once.
    pub rotation_trigger: Option<String>,
    /// Whether everything that changes the app is held.
    pub suspend: bool,
    /// The Secret that holds the code.
    pub target: TargetStatus,
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
    /// [`Reason::InvalidSpec`], or [`Reason::EndpointNotAllowed`] when an administrator could allow it.
    pub reason: Reason,
    /// Which field, which rule, and where it is not plain, what to do.
    pub message: String,
}

impl Problem {
    /// One problem that tells of all, for a condition: the reason that the author of the spec can act on comes first.
    pub fn sum_up(problems: &[Self]) -> Self {
        let is_spec = |problem: &Self| problem.reason != Reason::EndpointNotAllowed;
        let reason = problems.iter().find(|problem| is_spec(problem)).or(problems.first());
        let messages: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        Self {
            reason: reason.map_or(Reason::InvalidSpec, |problem| problem.reason),
            message: messages.join("; "),
        }
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
    report.secret_name("spec.credentialsRef.name", &spec.credentials_ref.name);
    let schedule = spec.schedule.as_ref().map(|schedule| report.schedule(schedule, rules));
    report.length("spec.rotationTrigger", spec.rotation_trigger.as_deref(), 1, 256);
    let target = report.target(resource);
    report.target_is_no_source(spec, &target);
    let plaintext = spec.status_code.unwrap_or_default() == StatusCode::Plaintext;
    if plaintext && rules.forbid_plaintext {
        report.invalid("spec.statusCode: this operator forbids Plaintext; set Fingerprint or leave it out");
    }
    let history_limit = report.history_limit(spec.history_limit);

    let (Some(endpoint), Some(project_id), Some(app_id), Some(workspace), Some(seed), true) = (
        endpoint,
        project_id,
        app_id,
        workspace,
        seed,
        report.problems.is_empty(),
    ) else {
        return Err(report.problems);
    };
    Ok(Validated {
        app: AppIdentity {
            endpoint: endpoint.modelarts.clone(),
            project_id,
            app_id,
        },
        endpoint,
        workspace,
        app_name: spec.app_name.clone(),
        app_remark: spec.app_remark.clone(),
        seed,
        credentials: spec.credentials_ref.name.clone(),
        schedule: schedule.flatten(),
        initial: spec.initial_rotation,
        rotation_trigger: spec.rotation_trigger.clone(),
        suspend: spec.suspend.unwrap_or(false),
        target,
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
        self.problems.push(Problem {
            reason: Reason::InvalidSpec,
            message: message.into(),
        });
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
        let (reason, message) = match checked {
            Ok(endpoint) => return Some(endpoint),
            Err(EndpointError::Malformed(bad)) => (Reason::InvalidSpec, format!("spec.endpoint must be {}", bad.rule)),
            Err(error) => (
                Reason::EndpointNotAllowed,
                format!("spec.endpoint: {error}; use region, or ask the operator's administrator to allow it"),
            ),
        };
        self.problems.push(Problem { reason, message });
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

    fn schedule(&mut self, schedule: &Schedule, rules: &Rules) -> Option<IntervalSchedule> {
        let interval = self.duration("spec.schedule.interval", &schedule.interval);
        let jitter = schedule
            .jitter
            .as_deref()
            .map(|text| self.duration("spec.schedule.jitter", text));
        let interval = interval?;
        let jitter = jitter.unwrap_or_else(|| Some(default_jitter(interval)));
        if interval <= SignedDuration::ZERO {
            self.invalid(format!("spec.schedule: {INTERVAL_POSITIVE}"));
        } else if interval < rules.minimum_interval {
            let minimum = rules.minimum_interval;
            self.invalid(format!(
                "spec.schedule.interval must be at least {minimum:#}, the operator's --minimum-interval"
            ));
        }
        let jitter = jitter?;
        if schedule.jitter.is_some() && jitter >= interval {
            self.invalid(format!("spec.schedule: {JITTER_SHORTER}"));
        }
        Some(IntervalSchedule { interval, jitter })
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

    fn target_is_no_source(&mut self, spec: &AppCodeRotationSpec, target: &TargetStatus) {
        if spec
            .app_code_from
            .as_ref()
            .is_some_and(|source| source.secret_key_ref.name == target.name)
        {
            self.invalid(format!("spec: {SEED_NOT_TARGET}"));
        }
        if spec.credentials_ref.name == target.name {
            self.invalid(format!("spec: {CREDENTIALS_NOT_TARGET}"));
        }
    }

    fn secret_name(&mut self, field: &str, name: &str) {
        if !is_secret_name(name) {
            self.invalid(format!(
                "{field} must be the name of a Secret: at most 253 lower-case letters, digits, hyphens and dots, with a \
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

fn default_jitter(interval: SignedDuration) -> SignedDuration {
    let tenth = interval.checked_div(10).unwrap_or(SignedDuration::ZERO);
    tenth.min(MAX_DEFAULT_JITTER)
}

/// Reads `1h30m`: up to five digits of hours, seven of minutes, seven of seconds, each at most once and in this order.
/// The longest text is some 31 years, so nothing overflows here or in the CRD's rules.
fn parse_duration(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut total = 0;
    for (unit, seconds, max_digits) in [('h', 3600, 5), ('m', 60, 7), ('s', 1, 7)] {
        let Some((digits, tail)) = rest.split_once(unit) else {
            continue;
        };
        if !(1..=max_digits).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        total += digits.parse::<i64>().ok()? * seconds;
        rest = tail;
    }
    (rest.is_empty() && !text.is_empty()).then(|| SignedDuration::from_secs(total))
}

/// A DNS subdomain, as Kubernetes has it.
fn is_secret_name(name: &str) -> bool {
    let is_edge = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let is_part = |part: &[u8]| {
        part.iter().all(|b| is_edge(b) || *b == b'-')
            && part.first().is_some_and(is_edge)
            && part.last().is_some_and(is_edge)
    };
    name.len() <= 253 && name.as_bytes().split(|b| *b == b'.').all(is_part)
}

/// A key as the API server takes it in the data of a Secret.
fn is_secret_key(key: &str) -> bool {
    (1..=253).contains(&key.len())
        && key
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
        && key != "."
        && !key.starts_with("..")
}
