//! What can be ordered to go wrong, and which calls it strikes.
//!
//! A fault strikes the calls of its operations and app, for a number of times or until it is cleared. Where several strike
//! one call they add up; of two that exclude each other the one ordered later wins. A request that fails authentication
//! strikes no fault.

mod build;
mod order;
mod reply;

use serde::{Deserialize, Serialize};

pub(crate) use order::{Faults, Ordered};
pub use reply::Reply;

use crate::model::Operation;

/// Names an ordered fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FaultId(pub u64);

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
    /// A good signature is found wrong, and nothing done; a token or a call without either is left alone.
    WrongSignature,
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
    pub(crate) fn strikes(&self, operation: Operation, app: Option<&str>) -> bool {
        let about_reads = matches!(self.kind, FaultKind::Stale { .. } | FaultKind::Masked { .. });
        let operation_fits = match self.at.as_slice() {
            [] if about_reads => matches!(operation, Operation::Show | Operation::List),
            [] => true,
            some => some.contains(&operation),
        };
        operation_fits && self.app.as_deref().is_none_or(|only| app == Some(only))
    }
}
