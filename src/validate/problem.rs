//! What is wrong with a spec, and what puts it right.

use serde_json::json;

use crate::api::Reason;
use crate::remedy::{Kubectl, NO_TEMPLATE};

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
