//! Faults in the words of a test: `Fault::cut_after().at(Operation::Reset).once()`.

use std::time::Duration;

use super::{Body, Fault, FaultKind, Half, Lag, LostAnswer, Reply, Which};
use crate::model::Operation;

impl Fault {
    /// The work starts this much later.
    pub fn latency(by: Duration) -> Self {
        FaultKind::Latency { millis: millis(by) }.into()
    }

    /// The work is done at once and the answer leaves this much later.
    pub fn slow_answer(by: Duration) -> Self {
        FaultKind::SlowAnswer { millis: millis(by) }.into()
    }

    /// A good signature is found wrong, and nothing done.
    pub fn wrong_signature() -> Self {
        FaultKind::WrongSignature.into()
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
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
