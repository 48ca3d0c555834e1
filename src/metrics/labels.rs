//! The closed sets of words that stand in labels.

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};

use crate::api::Reason;

/// A call on the cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Reads the app.
    Show,
    /// Replaces a code.
    Reset,
    /// Adds a code.
    Add,
    /// Deletes a code.
    Delete,
    /// Gets a token for a password.
    SignIn,
}

impl Operation {
    pub(super) const ALL: [Self; 5] = [Self::Show, Self::Reset, Self::Add, Self::Delete, Self::SignIn];

    /// The word that stands in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Show => "show",
            Self::Reset => "reset",
            Self::Add => "add",
            Self::Delete => "delete",
            Self::SignIn => "sign_in",
        }
    }
}

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0: with units.
    OpenMetrics,
    /// The older text format of Prometheus, which every tool reads.
    Text,
}

impl Format {
    /// The format to answer a request with that has this `Accept` header.
    pub fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") {
            Self::OpenMetrics
        } else {
            Self::Text
        }
    }

    /// The `Content-Type` of the answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// What is asked of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads one object.
    Get,
    /// Reads a page of objects.
    List,
    /// Begins a watch; it is timed until its answer begins.
    Watch,
    /// Makes an object.
    Create,
    /// Replaces an object.
    Update,
    /// Changes parts of an object.
    Patch,
    /// Anything else, which the operator never asks for.
    Other,
}

impl Verb {
    pub(super) const ALL: [Self; 7] = [
        Self::Get,
        Self::List,
        Self::Watch,
        Self::Create,
        Self::Update,
        Self::Patch,
        Self::Other,
    ];

    /// The word that stands in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Other => "other",
        }
    }
}

/// What keeps the operator from making a call at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// The rate of one credentials Secret, lowered for a while by a throttled answer of the cloud.
    CallerRate,
    /// The rate over all.
    TotalRate,
    /// As many readings with one credentials Secret as may be are under way.
    CallerConcurrency,
    /// Another call is still trying these credentials.
    Trial,
    /// The credentials were rejected lately.
    Rejected,
}

impl Limit {
    pub(super) const ALL: [Self; 5] = [
        Self::CallerRate,
        Self::TotalRate,
        Self::CallerConcurrency,
        Self::Trial,
        Self::Rejected,
    ];

    /// The word that stands in the label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CallerRate => "caller_rate",
            Self::TotalRate => "total_rate",
            Self::CallerConcurrency => "caller_concurrency",
            Self::Trial => "trial",
            Self::Rejected => "rejected",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RotationLabels {
    pub(super) trigger: &'static str,
    pub(super) strategy: &'static str,
    pub(super) outcome: &'static str,
}

/// How a rotation came to no code in the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfinished {
    /// Its app or its resource was left while it was open, as the event `Abandoned` tells.
    Abandoned,
    /// It stopped, since nothing tells which code is its own. If a person answers that it counts as a rotation too.
    AmbiguousOutcome,
    /// Its call had no effect, and another rotation began in its place.
    NoEffect,
}

impl Unfinished {
    pub(super) const ALL: [Self; 3] = [Self::Abandoned, Self::AmbiguousOutcome, Self::NoEffect];

    /// The word that stands in the label; that of the event's reason, if there is an event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Abandoned => Reason::Abandoned.as_str(),
            Self::AmbiguousOutcome => Reason::AmbiguousOutcome.as_str(),
            Self::NoEffect => "NoEffect",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct UnfinishedLabels {
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReconcileLabels {
    pub(super) result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) operation: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OperationLabels {
    pub(super) operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabels {
    pub(super) limit: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) verb: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct VerbLabels {
    pub(super) verb: &'static str,
}
