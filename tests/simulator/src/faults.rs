//! What can be ordered to go wrong, and which calls it strikes.
//!
//! A fault strikes the calls of its operations and app, for a number of times or until it is cleared. Where several strike
//! one call they add up; of two that exclude each other the one ordered later wins. A request that fails authentication
//! strikes no fault.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Operation;
use crate::wire::Answer;

/// Names an ordered fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FaultId(pub u64);

/// An answer made up by a fault. `Reply::from(503)` words itself as the cloud would.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Error code; the usual one of the status if absent.
    pub code: Option<String>,
    /// Error text; the usual one of the status if absent.
    pub message: Option<String>,
    /// More headers, for example `Location` or `Retry-After`.
    pub headers: Vec<(String, String)>,
    /// The whole body, in place of the error object.
    pub body: Option<String>,
}

impl From<u16> for Reply {
    fn from(status: u16) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

impl Reply {
    /// Sets the error code.
    #[must_use]
    pub fn code(mut self, code: &str) -> Self {
        self.code = Some(code.to_owned());
        self
    }

    /// Sets the error text.
    #[must_use]
    pub fn message(mut self, message: &str) -> Self {
        self.message = Some(message.to_owned());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Replaces the body.
    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        self.body = Some(body.to_owned());
        self
    }

    pub(crate) fn error_code(&self, prefix: &str) -> String {
        self.code.clone().unwrap_or_else(|| match self.status {
            401 => format!("{prefix}.0301"),
            403 => "ModelArts.0108".into(),
            404 => format!("{prefix}.0101"),
            408 => "ModelArts.6100".into(),
            409 => "ModelArts.3929".into(),
            429 => format!("{prefix}.0308"),
            502 => format!("{prefix}.0202"),
            503 => "ModelArts.4700".into(),
            504 => format!("{prefix}.0203"),
            _ => "ModelArts.0010".into(),
        })
    }

    fn error_message(&self) -> String {
        let usual = match self.status {
            401 => "Incorrect IAM authentication information: decrypt token fail",
            403 => "You are not authorized to perform the operation.",
            404 => "The API does not exist or has not been published in the environment",
            408 => "Request timed out.",
            409 => "The request conflicts with another one.",
            429 => "The throttling threshold has been reached: policy user over ratelimit,limit:60,time:1 minute",
            502 => "Backend unavailable",
            503 => "The gateway is being upgraded.",
            504 => "Backend timeout",
            _ => "Internal error.",
        };
        self.message.clone().unwrap_or_else(|| usual.to_owned())
    }

    pub(crate) fn answer(&self, prefix: &str, request_id: &str) -> Answer {
        let mut answer = match &self.body {
            Some(body) => Answer::text(self.status, "application/json", body),
            None => {
                let (code, message) = (self.error_code(prefix), self.error_message());
                let body = serde_json::json!({"error_code": code, "error_msg": message, "request_id": request_id});
                Answer::json(self.status, &body)
            }
        };
        answer.headers.extend(self.headers.iter().cloned());
        answer
    }
}

/// What a half reset leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Half {
    /// The old code is gone and none was made.
    NoneMade,
    /// A code was made and the old one stayed.
    BothPresent,
}

/// How far a read lags behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lag {
    /// The state of this many milliseconds ago.
    Millis(u64),
    /// The state before the app's latest change.
    OneChange,
    /// The state at the moment the fault was ordered.
    Frozen,
}

/// A body in place of the true one; the status stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// An error page, as proxies make them.
    Html,
    /// Nothing.
    Empty,
    /// Text that is no JSON.
    Garbage,
    /// The first half of the true body.
    HalfOfIt,
    /// The true body with a byte order mark in front.
    ByteOrderMark,
    /// This many bytes of white space.
    Bytes(usize),
    /// Any text, announced as JSON.
    Text(String),
}

/// What the client sees of a call whose effect comes later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LostAnswer {
    /// The connection is closed.
    Cut,
    /// Nothing at all, until the fault is released.
    Hang,
    /// An error.
    Reply(Reply),
}

/// Which of two answers a client gets when its call was delivered twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// That of the first execution.
    First,
    /// That of the second execution.
    Second,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "camelCase")]
pub enum FaultKind {
    /// The work starts this much later.
    Latency {
        /// Milliseconds.
        millis: u64,
    },
    /// The work is done at once and the answer leaves this much later.
    SlowAnswer {
        /// Milliseconds.
        millis: u64,
    },
    /// Answered so, and nothing done.
    StatusBefore(Reply),
    /// Done, and answered so.
    StatusAfter(Reply),
    /// 429 before anything is done.
    Throttle {
        /// Value of `Retry-After`, any text.
        #[serde(default)]
        retry_after: Option<String>,
    },
    /// The connection is closed, and nothing done.
    CutBefore,
    /// Done, and the connection is closed without an answer.
    CutAfter,
    /// Done, and the connection is closed in the middle of the answer's body.
    CutInAnswer,
    /// Done, and the answer is kept back until the fault is released.
    Hold,
    /// The answer shows an app as it was.
    Stale {
        /// How far back.
        lag: Lag,
    },
    /// The answer shows codes with asterisks.
    Masked {
        /// Also when plain text was asked for.
        #[serde(default)]
        even_when_asked: bool,
    },
    /// A reset does half of its work and fails with 500.
    HalfReset {
        /// What it leaves.
        left: Half,
    },
    /// The body is replaced.
    Body {
        /// By what.
        body: Body,
    },
    /// The client's answer is lost now, and the work is done later: after a time, or when the fault is released.
    Late {
        /// Milliseconds; none waits for the release.
        #[serde(default)]
        after_millis: Option<u64>,
        /// What the client sees.
        answer: LostAnswer,
    },
    /// The call is executed twice.
    Duplicate {
        /// Which answer the client gets.
        answer: Which,
    },
}

/// A fault to order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Operations it strikes; none means any, for stale and masked reads any read.
    #[serde(default)]
    pub at: Vec<Operation>,
    /// The only app it strikes.
    #[serde(default)]
    pub app: Option<String>,
    /// How many calls it strikes; without a number, all until it is cleared.
    #[serde(default)]
    pub times: Option<u32>,
    /// How many calls it lets pass first.
    #[serde(default)]
    pub skip: u32,
    /// What goes wrong.
    #[serde(flatten)]
    pub kind: FaultKind,
}

impl From<FaultKind> for Fault {
    fn from(kind: FaultKind) -> Self {
        Self {
            at: Vec::new(),
            app: None,
            times: None,
            skip: 0,
            kind,
        }
    }
}

impl Fault {
    /// The work starts this much later.
    pub fn latency(by: Duration) -> Self {
        FaultKind::Latency { millis: millis(by) }.into()
    }

    /// The work is done at once and the answer leaves this much later.
    pub fn slow_answer(by: Duration) -> Self {
        FaultKind::SlowAnswer { millis: millis(by) }.into()
    }

    /// Answered so, and nothing done.
    pub fn status_before(reply: impl Into<Reply>) -> Self {
        FaultKind::StatusBefore(reply.into()).into()
    }

    /// Done, and answered so.
    pub fn status_after(reply: impl Into<Reply>) -> Self {
        FaultKind::StatusAfter(reply.into()).into()
    }

    /// 429 before anything is done.
    pub fn throttle(retry_after: Option<&str>) -> Self {
        FaultKind::Throttle {
            retry_after: retry_after.map(str::to_owned),
        }
        .into()
    }

    /// The connection is closed, and nothing done.
    pub fn cut_before() -> Self {
        FaultKind::CutBefore.into()
    }

    /// Done, and the connection is closed without an answer.
    pub fn cut_after() -> Self {
        FaultKind::CutAfter.into()
    }

    /// Done, and the connection is closed in the middle of the answer's body.
    pub fn cut_in_answer() -> Self {
        FaultKind::CutInAnswer.into()
    }

    /// Done, and the answer is kept back until the fault is released.
    pub fn hold() -> Self {
        FaultKind::Hold.into()
    }

    /// Answers show an app as it was.
    pub fn stale(lag: Lag) -> Self {
        FaultKind::Stale { lag }.into()
    }

    /// Answers show codes with asterisks, even when plain text was asked for.
    pub fn masked() -> Self {
        FaultKind::Masked { even_when_asked: true }.into()
    }

    /// A reset does half of its work and fails with 500.
    pub fn half_reset(left: Half) -> Self {
        FaultKind::HalfReset { left }.into()
    }

    /// The body is replaced.
    pub fn body(body: Body) -> Self {
        FaultKind::Body { body }.into()
    }

    /// The client's answer is lost now, and the work is done after a time, or when the fault is released.
    pub fn late(after: Option<Duration>, answer: LostAnswer) -> Self {
        FaultKind::Late {
            after_millis: after.map(millis),
            answer,
        }
        .into()
    }

    /// The call is executed twice.
    pub fn duplicate(answer: Which) -> Self {
        FaultKind::Duplicate { answer }.into()
    }

    /// Strikes this operation, and those named before.
    #[must_use]
    pub fn at(mut self, operation: Operation) -> Self {
        self.at.push(operation);
        self
    }

    /// Strikes calls about this app only.
    #[must_use]
    pub fn app(mut self, app_id: &str) -> Self {
        self.app = Some(app_id.to_owned());
        self
    }

    /// Strikes the next `times` calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Strikes the next call only.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Lets `calls` calls pass first.
    #[must_use]
    pub fn skip(mut self, calls: u32) -> Self {
        self.skip = calls;
        self
    }

    fn strikes(&self, operation: Operation, app: Option<&str>) -> bool {
        let about_reads = matches!(self.kind, FaultKind::Stale { .. } | FaultKind::Masked { .. });
        let operation_fits = match self.at.as_slice() {
            [] if about_reads => matches!(operation, Operation::Show | Operation::List),
            [] => true,
            some => some.contains(&operation),
        };
        operation_fits && self.app.as_deref().is_none_or(|only| app == Some(only))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A fault that was ordered and has not run out.
#[derive(Debug, Clone)]
pub(crate) struct Ordered {
    pub(crate) id: FaultId,
    pub(crate) fault: Fault,
    /// How many acts the cloud had seen by then.
    pub(crate) after_act: u64,
}

/// The faults in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    next: u64,
    ordered: Vec<Ordered>,
}

impl Faults {
    pub(crate) fn order(&mut self, fault: Fault, after_act: u64) -> FaultId {
        self.next += 1;
        let id = FaultId(self.next);
        self.ordered.push(Ordered { id, fault, after_act });
        id
    }

    pub(crate) fn clear(&mut self, id: FaultId) -> bool {
        let before = self.ordered.len();
        self.ordered.retain(|ordered| ordered.id != id);
        self.ordered.len() != before
    }

    pub(crate) fn clear_all(&mut self) {
        self.ordered.clear();
    }

    pub(crate) fn list(&self) -> Vec<(FaultId, Fault)> {
        let left = self.ordered.iter().filter(|ordered| ordered.fault.times != Some(0));
        left.map(|ordered| (ordered.id, ordered.fault.clone())).collect()
    }

    /// The faults that strike this call, each used up by one.
    pub(crate) fn strike(&mut self, operation: Operation, app: Option<&str>) -> Vec<Ordered> {
        self.ordered.retain(|ordered| ordered.fault.times != Some(0));
        let mut struck = Vec::new();
        for ordered in self.ordered.iter_mut().filter(|one| one.fault.strikes(operation, app)) {
            if ordered.fault.skip > 0 {
                ordered.fault.skip -= 1;
                continue;
            }
            struck.push(ordered.clone());
            if let Some(times) = &mut ordered.fault.times {
                *times = times.saturating_sub(1);
            }
        }
        struck
    }
}
